"""Skew: how unevenly the rows of a table are asked for, by Zipf's law or a histogram."""

import math
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise

from pharos.quantity.errors import InputError

# Terms of the sum that are added one by one; beyond them the Euler-Maclaurin formula is exact to 1e-9.
HEAD = 1024
# Parts, evenly spaced in the logarithm of the rank, that a table is cut into for expectations over its rows.
PARTS = 512


@cache
def harmonic(rows: int, exponent: float) -> float:
    """1 + 2^-s + ... + rows^-s."""
    if rows <= HEAD:
        return math.fsum(i**-exponent for i in range(1, rows + 1))
    head, a, b, s = harmonic(HEAD, exponent), float(HEAD), float(rows), exponent
    area = math.log(b / a) if s == 1 else (b ** (1 - s) - a ** (1 - s)) / (1 - s)
    # integral, half the ends, a twelfth of the slopes
    return head + area + (b**-s - a**-s) / 2 + s * (a ** (-s - 1) - b ** (-s - 1)) / 12


@dataclass(frozen=True)
class Skew:
    """Shares of the lookups that go to the rows, the most wanted first.

    Args:
        zipf: exponent s of Zipf's law, the i-th row wanted in proportion to i^-s; 0: all alike.
        histogram: ((share of the rows, share of the lookups), ...) instead, alike within each pair.

    Raises:
        InputError: shares that do not add up to 1, or a negative exponent.
    """

    zipf: float = 0.0
    histogram: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.zipf) and 0 <= self.zipf <= 10):
            raise InputError(f"a Zipf exponent is 0 (all alike) to 10, not {self.zipf:g}")
        for i, what in enumerate(("rows", "lookups")):
            total = math.fsum(pair[i] for pair in self.histogram)
            if self.histogram and (abs(total - 1) > 1e-6 or any(pair[i] < 0 for pair in self.histogram)):
                raise InputError(
                    f"the histogram's shares of {what} add up to {total:g}, not 1",
                    hint="write pairs such as [[0.01, 0.8], [0.99, 0.2]]",
                )
        if any(rows == 0 and lookups > 0 for rows, lookups in self.histogram):
            raise InputError("the histogram sends lookups to a share of 0 rows")

    @cached_property
    def _steps(self) -> tuple[tuple[float, float], ...]:
        pairs = [p for p in self.histogram if p[0] > 0]
        return tuple(sorted(pairs, key=lambda p: -p[1] / p[0]))

    def hits(self, held: float, rows: int) -> float:
        """Share of the lookups that a cache of the `held` most wanted rows answers, 0 to 1."""
        held = min(max(held, 0.0), float(rows))
        if self.histogram:
            left, found = held / rows, 0.0
            for share, lookups in self._steps:
                taken = min(left, share)
                found += lookups * taken / share
                left -= taken
            return min(found, 1.0)
        if not self.zipf:
            return held / rows
        whole = math.floor(held)
        part = (held - whole) * (whole + 1) ** -self.zipf if whole < rows else 0.0
        return min((harmonic(whole, self.zipf) + part) / harmonic(rows, self.zipf), 1.0)

    def distinct(self, lookups: float, rows: int) -> float:
        """Rows expected to be touched by so many independent lookups: sum of 1 - (1 - p)^lookups."""
        edges = sorted({0, *(round(rows ** (i / PARTS)) for i in range(PARTS + 1)), rows})
        if self.histogram:
            at = 0.0
            for share, _ in self._steps:
                at += share
                edges.append(round(at * rows))
            edges = sorted(set(edges))
        found = 0.0
        for low, high in pairwise(edges):
            p = (self.hits(high, rows) - self.hits(low, rows)) / (high - low)
            found += (high - low) * (1.0 if p >= 1 else -math.expm1(lookups * math.log1p(-p)))
        return min(found, lookups, float(rows))

    def busiest(self, blocks: int, rows: int) -> float:
        """Share of the lookups of the busiest of equal blocks of scattered rows: the hottest row and its part
        of the rest."""
        first = self.hits(1, rows)
        return first + (1 - first) / blocks

    def __str__(self) -> str:
        if self.histogram:
            return "histogram"
        return f"Zipf {self.zipf:g}" if self.zipf else "uniform"


UNIFORM = Skew()
