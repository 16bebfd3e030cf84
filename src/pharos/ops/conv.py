"""Convolution in one, two and three dimensions, grouped or dilated, direct or by an algorithm."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from pharos.graph.op import (
    BROADCAST,
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
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.conv_algorithms import ALGORITHMS, Algorithm
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, agree, ceil_log2, each, floor_div, is_int, is_symbol, pair, prod

if TYPE_CHECKING:
    from pharos.graph.graph import Node


def window(op: Op, n: Size, kernel: int, stride: int, padding: int, dilation: int, x: Tensor) -> Size:
    """Positions of a sliding window: floor((n + 2p - d(k-1) - 1) / s) + 1."""
    room = n + 2 * padding - dilation * (kernel - 1) - 1
    if is_int(room) and room < 0:
        raise op.refuse(f"has a window of {dilation * (kernel - 1) + 1} on {n} + {2 * padding}", x)
    return floor_div(room, stride) + 1 if stride != 1 else room + 1


class _Conv(Op):
    """What the convolutions share: x[B, Cin, *spatial] -> y[B, Cout, *spatial']."""

    __slots__ = ()
    # Spatial dimensions, set by the subclass; its fields are those of PyTorch's module.
    spatial = 0
    in_channels: Size
    out_channels: Size
    groups: Size
    bias: bool

    def axes(self) -> list[tuple[int, int, int, int]]:
        """(kernel, stride, padding, dilation) of each spatial dimension."""
        raise NotImplementedError

    def _check(self) -> None:
        ints = is_int(self.in_channels) and is_int(self.out_channels) and is_int(self.groups)
        if ints and (self.in_channels % self.groups or self.out_channels % self.groups):
            raise self.refuse(
                f"cannot split {self.in_channels} -> {self.out_channels} channels in {self.groups} groups"
            )
        for kernel, stride, padding, dilation in self.axes():
            if kernel < 1 or stride < 1 or dilation < 1 or padding < 0:
                raise self.refuse("needs kernel, stride and dilation of 1 or more and no negative padding")

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == self.spatial + 2, f"needs an input of rank {self.spatial + 2}", x)
        self.match(x.shape[1], self.in_channels, "in_channels", x)
        out = [window(self, n, *axis, x) for n, axis in zip(x.shape[2:], self.axes(), strict=True)]
        return x.with_shape(x.shape[0], self.out_channels, *out)

    def taps(self) -> Size:
        """Inputs that one output reads: kernel positions x channels of its group."""
        return prod([axis[0] for axis in self.axes()]) * floor_div(self.in_channels, self.groups)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        kernel = [axis[0] for axis in self.axes()]
        per_group = floor_div(self.in_channels, self.groups)
        weights: dict[str, tuple[Size, ...]] = {"weight": (self.out_channels, per_group, *kernel)}
        if self.bias:
            weights["bias"] = (self.out_channels,)
        return weights

    def work(self, x: Tensor, y: Tensor) -> Work:
        out = y.numel
        return Work(macs=out * self.taps(), vector_flops=out if self.bias else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """The convolution of x with dy, for the kernel; the transposed one of dy, for x."""
        products = y.numel * self.taps()
        return Work(macs=products * (1 + bool(wanted[0])), vector_flops=y.numel if self.bias else 0)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def class_of(self, *io: Tensor) -> str:
        """Pointwise is a matrix product, depthwise moves memory; the rest are windows of sums."""
        if is_symbol(self.groups) or agree(self.groups, 1):
            return "pointwise" if all(axis[0] == 1 for axis in self.axes()) else "conv"
        return "depthwise" if agree(self.groups, self.in_channels) else "grouped_conv"

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        taps = self.taps()
        return {
            SLIDING_WINDOW: y.numel * taps,
            SEQUENTIAL: y.numel + taps * self.out_channels,
            STRIDED: y.numel * taps,
            BROADCAST: x.numel * floor_div(self.out_channels, self.groups),
            REDUCE: y.numel * taps,
        }

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.taps()))

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        import numpy as np

        axes = self.axes()
        x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for _, _, p, _ in axes]])
        out = [(n - d * (k - 1) - 1) // s + 1 for n, (k, s, _, d) in zip(x.shape[2:], axes, strict=True)]
        y = np.zeros((x.shape[0], self.out_channels, *out), x.dtype)
        cin, cout = self.in_channels // self.groups, self.out_channels // self.groups
        for b, o, at in product(range(len(x)), range(self.out_channels), product(*map(range, out))):
            total = 0.0 if bias is None else bias[o]
            for tap in product(*(range(k) for k, _, _, _ in axes)):
                place = tuple(i * s + t * d for i, t, (_, s, _, d) in zip(at, tap, axes, strict=True))
                for c in range(cin):
                    total += x[b, o // cout * cin + c, *place] * weight[o, c, *tap]
                    tally.macs += 1
            y[b, o, *at] = total
        return y

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kernel, strides, padding, dilations = zip(*self.axes(), strict=True)
        return w(
            "Conv", x, *map(w.parameter, self.weights()), kernel_shape=kernel, strides=strides,
            pads=padding * 2, dilations=dilations, group=self.groups,
        )  # fmt: skip


@operator(cost="conv", aten="conv2d convolution", onnx="Conv")
class Conv2d(_Conv):
    """y[b, o, i, j] = sum over c, u, v of x[b, c, i s + u d - p, j s + v d - p] W[o, c, u, v] + b[o].

    macs = numel(y) * (in_channels / groups) * kernel area, or those of `algorithm`: "im2col" has as many,
    "winograd2" and "winograd4" fewer, all three with intermediates in memory; see `conv_algorithms`.
    """

    in_channels: Size
    out_channels: Size
    kernel_size: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] = 0
    dilation: int | tuple[int, int] = 1
    groups: Size = 1
    bias: bool = True
    algorithm: str = "direct"
    spatial = 2

    def __post_init__(self) -> None:
        self._check()
        if self.algorithm != "direct":
            if self.algorithm not in ALGORITHMS:
                raise unknown("convolution algorithm", str(self.algorithm), ("direct", *ALGORITHMS))
            if why := self._by.misfit(self):
                raise self.refuse(why)

    @property
    def _by(self) -> Algorithm:
        return ALGORITHMS[self.algorithm]

    def work(self, x: Tensor, y: Tensor) -> Work:
        if self.algorithm == "direct":
            return _Conv.work(self, x, y)
        return self._by.work(self, x, y) + Work(vector_flops=y.numel if self.bias else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """The gradients' products by the same algorithm; see `_Conv.gradient`."""
        if self.algorithm == "direct":
            return _Conv.gradient(self, wanted, x, y)
        found = self._by.gradient(self, bool(wanted[0]), x, y)
        return found + Work(vector_flops=y.numel if self.bias else 0)

    def traffic(self, node: "Node") -> Traffic:
        """Each tensor once, and the algorithm's own intermediates written and read."""
        moved = Op.traffic(self, node)
        return (
            moved if self.algorithm == "direct" else moved + Traffic(workspace=2 * self.workspace(*node.io))
        )

    def workspace(self, x: Tensor, y: Tensor) -> Size:
        if self.algorithm == "direct":
            return 0
        return x.with_shape(self._by.scratch(self, x, y)).nbytes

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        if self.algorithm == "direct":
            return _Conv.primitives(self, x, y)
        return self._by.primitives(self, x, y)

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        if self.algorithm == "direct":
            return _Conv.parallelism(self, x, y)
        return Parallelism(y.numel, self._by.steps, ceil_log2(self.taps()))

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        if self.algorithm == "direct":
            return _Conv.loops(self, tally, x, weight=weight, bias=bias)
        y = self._by.loops(self, tally, x, weight)
        return y if bias is None else y + bias[:, None, None]

    def axes(self) -> list[tuple[int, int, int, int]]:
        fields = (self.kernel_size, self.stride, self.padding, self.dilation)
        if all(type(f) is int for f in fields):
            return [fields, fields]  # type: ignore[list-item]
        kernel, stride, padding, dilation = map(pair, fields)
        return [
            (kernel[0], stride[0], padding[0], dilation[0]),
            (kernel[1], stride[1], padding[1], dilation[1]),
        ]

    def torch(self, torch: Any) -> Any:
        fields = (self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
                  self.dilation, self.groups, self.bias)  # fmt: skip
        if self.algorithm == "direct":
            return torch.nn.Conv2d(*fields)
        op = self

        class ByAlgorithm(torch.nn.Conv2d):
            def forward(self, x: Any) -> Any:
                y = op._by.torch(op, torch, x, self.weight)
                return y if self.bias is None else y + self.bias[:, None, None]

        return ByAlgorithm(*fields)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        algorithm, groups = pick.choice(["direct", *ALGORITHMS]), pick.int(1, 2)
        cin, cout = groups * pick.size(1, 2), groups * pick.size(1, 2)
        padding, bias = (pick.int(0, 2), pick.int(0, 2)), pick.choice([True, False])
        kernel, stride, dilation = (3, 3), (1, 1), (1, 1)
        if algorithm in ("direct", "im2col"):
            kernel, stride = (pick.int(1, 3), pick.int(1, 3)), (pick.int(1, 2), pick.int(1, 2))
            dilation = (pick.int(1, 2), pick.int(1, 2))
        op = cls(cin, cout, kernel, stride, padding, dilation, groups, bias, algorithm)
        return op, [Tensor((pick.size(1, 2), cin, pick.size(5, 7), pick.size(5, 7)))]


@operator(cost="conv", aten="conv1d", onnx="Conv")
class Conv1d(_Conv):
    """y[b, o, i] = sum over c, u of x[b, c, i s + u d - p] W[o, c, u] + b[o]."""

    in_channels: Size
    out_channels: Size
    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: Size = 1
    bias: bool = True
    spatial = 1

    def __post_init__(self) -> None:
        self._check()

    def axes(self) -> list[tuple[int, int, int, int]]:
        return [(self.kernel_size, self.stride, self.padding, self.dilation)]

    def torch(self, torch: Any) -> Any:
        return torch.nn.Conv1d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
            self.dilation, self.groups, self.bias,
        )  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        groups = pick.int(1, 2)
        cin, cout = groups * pick.size(1, 3), groups * pick.size(1, 3)
        op = cls(cin, cout, pick.int(1, 3), pick.int(1, 2), pick.int(0, 2), pick.int(1, 2), groups,
                 pick.choice([True, False]))  # fmt: skip
        return op, [Tensor((pick.size(1, 2), cin, pick.size(5, 9)))]


@operator(cost="conv", aten="conv3d", onnx="Conv")
class Conv3d(_Conv):
    """y[b, o, h, i, j] = sum over c and a window of x[b, c, ...] W[o, c, t, u, v] + b[o]."""

    in_channels: Size
    out_channels: Size
    kernel_size: int | tuple[int, ...]
    stride: int | tuple[int, ...] = 1
    padding: int | tuple[int, ...] = 0
    dilation: int | tuple[int, ...] = 1
    groups: Size = 1
    bias: bool = True
    spatial = 3

    def __post_init__(self) -> None:
        self._check()

    def axes(self) -> list[tuple[int, int, int, int]]:
        parts = [each(f, 3) for f in (self.kernel_size, self.stride, self.padding, self.dilation)]
        return [(parts[0][i], parts[1][i], parts[2][i], parts[3][i]) for i in range(3)]

    def torch(self, torch: Any) -> Any:
        return torch.nn.Conv3d(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding,
            self.dilation, self.groups, self.bias,
        )  # fmt: skip

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        groups = pick.int(1, 2)
        cin, cout = groups * pick.size(1, 2), groups * pick.size(1, 2)
        kernel = (pick.int(1, 2), pick.int(1, 3), pick.int(1, 2))
        op = cls(cin, cout, kernel, pick.int(1, 2), pick.int(0, 1), pick.int(1, 2), groups,
                 pick.choice([True, False]))  # fmt: skip
        return op, [Tensor((pick.size(1, 2), cin, *[pick.size(5, 6) for _ in range(3)]))]
