"""Measure: a model run on this machine, whole and by operator, beside what was predicted of it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from typing import Any

from pharos.graph.count import Count, Line, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.measure.devices import Cpu, Device, drift, joules_of, sample, settle
from pharos.measure.here import Here, Noise, here, noise
from pharos.measure.peaks import Peaks, predicted_memory
from pharos.measure.pulse import Pulse
from pharos.measure.reasons import Alone, alone, reason
from pharos.measure.runs import Pieces, Runnable, runnable
from pharos.measure.timing import Timing, interleaved
from pharos.measure.unique import Between, Composed, compose, spread_of
from pharos.passes.fuse import kernels
from pharos.predict.estimate import Estimate, Operation
from pharos.predict.memory import Memory

# Operators whose difference is looked into by running them alone: the largest, of at least this share of all.
LOOKED_INTO, WORTH = 3, 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """One operator: seconds of all its runs together, as measured and as predicted.

    Args:
        predicted: None where nothing was predicted.
        reason: what the figures say about a difference.
        spread: half the way from the 10th to the 90th percentile of a run, as a share of the middle.
    """

    name: str
    kind: str
    cost_class: str
    times: int
    seconds: float
    predicted: float | None = None
    reason: str = ""
    spread: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What `pharos measure` found.

    Args:
        timing: of the whole model; operators: of its parts, slowest first, empty where the runtime does
            not tell them apart.
        summed: seconds of the parts added up; copies: seconds a call that the runtime moves tensors between
            layouts.
        composed: the whole put together of distinct kernels; None if that was not asked for.
        peaks: the most memory, and memory what was predicted of it; energy_J: of a run, None without a
            counter.
        pulse_s: the machine's pulse while operators were timed, of one core and of all in use (see `pulse`);
            empty where it was not taken.
        clock_hz: of the device's cores after measuring, clock_drift how far it moved; None where nothing
            says.
        whole: False where only distinct kernels were run; then `timing` holds what was composed.
    """

    model: str
    runtime: str
    threads: int
    device: str
    device_name: str
    workload: Workload
    machine: Here
    noise: Noise
    taken_at: str
    timing: Timing
    operators: tuple[Measured, ...]
    summed: float | None
    composed: Composed | None
    peaks: Peaks | None
    memory: Memory
    energy_J: float | None
    energy_of: str
    copies: float = 0.0
    pulse_s: tuple[float, ...] = ()
    clock_hz: float | None = None
    clock_drift: float | None = None
    whole: bool = True
    estimate: Estimate | None = field(default=None)


def measure(
    graph: Graph, workload: Workload, *, model: str, runtime: str = "eager", threads: int | None = None,
    device: Device | None = None, seconds: float = 4.0, unique: bool = False, whole: bool = True,
    between: Between | None = None, estimate: Estimate | None = None,
    at_pulse: Callable[[tuple[float, ...]], Estimate | None] | None = None,
    tick: Callable[[float], None] | None = None,
) -> Measurement:  # fmt: skip
    """Runs a graph on this machine with random weights and inputs.

    Args:
        threads: cores to use; all that this process may if left out.
        device: the processor if left out.
        seconds: to spend on timing the whole; about as much again goes to the operators.
        unique: time each distinct kernel once and compose them; whole: run the whole (too).
        between: what the runtime takes beside kernels, for composing.
        estimate: of the same graph, to set beside it.
        at_pulse: the estimate for the machine at the pulse it had, where it takes one; see `measure.pulse`.

    Raises:
        InputError: a runtime that is missing, or a graph that cannot be run.
    """
    machine, device = here(), device or Cpu()
    cores = threads or machine.cores
    quiet = noise()
    counted = count(graph)
    composed = (
        compose(graph, counted, runtime, cores, seconds, device=device, between=between) if unique else None
    )
    peaks = energy = None
    clocks: list[float | None] = []
    taken, pulse_s = Pieces(), ()
    if whole or composed is None:
        with runnable(graph, runtime, cores, device=device) as made:
            settle(device, made.call)
            clocks.append(device.clock_hz())
            timing = interleaved({"whole": made.call}, seconds=seconds, tick=tick,
                                 by=partial(sample, device))["whole"]  # fmt: skip
            clocks.append(device.clock_hz())
            taken, pulse_s = _taken(made, seconds, timing, device, cores)
            peaks = device.peaks(made.anew or made.call, made.settled, allocator=made.anew is None)
            energy = joules_of(device, made.call, timing.median)
            clocks.append(device.clock_hz())
    else:
        timing = Timing((composed.total_s,))
    if pulse_s and at_pulse is not None:
        estimate = at_pulse(pulse_s) or estimate
    if taken:
        rows = _rows(graph, counted, taken, estimate, runtime, cores, device)
    else:
        rows = _composed_rows(counted, composed, estimate, cores) if composed is not None else []
    return Measurement(
        model=model, runtime=runtime, threads=cores, device=device.kind, device_name=device.name,
        workload=workload, machine=machine, noise=quiet,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"), timing=timing, operators=tuple(rows),
        summed=sum(taken.at().values()) if taken else None, composed=composed, peaks=peaks,
        memory=predicted_memory(counted, runtime, device.kind), energy_J=energy, energy_of=device.covers,
        copies=taken.copies, pulse_s=pulse_s, clock_hz=clocks[-1] if clocks else None,
        clock_drift=drift(clocks), whole=whole or composed is None, estimate=estimate,
    )  # fmt: skip


