"""Priced: an imported operator whose work its importer knows exactly, though it has no form that runs."""

from collections.abc import Sequence
from typing import Any

from pharos.graph.op import SEQUENTIAL, Op, Saved, Traffic, Work, operator
from pharos.graph.tensor import Tensor
from pharos.quantity.sizes import Size


@operator(cost="elementwise")
class Priced(Op):
    """An operator of a file with stated shapes and stated work: counted, but not run or differentiated.

    Args:
        name: what the file calls it, with its domain.
        shapes, dtypes: of its outputs.
        macs, vector_flops, transcendentals: of one call, by the formula that its importer states.
        parameters: (own name, shape) of what it stores.
        cost: its cost class.
    """

    name: str
    shapes: tuple[tuple[Size, ...], ...]
    dtypes: tuple[str, ...]
    macs: Size = 0
    vector_flops: Size = 0
    transcendentals: Size = 0
    parameters: tuple[tuple[str, tuple[Size, ...]], ...] = ()
    cost: str = "elementwise"

    def shape(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        made = tuple(Tensor(s, d) for s, d in zip(self.shapes, self.dtypes, strict=True))
        return made[0] if len(made) == 1 else made

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return dict(self.parameters)

    def work(self, *io: Tensor) -> Work:
        return Work(self.macs, self.vector_flops, self.transcendentals)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """Twice the forward work, as for products: a gradient for each operand; nothing closer is known."""
        return self.work(*io) * 2

    def saved(self, *io: Tensor) -> Saved:
        return Saved(tuple(range(len(io) - len(self.shapes))))

    def class_of(self, *io: Tensor) -> str:
        return self.cost

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {SEQUENTIAL: sum(t.numel for t in io)}

    def loops(self, tally: Any, *arrays: Any, **weights: Any) -> Any:
        raise self.refuse("has no loop form: only its work is known")


@operator(cost="view")
class Stacked(Op):
    """y[t] = what round t of a loop made: the loop's own body wrote it, nothing more is moved.

    Args:
        rounds: of the loop, along `dim` of y.
    """

    rounds: Size
    dim: int = 0

    def shape(self, x: Tensor) -> Tensor:
        self.need(0 <= self.dim <= x.rank, f"has no dimension {self.dim}", x)
        return x.with_shape(*x.shape[: self.dim], self.rounds, *x.shape[self.dim :])

    def traffic(self, node: Any) -> Traffic:
        return Traffic()

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        return {}

    def loops(self, tally: Any, *arrays: Any, **weights: Any) -> Any:
        raise self.refuse("has no loop form: the rounds of its loop are counted, not run")
