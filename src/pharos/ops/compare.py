"""Comparisons, truths and choices: what masks are made of and what they choose between."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import SEQUENTIAL, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.ops.linear import broadcast
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, same_shape

COMPARISONS = {"eq": "Equal", "ne": "", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
               "ge": "GreaterOrEqual"}  # fmt: skip
LOGIC = ("and", "or", "xor", "not", "shift_left", "shift_right")
PREDICATES = ("isnan", "isinf", "isfinite")


def scalar_onnx(w: OnnxWriter, beside: Tensor, value: float) -> str:
    """A constant scalar in the element type of the tensor that it meets."""
    import numpy as np

    if beside.dtype.startswith(("int", "uint")):
        wanted = "int64" if beside.dtype == "int4" else beside.dtype
        return w.table(np.array(int(value), wanted))
    return w.table(np.array(bool(value))) if beside.dtype == "bool" else w.number(value)


class _Truth(Op):
    """An operator whose results take no gradient."""

    __slots__ = ()

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=io[-1].numel)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """None: truths and whole numbers have no derivative."""
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()


@operator(cost="elementwise", aten="eq ne lt le gt ge", onnx="Equal Less LessOrEqual Greater GreaterOrEqual")
class Compare(_Truth):
    """y = a (relation) b with NumPy's broadcasting, or a (relation) scalar; one comparison an element."""

    function: str = "eq"
    scalar: float | None = None

    def __post_init__(self) -> None:
        if self.function not in COMPARISONS:
            raise unknown("comparison", str(self.function), COMPARISONS)

    def shape(self, *inputs: Tensor) -> Tensor:
        wanted = 2 if self.scalar is None else 1
        self.need(len(inputs) == wanted, f"takes {wanted} tensors", *inputs)
        return Tensor(inputs[0].shape if wanted == 1 else broadcast(self, *inputs), "bool")

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import operator as relations

        import numpy as np

        a, b = np.broadcast_arrays(*arrays, *([] if self.scalar is None else [np.asarray(self.scalar)]))
        y, holds = np.empty(a.shape, bool), getattr(relations, self.function)
        for at in np.ndindex(a.shape):
            y[at] = holds(a[at], b[at])
        return y

    def torch(self, torch: Any) -> Any:
        holds = getattr(torch, self.function)
        return holds if self.scalar is None else lambda x: holds(x, self.scalar)

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        second = () if self.scalar is None else (scalar_onnx(w, w.node.ins[0], self.scalar),)
        if self.function == "ne":
            return w("Not", w("Equal", *inputs, *second))
        return w(COMPARISONS[self.function], *inputs, *second)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        function, kind = pick.choice(list(COMPARISONS)), pick.choice(["fp32", "int64"])
        form = pick.choice(["same", "row", "scalar"])
        if form == "scalar":
            return cls(function, 1.0), [Tensor(shape, kind)]
        return cls(function), [Tensor(shape, kind), Tensor(shape if form == "same" else shape[1:], kind)]


@operator(cost="elementwise", aten="isnan isinf isfinite", onnx="IsNaN IsInf")
class Predicate(_Truth):
    """y = whether x is no number, infinite, or finite; one comparison an element."""

    function: str = "isnan"

    def __post_init__(self) -> None:
        if self.function not in PREDICATES:
            raise unknown("predicate", str(self.function), PREDICATES)

    def shape(self, x: Tensor) -> Tensor:
        return Tensor(x.shape, "bool")

    def loops(self, tally: Tally, x: Any) -> Any:
        import math

        import numpy as np

        y, holds = np.empty(x.shape, bool), getattr(math, self.function)
        for at in np.ndindex(x.shape):
            y[at] = holds(x[at])
        return y

    def torch(self, torch: Any) -> Any:
        return getattr(torch, self.function)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        if self.function == "isfinite":
            return w("Not", w("Or", w("IsNaN", x), w("IsInf", x)))
        return w("IsNaN" if self.function == "isnan" else "IsInf", x)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        return cls(pick.choice(PREDICATES)), [Tensor(shape)]