def _taken(
    made: Runnable, seconds: float, timing: Timing, device: Device, threads: int
) -> tuple[Pieces, tuple[float, ...]]:
    """Samples of operators, and the processor's pulse beside them."""
    if made.samples is None:
        return Pieces(), ()
    rounds = max(3, min(int(seconds / max(timing.median, 1e-6)), 50))
    if device.kind != "cpu" or find_spec("torch") is None:
        return made.samples(rounds), ()
    pulse = Pulse.of(threads if made.runtime == "eager" else 1)
    taken = made.samples(rounds, pulse.beat)
    usual = pulse.usual()
    return taken, (usual.alone, usual.together)


def _rows(
    graph: Graph, counted: Count, taken: Pieces, estimate: Estimate | None, runtime: str, threads: int,
    device: Device,
) -> list[Measured]:  # fmt: skip
    """Measured operators by their folded names, each with what was predicted of its kernel."""
    names = counted.written_out()
    folded = _folded(names, taken.at())
    if runtime == "onnxruntime":
        # the runtime joins operators and calls what is joined after any of them
        _to_leads(counted, folded)
    spreads = {name: max((spread_of(taken, n) for n in each), default=0.0) for name, each in names.items()}
    copied = {name for name, each in names.items() if taken.copied.intersection(each)}
    told = _told(estimate, {name: found for name, (found, _) in folded.items()})
    looked = _looked_into(graph, told, runtime, threads, device)
    rows = []
    for line in counted.lines:
        seconds, times = folded.get(line.name, (0.0, 0))
        if not times:
            continue
        predicted, why = None, ""
        if line.name in told:
            operation, whole, predicted = told[line.name]
            if operation is not None:
                assert estimate is not None
                why = reason(operation, whole / float(operation.kernel.times), estimate,
                             spread=spreads[line.name], copied=line.name in copied, threads=threads,
                             by_itself=looked.get(line.name))  # fmt: skip
        rows.append(Measured(line.name, line.kind, line.cost_class, times, seconds, predicted, why,
                             spreads[line.name]))  # fmt: skip
    return sorted(rows, key=lambda row: -row.seconds)


Told = dict[str, tuple[Operation | None, float, float | None]]


def _told(estimate: Estimate | None, folded: Mapping[str, float]) -> Told:
    """By the name of an operator: the kernel that it leads, seconds measured of that, and predicted."""
    found: Told = {}
    for operation in estimate.operations if estimate is not None else ():
        inside = [line.name for line in operation.kernel.lines]
        whole = sum(folded.get(name, 0.0) for name in inside)
        # what a kernel was predicted to take is its leading operator's, the rest joins it
        found |= dict.fromkeys(inside, (None, 0.0, None))
        if operation.total_s is not None and whole:
            found[inside[0]] = (operation, whole, float(operation.total_s))
    return found


