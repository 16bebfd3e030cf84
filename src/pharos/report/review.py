"""Review: a change's contracts beside those of the branch it goes to, and what there is to remark on each."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.convert.revisions import changed_since, find_revision, tree_of
from pharos.decide.contract_files import concerned, find_contracts
from pharos.decide.diff import (
    FAILS,
    GONE,
    GROWN,
    MENDED,
    NEWLY,
    NEWLY_UNKNOWN,
    STILL_UNKNOWN,
    WAS,
    Diff,
    LimitChange,
    compare,
    exit_code,
    limit_changes,
)
from pharos.decide.lock import Lock
from pharos.decide.side import side_of
from pharos.decide.verdict import HOLDS, Verdict, check_file
from pharos.quantity.errors import PharosError
from pharos.report.diffs import change_text, said
from pharos.report.rows import predict_row
from pharos.report.sides import Asked, contracts_in, rows_of_revision
from pharos.report.verdicts import limits_row

ERROR, WARNING, NOTE = "error", "warning", "note"
# What a remark is about -> what it says of itself.
RULES = {
    NEWLY: "a limit that held before is broken",
    GROWN: "a limit that was broken before is broken further",
    WAS: "a limit is broken, as it was before",
    NEWLY_UNKNOWN: "whether a limit holds can no longer be told",
    STILL_UNKNOWN: "whether a limit holds cannot be told, as before",
    MENDED: "a limit that was broken holds",
    "near": "a limit is nearly used up",
    "loosened": "a limit allows more than before",
    GONE: "a limit or a contract is gone",
    "mistake": "a contract cannot be read",
}  # fmt: skip
_LEVELS = {
    **dict.fromkeys(FAILS, ERROR), **dict.fromkeys((WAS, NEWLY_UNKNOWN, GONE), WARNING),
    **dict.fromkeys((STILL_UNKNOWN, MENDED), NOTE),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing to say at a line of a file.

    Args:
        level: ERROR, WARNING or NOTE.
        rule: a key of RULES.
        limit: the limit it is about, "" where it is about the contract.
    """

    level: str
    rule: str
    path: str
    line: int
    limit: str
    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """One contract of the change.

    Args:
        verdict: as it is now; None where it cannot be read or was removed.
        diff: beside the base, or the lock; None where it cannot be read.
        mistake: why it cannot be read.
        base_mistake: why the base's cannot.
    """

    path: str
    verdict: Verdict | None = None
    diff: Diff | None = None
    mistake: PharosError | None = None
    base_mistake: PharosError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """All contracts of a change.

    Args:
        base: the commit compared with; "" where there is none.
        unchanged: contracts left out because nothing of theirs changed.
    """

    contracts: tuple[Reviewed, ...]
    base: str = ""
    base_name: str = ""
    unchanged: tuple[str, ...] = ()
    warn_at: float = 0.8

    @property
    def diffs(self) -> list[Diff]:
        """Of the contracts that can be read."""
        return [c.diff for c in self.contracts if c.diff is not None]

    @property
    def exit_code(self) -> int:
        """1 newly broken, 2 a contract cannot be read, 3 can no longer be told, 0 otherwise."""
        code = exit_code(self.diffs)
        return 2 if any(c.mistake for c in self.contracts) and code != 1 else code

    @property
    def remarks(self) -> list[Remark]:
        """What there is to say, errors first, then by place."""
        found = [r for c in self.contracts for r in _remarks(c, self.warn_at)]
        return sorted(found, key=lambda r: ((ERROR, WARNING, NOTE).index(r.level), r.path, r.line))


def review(
    contracts: Iterable[str] = (), base: str | None = None, lock: tuple[Lock, Path] | None = None, *,
    only_changed: bool = False, warn_at: float = 0.8,
) -> Review:  # fmt: skip
    """Checks contracts, each beside what it was.

    Args:
        contracts: files; all below the current folder if none is given.
        base: a revision; lock: what counts as before for contracts that the base lacks, and its folder.
        only_changed: leaves out contracts that neither changed nor name a file that did.
        warn_at: part of a limit from which it is nearly used up.

    Raises:
        PharosError: no such revision or folder.
    """
    given = [os.path.normpath(path) for path in contracts]
    paths = given or find_contracts()
    left: list[str] = []
    revision = None if base is None else find_revision(base)
    if revision is not None and only_changed:
        touched = [os.path.relpath(path, revision.prefix or ".") for path in changed_since(revision.commit)]
        kept = concerned(paths, touched)
        paths, left = kept, [path for path in paths if path not in kept]
    was: dict[str, Any] = {}
    if revision is not None:
        with tree_of(revision) as tree:
            there = set(contracts_in(revision))
            gone = [] if given else sorted(there - set(paths) - set(left))
            for path in [*paths, *gone]:
                # a contract given by name counts as one whatever it is called
                with contextlib.suppress(PharosError):
                    revision.path(path)
                    there.add(path)
                if path in there:
                    was[path] = _before(tree, path)
            paths = [*paths, *gone]
    short = revision.commit[:9] if revision else ""
    made = [_reviewed(path, was.get(path), short, lock) for path in paths]
    return Review(
        contracts=tuple(made), base=revision.commit if revision else "", base_name=base or "",
        unchanged=tuple(left), warn_at=warn_at,
    )  # fmt: skip


