"""The decision flow as a figure: questions down the middle, ways back at the sides, the way taken marked."""

from itertools import pairwise
from pathlib import Path

from pharos.decide.choose import Decision
from pharos.decide.flow import CHECKS
from pharos.decide.flowchart import (
    ACCEPT,
    FAMILIES,
    LARGER,
    NOTHING,
    OTHER,
    SMALLER,
    START,
    Flowchart,
    flowchart,
)
from pharos.quantity.errors import InputError
from pharos.report.canvas import Canvas
from pharos.report.drawing import SUFFIXES, Figure

MID, WIDE, STEP, TAKEN = 310, 256, 80, "taken"


def save_flow(decision: Decision, path: Path) -> None:
    """Writes the way that a decision took, in the form that the path's suffix names.

    Raises:
        InputError: no such form or folder, or what draws is not installed.
    """
    chart = flowchart(decision)
    texts = {".dot": chart.dot, ".gv": chart.dot, ".txt": lambda: "\n".join(chart.text()) + "\n"}
    suffix = path.suffix.lower()
    if suffix not in texts:
        if suffix not in SUFFIXES:
            raise InputError(f"{path.suffix or 'no suffix'} is no form of a flow", where=str(path),
                             hint=f"one of {', '.join((*texts, *SUFFIXES))}")  # fmt: skip
        flow_figure(chart).save(path)
        return
    try:
        path.write_text(texts[suffix](), encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror}", where=str(path)) from None


def flow_figure(chart: Flowchart) -> Figure:
    """The flow; with a decision's way where the chart has one."""
    order = [START, FAMILIES, *CHECKS, ACCEPT]
    y = {key: 30 + STEP * i for i, key in enumerate(order)}
    canvas = Canvas(620, y[ACCEPT] + 46, (TAKEN,))
    way = {(w.source, w.target): w for w in chart.ways}
    seen = any(w.taken for w in chart.ways)
    for key in order:
        _place(canvas, chart, key, y[key])
    for a, b in pairwise(order):
        w = way[a, b]
        group = TAKEN if w.taken else ""
        canvas.line([(MID, y[a] + _half(chart, a)), (MID, y[b] - _half(chart, b))], group=group,
                    width=2.8 if w.taken else 1.3)  # fmt: skip
        label = w.label + (f" {w.taken}×" if w.taken > 1 else "")
        if label:
            canvas.word(MID + 8, (y[a] + y[b]) / 2 + 1, label, size=11, align="left", bold=bool(w.taken))
    left, right = 78, 542
    first, last = y[next(iter(CHECKS))], y["deployment"]
    middle = (first + last) / 2
    _side(canvas, chart, SMALLER, left, middle, ["compress or", "scale down"])
    _side(canvas, chart, LARGER, left, y["accuracy"] + STEP + 8, ["add capacity"])
    _side(canvas, chart, OTHER, right, middle, ["reconsider", "the family"])
    for name in CHECKS:
        small = LARGER if name == "accuracy" else SMALLER
        w, at = way[name, small], y[name]
        x = left + (28 if small == SMALLER else -20)
        to = middle if small == SMALLER else y["accuracy"] + STEP + 8
        side = 24 if at < to else -24
        bends = (
            [(MID - WIDE / 2, at), (x, at), (x, to - side)]
            if abs(at - to) > 26
            else [(MID - WIDE / 2, at), (left + 62, at)]
        )
        canvas.line(bends, group=TAKEN if w.taken else "", width=2.6 if w.taken else 1)
        _no(canvas, w.taken, MID - WIDE / 2 - 8, at - 9, "right")
        w = way[name, OTHER]
        side = 24 if at < middle else -24
        bends = (
            [(MID + WIDE / 2, at), (right - 28, at), (right - 28, middle - side)]
            if abs(at - middle) > 26
            else [(MID + WIDE / 2, at), (right - 62, at)]
        )
        canvas.line(bends, group=TAKEN if w.taken else "", width=2.6 if w.taken else 1)
        _no(canvas, w.taken, MID + WIDE / 2 + 8, at - 9, "left")
    top, low = (y[FAMILIES] + first) / 2, y["accuracy"] + STEP + 8
    w = way[SMALLER, next(iter(CHECKS))]
    canvas.line([(left - 40, middle - 24), (left - 40, top), (MID - 1, top)], group=TAKEN if w.taken else "",
                width=2.6 if w.taken else 1)  # fmt: skip
    w = way[LARGER, next(iter(CHECKS))]
    canvas.line([(left - 60, low), (left - 69, low), (left - 69, top - 8), (MID - 1, top - 8)],
                group=TAKEN if w.taken else "", width=2.6 if w.taken else 1)  # fmt: skip
    w = way[OTHER, FAMILIES]
    canvas.line([(right + 30, middle - 24), (right + 30, y[FAMILIES]), (MID + WIDE / 2, y[FAMILIES])],
                group=TAKEN if w.taken else "", width=2.6 if w.taken else 1)  # fmt: skip
    w = way[OTHER, NOTHING]
    canvas.line([(right + 20, middle + 24), (right + 20, y[ACCEPT] - 17)], group=TAKEN if w.taken else "",
                width=2.6 if w.taken else 1)  # fmt: skip
    canvas.box(right - 60, y[ACCEPT] - 16, 124, 32, "nothing stands", group=TAKEN if w.taken else "",
               level=0.4 if w.taken else 0.12, size=12)  # fmt: skip
    canvas.word(right + 14, y[ACCEPT] - 40, "none left", size=11, align="right", quiet=True)
    noes = sum(w.taken for w in chart.ways if w.label == "no")
    path = (
        f" The way taken is marked: {noes} times a question was answered no. The end: {chart.result}."
        if seen
        else ""
    )
    alt = (
        "A flowchart from top to bottom: what structure the data have, which families assume it, then "
        + ", ".join(question.rstrip("?").lower() for question, _ in CHECKS.values())
        + ", and accept. A no at memory, compute, speed or deployment leads to compressing or scaling "
        "down, a no at "
        "accuracy to more capacity, and from both back to memory; where no member is left, the family is "
        "reconsidered, "
        "until none is left." + path
    )
    title = "From data to an architecture" + (f": {chart.title}" if chart.title else "")
    source = (
        chart.result
        if seen
        else "the flow that pharos choose follows; --brief FILE marks the way of a decision"
    )
    return Figure.of(canvas.chart(), name="decision-flow", title=title, alt=alt, source=source)


