"""Fit: constants of a closed form of kernel time, and its residual, from measured rows; NumPy alone."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from pharos.predict.kernels.base import Device, Form, Residual, matern
from pharos.quantity.evidence import Z80

# Residuals beyond this, in the logarithm, pull like a constant: a mislabelled row must not bend a fit.
ROBUST = 0.15
# Weight of the wish to stay near where a fit starts, against one row's squared residual of 1.
PRIOR = 0.01
# Points that a residual keeps: a few hundred numbers in a profile.
POINTS = 100
# Rows whose covariance sets the scales of a residual; more cost time and change little.
SCALE_ROWS = 300
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Measured kernels: columns of sizes by the form's names, and seconds; all of one length."""

    sizes: Mapping[str, Any]
    seconds: Any

    def __len__(self) -> int:
        return len(self.seconds)

    def pick(self, which: Any) -> "Rows":
        """Some of them, by mask or index."""
        return Rows(sizes={k: v[which] for k, v in self.sizes.items()}, seconds=self.seconds[which])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a fit found.

    Args:
        errors: by regime (launch, compute, data), the standard deviation of log(measured / predicted) on rows
            left out in turn that makes an 80% band hold 80% of them; "all" for all of them together.
        mape, median: mean and median of |predicted / measured - 1| on those rows.
        held: log(measured / predicted) of each row when it was left out; NaN where it never was.
    """

    form: Form
    constants: dict[str, float]
    residual: Residual | None
    errors: dict[str, float]
    mape: float
    median: float
    rows: int
    held: Any = None

    def predict(self, sizes: Mapping[str, Any], device: Device) -> Any:
        """Seconds, residual included."""
        return predicted(self.form, self.constants, self.residual, sizes, device)


def predicted(
    form: Form,
    constants: Mapping[str, float],
    residual: Residual | None,
    sizes: Mapping[str, Any],
    device: Device,
) -> Any:
    """Seconds of the closed form times its residual."""
    seconds = form.parts(constants, sizes, device).total
    return seconds if residual is None else seconds * np.exp(residual(form.features(sizes, device)))


def bucket(*columns: Any, of: int = 1000) -> Any:
    """A number below `of` for each row, from its sizes alone: equal shapes fall on one side of a split."""
    lines = zip(*(np.broadcast_arrays(*map(np.asarray, columns))), strict=True)
    return np.array([zlib.crc32("|".join(f"{float(v):.9g}" for v in line).encode()) % of for line in lines])


def spread(features: Any, count: int) -> Any:
    """Indices of `count` rows that lie far from each other, first the one nearest the middle."""
    scaled = (features - features.mean(0)) / (features.std(0) + 1e-9)
    if len(scaled) <= count:
        return np.arange(len(scaled))
    found = [int(np.argmin((scaled**2).sum(1)))]
    near = ((scaled - scaled[found[0]]) ** 2).sum(1)
    while len(found) < count:
        found.append(int(np.argmax(near)))
        near = np.minimum(near, ((scaled - scaled[found[-1]]) ** 2).sum(1))
    return np.array(found)


def fit(
    form: Form, rows: Rows, device: Device | list[Device], *, start: Mapping[str, float] | None = None,
    residual: bool = True, stiff: float = 1.0, groups: Any = None, weights: Any = None, switches: bool = True,
    points: int = POINTS, folds: int = FOLDS,
) -> Fitted:  # fmt: skip
    """Constants that fit the rows, with the error on rows left out.

    Args:
        device: of all rows, or one for each.
        start: constants to begin from and stay near, such as a prior's; the form's own by default.
        residual: add the smooth correction. stiff: how much harder the wish to stay near `start` pulls.
        groups: labels of rows to leave out together; five parts by shape by default.
        weights: of the rows in the fit.
        switches: try every regime of the form, or keep those of `start`.
        folds: parts by shape that are left out in turn; 0 leaves none out, and no error is known.
    """
    start = {**form.start(), **(start or {})}
    weights = np.ones(len(rows)) if weights is None else np.asarray(weights, float)
    best: tuple[float, dict[str, float]] | None = None
    options = [form.switches[k] if switches else (start[k],) for k in form.switches]
    for chosen in product(*options):
        begun = {**start, **dict(zip(form.switches, chosen, strict=True))}
        found = _constants(form, rows, device, begun, weights, stiff)
        if best is None or found[0] < best[0]:
            best = found
    if best is None:
        raise ValueError("a form needs at least one setting of its switches")
    constants = best[1]
    scales = _scales(form, rows, device, constants) if residual else None
    made = _residual(form, rows, device, constants, scales, points) if scales is not None else None
    labels = bucket(*[rows.sizes[k] for k in form.sizes], of=max(folds, 1)) if groups is None else groups
    held = np.full(len(rows), np.nan)
    for label in np.unique(labels):
        out = labels == label
        if out.all() or (~out).sum() < len(form.constants):
            continue
        kept, seen = rows.pick(~out), _some(device, ~out)
        again = _constants(form, kept, seen, constants, weights[~out], stiff)[1]
        corrected = _residual(form, kept, seen, again, scales, points) if scales is not None else None
        held[out] = np.log(rows.seconds[out]) - _log(
            form, again, corrected, rows.pick(out), _some(device, out)
        )
    regimes = regime(form, constants, rows, device)
    errors = {"all": conformal(held)}
    for name in ("launch", "compute", "data"):
        inside = held[(regimes == name) & np.isfinite(held)]
        if len(inside) >= 30:
            errors[name] = conformal(inside)
    known = held[np.isfinite(held)]
    off = np.abs(np.exp(-known) - 1) if len(known) else np.array([math.nan])
    return Fitted(form=form, constants=constants, residual=made, errors=errors, mape=float(off.mean()),
                  median=float(np.median(off)), rows=len(rows), held=held)  # fmt: skip


def conformal(held: Any) -> float:
    """The log standard deviation whose 80% band holds 80% of residuals that no fit saw (split conformal).

    The ceil(0.8 (n + 1))-th smallest absolute residual, over the 1.28 deviations of a central 80%.
    """
    off = np.sort(np.abs(np.asarray(held)[np.isfinite(held)]))
    if not len(off):
        return math.nan
    rank = min(math.ceil(0.8 * (len(off) + 1)), len(off))
    return float(off[rank - 1] / Z80)


def regime(form: Form, constants: Mapping[str, float], rows: Rows, device: Device | list[Device]) -> Any:
    """What most of each row's time goes to: "launch", "compute" or "data"."""
    found = np.empty(len(rows), object)
    for at, one in _by_device(device, len(rows)):
        parts = form.parts(constants, rows.pick(at).sizes, one)
        found[at] = regime_of(parts)
    return found


