"""`pharos ci`: contracts of a change beside those of the branch it goes to, for pull requests."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole

if TYPE_CHECKING:
    from pharos.report.review import Review


@app.command()
def ci(
    contracts: Annotated[
        list[str] | None, typer.Argument(help="Contract files; every *contract*.yaml below here if left out.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="Revision to compare with, where HEAD parted from it; on GitHub the pull "
                     "request's base."),
    ] = None,
    changed: Annotated[
        bool, typer.Option("--changed", help="Only contracts of which something changed since the base.")
    ] = False,
    lock: Annotated[
        Path | None, typer.Option("--lock", help="What counts as before for contracts that the base lacks.")
    ] = None,
    warn_at: Annotated[
        str, typer.Option("--warn-at", help="Part of a limit from which it is warned of.")
    ] = "80%",
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write the comment to a file.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", help="Write SARIF 2.1.0 to this file.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")] = None,
    github: Annotated[
        bool | None,
        typer.Option("--github/--no-github", help="Annotations, summary, outputs; by default on GitHub."),
    ] = None,
    comment: Annotated[
        bool, typer.Option("--comment", help="Keep a comment on the pull request, with GITHUB_TOKEN.")
    ] = False,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Exit 0 where a limit can no longer be told.")
    ] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Check a change's contracts beside its base's: exit 1 a limit newly broken, 2 mistake, 3 can't tell."""
    from pharos.decide.lock import read_lock
    from pharos.doors.cli.predict import positive
    from pharos.doors.github import append, run_of
    from pharos.doors.github import comment as write_comment
    from pharos.quantity.errors import PharosError
    from pharos.report.diff_markdown import MARKER, review_as_markdown
    from pharos.report.review import review

    part = positive(warn_at, "1", "--warn-at") or 1.0
    run = run_of(os.environ) if github is not False else None
    base = base or (run.base if run else "") or None
    before = None if lock is None else (read_lock(lock), lock.parent)
    found = review(contracts or (), _parted(base), before, only_changed=changed, warn_at=part)
    text = review_as_markdown(found)
    code = 0 if found.exit_code == 3 and allow_unknown else found.exit_code
    if json:
        print_json(_row(found))
    elif run is None and github is not True:
        _print(found)
    if run is not None or github:
        from pharos.report.sarif import annotations

        for line in annotations(found.remarks, _prefix()):
            print(line, file=sys.stderr if json else sys.stdout)
        append(run.summary if run else "", text)
        append(run.output if run else "", f"verdict={_word(found)}\nexit-code={code}\n")
    for path, content in (
        (markdown, lambda: text),
        (sarif, lambda: _sarif(found)),
        (junit, lambda: _junit(found)),
    ):
        if path is not None:
            write_whole(path, content())
    if comment and run is not None:
        try:
            print(write_comment(run, text, MARKER), file=sys.stderr)
        except PharosError as error:
            # a comment that fails is no verdict
            print(f"warning: {error}", file=sys.stderr)
    raise typer.Exit(code)


def _parted(base: str | None) -> str | None:
    from pharos.convert.revisions import merge_base

    return None if base is None else merge_base(base)


def _prefix() -> str:
    from pharos.convert.revisions import git
    from pharos.quantity.errors import PharosError

    try:
        return git("rev-parse", "--show-prefix").decode().strip()
    except PharosError:
        return ""


def _word(found: "Review") -> str:
    return {0: "holds", 1: "broken", 2: "mistake", 3: "unknown"}[found.exit_code]


def _row(found: "Review") -> dict[str, object]:
    from pharos.report.diffs import diff_row

    remarks = [{"level": r.level, "rule": r.rule, "file": r.path, "line": r.line, "limit": r.limit or None,
                "title": r.title, "text": r.text} for r in found.remarks]  # fmt: skip
    return {
        "schema": "pharos/ci@1", "verdict": _word(found), "base": found.base or None, "remarks": remarks,
        "contracts": [c.path for c in found.contracts], "unchanged": list(found.unchanged),
        "diff": diff_row(found.diffs),
    }  # fmt: skip


def _sarif(found: "Review") -> str:
    import json

    from pharos.report.sarif import sarif

    return json.dumps(sarif(found.remarks, _prefix()), indent=2, ensure_ascii=False) + "\n"


def _junit(found: "Review") -> str:
    from pharos.report.verdicts import junit

    return junit([c.verdict for c in found.contracts if c.verdict is not None])


def _print(found: "Review") -> None:
    from rich.text import Text

    from pharos.report.diffs import print_diffs
    from pharos.report.text import pair

    screen = console()
    for reviewed in found.contracts:
        if reviewed.mistake is not None:
            for line in str(reviewed.mistake).splitlines():
                print(f"error: {line}", file=sys.stderr)
    if found.diffs:
        print_diffs(screen, found.diffs, 6)
    elif not any(c.mistake for c in found.contracts):
        screen.print(Text("no contract to check", style="bold"))
    for i, remark in enumerate(r for r in found.remarks if r.rule != "mistake"):
        if i == 0:
            screen.print()
        where = f"{remark.path}:{remark.line}"
        pair(screen, remark.level, f"{where} {remark.title}: {remark.text}")
    if found.unchanged:
        pair(screen, "left out", f"{len(found.unchanged)} contracts of which nothing changed")
