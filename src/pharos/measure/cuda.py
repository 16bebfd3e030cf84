"""CUDA calibration: the profile of a GPU, from single operators timed cold in CUDA graphs."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any, Protocol

import numpy as np

from pharos.facts.reading import Document
from pharos.graph.count import count
from pharos.graph.graph import Graph
from pharos.machines.calibration import SCHEMA
from pharos.machines.machine import HERE_CUDA, Machine, read_machine
from pharos.machines.profile import Profile, profile_of
from pharos.measure.calibrate import BUSY, Found
from pharos.measure.cuda_probes import cuda_probes, single, tiny
from pharos.measure.devices import Cuda, drift, sample
from pharos.measure.fit import Fitted, Rows, fit
from pharos.measure.here import here, noise
from pharos.measure.runs import runnable
from pharos.ops.activation import Activation
from pharos.ops.linear import Linear
from pharos.passes.fuse import kernels
from pharos.predict.kernel import TRANSCENDENTAL_FLOPS, constants_of, variant
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device
from pharos.predict.kernels.shapes import sizes_of
from pharos.quantity.errors import InputError

BUDGET, MEASURING = 90.0, 0.75
# Rows from which a class and type gets a curve of its own, and a smooth correction on it.
FEW, ENOUGH = 8, 24
# Replays of a graph, of which the middle one counts, and calls in it at most; seconds that one takes about.
REPLAYS, CALLS, REPLAY_S = 7, 64, 2e-3
# What a probe reads is rotated until it is so many times the last cache, in copies of at most so many.
CACHES, COPIES = 2.0, 16
# A clock that moves by more while a probe is timed spoils it; it is timed again so many times.
MOVED, AGAIN = 0.02, 2
SENT = 200
LEAST_ERROR = 0.03
SIXTEEN = ("bf16", "fp16")
_FORMS = {"gemm": "gemm", "pointwise": "gemm", "conv": "conv", "grouped_conv": "conv", "gather": "gather"}

# Dense operations a cycle and SM, by compute capability and type; fp32 and fp64 without tensor cores but for
# fp64 of 8.0 and 9.0. Source: NVIDIA's white papers of Volta (2017), Turing (2018), Ampere GA100 and GA102
# (2020), Ada (2022), Hopper (2022), Blackwell (2025), peaks over SMs and boost clock.
PER_CYCLE = {
    (7, 0): {"fp16": 1024, "fp32": 128, "fp64": 64},
    (7, 5): {"fp16": 1024, "int8": 2048, "fp32": 128},
    (8, 0): {"fp16": 2048, "bf16": 2048, "tf32": 1024, "int8": 4096, "fp32": 128, "fp64": 128},
    (8, 6): {"fp16": 1024, "bf16": 1024, "tf32": 512, "int8": 2048, "fp32": 256},
    (8, 9): {"fp16": 1024, "bf16": 1024, "tf32": 512, "fp8": 2048, "int8": 2048, "fp32": 256},
    (9, 0): {"fp16": 4096, "bf16": 4096, "tf32": 2048, "fp8": 8192, "int8": 8192, "fp32": 256, "fp64": 256},
    (10, 0): {"fp16": 8192, "bf16": 8192, "tf32": 4096, "fp8": 16384, "int8": 16384, "fp32": 256},
    (12, 0): {"fp16": 1024, "bf16": 1024, "tf32": 512, "fp8": 2048, "int8": 2048, "fp32": 256},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A GPU as it describes itself.

    Args:
        units: SMs; peaks: dense operations/s by type, as specified; bytes_per_s: of its memory, as specified,
            None where it does not say; cache_bytes: of its last cache.
        tf32: convolutions of 32-bit numbers run on tensor cores, as PyTorch has it by default.
    """

    name: str
    capability: tuple[int, int]
    units: int
    clock_hz: float | None
    peaks: dict[str, float]
    bytes_per_s: float | None
    cache_bytes: float
    memory_bytes: int
    max_W: float | None = None
    driver: str | None = None
    tf32: bool = False


