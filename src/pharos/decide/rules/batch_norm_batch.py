"""Batch norm at a small batch: statistics of few samples in training; kernels of its own at inference."""

from collections.abc import Iterator
from math import gcd, sqrt
from typing import Any

from pharos.decide.advice import ERROR, NOTE, WARNING, Case, Cost, Finding, fact, rule, seconds_of, severity
from pharos.decide.changes import swapped
from pharos.graph.count import Line
from pharos.graph.graph import Node
from pharos.ops.norm import GroupNorm
from pharos.predict.runtimes import runtimes_of
from pharos.quantity.evidence import counted, spec

# Samples a device below which accuracy falls.
ENOUGH = 16
SOURCE = "Wu and He 2018, arXiv:1803.08494, figure 1: error rises below 16 samples a device"
GROUPS = 32
# Share of the time in batch norms of their own from which the rule speaks. A choice.
FROM, NAMED = 0.05, 4


@rule(
    "batch-norm-small-batch",
    when="it is trained with fewer than 16 samples a device, or runs at batch 1 where the runtime "
    "does not fold "
    "batch norm away (5% of the time)",
    costs="relative error of a channel's variance in training; seconds of the norms' own kernels at "
    "inference",
    remedy="group norm in training; a runtime that folds batch norm into the layer before it at inference",
    lab="normalisation",
    source=SOURCE,
)
def find(case: Case) -> Iterator[Finding]:
    """In training by the samples of the statistics, at inference by the kernels."""
    lines = [line for line in case.lines if line.kind == "batch_norm"]
    if not lines:
        return
    if case.stated.trains:
        if case.workload.batch < ENOUGH:
            yield _training(case, lines)
        return
    yield from _inference(case, lines)


def _training(case: Case, lines: list[Line]) -> Finding:
    few = min(lines, key=lambda line: line.node.ins[0].numel / line.node.ins[0].shape[1])
    x = few.node.ins[0]
    samples = x.numel // x.shape[1]
    # of n independent samples; neighbouring positions of an image are alike, so it is at least this
    error = sqrt(2 / (samples - 1)) if samples > 1 else None
    instead = swapped(case.graph, _group_norm)
    found = case.tried(graph=instead) if instead is not None else None
    alone = "one sample a channel: the output is the bias, whatever the input"
    return Finding(
        severity=ERROR if samples == 1 else WARNING if case.workload.batch <= 2 else NOTE,
        evidence=(
            fact("batch of a device", case.workload.batch),
            fact("batch from which accuracy holds", ENOUGH, "", spec(SOURCE)),
            fact(f"values a channel's statistics at {few.name} are made of", samples),
        ),
        consequence=Cost(
            what=alone if samples == 1 else "relative error of a channel's variance, at least",
            value=error, unit="",
        ),
        remedy=f"group norm, {GROUPS} groups where they divide the channels; it cannot be folded at "
        f"inference",
        gain=None if found is None else case.faster(found, "latency at inference"),
        where=(few.name,),
    )  # fmt: skip


def _group_norm(node: Node) -> Any:
    op: Any = node.op
    if op.kind != "batch_norm":
        return None
    return GroupNorm(gcd(GROUPS, op.num_features), op.num_features, op.eps, op.affine)


def _inference(case: Case, lines: list[Line]) -> Iterator[Finding]:
    seconds = case.seconds(lines)
    share = case.share(seconds)
    if case.workload.batch != 1 or share < FROM:
        return
    folding = []
    for name in runtimes_of(case.machine.kind):
        found = None if name == case.base.runtime else case.tried(runtime=name)
        if found is not None and not any(op.kernel.lead.kind == "batch_norm" for op in found.operations):
            folding.append(found)
    best = min(folding, key=lambda f: seconds_of(f), default=None)
    lines = sorted(lines, key=lambda line: -case.seconds([line]))
    moved = sum(line.traffic.total * line.times for line in lines)
    yield Finding(
        severity=severity(share),
        evidence=(
            fact("batch norms", sum(line.times for line in lines)),
            fact("bytes they move", moved, "B", counted("each tensor once")),
            fact("time in their kernels", seconds, "s", case.evidence()),
        ),
        consequence=Cost(
            what="goes to batch norms that could be folded", value=seconds, unit="s", share=share
        ),
        remedy="fold them into the layers before" + (f": runtime {best.runtime} does" if best else ""),
        gain=None if best is None else case.faster(best),
        where=tuple(line.name for line in lines[:NAMED]),
    )
