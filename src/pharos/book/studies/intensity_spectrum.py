"""Intensity spectrum: FLOP per byte of every layer of a network, early against late, by batch."""

from itertools import pairwise

from pharos.book.study import study
from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import counted
from pharos.report.drawing import Figure
from pharos.report.studies import Told

# Edges of the bins that layers are counted in, FLOP per byte.
EDGES = (0.0, 1.0, 4.0, 16.0, 64.0, 256.0, float("inf"))


@study("intensity-spectrum", "How do the layers of one network differ in FLOP per byte?", section="1.1")
def intensity_spectrum(
    *, model: str = "resnet50", batch: int = 1, precision: str = "fp16", on: str = "a100-sxm-80gb"
) -> Told:
    """Layers with multiplications, each tensor of a layer moved once, at `batch` and at 32 times of it."""
    machine = find_machine(on)
    ridge = machine.ridge_point(precision)
    made = {
        n: _layers(count(find(model).graph(Workload(batch=n, precision=precision))))  # type: ignore[arg-type]
        for n in (batch, 32 * batch)
    }
    here = made[batch]
    if not here:
        raise InputError(f"{model} multiplies nothing", where="model")
    halves = {n: (_mean(rows[: len(rows) // 2]), _mean(rows[len(rows) // 2 :])) for n, rows in made.items()}
    bins = [
        (f"{a:g} to {b:g}", *(sum(a <= i < b for _, i, _ in rows) for rows in made.values()))
        for a, b in pairwise(EDGES)
    ]
    first, last = halves[batch]
    late = "more" if last > first else "fewer"
    told = [i for _, i, _ in here]
    return Told(
        answer=f"{min(told):.3g} to {max(told):.4g} FLOP/B over {len(told)} layers; at batch {batch} late "
        f"ones have {late} than early ones ({last:.3g} against {first:.3g})",
        numbers={
            "least": min(told),
            "most": max(told),
            "early": first,
            "late": last,
            "ridge_point": ridge,
            "early_at_32x": halves[32 * batch][0],
            "late_at_32x": halves[32 * batch][1],
        },
        reasons=(
            "early layers have large maps and few weights, late ones many weights over small maps",
            "a larger batch spreads the weights over more samples, which the late layers gain from",
        ),
        columns=("flops_per_byte", f"layers_at_batch_{batch}", f"layers_at_batch_{32 * batch}"),
        rows=tuple(bins),
        evidence=(counted("operations and bytes of every layer"),),
        note=f"ridge point of {machine.id}: {ridge:.4g} FLOP/B" if ridge else "ridge point unknown",
        figure=_figure(model, made, ridge),
    )


def _layers(found: Count) -> list[tuple[str, float, float]]:
    """(name, FLOP per byte, MACs) of the layers that multiply, in their order; repeated ones once."""
    return [
        (line.name, float(line.work.flops / line.traffic.total), float(line.work.macs))
        for line in found.lines
        if line.work.macs and line.traffic.total
    ]


def _mean(rows: list[tuple[str, float, float]]) -> float:
    """Intensities weighted by MACs."""
    whole = sum(m for _, _, m in rows)
    return sum(i * m for _, i, m in rows) / whole if whole else 0.0


def _figure(model: str, made: dict[int, list[tuple[str, float, float]]], ridge: float | None) -> Figure:
    values = [
        {"layer": k, "name": name, "FLOP/B": i, "batch": str(n)}
        for n, rows in made.items()
        for k, (name, i, _) in enumerate(rows)
    ]
    scale = {"type": "quantitative", "scale": {"type": "log"}}
    points = {
        "data": {"values": values},
        "mark": {"type": "point"},
        "encoding": {
            "x": {"field": "layer", "type": "quantitative", "title": "layer, in order"},
            "y": {"field": "FLOP/B", **scale},
            "color": {"field": "batch", "type": "nominal"},
            "shape": {"field": "batch", "type": "nominal"},
            "tooltip": [{"field": "name"}, {"field": "FLOP/B"}],
        },
    }
    rule = {
        "data": {"values": [{"FLOP/B": ridge}] if ridge else []},
        "mark": {"type": "rule", "strokeDash": [4, 4]},
        "encoding": {"y": {"field": "FLOP/B", **scale}},
    }
    ends = {n: [i for _, i, _ in rows] for n, rows in made.items()}
    spans = "; ".join(f"batch {n}: {min(e):.3g} to {max(e):.4g}" for n, e in ends.items())
    return Figure(
        name="intensity-spectrum",
        title=f"FLOP per byte of every layer of {model}",
        spec={"layer": [points, rule]},
        alt=f"FLOP per byte by layer. {spans}.",
        source="counted; the dashed line is the machine's ridge point",
    )
