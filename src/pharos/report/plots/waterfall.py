"""Waterfall: a step's time, energy or memory put together of the terms of the iron law."""

from dataclasses import dataclass
from typing import Any

from pharos.predict.estimate import Estimate
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Figure as Amount
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt
from pharos.report.characters import waterfall as in_characters
from pharos.report.drawing import Figure
from pharos.report.marks import CHARACTER, asked_of, banded, haloed, lines, short_machine, unit_labels
from pharos.report.plotting import plot
from pharos.report.roofs import bandwidth_of, require_numbers

WIDTH, ROW = 430, 40
BY = {"time": "s", "energy": "J", "memory": "B"}
# A part smaller than this share of the whole is left out, unless it is a term of the iron law.
SMALL = 1e-4
SUM = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One bar: from where the ones before it end.

    Args:
        term: its name. kind: what colours it. says: more about it.
        amount: SI; negative where it takes away. ideal: the part that a machine at its peak would take.
    """

    term: str
    kind: str
    amount: float
    says: str = ""
    ideal: float | None = None


@plot("waterfall", "a step's time, energy or memory, term by term of the iron law", takes="estimate")
def waterfall(estimate: Estimate, *, by: str = "time") -> Figure:
    """The terms of an estimate, one after the other, and what they come to with its band.

    Args:
        by: "time" (T = D/BW + O/(R x eta) + L, less what overlaps), "energy" or "memory".

    Raises:
        InputError: the figure is unknown, or sizes are arrays.
    """
    if by not in BY:
        raise unknown("quantity", by, BY, where="--by")
    if not is_int(estimate.count.macs):
        raise InputError("a waterfall is of one workload: sizes must be numbers", where=estimate.model)
    if by == "memory":
        steps, whole = _memory(estimate), None
        total = sum(s.amount for s in steps)
    else:
        require_numbers(estimate)
        steps = _time(estimate) if by == "time" else _energy(estimate)
        whole = estimate.latency if by == "time" else estimate.energy
        total = float(whole.value or 0)
    unit = BY[by]
    data = {"steps": _rows(steps, total, whole, unit)}
    room = estimate.machine.capacity_bytes.value if by == "memory" else None
    names = {"time": "one step", "energy": "energy of one step", "memory": "memory at its peak"}
    told = ", ".join(f"{s.term} {fmt(s.amount, unit)}{f' ({s.says})' if s.says else ''}" for s in steps)
    value = banded(whole) if whole is not None else fmt(total, unit)
    fits = _fits(estimate, room) if by == "memory" else ""
    return Figure.of(
        _chart(data, unit, room if room and room < 4 * total else None), name="waterfall",
        title=f"{estimate.model} on {short_machine(estimate.machine)}: {names[by]} {fmt(total, unit)}",
        alt=f"Waterfall of {estimate.model} on {estimate.machine.id}, {asked_of(estimate)}: {told}; "
            f"in all {value}.{f' {fits}.' if fits else ''}",
        source=lines(f"{asked_of(estimate)}; in all {value}{f'; {fits}' if fits else ''}", _note(by)),
        data=data, characters=lambda width: in_characters(data["steps"], width),
    )  # fmt: skip


def _note(by: str) -> str:
    return {
        "time": "dark: at the machine's peak and full bandwidth; light: lost below them",
        "energy": "static: constant power times the step's time",
        "memory": "parts counted from shapes; what is assumed says so",
    }[by]


def _fits(estimate: Estimate, room: float | None) -> str:
    if room is None:
        return "capacity unknown"
    verb = "does NOT fit in" if estimate.fits is False else "fits in" if estimate.fits else "of"
    return f"{verb} {fmt(room, 'B')}"


def _time(e: Estimate) -> list[Step]:
    """Compute, data, less their overlap, overhead; they add up to the latency."""
    compute, data, overhead = float(e.compute_s or 0), float(e.data_s or 0), float(e.overhead_s or 0)
    rate = rate_of(e.machine, compute_dtype(e.workload.precision)).ops_per_s
    bandwidth, _ = bandwidth_of(e)
    flops = float(e.count.flops)
    moved = sum(float(op.time.traffic_bytes * op.kernel.times) for op in e.operations if op.time is not None)
    at_peak = flops / rate if rate else None
    at_full = moved / bandwidth if bandwidth else None
    hidden = float(e.latency.value or 0) - compute - data - overhead
    steps = [
        Step(term="compute", kind="compute", amount=compute, ideal=_within(at_peak, compute),
             says=f"{fmt(flops, 'FLOP')}{_efficiency(at_peak, compute)}"),
        Step(term="data", kind="data", amount=data, ideal=_within(at_full, data),
             says=f"{fmt(moved, 'B')}{_efficiency(at_full, data)}"),
        Step(term="overlap" if hidden <= 0 else "waiting", kind="overlap", amount=hidden,
             says="compute and data at once" if hidden <= 0 else "beyond compute and data alone"),
        Step(term="overhead", kind="overhead", amount=overhead, says="launches, dispatch, serial steps"),
    ]  # fmt: skip
    return [s for s in steps if s.amount]


def _within(ideal: float | None, whole: float) -> float | None:
    return None if ideal is None else min(ideal, whole)


def _efficiency(ideal: float | None, whole: float) -> str:
    """What part of the time a machine at its peak would take: eta."""
    if ideal is None or not whole:
        return ""
    return f", eta {ideal / whole:.0%}" if ideal <= whole else ", much of it from the cache"


def _energy(e: Estimate) -> list[Step]:
    parts = e.energy_parts
    if parts is None or e.energy.value is None:
        why = e.energy.evidence[0].where if e.energy.evidence else "no reason is told"
        raise InputError(f"its energy is unknown: {why}", where=f"{e.model} on {e.machine.id}")
    return [
        Step(term="compute", kind="compute", amount=float(parts.compute_J), says="arithmetic"),
        Step(term="data", kind="data", amount=float(parts.data_J), says="bytes from memory and cache"),
        Step(term="static", kind="overhead", amount=float(parts.static_J), says="power drawn all along"),
    ]


def _memory(e: Estimate) -> list[Step]:
    m = e.memory
    parts = (
        ("weights", "data", m.weights, ""),
        ("activations", "compute", m.activations_peak, f"peak at {m.peak_operator}" * bool(m.peak_operator)),
        ("KV cache", "overlap", m.kv_cache, ""),
        ("state", "overlap", m.state, ""),
        ("gradients", "compute", m.gradients, ""),
        ("optimizer", "overlap", m.optimizer, ""),
        ("workspace", "compute", m.workspace, ""),
        ("rounding", "overhead", m.rounding, "to blocks"),
        ("unused", "overhead", m.unused, "set aside by the allocator"),
        ("runtime", "overhead", m.runtime, "GPU context, assumed" if e.machine.kind == "gpu" else ""),
    )
    total = float(m.total)
    return [
        Step(term=term, kind=kind, amount=float(size), says=says)
        for term, kind, size, says in parts
        if float(size) > SMALL * total
    ]


def _rows(steps: list[Step], total: float, whole: Amount | None, unit: str) -> list[dict[str, Any]]:
    rows, at = [], 0.0
    for s in steps:
        end = at + s.amount
        ideal = None if s.ideal is None else at + s.ideal
        rows.append({
            "term": s.term, "kind": s.kind, "amount": s.amount, "start": min(at, end), "end": max(at, end),
            "after": end, "ideal": ideal, "says": s.says, "told": fmt(s.amount, unit),
            "share": s.amount / total if total else 0.0,
        })  # fmt: skip
        at = end
    low = float(whole.low) if whole is not None and whole.low is not None else None
    high = float(whole.high) if whole is not None and whole.high is not None else None
    rows.append({"term": SUM, "kind": SUM, "amount": total, "start": 0.0, "end": total, "after": total,
                 "ideal": None, "says": "" if whole is None else whole.level, "told": fmt(total, unit),
                 "share": 1.0, "low": low, "high": high})  # fmt: skip
    return rows


def _chart(data: dict[str, list[dict[str, Any]]], unit: str, room: float | None) -> Any:
    import altair as alt

    rows = data["steps"]
    most = max(*(max(r["end"], r.get("high") or 0) for r in rows), room or 0) * 1.02
    for r in rows:
        r["label"] = f"{r['term']}  {r['told']}"
        r["side"], r["at"] = _beside(r, most)
    order = [r["label"] for r in rows]
    scale = alt.Scale(domain=[0, most], nice=False)
    x = alt.X("start:Q", title=None, scale=scale, axis=alt.Axis(labelExpr=unit_labels(unit), tickCount=5))
    y = alt.Y("label:N", sort=order, title=None, scale=alt.Scale(domain=order, paddingInner=0.35),
              axis=alt.Axis(domain=False, ticks=False, labelPadding=8, labelLimit=200))  # fmt: skip
    kinds = ["compute", "data", "overhead", "overlap"]
    colour = alt.Color("kind:N", legend=None, scale=alt.Scale(domain=kinds))
    base = alt.Chart(alt.NamedData("steps")).encode(y=y)
    parts = base.transform_filter(f"datum.kind != '{SUM}'")
    whole = base.transform_filter(f"datum.kind == '{SUM}'")
    sure = whole.transform_filter("isValid(datum.low)").encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    hint = ["term:N", "told:N", alt.Tooltip("share:Q", format=".1%"), "says:N"]
    layers = [
        parts.mark_bar(opacity=0.5).encode(x=x, x2="end:Q", color=colour, tooltip=hint),
        # dark: what a machine at its peak would take, or all of it where that is no question
        parts.transform_calculate(dark="isValid(datum.ideal) ? datum.ideal : datum.end")
        .mark_bar()
        .encode(x=x, x2="dark:Q", color=colour, tooltip=hint),
        whole.mark_bar(style=["quiet"], opacity=0.6).encode(x=x, x2="end:Q", tooltip=hint),
        sure.mark_rule(strokeWidth=2, style=["ink"]),
    ]
    for end in ("low", "high"):
        tip = whole.transform_filter("isValid(datum.low)").encode(x=alt.X(f"{end}:Q", scale=scale))
        layers.append(tip.mark_tick(thickness=2, size=12, style=["ink"]))
    if room is not None:
        data["room"] = [{"room": room, "text": f"capacity {fmt(room, 'B')}"}]
        line = alt.Chart(alt.NamedData("room")).encode(x=alt.X("room:Q", scale=scale))
        layers += [line.mark_rule(strokeDash=[5, 4], strokeWidth=1.5, style=["ink"]),
                   line.mark_text(align="right", baseline="bottom", dx=-4).encode(
                       text="text:N", y=alt.value(4))]  # fmt: skip
    at = alt.X("at:Q", scale=scale)
    for side, align, dx in (("after", "left", 6), ("before", "right", -6)):
        word = base.transform_filter(f"datum.side == '{side}'").encode(x=at, text="says:N")
        layers += haloed(word, align=align, dx=dx, baseline="middle", style=["quiet"])
    return alt.layer(*layers).properties(width=WIDTH, height=ROW * len(rows))


def _beside(row: dict[str, Any], most: float) -> tuple[str | None, float | None]:
    """The side of a bar on which its words have room, and where they start; None where neither has."""
    if not row["says"] or row["kind"] == SUM:
        return None, None
    wide = 11 * CHARACTER * len(row["says"]) + 8
    if row["end"] / most * WIDTH + wide <= WIDTH:
        return "after", row["end"]
    return ("before", row["start"]) if row["start"] / most * WIDTH >= wide else (None, None)
