"""`pharos check`: does a contract hold?"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole


@app.command()
def check(
    contracts: Annotated[list[str], typer.Argument(help="Contract files.")],
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Also write the verdicts as JUnit XML to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Check contracts: exit 0 if all hold, 1 if any is broken, 3 if none is but some cannot be told."""
    from pharos.decide.verdict import BROKEN, EXIT_CODES, HOLDS, UNKNOWN, check_file
    from pharos.quantity.errors import PharosError

    found, problems = [], []
    for path in contracts:
        try:
            found.append(check_file(path))
        except PharosError as error:
            problems.append(str(error))
    for problem in problems:
        for line in problem.splitlines():
            print(f"error: {line}", file=sys.stderr)
    if json:
        from pharos.report.verdicts import verdict_row

        rows = [verdict_row(v) for v in found]
        if rows or not problems:
            print_json(rows[0] if len(contracts) == 1 else rows)
    else:
        from pharos.report.advice import print_quietly
        from pharos.report.estimates import print_verdict

        screen = console()
        for i, verdict in enumerate(found):
            if i:
                screen.print()
            print_verdict(screen, verdict)
            print_quietly(screen, verdict.advice())
    if problems:
        raise typer.Exit(2)
    if junit is not None:
        from pharos.report.verdicts import junit as as_junit

        write_whole(junit, as_junit(found))
    verdicts = {v.verdict for v in found}
    raise typer.Exit(EXIT_CODES[next(v for v in (BROKEN, UNKNOWN, HOLDS) if v in verdicts)])
