"""Tables of the book on a terminal, as Markdown, and the page that holds them all."""

from collections.abc import Callable
from textwrap import wrap

from rich.console import Console
from rich.text import Text

from pharos.book.agree import DIFFERS, REPRODUCES, ROUNDS, UNKNOWN
from pharos.book.table import Cell, Filled, Table, counts, differing, fill, tables
from pharos.report.text import pair

MARKS = {REPRODUCES: "=", ROUNDS: "≈", DIFFERS: "≠", UNKNOWN: "?"}
STYLES = {REPRODUCES: "green", ROUNDS: "green", DIFFERS: "yellow", UNKNOWN: "dim"}
KEY = "= reproduces, ≈ rounds, ≠ differs, ? cannot be told; no mark: words that nothing is held against"


def print_table(console: Console, one: Table, filled: Filled) -> None:
    """Every row's cells with the chapter's beside them, then why those differ that do."""
    console.print(Text(_title(one), style="bold"))
    if filled.setting:
        pair(console, "for", filled.setting)
    pair(console, "chapter", tally(filled))
    pair(console, "known by", known_by(filled))
    name = 1 + min(20, max(len(c) for c in filled.columns[1:]))
    room = console.width - name - 7
    own, other = room * 11 // 20, room - room * 11 // 20
    head = Text.assemble((f"\n{'':{name + 2}}{'Pharos':<{own}}  {'the chapter':<{other}}", "dim"))
    console.print(head, soft_wrap=True)
    for row, cells in filled.rows:
        if row:
            console.print(Text(row, style="bold"), soft_wrap=True)
        for column, cell in zip(filled.columns[1:], cells, strict=True):
            _print_cell(console, column, cell, name, own, other)
    why = reasons(filled)
    if why:
        console.print()
        for mark, row, columns, note in why:
            pair(console, f"{mark} {row}", f"{columns}: {note}", min(26, 3 + max(len(r) for _, r, *_ in why)))
    console.print()
    for line in (KEY, filled.note):
        for part in wrap(line, console.width - 1):
            console.print(Text(part, style="dim"), soft_wrap=True)


def _print_cell(console: Console, column: str, cell: Cell, name: int, own: int, other: int) -> None:
    left = wrap(column, name - 1) or [""]
    middle = wrap(cell.text, own, break_on_hyphens=False) or [""]
    right = wrap(cell.printed, other, break_on_hyphens=False) or [""]
    mark, style = MARKS.get(cell.verdict, " "), STYLES.get(cell.verdict, "")
    for i in range(max(len(left), len(middle), len(right))):
        at = lambda lines, i=i: lines[i] if i < len(lines) else ""  # noqa: E731
        line = Text.assemble(
            (f"  {at(left):<{name}}", "dim"), f"{at(middle):<{own}} ", (mark if i == 0 else " ", style), " ",
            (at(right), "dim"),
        )  # fmt: skip
        line.rstrip()
        console.print(line, soft_wrap=True)


def print_tables(console: Console) -> None:
    """Numbers, names and titles."""
    for one in tables().values():
        name = one.key if one.key == one.name else f"{one.key} {one.name}"
        heeds = {"machine": "--on", "batch": "--batch"}
        takes = f" ({', '.join(heeds[h] for h in one.heeds)})" if one.heeds else ""
        pair(console, name, f"{one.title}{takes}", width=20)


def tally(filled: Filled) -> str:
    """Cells by verdict, in words."""
    found = counts(filled)
    compared = sum(found.values())
    if not compared:
        return "words alone, nothing to compare"
    told = [f"{found[v]} {w}" for v, w in ((REPRODUCES, "reproduce"), (ROUNDS, "round"), (DIFFERS, "differ"),
                                           (UNKNOWN, "cannot be told")) if found[v]]  # fmt: skip
    return f"of {compared} cells compared {', '.join(told)}"


def known_by(filled: Filled) -> str:
    """How the cells came about: the columns of each kind of evidence; of narrow tables the rows."""
    found: dict[str, list[str]] = {}
    for row, cells in filled.rows:
        for column, cell in zip(filled.columns[1:], cells, strict=True):
            if cell.how:
                found.setdefault(cell.how, []).append(
                    column if len(filled.columns) > 3 else f"{row} {column}"
                )
    return "; ".join(f"{how}: {', '.join(dict.fromkeys(names))}" for how, names in found.items())


def reasons(filled: Filled) -> list[tuple[str, str, str, str]]:
    """(mark, row, columns, why) of cells that differ, those of a row with the same reason together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row, column, cell in differing(filled):
        if cell.note:
            found.setdefault((MARKS[cell.verdict], row, cell.note), []).append(column)
    return [(mark, row, ", ".join(columns), note) for (mark, row, note), columns in found.items()]


def _title(one: Table) -> str:
    number = one.key.replace(".", "")
    return f"Table {one.key}  {one.title}" if number.isdigit() and "." not in one.key else one.title


def markdown(one: Table, filled: Filled) -> str:
    """A table in Markdown, each of the chapter's cells below ours."""
    lines = [f"## {_title(one)}", ""]
    told = f"Section {one.section}, `pharos table {one.key}`; {tally(filled)}. Known by {known_by(filled)}."
    if filled.setting:
        told = f"{_capital(filled.setting)}. {told}"
    lines += [*wrap(told, 118), "", f"| {' | '.join(filled.columns)} |", "|" + "---|" * len(filled.columns)]
    for row, cells in filled.rows:
        lines.append(f"| **{_safe(row)}** | " + " | ".join(_cell(c) for c in cells) + " |")
    why = reasons(filled)
    lines += ["", *(f"- {mark} {row}, {columns}: {_safe(note)}" for mark, row, columns, note in why)]
    lines += ([""] if why else []) + [*wrap(_capital(filled.note) + ".", 118), ""] if filled.note else [""]
    return "\n".join(lines)


def page(told: Callable[[str], None] = lambda _: None) -> str:
    """Every table of the book as Markdown."""
    made = []
    for key in tables():
        told(key)
        made.append(fill(key))
    every = [counts(filled) for _, filled in made]
    total = {v: sum(c[v] for c in every) for v in MARKS}
    compared = sum(total.values())
    introduction = (
        f"The textbook's tables, filled by Pharos's own rules: operators' declarations, formulas of one "
        f"definition, "
        f"graphs, machines and predictions. Written by `make tables`; `pharos table N` tells one, with "
        f"`--on`, `--batch` "
        f"and `--swap MODEL=OTHER` for other ground. Below each computed cell stands the chapter's. Of "
        f"{compared} cells "
        f"that can be compared {total[REPRODUCES]} reproduce, {total[ROUNDS]} round, {total[DIFFERS]} "
        f"differ and "
        f"{total[UNKNOWN]} cannot be told. {KEY}."
    )
    lines = ["# The textbook's tables", "", *wrap(introduction, 118), ""]
    return "\n".join(lines) + "\n" + "\n".join(markdown(one, filled) for one, filled in made)


def _cell(cell: Cell) -> str:
    mark = MARKS.get(cell.verdict, "")
    own = _safe(cell.text)
    if not cell.printed:
        return own
    return f"{own}<br>{(mark + ' ') if mark else ''}*{_safe(cell.printed)}*"


def _safe(words: str) -> str:
    return words.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
