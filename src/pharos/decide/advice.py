"""Advice: what rules find wrong with a model on a machine, with evidence, cost, remedy, predicted gain."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pharos.decide.changes import Alone, alone, graph_at
from pharos.facts.declared import import_all
from pharos.graph.count import Count, Line
from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.models.registry import Model
from pharos.ops.attention import Attention
from pharos.passes.recognise import recognise
from pharos.passes.recognise.recognition import Recognition
from pharos.predict.estimate import Estimate, Operation, predict
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.evidence import Evidence, Kind, counted, merge
from pharos.quantity.sizes import Size, is_array, is_int, is_symbol

# Worst first: it cannot work; it loses much; worth knowing.
ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
# Shares of a step, or of the memory, that a finding is worth a warning and worth a word from. A choice.
MUCH, WORTH = 0.2, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What only the user knows of data, training and deployment; a rule that lacks what it needs is silent.

    Args:
        labels: labelled samples to train on.
        data_range: positions (tokens, pixels, samples) over which the data depend on each other.
        flops: the FLOPs that somebody quotes for a step. memory_bytes: the memory that somebody budgets.
        trained_on_bytes: memory of the devices that it was trained on, together.
        devices: that it is to be spread over.
        trains: it is trained, in batches as large as the workload's.
        attention: "tiled" or "materialised" where the software is known to do so.
        convolution: "im2col", "winograd" or "direct", likewise.
    """

    labels: int | None = None
    data_range: int | None = None
    flops: float | None = None
    memory_bytes: float | None = None
    trained_on_bytes: float | None = None
    devices: int = 1
    trains: bool = False
    attention: str | None = None
    convolution: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One figure that a finding rests on, with how it is known; `unit` as in `quantity.units`."""

    what: str
    value: float
    unit: str = ""
    known: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What it costs.

    Args:
        what: in words, without the figure. value, unit: seconds, bytes or joules; None where a figure it
            needs is unknown.
        share: of the step's time, or of the machine's memory.
    """

    what: str
    value: float | None
    unit: str
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What the remedy changes, as predicted with the change made.

    Args:
        of: the quantity. before, after: its values. better: "less" or "more".
        known: how the value after is known.
        energy_J: of a step before and after, where both are known.
    """

    of: str
    before: float
    after: float
    unit: str
    known: tuple[Evidence, ...]
    better: str = "less"
    energy_J: tuple[float, float] | None = None

    @property
    def factor(self) -> float | None:
        """How many times better it becomes; below 1 where the remedy costs."""
        old, new = (self.before, self.after) if self.better == "less" else (self.after, self.before)
        return old / new if new else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule that applies.

    Args:
        where: operators it is about, the heaviest first.
        gain: None where the remedy makes possible what was not, or a figure it needs is unknown.
    """

    severity: str
    evidence: tuple[Fact, ...]
    consequence: Cost
    remedy: str
    gain: Gain | None = None
    where: tuple[str, ...] = ()
    rule: str = ""

    @property
    def weight(self) -> tuple[int, float]:
        """Order of findings: severity, then the share that is lost."""
        return SEVERITIES.index(self.severity), -(self.consequence.share or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule: a function from a `Case` to its findings, none where it does not apply.

    Args:
        when, costs, remedy: in words, for the page of rules.
        source: where condition and constants come from.
        lab: of the textbook that shows on this machine that the effect is real; "" where none can.
        no_lab: why none can.
        needs: fields of `Stated` without which it is silent.
        searches: it predicts models of the catalogue, which takes a while.
        of_speed: it is withheld where the network does not fit, until it does.
    """

    name: str
    find: "Callable[[Case], Iterable[Finding]]"
    when: str
    costs: str
    remedy: str
    source: str
    lab: str = ""
    no_lab: str = ""
    needs: tuple[str, ...] = ()
    searches: bool = False
    of_speed: bool = False
    module: str = ""


RULES: dict[str, Rule] = {}
_ROOM = "pharos.decide.rules"


def rule(
    name: str, *, when: str, costs: str, remedy: str, source: str, lab: str = "", no_lab: str = "",
    needs: tuple[str, ...] = (), searches: bool = False, of_speed: bool = False,
) -> "Callable[[Callable[[Case], Iterable[Finding]]], Callable[[Case], Iterable[Finding]]]":  # fmt: skip
    """Registers an advice rule; one a file of `decide/rules/`."""

    def register(find: "Callable[[Case], Iterable[Finding]]") -> "Callable[[Case], Iterable[Finding]]":
        if name in RULES:
            raise ValueError(f"advice rule {name} is registered twice")
        RULES[name] = Rule(
            name=name, find=find, when=when, costs=costs, remedy=remedy, source=source, lab=lab,
            no_lab=no_lab, needs=needs, searches=searches, of_speed=of_speed, module=find.__module__,
        )  # fmt: skip
        return find

    return register


def rules() -> dict[str, Rule]:
    """Every advice rule by its name."""
    import_all(_ROOM)
    return dict(sorted(RULES.items()))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model under a workload on a machine, and the same with a change, predicted again.

    Args:
        base: its estimate; graph: what was estimated.
    """

    model: Model
    graph: Graph
    base: Estimate
    stated: Stated = field(default_factory=Stated)

    @property
    def machine(self) -> Machine:
        """The machine."""
        return self.base.machine

    @property
    def workload(self) -> Workload:
        """The workload."""
        return self.base.workload

    @property
    def count(self) -> Count:
        """What the graph asks for."""
        return self.base.count

    @property
    def lines(self) -> tuple[Line, ...]:
        """Its operators."""
        return self.count.lines

    @property
    def latency_s(self) -> float | None:
        """Seconds of a step; None where unknown."""
        value = self.base.latency.value
        return None if value is None else float(value)

    @cached_property
    def recognition(self) -> Recognition:
        """What the graph is made of."""
        return recognise(self.graph, self.count)

    @cached_property
    def family(self) -> str:
        """The first of its families."""
        return self.model.family or self.recognition.family.split(" + ")[0]

    @cached_property
    def tokens(self) -> Size:
        """Positions of a sequence that a step handles; 1 for what is no sequence."""
        return self.graph.meta.get("tokens", 1)

    @cached_property
    def _seconds(self) -> dict[str, float]:
        """Seconds of every operator's kernel, at the operator that leads it, over all runs."""
        return {op.kernel.lead.name: float(op.total_s) for op in self.timed if op.total_s is not None}

    @property
    def timed(self) -> tuple[Operation, ...]:
        """Kernels whose time is known."""
        return tuple(op for op in self.base.operations if op.time is not None)

    def seconds(self, lines: Iterable[Line]) -> float:
        """Of the kernels that these operators lead."""
        return sum(self._seconds.get(line.name, 0.0) for line in lines)

    def share(self, seconds: float) -> float:
        """Of the step's time."""
        return seconds / self.latency_s if self.latency_s else 0.0

    def evidence(self, kind: str = "latency") -> Evidence:
        """The weakest part that a figure of the estimate rests on."""
        figure = getattr(self.base, kind)
        return figure.evidence[0] if figure.evidence else Evidence(kind=Kind.UNKNOWN, where=kind)

    def again(
        self, *, graph: Graph | None = None, model: Model | None = None, workload: Workload | None = None,
        machine: Machine | None = None, runtime: str | None = None,
    ) -> Estimate:  # fmt: skip
        """Predicts it with a change.

        Raises:
            PharosError: the change makes no network, or does not run there.
        """
        work = workload or self.workload
        chosen = model or self.model
        if graph is None:
            graph = self.graph
            if model is not None or workload is not None:
                graph = as_run(self._built(chosen, work), self.stated)
        return predict(graph, machine or self.machine, work, model=chosen.name,
                       runtime=runtime or self.base.runtime)  # fmt: skip

    def _built(self, model: Model, work: Workload) -> Graph:
        return graph_at(model, work, self.graph, self.workload) if model is self.model else model.graph(work)

    def tried(self, **change: Any) -> Estimate | None:
        """`again`, or None where the change cannot be made or its time is unknown."""
        try:
            found = self.again(**change)
        except PharosError:
            return None
        return None if found.latency.value is None else found

    def alone(self, pairs: Iterable[tuple[Node, Op, tuple[Any, ...]]]) -> list[Alone]:
        """Operators on their own before and after a change, see `decide.changes.alone`."""
        return alone(pairs, self)

    def faster(self, found: Estimate, of: str = "latency of a step") -> Gain | None:
        """The gain of another estimate in latency; None where a latency is unknown."""
        if self.latency_s is None or found.latency.value is None:
            return None
        joules = self.base.energy.value, found.energy.value
        known = None if joules[0] is None or joules[1] is None else (float(joules[0]), float(joules[1]))
        return Gain(of=of, before=self.latency_s, after=float(found.latency.value), unit="s",
                    known=found.latency.evidence, energy_J=known)  # fmt: skip

    def smaller(self, found: Estimate) -> Gain:
        """The gain of another estimate in memory."""
        return lighter(self.base, found)

    def of_memory(self, nbytes: float) -> float | None:
        """Share of the machine's memory; None where that is unknown."""
        capacity = self.machine.capacity_bytes.value
        return nbytes / capacity if capacity else None


def fact(what: str, value: float, unit: str = "", known: Evidence | None = None) -> Fact:
    """A figure of a finding, counted unless it is known otherwise."""
    return Fact(what=what, value=float(value), unit=unit, known=known or counted())


def seconds_of(found: Estimate) -> float:
    """Seconds of a step of an estimate whose latency is known."""
    assert found.latency.value is not None
    return float(found.latency.value)


def lighter(before: Estimate, after: Estimate, of: str = "memory") -> Gain:
    """The gain of one estimate over another in memory."""
    known = after.memory.evidence or (counted("weights, live activations, caches"),)
    return Gain(of=of, before=float(before.memory.total), after=float(after.memory.total), unit="B",
                known=known)  # fmt: skip


def severity(share: float | None) -> str:
    """A warning from `MUCH` of a step or of the memory on, else a note."""
    return WARNING if share is not None and share >= MUCH else NOTE


def as_run(graph: Graph, stated: Stated) -> Graph:
    """The graph with the algorithms that the user says the software takes.

    Raises:
        UnknownName: an algorithm that is none.
    """
    if stated.convolution:
        from pharos.passes.algorithms import with_algorithm

        graph = with_algorithm(graph, stated.convolution)
    if stated.attention:
        kind = stated.attention
        graph = graph.with_ops(
            lambda n: replace(n.op, algorithm=kind) if isinstance(n.op, Attention) else None
        )
    return graph


def case(
    model: Model, machine: Machine, workload: Workload, stated: Stated | None = None,
    runtime: str | None = None,
) -> Case:  # fmt: skip
    """A case for rules: the model estimated.

    Raises:
        InputError: sizes that are no numbers.
    """
    stated = stated or Stated()
    graph = as_run(model.graph(workload), stated)
    base = predict(graph, machine, workload, model=model.name, runtime=runtime)
    return of_estimate(model, base, stated)


def of_estimate(model: Model, base: Estimate, stated: Stated | None = None) -> Case:
    """A case from an estimate that is there already.

    Raises:
        InputError: sizes that are no numbers.
    """
    graph = base.count.graph
    for value in (base.workload.batch, base.count.macs):
        if is_array(value) or is_symbol(value) or not is_int(value):
            raise InputError("advice is for one workload: sizes must be numbers", where=base.model)
    return Case(model=model, graph=graph, base=base, stated=stated or Stated())


def advise(case: Case, *, quick: bool = False) -> list[Finding]:
    """All findings of all rules, worst first; of speed only where the network fits.

    Args:
        quick: leave out the rules that search the catalogue.
    """
    return list(_sorted(_found(case, quick)))


def in_passing(
    model: Model, graph: Graph, workload: Workload, on: str, *, trains: bool = False
) -> list[Finding]:
    """What rules say of a graph that is shown, without searching; nothing of sizes that are no numbers.

    Raises:
        PharosError: no such machine.
    """
    machine = find_machine(on)
    try:
        base = predict(graph, machine, workload, model=model.name)
        return advise(of_estimate(model, base, Stated(trains=trains)), quick=True)
    except PharosError:
        # what is asked is to show it
        return []


def _found(case: Case, quick: bool) -> Iterator[Finding]:
    for each in rules().values():
        if quick and each.searches:
            continue
        if not stated_enough(each, case.stated):
            continue
        if each.of_speed and case.base.fits is False:
            continue
        for finding in each.find(case):
            yield replace(finding, rule=each.name)


def stated_enough(rule: Rule, stated: Stated) -> bool:
    """Whether all that a rule needs to know is stated; one device is no statement."""
    return all(getattr(stated, need) not in (None, 1) for need in rule.needs)


def _sorted(found: Iterable[Finding]) -> list[Finding]:
    return sorted(found, key=lambda f: f.weight)


def known_by(finding: Finding) -> tuple[Evidence, ...]:
    """Everything a finding rests on, weakest first."""
    gain = finding.gain.known if finding.gain else ()
    return merge((*(f.known for f in finding.evidence), *gain))
