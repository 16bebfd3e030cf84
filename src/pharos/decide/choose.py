"""Choose: from a brief to a decision, its margin, its runner-up, what was rejected, risks and a contract."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharos.decide.attending import grows, scores_step
from pharos.decide.biases import Alternative, Match, candidates, without_network
from pharos.decide.brief import Brief, read_brief
from pharos.decide.data.facts import Data
from pharos.decide.data.sample import Tick, nothing
from pharos.decide.flow import Step, bits, walk
from pharos.decide.relax import Relaxation, conflicts, nearest
from pharos.decide.search import Trial, cost, counted_cost, evaluate, order, pareto, settle, wanted
from pharos.decide.spaces import Member, members
from pharos.facts.reading import Document
from pharos.machines.machine import Machine, find_machine
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.shown import Shown
from pharos.quantity.units import fmt

if TYPE_CHECKING:
    from pharos.decide.probe import Probe

# Families that are searched; those that match less are named with why.
SEARCHED = 3


NOBODY = "no family that can take {kind} data has a member here for this task"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Shown):
    """What was chosen and why.

    Args:
        chosen: None where nothing stands; then `conflicts` and `relaxation` say why and what would.
        rejected: candidate and reason.
        risks: risk and mitigation.
        front: trials that none beats in accuracy, latency, memory and energy at once.
        searched: members x precisions that were judged, and predictions of arrays it took.
        cheapest: where the machine may change: the first, by price or peak, on which the choice stands.
        probe: what was trained on the data, if the brief asks for it.
    """

    brief: Brief
    path: str
    data: Data
    matches: tuple[Match, ...]
    alternative: Alternative | None
    machine: Machine | None
    chosen: Trial | None
    runner_up: Trial | None
    trail: tuple[Step, ...]
    rejected: tuple[tuple[str, str], ...]
    risks: tuple[tuple[str, str], ...]
    front: tuple[Trial, ...]
    searched: tuple[int, int]
    conflicts: tuple[str, ...] = ()
    relaxation: Relaxation | None = None
    cheapest: str = ""
    probe: "Probe | None" = None

    @property
    def margin(self) -> tuple[str, float] | None:
        """The limit that is nearest, and how many times better the value is."""
        if self.chosen is None:
            return None
        known = {n: v.margin for n, v in self.chosen.verdicts.items() if v.margin is not None}
        return min(known.items(), key=lambda item: item[1]) if known else None


def choose_file(
    path: str | Path, tick: Tick = nothing, told: Callable[[str], None] = lambda _: None
) -> Decision:
    """Reads a brief and decides.

    Args:
        tick: shown while data are read; told: called with what is being searched.

    Raises:
        PharosError: a mistake in the brief or in what it names, with file, line and field.
    """
    brief, document = read_brief(path)
    return choose(brief, document, tick, told)


def data_of(brief: Brief, document: Document, tick: Tick = nothing) -> Data:
    """The data of a brief: measured where there is a file, with what the brief tells put first."""
    told = brief.data.told()
    if brief.data.file is None:
        assert brief.data.kind is not None
        return Data(kind=brief.data.kind).with_told(
            {k: v for k, v in told.items() if k != "kind"}, "the brief"
        )
    from pharos.decide.data.inspect import inspect

    at = Path(brief.data.file)
    at = at if at.is_absolute() else Path(document.path).parent / at
    try:
        found = inspect(at, tick=tick)
    except PharosError as error:
        raise error.at(document.where("data", "file")) from None
    return found.with_told(told, "the brief")


def choose(
    brief: Brief, document: Document, tick: Tick = nothing, told: Callable[[str], None] = lambda _: None
) -> Decision:
    """The flowchart: data, candidates, then memory, compute, speed, accuracy and deployment until one stands.

    Raises:
        PharosError: the data or the machine that the brief names cannot be read.
    """
    data = data_of(brief, document, tick)
    matches = candidates(data, pretrained=brief.use.pretrained)
    alternative = without_network(data)
    probed = None
    if brief.probe is not None:
        from pharos.decide.probed import probe_of, weighed, with_probe

        probed = probe_of(brief, document, tick, told)
        data, matches = with_probe(data, probed), weighed(matches, probed)
    if data.kind == "interactions" and not data.tables:
        hint = "write e.g. data.tables: [700 M, 300 M]"
        raise InputError("how many values the identifiers have is not told", where=document.where("data"),
                         hint=hint)  # fmt: skip
    if not matches:
        hint = "no family here takes graphs of nodes and edges" if data.over == "set" else ""
        raise InputError(f"no family takes {data.kind}", where=document.where("data"), hint=hint)
    trail = [_data_step(data), _candidates_step(matches, alternative)]
    if probed is not None:
        from pharos.decide.probed import probe_step

        trail.insert(1, probe_step(probed))
    machines, changes = _machines(brief, document)
    machine, cheapest = machines[0], ""
    if changes:
        told("machines")
        machine, cheapest, step = _cheapest(brief, data, matches, machines)
        trail.append(step)
    found = _decide(brief, document, data, matches, alternative, machine, cheapest, trail, told)
    return found if probed is None else replace(found, probe=probed)


def _decide(
    brief: Brief, document: Document, data: Data, matches: list[Match], alternative: Alternative | None,
    machine: Machine, cheapest: str, trail: list[Step], told: Callable[[str], None],
) -> Decision:  # fmt: skip
    standing: list[Trial] = []
    spare: Trial | None = None
    every: list[Trial] = []
    rejected: list[tuple[str, str]] = []
    searched = calls = walked = 0
    for match in matches:
        space = members(match.family, data, brief.task, brief.use.horizon, brief.use.pretrained)
        if not space:
            rejected.append((match.family, "no member of it is known for this task and data"))
            continue
        if walked >= SEARCHED or len(standing) >= 2:
            less = _less(match) + grows(match.family, space, machine, brief, data)
            rejected.append((match.family, less))
            continue
        told(match.family)
        trials, n = evaluate(space, machine, brief, data)
        searched, calls, walked = searched + len(trials), calls + n, walked + 1
        every += [t for t in trials if _trusted(t, match, brief)]
        if not trials:
            rejected.append(
                (match.family, f"{machine.id} has no known peak for it, or no size makes a network")
            )
            continue
        start = max(trials, key=lambda t: (wanted(t, brief, data), bits(t)))
        found, steps = walk(trials, start, brief, data)
        if not standing:
            trail += steps
        fit = sorted(
            (t for t in trials if t.stands and _trusted(t, match, brief)), key=lambda t: order(t, brief, data)
        )
        if found is None or not fit:
            why = steps[-1].action if steps and found is None else _untrusted(match)
            rejected.append((match.family, why + grows(match.family, space, machine, brief, data)))
            continue
        best, tied = settle(fit, brief, data)
        if not standing:
            trail.append(_search_step(trials, fit, best, found, tied, n, brief))
        standing.append(best)
        if len(standing) == 1:
            trail += scores_step(best, machine, brief)
            others = [t for t in fit if t.member.line != best.member.line]
            rejected += _lines(trials, best, brief)
            spare = next((t for t in others if len(t.unknown) <= len(best.unknown)), None)
        else:
            rejected.append((best.label, _less(match)))
    chosen = standing[0] if standing else None
    # another architecture of the family that matches best, before the best of another family
    runner = spare if spare is not None else standing[1] if len(standing) > 1 else None
    if alternative is not None and chosen is not None:
        rejected.append((alternative.name, f"not a network: {alternative.reason}"))
    from pharos.decide.risks import risks_of

    return Decision(
        brief=brief, path=document.path, data=data, matches=tuple(matches), alternative=alternative,
        machine=machine, chosen=chosen, runner_up=runner, trail=tuple(trail), rejected=tuple(rejected),
        risks=tuple(risks_of(chosen, brief, data, matches) if chosen else ()),
        front=tuple(pareto([t for t in every if t.stands])), searched=(searched, calls),
        conflicts=() if chosen else tuple(conflicts(every)) or (NOBODY.format(kind=data.kind),),
        relaxation=None if chosen else nearest(every),
        cheapest=cheapest,
    )  # fmt: skip


def _trusted(trial: Trial, match: Match, brief: Brief) -> bool:
    """Whether an accuracy may be hoped for: published, or more speaks for the family than against."""
    return brief.limits.accuracy is None or trial.value("accuracy") is not None or match.score > 0


def _data_step(data: Data) -> Step:
    from pharos.decide.data.facts import structure

    levels = structure(data)
    numbers = {n: {"level": v.value, "says": v.says, "known": v.known} for n, v in levels.items()}
    strong = [v.says for v in levels.values() if v.value is not None and v.value > 0.5]
    return Step(
        step="data",
        question="What structure do the data have?",
        answer=data.kind,
        numbers=numbers,
        action="; ".join(strong) or "no structure is known",
    )


def _candidates_step(matches: list[Match], alternative: Alternative | None) -> Step:
    numbers: dict[str, Any] = {
        m.family: {"score": m.score, "for": list(m.reasons), "against": list(m.counters)} for m in matches
    }
    action = "try " + ", then ".join(m.family for m in matches[:SEARCHED])
    if alternative is not None:
        numbers[alternative.name] = {"leads": alternative.leads, "for": [alternative.reason]}
        action += f"; {alternative.name} may do without a network"
    return Step(step="candidates", question="Which families assume that structure?", answer=matches[0].family,
                numbers=numbers, action=action)  # fmt: skip


def _search_step(
    trials: list[Trial],
    fit: list[Trial],
    best: Trial,
    found: Trial,
    tied: list[Trial],
    calls: int,
    brief: Brief,
) -> Step:
    front = pareto(fit)
    same = best.label == found.label
    limits = brief.limits
    why = "limits that hold, then support"
    if limits.accuracy is None:
        why += ", then accuracy or capacity for the labels"
    elif limits.power or limits.energy or limits.energy_per_day:
        why += ", then energy (operations x bits where no joules are known)"
    else:
        why += ", then latency"
    if len(tied) > 1:
        why += f"; {len(tied)} cannot be told apart by that, of them the fewest operations x bits"
    numbers = {"judged": len(trials), "predictions": calls, "stand": len(fit), "front": len(front)}
    numbers |= {"tied": len(tied), "walked": found.label, "cost": cost(best, brief)}
    return Step(step="search", question="Which of all sizes that stand is best?", answer=best.label,
                numbers=numbers, candidate=best.label,
                action=f"{'keep' if same else 'take'} {best.label}, by {why}")  # fmt: skip


def _less(match: Match) -> str:
    against = match.counters[0] if match.counters else "others match the data better"
    return f"matches the data less (score {match.score:.1f}): {against}"


def _untrusted(match: Match) -> str:
    against = match.counters[0] if match.counters else "more speaks against it than for it"
    return f"no published accuracy, and its biases do not fit (score {match.score:.1f}): {against}"


def _lines(trials: list[Trial], best: Trial, brief: Brief) -> list[tuple[str, str]]:
    """Of each other architecture of the family, its nearest trial and why it is not the choice."""
    found = []
    for line in dict.fromkeys(t.member.line for t in trials):
        if line == best.member.line:
            continue
        own = [t for t in trials if t.member.line == line]
        t = min(own, key=lambda t: (len(t.broken), len(t.unknown), cost(t, brief)))
        if t.broken:
            v = t.verdicts[t.broken[0]]
            unit = v.figure.unit
            why = f"{v.name} {fmt(v.figure.value if v.figure.value is not None else v.figure.low, unit)} "
            why += f"against {fmt(v.limit, unit)}"
        elif len(t.unknown) > len(best.unknown):
            why = f"cannot be told: {', '.join(n for n in t.unknown if n not in best.unknown)}"
        elif t.precision == "int8" and not t.plain:
            why = "stands, but its gates or activations lack int8 kernels in many runtimes"
        else:
            why = "stands, and " + _dearer(t, best, brief)
        found.append((t.label, why))
    return found


def _dearer(t: Trial, best: Trial, brief: Brief) -> str:
    mine, other = cost(t, brief), cost(best, brief)
    if mine > other > 0:
        return f"costs {mine / other:.1f} times as much"
    mine, other = counted_cost(t), counted_cost(best)
    if brief.limits.accuracy is not None and mine > other > 0:
        return f"costs as much within the error, with {mine / other:.1f} times the operations x bits"
    return "is less accurate, or larger than its labels can settle"


def _machines(brief: Brief, document: Document) -> tuple[list[Machine], bool]:
    """Machines that the brief allows, cheapest first, and whether there is a choice."""
    where = document.where("machine")
    try:
        if isinstance(brief.machine, dict):
            from pharos.decide.contract import Contract

            made = Contract.model_construct(machine=brief.machine)
            return [_idle(find_machine(made.machine_name).but(made.overrides, "the brief"), brief)], False
        if isinstance(brief.machine, str) and brief.machine != "any":
            return [_idle(find_machine(brief.machine), brief)], False
        from pharos.facts.names import folder

        names = list(folder("machines")) if brief.machine == "any" else list(brief.machine)
        found = [_idle(find_machine(n), brief) for n in names]
    except PharosError as error:
        raise error.at(where) from None
    return by_price(found), True


def _idle(machine: Machine, brief: Brief) -> Machine:
    watts = brief.assumed.idle_power
    return machine if watts is None else machine.but({"power.idle_W": watts}, "the brief")


def by_price(machines: list[Machine]) -> list[Machine]:
    """Machines, cheapest first: by price where all of them have one, else by their largest peak."""
    if all(m.price_usd for m in machines):
        return sorted(machines, key=lambda m: m.price_usd.value or 0.0)

    def peak(machine: Machine) -> float:
        return max(
            (p.ops_per_s.value for p in machine.peaks.values() if p.ops_per_s.value), default=float("inf")
        )

    return sorted(machines, key=lambda m: (peak(m), m.id))


def _cheapest(
    brief: Brief, data: Data, matches: list[Match], machines: list[Machine]
) -> tuple[Machine, str, Step]:
    """The first machine, cheapest first, on which the best match stands; the largest if none does."""
    space = next((s for m in matches if (s := members(m.family, data, brief.task, brief.use.horizon,
                                                      brief.use.pretrained))), [])  # fmt: skip
    tried: dict[str, str] = {}
    for machine in machines:
        capacity = machine.capacity_bytes.value
        trials, _ = evaluate(_few(space), machine, brief, data)
        sure = ("power", "energy", "energy_per_day")
        fit = [t for t in trials if t.stands and not set(t.unknown).difference(sure)]
        if fit and capacity is not None:
            tried[machine.id] = "stands"
            step = Step(
                step="machine",
                question="On which machine, cheapest first, does the best match stand?",
                answer=machine.id,
                numbers=tried,
                action=f"take {machine.id}",
            )
            return machine, machine.id, step
        worst = next((t.broken[0] for t in trials if t.broken), "")
        tried[machine.id] = "capacity is not known" if capacity is None else (
            f"fails {worst}" if worst else "cannot be told" if trials else "no peak is known")  # fmt: skip
    step = Step(
        step="machine",
        question="On which machine, cheapest first, does the best match stand?",
        answer="none",
        numbers=tried,
        action=f"go on with the largest, {machines[-1].id}",
    )
    return machines[-1], "", step


def _few(space: list[Member]) -> list[Member]:
    """Some members of a space, spread over it: enough to see whether any may stand."""
    return space if len(space) <= 24 else space[:: max(1, len(space) // 24)]
