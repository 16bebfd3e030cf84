"""Kernel time: by the closed form of the operator's class where a profile has one, else by a roofline."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pharos.graph.op import Op
from pharos.machines.machine import Known, Machine
from pharos.machines.profile import Curve, Profile
from pharos.passes.fuse import Around, Kernel
from pharos.quantity.dtypes import BITS, Precision
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, assumed, merge
from pharos.quantity.sizes import Size, is_array, maximum, minimum

if TYPE_CHECKING:
    from pharos.predict.kernels.base import Device, Parts, Residual

# Vector operations one exponential, root or division stands for. Assumed: 10 lies between a GPU's
# special-function units (4 to 8 lanes of time) and scalar library code on small cores (20 and more).
TRANSCENDENTAL_FLOPS = 10
# Added to the error where a peak is unknown and a wider type's stands in for it.
STAND_IN_ERROR = 0.40
# Which known peak may stand in for an unknown one: hardware runs a narrow type at least as fast
# as the next wider one it has, by converting.
WIDER = {"fp4": "fp8", "int4": "int8", "fp8": "fp16", "int8": "fp16", "fp16": "bf16", "bf16": "tf32",
         "tf32": "fp32", "fp32": "fp16", "fp64": ""}  # fmt: skip

# Classes whose outputs are sums of products.
MATRIX_CLASSES = ("gemm", "conv", "pointwise", "grouped_conv", "depthwise")


@dataclass(frozen=True, slots=True)
class Rate:
    """Operations per second for a dtype, and how they are known."""

    ops_per_s: float | None
    evidence: Evidence
    error: float
    dtype: str


def rate_of(machine: Machine, dtype: str) -> Rate:
    """The dense peak for a dtype; where unknown, that of the next wider known type, as assumed."""
    asked, seen = dtype, set()
    while dtype and dtype not in seen:
        seen.add(dtype)
        peak: Known = machine.peak(dtype)
        if peak.value:
            if dtype == asked:
                return Rate(peak.value, peak.evidence, 0.0, dtype)
            why = f"{asked} peak of {machine.id} unknown, its {dtype} peak stands in"
            return Rate(peak.value, assumed(why, STAND_IN_ERROR), STAND_IN_ERROR, dtype)
        dtype = WIDER.get(dtype, "")
    return Rate(None, machine.peak(asked).evidence, 0.0, asked)


def compute_dtype(precision: Precision) -> str:
    """The type matrix units multiply in: the wider of weights and activations."""
    weights, activations = precision.weights, precision.activations
    if "tf32" in (weights, activations):
        return "tf32"
    return weights if BITS[weights] > BITS[activations] else activations


@dataclass(frozen=True, slots=True)
class KernelTime:
    """Seconds of one launch and their parts.

    Args:
        compute_s, data_s: what arithmetic and memory would take alone.
        overhead_s: launch, and what is lost because too few outputs fill the machine.
        serial_s: steps of a recurrence that cannot overlap.
        latency_s: all of it, compute and data overlapped.
    """

    compute_s: Size
    data_s: Size
    overhead_s: Size
    serial_s: Size
    latency_s: Size
    traffic_bytes: Size
    error: Size
    evidence: tuple[Evidence, ...]


def kernel_time(
    kernel: Kernel, machine: Machine, profile: Profile, precision: Precision, phase: str,
    beside: Around | None = None,
) -> KernelTime | None:  # fmt: skip
    """Time of one launch; None where a figure it needs is unknown.

    Args:
        beside: what runs around it, for the forms that ask for it.

    The most fitting curve of the profile decides: one with a `form` by that closed form of
    `predict.kernels`, one without, or a kernel or sizes (symbols) that the form does not describe, by

    t = launch + (compute^p + data^p)^(1/p), compute = 2 MACs / (peak x efficiency) + vector work,
    data = bytes / (bandwidth x efficiency); vector work runs at the fp32 vector peak where that is known.
    Compute and the bytes of activations grow by (1 + width_half / outputs) where too few outputs
    fill the machine. A recurrence pays its launch once a step, and reads its weights again
    each step unless they stay in the cache.
    """
    lead = kernel.lead
    dtype = compute_dtype(precision)
    if lead.kind == "attention" and getattr(lead.node.op, "algorithm", "") == "materialised":
        found = _unfused(kernel, machine, profile, dtype, phase)
        if found is not None:
            return found
    for curve in profile.curves(lead.cost_class, dtype, phase, variant(lead.node.op)):
        if curve.form is None:
            return _roofline(kernel, machine, curve, dtype, forked(profile, machine))
        found = _formed(kernel, machine, curve, dtype, beside=beside)
        if found is not None:
            return found
    return None


def variant(op: Op) -> str:
    """What a profile tells operators of one class apart by: the function that they apply, or their kind."""
    return str(getattr(op, "function", "") or op.kind)


def _unfused(kernel: Kernel, machine: Machine, profile: Profile, dtype: str, phase: str) -> KernelTime | None:
    """Attention that stores its scores: two products, and passes over them for scale, mask and softmax."""
    from pharos.predict.kernels.shapes import unfused

    steps = []
    for cost_class, sizes in unfused(kernel):
        for curve in profile.curves(cost_class, dtype, phase):
            step = _formed(kernel, machine, curve, dtype, sizes) if curve.form else None
            if step is not None:
                steps.append(step)
                break
        else:
            return None
    total = sum(s.latency_s for s in steps)
    return KernelTime(
        sum(s.compute_s for s in steps), sum(s.data_s for s in steps), sum(s.overhead_s for s in steps), 0.0,
        total, kernel.traffic.total, sum(s.latency_s * s.error for s in steps) / total,
        merge([e for s in steps for e in s.evidence]),
    )  # fmt: skip


def _formed(
    kernel: Kernel, machine: Machine, curve: Curve, dtype: str, sizes: dict[str, Size] | None = None,
    beside: Around | None = None,
) -> KernelTime | None:  # fmt: skip
    """Time by a closed form of `predict.kernels`; None where it does not describe kernel or machine.

    Args:
        sizes: of a part of the kernel; its own by default.
    """
    rate = rate_of(machine, curve.peak_dtype or dtype)
    bandwidth, units = machine.bandwidth_bytes_per_s.value, machine.cores.value
    if rate.ops_per_s is None or not bandwidth or not units:
        return None
    from pharos.predict.kernels import FORMS, evaluate
    from pharos.predict.kernels.base import Device
    from pharos.predict.kernels.shapes import sizes_of

    form = FORMS[curve.form or ""]
    device = Device(units=units, ops_per_s=rate.ops_per_s, bytes_per_s=bandwidth,
                    cache_bytes=machine.cache_bytes.value or 0.0)  # fmt: skip
    work = kernel.work
    scalar = work.vector_flops + TRANSCENDENTAL_FLOPS * work.transcendentals
    if sizes is None:
        sizes = sizes_of(form.name, kernel, machine.vector_peak("fp32").value, scalar, beside)
    if sizes is None or not set(form.sizes) <= set(sizes):
        return None
    constants = constants_of(curve, device)
    if missing := sorted(set(form.start()) - set(constants)):
        # a calibration that an older Pharos wrote
        raise InputError(f"has curves of another form, without {', '.join(missing)}",
                         where=machine.calibration or curve.evidence.where,
                         hint="`pharos calibrate` writes it anew")  # fmt: skip
    found = evaluate(form, constants, correction_of(curve), sizes, device, told=bool(curve.errors))
    if found is None:
        return None
    parts, regime = found
    if machine.pace and curve.slows:
        parts = _at_pace(parts, slowdown(machine.pace, curve.slows))
    error = _error(curve, regime)
    evidence = merge((curve.evidence, rate.evidence, machine.bandwidth_bytes_per_s.evidence))
    return KernelTime(
        parts.compute, parts.data, parts.fixed, parts.serial, parts.total, kernel.traffic.total,
        (error**2 + rate.error**2) ** 0.5, evidence,
    )  # fmt: skip


def slowdown(pace: tuple[float, ...], slows: tuple[float, ...]) -> float:
    """How many times longer work takes at a machine's pace: the pulses' ratios, each to its power."""
    return math.prod(p**s for p, s in zip(pace, slows, strict=True))


def _at_pace(parts: "Parts", factor: float) -> "Parts":
    return type(parts)(
        parts.compute * factor, parts.data * factor, parts.fixed * factor, parts.total * factor,
        parts.serial * factor,
    )  # fmt: skip


def constants_of(curve: Curve, device: "Device") -> dict[str, float]:
    """The curve's own, or those of its anchors blended for the device."""
    if not curve.anchors:
        return curve.constants
    from pharos.predict.kernels.base import Anchor, Device, blend

    known = [
        Anchor(
            device=Device(**{k: float(a[k]) for k in ("units", "ops_per_s", "bytes_per_s", "cache_bytes")}),
            constants={k: float(v) for k, v in a["constants"].items()},
        )
        for a in curve.anchors
    ]
    return blend(known, device)


