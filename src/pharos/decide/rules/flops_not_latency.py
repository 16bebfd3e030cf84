"""Fewer FLOPs but slower: a comparable network of the catalogue does more operations in less time here."""

from collections.abc import Iterator

from pharos.decide.advice import Case, Cost, Finding, fact, rule, severity
from pharos.decide.comparables import comparables
from pharos.predict.estimate import predict

# A comparable network has between so many times the MACs. A choice.
FROM, UP_TO = 1.2, 30.0
# It must be at least so many times faster to be worth a word.
FASTER = 1.1


@rule(
    "fewer-flops-slower",
    when="a network of the catalogue with the same inputs and outputs does 1.2 to 30 times the MACs "
    "in less time",
    costs="seconds of a step beyond the other network's",
    remedy="take the other network, if its accuracy will do",
    lab="intensity",
    source="Ma et al. 2018, arXiv:1807.11164: FLOPs alone do not tell speed",
    searches=True,
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts comparable networks with more MACs."""
    if case.latency_s is None or not case.count.macs or "tokens" in case.graph.meta:
        return
    macs = case.count.macs / case.workload.batch
    faster = []
    # the catalogue's counts are of its own resolution: a candidate's are counted again below
    for model, graph in comparables(case, lambda e: 0.3 * FROM * macs <= (e.macs or 0) <= 3 * UP_TO * macs):
        other = predict(graph, case.machine, case.workload, model=model.name, runtime=case.base.runtime)
        value, ratio = other.latency.value, other.count.macs / case.count.macs
        if value is not None and FROM <= ratio <= UP_TO and FASTER * value <= case.latency_s:
            faster.append((float(value), ratio, other))
    if not faster:
        return
    seconds, ratio, other = min(faster, key=lambda f: f[0])
    share = 1 - seconds / case.latency_s
    slow = case.base.shares
    yield Finding(
        severity=severity(share),
        evidence=(
            fact("MACs of this network", case.count.macs, "MAC"),
            fact(f"MACs of {other.model}", other.count.macs, "MAC"),
            fact("latency here", case.latency_s, "s", case.evidence()),
            fact(f"latency of {other.model} here", seconds, "s", other.latency.evidence[0]),
            fact("share of the time that is no arithmetic",
                 1 - float(slow["compute"]) / case.latency_s, "", case.evidence()),
            fact("kernels launched", sum(op.kernel.times for op in case.base.operations)),
        ),
        consequence=Cost(
            what=f"slower than {other.model}, which does {ratio:.3g}x the MACs", unit="s",
            value=case.latency_s - seconds, share=share,
        ),
        remedy=f"{other.model} instead, if its accuracy will do",
        gain=case.faster(other),
    )  # fmt: skip
