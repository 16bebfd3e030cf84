"""Timing: calls taken in turn until their medians are known, each sample long enough for the clock."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

# A sample shorter than this is several calls: what the clock and its reading cost is then below a percent.
SHORTEST = 100e-6


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of one call, over samples.

    Args:
        samples: in the order they were taken, each the mean of `calls` calls in a row.
    """

    samples: tuple[float, ...]
    calls: int = 1

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.samples)

    @property
    def best(self) -> float:
        """The shortest."""
        return min(self.samples)

    def share(self, quantile: float) -> float:
        """The sample below which that share of them lies."""
        ordered = sorted(self.samples)
        return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)]

    @property
    def spread(self) -> float:
        """Half the way from the 10th to the 90th percentile, as a share of the median."""
        return (self.share(0.9) - self.share(0.1)) / 2 / self.median if self.median else 0.0

    @property
    def uncertainty(self) -> float:
        """About how far the median may be off, as a share of it: its standard error by the quartiles."""
        quartiles = (self.share(0.75) - self.share(0.25)) / 1.349
        return 1.2533 * quartiles / len(self.samples) ** 0.5 / self.median if self.median else 0.0


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, seconds: float = 2.0, least: int = 7, most: int = 200,
    sure: float = 0.01, tick: Callable[[float], None] | None = None,
    by: Callable[[Callable[[], object], int], float] | None = None,
) -> dict[str, Timing]:  # fmt: skip
    """Times several calls in turn, so that what changes in between touches all alike.

    Two warm-up calls each are not counted. It ends when every median is known to within `sure`, or when
    the time is up, but not before `least` rounds.

    Args:
        seconds: to spend on all of them together; tick: told the share of it that is over.
        by: seconds of one of several calls in a row; by the host's clock by default.
    """
    by = by or _sample
    loops = {name: _calibrated(call, by) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(most):
        for name, call in calls.items():
            taken[name].append(by(call, loops[name]))
        passed = time.perf_counter() - start
        if tick is not None:
            tick(min(passed / seconds, 1.0))
        if turn + 1 < least:
            continue
        found = {name: Timing(tuple(samples), loops[name]) for name, samples in taken.items()}
        if passed >= seconds or all(t.uncertainty <= sure for t in found.values()):
            break
    return {name: Timing(tuple(samples), loops[name]) for name, samples in taken.items()}


def _calibrated(call: Callable[[], object], by: Callable[[Callable[[], object], int], float]) -> int:
    """Warms a call up and says how often it is to be called for one sample."""
    call()
    once = by(call, 1)
    return max(1, min(int(SHORTEST / max(once, 1e-9)) + 1, 10_000)) if once < SHORTEST else 1


def _sample(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times
