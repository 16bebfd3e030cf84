"""Arithmetic element by element: residual add, gate, quotients, limits."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from pharos.graph.op import (
    OnnxWriter,
    Op,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.compare import scalar_onnx
from pharos.ops.linear import broadcast
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, same_shape


class _Binary(Op):
    """y = a (op) b with NumPy's broadcasting, or a (op) scalar; one operation an element.

    Where the order matters, `flipped` stands for scalar (op) a.
    """

    __slots__ = ()
    scalar: float | None
    flipped = False
    symbol = ""

    def shape(self, *inputs: Tensor) -> Tensor:
        wanted = 2 if self.scalar is None else 1
        self.need(wanted == 1 or not self.flipped, "flips a scalar only", *inputs)
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

        a, b = np.broadcast_arrays(*self._operands(arrays, np.asarray(self.scalar)))
        y = np.empty(a.shape, arrays[0].dtype)
        # a power that does not exist is not a number, silently, as in PyTorch
        with np.errstate(divide="ignore", invalid="ignore"):
            for at in np.ndindex(a.shape):
                y[at] = self._apply(a[at], b[at])
        return y

    def torch(self, torch: Any) -> Any:
        return lambda *tensors: self._apply(*self._operands(tensors, self.scalar))

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        second = "" if self.scalar is None else scalar_onnx(w, w.node.ins[0], self.scalar)
        return w(self._onnx(), *self._operands(inputs, second))

    def _onnx(self) -> str:
        return type(self).__name__

    def _operands(self, given: Sequence[Any], scalar: Any) -> Sequence[Any]:
        """Both sides of the operator, in its order."""
        if len(given) == 2:
            return given
        return (scalar, given[0]) if self.flipped else (given[0], scalar)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        form = pick.choice(["same", "row", "scalar"])
        if form == "scalar":
            op: Any = cls(scalar=1.5)  # type: ignore[call-arg]
            if any(f.name == "flipped" for f in fields(op)):
                op = replace(op, flipped=pick.choice([True, False]))
            return op, [Tensor(shape)]
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
    flipped: bool = False

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        negated = io[-1].numel if wanted[-1] and (len(wanted) == 2 or self.flipped) else 0
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
    """y = a / b; counted as one transcendental operation an element.

    Args:
        rounding: "" leaves the quotient, "trunc" and "floor" round it: of whole numbers always.
    """

    scalar: float | None = None
    flipped: bool = False
    rounding: str = ""

    def __post_init__(self) -> None:
        if self.rounding not in ("", "trunc", "floor"):
            raise unknown("rounding", str(self.rounding), ("", "trunc", "floor"))

    def work(self, *io: Tensor) -> Work:
        return Work(transcendentals=io[-1].numel)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """da = dy / b, db = -da a / b."""
        of_b, n = (len(wanted) == 2 or self.flipped) and wanted[-1], io[-1].numel
        if self.rounding:
            return Work()
        return Work(
            vector_flops=(2 * n if of_b else 0) + self._spread(wanted, *io),
            transcendentals=n * (2 if of_b else int(bool(wanted[0]))),
        )

    def saved(self, *io: Tensor) -> Saved:
        if self.rounding:
            return Saved()
        if len(io) == 3:
            return Saved(inputs=(0, 1))
        return Saved(inputs=(0,) if self.flipped else ())

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a / b

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import numpy as np

        quotient = _Binary.loops(self, tally, *[a.astype(float) for a in arrays])
        if not self.rounding:
            return quotient
        return (np.trunc if self.rounding == "trunc" else np.floor)(quotient).astype(arrays[0].dtype)

    def torch(self, torch: Any) -> Any:
        if not self.rounding:
            return lambda *tensors: self._apply(*self._operands(tensors, self.scalar))

        def divide(*tensors: Any) -> Any:
            a, b = self._operands(tensors, self.scalar)
            a = a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=tensors[0].dtype)
            return torch.div(a, b, rounding_mode=self.rounding)

        return divide

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        quotient = _Binary.to_onnx(self, w, *inputs)
        whole = w.node.ins[0].dtype.startswith("int")
        if not self.rounding or (whole and self.rounding == "trunc"):
            return quotient
        self.need(not whole, "rounds down whole numbers, which ONNX does not")
        if self.rounding == "floor":
            return w("Floor", quotient)
        return w("Mul", w("Sign", quotient), w("Floor", w("Abs", quotient)))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        drawn: Any = super(cls, cls).sample(pick)
        op, tensors = drawn
        return replace(op, rounding=pick.choice(["", "", "trunc", "floor"])), tensors


@operator(cost="elementwise", aten="remainder fmod", onnx="Mod")
class Mod(_Binary):
    """y = a - b floor(a / b), with the sign of b; with `truncated` that of a. A division an element."""

    scalar: float | None = None
    flipped: bool = False
    truncated: bool = False

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=2 * io[-1].numel, transcendentals=io[-1].numel)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """da = dy, db = -dy floor(a / b)."""
        of_b, n = (len(wanted) == 2 or self.flipped) and wanted[-1], io[-1].numel
        return Work(
            vector_flops=(2 * n if of_b else 0) + self._spread(wanted, *io), transcendentals=n if of_b else 0
        )

    def saved(self, *io: Tensor) -> Saved:
        if len(io) == 3:
            return Saved(inputs=(0, 1))
        return Saved(inputs=(0,) if self.flipped else ())

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import numpy as np

        a, b = np.broadcast_arrays(*self._operands(arrays, np.asarray(self.scalar)))
        y, rest = np.empty(a.shape, arrays[0].dtype), np.fmod if self.truncated else np.mod
        with np.errstate(divide="ignore", invalid="ignore"):
            for at in np.ndindex(a.shape):
                y[at] = rest(a[at], b[at])
        return y

    def torch(self, torch: Any) -> Any:
        rest = torch.fmod if self.truncated else torch.remainder

        def modulo(*tensors: Any) -> Any:
            a, b = self._operands(tensors, self.scalar)
            return rest(a if isinstance(a, torch.Tensor) else torch.tensor(a, dtype=tensors[0].dtype), b)

        return modulo

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        scalar = () if self.scalar is None else scalar_onnx(w, w.node.ins[0], self.scalar)
        a, b = self._operands(inputs, scalar)
        if self.truncated or w.node.ins[0].dtype.startswith("int"):
            return w("Mod", a, b, fmod=int(self.truncated))
        return w("Sub", a, w("Mul", b, w("Floor", w("Div", a, b))))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        drawn: Any = super(cls, cls).sample(pick)
        op, tensors = drawn
        return replace(op, truncated=pick.choice([True, False])), tensors


@operator(cost="elementwise", aten="pow", onnx="Pow")
class Pow(_Binary):
    """y = a ** b; one transcendental operation an element. A square is `Activation`'s, and cheaper."""

    scalar: float | None = None
    flipped: bool = False

    def work(self, *io: Tensor) -> Work:
        return Work(transcendentals=io[-1].numel)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """da = dy b a^(b - 1): a power, two products and the difference where b is no scalar.

        db = dy y log a: a logarithm, two products; a scalar's logarithm is known.
        """
        n, both = io[-1].numel, len(wanted) == 2
        of_a = wanted[0] and not self.flipped
        of_b = wanted[-1] and (both or self.flipped)
        vector = (2 + both if of_a else 0) + (2 if of_b else 0)
        roots = int(bool(of_a)) + (1 if of_b and both else 0)
        return Work(vector_flops=vector * n + self._spread(wanted, *io), transcendentals=roots * n)

    def saved(self, *io: Tensor) -> Saved:
        if len(io) == 3:
            return Saved((0, 1), (0,))
        return Saved(outputs=(0,)) if self.flipped else Saved(inputs=(0,))

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a**b


