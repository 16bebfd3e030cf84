"""`pharos lab`: experiments of the textbook, run on this machine."""

from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json
from pharos.quantity.errors import InputError


@app.command()
def lab(
    name: Annotated[str | None, typer.Argument(help="Such as sharded-embedding; --list has all.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Every lab and what it shows.")] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes", help="Processes to start; the lab's usual number if left out."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of its random numbers.")] = 0,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds until it is stopped.")] = 120.0,
    json: Json = False,
) -> None:
    """Run an experiment of the textbook and hold it against what was predicted; exit 1 where it differs."""
    from pharos.book.lab import labs, run_lab
    from pharos.report.labs import outcome_row, print_labs, print_outcome

    if listed or name is None:
        if name is not None:
            raise InputError("--list takes no lab's name")
        found = [(one.name, one.summary) for one in labs().values()]
        if json:
            print_json({"schema": "pharos/labs@1", "labs": [{"lab": n, "shows": s} for n, s in found]})
        else:
            print_labs(console(), found)
        return
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(name)

        def told(step: int, steps: int, words: str) -> None:
            bar.update(task, completed=step, total=steps, description=f"{name}: {words}")

        outcome = run_lab(name, processes, seed, told, timeout)
    if json:
        print_json(outcome_row(outcome))
    else:
        print_outcome(console(), outcome)
    if not outcome.holds:
        raise typer.Exit(1)
