"""Compression: what each knob that makes a network smaller does to bytes, MACs, intensity, fit and energy."""

from typing import Any

from pharos.book.studies.scaling import resized
from pharos.book.study import study
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.models.registry import find
from pharos.predict.estimate import Estimate, predict
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, assumed, counted, weakest
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("compression", "What does each way of making a network smaller save?", section="1.10")
def compression(
    *,
    model: str = "efficientnet_b0",
    precision: str = "fp32",
    precisions: tuple[str, ...] = ("fp16", "int8", "int4"),
    sizes: tuple[str, ...] = ("width", "depth", "resolution"),
    factor: float = 0.5,
    pruned: float = 0.5,
    batch: int = 1,
    context: int = 0,
    phase: str = "forward",
    on: str = "a100-sxm-80gb",
) -> Told:
    """One knob at a time: narrower types, hyperparameters times `factor`, weights left out.

    Args:
        sizes: hyperparameters of the model, or context. pruned: share of the weights left out anywhere:
            they are not stored, but multiplied all the same by units that do not skip zeros.
    """
    if not 0 < factor < 1 or not 0 <= pruned < 1:
        raise InputError("a factor and a share lie between 0 and 1", where="factor, pruned")
    machine = find_machine(on)
    shared: dict[str, Any] = {"batch": batch, "phase": phase}
    given: list[tuple[str, str, str, int]] = [("as it is", model, precision, context)]
    given += [(one, model, one, context) for one in precisions]
    for key in sizes:
        if key == "context":
            if not context:
                raise InputError("a context to be shortened must be given", where="context")
            given.append((f"context x {factor:g}", model, precision, round(context * factor)))
        else:
            given.append((f"{key} x {factor:g}", resized(model, key, factor), precision, context))
    found = {k: _estimate(name, types, n, machine, shared) for k, name, types, n in given}
    base = found["as it is"]
    rows = [_row(knob, one) for knob, one in found.items()]
    if pruned:
        rows.append(_pruned(rows[0], base, pruned))
    stored = rows[0][1]
    best = min(rows[1:], key=lambda r: r[1], default=rows[0])
    return Told(
        answer=f"{model} from {fmt(stored, 'B')} of weights in {precision}: {best[0]} saves most of them, "
        f"{stored / best[1]:.3g}x; "
        + ", ".join(f"{r[0]} {rows[0][2] / r[2]:.3g}x fewer MACs" for r in rows[1:] if r[2] != rows[0][2]),
        numbers={r[0]: dict(zip(COLUMNS[1:], r[1:], strict=True)) for r in rows},
        reasons=(
            "a narrower type divides bytes and leaves MACs: more FLOP a byte; int4 narrows weights alone",
            "fewer channels divide both, weights and MACs, by about the square of the factor",
            "fewer pixels leave the weights as they are; fewer weights anywhere leave the MACs",
        ),
        columns=COLUMNS,
        rows=tuple(rows),
        evidence=_known(base),
        note="intensity: FLOP/B, each tensor of an operator moved once; accuracy is not told: measure it",
    )


COLUMNS = ("knob", "weight_bytes", "macs", "intensity", "fits", "latency_s", "energy_J")


def _estimate(name: str, precision: str, context: int, machine: Machine, shared: dict[str, Any]) -> Estimate:
    work = Workload(precision=precision, context=context or None, **shared)  # type: ignore[arg-type]
    return predict(find(name).graph(work), machine, work, model=name)


def _row(knob: str, one: Estimate) -> tuple[Any, ...]:
    made = one.count
    stored = float(made.weight_bytes + made.buffer_bytes)
    seconds, energy = one.latency.value, one.energy.value
    return (
        knob,
        stored,
        int(made.macs),
        float(made.intensity("per_op") or 0.0),
        one.fits,
        None if seconds is None else float(seconds),
        None if energy is None else float(energy),
    )


def _pruned(row: tuple[Any, ...], base: Estimate, share: float) -> tuple[Any, ...]:
    """Without the weights' bytes that are left out; where the rest lies is told by a bit a weight."""
    kept = row[1] * (1 - share) + float(base.count.parameters) / 8
    moved = float(base.count.traffic_per_op) - row[1] + kept
    return (f"{share:.0%} pruned", kept, row[2], float(base.count.flops) / moved, base.fits, None, None)


def _known(base: Estimate) -> tuple[Evidence, ...]:
    return (
        counted("bytes, MACs and intensity"),
        weakest(base.evidence),
        assumed("pruned weights lie anywhere, a bit of a mask each"),
    )
