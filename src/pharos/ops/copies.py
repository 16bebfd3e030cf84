"""Operators that only copy: padding, tiling, turning round, triangles; and tensors made from nothing."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import SEQUENTIAL, STRIDED, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.ops.compare import scalar_onnx
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, is_int

PADDINGS = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


class _Copy(Op):
    """Elements moved, nothing computed."""

    __slots__ = ()

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {STRIDED: io[-1].numel, SEQUENTIAL: io[-1].numel}


@operator(
    cost="copy",
    aten="constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d",
    onnx="Pad",
)
class Pad(_Copy):
    """More elements before and after each dimension; a negative number cuts off as many.

    Args:
        pads: (before, after) of each dimension.
        mode: what they are: "constant", "reflect" (mirrored, without the edge), "edge" (the nearest), "wrap".
        value: of a constant.
    """

    pads: tuple[tuple[int, int], ...]
    mode: str = "constant"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.mode not in PADDINGS:
            raise unknown("padding", str(self.mode), PADDINGS)

    def shape(self, x: Tensor) -> Tensor:
        self.need(len(self.pads) == x.rank, f"needs an input of rank {len(self.pads)}", x)
        out = [n + before + after for n, (before, after) in zip(x.shape, self.pads, strict=True)]
        if any(is_int(n) and n <= 0 for n in out):
            raise SizeError(f"{self} leaves nothing of {x}")
        return x.with_shape(*out)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """What stands in several places sums its gradients."""
        if not wanted[0] or self.mode == "constant":
            return Work()
        more: Size = 0
        for i, (before, after) in enumerate(self.pads):
            added = max(before, 0) + max(after, 0)
            rest = [m for j, m in enumerate(y.shape) if j != i]
            slab: Size = 1
            for m in rest:
                slab = slab * m
            more = more + added * slab
        return Work(vector_flops=more)

    def _source(self, i: int, n: int, dim: int) -> int | None:
        """Where element i of a padded dimension of n comes from."""
        at = i - self.pads[dim][0]
        if 0 <= at < n:
            return at
        if self.mode == "constant":
            return None
        if self.mode == "edge":
            return min(max(at, 0), n - 1)
        if self.mode == "wrap" or n == 1:
            return at % n
        at %= 2 * (n - 1)
        return at if at < n else 2 * (n - 1) - at

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.full(self.shape(Tensor(x.shape)).shape, self.value, x.dtype)
        for at in np.ndindex(y.shape):
            source = [self._source(i, n, d) for d, (i, n) in enumerate(zip(at, x.shape, strict=True))]
            if None not in source:
                y[at] = x[tuple(source)]
        return y

    def torch(self, torch: Any) -> Any:
        flat = [n for before, after in reversed(self.pads) for n in (before, after)]
        if self.mode == "constant":
            return lambda x: torch.nn.functional.pad(x, flat, value=self.value)

        def pad(x: Any) -> Any:
            for d, (before, after) in enumerate(self.pads):
                if before or after:
                    n = x.shape[d]
                    places = [self._source(i, n, d) for i in range(n + before + after)]
                    x = x.index_select(d, torch.tensor(places))
            return x

        return pad

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        amounts = w.ints(*[before for before, _ in self.pads], *[after for _, after in self.pads])
        if self.value:
            return w("Pad", x, amounts, scalar_onnx(w, w.node.ins[0], self.value))
        return w("Pad", x, amounts, mode=None if self.mode == "constant" else self.mode)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        mode = pick.choice(["constant", *PADDINGS])
        low = -1 if mode == "constant" else 0
        pads = tuple((pick.int(low, 2), pick.int(low, 2)) for _ in range(3))
        value = pick.choice([0.0, 1.5]) if mode == "constant" else 0.0
        return cls(pads, mode, value), [Tensor(tuple(pick.size(3, 4) for _ in range(3)))]


@operator(cost="copy", aten="repeat tile", onnx="Tile")
class Tile(_Copy):
    """x set side by side `repeats` times along each dimension."""

    repeats: tuple[Size, ...]

    def shape(self, x: Tensor) -> Tensor:
        self.need(len(self.repeats) == x.rank, f"needs an input of rank {len(self.repeats)}", x)
        self.need(not any(is_int(n) and n < 1 for n in self.repeats), "leaves nothing", x)
        return x.with_shape(*[n * times for n, times in zip(x.shape, self.repeats, strict=True)])

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Copies are summed up again."""
        return Work(vector_flops=y.numel - x.numel if wanted[0] else 0)

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty(self.shape(Tensor(x.shape)).shape, x.dtype)
        for at in np.ndindex(y.shape):
            y[at] = x[tuple(i % n for i, n in zip(at, x.shape, strict=True))]
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: x.repeat(self.repeats)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Tile", x, w.ints(*self.repeats))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 3) for _ in range(pick.int(1, 3)))
        return cls(tuple(pick.size(1, 3) for _ in shape)), [Tensor(shape)]


