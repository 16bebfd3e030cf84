"""Writes the profiles of `facts/profiles/` that the field data cover: constants, residuals, errors; no rows."""

from pathlib import Path
from typing import Any

import numpy as np
from devices import CATALOGUE
from kernels import Case
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from trial import Trial, pooled

from pharos.facts.names import folder
from pharos.predict.kernels.base import Anchor

# Machines that a measured device stands for, and how that is said.
SAME = {
    "h100": (("nvidia_h100_sxm5", ""),),
    "h800": (("nvidia_h100_sxm5", " on the H800, the same chip"),),
    "h200": (("nvidia_h200_sxm", ""),),
    "a100": (("nvidia_a100_sxm_80gb", ""),),
    "a100_40": (
        ("nvidia_a100_sxm_40gb", " on the PCIe card"),
        ("nvidia_a100_sxm_80gb", " on the PCIe card of 40 GB"),
    ),
    "v100_pcie": (
        ("nvidia_v100_sxm2_16gb", " on the PCIe card"),
        ("nvidia_v100_sxm2_32gb", " on the PCIe card"),
    ),
    "p100": (("nvidia_p100_pcie", ""),),
    "t4": (("nvidia_t4", ""),),
    "rtx3090": (("nvidia_rtx3090", ""),),
}
SIXTEEN = ("bf16", "fp16", "tf32")
TYPES = {"bf16": SIXTEEN, "fp16": SIXTEEN, "fp8": ("fp8", "int8", "int4", "fp4"), "fp32": ("fp32", "fp64")}
# No error below this is stated: another card of the same kind differs by as much.
LEAST_ERROR = 0.05
# Launch of a kernel in a graph where the rows were calls timed one by one, by form: that of the rows in graphs.
LAUNCH_US = {"gemm": 2.5, "conv": 4.0, "stream": 2.5, "gather": 2.5, "prefill": 8.0, "decode": 8.0}


def curve_key(case: Case) -> tuple[str, tuple[str, ...], str | None, bool]:
    """Class, types, phase and whether the cache is in 8 bits: what a profile tells apart."""
    narrow = "fp8 cache" in case.stack
    return case.cost_class, TYPES["fp8"] if narrow else TYPES[case.dtype], case.phase, narrow


def shipped(trials: list[Trial]) -> list[Trial]:
    """One trial for each curve of each device: of several, the one with the most rows of the newer library."""
    best: dict[Any, Trial] = {}
    for one in trials:
        if not one.case.ships or (one.case.cost_class == "attention" and "trtllm" in one.case.stack):
            continue
        if one.case.dtype == "fp8" and one.case.source != "pipeweave":
            continue
        key = (one.case.device, curve_key(one.case))
        more = key in best and len(one.case.rows) > len(best[key].case.rows)
        if key not in best or (one.case.source == "aiconfigurator" and more):
            best[key] = one
    return list(best.values())


def write_machines(trials: list[Trial]) -> None:
    """Puts each shipped trial's curve into the profiles of the machines that its device stands for."""
    for name in sorted({machine for pairs in SAME.values() for machine, _ in pairs}):
        path = folder("profiles")[name][0]
        yaml, data = _load(path)
        curves: dict[str, list[CommentedMap]] = {}
        for one in shipped(trials):
            for machine, how in SAME.get(one.case.device, ()):
                if machine == name and not (
                    name == "nvidia_a100_sxm_80gb"
                    and one.case.device == "a100_40"
                    and one.case.cost_class == "attention"
                ):
                    curves.setdefault(one.case.cost_class, []).append(_curve(one, how))
        if not curves:
            continue
        for kind, made in curves.items():
            replaced = {(tuple(c["dtypes"]), c.get("phase")) for c in made}
            kept = [c for c in data["classes"].get(kind, ())
                    if "form" not in c and not any(_covers(r, c) for r in replaced)]  # fmt: skip
            data["classes"][kind] = CommentedSeq([*made, *kept])
        _save(yaml, data, path)


