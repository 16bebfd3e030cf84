"""Sweeps as a table and as JSON: what was evaluated, where it lies, how figures are known, the first rows."""

import re
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pharos.decide.sweep.run import Swept
from pharos.predict.figures import COLUMNS
from pharos.quantity.units import fmt
from pharos.report.rows import plain

_UNIT = re.compile("_[sJW]$")


def sweep_row(found: Swept, rows: int = 12) -> dict[str, Any]:
    """What `pharos sweep --json` prints."""
    told = found.told
    return {
        "schema": "pharos/sweep@1",
        "name": found.grid.name,
        "path": None if found.path is None else str(found.path),
        "rows": found.rows,
        "points": found.points,
        "evaluated": told.evaluated,
        "impossible": told.impossible,
        "single": told.single,
        "why_impossible": told.why or None,
        "columns": [*found.grid.axes, *found.grid.columns],
        "machines": list(found.machines),
        "refused": list(found.refused),
        "parts": {"all": found.parts, "resumed": found.resumed, "retried": found.retried},
        "workers": found.workers,
        "engine": found.engine,
        "seconds": round(found.seconds, 3),
        "evidence": told.evidence,
        "first_rows": first_rows(found, rows),
    }


def first_rows(found: Swept, rows: int) -> list[dict[str, Any]]:
    """The first rows by column."""
    import numpy as np

    if not found.rows or not rows:
        return []
    head = found.head(rows)
    count = min(rows, found.rows)
    return [
        {k: None if np.ma.is_masked(v[i]) else plain(v[i]) for k, v in head.items()} for i in range(count)
    ]


def print_sweep(console: Console, found: Swept, rows: int) -> None:
    """The summary, then the first rows with what differs in them."""
    told = found.told
    spent = found.seconds
    kept = f"{found.rows:,} rows"
    if found.grid.where:
        kept += f" of {told.evaluated:,} meet " + " and ".join(c.text for c in found.grid.where)
    where = f" in {found.path}" if found.path is not None else ""
    console.print(Text(f"{found.grid.name}: {kept}{where}", style="bold"))
    line = f"{told.evaluated:,} predictions on {len(found.machines)} machines"
    if found.resumed and found.resumed == found.parts:
        line += ", all of an earlier run"
    elif found.resumed:
        line += f", {found.resumed} of {found.parts} parts of an earlier run; {fmt(spent, 's')}"
    else:
        line += f" in {fmt(spent, 's')}: {fmt(told.evaluated / max(spent, 1e-9))} a second"
    console.print(line + (f"; {found.retried} parts again after a worker died" if found.retried else ""))
    if told.single:
        console.print(f"{told.single:,} of them one by one: sizes there cannot be arrays")
    if told.impossible:
        console.print(Text(f"{told.impossible:,} points are no network, such as: {told.why}"))
    for why in found.refused:
        console.print(Text(f"left out: {why}"))
    levels = sorted({text.split(":")[0].split(",")[0] for e in told.evidence.values()
                     for text in e["latency_s"][:1]})  # fmt: skip
    if levels:
        console.print(f"latency is {' or '.join(levels)} at its weakest; --json says by what")
    shown = first_rows(found, rows)
    if not shown:
        return
    console.print()
    _print_table(console, shown, found.rows)


def _print_table(console: Console, shown: list[dict[str, Any]], rows: int) -> None:
    differs = [k for k in shown[0] if len({str(r[k]) for r in shown}) > 1 or k in COLUMNS]
    same = {k: shown[0][k] for k in shown[0] if k not in differs and shown[0][k] is not None}
    # a band stands beside its value
    bands = {k for k in differs if f"{k}_low" in differs and f"{k}_high" in differs}
    differs = [k for k in differs if k.removesuffix("_low").removesuffix("_high") not in bands or k in bands]
    if same:
        console.print(Text(", ".join(f"{k} {v}" for k, v in same.items()), style="dim"))
    texts = [[_cell(k, r, k in bands) for k in differs] for r in shown]
    heads = [_UNIT.sub("", k).replace("_bytes", "").replace("_", " ") for k in differs]
    widths = [max(len(h), *(len(t[i]) for t in texts)) for i, h in enumerate(heads)]
    fitting, used = 0, 0
    for width in widths:
        used += width + 3
        if used - 1 > console.width:
            break
        fitting += 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for k, head in list(zip(differs, heads, strict=True))[:fitting]:
        words = isinstance(shown[0][k], (str, bool))
        table.add_column(head, justify="left" if words else "right", no_wrap=True)
    for cells in texts:
        table.add_row(*cells[:fitting])
    console.print(table)
    if fitting < len(differs):
        console.print(Text(f"further columns: {', '.join(differs[fitting:])}", style="dim"))
    if rows > len(shown):
        console.print(Text(f"{rows - len(shown):,} more rows", style="dim"))


def _cell(name: str, row: dict[str, Any], band: bool) -> str:
    value = row[name]
    if band and value is not None and row[f"{name}_low"] is not None:
        unit = COLUMNS[name].unit
        low, high = (fmt(row[f"{name}_{end}"], unit) for end in ("low", "high"))
        return f"{fmt(value, unit)} ({low} to {high})"
    if value is None:
        return "unknown" if name in COLUMNS else "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name in COLUMNS and not isinstance(value, str):
        unit = COLUMNS[name].unit
        return f"{fmt(value)}/s" if unit == "1/s" and value is not None else fmt(value, unit)
    return f"{value:g}" if isinstance(value, float) else str(value)
