"""Compose: from kernels to the seconds of a call, as a runtime launches them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pharos.graph.count import Count, Line
from pharos.machines.machine import Machine
from pharos.passes.fuse import Kernel, Launches
from pharos.predict.kernel import KernelTime, slowdown
from pharos.predict.runtimes import CALLS, RACE, Runtime, Settled
from pharos.predict.timeline import Span, launch, span_of
from pharos.quantity.evidence import Evidence
from pharos.quantity.sizes import Size, is_array, is_symbol, maximum


@dataclass(frozen=True, slots=True)
class Call:
    """Seconds of one call.

    Args:
        latency_s: all of it. host_s: dispatch alone; device_s: kernels alone; idle_s: the device has nothing
            to do. On a processor that dispatches for itself the host's part is its own, and nothing idles.
        error: of the latency. evidence: of what the runtime adds to kernels.
    """

    latency_s: Size
    host_s: Size
    device_s: Size
    idle_s: Size
    error: Size
    evidence: tuple[Evidence, ...] = ()


def compose(
    launched: Launches, times: Sequence[KernelTime], runtime: Runtime, constants: Settled, machine: Machine
) -> Call:
    """A call of a runtime: a host that races the device, a recorded graph, or one kernel after the other."""
    kernels = launched.kernels
    device: Size = sum(k.times * t.latency_s for k, t in zip(kernels, times, strict=True))
    # errors of one profile move together: their weighted mean is the error of the sum
    error = sum(k.times * t.latency_s * t.error for k, t in zip(kernels, times, strict=True)) / device
    count: Size = sum(k.times for k in kernels)
    if runtime.composes == RACE and machine.kind == "gpu":
        return _race(launched, times, constants, device, error)
    return with_host(device, error, count, runtime, constants, machine)


def with_host(
    device: Size, error: Size, count: Size, runtime: Runtime, constants: Settled, machine: Machine
) -> Call:
    """A call of a runtime whose host does not race the device, from its kernels in sum.

    Args:
        device: seconds of all kernels, with `error`; count: how many run.
    """
    host: Size
    if runtime.composes == CALLS or machine.kind != "gpu":
        each = constants["op_s"]
        if constants["op_cycles"] and machine.clock_hz.value:
            each = constants["op_cycles"] / machine.clock_hz.value
        host = constants["call_s"] + each * count
        idle: Size = 0.0
    else:
        host = constants["guard_s"] + constants["graph_s"]
        idle = host + constants["gap_s"] * count
    return _call(device, host, idle, maximum(host, idle), error, constants)


def _race(
    launched: Launches, times: Sequence[KernelTime], constants: Settled, device: Size, error: Size
) -> Call:
    def kernel(at: int) -> Span:
        return launch(_host(constants, launched.kernels[at]), times[at].latency_s, constants["wait_s"])

    def view(line: Line) -> Span:
        return Span(host=constants["view_s"])

    whole = Span(host=constants["call_s"]).then(span_of(launched.steps, kernel, view))
    idle = whole.end + constants["sync_s"] - device
    return _call(device, whole.host, idle, idle, error, constants)


def _host(constants: Settled, kernel: Kernel) -> float:
    return constants.by_class.get(kernel.lead.cost_class, constants["op_s"])


# Share of a call below which what a runtime adds is no part of how the call is known.
NEGLIGIBLE = 0.01


def _call(device: Size, host: Size, idle: Size, added: Size, error: Size, constants: Settled) -> Call:
    """Kernels with their error, and what the runtime adds with that of its constants."""
    own = max(constants.errors.values(), default=0.0)
    latency = device + added
    matters = added > NEGLIGIBLE * latency
    told = True if is_symbol(latency) else bool(matters.any() if is_array(matters) else matters)
    return Call(latency, host, device, idle, (error * device + own * added) / latency,
                constants.evidence if told else ())  # fmt: skip


def pace_of(machine: Machine, host: Mapping[str, Any]) -> float:
    """How many times longer what is beside the kernels takes at the machine's pace."""
    return slowdown(machine.pace, tuple(host["slows"])) if machine.pace and host.get("slows") else 1.0


def calibrated(
    launched: Launches,
    times: Sequence[KernelTime],
    counted: Count,
    host: Mapping[str, Any],
    machine: Machine,
) -> Call:
    """A call on a calibrated machine: with what calls, kernels and views were measured to add."""
    kernels = launched.kernels
    device: Size = sum(k.times * t.latency_s for k, t in zip(kernels, times, strict=True))
    error = sum(k.times * t.latency_s * t.error for k, t in zip(kernels, times, strict=True)) / device
    between: Size = 0.0
    idle: Size = 0.0
    sent: Size | None = None
    count: Size = sum(k.times for k in kernels)
    if host.get("host_s"):
        # a host that sends kernels to a GPU runs ahead of it unless it is the slower of the two
        sent = float(host["host_s"]) * count
        idle = maximum(sent - device, 0.0)
        between = float(host.get("call_s", 0.0)) + idle
    elif "call_s" in host:
        views = sum(line.times for line in counted.lines if line.cost_class == "view")
        each = count * float(host["kernel_s"]) + views * float(host["view_s"])
        # below zero where kernels hold what timing them alone took, but never most of them
        between = maximum((float(host["call_s"]) + each) * pace_of(machine, host), -0.8 * device)
    # a calibration knows the error of whole networks, in which those of operators cancel in part
    return Call(
        device + between,
        between if sent is None else sent,
        device,
        idle,
        float(host.get("error") or 0.0) or error,
    )
