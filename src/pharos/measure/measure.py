"""Measure: a model run on this machine, whole and by operator, beside what was predicted of it."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from pharos.graph.count import Count, Line, count
from pharos.graph.graph import Graph, Node
from pharos.graph.workload import Workload
from pharos.measure.here import Here, Noise, here, noise
from pharos.measure.meters import EnergyMeter, peak_resident
from pharos.measure.runs import runnable
from pharos.measure.timing import Timing, interleaved
from pharos.passes.fuse import kernels
from pharos.predict.estimate import Estimate


@dataclass(frozen=True, slots=True)
class Measured:
    """One operator: seconds of all its runs together, as measured and as predicted.

    Args:
        predicted: None where nothing was predicted.
        reason: what the figures say about a difference.
    """

    name: str
    kind: str
    cost_class: str
    times: int
    seconds: float
    predicted: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What `pharos measure` found.

    Args:
        timing: of the whole model; operators: of its parts, slowest first, empty where the runtime does
            not tell them apart.
        composed: seconds of the parts added up.
        peak_bytes: rise of the resident memory during a run; energy_J: of a run, None without a counter.
    """

    model: str
    runtime: str
    threads: int
    workload: Workload
    machine: Here
    noise: Noise
    taken_at: str
    timing: Timing
    operators: tuple[Measured, ...]
    composed: float | None
    peak_bytes: int | None
    energy_J: float | None
    estimate: Estimate | None = field(default=None)


def measure(
    graph: Graph, workload: Workload, *, model: str, runtime: str = "eager", threads: int | None = None,
    seconds: float = 4.0, unique: bool = False, estimate: Estimate | None = None,
    tick: Callable[[float], None] | None = None,
) -> Measurement:  # fmt: skip
    """Runs a graph on this machine with random weights and inputs.

    Args:
        threads: cores to use; all that this process may if left out.
        seconds: to spend on timing the whole; about as much again goes to the operators.
        unique: time each distinct operator once and add them up, instead of running the whole.
        estimate: of the same graph, to set beside it.

    Raises:
        InputError: a runtime that is missing, or a graph that cannot be run.
    """
    machine = here()
    cores = threads or machine.cores
    quiet = noise()
    counted = count(graph)
    if unique:
        found = _unique(graph, counted, runtime, cores, seconds)
        total = sum(found.values())
        timing, peak, energy = Timing((total,)), None, None
        pieces: dict[str, float] = found
    else:
        with runnable(graph, runtime, cores) as made:
            timing = interleaved({"whole": made.call}, seconds=seconds, tick=tick)["whole"]
            rounds = max(3, min(int(seconds / max(timing.median, 1e-6)), 50))
            pieces = made.pieces(rounds)
            peak = peak_resident(made.call)
            energy = _energy(made.call, timing.median)
    rows = _rows(counted, pieces, estimate, fused=runtime == "onnxruntime" and not unique)
    return Measurement(
        model=model, runtime=runtime, threads=cores, workload=workload, machine=machine, noise=quiet,
        taken_at=datetime.now(UTC).isoformat(timespec="seconds"), timing=timing, operators=tuple(rows),
        composed=sum(pieces.values()) if pieces else None, peak_bytes=peak, energy_J=energy,
        estimate=estimate,
    )  # fmt: skip


def _energy(call: Callable[[], Any], once: float) -> float | None:
    """Joules of one run, from a loop long enough for the counter."""
    meter = EnergyMeter()
    if not meter.exists:
        return None
    times = max(1, int(2.0 / max(once, 1e-6)))

    def loop() -> None:
        for _ in range(times):
            call()

    found = meter.joules(loop)
    return None if found is None else found / times


def _unique(graph: Graph, counted: Count, runtime: str, threads: int, seconds: float) -> dict[str, float]:
    """Seconds by operator, each distinct one timed once in a graph of its own."""
    plain = graph.expanded()
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    groups: dict[Any, list[Node]] = {}
    for node in nodes:
        if node.op.class_of(*node.io) != "view":
            groups.setdefault((node.op, node.ins), []).append(node)
    found: dict[str, float] = {}
    each = max(seconds / max(len(groups), 1), 0.02)
    for alike in groups.values():
        first = alike[0]
        alone = _alone(graph, first)
        with runnable(alone, runtime, threads) as made:
            once = interleaved({"op": made.call}, seconds=each, least=5)["op"].median
        found.update(dict.fromkeys([n.name for n in alike], once))
    return found