def _before(tree: Any, path: str) -> Any:
    try:
        return rows_of_revision(tree, path, Asked())[0][1]
    except PharosError as error:
        return error


def _reviewed(path: str, was: Any, base: str, lock: tuple[Lock, Path] | None) -> Reviewed:
    base_mistake = was if isinstance(was, PharosError) else None
    before = None if was is None or isinstance(was, PharosError) else side_of(was, f"{base}:{path}", path)
    if not Path(path).exists() and before is not None:
        return Reviewed(path=path, diff=compare(before, None))
    try:
        verdict = check_file(path)
    except PharosError as error:
        return Reviewed(path=path, mistake=error, base_mistake=base_mistake)
    row = limits_row(verdict) | {"estimate": predict_row(verdict.estimate)}
    after = side_of(row, path, path)
    diff = compare(before, after)
    if before is None and lock is not None:
        locked = lock[0].limits(path, lock[1])
        diff = Diff(before=None, after=after, limits=limit_changes(locked, after.limits))
    return Reviewed(path=path, verdict=verdict, diff=diff, base_mistake=base_mistake)


def _remarks(found: Reviewed, warn_at: float) -> Iterable[Remark]:
    if found.mistake is not None:
        for line in str(found.mistake).splitlines():
            yield Remark(
                level=ERROR, rule="mistake", path=found.path, line=_line_in(line, found.path), limit="",
                title="contract cannot be read", text=line,
            )  # fmt: skip
        return
    diff, verdict = found.diff, found.verdict
    if diff is None:
        return
    if verdict is None:
        yield Remark(
            level=WARNING, rule=GONE, path=found.path, line=1, limit="", title=f"{diff.side.name} is gone",
            text="the contract was removed",
        )  # fmt: skip
        return
    for limit in diff.limits:

        def remark(level: str, rule: str, title: str, text: str, limit: LimitChange = limit) -> Remark:
            return Remark(
                level=level, rule=rule, path=found.path, line=verdict.document.line("limits", limit.name),
                limit=limit.name, title=f"{diff.side.name}: {limit.name} {title}", text=text,
            )  # fmt: skip

        if limit.status in _LEVELS:
            yield remark(_LEVELS[limit.status], limit.status, limit.status, _told(verdict, diff, limit))
        used = _used(limit)
        if (
            limit.after is not None
            and limit.after["verdict"] == HOLDS
            and used is not None
            and used >= warn_at
        ):
            yield remark(WARNING, "near", f"at {used:.0%} of its limit", _told(verdict, diff, limit))
        if limit.loosened and limit.before is not None and limit.after is not None:
            ends = " -> ".join(said(row["limit"], limit.unit) for row in (limit.before, limit.after))
            yield remark(WARNING, "loosened", "loosened", f"the limit was loosened: {ends}")


def _used(limit: LimitChange) -> float | None:
    margin = None if limit.after is None else limit.after["margin"]
    return 1 / margin if margin else None


def _told(verdict: Verdict, diff: Diff, limit: LimitChange) -> str:
    """A limit's state in a sentence, with what changed and what would mend it."""
    change = next((c for c in diff.figures if c.name == limit.name and c.is_changed), None)
    row = limit.after or limit.before or {}
    told = (
        change_text(diff, change) if change is not None else f"{limit.name} {said(row['value'], limit.unit)}"
    )
    if row.get("low") != row.get("high") and row.get("low") is not None and row.get("high") is not None:
        told += f", 80% band {said(row['low'], limit.unit)} to {said(row['high'], limit.unit)}"
    told += f"; allowed {said(row['limit'], limit.unit)}"
    now = next((x for x in verdict.limits if x.name == limit.name), None)
    if now is not None and now.remedy and limit.status not in (MENDED,):
        told += f"; {'to mend it: ' if limit.status in (*FAILS, WAS) else ''}{now.remedy}"
    return told


def _line_in(text: str, path: str) -> int:
    """The line that an error message begins with: path:LINE:column."""
    rest = text.removeprefix(f"{path}:")
    number = rest.partition(":")[0].partition(" ")[0]
    return int(number) if rest != text and number.isdigit() else 1
