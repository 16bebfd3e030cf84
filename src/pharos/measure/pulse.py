"""Pulse: how fast this machine runs just now, by fixed pieces of work, and what that does to other work.

Neighbours on the same host, and clocks that fall, slow a machine down without its own system seeing it. What
is timed beside its pulse can be told as it would have been at another.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np

# Readings of one pulse, of which the shortest counts: the first finds what other work left in the caches.
READINGS = 3
# Numbers that one core takes of the work that all cores share, beyond PyTorch's grain of 32,768.
SHARE = 33_000
# Seconds of a sample, in calls.
SAMPLE = 5e-4
# What is expected of any work before it was timed: it slows as the pulses of one core and of all together do.
EXPECTED = (0.3, 0.6)
# Weight of that expectation: as of so many squared logarithms of pulses.
DOUBT = 0.5


@dataclass(frozen=True, slots=True)
class Beat:
    """One pulse: seconds of small work on one core, and of work that all cores in use share."""

    alone: float
    together: float

    def over(self, other: "Beat") -> tuple[float, float]:
        """How many times longer it takes than another."""
        return self.alone / other.alone, self.together / other.together


@dataclass(slots=True)
class Pulse:
    """Takes the pulse of a machine of which `threads` cores are in use.

    Beside a runtime with threads of its own it is to be taken on one core: two pools of threads that wait by
    spinning would hold each other up.

    Args:
        taken: every beat so far.
    """

    threads: int
    taken: list[Beat]
    _work: tuple[Any, ...]

    @classmethod
    def of(cls, threads: int) -> "Pulse":
        """With work for so many cores."""
        import torch

        shared = torch.ones(SHARE * threads)
        work = (torch, torch.ones(64, 64), torch.ones(4096), torch.empty(64, 64), shared,
                torch.empty_like(shared))  # fmt: skip
        return cls(threads, [], work)

    def beat(self) -> Beat:
        """The pulse now; some 0.2 ms."""
        torch, a, x, product, shared, out = self._work
        clock = time.perf_counter
        alone = together = float("inf")
        before = torch.get_num_threads()
        if before != self.threads:
            torch.set_num_threads(self.threads)
        with torch.inference_mode():
            for _ in range(READINGS):
                start = clock()
                for _ in range(5):
                    torch.mm(a, a, out=product)
                    torch.relu(x)
                alone = min(alone, clock() - start)
            for _ in range(READINGS):
                start = clock()
                torch.exp(shared, out=out)
                together = min(together, clock() - start)
        if before != self.threads:
            torch.set_num_threads(before)
        self.taken.append(found := Beat(alone, together))
        return found

    def usual(self) -> Beat:
        """The median of what was taken."""
        return middle_beat(self.taken)


def middle_beat(taken: Sequence[Beat]) -> Beat:
    """Medians of each part."""
    return Beat(float(np.median([b.alone for b in taken])), float(np.median([b.together for b in taken])))


def between(first: Beat, second: Beat) -> Beat:
    """What held in between: the geometric mean."""
    return Beat((first.alone * second.alone) ** 0.5, (first.together * second.together) ** 0.5)


def slowed(pace: Sequence[float], slows: Sequence[float]) -> float:
    """How many times longer work takes when the pulses take `pace` times longer.

    Args:
        slows: powers of the two pulses, see `sensitivity`.
    """
    return exp(sum(s * log(p) for p, s in zip(pace, slows, strict=False)))


def sensitivity(samples: Sequence[tuple[Sequence[float], Sequence[Beat]]]) -> tuple[float, float]:
    """How work slows with the pulse: t ~ alone^a together^b, (a, b) by least squares over all samples.

    Args:
        samples: of each piece of work, the seconds of its runs and the pulse beside each; only differences
            within one piece tell anything.
    """
    normal, right = DOUBT * np.eye(2), DOUBT * np.array(EXPECTED)
    for seconds, beats in samples:
        if len(seconds) < 4:
            continue
        x = np.log([[b.alone, b.together] for b in beats])
        y = np.log(seconds)
        x, y = x - np.median(x, 0), y - np.median(y)
        # what took several times as long was interrupted
        kept = np.abs(y - x @ np.array(EXPECTED)) < 1.0
        normal += x[kept].T @ x[kept]
        right += x[kept].T @ y[kept]
    found = np.clip(np.linalg.solve(normal, right), 0.0, 2.0)
    return float(found[0]), float(found[1])


def steady(
    seconds: Sequence[float], beats: Sequence[Beat], usual: Beat, slows: Sequence[float]
) -> list[float]:
    """The same runs as they would have been at the usual pulse."""
    return [t / slowed(b.over(usual), slows) for t, b in zip(seconds, beats, strict=True)]


def beside(
    call: Callable[[], Any],
    pulse: Pulse,
    *,
    seconds: float,
    least: int = 5,
    most: int = 200,
    row: float = 2e-3,
) -> tuple[list[float], list[Beat], int]:
    """Seconds of a call, the pulse beside each, and how many calls that were.

    Args:
        seconds: to spend; least, most: samples.
        row: seconds of calls in a row, between two pulses; a pulse asks for memory, which may change what
            the C library has at hand for the calls after it.
    """
    clock = time.perf_counter
    start = clock()
    call()
    once = max(clock() - start, 1e-7)
    start = clock()
    call()
    once = max(min(once, clock() - start), 1e-7)
    # a sample is long enough for the clock, a row for a pulse to be a small part of it
    each = max(1, min(int(SAMPLE / once), 1000))
    samples = max(1, int(row / (each * once)))
    taken: list[float] = []
    beats: list[Beat] = []
    until = clock() + seconds
    before = pulse.beat()
    while len(taken) < least or (clock() < until and len(taken) < most):
        for _ in range(samples):
            start = clock()
            for _ in range(each):
                call()
            taken.append((clock() - start) / each)
        after = pulse.beat()
        beats += [between(before, after)] * samples
        before = after
    return taken, beats, each * len(taken) + 2
