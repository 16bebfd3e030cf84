"""Search: members of a family predicted on a machine, whole axes at once, and judged by the limits."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, log
from typing import Any

from pharos.decide.accuracy import accuracy_of
from pharos.decide.brief import Brief
from pharos.decide.data.facts import Data
from pharos.decide.spaces import Member
from pharos.decide.verdict import BROKEN, UNKNOWN, LimitVerdict, judge
from pharos.graph.count import Count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.models.registry import entry, find, parse_name
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Mul
from pharos.plan.communication import collective_cost
from pharos.plan.topology import topology_of
from pharos.predict.duty import Duty, day
from pharos.predict.estimate import Estimate, predict
from pharos.quantity.dtypes import BITS, Precision
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Figure, assumed, counted, exact, merge, unknown_figure
from pharos.quantity.units import fmt

# Hyperparameters that may be arrays: a line is predicted for all their values at once.
AXES = ("resolution", "hidden", "heads")
# Precisions to try by the machine's kind, widest first.
PRECISIONS = {
    "gpu": ("fp32", "bf16", "int8"),
    "tpu": ("bf16", "int8"),
    "npu": ("fp16", "int8"),
    "mcu": ("fp32", "int8"),
    "cpu": ("fp32", "bf16", "int8"),
    "mobile_soc": ("fp16", "int8"),
}
FOUR_BITS = "weights=int4,activations=bf16"
# Activations that integer kernels have everywhere: a clamp, or a table of 256 entries.
PLAIN = ("relu", "relu6", "sigmoid", "tanh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One member in one precision on one machine.

    Args:
        devices: over which tables or weights are spread. exchange: seconds it takes them, in the latency.
        plain: integer kernels for it are found in every runtime.
    """

    member: Member
    precision: str
    machine: Machine
    figures: dict[str, Figure]
    verdicts: dict[str, LimitVerdict]
    plain: bool
    devices: int = 1
    exchange: Figure | None = None
    notes: tuple[str, ...] = ()

    @property
    def broken(self) -> list[str]:
        """Limits that do not hold."""
        return [n for n, v in self.verdicts.items() if v.verdict == BROKEN]

    @property
    def unknown(self) -> list[str]:
        """Limits that cannot be told."""
        return [n for n, v in self.verdicts.items() if v.verdict == UNKNOWN]

    @property
    def stands(self) -> bool:
        """No limit is broken."""
        return not self.broken

    def value(self, name: str) -> float | None:
        """The central value of a figure."""
        found = self.figures[name].value
        return None if found is None else float(found)

    @property
    def label(self) -> str:
        """The model and its precision."""
        return f"{self.member.model}, {self.precision}"


def precisions(machine: Machine, task: str) -> tuple[str, ...]:
    """What can be tried on a machine, widest first."""
    known = PRECISIONS[machine.kind]
    return (*known, FOUR_BITS) if task == "generate" else known


def evaluate(
    members: Iterable[Member], machine: Machine, brief: Brief, data: Data,
    only: tuple[str, ...] | None = None,
) -> tuple[list[Trial], int]:  # fmt: skip
    """Every member in every precision, judged; and how many predictions of arrays it took.

    Members that make no network at these sizes, or for which the machine has no peak, are left out.
    """
    groups: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        name, given = parse_name(member.model)
        fixed = tuple(
            sorted((k, repr(v)) for k, v in given.items() if k not in AXES or machine.kind == "mcu")
        )
        work = tuple(sorted(member.work.items()))
        groups[name, fixed, work].append(member)
    found, calls = [], 0
    for group in groups.values():
        for precision in only or precisions(machine, brief.task):
            made, n = _group(group, precision, machine, brief, data)
            found += made
            calls += n
    return found, calls


def _group(
    group: list[Member], precision: str, machine: Machine, brief: Brief, data: Data
) -> tuple[list[Trial], int]:
    work = Workload(batch=brief.use.batch, precision=Precision.of(precision), **group[0].work)
    if len(group) > 1:
        try:
            estimate = predict(_as_array(group, work), machine, work)
            return [
                t
                for i, m in enumerate(group)
                if (t := _trial(m, precision, machine, brief, data, estimate, i, len(group)))
            ], 1
        except (PharosError, TypeError, ValueError):
            # a graph whose form depends on its sizes, or a machine that needs them: one after another
            pass
    found = []
    for member in group:
        try:
            estimate = predict(find(member.model).graph(work), machine, work)
        except PharosError:
            continue
        made = _trial(member, precision, machine, brief, data, estimate, None, 1)
        found += [made] if made else []
    return found, len(group)