def write_prior(groups: dict[Any, tuple[list[Trial], list[Anchor]]]) -> None:
    """Puts the anchors of every class into the profile of GPUs nobody measured, errors of GPUs left out beside them."""
    path = folder("profiles")["gpu"][0]
    yaml, data = _load(path)
    for kind in list(data["classes"]):
        data["classes"][kind] = CommentedSeq([c for c in data["classes"][kind] if "form" not in c])
    for (kind, types, phase, _), (trials, known) in groups.items():
        errors = pooled(trials)
        if not errors or len({a.device for a in known}) < 2:
            continue
        entry = CommentedMap()
        if phase == "decode":
            entry["phase"] = phase
        entry["dtypes"] = list(types)
        if types == TYPES["fp8"] and kind == "attention":
            entry["peak_dtype"] = "fp16"
        entry["form"] = known[0] and trials[0].case.form.name
        entry["anchors"] = [_anchor(a, kind) for a in known]
        entry |= _errors(errors)
        entry["rows"] = int(sum(t.fitted.rows for t in trials))
        entry["known"] = "fitted"
        entry["fitted_on"] = ", ".join(sorted({f"{t.case.device} ({t.case.source})" for t in trials}))
        entry["held_out"] = "each GPU in turn, GPUs weighted alike"
        data["classes"].setdefault(kind, CommentedSeq())
        data["classes"][kind] = CommentedSeq([_flow(entry), *data["classes"][kind]])
    _save(yaml, data, path)


def _anchor(anchor: Anchor, kind: str) -> dict[str, Any]:
    figures = anchor.device
    return {"device": CATALOGUE.get(anchor.name, anchor.name), "units": figures.units, "ops_per_s": figures.ops_per_s,
            "bytes_per_s": figures.bytes_per_s, "cache_bytes": figures.cache_bytes,
            "constants": {k: _short(v) for k, v in _alone(anchor.constants, kind).items()}}  # fmt: skip


def _alone(constants: Any, kind: str) -> dict[str, float]:
    """The constants with the launch of a kernel in a graph, where it was that of a call timed one by one."""
    form = {"gemm": "gemm", "conv": "conv", "gather": "gather", "attention": "prefill"}.get(kind, "stream")
    launch = constants["launch_us"]
    return {**constants, "launch_us": LAUNCH_US[form] if launch > 4 * LAUNCH_US[form] else launch}


def _curve(one: Trial, how: str) -> CommentedMap:
    case, found = one.case, one.fitted
    entry = CommentedMap()
    kind, types, phase, narrow = curve_key(case)
    if phase == "decode":
        entry["phase"] = phase
    entry["dtypes"] = list(types)
    if narrow:
        entry["peak_dtype"] = "fp16"
    entry["form"] = case.form.name
    constants = dict(found.constants)
    if case.launch == "eager":
        constants["launch_us"] = min(constants["launch_us"], LAUNCH_US[case.form.name])
    entry["constants"] = {k: _short(v) for k, v in constants.items()}
    if found.residual is not None:
        points = np.asarray(found.residual.points)
        entry["correction"] = {"scales": _line(found.residual.scales), "weights": _line(found.residual.weights),
                               **{f"x{i}": _line(points[:, i]) for i in range(points.shape[1])}}  # fmt: skip
    entry |= _errors(one.errors)
    entry["rows"] = found.rows
    entry["known"] = "fitted"
    # a note on how the clock ticks matters to the trial; which kernels were left out matters to whoever uses the curve
    note = (
        ""
        if not case.note or "microseconds" in case.note
        else f"; {case.note.replace('; 0 rows faster than the memory left out', '')}"
    )
    kind = {"gather": "embedding"}.get(kind, kind)
    stack = f", {case.stack}" if case.stack and "_" not in case.stack else ""
    entry["fitted_on"] = f"{case.device} {case.dtype} {kind}{how} ({case.source}{stack}){note}"
    entry["held_out"] = (
        f"{one.calibrated.count} rows of other shapes: {100 * one.calibrated.mean:.1f}% mean, {100 * one.calibrated.median:.1f}% median error"
    )
    return _flow(entry)


def _errors(errors: dict[str, float]) -> dict[str, Any]:
    return {"error": round(max(errors["all"], LEAST_ERROR), 3),
            "errors": {k: round(max(v, LEAST_ERROR), 3) for k, v in errors.items() if k != "all"}}  # fmt: skip


def _covers(made: tuple[tuple[str, ...], str | None], old: Any) -> bool:
    types, phase = made
    return set(old.get("dtypes") or ("all",)) <= set(types) and (old.get("phase") or None) == phase


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _line(values: Any) -> str:
    return " ".join(f"{v:.4g}" for v in np.asarray(values))


def _flow(entry: CommentedMap) -> CommentedMap:
    found = CommentedMap(entry)
    found.fa.set_flow_style()
    return found


def _load(path: Path) -> tuple[YAML, Any]:
    yaml = YAML()
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml, yaml.load(path.read_text(encoding="utf-8"))


def _save(yaml: YAML, data: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(data, file)
