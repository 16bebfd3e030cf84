"""`pharos ledger`: the textbook's claims beside what Pharos computes for them."""

from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole


@app.command()
def ledger(
    claims: Annotated[list[str] | None, typer.Argument(help="Claims by their ids, told in full.")] = None,
    section: Annotated[
        str, typer.Option("--section", "-s", help="1.3 with what lies below it, or words of its name.")
    ] = "",
    kind: Annotated[str, typer.Option("--kind", help="params, memory, intensity, complexity, ...")] = "",
    verdict: Annotated[str, typer.Option("--verdict", help="reproduces, rounds, differs or unknown.")] = "",
    full: Annotated[bool, typer.Option("--full", help="With each claim in words and the code.")] = False,
    write: Annotated[Path | None, typer.Option("--write", help="Write the whole ledger as a page.")] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="Verdicts kept by --json > FILE; exit 1 if one has changed."),
    ] = None,
    json: Json = False,
) -> None:
    """The textbook's claims, recomputed: what reproduces, what rounds, what differs and why."""
    from pharos.book.ledger import counts, named
    from pharos.book.ledger import ledger as entries_of
    from pharos.book.shown import page, print_ledger, row, summary
    from pharos.quantity.errors import InputError

    if write is not None:
        if claims or section or kind or verdict or json:
            raise InputError("writes the whole ledger; leave the filters out", where="--write")
        write_whole(write, page())
        print(summary(entries_of()))
        return
    if against is not None:
        _compare(against)
        return
    if claims and (section or kind or verdict):
        raise InputError("names claims and filters them; give one", where=claims[0])
    entries = named(claims) if claims else entries_of(section, kind, verdict)
    if json:
        print_json({"claims": [row(e) for e in entries], "counts": counts(entries)})
    else:
        print_ledger(console(), entries, full=full or bool(claims))


def _compare(kept: Path) -> None:
    """Tells which verdicts are others than those of a file, and exits 1 if any is."""
    from pharos.book.ledger import changed
    from pharos.facts.reading import read_json
    from pharos.quantity.errors import InputError

    told = read_json(kept).data
    try:
        before = {str(c["id"]): str(c["verdict"]) for c in told["claims"]}
    except (KeyError, TypeError):
        raise InputError(
            "holds no verdicts", where=str(kept), hint="write it by pharos ledger --json"
        ) from None
    found = changed(before)
    for claim, then, now in found:
        print(f"{claim}: {then} -> {now}")
    print(f"{len(found)} of {len(before)} verdicts changed")
    if found:
        raise typer.Exit(1)