@operator(cost="copy", aten="flip", onnx="ReverseSequence")
class Flip(_Copy):
    """Dimensions read from their end."""

    dims: tuple[int, ...]

    def shape(self, x: Tensor) -> Tensor:
        self.need(all(-x.rank <= d < x.rank for d in self.dims), f"has no dimensions {self.dims}", x)
        return x

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty_like(x)
        for at in np.ndindex(x.shape):
            source = list(at)
            for d in self.dims:
                source[d] = x.shape[d] - 1 - at[d]
            y[at] = x[tuple(source)]
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: x.flip(self.dims)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        n = len(self.dims)
        ends = [-s - 1 for s in (w.node.ins[0].shape[d] for d in self.dims)]
        return w("Slice", x, w.ints(*[-1] * n), w.ints(*ends), w.ints(*self.dims), w.ints(*[-1] * n))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(2, 3)))
        return cls(pick.choice([(0,), (-1,), (0, 1)])), [Tensor(shape)]


@operator(cost="copy", aten="triu tril", onnx="Trilu")
class Triangle(_Copy):
    """The upper (or lower) triangle of the last two dimensions, zeros elsewhere.

    Args:
        diagonal: the first (or last) diagonal that is kept; 0 is the main one, positive ones lie above it.
    """

    upper: bool = True
    diagonal: int = 0

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 2, "needs an input of rank 2 or more", x)
        return x

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.zeros_like(x)
        for at in np.ndindex(x.shape):
            above = at[-1] - at[-2] - self.diagonal
            if above == 0 or (above > 0) == self.upper:
                y[at] = x[at]
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: (torch.triu if self.upper else torch.tril)(x, self.diagonal)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        return w("Trilu", x, w.table(np.array(self.diagonal, np.int64)), upper=int(self.upper))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(2, 3)))
        return cls(pick.choice([True, False]), pick.int(-2, 2)), [Tensor(shape)]


class _Made(_Copy):
    """A tensor that follows from sizes alone: nothing is read."""

    __slots__ = ()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: io[-1].numel}


@operator(cost="copy", aten="arange", onnx="Range")
class Arange(_Made):
    """start, start + step, start + 2 step, ...: `count` numbers."""

    count: Size
    start: float = 0
    step: float = 1
    dtype: str = "int64"

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        return Tensor((self.count,), self.dtype)

    def work(self, y: Tensor) -> Work:
        return Work(vector_flops=y.numel)

    def loops(self, tally: Tally) -> Any:
        import numpy as np

        kind = np.int64 if self.dtype.startswith("int") else float
        return np.array([self.start + i * self.step for i in range(self.count)], kind)

    def torch(self, torch: Any) -> Any:
        whole = self.dtype.startswith("int")
        kind = torch.int64 if whole else torch.get_default_dtype()
        return lambda: self.start + torch.arange(self.count, dtype=kind) * self.step

    def to_onnx(self, w: OnnxWriter) -> str:
        made = Tensor((), self.dtype)
        stop = self.start + self.count * self.step
        return w("Range", *[scalar_onnx(w, made, v) for v in (self.start, stop, self.step)])

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(pick.size(1, 6), pick.int(-2, 2), pick.choice([1, 2, -1])), []


@operator(cost="copy", aten="full zeros ones", onnx="ConstantOfShape")
class Full(_Made):
    """One number, everywhere."""

    size: tuple[Size, ...]
    value: float = 0.0
    dtype: str = ACTIVATIONS

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        return Tensor(self.size, self.dtype)

    def loops(self, tally: Tally) -> Any:
        import numpy as np

        whole = self.dtype.startswith(("int", "uint"))
        return np.full(self.size, self.value, np.int64 if whole else bool if self.dtype == "bool" else float)

    def torch(self, torch: Any) -> Any:
        whole = self.dtype.startswith(("int", "uint"))
        kind = torch.int64 if whole else torch.bool if self.dtype == "bool" else torch.get_default_dtype()
        return lambda: torch.full(self.size, self.value, dtype=kind)

    def to_onnx(self, w: OnnxWriter) -> str:
        made = scalar_onnx(w, w.node.outs[0], self.value)
        return w("Expand", made, w.ints(*self.size)) if self.size else w("Identity", made)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(0, 3)))
        return cls(shape, pick.choice([0.0, 1.0]), pick.choice([ACTIVATIONS, "int64", "bool"])), []
