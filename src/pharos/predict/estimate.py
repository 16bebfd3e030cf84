"""Estimate: what a model under a workload asks of a machine, with parts, bands and evidence."""

from dataclasses import dataclass, replace
from typing import Any

from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.machines.profile import Profile, profile_of
from pharos.passes.fuse import Kernel, Launches, around, launches
from pharos.passes.fusions import FUSIONS
from pharos.passes.heap import fresh_pages
from pharos.passes.memory import Arena, arena, is_numeric
from pharos.predict.clock import limit_of
from pharos.predict.compose import Call, calibrated, compose, pace_of
from pharos.predict.energy import Energy, energy_of
from pharos.predict.kernel import KernelTime, compute_dtype, kernel_time
from pharos.predict.memory import Memory, fits_in, memory_of
from pharos.predict.power import bound_by_power, clock_under_cap, slowed
from pharos.predict.runtimes import (
    OTHER_RUNTIME_ERROR,
    RACE,
    RELIEF,
    RUNTIMES,
    Runtime,
    runtime_of,
    settle,
)
from pharos.predict.train import Step, held_by, launched_by, with_backward
from pharos.quantity.evidence import Evidence, Figure, assumed, banded, counted, merge, unknown_figure
from pharos.quantity.shown import Shown
from pharos.quantity.sizes import Size, is_array, is_int, minimum

