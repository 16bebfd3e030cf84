"""Pareto: candidates that none beats, the one that was chosen, and the limits it had to keep."""

import re
from math import log10, sqrt
from typing import Any

from pharos.decide.choose import Decision
from pharos.decide.search import Trial
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import INNER, SHAPES, haloed, lines, log_axis, place, short_machine, zoom
from pharos.report.plotting import plot

HEIGHT = 330
AXES = {"latency": ("latency of an example", "s"), "memory": ("peak memory", "B"),
        "energy": ("energy of an example", "J"), "storage": ("stored weights", "B")}  # fmt: skip
CHOSEN, RUNNER_UP, FRONT = "chosen", "runner-up", "others that none beats"
KINDS = (CHOSEN, RUNNER_UP, FRONT)
# Square pixels of their marks.
AREAS = {CHOSEN: 240, RUNNER_UP: 110, FRONT: 70}
NAMED = 12
# A trial's label: model(width=0.75, resolution=224), int8.
_LABEL = re.compile(r"(?P<model>[^(,]+)(?:\((?P<given>.*)\))?, (?P<precision>[^,]+)")


@plot("pareto", "candidates that none beats, with the decision and its limits", takes="decision")
def pareto(decision: Decision, *, x: str = "latency", y: str = "") -> Figure:
    """The front of a decision.

    Args:
        x, y: latency, memory, energy or storage, and y also accuracy, which it is where any is known.

    Raises:
        InputError: nothing was judged, or what is asked for is unknown of all.
    """
    trials = _trials(decision)
    if not trials:
        raise InputError("nothing was judged: there is no front", where=decision.path,
                         hint="`pharos choose` says why")  # fmt: skip
    if not y:
        known = any(t.value("accuracy") is not None for t, _ in trials if "accuracy" in t.figures)
        y = "accuracy" if known else "memory" if x != "memory" else "latency"
    for name, allowed in ((x, tuple(AXES)), (y, (*AXES, "accuracy"))):
        if name not in allowed:
            raise unknown("axis", name, allowed, where="plot pareto")
    names = _names([t for t, _ in trials])
    rows = [row for t, kind in trials if (row := _row(t, kind, x, y)) is not None]
    for row in rows:
        row["name"], row["area"] = names[row["label"]], AREAS[row["kind"]]
    left = len(trials) - len(rows)
    if not rows:
        raise InputError(f"{x} or {y} is unknown of every candidate", where=decision.path)
    limits = _limits(decision, x, y)
    # the choice is drawn last, over the others
    data: dict[str, list[dict[str, Any]]] = {"candidates": rows[::-1], "limits": limits}
    spans = {"x": _span(rows, "x", limits), "y": _span(rows, "y", limits)}
    data["words"] = _words(rows, spans, y)
    chosen = decision.chosen
    machine = short_machine(chosen.machine) if chosen is not None else ""
    name = decision.brief.name
    outcome = f"{names[chosen.label]} on {machine}" if chosen is not None else "nothing stands"
    told = "; ".join(f"{r['label']} ({r['kind']}): {x} {r['x_told']}, {y} {r['y_told']}" for r in rows[:8])
    told += f"; and {len(rows) - 8} more" if len(rows) > 8 else ""
    gone = f"; {left} without a known {x} or {y} left out" if left else ""
    kept = ", ".join(f"{w['axis']} {w['text']}" for w in limits)
    return Figure.of(
        _chart(data, spans, x, y), name="pareto", title=f"{name}: {outcome}", data=data,
        source=lines(
            f"{len(rows)} candidates that none beats in accuracy, latency, memory and energy at once, of "
            f"{decision.searched[0]:,} judged{gone}",
            f"bars: 80% bands; {x} {_level(trials, x)}, {y} {_level(trials, y)}",
        ),
        alt=f"Front of {name}: {outcome}. {told}.{f' Limits: {kept}.' if kept else ''}",
    )  # fmt: skip


