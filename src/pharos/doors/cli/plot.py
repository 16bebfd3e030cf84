"""`pharos plot`: pictures of what the other commands tell, drawn to a file or printed in words."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Inputs,
    Json,
    Prefill,
    Runtime,
    Threads,
    app,
    asked,
    console,
    number,
    print_json,
    shapes,
    sizes,
)

if TYPE_CHECKING:
    from pharos.report.drawing import Figure


@app.command()
def plot(
    what: Annotated[
        str | None, typer.Argument(help="Such as roofline, or a table of results; without it: every plot.")
    ] = None,
    of: Annotated[
        str | None,
        typer.Argument(help="A model's name or file; a brief for pareto, a table of results for sweep."),
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", "-m", help="Machines, comma-separated where a plot holds several.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Draw it to FILE.png, .svg, .html or .json.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="For a dark page.")] = False,
    by: Annotated[
        str | None,
        typer.Option("--by", help="treemap: parameters, macs, time; waterfall: time, energy, memory."),
    ] = None,
    x: Annotated[str | None, typer.Option("--x", help="Of sweep: a column, such as latency_s.")] = None,
    y: Annotated[str | None, typer.Option("--y", help="Of sweep: another column.")] = None,
    colour: Annotated[
        str | None, typer.Option("--colour", "--color", help="Of sweep: a column of few values.")
    ] = None,
    batch: Batch = "1",
    context: Context = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", "-p", help="fp32, bf16, int8, weights=int8,activations=bf16, ..."),
    ] = None,
    prefill: Prefill = False,
    decode: Decode = False,
    runtime: Runtime = None,
    threads: Threads = None,
    devices: Annotated[
        str | None, typer.Option("--devices", "-d", help="Of tornado, capacity and sharding.")
    ] = None,
    users: Annotated[str | None, typer.Option("--users", "-u", help="Of capacity: users in flight.")] = None,
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", help="Of training; adamw if left out.")
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    json: Json = False,
) -> None:
    """Draw a roofline, waterfall, memory, treemap, tornado, front, capacity, sharding, measurements, a sweep.

    Without -o it is told in words, roofline and waterfall as a picture of characters.
    """
    from pharos.machines.machine import find_machine
    from pharos.report.asked import PRECISIONS, TABLES, Asked, draw_asked
    from pharos.report.drawing import form_of
    from pharos.report.plotting import find_plot, plots

    if what is None:
        _list(json)
        return
    if output is not None:
        form_of(output)
    if of is None and (what.lower().endswith(TABLES) or (what not in plots() and Path(what).is_dir())):
        what, of = "sweep", what
    takes = find_plot(what).takes
    work = asked(batch, context, precision or PRECISIONS.get(takes, "fp32"), prefill, decode)
    named = [name.strip() for name in (on or "").split(",") if name.strip()]
    wanted = Asked(
        of=of, on=tuple(find_machine(name, threads) for name in named), work=work, runtime=runtime,
        dims=sizes(dim), inputs=shapes(input),
        more={"devices": number(devices, "devices"), "users": number(users, "users"), "optimizer": optimizer,
              "global_batch": number(batch, "batch") if takes == "sharding" and batch != "1" else None},
    )  # fmt: skip
    figure = draw_asked(what, wanted, by=by, x=x, y=y, colour=colour)
    if output is not None:
        figure.save(output, dark)
    _tell(figure, output, json)


def _tell(figure: "Figure", output: Path | None, json: bool) -> None:
    """What was drawn, in words."""
    if json:
        print_json(row(figure, output))
        return
    from rich.text import Text

    out = console()
    out.print(Text(figure.title, style="bold"))
    for line in figure.lines:
        out.print(Text(line, style="dim"))
    if output is not None:
        out.print(str(output), soft_wrap=True)
        return
    if figure.characters:
        out.print(figure.characters(out.width), no_wrap=True)
    out.print(Text(figure.alt))


def row(figure: "Figure", output: Path | None = None) -> dict[str, Any]:
    """A picture as plain data; schema pharos/plot@1."""
    return {
        "schema": "pharos/plot@1", "plot": figure.name, "title": figure.title, "source": figure.lines,
        "says": figure.alt, "data": dict(figure.spec.get("datasets", {})),
        "file": None if output is None else str(output),
    }  # fmt: skip


def _list(json: bool) -> None:
    from pharos.report.plotting import plots
    from pharos.report.text import pair

    found = plots()
    if json:
        print_json({"schema": "pharos/plots@1", "plots": [
            {"plot": p.name, "shows": p.summary, "options": list(p.options)} for p in found.values()
        ]})  # fmt: skip
        return
    for one in found.values():
        pair(console(), one.name, one.summary, width=1 + max(map(len, found)))