class Bench(Protocol):
    """What calibrating asks of a GPU."""

    def figures(self) -> Figures:
        """What it is."""
        ...

    def kernel_s(self, graph: Graph) -> tuple[float, float | None]:
        """Seconds of one call of a graph of one operator, with nothing of it in the caches, launched in a
        CUDA graph; and how far the clock moved meanwhile."""
        ...

    def host_s(self, graph: Graph) -> tuple[float, float]:
        """Seconds that the host takes to send a graph's operator off, and from a call to its end."""
        ...

    def graph_s(self, graph: Graph) -> float:
        """Seconds from the launch of a CUDA graph of it to its end."""
        ...

    def state(self) -> dict[str, float | None]:
        """Clock, power and temperature now."""
        ...


class CudaBench:
    """A GPU that is there."""

    def __init__(self, device: Cuda) -> None:
        self.device = device
        self._figures = self.figures()

    def figures(self) -> Figures:
        """By PyTorch and NVML."""
        import torch

        seen, nvml = self.device.properties, self.device.nvml
        capability = (int(seen.major), int(seen.minor))
        clock = (nvml.most_clock_hz() if nvml is not None else None) or _khz(seen, "clock_rate")
        memory = (nvml.memory_hz() if nvml is not None else None) or _khz(seen, "memory_clock_rate")
        bits = (nvml.bus_bits() if nvml is not None else None) or getattr(seen, "memory_bus_width", None)
        units = int(seen.multi_processor_count)
        rates = PER_CYCLE.get(capability) or PER_CYCLE.get((capability[0], 0)) or {}
        return Figures(
            name=str(seen.name), capability=capability, units=units, clock_hz=clock,
            peaks={dtype: rate * units * clock for dtype, rate in rates.items()} if clock else {},
            # two bits a cycle and line
            bytes_per_s=2 * memory * bits / 8 if memory and bits else None,
            cache_bytes=float(getattr(seen, "L2_cache_size", 0) or 0), memory_bytes=int(seen.total_memory),
            max_W=nvml.limit_watts() if nvml is not None else None,
            driver=nvml.driver() if nvml is not None else None, tf32=bool(torch.backends.cudnn.allow_tf32),
        )  # fmt: skip

    def kernel_s(self, graph: Graph) -> tuple[float, float | None]:
        """By replays of a graph that goes through copies of the operator and its inputs in turn."""
        import torch

        device, nbytes = self.device, count(graph).traffic_per_op
        assert isinstance(nbytes, (int, float))
        copies = max(1, min(COPIES, int(CACHES * self._figures.cache_bytes / max(nbytes, 1)) + 1))
        with torch.inference_mode(), _several(graph, device, copies) as calls:
            for call in calls:
                call()
            device.finish()
            once = max(sample(device, calls[0], 3), 2e-6)
            turns = max(1, min(CALLS, int(REPLAY_S / once)) // copies) * copies if once < REPLAY_S else copies

            def row() -> None:
                for i in range(turns):
                    calls[i % copies]()

            try:
                run = device.captured(row)
            except InputError:
                run = row
            run()
            device.finish()
            clocks = [device.clock_hz()]
            times = [sample(device, run, 1) / turns for _ in range(REPLAYS)]
            clocks.append(device.clock_hz())
        return median(times), drift(clocks)

    def host_s(self, graph: Graph) -> tuple[float, float]:
        """By many calls in a row, and by single ones that are waited for."""
        import torch

        with torch.inference_mode(), _several(graph, self.device, 1) as (call,):
            for _ in range(SENT // 4):
                call()
            self.device.finish()
            start = time.perf_counter()
            for _ in range(SENT):
                call()
            sent = (time.perf_counter() - start) / SENT
            self.device.finish()
            alone = []
            for _ in range(SENT // 4):
                start = time.perf_counter()
                call()
                self.device.finish()
                alone.append(time.perf_counter() - start)
        return sent, median(alone)

    def graph_s(self, graph: Graph) -> float:
        """By single launches that are waited for."""
        import torch

        with torch.inference_mode(), _several(graph, self.device, 1) as (call,):
            run = self.device.captured(call)
            alone = []
            for _ in range(SENT // 4):
                start = time.perf_counter()
                run()
                self.device.finish()
                alone.append(time.perf_counter() - start)
        return median(alone)

    def state(self) -> dict[str, float | None]:
        """By NVML."""
        nvml = self.device.nvml
        if nvml is None:
            return {}
        return {"clock_hz": nvml.clock_hz(), "power_W": nvml.watts(), "celsius": nvml.celsius()}


class _several:  # noqa: N801 (a context manager)
    """Calls of copies of a graph, each with weights and inputs of its own."""

    def __init__(self, graph: Graph, device: Cuda, copies: int) -> None:
        self._graph, self._device, self._copies = graph, device, copies
        self._open: list[Any] = []

    def __enter__(self) -> list[Callable[[], Any]]:
        calls = []
        for seed in range(self._copies):
            made = runnable(self._graph, "eager", 1, seed, self._device)
            ready = made.__enter__()
            self._open.append(made)
            calls.append(_plain(ready.module, ready.inputs))
        return calls

    def __exit__(self, *error: object) -> None:
        for made in reversed(self._open):
            made.__exit__(*error)
        self._open.clear()


def _plain(module: Any, inputs: Any) -> Callable[[], Any]:
    return lambda: module(*inputs)


def _khz(properties: Any, name: str) -> float | None:
    found = getattr(properties, name, None)
    return 1e3 * float(found) if found else None


@dataclass(frozen=True, slots=True)
class Point:
    """One operator that was timed; `phase` of attention."""

    cost_class: str
    kind: str
    dtype: str
    phase: str | None
    sizes: dict[str, float]
    seconds: float


@dataclass(slots=True)
class _Taken:
    points: list[Point] = field(default_factory=list)
    dropped: int = 0
    failed: dict[str, int] = field(default_factory=dict)


def calibrate_cuda(
    device: Cuda | None = None, *, bench: Bench | None = None, budget: float = BUDGET, force: bool = False,
    seed: int = 0, tick: Callable[[str, float], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Found:  # fmt: skip
    """Times operators on a GPU and fits the closed forms of `predict.kernels` to them.

    Args:
        bench: what times them, the device by default. budget: seconds for everything.
        force: go on although other processes keep the host busy.
        tick: told what is being done and the share of the budget that is over.

    Raises:
        InputError: too busy a host, or a GPU on which nothing could be timed.
    """
    began = clock()
    if bench is None:
        if device is None:
            raise ValueError("calibrate_cuda needs a device or a bench")
        bench = CudaBench(device)
    before = noise(0.3)
    if before.others > BUSY and not force:
        raise InputError(f"the host is too busy for its GPU to be measured: {before}",
                         hint="stop what else runs, or give --force")  # fmt: skip

    def told(what: str) -> None:
        if tick is not None:
            tick(what, min((clock() - began) / budget, 1.0))

    figures = bench.figures()
    narrow = "bf16" if "bf16" in figures.peaks or not figures.peaks else "fp16"
    told("host")
    host = _host(bench, narrow)
    states = [bench.state()]
    told("ceilings")
    machine, best = _machine(bench, figures, narrow)
    taken, number = _Taken(), 0
    for number, graph in enumerate(cuda_probes(seed, narrow), 1):
        told(f"operator {number}: {graph.name}")
        _probe(bench, graph, taken, machine)
        if clock() - began > MEASURING * budget:
            break
    states.append(bench.state())
    if not taken.points:
        told_why = ", ".join(f"{why}: {n}" for why, n in taken.failed.items())
        raise InputError(f"nothing could be timed on {figures.name} ({told_why})")
    told("fitting")
    classes = _classes(taken.points, machine, figures)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    after = noise(0.3)
    data = {
        "schema": SCHEMA,
        "taken": {
            "at": at, "machine": asdict(here()), "gpu": asdict(figures), "best": best, "states": states,
            "noise": [asdict(before), asdict(after)], "probes": number, "dropped": taken.dropped,
            "failed": taken.failed, "budget_s": budget, "seed": seed,
        },
        "machine": _section(
            figures, {d: p.ops_per_s.value or 0.0 for d, p in machine.peaks.items()},
            machine.bandwidth_bytes_per_s.value or 0.0, at,
        ),
        "runs": [
            {"runtime": name, "threads": 1, "ops_per_s": machine.peak(narrow).value,
             "bytes_per_s": machine.bandwidth_bytes_per_s.value, "cache_bytes": figures.cache_bytes,
             "host": host[name], "classes": classes}
            for name in ("eager", "compiled")
        ],
        "points": [asdict(p) for p in taken.points],
        "whole": [],
    }  # fmt: skip
    told("done")
    return Found(data, before, after)


def _host(bench: Bench, narrow: str) -> dict[str, dict[str, float]]:
    """What each runtime takes beside its kernels.

    Eager: the host sends kernels off one by one, and waits for the last. Compiled: one launch; the gap
    between its kernels is in their times, which are taken in graphs.
    """
    sent, alone, launched, kernel = [], [], [], []
    for graph in tiny(narrow):
        one, end = bench.host_s(graph)
        sent.append(one)
        alone.append(end)
        launched.append(bench.graph_s(graph))
        kernel.append(bench.kernel_s(graph)[0])
    per_op, nothing = median(sent), {"kernel_s": 0.0, "view_s": 0.0}
    return {
        "eager": {"host_s": per_op, "call_s": max(median(alone) - per_op - median(kernel), 0.0), **nothing},
        "compiled": {"call_s": max(median(launched) - median(kernel), 0.0), **nothing},
    }  # fmt: skip


def _machine(bench: Bench, figures: Figures, narrow: str) -> tuple[Machine, dict[str, float]]:
    """The machine with specified ceilings, or measured ones where none are; and the best rates seen."""
    side = 8192 if figures.memory_bytes > 8e9 else 4096
    best = {}
    for dtype in (narrow, "fp32"):
        seconds, _ = bench.kernel_s(single("ceiling", Linear(side, side, bias=False), [(side, side)], dtype))
        best[dtype] = 2 * side**3 / seconds
    wide = 2**28 if figures.memory_bytes > 8e9 else 2**26
    seconds, _ = bench.kernel_s(single("ceiling", Activation("relu"), [(wide // 1024, 1024)], narrow))
    best["bytes"] = 4 * wide / seconds
    # what is reached is a share of the peak: one that is exceeded is none
    peaks = {dtype: max(rate, best.get(dtype, 0.0) / 0.95) for dtype, rate in figures.peaks.items()}
    peaks |= {dtype: rate / 0.8 for dtype, rate in best.items() if dtype != "bytes" and dtype not in peaks}
    width = max(figures.bytes_per_s or 0.0, best["bytes"] / 0.95)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return read_machine(Document(_section(figures, peaks, width, at), HERE_CUDA, {})), best


def _section(figures: Figures, peaks: dict[str, float], width: float, at: str) -> dict[str, Any]:
    """The machine as its file holds it."""
    return {
        "id": HERE_CUDA, "name": figures.name, "kind": "gpu",
        "source": f"{figures.name} as it describes itself, {at}; peaks by its compute capability",
        "peaks": {
            d: {"ops_per_s": rate, "unit": "vector" if d == "fp32" else "matrix"} for d, rate in peaks.items()
        },
        "cores": {"count": figures.units, **({"boost_hz": figures.clock_hz} if figures.clock_hz else {})},
        "memory": {"main": {"usable_bytes": figures.memory_bytes, "bandwidth_bytes_per_s": width},
                   "cache": {"capacity_bytes": figures.cache_bytes}},
        **({"power": {"max_W": figures.max_W}} if figures.max_W else {}),
    }  # fmt: skip


def _probe(bench: Bench, graph: Graph, taken: _Taken, machine: Machine) -> None:
    """Times one operator; what does not fit or run, or runs on a moving clock, is left out and counted."""
    try:
        seconds, moved = bench.kernel_s(graph)
        for _ in range(AGAIN):
            if moved is None or moved <= MOVED:
                break
            seconds, moved = bench.kernel_s(graph)
    except (RuntimeError, InputError) as error:
        # out of memory, or a kernel that this GPU has not
        why = type(error).__name__
        taken.failed[why] = taken.failed.get(why, 0) + 1
        return
    if moved is not None and moved > MOVED:
        taken.dropped += 1
        return
    point = point_of(graph, seconds, machine)
    if point is not None:
        taken.points.append(point)


def point_of(graph: Graph, seconds: float, machine: Machine) -> Point | None:
    """An operator's row for its form; None where that does not describe it."""
    (kernel,) = kernels(count(graph), fused=False)
    lead = kernel.lead
    phase = None
    if lead.cost_class == "attention":
        phase = "decode" if lead.node.ins[0].shape[2] == 1 else "prefill"
    # the same figure that predicting takes: vector work at the fp32 peak
    scalar = kernel.work.vector_flops + TRANSCENDENTAL_FLOPS * kernel.work.transcendentals
    sizes = sizes_of(_form(lead.cost_class, phase), kernel, machine.vector_peak("fp32").value, scalar)
    if sizes is None:
        return None
    plain = {k: float(v) for k, v in sizes.items()}  # type: ignore[arg-type]
    return Point(lead.cost_class, variant(lead.node.op), graph.precision.activations, phase, plain, seconds)


def _form(cost_class: str, phase: str | None) -> str:
    if cost_class == "attention":
        return phase or "prefill"
    return _FORMS.get(cost_class, "stream")


def _classes(points: Sequence[Point], machine: Machine, figures: Figures) -> dict[str, list[dict[str, Any]]]:
    """Curves by class, one for each type and phase that was timed."""
    groups: dict[tuple[str, str, str | None], list[Point]] = {}
    for point in points:
        width = "narrow" if point.dtype in SIXTEEN else point.dtype
        groups.setdefault((point.cost_class, width, point.phase), []).append(point)
    prior = profile_of(machine)
    found: dict[str, list[dict[str, Any]]] = {}
    for (cost_class, width, phase), alike in sorted(groups.items(), key=str):
        if len(alike) < FEW:
            continue
        dtypes: list[str] = [*SIXTEEN] if width == "narrow" else [width]
        as_tf32 = cost_class in ("conv", "grouped_conv", "pointwise") and width == "fp32" and figures.tf32
        peak_dtype = "tf32" if as_tf32 and machine.peak("tf32").value else None
        peak = machine.peak(peak_dtype or alike[0].dtype).value
        width_bytes, units = machine.bandwidth_bytes_per_s.value, machine.cores.value
        if not peak or not width_bytes or not units:
            continue
        device = Device(units=units, ops_per_s=peak, bytes_per_s=width_bytes, cache_bytes=figures.cache_bytes)
        form = FORMS[_form(cost_class, phase)]
        rows = Rows(sizes={k: np.array([p.sizes[k] for p in alike]) for k in form.sizes},
                    seconds=np.array([p.seconds for p in alike]))  # fmt: skip
        start = _start(prior, cost_class, alike[0].dtype, phase, form.name, device)
        made = fit(form, rows, device, start=start, residual=len(alike) >= ENOUGH, points=80)
        entry = _entry(made, dtypes)
        if phase == "decode":
            entry["phase"] = phase
        if peak_dtype:
            entry["peak_dtype"] = peak_dtype
        found.setdefault(cost_class, []).append(entry)
    return found


def _start(
    prior: Profile, cost_class: str, dtype: str, phase: str | None, form: str, device: Device
) -> dict[str, float] | None:
    """Constants that other GPUs lead to expect; None where none were measured."""
    try:
        curves = prior.curves(cost_class, dtype, phase or "forward")
    except InputError:
        return None
    curve = next((c for c in curves if c.form == form and dtype in c.dtypes), None)
    return None if curve is None else constants_of(curve, device)


def _entry(found: Fitted, dtypes: list[str]) -> dict[str, Any]:
    """A curve as a calibration's file holds it."""
    errors = {k: round(max(v, LEAST_ERROR), 4) for k, v in found.errors.items() if np.isfinite(v)}
    entry: dict[str, Any] = {
        "dtypes": dtypes, "form": found.form.name,
        "constants": {k: float(f"{v:.5g}") for k, v in found.constants.items()},
        "error": errors.pop("all", 0.7), "errors": errors, "rows": found.rows, "known": "fitted",
        "held_out": {"mean": _percent(found.mape), "median": _percent(found.median)},
    }  # fmt: skip
    if found.residual is not None:
        points = found.residual.points
        entry["correction"] = {
            "scales": _line(found.residual.scales), "weights": _line(found.residual.weights),
            **{f"x{i}": _line(points[:, i]) for i in range(points.shape[1])},
        }  # fmt: skip
    return entry


def _percent(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _line(values: Iterable[float]) -> str:
    return " ".join(f"{float(v):.5g}" for v in values)
