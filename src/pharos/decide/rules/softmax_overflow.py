"""Softmax in fp16 without scaling: scores grow with the width of a head until their exponentials overflow."""

from collections.abc import Iterator
from math import log, sqrt
from typing import Any

from pharos.decide.advice import ERROR, WARNING, Case, Cost, Finding, Gain, fact, rule, seconds_of
from pharos.graph.count import Line
from pharos.quantity.evidence import assumed, spec

# The largest number of fp16, IEEE 754.
LARGEST = 65504.0
UNIT = assumed("queries and keys of independent entries with variance 1")
NAMED = 4


@rule(
    "softmax-overflow-fp16",
    when="activations are fp16 and the largest score to be expected is above ln 65504 = 11.1",
    costs="seconds of the type that holds such scores",
    remedy="scale scores by 1 / sqrt(head_dim), or compute them in bf16 or fp32",
    lab="sqrt-dk",
    source="Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1: a dot product of d unit entries "
    "has variance d; "
    "the largest of n normal numbers is about sqrt(2 ln n) deviations out",
)
def find(case: Case) -> Iterator[Finding]:
    """Expects the largest score of a layer; predicts the step in bf16."""
    if case.graph.precision.activations != "fp16":
        return
    limit = log(LARGEST)
    found = []
    for line in case.lines:
        if line.kind == "attention":
            largest, scaled = _largest(line)
            cap = getattr(line.node.op, "softcap", 0.0)
            if largest > limit and not 0 < cap <= limit:
                found.append((largest, scaled, line))
    if not found:
        return
    found.sort(key=lambda item: -item[0])
    largest, scaled, line = found[0]
    op: Any = line.node.op
    other = case.tried(workload=case.workload.but(precision="bf16"))
    seconds = seconds_of(other) - case.latency_s if other is not None and case.latency_s else None
    factor = 1 / sqrt(line.node.ins[0].shape[-1]) if op.scale is None else op.scale
    wide = spec("IEEE 754: the largest fp16 is 65504")
    yield Finding(
        severity=ERROR if largest > LARGEST or case.stated.trains else WARNING,
        evidence=(
            fact("largest score to be expected", largest, "", UNIT),
            fact("score whose exponential fp16 still holds", limit, "", wide),
            fact("head_dim", line.node.ins[0].shape[-1]),
            fact("factor of the scores", factor),
        ),
        consequence=Cost(
            what="more for a step in bf16, which does not overflow", unit="s",
            value=None if seconds is None else max(seconds, 0.0),
            share=case.share(max(seconds, 0.0)) if seconds is not None else None,
        ),
        remedy="scale by 1 / sqrt(head_dim)" + ("; or bf16" if other is not None else ""),
        gain=Gain(of="largest score to be expected", before=largest, after=scaled, unit="", known=(UNIT,)),
        where=tuple(ln.name for _, _, ln in found[:NAMED]),
    )  # fmt: skip


def _largest(line: Line) -> tuple[float, float]:
    """The largest of all scores of a layer to be expected, as it is and scaled by 1 / sqrt(head_dim)."""
    op: Any = line.node.op
    q, k = line.node.ins[0], line.node.ins[1]
    scale = 1 / sqrt(q.shape[-1]) if op.scale is None else op.scale
    # of one sequence: how far out its largest score lies must not depend on the batch
    pairs = q.shape[1] * q.shape[2] * (op.cached + k.shape[2])
    out = sqrt(2 * log(max(pairs, 2)))
    return scale * sqrt(q.shape[-1]) * out, out
