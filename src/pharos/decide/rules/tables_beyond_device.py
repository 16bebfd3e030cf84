"""Embedding tables beyond one device: rows that are looked up one at a time and stored all the same."""

from collections.abc import Iterator
from math import ceil

from pharos.decide.advice import ERROR, Case, Cost, Finding, Gain, fact, rule
from pharos.quantity.evidence import counted

NAMED = 4
KINDS = ("embedding", "embedding_bag")


@rule(
    "tables-beyond-device",
    when="embedding tables alone are larger than the machine's memory",
    costs="bytes beyond the machine's memory",
    remedy="tables divided among as many devices as hold them, with an all-to-all of what is looked up; or "
    "narrower rows",
    lab="sharded-embedding",
    source="Naumov et al. 2019, arXiv:1906.00091; counted from the tables' shapes",
)
def find(case: Case) -> Iterator[Finding]:
    """Counts tables, what the rest leaves of a device, and what an all-to-all would move."""
    room = case.machine.capacity_bytes
    lines = sorted((ln for ln in case.lines if ln.kind in KINDS), key=lambda ln: -ln.weight_bytes)
    tables = sum(line.weight_bytes for line in lines)
    if not room.value or tables <= room.value:
        return
    rest = float(case.base.memory.total) - tables
    free = room.value - rest
    looked_up = sum(line.node.outs[0].nbytes * line.times for line in lines)
    read = sum(line.traffic.weights * line.times for line in lines)
    facts = [
        fact("tables", tables, "B"),
        fact("memory of the machine", room.value, "B", room.evidence),
        fact("everything else", rest, "B"),
        fact("bytes of rows that a step reads", read, "B"),
    ]
    if free <= 0:
        remedy, gain = "the rest of the network does not fit either: a machine with more memory", None
    else:
        devices = ceil(tables / free)
        largest = lines[0].weight_bytes
        split = ", the largest by rows" if largest > free else ""
        remedy = f"tables over {devices} devices{split}; an all-to-all of their results"
        moved = looked_up * (devices - 1) / devices
        facts.append(fact("bytes that an all-to-all of their results moves in a step", moved, "B"))
        gain = Gain(of="memory of a device", before=float(case.base.memory.total), unit="B",
                    after=tables / devices + rest,
                    known=(counted("tables divided evenly, the rest on every device"),))  # fmt: skip
    yield Finding(
        severity=ERROR,
        evidence=tuple(facts),
        consequence=Cost(what="of tables beyond the machine's memory", value=tables - room.value, unit="B",
                         share=tables / room.value - 1),
        remedy=remedy,
        gain=gain,
        where=tuple(line.name for line in lines[:NAMED]),
    )  # fmt: skip
