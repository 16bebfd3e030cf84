"""Contract: the file a team signs: model, workload, machine, limits. Read strictly, told by line."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from pharos.facts.reading import Document, read_yaml
from pharos.graph.workload import PHASES
from pharos.machines.machine import OVERRIDES
from pharos.predict.duty import Duty
from pharos.predict.runtimes import RUNTIMES
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.units import parse

M = TypeVar("M", bound=BaseModel)


def _quantity(unit: str, example: str) -> Any:
    """A positive figure: a number in SI base units, or text with a unit."""

    def read(value: Any) -> float:
        try:
            number = parse(value, unit)
        except PharosError as error:
            raise ValueError(str(error)) from None
        if not 0 < number < 1e24:
            raise ValueError(f"{value!r} must be positive (write e.g. {example!r})")
        return number

    schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}], "examples": [example]}
    return Annotated[float, BeforeValidator(read), WithJsonSchema(schema)]


# To a type checker they are what they become; pydantic reads the units.
if TYPE_CHECKING:
    Seconds = float
    Bytes = float
    Watts = float
    Joules = float
    PerSecond = float
    Number = float
    Macs = float
    Flops = float
else:
    Seconds, Bytes = _quantity("s", "10 ms"), _quantity("B", "512 MB")
    Watts, Joules = _quantity("W", "2 W"), _quantity("J", "15 mJ")
    PerSecond, Number = _quantity("1/s", "30 /s"), _quantity("1", "5 M")
    Macs, Flops = _quantity("MAC", "300 MMAC"), _quantity("FLOP", "600 MFLOP")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkloadPart(_Strict):
    """What is asked of the model at once."""

    phase: str = Field(
        "forward", description="forward, prefill or decode", json_schema_extra={"enum": list(PHASES)}
    )
    batch: int = Field(1, ge=1, le=10**12, description="samples or sequences in flight")
    context: int | None = Field(
        None, ge=1, le=10**12, description="tokens per sequence; the model's default if left out"
    )
    precision: str = Field(
        "fp32", description="fp32, fp16, bf16, fp8, int8, int4, or weights=int8,activations=bf16"
    )
    runtime: str | None = Field(
        None,
        description="what runs it; the machine's usual one if left out",
        json_schema_extra={"enum": [*RUNTIMES, None]},
    )

    @model_validator(mode="after")
    def _words(self) -> "WorkloadPart":
        for value, allowed in ((self.phase, PHASES), (self.runtime or next(iter(RUNTIMES)), RUNTIMES)):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")
        try:
            Precision.of(self.precision)
        except PharosError as error:
            raise ValueError(str(error)) from None
        return self


class Limits(_Strict):
    """What must hold; each is an upper limit but throughput and battery_life."""

    latency: Seconds | None = Field(None, description="of one step: a batch, or one decoded token")
    throughput: PerSecond | None = Field(None, description="at least this many samples or tokens per second")
    memory: Bytes | None = Field(None, description="peak bytes on the machine, with assumed.system_memory")
    storage: Bytes | None = Field(None, description="bytes of the stored weights")
    energy: Joules | None = Field(None, description="of one step")
    energy_per_day: Joules | None = Field(
        None, description="of the duty cycle, with what is drawn between runs"
    )
    battery_life: Seconds | None = Field(None, description="at least, of the duty's battery under its cycle")
    power: Watts | None = Field(None, description="average while it runs")
    parameters: Number | None = Field(None, description="trainable numbers")
    macs: Macs | None = Field(None, description="multiply-accumulates of one step")
    flops: Flops | None = Field(None, description="2 x MACs of one step")

    @model_validator(mode="after")
    def _some(self) -> "Limits":
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError("names no limit; write at least one, e.g. latency: 500 ms")
        return self


class DutyPart(_Strict):
    """How often it runs; one of every, per_day and busy."""

    every: Seconds | None = Field(None, description="from one run's start to the next one's")
    per_day: Number | None = Field(None, description="runs a day")
    busy: Number | None = Field(None, description="part of the time that it runs, such as 10%")
    battery: Joules | None = Field(None, description="what a full battery gives, such as 10 Wh")
    wake: Joules | None = Field(None, description="of waking up for one run")

    @property
    def duty(self) -> Duty:
        """As `pharos.predict.duty` takes it."""
        return Duty(every_s=self.every, per_day=self.per_day, busy=self.busy, battery_J=self.battery,
                    wake_J=self.wake or 0.0)  # fmt: skip

    @model_validator(mode="after")
    def _one(self) -> "DutyPart":
        try:
            self.duty  # noqa: B018 (checks)
        except PharosError as error:
            raise ValueError(str(error)) from None
        return self


class Assumed(_Strict):
    """What the contract's author states and Pharos cannot know."""

    system_memory: Bytes | None = Field(None, description="bytes the operating system and buffers hold")


