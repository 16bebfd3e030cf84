"""Shown: the ledger on a terminal, as JSON rows, and as a page."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.book.agree import DIFFERS, REPRODUCES, ROUNDS, RULE, UNKNOWN, VERDICTS
from pharos.book.chapter import conflicts, source
from pharos.book.ledger import Entry, counts, ledger
from pharos.quantity.units import fmt_count

STYLES = {REPRODUCES: "green", ROUNDS: "green", DIFFERS: "yellow", UNKNOWN: "dim"}
_PLACE = "src/pharos/book/claims"


INTRODUCTION = (
    "Every claim of {source}, beside what Pharos computes for it through its own rules: graphs, the costs of"
    " operators, machines and tables of energies. Written by `pharos ledger --write docs/ledger.md`; a test"
    " says when it is not current. Each verdict leads to the code. `pharos ledger ID` tells one claim in"
    " full."
)


def row(entry: Entry) -> dict[str, Any]:
    """What `pharos ledger --json` prints for one claim."""
    claim = entry.claim
    return {
        "id": claim.id,
        "section": claim.section,
        "kind": claim.kind,
        "claim": claim.claim,
        "stated": claim.stated,
        "computed": entry.computed,
        "unit": claim.unit,
        "verdict": entry.verdict,
        "note": entry.note,
        "reading": entry.reading or None,
        "readings": entry.readings,
        "conflicts": list(entry.conflicts),
        "code": f"{_PLACE}/{entry.code}",
        "labs": list(entry.labs),
    }


def text(value: Any) -> str:
    """A value as people read it: four digits, a decimal prefix from ten million on."""
    if value is None:
        return "?"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"[{text(v)}]" if isinstance(v, (list, tuple)) else text(v) for v in value)
    if isinstance(value, int) and abs(value) < 10_000_000:
        return f"{value:,}"
    if isinstance(value, (int, float)):
        if abs(value) >= 10_000_000:
            return fmt_count(value, 4)
        if float(value).is_integer() or abs(value) >= 10_000:
            return f"{value:,.0f}"
        return f"{value:,.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"
    return str(value)


def stated(entry: Entry) -> str:
    """The chapter's value with its unit."""
    claim = entry.claim
    if claim.form == "range":
        return f"{' to '.join(map(text, claim.stated))} {claim.unit}"
    return _with_unit(claim.stated, claim.unit) if _has_unit(claim.stated) else text(claim.stated)


def computed(entry: Entry) -> str:
    """Pharos's value with the unit, or whether what is stated in words holds."""
    value = entry.computed
    if value is None:
        return "unknown"
    return _of(entry, value)


def _of(entry: Entry, value: Any) -> str:
    said = entry.claim.stated
    if isinstance(value, bool) and not isinstance(said, bool):
        return "holds" if value else "does not hold"
    if isinstance(value, list) and value and all(isinstance(v, bool) for v in value):
        return ", ".join("holds" if v else "does not hold" for v in value)
    return _with_unit(value, entry.claim.unit) if _has_unit(said) and _has_unit(value) else text(value)


def _with_unit(value: Any, unit: str) -> str:
    """A value with its unit, or each part with its own where the unit names as many."""
    if unit == "year":
        return " and ".join(map(str, value if isinstance(value, (list, tuple)) else [value]))
    units = unit.split(", ")
    if isinstance(value, (list, tuple)) and 1 < len(units) == len(value):
        return ", ".join(f"{text(v)} {u}" for v, u in zip(value, units, strict=True))
    return f"{text(value)} {unit}".strip()


def _has_unit(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_has_unit(v) for v in value)
    if value is None:
        return True
    return (isinstance(value, (int, float)) and not isinstance(value, bool)) or (
        isinstance(value, str) and value[:1] in "<>"
    )


def why(entry: Entry) -> str:
    """The note, the reading that gives what is stated, and the other readings."""
    parts = [entry.note] if entry.note else []
    others = []
    for name, value in entry.readings.items():
        shown = f"{name}: {_of(entry, value)}"
        if name == entry.reading:
            parts.append(f"{shown}, as stated")
        else:
            others.append(shown)
    return "; ".join(parts + others)