def regime_of(parts: Any) -> Any:
    """What most of a time goes to."""
    rest = np.where(parts.compute >= parts.data, "compute", "data")
    return np.where(parts.fixed >= parts.total / 2, "launch", rest).astype(object)


def _by_device(device: Device | list[Device], count: int) -> list[tuple[Any, Device]]:
    if isinstance(device, Device):
        return [(np.arange(count), device)]
    return [(np.array([i for i, d in enumerate(device) if d == one]), one) for one in dict.fromkeys(device)]


def _some(device: Device | list[Device], which: Any) -> Device | list[Device]:
    return (
        device if isinstance(device, Device) else [d for d, kept in zip(device, which, strict=True) if kept]
    )


def _features(form: Form, rows: Rows, device: Device | list[Device]) -> Any:
    parts = [(at, form.features(rows.pick(at).sizes, one)) for at, one in _by_device(device, len(rows))]
    found = np.empty((len(rows), parts[0][1].shape[1]))
    for at, features in parts:
        found[at] = features
    return found


def _log(
    form: Form,
    constants: Mapping[str, float],
    residual: Residual | None,
    rows: Rows,
    device: Device | list[Device],
) -> Any:
    found = np.empty(len(rows))
    for at, one in _by_device(device, len(rows)):
        found[at] = np.log(predicted(form, constants, residual, rows.pick(at).sizes, one))
    return found


def _constants(
    form: Form,
    rows: Rows,
    device: Device | list[Device],
    start: Mapping[str, float],
    weights: Any,
    stiff: float,
) -> tuple[float, dict[str, float]]:
    """Levenberg-Marquardt on the constants' logarithms, with a robust loss and a pull towards `start`."""
    names = list(form.constants)
    begun = np.log([start[n] for n in names])
    pull = stiff * PRIOR / np.array([form.constants[n][1] for n in names]) ** 2
    top = np.log([(*form.constants[n], math.inf)[2] for n in names])
    fixed = {k: start[k] for k in form.switches}
    target = np.log(rows.seconds)
    parts = [(at, one, rows.pick(at).sizes) for at, one in _by_device(device, len(rows))]

    def off(x: Any) -> Any:
        constants = {**dict(zip(names, np.exp(x), strict=True)), **fixed}
        found = np.empty(len(rows))
        for at, one, sizes in parts:
            found[at] = np.log(form.parts(constants, sizes, one).total)
        return found - target

    x, now = descend(off, begun, pull, top, weights)
    return now, {**{n: float(v) for n, v in zip(names, np.exp(x), strict=True)}, **fixed}


