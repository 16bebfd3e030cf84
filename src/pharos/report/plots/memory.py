"""Memory: activations over the steps of a forward pass, each a rectangle where an arena puts its bytes."""

from typing import Any

from pharos.graph.count import Count
from pharos.graph.graph import Graph
from pharos.graph.tensor import shape_text
from pharos.passes.memory import arena, is_numeric, liveness
from pharos.predict.estimate import Estimate
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import CHARACTER, INNER, haloed, lines, short, short_machine, unit_labels
from pharos.report.plotting import plot

HEIGHT = 340
# Tensors that are named at most, where their rectangle holds the words.
NAMED = 14
# Rectangles beyond which the smallest are left out; that is told.
MOST = 1500
# Steps beyond which equal layers are drawn as their first and last two.
LONG = 250
PEAK, OTHER = "live at the peak", "other activations"


@plot("memory", "activations over the steps, placed in one block of memory, and their peak", takes="count")
def memory(found: Count | Estimate) -> Figure:
    """Lifetimes of a graph's activations in an arena: steps across, addresses up.

    Raises:
        InputError: sizes that are no numbers.
    """
    count = found.count if isinstance(found, Estimate) else found
    model = found.model if isinstance(found, Estimate) else count.graph.name
    if not is_numeric(count.graph):
        raise InputError("memory is drawn of one workload: sizes must be numbers", where=model)
    plain, folded = _drawn(count.graph)
    block, live = arena(plain), liveness(plain, in_place=True)
    at = max(range(len(live.live)), key=lambda i: live.live[i])
    placed = [p for p in block.placements if p.nbytes]
    shown = sorted(placed, key=lambda p: -p.nbytes * (p.last - p.first + 1))[:MOST]
    steps, top = len(live.steps), max(block.size, 1)
    rows = [
        {"tensor": p.name, "first": p.first, "end": p.last + 1, "offset": p.offset,
         "top": p.offset + p.nbytes, "bytes": p.nbytes, "told": fmt(p.nbytes, "B"),
         "kind": PEAK if p.first <= at <= p.last else OTHER,
         "made_by": live.steps[p.first], "last_read_by": live.steps[min(p.last, steps - 1)]}
        for p in shown
    ]  # fmt: skip
    data = {
        "tensors": rows,
        "live": [{"step": i + 0.5, "bytes": int(b), "operator": name, "told": fmt(b, "B")}
                 for i, (b, name) in enumerate(zip(live.live, live.steps, strict=True))],
        "peak": [{"step": at + 0.5, "bytes": int(live.live[at]), "operator": live.steps[at],
                  "text": f"peak {fmt(live.live[at], 'B')} at {short(live.steps[at], 34)}"}],
        "block": [{"bytes": block.size, "text": f"arena {fmt(block.size, 'B')}"}],
        "words": _words(shown, steps, top),
    }  # fmt: skip
    held = int(count.weight_bytes + count.buffer_bytes)
    waste = block.size / live.peak - 1 if live.peak else 0.0
    largest = sorted((r for r in rows if r["kind"] == PEAK), key=lambda r: -r["bytes"])[:3]
    named = ", ".join(f"{r['tensor']} {r['told']}" for r in largest)
    left = f"; the {len(placed) - MOST} smallest are not drawn" if len(placed) > MOST else ""
    return Figure.of(
        _chart(data, steps, top), name="memory",
        title=f"{model}: activations over a forward pass, peak {fmt(live.peak, 'B')}",
        source=lines(
            f"{_inputs(count.graph)}; elementwise results written over their inputs; "
            f"weights ({fmt(held, 'B')}) apart{_room(found)}",
            f"an arena placed greedily by size takes {fmt(block.size, 'B')}, {waste:.0%} above the peak"
            f"{left}; line: live bytes; counted from shapes{folded}",
        ),
        alt=f"Memory of {model} over {steps} steps: live activations peak at {fmt(live.peak, 'B')} at "
            f"{live.steps[at]}, where the largest are {named}; an arena takes {fmt(block.size, 'B')}. "
            f"{len(placed)} tensors; weights are {fmt(held, 'B')} beside them.",
        data=data,
    )  # fmt: skip


def _drawn(graph: Graph) -> tuple[Graph, str]:
    """The graph written out; where it is long, equal layers as two of them, if that needs the same block."""
    plain = graph.expanded()
    if len(plain.nodes) <= LONG:
        return plain, ""
    short_form = graph.expanded(most=2)
    same = len(short_form.nodes) < len(plain.nodes) and arena(short_form).size == arena(plain).size
    return (short_form, "; of equal layers two are drawn") if same else (plain, "")