class Contract(_Strict):
    """A model, a workload, a machine, and limits that must hold."""

    name: str = Field(min_length=1, max_length=200)
    model: str = Field(
        min_length=1, description="a model's name, an .onnx file or a config.json, relative to this file"
    )
    dims: dict[str, int] | None = Field(None, description="sizes for symbolic dimensions of an ONNX file")
    machine: str | dict[str, Any] = Field(
        description="a machine's name, or {name: ..., clock: 1.2 GHz, memory.capacity: 512 MB, ...}"
    )
    workload: WorkloadPart = WorkloadPart()  # pyright: ignore[reportCallIssue]
    limits: Limits
    assumed: Assumed = Assumed()  # pyright: ignore[reportCallIssue]
    duty: DutyPart | None = Field(None, description="for the limits energy_per_day and battery_life")

    @model_validator(mode="after")
    def _duty(self) -> "Contract":
        if self.duty is None and (self.limits.energy_per_day or self.limits.battery_life):
            raise ValueError("energy_per_day and battery_life need a duty, e.g. duty: {every: 30 s}")
        if self.limits.battery_life and self.duty and self.duty.battery is None:
            raise ValueError("battery_life needs duty.battery, e.g. duty: {every: 30 s, battery: 10 Wh}")
        return self

    @model_validator(mode="after")
    def _machine(self) -> "Contract":
        if isinstance(self.machine, dict):
            if not isinstance(self.machine.get("name"), str):
                raise ValueError("machine needs a name, e.g. {name: cortex-a53, clock: 1.2 GHz}")
            self.overrides  # noqa: B018 (reads and checks every figure)
        return self

    @property
    def machine_name(self) -> str:
        """The machine's name alone."""
        return self.machine["name"] if isinstance(self.machine, dict) else self.machine

    @property
    def overrides(self) -> dict[str, float]:
        """Figures of the machine that this contract sets, in SI units."""
        if isinstance(self.machine, str):
            return {}
        found = {}
        for key, value in self.machine.items():
            if key == "name":
                continue
            if key not in OVERRIDES:
                near = get_close_matches(key, OVERRIDES, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(OVERRIDES)}"
                raise ValueError(f"machine has no figure {key!r} ({hint})")
            try:
                found[key] = parse(value, OVERRIDES[key][1])
            except PharosError as error:
                raise ValueError(f"machine.{key}: {error}") from None
            if not 0 < found[key] < 1e24:
                raise ValueError(f"machine.{key} must be positive, not {value!r}")
        return found


def read_contract(path: str | Path) -> tuple[Contract, Document]:
    """A contract file, with the places of its fields.

    Raises:
        InputError: every mistake found, each with line, field, what is allowed, the nearest match.
    """
    return read_as(Contract, path, "a contract")


def contract_of(data: dict[str, Any], where: str) -> tuple[Contract, Document]:
    """A contract from plain data instead of a file; errors as of `read_contract`, at `where`."""
    return _as(Contract, Document(data, where, {}), "a contract")


def read_as(root: type[M], path: str | Path | Document, what: str) -> tuple[M, Document]:
    """A YAML file as a strict model, with the places of its fields; errors as of `read_contract`."""
    return _as(root, path if isinstance(path, Document) else read_yaml(path), what)


def _as(root: type[M], document: Document, what: str) -> tuple[M, Document]:
    if not isinstance(document.data, dict):
        raise InputError(f"is not {what}: it must be a mapping of fields", where=document.where())
    try:
        return root.model_validate(document.data), document
    except ValidationError as error:
        lines = [_told(root, document, problem) for problem in error.errors()]
        raise InputError("\n".join(dict.fromkeys(lines))) from None


def _told(root: Any, document: Document, problem: Any) -> str:
    """One validation problem as `place: what (hint)`."""
    keys = tuple(k for k in problem["loc"] if not (isinstance(k, str) and k in ("str", "dict[str,any]")))
    place = document.where(*keys)
    kind, given = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        model: Any = root
        for key in keys[:-1]:
            model = model.model_fields[key].annotation
        near = get_close_matches(str(keys[-1]), model.model_fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(model.model_fields)}"
        return f"{place}: unknown field {str(keys[-1])!r} ({hint})"
    if kind == "missing":
        return f"{place}: the field {str(keys[-1])!r} is missing"
    message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if isinstance(given, (str, int, float)) and repr(given) not in message:
        message = f"{message}, not {given!r}"
    return f"{place}: {message}"


def contract_schema() -> dict[str, Any]:
    """The JSON Schema of contract files."""
    schema = Contract.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pharos contract", **schema}