def descend(off: Callable[[Any], Any], begun: Any, pull: Any, top: Any, weights: Any) -> tuple[Any, float]:
    """Levenberg-Marquardt with a robust loss and a pull towards where it begins; (place, loss).

    Args:
        off: residuals at a place; pull: weight of the squared way from `begun`; top: the most a place may be.
        weights: of the residuals.
    """

    def cost(r: Any, x: Any) -> float:
        robust = 2 * ROBUST**2 * (np.sqrt(1 + (r / ROBUST) ** 2) - 1)
        return float((weights * robust).sum() + (pull * (x - begun) ** 2).sum())

    x, damping, step = begun.copy(), 1e-2, 1e-2
    r = off(x)
    now = cost(r, x)
    for _ in range(60):
        slope = np.empty((len(r), len(x)))
        for i in range(len(x)):
            moved = x.copy()
            moved[i] += step
            slope[:, i] = (off(moved) - r) / step
        each = weights / np.sqrt(1 + (r / ROBUST) ** 2)
        normal = slope.T @ (slope * each[:, None]) + np.diag(pull)
        gradient = slope.T @ (each * r) + pull * (x - begun)
        gained = 0.0
        for _ in range(8):
            move = -np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), gradient)
            tried = np.minimum(x + np.clip(move, -0.7, 0.7), top)
            left = off(tried)
            then = cost(left, tried)
            if then < now:
                gained, x, r, now = now - then, tried, left, then
                damping = max(damping / 4, 1e-7)
                break
            damping *= 4
        if gained < 1e-5 * now:
            break
    return x, now


@dataclass(frozen=True, slots=True)
class _Scales:
    lengths: Any
    height: float
    noise: float


def _scales(form: Form, rows: Rows, device: Device | list[Device], constants: Mapping[str, float]) -> _Scales:
    """Length scales, height and noise of the residual by marginal likelihood, one coordinate at a time."""
    chosen = np.arange(len(rows))
    if len(rows) > SCALE_ROWS:
        chosen = np.random.default_rng(0).permutation(len(rows))[:SCALE_ROWS]
    mask = np.isin(np.arange(len(rows)), chosen)
    few, seen = rows.pick(mask), _some(device, mask)
    features = _features(form, few, seen)
    left = np.log(few.seconds) - _log(form, constants, None, few, seen)
    left = np.clip(left, -3 * ROBUST, 3 * ROBUST)
    count = features.shape[1]
    start = np.concatenate([np.full(count, 1.0), np.log([0.08, 0.03])])
    lower, upper = (
        np.concatenate([np.full(count, -0.5), [-4.5, -4.5]]),
        np.concatenate([np.full(count, 4), [0, 0]]),
    )

    def badness(h: Any) -> float:
        scaled = features / np.exp(h[:-2])
        covariance = np.exp(2 * h[-2]) * matern(scaled, scaled) + np.exp(2 * h[-1]) * np.eye(len(few))
        try:
            root = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return math.inf
        white = np.linalg.solve(root, left)
        return float(white @ white / 2 + np.log(np.diag(root)).sum() + ((h[:-2] - 1) ** 2).sum() / 8)

    h, best = start, badness(start)
    for size in (0.7, 0.7, 0.35):
        for i in range(len(h)):
            for move in (size, -size):
                while True:
                    tried = h.copy()
                    tried[i] += move
                    if not lower[i] <= tried[i] <= upper[i]:
                        break
                    found = badness(tried)
                    if found > best - 1e-3:
                        break
                    h, best = tried, found
    return _Scales(np.exp(h[:-2]), float(np.exp(h[-2])), float(np.exp(h[-1])))


def _residual(
    form: Form,
    rows: Rows,
    device: Device | list[Device],
    constants: Mapping[str, float],
    scales: _Scales,
    points: int,
) -> Residual:
    """Mean of a Gaussian process on at most `points` rows that stand for all (subset of regressors)."""
    features = _features(form, rows, device)
    left = np.log(rows.seconds) - _log(form, constants, None, rows, device)
    left = np.clip(left, -3 * ROBUST, 3 * ROBUST)
    scaled = features / scales.lengths
    chosen = spread(scaled, points)
    among = scales.height**2 * matern(scaled[chosen], scaled[chosen])
    across = scales.height**2 * matern(scaled[chosen], scaled)
    normal = scales.noise**2 * among + across @ across.T
    normal += 1e-9 * np.trace(normal) / len(normal) * np.eye(len(normal))
    weights = scales.height**2 * np.linalg.solve(normal, across @ left)
    return Residual(points=features[chosen], scales=scales.lengths, weights=weights)
