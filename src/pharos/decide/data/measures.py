"""Measures of structure, in NumPy: autocorrelation and its range, permutation tests, skew, symmetry."""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Correlation below which elements are taken to tell nothing of each other any more.
FADED = 0.05
PERMUTATIONS = 99


def autocorrelation(x: Any, lags: int) -> Any:
    """Correlation of a series with itself, lags 0 to `lags`, averaged over columns by their variance.

    Args:
        x: [steps] or [steps, columns]; constant columns count for nothing.
    """
    x = np.asarray(x, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    x = x - x.mean(axis=0)
    n = len(x)
    lags = min(lags, n - 1)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(x, size, axis=0)
    sums = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=0)[: lags + 1].sum(axis=1)
    if sums[0] <= 1e-12 * n:
        return np.concatenate([[1.0], np.zeros(lags)])
    # unbiased: a lag has n - lag pairs
    return sums / sums[0] * n / (n - np.arange(lags + 1))


def crossing(correlation: Any, level: float) -> float:
    """Lag at which a correlation first falls below a level, between two lags by a straight line."""
    level = float(level)
    below = np.flatnonzero(np.asarray(correlation) < level)
    if not len(below):
        return float(len(correlation) - 1)
    i = int(below[0])
    if i == 0:
        return 0.0
    before, after = float(correlation[i - 1]), float(correlation[i])
    return i - 1 + (before - level) / (before - after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependence:
    """How far a sequence depends on itself.

    Args:
        first: correlation of neighbours; e_folding: steps until it falls to 1/e.
        steps: steps until it is lost: below FADED, or below what chance leaves.
    """

    first: float
    e_folding: float
    steps: float


def dependence(x: Any) -> Dependence:
    """Of a series of numbers, [steps] or [steps, columns]."""
    x = np.asarray(x)
    found = autocorrelation(x, min(len(x) // 4, 20_000))
    noise = 1.96 / np.sqrt(max(len(x), 1))
    first = float(found[1]) if len(found) > 1 else 0.0
    return Dependence(
        first=first, e_folding=crossing(found, np.exp(-1)), steps=crossing(found, max(FADED, noise))
    )


def token_dependence(documents: list[Any], rng: Any) -> tuple[float, float]:
    """Steps over which tokens come again more often than chance allows, and the excess of neighbours.

    At a distance d, P(token_i = token_{i+d}) is compared with what the same tokens give when shuffled
    over all documents; the reach is the last distance of a grid of powers of sqrt(2) before two in a row
    show no excess of three standard errors.
    """
    longest = max((len(d) for d in documents), default=0)
    pool = np.concatenate(documents) if documents else np.zeros(0, dtype=np.int64)
    if longest < 2 or len(pool) < 8:
        return 0.0, 0.0
    counts = np.unique(pool, return_counts=True)[1]
    chance = float(((counts / len(pool)) ** 2).sum())
    grid = sorted({round(2 ** (i / 2)) for i in range(2 * longest.bit_length())})
    reach, lost, near = 0.0, 0, 0.0
    for d in (g for g in grid if g < longest):
        pairs = same = 0
        for tokens in documents:
            if len(tokens) > d:
                same += int((tokens[d:] == tokens[:-d]).sum())
                pairs += len(tokens) - d
        if pairs < 50:
            break
        rate = same / pairs
        error = np.sqrt(chance * (1 - chance) / pairs)
        # what follows what tells at once; what comes again tells of a subject
        excess = rate - chance
        if d == 1:
            near = excess
        if abs(excess) > 3 * error and abs(excess) > FADED * chance:
            reach, lost = float(d), 0
        else:
            lost += 1
            if lost == 2:
                break
    return max(reach, pair_reach(documents, rng)), near


def pair_reach(documents: list[Any], rng: Any, kinds: int = 32) -> float:
    """Steps over which one token tells about another: mutual information beyond that of shuffled tokens."""
    pool = np.concatenate(documents)
    common = np.unique(pool, return_counts=True)
    top = common[0][np.argsort(-common[1])][: kinds - 1]
    coded = [np.searchsorted(np.sort(top), d) * np.isin(d, top) + (kinds - 1) * ~np.isin(d, top)
             for d in documents]  # fmt: skip
    reach = 0.0
    for d in range(1, 33):
        first = [c[:-d] for c in coded if len(c) > d]
        if not first or sum(map(len, first)) < 20 * kinds:
            break
        a, b = np.concatenate(first), np.concatenate([c[d:] for c in coded if len(c) > d])
        found = _information(a, b, kinds)
        chance = [_information(a, rng.permutation(b), kinds) for _ in range(3)]
        if found <= max(chance) + 3 * (float(np.std(chance)) + 1e-4):
            break
        reach = float(d)
    return reach


def _information(a: Any, b: Any, kinds: int) -> float:
    joint = np.bincount(a * kinds + b, minlength=kinds * kinds).reshape(kinds, kinds) / len(a)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / apart[seen])).sum())


