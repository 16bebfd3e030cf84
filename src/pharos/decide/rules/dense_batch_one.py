"""A dense layer at batch 1: each weight is fetched for one multiplication."""

from collections.abc import Iterator
from dataclasses import replace

from pharos.decide.advice import MUCH, Case, Cost, Finding, Gain, fact, rule, seconds_of, severity
from pharos.predict.estimate import Estimate
from pharos.quantity.dtypes import BITS
from pharos.quantity.sizes import is_int

# Batches to try, and how much longer a step may take for the batch to count as nearly free. A choice.
BATCHES, FREE = (2, 4, 8, 16, 32, 64), 1.5
NAMED = 4


@rule(
    "dense-at-batch-1",
    when="dense layers with one row of input take 20% of the time, and their weights come from memory "
    "for longer than they are multiplied",
    costs="seconds that weights stream, each for one multiplication",
    remedy="a batch as large as a step barely takes longer for; where there is one sample, narrower weights",
    lab="intensity",
    source="Williams et al. 2009: a matrix times a vector has 2 FLOPs a weight, whatever its size",
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts larger batches, and weights in 8 bits."""
    if case.latency_s is None or case.workload.batch != 1:
        return
    slow = {
        op.kernel.lead.name for op in case.timed if op.time is not None and op.time.data_s > op.time.compute_s
    }
    lines = [
        line for line in case.lines
        if line.kind == "linear" and line.name in slow and is_int(line.work.macs)
        and line.node.outs[0].numel == line.node.outs[0].shape[-1]
    ]  # fmt: skip
    seconds = case.seconds(lines)
    share = case.share(seconds)
    if share < MUCH:
        return
    lines.sort(key=lambda line: -case.seconds([line]))
    moved = sum(line.traffic.weights * line.times for line in lines)
    flops = sum(2 * line.work.macs * line.times for line in lines)
    found = _largest(case)
    gain, remedy = None, "a larger batch, or narrower weights"
    if found is not None:
        each = found.workload.batch
        gain = Gain(of="time per sample", before=case.latency_s, after=seconds_of(found) / each,
                    unit="s", known=found.latency.evidence)  # fmt: skip
        remedy = f"batches of {each}: a step takes {seconds_of(found) / case.latency_s:.3g}x as long"
    elif (narrow := _narrower(case)) is not None:
        gain = case.faster(narrow)
        remedy = "weights in 8 bits, for this network takes no other batch; check accuracy"
    facts = [
        fact("dense layers with one row", sum(line.times for line in lines)),
        fact("their weights", moved, "B"),
        fact("FLOP per byte", flops / moved),
    ]
    if case.base.ridge_point:
        peak = case.machine.bandwidth_bytes_per_s.evidence
        facts.append(fact("FLOP per byte that this machine balances", case.base.ridge_point, "", peak))
    yield Finding(
        severity=severity(share),
        evidence=tuple(facts),
        consequence=Cost(what="goes to weights that serve one row", value=seconds, unit="s", share=share),
        remedy=remedy,
        gain=gain,
        where=tuple(line.name for line in lines[:NAMED]),
    )


def _narrower(case: Case) -> Estimate | None:
    """The same step with weights of a byte, where they are wider."""
    precision = case.graph.precision
    if BITS[precision.weights] <= 8:
        return None
    return case.tried(workload=case.workload.but(precision=replace(precision, weights="int8")))


def _largest(case: Case) -> Estimate | None:
    """The largest batch whose step takes at most `FREE` times as long, or the smallest tried."""
    best = None
    for batch in BATCHES:
        found = case.tried(workload=case.workload.but(batch=batch))
        if found is None or found.fits is False:
            break
        if best is not None and seconds_of(found) > FREE * (case.latency_s or 0):
            break
        best = found
    return best