def _as_array(group: list[Member], work: Workload) -> Graph:
    import numpy as np

    name, _ = parse_name(group[0].model)
    every = [parse_name(m.model)[1] for m in group]
    together = {k: np.array([e[k] for e in every]) if k in AXES else v for k, v in every[0].items()}
    known = entry(name)
    return known.build(work, **known.fixed, **together)


def _at(value: Any, i: int | None) -> Any:
    shape = getattr(value, "shape", ())
    return value if i is None or not shape else value[i].item()


def _trial(
    member: Member, precision: str, machine: Machine, brief: Brief, data: Data, estimate: Estimate,
    i: int | None, n: int,
) -> Trial | None:  # fmt: skip
    if estimate.latency.value is None and estimate.is_complete:
        return None
    count, memory = estimate.count, estimate.memory

    def at(figure: Figure) -> Figure:
        return Figure(value=_at(figure.value, i), low=_at(figure.low, i), high=_at(figure.high, i),
                      unit=figure.unit, evidence=figure.evidence)  # fmt: skip

    stored = int(_at(count.weight_bytes, i) + _at(count.buffer_bytes, i))
    total = int(_at(memory.total, i)) + int(brief.assumed.system_memory or 0)
    devices, notes, exchange = 1, (), None
    limit = min(x for x in (brief.limits.memory, machine.capacity_bytes.value, float("inf")) if x)
    if member.family == "dlrm" and total > limit:
        devices, notes, exchange = _sharded(member, stored, total, limit, machine, brief, data, precision)
        total = (total - stored) + stored // devices
    told = (
        ()
        if brief.assumed.system_memory is None
        else (assumed(f"{fmt(brief.assumed.system_memory, 'B')} system"),)
    )
    latency, energy = at(estimate.latency), at(estimate.energy)
    if exchange is not None:
        latency = _then(latency, exchange)
    samples = _at(estimate.samples, i) if member.work.get("phase") == "decode" else brief.use.batch
    per_second = Figure(
        value=_over(samples, latency.value),
        low=_over(samples, latency.high),
        high=_over(samples, latency.low),
        unit="1/s",
        evidence=latency.evidence,
    )
    power, daily = _over_a_day(latency, energy, at(estimate.power_W), machine, brief)
    figures = {
        "latency": latency,
        "throughput": per_second,
        "energy": energy,
        "memory": Figure(
            value=total,
            low=total,
            high=total,
            unit="B",
            evidence=(*told, counted("weights, live activations, caches")),
        ),
        "storage": exact(stored, "B", "parameters and buffers"),
        "macs": exact(int(_at(count.macs, i)), "MAC"),
        "parameters": exact(int(_at(count.parameters, i)), ""),
        "power": power,
        "energy_per_day": daily,
        "accuracy": accuracy_of(
            member.model, member.resolution, precision, data, brief.task, brief.use.pretrained
        ),
    }
    verdicts = {n: _judged(n, v, figures[n]) for n in type(brief.limits).model_fields
                if (v := getattr(brief.limits, n)) is not None}  # fmt: skip
    for name, held in (("memory", machine.capacity_bytes.value), ("storage", machine.flash_bytes.value)):
        # what the machine has is a limit too, whether told or not
        if held is not None and held < (getattr(brief.limits, name) or float("inf")):
            verdicts[name] = judge(name, held, figures[name])
    return Trial(
        member=member, precision=precision, machine=machine, figures=figures, verdicts=verdicts,
        plain=_plain(count), devices=devices, exchange=exchange, notes=notes,
    )  # fmt: skip


def _over(samples: Any, seconds: Any) -> float | None:
    return None if not seconds else float(samples / seconds)


def _judged(name: str, limit: float, figure: Figure) -> LimitVerdict:
    if name in ("accuracy",):
        # as of a throughput: at least so much
        found = judge("throughput", limit, figure)
        margin = None if figure.value is None else float(figure.value / limit)
        return LimitVerdict(name=name, limit=limit, figure=figure, margin=margin, verdict=found.verdict)
    return judge(name, limit, figure)