def order_p(x: Any, rng: Any, permutations: int = PERMUTATIONS) -> float:
    """p of a permutation test that the order of a series does not matter.

    The statistic is the lag-1 autocorrelation's size (for whole numbers that are names: how much a token
    tells about the next). (1 + as extreme) / (1 + permutations).
    """
    x = np.asarray(x)
    if len(x) < 4:
        return 1.0
    if x.dtype.kind in "iu" and x.ndim == 1:
        coded = np.unique(x, return_inverse=True)[1] % 64

        def statistic(y: Any) -> float:
            return _information(y[:-1], y[1:], 64)

        x = coded
    else:
        x = x.astype(np.float64)

        x = x[:, None] if x.ndim == 1 else x
        x = x - x.mean(axis=0)
        whole = max(float((x**2).sum()), 1e-30)

        def statistic(y: Any) -> float:
            return abs(float((y[1:] * y[:-1]).sum())) / whole

    found = statistic(x)
    as_extreme = sum(statistic(rng.permutation(x)) >= found for _ in range(permutations))
    return (1 + as_extreme) / (1 + permutations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spatial:
    """Structure of images [count, height, width].

    Args:
        neighbours: correlation of neighbouring pixels within an image; reach: pixels until 1/e.
        translation: 1 - the share of variance that the place alone explains.
        rotation: 1 - the difference of correlation across and down, relative.
        p: of a permutation test that the pixels' places do not matter.
    """

    neighbours: float
    reach: float
    translation: float
    rotation: float
    p: float


def spatial(images: Any, rng: Any, permutations: int = 19) -> Spatial:
    """Measured over all images at once; each image's mean is taken out."""
    images = np.asarray(images, dtype=np.float64)
    flat = images - images.mean(axis=(1, 2), keepdims=True)
    across, down = _lags(flat), _lags(flat.swapaxes(1, 2))
    same = min(len(across), len(down))
    both = (across[:same] + down[:same]) / 2
    count = len(images)
    place = 0.0
    if count > 1:
        overall = images.var()
        # the mean image of unrelated images still varies, by 1/count of the whole
        place = max(0.0, (images.mean(axis=0).var() - overall / count) / max(overall, 1e-12))
    first = float(both[1]) if len(both) > 1 else 0.0
    few = flat[: min(count, 16)]
    found = abs(float(_lags(few, 1)[1]))
    as_extreme = 0
    for _ in range(permutations):
        mixed = rng.permuted(few.reshape(len(few), -1), axis=1).reshape(few.shape)
        as_extreme += abs(float(_lags(mixed, 1)[1])) >= found
    difference = abs(float(across[1] - down[1])) / max(abs(first), 0.05) if len(both) > 1 else 0.0
    return Spatial(
        neighbours=first, reach=crossing(both, np.exp(-1)), translation=1 - min(1.0, float(place)),
        rotation=max(0.0, 1 - difference), p=(1 + as_extreme) / (1 + permutations),
    )  # fmt: skip


def _lags(images: Any, most: int | None = None) -> Any:
    """Correlation along rows by lag, over all images."""
    width = images.shape[2]
    lags = min(width - 1, most or width // 2)
    whole = max(float((images**2).mean()), 1e-12)
    found = [1.0] + [float((images[:, :, k:] * images[:, :, :-k]).mean()) / whole for k in range(1, lags + 1)]
    return np.array(found)


def zipf(counts: Any) -> float:
    """Exponent s of frequency ~ rank^-s, by maximum likelihood over the ranks that were seen."""
    counts = np.sort(np.asarray(counts, dtype=np.float64))[::-1]
    if len(counts) < 2:
        return 0.0
    ranks = np.log(np.arange(1, len(counts) + 1))
    mean = float((counts * ranks).sum() / counts.sum())
    low, high = 0.0, 8.0
    # the expected log rank falls as s grows: bisection
    for _ in range(60):
        s = (low + high) / 2
        weights = np.exp(-s * ranks)
        expected = float((weights * ranks).sum() / weights.sum())
        low, high = (s, high) if expected > mean else (low, s)
    return (low + high) / 2


def distinct(counts: Any) -> tuple[int, float]:
    """Values seen, and how many there are by Chao's lower bound: S + f1^2 / (2 f2).

    Source: Chao 1984, Scandinavian Journal of Statistics 11. Args: counts of each value in the sample.
    """
    counts = np.asarray(counts)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return len(counts), len(counts) + once * (once - 1) / (2 * (twice + 1))
