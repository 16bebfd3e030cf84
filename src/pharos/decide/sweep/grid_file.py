"""Grid files: models, machines, workloads and columns of a sweep. Read strictly, told by line."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from pharos.decide.contract import _Strict, read_as
from pharos.decide.sweep.values import FIELDS, SPACINGS, values
from pharos.facts.reading import Document
from pharos.graph.workload import PHASES
from pharos.machines.machine import KINDS
from pharos.predict.figures import COLUMNS, USUAL
from pharos.predict.runtimes import RUNTIMES
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.units import parse

_NUMBERS = {"type": ["number", "string"]}
_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": ["number", "string", "boolean", "null"]},
        {"type": "array", "minItems": 1},
        {
            "type": "object",
            "properties": dict.fromkeys(FIELDS, _NUMBERS)
            | {"count": {"type": "integer"}, "spacing": {"enum": list(SPACINGS)}},
            "required": ["start", "stop"],
            "additionalProperties": False,
        },
    ],
    "examples": [[1, 2, 4], {"start": 128, "stop": 4096, "step": 128}],
}
_MODEL: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": _SCHEMA,
        },
    ]
}
_MODELS: dict[str, Any] = {"anyOf": [_MODEL, {"type": "array", "items": _MODEL, "minItems": 1}]}
_MACHINES: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"type": "object", "properties": {"kind": {}}, "required": ["kind"], "additionalProperties": False},
    ]
}
if TYPE_CHECKING:
    Values = tuple[Any, ...]
else:
    Values = Annotated[tuple[Any, ...], BeforeValidator(values), WithJsonSchema(_SCHEMA)]


def _sizes(value: tuple[Any, ...]) -> tuple[Any, ...]:
    for v in value:
        if isinstance(v, bool) or not isinstance(v, (int, float)) or v < 1 or v != int(v) or v > 1e12:
            raise ValueError(f"must be whole numbers from 1 to 1e12, not {v!r}")
    return tuple(int(v) for v in value)


class GridWork(_Strict):
    """What is asked of the models, an axis a field."""

    phase: Values = Field(("forward",), description="forward, prefill, decode", validate_default=True)
    batch: Values = Field((1,), description="samples or sequences in flight")
    context: Values | None = Field(None, description="tokens a sequence; the model's default if left out")
    precision: Values = Field(("fp32",), description="fp32, fp16, bf16, fp8, int8, int4, or parts by name")

    @field_validator("phase")
    @classmethod
    def _phase(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for v in value:
            if v not in PHASES:
                raise ValueError(f"{v!r} is not one of {', '.join(PHASES)}")
        return value

    @field_validator("batch", "context")
    @classmethod
    def _whole(cls, value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return None if value is None else _sizes(value)

    @field_validator("precision")
    @classmethod
    def _precision(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        try:
            return tuple(dict.fromkeys(str(Precision.of(v)) for v in value))
        except PharosError as error:
            raise ValueError(str(error)) from None


class GridFile(_Strict):
    """A grid: every combination of its axes is evaluated."""

    name: str = Field("sweep", min_length=1, max_length=200)
    models: Any = Field(
        description="a name, {name: mobilenet_v2, width: [0.5, 1.0], resolution: ...}, or a list of them",
        json_schema_extra=_MODELS,
    )
    machines: Any = Field(
        description="a name, a list of names, all, or {kind: gpu}",
        json_schema_extra=_MACHINES,
    )
    workload: GridWork = GridWork()  # pyright: ignore[reportCallIssue]
    runtime: Values = Field((None,), description="what runs it; the machine's usual one if left out")
    where: list[str] = Field([], description="what must hold of a row, such as memory_bytes <= 512 MB")
    columns: list[str] = Field(list(USUAL), min_length=1, description=f"of {', '.join(COLUMNS)}")

    @field_validator("runtime")
    @classmethod
    def _runtime(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for v in value:
            if v is not None and v not in RUNTIMES:
                raise ValueError(f"{v!r} is not one of {', '.join(RUNTIMES)}")
        return value


@dataclass(frozen=True, slots=True)
class Entered:
    """A model of a grid: its name, and the values of each hyperparameter that the grid sets."""

    name: str
    hyperparameters: dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison that a row must meet: a column, a sign, and a number, a word or another column."""

    left: str
    sign: str
    right: Any
    is_column: bool
    text: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid whose names are all known.

    Args:
        machines: their names, as `find_machine` takes them.
        columns: figures to write, of `predict.figures.COLUMNS`.
        given: what identifies it: plain data, equal for equal grids however they are written.
    """

    name: str
    models: tuple[Entered, ...]
    machines: tuple[str, ...]
    phases: tuple[str, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...] | None
    precisions: tuple[str, ...]
    runtimes: tuple[str | None, ...]
    where: tuple[Condition, ...]
    columns: tuple[str, ...]
    given: dict[str, Any]

    @property
    def key(self) -> str:
        """The same for equal grids."""
        return repr(self.given)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the columns that tell a point, hyperparameters last."""
        found = dict.fromkeys(("model", "machine", "runtime", "phase", "precision", "batch", "context"))
        for model in self.models:
            found |= dict.fromkeys(model.hyperparameters)
        return tuple(found)


