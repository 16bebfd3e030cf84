"""Energy: dynamic energy per operation and per byte, plus constant power over time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pharos.machines.machine import Machine
from pharos.machines.profile import Profile
from pharos.predict.kernel import compute_dtype
from pharos.quantity.dtypes import Precision
from pharos.quantity.evidence import Figure, assumed, banded, unknown_figure
from pharos.quantity.sizes import Size, minimum

if TYPE_CHECKING:
    from pharos.predict.estimate import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules of one step by cause.

    Args:
        compute_J: arithmetic; data_J: bytes to and from memory; static_J: constant power x time.
    """

    compute_J: Size
    data_J: Size
    static_J: Size
    error: float


@dataclass(frozen=True, slots=True)
class Result:
    """The figure and its parts; parts are None when unknown."""

    figure: Figure
    parts: Energy | None


def energy_of(
    operations: "tuple[Operation, ...]", latency: Size, machine: Machine, profile: Profile,
    precision: Precision,
) -> Result:  # fmt: skip
    """E = flops x e_op + bytes x e_byte + constant power x time, at most max power x time.

    The form and the board-level constants: Antepara et al., SC 2025 (see the profile's source).
    """
    model = profile.energy
    if model is None:
        return Result(
            unknown_figure("J", f"energy per operation of {machine.id} is not in the catalogue"), None
        )
    idle = machine.idle_W.value if machine.idle_W else model.constant_W
    if idle is None:
        return Result(unknown_figure("J", f"idle power of {machine.id} is not in the catalogue"), None)
    dtype = compute_dtype(precision)
    per_flop = model.compute_J_per_flop.get(dtype)
    error, evidence = model.error, [model.evidence]
    if per_flop is None:
        per_flop = model.compute_J_per_flop["fp16"]
        error = (error**2 + 0.5**2) ** 0.5
        evidence.append(assumed(f"energy of a {dtype} operation taken as that of fp16", 0.5))
    compute: Size = 0.0
    data: Size = 0.0
    for op in operations:
        if op.time is None:
            continue
        work = op.kernel.work
        compute = compute + op.kernel.times * per_flop * (
            2 * (work.macs - work.masked_macs) + work.vector_flops
        )
        data = data + op.kernel.times * op.time.traffic_bytes * model.data_J_per_byte
    static = idle * latency
    total = compute + data + static
    if machine.max_W:
        total = minimum(total, machine.max_W.value * latency)
    figure = banded(
        total, "J", error, [*evidence, machine.idle_W.evidence if machine.idle_W else model.evidence]
    )
    return Result(figure, Energy(compute_J=compute, data_J=data, static_J=static, error=error))
