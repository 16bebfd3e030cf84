"""Parts: blocks of rows as Parquet through DuckDB, and the folder that holds them with what binds them."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pharos.decide.sweep.grid_file import WORDS, Grid
from pharos.decide.sweep.points import Block, Told
from pharos.predict.figures import COLUMNS
from pharos.predict.grid import Codes
from pharos.quantity.errors import InputError

SCHEMA = "pharos/sweep@1"
COMPRESSION = "zstd"
_SQL = {"word": "VARCHAR", "bool": "BOOLEAN"}


def duckdb() -> Any:
    """The library that writes Parquet.

    Raises:
        InputError: it is not installed.
    """
    try:
        import duckdb as found
    except ImportError:
        raise InputError(
            "sweeps write Parquet through DuckDB, which is not installed",
            hint="pip install 'pharos-nn[sweep]'",
        ) from None
    return found


def types_of(grid: Grid) -> dict[str, str]:
    """SQL types of the columns, axes first."""
    found = {}
    for axis in grid.axes:
        if axis in WORDS:
            found[axis] = "VARCHAR"
        elif axis in ("batch", "context"):
            found[axis] = "BIGINT"
        else:
            every = [v for m in grid.models for v in m.hyperparameters.get(axis, ())]
            kinds = {type(v) for v in every}
            found[axis] = ("BIGINT" if kinds <= {int} else "DOUBLE" if kinds <= {int, float}
                           else "BOOLEAN" if kinds <= {bool} else "VARCHAR")  # fmt: skip
    return found | {name: _SQL.get(COLUMNS[name].unit, "DOUBLE") for name in grid.columns}


def columns_of(grid: Grid, blocks: Sequence[Block]) -> dict[str, Any]:
    """Whole columns of a part as arrays; words as `Codes`; numbers that are not known are NaN."""
    import numpy as np

    found: dict[str, Any] = {}
    rows = [b.rows for b in blocks]
    ends = np.cumsum([0, *rows])
    for name, kind in types_of(grid).items():
        if kind in ("VARCHAR", "BOOLEAN"):
            found[name] = _coded([b.columns[name] for b in blocks], rows, ends, kind)
            continue
        whole = np.empty(ends[-1], np.int64 if kind == "BIGINT" else np.float64)
        for block, start, end in zip(blocks, ends, ends[1:], strict=False):
            value = block.columns[name]
            if value is None:
                value = MISSING if kind == "BIGINT" else np.nan
            whole[start:end] = value
        found[name] = whole
    return found


# Stands for no whole number until it is written as NULL.
MISSING = -(2**63)


def _coded(values: list[Any], rows: list[int], ends: Any, kind: str) -> Codes:
    """Words and yes or no as codes into a list; None among them."""
    import numpy as np

    known: dict[Any, int] = {}
    codes = np.empty(ends[-1], np.int16)
    for value, start, end in zip(values, ends, ends[1:], strict=False):
        if isinstance(value, Codes):
            places = np.array([known.setdefault(w, len(known)) for w in value.words], np.int16)
            codes[start:end] = places[value.codes]
        elif getattr(value, "ndim", 0):
            places = np.array([known.setdefault(w, len(known)) for w in (False, True)], np.int16)
            codes[start:end] = places[value.astype(np.intp)]
        else:
            word = str(value) if kind == "VARCHAR" and value is not None else value
            codes[start:end] = known.setdefault(word, len(known))
    return Codes(codes, tuple(known))


def part_bytes(grid: Grid, blocks: Sequence[Block], told: Told) -> bytes:
    """A part as the bytes of a Parquet file, with what is told of it among its metadata."""
    handle, path = tempfile.mkstemp(suffix=".parquet")
    os.close(handle)
    try:
        _write(Path(path), grid, columns_of(grid, blocks), {"pharos_part": json.dumps(asdict(told))})
        return Path(path).read_bytes()
    finally:
        Path(path).unlink(missing_ok=True)


def _write(path: Path, grid: Grid, columns: dict[str, Any], metadata: dict[str, str]) -> None:
    import numpy as np

    types, arrays, selected = types_of(grid), {}, []
    for i, (name, value) in enumerate(columns.items()):
        key = f"c{i}"
        if isinstance(value, Codes):
            arrays[key] = value.codes
            words = ", ".join("NULL" if w is None else f"'{_quoted(str(w))}'" for w in value.words) or "NULL"
            made = f"CAST(list_extract([{words}], {key} + 1) AS {types[name]})"
        else:
            arrays[key] = value
            made = key
            if value.dtype == np.float64 and np.isnan(value).any():
                made = f"nullif({key}, 'nan'::DOUBLE)"
            elif value.dtype == np.int64 and (value == MISSING).any():
                made = f"nullif({key}, {MISSING})"
        selected.append(f'{made} AS "{name}"')
    told = ", ".join(f"{k}: '{_quoted(v)}'" for k, v in metadata.items())
    with duckdb().connect(config={"threads": 1}) as db:
        db.register("rows", arrays)
        db.execute(f"COPY (SELECT {', '.join(selected)} FROM rows) TO '{_quoted(str(path))}' "
                   f"(FORMAT parquet, COMPRESSION {COMPRESSION}, KV_METADATA {{{told}}})")  # fmt: skip


def _quoted(text: str) -> str:
    return text.replace("'", "''")


# The folder.


@dataclass(frozen=True, slots=True)
class Folder:
    """Where parts lie while a sweep runs, with the manifest that binds them to a grid."""

    path: Path

    @property
    def manifest(self) -> Path:
        """What binds the parts."""
        return self.path / "_manifest.json"

    def part(self, number: int) -> Path:
        """The file of a part."""
        return self.path / f"part-{number:06d}.parquet"

    def open(self, bound: dict[str, Any], parts: int, fresh: bool) -> set[int]:
        """Makes or continues the folder; the numbers of parts that are there.

        Raises:
            InputError: its parts belong to another grid, or it holds what no sweep wrote.
        """
        if self.manifest.exists() and not fresh:
            held = self._held()
            if held.get("bound") != digest(bound):
                what = _difference(held.get("of", {}), bound)
                raise InputError(
                    f"holds parts of another sweep: {what}", where=str(self.path),
                    hint="give --fresh to write over them, or another -o",
                )  # fmt: skip
        elif self.path.exists():
            strange = [p.name for p in self.path.iterdir() if not _is_ours(p)]
            if strange:
                raise InputError(
                    f"is there already and holds {strange[0]}, which no sweep wrote", where=str(self.path),
                    hint="choose another -o",
                )  # fmt: skip
            for each in self.path.iterdir():
                each.unlink()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".*.tmp"):
                left.unlink()
            if not self.manifest.exists():
                text = json.dumps(
                    {"schema": SCHEMA, "bound": digest(bound), "parts": parts, "of": bound}, indent=1
                )
                write_whole(self.manifest, text.encode())
        except OSError as error:
            raise InputError(f"cannot be written: {error.strerror}", where=str(self.path)) from None
        return {i for i in range(parts) if self.part(i).exists()}

    def _held(self) -> dict[str, Any]:
        try:
            return json.loads(self.manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise InputError("cannot be read as a sweep's manifest", where=str(self.manifest),
                             hint="give --fresh to begin anew") from None  # fmt: skip

    def told(self) -> tuple[int, Told]:
        """Rows of all parts, and what they tell together."""
        whole = Told()
        pattern = _quoted(str(self.path / "part-*.parquet"))
        with duckdb().connect() as db:
            counted = db.execute(f"SELECT sum(num_rows) FROM parquet_file_metadata('{pattern}')").fetchone()
            found = db.execute(
                f"SELECT value FROM parquet_kv_metadata('{pattern}') WHERE key = 'pharos_part'::BLOB"
            ).fetchall()
        for (text,) in found:
            one = json.loads(bytes(text).decode())
            whole.evaluated += one["evaluated"]
            whole.impossible += one["impossible"]
            whole.single += one["single"]
            whole.why = whole.why or one["why"]
            whole.evidence.update(one["evidence"])
        return int(counted[0] or 0), whole

    def joined(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes all parts as one file, streamed, and takes them away."""
        beside = path.with_name(f".{path.name}.tmp")
        told = ", ".join(f"{k}: '{_quoted(v)}'" for k, v in metadata.items())
        parts = _quoted(str(self.path / "part-*.parquet"))
        with duckdb().connect(config={"threads": 2}) as db:
            db.execute(f"COPY (SELECT * FROM read_parquet('{parts}')) TO '{_quoted(str(beside))}' "
                       f"(FORMAT parquet, COMPRESSION {COMPRESSION}, KV_METADATA {{{told}}})")  # fmt: skip
        beside.replace(path)
        self.remove()

    def remove(self) -> None:
        """Takes away the parts, the manifest and the folder."""
        for each in self.path.iterdir():
            if _is_ours(each):
                each.unlink()
        self.path.rmdir()


