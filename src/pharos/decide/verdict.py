"""Verdict: each limit of a contract holds, is broken, or cannot be told, with margin and evidence."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pharos.convert.load import load
from pharos.decide.advice import Finding, Stated, advise, of_estimate
from pharos.decide.contract import Contract, read_contract
from pharos.facts.reading import Document
from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import Model
from pharos.predict.duty import day
from pharos.predict.estimate import Estimate, predict
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Evidence, Figure, assumed, counted, exact, unknown_figure
from pharos.quantity.shown import Shown
from pharos.quantity.units import fmt

HOLDS, BROKEN, UNKNOWN = "holds", "broken", "unknown"
EXIT_CODES = {HOLDS: 0, BROKEN: 1, UNKNOWN: 3}

# Limit -> SI unit.
UNITS = {"latency": "s", "throughput": "1/s", "memory": "B", "storage": "B", "energy": "J",
         "energy_per_day": "J", "battery_life": "s", "power": "W",
         "parameters": "", "macs": "MAC", "flops": "FLOP"}  # fmt: skip

# Limits that are to be passed, not kept below.
AT_LEAST = ("throughput", "battery_life")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitVerdict:
    """One limit.

    Args:
        figure: the value with its band and evidence.
        margin: how many times better than the limit the value is; None when unknown.
        verdict: a limit inside the band is "unknown": it takes a measurement to tell.
        remedy: for a broken limit, the smallest change that would mend it; for an unknown one,
            what to find out.
    """

    name: str
    limit: float
    figure: Figure
    margin: float | None
    verdict: str
    remedy: str = ""

    @property
    def unit(self) -> str:
        """SI unit of the limit."""
        return UNITS[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Shown):
    """A contract's verdict: broken if any limit is, else unknown if any is, else holds."""

    path: str
    contract: Contract
    document: Document
    model: str
    estimate: Estimate
    limits: tuple[LimitVerdict, ...]
    network: Model

    @property
    def verdict(self) -> str:
        """The weakest of the limits' verdicts."""
        found = {limit.verdict for limit in self.limits}
        return next(v for v in (BROKEN, UNKNOWN, HOLDS) if v in found)

    @property
    def exit_code(self) -> int:
        """0 holds, 1 broken, 3 cannot be told."""
        return EXIT_CODES[self.verdict]

    def advice(self) -> list[Finding]:
        """What rules find beside the limits, worst first; those that search the catalogue are left out."""
        stated = Stated(flops=self.contract.limits.flops)
        return advise(of_estimate(self.network, self.estimate, stated), quick=True)


def check_file(path: str | Path, model: Model | None = None) -> Verdict:
    """Reads a contract and predicts whether it holds.

    Args:
        model: stands in for the model that the contract names.

    Raises:
        PharosError: a mistake in the contract or in what it names, with file, line and field.
    """
    contract, document = read_contract(path)
    return check_contract(contract, document, model)


def check_contract(contract: Contract, document: Document, model: Model | None = None) -> Verdict:
    """Predicts whether a contract holds; see `check_file`."""
    estimate = estimate_of(contract, document, **({} if model is None else {"model": model}))
    figures = figures_of(estimate, contract)
    limits = []
    for name in type(contract.limits).model_fields:
        limit = getattr(contract.limits, name)
        if limit is not None:
            limits.append(judge(name, limit, figures[name]))
    from pharos.decide.remedy import with_remedies

    limits = with_remedies(limits, contract, document, estimate, model)
    return Verdict(
        path=document.path, contract=contract, document=document, model=estimate.model, estimate=estimate,
        limits=tuple(limits), network=model or model_of(contract, document),
    )  # fmt: skip


def judge_counts(contract: Contract, model: Model) -> tuple[LimitVerdict, ...]:
    """The limits of a contract that shapes alone decide: parameters, macs, flops, storage.

    Raises:
        PharosError: a model without a graph under the contract's workload.
    """
    asked = contract.workload.model_dump()
    asked.pop("runtime")
    found = counted_figures(count(model.graph(Workload(**asked))))
    limits = {name: getattr(contract.limits, name) for name in found}
    return tuple(judge(name, limit, found[name]) for name, limit in limits.items() if limit is not None)


def model_of(contract: Contract, document: Document, name: str | None = None) -> Model:
    """The model that a contract names, or another; files lie beside the contract.

    Raises:
        PharosError: no such model.
    """
    name = name or contract.model
    local = name.endswith((".onnx", ".json")) and not Path(name).is_absolute()
    return load(str(Path(document.path).parent / name) if local else name, contract.dims)


