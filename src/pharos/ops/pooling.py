"""Pooling: a sliding window that keeps the largest or the mean; global average."""

from collections.abc import Sequence
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
from pharos.quantity.sizes import Size, ceil_div, ceil_log2, is_int, minimum, pair, prod


class _Pool2d(Op):
    """What the two window pools share: x[B, C, H, W] -> y[B, C, H', W']; stride None is the kernel."""

    __slots__ = ()
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None
    padding: int | tuple[int, int]
    ceil_mode: bool

    def axes(self) -> list[tuple[int, int, int, int]]:
        kernel, padding = pair(self.kernel_size), pair(self.padding)
        stride = pair(self.kernel_size if self.stride is None else self.stride)
        dilation = pair(getattr(self, "dilation", 1))
        return [(kernel[i], stride[i], padding[i], dilation[i]) for i in range(2)]

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
        self.need(x.rank == 4, "needs an input of rank 4", x)
        out = [self._positions(n, axis, x) for n, axis in zip(x.shape[2:], self.axes(), strict=True)]
        return x.with_shape(x.shape[0], x.shape[1], *out)

    def _taps(self) -> int:
        return self.axes()[0][0] * self.axes()[1][0]

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        read = y.numel * self._taps()
        return {SLIDING_WINDOW: read, STRIDED: read, SEQUENTIAL: y.numel, REDUCE: read}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self._taps()))

    def _windows(self, x: Any) -> Any:
        """(output index, values in the window, padded positions in it that count)."""
        (kh, sh, ph, dh), (kw, sw, pw, dw) = self.axes()
        y = self.shape(Tensor(x.shape)).shape
        height, width = x.shape[2:]
        for i in range(y[2]):
            for j in range(y[3]):
                inside, counted = [], 0
                for u in range(kh):
                    for v in range(kw):
                        r, c = i * sh + u * dh - ph, j * sw + v * dw - pw
                        if 0 <= r < height and 0 <= c < width:
                            inside.append((r, c))
                        counted += r < height + ph and c < width + pw
                yield i, j, inside, counted

    def _reach(self, w: OnnxWriter) -> list[int]:
        """Padding after each dimension with which whole windows are as many as `ceil_mode` makes them."""
        sizes = zip(w.node.ins[0].shape[2:], w.node.outs[0].shape[2:], self.axes(), strict=True)
        return [max(p, (m - 1) * s + d * (k - 1) + 1 - n - p) for n, m, (k, s, p, d) in sizes]


@operator(cost="pool", aten="max_pool2d max_pool2d_with_indices", onnx="MaxPool")
class MaxPool2d(_Pool2d):
    """y = largest value in each window; one comparison a window position."""

    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    ceil_mode: bool = False

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=y.numel * self._taps())

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Every gradient is added where its largest value came from."""
        return Work(vector_flops=y.numel if wanted[0] else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(extra={"indices": Tensor(y.shape, "int64")})

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty(self.shape(Tensor(x.shape)).shape, x.dtype)
        for i, j, inside, _ in self._windows(x):
            for b in range(x.shape[0]):
                for c in range(x.shape[1]):
                    y[b, c, i, j] = max((x[b, c, r, s] for r, s in inside), default=-np.inf)
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.MaxPool2d(
            self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode
        )

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel, strides, padding, dilations = zip(*self.axes(), strict=True)
        after = self._reach(w)
        if any(a >= k for a, k in zip(after, kernel, strict=True)):
            # runtimes refuse padding as wide as the kernel, though a dilated window reaches further
            x = w("Pad", x, w.ints(0, 0, *padding, 0, 0, *after), w.number(-inf))
            after, padding = [0, 0], (0, 0)
        return w("MaxPool", x, kernel_shape=kernel, strides=strides, dilations=dilations,
                 pads=(*padding, *after))  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        kernel = pick.int(1, 3)
        op = cls(kernel, pick.choice([None, 1, 2]), pick.int(0, kernel // 2), pick.int(1, 2),
                 pick.choice([True, False]))  # fmt: skip
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(5, 8), pick.size(5, 8)))]


@operator(cost="pool", aten="avg_pool2d", onnx="AveragePool")
class AvgPool2d(_Pool2d):
    """y = mean of each window; one addition a position, one division an output."""

    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] | None = None
    padding: int | tuple[int, int] = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=y.numel * self._taps(), transcendentals=y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """A share of every gradient is added to each place of its window."""
        if not wanted[0]:
            return Work()
        return Work(vector_flops=y.numel * self._taps(), transcendentals=y.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty(self.shape(Tensor(x.shape)).shape, x.dtype)
        for i, j, inside, counted in self._windows(x):
            over = counted if self.count_include_pad else len(inside)
            for b in range(x.shape[0]):
                for c in range(x.shape[1]):
                    y[b, c, i, j] = sum(x[b, c, r, s] for r, s in inside) / over
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.AvgPool2d(
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel, strides, padding, _ = zip(*self.axes(), strict=True)
        after, include = self._reach(w), self.count_include_pad
        if include and tuple(after) != padding:
            # zeros of the padding count, what only fills up the last window does not
            x = w("Pad", x, w.ints(0, 0, *padding, 0, 0, *padding))
            after, padding, include = [a - p for a, p in zip(after, padding, strict=True)], (0, 0), False
        return w("AveragePool", x, kernel_shape=kernel, strides=strides, pads=(*padding, *after),
                 count_include_pad=int(include))  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        kernel = pick.int(1, 3)
        op = cls(kernel, pick.choice([None, 1, 2]), pick.int(0, kernel // 2),
                 pick.choice([True, False]), pick.choice([True, False]))  # fmt: skip
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(5, 8), pick.size(5, 8)))]


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
