"""Crossover batch: from how many samples on a dense layer is bound by compute, not by its weights' bytes."""

from pharos.book.study import study
from pharos.book.sums import dense, per_byte
from pharos.machines.machine import find_machine
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, counted
from pharos.report.drawing import Figure
from pharos.report.studies import Told

# A layer that has not reached the ridge at this batch never will: its intensity is at its limit.
LARGEST = 1 << 24


@study("crossover-batch", "From which batch on is a dense layer bound by compute?", section="1.2")
def crossover_batch(
    *, inputs: int = 2048, outputs: int = 2048, precision: str = "fp16", on: str = "a100-sxm-80gb"
) -> Told:
    """The smallest batch whose FLOP per byte reaches the machine's ridge point; every tensor moved once."""
    machine = find_machine(on)
    ridge = machine.ridge_point(precision)
    if ridge is None:
        raise InputError(f"{machine.id} has no known peak or bandwidth for {precision}", where="on")

    def intensity(batch: int) -> float:
        return per_byte(dense(inputs, outputs, batch, precision))

    limit = intensity(LARGEST)
    batches = [1 << i for i in range(13)]
    rows = tuple((b, intensity(b), min(1.0, intensity(b) / ridge)) for b in batches)
    evidence: tuple[Evidence, ...] = (
        counted("FLOPs and bytes of the layer"),
        machine.peak(precision).evidence,
        machine.bandwidth_bytes_per_s.evidence,
    )
    numbers = {
        "ridge_point": ridge,
        "intensity_at_batch_1": intensity(1),
        "intensity_limit": limit,
        "batch": None,
    }
    if limit < ridge:
        answer = (
            f"never: {inputs} x {outputs} in {precision} stays below {limit:.4g} FLOP/B, and {machine.id} "
            f"needs {ridge:.4g}"
        )
    else:
        low, high = 1, LARGEST
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if intensity(middle) >= ridge else (middle + 1, high)
        numbers["batch"] = low
        layer = f"{inputs} x {outputs} in {precision}"
        answer = f"from batch {low} on {layer} reaches the {ridge:.4g} FLOP/B of {machine.id}"
    return Told(
        answer=answer,
        numbers=numbers,
        reasons=(
            "at batch 1 every weight is fetched for one multiplication; each sample more uses it again",
            f"with any batch, inputs and outputs move too: at most {limit:.4g} FLOP/B",
        ),
        columns=("batch", "flops_per_byte", "share_of_peak"),
        rows=rows,
        evidence=evidence,
        note="share_of_peak: the roofline's bound, which no kernel passes",
        figure=_figure(rows, ridge, machine.id, f"{inputs} x {outputs}, {precision}"),
    )


def _figure(rows: tuple[tuple[int, float, float], ...], ridge: float, machine: str, layer: str) -> Figure:
    values = [{"batch": b, "FLOP/B": i} for b, i, _ in rows]
    axis = {"scale": {"type": "log"}, "type": "quantitative"}
    line = {
        "data": {"values": values},
        "mark": {"type": "line", "point": True},
        "encoding": {"x": {"field": "batch", **axis}, "y": {"field": "FLOP/B", **axis}},
    }
    rule = {
        "data": {"values": [{"FLOP/B": ridge, "what": f"ridge point of {machine}"}]},
        "encoding": {"y": {"field": "FLOP/B", **axis}},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 4]}},
            {
                "mark": {"type": "text", "align": "left", "dy": -6, "x": 4},
                "encoding": {"text": {"field": "what"}},
            },
        ],
    }
    return Figure(
        name="crossover-batch",
        title=f"A dense layer's intensity by batch: {layer}",
        alt=f"FLOP per byte rises with the batch from {rows[0][1]:.3g} to {rows[-1][1]:.4g}; the ridge is "
        f"{ridge:.4g}.",
        spec={"layer": [line, rule]},
        source="counted; ridge point by the catalogue",
    )
