"""Rotary positions: pairs of features turned by an angle that grows with the position."""

from typing import Any

from pharos.graph.op import SEQUENTIAL, STRIDED, Op, Picker, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, is_int, prod


@operator(cost="elementwise", onnx="RotaryEmbedding")
class Rotary(Op):
    """y = x cos(t w) + rotate_half(x) sin(t w) for x[B, H, T, d] at positions offset .. offset + T - 1.

    Two multiplications and an addition an element; the tables of T x d sines and cosines are small
    and stay in the cache. Source: Su et al. 2021, arXiv:2104.09864, in the half-split form of Llama.

    Args:
        width: only the first `width` features are turned, None means all.
        interleaved: features 2i and 2i + 1 turn together; they leave half-split, as the others do, which
            no product of a query and a key can tell.
    """

    base: float = 10000.0
    offset: Size = 0
    width: Size | None = None
    interleaved: bool = False

    def _turned(self, x: Tensor) -> Size:
        return x.shape[3] if self.width is None else self.width

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        turned = self._turned(x)
        self.need(not is_int(turned) or turned % 2 == 0, "needs an even number of features to turn", x)
        if is_int(turned) and is_int(x.shape[3]):
            self.need(0 < turned <= x.shape[3], f"cannot turn {turned} features", x)
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=3 * prod(x.shape[:3]) * self._turned(x))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: y.numel, STRIDED: x.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = x.copy()
        half = self._turned(Tensor(x.shape)) // 2
        for t in range(x.shape[2]):
            for i in range(half):
                angle = (self.offset + t) * self.base ** (-i / half)
                cos, sin = np.cos(angle), np.sin(angle)
                at, other = (2 * i, 2 * i + 1) if self.interleaved else (i, i + half)
                y[:, :, t, i] = x[:, :, t, at] * cos - x[:, :, t, other] * sin
                y[:, :, t, i + half] = x[:, :, t, other] * cos + x[:, :, t, at] * sin
        return y

    def torch(self, torch: Any) -> Any:
        def rotate(whole: Any) -> Any:
            turned_width = self._turned(Tensor(tuple(whole.shape)))
            x, rest = whole[..., :turned_width], whole[..., turned_width:]
            half = turned_width // 2
            if self.interleaved:
                x = torch.cat([x[..., ::2], x[..., 1::2]], -1)
            # bf16 cannot tell position 257 from 256
            wide = torch.promote_types(x.dtype, torch.float32)
            place = torch.arange(x.shape[2], dtype=wide, device=x.device) + self.offset
            turn = self.base ** (-torch.arange(half, dtype=wide, device=x.device) / half)
            angle = (place[:, None] * turn).repeat(1, 2)
            turned = torch.cat([-x[..., half:], x[..., :half]], -1)
            return torch.cat([x * angle.cos().to(x.dtype) + turned * angle.sin().to(x.dtype), rest], -1)

        return rotate

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        turned = 2 * pick.size(1, 3)
        part = pick.choice([True, False])
        op = cls(
            pick.choice([10000.0, 500.0]), pick.choice([0, 1]) * pick.size(1, 4), turned if part else None,
            pick.choice([True, False]),
        )  # fmt: skip
        width = turned + 2 * pick.size(1, 2) if part else turned
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(1, 4), width))]
