"""`pharos calibrate`: the profile of this machine, measured."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json


@app.command()
def calibrate(
    budget: Annotated[
        float, typer.Option("--budget", min=15, help="Seconds to spend; more makes errors smaller.")
    ] = 90.0,
    threads: Annotated[
        str | None,
        typer.Option("--threads", "-t", help="Numbers of cores, as 1,2,4; one and all by default."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="eager or onnxruntime; both by default.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, to share; this machine's by default."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Go on although the machine is busy.")] = False,
    json: Json = False,
) -> None:
    """Measure this machine on random networks, operator by operator, so that `--on here` predicts for it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from pharos.machines.calibration import place
    from pharos.measure.calibrate import calibrate as run
    from pharos.measure.calibrate import write
    from pharos.report.calibrations import calibration_row, print_calibration

    counts = _counts(threads)
    shown = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), console=shown, transient=True, disable=not shown.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("calibrating", total=1.0)
        found = run(
            budget=budget, threads=counts, runtimes=None if runtime is None else [runtime], force=force,
            tick=lambda what, share: bar.update(task, description=what, completed=share),
        )  # fmt: skip
    path = output or place()
    write(found, path)
    if json:
        print_json(calibration_row(found, str(path)))
    else:
        print_calibration(console(), found, str(path))
    for when, seen in (("before", found.noise), ("after", found.after)):
        if not seen.is_quiet:
            print(f"warning: {when} measuring, {seen}; errors are larger for it", file=sys.stderr)


def _counts(text: str | None) -> list[int] | None:
    from pharos.quantity.errors import InputError

    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r} is no list of numbers", where="--threads", hint="write 1,2,4") from None
