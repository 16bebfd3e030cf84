"""Pixel unshuffle: pixels become channels, the inverse of pixel shuffle."""

from typing import Any

from pharos.graph.op import STRIDED, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, floor_div, is_int


@operator(cost="copy", aten="pixel_unshuffle", onnx="SpaceToDepth")
class PixelUnshuffle(Op):
    """y[b, c r^2 + u r + v, i, j] = x[b, c, r i + u, r j + v]: the inverse of PixelShuffle.

    Args:
        depth_first: to y[b, (u r + v) C + c, i, j] instead, as ONNX and TensorFlow have it.
    """

    factor: int
    depth_first: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        batch, channels, height, width = x.shape
        r = self.factor
        self.need(r >= 1, "needs a factor of 1 or more", x)
        for n in (height, width):
            self.need(not is_int(n) or n % r == 0, f"needs a height and width that {r} divides", x)
        return x.with_shape(batch, channels * r * r, floor_div(height, r), floor_div(width, r))

    def gradient(self, wanted: Any, x: Tensor, y: Tensor) -> Work:
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {STRIDED: x.numel + y.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        r, y = self.factor, np.zeros(self.shape(Tensor(x.shape)).shape, x.dtype)
        for b, c, i, j in np.ndindex(x.shape):
            u, v = i % r, j % r
            to = (u * r + v) * x.shape[1] + c if self.depth_first else (c * r + u) * r + v
            y[b, to, i // r, j // r] = x[b, c, i, j]
        return y

    def torch(self, torch: Any) -> Any:
        r = self.factor
        if not self.depth_first:
            return torch.nn.PixelUnshuffle(r)

        def unshuffle(x: Any) -> Any:
            b, c, h, w = x.shape
            y = x.reshape(b, c, h // r, r, w // r, r).permute(0, 3, 5, 1, 2, 4)
            return y.reshape(b, c * r * r, h // r, w // r)

        return unshuffle

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        if self.depth_first:
            return w("SpaceToDepth", x, blocksize=self.factor)
        b, c, h, wide = w.node.ins[0].shape
        r = self.factor
        y = w("Reshape", x, w.ints(b, c, h // r, r, wide // r, r))
        return w("Reshape", w("Transpose", y, perm=(0, 1, 3, 5, 2, 4)), w.ints(*w.node.outs[0].shape))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        r = pick.int(1, 3)
        shape = (pick.size(1, 2), pick.size(1, 3), r * pick.size(1, 2), r * pick.size(1, 2))
        return cls(r, pick.choice([False, True])), [Tensor(shape)]
