"""Store: measurements kept in one SQLite file that survives a kill at any moment."""

import hashlib
import json
import os
import sqlite3
import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pharos.graph.graph import Graph
from pharos.graph.serial import from_dict, to_dict
from pharos.quantity.errors import InputError

# Each form of the store by the statements that make it of the one before; rows of older forms are kept, with
# nothing in what they did not have.
_FORMS = (
    """
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
CREATE INDEX IF NOT EXISTS operators_run ON operators(run)
""",
    # what a profile is refined from: the graph that was run, and the machine's pulse meanwhile
    """
CREATE TABLE graphs (hash TEXT PRIMARY KEY, body BLOB NOT NULL);
ALTER TABLE runs ADD COLUMN device TEXT NOT NULL DEFAULT 'cpu';
ALTER TABLE runs ADD COLUMN graph TEXT REFERENCES graphs(hash);
ALTER TABLE runs ADD COLUMN pulse_s TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN predicted_s REAL
""",
)
VERSION = len(_FORMS)


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as it was stored.

    Args:
        graph: key of what was run; None in runs that an older Pharos stored.
        pulse_s: the machine's pulse beside its operators, empty where it was not taken.
    """

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
    samples: int
    quiet: bool
    peak_bytes: int | None
    energy_J: float | None
    device: str
    graph: str | None
    pulse_s: tuple[float, ...]
    predicted_s: float | None


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
        if _form(made, path) < VERSION:
            # all of it or nothing, and once, whoever else opens the file at this moment
            made.execute("BEGIN IMMEDIATE")
            for script in _FORMS[_form(made, path) :]:
                for statement in script.split(";"):
                    made.execute(statement)
            made.execute(f"PRAGMA user_version={VERSION}")
            made.execute("COMMIT")
        return made
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"cannot be used as the store of measurements: {error}", where=str(path)) from None


def _form(base: sqlite3.Connection, path: Path) -> int:
    found = int(base.execute("PRAGMA user_version").fetchone()[0])
    if found > VERSION:
        raise InputError(f"is of a newer Pharos (form {found})", where=str(path))
    return found


def keep(
    run: dict[str, Any], operators: list[dict[str, Any]], path: Path | None = None, graph: Graph | None = None
) -> int:
    """Stores a run with its operators, all or nothing; returns its number.

    Args:
        graph: what was run; shapes and operators alone, once for all runs of it.

    Raises:
        InputError: the file cannot be written, or is no such store.
    """
    where = path or place()
    row = {**run, "workload": json.dumps(run["workload"]), "machine": json.dumps(run["machine"]),
           "pulse_s": json.dumps(run.get("pulse_s", []))}  # fmt: skip
    body = _body(graph)
    if body is not None:
        row["graph"] = hashlib.sha256(body).hexdigest()
    with closing(_open(where)) as base:
        try:
            base.execute("BEGIN IMMEDIATE")
            if body is not None:
                base.execute(
                    "INSERT OR IGNORE INTO graphs VALUES (?, ?)", (row["graph"], zlib.compress(body))
                )
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


def _body(graph: Graph | None) -> bytes | None:
    """A graph as stored; None where it holds what is no plain data."""
    if graph is None:
        return None
    try:
        return json.dumps(to_dict(replace(graph, meta={}))).encode()
    except TypeError:
        return None


def _asked(where: Path, asked: str, given: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Rows of a question.

    Raises:
        InputError: the file is no such store.
    """
    with closing(_open(where)) as base:
        try:
            return base.execute(asked, given).fetchall()
        except sqlite3.Error as error:
            raise InputError(f"cannot be read: {error}", where=str(where)) from None


def runs(path: Path | None = None, model: str | None = None) -> list[Kept]:
    """Stored runs, the newest first; of one model if it is named."""
    where = path or place()
    if not where.exists():
        return []
    asked = f"SELECT {', '.join(_COLUMNS)} FROM runs WHERE ? IS NULL OR model = ? ORDER BY id DESC"
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _asked(where, asked, (model, model))]
    for row in rows:
        row |= {k: json.loads(row[k]) for k in ("workload", "machine")} | {"quiet": bool(row["quiet"])}
        row["pulse_s"] = tuple(json.loads(row["pulse_s"]))
    return [Kept(**row) for row in rows]


def operators(run: int, path: Path | None = None) -> list[dict[str, Any]]:
    """The operators of a stored run, by the names that `keep` was given."""
    where = path or place()
    names = ("name", "kind", "cost_class", "sizes", "seconds")
    asked = f"SELECT {', '.join(names)} FROM operators WHERE run = ? ORDER BY rowid"
    rows = [dict(zip(names, row, strict=True)) for row in _asked(where, asked, (run,))]
    return [{**row, "sizes": json.loads(row["sizes"])} for row in rows]


def graph(key: str, path: Path | None = None) -> Graph:
    """The graph of a stored run, by its `graph`.

    Raises:
        InputError: it is not there, or not whole.
    """
    where = path or place()
    found = _asked(where, "SELECT body FROM graphs WHERE hash = ?", (key,))
    if not found:
        raise InputError(f"holds no graph {key[:12]}", where=str(where))
    try:
        return from_dict(json.loads(zlib.decompress(found[0][0])))
    except (zlib.error, ValueError) as error:
        raise InputError(f"holds a damaged graph {key[:12]}: {error}", where=str(where)) from None
