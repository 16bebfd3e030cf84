"""PReLU: a rectifier whose slope below zero is learnt, for all channels or for each."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size, is_int


@operator(cost="elementwise", aten="prelu _prelu_kernel", onnx="PRelu")
class Prelu(Op):
    """y = x where x > 0, weight x elsewhere, of x[B, C, ...] with one weight or one a channel.

    A comparison and a product an element. Source: He et al. 2015, arXiv:1502.01852.
    """

    num_parameters: Size = 1

    def shape(self, x: Tensor) -> Tensor:
        if not (is_int(self.num_parameters) and self.num_parameters == 1):
            self.need(x.rank >= 2, "needs an input of rank 2 or more", x)
            self.match(x.shape[1], self.num_parameters, "channels", x)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.num_parameters,)}

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=2 * x.numel)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        """A comparison, the product for the weight and its sum, and the product for x."""
        return Work(vector_flops=(4 if wanted[0] else 3) * x.numel)

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved(inputs=(0,))

    def loops(self, tally: Tally, x: Any, *, weight: Any) -> Any:
        import numpy as np

        y = x.copy()
        for at in np.ndindex(x.shape):
            if x[at] < 0:
                y[at] *= weight[at[1] if len(weight) > 1 else 0]
        return y

    def torch(self, torch: Any) -> Any:
        return torch.nn.PReLU(self.num_parameters)

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        rank = w.node.ins[0].rank
        slope = w.parameter("weight")
        if self.num_parameters == 1 or rank <= 2:
            return w("PRelu", x, slope)
        return w("PRelu", x, w("Reshape", slope, w.ints(-1, *[1] * (rank - 2))))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        channels, each = pick.size(2, 4), pick.choice([True, False])
        rest = [pick.size(1, 3) for _ in range(pick.int(0, 2))]
        return cls(channels if each else 1), [Tensor((pick.size(1, 3), channels, *rest))]
