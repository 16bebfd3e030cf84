"""Ways to compute a convolution other than directly: a matrix of patches, Winograd's minimal filtering."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pharos.graph.op import GATHER, MATMUL, REDUCE, SEQUENTIAL, STRIDED, Tally, Work
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, ceil_div, floor_div, prod

if TYPE_CHECKING:
    from pharos.ops.conv import Conv2d

# From a row of values to a row of values; a value is anything with arithmetic, a number or a whole array.
Transform = Callable[[Sequence[Any]], list[Any]]


class Algorithm:
    """A way to compute y[B, O, H', W'] of a Conv2d from x[B, C, H, W]; no rule here counts the bias.

    Its intermediates go through memory, for the whole batch at once: fused forms that keep them on chip
    move and hold less.
    """

    __slots__ = ()
    # kernels that follow each other
    steps = 1

    def misfit(self, conv: "Conv2d") -> str:
        """Why it cannot compute a convolution; "" if it can."""
        raise NotImplementedError

    def work(self, conv: "Conv2d", x: Tensor, y: Tensor) -> Work:
        """Operations of a call."""
        raise NotImplementedError

    def gradient(self, conv: "Conv2d", of_x: bool, x: Tensor, y: Tensor) -> Work:
        """Operations of the gradient of the weight and, if asked for, of x, by the same algorithm."""
        raise NotImplementedError

    def scratch(self, conv: "Conv2d", x: Tensor, y: Tensor) -> Size:
        """Elements of its intermediates."""
        raise NotImplementedError

    def primitives(self, conv: "Conv2d", x: Tensor, y: Tensor) -> dict[str, Size]:
        """Elements handled by each primitive."""
        raise NotImplementedError

    def loops(self, conv: "Conv2d", tally: Tally, x: Any, weight: Any) -> Any:
        """y by explicit loops over NumPy arrays."""
        raise NotImplementedError

    def torch(self, conv: "Conv2d", torch: Any, x: Any, weight: Any) -> Any:
        """y by PyTorch's operations."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Im2col(Algorithm):
    """One matrix product with a matrix whose columns are the inputs that each output reads.

    y[O, B H' W'] = W[O, C k k] P[C k k, B H' W'], group by group. A pointwise convolution of stride 1
    without padding is that product already: it makes no matrix.

    Source: Chellapilla et al. 2006, "High performance convolutional neural networks for document
    processing".
    """

    steps = 2

    def misfit(self, conv: "Conv2d") -> str:
        return ""

    def _is_matrix(self, conv: "Conv2d") -> bool:
        return all(axis[:3] == (1, 1, 0) for axis in conv.axes())

    def work(self, conv: "Conv2d", x: Tensor, y: Tensor) -> Work:
        return Work(macs=y.numel * conv.taps())

    def gradient(self, conv: "Conv2d", of_x: bool, x: Tensor, y: Tensor) -> Work:
        """dW = dy P', dP = W' dy; each element of dP is added to the input that it was read from."""
        products = y.numel * conv.taps()
        if not of_x:
            return Work(macs=products)
        return Work(macs=2 * products, vector_flops=self.scratch(conv, x, y))

    def scratch(self, conv: "Conv2d", x: Tensor, y: Tensor) -> Size:
        if self._is_matrix(conv):
            return 0
        return prod((y.shape[0], x.shape[1], *(axis[0] for axis in conv.axes()), *y.shape[2:]))

    def primitives(self, conv: "Conv2d", x: Tensor, y: Tensor) -> dict[str, Size]:
        products, patches = y.numel * conv.taps(), self.scratch(conv, x, y)
        return {
            MATMUL: products,
            GATHER: patches,
            SEQUENTIAL: x.numel + 2 * patches + conv.taps() * conv.out_channels + y.numel,
            REDUCE: products,
        }

    def patches(self, conv: "Conv2d", x: Any) -> Any:
        """P[C k k, B H' W'] of an array x: a column holds the inputs that one position reads."""
        import numpy as np

        axes = conv.axes()
        shape = conv.shape(Tensor(x.shape)).shape
        x = np.pad(x, [(0, 0), (0, 0), *[(axis[2], axis[2]) for axis in axes]])
        (kh, sh, _, dh), (kw, sw, _, dw) = axes
        patches = np.zeros((x.shape[1] * kh * kw, shape[0] * shape[2] * shape[3]))
        for row, (c, u, v) in enumerate(product(range(x.shape[1]), range(kh), range(kw))):
            for column, (b, i, j) in enumerate(product(range(shape[0]), range(shape[2]), range(shape[3]))):
                patches[row, column] = x[b, c, i * sh + u * dh, j * sw + v * dw]
        return patches

    def loops(self, conv: "Conv2d", tally: Tally, x: Any, weight: Any) -> Any:
        import numpy as np

        shape, patches = conv.shape(Tensor(x.shape)).shape, self.patches(conv, x)
        rows, flat = conv.taps(), weight.reshape(len(weight), -1)
        y = np.zeros((len(weight), patches.shape[1]))
        for o, column, k in product(range(len(y)), range(y.shape[1]), range(rows)):
            group = o // (conv.out_channels // conv.groups)
            y[o, column] += flat[o, k] * patches[group * rows + k, column]
            tally.macs += 1
        return y.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1)

    def torch(self, conv: "Conv2d", torch: Any, x: Any, weight: Any) -> Any:
        kernel, stride, padding, dilation = zip(*conv.axes(), strict=True)
        shape = conv.shape(Tensor(tuple(x.shape))).shape
        patches = torch.nn.functional.unfold(x, kernel, dilation, padding, stride)
        patches = patches.unflatten(1, (conv.groups, -1))
        return (weight.reshape(conv.groups, -1, patches.shape[2]) @ patches).reshape(shape)