def _half(chart: Flowchart, key: str) -> float:
    return 28 if chart.place(key).kind == "question" else 21


def _place(canvas: Canvas, chart: Flowchart, key: str, y: float) -> None:
    place = chart.place(key)
    group, half = TAKEN if place.visits else "", _half(chart, key)
    figures = _short(place.figures) if place.kind == "end" else _broken(place.figures)
    lines, width = [place.says, *figures], WIDE if place.kind != "end" else WIDE + 56
    if place.kind == "question":
        cut = 22
        x0, x1 = MID - width / 2, MID + width / 2
        rim = [
            (x0, y),
            (x0 + cut, y - half),
            (x1 - cut, y - half),
            (x1, y),
            (x1 - cut, y + half),
            (x0 + cut, y + half),
            (x0, y),
        ]
        canvas.line(rim, group=group, width=2.4 if group else 1.2, head=False)
        canvas.box(x0 + cut, y - half, width - 2 * cut, 2 * half, group=group, level=0.14, edge=0)
    else:
        canvas.box(
            MID - width / 2, y - half, width, 2 * half, group=group, level=0.3, edge=2.4 if group else 1.2
        )
    canvas.word(MID, y, lines, size=11)


def _short(chosen: str) -> list[str]:
    """A model and its precision; one with long arguments without them."""
    if len(chosen) <= 58:
        return [chosen] if chosen else []
    name, _, rest = chosen.partition("(")
    return [f"{name}(…){rest.rpartition(')')[2]}"]


def _broken(figures: str) -> list[str]:
    """Figures on one line or two."""
    parts = figures.split(", ") if figures else []
    if len(figures) <= 44 or len(parts) == 1:
        return [figures] if figures else []
    half = (len(parts) + 1) // 2
    return [", ".join(parts[:half]), ", ".join(parts[half:])]


def _side(canvas: Canvas, chart: Flowchart, key: str, x: float, y: float, lines: list[str]) -> None:
    visits = chart.place(key).visits
    words = lines if not visits else [*lines[:-1], lines[-1] + (f" {visits}×" if visits > 1 else "")]
    canvas.box(x - 60, y - 23, 122, 46, words, group=TAKEN if visits else "", level=0.35, size=12,
               edge=2.4 if visits else 1.2)  # fmt: skip


def _no(canvas: Canvas, taken: int, x: float, y: float, align: str) -> None:
    canvas.word(
        x,
        y,
        "no" + (f" {taken}×" if taken > 1 else ""),
        size=11,
        align=align,
        bold=bool(taken),
        quiet=not taken,
    )
