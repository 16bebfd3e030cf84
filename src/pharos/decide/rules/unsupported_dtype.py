"""An element type the machine has no rate for: narrow in memory, computed as a wider one."""

from collections.abc import Iterator

from pharos.decide.advice import NOTE, WARNING, Case, Cost, Finding, fact, rule
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.dtypes import BITS, Precision
from pharos.quantity.errors import PharosError

TYPES = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")


@rule(
    "unsupported-dtype",
    when="the catalogue knows no rate of the machine for the type that products are computed in",
    costs="seconds beyond the fastest type that it has a rate for",
    remedy="the fastest type that the machine has a rate for, at most as wide as fits",
    no_lab="which types a machine has no units for is its own; a processor may have them for all",
    source="peaks of the catalogue; an unknown rate may be one that nobody published, or hardware "
    "that lacks it",
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the types that the machine has rates for."""
    asked = compute_dtype(case.graph.precision)
    peak = case.machine.peak(asked)
    known = [t for t in TYPES if case.machine.peak(t)]
    if peak or not known:
        return
    stand_in = rate_of(case.machine, asked)
    best = None
    for name in known:
        try:
            found = case.again(workload=case.workload.but(precision=Precision.of(name)))
        except PharosError:
            continue
        if found.latency.value is None or found.fits is False:
            continue
        if best is None or found.latency.value < best.latency.value:
            best = found
    facts = [fact(f"bits of {asked}", BITS[asked])]
    if stand_in.ops_per_s:
        facts.append(
            fact(f"rate that {stand_in.dtype} lends", stand_in.ops_per_s, "FLOP/s", stand_in.evidence)
        )
    gain = case.faster(best) if best is not None else None
    lost = gain.before - gain.after if gain else None
    names = ", ".join(known)
    if gain is not None and (lost or 0) <= 0:
        # narrow in memory is still the fastest: what is at stake is the wider band alone
        remedy, gain, lost = f"measure: rates are known for {names} alone", None, None
    elif best is None:
        remedy = f"a type that it has a rate for: {names}"
    else:
        remedy = f"{best.workload.precision}; rates are known for {names}"
    share = case.share(lost) if lost else None
    yield Finding(
        severity=WARNING if (share is None and case.latency_s is None) or (share or 0) >= 0.2 else NOTE,
        evidence=tuple(facts),
        consequence=Cost(what=f"more than in a type with a known rate: {asked} has none on {case.machine.id}"
                         if lost else f"no rate of {case.machine.id} for {asked} is known", value=lost,
                         unit="s", share=share),
        remedy=remedy,
        gain=gain,
    )  # fmt: skip
