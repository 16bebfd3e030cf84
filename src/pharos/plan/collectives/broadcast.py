"""Broadcast: one device's buffer to all."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import BROADCAST
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
from pharos.plan.collectives.patterns import at, nodes, together, tree_broadcast
from pharos.quantity.sizes import Size, ceil_log2, floor_div

# Pieces that a buffer goes round a ring in, so that a device sends on what it gets before it has all.
PIECES = 8


@collective
class Broadcast(Collective):
    """The root is the first device; `size` is the buffer."""

    name = "broadcast"
    primitive = BROADCAST
    algorithms = ("tree", "ring", "hierarchical", "switch")
    summary = "one device's buffer to all"

    def blocks(self, devices: int) -> float:
        return PIECES

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({0}) for b in range(PIECES)}, *[{} for _ in range(devices - 1)]]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({0}) for b in range(PIECES)} for _ in range(devices)]

    def _tree(self, n: Size, size: Size, group: Size) -> Moves:
        steps = ceil_log2(n)
        return one(level_of(n, group), steps, steps * size, (n - 1) * size,
                   received=size * others(n))  # fmt: skip

    def _tree_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), tree_broadcast(range(n), tuple(range(PIECES))))

    def _ring(self, n: Size, size: Size, group: Size) -> Moves:
        # a chain: the last piece starts after PIECES - 1 steps and takes n - 1
        steps, once = others(n) * (n - 2 + PIECES), size * others(n)
        return one(level_of(n, group), steps, steps * size / PIECES, (n - 1) * size, sent=once, received=once)

    def _ring_steps(self, n: int, group: int) -> Iterator[Step]:
        for t in range(n - 2 + PIECES if n > 1 else 0):
            step = [Message((i,), (i + 1,), (t - i,)) for i in range(n - 1) if 0 <= t - i < PIECES]
            yield level_of(n, group), step

    def _hierarchical(self, n: Size, size: Size, group: Size) -> Moves:
        m = floor_div(n, group)
        far, near = ceil_log2(m), ceil_log2(group)
        return Moves((
            phase(ACROSS, far, far * size, (m - 1) * size, received=size * others(m)),
            phase(INSIDE, near, near * size, (n - m) * size, received=size * others(group)),
        ))  # fmt: skip

    def _hierarchical_steps(self, n: int, group: int) -> Iterator[Step]:
        whole = tuple(range(PIECES))
        yield from at(ACROSS, tree_broadcast(range(0, n, group), whole))
        yield from at(INSIDE, together([tree_broadcast(ranks, whole) for ranks in nodes(n, group)]))

    def _switch(self, n: Size, size: Size, group: Size) -> Moves:
        once = size * others(n)
        return one(level_of(n, group), others(n), once, once)

    def _switch_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            yield level_of(n, group), [Message((0,), tuple(range(1, n)), tuple(range(PIECES)))]