def summary(entries: Sequence[Entry]) -> str:
    """The counts in a sentence."""
    found = counts(entries)
    known = found["claims"] - found[UNKNOWN]
    agreed = found[REPRODUCES] + found[ROUNDS]
    share = f", {agreed / known:.0%} of those that can be computed" if 0 < agreed < known else ""
    return (
        f"{found['claims']} claims: {found[REPRODUCES]} reproduce, {found[ROUNDS]} round{share};"
        f" {found[DIFFERS]} differ, {found['differs_by_convention']} of them by a convention;"
        f" {found[UNKNOWN]} unknown"
    )


def print_ledger(console: Console, entries: Sequence[Entry], full: bool = False) -> None:
    """Counts first, then every claim under its section.

    Args:
        full: with the claim in words, the code and the claims it conflicts with.
    """
    console.print(Text(summary(entries), style="bold"), soft_wrap=False)
    section = None
    for entry in entries:
        if entry.claim.section != section:
            section = entry.claim.section
            console.print()
            console.print(Text(section, style="bold"))
        _print_entry(console, entry, full)


def _print_entry(console: Console, entry: Entry, full: bool) -> None:
    head = Text.assemble((f"  {entry.verdict:<11}", STYLES[entry.verdict]), entry.claim.id)
    console.print(head, soft_wrap=True)
    lines = [entry.claim.claim] if full else []
    lines.append(f"stated {stated(entry)}; computed {computed(entry)}")
    lines += [why(entry)] if why(entry) and (full or entry.verdict in (DIFFERS, UNKNOWN)) else []
    if full:
        lines.append(f"code: {_PLACE}/{entry.code}")
        lines += [f"lab: {name}" for name in entry.labs]
        if entry.conflicts:
            lines.append(f"the chapter says otherwise in: {', '.join(entry.conflicts)}")
    for i, line in enumerate(lines):
        style = "" if line.startswith("stated ") and i <= 1 else "dim"
        for part in wrap(line, max(30, console.width - 14), break_on_hyphens=False):
            console.print(Text(f"{'':13}{part}", style=style), soft_wrap=True)


def page() -> str:
    """The whole ledger as Markdown."""
    entries = ledger()
    by_id = {e.claim.id: e for e in entries}
    lines = [
        "# The ledger",
        "",
        *wrap(INTRODUCTION.format(source=source()), 118),
        "",
        f"**{summary(entries)}.**",
        "",
        *wrap(f"{RULE} A claim that differs may agree by another reading, which is then named.", 118),
        "",
        *_tally(entries),
        "",
        "## Where the chapter contradicts itself",
        "",
        "| what | claims: stated → computed |",
        "|---|---|",
    ]
    for group in conflicts():
        told = "<br>".join(
            f"`{i}`: {_cell(stated(by_id[i]))} → {_cell(computed(by_id[i]))}" for i in group["claims"]
        )
        lines.append(f"| {_cell(group['what'])} | {told} |")
    section = None
    for entry in entries:
        if entry.claim.section != section:
            section = entry.claim.section
            lines += [
                "",
                f"## {section}",
                "",
                "| claim | stated | computed | verdict | why |",
                "|---|---|---|---|---|",
            ]
        file, _, line = entry.code.partition(":")
        lines.append(
            f"| {_cell(entry.claim.claim)} `{entry.claim.id}` | {_cell(stated(entry))} |"
            f" {_cell(computed(entry))} | [{entry.verdict}](../{_PLACE}/{file}#L{line}) |"
            f" {_cell(why(entry))}{_labs(entry)} |"
        )
    return "\n".join(lines) + "\n"


def _tally(entries: Sequence[Entry]) -> list[str]:
    kinds = sorted({e.claim.kind for e in entries})
    lines = [f"| kind | claims | {' | '.join(VERDICTS)} |", f"|---|---:|{'---:|' * len(VERDICTS)}"]
    for kind in kinds:
        found = counts(e for e in entries if e.claim.kind == kind)
        lines.append(f"| {kind} | {found['claims']} | {' | '.join(str(found[v]) for v in VERDICTS)} |")
    return lines


def _labs(entry: Entry) -> str:
    names = ", ".join(f"[{name}](labs.md#{name})" for name in entry.labs)
    return f"{' ' if why(entry) else ''}Lab: {names}" if names else ""


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
