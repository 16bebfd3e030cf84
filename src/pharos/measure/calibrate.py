"""Calibrate: the profile of the machine that Pharos runs on, from probes timed through its runtimes."""

import ctypes
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np

from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.machines.calibration import SCHEMA
from pharos.machines.machine import HERE
from pharos.measure.fit import Fitted, Rows, conformal, fit
from pharos.measure.here import Here, Noise, here, noise
from pharos.measure.probes import probes
from pharos.measure.pulse import EXPECTED, Beat, Pulse, beside, between, sensitivity, steady
from pharos.measure.runs import Runnable, middle, prepared
from pharos.measure.timing import interleaved
from pharos.passes.fuse import around, launches
from pharos.passes.fusions import FUSIONS
from pharos.passes.heap import PAGE
from pharos.predict.kernel import TRANSCENDENTAL_FLOPS, variant
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device
from pharos.predict.kernels.shapes import sizes_of
from pharos.predict.runtimes import RUNTIMES as PREDICTED
from pharos.quantity.errors import InputError, unknown

# Seconds that a calibration takes by default, and the share that measuring gets; fitting has the rest.
BUDGET = 90.0
MEASURING = 0.8
# Share of the cores that others may take before a calibration is refused.
BUSY = 0.35
# Seconds that the operators of a probe are run for, and the fewest and most times.
SECONDS, LEAST, MOST = 0.03, 4, 12
# Every so many probes the call as a whole is timed too, which tells the time between kernels.
WHOLE = 4
# A pulse that takes so many times longer than the usual one is that of a disturbed machine.
DISTURBED = 1.25
RUNTIMES = {"eager": "torch", "onnxruntime": "onnxruntime"}
_FORMS = {"gemm": "cpu_gemm", "attention": "cpu_attention", "recurrence": "cpu_recurrence",
          **dict.fromkeys(("conv", "pointwise", "grouped_conv", "depthwise"), "cpu_conv")}  # fmt: skip
# The most seconds that timing a kernel alone adds to it: reading clocks, and writing a line of a trace.
TRACED = 6e-6
# Error, in the logarithm, of a class with too few operators to leave any out.
UNKNOWN = 0.7
# Rows from which a class or kind gets constants, and a smooth correction, of its own.
FEW, ENOUGH = 20, 30


@dataclass(frozen=True, slots=True)
class Point:
    """One kernel of one probe: its class, kind and sizes, and the seconds it took."""

    probe: str
    cost_class: str
    kind: str
    sizes: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Timed:
    """A kernel of a probe with its class, kind and sizes, or a whole call: seconds of every run and the pulse
    beside it."""

    probe: str
    cost_class: str
    kind: str
    sizes: dict[str, float]
    seconds: list[float]
    beats: list[Beat]


@dataclass(slots=True)
class Taken:
    """What was measured of a runtime with some threads.

    Args:
        timed: of kernels, as they were timed; calls: of whole calls, with kernels and views in their sizes.
        ops_per_s, bytes_per_s: best rates of a large product and a large copy.
        page_s: what the first touch of a page costs.
        points, whole: the same at the usual pulse, once all was timed; of each whole call, kernels, views,
            its seconds, and those of its kernels together.
        slows: by class of operator, and "call", how it slows with the pulse.
    """

    runtime: str
    threads: int
    ops_per_s: float
    bytes_per_s: float
    page_s: float
    pulse: Pulse
    timed: list[Timed] = field(default_factory=list)
    calls: list[Timed] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    whole: list[tuple[int, int, float, float]] = field(default_factory=list)
    slows: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def usual(self) -> Beat:
        """The machine's usual pulse while it was calibrated."""
        return self.pulse.usual()

    def settle(self) -> None:
        """Brings everything to the usual pulse."""
        usual = self.usual
        by_class: dict[str, list[Timed]] = {}
        for each in (*self.timed, *self.calls):
            by_class.setdefault(each.cost_class, []).append(each)
        self.slows = {
            name: sensitivity([(t.seconds, t.beats) for t in some]) for name, some in by_class.items()
        }

        def at_rest(each: Timed) -> float:
            return middle(steady(each.seconds, each.beats, usual, self.slows[each.cost_class]))

        self.points = [Point(t.probe, t.cost_class, t.kind, t.sizes, at_rest(t)) for t in self.timed]
        apart: dict[str, float] = {}
        for point in self.points:
            apart[point.probe] = apart.get(point.probe, 0.0) + point.seconds
        self.whole = [
            (int(t.sizes["kernels"]), int(t.sizes["views"]), at_rest(t), apart[t.probe])
            for t in self.calls
            if t.probe in apart
        ]

    @property
    def disturbed(self) -> float:
        """Share of the pulses that were much slower than usual."""
        usual = self.usual
        return float(np.mean([max(b.over(usual)) > DISTURBED for b in self.pulse.taken]))


