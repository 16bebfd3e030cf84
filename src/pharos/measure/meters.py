"""Meters: the memory that the system saw a call take, and the energy, where a counter exists."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")


def peak_resident(call: Callable[[], Any]) -> int | None:
    """Bytes by which the resident memory of this process rose at most during a call; None without a meter."""
    status = Path("/proc/self/status")
    try:
        # 5 sets the high-water mark back to what is resident now
        Path("/proc/self/clear_refs").write_text("5")
        before = _field(status, "VmRSS")
        call()
        after = _field(status, "VmHWM")
    except OSError:
        return None
    return None if before is None or after is None else max(after - before, 0)


def _field(status: Path, name: str) -> int | None:
    found = re.search(rf"{name}:\s+(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else None


class EnergyMeter:
    """Joules of the processor packages, from the counters of Intel's and AMD's RAPL."""

    def __init__(self, root: Path = RAPL) -> None:
        self._zones = []
        for zone in sorted(root.glob("intel-rapl:[0-9]*")):
            if re.fullmatch(r"intel-rapl:\d+", zone.name):
                try:
                    wrap = int((zone / "max_energy_range_uj").read_text())
                    (zone / "energy_uj").read_text()
                except (OSError, ValueError):
                    continue
                self._zones.append((zone / "energy_uj", wrap))

    @property
    def exists(self) -> bool:
        """Whether this machine has such counters and lets us read them."""
        return bool(self._zones)

    def joules(self, call: Callable[[], Any]) -> float | None:
        """Energy that passed during a call, of the whole package; None without counters."""
        if not self._zones:
            return None
        before = [int(path.read_text()) for path, _ in self._zones]
        call()
        total = 0
        for (path, wrap), start in zip(self._zones, before, strict=True):
            passed = int(path.read_text()) - start
            total += passed if passed >= 0 else passed + wrap
        return total * 1e-6
