"""Sweep: two figures of the rows of a sweep against each other, and the rows that none beats."""

from math import log
from pathlib import Path
from typing import Any

from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import INNER, SHAPES, haloed, lines, log_axis, place, unit_labels, zoom
from pharos.report.plotting import plot
from pharos.report.sweep_rows import ACROSS, UP, Reduced, larger_is_better, reduce

HEIGHT = 360
NAMED = 5
# What names a row, the first that are there.
WORDS = ("model", "machine", "batch", "context", "precision", "width", "resolution")
UNITS = (("_per_s", "/s"), ("_s", "s"), ("_bytes", "B"), ("_J", "J"), ("_W", "W"), ("_s_low", "s"),
         ("_s_high", "s"))  # fmt: skip


@plot("sweep", "two figures of a sweep's rows against each other, and the rows that none beats",
      takes="table")  # fmt: skip
def sweep(path: Path, *, x: str | None = None, y: str | None = None, colour: str | None = None) -> Figure:
    """Rows of a Parquet or CSV file or of a folder of parts, one by one, or in bins where they are many.

    Args:
        x, y: columns of numbers. colour: a column of few values.

    Raises:
        InputError: the file cannot be read, or a column holds no numbers. UnknownName: no such column.
    """
    found = reduce(path, x, y, colour)
    frame = {axis: _window(found, axis) for axis in ("x", "y")}
    first = [_named(found, r) for r in found.front]
    data: dict[str, list[dict[str, Any]]] = {
        "points": found.points, "front": first, "words": _words(found, first, frame),
    }  # fmt: skip
    left = found.rows - found.known
    gone = f"; {left:,} without {found.x} or {found.y} left out" if left else ""
    how = (f"{found.known:,} rows in {len(found.points):,} of {ACROSS} x {UP} bins, the darker the more"
           if found.binned else f"{found.known:,} rows")  # fmt: skip
    good = " and ".join(f"{'large' if larger_is_better(c) else 'small'} {c}" for c in (found.x, found.y))
    few = (
        f"; the {len(found.colours) - 1} most frequent of {found.colour} apart" if found.more_colours else ""
    )
    ends = [first[0], first[-1]] if first else []
    told = "; ".join(f"{r['name']}: {r['x_told']}, {r['y_told']}" for r in ends)
    return Figure.of(
        _chart(found, frame), name="sweep", data=data,
        title=f"{Path(found.path).name}: {found.y} by {found.x}",
        source=lines(
            f"{how}{gone}{few}",
            f"line: the {len(first)} that none beats, where {good} is good; computed over all rows",
        ),
        alt=f"{found.known:,} rows of {Path(found.path).name}: {_between(found, 'y')} against "
            f"{_between(found, 'x')}. {len(first)} rows are beaten by none, from {told}.",
    )  # fmt: skip


def _unit(column: str) -> str:
    return next((unit for end, unit in UNITS if column.endswith(end)), "")


def _told(column: str, value: float) -> str:
    unit = _unit(column)
    return f"{fmt(value)}/s" if unit == "/s" else fmt(value, unit)


def _between(found: Reduced, axis: str) -> str:
    column, (low, high) = getattr(found, axis), found.spans[axis]
    return f"{column} from {_told(column, low)} to {_told(column, high)}"


def _named(found: Reduced, row: dict[str, Any]) -> dict[str, Any]:
    """A row of the front with a name and its figures in words."""
    words = [str(row[w]) if w in ("model", "machine", "precision") else f"{w} {row[w]}"
             for w in WORDS if row.get(w) is not None]  # fmt: skip
    return {**row, "name": ", ".join(words), "x_told": f"{found.x} {_told(found.x, row['x'])}",
            "y_told": f"{found.y} {_told(found.y, row['y'])}"}  # fmt: skip


def _window(found: Reduced, axis: str) -> tuple[float, float]:
    low, high = found.spans[axis]
    if found.logs[axis]:
        room = (high / low) ** 0.06
        return low / room, high * room
    room = 0.06 * (high - low) or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low < 0.3 * high else low - room), high + room