def correction_of(curve: Curve) -> "Residual | None":
    """Its smooth correction; None where it has none."""
    if not curve.correction:
        return None
    import numpy as np

    from pharos.predict.kernels.base import Residual

    scales, weights = np.array(curve.correction["scales"]), np.array(curve.correction["weights"])
    points = np.array([curve.correction[f"x{i}"] for i in range(len(scales))]).T
    return Residual(points=points, scales=scales, weights=weights)


def _error(curve: Curve, regime: Any) -> Any:
    """The error of the regime that most of the time falls into, where a profile tells them apart."""
    if not curve.errors:
        return curve.error
    if isinstance(regime, str):
        return curve.errors.get(regime, curve.error)
    import numpy as np

    found = np.full(np.shape(regime), curve.error)
    for name, error in curve.errors.items():
        found[regime == name] = error
    return found


def forked(profile: Profile, machine: Machine) -> float:
    """Seconds that a launch takes more, or less, than fitted: threads part and meet at each kernel.

    Their cost grows with the logarithm of their number.
    """
    told, cores = profile.threads, machine.cores.value
    if not told or not cores:
        return 0.0
    return float(told["fork_s"]) * math.log2(max(cores, 1.0) / float(told["cores"]))


def _roofline(
    kernel: Kernel, machine: Machine, curve: Curve, dtype: str, forks: float = 0.0
) -> KernelTime | None:
    """Time by the formula of `kernel_time` alone, whose launch is `forks` longer."""
    lead = kernel.lead
    rate = rate_of(machine, curve.peak_dtype or dtype)
    vector = machine.vector_peak("fp32").value
    work, moved = kernel.work, kernel.traffic.total
    parallel = lead.node.op.parallelism(*lead.node.io)
    steps = parallel.depth
    if lead.cost_class == "recurrence":
        moved = moved + kernel.traffic.weights * (steps - 1) * _spills(kernel, machine)
    bandwidth = _bandwidth(machine, curve)
    if rate.ops_per_s is None or bandwidth is None:
        return None
    macs = work.macs - work.masked_macs if _skips_mask(lead.node.op) else work.macs
    compute = 2 * macs / (rate.ops_per_s * curve.compute)
    if curve.reduction_half:
        # macs x (1 + half / (macs / outputs)), without dividing by a count that may be zero
        compute = compute + 2 * curve.reduction_half * _outputs(kernel) / (rate.ops_per_s * curve.compute)
    scalar = work.vector_flops + TRANSCENDENTAL_FLOPS * work.transcendentals
    if vector is not None:
        compute = compute + scalar / (vector * curve.vector)
    data = (moved - _warm(kernel, machine) * (1 - 1 / curve.near)) / bandwidth
    joined = _norm(compute, data, curve.sharpness)
    idle: Size = 0.0
    if curve.width_half:
        narrow = curve.width_half / maximum(parallel.width, 1)
        # weights stream in the same time however many outputs share them
        slower = data + (moved - kernel.traffic.weights) / bandwidth * narrow
        idle = _norm(compute * (1 + narrow), slower, curve.sharpness) - joined
    launch_s = max(curve.launch_s + forks, 0.0)
    serial = launch_s * (steps - 1)
    evidence = merge((curve.evidence, rate.evidence, machine.bandwidth_bytes_per_s.evidence)
                     if curve.bandwidth_bytes_per_s is None else (curve.evidence, rate.evidence))  # fmt: skip
    return KernelTime(
        compute, data, launch_s + idle, serial, launch_s + idle + serial + joined, moved,
        (curve.error**2 + rate.error**2) ** 0.5, evidence,
    )  # fmt: skip


