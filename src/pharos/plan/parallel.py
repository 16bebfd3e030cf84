"""Parallel plans: a model laid over many devices, one plan, the best of all legal ones, and how it scales."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.models.registry import Model
from pharos.passes.training import OPTIMIZERS
from pharos.plan.footprint import Footprint, footprint
from pharos.plan.layout import Layout, Layouts, check, every_layout
from pharos.plan.parts import Parts, read_parts
from pharos.plan.step import OVERLAP, Steps, steps
from pharos.plan.topology import Topology
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Evidence, Figure, banded, merge

TRAIN = "train"
PHASES = (TRAIN, "prefill", "decode")
ATTENTION = ("tiled", "materialised")
# Assumed: gaps between blocks of a caching allocator take 2 to 10% in public reports of training.
RESERVE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked of all devices together in one step.

    Args:
        phase: "train", "prefill" or "decode". batch: sequences, over all devices.
        context: tokens of a sequence; the model's own default where None.
        attention: "tiled", or "materialised" where the framework stores its scores.
        optimizer: a key of `passes.training.OPTIMIZERS`.
        overlap: share of the data-parallel traffic that the backward pass may hide.
        reserve: share of a device's memory that stays free, for what an allocator cannot use (assumed).
    """

    model: Model
    phase: str = TRAIN
    batch: int = 1
    context: int | None = None
    precision: str = "bf16"
    attention: str = "tiled"
    optimizer: str = "adamw"
    overlap: float = OVERLAP
    reserve: float = RESERVE

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise unknown("phase", self.phase, PHASES)
        if self.attention not in ATTENTION:
            raise unknown("attention", self.attention, ATTENTION)
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        if not 0 <= self.overlap <= 1:
            raise InputError(
                f"an overlap of {self.overlap} is none; it is a share from 0 to 1", where="--overlap"
            )

    @property
    def trains(self) -> bool:
        """Whether gradients are taken."""
        return self.phase == TRAIN

    @property
    def workload(self) -> Workload:
        """One sequence of it."""
        phase = "forward" if self.trains else self.phase
        return Workload(phase=phase, context=self.context, precision=self.precision)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One kind of traffic of a plan: a collective over `devices`, `calls` times in a step.

    Args:
        sent_bytes: that leave a device in a step. exposed_s: of its seconds, what nothing hides.
    """

    what: str
    collective: str
    devices: int
    size_bytes: float
    calls: float
    sent_bytes: float
    seconds: float
    exposed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A layout with what it costs.

    Args:
        step: seconds of one step.
        shares: seconds of it that go to compute, memory-bandwidth, overhead, network
            and sequential-dependency (the pipeline filling and draining).
        memory: bytes by kind on the device that holds most. fits: None where the capacity is unknown.
        bubble: share of the pipeline's time. mfu, hfu: FLOPs of the model, and of the device with what runs
            again, over the dense peak; None where the peak is unknown.
        tried, fitting: layouts that a search weighed, and those that fit.
    """

    job: Job
    machine: Machine
    topology: Topology
    layout: Layout
    step: Figure
    tokens_per_s: float
    shares: dict[str, float]
    binding: str
    memory: dict[str, float]
    fits: bool | None
    bubble: float
    micro_batches: int
    mfu: float | None
    hfu: float | None
    traffic: tuple[Sending, ...] = ()
    tried: int = 1
    fitting: int = 1
    others: tuple["Plan", ...] = field(default_factory=tuple)

    @property
    def memory_bytes(self) -> float:
        """All of it."""
        return sum(self.memory.values())

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What the time rests on."""
        return self.step.evidence


def plan(job: Job, machine: Machine, topology: Topology, layout: Layout) -> Plan:
    """Costs one layout.

    Raises:
        InputError: a layout that the model, the batch or the devices do not allow, with the nearest.
    """
    parts = read_parts(job.model, job.workload, job.attention)
    check(layout, parts, job.batch, topology.per_node, job.trains)
    if layout.devices != topology.devices:
        rest = layout.tensor * layout.pipeline * layout.context
        near = max(1, topology.devices // rest)
        both = f"{rest * near} or {rest * (near + 1)} devices"
        raise InputError(
            f"{layout} is {layout.devices} devices, not {topology.devices}", where="--devices",
            hint=f"--dp {near}" if near * rest == topology.devices else both,
        )  # fmt: skip
    columns = Layouts.of([layout])
    timed, held = _costs(job, machine, topology, parts, columns)
    return _plan(job, machine, topology, parts, columns, timed, held, 0)


def search(
    job: Job, machine: Machine, topology: Topology, fixed: dict[str, Any] | None = None, keep: int = 5
) -> Plan:
    """The fastest layout that fits, of all legal ones; where none fits, the one that holds least.

    Args:
        fixed: fields of `Layout` that are given. keep: further plans in `others`, next best first.

    Raises:
        InputError: no layout is legal.
    """
    parts = read_parts(job.model, job.workload, job.attention)
    columns = every_layout(parts, topology.devices, job.batch, topology.per_node, job.trains, fixed)
    if not len(columns):
        given = ", ".join(f"{k} {v}" for k, v in (fixed or {}).items() if v is not None)
        raise InputError(
            f"no legal layout of {parts.name} over {topology.devices} devices takes a batch of {job.batch}"
            + (f" with {given}" if given else ""),
            hint=f"a batch that {topology.devices} or a divisor of it divides, such as "
            f"{max(1, round(job.batch / topology.devices)) * topology.devices}",
        )  # fmt: skip
    timed, held = _costs(job, machine, topology, parts, columns)
    capacity = _room(job, machine)
    fits = held.total <= capacity if capacity else np.ones(len(columns), bool)
    order = np.argsort(np.where(fits, timed.seconds, np.inf)) if fits.any() else np.argsort(held.total)
    order = order[: keep + 1]
    if fits.any():
        order = [i for i in order if fits[i]]
    found = [_plan(job, machine, topology, parts, columns, timed, held, int(i)) for i in order]
    return replace(found[0], tried=len(columns), fitting=int(fits.sum()), others=tuple(found[1:]))


def _room(job: Job, machine: Machine) -> float | None:
    """Bytes of a device that a plan may fill."""
    capacity = machine.capacity_bytes.value
    return None if capacity is None else capacity * (1 - job.reserve)


def _costs(
    job: Job, machine: Machine, topology: Topology, parts: Parts, columns: Layouts
) -> tuple[Steps, Footprint]:
    width = parts.bytes_per_weight
    state = 4.0 * float(OPTIMIZERS[job.optimizer].state((1,)))
    # a gradient read; weight, its fp32 copy and the optimiser's state read and written
    moved = width + 2 * (width + (4.0 if width < 4 else 0.0)) + 2 * state
    work = job.workload
    timed = steps(
        parts, machine, topology, columns, job.batch, work.precision, phase=work.phase, trains=job.trains,
        optimizer_bytes=moved, overlap=job.overlap,
    )  # fmt: skip
    held = footprint(parts, columns, timed.micro_batches, job.trains, job.optimizer, machine.kind == "gpu")
    return timed, held


def _plan(
    job: Job, machine: Machine, topology: Topology, parts: Parts, columns: Layouts, timed: Steps,
    held: Footprint, i: int,
) -> Plan:  # fmt: skip
    def at(column: Any) -> float:
        return float(np.broadcast_to(column, len(columns))[i])

    layout, seconds = columns.at(i), at(timed.seconds)
    memory = {
        k: at(getattr(held, k))
        for k in ("weights", "gradients", "optimizer", "activations", "kv_cache", "buffers")
    }
    shares = {
        "compute": at(timed.compute), "memory-bandwidth": at(timed.memory) + at(timed.update),
        "overhead": at(timed.overhead), "network": at(timed.network),
        "sequential-dependency": at(timed.bubble),
    }  # fmt: skip
    capacity = _room(job, machine)
    fits = None if capacity is None else sum(memory.values()) <= capacity
    peak = rate_of(machine, compute_dtype(job.workload.precision)).ops_per_s
    whole = seconds * topology.devices * peak if peak else None
    tokens = job.batch * (1 if job.phase == "decode" else parts.tokens)
    used = [t for t in timed.traffic if at(t.seconds) > 0]
    evidence = merge((*timed.evidence, *(e for t in used for e in t.evidence)))
    traffic = tuple(
        Sending(
            what=t.what, collective=t.name, devices=int(at(t.group)), size_bytes=at(t.size),
            calls=at(t.calls), sent_bytes=at(t.sent), seconds=at(t.seconds), exposed_s=at(t.exposed),
        )
        for t in used
    )  # fmt: skip
    return Plan(
        job=job, machine=machine, topology=topology, layout=layout,
        step=banded(seconds, "s", at(timed.error), evidence), tokens_per_s=tokens / seconds, shares=shares,
        binding="memory-capacity" if fits is False else max(shares, key=lambda k: shares[k]), memory=memory,
        fits=fits, bubble=at(timed.bubble_share), micro_batches=int(at(timed.micro_batches)),
        mfu=at(timed.flops) / whole if whole else None, hfu=at(timed.executed) / whole if whole else None,
        traffic=traffic,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The best plan at one number of devices.

    Args:
        efficiency: tokens/s of a device over those at the fewest devices of the curve.
    """

    devices: int
    batch: int
    plan: Plan
    efficiency: float


