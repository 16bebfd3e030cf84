"""Instance norm over the places of each channel, and vectors scaled to length 1."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import (
    REDUCE,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, ceil_log2, prod


@operator(cost="norm", aten="instance_norm", onnx="InstanceNormalization")
class InstanceNorm(Op):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over space, for each channel of x[B, C, *spatial].

    Counted as layer norm: 7 operations an element, 5 without weights; per channel a root and three
    divisions. Source: Ulyanov et al. 2016, arXiv:1607.08022.
    """

    num_features: Size
    eps: float = 1e-5
    affine: bool = True

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 3, "needs an input of rank 3 or more", x)
        self.match(x.shape[1], self.num_features, "num_features", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.num_features,), "bias": (self.num_features,)} if self.affine else {}

    def work(self, x: Tensor, y: Tensor) -> Work:
        rows = x.shape[0] * x.shape[1]
        return Work(vector_flops=(7 if self.affine else 5) * x.numel, transcendentals=4 * rows)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """As of layer norm; per channel two divisions for the means."""
        own = 3 if self.affine else 0
        if not (wanted[0] or own):
            return Work()
        of_x = (7 + (1 if self.affine else 0)) if wanted[0] else 0
        rows = x.shape[0] * x.shape[1]
        return Work(vector_flops=(2 + own + of_x) * x.numel, transcendentals=2 * rows if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        row = Tensor(x.shape[:2], "fp32")
        return Saved((0,), (), {"mean": row, "rstd": row})

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: 2 * x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(prod(x.shape[2:])))

    def loops(self, tally: Tally, x: Any, *, weight: Any = None, bias: Any = None) -> Any:
        import numpy as np

        y = np.empty_like(x)
        for b, c in np.ndindex(x.shape[:2]):
            values = x[b, c].reshape(-1)
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / len(values)
            y[b, c] = (x[b, c] - mean) / (variance + self.eps) ** 0.5
            if weight is not None:
                y[b, c] = y[b, c] * weight[c] + bias[c]
        return y

    def torch(self, torch: Any) -> Any:
        class AnyRank(torch.nn.modules.instancenorm._InstanceNorm):
            def _get_no_batch_dim(self) -> int:
                return 0

            def _check_input_dim(self, input: Any) -> None:
                """Any rank: the rule is the same."""

            def forward(self, x: Any) -> Any:
                return torch.nn.functional.instance_norm(
                    x, None, None, self.weight, self.bias, True, 0.1, self.eps
                )

        return AnyRank(self.num_features, self.eps, affine=self.affine)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        if self.affine:
            pair = [w.parameter("weight"), w.parameter("bias")]
        else:
            pair = [w.table(np.full(int(self.num_features), value)) for value in (1.0, 0.0)]
        return w("InstanceNormalization", x, *pair, epsilon=self.eps)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        channels, n = pick.size(1, 4), pick.int(1, 2)
        shape = (pick.size(1, 3), channels, *[pick.size(2, 4) for _ in range(n)])
        return cls(channels, affine=pick.choice([True, False])), [Tensor(shape)]


@operator(cost="norm", aten="normalize", onnx="LpNormalization")
class LpNorm(Op):
    """y = x / max(norm of x along `dim`, eps): vectors of length 1.

    Per element a square (or absolute value), its sum and the quotient; per vector a root and a comparison.
    """

    p: int = 2
    dim: int = -1
    eps: float = 1e-12

    def __post_init__(self) -> None:
        self.need(self.p in (1, 2), "has a norm of order 1 or 2")

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        return x

    def _rows(self, x: Tensor) -> Size:
        at = self.dim % x.rank
        return prod((*x.shape[:at], *x.shape[at + 1 :]))

    def work(self, x: Tensor, y: Tensor) -> Work:
        rows = self._rows(x)
        roots = rows if self.p == 2 else 0
        return Work(vector_flops=2 * x.numel + rows, transcendentals=x.numel + roots)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx = (dy - y sum(y dy)) / norm: a product, a sum, a product, a difference and a quotient."""
        return Work(vector_flops=4 * x.numel, transcendentals=x.numel) if wanted[0] else Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        at = self.dim % x.rank
        return Saved((0,), (), {"norm": Tensor((*x.shape[:at], *x.shape[at + 1 :]), "fp32")})

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: 2 * x.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        moved = np.moveaxis(x, self.dim, -1)
        y = np.empty_like(moved)
        for at in np.ndindex(moved.shape[:-1]):
            length = sum(abs(v) ** self.p for v in moved[at]) ** (1 / self.p)
            y[at] = moved[at] / max(length, self.eps)
        return np.moveaxis(y, -1, self.dim)

    def torch(self, torch: Any) -> Any:
        return lambda x: torch.nn.functional.normalize(x, self.p, self.dim, self.eps)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        length = w(f"ReduceL{self.p}", x, w.ints(self.dim), keepdims=1)
        return w("Div", x, w("Max", length, w.number(self.eps)))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(2, 3)))
        return cls(pick.int(1, 2), pick.choice([0, 1, -1])), [Tensor(shape)]
