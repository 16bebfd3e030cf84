"""Relax: of a brief that nothing meets, which limits conflict, and the nearest that could be met."""

from dataclasses import dataclass
from itertools import combinations
from math import log

from pharos.decide.search import Trial
from pharos.decide.verdict import BROKEN
from pharos.quantity.units import fmt


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The trial that misses by least, and what its limits would have to be: name -> (now, needed)."""

    trial: Trial
    limits: dict[str, tuple[float, float]]

    @property
    def words(self) -> str:
        """In one line."""
        parts = []
        for name, (now, needed) in self.limits.items():
            unit = self.trial.verdicts[name].figure.unit
            parts.append(f"{name} {fmt(needed, unit)} for {fmt(now, unit)}")
        return f"{self.trial.label} would stand with {', '.join(parts)}"


def _breaks(trial: Trial, name: str) -> bool:
    found = trial.verdicts.get(name)
    return found is not None and found.verdict == BROKEN


def conflicts(trials: list[Trial]) -> list[str]:
    """The smallest sets of limits that no member of any family meets together."""
    names = list(dict.fromkeys(n for t in trials for n in t.verdicts))
    for size in range(1, len(names) + 1):
        found = [
            group for group in combinations(names, size)
            if all(any(_breaks(t, n) for n in group) for t in trials)
        ]  # fmt: skip
        if found:
            return [_told(group, trials) for group in found]
    return []


def _told(group: tuple[str, ...], trials: list[Trial]) -> str:
    best = {}
    for name in group:
        known = [t for t in trials if t.verdicts.get(name) and _ends(t, name) is not None]
        if known:
            most = name in ("accuracy", "throughput")
            value = (max if most else min)(_ends(t, name) or 0.0 for t in known)
            verdict = known[0].verdicts[name]
            unit = verdict.figure.unit
            best[name] = f"{name} {fmt(verdict.limit, unit)} (best seen {fmt(value, unit)})"
    told = " and ".join(best.get(n, n) for n in group)
    if len(group) == 1:
        return f"no member of any family meets {told}"
    return f"no member of any family meets {told} together; each alone is met"


def _ends(trial: Trial, name: str) -> float | None:
    """The better end of a figure's band."""
    figure = trial.verdicts[name].figure
    found = figure.high if name in ("accuracy", "throughput") else figure.low
    found = found if found is not None else figure.value
    return None if found is None else float(found)


def nearest(trials: list[Trial]) -> Relaxation | None:
    """The trial whose broken limits are missed by least, by the product of the ratios."""

    def missed(trial: Trial) -> float:
        total = 0.0
        for name in trial.broken:
            limit, value = trial.verdicts[name].limit, _needed(trial, name)
            total += abs(log(max(value, 1e-30) / limit))
        return total

    broken = [t for t in trials if t.broken]
    if not broken:
        return None
    trial = min(broken, key=missed)
    return Relaxation(trial=trial, limits={
        n: (trial.verdicts[n].limit, _needed(trial, n)) for n in trial.broken
    })  # fmt: skip


def _needed(trial: Trial, name: str) -> float:
    """What a limit must be to hold over the whole band, or its centre where no end is known."""
    figure = trial.verdicts[name].figure
    end = figure.low if name in ("accuracy", "throughput") else figure.high
    found = end if end is not None else figure.value if figure.value is not None else figure.low
    return float(found) if found is not None else trial.verdicts[name].limit
