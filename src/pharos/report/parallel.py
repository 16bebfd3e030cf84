"""Parallel plans on a terminal and as plain data."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.plan.layout import ZERO
from pharos.plan.parallel import Plan, Scaling, crossover
from pharos.quantity.units import fmt
from pharos.report.estimates import SHORT, band
from pharos.report.text import grid, pair, share

_SHORT = {**SHORT, "sequential-dependency": "bubble"}


def plan_row(
    plan: Plan, curve: Sequence[Scaling] = (), weak: bool = False, least: int | None = None
) -> dict[str, Any]:
    """A plan as plain data; schema pharos/parallel@1."""
    row = {"schema": "pharos/parallel@1", **_row(plan)}
    row |= {"tried": plan.tried, "fitting": plan.fitting, "least_devices": least,
            "others": [_row(other) for other in plan.others]}  # fmt: skip
    if curve:
        row["scaling"] = {
            "kind": "weak" if weak else "strong", "network_overtakes_compute_at": crossover(curve),
            "points": [{"devices": p.devices, "batch": p.batch, "efficiency": p.efficiency, **_row(p.plan)}
                       for p in curve],
        }  # fmt: skip
    return row


def _row(plan: Plan) -> dict[str, Any]:
    layout, job, step = plan.layout, plan.job, plan.step
    return {
        "model": job.model.name, "machine": plan.machine.id, "phase": job.phase, "batch": job.batch,
        "context": job.context, "precision": str(job.workload.precision),
        "devices": plan.topology.devices, "devices_per_node": plan.topology.group,
        "layout": {k: getattr(layout, k) for k in ("tensor", "pipeline", "data", "context", "expert",
                   "micro_batch", "zero", "checkpoint", "chunks", "sequence")},
        "fits": plan.fits, "memory_bytes": {**plan.memory, "total": plan.memory_bytes},
        "step_s": {"value": step.value, "low": step.low, "high": step.high, "level": step.level},
        "tokens_per_s": plan.tokens_per_s, "mfu": plan.mfu, "hfu": plan.hfu, "binding": plan.binding,
        "shares_s": plan.shares, "bubble": plan.bubble, "micro_batches": plan.micro_batches,
        "collectives": [
            {"what": t.what, "collective": t.collective, "devices": t.devices, "size_bytes": t.size_bytes,
             "calls": t.calls, "sent_bytes": t.sent_bytes, "seconds": t.seconds, "exposed_s": t.exposed_s}
            for t in plan.traffic
        ],
        "evidence": [str(e) for e in plan.evidence],
    }  # fmt: skip


def print_plan(
    console: Console, plan: Plan, curve: Sequence[Scaling] = (), weak: bool = False, least: int | None = None
) -> None:
    """`pharos parallel`: the plan, its memory and traffic, the next best ones, and how it scales."""
    job, topology, layout = plan.job, plan.topology, plan.layout
    nodes = f" in {topology.nodes} nodes" if topology.nodes > 1 else ""
    context = f", context {job.context}" if job.context else ""
    console.print(Text(
        f"{job.model.name}: {job.phase}, batch {job.batch}{context}, {job.workload.precision}, on "
        f"{topology.devices} x {plan.machine.id}{nodes}", style="bold",
    ))  # fmt: skip
    pair(console, "plan", _told(plan))
    if plan.tried > 1:
        pair(console, "searched", f"{plan.tried:,} legal layouts, {plan.fitting:,} fit")
    pair(console, "binds", f"{plan.binding} ({_largest(plan)})")
    pair(console, "step", f"{band(plan.step)}  [{plan.step.level}]")
    pair(console, "throughput", f"{fmt(plan.tokens_per_s)} tokens/s, "
         f"{fmt(plan.tokens_per_s / topology.devices)} a device")  # fmt: skip
    if plan.mfu is not None:
        told = f"MFU {plan.mfu:.1%}"
        if job.trains:
            told += f", HFU {plan.hfu:.1%} with what runs again"
        pair(
            console,
            "of the peak",
            f"{told}, of the dense {job.precision} peak; masked attention counts in full",
        )
    spent = ", ".join(f"{_SHORT.get(k, k)} {share(v, plan.step.value)}" for k, v in plan.shares.items() if v)
    pair(console, "spent on", spent)
    capacity = plan.machine.capacity_bytes.value
    room = {None: "of", True: "fits in", False: "does NOT fit in"}[plan.fits]
    kept = f"{fmt(capacity, 'B')} a device, of which {job.reserve:.0%} stay free"
    pair(console, "memory", f"{fmt(plan.memory_bytes, 'B')} {room} {kept}")
    pair(console, "", ", ".join(f"{k.replace('_', ' ')} {fmt(v, 'B')}" for k, v in plan.memory.items() if v))
    if plan.fits is False:
        if least == topology.devices:
            told = "other layouts fit on as many devices: --search"
        else:
            told = (
                f"some layout fits on {least:,} devices" if least else "no number of devices tried is enough"
            )
        pair(
            console,
            "to mend",
            f"{told}; or smaller micro-batches, full checkpointing, more ZeRO, or a shorter context",
        )
    for i, item in enumerate(plan.evidence[:4]):
        pair(console, "known by" if i == 0 else "", str(item))
    if plan.traffic:
        console.print()
        rows = [
            [t.what, t.collective, str(t.devices), fmt(t.size_bytes, "B").replace(" ", ""), f"{t.calls:,.0f}",
             fmt(t.sent_bytes, "B").replace(" ", ""), fmt(t.exposed_s, "s")]
            for t in plan.traffic
        ]  # fmt: skip
        columns = [("what", "left"), ("collective", "left"), ("over", "right"), ("size", "right"),
                   ("calls", "right"), ("sent/step", "right"), ("exposed", "right")]  # fmt: skip
        grid(console, columns, rows)
    if plan.others:
        console.print()
        _table(console, [plan, *plan.others])
    if curve:
        console.print()
        _curve(console, curve, weak)
    if layout.zero:
        console.print(f"ZeRO {layout.zero}: data-parallel devices share {ZERO[layout.zero]}", style="dim")


def _told(plan: Plan) -> str:
    layout = plan.layout
    told = str(layout)
    if plan.job.trains:
        told += f"; {plan.micro_batches} micro-batches of {layout.micro_batch}, ZeRO {layout.zero}, "
        told += f"checkpointing {layout.checkpoint}"
        if layout.pipeline > 1:
            told += ", 1F1B" + (f" interleaved by {layout.chunks}" if layout.chunks > 1 else "")
            told += f", bubble {plan.bubble:.1%}"
    if layout.tensor > 1 and layout.sequence:
        told += ", sequence parallel"
    return told


def _largest(plan: Plan) -> str:
    ranked = sorted(plan.shares.items(), key=lambda item: -item[1])
    return (
        f"{_SHORT.get(ranked[0][0], ranked[0][0])} takes {share(ranked[0][1], plan.step.value)} of the step"
    )


def _table(console: Console, plans: list[Plan]) -> None:
    rows = []
    for p in plans:
        lay = p.layout
        rows.append([
            _shape(p), *([str(lay.context)] if _any(plans, "context") else []),
            *([str(lay.expert)] if _any(plans, "expert") else []), str(lay.micro_batch), str(lay.zero),
            lay.checkpoint, str(lay.chunks), fmt(p.step.value, "s"),
            f"{p.mfu:.1%}" if p.mfu is not None else "-",
            fmt(p.memory_bytes, "B"), _SHORT.get(p.binding, p.binding),
        ])  # fmt: skip
    columns = [("tp x pp x dp", "left"), *([("cp", "right")] if _any(plans, "context") else []),
               *([("ep", "right")] if _any(plans, "expert") else []), ("micro", "right"), ("ZeRO", "right"),
               ("ckpt", "left"), ("v", "right"), ("step", "right"), ("MFU", "right"), ("memory", "right"),
               ("binds", "left")]  # fmt: skip
    grid(console, columns, rows, flexible=(len(columns) - 1,))


def _shape(plan: Plan) -> str:
    return f"{plan.layout.tensor}x{plan.layout.pipeline}x{plan.layout.data}"


def _any(plans: list[Plan], name: str) -> bool:
    return any(getattr(p.layout, name) > 1 for p in plans)


def _curve(console: Console, curve: Sequence[Scaling], weak: bool) -> None:
    kind = "weak scaling: the batch grows with the devices" if weak else "strong scaling: the same batch"
    console.print(kind, style="bold")
    rows = [
        [f"{p.devices:,}", f"{p.batch:,}", _shape(p.plan),
         fmt(p.plan.step.value, "s"), fmt(p.plan.tokens_per_s), f"{p.efficiency:.0%}",
         share(p.plan.shares["network"], p.plan.step.value), _SHORT.get(p.plan.binding, p.plan.binding)]
        for p in curve
    ]  # fmt: skip
    columns = [("devices", "right"), ("batch", "right"), ("tp x pp x dp", "left"), ("step", "right"),
               ("tokens/s", "right"), ("kept", "right"), ("network", "right"), ("binds", "left")]  # fmt: skip
    grid(console, columns, rows, flexible=(len(columns) - 1,))
    at = crossover(curve)
    told = f"from {at:,} devices on" if at else f"nowhere up to {curve[-1].devices:,} devices"
    console.print(f"communication overtakes compute: {told}", style="dim")
