"""Group-equivariant convolution: one filter used in every rotation, and reflection, of its plane."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from pharos.graph.op import (
    BROADCAST,
    GATHER,
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
from pharos.ops.conv import window
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, prod

if TYPE_CHECKING:
    from pharos.graph.graph import Node

# Elements of the point group that goes with translations: rotations by a quarter, and mirrored ones.
ORDERS = {"p4": 4, "p4m": 8}


def element(mirrored: int, turns: int) -> int:
    """Number of the element that first mirrors left to right (or not) and then turns counterclockwise."""
    return 4 * (mirrored % 2) + turns % 4


def relative(s: int, t: int) -> int:
    """The element u with s u = t: mirroring turns rotations round."""
    (m, a), (n, b) = divmod(s, 4), divmod(t, 4)
    return element(m + n, a - b if m else b - a)


def before(s: int, i: int, j: int, n: int) -> tuple[int, int]:
    """The place in an n x n plane that element `s` takes to row i, column j."""
    mirrored, turns = divmod(s, 4)
    for _ in range(turns):
        i, j = j, n - 1 - i
    return (i, n - 1 - j) if mirrored else (i, j)


@operator(cost="conv")
class GroupConv2d(Op):
    """y[b, o, s] = sum over c, t of x[b, c, t] * (W[o, c] moved by s)[t] + b[o], * a convolution.

    x[B, C, |G|, H, W] -> y[B, O, |G|, H', W'] with planes for the |G| = 4 rotations of "p4", or the 8
    rotations and reflections of "p4m", in the order of `element`. Moved by s, a filter's planes are
    turned and mirrored by s and permuted: plane t is that of s^-1 t before. With `lifting` x is an image
    [B, C, H, W], and so is a filter. Turning a square input by an element h turns each y[s] by h and
    moves it to y[h s], if the stride leaves nothing over: (H + 2 padding - kernel_size) % stride = 0.

    macs = numel(y) * in_channels * kernel_size^2, times |G| but when lifting: an ordinary convolution
    with |G| filters for each one stored, made of it in every call.

    Source: Cohen and Welling 2016, arXiv:1602.07576, sections 6 and 7.
    """

    in_channels: Size
    out_channels: Size
    kernel_size: int
    stride: int = 1
    padding: int = 0
    group: str = "p4"
    lifting: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        if self.group not in ORDERS:
            raise unknown("group", str(self.group), ORDERS)
        if self.kernel_size < 1 or self.stride < 1 or self.padding < 0:
            raise self.refuse("needs kernel and stride of 1 or more and no negative padding")

    @property
    def order(self) -> int:
        """|G|, elements of the group."""
        return ORDERS[self.group]

    @property
    def planes(self) -> tuple[int, ...]:
        """The group's dimension of the input and of a filter, none when lifting."""
        return () if self.lifting else (self.order,)

    def shape(self, x: Tensor) -> Tensor:
        rank = 4 if self.lifting else 5
        self.need(x.rank == rank, f"needs an input of rank {rank}", x)
        self.match(x.shape[1], self.in_channels, "in_channels", x)
        if not self.lifting:
            self.match(x.shape[2], self.order, "elements of the group", x)
        out = [window(self, n, self.kernel_size, self.stride, self.padding, 1, x) for n in x.shape[-2:]]
        return x.with_shape(x.shape[0], self.out_channels, self.order, *out)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        k = self.kernel_size
        weights: dict[str, tuple[Size, ...]] = {
            "weight": (self.out_channels, self.in_channels, *self.planes, k, k)
        }
        if self.bias:
            weights["bias"] = (self.out_channels,)
        return weights

    def _taps(self) -> Size:
        """Inputs that one output reads."""
        return self.in_channels * prod((*self.planes, self.kernel_size**2))

    def _filters(self) -> Size:
        """Elements of the filters in all positions."""
        return self.order * self.out_channels * self._taps()

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(macs=y.numel * self._taps(), vector_flops=y.numel if self.bias else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """Those of the convolution; a stored weight's gradient is the sum over its |G| positions."""
        gathered = self._filters() - self.out_channels * self._taps()
        return Work(
            macs=y.numel * self._taps() * (1 + bool(wanted[0])),
            vector_flops=gathered + (y.numel if self.bias else 0),
        )

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def workspace(self, x: Tensor, y: Tensor) -> Size:
        """The filters in all positions."""
        return x.with_shape(self._filters()).nbytes

    def traffic(self, node: "Node") -> Traffic:
        """Each tensor once, and the filters in all positions written and read."""
        filters = node.weights["weight"].with_shape(self._filters())
        return Op.traffic(self, node) + Traffic(workspace=2 * filters.nbytes)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        products = y.numel * self._taps()
        return {
            SLIDING_WINDOW: products,
            GATHER: self._filters(),
            SEQUENTIAL: y.numel + self._filters(),
            STRIDED: products,
            BROADCAST: x.numel * self.order * self.out_channels,
            REDUCE: products,
        }

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, depth=2, tree=ceil_log2(self._taps()))

    def _table(self) -> list[list[int]]:
        """For each element s, where in a stored filter's channel each tap (t, u, v) of the moved one is."""
        k, sources = self.kernel_size, range(self.order)
        rows = []
        for s in sources:
            places = [before(s, u, v, k) for u, v in product(range(k), range(k))]
            planes = [0] if self.lifting else [relative(s, t) for t in sources]
            rows.append([(plane * k + i) * k + j for plane in planes for i, j in places])
        return rows

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        import numpy as np

        shape, k, p = self.shape(Tensor(x.shape)).shape, self.kernel_size, self.padding
        planes = x[:, :, None] if self.lifting else x
        planes = np.pad(planes, [(0, 0), (0, 0), (0, 0), (p, p), (p, p)])
        stored = weight[:, :, None] if self.lifting else weight
        y = np.zeros(shape, x.dtype)
        taps = list(product(range(self.in_channels), range(planes.shape[2]), range(k), range(k)))
        for b, o, s, i, j in product(*map(range, shape)):
            total = 0.0 if bias is None else bias[o]
            for c, t, u, v in taps:
                plane = 0 if self.lifting else relative(s, t)
                at = planes[b, c, t, i * self.stride + u, j * self.stride + v]
                total += at * stored[o, c, plane, *before(s, u, v, k)]
                tally.macs += 1
            y[b, o, s, i, j] = total
        return y

    def torch(self, torch: Any) -> Any:
        op, nn = self, torch.nn

        class GroupConv(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.empty(op.weights()["weight"]))
                self.register_parameter(
                    "bias", nn.Parameter(torch.empty(op.out_channels)) if op.bias else None
                )
                self.register_buffer("table", torch.tensor(op._table()), persistent=False)
                bound = op._taps() ** -0.5
                for parameter in self.parameters():
                    nn.init.uniform_(parameter, -bound, bound)

            def forward(self, x: Any) -> Any:
                k = op.kernel_size
                filters = self.weight.flatten(2)[:, :, self.table].transpose(1, 2)
                filters = filters.reshape(op.out_channels * op.order, -1, k, k)
                planes = x if op.lifting else x.flatten(1, 2)
                bias = None if self.bias is None else self.bias.repeat_interleave(op.order)
                y = nn.functional.conv2d(planes, filters, bias, op.stride, op.padding)
                return y.unflatten(1, (op.out_channels, op.order))

        return GroupConv()

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        k, table = self.kernel_size, np.array(self._table())
        flat = w("Reshape", w.parameter("weight"), w.ints(self.out_channels, self.in_channels, -1))
        moved = w("Transpose", w("Gather", flat, w.table(table), axis=2), perm=[0, 2, 1, 3])
        filters = w("Reshape", moved, w.ints(self.out_channels * self.order, -1, k, k))
        given, out = w.node.ins[0].shape, w.node.outs[0].shape
        if not self.lifting:
            x = w("Reshape", x, w.ints(given[0], -1, *given[-2:]))
        biases = []
        if self.bias:
            each = np.repeat(np.arange(self.out_channels), self.order)
            biases = [w("Gather", w.parameter("bias"), w.table(each), axis=0)]
        y = w("Conv", x, filters, *biases, kernel_shape=[k, k], strides=[self.stride] * 2,
              pads=[self.padding] * 4)  # fmt: skip
        return w("Reshape", y, w.ints(*out))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        channels, lifting, group = pick.size(1, 2), pick.choice([True, False]), pick.choice(list(ORDERS))
        op = cls(channels, pick.size(1, 2), pick.int(1, 3), pick.int(1, 2), pick.int(0, 1), group, lifting,
                 pick.choice([True, False]))  # fmt: skip
        return op, [Tensor((pick.size(1, 2), channels, *op.planes, pick.size(3, 5), pick.size(3, 5)))]
