"""A long-range model for local data: all pairs are scored where only neighbours depend on each other."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pharos.decide.advice import NOTE, WARNING, WORTH, Case, Cost, Finding, fact, rule
from pharos.decide.changes import swapped
from pharos.graph.graph import Node
from pharos.ops.attention import Attention
from pharos.quantity.evidence import assumed

# Contexts at least so many times the data's range. A choice.
TIMES = 2
STATED = assumed("as stated")
NAMED = 4


@rule(
    "long-range-for-local-data",
    when="the range over which data depend is stated, and attention sees at least twice as far",
    costs="seconds and bytes of pairs that do not depend on each other",
    remedy="attention within a window of that range, or a convolution over it",
    lab="quadratic-wall",
    source="Beltagy et al. 2020, arXiv:2004.05150: pairs grow with the window, not with the context squared",
    needs=("data_range",),
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the network with windows of the stated range."""
    reach = case.stated.data_range
    if reach is None:
        return
    lines = [line for line in case.lines if _sees(line.node) >= TIMES * reach]
    if not lines:
        return
    made = swapped(case.graph, lambda node: _window(node, reach))
    found = None if made is None else case.tried(graph=made)
    pairs = sum(_pairs(line.node) * line.times for line in lines)
    local = sum(_pairs(replace(ln.node, op=_window(ln.node, reach))) * ln.times for ln in lines)
    gain = case.faster(found) if found is not None else None
    saved = gain.before - gain.after if gain else None
    cache = float(case.base.memory.kv_cache - found.memory.kv_cache) if found is not None else 0.0
    share = case.share(saved) if saved and saved > 0 else case.of_memory(cache) or 0.0
    if gain is not None and gain.factor and gain.factor < 1 + WORTH:
        gain = case.smaller(found) if found is not None and cache > 0 else None
    slower = saved is not None and saved > 0
    yield Finding(
        severity=WARNING if share >= 0.2 else NOTE,
        evidence=(
            fact("range of the data", reach, "", STATED),
            fact("positions that a query sees", max(_sees(line.node) for line in lines)),
            fact("pairs scored in a step", pairs),
            fact("pairs within the range", local),
            fact("keys and values beyond the range", cache, "B"),
        ),
        consequence=Cost(
            what="goes to pairs beyond the data's range" if slower
            else "of keys and values beyond the data's range",
            value=saved if slower else cache, unit="s" if slower else "B", share=share,
        ),
        remedy=f"attention within {reach} positions, or a convolution over them",
        gain=gain,
        where=tuple(line.name for line in lines[:NAMED]),
    )  # fmt: skip


def _sees(node: Node) -> int:
    """Positions that a query sees; 0 where it is not full attention over its own sequence."""
    op: Any = node.op
    if not isinstance(op, Attention) or op.pattern != "full":
        return 0
    q, k = node.ins[0], node.ins[1]
    return op.cached + k.shape[2] if k.shape[2] == q.shape[2] else 0


def _pairs(node: Node) -> float:
    op: Any = node.op
    q, k = node.ins[0], node.ins[1]
    scored, masked = op.pairs(q.shape[2], k.shape[2])
    return q.shape[0] * q.shape[1] * (scored - masked)


def _window(node: Node, reach: int) -> Any:
    op: Any = node.op
    if _sees(node) < TIMES * reach:
        return None
    # one query of many kept keys sees them all, as a causal one would
    return replace(op, pattern="window", span=reach, causal=op.causal or bool(op.cached), algorithm="tiled")
