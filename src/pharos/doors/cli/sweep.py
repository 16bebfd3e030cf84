"""`pharos sweep`: any grid of models, workloads, machines and runtimes into Parquet."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json

if TYPE_CHECKING:
    from pharos.decide.sweep.run import Progress

# Points that are held in memory where no file is asked for.
SHOWN = 1_000_000


@app.command()
def sweep(
    grid: Annotated[str, typer.Argument(help="A grid file; see pharos schema sweep.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="NAME.parquet for one file, another name for a folder of parts."),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", "-e", help="local, dask://HOST:PORT, ray or ray://HOST:PORT.")
    ] = "local",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes of local; all cores if left out.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Write over what an earlier sweep left.")] = False,
    rows_per_part: Annotated[
        int, typer.Option("--rows-per-part", min=1, max=10_000_000, help="What is lost at most by a kill.")
    ] = 1_000_000,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Rows to show.")] = 12,
    json: Json = False,
) -> None:
    """Evaluate every point of a grid into Parquet; the same command goes on where it was broken off."""
    from pharos.decide.sweep.grid_file import read_grid
    from pharos.decide.sweep.plan import plan
    from pharos.decide.sweep.run import sweep as run
    from pharos.quantity.errors import InputError

    if out is None:
        points = plan(read_grid(grid), rows_per_part).points
        if points > SHOWN:
            raise InputError(f"{points:,} points are too many to hold", hint="give a file: -o out.parquet")
    try:
        with _bar() as tick:
            found = run(grid, out, engine=engine, jobs=jobs, fresh=fresh, rows=rows_per_part, tick=tick)
    except KeyboardInterrupt:
        if out is not None:
            print("stopped: parts that are written stay, the same command goes on", file=sys.stderr)
        raise
    if json:
        from pharos.report.sweeps import sweep_row

        print_json(sweep_row(found, rows))
    else:
        from pharos.report.sweeps import print_sweep

        print_sweep(console(), found, rows)


@contextmanager
def _bar() -> "Iterator[Callable[[Progress], None]]":
    """Points, their rate and what is left; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (TextColumn("sweeping"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
               TextColumn("{task.fields[said]}"), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task("sweeping", total=None, said="")

        def tick(at: "Progress") -> None:
            seconds = bar.tasks[0].elapsed or 0.0
            rate = (at.points - at.begun) / seconds if seconds > 0 else 0.0
            said = f"{at.points:,} of {at.all:,} points, {rate:,.0f}/s"
            said += f", {at.retried} again" if at.retried else ""
            bar.update(task, completed=at.points, total=at.all, said=said)

        yield tick
