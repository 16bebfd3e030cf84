"""Learning curves: error against samples, a power law through it, and who needs fewer samples for less."""

from dataclasses import dataclass
from math import exp, inf, log
from typing import Any

import numpy as np

# Sizes that a law of three constants needs; draws of the bootstrap; the share of chance below which a
# network has begun to learn.
LEAST_SIZES, DRAWS, BEGUN = 4, 400, 0.9
# Exponents that were found for networks lie between these (Hestness et al. 2017, arXiv:1712.00409, 0.07 to
# 0.5 for large data; small clean sets fall faster).
STEEPNESS = (0.05, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """error = floor + scale n^-steepness.

    Source of the form: Hestness et al. 2017, arXiv:1712.00409; Cortes et al. 1993.
    """

    floor: float
    scale: float
    steepness: float

    def at(self, n: float) -> float:
        """The error after n samples."""
        return self.floor + self.scale * n**-self.steepness

    def needs(self, error: float) -> float:
        """Samples until an error is reached; infinite at or below the floor."""
        if error <= self.floor or not self.scale:
            return inf
        return exp(log(self.scale / (error - self.floor)) / self.steepness)


def fit_laws(sizes: Any, errors: Any) -> list[PowerLaw]:
    """The laws nearest to rows of errors [rows, sizes], residuals relative; floor and scale at least 0.

    For each steepness of a grid floor and scale are least squares in closed form; the best is refined.
    """
    n, e = np.asarray(sizes, float), np.atleast_2d(np.asarray(errors, float))
    weights = 1 / np.maximum(e, 1e-4) ** 2
    grid = np.geomspace(*STEEPNESS, 60)
    tried, found = np.repeat(grid[None], len(e), axis=0), (np.empty(0),) * 3
    for _ in range(4):
        miss, floor, scale = _least_squares(n, e, weights, tried)
        best = miss.argmin(axis=1)
        rows = np.arange(len(e))
        low = tried[rows, np.maximum(best - 1, 0)]
        high = tried[rows, np.minimum(best + 1, tried.shape[1] - 1)]
        found = tried[rows, best], floor[rows, best], scale[rows, best]
        tried = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 21)[None]
    return [
        PowerLaw(floor=float(f), scale=float(s), steepness=float(c)) for c, f, s in zip(*found, strict=True)
    ]


def _least_squares(n: Any, e: Any, weights: Any, steepness: Any) -> tuple[Any, Any, Any]:
    """Weighted squares left, floors and scales, each [rows, steepnesses]."""
    power = n ** -steepness[:, :, None]
    w, e = weights[:, None], e[:, None]
    one, x, xx = w.sum(-1), (w * power).sum(-1), (w * power**2).sum(-1)
    y, xy = (w * e).sum(-1), (w * power * e).sum(-1)
    under = np.maximum(one * xx - x * x, 1e-300)
    floor, scale = (xx * y - x * xy) / under, (one * xy - x * y) / under
    # outside the quadrant the best point lies on one of its sides
    candidates = [(np.zeros_like(y), np.maximum(xy / xx, 0)), (np.maximum(y / one, 0), np.zeros_like(y))]
    inside = (floor >= 0) & (scale >= 0)

    def left(f: Any, s: Any) -> Any:
        return (w * (f[..., None] + s[..., None] * power - e) ** 2).sum(-1)

    sides = [left(*c) for c in candidates]
    first = sides[0] <= sides[1]
    floor = np.where(inside, floor, np.where(first, candidates[0][0], candidates[1][0]))
    scale = np.where(inside, scale, np.where(first, candidates[0][1], candidates[1][1]))
    return left(floor, scale), floor, scale