class _Choice(_Binary):
    """The larger or smaller of two; a gradient goes where the value came from, half to each of equals."""

    __slots__ = ()

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """A comparison and a selection for each input that wants it."""
        return Work(vector_flops=2 * sum(map(bool, wanted)) * io[-1].numel + self._spread(wanted, *io))

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1) if len(io) == 3 else (0,))

    def torch(self, torch: Any) -> Any:
        if self.scalar is not None:
            limit = {"min" if self._onnx() == "Max" else "max": self.scalar}
            return lambda x: torch.clamp(x, **limit)
        return torch.maximum if self._onnx() == "Max" else torch.minimum

    def _onnx(self) -> str:
        return type(self).__name__[:3]


@operator(cost="elementwise", aten="maximum", onnx="Max")
class Maximum(_Choice):
    """y = max(a, b)."""

    scalar: float | None = None

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a if a > b else b


@operator(cost="elementwise", aten="minimum", onnx="Min")
class Minimum(_Choice):
    """y = min(a, b)."""

    scalar: float | None = None

    @staticmethod
    def _apply(a: Any, b: Any) -> Any:
        return a if a < b else b


@operator(cost="elementwise", aten="clamp hardtanh", onnx="Clip")
class Clamp(Op):
    """y = x, but no less than `low` and no more than `high`; one comparison an element for each limit."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        self.need(self.low is not None or self.high is not None, "needs a limit")

    def _limits(self) -> int:
        return (self.low is not None) + (self.high is not None)

    def shape(self, x: Tensor) -> Tensor:
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=self._limits() * y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """A comparison with each limit, as forward."""
        return Work(vector_flops=self._limits() * y.numel if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = x.copy()
        for at in np.ndindex(x.shape):
            if self.low is not None and y[at] < self.low:
                y[at] = self.low
            if self.high is not None and y[at] > self.high:
                y[at] = self.high
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: torch.clamp(x, self.low, self.high)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        limits = ["" if limit is None else w.number(limit) for limit in (self.low, self.high)]
        return w("Clip", x, *(limits if limits[1] else limits[:1]))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        limits = pick.choice([(-0.5, 1.0), (0.0, None), (None, 0.25)])
        return cls(*limits), [Tensor(shape)]