def _outputs(kernel: Kernel) -> Size:
    """Sums of products that a kernel finishes: elements of the leading operator's results."""
    node = kernel.lead.node
    return sum(t.numel for t in node.outs) if kernel.lead.cost_class in MATRIX_CLASSES else 0


def _bandwidth(machine: Machine, curve: Curve) -> float | None:
    if curve.bandwidth_bytes_per_s is not None:
        return curve.bandwidth_bytes_per_s
    known = machine.bandwidth_bytes_per_s.value
    return known * curve.bandwidth if known else None


# Share of a cache that activations are still found in by what reads them next. Assumed.
RESIDENT = 0.5


def _warm(kernel: Kernel, machine: Machine) -> Size:
    """Bytes of activations that the cache still holds; other layers' weights push out a kernel's weights."""
    cache, moved = machine.cache_bytes.value, kernel.traffic
    return minimum(moved.inputs + moved.outputs + moved.workspace, RESIDENT * cache) if cache else 0.0


def _spills(kernel: Kernel, machine: Machine) -> Size:
    """1 when the weights of a recurrence do not fit in the cache (or it is unknown)."""
    cache, weights = machine.cache_bytes.value, kernel.traffic.weights
    if is_array(weights) and cache is not None:
        return (weights > cache) * 1.0
    if cache is None or not isinstance(weights, int):
        return 1
    return int(weights > cache)


def _skips_mask(op: Op) -> bool:
    """Tiled causal attention leaves out the tiles above the diagonal."""
    return getattr(op, "algorithm", "") == "tiled"


def _norm(a: Size, b: Size, p: float) -> Size:
    """(a^p + b^p)^(1/p), scaled so that small times do not underflow."""
    if is_array(a) or is_array(b):
        import numpy

        top = numpy.maximum(a, b)
        ratio = numpy.minimum(a, b) / numpy.maximum(top, 1e-300)
        if p == 4:
            squared = ratio * ratio
            return top * numpy.sqrt(numpy.sqrt(1 + squared * squared))
        return top * (1 + ratio**p) ** (1 / p)
    top = max(a, b)
    if top == 0:
        return 0.0
    return top * (1 + (min(a, b) / top) ** p) ** (1 / p)
