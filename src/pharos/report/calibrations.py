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
            _label(name, entry): {"rows": entry["rows"], "error": entry["error"]}
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
    on_gpu = found.data["machine"]["kind"] == "gpu"
    said = "" if on_gpu else f" of {taken['probes']} random networks"
    console.print(f"[bold]{name}[/bold]: {points:,} operators{said}")
    for run in runs:
        host = run["host"]
        between = host["call_s"] + host["kernel_s"] + host.get("host_s", 0.0)
        cores = f"{run['threads']} thread{'s' * (run['threads'] > 1)}"
        if on_gpu:
            sent = f", {fmt(host['host_s'], 's')} to send a kernel off" if "host_s" in host else ""
            console.print(f"  {run['runtime']}: {fmt(between, 's')} to start a call{sent}")
            continue
        console.print(
            f"  {run['runtime']}, {cores}: {fmt(run['ops_per_s'], 'FLOP/s')}, "
            f"{fmt(run['bytes_per_s'], 'B/s')}, {fmt(between, 's')} to start a call"
        )
    if on_gpu:
        best = taken["best"]
        reached = ", ".join(f"{fmt(v, 'FLOP/s')} {d}" for d, v in best.items() if d != "bytes")
        console.print(f"  best of large products {reached}; of large tensors {fmt(best['bytes'], 'B/s')}")
        # kernels are the same however they are launched
        runs = runs[:1]
    tables = [
        {_label(name, e): e for name, entries in run["classes"].items() if "." not in name for e in entries}
        for run in runs
    ]
    names = list(dict.fromkeys(name for table in tables for name in table))
    ways = ["kernels"] if on_gpu else [f"{run['runtime']} {run['threads']}t" for run in runs]
    columns = [("class", "left"), *[(way, "right") for way in ways]]
    rows = []
    for name in names:
        cells = [table.get(name) for table in tables]
        rows.append([name, *["-" if c is None else f"{c['error']:.0%} of {c['rows']}" for c in cells]])
    grid(console, columns, rows)
    told = (
        f"error: log standard deviation that an 80% band needs, on {'shapes' if on_gpu else 'networks'} left "
        "out of the fit; of so many operators"
    )
    console.print(told, style="dim")
    if taken.get("dropped"):
        console.print(f"{taken['dropped']} operators left out: the clock moved under them", style="dim")
    machine = found.data["machine"]["id"]
    console.print(f"written to {path}; predict with --on {machine}", style="dim", soft_wrap=True)


def _label(name: str, entry: dict[str, Any]) -> str:
    """A class with the type and phase of its curve, where there are several."""
    parts = (name, *entry.get("dtypes", ())[:1], entry.get("phase"))
    return " ".join(part for part in parts if part)