def _over_a_day(
    latency: Figure, energy: Figure, running: Figure, machine: Machine, brief: Brief
) -> tuple[Figure, Figure]:
    """Average power and joules a day at the rate told; without one, the power while it runs, and no day."""
    rate = brief.rate_per_s
    if rate is None or latency.value is None:
        return running, unknown_figure("J", "write use.rate or use.per_day")
    found = day(latency, energy, machine, Duty(per_day=rate * 86400 / brief.use.batch))
    power, idle = found.power, machine.idle_W.value
    if power.low is None and idle is not None:
        # whatever a run takes, what is drawn between runs is drawn
        power = replace(power, low=idle * max(0.0, 1 - float(found.busy)))
    return power, found.energy


def _sharded(
    member: Member, stored: int, total: int, limit: float, machine: Machine, brief: Brief, data: Data,
    precision: str,
) -> tuple[int, tuple[str, ...], Figure]:  # fmt: skip
    """Devices that tables are spread over by rows, what that asks of the network, and the time it takes.

    Each device serves a batch of its own: it sends the rows that others ask of it, as many as it is sent.
    """
    rest = total - stored
    # a tenth is kept free for what is exchanged
    devices = max(2, ceil(stored / max(0.9 * limit - rest, 1)))
    a_node = int(machine.links.get("nvlink_domain") or 8)
    if devices > a_node:
        devices = a_node * ceil(devices / a_node)
    looked = len(data.tables)
    what = f"{fmt(stored, 'B')} of tables over {devices} devices by rows; {looked} vectors an example"
    width = int(member.knobs["table_dim"]) * BITS[Precision.of(precision).activations] / 8
    try:
        cost = collective_cost(
            "all-to-all", int(brief.use.batch * looked * width), topology_of(machine, devices)
        )
    except PharosError as error:
        return devices, (f"{what} are exchanged",), unknown_figure("s", f"exchange of vectors: {error.what}")
    value = cost.seconds.value
    return devices, (f"{what} are exchanged in {fmt(value, 's')}",), cost.seconds


def _then(first: Figure, second: Figure) -> Figure:
    """One after the other: times add, and so do the ends of their bands."""
    evidence = merge((*first.evidence, *second.evidence))
    if first.value is None or second.value is None:
        # what is known bounds the sum from below
        lows = [f.low for f in (first, second) if f.low is not None]
        return Figure(value=None, low=sum(lows) if lows else None, high=None, unit="s", evidence=evidence)
    ends = {e: float(getattr(first, e)) + float(getattr(second, e)) for e in ("value", "low", "high")}
    return Figure(unit="s", evidence=evidence, **ends)


def _plain(counted: Count) -> bool:
    """No gates and no activations beyond PLAIN: what integer kernels of small runtimes lack."""
    return all(
        not (isinstance(op, Activation) and op.function not in PLAIN) and not isinstance(op, Mul)
        for op in (line.node.op for line in counted.lines)
    )  # fmt: skip


def order(trial: Trial, brief: Brief, data: Data) -> tuple[Any, ...]:
    """What is better among trials that stand, smallest first.

    Limits that are sure to hold; accuracy that is published; windows that reach as far as dependence does;
    integer kernels that are everywhere; then, with an accuracy to reach, the least cost; without one, no
    narrower type than needed where its loss is not known, then what is worth most.
    """
    unsure = len(trial.unknown)
    lacking = trial.value("accuracy") is None
    support = trial.precision == "int8" and not trial.plain
    reach = trial.member.field_steps
    short = reach is not None and data.dependence is not None and reach < data.dependence
    if brief.limits.accuracy is not None and not lacking:
        return (unsure, lacking, short, support, 0, cost(trial, brief))
    narrow = -min(BITS[Precision.of(trial.precision).weights], 16) if lacking else 0
    return (unsure, lacking, short, support, narrow, -worth(trial, brief, data))


def settle(fit: list[Trial], brief: Brief, data: Data) -> tuple[Trial, list[Trial]]:
    """The best of trials in their `order`, and those that no prediction tells from the first.

    Costs inside the first one's band are a tie: then what is counted decides, operations times their width.
    """
    first = fit[0]
    *ahead, _ = order(first, brief, data)
    known = brief.limits.accuracy is not None and first.value("accuracy") is not None
    ceiling = _ceiling(first, brief)
    if not known or ceiling is None:
        return first, [first]
    tied = [t for t in fit if list(order(t, brief, data)[:-1]) == ahead and cost(t, brief) <= ceiling]
    return min(tied, key=lambda t: (counted_cost(t), cost(t, brief))), tied


