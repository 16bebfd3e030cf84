"""Replicas: how many copies of a service a demand takes, and what slower or costlier ones do to the bill."""

from math import ceil

from pharos.book.study import PerSecond, study
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.predict.estimate import predict
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import assumed, spec
from pharos.report.studies import Told


@study(
    "replicas", "How many replicas serve a demand, and what does a drop in throughput cost?", section="1.10"
)
def replicas(
    *,
    model: str = "resnet50",
    on: str = "a100-sxm-80gb",
    batch: int = 8,
    precision: str = "fp16",
    demand: PerSecond = 10_000.0,
    utilisation: float = 0.7,
    drop: float = 3.0,
    price_per_hour: float = 0.0,
) -> Told:
    """ceil(demand / (throughput x utilisation)), by the central prediction and by the ends of its band.

    Args:
        demand: samples a second. utilisation: share of the time that a replica may be busy.
        drop: how many times slower the other case is. price_per_hour: of one machine in USD; by
            default the catalogue's, where it has one.
    """
    if not 0 < utilisation <= 1 or drop <= 0:
        raise InputError("a utilisation lies between 0 and 1, a drop above 0", where="utilisation")
    machine = find_machine(on)
    work = Workload(batch=batch, precision=precision)  # type: ignore[arg-type]
    found = predict(find(model).graph(work), machine, work, model=model)
    latency = found.latency
    if latency.value is None:
        raise InputError(f"the latency of {model} on {machine.id} is not known", where="on")
    price = price_per_hour or (machine.rent_usd_per_hour.value or 0.0)
    rent = spec("price as given") if price_per_hour else machine.rent_usd_per_hour.evidence
    rows = []
    for name, seconds in (
        ("as predicted", latency.value),
        ("low end of the band", latency.low),
        ("high end of the band", latency.high),
        (f"{drop:g} times slower", drop * latency.value),
    ):
        rate = batch / float(seconds or latency.value)
        need = max(1, ceil(demand / (rate * utilisation)))
        rows.append((name, rate, need, need * price if price else None))
    return Told(
        answer=f"{rows[0][2]:,} replicas for {demand:,.0f} samples/s; "
        f"{rows[3][2]:,} if each is {drop:g} times slower",
        numbers={
            "throughput_per_s": rows[0][1],
            "replicas": rows[0][2],
            "replicas_low": rows[1][2],
            "replicas_high": rows[2][2],
            "replicas_after_drop": rows[3][2],
            "price_usd_per_hour": rows[0][3],
        },
        reasons=(
            f"one replica gives {rows[0][1]:,.0f} samples/s and may be busy {utilisation:.0%} of the time",
            "replicas grow as throughput falls: a share of a machine cannot be rented",
        ),
        columns=("case", "samples_per_s", "replicas", "usd_per_hour"),
        rows=tuple(rows),
        evidence=(*latency.evidence, rent, assumed(f"busy {utilisation:.0%} of the time at most")),
    )
