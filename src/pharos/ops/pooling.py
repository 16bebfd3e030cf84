"""Pooling in one, two and three dimensions: a sliding window that keeps the largest or the mean."""

from collections.abc import Sequence
from itertools import product
from math import inf
from typing import Any

from pharos.graph.op import (
    REDUCE,
    SEQUENTIAL,
    SLIDING_WINDOW,
    STRIDED,
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
from pharos.ops.conv import window
from pharos.quantity.sizes import Size, ceil_div, ceil_log2, each, is_int, minimum, prod


class _Pool(Op):
    """What the window pools share: x[B, C, *spatial] -> y[B, C, *spatial']; stride None is the kernel."""

    __slots__ = ()
    # Spatial dimensions, set by the subclass; its fields are those of PyTorch's module.
    spatial = 2
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None
    padding: int | tuple[int, ...]
    ceil_mode: bool

    def axes(self) -> list[tuple[int, int, int, int]]:
        """(kernel, stride, padding, dilation) of each spatial dimension."""
        n = self.spatial
        kernel, padding = each(self.kernel_size, n), each(self.padding, n)
        stride = each(self.kernel_size if self.stride is None else self.stride, n)
        dilation = each(getattr(self, "dilation", 1), n)
        return [(kernel[i], stride[i], padding[i], dilation[i]) for i in range(n)]

    def __post_init__(self) -> None:
        for kernel, stride, padding, dilation in self.axes():
            if kernel < 1 or stride < 1 or dilation < 1 or not 0 <= padding <= kernel // 2:
                raise self.refuse(
                    "needs kernel and stride of 1 or more and padding of at most half the kernel"
                )

    def _positions(self, n: Size, axis: tuple[int, int, int, int], x: Tensor) -> Size:
        kernel, stride, padding, dilation = axis
        if not self.ceil_mode:
            return window(self, n, kernel, stride, padding, dilation, x)
        room = n + 2 * padding - dilation * (kernel - 1) - 1
        # the last window must start inside the input or its left padding
        found = minimum(ceil_div(room, stride) + 1, ceil_div(n + padding, stride))
        if is_int(found) and found < 1:
            raise self.refuse(f"has a window of {dilation * (kernel - 1) + 1} on {n} + {2 * padding}", x)
        return found

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == self.spatial + 2, f"needs an input of rank {self.spatial + 2}", x)
        out = [self._positions(n, axis, x) for n, axis in zip(x.shape[2:], self.axes(), strict=True)]
        return x.with_shape(x.shape[0], x.shape[1], *out)

    def taps(self) -> int:
        """Positions of a window."""
        return prod([axis[0] for axis in self.axes()])

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        read = y.numel * self.taps()
        return {SLIDING_WINDOW: read, STRIDED: read, SEQUENTIAL: y.numel, REDUCE: read}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.taps()))

    def _windows(self, x: Any) -> Any:
        """(output index, indices inside the input, positions of the padded input) of each window."""
        axes, room = self.axes(), x.shape[2:]
        for at in product(*map(range, self.shape(Tensor(x.shape)).shape[2:])):
            inside, counted = [], 0
            for tap in product(*(range(axis[0]) for axis in axes)):
                place = [i * s + t * d - p for i, t, (_, s, p, d) in zip(at, tap, axes, strict=True)]
                if all(0 <= i < n for i, n in zip(place, room, strict=True)):
                    inside.append(tuple(place))
                counted += all(i < n + axis[2] for i, n, axis in zip(place, room, axes, strict=True))
            yield at, inside, counted

    def _reach(self, w: OnnxWriter) -> list[int]:
        """Padding after each dimension with which whole windows are as many as `ceil_mode` makes them."""
        sizes = zip(w.node.ins[0].shape[2:], w.node.outs[0].shape[2:], self.axes(), strict=True)
        return [max(p, (m - 1) * s + d * (k - 1) + 1 - n - p) for n, m, (k, s, p, d) in sizes]

    def _pads(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        return [0, 0, *before, 0, 0, *after]

    @classmethod
    def _drawn(cls, pick: Picker, *options: Any) -> tuple[Op, list[Tensor]]:
        kernel, n = pick.int(1, 3), cls.spatial
        op: Any = cls(kernel, pick.choice([None, 1, 2]), pick.int(0, kernel // 2), *options)  # type: ignore[call-arg]
        low, high = (5, 8) if n < 3 else (5, 6)
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), *[pick.size(low, high) for _ in range(n)]))]


