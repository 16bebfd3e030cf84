"""Treemap: a network's parts as rectangles, their areas its parameters, MACs or time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pharos.graph.count import Count
from pharos.predict.estimate import Estimate
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt, fmt_count
from pharos.report.drawing import Figure
from pharos.report.marks import CHARACTER, asked_of, banded, lines, short_machine
from pharos.report.plotting import plot
from pharos.report.roofs import CLASSES, require_numbers
from pharos.report.squarify import Rectangle, squarify

WIDTH, HEIGHT = 570, 380
BY = ("parameters", "macs", "time")
# Pixels between groups; parts smaller than so many square pixels are drawn as one.
GAP, LEAST = 3.0, 30.0
# A group with more of the whole is told apart by the next part of its names.
LARGE, DEEPEST = 0.85, 3
KINDS = {"norm": "norm", "gather": "embedding", "softmax": "softmax", "pool": "pooling"}
LINE = 13


@dataclass(frozen=True, slots=True)
class _Leaf:
    name: str
    kind: str
    value: float
    runs: int


@plot("treemap", "a network's parts as areas: its parameters, MACs or time", takes="count")
def treemap(found: Count | Estimate, *, by: str = "parameters") -> Figure:
    """The treemap of a count, or of an estimate, which alone has times.

    Args:
        by: "parameters", "macs" or "time".

    Raises:
        InputError: time without a machine, sizes that are no numbers, or nothing of what is asked for.
    """
    if by not in BY:
        raise unknown("area", by, BY, where="--by")
    count = found.count if isinstance(found, Estimate) else found
    model = found.model if isinstance(found, Estimate) else count.graph.name
    if not is_int(count.macs):
        raise InputError("a treemap is of one workload: sizes must be numbers", where=model)
    leaves = [leaf for leaf in _leaves(found, count, by) if leaf.value > 0]
    if not leaves:
        raise InputError(f"has no {by}: nothing to draw", where=model)
    total = sum(leaf.value for leaf in leaves)
    groups = _groups(leaves)
    data = {"parts": [], "groups": [], "words": []}
    whole = Rectangle(0, 0, WIDTH, HEIGHT)
    for (group, inside), box in zip(
        groups.items(), squarify([sum(x.value for x in g) for g in groups.values()], whole), strict=True
    ):
        _fill(group, inside, box, total, by, data)
    sums = {g: sum(x.value for x in inside) / total for g, inside in groups.items()}
    largest = sorted(leaves, key=lambda x: -x.value)[:5]
    told = ", ".join(f"{x.name} {x.value / total:.1%}" for x in largest)
    ordered = sorted(sums.items(), key=lambda s: -s[1])[:8]
    spread = f" By group: {', '.join(f'{g} {s:.0%}' for g, s in ordered)}." if len(sums) > 1 else ""
    return Figure.of(
        _chart(data), name="treemap", title=f"{model}: {_title(found, by)}", data=data,
        source=lines(_source(found, by, total), "area: the share of the whole"),
        alt=f"Treemap of {model}: {_says(total, by)}. Largest: {told}.{spread}",
    )  # fmt: skip


def _leaves(found: Count | Estimate, count: Count, by: str) -> Iterable[_Leaf]:
    if by == "time":
        if not isinstance(found, Estimate):
            raise InputError("times are a machine's", where="--by time", hint="give --on MACHINE")
        require_numbers(found)
        for op in found.operations:
            lead = op.kernel.lead
            yield _Leaf(lead.name, _kind(lead.cost_class), float(op.total_s or 0), int(lead.times))
        return
    for line in count.lines:
        value = line.parameters if by == "parameters" else line.work.macs * line.times
        yield _Leaf(line.name, _kind(line.cost_class), float(value), int(line.times))


def _kind(cost_class: str) -> str:
    return CLASSES.get(cost_class, KINDS.get(cost_class, "elementwise, other"))


def _groups(leaves: list[_Leaf]) -> dict[str, list[_Leaf]]:
    """Parts by the first part of their names, further parts where nearly all is one."""
    total = sum(x.value for x in leaves)
    deep = max(len(x.name.split(".")) for x in leaves)
    depth = 1
    while True:
        found: dict[str, list[_Leaf]] = {}
        for leaf in leaves:
            parts = leaf.name.split(".")
            found.setdefault(".".join(parts[: min(depth, len(parts) - 1) or 1]), []).append(leaf)
        most = max(sum(x.value for x in g) for g in found.values())
        if most < LARGE * total or depth == DEEPEST or depth + 1 >= deep:
            return found
        depth += 1


def _fill(
    group: str, inside: list[_Leaf], box: Rectangle, total: float, by: str,
    data: dict[str, list[dict[str, Any]]],
) -> None:  # fmt: skip
    """One group: its frame, its name where there is room, and its parts."""
    own = sum(x.value for x in inside)
    frame = _shrunk(box, GAP)
    data["groups"].append({**_corners(frame), "group": group, "value": own, "share": own / total})
    heading = f"{group} {own / total:.0%}"
    header = 0.0
    if len(inside) > 1 and frame.height > 60 and frame.width > _wide(heading, 11) + 6:
        header = LINE + 3.0
        data["words"].append({"x": frame.x + 3, "y": frame.y + 9, "text": heading, "what": "group"})
    room = Rectangle(frame.x, frame.y + header, frame.width, frame.height - header)
    shown = sorted(inside, key=lambda x: -x.value)
    scale = room.width * room.height / own if own else 0
    small = [x for x in shown if x.value * scale < LEAST]
    if len(small) > 1:
        shown = [x for x in shown if x.value * scale >= LEAST]
        rest = sum(x.value for x in small)
        shown.append(_Leaf(f"{len(small)} smaller parts", "elementwise, other", rest, 0))
    for leaf, r in zip(shown, squarify([x.value for x in shown], room), strict=True):
        tight = _shrunk(r, 1.0)
        data["parts"].append({
            **_corners(tight), "part": leaf.name, "group": group, "kind": leaf.kind, "value": leaf.value,
            "share": leaf.value / total, "runs": leaf.runs, "area": r.width * r.height,
            "told": _amount(leaf.value, by),
        })  # fmt: skip
        _label(leaf, group, tight, total, data["words"])


def _label(leaf: _Leaf, group: str, r: Rectangle, total: float, words: list[dict[str, Any]]) -> None:
    """A part's name and share, as much of it as fits."""
    name = leaf.name.removeprefix(f"{group}.")
    parts = name.split(".")
    # a number alone would say nothing
    tries = [t for i in range(len(parts)) if not (t := ".".join(parts[i:])).isdigit() or i == 0]
    wide = r.width - 6
    fitting = next((t for t in tries if _wide(t, 11) <= wide), None)
    letters = int(wide / _wide("x", 11)) - 1
    if fitting is None and letters >= 4:
        fitting = f"{tries[-1][:letters]}…"
    percent = f"{leaf.value / total:.1%}"
    if fitting is None or r.height < LINE + 2:
        return
    if r.height >= 2 * LINE + 4 and _wide(percent, 11) <= wide:
        words.append({"x": r.x + 3, "y": r.y + 9, "text": fitting, "what": "part"})
        words.append({"x": r.x + 3, "y": r.y + 9 + LINE, "text": percent, "what": "share"})
    elif _wide(f"{fitting} {percent}", 11) <= wide:
        words.append({"x": r.x + 3, "y": r.y + 9, "text": f"{fitting} {percent}", "what": "part"})
    else:
        words.append({"x": r.x + 3, "y": r.y + 9, "text": fitting, "what": "part"})


