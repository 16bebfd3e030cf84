"""All-reduce: the sum of all buffers to all devices."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import REDUCE
from pharos.plan.collectives.all_gather import AllGather
from pharos.plan.collectives.base import (
    ACROSS,
    INSIDE,
    Collective,
    Message,
    Moves,
    Step,
    collective,
    level_of,
    one,
    others,
    phase,
)  # fmt: skip
from pharos.plan.collectives.patterns import (
    at,
    doubling_all_gather,
    halving_reduce_scatter,
    nodes,
    rails,
    ring_all_gather,
    ring_reduce_scatter,
    together,
)  # fmt: skip
from pharos.plan.collectives.reduce_scatter import ReduceScatter
from pharos.quantity.sizes import Size, ceil_log2, floor_div


@collective
class AllReduce(Collective):
    """`size` is the buffer that each begins and ends with: a reduce-scatter and an all-gather.

    Source of the ring's 2 (n - 1) / n: Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms
    for clusters of workstations".
    """

    name = "all-reduce"
    primitive = REDUCE
    algorithms = ("ring", "tree", "hierarchical", "switch")
    summary = "the sum of all buffers to all"

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return ReduceScatter().before(devices)

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset(range(devices)) for b in range(devices)} for _ in range(devices)]

    def _ring(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), 2 * (n - 1), 2 * size * (n - 1) / n, 2 * size * (n - 1))

    def _tree(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), 2 * ceil_log2(n), 2 * size * (n - 1) / n, 2 * size * (n - 1))

    def _both(self, algorithm: str, n: int, group: int) -> Iterator[Step]:
        yield from ReduceScatter().steps(algorithm, n, group)
        yield from AllGather().steps(algorithm, n, group)

    def _ring_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from self._both("ring", n, group)

    def _tree_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from self._both("tree", n, group)

    def _hierarchical(self, n: Size, size: Size, group: Size) -> Moves:
        m = floor_div(n, group)
        inside = phase(INSIDE, group - 1, size * (group - 1) / group, size * m * (group - 1))
        across = phase(ACROSS, 2 * ceil_log2(m), 2 * size * (m - 1) / n, 2 * size * (m - 1))
        return Moves((inside, across, inside))

    def _hierarchical_steps(self, n: int, group: int) -> Iterator[Step]:
        parts = [tuple(rail) for rail in rails(n, group)]
        yield from at(INSIDE, together([ring_reduce_scatter(ranks, parts) for ranks in nodes(n, group)]))
        for pattern in (halving_reduce_scatter, doubling_all_gather):
            yield from at(ACROSS, together([pattern(r, [(i,) for i in r]) for r in rails(n, group)]))
        yield from at(INSIDE, together([ring_all_gather(ranks, parts) for ranks in nodes(n, group)]))

    def _switch(self, n: Size, size: Size, group: Size) -> Moves:
        once = others(n)
        return one(level_of(n, group), once, size * once, size * n * once)

    def _switch_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            everyone = tuple(range(n))
            yield level_of(n, group), [Message(everyone, everyone, everyone, True)]