def _trials(decision: Decision) -> list[tuple[Trial, str]]:
    found: list[tuple[Trial, str]] = []
    if decision.chosen is not None:
        found.append((decision.chosen, CHOSEN))
    if decision.runner_up is not None:
        found.append((decision.runner_up, RUNNER_UP))
    return found + [(t, FRONT) for t in decision.front if all(t is not f for f, _ in found)]


def _names(trials: list[Trial]) -> dict[str, str]:
    """Labels without what all of the same family have in common."""
    read = {t.label: _LABEL.fullmatch(t.label) for t in trials}
    given: dict[str, set[str]] = {}
    for found in read.values():
        for word in (found["given"] or "").split(", ") if found else ():
            given.setdefault(word.partition("=")[0], set()).add(word)
    names = {}
    for label, found in read.items():
        if found is None:
            names[label] = label
            continue
        words = [w for w in (found["given"] or "").split(", ") if w and len(given[w.partition("=")[0]]) > 1]
        told = f"({', '.join(words)})" if words else ""
        names[label] = f"{found['model']}{told}, {found['precision']}"
    return names


def _row(trial: Trial, kind: str, x: str, y: str) -> dict[str, Any] | None:
    made: dict[str, Any] = {"label": trial.label, "kind": kind, "machine": short_machine(trial.machine),
                            "broken": ", ".join(trial.broken), "stands": trial.stands}  # fmt: skip
    for axis, name in (("x", x), ("y", y)):
        figure = trial.figures.get(name)
        if figure is None or figure.value is None or (name != "accuracy" and float(figure.value) <= 0):
            return None
        value = float(figure.value)
        low, high = (value if v is None else float(v) for v in (figure.low, figure.high))
        told = f"{value:.1%}" if name == "accuracy" else fmt(value, AXES[name][1])
        made |= {axis: value, f"{axis}_low": low, f"{axis}_high": high, f"{axis}_told": told}
    return made


def _level(trials: list[tuple[Trial, str]], name: str) -> str:
    levels = [t.figures[name].level for t, _ in trials if name in t.figures]
    return " or ".join(dict.fromkeys(v for v in levels if v != "unknown")) or "unknown"


def _limits(decision: Decision, x: str, y: str) -> list[dict[str, Any]]:
    made = []
    for axis, name in (("x", x), ("y", y)):
        value = getattr(decision.brief.limits, name, None)
        if value is not None:
            least = name == "accuracy"
            told = f"{float(value):.1%}" if least else fmt(float(value), AXES[name][1])
            made.append({"axis": name, "on": axis, "value": float(value),
                         "text": f"{'at least' if least else 'limit'} {told}"})  # fmt: skip
    return made


def _span(rows: list[dict[str, Any]], axis: str, limits: list[dict[str, Any]]) -> tuple[float, float]:
    """The window: all bands; a limit where it does not stretch it beyond ten times."""
    low, high = min(r[f"{axis}_low"] for r in rows), max(r[f"{axis}_high"] for r in rows)
    for w in limits:
        if w["on"] == axis and low / 10 <= w["value"] <= high * 10:
            low, high = min(low, w["value"]), max(high, w["value"])
    return low, high


def _words(rows: list[dict[str, Any]], spans: dict[str, tuple[float, float]], y: str) -> list[dict[str, Any]]:
    x0, x1, y0, y1 = *_window(spans["x"], True), *_window(spans["y"], y != "accuracy")

    def at(row: dict[str, Any]) -> tuple[float, float]:
        return (
            _part(row["x"], x0, x1, True) * INNER,
            (1 - _part(row["y"], y0, y1, y != "accuracy")) * HEIGHT,
        )

    points = [(*at(r), 8.0 if r["kind"] == CHOSEN else 5.0) for r in rows]
    wanted = [(*p, r["name"]) for p, r in zip(points, rows, strict=True)][:NAMED]
    found = place(wanted, INNER, HEIGHT, circles=points, far=(0,))
    made = []
    for w, r in zip(found, rows, strict=False):
        if w is not None:
            across, up = w.x / INNER, 1 - w.y / HEIGHT
            made.append({"x": _back(across, x0, x1, True), "y": _back(up, y0, y1, y != "accuracy"),
                         "text": w.text, "kind": r["kind"]})  # fmt: skip
    return made


