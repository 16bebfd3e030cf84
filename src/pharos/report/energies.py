"""Energy on a terminal: of a run by cause, under a power cap, and of a day of a duty cycle."""

from rich.console import Console

from pharos.predict.clock import floor_reached, is_capped
from pharos.predict.duty import DAY_S, Day
from pharos.predict.estimate import Estimate
from pharos.predict.power import MEMORY_HOLDS
from pharos.quantity.evidence import Figure
from pharos.quantity.sizes import Size, is_array
from pharos.quantity.units import fmt
from pharos.report.text import pair, share


def band(figure: Figure) -> str:
    """Value with its 80% band: 123 ms (95 ms to 160 ms)."""
    if figure.value is None:
        ends = (("at least", figure.low), ("at most", figure.high))
        known = " and ".join(f"{word} {fmt(end, figure.unit)}" for word, end in ends if end is not None)
        return f"unknown, {known}" if known else "unknown"
    text = fmt(figure.value, figure.unit)
    if figure.low is None or figure.low is figure.value or figure.low == figure.high:
        return text
    return f"{text} ({fmt(figure.low, figure.unit)} to {fmt(figure.high, figure.unit)})"


def print_energy(console: Console, estimate: Estimate, daily: Day | None) -> None:
    """Joules of a run and their causes, average power, what a cap does, and the day."""
    pair(console, "energy", f"{band(estimate.energy)}  [{estimate.energy.level}]")
    parts = estimate.energy_parts
    if parts is not None:
        causes = (("compute", parts.compute_J), ("data", parts.data_J), ("static", parts.static_J))
        told = ", ".join(f"{name} {fmt(v, 'J')} ({share(v, parts.total_J)})" for name, v in causes)
        pair(console, "", told)
        pair(console, "power", f"{band(estimate.power_W)} on average while it runs")
    machine = estimate.machine
    if is_capped(machine) and not is_array(estimate.clock):
        cap = fmt(machine.max_W.value, "W")
        if floor_reached(estimate.clock):
            pair(console, "cap", f"{cap} cannot be kept: at the lowest clock it still draws more")
        elif estimate.clock < 1:
            slow = (
                "arithmetic slows, memory does not" if estimate.clock > MEMORY_HOLDS else "memory slows too"
            )
            pair(console, "cap", f"{cap} leaves {estimate.clock:.0%} of the clock: {slow}")
        else:
            pair(console, "cap", f"{cap} changes nothing: less is drawn")
    if machine.kind == "mobile_soc" or machine.sustained_W:
        held = machine.sustained_W
        known = f"{fmt(held.value, 'W')} held for long: --power-cap tells what it leaves" if held else (
            "how far heat throttles it is not in the catalogue; the figures are of a burst")  # fmt: skip
        pair(console, "sustained", known)
    if daily is not None:
        _day(console, daily)


def _day(console: Console, daily: Day) -> None:
    busy = f"busy {daily.busy:.2%} of the time"
    if not daily.keeps_up:
        busy = f"does NOT keep up: runs take {daily.busy:.3g} days"
    pair(console, "a day", f"{band(daily.energy)}: {fmt(daily.runs)} runs, {busy}")
    if daily.energy.value is None:
        pair(console, "", str(daily.energy.evidence[0]))
    elif daily.idle_J is not None:
        pair(console, "", f"of which between runs {fmt(daily.idle_J, 'J')}; {band(daily.power)} on average")
    if daily.battery is not None:
        ends = [_lasting(v) for v in (daily.battery.value, daily.battery.low, daily.battery.high)]
        pair(console, "battery", f"{ends[0]} ({ends[1]} to {ends[2]})")


def _lasting(seconds: Size | None) -> str:
    """Hours below two days, days above."""
    if seconds is None:
        return "unknown"
    return f"{seconds / 3600:.3g} h" if seconds < 2 * DAY_S else f"{seconds / DAY_S:.3g} days"
