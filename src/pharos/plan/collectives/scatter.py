"""Scatter: one device's buffer cut up, a part to each."""

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
from pharos.plan.collectives.patterns import Schedule, at, nodes, together, tree_scatter
from pharos.quantity.sizes import Size, ceil_log2, floor_div


def chain(n: int) -> Schedule:
    """Along a line of devices, the part with the longest way first."""
    return [
        [Message((i,), (i + 1,), (n - 1 - (t - i),)) for i in range(n - 1) if 0 <= t - i < n - 1 - i]
        for t in range(n - 1)
    ]


@collective
class Scatter(Collective):
    """The root is the first device; `size` is its whole buffer, of which each gets size / n."""

    name = "scatter"
    primitive = SCATTER
    algorithms = ("tree", "ring", "hierarchical", "switch")
    summary = "one device's buffer cut up, a part to each"

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({0}) for b in range(devices)}, *[{} for _ in range(devices - 1)]]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{b: frozenset({0})} for b in range(devices)]

    def _tree(self, n: Size, size: Size, group: Size) -> Moves:
        # the root of the other half gets its half: the largest of all that are received
        return one(level_of(n, group), ceil_log2(n), size * (n - 1) / n, size * ones_below(n) / n,
                   received=size * _largest_subtree(n) / n)  # fmt: skip

    def _tree_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), tree_scatter(range(n), [(i,) for i in range(n)]))

    def _ring(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), n - 1, size * (n - 1) / n, size * (n - 1) / 2)

    def _ring_steps(self, n: int, group: int) -> Iterator[Step]:
        yield from at(level_of(n, group), chain(n))

    def _hierarchical(self, n: Size, size: Size, group: Size) -> Moves:
        m = floor_div(n, group)
        return Moves((
            phase(ACROSS, ceil_log2(m), size * (m - 1) / m, size * ones_below(m) / m,
                  received=size * _largest_subtree(m) / m),
            phase(INSIDE, ceil_log2(group), size * (group - 1) / n, size * ones_below(group) / group,
                  received=size * _largest_subtree(group) / n),
        ))  # fmt: skip

    def _hierarchical_steps(self, n: int, group: int) -> Iterator[Step]:
        parts = [tuple(ranks) for ranks in nodes(n, group)]
        yield from at(ACROSS, tree_scatter(range(0, n, group), parts))
        inside = [tree_scatter(ranks, [(r,) for r in ranks]) for ranks in nodes(n, group)]
        yield from at(INSIDE, together(inside))

    def _switch(self, n: Size, size: Size, group: Size) -> Moves:
        return one(level_of(n, group), others(n), size * (n - 1) / n, size * (n - 1) / n,
                   received=size * others(n) / n)  # fmt: skip

    def _switch_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            yield level_of(n, group), [Message((0,), (i,), (i,)) for i in range(1, n)]


def _largest_subtree(n: Size) -> Size:
    """Devices in the largest subtree of a binomial tree's root."""
    if isinstance(n, int):
        half = 1 << max((n - 1).bit_length() - 1, 0)
        return 0 if n < 2 else max(n - half, half // 2)
    top = 2 ** (ceil_log2(n) - 1)
    from pharos.quantity.sizes import maximum

    return maximum(n - top, top / 2) * others(n)