def _window(span: tuple[float, float], log: bool) -> tuple[float, float]:
    low, high = span
    if log:
        room = max(sqrt(sqrt(high / low)), 1.3) if low > 0 else 1.3
        return low / room, high * room
    room = max(0.15 * (high - low), 0.01)
    return max(low - room, 0.0), min(high + room, 1.0)


def _part(value: float, low: float, high: float, log: bool) -> float:
    return log10(value / low) / log10(high / low) if log else (value - low) / (high - low)


def _back(part: float, low: float, high: float, log: bool) -> float:
    return low * (high / low) ** part if log else low + part * (high - low)


def _chart(data: dict[str, Any], spans: dict[str, tuple[float, float]], x: str, y: str) -> Any:
    import altair as alt

    x_low, x_high = _window(spans["x"], True)
    y_low, y_high = _window(spans["y"], y != "accuracy")

    def across(field: str) -> Any:
        return log_axis(field, *AXES[x], x_low, x_high, vertical=False)

    def up(field: str) -> Any:
        if y != "accuracy":
            return log_axis(field, *AXES[y], y_low, y_high, vertical=True)
        return alt.Y(f"{field}:Q", axis=alt.Axis(title="accuracy", format="%", tickCount=6),
                     scale=alt.Scale(domain=[y_low, y_high], nice=False, zero=False))  # fmt: skip

    kinds = [k for k in KINDS if any(r["kind"] == k for r in data["candidates"])]
    told = alt.Legend(title=None, orient="bottom", values=kinds, symbolOpacity=1)
    domain = list(KINDS)
    marked = alt.Color("kind:N", scale=alt.Scale(domain=domain), legend=told)
    shapes = [SHAPES[3], SHAPES[1], SHAPES[0]]
    shape = alt.Shape("kind:N", legend=told, scale=alt.Scale(domain=domain, range=shapes))
    size = alt.Size("area:Q", legend=None, scale=None)
    points = alt.Chart(alt.NamedData("candidates"))
    hint = ["label:N", "kind:N", "machine:N", alt.Tooltip("x_told:N", title=x),
            alt.Tooltip("y_told:N", title=y), "broken:N"]  # fmt: skip
    limits = alt.Chart(alt.NamedData("limits"))
    layers = [
        points.mark_rule(opacity=0.5, strokeWidth=1.4).encode(
            x=across("x_low"), x2="x_high:Q", y=up("y"), color=marked
        ),
        points.mark_rule(opacity=0.5, strokeWidth=1.4).encode(
            x=across("x"), y=up("y_low"), y2="y_high:Q", color=marked
        ),
        points.mark_point(filled=True, strokeWidth=1, opacity=0.95, style=["rimmed"])
        .encode(x=across("x"), y=up("y"), color=marked, shape=shape, size=size, tooltip=hint)
        .add_params(zoom()),
    ]
    for w in data["limits"]:
        one = limits.transform_filter(f"datum.on == '{w['on']}'")
        if w["on"] == "x" and x_low <= w["value"] <= x_high:
            layers.append(one.mark_rule(strokeDash=[5, 4], style=["ink"]).encode(x=across("value")))
            layers += haloed(one.encode(x=across("value"), text="text:N", y=alt.value(HEIGHT)), align="right",
                             baseline="bottom", dx=-5, dy=-5)  # fmt: skip
        if w["on"] == "y" and y_low <= w["value"] <= y_high:
            layers.append(one.mark_rule(strokeDash=[5, 4], style=["ink"]).encode(y=up("value")))
            layers += haloed(one.encode(y=up("value"), text="text:N", x=alt.value(INNER)), align="right",
                             baseline="bottom", dy=-4)  # fmt: skip
    words = alt.Chart(alt.NamedData("words")).encode(x=across("x"), y=up("y"), text="text:N")
    return alt.layer(*layers, *haloed(words, align="left", baseline="middle")).properties(
        width=INNER, height=HEIGHT
    )
