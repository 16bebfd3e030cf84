"""Roofline: operators by intensity and attained rate under a machine's roofs, several machines overlaid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atan, degrees, hypot, isfinite, log10, pi, sqrt
from typing import Any

from pharos.predict.estimate import Estimate
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt
from pharos.report.characters import roofline as in_characters
from pharos.report.drawing import Figure
from pharos.report.marks import (
    CHARACTER,
    INNER,
    SHAPES,
    Box,
    asked_of,
    banded,
    haloed,
    lines,
    log_axis,
    meets,
    place,
    short,
    short_machine,
    zoom,
)
from pharos.report.plotting import plot
from pharos.report.roofs import Point, Roof, known_by, points, require_numbers, roofs

HEIGHT = 370
# Machines that one picture holds apart.
MOST = 6
# Area of a mark in square pixels whose operator takes all of the time, and the least.
LARGEST, SMALLEST = 1100.0, 24.0
# Operators that are named, of those that take more than WORTH of the time.
NAMED, WORTH = 5, 0.04
# An operator with less of the time does not stretch the window.
SEEN = 0.002
INTENSITY, RATE = "arithmetic intensity, FLOP per byte moved", "attained rate"
WIDE = 11 * CHARACTER


@plot("roofline", "operators under the roofs of a machine's arithmetic and memory, sized by time",
      takes="estimates")  # fmt: skip
def roofline(estimates: Sequence[Estimate]) -> Figure:
    """The roofline of a model on machines, as run: after the runtime's fusion, at predicted times.

    Raises:
        InputError: a time or a roof is unknown, sizes are arrays, or more machines than can be told apart.
    """
    if not 1 <= len(estimates) <= MOST:
        raise InputError(f"{len(estimates)} machines: a roofline holds 1 to {MOST} apart", where="roofline")
    for e in estimates:
        require_numbers(e)
    alone = len(estimates) == 1
    found = [points(e) for e in estimates]
    dots = [p for one, _ in found for p in one]
    bounds = [r for e in estimates for r in roofs(e, alone=alone)]
    if not dots:
        raise InputError("no operator has FLOPs: nothing to place", where=estimates[0].model)
    whole, corners = [_whole(e) for e in estimates], [r for r in bounds if r.main and r.flat]
    frame = _frame(dots, bounds, whole, corners)
    inside = [p for p in dots if frame.holds(p.intensity, p.flops_per_s)]
    data = {
        "points": _point_rows(inside),
        "roofs": [row for i, r in enumerate(bounds) for row in _line(r, i, frame)],
        "whole": whole,
        "words": _words(inside, bounds, corners, whole, frame, alone),
    }
    return Figure.of(
        _chart(frame, [short_machine(e.machine) for e in estimates], data, alone), name="roofline",
        title=_title(estimates), alt=_alt(estimates, dots, corners),
        source=_source(estimates, found, alone), data=data,
        characters=lambda width: in_characters(data["points"], data["roofs"], whole, width),
    )  # fmt: skip


def _whole(e: Estimate) -> dict[str, Any]:
    """The whole step as one mark: FLOPs of MACs over bytes as run and over the latency."""
    ops = [op for op in e.operations if op.time is not None]
    moved = sum(float(op.time.traffic_bytes * op.kernel.times) for op in ops if op.time is not None)
    flops = float(e.count.flops) or sum(float(op.kernel.work.vector_flops * op.kernel.times) for op in ops)
    seconds = float(e.latency.value or 1)
    low, high = float(e.latency.low or seconds), float(e.latency.high or seconds)
    return {
        "machine": short_machine(e.machine), "intensity": flops / moved, "flops_per_s": flops / seconds,
        "least": flops / high, "most": flops / low, "seconds": seconds, "low_s": low, "high_s": high,
        "rate": fmt(flops / seconds, "FLOP/s"), "FLOP/B": fmt(flops / moved), "time": fmt(seconds, "s"),
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Frame:
    """The window in data and in pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies inside."""
        return self.x_low <= x <= self.x_high and self.y_low <= y <= self.y_high

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels from the top left corner."""
        across = log10(x / self.x_low) / log10(self.x_high / self.x_low)
        up = log10(y / self.y_low) / log10(self.y_high / self.y_low)
        return across * INNER, (1 - up) * HEIGHT

    def back(self, px: float, py: float) -> tuple[float, float]:
        """What lies at a pixel."""
        x = self.x_low * (self.x_high / self.x_low) ** (px / INNER)
        return x, self.y_low * (self.y_high / self.y_low) ** (1 - py / HEIGHT)

    @property
    def slope(self) -> float:
        """Degrees that a memory's roof rises."""
        wide, high = log10(self.x_high / self.x_low), log10(self.y_high / self.y_low)
        return degrees(atan((HEIGHT / high) / (INNER / wide)))


