"""Trained on much memory, deployed on little: whether narrower types alone close the gap."""

from collections.abc import Iterator

from pharos.decide.advice import ERROR, Case, Cost, Fact, Finding, fact, rule
from pharos.predict.estimate import Estimate
from pharos.quantity.dtypes import BITS, Precision
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import assumed
from pharos.quantity.units import fmt

NARROWER = ("fp16", "int8", "int4")
STATED = assumed("as stated")


@rule(
    "trained-large-deployed-small",
    when="the devices it was trained on have more memory than the machine, and it does not fit there",
    costs="bytes beyond the machine's memory",
    remedy="the widest type in which it fits; where none does, how many times smaller the network "
    "must become",
    no_lab="two capacities against each other: there is nothing to time",
    source="the ratio of both memories, and the memory of the estimate in narrower types",
    needs=("trained_on_bytes",),
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the memory in narrower types."""
    trained, room = case.stated.trained_on_bytes, case.machine.capacity_bytes
    if trained is None or not room.value or trained <= room.value or case.base.fits is not False:
        return
    yield gap(case, fact("memory that it was trained on", trained, "B", STATED),
              fact("times the memory here", trained / room.value, "", room.evidence))  # fmt: skip


def gap(case: Case, *facts: Fact) -> Finding:
    """What is missing, and whether a narrower type closes it."""
    room = case.machine.capacity_bytes
    assert room.value
    whole = float(case.base.memory.total)
    found = None
    smallest = case.base
    for name in NARROWER:
        made = _in_type(case, name)
        if made is None:
            continue
        smallest = min(smallest, made, key=lambda e: float(e.memory.total))
        if made.fits:
            found = name, made
            break
    if found:
        remedy, after = f"{found[0]} closes the gap alone; check accuracy", found[1]
    else:
        after = smallest
        times = float(after.memory.total) / room.value
        told = f"in {after.workload.precision} " if after is not case.base else ""
        remedy = (
            f"no narrower type closes the gap: {told}it needs {fmt(float(after.memory.total), 'B')}, "
            f"so prune, distil or shard by {times:.2g}x"
        )
    return Finding(
        severity=ERROR,
        evidence=(*facts, fact("memory that it takes here", whole, "B", case.base.memory.evidence[0]
                               if case.base.memory.evidence else None),
                  fact("memory of the machine", room.value, "B", room.evidence)),
        consequence=Cost(what="beyond the machine's memory", value=whole - room.value, unit="B",
                         share=whole / room.value - 1),
        remedy=remedy,
        gain=case.smaller(after) if after is not case.base else None,
    )  # fmt: skip


def _in_type(case: Case, name: str) -> Estimate | None:
    if BITS[name] >= BITS[case.graph.precision.weights]:
        return None
    try:
        return case.again(workload=case.workload.but(precision=Precision.of(name)))
    except PharosError:
        return None
