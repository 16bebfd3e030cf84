"""Transposed convolution in one, two and three dimensions: the adjoint of a convolution."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from pharos.graph.op import (
    REDUCE,
    SEQUENTIAL,
    SLIDING_WINDOW,
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
from pharos.quantity.sizes import Size, each, floor_div, is_int, prod


class _ConvTranspose(Op):
    """Each input element adds itself times the kernel to a window of the output.

    macs = numel(x) * (out_channels / groups) * kernel volume: what is multiplied, not what the enlarged
    output suggests.
    """

    __slots__ = ()
    # Spatial dimensions, set by the subclass; its fields are those of PyTorch's module.
    spatial = 0
    in_channels: Size
    out_channels: Size
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...]
    padding: int | tuple[int, ...]
    output_padding: int | tuple[int, ...]
    groups: Size
    bias: bool
    dilation: int | tuple[int, ...]

    def axes(self) -> list[tuple[int, int, int, int, int]]:
        """(kernel, stride, padding, dilation, output padding) of each spatial dimension."""
        n = self.spatial
        parts = [
            each(v, n)
            for v in (self.kernel_size, self.stride, self.padding, self.dilation, self.output_padding)
        ]
        return [tuple(p[i] for p in parts) for i in range(n)]  # type: ignore[misc]

    def __post_init__(self) -> None:
        ints = is_int(self.in_channels) and is_int(self.out_channels) and is_int(self.groups)
        if ints and (self.groups < 1 or self.in_channels % self.groups or self.out_channels % self.groups):
            raise self.refuse(
                f"cannot split {self.in_channels} -> {self.out_channels} channels in {self.groups} groups"
            )
        for kernel, stride, padding, dilation, extra in self.axes():
            if kernel < 1 or stride < 1 or dilation < 1 or padding < 0 or extra < 0:
                raise self.refuse("needs kernel, stride and dilation of 1 or more and no negative padding")

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == self.spatial + 2, f"needs an input of rank {self.spatial + 2}", x)
        self.match(x.shape[1], self.in_channels, "in_channels", x)
        out = []
        for n, (kernel, stride, padding, dilation, extra) in zip(x.shape[2:], self.axes(), strict=True):
            size = (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + extra + 1
            self.need(not is_int(size) or size > 0, "leaves nothing", x)
            out.append(size)
        return x.with_shape(x.shape[0], self.out_channels, *out)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        kernel = [axis[0] for axis in self.axes()]
        weights: dict[str, tuple[Size, ...]] = {
            "weight": (self.in_channels, floor_div(self.out_channels, self.groups), *kernel)
        }
        if self.bias:
            weights["bias"] = (self.out_channels,)
        return weights

    def _reach(self) -> Size:
        return floor_div(self.out_channels, self.groups) * prod([axis[0] for axis in self.axes()])

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(macs=x.numel * self._reach(), vector_flops=y.numel if self.bias else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """As many products as forward for the kernel, and again for x."""
        return Work(
            macs=self.work(x, y).macs * (1 + bool(wanted[0])), vector_flops=y.numel if self.bias else 0
        )

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        products = x.numel * self._reach()
        return {SLIDING_WINDOW: products, SEQUENTIAL: x.numel, STRIDED: products, REDUCE: products}

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        import numpy as np

        out, axes = self.shape(Tensor(x.shape)).shape[2:], self.axes()
        y = np.zeros((len(x), self.out_channels, *out), x.dtype)
        cin, cout = self.in_channels // self.groups, self.out_channels // self.groups
        for b, c, at in product(range(len(x)), range(self.in_channels), product(*map(range, x.shape[2:]))):
            for o, tap in product(range(cout), product(*(range(axis[0]) for axis in axes))):
                tally.macs += 1
                place = [i * s - p + t * d for i, t, (_, s, p, d, _) in zip(at, tap, axes, strict=True)]
                if all(0 <= i < n for i, n in zip(place, out, strict=True)):
                    y[b, c // cin * cout + o, *place] += x[b, c, *at] * weight[c, o, *tap]
        return y if bias is None else y + bias.reshape(-1, *[1] * self.spatial)

    def torch(self, torch: Any) -> Any:
        return getattr(torch.nn, f"ConvTranspose{self.spatial}d")(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
            self.output_padding, self.groups, self.bias, self.dilation,
        )  # fmt: skip

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel, strides, padding, dilations, extra = zip(*self.axes(), strict=True)
        return w(
            "ConvTranspose", x, *map(w.parameter, self.weights()), kernel_shape=kernel, strides=strides,
            pads=padding * 2, dilations=dilations, output_padding=extra, group=self.groups,
        )  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        groups, stride = pick.int(1, 2), pick.int(1, 3)
        cin, cout = groups * pick.size(1, 2), groups * pick.size(1, 2)
        kernel = pick.int(2, 3)
        fields = (cin, cout, kernel, stride, pick.int(0, 1), pick.int(0, stride - 1), groups,
                  pick.choice([True, False]), 1)  # fmt: skip
        op: Any = cls(*fields)  # type: ignore[call-arg]
        return op, [Tensor((pick.size(1, 2), cin, *[pick.size(3, 4) for _ in range(cls.spatial)]))]


@operator(cost="conv", aten="conv_transpose2d", onnx="ConvTranspose")
class ConvTranspose2d(_ConvTranspose):
    """y[b, o, i s - p + u d, j s - p + v d] += x[b, c, i, j] W[c, o, u, v]: enlarges what Conv2d shrinks."""

    in_channels: Size
    out_channels: Size
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: Size = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1
    spatial = 2


@operator(cost="conv", aten="conv_transpose1d", onnx="ConvTranspose")
class ConvTranspose1d(_ConvTranspose):
    """y[b, o, i s - p + u d] += x[b, c, i] W[c, o, u]: enlarges what Conv1d shrinks."""

    in_channels: Size
    out_channels: Size
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: Size = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1
    spatial = 1


@operator(cost="conv", aten="conv_transpose3d", onnx="ConvTranspose")
class ConvTranspose3d(_ConvTranspose):
    """Each of x[b, c, h, i, j] times W[c, o, ...] is added to a window of y: enlarges what Conv3d shrinks."""

    in_channels: Size
    out_channels: Size
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    output_padding: int | tuple[int, ...] = 0
    groups: Size = 1
    bias: bool = True
    dilation: int | tuple[int, ...] = 1
    spatial = 3
