"""MACs quoted as FLOPs: a figure half as large as the work it stands for."""

from collections.abc import Iterator

from pharos.decide.advice import WARNING, Case, Cost, Finding, Gain, fact, rule
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.evidence import assumed

# How near the stated figure must be to be taken for a count.
NEAR = 0.05
STATED = assumed("as stated")


@rule(
    "macs-quoted-as-flops",
    when="the FLOPs stated are the counted MACs to 5%, per sample or per step",
    costs="seconds at the machine's peak that a plan by that figure leaves out",
    remedy="plan with 2 FLOPs a MAC, as this machine's peak is told",
    no_lab="a question of units: there is nothing to time",
    source="1 MAC = 2 FLOPs; most papers on vision print MACs as FLOPs",
    needs=("flops",),
)
def find(case: Case) -> Iterator[Finding]:
    """Compares the stated figure with both counts."""
    stated, macs = case.stated.flops, case.count.macs
    if stated is None or not macs:
        return
    for samples in dict.fromkeys((case.workload.batch, 1)):
        each = macs / samples
        if abs(stated - each) <= NEAR * each and abs(stated - 2 * each) > NEAR * each:
            break
    else:
        return
    peak = rate_of(case.machine, compute_dtype(case.graph.precision))
    seconds = each / peak.ops_per_s if peak.ops_per_s else None
    counted = fact("MACs counted", each, "MAC")
    facts = [
        fact("FLOPs as stated", stated, "FLOP", STATED),
        counted,
        fact("FLOPs counted", 2 * each, "FLOP"),
    ]
    if peak.ops_per_s:
        facts.append(fact("peak of the machine, 2 FLOPs a MAC", peak.ops_per_s, "FLOP/s", peak.evidence))
    yield Finding(
        severity=WARNING,
        evidence=tuple(facts),
        consequence=Cost(what="of arithmetic at the peak that the stated figure leaves out", value=seconds,
                         unit="s", share=case.share(seconds) if seconds else None),
        remedy="count 2 FLOPs a MAC",
        gain=Gain(of="work of the plan", before=stated, after=2 * each, unit="FLOP", known=(counted.known,),
                  better="more"),
    )  # fmt: skip