@dataclass(frozen=True, slots=True)
class Found:
    """A finished calibration: what its file holds, where errors stand, and how quiet the machine was."""

    data: dict[str, Any]
    noise: Noise
    after: Noise

    @property
    def errors(self) -> list[tuple[str, int, str, int, float]]:
        """(runtime, threads, class, rows, error on probes left out) of every curve."""
        return [
            (run["runtime"], run["threads"], name, entry["rows"], entry["error"])
            for run in self.data["runs"]
            for name, entries in run["classes"].items()
            for entry in entries
        ]


def calibrate(
    *, budget: float = BUDGET, threads: Sequence[int] | None = None, runtimes: Sequence[str] | None = None,
    force: bool = False, seed: int = 0, tick: Callable[[str, float], None] | None = None,
) -> Found:  # fmt: skip
    """Times random networks on this machine and fits the closed forms of `predict.kernels.cpu` to them.

    Args:
        budget: seconds for everything; more makes errors smaller.
        threads: numbers of cores to use; one and all by default.
        runtimes: "eager" and "onnxruntime", as far as they are installed.
        force: go on although other processes keep the machine busy.
        tick: told what is being done and the share of the budget that is over.

    Raises:
        InputError: too noisy a machine, no runtime, or threads that it has not.
        UnknownName: another runtime.
    """
    began = time.perf_counter()
    machine, before = here(), noise(0.5)
    ways = _ways(machine, threads, runtimes)
    if before.others > BUSY and not force:
        raise InputError(
            f"this machine is too busy to be measured: {before}", hint="stop what else runs, or give --force"
        )

    def told(what: str) -> None:
        if tick is not None:
            tick(what, min((time.perf_counter() - began) / budget, 1.0))

    told("ceilings")
    with kept_memory():
        ceilings = {n: (product_rate(n), copy_rate(n), page_cost(n)) for n in sorted({n for _, n in ways})}
        taken = [
            Taken(runtime, n, *ceilings[n], Pulse.of(n if runtime == "eager" else 1)) for runtime, n in ways
        ]
        until = began + MEASURING * budget
        number = 0
        for graph in probes(seed):
            number += 1
            with prepared(graph) as ready:
                for each in taken:
                    _probe(graph, ready, each, whole=number % WHOLE == 1)
            told(f"probe {number}: {graph.name.partition('_')[2]}")
            if time.perf_counter() > until and number >= len(FORMS):
                break
    runs = []
    for each in taken:
        told(f"fitting {each.runtime}, {each.threads} threads")
        each.settle()
        runs.append(_fitted(each, machine))
    after = noise(0.3)
    told("done")
    data = _data(machine, before, after, runs, taken, number, budget, seed)
    data["taken"]["disturbed"] = float(np.mean([each.disturbed for each in taken]))
    return Found(data, before, after)


def _ways(
    machine: Here, threads: Sequence[int] | None, runtimes: Sequence[str] | None
) -> list[tuple[str, int]]:
    installed = [name for name, package in RUNTIMES.items() if find_spec(package) is not None]
    for name in runtimes or ():
        if name not in RUNTIMES:
            raise unknown("runtime to calibrate", name, RUNTIMES)
    chosen = [name for name in (runtimes or installed) if name in installed]
    if "eager" not in installed or not chosen:
        raise InputError("calibrating needs torch", hint="pip install 'pharos-nn[torch,onnx]'")
    counts = sorted(set(threads or (1, machine.cores)))
    if counts[0] < 1 or counts[-1] > machine.cores:
        raise InputError(f"this machine has {machine.cores} cores for Pharos", where="--threads")
    return [(name, n) for n in counts for name in chosen]


