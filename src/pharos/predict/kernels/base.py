"""What the closed forms of kernel time share: the device, the parts of a time, the residual."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# A column of sizes: float64 arrays that broadcast against each other.
Column = Any
Sizes = Mapping[str, Column]
Constants = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The figures of a machine that a closed form scales its constants by.

    Args:
        units: cores that run tiles independently (SMs, compute units).
        ops_per_s: dense peak of the type that multiplies; bytes_per_s: of the main memory, specified.
        cache_bytes: the last level on the chip; 0 where unknown.
    """

    units: float
    ops_per_s: float
    bytes_per_s: float
    cache_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Seconds of one launch: the terms alone, and all of it.

    Args:
        compute, data: what arithmetic and memory would take alone.
        fixed: launch and what does not shrink with the work; part of `total`.
        serial: of a chain of steps what each costs beside its work; part of `total` too.
    """

    compute: Column
    data: Column
    fixed: Column
    total: Column
    serial: Column = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A closed form: sizes and constants to seconds.

    Args:
        name: what a profile calls it; sizes: the columns it reads.
        constants: each with where a fit starts, how far, in the logarithm, it strays at first, and the most
            it may become, where physics says so; all positive.
        whole: columns must all have the same length; else a number may be one row that broadcasts.
        switches: regimes that a kernel library has or has not, each with its options, the usual one first.
        parts: the formula. features: columns that the residual tells cases apart by, in octaves.
    """

    name: str
    sizes: tuple[str, ...]
    constants: Mapping[str, tuple[float, ...]]
    parts: Callable[[Constants, Sizes, Device], Parts]
    features: Callable[[Sizes, Device], Any]
    switches: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    whole: bool = False

    def start(self) -> dict[str, float]:
        """Constants before any fit."""
        return {
            **{k: v[0] for k, v in self.constants.items()},
            **{k: options[0] for k, options in self.switches.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Constants of a form that were fitted on one device."""

    device: Device
    constants: Constants
    name: str = ""


# Distance between devices, in octaves, over which what one tells about the other falls to a third.
REACH = 0.7


def blend(anchors: Sequence[Anchor], device: Device) -> dict[str, float]:
    """Constants for a device nobody measured: the geometric mean of those of others, nearer ones first.

    Nearness is by operations and by bytes a second of one unit, in octaves, and by the cache, in thirds of
    them; weights fall as exp(-distance / REACH). Switches are those of the nearest device. REACH was chosen
    on the GPUs of the field data, each left out in turn.
    """
    at = _place(device)
    far = [math.dist(at, _place(a.device)) for a in anchors]
    nearest = anchors[far.index(min(far))]
    weights = [math.exp((min(far) - d) / REACH) for d in far]
    found = {}
    for name, value in nearest.constants.items():
        if name in SWITCHES:
            found[name] = value
            continue
        logs = [w * math.log(a.constants[name]) for w, a in zip(weights, anchors, strict=True)]
        found[name] = math.exp(sum(logs) / sum(weights))
    return found


# Constants that are one of a few options; they are not averaged.
SWITCHES = ("step", "packs", "rows", "keys", "split_alone", "group_max", "winograd")


def _place(device: Device) -> tuple[float, float, float]:
    cache = max(device.cache_bytes, 2.0**20)
    units = device.units
    return math.log2(device.ops_per_s / units), math.log2(device.bytes_per_s / units), math.log2(cache) / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """log(measured / closed form) as a smooth function of the features, from points that were measured.

    A sum of Matern 3/2 kernels, sum_i weight_i (1 + r_i) exp(-r_i) with r_i the distance to point i over
    `scales` times sqrt(3): it fades to nothing away from the points, so that sizes nobody measured get the
    closed form alone.

    Args:
        points: [n, features]; scales: [features]; weights: [n].
        limit: the largest correction, in the logarithm.
    """

    points: Any
    scales: Any
    weights: Any
    limit: float = 0.7

    def __call__(self, features: Any) -> Any:
        """The correction's logarithm for features [m, features], rounded to eighths first; [m]."""
        import numpy as np

        steps = np.asarray(features) * 8
        np.rint(steps, out=steps)
        back = None
        if len(steps) > BLOCK:
            steps, back = _distinct(steps)
        found = np.empty(len(steps))
        for at in range(0, len(steps), BLOCK):
            kernel = matern(steps[at : at + BLOCK] / 8 / self.scales, self.points / self.scales)
            found[at : at + BLOCK] = kernel @ self.weights
        found = np.clip(found, -self.limit, self.limit)
        return found if back is None else found[back]


def _distinct(steps: Any) -> tuple[Any, Any]:
    """Rows of whole numbers without repetition, and the way back to all of them."""
    import numpy as np

    low = steps.min(0)
    spans = (steps.max(0) - low + 1).astype(np.int64)
    if float(np.prod(spans.astype(float))) >= 2**62:
        return steps, np.arange(len(steps))
    code = np.zeros(len(steps), np.int64)
    for column, (start, span) in enumerate(zip(low, spans, strict=True)):
        if span > 1:
            code = code * span + (steps[:, column] - start).astype(np.int64)
    if code.max() < TABLE:
        first = np.full(int(code.max()) + 1, -1)
        first[code] = np.arange(len(code))
        kept = first[first >= 0]
        rank = np.cumsum(first >= 0) - 1
        return steps[kept], rank[code]
    _, kept, back = np.unique(code, return_index=True, return_inverse=True)
    return steps[kept], back


# Largest table in which repeated rows are looked up; beyond it they are sorted.
TABLE = 1 << 22
# Rows that a residual takes at once: 100 points by this many stay in the cache.
BLOCK = 4096


def matern(a: Any, b: Any) -> Any:
    """(1 + r) exp(-r), r = sqrt(3) |a_i - b_j|; [len(a), len(b)]."""
    import numpy as np

    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    r = np.sqrt(3 * np.maximum(squared, 0))
    return (1 + r) * np.exp(-r)


def joined(sharpness: float, *terms: Column) -> Column:
    """(sum of terms^p)^(1/p): the largest for large p, the sum for p = 1; zero where all are."""
    import numpy as np

    top = terms[0]
    for term in terms[1:]:
        top = np.maximum(top, term)
    top = np.maximum(top, 1e-12)
    total = sum((term / top) ** sharpness for term in terms)
    return top * total ** (1 / sharpness)


def waves(tiles: Column, units: float, steps: float) -> Column:
    """Rounds that `tiles` take on `units`, from whole rounds (steps large) to their mean (steps 0).

    Persistent and stream-K kernels soften the step from one round to the next; steps / (1 + steps) of it
    stays.
    """
    import numpy as np

    share = steps / (1 + steps)
    rounds = tiles / units
    return share * np.ceil(rounds) + (1 - share) * np.maximum(rounds, 1)


def octaves(*columns: Column) -> Any:
    """log2 of columns side by side; [n, columns]."""
    import numpy as np

    logs = [np.log2(np.maximum(c, 2.0**-10)) for c in columns]
    # each column in one piece, since they are read one by one
    return np.stack(np.broadcast_arrays(*logs), 0).T
