"""Collectives on a terminal and as plain data: time, bytes by link and device, every algorithm."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.plan.collectives import find_collective
from pharos.plan.communication import Cost
from pharos.quantity.units import fmt
from pharos.report.estimates import band
from pharos.report.text import grid, pair


def collective_row(costs: list[Cost]) -> dict[str, Any]:
    """One collective by its algorithms as plain data, the usual one first; schema pharos/collective@1."""
    first = costs[0]
    topology = first.topology
    return {
        "schema": "pharos/collective@1", "collective": first.name, "size_bytes": first.size,
        "devices": topology.devices, "devices_per_node": topology.group, "nodes": topology.nodes,
        "links": {
            level: {"id": link.id, "bytes_per_s": link.bytes_per_s}
            for level, link in (("inside", topology.inside), ("across", topology.across))
            if link is not None and (level == "inside" or topology.nodes > 1)
        },
        "algorithms": [_algorithm(cost) for cost in costs],
    }  # fmt: skip


def _algorithm(cost: Cost) -> dict[str, Any]:
    moves, seconds = cost.moves, cost.seconds
    return {
        "algorithm": cost.algorithm, "as_run": cost.as_run,
        "latency_s": {
            "value": seconds.value, "low": seconds.low, "high": seconds.high, "level": seconds.level
        },
        "steps": moves.steps(), "sent_bytes": moves.sent(), "received_bytes": moves.received(),
        "serial_bytes": {level: moves.serial(level) for level in ("inside", "across")},
        "total_bytes": {level: moves.total(level) for level in ("inside", "across")},
        "bus_bytes_per_s": cost.bus_bytes_per_s if seconds.value else None,
        "parts_s": cost.parts, "evidence": [str(e) for e in seconds.evidence],
    }  # fmt: skip


def formula_of(cost: Cost) -> str:
    """Steps and bytes of the chosen algorithm in n devices, g of them in a node, and S bytes."""
    import sympy

    n, s, g = sympy.symbols("n S g", positive=True)
    moves = find_collective(cost.name).moves(cost.algorithm, n, s, g)
    steps, sent = (sympy.factor(sympy.simplify(x)) for x in (moves.steps(), moves.sent()))
    return f"{steps} steps, {sent} bytes out of the busiest of n devices".replace("**", "^")


def print_collective(console: Console, costs: list[Cost]) -> None:
    """`pharos collective`: the time that libraries' choice takes, then every algorithm."""
    first = costs[0]
    topology = first.topology
    where = f"{topology.devices} device{'s' * (topology.devices > 1)}"
    if topology.nodes > 1:
        where += f" in {topology.nodes} nodes of {topology.group}"
    console.print(Text(f"{first.name} of {fmt(first.size, 'B')} over {where}", style="bold"))
    pair(console, "is", find_collective(first.name).summary)
    pair(console, "time", f"{band(first.seconds)}  [{first.seconds.level}]"
         + (", as libraries run it" if first.as_run else f", {first.algorithm}"))  # fmt: skip
    for level, seconds in first.parts.items():
        link = topology.link(level)
        moves = first.moves
        port, total = fmt(moves.serial(level), "B"), fmt(moves.total(level), "B")
        told = f"{fmt(seconds, 's')} over {link}: {port} through the busiest port, {total} on all links"
        pair(console, level, told)
    pair(console, "formula", formula_of(first))
    for i, item in enumerate(first.seconds.evidence[:4]):
        pair(console, "known by" if i == 0 else "", str(item))
    console.print()
    columns = [("algorithm", "left"), ("time", "right"), ("steps", "right"), ("sent", "right"),
               ("received", "right"), ("port", "right"), ("all links", "right"),
               ("port rate", "right")]  # fmt: skip
    rows = []
    for cost in costs:
        moves = cost.moves
        name = "as run" if cost.as_run else cost.algorithm
        moved = map(_bytes, (moves.sent(), moves.received(), moves.serial(), moves.total()))
        rate = _bytes(cost.bus_bytes_per_s) + "/s" if cost.seconds.value else "-"
        rows.append([name, fmt(cost.seconds.value, "s"), str(moves.steps()), *moved, rate])
    grid(console, columns, rows)
    console.print(
        "sent, received: by the busiest device; port: bytes that follow each other through one", style="dim"
    )


def _bytes(x: Any) -> str:
    return fmt(x, "B").replace(" ", "")
