"""Duty: energy a day, average power and battery life of a model that runs now and then."""

from dataclasses import dataclass
from typing import Any

from pharos.machines.machine import Machine
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Figure, assumed, counted, merge, unknown_because
from pharos.quantity.sizes import Size

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """How often a model runs: exactly one of the first three.

    Args:
        every_s: seconds from one run's start to the next one's.
        per_day: runs a day.
        busy: fraction of the time that it runs, one run after the other while it does.
        battery_J: what a full battery gives; wake_J: what each run costs beside itself, to wake up.
    """

    every_s: float | None = None
    per_day: float | None = None
    busy: float | None = None
    battery_J: float | None = None
    wake_J: float = 0.0

    def __post_init__(self) -> None:
        given = [v for v in (self.every_s, self.per_day, self.busy) if v is not None]
        if len(given) != 1:
            raise InputError(
                "a duty cycle is one of: a run every so often, so many a day, a part of the time"
            )
        if not 0 < given[0] < 1e24 or (self.busy is not None and self.busy > 1):
            why = "it must be positive, a part of the time at most 1"
            raise InputError(f"{given[0]:g} is no duty cycle: {why}")

    def runs(self, latency_s: Size) -> Size:
        """Runs a day, for runs that take so long."""
        if self.per_day is not None:
            return self.per_day
        return DAY_S / self.every_s if self.every_s is not None else (self.busy or 0.0) * DAY_S / latency_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a day of a duty cycle takes.

    Args:
        runs: a day; busy: the fraction of the time they take, above 1 where a machine cannot keep up.
        run: joules of one run, its batch and all.
        energy: joules a day, with what is drawn between runs; idle_J: that part, None where not known.
        power: average watts; battery_s: how long a battery lasts, a value of None where none was given.
    """

    runs: Size
    busy: Size
    run: Figure
    energy: Figure
    power: Figure
    battery: Figure | None
    idle_J: Size | None

    @property
    def keeps_up(self) -> Any:
        """Whether the runs fit into a day."""
        return self.busy <= 1


def day(latency: Figure, energy: Figure, machine: Machine, duty: Duty) -> Day:
    """A day: n runs at their energy, waking up n times, and the idle power for the rest of it.

    J a day = n (E + E_wake) + P_idle (86,400 s - n t). Without an idle power the total is unknown, and what
    the runs take is its lower bound. The band is that of the runs' energy alone.

    Raises:
        InputError: the duty cycle needs a latency that is not known.
    """
    t = latency.value
    if t is None:
        raise InputError("a duty cycle needs a latency, which is unknown here")
    runs = duty.runs(t)
    busy = runs * t / DAY_S
    idle = machine.idle_W.value
    evidence = [*energy.evidence, counted("runs a day")]
    waking = runs * duty.wake_J
    # where runs do not fit there is no time between them
    rest = (1 - busy) * DAY_S * ((1 - busy) > 0)
    spent = None if idle is None else idle * rest

    def whole(joules: Size | None) -> Size | None:
        return None if joules is None or spent is None else runs * joules + waking + spent

    if idle is None:
        why = f"idle power of {machine.id} is not in the catalogue: what is drawn between runs is not known"
        evidence.append(unknown_because(why))
        low = None if energy.low is None else runs * energy.low + waking
        total = Figure(value=None, unit="J", evidence=merge(evidence), low=low)
    else:
        evidence.append(machine.idle_W.evidence)
        total = Figure(value=whole(energy.value), unit="J", evidence=merge(evidence), low=whole(energy.low),
                       high=whole(energy.high))  # fmt: skip
    power = _times(total, 1 / DAY_S, "W")
    battery = None
    if duty.battery_J is not None:
        longest, shortest = (_over(duty.battery_J, watts) for watts in (power.low, power.high))
        told = merge((*total.evidence, assumed("all of the battery can be used")))
        battery = Figure(value=_over(duty.battery_J, power.value), unit="s", low=shortest, high=longest,
                         evidence=told)  # fmt: skip
    return Day(runs=runs, busy=busy, run=energy, energy=total, power=power, battery=battery, idle_J=spent)


def _times(figure: Figure, factor: float, unit: str) -> Figure:
    value, low, high = (None if v is None else v * factor for v in (figure.value, figure.low, figure.high))
    return Figure(value=value, unit=unit, evidence=figure.evidence, low=low, high=high)


def _over(joules: float, watts: Size | None) -> Size | None:
    return None if watts is None else joules / watts
