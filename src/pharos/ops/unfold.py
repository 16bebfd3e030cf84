"""Windows of an image as columns, and columns added back into an image."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from pharos.graph.op import (
    GATHER,
    SCATTER,
    SEQUENTIAL,
    STRIDED,
    OnnxWriter,
    Op,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.conv import window
from pharos.quantity.sizes import Size, each, floor_div, is_int, prod


class _Windows(Op):
    """What the two share: windows of `kernel_size` over an image [B, C, *spatial], columns [B, C taps, L]."""

    __slots__ = ()
    kernel_size: tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...]
    dilation: int | tuple[int, ...]

    def axes(self) -> list[tuple[int, int, int, int]]:
        """(kernel, stride, padding, dilation) of each spatial dimension."""
        n = len(self.kernel_size)
        parts = [self.kernel_size, *(each(f, n) for f in (self.stride, self.padding, self.dilation))]
        return [tuple(p[i] for p in parts) for i in range(n)]  # type: ignore[misc]

    def __post_init__(self) -> None:
        for kernel, stride, padding, dilation in self.axes():
            if kernel < 1 or stride < 1 or dilation < 1 or padding < 0:
                raise self.refuse("needs kernel, stride and dilation of 1 or more and no negative padding")

    def _positions(self, sizes: Sequence[Size], x: Tensor) -> list[Size]:
        return [window(self, n, *axis, x) for n, axis in zip(sizes, self.axes(), strict=True)]

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def _pairs(self, sizes: Sequence[int]) -> Any:
        """(row of the columns within a channel, column, place in the image) of what is not padding."""
        axes = self.axes()
        positions = self._positions(sizes, Tensor(tuple(sizes)))
        for row, tap in enumerate(product(*(range(k) for k, _, _, _ in axes))):
            for column, at in enumerate(product(*map(range, positions))):
                place = tuple(i * s + t * d - p for i, t, (_, s, p, d) in zip(at, tap, axes, strict=True))
                if all(0 <= i < n for i, n in zip(place, sizes, strict=True)):
                    yield row, column, place

    @classmethod
    def _drawn(cls, pick: Picker) -> Any:
        return ((pick.int(1, 3), pick.int(1, 2)), pick.int(1, 2), pick.int(0, 1), pick.int(1, 2))


@operator(cost="copy", aten="im2col")
class Unfold(_Windows):
    """y[b, (c, tap), l] = what window l of x[B, C, *spatial] sees at that tap; nothing is computed."""

    kernel_size: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1

    def shape(self, x: Tensor) -> Tensor:
        n = len(self.kernel_size)
        self.need(x.rank == n + 2, f"needs an input of rank {n + 2}", x)
        columns = prod(self._positions(x.shape[2:], x))
        return x.with_shape(x.shape[0], x.shape[1] * prod(self.kernel_size), columns)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Every column is added back."""
        return Work(vector_flops=y.numel if wanted[0] else 0)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {GATHER: y.numel, STRIDED: y.numel, SEQUENTIAL: y.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.zeros(self.shape(Tensor(x.shape)).shape, x.dtype)
        taps = prod(self.kernel_size)
        for row, column, place in self._pairs(x.shape[2:]):
            for c in range(x.shape[1]):
                y[:, c * taps + row, column] = x[:, c, *place]
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.Unfold(self.kernel_size, self.dilation, self.padding, self.stride)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        shape, out = w.node.ins[0].shape, w.node.outs[0].shape
        taps, places = prod(self.kernel_size), prod(shape[2:])
        # one place more, which holds the zero of the padding
        index = np.full((taps, out[2]), places, np.int64)
        for row, column, place in self._pairs(shape[2:]):
            index[row, column] = np.ravel_multi_index(place, shape[2:])
        flat = w("Pad", w("Reshape", x, w.ints(*shape[:2], -1)), w.ints(0, 0, 0, 0, 0, 1))
        return w("Reshape", w("Gather", flat, w.table(index), axis=2), w.ints(*out))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        op = cls(*cls._drawn(pick))
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(5, 7), pick.size(5, 7)))]


@operator(cost="copy", aten="col2im", onnx="Col2Im")
class Fold(_Windows):
    """y[b, c, place] = sum of all x[b, (c, tap), l] whose window l has `place` at that tap.

    One addition a column's element. Args: see `Unfold`; output_size: *spatial of y.
    """

    output_size: tuple[Size, ...]
    kernel_size: tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 3, "needs an input of rank 3", x)
        self.need(len(self.output_size) == len(self.kernel_size), "needs a size for each dimension", x)
        taps = prod(self.kernel_size)
        self.need(not is_int(x.shape[1]) or x.shape[1] % taps == 0, f"needs a multiple of {taps} rows", x)
        self.match(x.shape[2], prod(self._positions(self.output_size, x)), "columns", x)
        return x.with_shape(x.shape[0], floor_div(x.shape[1], taps), *self.output_size)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Copies: the windows of the gradient."""
        return Work()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SCATTER: x.numel, STRIDED: x.numel, SEQUENTIAL: x.numel + y.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y: Any = np.zeros(self.shape(Tensor(x.shape)).shape, x.dtype)
        taps = prod(self.kernel_size)
        for row, column, place in self._pairs(self.output_size):
            for c in range(y.shape[1]):
                y[:, c, *place] += x[:, c * taps + row, column]
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.Fold(self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        _, strides, padding, dilations = zip(*self.axes(), strict=True)
        return w("Col2Im", x, w.ints(*self.output_size), w.ints(*self.kernel_size), strides=strides,
                 pads=padding * 2, dilations=dilations)  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        size = (pick.size(5, 7), pick.size(5, 7))
        op: Any = cls(size, *cls._drawn(pick))
        columns = prod(op._positions(size, Tensor(size)))
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2) * prod(op.kernel_size), columns))]
