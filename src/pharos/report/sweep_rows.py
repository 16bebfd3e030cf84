"""Sweep rows: tables of results read with DuckDB, brought down to what a picture can show, however many."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError, unknown

# Rows that are drawn one by one; of more, bins of so many across and up are.
DRAWN, ACROSS, UP = 2000, 110, 70
# Stretches of x in which the front is looked for.
STRETCHES = 2000
# Values that colours tell apart.
MOST_COLOURS = 8
# A span from which an axis is logarithmic.
WIDE = 20.0
# What a picture shows if nothing is asked, the first that is there.
X_FIRST = ("latency_s", "step_s", "ttft_s", "macs")
Y_FIRST = ("tokens_per_s", "accuracy", "throughput_per_s", "energy_J", "memory_bytes", "latency_s")
COLOUR_FIRST = ("machine", "model", "precision", "runtime", "phase", "binding")
# Ends of names whose figures are better when they are larger; others are better small.
LARGER = ("_per_s", "accuracy", "speedup", "_per_joule", "_per_J")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """What a table shows of two of its columns.

    Args:
        rows: of the table. known: of them with both figures.
        points: x, y, colour and the rest of each row, or of each bin x, y, colour and rows in it.
        binned: whether points are bins. front: rows that no other beats in x and y.
        spans: least and most of x and of y; logs: whether their axes are logarithmic.
    """

    path: str
    x: str
    y: str
    colour: str
    rows: int
    known: int
    points: list[dict[str, Any]]
    binned: bool
    front: list[dict[str, Any]]
    spans: dict[str, tuple[float, float]]
    logs: dict[str, bool]
    colours: list[str] = field(default_factory=list)
    more_colours: bool = False


def larger_is_better(column: str) -> bool:
    """Of a column, by its name."""
    return column.endswith(LARGER)


def reduce(path: Path, x: str | None = None, y: str | None = None, colour: str | None = None) -> Reduced:
    """Reads two columns of a Parquet or CSV file, or of a folder of Parquet parts, and a colour.

    Raises:
        InputError: it cannot be read, a column is no number, or DuckDB is not installed.
        UnknownName: no such column.
    """
    with _table(path) as (db, columns):
        numbers = [c for c, kind in columns.items() if kind not in ("VARCHAR", "BOOLEAN")]
        x = _column(x, columns, numbers, X_FIRST, path, "--x")
        y = _column(y, columns, [c for c in numbers if c != x], Y_FIRST, path, "--y")
        if colour is None:
            colour = _colour(db, columns)
        elif colour not in columns:
            raise unknown("column", colour, columns, where="--colour")
        total = _one(db, "SELECT count(*) FROM t")[0]
        known = f'isfinite("{x}"::DOUBLE) AND isfinite("{y}"::DOUBLE)'
        db.execute(
            f'CREATE VIEW k AS SELECT *, "{x}"::DOUBLE AS _x, "{y}"::DOUBLE AS _y FROM t WHERE {known}'
        )
        count, x0, x1, y0, y1 = _one(db, "SELECT count(*), min(_x), max(_x), min(_y), max(_y) FROM k")
        if not count:
            raise InputError(f"no row has both {x} and {y}", where=str(path))
        spans = {"x": (float(x0), float(x1)), "y": (float(y0), float(y1))}
        logs = {axis: low > 0 and high / low >= WIDE for axis, (low, high) in spans.items()}
        shown, more = _colours(db, colour)
        binned = count > DRAWN
        points = _bins(db, colour, shown, spans, logs) if binned else _rows(db, colour, shown)
        return Reduced(
            path=str(path), x=x, y=y, colour=colour, rows=int(total), known=int(count), points=points,
            binned=binned, front=_front(db, x, y, spans["x"], logs["x"], columns), spans=spans, logs=logs,
            colours=[*shown, *(["other"] if more else [])], more_colours=more,
        )  # fmt: skip


@contextmanager
def _table(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    try:
        import duckdb
    except ImportError:
        raise InputError("reading tables of results needs DuckDB, which is not installed",
                         hint="pip install 'pharos-nn[sweep]'") from None  # fmt: skip
    if not path.exists():
        raise InputError("there is no such file", where=str(path))
    if path.is_dir() and not any(path.glob("*.parquet")):
        raise InputError("holds no .parquet files", where=str(path))
    reader = "read_csv" if path.suffix == ".csv" else "read_parquet"
    place = str(path / "*.parquet" if path.is_dir() else path).replace("'", "''")
    with duckdb.connect(config={"threads": 2}) as db:
        try:
            db.execute(f"CREATE VIEW t AS SELECT * FROM {reader}('{place}')")
            described = db.execute("DESCRIBE t").fetchall()
        except duckdb.Error as error:
            what = str(error).splitlines()[0]
            raise InputError(f"cannot be read as a table: {what}", where=str(path)) from None
        yield db, {str(row[0]): str(row[1]) for row in described}


def _one(db: Any, asked: str) -> tuple[Any, ...]:
    return db.execute(asked).fetchone()


def _column(
    asked: str | None, columns: dict[str, str], numbers: list[str], first: tuple[str, ...], path: Path,
    option: str,
) -> str:  # fmt: skip
    if asked is not None:
        if asked not in columns:
            raise unknown("column", asked, columns, where=option)
        if asked not in numbers and columns[asked] in ("VARCHAR", "BOOLEAN"):
            raise InputError(
                f"{asked} holds no numbers", where=option, hint=f"such as {', '.join(numbers[:6])}"
            )
        return asked
    found = next((c for c in first if c in numbers), None) or next(iter(numbers), None)
    if found is None:
        raise InputError("has no two columns of numbers", where=str(path))
    return found


def _colour(db: Any, columns: dict[str, str]) -> str:
    """The first column of words that tells few things apart."""
    for name in (*COLOUR_FIRST, *(c for c, kind in columns.items() if kind == "VARCHAR")):
        if name in columns and 1 < _one(db, f'SELECT approx_count_distinct("{name}") FROM t')[0] <= 12:
            return name
    return ""


def _colours(db: Any, colour: str) -> tuple[list[str], bool]:
    """The values that are told apart, the most frequent of many."""
    if not colour:
        return [], False
    value = f"coalesce(\"{colour}\"::VARCHAR, 'unknown')"
    asked = f"SELECT {value} c, count(*) n FROM k GROUP BY c ORDER BY n DESC, c"
    found = [str(row[0]) for row in db.execute(asked).fetchmany(MOST_COLOURS + 1)]
    if len(found) <= MOST_COLOURS:
        return sorted(found, key=_natural), False
    return sorted(found[: MOST_COLOURS - 1], key=_natural), True


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _told(colour: str, shown: list[str]) -> str:
    """SQL of a row's colour."""
    if not colour:
        return "''"
    kept = ", ".join("'" + s.replace("'", "''") + "'" for s in shown) or "''"
    value = f"coalesce(\"{colour}\"::VARCHAR, 'unknown')"
    return f"CASE WHEN {value} IN ({kept}) THEN {value} ELSE 'other' END"


