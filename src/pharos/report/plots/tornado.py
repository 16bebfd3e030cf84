"""Tornado: how a step's time answers to half and to twice of each resource."""

from typing import Any

from pharos.decide.scaled import Scale, again
from pharos.decide.why import Why
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import CHARACTER, asked_of, banded, haloed, lines, short_machine, unit_labels
from pharos.report.plotting import plot

WIDTH, ROW = 440, 44
HALF, TWICE = "half of it", "twice of it"
# What a figure of a machine is called.
NAMES = {"compute": "peak compute", "bandwidth": "memory bandwidth", "capacity": "memory capacity",
         "network": "network", "batch": "batch (time a sample)"}  # fmt: skip


@plot("tornado", "what half and twice of each resource does to a step's time", takes="why")
def tornado(found: Why) -> Figure:
    """The sensitivity of a step, the resource that matters most on top.

    Twice is what `why` says; half is predicted here, on one device. Of the batch: a step's time by samples.

    Raises:
        InputError: the time of the step is unknown.
    """
    base, plan = found.base, found.plan
    step = base.latency if plan is None else plan.step
    if step.value is None:
        why = step.evidence[0].where if step.evidence else "no time"
        raise InputError(f"its latency is unknown: {why}", where=f"{base.model} on {base.machine.id}")
    centre = float(step.value)
    rows = []
    for one in found.doubled:
        if one.resource == "network" and plan is None:
            continue
        twice = None if one.speedup is None else centre / one.speedup
        half = _half(found, one.resource) if plan is None else None
        rows.append(_row(one.resource, centre, half, twice, one.note))
    rows.sort(key=lambda r: -(r["high_s"] - r["low_s"]))
    data = {"bars": [b for r in rows for b in r.pop("bars")], "resources": rows}
    told = "; ".join(
        f"twice the {r['resource']} {fmt(r['twice_s'], 's')}"
        + (f", half {fmt(r['half_s'], 's')}" if r["half_s"] is not None else "")
        for r in rows if r["twice_s"] is not None
    )  # fmt: skip
    reason = f"with twice the memory {found.reason}" if found.helpful == "capacity" else found.reason
    devices = f" x {found.devices}" if found.devices > 1 else ""
    return Figure.of(
        _chart(data, centre), name="tornado", data=data,
        title=f"{base.model} on {short_machine(base.machine)}{devices}: {found.binding} binds",
        source=lines(f"{asked_of(base)}; step {banded(step)}",
                     f"{_capital(reason)}; efficiencies kept"),
        alt=f"Sensitivity of {base.model} on {base.machine.id}{devices}, {asked_of(base)}, "
            f"{fmt(centre, 's')} a step, {found.binding} binds. A step would take: {told}. "
            f"{_capital(reason)}.",
    )  # fmt: skip


def _half(found: Why, resource: str) -> float | None:
    """Seconds of a step with half of a figure of the machine; None of what is no such figure."""
    if resource not in ("compute", "bandwidth", "capacity"):
        return None
    made = again(found.base, Scale(**{resource: 0.5}))
    return None if made.latency.value is None else float(made.latency.value)


def _row(resource: str, centre: float, half: float | None, twice: float | None, note: str) -> dict[str, Any]:
    ends = [v for v in (half, twice, centre) if v is not None]
    bars = []
    for which, value in ((HALF, half), (TWICE, twice)):
        if value is not None:
            bars.append({
                "resource": NAMES[resource], "which": which, "start_s": min(value, centre),
                "end_s": max(value, centre), "seconds": value, "change": value / centre - 1,
                "told": fmt(value, "s"), "text": f"{value / centre - 1:+.0%}".replace("-0%", "+0%"),
            })  # fmt: skip
    return {"resource": NAMES[resource], "half_s": half, "twice_s": twice, "low_s": min(ends),
            "high_s": max(ends), "note": note, "bars": bars}  # fmt: skip


def _chart(data: dict[str, list[dict[str, Any]]], centre: float) -> Any:
    import altair as alt

    order = [r["resource"] for r in data["resources"]]
    room = 8 * 11 * CHARACTER
    low, high = min(r["low_s"] for r in data["resources"]), max(r["high_s"] for r in data["resources"])
    # room for words on both sides
    pad = max(high - low, 0.02 * centre) * room / (WIDTH - 2 * room)
    scale = alt.Scale(domain=[low - pad, high + pad], nice=False, zero=False)
    for bar in data["bars"]:
        slower, same = bar["seconds"] > centre, abs(bar["change"]) < 0.005
        bar["side"] = "none" if same else "right" if slower else "left"
    data["base"] = [{"seconds": centre, "text": f"as it is {fmt(centre, 's')}"}]
    for r in data["resources"]:
        still = r["high_s"] - r["low_s"] < 0.01 * centre
        r["says"] = "changes nothing" if still else ""
    y = alt.Y("resource:N", sort=order, title=None, scale=alt.Scale(domain=order, paddingInner=0.4),
              axis=alt.Axis(domain=False, ticks=False, labelPadding=8))  # fmt: skip
    x = alt.X("start_s:Q", title="time of a step", scale=scale,
              axis=alt.Axis(labelExpr=unit_labels("s"), tickCount=5))  # fmt: skip
    colour = alt.Color("which:N", scale=alt.Scale(domain=[TWICE, HALF]),
                       legend=alt.Legend(title=None, orient="bottom"))  # fmt: skip
    hint = ["resource:N", "which:N", "told:N", alt.Tooltip("change:Q", format="+.1%")]
    bars = alt.Chart(alt.NamedData("bars")).encode(y=y)
    base = alt.Chart(alt.NamedData("base")).encode(x=alt.X("seconds:Q", scale=scale))
    layers = [
        bars.mark_bar().encode(x=x, x2="end_s:Q", color=colour, tooltip=hint),
        base.mark_rule(strokeWidth=1.5, style=["ink"]),
        base.mark_text(baseline="bottom", dy=-3).encode(text="text:N", y=alt.value(0)),
    ]  # fmt: skip
    for side, end, align, dx in (("right", "end_s", "left", 5), ("left", "start_s", "right", -5)):
        word = bars.transform_filter(f"datum.side == '{side}'").encode(
            x=alt.X(f"{end}:Q", scale=scale), text="text:N"
        )
        layers += haloed(word, align=align, dx=dx, baseline="middle")
    still = alt.Chart(alt.NamedData("resources")).transform_filter("datum.says != ''")
    layers += haloed(still.encode(y=y, x=alt.datum(centre, scale=scale), text="says:N"), align="left", dx=8,
                     baseline="middle", style=["quiet"])  # fmt: skip
    return alt.layer(*layers).properties(width=WIDTH, height=ROW * len(order))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
