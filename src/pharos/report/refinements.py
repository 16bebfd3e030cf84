"""Refinements: what a calibration gained by measured networks, by class, before and after."""

from typing import Any

from rich.console import Console

from pharos.measure.refine import TOLD, Refined
from pharos.report.text import grid, pair


def refinement_row(found: Refined, path: str) -> dict[str, Any]:
    """What `pharos calibrate --refine --json` prints."""
    return {
        "schema": "pharos/refined@1", "path": path, "taken": found.found.data["taken"]["refined"],
        "networks": [
            {"runtime": way[0], "threads": way[1], "models": names, "left_out_for_errors": found.by[way]}
            for way, names in found.networks.items()
        ],
        "classes": [
            {"runtime": c.runtime, "threads": c.threads, "cost_class": c.cost_class, "rows": c.rows,
             "error": {"before": c.before, "after": c.after},
             "error_on_probes": {"before": _number(c.probes_before), "after": _number(c.probes_after)},
             "taken": not c.kept}
            for c in found.changes
        ],
        "left_out": dict(found.left_out),
    }  # fmt: skip


def print_refinement(console: Console, found: Refined, path: str) -> None:
    """The verdict, a table by class, and what was left out."""
    taken = found.found.data["taken"]["refined"]
    console.print(f"[bold]refined[/bold] by {taken['points']:,} kernels of {taken['runs']} measured runs")
    for (runtime, threads), names in found.networks.items():
        way = f"{runtime}, {threads} thread{'s' * (threads > 1)}"
        pair(console, way, f"{', '.join(names)}", width=24)
    columns = [("run", "left"), ("class", "left"), ("kernels", "right"), ("before", "right"),
               ("after", "right"), ("probes", "right"), ("curve", "left")]  # fmt: skip
    rows = [
        [f"{c.runtime} {c.threads}t", c.cost_class, str(c.rows), f"{c.before:.1%}", f"{c.after:.1%}",
         f"{c.probes_before:.0%} to {c.probes_after:.0%}", "as it was" if c.kept else "new"]
        for c in found.changes
    ]  # fmt: skip
    grid(console, columns, rows, flexible=(1,))
    by = " and ".join(sorted(set(found.by.values())))
    console.print(
        f"before, after: mean |log(measured / predicted)| of measured kernels, {by} left out of the fit; "
        "probes: band of the class on the calibration's own networks left out",
        style="dim",
    )
    worse = [c for c in found.changes if not c.kept and c.probes_after > c.probes_before + TOLD]
    for c in worse:
        told = (f"{c.runtime} {c.threads}t {c.cost_class} is nearer to your networks and further from the "
                f"calibration's own: {c.probes_before:.0%} to {c.probes_after:.0%}")  # fmt: skip
        pair(console, "note", told)
    for why, count in found.left_out.most_common():
        pair(console, "left out", f"{count} runs {why}")
    console.print(f"written to {path}; predict with --on here", style="dim", soft_wrap=True)


def _number(value: float) -> float | None:
    return value if value == value else None