def _shrunk(r: Rectangle, gap: float) -> Rectangle:
    """With a gap to its right and below, of half of it at most."""
    return Rectangle(r.x, r.y, max(r.width - gap, r.width / 2), max(r.height - gap, r.height / 2))


def _wide(text: str, size: float) -> float:
    return CHARACTER * size * len(text)


def _corners(r: Rectangle) -> dict[str, float]:
    return {"x": r.x, "y": r.y, "x2": r.x + r.width, "y2": r.y + r.height}


def _chart(data: dict[str, list[dict[str, Any]]]) -> Any:
    import altair as alt

    x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, WIDTH], nice=False))
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[HEIGHT, 0], nice=False))
    share: dict[str, float] = {}
    for row in data["parts"]:
        share[row["kind"]] = share.get(row["kind"], 0.0) + row["share"]
    order = sorted(share, key=lambda k: -share[k])
    told = alt.Legend(title=None, orient="bottom", columns=4)
    colour = alt.Color("kind:N", scale=alt.Scale(domain=order), legend=told)
    rim = alt.Stroke("kind:N", scale=alt.Scale(domain=order), legend=told)
    hint = ["part:N", "kind:N", "told:N", alt.Tooltip("share:Q", format=".2%"), "runs:Q"]
    words = alt.Chart(alt.NamedData("words")).encode(x=x, y=y, text="text:N")
    return alt.layer(
        alt.Chart(alt.NamedData("parts")).mark_rect(fillOpacity=0.32, strokeWidth=1, cornerRadius=1)
        .encode(x=x, y=y, x2="x2:Q", y2="y2:Q", color=colour, stroke=rim, tooltip=hint),
        words.transform_filter("datum.what == 'group'").mark_text(align="left", baseline="middle",
                                                                  fontWeight=600),
        words.transform_filter("datum.what == 'part'").mark_text(align="left", baseline="middle"),
        words.transform_filter("datum.what == 'share'").mark_text(align="left", baseline="middle",
                                                                  style=["quiet"]),
    ).properties(width=WIDTH, height=HEIGHT)  # fmt: skip


def _amount(value: float, by: str) -> str:
    return {"parameters": fmt_count(value), "macs": fmt(value, "MAC"), "time": fmt(value, "s")}[by]


def _says(total: float, by: str) -> str:
    told = _amount(total, by)
    return {"parameters": f"{told} parameters", "macs": told, "time": f"kernels take {told}"}[by]


def _title(found: Count | Estimate, by: str) -> str:
    if by == "time" and isinstance(found, Estimate):
        return f"where its time goes on {short_machine(found.machine)}"
    return {"parameters": "where its parameters are", "macs": "where its MACs are"}[by]


def _source(found: Count | Estimate, by: str, total: float) -> str:
    if by == "time" and isinstance(found, Estimate):
        return f"{asked_of(found)}; step {banded(found.latency)}"
    return f"{_says(total, by)}; counted, exact from shapes" + (" (1 MAC = 2 FLOPs)" if by == "macs" else "")
