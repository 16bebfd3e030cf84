"""Studies on a terminal and as plain data: the answer, its numbers, why, and the table behind it."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.quantity.evidence import Evidence, merge
from pharos.report.drawing import Figure
from pharos.report.rows import evidence_row, plain
from pharos.report.text import grid, pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a study answers.

    Args:
        answer: in one sentence, with its figure. numbers: by name, SI, the unit in the name.
        reasons: why, a sentence each. columns, rows: the table behind it; cells are numbers, words or None.
        evidence: how the numbers are known. note: what the table's figures are.
    """

    answer: str
    numbers: dict[str, Any]
    reasons: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    evidence: tuple[Evidence, ...] = ()
    note: str = ""
    figure: Figure | None = None
    data: dict[str, Any] = field(default_factory=dict)


def _deep(value: Any) -> Any:
    """Plain data all the way down."""
    if isinstance(value, dict):
        return {str(k): _deep(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_deep(v) for v in value]
    return plain(value)


def study_row(name: str, question: str, given: dict[str, Any], told: Told) -> dict[str, Any]:
    """A study as plain data; schema pharos/study@1."""
    return {
        "schema": "pharos/study@1", "study": name, "question": question, "given": _deep(given),
        "answer": told.answer, "numbers": _deep(told.numbers), "reasons": list(told.reasons),
        "rows": [_deep(dict(zip(told.columns, row, strict=True))) for row in told.rows],
        "evidence": [evidence_row(e) for e in merge(told.evidence)], **_deep(told.data),
    }  # fmt: skip


def print_study(console: Console, name: str, given: dict[str, Any], told: Told) -> None:
    """The answer, the reasons, the table."""
    console.print(Text(told.answer, style="bold"))
    if given:
        pair(console, "given", ", ".join(f"{k.replace('_', ' ')} {_word(v)}" for k, v in given.items()))
    for reason in told.reasons:
        pair(console, "because", reason)
    for one in merge(told.evidence):
        pair(console, "known by", str(one))
    if told.rows:
        console.print()
        first = [next((r[i] for r in told.rows if r[i] is not None), "") for i in range(len(told.columns))]
        sides = ["left" if isinstance(cell, str) else "right" for cell in first]
        shown = [c.replace("_", " ") for c in told.columns]
        rows = [[_word(cell) for cell in row] for row in told.rows]
        words = tuple(i for i, side in enumerate(sides) if side == "left") or (0,)
        grid(console, list(zip(shown, sides, strict=True)), rows, flexible=words)
    if told.note:
        console.print(told.note, style="dim")


def print_studies(console: Console, found: list[tuple[str, str, str]]) -> None:
    """(section, name, question) of each."""
    wide = 1 + max(len(name) for _, name, _ in found)
    for section, name, question in found:
        pair(console, name, f"{question} ({section})", width=wide)


def _word(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_word, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