def _frame(dots: list[Point], bounds: list[Roof], whole: list[dict[str, Any]], corners: list[Roof]) -> _Frame:
    def span(values: list[float], below: float, above: float) -> tuple[float, float]:
        kept = [v for v in values if isfinite(v) and v > 0]
        return min(kept) / below, max(kept) * above

    near = [p for p in dots if p.share >= SEEN] or dots
    across = [*(p.intensity for p in near), *(r.ridge for r in corners), *(w["intensity"] for w in whole)]
    up = [*(p.flops_per_s for p in near), *(w["least"] for w in whole), *(r.ops_per_s for r in bounds)]
    return _Frame(*span(across, 1.6, 4.0), *span(up, 1.8, 2.2))


def _area(share: float) -> float:
    return max(SMALLEST, LARGEST * share)


def _radius(share: float) -> float:
    return sqrt(_area(share) / pi)


def _point_rows(dots: list[Point]) -> list[dict[str, Any]]:
    """The slowest first: small marks are drawn over large ones."""
    return [
        {"machine": p.machine, "operator": p.operator, "group": p.group, "runs": p.runs,
         "flops": p.flops, "bytes": p.moved_bytes, "intensity": p.intensity, "flops_per_s": p.flops_per_s,
         "seconds": p.seconds, "share": p.share, "limit": p.limit, "area": _area(p.share),
         "time": fmt(p.seconds, "s"), "rate": fmt(p.flops_per_s, "FLOP/s"), "FLOP/B": fmt(p.intensity)}
        for p in sorted(dots, key=lambda p: -p.share)
    ]  # fmt: skip


def _line(roof: Roof, number: int, frame: _Frame) -> list[dict[str, Any]]:
    """Two ends of a roof inside the window; none where it lies outside."""
    if roof.flat:
        ends = [max(roof.ridge, frame.x_low), frame.x_high]
    else:
        ends = [max(frame.x_low, frame.y_low / roof.bytes_per_s), roof.ridge]
    if ends[0] >= ends[1]:
        return []
    return [
        {"machine": roof.machine, "roof": number, "says": roof.says, "main": roof.main,
         "flat": roof.flat, "intensity": x, "flops_per_s": min(roof.ops_per_s, x * roof.bytes_per_s)}
        for x in ends
    ]  # fmt: skip


def _words(
    dots: list[Point], bounds: list[Roof], corners: list[Roof], whole: list[dict[str, Any]], frame: _Frame,
    alone: bool,
) -> list[dict[str, Any]]:  # fmt: skip
    """Names of roofs, ridges and the slowest operators, each where it covers nothing."""
    circles = [(*frame.at(p.intensity, p.flops_per_s), _radius(p.share)) for p in dots]
    boxes: list[Box] = []
    rows: list[dict[str, Any]] = []

    def write(px: float, py: float, text: str, machine: str, what: str, angle: float = 0.0) -> None:
        x, y = frame.back(px, py)
        rows.append({"intensity": x, "flops_per_s": y, "text": text, "machine": machine, "what": what,
                     "angle": angle})  # fmt: skip

    def first_free(spots: list[tuple[float, float]], text: str, machine: str, what: str) -> None:
        wide = WIDE * len(text)
        for left, middle in spots:
            box = (left, middle - 8, left + wide, middle + 8)
            if left >= 0 and middle > 4 and not any(meets(box, b) for b in boxes):
                boxes.append(box)
                write(left, middle, text, machine, what)
                return

    for roof in sorted((r for r in bounds if r.flat), key=lambda r: (not r.main, -r.ops_per_s)):
        says = roof.says if alone else f"{roof.machine} {roof.says}"
        _, y = frame.at(frame.x_high, roof.ops_per_s)
        left = INNER - WIDE * len(says)
        first_free([(left, y - 9), (left, y + 10)], says, roof.machine, "roof")
    for roof in (r for r in bounds if not r.flat and alone):
        _slope(roof, frame, circles, boxes, write)
    for roof in (r for r in corners if r.ridge > 0):
        x, y = frame.at(roof.ridge, roof.ops_per_s)
        says = f"ridge {fmt(roof.ridge)}"
        wide = WIDE * len(says)
        spots = [(x - wide - 4, y - 9), (x - wide / 2, y - 9), (x + 6, y + 11)]
        first_free(spots, says, roof.machine, "ridge")
    worth = sorted((p for p in dots if p.share >= WORTH), key=lambda p: -p.share)[: NAMED if alone else 0]
    marks = [(*frame.at(w["intensity"], w["flops_per_s"]), 9.0) for w in whole]
    named = [
        (*frame.at(p.intensity, p.flops_per_s), _radius(p.share), f"{short(p.operator)} {p.share:.0%}",
         p.machine, "operator")
        for p in worth
    ]  # fmt: skip
    named += [
        (*mark, "whole step" if alone else f"{w['machine']} {w['time']}", w["machine"], "whole")
        for mark, w in zip(marks, whole, strict=True)
    ]
    large = [c for c in circles if c[2] > 4] + marks
    whole_at = [i for i, n in enumerate(named) if n[-1] == "whole"]
    places = place([n[:4] for n in named], INNER, HEIGHT, circles=large, taken=boxes, far=whole_at)
    for found, (*_, machine, what) in zip(places, named, strict=True):
        if found is not None:
            write(found.x, found.y, found.text, machine, what)
    return rows


