"""Sharding plans on a terminal and as plain data: where tables lie, what moves, how even it is."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.plan.shard_flows import Flow, Placed
from pharos.plan.shard_layouts import CACHED
from pharos.plan.sharding import Balance, ShardingPlan
from pharos.plan.torchrec import constraint
from pharos.quantity.units import fmt, fmt_count
from pharos.report.estimates import band
from pharos.report.rows import evidence_row, figure_row
from pharos.report.text import grid, pair


def shard_row(plan: ShardingPlan, least: int | None = None) -> dict[str, Any]:
    """A plan as plain data; schema pharos/shard@1."""
    solution, topology, job = plan.solution, plan.topology, plan.job
    row: dict[str, Any] = {
        "schema": "pharos/shard@1", "machine": plan.machine.id, "devices": topology.devices,
        "nodes": topology.nodes, "devices_per_node": topology.group, "batch": job.batch,
        "batch_per_device": job.local(topology.devices), "training": job.training,
        "optimizer": job.optimizer if job.training else None, "fits": plan.fits,
        "least_devices": least, "table_bytes": sum(t.nbytes for t in job.tables),
        "capacity_bytes": plan.capacity, "common_bytes": plan.common,
        "why": plan.why or None, "would_do": list(plan.would_do), "plan": [],
    }  # fmt: skip
    if solution is None:
        return row
    ours = plan.balance(solution.placement)
    return row | {
        "per_device_bytes": plan.device_bytes, "host_bytes": list(plan.loads.host),
        "lookup_s": plan.lookup_s, "step_s": figure_row(plan.step),
        "plan": [
            {
                "table": p.table.name, "rows": p.table.rows, "dim": p.table.dim, "pooling": p.table.pooling,
                "dtype": p.table.dtype, "strategy": p.layout.strategy, "tier": p.layout.tier,
                "cached": p.layout.cached, "hit_rate": hit_rate(p), "devices": list(p.devices),
                "torchrec": constraint(p),
            }
            for p in plan.placed
        ],
        "all_to_all_bytes": plan.moved("all-to-all"),
        "reduce_scatter_bytes": plan.moved("reduce-scatter"),
        "all_gather_bytes": plan.moved("all-gather"), "all_reduce_bytes": plan.moved("all-reduce"),
        "bisection_bytes": plan.bisection, "flows": [_flow_row(plan, f) for f in plan.flows],
        "imbalance": ours.time_imbalance, "memory_imbalance": ours.memory_imbalance,
        "max_device_s": ours.seconds, "gap": solution.gap, "bound_s": solution.bound,
        "solver": solution.how, "timed_out": solution.timed_out,
        "torchrec_greedy": _balance_row(plan.balance(plan.baseline)) if plan.baseline else None,
        "evidence": [evidence_row(e) for e in plan.step.evidence],
    }  # fmt: skip


def hit_rate(placed: Placed) -> float | None:
    """Share of lookups that a cache of the hottest rows answers; None where all rows are at hand or none."""
    if placed.layout.tier != CACHED:
        return None
    return placed.table.skew.hits(placed.layout.cached * placed.table.rows, placed.table.rows)


def _balance_row(balance: Balance) -> dict[str, Any]:
    return {"max_device_s": balance.seconds, "max_device_bytes": balance.hbm,
            "imbalance": balance.time_imbalance, "memory_imbalance": balance.memory_imbalance}  # fmt: skip


def _flow_row(plan: ShardingPlan, flow: Flow) -> dict[str, Any]:
    return {
        "name": flow.name, "phase": flow.phase, "collective": flow.collective, "total_bytes": flow.total,
        "sent_bytes": [float(x) for x in flow.by_device], "bisection_bytes": flow.bisection,
        "busiest_port_bytes": {level: flow.busiest(level) for level in ("inside", "across")},
        "latency_s": plan.flow_s(flow)[0],
    }  # fmt: skip


def print_shard(console: Console, plan: ShardingPlan, least: int | None = None) -> None:
    """`pharos shard`: the verdict, what moves, every table, every device."""
    job, topology, solution = plan.job, plan.topology, plan.solution
    tables = sum(t.nbytes for t in job.tables)
    where = f"{topology.devices} x {plan.machine.id}"
    if topology.nodes > 1:
        where += f" in {topology.nodes} nodes of {topology.group}"
    console.print(Text(f"{len(job.tables)} tables, {fmt(tables, 'B')}, on {where}", style="bold"))
    step = f"training, {job.optimizer.replace('_', ' ')}" if job.training else "forward alone"
    pair(console, "step", f"{fmt_count(job.batch)} samples, {fmt_count(job.local(topology.devices))} a device"
         f"; {step}")  # fmt: skip
    if solution is None:
        pair(console, "verdict", f"does NOT fit: {plan.why}")
        for i, what in enumerate(plan.would_do):
            pair(console, "would do" if i == 0 else "", what)
        return
    base = sum(plan.common.values())
    held = plan.device_bytes
    verdict = f"fits: {fmt(max(held), 'B')} on the fullest device of {fmt(plan.capacity, 'B')}, "
    verdict += f"{job.reserve:.0%} kept free"
    if least:
        verdict += f"; {least} devices are the fewest that do"
    pair(console, "verdict", verdict)
    parts = ", ".join(f"{name} {fmt(x, 'B')}" for name, x in plan.common.items() if x)
    pair(console, "of it", f"{fmt(base, 'B')} on every device: {parts}")
    if any(plan.loads.host):
        pair(console, "host", f"{fmt(max(plan.loads.host), 'B')} of its host for the fullest device")
    pair(console, "time", f"{band(plan.step)} for lookups and what is sent, one after the other  "
         f"[{plan.step.level}]")  # fmt: skip
    pair(console, "lookup", f"{fmt(max(plan.lookup_s), 's')} on the busiest device")
    ours = plan.balance(solution.placement)
    late = ", stopped by the clock" if solution.timed_out else ""
    pair(console, "balance", f"busiest device {fmt(ours.seconds, 's')}, {ours.time_imbalance:.3f} x the mean"
         f"; memory {ours.memory_imbalance:.3f} x")  # fmt: skip
    pair(console, "gap", f"at most {solution.gap:.2%} above the best placement ({solution.how}{late})")
    if plan.baseline:
        theirs = plan.balance(plan.baseline)
        pair(console, "TorchRec", f"its greedy planner, with these costs: {fmt(theirs.seconds, 's')}, "
             f"{theirs.time_imbalance:.3f} x the mean; fullest device {fmt(theirs.hbm, 'B')}")  # fmt: skip
    for i, item in enumerate(plan.step.evidence[:4]):
        pair(console, "known by" if i == 0 else "", str(item))
    if plan.flows:
        console.print()
        _print_flows(console, plan)
    console.print()
    _print_tables(console, plan)
    console.print()
    _print_devices(console, plan)


def _bytes(x: Any) -> str:
    return fmt(x, "B").replace(" ", "")


def _print_flows(console: Console, plan: ShardingPlan) -> None:
    rows = []
    for flow in plan.flows:
        port = max(flow.busiest("inside"), flow.busiest("across"))
        rows.append([flow.name, flow.collective, _bytes(flow.total), _bytes(port), _bytes(flow.bisection),
                     fmt(plan.flow_s(flow)[0], "s")])  # fmt: skip
    columns = [("moves", "left"), ("by", "left"), ("all links", "right"), ("busiest port", "right"),
               ("bisection", "right"), ("time", "right")]  # fmt: skip
    grid(console, columns, rows)


def _print_tables(console: Console, plan: ShardingPlan) -> None:
    rows = []
    for placed in plan.placed:
        t = placed.table
        layout = str(placed.layout)
        rate = hit_rate(placed)
        if rate is not None:
            layout += f" ({rate:.0%} hits)"
        rows.append([t.name, _count(t.rows), str(t.dim), f"{t.pooling:g}", _bytes(t.nbytes), layout,
                     devices_text(placed.devices)])  # fmt: skip
    columns = [("table", "left"), ("rows", "right"), ("dim", "right"), ("pooling", "right"),
               ("bytes", "right"), ("laid", "left"), ("devices", "left")]  # fmt: skip
    grid(console, columns, rows, flexible=(0, 5, 6))


def devices_text(devices: tuple[int, ...]) -> str:
    """0-3,5: runs of devices written short."""
    found: list[str] = []
    run: list[int] = []
    for d in [*sorted(devices), None]:
        if run and (d is None or d != run[-1] + 1):
            found.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if d is not None:
            run.append(d)
    return ",".join(found)


def _print_devices(console: Console, plan: ShardingPlan) -> None:
    held, sent = plan.device_bytes, [0.0] * plan.topology.devices
    for flow in plan.flows:
        sent = [a + float(b) for a, b in zip(sent, flow.by_device, strict=True)]
    pieces = [sum(d in p.devices for p in plan.placed) for d in range(plan.topology.devices)]
    rows, shown = [], min(plan.topology.devices, 16)
    for d in range(shown):
        rows.append([str(d), str(pieces[d]), _bytes(held[d]), f"{held[d] / plan.capacity:.0%}",
                     fmt(plan.lookup_s[d], "s"), fmt(plan.loads.seconds[d], "s"),
                     _bytes(sent[d])])  # fmt: skip
    columns = [("device", "left"), ("tables", "right"), ("memory", "right"), ("full", "right"),
               ("lookup", "right"), ("its time", "right"), ("sends", "right")]  # fmt: skip
    grid(console, columns, rows)
    if shown < plan.topology.devices:
        console.print(f"and {plan.topology.devices - shown} further devices; --json has all", style="dim")
    console.print("its time: lookups, updates and bytes of its tables, which the plan evens out", style="dim")


def _count(x: int) -> str:
    return fmt_count(x).replace(" ", "")
