"""Addresses: what loops read, as a trace; what kind of access it is, and what a cache makes of it."""

from collections import Counter, OrderedDict
from itertools import pairwise
from typing import Any

from pharos.graph.op import RANDOM, SEQUENTIAL, STRIDED


class Noted:
    """An element that notes where it lies whenever it is multiplied; sums of them are of no interest."""

    def __init__(self, at: int, trace: list[int]) -> None:
        self.at, self.trace = at, trace

    def __mul__(self, other: Any) -> float:
        self.trace.append(self.at)
        if isinstance(other, Noted):
            other.trace.append(other.at)
        return 0.0

    __rmul__ = __mul__


def noted(*shape: int) -> tuple[Any, list[int]]:
    """An array whose elements lie one after the other, and the list of what will be read."""
    import numpy as np

    trace: list[int] = []
    whole = np.empty(shape, object)
    for at, place in enumerate(np.ndindex(*shape)):
        whole[place] = Noted(at, trace)
    return whole, trace


def pattern(trace: list[int], per_line: int) -> tuple[str, int]:
    """(sequential, strided or random, elements from the start of a run to the next's most often).

    Runs are of neighbouring elements. Random: no three strides make up half of all; strided: a run is shorter
    than a line of `per_line` elements, and the next begins elsewhere.
    """
    starts, lengths = [trace[0]], [1]
    for a, b in pairwise(trace):
        if b == a + 1:
            lengths[-1] += 1
        elif b != a:
            starts.append(b)
            lengths.append(1)
    jumps = Counter(b - a for a, b in pairwise(starts))
    if not jumps:
        return SEQUENTIAL, 0
    common = jumps.most_common(3)
    if sum(n for _, n in common) < 0.5 * (len(starts) - 1):
        return RANDOM, 0
    if common[0][0] == 0 or len(trace) / len(starts) >= per_line:
        return SEQUENTIAL, 0
    return STRIDED, common[0][0]


def lru_hits(trace: list[int], per_line: int, lines: int) -> int:
    """Hits of a cache of so many lines that drops what was not used for longest."""
    held: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for at in trace:
        line = at // per_line
        if line in held:
            hits += 1
            held.move_to_end(line)
            continue
        held[line] = None
        if len(held) > lines:
            held.popitem(last=False)
    return hits
