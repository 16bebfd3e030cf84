"""Patterns that collectives are made of: rings, trees and exchanges among some devices, as messages."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import Any

from pharos.plan.collectives.base import Message, Step

Schedule = list[list[Message]]
Blocks = tuple[Any, ...]


def at(level: str, schedule: Schedule) -> list[Step]:
    """The steps of a schedule over one level of links."""
    return [(level, step) for step in schedule]


def together(schedules: Sequence[Schedule]) -> Schedule:
    """Schedules of different devices at the same time."""
    return [[m for step in steps for m in step or ()] for steps in zip_longest(*schedules)]


def reverse(schedule: Schedule, adds: bool = False) -> Schedule:
    """Every message the other way, the last first: a broadcast becomes a reduction, a scatter a gather."""
    return [[Message(m.targets, m.sources, m.blocks, adds) for m in step] for step in reversed(schedule)]


def ring_all_gather(ranks: Sequence[int], owned: Sequence[Blocks]) -> Schedule:
    """Each passes on what came last; after n - 1 steps all hold all."""
    n = len(ranks)
    return [
        [Message((ranks[i],), (ranks[(i + 1) % n],), owned[(i - t) % n]) for i in range(n)]
        for t in range(n - 1)
    ]


def ring_reduce_scatter(ranks: Sequence[int], parts: Sequence[Blocks]) -> Schedule:
    """Partial sums go round; after n - 1 steps the i-th holds the sum of the i-th part."""
    n = len(ranks)
    return [
        [Message((ranks[i],), (ranks[(i + 1) % n],), parts[(i - t - 1) % n], True) for i in range(n)]
        for t in range(n - 1)
    ]


def doubling_all_gather(ranks: Sequence[int], owned: Sequence[Blocks]) -> Schedule:
    """What each holds doubles every step, for any number of devices.

    Source: Bruck et al. 1997, "Efficient algorithms for all-to-all communications in multiport systems".
    """
    n, found, stride = len(ranks), [], 1
    while stride < n:
        count = min(stride, n - stride)
        found.append([
            Message((ranks[i],), (ranks[(i - stride) % n],),
                    tuple(b for k in range(count) for b in owned[(i + k) % n]))
            for i in range(n)
        ])  # fmt: skip
        stride *= 2
    return found


def halving_reduce_scatter(ranks: Sequence[int], parts: Sequence[Blocks]) -> Schedule:
    """The all-gather by doubling backwards: sums of halves, quarters ..."""
    return reverse(doubling_all_gather(ranks, parts), adds=True)


def tree_broadcast(ranks: Sequence[int], blocks: Blocks) -> Schedule:
    """Those who have it send it on: twice as many each step."""
    n, found, have = len(ranks), [], 1
    while have < n:
        found.append([Message((ranks[i],), (ranks[i + have],), blocks) for i in range(have) if i + have < n])
        have *= 2
    return found


def tree_scatter(ranks: Sequence[int], parts: Sequence[Blocks]) -> Schedule:
    """Each hands the upper part of what it holds to the root of the other half."""
    n, found = len(ranks), []
    stride = 1 << max((n - 1).bit_length() - 1, 0)
    while stride and n > 1:
        step = []
        for i in range(0, n, 2 * stride):
            if i + stride < n:
                blocks = tuple(b for part in parts[i + stride : min(i + 2 * stride, n)] for b in part)
                step.append(Message((ranks[i],), (ranks[i + stride],), blocks))
        found.append(step)
        stride //= 2
    return found


def exchange(ranks: Sequence[int], parts: Callable[[int, int], Blocks]) -> Schedule:
    """Pairwise: in step t the i-th sends straight to the (i + t)-th what `parts(i, i + t)` names."""
    n = len(ranks)
    return [
        [Message((ranks[i],), (ranks[(i + t) % n],), parts(i, (i + t) % n)) for i in range(n)]
        for t in range(1, n)
    ]


def nodes(devices: int, group: int) -> list[list[int]]:
    """Devices of each node."""
    return [list(range(at, at + group)) for at in range(0, devices, group)]


def rails(devices: int, group: int) -> list[list[int]]:
    """Devices with the same place in their nodes."""
    return [list(range(place, devices, group)) for place in range(group)]
