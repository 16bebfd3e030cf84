"""Probes: what `pharos probe` prints, its JSON, and its learning curves as a figure."""

from math import exp
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.decide.curves import Curve, Range
from pharos.decide.probe import Probe
from pharos.decide.probe_verdict import verdict_of
from pharos.quantity.units import fmt_count
from pharos.report.drawing import Figure, require_altair
from pharos.report.text import grid, pair


def range_row(found: Range | None) -> dict[str, Any] | None:
    """A range as plain data."""
    if found is None:
        return None
    return {"value": found.value, "low": found.low, "high": found.high, "bound": found.least}


def _curve_row(found: Probe, curve: Curve) -> dict[str, Any]:
    law, why = curve.law()
    full, untold = found.at_full(curve.name)
    row: dict[str, Any] = {
        "name": curve.name, "sizes": list(curve.sizes), "errors": [list(e) for e in curve.errors],
        "learns": curve.learns, "at_full": range_row(full), "missed_last": curve.missed(),
        "law": None if law is None else {"floor": law.floor, "scale": law.scale, "steepness": law.steepness},
    }  # fmt: skip
    if why or untold:
        row["cannot_tell"] = why or untold
    if found.asked.target is not None:
        needed, why = found.to_target(curve.name)
        row |= {"to_target": range_row(needed)} | ({"target_cannot_tell": why} if why else {})
    return row


def probe_row(found: Probe) -> dict[str, Any]:
    """A probe as plain data; schema pharos/probe@1. Errors are 1 - accuracy, or shares of variance left."""
    verdict = verdict_of(found)

    def leads(shuffled: bool) -> list[dict[str, Any]]:
        return [{"family": a.first, "than": a.second, "error": a.error, "samples": a.few,
                 "samples_of_other": a.many, "times": range_row(a.ratio), "gap": a.gap,
                 "gap_spread": a.gap_spread, "clear": a.clear}
                for a in found.advantages(shuffled)]  # fmt: skip

    return {
        "schema": "pharos/probe@1", "data": found.data.path, "kind": found.kind, "label": found.label,
        "classes": list(found.classes), "metric": found.metric, "chance": found.chance,
        "pool": found.pool, "tested": found.tested, "full": found.full, "seeds": found.asked.seeds,
        "seed": found.asked.seed, "matched_by": found.matched.by, "apart": found.matched.apart,
        "members": [{"family": m.family, "model": m.model, "context": m.context, "parameters": m.parameters,
                     "macs": m.macs, "rate": found.rates.get(m.family)} for m in found.matched.members],
        "curves": [_curve_row(found, c) for c in found.curves.values()],
        "shuffled": [_curve_row(found, c) for c in found.shuffled.values()],
        "advantages": leads(False), "advantages_shuffled": leads(True) if found.shuffled else [],
        "verdict": {"best": verdict.best, "clear": verdict.clear, "gap_when_shuffled": verdict.gap,
                    "words": list(verdict.words)},
        "runs": found.runs, "planned": found.planned, "seconds": round(found.seconds, 1),
        "notes": list(found.notes), "known": "measured: on this machine's CPU",
    }  # fmt: skip


def print_probe(console: Console, found: Probe) -> None:
    """`pharos probe`: the verdict, who was trained on what, errors by sample size."""
    verdict = verdict_of(found)
    head = verdict.best.upper() if verdict.best and verdict.clear else "CANNOT TELL"
    console.print(Text(f"{head}  {found.data.path}", style="bold"))
    for i, words in enumerate(verdict.words):
        pair(console, "finds" if i == 0 else "", words)
    what = f"{len(found.classes)} classes" if found.classes else "a number"
    pair(console, "learns", f"{found.label} ({what}) of {found.kind}; {found.pool:,} to draw from, "
         f"{found.tested:,} held out, never trained on")  # fmt: skip
    pair(console, "error", f"{found.metric} on what was held out; without learning: {found.chance:.1%}")
    pair(console, "known by", f"measured: {found.runs} of {found.planned} trainings in {found.seconds:.0f} s "
         f"on this machine, {found.asked.seeds} seeds, a sample each")  # fmt: skip
    for note in found.notes:
        pair(console, "note", note)
    console.print()
    _members(console, found)
    for title, curves in (("as they are", found.curves), (f"{found.places} shuffled", found.shuffled)):
        if curves:
            console.print()
            _curves(console, found, curves, title)
    console.print("mean over seeds ± their deviation; law: error = floor + scale n^-steepness, fitted from "
                  "the size on that beats chance", style="dim")  # fmt: skip
    console.print()
    _beyond(console, found)


