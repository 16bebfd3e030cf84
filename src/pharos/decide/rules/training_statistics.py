"""Batch norm that serves as it was trained: each answer depends on what else is in its batch."""

from collections.abc import Iterator
from math import sqrt

from pharos.decide.advice import ERROR, WARNING, Case, Cost, Finding, Gain, fact, rule
from pharos.quantity.evidence import counted

NAMED = 4


@rule(
    "training-statistics",
    when="it is not trained, and a batch norm takes mean and variance of the batch: a module that is not in "
    "eval(), one without running statistics, an ONNX node in training mode",
    costs="bytes of statistics that are computed anew for every batch",
    remedy="put it in eval() before it is exported or served, or give it running statistics",
    lab="normalisation",
    source="Ioffe and Szegedy 2015, arXiv:1502.03167, section 3.1: population statistics at inference",
)
def find(case: Case) -> Iterator[Finding]:
    """Told by what was read; at one value a channel nothing of the input is left."""
    told = case.graph.meta.get("training_statistics", ())
    if not told or case.stated.trains:
        return
    lines = [line for line in case.lines if line.kind == "batch_norm"]
    if not lines:
        return
    few = min(lines, key=lambda line: line.node.ins[0].numel / line.node.ins[0].shape[1])
    x = few.node.ins[0]
    samples = x.numel // x.shape[1]
    read = sum(line.node.ins[0].nbytes * line.times for line in lines)
    yield Finding(
        severity=ERROR if samples == 1 else WARNING,
        evidence=(
            fact("batch norms with the statistics of their batch", len(told)),
            fact(f"values a channel's statistics at {few.name} are made of", samples),
        ),
        consequence=Cost(
            what="are read once more for statistics, and an answer changes with its neighbours in the batch"
            if samples > 1
            else "are read once more for statistics, and the output is the bias, whatever the input",
            value=float(read), unit="B",
        ),
        remedy="put it in eval() before it is exported or served, or give it running statistics",
        gain=None if samples == 1 else Gain(
            of="relative error of a channel's variance", before=sqrt(2 / (samples - 1)), after=0.0, unit="",
            known=(counted("of independent samples; running statistics have none"),),
        ),
        where=tuple(line.name for line in lines[:NAMED]),
    )  # fmt: skip
