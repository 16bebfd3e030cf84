"""Unknown: a stand-in for an operator without a rule, so that it is listed and never counted as zero."""

from typing import Any

from pharos.graph.op import SEQUENTIAL, Op, Tally, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size


@operator(cost="elementwise")
class Unknown(Op):
    """An imported operator that Pharos cannot count: its shapes are known, its work is not.

    Args:
        name: what the file calls it, with its domain.
        shapes, dtypes: of its outputs, as the file states or implies them.
    """

    name: str
    shapes: tuple[tuple[Size, ...], ...]
    dtypes: tuple[str, ...]

    def shape(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        made = tuple(Tensor(s, d) for s, d in zip(self.shapes, self.dtypes, strict=True))
        return made[0] if len(made) == 1 else made

    def class_of(self, *io: Tensor) -> str:
        return "unknown"

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: sum(t.numel for t in io)}

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        raise self.refuse("has no loop form: it is not known what it does")


Unknown.is_counted = False
