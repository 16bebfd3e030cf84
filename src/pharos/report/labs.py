"""Labs on a terminal and as plain data: what was run, what came out, and whether it is what was expected."""

from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from pharos.quantity.shown import Shown
from pharos.report.drawing import Figure
from pharos.report.text import grid, pair

Agreement = Literal["agrees", "partly", "contradicts", "cannot tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a lab expected: what, what was found, and whether that holds."""

    what: str
    found: str
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the textbook expects and what was found; one that contradicts it is a result like any other.

    Args:
        expected: by the chapter, in our own words. found: here, with its figures.
        section: of the chapter, such as "1.8". claims: ids of the ledger's claims that this measures.
    """

    expected: str
    found: str
    agreement: Agreement
    section: str = ""
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Shown):
    """What a lab found.

    Args:
        settings: what it ran with. columns, rows: its table; cells are numbers or words.
        checks: what must hold for the experiment to be sound: forms that must agree, laws of arithmetic.
        findings: the textbook's expectations beside what came out. note: what the table's figures are.
        figure: the picture of the table.
    """

    name: str
    summary: str
    settings: dict[str, Any]
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...] = ()
    note: str = ""
    figure: Figure | None = None
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
        "findings": [{"expected": f.expected, "found": f.found, "agreement": f.agreement,
                      "section": f.section, "claims": list(f.claims)} for f in outcome.findings],
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
    for one in outcome.findings:
        where = f" ({one.section})" if one.section else ""
        pair(console, "chapter", f"{one.expected}{where}")
        pair(console, one.agreement, one.found)
    console.print()
    words = [isinstance(cell, str) for cell in outcome.rows[0]] if outcome.rows else []
    columns = [(name, "left" if word else "right") for name, word in zip(outcome.columns, words, strict=True)]
    rows = [[_cell(cell) for cell in row] for row in outcome.rows]
    grid(console, columns, rows, tuple(i for i, word in enumerate(words) if word) or (0,))
    if outcome.note:
        console.print(outcome.note, style="dim")


def print_verdict(console: Console, outcome: Outcome, seconds: float) -> None:
    """One line: name, verdict, time, and how far the textbook's expectations came out."""
    told = ", ".join(f"{w} {n}" for w in ("agrees", "partly", "contradicts", "cannot tell")
                     if (n := sum(f.agreement == w for f in outcome.findings)))  # fmt: skip
    console.print(f"{'HOLDS ' if outcome.holds else 'BROKEN'}  {outcome.name:<24} {seconds:5.1f} s  {told}")


def labs_page(runs: list[tuple[Outcome, float]], where: str = "") -> str:
    """Every lab's verdicts and table as a page in Markdown, from `(outcome, seconds)` each.

    Args:
        where: the machine and the day.
    """
    words = {
        w: "agrees in part" if w == "partly" else w
        for w in ("agrees", "partly", "contradicts", "cannot tell")
    }
    counted = {w: sum(f.agreement == w for o, _ in runs for f in o.findings) for w in words}
    total = ", ".join(f"{n} {words[w]}" for w, n in counted.items() if n)
    lines = [
        "# Labs", "",
        "Experiments of the textbook, run on one machine by `make labs`; `pharos lab NAME` runs one.",
        f"Times are of that machine{f' ({where})' if where else ''}; what is said to hold or to agree is "
        "what was found there.", "",
        f"{len(runs)} labs in {sum(s for _, s in runs):.0f} s; of what the chapter expects: {total}.", "",
    ]  # fmt: skip
    for outcome, seconds in runs:
        settings = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in outcome.settings.items())
        told = f"{_capital(outcome.summary)}. {_capital(settings)}; {seconds:.0f} s."
        lines += [f"## {outcome.name}", "", told, ""]
        lines += [f"- {'holds' if c.holds else '**broken**'}: {c.what}: {c.found}" for c in outcome.checks]
        for f in outcome.findings:
            where = f" (section {f.section})" if f.section else ""
            told = f"**{_capital(words[f.agreement])}**: {f.found}"
            lines.append(f"- the chapter expects: {f.expected}{where}. {told}")
        lines += ["", "| " + " | ".join(c.replace("_", " ") for c in outcome.columns) + " |"]
        lines += ["|" + "---|" * len(outcome.columns)]
        lines += ["| " + " | ".join(_cell(c).replace("|", "\\|") for c in row) + " |" for row in outcome.rows]
        lines += ["", *([_capital(outcome.note) + ".", ""] if outcome.note else [])]
    return "\n".join(lines)


def _cell(cell: Any) -> str:
    return cell if isinstance(cell, str) else f"{cell:,.4g}" if isinstance(cell, float) else f"{cell:,}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def print_labs(console: Console, labs: list[tuple[str, str, tuple[str, ...]]]) -> None:
    """Names, what they show, and the sections of the chapter whose claims they measure."""
    for name, summary, sections in labs:
        told = f"{summary} ({', '.join(sections)})" if sections else summary
        pair(console, name, told, width=1 + max(len(n) for n, *_ in labs))
