"""Tables: what a planner must know of embedding tables, from a model's graph or a file of one's own."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pharos.facts.reading import Document, read_json, read_text, read_yaml
from pharos.graph.graph import Graph
from pharos.plan.skew import UNIFORM, Skew
from pharos.quantity.dtypes import dtype, nbytes
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.sizes import prod, size
from pharos.quantity.units import parse

# Bytes of a row's or an element's optimiser state in fp32: by name (per row, per element).
OPTIMIZERS = {"sgd": (0, 0), "rowwise_adagrad": (4, 0), "adagrad": (0, 4), "adam": (0, 8)}
FIELDS = ("name", "rows", "dim", "pooling", "dtype", "zipf", "histogram", "count")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One embedding table.

    Args:
        rows: its cardinality. dim: elements of a row.
        pooling: rows that a sample sums, on average.
        dtype: of its elements. skew: how its rows are asked for.
        pooled: False where every row that is looked up is a result of its own.
    """

    name: str
    rows: int
    dim: int
    pooling: float = 1.0
    dtype: str = "fp32"
    skew: Skew = UNIFORM
    pooled: bool = True

    def __post_init__(self) -> None:
        size(self.rows, f"rows of {self.name}")
        size(self.dim, f"dim of {self.name}")
        if not 0 < self.pooling < float("inf"):
            raise InputError(f"a sample asks {self.name} for {self.pooling} rows; more than 0 are needed")

    def row_bytes(self, width: int | None = None) -> int:
        """Bytes of a row, or of `width` of its elements."""
        return int(nbytes(self.dim if width is None else width, self.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return self.rows * self.row_bytes()

    @property
    def vectors(self) -> float:
        """Results of a sample, `dim` elements each."""
        return 1 if self.pooled else self.pooling

    def state_bytes(self, optimizer: str, width: int | None = None) -> int:
        """Optimiser state of a row, or of `width` of its elements."""
        per_row, per_element = OPTIMIZERS[optimizer]
        return per_row + per_element * (self.dim if width is None else width)


def tables_of(graph: Graph) -> list[Table]:
    """Every embedding table that a graph of one sample looks rows up in, once each.

    Raises:
        InputError: it has none.
    """
    found: dict[str, Table] = {}
    for node, _, _ in graph.walk():
        if node.op.kind not in ("embedding_bag", "embedding"):
            continue
        op: Any = node.op
        name = node.tied.get("weight", node.parameter("weight")).removesuffix(".weight")
        before = found.get(name)
        found[name] = Table(
            name=name, rows=op.num_embeddings, dim=op.embedding_dim, dtype=node.weights["weight"].dtype,
            pooling=prod(node.ins[0].shape[1:]) + (before.pooling if before else 0),
            pooled=node.op.kind == "embedding_bag" and before is None,
        )  # fmt: skip
    if not found:
        raise InputError("the model has no embedding table", hint="pharos models lists dlrm and others")
    return list(found.values())


def written(text: str, index: int, where: str) -> Table:
    """The table that ``ROWSxDIM[:POOLING[:ZIPF]]`` describes, called t0, t1, ... by its index.

    Raises:
        PharosError: not of that form, told with `where`.
    """
    shape, *rest = text.split(":")
    rows, sign, dim = shape.lower().partition("x")
    if not sign or len(rest) > 2:
        raise InputError(f"{text!r} is not ROWSxDIM:POOLING:ZIPF", where=where, hint="1e6x128:10")
    try:
        figures = [parse(x, "1") for x in (rows, dim, *rest)]
    except PharosError as error:
        raise error.at(where) from None
    if any(x != int(x) or x < 1 for x in figures[:2]):
        raise InputError(f"{text!r} has no whole number of rows and columns", where=where)
    pooling, skew = figures[2:] + [1.0, 0.0][len(rest) :]
    return Table(
        name=f"t{index}", rows=int(figures[0]), dim=int(figures[1]), pooling=pooling, skew=Skew(skew)
    )


def read_tables(path: str) -> list[Table]:
    """Tables of a YAML, JSON or CSV file.

    YAML and JSON hold a list, or a mapping with `tables:`; each table has `rows` and `dim`, and may have
    `name`, `pooling`, `dtype`, `zipf`, `histogram` ([[share of rows, share of lookups], ...]) and `count`,
    how many there are alike. CSV has these as its header.

    Raises:
        PharosError: not such a file, with the place.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".csv":
        return _read_csv(path)
    document = read_json(path) if suffix == ".json" else read_yaml(path)
    base: tuple[Any, ...] = ()
    rows = document.data
    if isinstance(rows, dict):
        if "tables" not in rows:
            raise InputError("has no `tables:`", where=path, hint="a list of tables with rows and dim")
        rows, base = rows["tables"], ("tables",)
    if not isinstance(rows, list) or not rows:
        raise InputError("holds no list of tables", where=document.where(*base))
    found: list[Table] = []
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InputError(f"{row!r} is not a table", where=document.where(*base, i), hint="rows: and dim:")
        found += _read(row, i, _Place(document, (*base, i)))
    return _distinct(found, path)


class _Place:
    """Where a field of a table stands."""

    def __init__(self, document: Document | None, keys: tuple[Any, ...], text: str = "") -> None:
        self.document, self.keys, self.text = document, keys, text

    def __call__(self, field: str = "") -> str:
        if self.document is None:
            return f"{self.text} {field}".rstrip()
        return self.document.where(*self.keys, *([field] if field else []))


def _read_csv(path: str) -> list[Table]:
    lines = read_text(path).splitlines()
    reader = csv.DictReader(lines, skipinitialspace=True)
    found: list[Table] = []
    for i, row in enumerate(reader):
        place = _Place(None, (), f"{path}:{reader.line_num}")
        if None in row:
            raise InputError("has more cells than the header", where=place())
        found += _read({k.strip(): v.strip() for k, v in row.items() if v and v.strip()}, i, place)
    if not found:
        raise InputError("holds no tables", where=path, hint=f"a header of {', '.join(FIELDS)}")
    return _distinct(found, path)


def _read(row: dict[str, Any], index: int, place: _Place) -> list[Table]:
    for key in row:
        if key not in FIELDS:
            raise unknown("field of a table", str(key), FIELDS, where=place(str(key)))

    def number(field: str) -> float:
        try:
            return parse(row[field], "1")
        except PharosError as error:
            raise error.at(place(field)) from None

    def whole(field: str) -> int:
        value = number(field)
        if value != int(value) or value < 1:
            raise InputError(f"is {row[field]}; a whole number of at least 1 is needed", where=place(field))
        return int(value)

    for needed in ("rows", "dim"):
        if needed not in row:
            raise InputError(f"a table needs `{needed}`", where=place())
    name = str(row.get("name", f"t{index}"))
    try:
        histogram = tuple((float(a), float(b)) for a, b in row.get("histogram") or ())
    except (TypeError, ValueError):
        raise InputError(
            "is not a list of pairs", where=place("histogram"), hint="[[0.01, 0.8], [0.99, 0.2]]"
        ) from None
    try:
        table = Table(
            name=name, rows=whole("rows"), dim=whole("dim"),
            pooling=float(number("pooling")) if "pooling" in row else 1.0,
            dtype=dtype(str(row.get("dtype", "fp32"))),
            skew=Skew(float(number("zipf")) if "zipf" in row else 0.0, histogram),
        )  # fmt: skip
    except PharosError as error:
        raise error if error.where else error.at(place()) from None
    count = whole("count") if "count" in row else 1
    return [table] if count == 1 else [replace(table, name=f"{name}.{i}") for i in range(count)]


def _distinct(tables: list[Table], path: str) -> list[Table]:
    seen: set[str] = set()
    for table in tables:
        if table.name in seen:
            raise InputError(f"two tables are called {table.name}", where=path)
        seen.add(table.name)
    return tables