def _ceiling(trial: Trial, brief: Brief) -> float | None:
    """The upper end of the band of what a trial costs."""
    spent = cost(trial, brief)
    for name in ("energy", "latency"):
        if trial.value(name) == spent:
            high = trial.figures[name].high
            return None if high is None else float(high)
    return None


def counted_cost(trial: Trial) -> float:
    """Operations times the width of what is multiplied, against 32 bits."""
    return (trial.value("macs") or 0.0) * BITS[Precision.of(trial.precision).weights] / 32


def cost(trial: Trial, brief: Brief) -> float:
    """What is spent: energy where it is limited and known, else operations; latency where power is free."""
    limits = brief.limits
    if limits.power or limits.energy or limits.energy_per_day:
        energy = trial.value("energy")
        return energy if energy is not None else counted_cost(trial)
    return trial.value("latency") or 0.0


def worth(trial: Trial, brief: Brief, data: Data) -> float:
    """Without an accuracy to reach: accuracy against cost where it is published, else capacity.

    A tenth fewer errors is taken to be worth half as much time again. Assumed: the trade is the user's to
    make, by a limit on accuracy.
    """
    known = trial.value("accuracy")
    spent = log(max(cost(trial, brief), 1e-12))
    if known is not None:
        return -log(max(1 - known, 1e-6)) / log(1 / 0.9) * log(1.5) - spent
    return -capacity_gap(trial, brief, data) - 0.01 * spent


# Width of embeddings by labels: Naumov et al. 2019, arXiv:1906.00091 (Criteo Kaggle, 45.8 M clicks), and
# MLPerf's DLRM (Criteo Terabyte, 4.2 G).
EMBEDDINGS = ((45.8e6, 16), (4.2e9, 128))


def capacity_gap(trial: Trial, brief: Brief, data: Data) -> float:
    """How far a network's capacity lies from what is known to suit such data, as a ratio's log.

    Trained from nothing: about a parameter a labelled example, or a labelled step; tables: the width that is
    published at so many labels; published weights: the larger the better (Kaplan et al. 2020,
    arXiv:2001.08361). The first is a rule of thumb, assumed: a probe would tell.
    """
    parameters = max(trial.value("parameters") or 1.0, 1.0)
    if brief.task == "generate" and brief.use.pretrained:
        return -log(parameters)
    labels = data.labels or data.examples or 100_000
    if "table_dim" in trial.member.knobs:
        (few, narrow), (many, wide) = EMBEDDINGS
        share = log(labels / few) / log(many / few)
        return abs(
            log(trial.member.knobs["table_dim"] / (narrow * (wide / narrow) ** min(1.0, max(-0.5, share))))
        )
    stepwise = data.kind in ("text", "sequence") or (data.kind == "audio" and data.unbounded)
    steps = data.length if stepwise and data.length else 1
    return abs(log(parameters / min(max(labels * steps, 1_000), LARGEST)))


def wanted(trial: Trial, brief: Brief, data: Data) -> float:
    """Where the walk starts: the most accurate, or what suits such data by its capacity."""
    known = trial.value("accuracy")
    return known if known is not None else -100 - capacity_gap(trial, brief, data)


# Parameters beyond which more labels are not taken to ask for more.
LARGEST = 30e6


def pareto(trials: list[Trial]) -> list[Trial]:
    """Trials that none beats in accuracy, latency, memory and energy at once; unknown counts as nothing."""

    def axes(t: Trial) -> tuple[float, ...]:
        good = t.value("accuracy")
        return (
            -(good if good is not None else 0.0),
            t.value("latency") or 0.0,
            t.value("memory") or 0.0,
            t.value("energy") or 0.0,
        )

    found: list[tuple[tuple[float, ...], Trial]] = []
    for trial in sorted(trials, key=axes):
        mine = axes(trial)
        if not any(all(a <= b for a, b in zip(other, mine, strict=True)) for other, _ in found):
            found.append((mine, trial))
    return [t for _, t in found]
