"""Sharding: which pieces of which tables each device holds, against its memory."""

from typing import Any

from pharos.plan.shard_layouts import CACHED, HBM
from pharos.plan.sharding import ShardingPlan
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import CHARACTER, banded, lines, short_machine, unit_labels
from pharos.report.plotting import plot

WIDTH = 490
# Devices that are drawn one by one; of more, the fullest, the emptiest and some between.
MOST = 32
# Pieces narrower than so many pixels are drawn as one.
LEAST = 2.0
COMMON = "held by every device"


@plot("sharding", "pieces of embedding tables over devices, against their memory", takes="sharding")
def sharding(plan: ShardingPlan) -> Figure:
    """One bar a device, its pieces side by side, by the way their table is laid.

    Raises:
        InputError: no placement fits.
    """
    if not plan.fits:
        told = "; ".join(plan.would_do)
        raise InputError(f"no placement fits: {plan.why}", where=plan.machine.id, hint=told)
    number = plan.topology.devices
    total = plan.device_bytes
    shown = _shown(total)
    pieces = _pieces(plan)
    most = max(*total, plan.capacity if plan.capacity < 4 * max(total) else 0.0) * 1.02
    data: dict[str, list[dict[str, Any]]] = {"pieces": [], "words": [], "devices": []}
    for device in shown:
        _bar(device, pieces[device], plan, most, data)
    data["room"] = [{"bytes": plan.capacity, "text": f"room {fmt(plan.capacity, 'B')}"}]
    made = plan.balance(plan.solution.placement) if plan.solution else None
    ways: dict[str, int] = {}
    for p in plan.placed:
        ways[p.layout.strategy] = ways.get(p.layout.strategy, 0) + 1
    laid = ", ".join(f"{n} {way}" for way, n in sorted(ways.items(), key=lambda w: -w[1]))
    whole = sum(t.nbytes for t in plan.job.tables)
    uneven = f"the fullest holds {made.memory_imbalance:.2f}x the mean" if made else ""
    some = "" if len(shown) == number else f"; {len(shown)} of {number} devices drawn, by how full they are"
    moved = plan.moved("all-to-all")
    return Figure.of(
        _chart(data, most, plan.capacity), name="sharding", data=data,
        title=f"{len(plan.job.tables)} tables, {fmt(whole, 'B')}, on {number} x "
              f"{short_machine(plan.machine)}",
        source=lines(
            f"{laid}; {uneven}{some}",
            f"embedding part of a step {banded(plan.step)}; all-to-all {fmt(moved, 'B')}; bytes counted",
        ),
        alt=f"{len(plan.job.tables)} embedding tables, {fmt(whole, 'B')}, over {number} devices of "
            f"{plan.machine.id}: {laid}. Each holds {fmt(min(total), 'B')} to {fmt(max(total), 'B')} of "
            f"{fmt(plan.capacity, 'B')}; {uneven}. All-to-all sends {fmt(moved, 'B')} a step, which takes "
            f"{banded(plan.step)}.",
    )  # fmt: skip


def _shown(total: list[float]) -> list[int]:
    """Devices to draw, in their order where all are, else from the fullest to the emptiest."""
    if len(total) <= MOST:
        return list(range(len(total)))
    ranked = sorted(range(len(total)), key=lambda d: -total[d])
    return [ranked[round(i * (len(ranked) - 1) / (MOST - 1))] for i in range(MOST)]


def _pieces(plan: ShardingPlan) -> list[list[dict[str, Any]]]:
    """Of each device: table, how it is laid, what of it is here and its bytes, the largest first."""
    found: list[list[dict[str, Any]]] = [[] for _ in range(plan.topology.devices)]
    assert plan.solution is not None
    for placed, options, (chosen, _) in zip(
        plan.placed, plan.problem.options, plan.solution.placement, strict=True
    ):
        option, table = options[chosen], placed.table
        on_device = placed.layout.tier == HBM or placed.layout.tier == CACHED
        for device, rows, columns in placed.pieces:
            part = f"rows {rows.start:,} to {rows.stop - 1:,}, columns {columns.start} to {columns.stop - 1}"
            found[device].append({
                "table": table.name, "strategy": placed.layout.strategy, "tier": placed.layout.tier,
                "part": part, "bytes": float(option.hbm) if on_device else 0.0,
            })  # fmt: skip
    for one in found:
        one.sort(key=lambda p: (p["strategy"], -p["bytes"]))
    return found


