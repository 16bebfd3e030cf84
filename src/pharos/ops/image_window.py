"""Attention in windows of an image: the cyclic shift, the mask it needs, the bias by relative position."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import GATHER, SEQUENTIAL, OnnxWriter, Op, Picker, Saved, Tally, Traffic, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.sizes import Size, floor_div, is_int


@operator(cost="copy", aten="roll")
class Roll(Op):
    """Elements moved by `shifts` along `dims`; those that leave at one end come in at the other."""

    shifts: tuple[int, ...]
    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        self.need(len(self.shifts) == len(self.dims), "needs one shift a dimension")

    def shape(self, x: Tensor) -> Tensor:
        for d in self.dims:
            self.need(-x.rank <= d < x.rank, f"has no dimension {d}", x)
        return x

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty_like(x)
        for at in np.ndindex(x.shape):
            to = list(at)
            for d, shift in zip(self.dims, self.shifts, strict=True):
                to[d] = (at[d] + shift) % x.shape[d]
            y[tuple(to)] = x[at]
        return y

    def torch(self, torch: Any) -> Any:
        return lambda x: torch.roll(x, self.shifts, self.dims)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        for d, shift in zip(self.dims, self.shifts, strict=True):
            n = w.node.ins[0].shape[d]
            if shift % n:
                cut = n - shift % n
                late = w("Slice", x, w.ints(cut), w.ints(n), w.ints(d))
                x = w("Concat", late, w("Slice", x, w.ints(0), w.ints(cut), w.ints(d)), axis=d)
        return x

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        op = cls((pick.int(-3, 3), pick.int(-3, 3)), (1, -1))
        return op, [Tensor((pick.size(1, 2), pick.size(1, 4), pick.size(1, 4)))]


@operator(cost="view")
class ShiftMask(Op):
    """0 where two positions of a window were neighbours before a cyclic shift, -100 where not.

    [windows, 1, window^2, window^2] of a map of height x width that was shifted by `shift` up and left,
    to be added to the scores; a constant, made once. Source: Liu et al. 2021, arXiv:2103.14030, section 3.2.
    """

    height: Size
    width: Size
    window: int
    shift: tuple[int, int]

    def __post_init__(self) -> None:
        for side, shift in zip((self.height, self.width), self.shift, strict=True):
            if not 0 <= shift < self.window:
                raise self.refuse("needs shifts from 0 to less than the window")
            if is_int(side) and side % self.window:
                raise self.refuse(f"cannot cut {side} positions in windows of {self.window}")

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        windows = floor_div(self.height, self.window) * floor_div(self.width, self.window)
        return Tensor((windows, 1, self.window**2, self.window**2), ACTIVATIONS)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def _region(self, at: int, side: int, shift: int) -> int:
        """Which of three bands a position lies in: windows of one band, or the two halves of the last."""
        if shift == 0 or at < side - self.window:
            return 0
        return 1 if at < side - shift else 2

    def loops(self, tally: Tally) -> Any:
        import numpy as np

        mask = np.zeros(self.shape().shape)
        size, across = self.window, self.width // self.window
        for w, i, j in np.ndindex(len(mask), size**2, size**2):
            corner = (w // across * size, w % across * size)
            places = [(corner[0] + at // size, corner[1] + at % size) for at in (i, j)]
            first, second = (
                (
                    self._region(row, self.height, self.shift[0]),
                    self._region(column, self.width, self.shift[1]),
                )
                for row, column in places
            )
            if first != second:
                mask[w, 0, i, j] = -100.0
        return mask

    def torch(self, torch: Any) -> Any:
        size = self.window
        bands = [
            torch.tensor([self._region(at, side, shift) for at in range(side)])
            for side, shift in zip((self.height, self.width), self.shift, strict=True)
        ]
        regions = 3 * bands[0][:, None] + bands[1][None, :]
        regions = regions.reshape(self.height // size, size, self.width // size, size)
        regions = regions.permute(0, 2, 1, 3).reshape(-1, 1, size * size)
        made = (regions[..., None, :] != regions[..., None]) * -100.0

        class Mask(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                # moves with the model to another device or type, and is no part of its stored state
                self.register_buffer("mask", made, persistent=False)

            def forward(self) -> Any:
                return self.mask

        return Mask()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        import numpy as np

        size = self.window
        down, across = (
            np.array([self._region(at, side, shift) for at in range(side)])
            for side, shift in zip((self.height, self.width), self.shift, strict=True)
        )
        regions = 3 * down[:, None] + across
        regions = regions.reshape(self.height // size, size, self.width // size, size)
        regions = regions.transpose(0, 2, 1, 3).reshape(-1, 1, size * size)
        return w.table((regions[..., None, :] != regions[..., None]) * -100.0)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        window = pick.int(1, 3)
        height, width = window * pick.size(1, 2), window * pick.size(1, 2)
        return cls(height, width, window, (pick.int(0, window - 1), pick.int(0, window - 1))), []


@operator(cost="gather")
class RelativeBias(Op):
    """y[0, h, i, j] = table[index[i n + j], h] for positions i, j of a window of n = height x width.

    The table has a row for each of the (2 height - 1) (2 width - 1) offsets between two positions; no
    arithmetic. Source: Liu et al. 2021, arXiv:2103.14030, section 3.2.
    """

    heads: Size
    height: Size
    width: Size

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        positions = self.height * self.width
        return Tensor((1, self.heads, positions, positions), ACTIVATIONS)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        offsets = (2 * self.height - 1) * (2 * self.width - 1)
        return {"relative_position_bias_table": (offsets, self.heads)}

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        return {"relative_position_index": ((self.height * self.width) ** 2,)}

    def gradient(self, wanted: Sequence[bool], y: Tensor) -> Work:
        """Each gradient is added to its row of the table."""
        return Work(vector_flops=y.numel)

    def saved(self, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, y: Tensor) -> dict[str, Size]:
        return {GATHER: y.numel, SEQUENTIAL: y.numel}

    def _index(self) -> list[int]:
        """Row of the table for each pair of positions: the offset down, then the offset right."""
        places = [(r, c) for r in range(self.height) for c in range(self.width)]
        return [
            (r - s + self.height - 1) * (2 * self.width - 1) + c - d + self.width - 1
            for r, c in places
            for s, d in places
        ]

    def loops(self, tally: Tally, *, relative_position_bias_table: Any, relative_position_index: Any) -> Any:
        import numpy as np

        positions = self.height * self.width
        y = np.empty((1, self.heads, positions, positions), relative_position_bias_table.dtype)
        for h, i, j in np.ndindex(self.heads, positions, positions):
            row = relative_position_index[i * positions + j]
            y[0, h, i, j] = relative_position_bias_table[int(row), h]
        return y

    def torch(self, torch: Any) -> Any:
        shape, heads, index = self.shape().shape, self.heads, self._index()
        (table, table_shape), *_ = self.weights().items()

        class Gather(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.register_parameter(table, torch.nn.Parameter(torch.zeros(table_shape)))
                self.register_buffer("relative_position_index", torch.tensor(index))

            def forward(self) -> Any:
                rows = getattr(self, table)[self.relative_position_index]
                return rows.reshape(*shape[2:], heads).permute(2, 0, 1)[None]

        return Gather()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        positions = self.height * self.width
        rows = w("Gather", w.parameter("relative_position_bias_table"), w.ints(*self._index()))
        rows = w("Reshape", rows, w.ints(positions, positions, self.heads))
        return w("Unsqueeze", w("Transpose", rows, perm=(2, 0, 1)), w.ints(0))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(pick.size(1, 3), pick.size(2, 3), pick.size(2, 3)), []
