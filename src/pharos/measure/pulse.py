"""Pulse: whether this machine runs at its usual speed just now, by a fixed piece of work.

Neighbours on the same host, and clocks that fall, slow a machine down without its own system seeing it.
"""

import time
from dataclasses import dataclass

# A pulse that takes so much longer than at its best is that of a disturbed machine.
SLOW = 1.2
# Turns of the work in one reading, and readings that a pulse is the middle of.
TURNS, READINGS = 5, 15


@dataclass(slots=True)
class Pulse:
    """The machine's pulse.

    Args:
        best: seconds of one reading on the undisturbed machine.
    """

    best: float

    @classmethod
    def taken(cls, seconds: float = 1.0) -> "Pulse":
        """Looks for `seconds` what the machine does at its best: the fastest tenth of readings."""
        found = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or len(found) < 5:
            found.append(reading())
        return cls(sorted(found)[len(found) // 10])

    def now(self) -> float:
        """How many times longer a reading takes now than at best."""
        found = reading()
        # a faster machine than ever seen: the mark moves, slowly
        self.best = min(self.best, found * 1.1)
        return found / self.best

    def settle(self, patience: float = 0.5) -> float:
        """Waits for the machine's usual speed, but not longer than `patience` seconds; its pulse then."""
        until = time.perf_counter() + patience
        while (found := self.now()) > SLOW and time.perf_counter() < until:
            time.sleep(0.01)
        return found


def reading() -> float:
    """Seconds of the fixed work: small products and small element-wise steps, as an eager run has them."""
    import torch

    a, x = torch.ones(64, 64), torch.ones(4096)
    found = []
    for _ in range(READINGS):
        start = time.perf_counter()
        for _ in range(TURNS):
            torch.mm(a, a)
            torch.relu(x)
        found.append(time.perf_counter() - start)
    return sorted(found)[READINGS // 3]