def _bar(
    device: int, pieces: list[dict[str, Any]], plan: ShardingPlan, most: float,
    data: dict[str, list[dict[str, Any]]],
) -> None:  # fmt: skip
    """Rows of one device: what all hold, then its pieces, the small ones of a kind as one."""
    name, at = f"device {device}", 0.0
    base = float(sum(plan.common.values()))
    least = LEAST / WIDTH * most

    def add(table: str, strategy: str, size: float, part: str) -> None:
        nonlocal at
        if size <= 0:
            return
        data["pieces"].append({
            "device": name, "table": table, "strategy": strategy, "start": at, "end": at + size,
            "bytes": size, "told": fmt(size, "B"), "part": part,
        })  # fmt: skip
        if size / most * WIDTH > 10 * CHARACTER * len(table) + 4:
            data["words"].append({"device": name, "bytes": at + size / 2, "text": table})
        at += size

    add("common", COMMON, base, ", ".join(f"{k} {fmt(v, 'B')}" for k, v in plan.common.items()))
    for strategy in dict.fromkeys(p["strategy"] for p in pieces):
        mine = [p for p in pieces if p["strategy"] == strategy]
        for p in (p for p in mine if p["bytes"] >= least):
            add(p["table"], strategy, p["bytes"], p["part"])
        small = [p for p in mine if p["bytes"] < least]
        add(f"{len(small)} small", strategy, sum(p["bytes"] for p in small), "")
    data["devices"].append({"device": name, "bytes": at, "told": fmt(at, "B")})


def _chart(data: dict[str, list[dict[str, Any]]], most: float, capacity: float) -> Any:
    import altair as alt

    order = [r["device"] for r in data["devices"]]
    ways = list(dict.fromkeys([COMMON, *(p["strategy"] for p in data["pieces"])]))
    scale = alt.Scale(domain=[0, most], nice=False)
    y = alt.Y("device:N", sort=order, title=None, scale=alt.Scale(domain=order, paddingInner=0.2),
              axis=alt.Axis(domain=False, ticks=False))  # fmt: skip
    x = alt.X("start:Q", scale=scale, title="bytes of a device's memory",
              axis=alt.Axis(labelExpr=unit_labels("B"), tickCount=5))  # fmt: skip
    colour = alt.Color("strategy:N", scale=alt.Scale(domain=ways),
                       legend=alt.Legend(title=None, orient="bottom", columns=3))  # fmt: skip
    hint = ["device:N", "table:N", "strategy:N", "told:N", "part:N"]
    words = alt.Chart(alt.NamedData("words")).encode(y=y, x=alt.X("bytes:Q", scale=scale), text="text:N")
    layers: list[Any] = [
        alt.Chart(alt.NamedData("pieces")).mark_bar(fillOpacity=0.5, strokeWidth=0.8, style=["rimmed"])
        .encode(y=y, x=x, x2="end:Q", color=colour, tooltip=hint),
        words.mark_text(baseline="middle", fontSize=10),
    ]  # fmt: skip
    if capacity <= most:
        room = alt.Chart(alt.NamedData("room")).encode(x=alt.X("bytes:Q", scale=scale))
        layers += [room.mark_rule(strokeDash=[5, 4], strokeWidth=1.5, style=["ink"]),
                   room.mark_text(align="right", baseline="bottom", dx=-4).encode(
                       text="text:N", y=alt.value(-2))]  # fmt: skip
    row = 28 if len(order) <= 10 else 17
    return alt.layer(*layers).properties(width=WIDTH, height=row * len(order))
