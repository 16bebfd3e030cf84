"""Tables: CSV and Parquet files as feature tables, interaction logs, edge lists or time series."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pharos.decide.data.facts import Data
from pharos.decide.data.measures import dependence, distinct, order_p, zipf
from pharos.decide.data.sample import Tick, nothing, read_lines
from pharos.quantity.errors import InputError

LABELS = (
    "label",
    "labels",
    "target",
    "class",
    "y",
    "outcome",
    "default",
    "click",
    "clicked",
    "rating",
    "species",
)
USERS = ("user", "user_id", "userid", "customer", "customer_id", "visitor", "session", "session_id")
ITEMS = (
    "item",
    "item_id",
    "itemid",
    "product",
    "product_id",
    "movie",
    "movie_id",
    "movieid",
    "ad",
    "ad_id",
    "page",
)
ENDS = (
    {"source", "target"},
    {"src", "dst"},
    {"from", "to"},
    {"head", "tail"},
    {"node1", "node2"},
    {"u", "v"},
)
TIMES = ("time", "timestamp", "date", "datetime", "t", "ts", "step")
# Rows of a Parquet file that are looked at, how many of them follow each other, and bad rows that make a file
# unreadable as a table.
ROWS, RUN, BAD = 200_000, 4000, 0.05
# Distinct values above which a column of names or whole numbers is a table of its own.
MANY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: numbers (NaN where missing), or codes of names (-1 where missing).

    Args:
        rows: how many rows its table would have; exact: the whole column was seen.
    """

    name: str
    numbers: Any
    names: Any
    counts: Any
    rows: int
    exact: bool
    whole: bool

    @property
    def is_categorical(self) -> bool:
        """Names, or whole numbers that identify."""
        return self.numbers is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A table's cells as written, before anything is made of them.

    Args:
        columns: (name in lower case, its cells); groups: rows that follow each other in the file.
        total: rows of the whole file; sampled: these are not all.
    """

    columns: list[tuple[str, list[str]]]
    total: int
    sampled: bool
    groups: list[tuple[int, int]]
    notes: list[str]


def csv_rows(path: Path, rng: Any, tick: Tick = nothing) -> Rows:
    """The cells of a CSV file with a header line.

    Raises:
        InputError: no header, or rows that do not match it, with the line.
    """
    lines = read_lines(path, rng, tick)
    texts = lines.lines
    if not texts:
        raise InputError("is empty", where=str(path))
    head = texts[0]
    separator = max((",", ";", "\t", "|"), key=head.count)
    header = [h.strip().strip('"').lower() for h in next(csv.reader([head], delimiter=separator))]
    if len(header) < 2:
        hint = "fields are separated by comma, semicolon, tab or |"
        raise InputError("has a single column in its first line", where=f"{path}:1", hint=hint)
    rows, bad, first_bad = [], 0, 0
    groups, line = [], 1
    for group in lines.groups:
        start = len(rows)
        for i, row in enumerate(csv.reader(group, delimiter=separator)):
            if line == 1 and i == 0:
                continue
            if len(row) == len(header):
                rows.append(row)
            elif row:
                bad += 1
                first_bad = first_bad or line + i
        line += len(group)
        groups.append((start, len(rows)))
    if not rows:
        raise InputError("has a header and no rows", where=f"{path}:2")
    if bad > BAD * len(rows):
        hint = f"{bad:,} of {bad + len(rows):,} rows differ"
        place = f"{path}:{first_bad}" if not lines.sampled else str(path)
        raise InputError(f"has rows without the {len(header)} fields of its header", where=place, hint=hint)
    if _is_number(header[0]) and all(map(_is_number, header)):
        raise InputError("its first line is numbers: it has no header", where=f"{path}:1",
                         hint="write the columns' names first")  # fmt: skip
    total = lines.total - 1 - bad if not lines.sampled else lines.total - 1
    notes = [lines.note] if lines.sampled else []
    if bad:
        notes.append(f"{bad:,} rows without {len(header)} fields left out, the first in line {first_bad}")
    columns = [(name, [row[i] for row in rows]) for i, name in enumerate(header)]
    return Rows(columns=columns, total=total, sampled=lines.sampled, groups=groups, notes=notes)


def parquet_rows(path: Path, rng: Any, tick: Tick = nothing) -> Rows:
    """The cells of a Parquet file, through DuckDB: all, or runs of rows at random places of a long one.

    Raises:
        InputError: DuckDB is not installed, or it is no Parquet file.
    """
    try:
        import duckdb  # pyright: ignore[reportMissingImports]
    except ImportError:
        hint = "pip install 'pharos-nn[data]', or write it as CSV"
        raise InputError("reading Parquet needs DuckDB", where=str(path), hint=hint) from None
    notes, groups = [], []
    try:
        with duckdb.connect() as base:
            ask = base.execute("SELECT count(*) FROM read_parquet(?)", [str(path)])
            total = int((ask.fetchone() or (0,))[0])
            starts = [0]
            if total > ROWS:
                # places of runs are drawn among whole multiples of their length, so that none is read twice
                starts = sorted(int(s) * RUN for s in rng.choice(total // RUN, ROWS // RUN, replace=False))
            length = ROWS if len(starts) == 1 else RUN
            values: dict[str, list[Any]] = {}
            for k, start in enumerate(starts):
                ask = base.execute(
                    "SELECT * EXCLUDE (file_row_number) FROM read_parquet(?, file_row_number = true) "
                    "WHERE file_row_number >= ? AND file_row_number < ? ORDER BY file_row_number",
                    [str(path), start, start + length],
                )  # fmt: skip
                names = [d[0] for d in ask.description or ()]
                rows = ask.fetchall()
                before = len(next(iter(values.values()), []))
                for i, name in enumerate(names):
                    values.setdefault(name, []).extend(row[i] for row in rows)
                groups.append((before, before + len(rows)))
                tick(k + 1, len(starts))
    except duckdb.Error as error:
        raise InputError(f"is not a Parquet file: {str(error).splitlines()[0]}", where=str(path)) from None
    read = len(next(iter(values.values()), []))
    if not read:
        raise InputError("has no rows", where=str(path))
    if total > ROWS:
        notes = [f"sampled {read:,} of {total:,} rows in {len(starts)} runs at random places"]
    columns = [(n.lower(), ["" if v is None else str(v) for v in column]) for n, column in values.items()]
    return Rows(columns=columns, total=total, sampled=total > ROWS, groups=groups, notes=notes)


def read_csv(path: Path, rng: Any, tick: Tick = nothing) -> Data:
    """A CSV file with a header line.

    Raises:
        InputError: no header, or rows that do not match it, with the line.
    """
    return _facts(csv_rows(path, rng, tick), path, rng)


def read_parquet(path: Path, rng: Any, tick: Tick = nothing) -> Data:
    """A Parquet file, through DuckDB: whole, or runs of rows at random places of a long one.

    Raises:
        InputError: DuckDB is not installed, or it is no Parquet file.
    """
    return _facts(parquet_rows(path, rng, tick), path, rng)


def _facts(rows: Rows, path: Path, rng: Any) -> Data:
    columns = [column_of(name, cells, not rows.sampled) for name, cells in rows.columns]
    run = max(rows.groups, key=lambda g: g[1] - g[0])
    return from_columns(columns, rows.total, str(path), rng, rows.notes, run)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def column_of(name: str, values: list[str], exact: bool) -> Column:
    """What a column is, from its cells."""
    numbers = np.full(len(values), np.nan)
    unreadable = filled = 0
    for i, text in enumerate(values):
        text = text.strip()
        if not text or text.lower() in ("na", "nan", "null", "none", "?"):
            continue
        filled += 1
        try:
            numbers[i] = float(text)
        except ValueError:
            unreadable += 1
    known = numbers[~np.isnan(numbers)]
    whole = (
        bool(len(known)) and bool(np.all(known == np.round(known))) and bool(np.all(np.abs(known) < 2**53))
    )
    named = unreadable > 0.02 * max(filled, 1)
    identifies = whole and not named and name in (*USERS, *ITEMS, *(e for pair in ENDS for e in pair))
    identifies |= whole and not named and (name.endswith(("_id", "id")) or name.startswith(("id_", "cat")))
    if named:
        codes = np.array(values)
    elif identifies:
        codes = known.astype(np.int64)
    else:
        return Column(name=name, numbers=numbers, names=None, counts=None, rows=0, exact=exact, whole=whole)
    _, counts = np.unique(codes, return_counts=True)
    seen, chao = distinct(counts)
    rows = seen if exact and not identifies else round(chao)
    if identifies and len(known):
        # identifiers that number rows: the largest tells of rows that were not seen
        top = int(known.max()) + 1
        rows = max(seen, top if known.min() >= 0 and top > seen else seen)
    return Column(name=name, numbers=None, names=codes, counts=counts, rows=rows, exact=exact, whole=whole)


def from_columns(
    columns: list[Column], total: int, path: str, rng: Any, notes: list[str], run: tuple[int, int]
) -> Data:
    """What a table is, by its columns' names and values.

    Args:
        run: rows that follow each other in the file, for measures of order.
    """
    names = {c.name for c in columns}
    known = {"examples": "measured: " + (notes[0] if notes and "ampled" in notes[0] else "every row")}
    label = next((c for c in columns if c.name in LABELS and not (names & {"source", "src"})), None)
    others = [c for c in columns if c is not label and c.name not in TIMES]
    tables = [c for c in others if c.is_categorical and (c.rows > 1)]
    big = [c for c in tables if c.rows > MANY]
    numbers = [c for c in others if not c.is_categorical]
    fields: dict[str, Any] = {}
    if label is not None:
        fields |= _labelled(label, total)
        known |= dict.fromkeys(("labels", "classes", "skew"), f"measured: column {label.name}")
    read = len(columns[0].numbers if columns[0].numbers is not None else columns[0].names)
    kind = "tabular"
    if len(columns) <= 3 and any(pair <= names for pair in ENDS):
        kind = "graph"
    elif (names & set(USERS) and names & set(ITEMS)) or (len(big) >= 2 and len(big) >= len(numbers) / 2):
        kind = "interactions"
    elif names & set(TIMES) and numbers and label is None:
        kind = "sequence"
    if big or kind in ("graph", "interactions"):
        skewed = max(tables, key=lambda c: c.rows, default=None)
        fields["tables"] = tuple(c.rows for c in (tables if kind != "tabular" else big))
        known["tables"] = "measured: distinct values, or largest identifier + 1, of " + ", ".join(
            c.name for c in (tables if kind != "tabular" else big)[:4]
        )
        if skewed is not None:
            fields["zipf"] = zipf(skewed.counts)
            known["zipf"] = f"measured: {read:,} values of {skewed.name}, maximum likelihood"
    if kind != "graph":
        one_hot = sum(c.rows for c in tables if c not in big) if kind == "tabular" else 0
        fields["features"] = len(numbers) + (len(tables) - len(big) if one_hot else 0)
        known["features"] = "measured: columns but for the label"
        if one_hot and len(tables) > len(big):
            notes = [*notes, f"categorical columns come to {one_hot:,} one-hot inputs"]
    start, end = run
    run_rows = [np.nan_to_num(c.numbers[start:end]) for c in numbers]
    if run_rows and end - start > 32:
        block = np.stack(run_rows, axis=1)[:20_000]
        deviation = block.std(axis=0)
        block = (block - block.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
        fields["order_p"] = order_p(block, rng)
        known["order_p"] = f"measured: 99 permutations of {len(block):,} rows"
        if kind == "sequence":
            found = dependence(block)
            fields |= {"dependence": found.steps, "neighbours": found.first, "reach": found.e_folding,
                       "length": total, "longest": total}  # fmt: skip
            how = f"measured: autocorrelation of {len(block):,} rows"
            known |= dict.fromkeys(("dependence", "neighbours", "reach", "length"), how)
    return Data(kind=kind, path=path, examples=total, known=known, notes=tuple(notes), **fields)


def _labelled(label: Column, total: int) -> dict[str, Any]:
    if label.is_categorical:
        share = float((label.names != "").mean()) if label.names.dtype.kind == "U" else 1.0
        return {"labels": round(total * share), "classes": len(label.counts),
                "skew": float(label.counts.min() / label.counts.sum())}  # fmt: skip
    there = label.numbers[~np.isnan(label.numbers)]
    _, counts = np.unique(there, return_counts=True)
    found: dict[str, Any] = {"labels": round(total * len(there) / max(len(label.numbers), 1))}
    if label.whole and len(counts) <= max(2, min(1000, len(there) // 5)):
        found |= {"classes": len(counts), "skew": float(counts.min() / counts.sum())}
    return found