def fit_law(sizes: Any, errors: Any) -> PowerLaw:
    """The law nearest to one row of errors; see `fit_laws`."""
    return fit_laws(sizes, errors)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A value between the 10th and the 90th percentile of the bootstrap.

    Args:
        least: what lies beyond the samples that were seen is cut there: the value is at least so much.
    """

    value: float
    low: float
    high: float
    least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Errors on the test set by sample size and seed.

    Args:
        sizes: labelled examples, ascending. errors: a list a size, one value a seed.
        chance: the error of always saying the most frequent class, or the mean.
        tested: examples of the test set; counts: errors are shares of them, with a binomial spread.
    """

    name: str
    sizes: tuple[int, ...]
    errors: tuple[tuple[float, ...], ...]
    chance: float
    tested: int
    counts: bool = True

    @property
    def means(self) -> Any:
        """The mean over seeds at every size."""
        return np.array([np.mean(e) for e in self.errors])

    @property
    def spreads(self) -> Any:
        """The standard deviation over seeds at every size."""
        return np.array([np.std(e, ddof=1) if len(e) > 1 else np.nan for e in self.errors])

    @property
    def learns(self) -> bool:
        """Whether it comes clearly below chance."""
        return bool(len(self.sizes)) and bool(self.means.min() < BEGUN * self.chance)

    def draws(self, rng: Any, count: int = DRAWS) -> Any:
        """Means of every size [count, sizes], drawn anew from the pooled relative residuals of seeds."""
        means, floor = self.means, 0.5 / max(self.tested, 1)
        pool = [
            (e - m) / max(m, floor) * (len(es) / (len(es) - 1)) ** 0.5
            for es, m in zip(self.errors, means, strict=True) if len(es) > 1 for e in es
        ]  # fmt: skip
        if not pool:
            return np.repeat(means[None], count, axis=0)
        drawn = [
            m + max(m, floor) * rng.choice(pool, (count, len(es))).mean(axis=1)
            for es, m in zip(self.errors, means, strict=True)
        ]
        return np.maximum(np.stack(drawn, axis=1), 0.0)

    def law(self) -> tuple[PowerLaw | None, str]:
        """The law through the part that has begun to learn, or why there is none."""
        start = self._start()
        n = len(self.sizes) - start
        if n < LEAST_SIZES:
            have = f"{n} sizes below chance" if start else f"{n} sizes"
            return None, f"{have}, and a law takes {LEAST_SIZES}"
        means = self.means[start:]
        noise = np.nanmean([s / len(e) ** 0.5 for s, e in zip(self.spreads, self.errors, strict=True)])
        if not means[-1] < means[0] - 2 * (0.0 if np.isnan(noise) else float(noise)):
            return None, "the error does not fall with samples"
        return fit_law(self.sizes[start:], means), ""

    def laws(self, rng: Any, count: int = DRAWS) -> list[PowerLaw]:
        """Laws through draws of the part that has begun to learn."""
        start = self._start()
        return fit_laws(self.sizes[start:], self.draws(rng, count)[:, start:])

    def _start(self) -> int:
        below = self.means < BEGUN * self.chance
        return next((i for i in range(len(below)) if below[i:].all()), len(below))

    def extrapolated(self, n: float, seed: int = 0) -> tuple[Range | None, str]:
        """The error after n samples by the law, or why it cannot be told.

        The band holds the spread of seeds, that of the test set, and how far the law missed the last size
        when it was fitted without it.
        """
        law, why = self.law()
        if law is None:
            return None, why
        rng, value = np.random.default_rng(seed), law.at(n)
        values = np.array([one.at(n) for one in self.laws(rng)])
        if self.counts:
            deviation = (max(value, 0.5 / self.tested) * (1 - min(value, 1)) / self.tested) ** 0.5
            values = values + rng.normal(0, deviation, len(values))
        missed = self.missed()
        if missed is not None:
            values = values * np.exp(rng.normal(0, abs(missed), len(values)))
        low, high = np.quantile(np.clip(values, 0, None), (0.1, 0.9))
        return Range(value=value, low=min(float(low), value), high=max(float(high), value)), ""

    def missed(self) -> float | None:
        """The log of what was found at the largest size over what a law without it told; None if untold."""
        start = self._start()
        if len(self.sizes) - start <= LEAST_SIZES:
            return None
        told = fit_law(self.sizes[start:-1], self.means[start:-1]).at(self.sizes[-1])
        floor = 0.5 / max(self.tested, 1)
        return log(max(float(self.means[-1]), floor) / max(told, floor))

    def needs(self, error: float, means: Any = None) -> tuple[float, int]:
        """Samples to an error, straight between sizes in logs; and -1 if fewer do, 1 if it takes more."""
        best = np.minimum.accumulate(self.means if means is None else means)
        at = np.flatnonzero(best <= error)
        if not len(at):
            return float(self.sizes[-1]), 1
        i = int(at[0])
        if i == 0:
            return float(self.sizes[0]), -1 if best[0] < error else 0
        high, low = max(best[i - 1], 1e-9), max(best[i], 1e-9)
        share = 1.0 if high <= low else (high - error) / (high - low)
        a, b = log(self.sizes[i - 1]), log(self.sizes[i])
        return exp(a + share * (b - a)), 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """How many times fewer samples one learner needs than another, for an error both reach.

    Args:
        error: that is reached; few, many: samples that each needs.
        ratio: many over few; its `least` says that one of them lies beyond the sizes that were tried.
        gap: error of the second less that of the first at the largest size, and its deviation over seeds.
        clear: whether the ratio's interval lies on one side of 1.
    """

    first: str
    second: str
    error: float
    few: float
    many: float
    ratio: Range
    gap: float
    gap_spread: float | None
    clear: bool


def advantage(first: Curve, second: Curve, seed: int = 0) -> Advantage | None:
    """How many times fewer samples `first` needs than `second`; below 1 if it needs more.

    At the least error that both reach; where one of them does not learn, at a middle error of the other,
    with a ratio that is only a bound. None where neither learns.
    """
    if not first.learns and not second.learns:
        return None
    if first.learns and second.learns:
        error = max(float(first.means.min()), float(second.means.min()))
    else:
        learner = first if first.learns else second
        error = (float(learner.means.min()) * learner.chance) ** 0.5
        if not float(learner.means.min()):
            error = learner.chance / 2
    a, a_side = first.needs(error)
    b, b_side = second.needs(error)
    rng = np.random.default_rng(seed)
    drawn = [
        second.needs(error, s)[0] / first.needs(error, f)[0]
        for f, s in zip(first.draws(rng), second.draws(rng), strict=True)
    ]
    low, high = (float(q) for q in np.quantile(drawn, (0.1, 0.9)))
    many = min(len(first.errors[-1]), len(second.errors[-1]))
    paired = np.array(second.errors[-1][:many]) - np.array(first.errors[-1][:many])
    several = len(first.errors[0]) > 1 and len(second.errors[0]) > 1
    return Advantage(
        first=first.name, second=second.name, error=error, few=a, many=b, gap=float(paired.mean()),
        ratio=Range(value=b / a, low=min(low, b / a), high=max(high, b / a), least=bool(a_side or b_side)),
        gap_spread=float(paired.std(ddof=1)) if many > 1 else None,
        clear=several and (low > 1 or high < 1),
    )  # fmt: skip
