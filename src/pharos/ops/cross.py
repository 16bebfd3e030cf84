"""Cross layers: products of features with themselves of a bounded degree; the highway gate."""

from typing import Any

from pharos.graph.op import (
    BROADCAST,
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
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, is_int

FORMS = ("vector", "matrix", "low_rank")


@operator(cost="gemm")
class Cross(Op):
    """y = x0 * f(x) + x for x0, x[B, d]: each layer raises the degree of the products by one.

    "vector": f(x) = w . x, and b is added outside; d MACs a sample. "matrix": f(x) = W x + b, d^2.
    "low_rank": f(x) = W (V x) + b through `rank` features, 2 d rank. Beyond the products: bias, product
    with x0 and addition of x, 3 operations an element.
    Sources: Wang et al. 2017, arXiv:1708.05123 (vector); Wang et al. 2021, arXiv:2008.13535 (matrices).
    """

    width: Size
    form: str = "vector"
    rank: Size = 0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise unknown("form of a cross layer", str(self.form), FORMS)
        if self.form == "low_rank" and is_int(self.rank) and self.rank < 1:
            raise self.refuse("needs a rank of 1 or more")

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 2 and all(t.rank == 2 for t in inputs), "takes x0 and x of rank 2", *inputs)
        for t in inputs:
            self.match(t.shape[1], self.width, "width", *inputs)
        return inputs[1]

    def weights(self) -> dict[str, tuple[Size, ...]]:
        wide = self.width
        found: dict[str, dict[str, tuple[Size, ...]]] = {
            "vector": {"weight": (wide,)},
            "matrix": {"weight": (wide, wide)},
            "low_rank": {"weight": (wide, self.rank), "v": (self.rank, wide)},
        }
        return found[self.form] | {"bias": (wide,)}

    def _each(self) -> Size:
        """MACs of a sample."""
        return {"vector": 1, "matrix": self.width, "low_rank": 2 * self.rank}[self.form] * self.width

    def work(self, *io: Tensor) -> Work:
        return Work(macs=io[0].shape[0] * self._each(), vector_flops=3 * io[0].numel)

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        """Each matrix its own gradient; the features between two matrices theirs, and x if wanted."""
        batch, back = io[0].shape[0], bool(wanted[1])
        between = batch * self.rank * self.width if self.form == "low_rank" else 0
        last = between if self.form == "low_rank" else batch * self._each()
        return Work(
            macs=batch * self._each() + between + (last if back else 0),
            vector_flops=(2 + 2 * bool(wanted[0])) * io[0].numel,
        )

    def saved(self, *io: Tensor) -> Saved:
        batch = io[0].shape[0]
        factor = (batch,) if self.form == "vector" else (batch, self.width)
        extra = {"factor": Tensor(factor, io[0].dtype)}
        if self.form == "low_rank":
            extra["inner"] = Tensor((batch, self.rank), io[0].dtype)
        return Saved((0, 1), (), extra)

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = io[0].shape[0] * self._each()
        return {MATMUL: macs, SEQUENTIAL: sum(t.numel for t in io), BROADCAST: macs, REDUCE: macs}

    def parallelism(self, *io: Tensor) -> Parallelism:
        return Parallelism(width=io[-1].numel, tree=ceil_log2(self.width))

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        import numpy as np

        def product(matrix: Any, vector: Any) -> Any:
            y = np.zeros(len(matrix))
            for i, j in np.ndindex(*matrix.shape):
                y[i] += matrix[i, j] * vector[j]
                tally.macs += 1
            return y

        first, x = arrays
        y, bias = np.zeros_like(x), weights["bias"]
        for b in range(len(x)):
            if self.form == "vector":
                y[b] = first[b] * product(weights["weight"][None], x[b])[0] + bias + x[b]
                continue
            inner = product(weights["v"], x[b]) if self.form == "low_rank" else x[b]
            y[b] = first[b] * (product(weights["weight"], inner) + bias) + x[b]
        return y

    def torch(self, torch: Any) -> Any:
        shapes, form = self.weights(), self.form

        class Layer(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, shape in shapes.items():
                    made = torch.zeros(shape) if name == "bias" else torch.randn(shape) * 0.01
                    self.register_parameter(name, torch.nn.Parameter(made))

            def forward(self, first: Any, x: Any) -> Any:
                if form == "vector":
                    return first * (x @ self.weight)[:, None] + self.bias + x
                inner = x @ self.v.T if form == "low_rank" else x
                return first * (inner @ self.weight.T + self.bias) + x

        return Layer()

    def to_onnx(self, w: OnnxWriter, first: str, x: str) -> str:
        weight, bias = w.parameter("weight"), w.parameter("bias")
        if self.form == "vector":
            share = w("MatMul", x, w("Unsqueeze", weight, w.ints(1)))
            return w("Add", w("Add", w("Mul", first, share), bias), x)
        inner = w("Gemm", x, w.parameter("v"), transB=1) if self.form == "low_rank" else x
        return w("Add", w("Mul", first, w("Gemm", inner, weight, bias, transB=1)), x)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width, form = pick.size(1, 4), pick.choice(FORMS)
        x = Tensor((pick.size(1, 3), width))
        return cls(width, form, pick.size(1, 3)), [x, x]


@operator(cost="elementwise")
class HighwayGate(Op):
    """y = t h + (1 - t) x: what the gate t lets through of h, and the rest of x as it was.

    Two products, a difference and an addition an element.
    Source: Srivastava, Greff and Schmidhuber 2015, arXiv:1505.00387, equation 3.
    """

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 3, "takes t, h and x", *inputs)
        t, h, x = inputs
        self.need(t.rank == h.rank == x.rank >= 1, "needs t, h and x of one rank", *inputs)
        for given in (h, x):
            for a, b in zip(given.shape, t.shape, strict=True):
                self.match(a, b, "size", *inputs)
        return x

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=4 * io[-1].numel)

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        # dt = dy (h - x), dh = dy t, dx = dy (1 - t)
        each = 2 * bool(wanted[0]) + bool(wanted[1]) + 2 * bool(wanted[2])
        return Work(vector_flops=each * io[-1].numel)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2))

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import numpy as np

        t, h, x = arrays
        y = np.empty_like(x)
        for at in np.ndindex(*x.shape):
            y[at] = t[at] * h[at] + (1 - t[at]) * x[at]
        return y

    def torch(self, torch: Any) -> Any:
        return lambda t, h, x: t * h + (1 - t) * x

    def to_onnx(self, w: OnnxWriter, t: str, h: str, x: str) -> str:
        return w("Add", w("Mul", t, h), w("Mul", w("Sub", w.number(1), t), x))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        x = Tensor(tuple(pick.size(1, 4) for _ in range(pick.int(1, 3))))
        return cls(), [x, x, x]
