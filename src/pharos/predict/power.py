"""Power caps: the clock that keeps a machine's average power at its limit, and what it does to kernels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pharos.machines.machine import Machine
from pharos.machines.profile import Profile
from pharos.predict.clock import LEAST_CLOCK, is_capped
from pharos.predict.kernel import KernelTime, compute_dtype
from pharos.predict.prices import prices_of
from pharos.quantity.dtypes import Precision
from pharos.quantity.evidence import assumed
from pharos.quantity.sizes import Size, is_array, is_symbol, maximum, minimum

if TYPE_CHECKING:
    from pharos.predict.estimate import Operation

# Memory keeps its speed until the clock is below this part of its full one. Assumed, from public reports.
MEMORY_HOLDS = 0.6
# Of the way back from a halving of the interval: 2^-30 of the clock.
STEPS = 30


def clock_under_cap(
    operations: "tuple[Operation, ...]", machine: Machine, profile: Profile, precision: Precision,
    lasts: "Callable[[tuple[Operation, ...]], Size]",
) -> Size:  # fmt: skip
    """The fraction of the clock at which the average power over a step is the cap; 1 where it stays below.

    Times of a profile were measured under the machine's own limit and have it in them: only a lower cap
    slows. What would have been above that limit is taken at it. P(f) = constant + dynamic energy(f) /
    time(f), where dynamic energy goes as voltage squared; the clock is found by halving.

    Args:
        lasts: seconds of a step of such kernels, with all that the runtime adds.
    """
    if not is_capped(machine) or any(op.time is None for op in operations) or not operations:
        return 1.0
    from pharos.predict.energy import dynamic, static_of

    prices = prices_of(machine, profile, compute_dtype(precision))
    static = static_of(machine, prices)[0] or 0.0
    cap, rated = machine.max_W.value, machine.rated_W.value if machine.rated_W else None
    assert cap is not None

    def drawn(clock: Size) -> Size:
        slow = slowed(operations, clock)
        spent = [dynamic(op, machine, prices, 0.0, clock) for op in slow]
        return sum((e.total_J for e in spent if e is not None), start=0.0) / lasts(slow)

    full = drawn(1.0)
    if is_symbol(full):
        return 1.0
    # what the model has above the board's own limit, the board never drew
    share = minimum(1.0, (rated - static) / full) if rated is not None and rated > static else 1.0
    low, high = full * 0 + LEAST_CLOCK, full * 0 + 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        below = static + share * drawn(middle) <= cap
        if is_array(middle):
            import numpy

            low, high = numpy.where(below, middle, low), numpy.where(below, high, middle)
        elif below:
            low = middle
        else:
            high = middle
    free = static + share * full <= cap
    if is_array(low):
        import numpy

        return numpy.where(free, 1.0, low)
    return 1.0 if free else low


def slowed(operations: "Sequence[Operation]", clock: Size) -> "tuple[Operation, ...]":
    """The kernels at a lower clock: arithmetic takes longer, memory hardly, launches not."""
    if not is_array(clock) and clock == 1.0:
        return tuple(operations)
    return tuple(replace(op, time=op.time and _slowed(op.time, clock)) for op in operations)


def _slowed(time: KernelTime, clock: Size) -> KernelTime:
    compute, data = time.compute_s / clock, time.data_s / minimum(clock / MEMORY_HOLDS, 1.0)
    serial = time.serial_s / clock
    before = _joined(time.compute_s, time.data_s)
    joined = time.latency_s - time.overhead_s - time.serial_s
    longer = joined * (_joined(compute, data) / maximum(before, 1e-300))
    evidence = (
        *time.evidence,
        assumed("under a power cap arithmetic slows with the clock, memory below 60% of it"),
    )
    return replace(time, compute_s=compute, data_s=data, serial_s=serial,
                   latency_s=time.overhead_s + serial + longer, evidence=evidence)  # fmt: skip


def _joined(compute: Size, data: Size) -> Size:
    """Both overlapped, nearly the longer one."""
    return (compute**3 + data**3) ** (1 / 3)


def bound_by_power(binding: Any, clock: Size) -> Any:
    """Power, where a cap slows the arithmetic that binds; else what binds."""
    if is_array(clock) or is_array(binding):
        import numpy

        return numpy.where((numpy.asarray(binding) == "compute") & (clock < 1.0), "power", binding)
    return "power" if binding == "compute" and clock < 1.0 else binding
