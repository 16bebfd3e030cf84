"""A recurrence on a wide machine: steps wait for each other while most of the machine has nothing to do."""

from collections.abc import Iterator

from pharos.decide.advice import MUCH, Case, Cost, Finding, Gain, fact, rule, seconds_of, severity
from pharos.predict.kernel import compute_dtype, rate_of

# Share of the peak under which most of a machine idles, and batches to try. A choice.
IDLE, BATCHES = 0.1, (4, 16, 64)
NAMED = 4


@rule(
    "recurrence-on-wide-machine",
    when="recurrences take 20% of the time and use under 10% of the machine's peak",
    costs="seconds in steps that wait for each other",
    remedy="more sequences at once; more devices cannot shorten one sequence, nor can a smaller "
    "share of the batch",
    lab="recurrence",
    source="Amdahl 1967: T steps in a row take T latencies; the operator's own parallel width and depth",
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts more sequences at once, and half of them as one of two devices would have."""
    lines = [line for line in case.lines if line.cost_class == "recurrence"]
    seconds = case.seconds(lines)
    share = case.share(seconds)
    if not lines or share < MUCH or not seconds:
        return
    rate = rate_of(case.machine, compute_dtype(case.graph.precision))
    flops = sum(line.work.flops * line.times for line in lines)
    if rate.ops_per_s is None or flops / seconds >= IDLE * rate.ops_per_s:
        return
    lead = max(lines, key=lambda line: case.seconds([line]))
    spread = lead.node.op.parallelism(*lead.node.io)
    batch = case.workload.batch
    facts = [
        fact(f"steps in a row at {lead.name}", spread.depth),
        fact("results that a step could compute at once", spread.width),
        fact("share of the peak in use", flops / seconds / rate.ops_per_s, "", case.evidence()),
    ]
    half = case.tried(workload=case.workload.but(batch=max(1, batch // 2)))
    told = "one sequence cannot be divided among devices"
    if batch > 1 and half is not None and case.latency_s:
        faster = case.latency_s / seconds_of(half)
        facts.append(fact("speed-up of a step by a second device that takes half of the batch", faster, "",
                          half.latency.evidence[0]))  # fmt: skip
        told = f"a second device makes a step {faster:.3g}x as fast"
    found = [f for more in BATCHES if (f := case.tried(workload=case.workload.but(batch=batch * more)))]
    found = [f for f in found if f.fits is not False]
    best = min(found, key=lambda f: seconds_of(f) / f.workload.batch, default=None)
    gain = None
    if best is not None and case.latency_s:
        gain = Gain(of="time per sequence", before=case.latency_s / batch, unit="s",
                    after=seconds_of(best) / best.workload.batch,
                    known=best.latency.evidence)  # fmt: skip
    yield Finding(
        severity=severity(share),
        evidence=tuple(facts),
        consequence=Cost(what="goes to steps that wait for each other", value=seconds, unit="s", share=share),
        remedy=(f"{best.workload.batch} sequences at once" if best else "more sequences at once")
        + f"; {told}",
        gain=gain,
        where=tuple(line.name for line in lines[:NAMED]),
    )