def product_rate(threads: int, side: int = 1024) -> float:
    """FLOP/s of a large fp32 product, the best of several; 2 side^3 FLOPs."""
    import torch

    a, b = torch.randn(side, side), torch.randn(side, side)
    return 2 * side**3 / _best(torch, threads, lambda: torch.mm(a, b))


def copy_rate(threads: int, count: int = 2**24) -> float:
    """Bytes/s read and written by a copy of `count` fp32 numbers, the best of several."""
    import torch

    a, b = torch.ones(count), torch.zeros(count)
    return 8 * count / _best(torch, threads, lambda: b.copy_(a))


def page_cost(threads: int, count: int = 2**24) -> float:
    """Seconds that the first touch of a page of fresh memory takes, over writing to it again."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = []
    try:
        for _ in range(4):
            with mmap(-1, 4 * count) as fresh:
                tensor = torch.frombuffer(fresh, dtype=torch.float32)
                seconds = []
                for _ in range(2):
                    start = time.perf_counter()
                    tensor.fill_(1.0)
                    seconds.append(time.perf_counter() - start)
                found.append((seconds[0] - seconds[1]) / (4 * count / PAGE))
                del tensor
    finally:
        torch.set_num_threads(before)
    return max(sorted(found)[1], 0.0)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Makes the C library keep what is freed, so that no kernel's time holds pages of fresh memory.

    Where the library can be told; elsewhere they are part of the times. Afterwards it gives back again.
    """
    try:
        library = ctypes.CDLL(None)
        tell, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError):
        yield
        return
    # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h, then their defaults
    tell(-1, 2**31 - 1)
    tell(-4, 0)
    try:
        yield
    finally:
        tell(-1, 128 * 1024)
        tell(-4, 65536)
        trim(0)


def _best(torch: Any, threads: int, call: Callable[[], Any]) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return interleaved({"it": call}, seconds=0.4, least=5)["it"].best
    finally:
        torch.set_num_threads(before)


def _probe(
    graph: Graph, ready: Callable[[str, int], Runnable], taken: Taken, *, whole: bool
) -> None:  # fmt: skip
    """Times a probe's operators, and now and then the whole of it."""
    counted, made = count(graph), ready(taken.runtime, taken.threads)
    assert made.samples is not None
    # how often follows from a guess of what once takes
    once = counted.flops / taken.ops_per_s + counted.traffic_per_op / taken.bytes_per_s + 1e-5
    assert isinstance(once, float)
    beats: list[Beat] = []
    rounds = max(LEAST, min(int(SECONDS / once), MOST))
    pieces = made.samples(rounds, lambda: beats.append(taken.pulse.beat()))
    beats.append(taken.pulse.beat())
    held = [between(a, b) for a, b in itertools.pairwise(beats)]
    found = timed_of(graph.name, counted, pieces, held, taken)
    taken.timed += found
    if whole and found:
        seconds, beats, _ = beside(made.call, taken.pulse, seconds=2 * SECONDS)
        views = sum(int(line.times) for line in counted.lines if line.cost_class == "view")
        sizes = {"kernels": float(len(found)), "views": float(views)}
        taken.calls.append(Timed(graph.name, "call", taken.runtime, sizes, seconds, beats))


def timed_of(
    probe: str, counted: Count, pieces: Mapping[str, Sequence[float]], beats: Sequence[Beat], taken: Taken
) -> list[Timed]:
    """Every kernel that was timed, with its sizes; rounds that are not those of the pulses are left out."""
    found = []
    ours = launches(counted, FUSIONS[PREDICTED[taken.runtime].fusion]).kernels
    for kernel, near in zip(ours, around(ours), strict=True):
        inside = [pieces[line.name] for line in kernel.lines if line.name in pieces]
        # operators that ran a number of times of their own are not this kernel's alone
        seconds = [
            float(sum(each)) for each in zip(*[s for s in inside if len(s) == len(beats)], strict=True)
        ]
        if not seconds or min(seconds) <= 0:
            continue
        cost_class = kernel.lead.cost_class
        scalar = kernel.work.vector_flops + TRANSCENDENTAL_FLOPS * kernel.work.transcendentals
        sizes = sizes_of(_FORMS.get(cost_class, "cpu_stream"), kernel, taken.ops_per_s, scalar, near)
        if sizes is None:
            continue
        plain = {k: float(v) for k, v in sizes.items()}  # type: ignore[arg-type]
        found.append(Timed(probe, cost_class, variant(kernel.lead.node.op), plain, seconds, list(beats)))
    return found


