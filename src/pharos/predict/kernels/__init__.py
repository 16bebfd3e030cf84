"""Kernels: closed forms of kernel time by operator class, one file each; `measure.fit` fits them."""

import math
from collections.abc import Mapping
from typing import Any

from pharos.predict.kernels.attention import DECODE, PREFILL
from pharos.predict.kernels.base import Device, Form, Parts, Residual
from pharos.predict.kernels.conv import CONV
from pharos.predict.kernels.cpu import CPU_FORMS
from pharos.predict.kernels.gather import GATHER
from pharos.predict.kernels.gemm import GEMM
from pharos.predict.kernels.recurrence import RECURRENCE
from pharos.predict.kernels.stream import STREAM
from pharos.quantity.sizes import Size, is_array, is_symbol

_GPU_FORMS = (GEMM, PREFILL, DECODE, CONV, STREAM, GATHER, RECURRENCE)
FORMS: dict[str, Form] = {f.name: f for f in (*_GPU_FORMS, *CPU_FORMS)}


def regime_of(parts: Parts) -> Any:
    """What most of each time goes to: "launch", "compute" or "data"."""
    import numpy as np

    rest = np.where(parts.compute >= parts.data, "compute", "data")
    return np.where(parts.fixed >= parts.total / 2, "launch", rest)


def evaluate(
    form: Form,
    constants: Mapping[str, float],
    residual: Residual | None,
    sizes: Mapping[str, Size],
    device: Device,
    *,
    told: bool = True,
) -> tuple[Parts, Any] | None:
    """Parts of a kernel's time, residual included, and its regime; numbers for numbers, arrays for arrays.

    None for symbols: a choice among kernels has no formula. Where one column of sizes decides all others,
    such as the batch of a sweep, each value of it is computed once.

    Args:
        told: whether the regime is asked for; it is "" else.
    """
    import numpy as np

    values = list(sizes.values())
    if any(is_symbol(v) for v in values):
        return None
    shape = np.broadcast_shapes(*[np.shape(v) for v in values])
    whole = math.prod(shape)
    # numbers stay one row, which broadcasts
    columns = {
        k: np.broadcast_to(np.asarray(v, float), shape).reshape(-1)
        if form.whole or is_array(v)
        else np.array([float(v)])
        for k, v in sizes.items()
    }
    varying = {k: columns[k] for k, v in sizes.items() if is_array(v)}
    back = None
    if varying and len(next(iter(varying.values()))) > DEDUPLICATED:
        back = _repeats(varying)
        if back is not None:
            columns = {k: v[back[0]] if len(v) == whole else v for k, v in columns.items()}
            whole = len(back[0])
    length = BLOCK // CANDIDATES if form.whole else BLOCK
    blocks = [
        {k: v[at : at + length] if len(v) == whole else v for k, v in columns.items()}
        for at in range(0, whole, length)
    ]
    sized = [(block, min(length, whole - i * length)) for i, block in enumerate(blocks)]
    parts = [_rows(form.parts(constants, block, device), count) for block, count in sized]
    found = [np.concatenate([p[i] for p in parts]) if len(parts) > 1 else parts[0][i] for i in range(5)]
    regimes = regime_of(Parts(*found)) if told else np.broadcast_to("", whole)
    if residual is not None:
        seen = [form.features(block, device) for block, _ in sized]
        seen = [np.broadcast_to(s, (count, s.shape[1])) for s, (_, count) in zip(seen, sized, strict=True)]
        factor = np.exp(residual(np.concatenate(seen) if len(seen) > 1 else seen[0]))
        found = [v * factor for v in found]
    if back is not None:
        found, regimes = [v[back[1]] for v in found], regimes[back[1]]
    if shape == ():
        return Parts(*[float(v[0]) for v in found]), str(regimes[0])
    return Parts(*[v.reshape(shape) for v in found]), regimes.reshape(shape)


def _rows(parts: Parts, count: int) -> list[Any]:
    """The five parts, of `count` rows each."""
    import numpy as np

    return [
        np.broadcast_to(v, count) for v in (parts.compute, parts.data, parts.fixed, parts.total, parts.serial)
    ]


# Rows that a form takes at once: its columns then stay in the cache.
BLOCK = 4096
# Kernels of a library, in round numbers, that a form with whole columns tries for each row.
CANDIDATES = 16
# Longer arrays are searched for repeated sizes first, in tables of at most so many entries a size.
DEDUPLICATED = 256
TABLE = 8


def _repeats(columns: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """(first places, way back) of rows that differ, if one column tells them apart; else None."""
    import numpy as np

    for key in columns.values():
        if not len(key) or key.min() < 0 or key.max() >= TABLE * len(key) or (key != np.floor(key)).any():
            continue
        at = key.astype(np.intp)
        first = np.full(int(at.max()) + 1, -1)
        first[at[::-1]] = np.arange(len(at) - 1, -1, -1)
        kept = first[first >= 0]
        if len(kept) > len(key) // 4:
            continue
        rank = np.zeros(len(first), np.intp)
        rank[first >= 0] = np.arange(len(kept))
        back = rank[at]
        if all(np.array_equal(column, column[kept][back]) for column in columns.values()):
            return kept, back
    return None