def estimate_of(contract: Contract, document: Document, **changes: Any) -> Estimate:
    """The prediction a contract asks for.

    Args:
        changes: model, machine or workload fields to try instead, for remedies.

    Raises:
        PharosError: with the place in the contract.
    """
    where = document.where
    asked = contract.workload.model_dump() | {
        k: v for k, v in changes.items() if k not in ("model", "machine")
    }
    runtime = asked.pop("runtime")
    name = changes.get("model", contract.model)
    try:
        model = name if isinstance(name, Model) else model_of(contract, document, name)
        name = name if isinstance(name, str) else name.name
        work = Workload(**asked)
        graph = model.graph(work)
    except PharosError as error:
        raise error.at(where("model")) from None
    try:
        machine = find_machine(changes.get("machine", contract.machine_name))
        if contract.overrides and "machine" not in changes:
            machine = machine.but(contract.overrides, "the contract")
    except PharosError as error:
        raise error.at(where("machine")) from None
    return predict(graph, machine, work, model=name, runtime=runtime)


def figures_of(estimate: Estimate, contract: Contract) -> dict[str, Figure]:
    """Every quantity a limit can be put on."""
    memory = estimate.memory
    total = memory.total
    evidence: tuple[Evidence, ...] = (counted("weights, live activations, caches"),)
    system = contract.assumed.system_memory
    if system is not None:
        total = total + int(system)
        evidence = (assumed(f"{fmt(system, 'B')} system"), *evidence)
    if memory.runtime:
        evidence = (assumed(f"{fmt(memory.runtime, 'B')} GPU context"), *evidence)
    throughput = _inverse(estimate)
    whole = _daily(estimate, contract) | {
        "latency": estimate.latency,
        "throughput": throughput,
        "memory": Figure(value=total, low=total, high=total, unit="B", evidence=evidence),
        "energy": estimate.energy,
        "power": estimate.power_W,
    }
    return _at_least(whole, estimate.count) | counted_figures(estimate.count)


def counted_figures(counts: Count) -> dict[str, Figure]:
    """What shapes alone decide."""
    whole = {
        "storage": exact(counts.weight_bytes + counts.buffer_bytes, "B", "parameters and buffers"),
        "parameters": exact(counts.parameters, ""),
        "macs": exact(counts.macs, "MAC"),
        "flops": exact(counts.flops, "FLOP"),
    }
    return _at_least(whole, counts)


def _at_least(figures: dict[str, Figure], counts: Count) -> dict[str, Figure]:
    """The figures, as lower bounds where operators were not counted."""
    if not counts.uncounted:
        return figures
    lacking = f"at least: {len(counts.uncounted)} operators not counted"
    return {
        name: unknown_figure(figure.unit, lacking, low=figure.low if name != "throughput" else None)
        for name, figure in figures.items()
    }


def _inverse(estimate: Estimate) -> Figure:
    latency = estimate.latency
    if latency.value is None or latency.low is None or latency.high is None:
        return replace(latency, unit="1/s", low=None, high=None)
    n = estimate.samples
    return Figure(value=n / latency.value, low=n / latency.high, high=n / latency.low, unit="1/s",
                  evidence=latency.evidence)  # fmt: skip


def _daily(estimate: Estimate, contract: Contract) -> dict[str, Figure]:
    """What the contract's duty cycle takes, where it has one."""
    if contract.duty is None:
        return {}
    if estimate.latency.value is None:
        why = "the latency is unknown"
        return {"energy_per_day": unknown_figure("J", why), "battery_life": unknown_figure("s", why)}
    found = day(estimate.latency, estimate.energy, estimate.machine, contract.duty.duty)
    return {
        "energy_per_day": found.energy,
        "battery_life": found.battery or unknown_figure("s", "no battery"),
    }


def judge(name: str, limit: float, figure: Figure) -> LimitVerdict:
    """Holds when the whole band is inside the limit, broken when all of it is outside."""
    at_least = name in AT_LEAST
    best, worst = (figure.high, figure.low) if at_least else (figure.low, figure.high)
    verdict = UNKNOWN
    if worst is not None and (worst >= limit if at_least else worst <= limit):
        verdict = HOLDS
    elif best is not None and (best < limit if at_least else best > limit):
        verdict = BROKEN
    margin = None
    if figure.value is not None and figure.value:
        margin = float(figure.value / limit if at_least else limit / figure.value)
    return LimitVerdict(name=name, limit=limit, figure=figure, margin=margin, verdict=verdict)
