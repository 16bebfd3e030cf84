"""Why: what binds an estimate, what doubling each resource would give, and what would meet a limit."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import log2

from pharos.decide.changes import graph_at
from pharos.decide.inverse import Answer, answers
from pharos.decide.scaled import FIGURES, NETWORK, Scale, again, scaled
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine, machine_names
from pharos.models.registry import Model
from pharos.plan.layout import Layout
from pharos.plan.parallel import TRAIN, Job, Plan, plan
from pharos.plan.topology import topology_of
from pharos.predict.estimate import Estimate, predict
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.evidence import Evidence, Figure
from pharos.quantity.sizes import is_int

# A doubled resource helps from so much on.
HELPS = 1.05
# Machines that are predicted in search of another bottleneck at most.
MOST = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubled:
    """What twice of one resource gives.

    Args:
        resource: compute, bandwidth, capacity, network or batch.
        speedup: of a step's latency; of the samples a second for the batch. None where it is unknown.
        latency: with it.
        fits: with it.
        binding: with it.
        note: what it does beside, or why nothing is known.
    """

    resource: str
    speedup: float | None
    latency: Figure | None = None
    fits: bool | None = None
    binding: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A machine on which something else binds."""

    machine: Machine
    binding: str
    latency: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The reasons of an estimate.

    Args:
        plan: of all devices, where there are several.
        helpful: the resource of the machine whose doubling helps most; "" where none does.
        flips: the nearest machine of the catalogue on which something else binds.
        answers: to each limit, what machine and what network would meet it.
    """

    base: Estimate
    devices: int
    plan: Plan | None
    doubled: tuple[Doubled, ...]
    helpful: str
    reason: str
    flips: Flip | None
    answers: tuple[Answer, ...] = field(default_factory=tuple)

    @property
    def binding(self) -> str:
        """What binds: of the plan where several devices share the work."""
        return self.plan.binding if self.plan is not None else str(self.base.binding)


def why(
    model: Model, machine: Machine, workload: Workload, *, runtime: str | None = None, devices: int = 1,
    limits: dict[str, float] | None = None,
) -> Why:  # fmt: skip
    """Predicts it with twice of each resource, on other machines, and what would meet limits.

    Args:
        devices: that share every layer of a decoder (tensor parallel), so that a network matters.
        limits: SI figures by the names of a contract's limits.

    Raises:
        InputError: sizes that are no numbers, or a limit that cannot be asked for.
    """
    if devices > 1 and limits:
        raise InputError("limits are met or not by one device", where="--limit",
                         hint="pharos parallel searches for a plan over several")  # fmt: skip
    base = predict(model.graph(workload), machine, workload, model=model.name, runtime=runtime)
    if not is_int(workload.batch) or not is_int(base.count.macs):
        raise InputError("asks for one workload: sizes must be numbers", where=model.name)
    shared = _shared(model, machine, workload, devices)
    doubled = [_figure(base, figure, shared, devices, model) for figure in FIGURES]
    doubled.append(_batch(model, base, shared, devices))
    helpful, reason = _helpful(base, doubled, shared)
    return Why(
        base=base, devices=devices, plan=shared, doubled=tuple(doubled), helpful=helpful, reason=reason,
        flips=_flips(base, shared, model, devices), answers=answers(model, base, limits or {}),
    )  # fmt: skip


def _shared(
    model: Model, machine: Machine, workload: Workload, devices: int, rate: float = 1.0
) -> Plan | None:
    if devices < 2:
        return None
    phase = TRAIN if workload.phase == "forward" else workload.phase
    job = Job(model=model, phase=phase, batch=int(workload.batch), context=workload.context,
              precision=str(workload.precision))  # fmt: skip
    layout = Layout(tensor=devices, micro_batch=1 if phase == TRAIN else int(workload.batch))
    topology = topology_of(machine, devices)
    if rate != 1:
        faster = {
            level: replace(link, bytes_per_s=rate * link.bytes_per_s)
            for level in ("inside", "across")
            if (link := getattr(topology, level)) is not None
        }
        topology = replace(topology, **faster)
    return plan(job, machine, topology, layout)


def _figure(base: Estimate, figure: str, shared: Plan | None, devices: int, model: Model) -> Doubled:
    if figure == NETWORK:
        if shared is None:
            alone = "one device: nothing goes over a link"
            return Doubled(resource=figure, speedup=1.0, latency=base.latency, fits=base.fits,
                           binding=str(base.binding), note=alone)  # fmt: skip
        return _compared(figure, shared, _shared(model, base.machine, base.workload, devices, 2.0))
    by = Scale(**{figure: 2.0})
    if shared is not None:
        return _compared(figure, shared, _shared(model, scaled(base.machine, by), base.workload, devices))
    made = again(base, by)
    note = ""
    if figure == "capacity":
        room = base.machine.capacity_bytes.value
        if base.fits is False:
            note = "it fits then" if made.fits else "it does not fit even then"
        elif room:
            note = f"holds {float(base.memory.total) / room:.0%} of the memory as it is"
        else:
            note = "the memory of this machine is not known"
    speedup = _ratio(base, made)
    if speedup is None:
        note = note or base.latency.evidence[0].where
    return Doubled(resource=figure, speedup=speedup, latency=made.latency, fits=made.fits,
                   binding=str(made.binding), note=note)  # fmt: skip


def _compared(resource: str, shared: Plan, faster: Plan | None) -> Doubled:
    assert faster is not None
    assert shared.step.value
    assert faster.step.value
    note = "" if resource != "capacity" else "fits" if faster.fits else "does not fit even then"
    speedup = float(shared.step.value / faster.step.value)
    return Doubled(resource=resource, speedup=speedup, latency=faster.step, fits=faster.fits,
                   binding=faster.binding, note=note)  # fmt: skip


def _ratio(base: Estimate, made: Estimate) -> float | None:
    if base.latency.value is None or made.latency.value is None:
        return None
    return float(base.latency.value / made.latency.value)


def _batch(model: Model, base: Estimate, shared: Plan | None, devices: int) -> Doubled:
    work = base.workload.but(batch=2 * base.workload.batch)
    if shared is not None:
        made = _shared(model, base.machine, work, devices)
        assert made is not None
        found = _compared("batch", shared, made)
        return replace(found, speedup=made.tokens_per_s / shared.tokens_per_s, note="tokens a second")
    try:
        graph = graph_at(model, work, base.count.graph, base.workload)
        made = predict(graph, base.machine, work, model=base.model, runtime=base.runtime)
    except PharosError as error:
        return Doubled(resource="batch", speedup=None, note=str(error))
    ratio = _ratio(base, made)
    note = "samples a second; " + (
        "fits" if made.fits else "does not fit" if made.fits is False else "may fit"
    )
    return Doubled(resource="batch", speedup=None if ratio is None else 2 * ratio, latency=made.latency,
                   fits=made.fits, binding=str(made.binding), note=note)  # fmt: skip


def _helpful(base: Estimate, doubled: Sequence[Doubled], shared: Plan | None) -> tuple[str, str]:
    """The figure of the machine to double, with the reason."""
    by_name = {d.resource: d for d in doubled}
    if base.fits is False and shared is None:
        return "capacity", f"{by_name['capacity'].note}; nothing else matters before"
    known = [d for d in doubled if d.speedup is not None and d.resource != "batch"]
    if not known:
        return "", "unknown: " + (base.latency.evidence[0].where if base.latency.evidence else "no latency")
    best = max(known, key=lambda d: d.speedup or 0.0)
    binding = str(shared.binding if shared is not None else base.binding)
    capped = ""
    if binding == "power":
        capped = f"; power binds: a cap holds the clock at {float(base.clock):.0%}, a higher one helps first"
    if (best.speedup or 0.0) >= HELPS:
        return best.resource, f"twice the {best.resource} makes a step {best.speedup:.3g}x as fast{capped}"
    batch = by_name["batch"].speedup
    told = f"no figure of the machine helps by {HELPS - 1:.0%}: {binding} binds{capped}"
    if batch and batch >= HELPS:
        told += f"; twice the batch gives {batch:.3g}x the samples a second"
    return "", told


def _distance(one: Machine, other: Machine, dtype: str) -> float | None:
    """How many doublings peak and bandwidth lie apart, as far as both are known."""
    pairs = (
        (rate_of(one, dtype).ops_per_s, rate_of(other, dtype).ops_per_s),
        (one.bandwidth_bytes_per_s.value, other.bandwidth_bytes_per_s.value),
    )
    known = [abs(log2(b / a)) for a, b in pairs if a and b]
    return sum(known) if known else None


def _flips(base: Estimate, shared: Plan | None, model: Model, devices: int) -> Flip | None:
    """The nearest machine of the catalogue, of the same kind first, on which another resource binds."""
    dtype, own = compute_dtype(base.workload.precision), base.machine
    binding = shared.binding if shared is not None else str(base.binding)
    found = []
    for name in machine_names():
        other = find_machine(name)
        apart = _distance(own, other, dtype)
        if name != own.id and apart is not None:
            found.append((other.kind != own.kind, apart, name, other))
    for _, _, _, other in sorted(found, key=lambda f: f[:3])[:MOST]:
        try:
            if shared is not None:
                made = _shared(model, other, base.workload, devices)
                assert made is not None
                flip = Flip(machine=other, binding=made.binding, latency=made.step)
            else:
                runtime = base.runtime if other.kind == own.kind else None
                one = predict(base.count.graph, other, base.workload, model=base.model, runtime=runtime)
                flip = Flip(machine=other, binding=str(one.binding), latency=one.latency)
        except PharosError:
            continue
        if flip.latency.value is not None and flip.binding != binding:
            return flip
    return None


def evidence(found: Why) -> tuple[Evidence, ...]:
    """What the answer rests on."""
    return found.base.evidence if found.plan is None else found.plan.evidence