def _members(console: Console, found: Probe) -> None:
    rates = {f: f"{rate:g}" for f, rate in found.rates.items()}
    rows = [[m.family, m.model, fmt_count(m.parameters), fmt_count(m.macs), rates.get(m.family, "-")]
            for m in found.matched.members]  # fmt: skip
    grid(console, [("family", "left"), ("member", "left"), ("params", "right"), ("MACs", "right"),
                   ("rate", "right")], rows, (1,))  # fmt: skip
    console.print(f"of one size by {found.matched.by}, {found.matched.apart:.1%} apart; rate: of AdamW, the "
                  "best of three on validation", style="dim")  # fmt: skip


def _curves(console: Console, found: Probe, curves: dict[str, Curve], title: str) -> None:
    sizes = sorted({n for c in curves.values() for n in c.sizes})
    name = max(len(n) for n in curves)
    # a cell of "12.3±0.4" and its padding
    most = max(2, (console.width - name - 3) // 13)
    if len(sizes) > most:
        picked = sorted({round(i * (len(sizes) - 1) / (most - 1)) for i in range(most)})
        sizes = [sizes[i] for i in picked]
    rows = []
    for curve in curves.values():
        cells = []
        for n in sizes:
            if n not in curve.sizes:
                cells.append("-")
                continue
            i = curve.sizes.index(n)
            spread = float(curve.spreads[i])
            told = "" if spread != spread else f" ±{100 * spread:.1f}"
            cells.append(f"{100 * float(curve.means[i]):.1f}{told}")
        rows.append([curve.name, *cells])
    grid(console, [(f"error % {title}", "left"), *((f"{n:,}", "right") for n in sizes)], rows)


def _beyond(console: Console, found: Probe) -> None:
    """Laws, errors at all labels and samples to the target; what cannot be told, with why."""
    rows, untold = [], {}
    target = found.asked.target
    for curve in found.curves.values():
        law, _ = curve.law()
        full, why = found.at_full(curve.name)
        shown = "-" if law is None else f"{law.floor:.3f} + {law.scale:.3g} n^-{law.steepness:.2f}"
        missed = curve.missed()
        cells = [curve.name, shown, "-" if missed is None else f"{100 * (exp(missed) - 1):+.0f}%",
                 "?" if full is None else _percent(full)]  # fmt: skip
        untold[curve.name] = why
        if target is not None:
            needed, why = found.to_target(curve.name)
            untold[curve.name] = why or untold[curve.name]
            told = "?"
            if needed is not None:
                told = f"{fmt_count(needed.value)} ({fmt_count(needed.low)} to {fmt_count(needed.high)})"
            cells.append(told)
        rows.append(cells)
    columns = [("beyond", "left"), ("law", "left"), ("last", "right"),
               (f"error at {found.full:,} (80%)", "left")]  # fmt: skip
    if target is not None:
        columns.append((f"samples to {target:.1%} (80%)", "left"))
    grid(console, columns, rows, (0, 1))
    console.print("last: what was found at the largest size against the law fitted without it", style="dim")
    for name, why in untold.items():
        if why:
            pair(console, "cannot tell", f"{name}: {why}")


def _percent(found: Range) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def probe_figure(found: Probe) -> Figure:
    """Learning curves, a panel as the data are and one shuffled.

    Raises:
        InputError: Altair is not installed.
    """
    charts, rows = require_altair(), []
    for condition, curves in (("as they are", found.curves), (f"{found.places} shuffled", found.shuffled)):
        for curve in curves.values():
            for n, errors, mean in zip(curve.sizes, curve.errors, curve.means, strict=True):
                rows.append({"examples": n, "error": float(mean), "learner": curve.name, "data": condition,
                             "low": min(errors), "high": max(errors)})  # fmt: skip
    order = [*found.families, *(n for n in found.curves if n not in found.families)]
    base = charts.Chart().encode(
        x=charts.X("examples:Q", scale=charts.Scale(type="log", nice=False), title="labelled examples"),
        color=charts.Color("learner:N", sort=order, title=None),
    )
    line = base.mark_line(point=True).encode(y=charts.Y("error:Q", title=found.metric))
    band = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    chance = charts.Chart().mark_rule(strokeDash=[4, 4]).encode(y=charts.datum(found.chance))
    drawn = charts.layer(line, band, chance, data=charts.Data(values=rows))
    if found.shuffled:
        drawn = drawn.properties(width=300).facet(column=charts.Column("data:N", title=None))
    verdict = verdict_of(found)
    source = f"measured here: {found.asked.seeds} seeds, {found.tested:,} held out; dashed: chance"
    return Figure.of(drawn, name="probe", title=f"Learning curves, {found.kind}", alt=verdict.words[0],
                     source=source)  # fmt: skip
