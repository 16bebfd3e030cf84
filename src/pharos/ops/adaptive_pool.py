"""Adaptive pooling: windows of unequal size that give a stated output; and pooling by a norm."""

from collections.abc import Sequence
from itertools import product
from typing import Any

from pharos.graph.op import REDUCE, SEQUENTIAL, STRIDED, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.ops.conv import window
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_div, prod


def _reads(n: Size, out: int) -> Size:
    """Inputs that all windows of a dimension read: window i is from floor(i n / m) to ceil((i + 1) n / m)."""
    total: Size = 0
    for i in range(out):
        total = total + ceil_div((i + 1) * n, out) - (i * n) // out
    return total


@operator(
    cost="pool",
    aten="adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d "
    "adaptive_max_pool2d adaptive_max_pool3d",
)
class AdaptivePool(Op):
    """y[B, C, *output_size] = mean (or largest) of windows of x[B, C, *spatial], as equal as sizes allow.

    Window i of m over n inputs is from floor(i n / m) to ceil((i + 1) n / m): they may overlap.
    """

    output_size: tuple[int, ...]
    function: str = "mean"

    def __post_init__(self) -> None:
        if self.function not in ("mean", "max"):
            raise unknown("pooling", str(self.function), ("mean", "max"))

    def shape(self, x: Tensor) -> Tensor:
        n = len(self.output_size)
        self.need(x.rank == n + 2, f"needs an input of rank {n + 2}", x)
        self.need(all(m >= 1 for m in self.output_size), "leaves nothing", x)
        return x.with_shape(*x.shape[:2], *self.output_size)

    def _read(self, x: Tensor) -> Size:
        reads = [_reads(n, m) for n, m in zip(x.shape[2:], self.output_size, strict=True)]
        return x.shape[0] * x.shape[1] * prod(reads)

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=self._read(x), transcendentals=y.numel if self.function == "mean" else 0)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """A share of every gradient is added to each place of its window, or all of it to the largest."""
        if not wanted[0]:
            return Work()
        if self.function == "max":
            return Work(vector_flops=y.numel)
        return Work(vector_flops=self._read(x), transcendentals=y.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        """Over everything PyTorch takes a mean, which holds nothing."""
        if self.function == "mean":
            return Saved(held=() if prod(self.output_size) == 1 else (0,))
        return Saved(held=(0,), extra={"indices": Tensor(y.shape, "int64")})

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: x.numel + y.numel, STRIDED: self._read(x), REDUCE: self._read(x)}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty((*x.shape[:2], *self.output_size), x.dtype)
        for at in product(*map(range, self.output_size)):
            parts = [
                range(i * n // m, -(-(i + 1) * n // m))
                for i, n, m in zip(at, x.shape[2:], self.output_size, strict=True)
            ]
            for b, c in product(range(x.shape[0]), range(x.shape[1])):
                values = [x[b, c, *place] for place in product(*parts)]
                y[b, c, *at] = sum(values) / len(values) if self.function == "mean" else max(values)
        return y

    def torch(self, torch: Any) -> Any:
        head = "Avg" if self.function == "mean" else "Max"
        return getattr(torch.nn, f"Adaptive{head}Pool{len(self.output_size)}d")(self.output_size)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        sizes = list(zip(w.node.ins[0].shape[2:], self.output_size, strict=True))
        self.need(all(n % m == 0 for n, m in sizes), "has windows of several sizes, which ONNX does not")
        kernel = [n // m for n, m in sizes]
        return w(
            "AveragePool" if self.function == "mean" else "MaxPool", x, kernel_shape=kernel, strides=kernel
        )

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        out = tuple(pick.int(1, 3) for _ in range(pick.int(1, 3)))
        function, times = pick.choice(["mean", "max"]), pick.size(1, 2)
        return cls(out, function), [Tensor((pick.size(1, 2), pick.size(1, 2), *[m * times for m in out]))]


@operator(cost="pool", aten="lp_pool1d lp_pool2d", onnx="LpPool GlobalLpPool")
class LpPool(Op):
    """y = (sum of |x|^p over each window)^(1/p) of x[B, C, *spatial], without padding.

    A power and an addition a position, a root an output; of p 1 and 2 no power but a product.
    """

    p: float
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...] | None = None

    def _axes(self) -> list[tuple[int, int]]:
        stride = self.kernel_size if self.stride is None else self.stride
        return list(zip(self.kernel_size, stride, strict=True))

    def shape(self, x: Tensor) -> Tensor:
        n = len(self.kernel_size)
        self.need(x.rank == n + 2, f"needs an input of rank {n + 2}", x)
        out = [window(self, m, k, s, 0, 1, x) for m, (k, s) in zip(x.shape[2:], self._axes(), strict=True)]
        return x.with_shape(*x.shape[:2], *out)

    def _read(self, y: Tensor) -> Size:
        return y.numel * prod(self.kernel_size)

    def work(self, x: Tensor, y: Tensor) -> Work:
        read = self._read(y)
        if self.p in (1, 2):
            return Work(vector_flops=2 * read, transcendentals=y.numel if self.p == 2 else 0)
        return Work(vector_flops=read, transcendentals=read + y.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """dx += dy y^(1 - p) x^(p - 1), in every window: two products and a sum a position."""
        if not wanted[0]:
            return Work()
        return Work(vector_flops=3 * self._read(y), transcendentals=y.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved((0,), (0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: y.numel, STRIDED: self._read(y), REDUCE: self._read(y)}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.zeros(self.shape(Tensor(x.shape)).shape, x.dtype)
        for at in np.ndindex(y.shape):
            for tap in product(*map(range, self.kernel_size)):
                place = [i * s + t for i, t, (_, s) in zip(at[2:], tap, self._axes(), strict=True)]
                y[at] += abs(x[at[0], at[1], *place]) ** self.p
        return y ** (1 / self.p)

    def torch(self, torch: Any) -> Any:
        def pool(x: Any) -> Any:
            n = len(self.kernel_size)
            average = getattr(torch.nn.functional, f"avg_pool{n}d")
            powers = average(x.abs() ** self.p, self.kernel_size, [s for _, s in self._axes()])
            return (powers * prod(self.kernel_size)) ** (1 / self.p)

        return pool

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        self.need(self.p == int(self.p), "has a power that is no whole number, which ONNX does not")
        strides = [s for _, s in self._axes()]
        return w("LpPool", x, kernel_shape=self.kernel_size, strides=strides, p=int(self.p))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        n = pick.int(1, 3)
        kernel = tuple(pick.int(1, 2) for _ in range(n))
        stride = pick.choice([None, (1,) * n])
        shape = (pick.size(1, 2), pick.size(1, 2), *[pick.size(3, 5) for _ in range(n)])
        return cls(float(pick.int(1, 3)), kernel, stride), [Tensor(shape)]
