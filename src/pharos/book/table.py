"""Tables of the textbook, filled by Pharos's own rules beside what the chapter prints; one file each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from pharos.book.agree import DIFFERS, UNKNOWN, VERDICTS, agree
from pharos.book.chapter import claims
from pharos.book.sums import A100
from pharos.facts.declared import import_all
from pharos.quantity.errors import InputError, unknown

# How a cell came about.
COUNTED, DERIVED, PREDICTED, RUN, DECLARED, LOOKED_UP = (
    "counted", "derived", "predicted", "run", "declared", "looked up")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a table is filled for.

    Args:
        machine: that predictions are for. batch: of predictions that have one to choose.
        swapped: a model of the table -> the one that takes its place.
    """

    machine: str = A100
    batch: int = 1
    swapped: Mapping[str, str] = field(default_factory=dict)

    def model(self, name: str) -> str:
        """The model in the place of `name`."""
        return self.swapped.get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One computed cell with what the chapter has in its place.

    Args:
        value: a number, a formula, words, or whether a statement holds; None if nothing can compute it.
        text: as it is shown. how: counted, derived, predicted, run, declared or looked up.
        printed: the chapter's cell; "" where it has none. stated: its value, None where it is words alone.
        verdict: one of `agree.VERDICTS`, "" where there is nothing to compare. note: why they differ.
    """

    value: Any
    text: str
    how: str = ""
    printed: str = ""
    stated: Any = None
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A table that was filled.

    Args:
        columns: titles; the first is that of the rows' names.
        rows: (name, cells), a cell for each further column.
        setting: what it was filled for, in words. note: what its figures are.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    setting: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of the book.

    Args:
        key: its number in the chapter, such as "7" or "1.4" of a lighthouse's box, or its name.
        heeds: which of `Asked` it heeds beside swapped models.
    """

    key: str
    name: str
    title: str
    section: str
    fill: Callable[[Asked], Filled] = field(repr=False)
    heeds: tuple[str, ...] = ()


TABLES: dict[str, Table] = {}


def table(
    key: str, name: str, title: str, section: str, heeds: tuple[str, ...] = ()
) -> Callable[[Callable[[Asked], Filled]], Callable[[Asked], Filled]]:
    """Registers a function as a table of the book."""

    def register(fill: Callable[[Asked], Filled]) -> Callable[[Asked], Filled]:
        if key in TABLES:
            raise ValueError(f"two tables have the key {key}")
        TABLES[key] = Table(key=key, name=name, title=title, section=section, fill=fill, heeds=heeds)
        return fill

    return register


def tables() -> dict[str, Table]:
    """Every table by its key: the numbered ones, the lighthouses', the others."""
    import_all("pharos.book.tables")
    return dict(sorted(TABLES.items(), key=lambda item: (len(item[0]), item[0])))


def find_table(text: str) -> Table:
    """A table by its number or name; `-`, `_` and case do not matter.

    Raises:
        UnknownName: with the nearest.
    """
    known = tables()
    wanted = text.strip().lower().replace("_", "-").removeprefix("table").lstrip(" -")
    for one in known.values():
        if wanted in (one.key, one.name):
            return one
    raise unknown("table", text, [*known, *(t.name for t in known.values() if t.name != t.key)])


def fill(text: str, asked: Asked | None = None) -> tuple[Table, Filled]:
    """A table of the book, filled.

    Raises:
        UnknownName: no such table, model or machine.
        InputError: a machine or batch that it does not heed.
    """
    one, asked = find_table(text), asked or Asked()
    for what, usual in (("machine", A100), ("batch", 1)):
        if getattr(asked, what) != usual and what not in one.heeds:
            option = "--on" if what == "machine" else "--batch"
            takers = ", ".join(t.key for t in tables().values() if what in t.heeds)
            raise InputError(
                f"table {one.key} predicts for no {what}", where=option, hint=f"tables {takers} do"
            )
    return one, one.fill(asked)


@cache
def _printed() -> dict[str, Any]:
    return json.loads((files("pharos.book") / "chapter_tables.json").read_text(encoding="utf-8"))["tables"]


def printed_rows(key: str) -> list[str]:
    """Names of the rows that the chapter's table has."""
    return list(_printed()[key])


def cell(
    at: tuple[str, str, str], value: Any, text: str = "", how: str = COUNTED, note: str = "",
    compare: Any = None,
) -> Cell:  # fmt: skip
    """A computed cell held against the chapter's.

    Args:
        at: key of the table, row and column in `chapter_tables.json`.
        text: as it is shown; the value's own words if left out.
        compare: what is held against what is stated, where that is not the value itself.
    """
    found = _printed().get(at[0], {}).get(at[1], {}).get(at[2], {})
    stated, form = found.get("stated"), ""
    if "claim" in found:
        claim = claims()[found["claim"]]
        stated, form = claim.stated, claim.form
    own = value if compare is None else compare
    verdict = "" if stated is None else UNKNOWN if own is None else agree(stated, own, form)
    return Cell(
        value=value, text=text or _words(value), how=how, printed=found.get("printed", ""), stated=stated,
        verdict=verdict, note=note,
    )  # fmt: skip


def words(value: str, how: str = DECLARED, note: str = "") -> Cell:
    """A cell that the chapter has nothing to hold against."""
    return Cell(value=value, text=value, how=how, note=note)


def counts(filled: Filled) -> dict[str, int]:
    """Cells by verdict."""
    every = [c.verdict for _, cells in filled.rows for c in cells]
    return {v: every.count(v) for v in VERDICTS}


def differing(filled: Filled) -> list[tuple[str, str, Cell]]:
    """(row, column, cell) of every cell that differs from the chapter's, or that nothing can tell."""
    return [
        (name, column, one) for name, cells in filled.rows
        for column, one in zip(filled.columns[1:], cells, strict=True) if one.verdict in (DIFFERS, UNKNOWN)
    ]  # fmt: skip


def table_row(one: Table, filled: Filled) -> dict[str, Any]:
    """A filled table as plain data; schema pharos/table@1."""
    return {
        "schema": "pharos/table@1", "table": one.key, "name": one.name, "title": one.title,
        "section": one.section, "setting": filled.setting, "columns": list(filled.columns),
        "rows": [{
            "row": name,
            "cells": {column: {
                "value": _plain(c.value), "text": c.text, "known": c.how, "chapter": c.printed or None,
                "stated": c.stated, "verdict": c.verdict or None, "note": c.note or None,
            } for column, c in zip(filled.columns[1:], cells, strict=True)},
        } for name, cells in filled.rows],
        "counts": counts(filled), "note": filled.note,
    }  # fmt: skip


def _words(value: Any) -> str:
    from pharos.book.shown import text

    return text(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