def read_grid(source: "str | Path | dict[str, Any]") -> Grid:
    """A grid from its file, or from the same fields as a mapping.

    Raises:
        InputError, UnknownName: what is wrong, with file, line, field, what is allowed, the nearest match.
    """
    if isinstance(source, dict):
        found, document = read_as(GridFile, Document(source, "grid", {}), "a grid")
        return resolved(found, document, Path())
    found, document = read_as(GridFile, source, "a grid")
    return resolved(found, document, Path(source).parent)


def resolved(file: GridFile, document: Document, folder: Path) -> Grid:
    """A grid with every name looked up, see `read_grid`."""
    models = _models(file.models, document, folder)
    machines = _machines(file.machines, document, folder)
    work = file.workload
    axes = {"model", "machine", "runtime", "phase", "precision", "batch", "context"}
    for model in models:
        axes |= set(model.hyperparameters)
    columns = []
    for i, name in enumerate(file.columns):
        # latency_s.value is how JSON names it
        plain = name.replace(".", "_").removesuffix("_value").removesuffix("_total")
        if plain not in COLUMNS and name not in axes:
            raise unknown("column", name, COLUMNS, where=document.where("columns", i))
        columns += [plain] if plain in COLUMNS else []
    where = tuple(_condition(text, axes, document.where("where", i)) for i, text in enumerate(file.where))
    given = file.model_dump(mode="json", exclude={"name", "models", "machines", "columns", "where"})
    given |= {
        "models": [[m.name, {k: list(v) for k, v in m.hyperparameters.items()}] for m in models],
        "machines": list(machines), "columns": columns, "where": [c.text for c in where],
    }  # fmt: skip
    return Grid(
        name=file.name, models=models, machines=machines, phases=work.phase, batches=work.batch,
        contexts=work.context, precisions=work.precision, runtimes=file.runtime, where=where,
        columns=tuple(dict.fromkeys(columns)), given=given,
    )  # fmt: skip


def _models(given: Any, document: Document, folder: Path) -> tuple[Entered, ...]:
    listed = given if isinstance(given, list) else [given]
    if not listed:
        raise InputError("names no model", where=document.where("models"))
    found = []
    for i, each in enumerate(listed):
        at = ("models", i) if isinstance(given, list) else ("models",)
        fields = {"name": each} if isinstance(each, str) else each
        if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
            raise InputError(
                f"{each!r} is not a model", where=document.where(*at),
                hint="write a name or {name: mobilenet_v2, width: [0.5, 1.0]}",
            )  # fmt: skip
        found.append(_model(fields, document, at, folder))
    return tuple(found)


