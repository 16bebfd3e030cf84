"""Figures of the book on a terminal, and the page that shows them all."""

from collections.abc import Callable
from pathlib import Path
from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.book.figure import Drawing, Picture, draw, figures
from pharos.report.text import grid, pair

# Rows of numbers that a terminal shows.
MOST = 24


def print_figure(console: Console, one: Drawing, made: Picture) -> None:
    """What the figure shows in words, the picture in letters where it has one, else its numbers."""
    console.print(Text(f"Figure {one.number}  {made.figure.title}", style="bold"))
    pair(console, "section", one.section)
    pair(console, "shows", made.figure.alt)
    if made.note:
        pair(console, "numbers", made.note)
    console.print()
    if made.lines and max(len(line) for line in made.lines) <= console.width:
        for line in made.lines:
            console.print(Text(line), soft_wrap=True)
        return
    rows = [[_cell(v) for v in row] for row in made.rows[:MOST]]
    words = tuple(i for i, v in enumerate(made.rows[0]) if isinstance(v, str)) or (0,)
    columns = [(c.replace("_", " "), "left" if i in words and isinstance(made.rows[0][i], str) else "right")
               for i, c in enumerate(made.columns)]  # fmt: skip
    grid(console, columns, rows, words)
    if len(made.rows) > MOST:
        console.print(f"and {len(made.rows) - MOST} more; --json has all", style="dim")


def print_figures(console: Console) -> None:
    """Numbers, names and what they show."""
    for one in figures().values():
        takes = f" (--{', --'.join(one.takes)})" if one.takes else ""
        pair(console, f"{one.number} {one.name}", f"{one.summary}{takes}", width=24)


def gallery(page: Path, told: Callable[[str], None] = lambda _: None) -> str:
    """Writes every figure as SVG into a folder beside a page, and gives the page in Markdown.

    Raises:
        InputError: a file cannot be written, or what draws is not installed.
    """
    folder = page.parent / page.stem
    folder.mkdir(exist_ok=True)
    lines = [
        "# Figures", "",
        *wrap("The textbook's fourteen figures, drawn anew from Pharos's own facts, graphs and loops by "
              "`make figures`;"
              " `pharos figure N -o FILE.svg` (or .png, .html, .json) draws one, `--dark` for dark "
              "ground, `--json` "
              "gives its numbers. Under each stands what it shows, as readers of the screen are told.", 118),
        "",
    ]  # fmt: skip
    for one in figures().values():
        told(one.name)
        made = draw(str(one.number))
        path = folder / f"{one.number:02d}-{one.name}.svg"
        made.figure.save(path)
        how = f"; `--{'`, `--'.join(one.takes)}` draws it of another" if one.takes else ""
        lines += [
            f"## {one.number}. {made.figure.title}", "",
            f"![{made.figure.alt.split('. ')[0].rstrip('.')}.]({folder.name}/{path.name})", "",
            *wrap(f"{made.figure.alt} (Section {one.section}, `pharos figure {one.name}`{how}.)", 118), "",
            *([*wrap(_capital(made.note) + ".", 118), ""] if made.note else []),
        ]  # fmt: skip
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