def _slope(
    roof: Roof, frame: _Frame, circles: list[tuple[float, float, float]], boxes: list[Box],
    write: Callable[..., None],
) -> None:  # fmt: skip
    """Words along a memory's roof, where the fewest marks lie beside it."""
    ends = _line(roof, 0, frame)
    if not ends:
        return
    (x0, y0), (x1, y1) = (frame.at(r["intensity"], r["flops_per_s"]) for r in ends)
    long, wide = hypot(x1 - x0, y1 - y0), WIDE * len(roof.says)
    if long < wide + 20:
        return
    ux, uy = (x1 - x0) / long, (y1 - y0) / long
    best = None
    for side in (-9.0, 9.0):
        for step in range(9):
            start = 8 + (long - wide - 16) * step / 8
            # points along the words, off the line to one side
            runs = [start + wide * t / 10 for t in range(11)]
            spots = [(x0 + ux * run - uy * side, y0 + uy * run + ux * side) for run in runs]
            if any(not (4 < sx < INNER - 4 and 4 < sy < HEIGHT - 4) for sx, sy in spots):
                continue
            covered = sum(
                any(hypot(sx - cx, sy - cy) < r + 8 for cx, cy, r in circles)
                + 3 * any(b[0] < sx < b[2] and b[1] < sy < b[3] for b in boxes)
                for sx, sy in spots
            )
            rank = (covered, side > 0, abs(step - 3))
            if best is None or rank < best[0]:
                best = (rank, spots)
    if best is not None:
        boxes += [(sx - 8, sy - 8, sx + 8, sy + 8) for sx, sy in best[1]]
        write(*best[1][0], roof.says, roof.machine, "roof", -frame.slope)


