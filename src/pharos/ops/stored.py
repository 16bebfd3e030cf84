"""Stored: a parameter that is used as a value, such as a bias or a position added on its own."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import OnnxWriter, Op, Picker, Saved, Tally, Traffic, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.sizes import Size


@operator(cost="view")
class Stored(Op):
    """y = weight, of the given shape; its reader moves the bytes, it moves none.

    Args:
        trainable: False for a constant that training leaves alone.
        key: the parameter's own name.
        share: (used, stored): of so many of its rows a token uses so few, as of the matrices of experts.
    """

    size: tuple[Size, ...]
    trainable: bool = True
    dtype: str = ACTIVATIONS
    key: str = "weight"
    share: tuple[Size, Size] = (1, 1)

    def active(self) -> tuple[Size, Size]:
        return self.share

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        return Tensor(self.size, self.dtype)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {self.key: self.size} if self.trainable else {}

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        return {} if self.trainable else {self.key: self.size}

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def gradient_traffic(self, wanted: Sequence[bool], node: Any) -> Traffic:
        return Traffic()

    def loops(self, tally: Tally, **weights: Any) -> Any:
        return weights[self.key]

    def torch(self, torch: Any) -> Any:
        size, trainable, key = self.size, self.trainable, self.key

        class Holder(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                if trainable:
                    self.register_parameter(key, torch.nn.Parameter(torch.zeros(size)))
                else:
                    self.register_buffer(key, torch.zeros(size))

            def forward(self) -> Any:
                return getattr(self, key)

        return Holder()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        return w.parameter(self.key)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        key = pick.choice(["weight", "class_token"])
        return cls((pick.size(1, 3), pick.size(1, 4)), pick.choice([True, False]), key=key), []
