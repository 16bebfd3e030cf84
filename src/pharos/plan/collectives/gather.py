"""Gather: a part from each device to one: a scatter backwards."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import GATHER
from pharos.plan.collectives.base import Collective, Moves, Phase, Step, collective
from pharos.plan.collectives.patterns import reverse
from pharos.plan.collectives.scatter import Scatter
from pharos.quantity.sizes import Size

_SCATTER = Scatter()


@collective
class Gather(Collective):
    """The root is the first device; `size` is its whole buffer, of which each gives size / n."""

    name = "gather"
    primitive = GATHER
    algorithms = Scatter.algorithms
    summary = "a part from each device to one"

    def moves(self, algorithm: str, devices: Size, size: Size, group: Size = 1) -> Moves:
        self._check(algorithm, devices, group)
        there = _SCATTER.moves(algorithm, devices, size, group)
        return Moves(tuple(
            Phase(p.level, p.steps, p.serial, p.received, p.sent, p.total) for p in reversed(there.phases)
        ))  # fmt: skip

    def steps(self, algorithm: str, devices: int, group: int = 1) -> Iterator[Step]:
        self._check(algorithm, devices, group)
        for level, messages in reversed(list(_SCATTER.steps(algorithm, devices, group))):
            yield level, reverse([messages])[0]

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({b})} for b in range(devices)]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({b}) for b in range(devices)}, *[{} for _ in range(devices - 1)]]
