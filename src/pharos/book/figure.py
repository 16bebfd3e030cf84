"""Figures of the textbook, drawn anew from Pharos's own facts and computations, one file of `figures` "
"each."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pharos.facts.declared import import_all
from pharos.quantity.errors import InputError, unknown
from pharos.report.drawing import Figure, require_altair


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a figure is drawn of, where it can be chosen.

    Args:
        model: of the catalogue, with arguments. brief: a file that `pharos choose` takes.
    """

    model: str = ""
    brief: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure with the numbers in it.

    Args:
        columns, rows: the numbers, as a table. lines: the picture in letters, where it has such a form.
        note: what the numbers are.
    """

    figure: Figure
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    lines: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One figure of the book.

    Args:
        number: in the chapter. section: where it stands.
        takes: which of `Asked` it heeds.
    """

    number: int
    name: str
    summary: str
    section: str
    draw: Callable[[Asked], Picture] = field(repr=False)
    takes: tuple[str, ...] = ()


FIGURES: dict[int, Drawing] = {}


def figure(
    number: int, name: str, summary: str, section: str, takes: tuple[str, ...] = ()
) -> Callable[[Callable[[Asked], Picture]], Callable[[Asked], Picture]]:
    """Registers a function as a figure of the book."""

    def register(draw: Callable[[Asked], Picture]) -> Callable[[Asked], Picture]:
        if number in FIGURES:
            raise ValueError(f"two figures have the number {number}")
        FIGURES[number] = Drawing(number=number, name=name, summary=summary, section=section, draw=draw,
                                  takes=takes)  # fmt: skip
        return draw

    return register


def figures() -> dict[int, Drawing]:
    """Every figure by its number."""
    import_all("pharos.book.figures")
    return dict(sorted(FIGURES.items()))


def find_figure(text: str) -> Drawing:
    """A figure by its number or name; `-`, `_` and case do not matter.

    Raises:
        UnknownName: with the nearest.
    """
    known = figures()
    wanted = text.strip().lower().replace("_", "-").removeprefix("figure").lstrip(" -")
    if wanted.isdigit() and int(wanted) in known:
        return known[int(wanted)]
    for one in known.values():
        if one.name == wanted:
            return one
    raise unknown("figure", text, [f"{n} {one.name}" for n, one in known.items()] if wanted.isdigit()
                  else [one.name for one in known.values()])  # fmt: skip


def draw(text: str, asked: Asked | None = None) -> Picture:
    """A figure of the book, drawn.

    Raises:
        UnknownName: no such figure, model or machine.
        InputError: a model or brief that it does not heed, or altair is not installed.
    """
    one, asked = find_figure(text), asked or Asked()
    for what in ("model", "brief"):
        if getattr(asked, what) and what not in one.takes:
            takers = ", ".join(str(n) for n, f in figures().items() if what in f.takes)
            raise InputError(f"figure {one.number} is not drawn of a {what}", where=f"--{what}",
                             hint=f"figures {takers} are")  # fmt: skip
    require_altair()
    return one.draw(asked)


def figure_row(one: Drawing, made: Picture) -> dict[str, Any]:
    """A figure's numbers as plain data; schema pharos/figure@1."""
    return {
        "schema": "pharos/figure@1", "figure": one.number, "name": one.name, "section": one.section,
        "title": made.figure.title, "says": made.figure.alt, "source": made.figure.source,
        "rows": [dict(zip(made.columns, row, strict=True)) for row in made.rows],
        "text": list(made.lines), "note": made.note,
    }  # fmt: skip