def _chart(frame: _Frame, machines: list[str], data: dict[str, Any], alone: bool) -> Any:
    import altair as alt

    x = log_axis("intensity", INTENSITY, "", frame.x_low, frame.x_high, vertical=False)
    y = log_axis("flops_per_s", RATE, "FLOP/s", frame.y_low, frame.y_high, vertical=True)
    y_low = log_axis("least", RATE, "FLOP/s", frame.y_low, frame.y_high, vertical=True)
    by = "group" if alone else "machine"
    order = _groups(data["points"]) if alone else machines
    told = alt.Legend(title=None, orient="bottom", columns=3, symbolOpacity=1)
    colour = alt.Color(f"{by}:N", legend=told, scale=alt.Scale(domain=order))
    shape = alt.Shape(f"{by}:N", legend=told, scale=alt.Scale(domain=order, range=list(SHAPES[: len(order)])))
    size = alt.Size("area:Q", scale=None, legend=None)
    hint = ["operator:N", "machine:N", "group:N", "runs:Q", "time:N", alt.Tooltip("share:Q", format=".1%"),
            "FLOP/B:N", "rate:N", "limit:N"]  # fmt: skip
    ink: dict[str, Any] = {"style": ["ink"]} if alone else {}
    own: dict[str, Any] = {} if alone else {"color": colour}
    roof = alt.Chart(alt.NamedData("roofs")).encode(x=x, y=y, detail="roof:N", **own)
    mark = alt.Chart(alt.NamedData("points")).encode(
        x=x, y=y, color=colour, shape=shape, size=size, tooltip=hint
    )
    step = alt.Chart(alt.NamedData("whole"))
    words = alt.Chart(alt.NamedData("words")).encode(x=x, y=y, text="text:N")
    return alt.layer(
        roof.transform_filter("datum.main").mark_line(clip=True, strokeWidth=2, **ink),
        roof.transform_filter("!datum.main").mark_line(
            clip=True, strokeWidth=1.3, strokeDash=[5, 4], style=["quiet"]
        ),
        mark.mark_point(filled=True, opacity=0.85, strokeWidth=1, style=["rimmed"], clip=True).add_params(
            zoom()
        ),
        step.mark_rule(strokeWidth=2, clip=True, **ink).encode(x=x, y=y_low, y2="most:Q", **own),
        step.mark_point(shape="diamond", filled=False, size=190, strokeWidth=2.2, clip=True, **ink).encode(
            x=x, y=y, tooltip=["machine:N", "time:N", "rate:N", "FLOP/B:N"], **own
        ),
        *haloed(words, align="left", baseline="middle", angle={"expr": "datum.angle"}, clip=True),
    ).properties(width=INNER, height=HEIGHT)


def _groups(rows: list[dict[str, Any]]) -> list[str]:
    """Groups by their time, the slowest first."""
    total: dict[str, float] = {}
    for row in rows:
        total[row["group"]] = total.get(row["group"], 0.0) + row["seconds"]
    return sorted(total, key=lambda k: -total[k])


def _title(estimates: Sequence[Estimate]) -> str:
    on = ", ".join(short_machine(e.machine) for e in estimates)
    if len(estimates) > 1 and len(on) > 44:
        on = f"{len(estimates)} machines"
    return f"{estimates[0].model} under the roof{'s' * (len(estimates) > 1)} of {on}"


def _source(estimates: Sequence[Estimate], found: list[tuple[list[Point], float]], alone: bool) -> list[str]:
    first, told = estimates[0], ["area of a mark: its share of the time"]
    if any(p.share < SEEN for one, _ in found for p in one):
        told.append(f"marks below {SEEN:.1%} of it may lie outside")
    tops = {r.machine: r.ops_per_s for e in estimates for r in roofs(e, alone=False) if r.flat}
    if any(p.flops_per_s > 1.02 * tops[p.machine] for one, _ in found for p in one):
        told.append("above a roof: fewer operations run than are counted (Winograd)")
    for e, (_, without) in zip(estimates, found, strict=True):
        part = without / float(e.latency.value or 1)
        if part > 0.02:
            on = "" if alone else f" on {short_machine(e.machine)}"
            told.append(f"{part:.0%} of the time{on} has no FLOPs and no mark")
    step = f"step {banded(first.latency)}; " if alone else ""
    return lines(
        f"{asked_of(first)}; bytes as run, after fusion", "; ".join(told),
        f"{step}diamond: whole step, 80% band; roofs: {known_by(estimates)}",
    )  # fmt: skip


def _alt(estimates: Sequence[Estimate], dots: list[Point], corners: list[Roof]) -> str:
    told = [f"Roofline of {estimates[0].model}, {asked_of(estimates[0])}."]
    for e, roof in zip(estimates, corners, strict=True):
        intensity, _ = e.roofline()["as_run"]
        slow = sorted((p for p in dots if p.machine == short_machine(e.machine)), key=lambda p: -p.share)[:3]
        named = ", ".join(
            f"{p.operator} {p.share:.0%} of the time at {fmt(p.intensity)} FLOP/B and "
            f"{fmt(p.flops_per_s, 'FLOP/s')}"
            for p in slow
        )
        told.append(
            f"On {e.machine.id} the roof is {roof.says}, memory {fmt(roof.bytes_per_s, 'B/s')}, ridge point "
            f"{fmt(roof.ridge)} FLOP/B; the whole step has {fmt(intensity)} FLOP/B and takes "
            f"{banded(e.latency)}, {e.binding} binds. Slowest: {named}."
        )
    return " ".join(told)
