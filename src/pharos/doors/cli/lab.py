"""`pharos lab`: experiments of the textbook, run on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole
from pharos.quantity.errors import InputError

if TYPE_CHECKING:
    from pharos.report.labs import Outcome


@app.command()
def lab(
    name: Annotated[str | None, typer.Argument(help="Such as sharded-embedding; --list has all.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Every lab and what it shows.")] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes", help="Processes to start; the lab's usual number if left out."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of its random numbers.")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds until it is stopped.")] = 180.0,
    small: Annotated[bool, typer.Option("--small", help="A run of seconds that proves little.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw its figure: .svg, .png, .html or .json.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, one after the other.")] = False,
    write: Annotated[
        Path | None, typer.Option("--write", help="With --all: a page of what was found.")
    ] = None,
    json: Json = False,
) -> None:
    """Run an experiment of the textbook and hold it against what was predicted; exit 1 where it differs."""
    from pharos.book.lab import labs
    from pharos.report.labs import outcome_row, print_labs, print_outcome

    if write is not None and not every:
        raise InputError("is a page of all labs; give --all", where="--write")
    if every:
        if name is not None or listed or processes is not None or plot is not None:
            raise InputError(
                "runs every lab as it is; it takes --seed, --small, --write and --json", where="--all"
            )
        _all(seed, timeout, small, write, json)
        return
    if listed or name is None:
        if name is not None:
            raise InputError("--list takes no lab's name")
        found = labs().values()
        if json:
            print_json({"schema": "pharos/labs@1", "labs": [
                {"lab": one.name, "shows": one.summary, "sections": one.sections, "claims": one.claims}
                for one in found
            ]})  # fmt: skip
        else:
            print_labs(console(), [(one.name, one.summary, one.sections) for one in found])
        return
    if plot is not None:
        _can_draw(plot)
    outcome = _run(name, processes, seed, timeout, small)
    if plot is not None:
        if outcome.figure is None:
            raise InputError(f"{outcome.name} draws no figure", where="--plot")
        outcome.figure.save(plot)
    if json:
        print_json({**outcome_row(outcome), "measured_on": _here()})
    else:
        print_outcome(console(), outcome)
    if not outcome.holds:
        raise typer.Exit(1)


def _here() -> dict[str, str | int]:
    """The machine and the day, which belong to what was measured."""
    from datetime import date

    from pharos.measure.here import here

    found = here()
    return {"cpu": found.cpu, "cores": found.cores, "system": found.system, **found.versions,
            "date": date.today().isoformat()}  # fmt: skip


def _can_draw(plot: Path) -> None:
    """Raises before a lab runs what would be raised after it."""
    from importlib.util import find_spec

    from pharos.report.drawing import form_of

    form_of(plot)
    if find_spec("altair") is None:
        raise InputError("needs altair", where="--plot", hint="pip install 'pharos-nn[report]'")


def _run(name: str, processes: int | None, seed: int, timeout: float, small: bool) -> "Outcome":
    """One lab under a bar."""
    from rich.progress import Progress

    from pharos.book.lab import run_lab

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(name)

        def told(step: int, steps: int, words: str) -> None:
            bar.update(task, completed=step, total=steps, description=f"{name}: {words}")

        return run_lab(name, processes, seed, told, timeout, small)


def _all(seed: int, timeout: float, small: bool, write: Path | None, json: bool) -> None:
    """Every lab, each with its verdict and time; exit 1 if one does not hold."""
    from time import perf_counter

    from pharos.book.lab import labs
    from pharos.report.labs import labs_page, outcome_row, print_verdict

    runs = []
    for name in labs():
        started = perf_counter()
        outcome = _run(name, None, seed, timeout, small)
        runs.append((outcome, perf_counter() - started))
        if not json:
            print_verdict(console(), *runs[-1])
    if write is not None:
        where = _here()
        write_whole(write, labs_page(runs, f"{where['cpu']}, {where['cores']} cores, {where['date']}"))
    if json:
        print_json({"schema": "pharos/labs@1", "measured_on": _here(),
                    "labs": [{**outcome_row(o), "seconds": round(s, 1)} for o, s in runs]})  # fmt: skip
    if not all(outcome.holds for outcome, _ in runs):
        raise typer.Exit(1)
