"""Linear and batched matrix multiplication: the textbook's shared primitive."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from pharos.graph.op import (
    BROADCAST,
    DYNAMIC,
    MATMUL,
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


@operator(cost="gemm", aten="linear addmm", onnx="Gemm")
class Linear(Op):
    """y[..., n] = sum_k x[..., k] W[n, k] + b[n]; macs = numel(y) * k.

    Args:
        transposed: W is stored [in_features, out_features].
    """

    in_features: Size
    out_features: Size
    bias: bool = True
    transposed: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 1, "needs an input of rank 1 or more", x)
        self.match(x.shape[-1], self.in_features, "in_features", x)
        return x.with_last(self.out_features)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        shape = (self.out_features, self.in_features)
        weights: dict[str, tuple[Size, ...]] = {"weight": shape[::-1] if self.transposed else shape}
        if self.bias:
            weights["bias"] = (self.out_features,)
        return weights

    def work(self, x: Tensor, y: Tensor) -> Work:
        out = y.numel
        return Work(macs=out * self.in_features, vector_flops=out if self.bias else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dW = dy^T x, dx = dy W, db = the sum of dy."""
        products = y.numel * self.in_features
        return Work(macs=products * (1 + bool(wanted[0])), vector_flops=y.numel if self.bias else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        weights = self.in_features * self.out_features
        return {
            MATMUL: y.numel * self.in_features,
            SEQUENTIAL: x.numel + weights + y.numel,
            BROADCAST: x.numel * self.out_features,
            REDUCE: y.numel * self.in_features,
        }

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.in_features))

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        import numpy as np

        weight = weight.T if self.transposed else weight
        rows = x.reshape(-1, x.shape[-1])
        y = np.zeros((len(rows), len(weight)), x.dtype)
        for i in range(len(rows)):
            for n in range(len(weight)):
                total = 0.0 if bias is None else bias[n]
                for k in range(rows.shape[1]):
                    total += rows[i, k] * weight[n, k]
                    tally.macs += 1
                y[i, n] = total
        return y.reshape(*x.shape[:-1], len(weight))

    def torch(self, torch: Any) -> Any:
        made = torch.nn.Linear(self.in_features, self.out_features, bias=self.bias)
        if not self.transposed:
            return made

        class Transposed(torch.nn.Linear):
            def forward(self, x: Any) -> Any:
                return torch.nn.functional.linear(x, self.weight.T, self.bias)

        made.__class__ = Transposed
        made.weight = torch.nn.Parameter(made.weight.detach().T.contiguous())
        return made

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return affine_onnx(w, x, *map(w.parameter, self.weights()), transposed=self.transposed)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        k, bias = pick.size(1, 6), pick.choice([True, False])
        lead = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        return cls(k, pick.size(1, 6), bias, pick.choice([True, False])), [Tensor((*lead, k))]


@operator(cost="gemm", aten="matmul bmm mm", onnx="MatMul")
class MatMul(Op):
    """y[..., m, n] = sum_k a[..., m, k] b[..., k, n] of two activations; macs = numel(y) * k.

    Leading dimensions broadcast as NumPy's do.
    """

    transpose_b: bool = False

    def shape(self, a: Tensor, b: Tensor) -> Tensor:
        self.need(a.rank >= 2 and b.rank >= 2, "needs two inputs of rank 2 or more", a, b)
        k, n = (b.shape[-1], b.shape[-2]) if self.transpose_b else (b.shape[-2], b.shape[-1])
        self.match(a.shape[-1], k, "inner size", a, b)
        lead = broadcast(self, a.with_shape(*a.shape[:-2]), b.with_shape(*b.shape[:-2]))
        return a.with_shape(*lead, a.shape[-2], n)

    def work(self, a: Tensor, b: Tensor, y: Tensor) -> Work:
        return Work(macs=y.numel * a.shape[-1])

    def gradient(self, wanted: Sequence[bool], a: Tensor, b: Tensor, y: Tensor) -> Work:
        """da = dy b^T, db = a^T dy; what was broadcast is summed up again."""
        products, inner = y.numel * a.shape[-1], a.shape[-1]
        lead = prod(y.shape[:-2])
        spread = (lead * y.shape[-2] * inner - a.numel, lead * y.shape[-1] * inner - b.numel)
        sums = sum(n for n, want in zip(spread, wanted, strict=True) if want)
        return Work(macs=products * (bool(wanted[0]) + bool(wanted[1])), vector_flops=sums)

    def saved(self, a: Tensor, b: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0, 1))

    def primitives(self, a: Tensor, b: Tensor, y: Tensor) -> dict[str, Size]:
        macs = y.numel * a.shape[-1]
        return {
            MATMUL: macs,
            DYNAMIC: macs,
            SEQUENTIAL: a.numel + b.numel + y.numel,
            BROADCAST: macs,
            REDUCE: macs,
        }

    def parallelism(self, a: Tensor, b: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(a.shape[-1]))

    def loops(self, tally: Tally, a: Any, b: Any) -> Any:
        import numpy as np

        b = np.swapaxes(b, -1, -2) if self.transpose_b else b
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = np.broadcast_to(a, lead + a.shape[-2:]), np.broadcast_to(b, lead + b.shape[-2:])
        y = np.zeros((*lead, a.shape[-2], b.shape[-1]), a.dtype)
        for at in product(*map(range, lead)):
            for m in range(a.shape[-2]):
                for n in range(b.shape[-1]):
                    for k in range(a.shape[-1]):
                        y[*at, m, n] += a[*at, m, k] * b[*at, k, n]
                        tally.macs += 1
        return y

    def torch(self, torch: Any) -> Any:
        if self.transpose_b:
            return lambda a, b: torch.matmul(a, b.transpose(-1, -2))
        return torch.matmul

    def to_onnx(self, w: OnnxWriter, a: str, b: str) -> str:
        if self.transpose_b:
            rank = w.node.ins[1].rank
            b = w("Transpose", b, perm=(*range(rank - 2), rank - 1, rank - 2))
        return w("MatMul", a, b)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        lead = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        m, n, k = pick.size(1, 4), pick.size(1, 4), pick.size(1, 4)
        transpose_b = pick.choice([True, False])
        b = (n, k) if transpose_b else (k, n)
        return cls(transpose_b), [Tensor((*lead, m, k)), Tensor((*lead, *b))]


def broadcast(op: Op, *tensors: Tensor) -> tuple[Size, ...]:
    """The shape that NumPy's broadcasting gives; an error naming `op` where it gives none."""
    rank = max(t.rank for t in tensors)
    out: list[Size] = []
    for i in range(rank):
        dims = [t.shape[i - rank + t.rank] for t in tensors if i - rank + t.rank >= 0]
        wide = [d for d in dims if not (isinstance(d, int) and d == 1)]
        out.append(wide[0] if wide else 1)
        for other in wide[1:]:
            op.match(other, wide[0], f"dimension {i - rank} to be", *tensors)
    return tuple(out)


def affine_onnx(
    w: OnnxWriter,
    x: str,
    weight: str,
    bias: str = "",
    *,
    transposed: bool = False,
    made: tuple[Size, ...] | None = None,
) -> str:
    """x W^T + b as ONNX's Gemm, which takes matrices only.

    Args:
        made: shape of the result, if it is not the node's own output.
    """
    given = w.node.ins[0].shape
    rows = x if len(given) == 2 else w("Reshape", x, w.ints(-1, given[-1]))
    y = w("Gemm", rows, weight, *([bias] if bias else []), transB=0 if transposed else 1)
    return y if len(given) == 2 else w("Reshape", y, w.ints(*(made or w.node.outs[0].shape)))
