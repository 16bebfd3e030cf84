"""Reduce-scatter: the sum of all buffers, a part of it to each device: an all-gather backwards."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import REDUCE
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
    halving_reduce_scatter,
    nodes,
    rails,
    ring_reduce_scatter,
    together,
)  # fmt: skip
from pharos.quantity.sizes import Size, ceil_log2, floor_div


@collective
class ReduceScatter(Collective):
    """`size` is the buffer that each begins with; each ends with size / n of the sum."""

    name = "reduce-scatter"
    primitive = REDUCE
    algorithms = ("ring", "tree", "hierarchical", "switch")
    summary = "the sum of all buffers, a part of it to each"

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({i}) for b in range(devices)} for i in range(devices)]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset(range(devices))} for b in range(devices)]

    def _ring(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), n - 1, size * (n - 1) / n, size * (n - 1))

    def _ring_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), ring_reduce_scatter(range(n), [(i,) for i in range(n)]))

    def _tree(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), ceil_log2(n), size * (n - 1) / n, size * (n - 1))

    def _tree_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), halving_reduce_scatter(range(n), [(i,) for i in range(n)]))

    def _hierarchical(self, n: Size, size: Size, group: Size) -> Moves:
        m = floor_div(n, group)
        return Moves((
            phase(INSIDE, group - 1, size * (group - 1) / group, size * m * (group - 1)),
            phase(ACROSS, ceil_log2(m), size * (m - 1) / n, size * (m - 1)),
        ))  # fmt: skip

    def _hierarchical_steps(self, n: int, group: int) -> Iterator[Step]:
        parts = [tuple(rail) for rail in rails(n, group)]
        yield from at(INSIDE, together([ring_reduce_scatter(ranks, parts) for ranks in nodes(n, group)]))
        yield from at(
            ACROSS, together([halving_reduce_scatter(r, [(i,) for i in r]) for r in rails(n, group)])
        )

    def _switch(self, n: Size, size: Size, group: Size) -> Moves:
        once = others(n)
        return one(level_of(n, group), once, size * (n - 1) / n, size * (n - 1), received=size * once / n)

    def _switch_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            yield (
                level_of(n, group),
                [Message(tuple(j for j in range(n) if j != i), (i,), (i,), True) for i in range(n)],
            )