# Threads beyond which touching pages side by side gains nothing, for the lock on a process's memory. Assumed.
TOUCHING = 8.0


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
class Estimate(Shown):
    """A prediction and everything it was made of.

    Args:
        latency: seconds of one step.
        shares: seconds attributed to each resource; they add up to the latency.
        binding: the resource with the largest share, or memory-capacity when it does not fit.
        regime: the side of the ridge that the network as run lies on; where the ridge is unknown, the
            larger of the compute and bandwidth shares.
        compute_s, data_s, overhead_s: the iron law's terms, each alone, before overlap.
        host_s, device_s, idle_s: what the host's dispatch and the kernels take, each alone, and how long the
            device has nothing to do; a processor that dispatches for itself never idles.
        relieved_s: where a host dispatches to a GPU, seconds of the same kernels as a recorded graph.
        fits: None when the capacity is unknown.
        arena: where a microcontroller's runtime would place the activations; None elsewhere.
        energies: joules of each of the operations, in their order; empty where unknown.
        clock: fraction of its clock at which the machine stays under a power cap; 1 without one.
        step: the training step that was asked for; None for a forward pass.
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
    host_s: Size | None = None
    device_s: Size | None = None
    idle_s: Size | None = None
    relieved_s: Size | None = None
    arena: Arena | None = None
    energies: tuple[Energy | None, ...] = ()
    clock: Size = 1.0
    step: Step | None = None

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
        t, energy = self.latency.value, self.energy
        figure = Figure(value=energy.value / t, unit="W", evidence=energy.evidence,
                        low=energy.low / t, high=energy.high / t)  # fmt: skip
        limit = limit_of(self.machine, self.clock)
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
    profile: Profile | None = None, step: Step | None = None,
) -> Estimate:  # fmt: skip
    """Predicts one step of a graph on a machine; sizes may be arrays, then so are the results.

    Args:
        graph: built under `workload`.
        runtime: a name of `predict.runtimes.RUNTIMES`; by default the one that the machine's efficiencies
            were fitted with, or its kind's.
        profile: efficiency curves; the catalogue's for the machine by default, or its calibration's.
        step: a training step of the graph, instead of a forward pass.

    Raises:
        UnknownName: no such runtime. InputError: it does not run on the machine.
    """
    if profile is None and not machine.calibration:
        profile = profile_of(machine)
    chosen = runtime_of(runtime, machine, profile.fitted_with if profile else "")
    profile = profile or profile_of(machine, chosen.name)
    counts = count(graph)
    launched = launches(counts, FUSIONS[chosen.fusion])
    found = launched.kernels
    beside = around(found) if machine.calibration else [None] * len(found)
    operations = tuple([
        Operation(kernel=k, time=kernel_time(k, machine, profile, graph.precision, workload.phase, b))
        for k, b in zip(found, beside, strict=True)
    ])  # fmt: skip
    if chosen.name == "eager" and is_numeric(graph):
        operations = _with_pages(operations, counts, graph, _page_s(chosen, machine, profile))
    # a microcontroller has no allocator: what counts is the block its runtime places tensors in
    placed = arena(graph) if machine.kind == "mcu" and is_numeric(graph) else None
    memory = memory_of(counts, machine, chosen.name, placed)
    if step is not None:
        operations = with_backward(operations, counts, step, machine, profile, graph.precision)
        launched = launched_by(launched, operations)
        memory = held_by(step, memory)
    fits = fits_in(memory, machine)
    samples = graph.meta.get("tokens", 1) * workload.batch
    if any(op.time is None for op in operations) or not operations:
        why = what_is_missing(machine, workload)
        return Estimate(
            model=model or graph.name, machine=machine, workload=workload, runtime=chosen.name, count=counts,
            operations=operations, latency=unknown_figure("s", why), energy=unknown_figure("J", why),
            energy_parts=None, memory=memory, fits=fits, shares={},
            binding="memory-capacity" if fits is False else "unknown", regime="unknown", compute_s=None,
            data_s=None, overhead_s=None, samples=samples, arena=placed, step=step,
        )  # fmt: skip

    def called(operations: tuple[Operation, ...]) -> Call:
        times = [op.time for op in operations if op.time is not None]
        if machine.calibration:
            return calibrated(launched, times, counts, profile.runtimes.get(chosen.name, {}), machine)
        return _composed(launched, times, chosen, machine, profile)

    call = called(operations)
    clock = clock_under_cap(operations, machine, profile, graph.precision, lambda ops: called(ops).latency_s)
    if is_array(clock) or clock != 1.0:
        operations = slowed(operations, clock)
        call = called(operations)
    times = [(op.kernel.times, op.time) for op in operations if op.time is not None]
    compute, data = sum(n * t.compute_s for n, t in times), sum(n * t.data_s for n, t in times)
    races = chosen.composes == RACE and machine.kind == "gpu"
    alone = [t for _, t in times]
    relieved = _composed(launched, alone, RUNTIMES[RELIEF], machine, profile).latency_s if races else None
    between = call.latency_s - call.device_s
    latency = call.latency_s
    overhead = sum(n * (t.overhead_s + t.serial_s) for n, t in times) + between
    shares = shares_of(times)
    shares["overhead"] = shares["overhead"] + between
    evidence = [*call.evidence, *(e for _, t in times for e in t.evidence)]
    if chosen.name == "eager" and machine.kind != "gpu" and not machine.calibration:
        # what pages take is among the kernels' data
        evidence += settle(chosen, machine, profile).evidence
    error, strange = stranger(chosen, profile, machine, call)
    evidence += strange
    energy = energy_of(operations, latency, machine, profile, graph.precision, clock)
    uncounted = counts.uncounted
    figure = banded(latency, "s", error, evidence)
    if uncounted:
        figure = unknown_figure("s", f"operators not counted: {', '.join(uncounted[:4])}", low=figure.low)
    binding = bound_by_power(_largest(shares), clock)
    regime = _regime(operations, machine, graph) or _largest(
        {k: shares[k] for k in ("compute", "memory-bandwidth")}
    )
    return Estimate(
        model=model or graph.name, machine=machine, workload=workload, runtime=chosen.name, count=counts,
        operations=operations, latency=figure,
        energy=unknown_figure("J", "operators not counted") if uncounted else energy.figure,
        energy_parts=energy.parts, memory=memory, fits=fits, shares=shares,
        binding="memory-capacity" if fits is False else binding, regime=regime, compute_s=compute,
        data_s=data, overhead_s=overhead, samples=samples, host_s=call.host_s, device_s=call.device_s,
        idle_s=call.idle_s, relieved_s=relieved, arena=placed,
        energies=energy.operations, clock=clock, step=step,
    )  # fmt: skip


def _composed(
    launched: Launches, times: list[KernelTime], chosen: Runtime, machine: Machine,
    profile: Profile,
) -> Call:  # fmt: skip
    return compose(launched, times, chosen, settle(chosen, machine, profile), machine)


def _page_s(chosen: Runtime, machine: Machine, profile: Profile) -> float:
    """Seconds that the first touch of a page takes a call, in which threads touch pages side by side."""
    if machine.calibration:
        host = profile.runtimes.get(chosen.name, {})
        return float(host.get("page_s") or 0.0) * pace_of(machine, host)
    return settle(chosen, machine, profile)["page_s"] / min(machine.cores.value or 1.0, TOUCHING)


def stranger(chosen: Runtime, profile: Profile, machine: Machine, call: Call) -> tuple[Size, list[Evidence]]:
    """The error of a call, wider where efficiencies were fitted with another runtime's kernels."""
    if machine.calibration or profile.fitted_with in ("", chosen.name):
        return call.error, []
    known = profile.fitted_with
    why = f"efficiencies were fitted with {known}, those of {chosen.name} are taken to be the same"
    return (call.error**2 + OTHER_RUNTIME_ERROR**2) ** 0.5, [assumed(why, OTHER_RUNTIME_ERROR)]


def _with_pages(
    operations: tuple[Operation, ...], counted: Count, graph: Graph, cost: float
) -> tuple[Operation, ...]:
    """Kernels with the time that first touches of their results' pages take."""
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


def shares_of(times: list[tuple[Size, KernelTime]]) -> dict[str, Size]:
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


def what_is_missing(machine: Machine, workload: Workload) -> str:
    """The figure without which there is no time."""
    if machine.bandwidth_bytes_per_s.value is None:
        return f"memory bandwidth of {machine.id} is not in the catalogue"
    return f"{compute_dtype(workload.precision)} peak of {machine.id} is not in the catalogue"
