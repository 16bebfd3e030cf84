"""Lines: pictures of what labs found, as figures of one theme."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from pharos.report.drawing import Figure

Rows = Sequence[dict[str, Any]]


def lines(
    rows: Rows, x: str, y: str, colour: str, *, name: str, title: str, alt: str, log_x: bool = False,
    log_y: bool = False, points: bool = False, panel: str = "", own_y: bool = False, source: str = "",
) -> Figure | None:  # fmt: skip
    """Lines over a number, one a value of `colour`; None where Altair is not installed.

    Args:
        rows: a point each; x, y, colour, panel: columns of theirs, which the axes are named after.
        panel: one picture a value, beside each other. own_y: each with a vertical axis of its own.
    """
    try:
        import altair as alt_
    except ImportError:
        return None
    kept = [r for r in rows if _shows(r[x], log_x) and _shows(r[y], log_y)]
    mark = alt_.Chart(alt_.Data(values=kept)).mark_line(point=points)
    names = list(dict.fromkeys(str(r[colour]) for r in kept))
    chart = mark.encode(
        x=alt_.X(
            f"{x}:Q", title=x, scale=alt_.Scale(type="log" if log_x else "linear", nice=False, zero=False)
        ).axis(**_few({r[x] for r in kept})),
        y=alt_.Y(f"{y}:Q", title=y, scale=alt_.Scale(type="log" if log_y else "linear")).axis(
            **_powers(log_y)
        ),
        color=alt_.Color(f"{colour}:N", title=colour, sort=names),
    )
    chart = _panels(chart, alt_, panel, own_y)
    return Figure.of(chart, name=name, title=title, alt=alt, source=source)


def dots(
    rows: Rows, x: str, y: str, colour: str, *, name: str, title: str, alt: str, log_x: bool = False,
    panel: str = "", source: str = "",
) -> Figure | None:  # fmt: skip
    """Points along a number, a row of them each value of `y`; None where Altair is not installed."""
    try:
        import altair as alt_
    except ImportError:
        return None
    kept = [r for r in rows if _shows(r[x], log_x)]
    chart = (
        alt_.Chart(alt_.Data(values=kept))
        .mark_point(filled=True, size=70)
        .encode(
            x=alt_.X(f"{x}:Q", title=x, scale=alt_.Scale(type="log" if log_x else "linear")).axis(
                **_powers(log_x)
            ),
            y=alt_.Y(f"{y}:N", title=None, sort=list(dict.fromkeys(r[y] for r in kept))).axis(
                labelLimit=260, grid=True
            ),
            color=alt_.Color(
                f"{colour}:N", title=colour, sort=list(dict.fromkeys(str(r[colour]) for r in kept))
            ),
        )
    )
    return Figure.of(_panels(chart, alt_, panel, False), name=name, title=title, alt=alt, source=source)


def _few(values: set[Any]) -> dict[str, Any]:
    """Ticks at the values themselves where they are few."""
    return {"values": sorted(values), "format": "~r"} if len(values) <= 8 else {}


def _powers(log: bool) -> dict[str, Any]:
    """Labels of an axis: of a logarithmic one 1e-6 rather than 0.000001."""
    return {"format": "~e"} if log else {}


def _shows(value: Any, log: bool) -> bool:
    return value is not None and isfinite(value) and (not log or value > 0)


def _panels(chart: Any, alt_: Any, panel: str, own_y: bool) -> Any:
    if not panel:
        return chart
    chart = chart.properties(width=260, height=240).facet(
        column=alt_.Column(f"{panel}:N", title=None, sort=None)
    )
    return chart.resolve_scale(y="independent") if own_y else chart
