"""Arithmetic of two tensors element by element (residual add, gate), and reductions along a dimension."""

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
from pharos.ops.linear import broadcast
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, prod, same_shape


class _Binary(Op):
    """y = a (op) b with NumPy's broadcasting, or a (op) scalar; one operation an element."""

    __slots__ = ()
    scalar: float | None
    symbol = ""

    def shape(self, *inputs: Tensor) -> Tensor:
        wanted = 2 if self.scalar is None else 1
        self.need(len(inputs) == wanted, f"takes {wanted} tensors", *inputs)
        return inputs[0] if wanted == 1 else inputs[0].with_shape(*broadcast(self, *inputs))

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=io[-1].numel)

    def _spread(self, wanted: Sequence[bool], *io: Tensor) -> Size:
        """Additions that gather the gradient of what was broadcast."""
        total: Size = 0
        for want, given in zip(wanted, io[:-1], strict=True):
            if want and not same_shape(given.shape, io[-1].shape):
                total = total + io[-1].numel - given.numel
        return total

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work(vector_flops=self._spread(wanted, *io))

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        raise NotImplementedError

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import numpy as np

        a, b = arrays if len(arrays) == 2 else (arrays[0], np.asarray(self.scalar))
        a, b = np.broadcast_arrays(a, b)
        y = np.empty(a.shape, a.dtype)
        for at in np.ndindex(a.shape):
            y[at] = self._apply(a[at], b[at])
        return y

    def torch(self, torch: Any) -> Any:
        return lambda *tensors: self._apply(tensors[0], tensors[1] if len(tensors) == 2 else self.scalar)

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        return w(type(self).__name__, *inputs, *([] if self.scalar is None else [w.number(self.scalar)]))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        form = pick.choice(["same", "row", "scalar"])
        if form == "scalar":
            return cls(scalar=1.5), [Tensor(shape)]  # type: ignore[call-arg]
        other = shape if form == "same" else (1, *shape[1:]) if pick.choice([True, False]) else shape[1:]
        return cls(), [Tensor(shape), Tensor(other)]


@operator(cost="elementwise", aten="add", onnx="Add")
class Add(_Binary):
    """y = a + b: the residual connection."""

    scalar: float | None = None

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a + b


@operator(cost="elementwise", aten="sub", onnx="Sub")
class Sub(_Binary):
    """y = a - b."""

    scalar: float | None = None

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        negated = io[-1].numel if len(wanted) == 2 and wanted[1] else 0
        return Work(vector_flops=negated + self._spread(wanted, *io))

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a - b


@operator(cost="elementwise", aten="mul", onnx="Mul")
class Mul(_Binary):
    """y = a * b: the gate."""

    scalar: float | None = None

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work(vector_flops=sum(map(bool, wanted)) * io[-1].numel + self._spread(wanted, *io))

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1) if len(io) == 3 else ())

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a * b


@operator(cost="elementwise", aten="div", onnx="Div")
class Div(_Binary):
    """y = a / b; counted as one transcendental operation an element."""

    scalar: float | None = None

    def work(self, *io: Tensor) -> Work:
        return Work(transcendentals=io[-1].numel)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """da = dy / b, db = -da a / b."""
        of_b, n = len(wanted) == 2 and wanted[1], io[-1].numel
        return Work(
            vector_flops=(2 * n if of_b else 0) + self._spread(wanted, *io),
            transcendentals=n * (2 if of_b else int(bool(wanted[0]))),
        )

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1) if len(io) == 3 else ())

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a / b


@operator(cost="pool", aten="mean sum amax", onnx="ReduceMean ReduceSum ReduceMax")
class Reduce(Op):
    """y = mean, sum or largest of x along `dim`; one operation an input, a mean one division an output."""

    dim: int = -1
    keepdim: bool = False
    function: str = "mean"

    def __post_init__(self) -> None:
        if self.function not in ("mean", "sum", "max"):
            raise unknown("reduction", str(self.function), ("mean", "sum", "max"))

    def shape(self, x: Tensor) -> Tensor:
        self.need(-x.rank <= self.dim < x.rank, f"has no dimension {self.dim}", x)
        at = self.dim % x.rank
        kept = (1,) if self.keepdim else ()
        return x.with_shape(*x.shape[:at], *kept, *x.shape[at + 1 :])

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel, transcendentals=y.numel if self.function == "mean" else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Spread over what was reduced: a mean divides, a largest finds its element again."""
        if not wanted[0] or self.function == "sum":
            return Work()
        return Work(transcendentals=y.numel) if self.function == "mean" else Work(vector_flops=2 * x.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved((0,), (0,)) if self.function == "max" else Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=prod(y.shape), tree=ceil_log2(x.shape[self.dim]))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        total = x.take(0, axis=self.dim)
        for i in range(1, x.shape[self.dim]):
            value = x.take(i, axis=self.dim)
            total = np.maximum(total, value) if self.function == "max" else total + value
        y = np.asarray(total / x.shape[self.dim] if self.function == "mean" else total)
        return y.reshape(self.shape(Tensor(x.shape)).shape)

    def torch(self, torch: Any) -> Any:
        call = {"mean": torch.mean, "sum": torch.sum, "max": torch.amax}[self.function]
        return lambda x: call(x, self.dim, keepdim=self.keepdim)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w(f"Reduce{self.function.title()}", x, w.ints(self.dim), keepdims=int(self.keepdim))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(2, 3)))
        function = pick.choice(["mean", "sum", "max"])
        return cls(pick.int(0, len(shape) - 1), pick.choice([True, False]), function), [Tensor(shape)]
