"""`pharos figure`: the textbook's figures, drawn from what Pharos computes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole
from pharos.quantity.errors import InputError

if TYPE_CHECKING:
    from rich.progress import TaskID


@app.command()
def figure(
    name: Annotated[str | None, typer.Argument(help="A number, 1 to 14, or a name; --list has all.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="FILE.svg, .png, .html or .json.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="For dark ground.")] = False,
    model: Annotated[str, typer.Option("--model", help="Of which it is drawn, where it can be chosen.")] = "",
    brief: Annotated[
        str, typer.Option("--brief", help="Figure 14: mark the way that this brief takes.")
    ] = "",
    listed: Annotated[bool, typer.Option("--list", help="Every figure and what it shows.")] = False,
    every: Annotated[Path | None, typer.Option("--all", help="Draw all of them into this folder.")] = None,
    form: Annotated[str, typer.Option("--form", help="With --all: svg, png, html or json.")] = "svg",
    write: Annotated[
        Path | None, typer.Option("--write", help="A page of all of them, with SVGs in a folder beside it.")
    ] = None,
    json: Json = False,
) -> None:
    """The textbook's figures from live facts and computations: in words, as numbers, or drawn."""
    from pharos.book.figure import Asked, draw, figure_row, figures, find_figure
    from pharos.book.figure_shown import print_figure, print_figures

    asked = Asked(model=model, brief=brief)
    if every is not None or write is not None:
        if (
            name is not None
            or listed
            or json
            or output is not None
            or model
            or brief
            or None not in (every, write)
        ):
            raise InputError("draws every figure as it is; it takes --dark and --form",
                             where="--all" if every is not None else "--write")  # fmt: skip
        _all(every, form, dark, write)
        return
    if listed or name is None:
        if name is not None or output is not None:
            raise InputError("--list takes no figure and draws none")
        if json:
            rows = [
                {
                    "figure": f.number,
                    "name": f.name,
                    "section": f.section,
                    "shows": f.summary,
                    "takes": f.takes,
                }
                for f in figures().values()
            ]
            print_json({"schema": "pharos/figures@1", "figures": rows})
        else:
            print_figures(console())
        return
    one = find_figure(name)
    made = draw(name, asked)
    if output is not None:
        made.figure.save(output, dark)
    if json:
        print_json(figure_row(one, made))
    elif output is None:
        print_figure(console(), one, made)
    else:
        print(f"{output}: figure {one.number}, {made.figure.title}")


def _all(folder: Path | None, form: str, dark: bool, page: Path | None) -> None:
    """Every figure, each in its own file."""
    from rich.progress import Progress

    from pharos.book.figure import draw, figures
    from pharos.book.figure_shown import gallery

    suffix = f".{form.lower().lstrip('.')}"
    if suffix not in (".svg", ".png", ".html", ".json"):
        raise InputError(f"{form!r} is no form of a figure", where="--form", hint="svg, png, html or json")
    with Progress(console=console(stderr=True), transient=True) as bar:
        task: TaskID = bar.add_task("figures", total=len(figures()))

        def told(name: str) -> None:
            bar.update(task, advance=1, description=name)

        if page is not None:
            write_whole(page, gallery(page, told))
        elif folder is not None:
            if not folder.is_dir():
                raise InputError("is no folder", where=str(folder))
            for one in figures().values():
                told(one.name)
                draw(str(one.number)).figure.save(folder / f"{one.number:02d}-{one.name}{suffix}", dark)
    print(f"{len(figures())} figures in {folder or page}")
