"""Roofs: what a roofline is drawn of: operators with intensity and attained rate, and a machine's bounds."""

from collections.abc import Sequence
from dataclasses import dataclass

from pharos.machines.profile import profile_of
from pharos.predict.estimate import Estimate, Operation
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.errors import InputError
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt
from pharos.report.marks import short_machine

# What classes of operators are called in a legend.
CLASSES = {
    "gemm": "matrix product",
    "matmul": "matrix product",
    "conv": "convolution",
    "pointwise": "pointwise convolution",
    "depthwise": "depthwise convolution",
    "grouped_conv": "grouped convolution",
    "attention": "attention",
    "recurrence": "recurrence",
}
ELEMENTWISE = "elementwise, norm, pool"
# Types whose peaks say what a narrower precision would give.
NARROWER = ("fp16", "bf16", "int8", "fp8")
# By how much another roof must differ to be worth a line.
APART = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """One bound: a flat one of arithmetic, or a slope of a memory.

    Args:
        machine: its id without its maker. says: its words.
        ops_per_s: of a flat one, or where a slope ends. bytes_per_s: of a slope, or where a flat one starts.
        main: of the workload's precision and of the main memory.
    """

    machine: str
    says: str
    ops_per_s: float
    bytes_per_s: float
    flat: bool
    main: bool

    @property
    def ridge(self) -> float:
        """FLOP per byte at which the flat part and the slope meet."""
        return self.ops_per_s / self.bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One operator over all its runs; `limit` is what takes longest in it."""

    machine: str
    operator: str
    group: str
    runs: int
    flops: float
    moved_bytes: float
    seconds: float
    share: float
    limit: str

    @property
    def intensity(self) -> float:
        """FLOP per byte as run."""
        return self.flops / self.moved_bytes

    @property
    def flops_per_s(self) -> float:
        """Attained."""
        return self.flops / self.seconds


def points(estimate: Estimate) -> tuple[list[Point], float]:
    """An estimate's operators, and the seconds of those that have no FLOPs and so no place.

    An operator without MACs is placed by its elementwise FLOPs.
    """
    total = float(estimate.latency.value or 0)
    found, without = [], 0.0
    for op in estimate.operations:
        assert op.time is not None
        n = op.kernel.times
        seconds, work = float(op.time.latency_s) * n, op.kernel.work
        flops, moved = float((work.flops or work.vector_flops) * n), float(op.time.traffic_bytes * n)
        if not flops or not moved or not seconds:
            without += seconds
            continue
        group = CLASSES.get(op.kernel.lead.cost_class, ELEMENTWISE) if work.macs else ELEMENTWISE
        point = Point(
            machine=short_machine(estimate.machine), operator=op.kernel.name, group=group, runs=int(n),
            flops=flops, moved_bytes=moved, seconds=seconds, share=seconds / total, limit=limit_of(op),
        )  # fmt: skip
        found.append(point)
    return found, without


def limit_of(op: Operation) -> str:
    """What takes longest in an operator."""
    time = op.time
    assert time is not None
    parts = {
        "compute": time.compute_s,
        "memory bandwidth": time.data_s,
        "overhead": time.overhead_s,
        "sequence": time.serial_s,
    }
    return max(parts, key=lambda k: float(parts[k]))


def roofs(estimate: Estimate, *, alone: bool) -> list[Roof]:
    """The machine's bounds in the workload's precision; with `alone`, other units and levels as well.

    Raises:
        InputError: the catalogue knows no peak or no bandwidth.
    """
    machine, dtype = estimate.machine, compute_dtype(estimate.workload.precision)
    rate, (bandwidth, known) = rate_of(machine, dtype), bandwidth_of(estimate)
    if not rate.ops_per_s or not bandwidth:
        what = "memory bandwidth" if rate.ops_per_s else f"{dtype} peak"
        raise InputError(f"has no roof: its {what} is not known", where=machine.id,
                         hint="give a machine whose peak and bandwidth are in `pharos machines`")  # fmt: skip

    def roof(says: str, ops_per_s: float, bytes_per_s: float, flat: bool, main: bool = False) -> Roof:
        return Roof(machine=short_machine(machine), says=says, ops_per_s=ops_per_s, bytes_per_s=bytes_per_s,
                    flat=flat, main=main)  # fmt: skip

    peak = rate.ops_per_s
    stands = "" if rate.dtype == dtype else f" (for {dtype})"
    unit = machine.peaks[rate.dtype].unit if rate.dtype in machine.peaks else None
    words = f"{rate.dtype}{f' {unit}' if unit else ''}{stands} {fmt(peak, 'FLOP/s')}"
    memory = f"{machine.memory_technology or 'memory'} {fmt(bandwidth, 'B/s')}{known}"
    found = [roof(words, peak, bandwidth, True, True), roof(memory, peak, bandwidth, False, True)]
    if not alone:
        return found
    vector = machine.vector_peak("fp32").value
    if vector and APART * vector < peak:
        found.append(roof(f"fp32 vector {fmt(vector, 'FLOP/s')}", vector, bandwidth, True))
    faster = {d: p.ops_per_s.value for d, p in machine.peaks.items() if d in NARROWER}
    better = sorted((v, d) for d, v in faster.items() if v and v > APART * peak)
    if better:
        value, narrow = better[0]
        found.append(roof(f"{narrow} {fmt(value, 'FLOP/s')}", value, bandwidth, True))
    cache = machine.cache_bandwidth_bytes_per_s.value
    if cache and cache > APART * bandwidth:
        found.append(roof(f"cache {fmt(cache, 'B/s')}", peak, cache, False))
    return found


def bandwidth_of(estimate: Estimate) -> tuple[float | None, str]:
    """Of the memory, by the catalogue; where it does not know, the most that any class was fitted with."""
    machine, work = estimate.machine, estimate.workload
    if machine.bandwidth_bytes_per_s:
        return machine.bandwidth_bytes_per_s.value, ""
    profile, dtype = profile_of(machine, estimate.runtime), compute_dtype(work.precision)
    fitted = [profile.curve(name, dtype, work.phase).bandwidth_bytes_per_s for name in profile.classes]
    return max((f for f in fitted if f), default=None), " (fitted)"


def known_by(estimates: Sequence[Estimate]) -> str:
    """How peaks and bandwidths are known: specified, measured, fitted, assumed."""
    kinds = {"spec": "specified", "unknown": "fitted"}
    found = [
        evidence.kind.value
        for e in estimates
        for evidence in (
            rate_of(e.machine, compute_dtype(e.workload.precision)).evidence,
            e.machine.bandwidth_bytes_per_s.evidence,
        )
    ]
    return ", ".join(dict.fromkeys(kinds.get(k, k) for k in found))


def require_numbers(estimate: Estimate) -> None:
    """Raises InputError where sizes are arrays or the time is unknown, so that nothing can be drawn."""
    where = f"{estimate.model} on {estimate.machine.id}"
    if not is_int(estimate.count.macs):
        raise InputError("a picture is of one workload: sizes must be numbers", where=where)
    if estimate.latency.value is None:
        why = estimate.latency.evidence[0].where if estimate.latency.evidence else "no time"
        raise InputError(f"its latency is unknown: {why}", where=where)