def _is_ours(path: Path) -> bool:
    name = path.name
    return name in ("_manifest.json", "_sweep.json") or name.endswith(".tmp") or (
        name.startswith("part-") and name.endswith(".parquet")
    )  # fmt: skip


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file at once: it is there whole, or not at all, also after a loss of power."""
    beside = path.with_name(f".{path.name}.tmp")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def digest(bound: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(bound, sort_keys=True, default=str).encode()).hexdigest()


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    changed = [k for k in new if old.get(k) != new[k]]
    for key in ("grid",):
        if key in changed:
            before, after = old.get(key) or {}, new[key]
            inner = [k for k in after if before.get(k) != after[k]]
            return f"{', '.join(inner) or key} differ"
    return f"{', '.join(changed) or 'it'} differ"


def read(path: str | Path, columns: Iterable[str] | None = None, rows: int | None = None) -> dict[str, Any]:
    """Columns of a sweep's file or folder as NumPy arrays (masked where values are unknown)."""
    place = Path(path)
    pattern = place / "part-*.parquet" if place.is_dir() else place
    chosen = ", ".join(f'"{c}"' for c in columns) if columns else "*"
    with duckdb().connect() as db:
        limit = "" if rows is None else f" LIMIT {rows}"
        asked = f"SELECT {chosen} FROM read_parquet('{_quoted(str(pattern))}'){limit}"
        return db.execute(asked).fetchnumpy()
