"""`pharos table`: the textbook's tables, filled by Pharos's own rules."""

from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, number, print_json, write_whole
from pharos.quantity.errors import InputError


@app.command()
def table(
    name: Annotated[
        str | None, typer.Argument(help="1 to 8, a lighthouse's 1.1 to 1.5, or a name; --list has all.")
    ] = None,
    on: Annotated[str, typer.Option("--on", help="The machine that predictions are for.")] = "",
    batch: Annotated[str, typer.Option("--batch", "-b", help="Samples at once, of predictions.")] = "1",
    swap: Annotated[
        list[str] | None,
        typer.Option("--swap", help="MODEL=OTHER: another model in the place of one; repeatable."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Every table.")] = False,
    write: Annotated[Path | None, typer.Option("--write", help="A page of all of them.")] = None,
    json: Json = False,
) -> None:
    """The textbook's tables from operators' declarations and formulas, beside the chapter's cells."""
    from pharos.book import table_shown as shown
    from pharos.book.sums import A100
    from pharos.book.table import Asked, fill, table_row, tables

    if write is not None:
        if name is not None or on or swap or markdown or json or listed or batch != "1":
            raise InputError("writes every table as it is", where="--write")
        from rich.progress import Progress

        with Progress(console=console(stderr=True), transient=True) as bar:
            task = bar.add_task("tables", total=len(tables()))
            text = shown.page(lambda key: bar.update(task, advance=1, description=f"table {key}"))
        write_whole(write, text)
        print(f"{write}: {len(tables())} tables")
        return
    if markdown and json:
        raise InputError("--markdown and --json are two forms; give one")
    if listed or name is None:
        if name is not None:
            raise InputError("--list takes no table")
        if json:
            rows = [
                {"table": t.key, "name": t.name, "title": t.title, "section": t.section}
                for t in tables().values()
            ]
            print_json({"schema": "pharos/tables@1", "tables": rows})
        else:
            shown.print_tables(console())
        return
    asked = Asked(
        machine=_machine(on) if on else A100, batch=number(batch, "batch") or 1, swapped=_swaps(swap)
    )
    one, filled = fill(name, asked)
    if json:
        print_json(table_row(one, filled))
    elif markdown:
        print(shown.markdown(one, filled))
    else:
        shown.print_table(console(), one, filled)


def _machine(name: str) -> str:
    from pharos.machines.machine import find_machine

    return find_machine(name).id


def _swaps(given: list[str] | None) -> dict[str, str]:
    """``--swap resnet50=resnet101`` as a mapping; both must be models of the catalogue."""
    from pharos.models.registry import find

    found = {}
    for text in given or ():
        old, sign, new = text.partition("=")
        if not sign or not old.strip() or not new.strip():
            raise InputError(f"{text!r} is not MODEL=OTHER", where="--swap", hint="write resnet50=resnet101")
        find(old.strip())
        found[old.strip()] = find(new.strip()).name
    return found
