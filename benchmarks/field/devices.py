"""Figures of the measured devices: from the catalogue, or, for those outside it, from pages that were read."""

from dataclasses import dataclass
from functools import cache

from pharos.machines.machine import find_machine
from pharos.predict.kernels.base import Device

MIB = 2.0**20


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A device that the catalogue has not.

    Args:
        peaks: dense operations per second by type.
        source: the page that was read, or the catalogue's device with the same figures.
    """

    units: int
    peaks: dict[str, float]
    bytes_per_s: float
    cache_bytes: float
    source: str


OUTSIDE = {
    "a40": Outside(units=84, peaks={"fp32": 37.42e12, "bf16": 149.67e12}, bytes_per_s=696e9, cache_bytes=6 * MIB,
                   source="hmc-tech.com A100 and A40 compared; sysrqmts.com A40"),
    "a6000": Outside(units=84, peaks={"fp32": 38.71e12, "bf16": 154.8e12}, bytes_per_s=768e9, cache_bytes=6 * MIB,
                     source="sysrqmts.com RTX A6000; llmperf.net for the dense tensor rate"),
    "h20": Outside(units=78, peaks={"fp32": 44e12, "bf16": 148e12, "fp8": 296e12}, bytes_per_s=4.0e12, cache_bytes=60 * MIB,
                   source="zangshuxian.com on H20; cache assumed"),
    "p4": Outside(units=20, peaks={"fp32": 5.7e12}, bytes_per_s=192.3e9, cache_bytes=2 * MIB, source="techpowerup.com Tesla P4"),
    "mi100": Outside(units=120, peaks={"fp32": 46.1e12}, bytes_per_s=1.23e12, cache_bytes=8 * MIB,
                     source="notebookcheck.net MI100, FP32 of the matrix units; cache assumed"),
    "v100_pcie": Outside(units=80, peaks={"fp32": 14.13e12, "fp16": 113e12}, bytes_per_s=900e9, cache_bytes=6 * MIB,
                         source="80 SMs at 1380 MHz (gpu-benches): 64 FP32 and 512 tensor FMAs a clock each"),
}  # fmt: skip

# The field's names of devices in the catalogue. A H800 is taken as the H100 SXM, whose chip and memory it has.
CATALOGUE = {
    "h100": "nvidia_h100_sxm5",
    "h200": "nvidia_h200_sxm",
    "h800": "nvidia_h100_sxm5",
    "a100": "nvidia_a100_sxm_80gb",
    "a100_40": "nvidia_a100_sxm_40gb",
    "p100": "nvidia_p100_pcie",
    "t4": "nvidia_t4",
    "rtx3090": "nvidia_rtx3090",
    "rtx4090": "nvidia_rtx4090",
}


@cache
def device(name: str, dtype: str) -> Device | None:
    """The device as the closed forms want it; None where its peak for the type is not known."""
    if name in OUTSIDE:
        found = OUTSIDE[name]
        peak = found.peaks.get(dtype) or (found.peaks.get("bf16") if dtype == "fp16" else None)
        return peak and Device(units=found.units, ops_per_s=peak, bytes_per_s=found.bytes_per_s,
                               cache_bytes=found.cache_bytes)  # fmt: skip
    machine = find_machine(CATALOGUE.get(name, name))
    peak = machine.peak(dtype).value
    bandwidth, units = machine.bandwidth_bytes_per_s.value, machine.cores.value
    if not peak or not bandwidth or not units:
        return None
    return Device(
        units=units, ops_per_s=peak, bytes_per_s=bandwidth, cache_bytes=machine.cache_bytes.value or 0.0
    )