def _alone(graph: Graph, node: Node) -> Graph:
    """A graph of one operator."""
    from dataclasses import replace

    from pharos.graph.graph import Value

    names = {name: f"in{i}" for i, name in enumerate(dict.fromkeys(node.inputs))}
    inputs = {names[name]: Value(names[name], t) for name, t in zip(node.inputs, node.ins, strict=True)}
    own = replace(node, inputs=tuple([names[n] for n in node.inputs]), tied={}, home=None)
    outputs = tuple([Value(n, t) for n, t in zip(node.outputs, node.outs, strict=True)])
    return Graph(node.name, tuple(inputs.values()), (own,), outputs, graph.precision, {})


def _rows(
    counted: Count, pieces: dict[str, float], estimate: Estimate | None, *, fused: bool
) -> list[Measured]:
    """Measured operators by their folded names, each with what was predicted of its kernel.

    Args:
        fused: the runtime joins operators and calls what is joined after any of them.
    """
    if not pieces:
        return []
    folded = _folded(counted, pieces)
    if fused:
        _to_leads(counted, folded)
    told: dict[str, tuple[float | None, str]] = {}
    if estimate is not None:
        for operation in estimate.operations:
            inside = [line.name for line in operation.kernel.lines]
            whole = sum(folded.get(name, (0.0, 0))[0] for name in inside)
            predicted = operation.total_s
            for name in inside:
                # what a kernel was predicted to take is its leading operator's, the rest joins it
                told[name] = (float(predicted) if predicted is not None and name == inside[0] else None, "")
            if predicted is not None and whole:
                told[inside[0]] = (float(predicted), _reason(operation, whole, estimate))
    rows = []
    for line in counted.lines:
        seconds, times = folded.get(line.name, (0.0, 0))
        if not times:
            continue
        predicted, reason = told.get(line.name, (None, ""))
        rows.append(Measured(line.name, line.kind, line.cost_class, times, seconds, predicted, reason))
    return sorted(rows, key=lambda row: -row.seconds)


def _to_leads(counted: Count, folded: dict[str, tuple[float, int]]) -> None:
    """Gives what was measured of any operator of a fused kernel to the one that leads it."""
    for kernel in kernels(counted, fused=True):
        names = [line.name for line in kernel.lines]
        found = [folded.pop(name, (0.0, 0)) for name in names]
        runs = max(times for _, times in found)
        folded[names[0]] = (sum(seconds for seconds, _ in found), runs)


def _folded(counted: Count, pieces: dict[str, float]) -> dict[str, tuple[float, int]]:
    """(seconds over all rounds, rounds) of each line; pieces are named as they are written out."""
    return {
        folded: (sum(pieces.get(n, 0.0) for n in each), sum(1 for n in each if n in pieces))
        for folded, each in counted.written_out().items()
    }


def _reason(operation: Any, seconds: float, estimate: Estimate) -> str:
    """What a measured kernel reached of what it was taken to be bound by."""
    machine, kernel, time = estimate.machine, operation.kernel, operation.time
    if time is None:
        return "nothing is known of such an operator here"
    each = seconds / kernel.times
    parts = {
        "compute": time.compute_s,
        "data": time.data_s,
        "overhead": time.overhead_s,
        "serial": time.serial_s,
    }
    bound = max(parts, key=lambda k: float(parts[k]))
    rate, moved = float(kernel.work.flops) / each, float(kernel.traffic.total) / each
    bandwidth = machine.bandwidth_bytes_per_s.value
    if bound == "overhead":
        return (
            f"taken for bound by its start of {float(time.overhead_s) * 1e6:.0f} us; took {each * 1e6:.0f} us"
        )
    if bound == "data" and bandwidth:
        return f"taken for bound by memory; moved {moved / bandwidth:.0%} of {bandwidth / 1e9:.0f} GB/s"
    if bound == "serial":
        return "taken for bound by its chain of steps"
    return f"taken for bound by compute; reached {rate / 1e9:.0f} GFLOP/s"


def row(found: Measurement) -> dict[str, Any]:
    """The row of a run in the store."""
    timing = found.timing
    return {
        "taken_at": found.taken_at, "model": found.model, "runtime": found.runtime, "threads": found.threads,
        "workload": {"phase": found.workload.phase, "batch": found.workload.batch,
                     "context": found.workload.context, "precision": str(found.workload.precision)},
        "machine": asdict(found.machine), "median_s": timing.median, "low_s": timing.share(0.1),
        "high_s": timing.share(0.9), "samples": len(timing.samples), "quiet": int(found.noise.is_quiet),
        "peak_bytes": found.peak_bytes, "energy_J": found.energy_J,
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
