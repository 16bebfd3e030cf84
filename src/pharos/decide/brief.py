"""Brief: data and limits, from which an architecture is chosen. Read strictly, told by line."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pharos.decide.contract import (
    Assumed,
    Bytes,
    Contract,
    Joules,
    Number,
    PerSecond,
    Seconds,
    Watts,
    _Strict,
    read_as,
)
from pharos.decide.data.facts import KINDS
from pharos.facts.reading import Document

TASKS = ("classify", "regress", "forecast", "transcribe", "generate", "rank")
# Words for how far elements depend on each other, and the share of the length, or steps, that they stand for.
REACHES = {"local": 0.1, "far": 1.0}
ENDLESS = {"local": 16, "far": 1024}


class DataPart(_Strict):
    """The data, as a file that is looked at, in words, or both; words go before what was measured."""

    file: str | None = Field(None, description="a file or folder, relative to this file")
    says: str = Field("", description="what it is, for readers")
    kind: str | None = Field(None, description=", ".join(KINDS), json_schema_extra={"enum": [*KINDS, None]})
    examples: Number | None = None
    labels: Number | None = Field(None, description="labelled examples")
    classes: Number | None = None
    features: Number | None = Field(None, description="columns of a table, or numbers of a step")
    resolution: Number | None = Field(None, description="pixels of a side that the network is to see")
    channels: Number | None = None
    length: Number | None = Field(None, description="steps or tokens of an example")
    longest: Number | None = None
    rate: PerSecond | None = Field(None, description="steps a second of a stream")
    unbounded: bool = Field(False, description="a stream that does not end")
    vocabulary: Number | None = None
    tables: list[Number] | None = Field(None, description="values of each categorical column")
    dependence: str | float | None = Field(None, description="local, far, or steps that elements depend over")
    order_matters: bool | None = None

    @field_validator("kind")
    @classmethod
    def _kind(cls, value: str | None) -> str | None:
        if value is not None and value not in KINDS:
            raise ValueError(f"{value!r} is not one of {', '.join(KINDS)}")
        return value

    @field_validator("dependence")
    @classmethod
    def _reach(cls, value: Any) -> Any:
        if (isinstance(value, str) and value not in REACHES) or (isinstance(value, float) and not value > 0):
            raise ValueError(f"{value!r} is neither {' nor '.join(REACHES)} nor a number of steps")
        return value

    @model_validator(mode="after")
    def _some(self) -> "DataPart":
        if self.file is None and self.kind is None:
            raise ValueError("needs a file, or a kind: " + ", ".join(KINDS))
        return self

    def told(self) -> dict[str, Any]:
        """The fields of `Data` that this states."""
        whole = ("examples", "labels", "classes", "features", "resolution", "channels", "length", "longest",
                 "vocabulary")  # fmt: skip
        found: dict[str, Any] = {k: int(v) for k in whole if (v := getattr(self, k)) is not None}
        found |= {"kind": self.kind, "rate_hz": self.rate, "unbounded": self.unbounded or None}
        if self.tables:
            found["tables"] = tuple(int(n) for n in self.tables)
        if self.order_matters is not None:
            found["order_p"] = 0.0 if self.order_matters else 1.0
        if isinstance(self.dependence, str):
            endless = self.unbounded or not self.length
            steps = ENDLESS[self.dependence] if endless else REACHES[self.dependence] * (self.length or 1)
            found["dependence"] = float(steps)
        elif self.dependence is not None:
            found["dependence"] = float(self.dependence)
        return found


class BriefLimits(_Strict):
    """What must hold of what is chosen."""

    latency: Seconds | None = Field(None, description="of one example, or one step of a stream")
    throughput: PerSecond | None = Field(None, description="examples a second, at least")
    memory: Bytes | None = Field(None, description="peak bytes on the machine, with assumed.system_memory")
    storage: Bytes | None = Field(None, description="bytes of the stored weights")
    power: Watts | None = Field(None, description="average, at use.rate if that is told, else while it runs")
    energy: Joules | None = Field(None, description="of one example")
    energy_per_day: Joules | None = Field(None, description="at use.rate or use.per_day")
    accuracy: Number | None = Field(None, description="of the task's metric, 0.9 or 90%")

    @field_validator("accuracy")
    @classmethod
    def _share(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise ValueError(f"must lie between 0 and 1 (or 0% and 100%), not {value:g}")
        return value


class UsePart(_Strict):
    """How it is used."""

    rate: PerSecond | None = Field(None, description="examples a second, day and night")
    per_day: Number | None = Field(None, description="examples a day")
    batch: int = Field(1, ge=1, le=10**6)
    connectivity: Literal["none", "intermittent", "always"] = "always"
    pretrained: bool = Field(False, description="weights trained on other data may be used")
    horizon: Seconds = Field(3600, description="how long a stream runs before it may forget")


class ProbePart(_Strict):
    """Small members of the best families are trained on the data, on this machine."""

    time: Seconds = Field(60, gt=0, description="for all of it")
    seeds: int = Field(3, ge=1, le=100)
    parameters: Number | None = Field(None, description="of every member; by what fits if left out")
    label: str | None = Field(None, description="column of the label, if it has an unusual name")


class BriefAssumed(Assumed):
    """What the brief's author states and Pharos cannot know."""

    idle_power: Watts | None = Field(None, description="what the machine draws between examples")


class Brief(_Strict):
    """Data and limits."""

    name: str = Field(min_length=1, max_length=200)
    task: str = Field("classify", json_schema_extra={"enum": list(TASKS)})
    data: DataPart
    limits: BriefLimits = BriefLimits()  # pyright: ignore[reportCallIssue]
    use: UsePart = UsePart()  # pyright: ignore[reportCallIssue]
    probe: ProbePart | None = Field(None, description="true, or how long and how often")
    machine: str | list[str] | dict[str, Any] = Field(
        "any", description="a name, {name: ..., memory.capacity: ...}, a list to choose from, or any"
    )
    assumed: BriefAssumed = BriefAssumed()  # pyright: ignore[reportCallIssue]

    @field_validator("probe", mode="before")
    @classmethod
    def _probe(cls, value: Any) -> Any:
        return {} if value is True else None if value is False else value

    @field_validator("task")
    @classmethod
    def _task(cls, value: str) -> str:
        if value not in TASKS:
            raise ValueError(f"{value!r} is not one of {', '.join(TASKS)}")
        return value

    @model_validator(mode="after")
    def _machine(self) -> "Brief":
        if isinstance(self.machine, dict):
            made = Contract.model_construct(machine=self.machine)
            if not isinstance(self.machine.get("name"), str):
                raise ValueError("machine needs a name, e.g. {name: cortex-a53, memory.capacity: 512 MB}")
            made.overrides  # noqa: B018 (reads and checks every figure)
        return self

    @property
    def rate_per_s(self) -> float | None:
        """Examples a second, from either way of telling."""
        if self.use.rate is not None:
            return self.use.rate
        return None if self.use.per_day is None else self.use.per_day / 86400


def read_brief(path: str | Path) -> tuple[Brief, Document]:
    """A brief, with the places of its fields.

    Raises:
        InputError: every mistake found, each with line, field, what is allowed, the nearest match.
    """
    return read_as(Brief, path, "a brief")


def brief_schema() -> dict[str, Any]:
    """The JSON Schema of briefs."""
    schema = Brief.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pharos brief", **schema}
