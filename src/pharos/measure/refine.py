"""Refine: a calibration fitted anew on its points and on what was measured since, never worse unsaid."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pharos.facts.reading import read_json
from pharos.graph.count import Count, count
from pharos.machines.calibration import SCHEMA
from pharos.machines.profile import read_curve
from pharos.measure import store
from pharos.measure.calibrate import Found, Point, Taken
from pharos.measure.calibrate import _fitted as fitted_run  # pyright: ignore[reportPrivateUsage]
from pharos.measure.fit import bucket
from pharos.measure.here import Here, Noise
from pharos.measure.points import entry_of, points_of
from pharos.measure.pulse import EXPECTED, Beat, Pulse, slowed
from pharos.passes.heap import fresh_pages
from pharos.predict.kernel import correction_of
from pharos.predict.kernels import FORMS, evaluate
from pharos.predict.kernels.base import Device
from pharos.quantity.errors import InputError

# Networks from which errors are told on networks left out; fewer leave shapes out.
NETWORKS = 3
FOLDS = 4
# A kernel whose fresh pages take more of its time than this says too little about the rest.
PAGED = 0.25
# What is stored beside the calibration's own points, and how its probes are named.
STORED = "stored:"
# Held-out error, in the logarithm, may rise by this much on the calibration's own networks before it is told.
TOLD = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One class of operators under one way of running.

    Args:
        rows: measured kernels of it; before, after: mean |log(measured / predicted)| on them, by the curve
            without them and by curves that left each of them out.
        probes_before, probes_after: error of the class on the calibration's own networks left out.
        kept: the curve without them stays, since the new one was no better.
    """

    runtime: str
    threads: int
    cost_class: str
    rows: int
    before: float
    after: float
    probes_before: float
    probes_after: float
    kept: bool


@dataclass(slots=True)
class Refined:
    """What refining found.

    Args:
        found: the calibration with its new curves; changes: by class.
        networks: that were measured and used, by way of running; left_out: reason -> runs that were not used.
        by: "networks" or "shapes" left out for the errors.
    """

    found: Found
    changes: list[Change]
    networks: dict[tuple[str, int], list[str]]
    left_out: Counter[str] = field(default_factory=Counter)
    by: dict[tuple[str, int], str] = field(default_factory=dict)


def refine(
    calibration: Path, *, kept: Path | None = None, noisy: bool = False,
    tick: Callable[[str, float], None] | None = None,
) -> Refined:  # fmt: skip
    """Fits a calibration's curves to its points and to the operators of stored runs of the same machine.

    Each class takes its new curve where that predicts measured networks that it was not fitted on better
    than the old one did; elsewhere the old one stays. A calibration that was refined before is refined from
    its own points again.

    Args:
        calibration: its file; kept: the store's, the usual one by default.
        noisy: use runs that were taken while the machine was busy, too.
        tick: told what is being done and the share that is over.

    Raises:
        InputError: no calibration of a processor, or no stored run of this machine that could be used.
    """
    data = copy.deepcopy(read_json(calibration).data)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise InputError("is no calibration", where=str(calibration), hint="run `pharos calibrate` once")
    if data["machine"].get("kind") != "cpu":
        raise InputError("only calibrations of processors are refined so far", where=str(calibration))
    machine = Here(**{**data["taken"]["machine"],
                      "instructions": tuple(data["taken"]["machine"]["instructions"]),
                      "accelerators": tuple(data["taken"]["machine"].get("accelerators", ()))})  # fmt: skip
    runs = store.runs(kept)
    left_out: Counter[str] = Counter()
    used: dict[tuple[str, int], list[store.Kept]] = {}
    ways = {(run["runtime"], run["threads"]) for run in data["runs"]}
    for run in runs:
        why = _unfit(run, machine, ways, noisy)
        if why:
            left_out[why] += 1
        else:
            used.setdefault((run.runtime, run.threads), []).append(run)
    if not used:
        told = "; ".join(f"{n} {why}" for why, n in left_out.most_common()) or "it is empty"
        raise InputError(f"holds no run that this calibration can be refined by: {told}",
                         where=str(kept or store.place()),
                         hint="`pharos measure MODEL` on a quiet machine stores one")  # fmt: skip
    made = Refined(Found(data, Noise(0.0, None), Noise(0.0, None)), [], {}, left_out)
    steps = len(used) * (FOLDS + 2)
    done = 0

    def told_of(what: str) -> None:
        nonlocal done
        if tick is not None:
            tick(what, done / steps)
        done += 1

    refined: list[dict[str, Any]] = []
    for i, run in enumerate(data["runs"]):
        way = (run["runtime"], run["threads"])
        if way not in used:
            continue
        own = _taken(run, data)
        points = _measured(used[way], run, own, kept)
        if not points:
            left_out["whose operators cannot be told apart any more"] += len(used[way])
            continue
        data["runs"][i], changes, by = _refit(run, own, points, machine, told_of)
        made.changes += changes
        made.networks[way] = sorted({p.probe.removeprefix(STORED) for p in points})
        made.by[way] = by
        refined += [{"runtime": way[0], "threads": way[1], **asdict(p)} for p in points]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    data["refined"] = refined
    data["taken"]["refined"] = {"at": at, "runs": sum(map(len, used.values())), "points": len(refined)}
    return made


