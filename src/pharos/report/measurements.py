"""Measurements as rows and as text: what was timed, beside what was predicted."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.measure.measure import Measured, Measurement
from pharos.quantity.units import fmt
from pharos.report.rows import plain
from pharos.report.text import grid, pair, share


def measurement_row(found: Measurement) -> dict[str, Any]:
    """What `pharos measure --json` prints."""
    from pharos.measure.measure import row

    timing, estimate = found.timing, found.estimate
    made = {"schema": "pharos/measure@1", **row(found), "composed_s": found.composed, "level": "measured",
            "noise": {"others": found.noise.others, "pressure": found.noise.pressure,
                      "quiet": found.noise.is_quiet},
            "spread": timing.spread, "uncertainty": timing.uncertainty}  # fmt: skip
    if estimate is not None:
        latency = estimate.latency
        made["predicted_s"] = {key: plain(getattr(latency, key)) for key in ("value", "low", "high")}
        made["predicted_on"] = estimate.machine.id
    made["operators"] = [
        {"name": o.name, "kind": o.kind, "cost_class": o.cost_class, "count": o.times,
         "measured_s": o.seconds, "predicted_s": o.predicted, "reason": o.reason}
        for o in found.operators
    ]  # fmt: skip
    return made


def print_measurement(console: Console, found: Measurement, rows: int) -> None:
    """`pharos measure`: the whole with its spread, then the operators, then the largest gaps."""
    timing, machine = found.timing, found.machine
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    console.print(Text(f"{found.model}  {found.runtime}, {threads}, on {machine.cpu}", style="bold"))
    if len(timing.samples) > 1:
        low, high = fmt(timing.share(0.1), "s"), fmt(timing.share(0.9), "s")
        band = f"(80% of {len(timing.samples)} runs: {low} to {high})"
        pair(console, "latency", f"{fmt(timing.median, 's')} {band}")
    else:
        pair(console, "latency", f"{fmt(timing.median, 's')}, each distinct operator timed once and added up")
    estimate = found.estimate
    if estimate is not None and estimate.latency.value is not None:
        value = float(estimate.latency.value)
        low, high = estimate.latency.low, estimate.latency.high
        inside = low is not None and high is not None and float(low) <= timing.median <= float(high)
        band = f"{fmt(low, 's')} to {fmt(high, 's')}"
        pair(console, "predicted", f"{fmt(value, 's')} ({band}) on {estimate.machine.id}: "
             f"{value / timing.median - 1:+.0%}, {'inside' if inside else 'outside'} its band")  # fmt: skip
    if found.composed is not None and len(timing.samples) > 1:
        pair(
            console,
            "operators",
            f"{fmt(found.composed, 's')} one by one, {found.composed / timing.median:.0%}",
        )
    if found.peak_bytes is not None:
        pair(
            console,
            "memory",
            f"{fmt(found.peak_bytes, 'B')} more resident at most during a run, as the system saw it",
        )
    energy = "unknown: this machine has no energy counter that can be read"
    pair(
        console,
        "energy",
        energy if found.energy_J is None else f"{fmt(found.energy_J, 'J')} a run, processor packages",
    )
    versions = ", ".join(f"{k} {v}" for k, v in machine.versions.items())
    pair(console, "known by", f"measured {found.taken_at}, {versions}")
    if not found.noise.is_quiet:
        pair(console, "noise", f"not quiet: {found.noise}; the figures may be too large")
    if not found.operators or not rows:
        return
    console.print()
    whole = sum(o.seconds for o in found.operators)
    columns = [("operator", "left"), ("kind", "left"), ("runs", "right"), ("measured", "right"),
               ("share", "right"), ("predicted", "right"), ("ratio", "right")]  # fmt: skip
    table = [
        [o.name, o.kind, str(o.times), fmt(o.seconds, "s"), share(o.seconds, whole),
         "-" if o.predicted is None else fmt(o.predicted, "s"), _ratio(o)]
        for o in found.operators[:rows]
    ]  # fmt: skip
    grid(console, columns, table, flexible=(0, 1))
    if len(found.operators) > rows:
        rest = sum(o.seconds for o in found.operators[rows:])
        console.print(f"and {len(found.operators) - rows} more operators, {fmt(rest, 's')}", style="dim")
    gaps = sorted((o for o in found.operators if o.predicted), key=_gap, reverse=True)[:3]
    if gaps:
        console.print()
        for o in gaps:
            pair(
                console, "gap", f"{o.name}: {fmt(o.seconds, 's')} against {fmt(o.predicted, 's')}; {o.reason}"
            )


def _ratio(o: Measured) -> str:
    return "-" if not o.predicted else f"{o.predicted / o.seconds:.2f}"


def _gap(o: Measured) -> float:
    return abs(o.seconds - (o.predicted or 0.0))
