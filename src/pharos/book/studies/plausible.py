"""Plausible: whether a reported time or rate is one that the machine's roofline allows."""

from pharos.book.study import PerSecond, Seconds, study
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("plausible", "Can a reported latency or throughput be true on this machine?", section="1.11")
def plausible(
    *,
    model: str = "gpt2-xl",
    on: str = "a100-sxm-80gb",
    phase: str = "decode",
    batch: int = 1,
    context: int = 1024,
    precision: str = "fp16",
    latency: Seconds = 0.0,
    throughput: PerSecond = 0.0,
) -> Told:
    """The least time that peak and bandwidth allow, against what is said; without a claim, that bound.

    Args:
        throughput: samples, or tokens while decoding, a second. latency: seconds of one call.
    """
    machine = find_machine(on)
    work = Workload(phase=phase, batch=batch, context=context, precision=precision)  # type: ignore[arg-type]
    found = count(find(model).graph(work))
    peak, rate = machine.peak(precision), machine.bandwidth_bytes_per_s
    if peak.value is None or rate.value is None:
        raise InputError(f"{machine.id} has no known peak or bandwidth for {precision}", where="on")
    compute, data = 2 * float(found.macs) / peak.value, float(found.traffic_ideal) / rate.value
    bound = max(compute, data)
    said = latency or (batch / throughput if throughput else 0.0)
    binds = "bandwidth" if data > compute else "compute"
    numbers = {
        "bound_s": bound,
        "compute_s": compute,
        "data_s": data,
        "most_per_s": batch / bound,
        "said_s": said or None,
        "possible": None,
        "share_of_bound": None,
    }
    if not said:
        most = f"{binds} allows at most {batch / bound:,.4g} a second"
        answer = f"nothing below {fmt(bound, 's')} can be true: {most}"
    else:
        numbers |= {"possible": said >= bound, "share_of_bound": bound / said}
        verdict = "can be true" if said >= bound else "cannot be true"
        answer = f"{fmt(said, 's')} {verdict}: {binds} allows no less than {fmt(bound, 's')}"
    return Told(
        answer=answer,
        numbers=numbers,
        reasons=(
            f"{fmt(2 * float(found.macs), 'FLOP')} at {fmt(peak.value, 'FLOP/s')} take {fmt(compute, 's')}",
            f"{fmt(float(found.traffic_ideal), 'B')} at {fmt(rate.value, 'B/s')} take {fmt(data, 's')}; "
            "every weight, input and output moved once, nothing twice",
            f"at {float(found.flops) / float(found.traffic_ideal):.3g} FLOP/B at most "
            f"{min(1.0, compute / bound):.2%} of the peak can be used",
        ),
        evidence=(counted("operations and least traffic"), peak.evidence, rate.evidence),
        note="a network that stays in a cache between calls may be quicker: that is not considered",
    )
