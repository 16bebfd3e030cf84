"""`pharos study`: questions of the textbook, answered by counting and predicting."""

from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json
from pharos.quantity.errors import InputError


@app.command()
def study(
    name: Annotated[str | None, typer.Argument(help="Such as parameter-sharing; --list has all.")] = None,
    given: Annotated[list[str] | None, typer.Argument(help="Arguments, such as side=224 kernel=3.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Every study and its question.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw its figure: .svg, .png, .html or .json.")
    ] = None,
    json: Json = False,
) -> None:
    """Answer a question of the textbook with numbers, by counting and predicting."""
    from pharos.book.study import find_study, run_study, studies
    from pharos.report.studies import print_studies, print_study, study_row

    if listed or name is None:
        if name is not None:
            raise InputError("--list takes no study's name")
        known = studies().values()
        if json:
            rows = [{"study": s.name, "question": s.question, "section": s.section,
                     "arguments": {k: d for k, (_, d) in s.arguments().items()}} for s in known]  # fmt: skip
            print_json({"schema": "pharos/studies@1", "studies": rows})
        else:
            print_studies(console(), [(s.section, s.name, s.question) for s in known])
        return
    pairs: dict[str, str] = {}
    for one in given or []:
        key, equals, value = one.partition("=")
        if not equals or not key.strip() or key.strip() in pairs:
            raise InputError(f"{one!r} is no argument, or is given twice", hint="write e.g. kernel=3")
        pairs[key.strip()] = value.strip()
    found = find_study(name)
    told = run_study(found.name, **pairs)
    if plot is not None:
        if told.figure is None:
            raise InputError(f"{found.name} draws no figure", where="--plot")
        told.figure.save(plot)
    if json:
        print_json(study_row(found.name, found.question, pairs, told))
    else:
        print_study(console(), found.name, pairs, told)
