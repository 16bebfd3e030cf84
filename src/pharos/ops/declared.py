"""Declared: an operator of the user's own, with the work that the user says it does."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import SEQUENTIAL, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size

# Efficiency curves that a declared operator may say it runs on.
CURVES = ("gemm", "conv", "attention", "recurrence", "gather", "norm", "softmax", "elementwise", "pool",
          "copy", "view")  # fmt: skip


@operator(cost="elementwise")
class Declared(Op):
    """An operator that Pharos does not know; its work is what its owner declared for these shapes.

    Args:
        name: what PyTorch or ONNX calls it, with its library.
        shapes, dtypes: of its outputs.
        macs, vector_flops, transcendentals: of one call.
        runs_as: the efficiency curve that fits it, one of CURVES.
    """

    name: str
    shapes: tuple[tuple[Size, ...], ...]
    dtypes: tuple[str, ...]
    macs: Size = 0
    vector_flops: Size = 0
    transcendentals: Size = 0
    runs_as: str = "elementwise"

    def __post_init__(self) -> None:
        if self.runs_as not in CURVES:
            raise unknown("efficiency curve", str(self.runs_as), CURVES)

    def shape(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        made = tuple([Tensor(s, d) for s, d in zip(self.shapes, self.dtypes, strict=True)])
        return made[0] if len(made) == 1 else made

    def work(self, *io: Tensor) -> Work:
        return Work(self.macs, self.vector_flops, self.transcendentals)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """Twice the forward work, as for products: a gradient for each operand; nothing closer is known."""
        return self.work(*io) * 2

    def saved(self, *io: Tensor) -> Saved:
        return Saved(tuple(range(len(io) - len(self.shapes))))

    def class_of(self, *io: Tensor) -> str:
        return self.runs_as

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: sum([t.numel for t in io])}

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        raise self.refuse("has no loop form: only its work was declared")

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shape = (pick.size(1, 3), pick.size(1, 3))
        return cls("mine::op", (shape,), ("fp32",), pick.size(1, 9)), [Tensor(shape)]
