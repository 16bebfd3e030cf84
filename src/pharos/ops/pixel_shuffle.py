"""Pixel shuffle: channels become pixels, how super-resolution networks enlarge without computing."""

from typing import Any

from pharos.graph.op import STRIDED, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, floor_div, is_int


@operator(cost="copy", aten="pixel_shuffle", onnx="DepthToSpace")
class PixelShuffle(Op):
    """y[b, c, r i + u, r j + v] = x[b, c r^2 + u r + v, i, j]; no arithmetic, one strided copy.

    Source: Shi et al. 2016, arXiv:1609.05158, equation 4.
    """

    factor: int

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 4, "needs an input of rank 4", x)
        batch, channels, height, width = x.shape
        r = self.factor
        if is_int(channels):
            self.need(channels % (r * r) == 0, f"needs a multiple of {r * r} channels", x)
        return x.with_shape(batch, floor_div(channels, r * r), height * r, width * r)

    def gradient(self, wanted: Any, x: Tensor, y: Tensor) -> Work:
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        return {STRIDED: x.numel + y.numel}

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        r, y = self.factor, np.zeros(self.shape(Tensor(x.shape)).shape, x.dtype)
        for b, c, i, j in np.ndindex(y.shape):
            y[b, c, i, j] = x[b, c * r * r + i % r * r + j % r, i // r, j // r]
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.PixelShuffle(self.factor)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("DepthToSpace", x, blocksize=self.factor, mode="CRD")

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        r = pick.int(1, 3)
        return cls(r), [Tensor((pick.size(1, 2), r * r * pick.size(1, 2), pick.size(1, 3), pick.size(1, 3)))]