def _model(fields: dict[str, Any], document: Document, at: tuple[Any, ...], folder: Path) -> Entered:
    from pharos.convert.load import load
    from pharos.models.registry import entry, find, parse_name

    name = fields["name"].strip()
    given: dict[str, tuple[Any, ...]] = {}
    if name.endswith((".onnx", ".json")):
        beside = folder / name
        name = str(beside) if beside.is_file() else name
        allowed: Any = {}
    elif ":" in name:
        raise InputError("a sweep runs no code; export it to .onnx first", where=document.where(*at, "name"))
    else:
        try:
            base, arguments = parse_name(name)
            known = entry(base)
            find(name)
        except PharosError as error:
            raise error.at(document.where(*at, "name")) from None
        name, allowed = known.name, known.hyperparameters()
        given = {key: (value,) for key, value in arguments.items()}
    for key, value in fields.items():
        if key == "name":
            continue
        place = document.where(*at, key)
        if key not in allowed:
            raise unknown(f"hyperparameter of {name}", str(key), allowed, where=place)
        try:
            given[key] = values(value)
        except ValueError as error:
            raise InputError(str(error), where=place) from None
        for each in given[key]:
            try:
                find(f"{name}({key}={each!r})")
            except PharosError as error:
                raise error.at(place) from None
    if not allowed:
        try:
            load(name)
        except PharosError as error:
            raise error.at(document.where(*at)) from None
    return Entered(name, given)


def _machines(given: Any, document: Document, folder: Path) -> tuple[str, ...]:
    from pharos.machines.machine import find_machine, machine_names

    at = document.where("machines")
    if given == "all" or isinstance(given, dict):
        kinds = given.get("kind", ()) if isinstance(given, dict) else KINDS
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if isinstance(given, dict) and set(given) != {"kind"}:
            raise InputError(f"{given!r} is no choice of machines", where=at, hint="write {kind: gpu}")
        for kind in kinds:
            if kind not in KINDS:
                raise unknown("kind of machine", str(kind), KINDS, where=at)
        return tuple(n for n in sorted(machine_names()) if find_machine(n).kind in kinds)
    listed = given if isinstance(given, list) else [given]
    found: dict[str, None] = {}
    for i, name in enumerate(listed):
        place = document.where("machines", i) if isinstance(given, list) else at
        if not isinstance(name, str):
            raise InputError(f"{name!r} is not a machine", where=place)
        path = folder / name
        try:
            if name.endswith((".yaml", ".yml", ".json")) and path.is_file():
                find_machine(str(path))
                found[str(path)] = None
            else:
                machine = find_machine(name)
                found[name if machine.calibration or "/" in name or name.endswith((".yaml", ".yml"))
                      else machine.id] = None  # fmt: skip
        except PharosError as error:
            raise error.at(place) from None
    if not found:
        raise InputError("names no machine", where=at)
    return tuple(found)


_COMPARISON = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*(<=|>=|==|!=|<|>|=)\s*(\S.*?)\s*$")
# Axes that are words; others are numbers.
WORDS = ("model", "machine", "runtime", "phase", "precision")


def _condition(text: str, axes: set[str], where: str) -> Condition:
    found = _COMPARISON.match(text)
    if found is None:
        raise InputError(f"{text!r} is no comparison", where=where, hint="write e.g. memory_bytes <= 512 MB")
    left, sign, right = found[1].replace(".", "_"), found[2], found[3]
    sign = "==" if sign == "=" else sign
    names = {*axes, *COLUMNS}
    if left not in names:
        raise unknown("column", left, names, where=where)
    unit = COLUMNS[left].unit if left in COLUMNS else "word" if left in WORDS else ""
    if right in names and right != left:
        other = COLUMNS[right].unit if right in COLUMNS else "word" if right in WORDS else ""
        if (unit in ("word", "bool")) != (other in ("word", "bool")):
            raise InputError(f"{left} and {right} cannot be compared", where=where)
        return Condition(left, sign, right, True, f"{left} {sign} {right}")
    value: Any = right.strip("'\"")
    if unit == "bool":
        if value.lower() not in ("true", "false") or sign not in ("==", "!="):
            raise InputError(f"{left} is true or false", where=where, hint=f"write {left} == true")
        value = value.lower() == "true"
    elif unit == "word":
        if sign not in ("==", "!="):
            raise InputError(f"{left} is a word: only == and != compare it", where=where)
    else:
        try:
            value = float(parse(right, unit if unit in ("s", "B", "J", "W", "1/s", "MAC", "FLOP") else "1"))
        except PharosError as error:
            if left not in axes or sign not in ("==", "!="):
                raise error.at(where) from None
    return Condition(left, sign, value, False, f"{left} {sign} {value}")


def grid_schema() -> dict[str, Any]:
    """The JSON Schema of grid files."""
    schema = GridFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pharos sweep", **schema}
