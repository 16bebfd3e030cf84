"""Energy: what operations and bytes cost by type and memory level, plus constant power over time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pharos.machines.machine import Machine
from pharos.machines.profile import Profile
from pharos.predict.clock import limit_of, voltage
from pharos.predict.kernel import TRANSCENDENTAL_FLOPS, compute_dtype
from pharos.predict.prices import Prices, prices_of
from pharos.quantity.dtypes import Precision
from pharos.quantity.evidence import Evidence, Figure, banded, unknown_because, unknown_figure
from pharos.quantity.sizes import Size, is_array, minimum

if TYPE_CHECKING:
    from pharos.predict.estimate import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules by cause, of one step or of one kernel over all its runs.

    Args:
        compute_J: arithmetic; data_J: bytes to and from memory and cache; static_J: constant power x time.
        clock: fraction of the clock that a power cap leaves; 1 without one.
    """

    compute_J: Size
    data_J: Size
    static_J: Size
    error: float
    clock: Size = 1.0

    @property
    def total_J(self) -> Size:  # noqa: N802 (SI unit)
        """All of it."""
        return self.compute_J + self.data_J + self.static_J


@dataclass(frozen=True, slots=True)
class Result:
    """The figure and its parts; parts are None when unknown.

    Args:
        operations: of each kernel, in their order.
    """

    figure: Figure
    parts: Energy | None
    operations: "tuple[Energy | None, ...]" = ()


def static_of(machine: Machine, prices: Prices) -> tuple[float | None, Evidence]:
    """Watts that are drawn whatever runs, while it runs: the fit's constant, else the idle power."""
    if prices.constant_W is not None:
        return prices.constant_W, prices.evidence[0]
    if machine.idle_W:
        return machine.idle_W.value, machine.idle_W.evidence
    return None, unknown_because(f"idle power of {machine.id} is not in the catalogue")


def energy_of(
    operations: "Sequence[Operation]", latency: Size, machine: Machine, profile: Profile,
    precision: Precision, clock: Size = 1.0,
) -> Result:  # fmt: skip
    """E = MACs x e_mac + other operations x e_op + bytes x e_level + constant power x time.

    The power that follows stays below the machine's limit. At the board the form and its constants are those
    of Antepara et al., SC 2025, or of a fit to the board; without either they are built up from circuits.

    Args:
        clock: fraction of the clock that a power cap leaves.
    """
    prices = prices_of(machine, profile, compute_dtype(precision))
    static = static_of(machine, prices)[0]
    if static is None and prices.level == "board":
        return Result(unknown_figure("J", f"idle power of {machine.id} is not in the catalogue"), None)
    each = tuple(dynamic(op, machine, prices, static or 0.0, clock) for op in operations)
    compute = sum((e.compute_J for e in each if e), start=0.0)
    data = sum((e.data_J for e in each if e), start=0.0)
    figure, parts, share = in_all(compute, data, latency, machine, prices, clock)
    return Result(figure, parts, each if share is None else tuple(e and _scaled(e, share) for e in each))


def in_all(
    compute: Size, data: Size, latency: Size, machine: Machine, prices: Prices, clock: Size = 1.0
) -> tuple[Figure, Energy, Size | None]:
    """The figure and the parts of a step from its joules of arithmetic and of bytes; the share that the
    machine's limit of power leaves of them, None where it has none.
    """
    static, known = static_of(machine, prices)
    rest = (static or 0.0) * latency
    total = compute + data + rest
    evidence = [*prices.evidence]
    if static is not None and known not in evidence:
        evidence.append(known)
    error = prices.error
    share = None
    most = limit_of(machine, clock)
    if most is not None:
        limit = most * latency
        share = minimum(limit / total, 1.0) if is_array(total) or total else 1.0
        compute, data, rest = compute * share, data * share, rest * share
        total = minimum(total, limit)
    parts = Energy(compute_J=compute, data_J=data, static_J=rest, error=error, clock=clock)
    figure = banded(total, "J", error, evidence)
    if prices.level == "device" and static is not None:
        # what the board draws when idle is known: only the rest is as wide as the tables
        moving = banded(compute + data, "J", error, evidence)
        figure = replace(figure, low=rest + moving.low, high=rest + moving.high)
    return figure, parts, share


def _scaled(energy: Energy, share: Size) -> Energy:
    return Energy(compute_J=energy.compute_J * share, data_J=energy.data_J * share,
                  static_J=energy.static_J * share, error=energy.error, clock=energy.clock)  # fmt: skip


def dynamic(
    op: "Operation",
    machine: Machine,
    prices: Prices,
    static_W: float,  # noqa: N803
    clock: Size = 1.0,
) -> Energy | None:
    """Joules of one kernel over all its runs; None where its time is unknown."""
    if op.time is None:
        return None
    work, times = op.kernel.work, op.kernel.times
    other = work.vector_flops + TRANSCENDENTAL_FLOPS * work.transcendentals
    compute = prices.mac_J * (work.macs - work.masked_macs) + prices.vector_J * other
    if prices.cycle_J and machine.clock_hz.value:
        cores = machine.cores.value or 1.0
        compute = compute + prices.cycle_J * op.time.compute_s * machine.clock_hz.value * cores
    held = cached(op, machine)
    memory = op.time.traffic_bytes - held
    square = voltage(clock) ** 2
    data = memory * prices.memory_J * (CORE_SHARE * square + 1 - CORE_SHARE) + held * prices.cache_J * square
    return Energy(
        compute_J=times * compute * square, data_J=times * data,
        static_J=times * op.time.latency_s * static_W, error=prices.error, clock=clock,
    )  # fmt: skip


# Of a byte of a GPU's memory, the part that is spent on the chip itself, which its voltage scales: control,
# of 13.1 pJ a bit of the A100 (Antepara et al., SC 2025).
CORE_SHARE = 8.47 / 13.11


def cached(op: "Operation", machine: Machine) -> Size:
    """Bytes of a kernel's activations that stay in the last cache: all of them, if they fit into half of it.

    Weights are read once a step and come from memory; so does a cache of keys and values.
    """
    room = machine.cache_bytes.value
    if not room:
        return 0.0
    moved = op.kernel.traffic
    active = moved.inputs + moved.outputs + moved.workspace
    if is_array(active):
        return active * (active <= room / 2)
    return active if active <= room / 2 else 0.0
