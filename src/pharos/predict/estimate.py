"""Estimate: what a model under a workload asks of a machine, with parts, bands and evidence."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.machines.profile import Profile, profile_of
from pharos.passes.fuse import Kernel, around, kernels
from pharos.passes.heap import fresh_pages
from pharos.passes.memory import Arena, arena, is_numeric
from pharos.predict.energy import Energy, energy_of
from pharos.predict.kernel import KernelTime, compute_dtype, kernel_time, slowdown
from pharos.predict.memory import Memory, fits_in, memory_of
from pharos.quantity.errors import unknown
from pharos.quantity.evidence import Evidence, Figure, Kind, banded, counted, merge, unknown_figure
from pharos.quantity.sizes import Size, is_array, is_int, maximum, minimum

# The first is taken when none is named: fused kernels launched as one graph, as inference runtimes do.
RUNTIMES = ("compiled", "eager", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One kernel of the estimate."""

    kernel: Kernel
    time: KernelTime | None

    @property
    def total_s(self) -> Size | None:
        """Seconds over all its runs."""
        return None if self.time is None else self.time.latency_s * self.kernel.times


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A prediction and everything it was made of.

    Args:
        latency: seconds of one step.
        shares: seconds attributed to each resource; they add up to the latency.
        binding: the resource with the largest share, or memory-capacity when it does not fit.
        regime: the side of the ridge that the network as run lies on; where the ridge is unknown, the
            larger of the compute and bandwidth shares.
        compute_s, data_s, overhead_s: the iron law's terms, each alone, before overlap.
        fits: None when the capacity is unknown.
        arena: where a microcontroller's runtime would place the activations; None elsewhere.
    """

    model: str
    machine: Machine
    workload: Workload
    runtime: str
    count: Count
    operations: tuple[Operation, ...]
    latency: Figure
    energy: Figure
    energy_parts: Energy | None
    memory: Memory
    fits: bool | None
    shares: dict[str, Size]
    binding: Any
    regime: Any
    compute_s: Size | None
    data_s: Size | None
    overhead_s: Size | None
    samples: Size
    arena: Arena | None = None

    @property
    def throughput_per_s(self) -> Size | None:
        """Samples (tokens for a decoder) per second at the central latency."""
        return None if self.latency.value is None else self.samples / self.latency.value

    @property
    def power_W(self) -> Figure:  # noqa: N802 (SI unit)
        """Average power while it runs: energy over latency."""
        if self.energy.value is None or self.latency.value is None:
            # between idle and the board's limit, as far as those are known
            idle, limit = self.machine.idle_W.value, self.machine.max_W.value
            return Figure(value=None, unit="W", evidence=self.energy.evidence, low=idle, high=limit)
        watts = self.energy.value / self.latency.value
        error = self.energy_parts.error if self.energy_parts else 0.3
        figure = banded(watts, "W", error, self.energy.evidence)
        limit = self.machine.max_W.value
        # no board draws more than its limit for long, whatever the band says
        return figure if limit is None else replace(figure, high=minimum(figure.high, limit))

    @property
    def ridge_point(self) -> float | None:
        """FLOP per byte at which this machine's peak and bandwidth meet, in this precision."""
        return self.machine.ridge_point(compute_dtype(self.workload.precision))

    def roofline(self) -> "dict[str, tuple[Size | None, str | None]]":
        """The network's intensity in FLOP/B, and its side of the ridge, under each traffic bound."""
        as_run = sum(op.kernel.traffic.total * op.kernel.times for op in self.operations)
        moved = {"ideal": self.count.traffic_ideal, "per_op": self.count.traffic_per_op, "as_run": as_run}
        return {bound: self.side(self.count.flops, bytes_) for bound, bytes_ in moved.items()}

    def side(self, flops: Size, moved: Size) -> "tuple[Size | None, str | None]":
        """Intensity of some work, and "compute" or "memory-bandwidth" by the ridge point."""
        if is_int(moved) and moved == 0:
            return None, None
        intensity, ridge = flops / moved, self.ridge_point
        if ridge is None or is_array(intensity):
            return intensity, None
        return intensity, "compute" if intensity >= ridge else "memory-bandwidth"

    @property
    def is_complete(self) -> bool:
        """False when operators could not be counted: then every total is "at least"."""
        return not self.count.uncounted

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Everything it rests on, weakest first."""
        return merge((*self.latency.evidence, *self.energy.evidence, counted("operations and bytes")))


def predict(
    graph: Graph, machine: Machine, workload: Workload, *, model: str = "", runtime: str | None = None,
    profile: Profile | None = None,
) -> Estimate:  # fmt: skip
    """Predicts one step of a graph on a machine; sizes may be arrays, then so are the results.

    Args:
        graph: built under `workload`.
        runtime: "eager" (one kernel an operator, host dispatch racing the device), "compiled"
            (elementwise operators fused, launches captured) or "onnxruntime" (likewise).
        profile: efficiency curves; the catalogue's for the machine by default, or its calibration's.
    """
    runtime = runtime or ("eager" if machine.calibration else RUNTIMES[0])
    if runtime not in RUNTIMES:
        raise unknown("runtime", runtime, RUNTIMES)
    profile = profile or profile_of(machine, runtime)
    counts = count(graph)
    fused = runtime != "eager"
    launched = kernels(counts, fused=fused)
    beside = around(launched) if machine.calibration else [None] * len(launched)
    operations = tuple([
        Operation(kernel=k, time=kernel_time(k, machine, profile, graph.precision, workload.phase, b))
        for k, b in zip(launched, beside, strict=True)
    ])  # fmt: skip
    if machine.calibration and runtime == "eager" and is_numeric(graph):
        operations = _with_pages(operations, counts, graph, profile.runtimes.get(runtime, {}), machine)
    # a microcontroller has no allocator: what counts is the block its runtime places tensors in
    placed = arena(graph) if machine.kind == "mcu" and is_numeric(graph) else None
    memory = memory_of(counts, machine, runtime, placed)
    fits = fits_in(memory, machine)
    samples = graph.meta.get("tokens", 1) * workload.batch
    if any(op.time is None for op in operations) or not operations:
        why = _what_is_missing(machine, workload)
        return Estimate(
            model=model or graph.name, machine=machine, workload=workload, runtime=runtime, count=counts,
            operations=operations, latency=unknown_figure("s", why), energy=unknown_figure("J", why),
            energy_parts=None, memory=memory, fits=fits, shares={},
            binding="memory-capacity" if fits is False else "unknown", regime="unknown", compute_s=None,
            data_s=None, overhead_s=None, samples=samples, arena=placed,
        )  # fmt: skip
    times = [(op.kernel.times, op.time) for op in operations if op.time is not None]
    launches = sum(n for n, _ in times)
    compute, data = sum(n * t.compute_s for n, t in times), sum(n * t.data_s for n, t in times)
    overhead = sum(n * (t.overhead_s + t.serial_s) for n, t in times)
    latency = sum(n * t.latency_s for n, t in times)
    # errors of one profile move together: their weighted mean is the error of the sum
    error = sum(n * t.latency_s * t.error for n, t in times) / latency
    shares = _shares(times)
    evidence = [e for _, t in times for e in t.evidence]
    host = profile.runtimes.get(runtime, {})
    per_op = float(host.get("host_s") or 0.0)
    if per_op:
        # dispatch runs ahead of the device unless it is the slower of the two
        wait = maximum(per_op * launches - latency, 0.0)
        latency, overhead = latency + wait, overhead + wait
        shares["overhead"] = shares["overhead"] + wait
        if host.get("source"):
            evidence.append(Evidence(kind=Kind(host["known"]), where=str(host["source"])))
    # below zero where kernels hold what timing them alone took, but never most of them
    between = maximum(_between(counts, launches, host) * _pace(machine, host), -0.8 * latency)
    latency, overhead = latency + between, overhead + between
    shares["overhead"] = shares["overhead"] + between
    energy = energy_of(operations, latency, machine, profile, graph.precision)
    uncounted = counts.uncounted
    # a calibration knows the error of whole networks, in which those of operators cancel in part
    figure = banded(latency, "s", float(host.get("error") or 0.0) or error, evidence)
    if uncounted:
        figure = unknown_figure("s", f"operators not counted: {', '.join(uncounted[:4])}", low=figure.low)
    binding = _largest(shares)
    regime = _regime(operations, machine, graph) or _largest(
        {k: shares[k] for k in ("compute", "memory-bandwidth")}
    )
    return Estimate(
        model=model or graph.name, machine=machine, workload=workload, runtime=runtime, count=counts,
        operations=operations, latency=figure,
        energy=unknown_figure("J", "operators not counted") if uncounted else energy.figure,
        energy_parts=energy.parts, memory=memory, fits=fits, shares=shares,
        binding="memory-capacity" if fits is False else binding, regime=regime, compute_s=compute,
        data_s=data, overhead_s=overhead, samples=samples, arena=placed,
    )  # fmt: skip


def _with_pages(
    operations: tuple[Operation, ...],
    counted: Count,
    graph: Graph,
    host: Mapping[str, Any],
    machine: Machine,
) -> tuple[Operation, ...]:
    """Kernels with the time that first touches of their results' pages take."""
    cost = float(host.get("page_s") or 0.0) * _pace(machine, host)
    pages = fresh_pages(graph) if cost else {}
    if not pages:
        return operations
    names = counted.written_out()
    made = []
    for operation in operations:
        touched = sum(pages.get(n, 0) for line in operation.kernel.lines for n in names[line.name])
        if operation.time is not None and touched:
            more = touched * cost / operation.kernel.times
            time = operation.time
            time = replace(time, data_s=time.data_s + more, latency_s=time.latency_s + more)
            operation = replace(operation, time=time)
        made.append(operation)
    return tuple(made)