def _unfit(run: store.Kept, machine: Here, ways: set[tuple[str, int]], noisy: bool) -> str:
    """Why a stored run says nothing about this calibration's machine; "" where it does."""
    if run.graph is None:
        return "stored by an older Pharos, without sizes"
    if run.device != "cpu":
        return "of another device"
    theirs = run.machine
    if theirs.get("cpu") != machine.cpu or tuple(theirs.get("instructions", ())) != machine.instructions:
        return "of another machine"
    library = "torch" if run.runtime in ("eager", "compiled") else run.runtime
    if theirs.get("versions", {}).get(library) != machine.versions.get(library):
        return f"of another version of {library}"
    if (run.runtime, run.threads) not in ways:
        return f"of {run.runtime} with {run.threads} threads, which was not calibrated"
    if str(run.workload.get("precision")) not in ("fp32", "weights=fp32,activations=fp32"):
        return "not in fp32, which alone is calibrated"
    return "" if run.quiet or noisy else "taken while the machine was busy"


def _taken(run: dict[str, Any], data: dict[str, Any]) -> Taken:
    """The calibration's own points of a way of running, without a refinement before."""
    way = (run["runtime"], run["threads"])
    host = run["host"]
    mine = [p for p in data["points"] if (p["runtime"], p["threads"]) == way]
    whole = [w for w in data["whole"] if (w["runtime"], w["threads"]) == way]
    names = ("probe", "cost_class", "kind", "sizes", "seconds")
    slows = {
        name.partition(".")[0]: _pair(entries[0].get("slows"))
        for name, entries in run["classes"].items()
        if "." not in name
    }
    return Taken(
        way[0], way[1], run["ops_per_s"], run["bytes_per_s"], float(host.get("page_s") or 0.0),
        Pulse(way[1], [Beat(*(run.get("pulse_s") or (1.0, 1.0)))], ()),
        points=[Point(*[p[n] for n in names]) for p in mine],
        whole=[(w["kernels"], w["views"], w["whole_s"], w["apart_s"]) for w in whole],
        slows={**slows, "call": _pair(host.get("slows"))},
    )  # fmt: skip


def _pair(slows: Sequence[float] | None) -> tuple[float, float]:
    alone, together = slows or EXPECTED
    return float(alone), float(together)


def _measured(
    runs: Sequence[store.Kept], calibrated: dict[str, Any], own: Taken, kept: Path | None
) -> list[Point]:
    """Kernels of stored runs as points, at the calibration's pulse; of equal ones, the median."""
    alike: dict[tuple[Any, ...], list[Point]] = {}
    for run in runs:
        assert run.graph is not None
        graph = store.graph(run.graph, kept)
        counted = count(graph)
        rows = store.operators(run.id, kept)
        paced = _paced(rows, run, calibrated, own)
        paged = _paged(graph, counted, own)
        net = {name: once - paged.get(name, 0.0) for name, once in paced.items()
               if paged.get(name, 0.0) <= PAGED * once}  # fmt: skip
        for cost_class, kind, sizes, seconds in points_of(counted, net, calibrated):
            point = Point(f"{STORED}{run.model}", cost_class, kind, sizes, seconds)
            key = (point.probe, cost_class, kind, *sorted(sizes.items()))
            alike.setdefault(key, []).append(point)
    return [replace(each[0], seconds=float(np.median([p.seconds for p in each]))) for each in alike.values()]


