"""Scaled: a machine some of whose figures are multiplied, with the profile that goes with it."""

from dataclasses import dataclass, replace

from pharos.machines.machine import Known, Machine
from pharos.machines.profile import Curve, Profile, profile_of
from pharos.predict.estimate import Estimate, predict
from pharos.quantity.evidence import assumed

COMPUTE, BANDWIDTH, CAPACITY, NETWORK = "compute", "bandwidth", "capacity", "network"
FIGURES = (COMPUTE, BANDWIDTH, CAPACITY, NETWORK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Factors of a machine's figures: all its peaks, its memory's bandwidth and capacity, its links."""

    compute: float = 1.0
    bandwidth: float = 1.0
    capacity: float = 1.0
    network: float = 1.0

    def __str__(self) -> str:
        parts = [f"{getattr(self, f):.3g}x {f}" for f in FIGURES if getattr(self, f) != 1]
        return ", ".join(parts) or "as it is"


def scaled(machine: Machine, by: Scale) -> Machine:
    """A machine with other figures; what is unknown stays so."""
    where = f"{machine.id} with {by}"

    def times(known: Known, factor: float) -> Known:
        if known.value is None or factor == 1:
            return known
        return Known(value=known.value * factor, evidence=assumed(where))

    return replace(
        machine,
        peaks={d: replace(p, ops_per_s=times(p.ops_per_s, by.compute)) for d, p in machine.peaks.items()},
        vector_peaks={d: times(k, by.compute) for d, k in machine.vector_peaks.items()},
        bandwidth_bytes_per_s=times(machine.bandwidth_bytes_per_s, by.bandwidth),
        memory_usable_bytes=times(machine.memory_usable_bytes, by.capacity),
        memory_sold_bytes=times(machine.memory_sold_bytes, by.capacity),
        flash_bytes=times(machine.flash_bytes, by.capacity),
        link_bytes_per_s=times(machine.link_bytes_per_s, by.network),
    )


def _curve(curve: Curve, by: Scale, original: Machine) -> Curve:
    # bandwidth that was achieved, where no specification of it is known, is a figure of the curve
    made = curve
    if curve.bandwidth_bytes_per_s is not None:
        made = replace(made, bandwidth_bytes_per_s=curve.bandwidth_bytes_per_s * by.bandwidth)
    if curve.anchors:
        # constants are those of the machine as it is: a doubled figure is no other device's neighbour
        made = replace(made, anchors=(), constants=_settled(curve, original))
    return made


def _settled(curve: Curve, machine: Machine) -> dict[str, float]:
    from pharos.predict.kernel import constants_of, rate_of
    from pharos.predict.kernels.base import Device

    rate = rate_of(machine, curve.peak_dtype or (curve.dtypes[0] if curve.dtypes else "fp16")).ops_per_s
    bandwidth, units = machine.bandwidth_bytes_per_s.value, machine.cores.value
    if not (rate and bandwidth and units):
        return curve.constants
    return constants_of(curve, Device(units=units, ops_per_s=rate, bytes_per_s=bandwidth,
                                      cache_bytes=machine.cache_bytes.value or 0.0))  # fmt: skip


def profile_for(base: Estimate) -> Profile:
    """The profile that an estimate was made with."""
    return profile_of(base.machine, base.runtime if base.machine.calibration else "")


def again(base: Estimate, by: Scale, profile: Profile | None = None) -> Estimate:
    """An estimate on the same machine with some of its figures multiplied; efficiencies stay as they are."""
    profile = profile or profile_for(base)
    made = replace(
        profile, classes={name: tuple(_curve(c, by, base.machine) for c in curves)
                          for name, curves in profile.classes.items()},
    )  # fmt: skip
    return predict(base.count.graph, scaled(base.machine, by), base.workload, model=base.model,
                   runtime=base.runtime, profile=made)  # fmt: skip