class _MaxPool(_Pool):
    """The largest value of each window; one comparison a window position."""

    __slots__ = ()
    gives_extra = True
    dilation: int | tuple[int, ...]

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=y.numel * self.taps())

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Every gradient is added where its largest value came from."""
        return Work(vector_flops=y.numel if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(held=(0,), extra={"indices": Tensor(y.shape, "int64")})

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty(self.shape(Tensor(x.shape)).shape, x.dtype)
        for at, inside, _ in self._windows(x):
            for b, c in product(range(x.shape[0]), range(x.shape[1])):
                y[b, c, *at] = max((x[b, c, *place] for place in inside), default=-np.inf)
        return y

    def torch(self, torch: Any) -> Any:
        made = getattr(torch.nn, f"MaxPool{self.spatial}d")
        return made(self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel, strides, padding, dilations = zip(*self.axes(), strict=True)
        after = self._reach(w)
        if any(a >= k for a, k in zip(after, kernel, strict=True)):
            # runtimes refuse padding as wide as the kernel, though a dilated window reaches further
            x = w("Pad", x, w.ints(*self._pads(padding, after)), w.number(-inf))
            after, padding = [0] * self.spatial, (0,) * self.spatial
        return w("MaxPool", x, kernel_shape=kernel, strides=strides, dilations=dilations,
                 pads=(*padding, *after))  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls._drawn(pick, pick.int(1, 2), pick.choice([True, False]))


class _AvgPool(_Pool):
    """The mean of each window; one addition a position, one division an output."""

    __slots__ = ()
    count_include_pad: bool

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=y.numel * self.taps(), transcendentals=y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """A share of every gradient is added to each place of its window."""
        if not wanted[0]:
            return Work()
        return Work(vector_flops=y.numel * self.taps(), transcendentals=y.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(held=(0,))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty(self.shape(Tensor(x.shape)).shape, x.dtype)
        for at, inside, counted in self._windows(x):
            over = counted if self.count_include_pad else len(inside)
            for b, c in product(range(x.shape[0]), range(x.shape[1])):
                y[b, c, *at] = sum(x[b, c, *place] for place in inside) / over
        return y

    def torch(self, torch: Any) -> Any:
        made = getattr(torch.nn, f"AvgPool{self.spatial}d")
        return made(self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel, strides, padding, _ = zip(*self.axes(), strict=True)
        after, include = self._reach(w), self.count_include_pad
        if include and tuple(after) != padding:
            # zeros of the padding count, what only fills up the last window does not
            x = w("Pad", x, w.ints(*self._pads(padding, padding)))
            after = [a - p for a, p in zip(after, padding, strict=True)]
            padding, include = (0,) * self.spatial, False
        return w("AveragePool", x, kernel_shape=kernel, strides=strides, pads=(*padding, *after),
                 count_include_pad=int(include))  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls._drawn(pick, pick.choice([True, False]), pick.choice([True, False]))


@operator(cost="pool", aten="max_pool2d max_pool2d_with_indices", onnx="MaxPool")
class MaxPool2d(_MaxPool):
    """y = largest value in each window of x[B, C, H, W]; one comparison a window position."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    ceil_mode: bool = False
    spatial = 2


@operator(cost="pool", aten="avg_pool2d", onnx="AveragePool")
class AvgPool2d(_AvgPool):
    """y = mean of each window of x[B, C, H, W]; an addition a position, a division an output."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    spatial = 2


@operator(cost="pool", aten="max_pool1d max_pool1d_with_indices", onnx="MaxPool")
class MaxPool1d(_MaxPool):
    """y = largest value in each window of x[B, C, L]; one comparison a window position."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    ceil_mode: bool = False
    spatial = 1


@operator(cost="pool", aten="avg_pool1d", onnx="AveragePool")
class AvgPool1d(_AvgPool):
    """y = mean of each window of x[B, C, L]; an addition a position, a division an output."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    spatial = 1


@operator(cost="pool", aten="max_pool3d max_pool3d_with_indices", onnx="MaxPool")
class MaxPool3d(_MaxPool):
    """y = largest value in each window of x[B, C, D, H, W]; one comparison a window position."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    ceil_mode: bool = False
    spatial = 3


@operator(cost="pool", aten="avg_pool3d", onnx="AveragePool")
class AvgPool3d(_AvgPool):
    """y = mean of each window of x[B, C, D, H, W]; an addition a position, a division an output."""

    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] | None = None
    padding: int | tuple[int, ...] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    spatial = 3


@operator(cost="pool", aten="adaptive_avg_pool2d", onnx="GlobalAveragePool")
class GlobalAvgPool(Op):
    """y[B, C] = mean of x[B, C, *spatial] over space."""

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank >= 3, "needs an input of rank 3 or more", x)
        return x.with_shape(*x.shape[:2])

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=x.numel, transcendentals=y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        return Work(transcendentals=y.numel if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, REDUCE: x.numel}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(prod(x.shape[2:])))

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty(x.shape[:2], x.dtype)
        for b in range(x.shape[0]):
            for c in range(x.shape[1]):
                values = x[b, c].reshape(-1)
                y[b, c] = sum(values) / len(values)
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: x.flatten(2).mean(-1)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("ReduceMean", x, w.ints(*range(2, w.node.ins[0].rank)), keepdims=0)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        rest = [pick.size(1, 4) for _ in range(pick.int(1, 2))]
        return cls(), [Tensor((pick.size(1, 2), pick.size(1, 3), *rest))]
