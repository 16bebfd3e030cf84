"""Store: measurements kept in one SQLite file that survives a kill at any moment."""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id INTEGER PRIMARY KEY,
    taken_at TEXT NOT NULL,
    model TEXT NOT NULL,
    runtime TEXT NOT NULL,
    threads INTEGER NOT NULL,
    workload TEXT NOT NULL,
    machine TEXT NOT NULL,
    median_s REAL NOT NULL,
    low_s REAL NOT NULL,
    high_s REAL NOT NULL,
    samples INTEGER NOT NULL,
    quiet INTEGER NOT NULL,
    peak_bytes INTEGER,
    energy_J REAL
);
CREATE TABLE IF NOT EXISTS operators (
    run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    cost_class TEXT NOT NULL,
    sizes TEXT NOT NULL,
    seconds REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS operators_run ON operators(run);
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it was stored; `operators` are (name, kind, cost class, sizes, seconds)."""

    id: int
    taken_at: str
    model: str
    runtime: str
    threads: int
    workload: dict[str, Any]
    machine: dict[str, Any]
    median_s: float
    low_s: float
    high_s: float
    quiet: bool


_COLUMNS = tuple(Kept.__dataclass_fields__)


def place() -> Path:
    """The file: PHAROS_DATA's folder, or the user's data folder."""
    given = os.environ.get("PHAROS_DATA")
    if given:
        return Path(given) / "measurements.sqlite"
    from platformdirs import user_data_path

    return user_data_path("pharos", appauthor=False) / "measurements.sqlite"


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = sqlite3.connect(path, timeout=30, isolation_level=None)
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("PRAGMA synchronous=FULL")
        made.execute("PRAGMA foreign_keys=ON")
        found = made.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            raise InputError(f"is of a newer Pharos (form {found})", where=str(path))
        made.executescript(_SCHEMA)
        made.execute(f"PRAGMA user_version={VERSION}")
        return made
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"cannot be used as the store of measurements: {error}", where=str(path)) from None


def keep(run: dict[str, Any], operators: list[dict[str, Any]], path: Path | None = None) -> int:
    """Stores a run with its operators, all or nothing; returns its number.

    Raises:
        InputError: the file cannot be written, or is no such store.
    """
    where = path or place()
    row = {**run, "workload": json.dumps(run["workload"]), "machine": json.dumps(run["machine"])}
    with closing(_open(where)) as base:
        try:
            base.execute("BEGIN IMMEDIATE")
            columns = ", ".join(row)
            marks = ", ".join("?" for _ in row)
            number = base.execute(f"INSERT INTO runs ({columns}) VALUES ({marks})", [*row.values()]).lastrowid
            base.executemany(
                "INSERT INTO operators (run, name, kind, cost_class, sizes, seconds) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                [(number, o["name"], o["kind"], o["cost_class"], json.dumps(o["sizes"]), o["seconds"])
                 for o in operators],
            )  # fmt: skip
            base.execute("COMMIT")
        except sqlite3.Error as error:
            raise InputError(f"could not keep the measurement: {error}", where=str(where)) from None
    assert number is not None
    return number


def runs(path: Path | None = None, model: str | None = None) -> list[Kept]:
    """Stored runs, the newest first; of one model if it is named."""
    where = path or place()
    if not where.exists():
        return []
    with closing(_open(where)) as base:
        asked = f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE ? IS NULL OR model = ? ORDER BY id DESC"
        rows = [dict(zip(_COLUMNS, row, strict=True)) for row in base.execute(asked, (model, model))]
    for row in rows:
        row |= {k: json.loads(row[k]) for k in ("workload", "machine")} | {"quiet": bool(row["quiet"])}
    return [Kept(**row) for row in rows]


def operators(path: Path | None = None) -> Iterator[tuple[Kept, str, str, str, dict[str, Any], float]]:
    """Every stored operator with its run: what a profile can be fitted to."""
    where = path or place()
    known = {run.id: run for run in runs(where)}
    if not known:
        return
    with closing(_open(where)) as base:
        rows = base.execute("SELECT run, name, kind, cost_class, sizes, seconds FROM operators").fetchall()
    for run, name, kind, cost_class, sizes, seconds in rows:
        yield known[run], name, kind, cost_class, json.loads(sizes), seconds
