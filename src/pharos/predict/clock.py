"""Clock: what a lower one does to the voltage, and the limit of power that then holds."""

from pharos.machines.machine import Machine
from pharos.quantity.sizes import Size, is_array

# Voltage over that at full clock falls to here as the clock falls to nothing, in a straight line: power near
# the top then goes as the 2.2th power of the clock. Assumed, between the public reports of 2 and 2.5.
LEAST_VOLTAGE = 0.4
# No GPU goes below: 210 to 345 MHz of 1.4 to 2 GHz.
LEAST_CLOCK = 0.15


def voltage(clock: Size) -> Size:
    """Voltage at a fraction of the clock, as a fraction."""
    return LEAST_VOLTAGE + (1 - LEAST_VOLTAGE) * clock


def is_capped(machine: Machine) -> bool:
    """Whether a limit stands that is lower than the machine's own."""
    cap, rated = machine.max_W.value, machine.rated_W
    if rated is None or cap is None:
        return False
    return rated.value is None or cap < rated.value


def floor_reached(clock: Size) -> bool:
    """Whether a cap could not be kept at any clock."""
    return not is_array(clock) and clock <= LEAST_CLOCK * 1.0001


def limit_of(machine: Machine, clock: Size) -> Size | None:
    """Watts that a step at that clock does not pass; None where it is not known.

    Below the lowest clock a cap is not kept: the machine's own limit is what there is.
    """
    cap = machine.max_W.value
    if cap is None or not is_capped(machine):
        return cap
    own = machine.rated_W.value if machine.rated_W else None
    if is_array(clock):
        import numpy

        return numpy.where(clock <= LEAST_CLOCK * 1.0001, own or numpy.inf, cap)
    return own if floor_reached(clock) else cap
