"""Quadratic attention without tiling: the scores of all pairs go through memory."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pharos.decide.advice import ERROR, NOTE, Case, Cost, Finding, fact, rule, severity
from pharos.decide.changes import swapped
from pharos.graph.count import Line
from pharos.ops.attention import Attention
from pharos.quantity.dtypes import nbytes

NAMED = 4


@rule(
    "quadratic-attention",
    when="attention stores its scores, and they are larger than its queries, keys, values and "
    "results together",
    costs="bytes of scores, which grow with the square of the context, and the seconds to move them",
    remedy="a tiled kernel with an online softmax, which never stores them",
    lab="quadratic-wall",
    source="Dao et al. 2022, arXiv:2205.14135",
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the same network with tiled attention."""
    lines = [line for line in case.lines if _stores(line)]
    if not lines:
        return
    tiled = swapped(
        case.graph, lambda n: replace(n.op, algorithm="tiled") if isinstance(n.op, Attention) else None
    )
    found = None if tiled is None else case.again(graph=tiled)
    if found is None:
        return
    lines.sort(key=lambda line: -_scores(line))
    largest = _scores(lines[0])
    through = sum(line.traffic.workspace * line.times for line in lines)
    gain = case.faster(found)
    saved = gain.before - gain.after if gain else None
    share = case.share(saved) if saved else case.of_memory(largest)
    cannot = case.base.fits is False and found.fits
    q = lines[0].node.ins[0]
    keys = lines[0].node.ins[1].shape[2] + getattr(lines[0].node.op, "cached", 0)
    yield Finding(
        severity=ERROR if cannot else severity(share) if share else NOTE,
        evidence=(
            fact("queries", q.shape[2]), fact("keys", keys),
            fact("scores of one layer", largest, "B"),
            fact("bytes of scores written and read back in a step", through, "B"),
            fact("memory with tiling", float(found.memory.total), "B"),
        ),
        consequence=Cost(
            what="goes to scores in memory" if saved else "of scores in memory",
            value=saved if saved else largest, unit="s" if saved else "B", share=share,
        ),
        remedy="tiled attention (FlashAttention, scaled_dot_product_attention)",
        gain=case.smaller(found) if cannot or gain is None else gain,
        where=tuple(line.name for line in lines[:NAMED]),
    )  # fmt: skip


def _scores(line: Line) -> float:
    op: Any = line.node.op
    q, k = line.node.ins[0], line.node.ins[1]
    return nbytes(q.shape[0] * q.shape[1] * q.shape[2] * (op.cached + k.shape[2]), q.dtype)


def _stores(line: Line) -> bool:
    op = line.node.op
    if not isinstance(op, Attention) or op.algorithm != "materialised":
        return False
    others = sum(t.nbytes for t in (*line.node.ins[:3], *line.node.outs))
    return _scores(line) > others