def _inputs(graph: Graph) -> str:
    told = [f"{v.name} {shape_text(v.tensor.shape)} {v.tensor.dtype}" for v in graph.inputs[:2]]
    return ", ".join(told) + (f" and {len(graph.inputs) - 2} more inputs" if len(graph.inputs) > 2 else "")


def _room(found: Count | Estimate) -> str:
    if not isinstance(found, Estimate):
        return ""
    room = found.machine.capacity_bytes.value
    return f"; {short_machine(found.machine)} has {fmt(room, 'B')}" if room else ""


def _words(shown: list[Any], steps: int, top: int) -> list[dict[str, Any]]:
    """Names of large tensors, where their rectangles hold them."""
    rows = []
    for p in shown:
        wide, high = (p.last + 1 - p.first) / steps * INNER, p.nbytes / top * HEIGHT
        text = short(p.name, 22)
        amount = f"{text} {fmt(p.nbytes, 'B')}"
        text = amount if 10 * CHARACTER * len(amount) + 4 < wide else text
        if high >= 12 and 10 * CHARACTER * len(text) + 4 < wide:
            rows.append({"step": p.first + (p.last + 1 - p.first) / 2, "bytes": p.offset + p.nbytes / 2,
                         "text": text})  # fmt: skip
        if len(rows) == NAMED:
            break
    return rows


def _chart(data: dict[str, list[dict[str, Any]]], steps: int, top: int) -> Any:
    import altair as alt

    x_scale, y_scale = alt.Scale(domain=[0, steps], nice=False), alt.Scale(domain=[0, top * 1.12], nice=False)
    x_axis = alt.Axis(title="step: one operator each", tickMinStep=1, grid=False)
    y_axis = alt.Axis(title="address in the block", labelExpr=unit_labels("B"))
    told = alt.Legend(title=None, orient="bottom")
    colour = alt.Color("kind:N", legend=told, scale=alt.Scale(domain=[OTHER, PEAK]))
    tensors = alt.Chart(alt.NamedData("tensors"))
    live = alt.Chart(alt.NamedData("live"))
    peak = alt.Chart(alt.NamedData("peak"))
    block = alt.Chart(alt.NamedData("block"))
    words = alt.Chart(alt.NamedData("words"))
    x = alt.X("step:Q", scale=x_scale, axis=x_axis)
    y = alt.Y("bytes:Q", scale=y_scale, axis=y_axis)
    at = data["peak"][0]["step"] / steps
    texts = [len(data[name][0]["text"]) * 11 * CHARACTER for name in ("peak", "block")]
    # both names on one line where they do not meet
    beside = (at if at < 0.6 else 1 - at) * INNER + sum(texts) + 20 < INNER
    aside: dict[str, Any] = {"align": "left", "dx": 6} if at < 0.6 else {"align": "right", "dx": -6}
    far: dict[str, Any] = {"align": "right", "dx": -2} if at < 0.6 else {"align": "left", "dx": 2}
    return alt.layer(
        tensors.mark_rect(fillOpacity=0.45, strokeWidth=0.7).encode(
            x=alt.X("first:Q", scale=x_scale, axis=x_axis), x2="end:Q",
            y=alt.Y("offset:Q", scale=y_scale, axis=y_axis), y2="top:Q", color=colour,
            stroke=alt.Stroke("kind:N", legend=told, scale=alt.Scale(domain=[OTHER, PEAK])),
            tooltip=["tensor:N", "told:N", "made_by:N", "last_read_by:N"],
        ),
        live.mark_line(interpolate="step", strokeWidth=1.4, style=["ink"]).encode(
            x=x, y=y, tooltip=["operator:N", "told:N"]
        ),
        block.mark_rule(strokeDash=[5, 4], style=["ink"]).encode(y=y),
        *haloed(block.encode(y=y, text="text:N", x=alt.value(INNER if at < 0.6 else 0)), **far,
                baseline="bottom", dy=-4 if beside else -19),
        peak.mark_point(shape="diamond", size=110, filled=True, style=["ink"]).encode(x=x, y=y),
        *haloed(words.encode(x=x, y=y, text="text:N"), baseline="middle", fontSize=10),
        *haloed(peak.encode(x=x, y=y, text="text:N"), baseline="bottom", dy=-4,
                fontWeight=600, **aside),
    ).properties(width=INNER, height=HEIGHT)  # fmt: skip
