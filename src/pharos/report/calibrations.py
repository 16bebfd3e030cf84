"""Calibrations: what was found of a machine, by runtime and threads, with the error of each class."""

from typing import Any

from rich.console import Console

from pharos.measure.calibrate import Found
from pharos.quantity.units import fmt
from pharos.report.text import grid


def calibration_row(found: Found, path: str) -> dict[str, Any]:
    """The finding as plain data, without the points, which are in its file."""
    runs = []
    for run in found.data["runs"]:
        classes = {
            name: {"rows": entry["rows"], "error": entry["error"]}
            for name, entries in run["classes"].items()
            for entry in entries
        }
        runs.append(
            {k: run[k] for k in ("runtime", "threads", "ops_per_s", "bytes_per_s", "host")}
            | {"classes": classes}
        )
    return {
        "schema": "pharos/calibrated@1", "path": path, "taken": found.data["taken"], "runs": runs,
        "points": len(found.data["points"]),
    }  # fmt: skip


def print_calibration(console: Console, found: Found, path: str) -> None:
    """The verdict, then a table: a line a class, a column a run."""
    taken, runs = found.data["taken"], found.data["runs"]
    points = len(found.data["points"])
    name = found.data["machine"]["name"]
    console.print(f"[bold]{name}[/bold]: {points:,} operators of {taken['probes']} random networks")
    for run in runs:
        host = run["host"]
        between = host["call_s"] + host["kernel_s"]
        cores = f"{run['threads']} thread{'s' * (run['threads'] > 1)}"
        console.print(
            f"  {run['runtime']}, {cores}: {fmt(run['ops_per_s'], 'FLOP/s')}, "
            f"{fmt(run['bytes_per_s'], 'B/s')}, {fmt(between, 's')} to start a call"
        )
    names = list(dict.fromkeys(name for run in runs for name in run["classes"] if "." not in name))
    columns = [("class", "left"), *[(f"{run['runtime']} {run['threads']}t", "right") for run in runs]]
    rows = []
    for name in names:
        cells = [run["classes"].get(name, [None])[0] for run in runs]
        rows.append([name, *["-" if c is None else f"{c['error']:.0%} of {c['rows']}" for c in cells]])
    grid(console, columns, rows)
    told = (
        "error: log standard deviation that an 80% band needs, on networks left out of the fit; "
        "of so many operators"
    )
    console.print(told, style="dim")
    console.print(f"written to {path}; predict with --on here", style="dim")