def _pace(machine: Machine, host: Mapping[str, Any]) -> float:
    """How many times longer what is beside the kernels takes at the machine's pace."""
    return slowdown(machine.pace, tuple(host["slows"])) if machine.pace and host.get("slows") else 1.0


def _between(counted: Count, launches: Size, host: Mapping[str, Any]) -> Size:
    """Seconds that a calibrated runtime takes beside kernels: a call, each kernel and each view."""
    if "call_s" not in host:
        return 0.0
    views = sum(line.times for line in counted.lines if line.cost_class == "view")
    return float(host["call_s"]) + launches * float(host["kernel_s"]) + views * float(host["view_s"])


def _shares(times: list[tuple[Size, KernelTime]]) -> dict[str, Size]:
    """Latency by resource: each kernel's time goes to what is slowest in it, launches apart."""
    shares: dict[str, Size] = dict.fromkeys(
        ("compute", "memory-bandwidth", "overhead", "sequential-dependency"), 0.0
    )
    for n, t in times:
        joined = t.latency_s - t.overhead_s - t.serial_s
        if is_array(joined) or is_array(n):
            import numpy

            computes = numpy.asarray(t.compute_s >= t.data_s)
            shares["compute"] = shares["compute"] + n * joined * computes
            shares["memory-bandwidth"] = shares["memory-bandwidth"] + n * joined * ~computes
        else:
            key = "compute" if t.compute_s >= t.data_s else "memory-bandwidth"
            shares[key] += n * joined
        shares["overhead"] = shares["overhead"] + n * t.overhead_s
        shares["sequential-dependency"] = shares["sequential-dependency"] + n * t.serial_s
    return shares


def _regime(operations: tuple[Operation, ...], machine: Machine, graph: Graph) -> str | None:
    """The side of the ridge, None where it is unknown or sizes are arrays."""
    ridge = machine.ridge_point(compute_dtype(graph.precision))
    flops = sum(op.kernel.work.flops * op.kernel.times for op in operations)
    moved = sum(op.kernel.traffic.total * op.kernel.times for op in operations)
    if ridge is None or is_array(flops) or is_array(moved) or not moved:
        return None
    return "compute" if flops / moved >= ridge else "memory-bandwidth"


def _largest(shares: dict[str, Size]) -> Any:
    if any(is_array(v) for v in shares.values()):
        import numpy

        names = numpy.array(list(shares))
        return names[numpy.argmax(numpy.stack(numpy.broadcast_arrays(*shares.values())), axis=0)]
    return max(shares, key=lambda k: shares[k])


def _what_is_missing(machine: Machine, workload: Workload) -> str:
    if machine.bandwidth_bytes_per_s.value is None:
        return f"memory bandwidth of {machine.id} is not in the catalogue"
    return f"{compute_dtype(workload.precision)} peak of {machine.id} is not in the catalogue"