@operator(
    cost="elementwise",
    aten="logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not",
    onnx="And Or Xor Not BitwiseAnd BitwiseOr BitwiseXor BitwiseNot BitShift",
)
class Logical(_Truth):
    """y = a (and, or, xor, not, shifted by) b on truths, or bit by bit on whole numbers."""

    function: str = "and"

    def __post_init__(self) -> None:
        if self.function not in LOGIC:
            raise unknown("logical function", str(self.function), LOGIC)

    def shape(self, *inputs: Tensor) -> Tensor:
        wanted = 1 if self.function == "not" else 2
        self.need(len(inputs) == wanted, f"takes {wanted} tensors", *inputs)
        return inputs[0] if wanted == 1 else inputs[0].with_shape(*broadcast(self, *inputs))

    def loops(self, tally: Tally, *arrays: Any) -> Any:
        import operator as relations

        import numpy as np

        names = {"not": "invert", "shift_left": "lshift", "shift_right": "rshift", "xor": "xor",
                 "and": "and_", "or": "or_"}  # fmt: skip
        given = np.broadcast_arrays(*arrays)
        y, apply = np.empty(given[0].shape, arrays[0].dtype), getattr(relations, names[self.function])
        for at in np.ndindex(y.shape):
            y[at] = apply(*[a[at] for a in given])
        return y

    def torch(self, torch: Any) -> Any:
        names = {"shift_left": "bitwise_left_shift", "shift_right": "bitwise_right_shift"}
        return getattr(torch, names.get(self.function, f"bitwise_{self.function}"))

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        if self.function.startswith("shift"):
            # shifts of ONNX are of numbers without a sign
            wide = [w("Cast", i, to=13) for i in inputs]
            direction = "LEFT" if self.function == "shift_left" else "RIGHT"
            return w("Cast", w("BitShift", *wide, direction=direction), to=7)
        head = "" if w.node.ins[0].dtype == "bool" else "Bitwise"
        return w(f"{head}{self.function.title()}", *inputs)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        function, kind = pick.choice(LOGIC), pick.choice(["bool", "int64"])
        x = Tensor(shape, "int64" if function.startswith("shift") else kind)
        other = pick.choice([True, False])
        return cls(function), [x] if function == "not" else [x, x if other else x.with_shape(*shape[1:])]


@operator(cost="elementwise", aten="where masked_fill", onnx="Where")
class Where(Op):
    """y = a where the condition holds, else b, with NumPy's broadcasting; one choice an element.

    Args:
        a, b: a number that stands for that tensor, which is then not given.
    """

    a: float | None = None
    b: float | None = None

    def shape(self, *inputs: Tensor) -> Tensor:
        wanted = 1 + (self.a is None) + (self.b is None)
        self.need(len(inputs) == wanted, f"takes {wanted} tensors", *inputs)
        self.need(inputs[0].dtype == "bool", f"needs truths to choose by, not {inputs[0].dtype}", *inputs)
        dtype = inputs[1].dtype if wanted > 1 else ACTIVATIONS
        return Tensor(broadcast(self, *inputs), dtype)

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=io[-1].numel)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """A choice for each side that wants it, and sums over what was broadcast."""
        total: Size = 0
        for want, given in zip(wanted[1:], io[1:-1], strict=True):
            if want:
                total = total + io[-1].numel
                if not same_shape(given.shape, io[-1].shape):
                    total = total + io[-1].numel - given.numel
        return Work(vector_flops=total)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0,) if len(io) > 2 else ())

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: sum(t.numel for t in io)}

    def _sides(self, given: Sequence[Any], wrap: Any) -> tuple[Any, Any]:
        rest = iter(given)
        a = next(rest) if self.a is None else wrap(self.a)
        return a, next(rest) if self.b is None else wrap(self.b)

    def loops(self, tally: Tally, condition: Any, *arrays: Any) -> Any:
        import numpy as np

        given = [np.asarray(a) for a in self._sides(arrays, np.asarray)]
        condition, a, b = np.broadcast_arrays(condition, *given)
        y = np.empty(a.shape, arrays[0].dtype if arrays else float)
        for at in np.ndindex(y.shape):
            y[at] = a[at] if condition[at] else b[at]
        return y

    def torch(self, torch: Any) -> Any:
        def choose(condition: Any, *given: Any) -> Any:
            kind = given[0].dtype if given else torch.get_default_dtype()
            a, b = self._sides(given, lambda value: torch.tensor(value, dtype=kind))
            return torch.where(condition, a, b)

        return choose

    def to_onnx(self, w: OnnxWriter, condition: str, *inputs: str) -> str:
        beside = w.node.outs[0]
        return w("Where", condition, *self._sides(inputs, lambda value: scalar_onnx(w, beside, value)))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        form = pick.choice(["both", "row", "mask", "other"])
        condition, x = Tensor(shape, "bool"), Tensor(shape)
        if form in ("both", "row"):
            return cls(), [condition, x, x if form == "both" else Tensor(shape[1:])]
        return (cls(a=-2.0) if form == "mask" else cls(b=0.5)), [condition, x]
