"""Writes the 16- and 32-bit curves of Arm cores and of CPUs from whole networks: one rate a class of operators."""

from pathlib import Path

import numpy as np
from classes import CLASSES, Run, fit_runs
from profiles import _flow, _load, _save
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from whole import _BOARD_START, _CORE, HALF, board_runs

from pharos.facts.names import folder
from pharos.measure.fit import conformal

# Multiply-adds of 128 bits that a core starts in a cycle, and operations of one by type.
PIPES = {"A76": 2}
LANES = {"fp32": 8, "fp16": 16}
# Threads that all-core figures are stated for.
FULL = 4
MEMORY = ("elementwise", "pool", "copy")


def write_cores(data: Path, boards_out: dict[str, list[tuple[Run, float]]]) -> None:
    """Puts rates, bandwidth and launch of every core of several boards into its profile; the error is that of boards left out."""
    for core, runs in board_runs(data).items():
        path = folder("profiles").get(f"cortex_{core.lower()}", (None,))[0]
        if path is None or not boards_out[core]:
            continue
        x = fit_runs(runs, _BOARD_START, _CORE)
        dtype = "fp16" if core in HALF else "fp32"
        error, held = conformal(_logs(boards_out[core])), "boards in turn"
        yaml, found = _load(path)
        threads = FULL ** x[len(CLASSES) + 3] / FULL
        for at, kind in enumerate(CLASSES):
            if kind in ("short_conv", "attention"):
                continue
            _replace(
                found,
                kind,
                dtype,
                float(np.exp(x[at])) * threads / (LANES[dtype] * PIPES.get(core, 1)),
                x,
                error,
                len(runs),
                core,
                held,
            )
        for kind in MEMORY:
            _replace(found, kind, dtype, 1.0, x, error, len(runs), core, held)
        _save(yaml, found, path)


def _logs(found: list[tuple[Run, float]]) -> np.ndarray:
    return np.array([np.log(r.seconds / s) for r, s in found])


def _replace(
    found, kind: str, dtype: str, compute: float, x, error: float, rows: int, core: str, held: str
) -> None:  # type: ignore[no-untyped-def]
    types = ["fp32", "fp16"] if dtype == "fp32" else ["fp16"]
    entry = CommentedMap()
    entry["dtypes"] = types
    entry["peak_dtype"] = dtype
    entry["compute"] = float(f"{min(compute, 1.0):.3g}")
    entry["bandwidth"] = 1
    entry["bandwidth_bytes_per_s"] = float(f"{np.exp(x[len(CLASSES)]) * FULL ** x[len(CLASSES) + 4]:.3g}")
    entry["launch_s"] = float(f"{np.exp(x[len(CLASSES) + 1]):.2g}")
    entry["sharpness"] = 3
    entry["error"] = round(float(error), 2)
    entry["rows"] = rows
    entry["known"] = "fitted"
    entry["fitted_on"] = f"ncnn networks on boards of Cortex-{core}, all cores"
    entry["held_out"] = held
    kept = [
        c for c in found["classes"].get(kind, ()) if c.get("dtypes") and not set(c["dtypes"]) & set(types)
    ]
    if kind in MEMORY:
        kept = [
            c
            for c in found["classes"].get(kind, ())
            if not c.get("dtypes") or not set(c["dtypes"]) & set(types)
        ]
    found["classes"][kind] = CommentedSeq([_flow(entry), *kept])
