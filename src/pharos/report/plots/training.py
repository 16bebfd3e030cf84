"""Training: what a step holds, kind by kind, over forward pass, backward pass and update."""

from typing import Any

from pharos.passes.held import Held
from pharos.passes.training import Training
from pharos.quantity.errors import InputError
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import INNER, haloed, lines, short, unit_labels
from pharos.report.plotting import plot

HEIGHT = 320
# Steps that are drawn at most; of more, each picture's step shows the fullest of its stretch.
MOST = 300
UPDATE = "update"


@plot("training", "memory of a training step by kind, over forward pass, backward pass and update",
      takes="training")  # fmt: skip
def training(step: Training, *, model: str = "") -> Figure:
    """Bytes of each kind after each operator of a step, stacked; the peak told.

    Args:
        model: its name, for the title.

    Raises:
        InputError: sizes that are no numbers, or a step whose course was not kept.
    """
    held = step.held
    if held is None or not is_int(step.peak):
        raise InputError("the course of this step is not known: sizes must be numbers")
    kinds, series = _series(held)
    number = len(held.steps)
    at = held.peak_index or 0
    phases = [_phase(s) for s in held.steps]
    # one operator wide, an update would not be seen
    pad = max(round(0.05 * number), 1) if phases[-1] == UPDATE else 1
    kept = _kept(held, number)
    rows = [
        {"step": i, "kind": kind, "order": order, "bytes": series[kind][i], "operator": held.steps[i],
         "told": fmt(series[kind][i], "B"), "phase": phases[i]}
        for i in kept for order, kind in enumerate(kinds)
    ]  # fmt: skip
    end = number - 1 + pad
    rows += [{**row, "step": end} for row in rows[-len(kinds) :]]
    bands = []
    for name in dict.fromkeys(phases):
        where = [i for i, p in enumerate(phases) if p == name]
        last = end if name == phases[-1] else where[-1] + 1
        bands.append({"phase": name, "first": where[0], "last": last, "middle": (where[0] + last) / 2})
    text = f"peak {fmt(step.peak, 'B')}, {short(held.steps[at], 40)}"
    data = {"held": rows, "phases": bands, "kinds": _words(kinds, series, kept, int(step.peak)),
            "peak": [{"step": at, "bytes": int(step.peak), "text": text}]}  # fmt: skip
    parts = sorted(step.parts.items(), key=lambda kv: -float(kv[1]))
    told = ", ".join(f"{k} {fmt(v, 'B')}" for k, v in parts)
    fewer = "" if number <= MOST else f"; of {number} steps the fullest of each stretch is drawn"
    return Figure.of(
        _chart(data, kinds, end, int(step.peak)), name="training",
        title=f"{model or 'A network'}, training step: memory by kind, peak {fmt(step.peak, 'B')}",
        source=lines(f"at the peak: {told}", f"{step.evidence}{fewer}"),
        alt=f"Memory of a training step over {number} operators: it peaks at {fmt(step.peak, 'B')} at "
            f"{held.steps[at]}, of which {told}.",
        data=data,
    )  # fmt: skip


def _series(held: Held) -> tuple[list[str], dict[str, list[int]]]:
    """Kinds, those that are there all through first, and the bytes of each after every step."""
    number = len(held.steps)
    series = {kind: [int(size)] * number for kind, size in held.resident.items() if size}  # type: ignore[arg-type]
    changes: dict[str, list[int]] = {}
    for s in held.storages:
        if s.last < s.first or not s.nbytes:
            continue
        line = changes.setdefault(s.kind, [0] * (number + 1))
        line[s.first] += int(s.nbytes)  # type: ignore[arg-type]
        line[min(s.last, number - 1) + 1] -= int(s.nbytes)  # type: ignore[arg-type]
    for kind, line in changes.items():
        now, made = 0, []
        for change in line[:number]:
            now += change
            made.append(now)
        base = series.get(kind)
        series[kind] = made if base is None else [a + b for a, b in zip(base, made, strict=True)]
    return list(series), series


def _words(
    kinds: list[str], series: dict[str, list[int]], kept: list[int], peak: int
) -> list[dict[str, Any]]:
    """Where each kind's name goes: into the middle of its band, where that is widest."""
    rows = []
    for order, kind in enumerate(kinds):
        inner = kept[len(kept) // 12 : -(len(kept) // 12) or None] or kept
        tallest = max(series[kind][i] for i in inner)
        if tallest < 16 / HEIGHT * 1.14 * peak:
            continue
        wide = [i for i in inner if series[kind][i] >= 0.98 * tallest]
        at = wide[len(wide) // 4]
        below = sum(series[k][at] for k in kinds[:order])
        rows.append({"step": at, "bytes": below + series[kind][at] / 2, "kind": kind})
    return rows


def _kept(held: Held, number: int) -> list[int]:
    """Steps to draw: all, or of each stretch the fullest, the first and the last."""
    if number <= MOST:
        return list(range(number))
    width = -(-number // MOST)
    live = held.live
    found = {max(range(i, min(i + width, number)), key=lambda j: live[j]) for i in range(0, number, width)}
    return sorted(found | {0, number - 1})


def _phase(step: str) -> str:
    if step.startswith("backward of "):
        return "backward"
    return UPDATE if step == UPDATE else "forward"


def _chart(data: dict[str, Any], kinds: list[str], end: int, peak: int) -> Any:
    import altair as alt

    x_scale = alt.Scale(domain=[0, end], nice=False)
    x = alt.X(
        "step:Q",
        scale=x_scale,
        axis=alt.Axis(title="operator, in order; the update drawn wider", grid=False, tickMinStep=1),
    )
    top = alt.Scale(domain=[0, peak * 1.14], nice=False)
    axis = alt.Axis(title="bytes held", labelExpr=unit_labels("B"))
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds),
                       legend=alt.Legend(title=None, orient="bottom", columns=4))  # fmt: skip
    edges = [{"step": b["first"]} for b in data["phases"][1:]]
    data["edges"] = edges
    at = data["peak"][0]["step"] / end
    aside: dict[str, Any] = {"align": "right", "dx": -8} if at > 0.5 else {"align": "left", "dx": 8}
    named = alt.Chart(alt.NamedData("peak")).encode(
        x=x, y=alt.Y("bytes:Q", scale=top, axis=axis), text="text:N"
    )
    return alt.layer(
        alt.Chart(alt.NamedData("held")).mark_area(interpolate="step-after", opacity=0.8, line=False).encode(
            x=x, y=alt.Y("bytes:Q", stack="zero", scale=top, axis=axis), color=colour, order="order:Q",
            tooltip=["operator:N", "kind:N", "told:N"],
        ),
        alt.Chart(alt.NamedData("edges")).mark_rule(strokeDash=[3, 4]).encode(x=x),
        alt.Chart(alt.NamedData("phases")).mark_text(baseline="bottom", dy=-3, style=["quiet"]).encode(
            x=alt.X("middle:Q", scale=x_scale), y=alt.value(0), text="phase:N"
        ),
        *haloed(alt.Chart(alt.NamedData("kinds")).encode(
            x=x, y=alt.Y("bytes:Q", scale=top, axis=axis), text="kind:N"), baseline="middle"),
        alt.Chart(alt.NamedData("peak")).mark_point(shape="diamond", filled=True, size=110, style=["ink"])
        .encode(x=x, y=alt.Y("bytes:Q", scale=top, axis=axis)),
        *haloed(named, baseline="bottom", dy=-5, fontWeight=600, **aside),
    ).properties(width=INNER, height=HEIGHT)  # fmt: skip
