"""Measurements as rows and as text: what was timed, beside what was predicted."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.measure.measure import Measured, Measurement
from pharos.measure.peaks import explained
from pharos.measure.store import Kept
from pharos.measure.unique import Composed
from pharos.quantity.units import fmt
from pharos.report.rows import plain
from pharos.report.text import grid, pair, share

# A clock that moves by more than this while a model is timed is told.
MOVED = 0.02
# So is a machine whose pulse differs by more from when it was calibrated.
PACED = 0.1
GAPS = 3


def measurement_row(found: Measurement) -> dict[str, Any]:
    """What `pharos measure --json` prints."""
    from pharos.measure.measure import row

    timing, estimate, peaks = found.timing, found.estimate, found.peaks
    made = {"schema": "pharos/measure@1", **row(found), "composed_s": found.summed, "level": "measured",
            "noise": {"others": found.noise.others, "pressure": found.noise.pressure,
                      "quiet": found.noise.is_quiet},
            "spread": timing.spread, "uncertainty": timing.uncertainty, "device_name": found.device_name,
            "whole": found.whole, "layout_copies_s": found.copies, "clock_hz": found.clock_hz,
            "clock_drift": found.clock_drift, "energy_of": found.energy_of}  # fmt: skip
    made["memory_bytes"] = {
        "predicted": plain(found.memory.allocated),
        "weights": plain(found.memory.weights),
        "activations_peak": plain(found.memory.activations_peak),
        **({} if peaks is None else {
            "settled": peaks.settled, "allocator": peaks.allocator, "reserved": peaks.reserved,
            "system": peaks.system, "allocator_peak_in": peaks.where,
            "differences": explained(peaks, found.memory),
        }),
    }  # fmt: skip
    if found.composed is not None:
        made["unique"] = unique_row(found.composed, timing.median if found.whole else None)
    if estimate is not None:
        latency = estimate.latency
        made["predicted_s"] = {key: plain(getattr(latency, key)) for key in ("value", "low", "high")}
        made["predicted_on"] = estimate.machine.id
    made["operators"] = [
        {"name": o.name, "kind": o.kind, "cost_class": o.cost_class, "count": o.times,
         "measured_s": o.seconds, "predicted_s": o.predicted, "spread": o.spread, "reason": o.reason}
        for o in found.operators
    ]  # fmt: skip
    return made


def unique_row(found: Composed, whole_s: float | None) -> dict[str, Any]:
    """A composition as plain data, with its error where the whole was run too."""
    return {"total_s": found.total_s, "kernels_s": found.kernels_s, "between_s": found.between_s,
            "between_known_by": found.known, "distinct": found.distinct, "kernels": found.launches,
            "views": found.views,
            "error": None if whole_s is None else found.total_s / whole_s - 1}  # fmt: skip


def history_rows(kept: Sequence[Kept]) -> list[dict[str, Any]]:
    """What `pharos measure --history --json` prints of each run."""
    return [
        {"id": k.id, "taken_at": k.taken_at, "model": k.model, "workload": k.workload, "runtime": k.runtime,
         "device": k.device, "threads": k.threads, "median_s": k.median_s, "low_s": k.low_s,
         "high_s": k.high_s, "samples": k.samples, "quiet": k.quiet,
         "peak_bytes": k.peak_bytes, "energy_J": k.energy_J,
         "predicted_s": k.predicted_s, "cpu": k.machine.get("cpu"), "versions": k.machine.get("versions"),
         "refines": k.graph is not None}
        for k in kept
    ]  # fmt: skip


def print_history(console: Console, kept: Sequence[Kept], path: str) -> None:
    """`pharos measure --history`: stored runs, the newest first."""
    columns = [("taken", "left"), ("model", "left"), ("batch", "right"), ("runtime", "left"), ("on", "left"),
               ("median", "right"), ("80% of runs", "right"), ("predicted", "right"),
               ("quiet", "right")]  # fmt: skip
    rows = [
        [k.taken_at[:16].replace("T", " "), k.model, str(k.workload.get("batch") or 1), k.runtime,
         k.device if k.device != "cpu" else f"{k.threads}t", fmt(k.median_s, "s"),
         f"{fmt(k.low_s, 's')} to {fmt(k.high_s, 's')}",
         "-" if not k.predicted_s else f"{k.predicted_s / k.median_s - 1:+.0%}", "yes" if k.quiet else "no"]
        for k in kept
    ]  # fmt: skip
    if console.width < 120:
        columns, rows = [*columns[:6], *columns[7:]], [[*row[:6], *row[7:]] for row in rows]
    if console.width < 100:
        columns, rows = columns[:-1], [[row[0][:10], *row[1:-1]] for row in rows]
    grid(console, columns, rows, flexible=(1,))
    console.print(f"{len(kept)} runs in {path}", style="dim", soft_wrap=True)


def print_measurement(console: Console, found: Measurement, rows: int) -> None:
    """`pharos measure`: the whole with its spread, then the operators, then the largest gaps."""
    timing, machine = found.timing, found.machine
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    way = found.runtime if found.device == "cuda" else f"{found.runtime}, {threads}"
    console.print(Text(f"{found.model}  {way}, on {found.device_name}", style="bold"))
    if found.whole:
        low, high = fmt(timing.share(0.1), "s"), fmt(timing.share(0.9), "s")
        band = f"(80% of {len(timing.samples)} runs: {low} to {high})"
        pair(console, "latency", f"{fmt(timing.median, 's')} {band}")
    _print_composed(console, found)
    estimate = found.estimate
    if estimate is not None and estimate.latency.value is not None:
        value = float(estimate.latency.value)
        low, high = estimate.latency.low, estimate.latency.high
        inside = low is not None and high is not None and float(low) <= timing.median <= float(high)
        band = f"{fmt(low, 's')} to {fmt(high, 's')}"
        pair(console, "predicted", f"{fmt(value, 's')} ({band}) on {estimate.machine.id}: "
             f"{value / timing.median - 1:+.0%}, {'inside' if inside else 'outside'} its band")  # fmt: skip
    if found.summed is not None and found.whole:
        copies = f", {fmt(found.copies, 's')} of them for copies between layouts" if found.copies else ""
        part = f"{found.summed / timing.median:.0%} of the whole"
        pair(console, "operators", f"{fmt(found.summed, 's')} one by one, {part}{copies}")
    _print_memory(console, found)
    energy = "unknown: this machine has no energy counter that can be read"
    if found.energy_J is not None:
        energy = f"{fmt(found.energy_J, 'J')} a run, {found.energy_of}"
    if found.whole:
        pair(console, "energy", energy)
    versions = ", ".join(f"{k} {v}" for k, v in machine.versions.items())
    pair(console, "known by", f"measured {found.taken_at}, {versions}")
    if found.clock_drift is not None and found.clock_drift > MOVED:
        pair(
            console,
            "clock",
            f"moved by {found.clock_drift:.0%} while measuring, {fmt(found.clock_hz, 'Hz')} at the end",
        )
    _print_pulse(console, found)
    if not found.noise.is_quiet:
        pair(console, "noise", f"not quiet: {found.noise}; the figures may be too large")
    if not found.operators or not rows:
        return
    console.print()
    _print_operators(console, found, rows)
    gaps = sorted((o for o in found.operators if o.predicted and o.reason), key=_gap, reverse=True)[:GAPS]
    if gaps:
        console.print()
        for o in gaps:
            told = f"{o.name}: {fmt(o.seconds, 's')}, predicted {fmt(o.predicted, 's')}; {o.reason}"
            pair(console, "gap", told)


def _print_pulse(console: Console, found: Measurement) -> None:
    """How much slower the machine was than when it was calibrated."""
    estimate = found.estimate
    if estimate is None or not estimate.machine.calibration or not found.pulse_s:
        return
    pace = estimate.machine.pace
    if pace and max(abs(p - 1) for p in pace) > PACED:
        told = f"{pace[0]:.2f}x as long as while calibrating on one core, {pace[1]:.2f}x on all in use"
        pair(console, "pulse", f"{told}; the prediction is for this pace")


def _print_composed(console: Console, found: Measurement) -> None:
    made = found.composed
    if made is None:
        return
    runs = f"{made.launches + 0:,} kernels"
    between = "what is between them is not known"
    if made.between_s is not None:
        between = f"{fmt(made.between_s, 's')} between them ({made.known})"
    off = f"; {made.total_s / found.timing.median - 1:+.1%} of the whole" if found.whole else ""
    name = "composed" if found.whole else "latency"
    told = (f"{fmt(made.total_s, 's')} put together of {made.distinct} distinct kernels timed once: "
            f"{runs} {fmt(made.kernels_s, 's')}, {between}{off}")  # fmt: skip
    pair(console, name, told)


def _print_memory(console: Console, found: Measurement) -> None:
    """The predicted peak, what the allocator and the system saw, and why they differ."""
    peaks, predicted = found.peaks, found.memory
    if peaks is None:
        return
    parts = f"weights {fmt(predicted.weights, 'B')}, activations {fmt(predicted.activations_peak, 'B')}"
    seen = []
    if peaks.allocator is not None:
        seen.append(f"{fmt(peaks.allocator, 'B')} by PyTorch's allocator")
    if peaks.reserved is not None:
        seen.append(f"{fmt(peaks.reserved, 'B')} reserved")
    if peaks.system is not None:
        beyond = " in all" if peaks.reserved is not None else " more resident than before "
        beyond += "" if peaks.reserved is not None else "the session" if peaks.anew else "the run"
        seen.append(f"{fmt(peaks.system, 'B')}{beyond}, by {peaks.by}")
    pair(
        console,
        "memory",
        f"{'; '.join(seen) or 'no meter'}; predicted {fmt(predicted.allocated, 'B')} ({parts})",
    )
    for told in explained(peaks, predicted):
        pair(console, "", told)


def _print_operators(console: Console, found: Measurement, rows: int) -> None:
    whole = sum(o.seconds for o in found.operators)
    told = any(o.predicted is not None for o in found.operators)
    wide = console.width >= 100
    columns = [("operator", "left"), ("kind", "left"), ("runs", "right"), ("measured", "right"),
               ("share", "right")]  # fmt: skip
    columns += [("spread", "right")] if wide else []
    columns += [("predicted", "right"), ("ratio", "right")] if told else []
    table = [
        [o.name, o.kind, str(o.times), fmt(o.seconds, "s"), share(o.seconds, whole),
         *([f"±{o.spread:.0%}"] if wide else []),
         *(["-" if o.predicted is None else fmt(o.predicted, "s"), _ratio(o)] if told else [])]
        for o in found.operators[:rows]
    ]  # fmt: skip
    grid(console, columns, table, flexible=(0, 1))
    if len(found.operators) > rows:
        rest = sum(o.seconds for o in found.operators[rows:])
        console.print(f"and {len(found.operators) - rows} more operators, {fmt(rest, 's')}", style="dim")


def _ratio(o: Measured) -> str:
    return "-" if not o.predicted else f"{o.predicted / o.seconds:.2f}"


def _gap(o: Measured) -> float:
    return abs(o.seconds - (o.predicted or 0.0))
