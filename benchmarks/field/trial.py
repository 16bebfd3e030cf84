"""One field trial: a case calibrated, predicted without its device, and by rooflines, on rows that no fit saw."""

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from kernels import Case, together
from read import halves

from pharos.measure.fit import Fitted, Rows, conformal, fit, predicted, regime
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Anchor, Form, Parts, blend
from pharos.quantity.evidence import Z80

# Rows of a device that its anchor in a prior is fitted on, and rows that are counted at most.
ANCHOR_ROWS = 150
COUNTED = 900
# Launch of a call that is timed one by one, where a fit starts.
EAGER_US = 30.0


@dataclass(frozen=True, kw_only=True)
class Errors:
    """|predicted / measured - 1| over counted rows."""

    mean: float
    median: float
    p90: float
    count: int

    @classmethod
    def of(cls, predicted_s: Any, measured_s: Any) -> "Errors":
        """From seconds."""
        off = np.abs(predicted_s / measured_s - 1)
        return cls(
            mean=float(off.mean()),
            median=float(np.median(off)),
            p90=float(np.quantile(off, 0.9)),
            count=len(off),
        )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was found for a case.

    Args:
        bare: the closed form without its residual; simple: a 3-parameter roofline fitted on the same rows.
        unseen: constants blended from other devices; None where there are none.
        covered: share of counted rows inside the calibrated fit's 80% band, each regime with its own.
        errors: by regime, of counted rows: what the profile states.
    """

    case: Case
    fitted: Fitted
    calibrated: Errors
    bare: Errors
    simple: Errors
    roofline: Errors
    covered: float
    errors: dict[str, float]
    worst: list[str]
    unseen: Errors | None = None
    unseen_off: Any = field(default=None, repr=False)
    unseen_regime: Any = field(default=None, repr=False)


def _counted(case: Case) -> tuple[Rows, Rows]:
    calibrated, counted = halves(case.rows)
    return calibrated, counted.pick(np.arange(min(len(counted), COUNTED)))


def trial(case: Case) -> Trial:
    """Calibrates on at most 300 rows and counts the others."""
    rows, counted = _counted(case)
    device = case.figures
    start = {"launch_us": EAGER_US} if case.launch == "eager" else {}
    if case.cost_class == "gemm" and case.dtype == "fp32":
        start["step"] = 8
    found = fit(case.form, rows, device, start=start)
    seen = found.predict(counted.sizes, device)
    off = np.log(counted.seconds / seen)
    where = regime(case.form, found.constants, counted, device)
    band = np.array([found.errors.get(w, found.errors["all"]) for w in where])
    errors = {"all": conformal(off)}
    errors |= {
        name: conformal(off[where == name])
        for name in ("launch", "compute", "data")
        if (where == name).sum() >= 30
    }
    three = fit(SIMPLE[case.form.name], rows, device, start=start, residual=False)
    ordered = np.argsort(-np.abs(off))[:3]
    worst = [
        ", ".join(f"{k} {counted.sizes[k][i]:g}" for k in case.form.sizes if k in SHOWN)
        + f": {1e6 * counted.seconds[i]:.4g} us, predicted {1e6 * seen[i]:.4g}"
        for i in ordered
    ]
    return Trial(
        case=case, fitted=found, calibrated=Errors.of(seen, counted.seconds),
        bare=Errors.of(predicted(case.form, found.constants, None, counted.sizes, device), counted.seconds),
        simple=Errors.of(three.predict(counted.sizes, device), counted.seconds),
        roofline=Errors.of(_ideal(case, counted), counted.seconds),
        covered=float(np.mean(np.abs(off) <= Z80 * band)), errors=errors, worst=worst,
    )  # fmt: skip


SHOWN = (
    "batch",
    "m",
    "n",
    "k",
    "queries",
    "keys",
    "heads",
    "kv_heads",
    "width",
    "out_h",
    "c_in",
    "c_out",
    "kh",
    "rows",
    "row",
)


def anchors(cases: list[Case]) -> list[Anchor]:
    """Constants of each device from its own rows, by device; cases of one device share the rows."""
    found = []
    for name in sorted({c.device for c in cases}):
        own = [c for c in cases if c.device == name]
        each = max(ANCHOR_ROWS // len(own), 40)
        parts = [r.pick(np.arange(min(len(r), each))) for r in (halves(c.rows)[0] for c in own)]
        start = {"launch_us": EAGER_US} if own[0].launch == "eager" else {}
        if own[0].cost_class == "gemm" and own[0].dtype == "fp32":
            start["step"] = 8
        rows = together(parts)
        made = fit(own[0].form, rows, own[0].figures, start=start, residual=False, folds=0)
        found.append(Anchor(device=own[0].figures, constants=made.constants, name=name))
    return found


def without_device(trials: list[Trial], known: list[Anchor]) -> list[Trial]:
    """The same trials with the error of constants blended from the other devices."""
    found = []
    for one in trials:
        case = one.case
        others = [a for a in known if a.device != case.figures and a.name != case.device]
        if not others:
            found.append(one)
            continue
        constants = blend(others, case.figures)
        counted = _counted(case)[1]
        seconds = predicted(case.form, constants, None, counted.sizes, case.figures)
        found.append(replace(
            one, unseen=Errors.of(seconds, counted.seconds), unseen_off=np.log(counted.seconds / seconds),
            unseen_regime=regime(case.form, constants, counted, case.figures),
        ))  # fmt: skip
    return found


def _ideal(case: Case, rows: Rows) -> Any:
    """Plain roofline: the larger of operations over peak and bytes over specified bandwidth."""
    work, moved = _work(case.form.name, rows.sizes)
    return np.maximum(work / case.figures.ops_per_s, moved / case.figures.bytes_per_s)


def _work(form: str, sizes: Mapping[str, Any]) -> tuple[Any, Any]:
    """FLOP and bytes of a kernel."""
    if form == "gemm":
        return 2 * sizes["batch"] * sizes["m"] * sizes["n"] * sizes["k"], sizes["read"] + sizes["written"]
    if form == "conv":
        outputs = sizes["batch"] * sizes["out_h"] * sizes["out_w"] * sizes["c_out"] * sizes["groups"]
        return 2 * outputs * sizes["c_in"] * sizes["kh"] * sizes["kw"], sizes["read"] + sizes["written"]
    if form in ("prefill", "decode"):
        older, window = sizes["keys"] - sizes["queries"], sizes["window"]
        seen = np.minimum(window, older + (sizes["queries"] + 1) / 2)
        return 4 * sizes["batch"] * sizes["heads"] * sizes["queries"] * seen * sizes["width"], sizes["moved"]
    if form == "gather":
        return 0 * sizes["rows"], sizes["rows"] * sizes["row"] + sizes["written"]
    return 0 * sizes["read"], sizes["read"] + sizes["written"]


def _simple(form: Form) -> Form:
    """launch + max(work / (peak x compute), bytes / (bandwidth x data)): three constants."""

    def parts(c: Mapping[str, float], sizes: Mapping[str, Any], device: Any) -> Parts:
        work, moved = _work(form.name, sizes)
        compute = work / (device.ops_per_s * c["compute"])
        data = moved / (device.bytes_per_s * c["data"])
        launch = 1e-6 * c["launch_us"] + 0 * data
        return Parts(compute, data, launch, launch + np.maximum(compute, data))

    constants = {
        "launch_us": (form.constants["launch_us"][0], 1.0),
        "compute": (0.6, 1.0),
        "data": (0.6, 1.0),
    }
    return Form(name="simple", sizes=form.sizes, constants=constants, parts=parts, features=form.features)


def simple_forms() -> dict[str, Form]:
    """A 3-parameter roofline for each form."""
    return {name: _simple(form) for name, form in FORMS.items()}


SIMPLE = simple_forms()


def pooled(trials: list[Trial]) -> dict[str, float]:
    """Errors by regime of devices left out, each device alike: the 80% quantile over equal shares of each."""
    found: dict[str, float] = {}
    for name in ("all", "launch", "compute", "data"):
        offs, weights = [], []
        for one in trials:
            if one.unseen_off is None:
                continue
            mine = np.abs(one.unseen_off if name == "all" else one.unseen_off[one.unseen_regime == name])
            if len(mine):
                offs.append(mine)
                weights.append(np.full(len(mine), 1 / len(mine)))
        if not offs or sum(map(len, offs)) < 30:
            continue
        off, weight = np.concatenate(offs), np.concatenate(weights)
        order = np.argsort(off)
        at = np.searchsorted(np.cumsum(weight[order]), 0.8 * weight.sum())
        found[name] = float(off[order][min(at, len(off) - 1)] / Z80)
    return found if math.isfinite(found.get("all", math.nan)) else {}


def keep(path: Path, trials: list[Trial]) -> None:
    """Writes trials to a file of this machine's own, forms by name."""
    plain = [replace(t, case=replace(t.case, form=t.case.form.name), fitted=replace(t.fitted, form=t.fitted.form.name))
             for t in trials]  # type: ignore[arg-type] # fmt: skip
    path.write_bytes(pickle.dumps(plain))


def kept(path: Path) -> list[Trial]:
    """Trials that `keep` wrote; none where there is no file."""
    if not path.is_file():
        return []
    return [
        replace(
            t,
            case=replace(t.case, form=FORMS[t.case.form]),
            fitted=replace(t.fitted, form=FORMS[t.fitted.form]),
        )
        for t in pickle.loads(path.read_bytes())
    ]
