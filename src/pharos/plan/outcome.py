"""Outcome: latencies of a trace by request, percentiles, goals, the highest rate that meets one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.units import parse

if TYPE_CHECKING:
    import numpy as np

LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")
PERCENTILES = (50, 90, 95, 99)
# Share of requests that must be within every limit where a goal does not say.
ATTAINED = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a trace.

    Args:
        arrival, admitted, first, finish: seconds by request; NaN where it was refused.
        prompt, output: tokens.
        gaps_s, gap_tokens: seconds between two tokens of a sequence, and how many tokens came so.
        steps: steps in all; preemptions: sequences that made room; refused: requests that never fit.
        peak_blocks: of the pool, at most in use; peak_sequences: in flight at most.
        busy_s: seconds in which the device worked.
        in_system: requests waiting or in flight, on average over time, as counted at the ends of steps.
        blocks_left: blocks that are still held when all is done: none.
    """

    arrival: "np.ndarray"
    admitted: "np.ndarray"
    first: "np.ndarray"
    finish: "np.ndarray"
    prompt: "np.ndarray"
    output: "np.ndarray"
    gaps_s: "np.ndarray"
    gap_tokens: "np.ndarray"
    tokens: int
    steps: int
    preemptions: int
    refused: int
    peak_blocks: int
    peak_sequences: int
    busy_s: float
    in_system: float
    blocks_left: int

    @property
    def served(self) -> Any:
        """Which requests were answered."""
        import numpy as np

        return np.isfinite(self.finish)

    @property
    def duration_s(self) -> float:
        """From the first arrival to the last answer."""
        served = self.served
        return float(self.finish[served].max() - self.arrival.min()) if served.any() else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second, over the whole."""
        return self.tokens / self.duration_s if self.duration_s else 0.0

    def of(self, name: str) -> Any:
        """Seconds by answered request: ttft, tpot, e2e or queue.

        ttft runs from the arrival to the first token, tpot is (finish - first) / (output - 1) and 0 for one
        token, e2e runs from arrival to the last token, queue to the first admission.
        """
        import numpy as np

        s = self.served
        if name == "ttft":
            return (self.first - self.arrival)[s]
        if name == "tpot":
            return ((self.finish - self.first) / np.maximum(self.output - 1, 1))[s]
        if name == "e2e":
            return (self.finish - self.arrival)[s]
        if name == "queue":
            return (self.admitted - self.arrival)[s]
        raise unknown("latency", name, ("ttft", "tpot", "e2e", "queue", "itl"))

    def percentile(self, name: str, percent: float) -> float:
        """Seconds that so many percent stay within; itl is over all gaps between tokens."""
        import numpy as np

        if name != "itl":
            found = self.of(name)
            return float(np.percentile(found, percent)) if len(found) else float("nan")
        if not len(self.gaps_s):
            return 0.0
        order = np.argsort(self.gaps_s)
        reached = np.cumsum(self.gap_tokens[order])
        at = int(np.searchsorted(reached, percent / 100 * reached[-1]))
        return float(self.gaps_s[order][min(at, len(order) - 1)])

    def mean(self, name: str) -> float:
        """Mean seconds."""
        import numpy as np

        if name == "itl":
            total = self.gap_tokens.sum()
            return float((self.gaps_s * self.gap_tokens).sum() / total) if total else 0.0
        found = self.of(name)
        return float(np.mean(found)) if len(found) else float("nan")


@dataclass(frozen=True, slots=True)
class Goal:
    """Limits that a share of requests must be within, all of them at once.

    Args:
        limits: seconds by latency: ttft, tpot, e2e or queue.
        percent: of the requests.
    """

    limits: dict[str, float]
    percent: float = ATTAINED

    @classmethod
    def of(cls, text: str) -> "Goal":
        """From ``ttft=1s,tpot=50ms`` or ``ttft=1s,p=99``.

        Raises:
            InputError: not of that form.
            UnknownName: an unknown latency.
        """
        limits: dict[str, float] = {}
        percent = ATTAINED
        for part in text.split(","):
            name, sign, value = (x.strip() for x in part.partition("="))
            if not sign or not value:
                raise InputError(
                    f"{part.strip()!r} is not NAME=LIMIT", where="--slo", hint="write ttft=1s,tpot=50ms"
                )
            if name not in ("p", "ttft", "tpot", "e2e", "queue"):
                raise unknown("limit", name, ("ttft", "tpot", "e2e", "queue", "p"), where="--slo")
            try:
                number = float(parse(value, "1" if name == "p" else "s"))
            except PharosError as error:
                raise error.at(f"--slo {name}") from None
            if name == "p":
                percent = number
            else:
                limits[name] = number
        if not limits or min(limits.values()) <= 0 or not 0 < percent <= 100:
            raise InputError("needs limits above 0 and p from 0 to 100", where="--slo")
        return cls(limits, percent)

    def attained(self, result: Result) -> float:
        """Share of all requests that are within every limit; refused ones are not."""
        import numpy as np

        within = np.ones(int(result.served.sum()), bool)
        for name, limit in self.limits.items():
            within &= result.of(name) <= limit
        return float(within.sum()) / len(result.arrival)

    def holds(self, result: Result) -> bool:
        """Whether enough are."""
        return 100 * self.attained(result) >= self.percent - 1e-9

    def __str__(self) -> str:
        from pharos.quantity.units import fmt

        said = ", ".join(f"{k} within {fmt(v, 's')}" for k, v in self.limits.items())
        return f"{said} for {self.percent:g}% of requests"


def highest_rate(
    run: Callable[[float], Result], goal: Goal, *, start: float, within: float = 0.02
) -> tuple[float, Result] | None:
    """The highest rate that meets a goal and what becomes of it, by doubling and halving; None if none does.

    Args:
        run: serves the same requests at a rate.
        start: requests a second to begin at.
        within: relative width of the last interval.
    """
    low, high = 0.0, 0.0
    best: Result | None = None
    rate = start
    for _ in range(40):
        found = run(rate)
        if goal.holds(found):
            low, best, rate = rate, found, rate * 2
            if high:
                break
        else:
            high, rate = rate, rate / 2
            if low:
                break
    if best is None:
        return None
    while high and high / low > 1 + within:
        rate = (low * high) ** 0.5
        found = run(rate)
        if goal.holds(found):
            low, best = rate, found
        else:
            high = rate
    return low, best
