"""Throughput ceiling: how many times over a machine could serve a demand if only operations counted."""

from pharos.book.study import FlopRate, PerSecond, study
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, assumed, counted, spec
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("throughput-ceiling", "Does a demand fit a machine's rate of operations?", section="1.10")
def throughput_ceiling(
    *,
    model: str = "resnet50",
    rate: PerSecond = 30.0,
    peak: FlopRate = 10e12,
    utilisation: float = 0.5,
    on: str = "",
    precision: str = "fp32",
) -> Told:
    """Operations asked for a second against peak x utilisation: a bound, before any memory is looked at.

    Args:
        rate: samples a second. peak: of the machine, FLOP/s; `on` takes the catalogue's instead.
        utilisation: share of the peak that is reached, as assumed.
    """
    if not 0 < utilisation <= 1:
        raise InputError("a utilisation lies between 0 and 1", where="utilisation")
    found = count(find(model).graph(Workload(precision=precision)))  # type: ignore[arg-type]
    known: Evidence = spec("peak as given")
    if on:
        told = find_machine(on).peak(precision)
        if told.value is None:
            raise InputError(f"the {precision} peak of {on} is not known", where="on")
        peak, known = told.value, told.evidence
    asked, usable = 2 * float(found.macs) * rate, peak * utilisation
    headroom = usable / asked
    fits = "fits" if headroom >= 1 else "does not fit"
    rows = tuple((u, peak * u, peak * u / asked, peak * u / asked * 2) for u in (0.3, 0.5, 0.6, 0.8, 1.0))
    return Told(
        answer=f"{fits}: {fmt(asked, 'FLOP/s')} asked, {fmt(usable, 'FLOP/s')} usable, "
        f"{headroom:.3g} times as much",
        numbers={"asked_flops_per_s": asked, "usable_flops_per_s": usable, "headroom": headroom},
        reasons=(
            f"{fmt(found.macs, 'MAC')} a sample are {fmt(2 * found.macs, 'FLOP')}: MACs read as FLOPs would "
            "double the headroom",
            "bytes and launches come on top: `pharos predict` tells the latency",
        ),
        columns=("utilisation", "usable_flops_per_s", "headroom", "headroom_if_macs_were_flops"),
        rows=rows,
        evidence=(counted("operations"), known, assumed(f"{utilisation:.0%} of the peak reached")),
    )