def _looked_into(graph: Graph, told: Told, runtime: str, threads: int, device: Device) -> dict[str, Alone]:
    """The kernels of the largest differences, each run by itself."""
    all_of_it = sum(whole for _, whole, _ in told.values())
    gaps = [
        (abs(whole - predicted), name, operation)
        for name, (operation, whole, predicted) in told.items()
        if operation is not None and predicted is not None and abs(whole - predicted) > WORTH * all_of_it
    ]
    largest = sorted(gaps, key=lambda gap: -gap[0])[:LOOKED_INTO]
    if runtime == "compiled":
        return {}
    return {name: alone(each.kernel, graph, runtime, threads, device) for _, name, each in largest}


def _composed_rows(
    counted: Count, composed: Composed, estimate: Estimate | None, threads: int
) -> list[Measured]:
    """Kernels as they were timed once, with as many runs as they have."""
    lines = {line.name: line for line in counted.lines}
    seconds = {name: once * int(lines[name].times) for name, once in composed.pieces.items()}
    told = _told(estimate, seconds)
    rows = []
    for name, whole in seconds.items():
        line = lines[name]
        operation, _, predicted = told.get(name, (None, 0.0, None))
        spread = composed.spreads[name]
        why = ""
        if operation is not None and estimate is not None:
            why = reason(operation, composed.pieces[name], estimate, spread=spread, threads=threads)
        rows.append(Measured(name, line.kind, line.cost_class, int(line.times), whole, predicted, why,
                             spread))  # fmt: skip
    return sorted(rows, key=lambda row: -row.seconds)


def _to_leads(counted: Count, folded: dict[str, tuple[float, int]]) -> None:
    """Gives what was measured of any operator of a fused kernel to the one that leads it."""
    for kernel in kernels(counted, fused=True):
        names = [line.name for line in kernel.lines]
        found = [folded.pop(name, (0.0, 0)) for name in names]
        runs = max(times for _, times in found)
        folded[names[0]] = (sum(seconds for seconds, _ in found), runs)


def _folded(names: Mapping[str, list[str]], pieces: Mapping[str, float]) -> dict[str, tuple[float, int]]:
    """(seconds over all rounds, rounds) of each line; pieces are named as they are written out."""
    return {
        folded: (sum(pieces.get(n, 0.0) for n in each), sum(1 for n in each if n in pieces))
        for folded, each in names.items()
    }


def row(found: Measurement) -> dict[str, Any]:
    """The row of a run in the store."""
    timing = found.timing
    predicted = None if found.estimate is None else found.estimate.latency
    return {
        "taken_at": found.taken_at, "model": found.model, "runtime": found.runtime, "threads": found.threads,
        "workload": {"phase": found.workload.phase, "batch": found.workload.batch,
                     "context": found.workload.context, "precision": str(found.workload.precision)},
        "machine": asdict(found.machine), "median_s": timing.median, "low_s": timing.share(0.1),
        "high_s": timing.share(0.9), "samples": len(timing.samples), "quiet": int(found.noise.is_quiet),
        "peak_bytes": None if found.peaks is None else found.peaks.system, "energy_J": found.energy_J,
        "device": found.device, "pulse_s": list(found.pulse_s),
        "predicted_s": None if predicted is None or predicted.value is None else float(predicted.value),
    }  # fmt: skip


def operator_rows(found: Measurement, counted: Count) -> list[dict[str, Any]]:
    """The rows of its operators in the store, with the sizes that a profile is fitted on."""
    lines: dict[str, Line] = {line.name: line for line in counted.lines}
    made = []
    for each in found.operators:
        line = lines[each.name]
        sizes = {
            "inputs": [list(t.shape) for t in line.node.ins],
            "outputs": [list(t.shape) for t in line.node.outs],
            "macs": line.work.macs,
            "traffic_bytes": line.traffic.total,
        }
        made.append({"name": each.name, "kind": each.kind, "cost_class": each.cost_class, "sizes": sizes,
                     "seconds": each.seconds / each.times})  # fmt: skip
    return made