def _rows(db: Any, colour: str, shown: list[str]) -> list[dict[str, Any]]:
    found = db.execute(f"SELECT *, {_told(colour, shown)} AS _colour FROM k")
    names = [d[0] for d in found.description]
    return [_plain(dict(zip(names, row, strict=True))) for row in found.fetchall()]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON holds it."""
    made = {}
    for key, value in row.items():
        name = {"_x": "x", "_y": "y", "_colour": "colour"}.get(key, key)
        if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            value = None
        made[name] = value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
    return made


def _at(axis: str, spans: dict[str, tuple[float, float]], logs: dict[str, bool], cells: int) -> str:
    """SQL of the number of a bin."""
    low, high = spans[axis]
    if high <= low:
        return "0"
    part = (f"ln(_{axis} / {low!r}) / ln({high / low!r})" if logs[axis]
            else f"(_{axis} - {low!r}) / {high - low!r}")  # fmt: skip
    return f"least(greatest(floor({part} * {cells}), 0), {cells - 1})::INTEGER"


def _middle(axis: str, number: int, spans: Any, logs: Any, cells: int) -> float:
    low, high = spans[axis]
    part = (number + 0.5) / cells
    return low * (high / low) ** part if logs[axis] else low + part * (high - low)


def _bins(db: Any, colour: str, shown: list[str], spans: Any, logs: Any) -> list[dict[str, Any]]:
    """Bins that hold rows, with how many."""
    found = db.execute(
        f"SELECT {_at('x', spans, logs, ACROSS)} i, {_at('y', spans, logs, UP)} j, "
        f"{_told(colour, shown)} c, count(*) n FROM k GROUP BY i, j, c ORDER BY n"
    ).fetchall()
    return [
        {"x": _middle("x", i, spans, logs, ACROSS), "y": _middle("y", j, spans, logs, UP), "colour": c,
         "rows": int(n)}
        for i, j, c, n in found
    ]  # fmt: skip


def _front(
    db: Any, x: str, y: str, span: tuple[float, float], log: bool, columns: dict[str, str]
) -> list[dict[str, Any]]:
    """Rows that none beats: exact, of candidates that stretches of x leave over."""
    import numpy as np

    sign_x, sign_y = (-1.0 if larger_is_better(c) else 1.0 for c in (x, y))
    number = _at("x", {"x": span}, {"x": log}, STRETCHES)
    stretches = db.execute(f"SELECT {number} b, min({sign_y} * _y) m FROM k GROUP BY b ORDER BY b").fetchall()
    order = stretches if sign_x > 0 else stretches[::-1]
    best, kept = float("inf"), []
    for b, m in order:
        if m < best:
            # only what beats all stretches before it can be on the front
            kept.append((b, best if best != float("inf") else 1e308))
            best = m
    values = ", ".join(f"({b}, {limit!r})" for b, limit in kept)
    names = ", ".join(f'k."{c}"' for c in columns)
    found = db.execute(
        f"SELECT {names}, _x, _y FROM k JOIN (VALUES {values}) AS s(b, most) ON {number} = s.b "
        f"WHERE {sign_y} * _y < s.most"
    )
    heads = [d[0] for d in found.description]
    rows = found.fetchall()
    both = np.array([(sign_x * row[-2], sign_y * row[-1]) for row in rows], dtype=float).reshape(-1, 2)
    return [_plain(dict(zip(heads, rows[i], strict=True))) for i in front(both[:, 0], both[:, 1])]


def front(x: Any, y: Any) -> Any:
    """Numbers of the points that none beats where small is good in both, by growing x; of equals the first.

    Args:
        x, y: arrays.
    """
    import numpy as np

    order = np.lexsort((y, x))
    ranked = y[order]
    before = np.concatenate(([np.inf], np.minimum.accumulate(ranked)[:-1]))
    return order[ranked < before]
