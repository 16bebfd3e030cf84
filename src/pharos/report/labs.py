"""Labs on a terminal and as plain data: what was run, what came out, and whether it is what was expected."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.report.text import grid, pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a lab expected: what, what was found, and whether that holds."""

    what: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a lab found.

    Args:
        settings: what it ran with. columns, rows: its table; cells are numbers or words.
        checks: its verdicts. note: what the table's figures are.
    """

    name: str
    summary: str
    settings: dict[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    checks: tuple[Check, ...]
    note: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every check does."""
        return all(c.holds for c in self.checks)


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain data; schema pharos/lab@1."""
    return {
        "schema": "pharos/lab@1", "lab": outcome.name, "holds": outcome.holds, "settings": outcome.settings,
        "rows": [dict(zip(outcome.columns, row, strict=True)) for row in outcome.rows],
        "checks": [{"what": c.what, "found": c.found, "holds": c.holds} for c in outcome.checks],
        **outcome.data,
    }  # fmt: skip


def print_outcome(console: Console, outcome: Outcome) -> None:
    """The verdict, the checks, the table."""
    verdict = "HOLDS" if outcome.holds else "BROKEN"
    console.print(Text(f"{verdict}  {outcome.name}", style="bold"))
    pair(console, "shows", outcome.summary)
    pair(console, "with", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in outcome.settings.items()))
    for check in outcome.checks:
        pair(console, "holds" if check.holds else "BROKEN", f"{check.what}: {check.found}")
    console.print()
    words = [isinstance(cell, str) for cell in outcome.rows[0]] if outcome.rows else []
    columns = [(name, "left" if word else "right") for name, word in zip(outcome.columns, words, strict=True)]
    rows = [[cell if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in outcome.rows]
    grid(console, columns, rows)
    if outcome.note:
        console.print(outcome.note, style="dim")


def print_labs(console: Console, labs: list[tuple[str, str]]) -> None:
    """Names and what they show."""
    for name, summary in labs:
        pair(console, name, summary, width=1 + max(len(n) for n, _ in labs))
