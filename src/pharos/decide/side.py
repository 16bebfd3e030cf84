"""Side: one result of Pharos as plain figures, limits and operators, read from its JSON row."""

from dataclasses import dataclass, field
from math import isfinite, log
from typing import Any

from pharos.decide.verdict import AT_LEAST, UNITS
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Z80

# Figure -> SI unit, in the order in which they are told; those of limits come with their own units.
FIGURES = {
    "latency": "s", "throughput": "1/s", "energy": "J", "power": "W", "memory": "B", "parameters": "",
    "macs": "MAC", "flops": "FLOP", "weights": "B", "traffic ideal": "B", "traffic per_op": "B",
}  # fmt: skip
SCHEMAS = ("pharos/show@1", "pharos/predict@1", "pharos/check@1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A figure in SI units with its 80% band; None where it is unknown."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: str = "counted"

    @property
    def sigma(self) -> float:
        """The log standard deviation that the band implies; 0 for what is counted."""
        if not self.value or not self.low or self.low >= self.value:
            return 0.0
        # the upper end may be cut, by what a board can draw
        return log(self.value / self.low) / Z80


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An operator, or a kernel with what is fused to it, over all its runs."""

    name: str
    kind: str
    count: float
    parameters: float
    macs: float
    traffic_bytes: float
    input_shape: tuple[Any, ...]
    output_shape: tuple[Any, ...]
    fused: int = 0
    latency_s: float | None = None
    energy_J: float | None = None

    def asks_as(self, other: "Operator") -> bool:
        """Whether both are the same work on the same tensors, whatever they are called."""
        return self._asked == other._asked

    @property
    def _asked(self) -> tuple[Any, ...]:
        return (self.kind, self.count, self.parameters, self.macs, self.traffic_bytes, self.input_shape,
                self.output_shape, self.fused)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of two results that are compared.

    Args:
        label: as it was named: a model, a file, a revision's file.
        name: the contract's, or the model's.
        key: what it is matched by among several: the contract's file, or model and machine.
        machine: "" where only operations were counted.
        limits: rows of a contract's limits, by name; None where there is no contract.
    """

    label: str
    name: str
    key: str
    model: str
    machine: str
    workload: dict[str, Any]
    figures: dict[str, Reading]
    limits: dict[str, dict[str, Any]] | None = None
    operators: tuple[Operator, ...] = ()
    verdict: str = ""
    binding: str = ""
    uncounted: tuple[str, ...] = field(default=())

    @property
    def asked(self) -> str:
        """Model, workload and machine in one line."""
        work = self.workload
        told = [str(work[k]) for k in ("phase",) if work.get(k)]
        told += [f"{k} {work[k]}" for k in ("batch", "context") if work.get(k)]
        told += [str(work[k]) for k in ("precision", "runtime") if work.get(k)]
        where = f" on {self.machine}" if self.machine else ""
        return f"{self.model}{where}" + (f": {', '.join(told)}" if told else "")


def side_of(row: dict[str, Any], label: str, key: str = "") -> Side:
    """A side from what `pharos show`, `predict` or `check` print as JSON; `check` may hold its estimate too.

    Raises:
        InputError: not such a row, or one of a sweep. UnknownName: a row of another command.
    """
    schema = row.get("schema") if isinstance(row, dict) else None
    if not isinstance(schema, str):
        raise InputError("is not a result of Pharos", where=label, hint=f"one of {', '.join(SCHEMAS)}")
    if schema not in SCHEMAS:
        raise unknown("result to compare", schema, SCHEMAS, where=label)
    try:
        if schema == "pharos/check@1":
            return _checked(row, label, key)
        return _estimated(row, label, key)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else "holds no single figures"
        raise InputError(f"is no whole {schema}: {what}", where=label) from None


def _estimated(row: dict[str, Any], label: str, key: str) -> Side:
    totals, model, machine = row["totals"], str(row["model"]), str(row.get("machine") or "")
    figures = _timed(row) if machine else {}
    figures |= {
        "parameters": _exact(totals["parameters"]),
        "macs": _exact(totals["macs"]),
        "flops": _exact(totals["flops"]),
        "weights": _exact(totals["weight_bytes"]),
        "traffic ideal": _exact(totals["traffic_bytes"]["ideal"]),
        "traffic per_op": _exact(totals["traffic_bytes"]["per_op"]),
    }
    return Side(
        label=label, name=model, key=key or f"{model} on {machine}".removesuffix(" on "), model=model,
        machine=machine, workload=dict(row.get("workload") or {"precision": row.get("precision")}),
        figures={name: figures[name] for name in FIGURES if name in figures},
        operators=tuple(_operator(o) for o in row.get("operators") or ()),
        binding=str(row.get("binding") or ""), uncounted=tuple(map(str, row.get("uncounted") or ())),
    )  # fmt: skip


def _timed(row: dict[str, Any]) -> dict[str, Reading]:
    latency = _banded(row["latency_s"])
    found = {"latency": latency, "energy": _banded(row["energy_J"]), "power": _banded(row["power_W"]),
             "memory": _exact(row["memory_bytes"]["total"])}  # fmt: skip
    rate = _number(row["throughput_per_s"])
    ends = (None, None)
    if rate is not None and latency.value and latency.low and latency.high:
        ends = (rate * latency.value / latency.high, rate * latency.value / latency.low)
    found["throughput"] = Reading(value=rate, low=ends[0], high=ends[1], level=latency.level)
    return found


def _checked(row: dict[str, Any], label: str, key: str) -> Side:
    inner = row.get("estimate")
    base = None if inner is None else _estimated(inner, label, key)
    limits = {str(limit["name"]): dict(limit) for limit in row["limits"]}
    figures = dict(base.figures) if base else {}
    for name, limit in limits.items():
        if name not in UNITS:
            raise unknown("limit", name, UNITS, where=label)
        level = _level(limit["evidence"])
        # of memory, the contract's figure holds what its author assumes beside the model's
        figures[name] = Reading(value=_number(limit["value"]), low=_number(limit["low"]),
                                high=_number(limit["high"]), level=level)  # fmt: skip
    order = [*FIGURES, *UNITS]
    return Side(
        label=label, name=str(row["contract"]), key=key or str(row["file"]), model=str(row["model"]),
        machine=str(row["machine"]), workload=dict(row["workload"]),
        figures={name: figures[name] for name in dict.fromkeys(order) if name in figures}, limits=limits,
        operators=base.operators if base else (), verdict=str(row["verdict"]),
        binding=str(row.get("binding") or ""), uncounted=tuple(map(str, row.get("uncounted") or ())),
    )  # fmt: skip


def unit_of(name: str) -> str:
    """SI unit of a figure."""
    return FIGURES[name] if name in FIGURES else UNITS[name]


def is_better_more(name: str) -> bool:
    """Whether more of a figure is better."""
    return name in AT_LEAST


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise ValueError(value)
    return value


def _exact(value: Any) -> Reading:
    number = _number(value)
    return Reading(value=number, low=number, high=number)


def _banded(row: dict[str, Any]) -> Reading:
    return Reading(value=_number(row["value"]), low=_number(row["low"]), high=_number(row["high"]),
                   level=str(row["level"]))  # fmt: skip


def _level(evidence: list[dict[str, Any]]) -> str:
    # weakest first
    return str(evidence[0]["kind"]) if evidence else "unknown"


def _operator(row: dict[str, Any]) -> Operator:
    energy = row.get("energy_J")
    return Operator(
        name=str(row["name"]), kind=str(row["kind"]), count=_number(row["count"]) or 1,
        parameters=_number(row.get("parameters")) or 0, macs=_number(row["macs"]) or 0,
        traffic_bytes=_number(row["traffic_bytes"]) or 0, input_shape=tuple(row.get("input_shape") or ()),
        output_shape=tuple(row.get("output_shape") or ()), fused=len(row.get("fused") or ()),
        latency_s=_number(row.get("latency_s")), energy_J=_number(energy["value"]) if energy else None,
    )  # fmt: skip