def _paced(
    rows: Sequence[dict[str, Any]], run: store.Kept, calibrated: dict[str, Any], own: Taken
) -> dict[str, float]:
    """Seconds of one run of each operator as they would have been at the pulse of the calibration."""
    usual = calibrated.get("pulse_s") or ()
    known = bool(usual and len(usual) == len(run.pulse_s))
    pace = [now / then for now, then in zip(run.pulse_s, usual, strict=True)] if known else []
    return {
        r["name"]: r["seconds"] / (slowed(pace, own.slows.get(r["cost_class"], EXPECTED)) if known else 1.0)
        for r in rows
    }


def _paged(graph: Any, counted: Count, own: Taken) -> dict[str, float]:
    """Seconds of one run of each operator that go to pages of fresh memory, which calibrations time apart."""
    if own.runtime != "eager" or not own.page_s:
        return {}
    pages = fresh_pages(graph)
    return {
        name: sum(pages.get(n, 0) for n in each) / max(len(each), 1) * own.page_s
        for name, each in counted.written_out().items()
    }


def _refit(
    run: dict[str, Any], own: Taken, points: list[Point], machine: Here, told: Callable[[str], None],
) -> tuple[dict[str, Any], list[Change], str]:  # fmt: skip
    """A run's part of the file anew, with what changed by class and what was left out for the errors."""
    name = f"{own.runtime}, {own.threads} thread{'s' * (own.threads > 1)}"
    told(f"{name}: as calibrated")
    before = fitted_run(own, machine)
    networks = list(dict.fromkeys(p.probe for p in points))
    by = "networks" if len(networks) >= NETWORKS else "shapes"
    if by == "networks":
        labels = np.array([networks.index(p.probe) % FOLDS for p in points])
    else:
        names = ("macs", "read", "written")
        labels = bucket(*[np.array([p.sizes.get(k, 0.0) for p in points]) for k in names], of=FOLDS)
    after = np.full(len(points), np.nan)
    for label in range(FOLDS):
        told(f"{name}: leaving out {by}, part {label + 1} of {FOLDS}")
        out = np.flatnonzero(labels == label)
        if not len(out):
            continue
        with_some = replace(
            own, points=own.points + [p for p, at in zip(points, labels, strict=True) if at != label]
        )
        again = fitted_run(with_some, machine)
        after[out] = [_off(again, points[i], own) for i in out]
    told(f"{name}: all of it")
    final = fitted_run(replace(own, points=own.points + points), machine)
    if not run.get("pulse_s"):
        # of a calibration that took no pulse nothing is known at another
        final.pop("pulse_s")
    old = np.array([_off(before, p, own) for p in points])
    changes = []
    for cost_class in sorted({p.cost_class for p in points}):
        mine = np.array([p.cost_class == cost_class for p in points]) & np.isfinite(after) & np.isfinite(old)
        if not mine.any():
            continue
        was, now = float(np.mean(np.abs(old[mine]))), float(np.mean(np.abs(after[mine])))
        kept = now >= was
        if kept:
            _keep(final, before, cost_class)
        changes.append(Change(
            runtime=own.runtime, threads=own.threads, cost_class=cost_class, rows=int(mine.sum()), before=was,
            after=now, probes_before=_error(before, cost_class), probes_after=_error(final, cost_class),
            kept=kept,
        ))  # fmt: skip
    return final, changes, by


def _keep(final: dict[str, Any], before: dict[str, Any], cost_class: str) -> None:
    """Puts a class and its kinds back to the curves without what was stored."""

    def mine(name: str) -> bool:
        return name.partition(".")[0] == cost_class

    kept = {k: v for k, v in before["classes"].items() if mine(k)}
    final["classes"] = {k: v for k, v in final["classes"].items() if not mine(k)} | kept


def _error(run: dict[str, Any], cost_class: str) -> float:
    entries = run["classes"].get(cost_class)
    return float(entries[0]["error"]) if entries else float("nan")


def _off(run: dict[str, Any], point: Point, own: Taken) -> float:
    """log(measured / predicted) of a kernel by the curves of a run; NaN where none describes it."""
    entry = entry_of(run, point.cost_class, point.kind)
    if entry is None:
        return float("nan")
    curve = read_curve(entry, "")
    form = FORMS[curve.form or ""]
    if not set(form.sizes) <= set(point.sizes):
        return float("nan")
    device = Device(units=own.threads, ops_per_s=own.ops_per_s, bytes_per_s=own.bytes_per_s,
                    cache_bytes=run["cache_bytes"])  # fmt: skip
    found = evaluate(
        form, curve.constants, correction_of(curve), {k: point.sizes[k] for k in form.sizes}, device
    )
    return float("nan") if found is None else float(np.log(point.seconds / found[0].total))
