"""All-to-all: a part of each device's buffer to every other."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import SCATTER
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
    ones_below,
    others,
    phase,
)  # fmt: skip
from pharos.plan.collectives.patterns import at, exchange, nodes, rails, together
from pharos.quantity.sizes import Size, ceil_log2, floor_div


@collective
class AllToAll(Collective):
    """`size` is the buffer of each, of which size / n goes to every device, its own included."""

    name = "all-to-all"
    primitive = SCATTER
    algorithms = ("direct", "ring", "tree", "hierarchical", "switch")
    summary = "a part of each device's buffer to every other"

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{(i, j): frozenset({i}) for j in range(devices)} for i in range(devices)]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{(i, j): frozenset({i}) for i in range(devices)} for j in range(devices)]

    def _direct(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), n - 1, size * (n - 1) / n, size * (n - 1))

    def _direct_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), exchange(range(n), lambda i, j: ((i, j),)))

    def _ring(self, n: Size, size: Size, group: Size) -> Moves:
        # a part for the device d places on takes d hops
        return one(level_of(n, group), n - 1, size * (n - 1) / 2, size * n * (n - 1) / 2)

    def _ring_steps(self, n: int, group: int) -> Iterator[Step]:
        for t in range(1, n):
            step = []
            for i in range(n):
                owner = (i - t + 1) % n
                step.append(
                    Message((i,), ((i + 1) % n,), tuple((owner, (owner + d) % n) for d in range(t, n)))
                )
            yield level_of(n, group), step

    def _tree(self, n: Size, size: Size, group: Size) -> Moves:
        # a part for the device d places on takes a hop for each one in the binary digits of d
        hops = ones_below(n)
        return one(level_of(n, group), ceil_log2(n), size * hops / n, size * hops)

    def _tree_steps(self, n: int, group: int) -> Iterator[Step]:
        stride = 1
        while stride < n:
            step = []
            for i in range(n):
                # parts that came here from their owner by the lower digits of their way
                blocks = [((i - d % stride) % n, (i - d % stride + d) % n) for d in range(n) if d & stride]
                step.append(Message((i,), ((i + stride) % n,), tuple(blocks)))
            yield level_of(n, group), step
            stride *= 2

    def _hierarchical(self, n: Size, size: Size, group: Size) -> Moves:
        m = floor_div(n, group)
        return Moves((
            phase(INSIDE, group - 1, size * (group - 1) / group, size * m * (group - 1)),
            phase(ACROSS, m - 1, size * (m - 1) / m, size * group * (m - 1)),
        ))  # fmt: skip

    def _hierarchical_steps(self, n: int, group: int) -> Iterator[Step]:
        along = rails(n, group)

        def inside(ranks: list[int]) -> list[list[Message]]:
            return exchange(ranks, lambda i, j: tuple((ranks[i], to) for to in along[j]))

        yield from at(INSIDE, together([inside(ranks) for ranks in nodes(n, group)]))

        def across(rail: list[int]) -> list[list[Message]]:
            return exchange(rail, lambda i, j: tuple((s, rail[j]) for s in nodes(n, group)[rail[i] // group]))

        yield from at(ACROSS, together([across(rail) for rail in along]))

    def _switch(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), others(n), size * (n - 1) / n, size * (n - 1))

    def _switch_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            yield (
                level_of(n, group),
                [Message((i,), (j,), ((i, j),)) for i in range(n) for j in range(n) if i != j],
            )