def _fitted(taken: Taken, machine: Here) -> dict[str, Any]:
    """A run's part of the file."""
    cache_bytes = float(machine.caches.get("L2", 2**20)) * taken.threads / max(machine.cores, 1)
    device = Device(units=taken.threads, ops_per_s=taken.ops_per_s, bytes_per_s=taken.bytes_per_s,
                    cache_bytes=cache_bytes)  # fmt: skip
    classes: dict[str, list[dict[str, Any]]] = {}
    # seconds of each operator as predicted when its network was left out, by the last fit that holds it
    left_out: dict[int, float] = {}

    def entry(found: Fitted, points: Sequence[Point]) -> list[dict[str, Any]]:
        for point, off in zip(points, found.held, strict=True):
            if np.isfinite(off):
                left_out[id(point)] = point.seconds * float(np.exp(-off))
        return [_entry(found)]

    by_class: dict[str, list[Point]] = {}
    for point in taken.points:
        by_class.setdefault(point.cost_class, []).append(point)
    by_form: dict[str, list[Point]] = {}
    for point in taken.points:
        by_form.setdefault(_FORMS.get(point.cost_class, "cpu_stream"), []).append(point)
    # few operators of a class: those like it say where its constants start, or stand in
    bases = {form: _fit(form, wide, device, None, residual=False) for form, wide in by_form.items()}
    for form, wide in by_form.items():
        entry(bases[form], wide)
    for cost_class, points in sorted(by_class.items()):
        form = _FORMS.get(cost_class, "cpu_stream")
        if len(points) < FEW:
            classes[cost_class] = [_entry(bases[form])]
            continue
        whole = _fit(form, points, device, bases[form].constants)
        classes[cost_class] = entry(whole, points)
        kinds = sorted({p.kind for p in points})
        if form not in ("cpu_stream", "cpu_recurrence") or len(kinds) < 2:
            continue
        for kind in kinds:
            alike = [p for p in points if p.kind == kind]
            if len(alike) >= (FEW if form == "cpu_stream" else FEW // 2):
                classes[f"{cost_class}.{kind}"] = entry(_fit(form, alike, device, whole.constants), alike)
    if "elementwise" not in classes:
        classes["elementwise"] = [_entry(bases["cpu_stream"])]
    for name, entries in classes.items():
        slows = taken.slows.get(name.partition(".")[0], EXPECTED)
        for each in entries:
            each["slows"] = [round(s, 3) for s in slows]
    return {
        "runtime": taken.runtime, "threads": taken.threads, "ops_per_s": taken.ops_per_s,
        "bytes_per_s": taken.bytes_per_s, "cache_bytes": cache_bytes,
        "host": {
            **host_of(taken.whole), "page_s": taken.page_s, "error": round(_whole_error(taken, left_out), 4),
            "slows": list(taken.slows.get("call", EXPECTED)),
        },
        "pulse_s": [taken.usual.alone, taken.usual.together],
        "classes": classes,
    }  # fmt: skip


def _whole_error(taken: Taken, left_out: Mapping[int, float]) -> float:
    """Log standard deviation of whole networks that were left out: errors of operators cancel in part."""
    sums: dict[str, list[float]] = {}
    for point in taken.points:
        at = sums.setdefault(point.probe, [0.0, 0.0])
        at[0] += point.seconds
        at[1] += left_out.get(id(point), point.seconds)
    return conformal([np.log(measured / predicted) for measured, predicted in sums.values()])


def _fit(
    form: str, points: Sequence[Point], device: Device, start: Mapping[str, float] | None, *,
    residual: bool = True, folds: int = 4,
) -> Fitted:  # fmt: skip
    chosen = FORMS[form]
    rows = Rows(
        sizes={k: np.array([p.sizes[k] for p in points]) for k in chosen.sizes},
        seconds=np.array([p.seconds for p in points]),
    )
    # a probe is left out whole: its operators share what disturbed it
    names = {name: i for i, name in enumerate(dict.fromkeys(p.probe for p in points))}
    groups = np.array([names[p.probe] % folds for p in points]) if folds else np.zeros(len(points))
    return fit(chosen, rows, device, start=start, residual=residual and len(points) >= ENOUGH, groups=groups,
               points=80)  # fmt: skip


def _entry(found: Fitted) -> dict[str, Any]:
    """A curve as its file holds it."""
    entry: dict[str, Any] = {
        "form": found.form.name,
        "constants": {k: float(f"{v:.5g}") for k, v in found.constants.items()},
        # where too few were timed to leave any out, nothing is known of the error but that it may be large
        "error": round(found.errors["all"], 4) if np.isfinite(found.errors["all"]) else UNKNOWN,
        "rows": found.rows,
        "known": "fitted",
    }
    if found.residual is not None:
        residual = found.residual
        entry["correction"] = {
            "scales": _line(residual.scales), "weights": _line(residual.weights),
            **{f"x{i}": _line(residual.points[:, i]) for i in range(residual.points.shape[1])},
        }  # fmt: skip
    return entry


def _line(values: Iterable[float]) -> str:
    return " ".join(f"{float(v):.5g}" for v in values)


def host_of(whole: Sequence[tuple[int, int, float, float]]) -> dict[str, float]:
    """Seconds of a call, a kernel and a view beside the kernels, by least relative squares that few outliers
    move. A kernel's may be negative: to time it alone takes time too, which its runs hold.

    Args:
        whole: (kernels, views, seconds of a call, seconds of its kernels) of each network.
    """
    rows = np.array(whole, float)
    apart = np.stack([np.ones(len(rows)), rows[:, 0], rows[:, 1]], 1) / rows[:, 2:3]
    target = (rows[:, 2] - rows[:, 3]) / rows[:, 2]
    kept = list(range(3))
    found = np.zeros(3)
    while True:
        weights, solved = np.ones(len(rows)), np.zeros(len(kept))
        for _ in range(8):
            root = np.sqrt(weights)[:, None]
            solved = np.linalg.lstsq(apart[:, kept] * root, target * root[:, 0], rcond=None)[0]
            weights = 1 / (1 + ((apart[:, kept] @ solved - target) / 0.5) ** 2)
        below = [k for k, v in zip(kept, solved, strict=True) if v < 0 and k != 1]
        if below:
            kept.remove(below[0])
        elif 1 in kept and solved[kept.index(1)] < -TRACED:
            # a kernel is told apart from its network's noise no better than that
            found[1] = -TRACED
            target = target + TRACED * apart[:, 1]
            kept.remove(1)
        else:
            found[kept] = solved
            break
    return {"call_s": float(found[0]), "kernel_s": float(found[1]), "view_s": float(found[2])}


def _data(
    machine: Here, before: Noise, after: Noise, runs: list[dict[str, Any]], taken: list[Taken], number: int,
    budget: float, seed: int,
) -> dict[str, Any]:  # fmt: skip
    at = datetime.now(UTC).isoformat(timespec="seconds")
    top = max(taken, key=lambda t: t.threads)
    source = f"measured on {machine.cpu}, {at}"
    return {
        "schema": SCHEMA,
        "taken": {
            "at": at, "machine": asdict(machine), "noise": [asdict(before), asdict(after)], "probes": number,
            "budget_s": budget, "seed": seed,
        },
        "machine": {
            "id": HERE, "name": machine.cpu, "kind": "cpu", "source": source,
            "peaks": {"fp32": {"ops_per_s": top.ops_per_s, "unit": "vector"}},
            "cores": {"count": machine.cores},
            "memory": {
                "main": {"usable_bytes": machine.memory_bytes, "bandwidth_bytes_per_s": top.bytes_per_s},
                "cache": {"capacity_bytes": machine.caches.get("L2")},
            },
        },
        "runs": runs,
        "points": [
            {"runtime": t.runtime, "threads": t.threads, **asdict(p)} for t in taken for p in t.points
        ],
        "whole": [
            {"runtime": t.runtime, "threads": t.threads, "kernels": k, "views": v, "whole_s": w, "apart_s": s}
            for t in taken for k, v, w, s in t.whole
        ],
    }  # fmt: skip


def write(found: Found, path: Path) -> None:
    """Writes the file whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    text = json.dumps(found.data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(path)) from None