def both_axes(transform: Transform, values: Any, stack: Callable[..., Any]) -> Any:
    """A transform of the last two axes of an array or tensor: each column, then each row.

    Args:
        stack: ``numpy.stack`` or ``torch.stack``.
    """
    columns = transform([values[..., i, :] for i in range(values.shape[-2])])
    values = stack(columns, -2)
    rows = transform([values[..., i] for i in range(values.shape[-1])])
    return stack(rows, -1)


@dataclass(frozen=True, slots=True)
class Winograd(Algorithm):
    """F(m x m, 3 x 3): m x m outputs from (m + 2)^2 products a pair of channels instead of 9 m^2.

    Y = A' [(G g G') * (B' d B)] A for a tile d of (m + 2) x (m + 2) inputs and a kernel g. Each transform
    is applied along the columns and then along the rows.

    Source: Lavin and Gray 2015, arXiv:1509.09308, section 4.

    Args:
        tile: m, outputs of a tile along an axis.
        data, kernel, output: B', G and A' along one axis, with sums that are needed twice made once.
        *_flops: additions and multiplications of each along one axis.
    """

    steps = 3

    tile: int
    data: Transform
    kernel: Transform
    output: Transform
    data_flops: int
    kernel_flops: int
    output_flops: int

    @property
    def reach(self) -> int:
        """Inputs of a tile along an axis, and products of it."""
        return self.tile + 2

    @property
    def data_work(self) -> int:
        """Operations of a tile's input in one channel; its gradient has as many."""
        return 2 * self.reach * self.data_flops

    @property
    def kernel_work(self) -> int:
        """Operations of one 3 x 3 kernel."""
        return (3 + self.reach) * self.kernel_flops

    @property
    def output_work(self) -> int:
        """Operations of a tile's output in one channel."""
        return (self.reach + self.tile) * self.output_flops

    # A sum of n terms turned round is n copies, and a value that is used n times becomes a sum of n:
    # a linear map of p values to q that takes k operations takes k + q - p when transposed.

    @property
    def kernel_gradient_work(self) -> int:
        """Operations of the transposed transform, from products to one 3 x 3 kernel."""
        return (3 + self.reach) * (self.kernel_flops + self.reach - 3)

    @property
    def output_gradient_work(self) -> int:
        """Operations of the transposed transform, from a tile's output in one channel to products."""
        return (self.reach + self.tile) * (self.output_flops + self.tile - self.reach)

    def misfit(self, conv: "Conv2d") -> str:
        for kernel, stride, _, dilation in conv.axes():
            if kernel != 3 or stride != 1 or dilation != 1:
                return "needs a 3 x 3 kernel of stride and dilation 1 for Winograd's minimal filtering"
        return ""

    def _tiles(self, y: Tensor) -> Size:
        """Tiles of a batch in one channel; those at the edge are computed whole."""
        return prod((y.shape[0], *(ceil_div(n, self.tile) for n in y.shape[2:])))

    def _kernels(self, conv: "Conv2d") -> Size:
        return conv.out_channels * floor_div(conv.in_channels, conv.groups)

    def _products(self, conv: "Conv2d", y: Tensor) -> Size:
        return self.reach**2 * self._tiles(y) * self._kernels(conv)

    def work(self, conv: "Conv2d", x: Tensor, y: Tensor) -> Work:
        """Kernels are transformed in every call: a graph does not say that they stay the same."""
        tiles, kernels = self._tiles(y), self._kernels(conv)
        outside = tiles * (conv.in_channels * self.data_work + conv.out_channels * self.output_work)
        return Work(macs=self._products(conv, y), vector_flops=outside + kernels * self.kernel_work)

    def gradient(self, conv: "Conv2d", of_x: bool, x: Tensor, y: Tensor) -> Work:
        """The transposed transforms around the products of dM with the transformed x and kernels.

        The transformed x, and kernels if dx is asked for, are made again from what was kept; each
        element of the tiles of dx, which overlap, is added to dx.
        """
        tiles, kernels, products = self._tiles(y), self._kernels(conv), self._products(conv, y)
        of_tile = conv.out_channels * self.output_gradient_work + conv.in_channels * self.data_work
        vector = tiles * of_tile + kernels * self.kernel_gradient_work
        if not of_x:
            return Work(macs=products, vector_flops=vector)
        of_tile = conv.in_channels * (self.data_work + self.reach**2)
        return Work(macs=2 * products, vector_flops=vector + tiles * of_tile + kernels * self.kernel_work)

    def scratch(self, conv: "Conv2d", x: Tensor, y: Tensor) -> Size:
        """Transformed input and kernels, and the products before they are transformed back."""
        channels = conv.in_channels + conv.out_channels
        return self.reach**2 * (self._tiles(y) * channels + self._kernels(conv))

    def primitives(self, conv: "Conv2d", x: Tensor, y: Tensor) -> dict[str, Size]:
        products, tiles = self._products(conv, y), self._tiles(y)
        return {
            MATMUL: products,
            STRIDED: self.reach**2 * tiles * (conv.in_channels + conv.out_channels),
            SEQUENTIAL: x.numel + y.numel + 9 * self._kernels(conv),
            REDUCE: products,
        }

    def loops(self, conv: "Conv2d", tally: Tally, x: Any, weight: Any) -> Any:
        import numpy as np

        shape = conv.shape(Tensor(x.shape)).shape
        m, t = self.tile, self.reach
        down, across = (-(-n // m) for n in shape[2:])
        room = [
            (p, k * m + 2 - n - p)
            for (_, _, p, _), n, k in zip(conv.axes(), x.shape[2:], (down, across), strict=True)
        ]
        x = np.pad(x, [(0, 0), (0, 0), *room])
        kernels = both_axes(self.kernel, weight, np.stack)
        y = np.zeros((*shape[:2], down * m, across * m))
        cin, cout = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        for b, i, j in product(range(shape[0]), range(down), range(across)):
            tile = x[b, :, i * m : i * m + t, j * m : j * m + t]
            data = both_axes(self.data, tile, np.stack)
            for o in range(conv.out_channels):
                total = np.zeros((t, t))
                for c, u, v in product(range(cin), range(t), range(t)):
                    total[u, v] += kernels[o, c, u, v] * data[o // cout * cin + c, u, v]
                    tally.macs += 1
                y[b, o, i * m : i * m + m, j * m : j * m + m] = both_axes(self.output, total, np.stack)
        return y[:, :, : shape[2], : shape[3]]

    def torch(self, conv: "Conv2d", torch: Any, x: Any, weight: Any) -> Any:
        m, t = self.tile, self.reach
        batch, _, height, width = conv.shape(Tensor(tuple(x.shape))).shape
        down, across = -(-height // m), -(-width // m)
        (_, _, top, _), (_, _, left, _) = conv.axes()
        bottom, right = down * m + 2 - x.shape[2] - top, across * m + 2 - x.shape[3] - left
        x = torch.nn.functional.pad(x, (left, right, top, bottom))
        tiles = x.unfold(2, t, m).unfold(3, t, m)
        data = both_axes(self.data, tiles, torch.stack).permute(4, 5, 1, 0, 2, 3)
        data = data.reshape(t, t, conv.groups, -1, batch * down * across)
        kernels = both_axes(self.kernel, weight, torch.stack).permute(2, 3, 0, 1)
        kernels = kernels.reshape(t, t, conv.groups, -1, data.shape[3])
        products = (kernels @ data).reshape(t, t, -1, batch, down, across).permute(3, 2, 4, 5, 0, 1)
        y = both_axes(self.output, products, torch.stack).permute(0, 1, 2, 4, 3, 5)
        return y.reshape(batch, -1, down * m, across * m)[:, :, :height, :width]


def _data2(d: Sequence[Any]) -> list[Any]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _kernel2(g: Sequence[Any]) -> list[Any]:
    ends, middle = (g[0] + g[2]) * 0.5, g[1] * 0.5
    return [g[0], ends + middle, ends - middle, g[2]]


def _output2(p: Sequence[Any]) -> list[Any]:
    return [p[0] + p[1] + p[2], p[1] - p[2] - p[3]]


def _data4(d: Sequence[Any]) -> list[Any]:
    even, odd = d[4] - d[2] * 4, d[3] - d[1] * 4
    near, step = d[4] - d[2], d[3] - d[1]
    twice = step * 2
    first, last = (d[0] - d[2]) * 4 + near, d[5] - d[3] - twice * 2
    return [first, even + odd, even - odd, near + twice, near - twice, last]


def _kernel4(g: Sequence[Any]) -> list[Any]:
    ends, middle = (g[0] + g[2]) * (-1 / 6), g[1] * (1 / 6)
    quarter = g[0] * 0.25
    wide, half = (quarter + g[2]) * (1 / 6), middle * 0.5
    return [quarter, ends - middle, ends + middle, wide + half, wide - half, g[2]]


def _output4(p: Sequence[Any]) -> list[Any]:
    sum1, gap1, sum2, gap2 = p[1] + p[2], p[1] - p[2], p[3] + p[4], p[3] - p[4]
    return [p[0] + sum1 + sum2, gap1 + gap2 * 2, sum1 + sum2 * 4, gap1 + gap2 * 8 + p[5]]


# What a Conv2d may name beside "direct".
ALGORITHMS: dict[str, Algorithm] = {
    "im2col": Im2col(),
    "winograd2": Winograd(2, _data2, _kernel2, _output2, 4, 5, 4),
    "winograd4": Winograd(4, _data4, _kernel4, _output4, 17, 11, 13),
}
