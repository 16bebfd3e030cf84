"""Copies that change no number: into another element type, or into memory of their own."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor

_NUMPY = {
    "int64": "int64",
    "int32": "int32",
    "int16": "int16",
    "int8": "int8",
    "uint8": "uint8",
    "bool": "bool",
}


@operator(cost="copy", aten="_to_copy", onnx="Cast")
class Cast(Op):
    """y = x as `dtype`; floats become the type of the graph's activations."""

    dtype: str = ACTIVATIONS

    def shape(self, x: Tensor) -> Tensor:
        return Tensor(x.shape, self.dtype)

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any) -> Any:
        return x.astype(_NUMPY.get(self.dtype, "float64"))

    def torch(self, torch: Any) -> Any:
        if self.dtype in _NUMPY:
            return lambda x: x.to(getattr(torch, _NUMPY[self.dtype]))
        # the type that numbers have in this module
        return lambda x: x if x.is_floating_point() else x.to(torch.get_default_dtype())

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        kinds = {"int64": 7, "int32": 6, "int16": 5, "int8": 3, "uint8": 2, "bool": 9}
        if self.dtype in kinds:
            return w("Cast", x, to=kinds[self.dtype])
        return w("CastLike", x, w.number(0))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = tuple(pick.size(1, 4) for _ in range(pick.int(1, 3)))
        return cls(pick.choice(["int64", "int32"])), [Tensor(shape, "int64")]


@operator(cost="copy", aten="clone")
class Clone(Op):
    """y = x in memory of its own, in the order of its indices."""

    def shape(self, x: Tensor) -> Tensor:
        return x

    def gradient(self, wanted: Sequence[bool], x: Tensor, y: Tensor) -> Work:
        return Work()

    def saved(self, x: Tensor, y: Tensor) -> Saved:
        return Saved()

    def loops(self, tally: Tally, x: Any) -> Any:
        return x.copy()

    def torch(self, torch: Any) -> Any:
        return lambda x: x.contiguous()

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        return w("Identity", x)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        return cls(), [Tensor(tuple(pick.size(1, 4) for _ in range(pick.int(1, 3))))]