def _words(
    found: Reduced, first: list[dict[str, Any]], frame: dict[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    """Names at both ends of the front and between, by what differs along it."""
    if not first:
        return []

    def part(axis: str, value: float) -> float:
        low, high = frame[axis]
        return log(value / low) / log(high / low) if found.logs[axis] else (value - low) / (high - low)

    def back(axis: str, at: float) -> float:
        low, high = frame[axis]
        return low * (high / low) ** at if found.logs[axis] else low + at * (high - low)

    differs = [w for w in WORDS if len({r.get(w) for r in first}) > 1] or ["model"]
    picks = sorted({round(i * (len(first) - 1) / max(NAMED - 1, 1)) for i in range(NAMED)})
    wanted = []
    for i in picks:
        row = first[i]
        text = ", ".join(str(row[w]) if isinstance(row.get(w), str) else f"{w} {row[w]}"
                         for w in differs if row.get(w) is not None)  # fmt: skip
        wanted.append((part("x", row["x"]) * INNER, (1 - part("y", row["y"])) * HEIGHT, 5.0, text[:44]))
    circles = [(part("x", r["x"]) * INNER, (1 - part("y", r["y"])) * HEIGHT, 3.0) for r in first]
    return [
        {"x": back("x", w.x / INNER), "y": back("y", 1 - w.y / HEIGHT), "text": w.text}
        for w in place(wanted, INNER, HEIGHT, circles=circles) if w is not None and w.text
    ]  # fmt: skip


def _chart(found: Reduced, frame: dict[str, tuple[float, float]]) -> Any:
    import altair as alt

    def channel(axis: str) -> Any:
        column, (low, high), vertical = getattr(found, axis), frame[axis], axis == "y"
        if found.logs[axis]:
            return log_axis(axis, column, _unit(column), low, high, vertical=vertical)
        kind = alt.Y if vertical else alt.X
        labels = unit_labels(_unit(column)) if _unit(column) else "format(datum.value, '~s')"
        return kind(f"{axis}:Q", axis=alt.Axis(title=column, labelExpr=labels, tickCount=6),
                    scale=alt.Scale(domain=[low, high], nice=False, zero=False))  # fmt: skip

    x, y = channel("x"), channel("y")
    points, first = alt.Chart(alt.NamedData("points")), alt.Chart(alt.NamedData("front"))
    shared: dict[str, Any] = {"x": x, "y": y}
    if found.colour:
        told = alt.Legend(title=found.colour, orient="bottom", columns=3, symbolOpacity=1)
        scale = alt.Scale(domain=found.colours)
        shared["color"] = alt.Color("colour:N", scale=scale, legend=told)
        if not found.binned:
            shapes = [*SHAPES][: len(found.colours)]
            shared["shape"] = alt.Shape("colour:N", legend=told,
                                        scale=alt.Scale(domain=found.colours, range=shapes))  # fmt: skip
    if found.binned:
        mark = points.mark_square(size=22, clip=True).encode(
            **shared, tooltip=["x:Q", "y:Q", "colour:N", "rows:Q"],
            opacity=alt.Opacity("rows:Q", legend=None, scale=alt.Scale(type="log", range=[0.15, 0.9])),
        )  # fmt: skip
    else:
        fields = [c for c in found.points[0] if c not in ("x", "y", "colour")][:14]
        hints = [alt.Tooltip(field=c.replace(".", "\\."), type="nominal") for c in fields]
        mark = points.mark_point(filled=True, size=26, opacity=0.6, clip=True).encode(**shared, tooltip=hints)
    words = alt.Chart(alt.NamedData("words")).encode(x=x, y=y, text="text:N")
    line = first.encode(x=x, y=y, order=alt.Order("x:Q"))
    return alt.layer(
        mark.add_params(zoom()),
        line.mark_line(interpolate="step-after", strokeWidth=1.6, clip=True, style=["ink"]),
        first.mark_point(filled=True, size=36, clip=True, style=["ink"]).encode(
            x=x, y=y, tooltip=["name:N", "x_told:N", "y_told:N"]
        ),
        *haloed(words, align="left", baseline="middle"),
    ).properties(width=INNER, height=HEIGHT)  # fmt: skip