def scaling(
    job: Job, machine: Machine, topology: Topology, counts: Sequence[int], *, weak: bool = False,
    fixed: dict[str, Any] | None = None,
) -> list[Scaling]:  # fmt: skip
    """The best plan at each number of devices; those that nothing fits on or that fill no nodes are left out.

    Args:
        topology: whose links and nodes are used. weak: the batch grows with the devices, `job.batch` at the
            most of them; strong: it stays.
    """
    found: list[Scaling] = []
    most = max(counts)
    for n in sorted(counts):
        batch = max(1, job.batch * n // most) if weak else job.batch
        try:
            here = replace(topology, devices=n)
            best = search(replace(job, batch=batch), machine, here, fixed, keep=0)
        except InputError:
            continue
        if best.fits is False:
            continue
        each = best.tokens_per_s / n
        first = found[0].plan.tokens_per_s / found[0].devices if found else each
        found.append(Scaling(devices=n, batch=batch, plan=best, efficiency=each / first))
    return found


def crossover(curve: Sequence[Scaling]) -> int | None:
    """The fewest devices of a curve at which the network takes longer than arithmetic; None where never."""
    for point in curve:
        if point.plan.shares["network"] > point.plan.shares["compute"]:
            return point.devices
    return None


def least_devices(
    job: Job, machine: Machine, topology: Topology, fixed: dict[str, Any] | None = None, most: int = 65536
) -> int | None:
    """The fewest devices, doubling, on which some layout fits; None up to `most`."""
    n = topology.devices
    while n <= most:
        try:
            if search(job, machine, replace(topology, devices=n), fixed, keep=0).fits is not False:
                return n
        except InputError:
            pass
        n *= 2
    return None
