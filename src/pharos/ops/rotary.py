"""Rotary positions: pairs of features turned by an angle that grows with the position."""

from typing import Any

from pharos.graph.op import SEQUENTIAL, STRIDED, Op, Picker, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, is_int


@operator(cost="elementwise", onnx="RotaryEmbedding")
class Rotary(Op):
    """y = x cos(t w) + rotate_half(x) sin(t w) for x[B, H, T, d] at positions offset .. offset + T - 1.

    Two multiplications and an addition an element; the tables of T x d sines and cosines are small
    and stay in the cache. Source: Su et al. 2021, arXiv:2104.09864, in the half-split form of Llama.
    """

    base: float = 10000.0
    offset: Size = 0

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        self.need(not is_int(x.shape[3]) or x.shape[3] % 2 == 0, "needs an even head_dim", x)
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=3 * y.numel)

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: y.numel, STRIDED: x.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y = np.empty_like(x)
        half = x.shape[3] // 2
        for t in range(x.shape[2]):
            for i in range(half):
                angle = (self.offset + t) * self.base ** (-i / half)
                cos, sin = np.cos(angle), np.sin(angle)
                y[:, :, t, i] = x[:, :, t, i] * cos - x[:, :, t, i + half] * sin
                y[:, :, t, i + half] = x[:, :, t, i + half] * cos + x[:, :, t, i] * sin
        return y

    def torch(self, torch: Any) -> Any:
        def rotate(x: Any) -> Any:
            half = x.shape[3] // 2
            # bf16 cannot tell position 257 from 256
            wide = torch.promote_types(x.dtype, torch.float32)
            place = torch.arange(x.shape[2], dtype=wide, device=x.device) + self.offset
            turn = self.base ** (-torch.arange(half, dtype=wide, device=x.device) / half)
            angle = (place[:, None] * turn).repeat(1, 2)
            turned = torch.cat([-x[..., half:], x[..., :half]], -1)
            return x * angle.cos().to(x.dtype) + turned * angle.sin().to(x.dtype)

        return rotate

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        op = cls(pick.choice([10000.0, 500.0]), pick.choice([0, 1]) * pick.size(1, 4))
        return op, [Tensor((pick.size(1, 2), pick.size(1, 2), pick.size(1, 4), 2 * pick.size(1, 3)))]
