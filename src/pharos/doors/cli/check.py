"""`pharos check`: does a contract hold?"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole

if TYPE_CHECKING:
    from pharos.decide.diff import LimitChange
    from pharos.decide.lock import Lock
    from pharos.decide.verdict import Verdict


@app.command()
def check(
    contracts: Annotated[list[str], typer.Argument(help="Contract files.")],
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Also write the verdicts as JUnit XML to this file.")
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option("--lock", help="A lock file: what did not hold then fails only if it grew."),
    ] = None,
    update_lock: Annotated[
        bool,
        typer.Option("--update-lock", help="Write the lock: contract.lock.json unless --lock names one."),
    ] = False,
    touched: Annotated[
        bool,
        typer.Option("--touched", help="The files are changed ones: check contracts among them, and those "
                     "below here that name one."),
    ] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Exit 0 where limits cannot be told.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write verdicts, plots and evidence as a page.")
    ] = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Check contracts: exit 0 if all hold, 1 if any is broken, 3 if none is but some cannot be told."""
    from pharos.decide.verdict import check_file
    from pharos.quantity.errors import PharosError

    if touched:
        from pharos.decide.contract_files import concerned, find_contracts

        contracts = concerned(find_contracts(), contracts)
        if not contracts:
            return
    before = _lock(lock, update_lock)
    found, problems = [], []
    for path in contracts:
        try:
            found.append(check_file(path))
        except PharosError as error:
            problems.append(str(error))
    for problem in problems:
        for line in problem.splitlines():
            print(f"error: {line}", file=sys.stderr)
    became = [] if before is None or update_lock else [_became(before, lock, v) for v in found]
    if json:
        from pharos.report.verdicts import verdict_row

        rows = [verdict_row(v) for v in found]
        for row, changes in zip(rows, became, strict=False):
            row["lock"] = {c.name: c.status for c in changes}
        if rows or not problems:
            print_json(rows[0] if len(contracts) == 1 else rows)
    else:
        _print(found, became)
    if problems:
        raise typer.Exit(2)
    if junit is not None:
        from pharos.report.verdicts import junit as as_junit

        write_whole(junit, as_junit(found))
    if html is not None:
        from pharos.report.pages.page import page
        from pharos.report.pages.subject import subject_of

        write_whole(html, page([subject_of(v) for v in found]))
    if update_lock:
        from pharos.decide.lock import NAME, locked

        place = lock or Path(NAME)
        write_whole(place, locked(found, place, before))
        print(f"{place}: {len(found)} contracts locked", file=sys.stderr)
        return
    code = _code(found, became)
    raise typer.Exit(0 if code == 3 and allow_unknown else code)


def _lock(path: Path | None, update: bool) -> "Lock | None":
    from pharos.decide.lock import NAME, read_lock

    place = path or Path(NAME)
    if update:
        return read_lock(place) if place.exists() else None
    return None if path is None else read_lock(path)


def _became(before: "Lock", path: Path | None, verdict: "Verdict") -> "tuple[LimitChange, ...]":
    """What became of a contract's limits since it was locked."""
    from pharos.decide.diff import limit_changes
    from pharos.report.verdicts import limits_row

    now = {row["name"]: row for row in limits_row(verdict)["limits"]}
    return limit_changes(before.limits(verdict.path, (path or Path()).parent), now)


def _code(found: "list[Verdict]", became: "list[tuple[LimitChange, ...]]") -> int:
    from pharos.decide.diff import FAILS, TELLS_NOT
    from pharos.decide.verdict import BROKEN, EXIT_CODES, HOLDS, UNKNOWN

    if became:
        statuses = {c.status for changes in became for c in changes}
        return 1 if statuses & set(FAILS) else 3 if statuses & set(TELLS_NOT) else 0
    verdicts = {v.verdict for v in found}
    return EXIT_CODES[next((v for v in (BROKEN, UNKNOWN, HOLDS) if v in verdicts), HOLDS)]


def _print(found: "list[Verdict]", became: "list[tuple[LimitChange, ...]]") -> None:
    from pharos.decide.diff import KEPT
    from pharos.report.advice import print_quietly
    from pharos.report.estimates import print_verdict
    from pharos.report.text import pair

    screen = console()
    for i, verdict in enumerate(found):
        if i:
            screen.print()
        print_verdict(screen, verdict)
        print_quietly(screen, verdict.advice())
        told = [f"{c.name} {c.status}" for c in (became[i] if became else ()) if c.status != KEPT]
        if became:
            pair(screen, "since lock", ", ".join(told) or "nothing is worse")
