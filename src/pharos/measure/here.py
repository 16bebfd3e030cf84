"""Here: the machine that Pharos runs on, as its system describes it, and whether it is quiet."""

import os
import platform
import re
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pharos.quantity.units import parse

# Instruction sets that change how fast a core multiplies: flag -> single-precision FLOP a core and cycle,
# with two fused multiply-add units; what is listed later is wider. Source: the vendors' optimisation manuals.
WIDTHS = {"sse2": 8, "avx": 16, "avx2": 32, "avx512f": 64}
SHOWN = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8", "avx_vnni",
         "asimd", "asimddp", "bf16", "i8mm", "sve")  # fmt: skip
# Share of the time that other processes may take before timings say more about them than about a model.
QUIET = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """This machine.

    Args:
        cores: that this process may use; instructions: those of `SHOWN` it has.
        clock_hz: the highest the system states, else the present one; None where it says neither.
        caches: bytes by level ("L1d", "L2", "L3"), of all cores together.
        versions: of Python and of the libraries that run models.
    """

    cpu: str
    cores: int
    threads_per_core: int
    instructions: tuple[str, ...]
    clock_hz: float | None
    caches: dict[str, int]
    memory_bytes: int
    system: str
    versions: dict[str, str]
    accelerators: tuple[str, ...] = ()

    @property
    def flop_per_cycle(self) -> int | None:
        """Single-precision FLOP a core and cycle at most; None for an instruction set not listed."""
        found = [width for flag, width in WIDTHS.items() if flag in self.instructions]
        return max(found) if found else None


@dataclass(frozen=True, slots=True)
class Noise:
    """How busy the machine is with other things.

    Args:
        others: share of all cores' time that other processes took while it was looked at.
        pressure: share of the last 10 s in which some process waited for a core, as the kernel says; None
            where it says nothing.
    """

    others: float
    pressure: float | None

    @property
    def is_quiet(self) -> bool:
        """Whether timings can be trusted."""
        return self.others <= QUIET and (self.pressure is None or self.pressure <= QUIET)

    def __str__(self) -> str:
        waited = (
            "" if self.pressure is None else f", some process waited for a core {self.pressure:.0%} of 10 s"
        )
        return f"others take {self.others:.0%} of the cores{waited}"


def here() -> Here:
    """Describes this machine; nothing is measured."""
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    return Here(
        cpu=info.get("model name") or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads_per_core=_threads_per_core(),
        instructions=tuple(f for f in dict.fromkeys((*WIDTHS, *SHOWN)) if f in flags),
        clock_hz=_clock(info),
        caches=_caches(),
        memory_bytes=_memory(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=_versions(),
        accelerators=_accelerators(),
    )


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    first = text.split("\n\n")[0]
    return {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in first.splitlines())}


def _threads_per_core() -> int:
    try:
        beside = Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list").read_text()
        return len(re.findall(r"\d+", beside)) if "-" not in beside else 2
    except OSError:
        return 1


def _clock(info: dict[str, str]) -> float | None:
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq").read_text()) * 1e3
    except (OSError, ValueError):
        pass
    try:
        return float(info["cpu MHz"]) * 1e6
    except (KeyError, ValueError):
        return None


def _caches() -> dict[str, int]:
    found: dict[str, int] = {}
    seen = set()
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, kind, size, shared = (
                (index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list")
            )
        except OSError:
            continue
        if kind == "Instruction" or (level, kind, shared) in seen:
            continue
        seen.add((level, kind, shared))
        name = f"L{level}d" if kind == "Data" else f"L{level}"
        found[name] = found.get(name, 0) + int(parse(f"{size.rstrip('K')} KiB", "B"))
    return dict(sorted(found.items()))


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "onnxruntime", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _accelerators() -> tuple[str, ...]:
    """NVIDIA devices that the driver lists; torch is not asked, it would start them."""
    found = []
    for place in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"Model:\s*(.+)", place.read_text())
        if match:
            found.append(match[1].strip())
    return tuple(found)


def noise(seconds: float = 0.3) -> Noise:
    """Looks for `seconds` at what other processes do; this one should rest meanwhile."""
    before, own = _busy(), time.process_time()
    start = time.perf_counter()
    time.sleep(seconds)
    after, mine, passed = _busy(), time.process_time() - own, time.perf_counter() - start
    cores = os.cpu_count() or 1
    taken = 0.0 if before is None or after is None else max(after - before - mine, 0.0)
    return Noise(min(taken / (passed * cores), 1.0), _pressure())


def _busy() -> float | None:
    """Seconds that all cores together were not idle, since the start."""
    try:
        columns = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return None
    ticks = [int(c) for c in columns[:8]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _pressure() -> float | None:
    try:
        text = Path("/proc/pressure/cpu").read_text()
    except OSError:
        return None
    match = re.search(r"some avg10=([\d.]+)", text)
    return float(match[1]) / 100 if match else None
