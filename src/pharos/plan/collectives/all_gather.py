"""All-gather: a part from each device to all."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import GATHER
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
from pharos.plan.collectives.patterns import at, doubling_all_gather, nodes, rails, ring_all_gather, together
from pharos.quantity.sizes import Size, ceil_log2, floor_div


@collective
class AllGather(Collective):
    """`size` is the buffer that all end with; each begins with size / n of it."""

    name = "all-gather"
    primitive = GATHER
    algorithms = ("ring", "tree", "hierarchical", "switch")
    summary = "a part from each device to all"

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({b})} for b in range(devices)]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({b}) for b in range(devices)} for _ in range(devices)]

    def _ring(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), n - 1, size * (n - 1) / n, size * (n - 1))

    def _ring_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), ring_all_gather(range(n), [(i,) for i in range(n)]))

    def _tree(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), ceil_log2(n), size * (n - 1) / n, size * (n - 1))

    def _tree_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), doubling_all_gather(range(n), [(i,) for i in range(n)]))

    def _hierarchical(self, n: Size, size: Size, group: Size) -> Moves:
        m = floor_div(n, group)
        return Moves((
            phase(ACROSS, ceil_log2(m), size * (m - 1) / n, size * (m - 1)),
            phase(INSIDE, group - 1, size * (group - 1) / group, size * m * (group - 1)),
        ))  # fmt: skip

    def _hierarchical_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(ACROSS, together([doubling_all_gather(r, [(i,) for i in r]) for r in rails(n, group)]))
        owned = [tuple(rail) for rail in rails(n, group)]
        yield from at(INSIDE, together([ring_all_gather(ranks, owned) for ranks in nodes(n, group)]))

    def _switch(self, n: Size, size: Size, group: Size) -> Moves:
        once = others(n)
        return one(level_of(n, group), once, size * (n - 1) / n, size * once, sent=size * once / n)

    def _switch_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            yield (
                level_of(n, group),
                [Message((i,), tuple(j for j in range(n) if j != i), (i,)) for i in range(n)],
            )
