"""The KV cache left out of the budget: memory told without what generation keeps of every token."""

from collections.abc import Iterator
from dataclasses import replace

from pharos.decide.advice import ERROR, Case, Cost, Finding, fact, lighter, rule, severity
from pharos.predict.estimate import Estimate
from pharos.quantity.dtypes import BITS
from pharos.quantity.units import fmt

# How near a budget must be to weights with half a cache to be one that counts keys or values alone.
NEAR = 0.02


@rule(
    "kv-cache-left-out",
    when="a decoder is costed by a forward pass, which keeps nothing, or a stated budget holds its "
    "weights but "
    "not its cache",
    costs="bytes of keys and values for batch x context tokens",
    remedy="budget for decoding: 2 (keys and values) x layers x KV heads x head_dim x tokens x "
    "bytes; narrower "
    "types or fewer KV heads make it smaller",
    lab="kv-cache",
    source="Pope et al. 2022, arXiv:2211.05102, section 2; counted from the decode graph's state",
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the decoding of the same tokens."""
    if not any(line.kind == "attention" for line in case.lines) or "max_context" not in case.graph.meta:
        return
    if case.workload.phase != "forward" and case.stated.memory_bytes is None:
        return
    context = case.graph.meta["context"]
    decodes = case.workload.but(phase="decode", context=context)
    found = case.base if case.workload.phase == "decode" else case.tried(workload=decodes)
    if found is None or not found.memory.kv_cache:
        return
    held, whole = float(found.memory.kv_cache), float(found.memory.total)
    budget = case.stated.memory_bytes
    if budget is not None and budget >= whole:
        return
    half = float(found.memory.weights) + held / 2
    narrow = _narrower(case, found)
    room = case.machine.capacity_bytes
    facts = [
        fact(f"KV cache of {case.workload.batch} x {context} tokens", held, "B"),
        fact("a token", held / (case.workload.batch * context), "B"),
        fact("weights", float(found.memory.weights), "B"),
    ]
    what = "of keys and values that a forward pass does not keep"
    if budget is not None:
        facts.append(fact("budget", budget, "B", room.evidence if budget == room.value else None))
        what = "needed beyond the budget, which leaves the cache out"
        if abs(budget - half) <= NEAR * half:
            what = "needed beyond the budget, which counts keys or values, not both"
    over = whole - budget if budget is not None else held
    broken = budget is not None or (case.base.fits and found.fits is False)
    share = case.of_memory(held)
    yield Finding(
        severity=ERROR if broken else severity(share),
        evidence=tuple(facts),
        consequence=Cost(what=what, value=over, unit="B", share=share),
        remedy=f"budget {fmt(whole, 'B')} (pharos serve)"
        + ("; an 8-bit cache makes it less" if narrow else ""),
        gain=None if narrow is None else lighter(found, narrow, "memory while decoding"),
    )  # fmt: skip


def _narrower(case: Case, found: Estimate) -> Estimate | None:
    precision = found.workload.precision
    if BITS[precision.kv_cache] <= 8:
        return None
    return case.tried(workload=found.workload.but(precision=replace(precision, kv_cache="fp8")))
