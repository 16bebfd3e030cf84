"""Efficiency of products: the share of a peak that small and skinny products are predicted to reach."""

from typing import Any

from pharos.book.study import study
from pharos.book.sums import chain
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.ops.linear import Linear
from pharos.predict.estimate import Estimate, predict
from pharos.predict.kernel import compute_dtype
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence
from pharos.report.drawing import Figure
from pharos.report.studies import Told

SQUARES = (128, 256, 512, 1024, 2048, 4096, 8192)
ROWS = (1, 4, 16, 64, 256, 1024, 4096)


@study("gemm-efficiency", "Which share of its peak does a machine reach in a small product?", section="1.2")
def gemm_efficiency(
    *,
    rows: int = 32,
    inputs: int = 784,
    outputs: int = 100,
    square: int = 4096,
    precision: str = "fp16",
    on: str = "a100-sxm-80gb",
) -> Told:
    """A product of [rows, inputs] with [inputs, outputs] against a square one, as predicted.

    Args:
        square: side of the large product that it is held against.
    """
    machine = find_machine(on)
    dtype = compute_dtype(Workload(precision=precision).precision)  # type: ignore[arg-type]
    peak = machine.peak(dtype).value
    if peak is None:
        raise InputError(f"the {dtype} peak of {machine.id} is not known", where="on")
    wanted = [("asked", rows, inputs, outputs), ("square", square, square, square)]
    wanted += [("square", n, n, n) for n in SQUARES if n != square]
    wanted += [("rows", m, inputs, outputs) for m in ROWS if m != rows]
    table, evidence = [], list[Evidence]()
    for kind, m, k, n in wanted:
        found = _predicted(m, k, n, machine, precision)
        if found.latency.value is None:
            raise InputError(f"a product on {machine.id} in {precision} is not known", where="on")
        time, ideal = found.operations[0].time, 2 * m * k * n / peak
        assert time is not None
        alone, call = float(time.latency_s - time.overhead_s), float(found.latency.value)
        table.append((kind, m, k, n, call, ideal / alone, ideal / call, str(found.binding)))
        evidence += found.latency.evidence
    mine, large = table[0], table[1]
    return Told(
        answer=f"{rows} x {inputs} x {outputs} reaches {mine[5]:.2g} of the {dtype} peak of {machine.id}, "
        f"{square} x {square} x {square} {large[5]:.2g}: {large[5] / mine[5]:,.3g} times as much; "
        f"with its launch it reaches {mine[6]:.2g}",
        numbers={
            "utilisation": mine[5],
            "square_utilisation": large[5],
            "ratio": large[5] / mine[5],
            "utilisation_of_a_call": mine[6],
            "latency_s": mine[4],
            "binding": mine[7],
        },
        reasons=(
            f"the small product is bound by {mine[7]}, the large one by {large[7]}",
            "a tile that a product does not fill is computed all the same, and a launch takes its time",
        ),
        columns=("of", "rows", "inputs", "outputs", "seconds", "utilisation", "of_a_call"),
        rows=tuple(r[:7] for r in sorted(table, key=lambda r: (r[0], r[1] * r[2] * r[3]))),
        evidence=tuple(evidence),
        note="seconds: of a call, its launch included; utilisation: of the kernel alone",
        figure=_figure(table, machine.id, f"{inputs} x {outputs}"),
    )


def _predicted(m: int, k: int, n: int, machine: Machine, precision: str) -> Estimate:
    work = Workload(batch=m, precision=precision)  # type: ignore[arg-type]
    return predict(chain((m, k), Linear(k, n, False), precision=precision), machine, work)


def _figure(table: list[tuple[Any, ...]], machine: str, layer: str) -> Figure:
    values = [
        {"MACs": r[1] * r[2] * r[3], "utilisation": r[5], "product": "square" if r[0] == "square" else layer}
        for r in table
    ]
    scale = {"type": "quantitative", "scale": {"type": "log"}}
    best = max(v["utilisation"] for v in values)
    return Figure(
        name="gemm-efficiency",
        title=f"Share of the peak that products reach on {machine}",
        alt=f"Utilisation by MACs, for square products and for rows times {layer}; at most {best:.2f}.",
        spec={
            "data": {"values": values},
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": {"field": "MACs", **scale, "axis": {"format": "~s", "tickCount": 8}},
                "y": {"field": "utilisation", **scale, "axis": {"tickCount": 5}},
                "color": {"field": "product", "type": "nominal"},
                "shape": {"field": "product", "type": "nominal", "legend": None},
            },
        },
        source="predicted, kernels alone",
    )
