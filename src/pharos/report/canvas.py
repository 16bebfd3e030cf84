"""Canvas: boxes, arrows and words at places in points, as one Altair chart that both themes can colour."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import atan2, degrees, hypot
from typing import Any

from pharos.report.drawing import require_altair

Point = tuple[float, float]
# Seen on light and on dark ground.
NEUTRAL = "#84878C"
# The deepest tint of a box that words on it can still be read on, in both themes.
DEEPEST = 0.62
HEAD = 52


@dataclass
class Canvas:
    """A picture of boxes, lines and words; x grows to the right, y downwards, both in points.

    Args:
        groups: what colours tell apart, in the theme's order.
        legend: the groups are named under the picture.
    """

    width: float
    height: float
    groups: tuple[str, ...] = ()
    legend: bool = False
    boxes: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    heads: list[dict[str, Any]] = field(default_factory=list)
    words: list[dict[str, Any]] = field(default_factory=list)
    dots: list[dict[str, Any]] = field(default_factory=list)

    def box(
        self, x: float, y: float, w: float, h: float, text: str | Sequence[str] = "", *, group: str = "",
        level: float = 0.16, size: float = 12, bold: bool = False, edge: float = 1.2, detail: str = "",
        quiet: bool = False,
    ) -> None:  # fmt: skip
        """A rectangle with its upper left corner at (x, y) and words in its middle.

        Args:
            level: how deep its tint is, 0 to 1; words stay legible at any.
            edge: width of its outline, 0 for none. detail: what a pointer is told; the words if left out.
        """
        lines = [text] if isinstance(text, str) else list(text)
        self.boxes.append({
            "x": x, "x2": x + w, "y": y, "y2": y + h, "group": group, "level": _tint(level),
            "edge": edge, "detail": detail or " ".join(lines),
        })  # fmt: skip
        if any(lines):
            self.word(x + w / 2, y + h / 2, lines, size=size, bold=bold, quiet=quiet)

    def word(
        self, x: float, y: float, text: str | Sequence[str], *, size: float = 12, align: str = "center",
        bold: bool = False, quiet: bool = False, angle: float = 0,
    ) -> None:  # fmt: skip
        """Words at (x, y), centred in height; several lines one below the other."""
        lines = [text] if isinstance(text, str) else list(text)
        step = 1.28 * size
        for i, line in enumerate(lines):
            self.words.append(
                {
                    "x": x,
                    "y": y + (i - (len(lines) - 1) / 2) * step,
                    "text": line,
                    "size": size,
                    "align": align,
                    "bold": bool(bold),
                    "quiet": bool(quiet),
                    "angle": angle,
                }
            )

    def line(
        self, points: Iterable[Point], *, group: str = "", width: float = 1.5, dashed: bool = False,
        head: bool = True, level: float = 1.0, detail: str = "",
    ) -> None:  # fmt: skip
        """A line through points, with an arrow's head at its end."""
        through = list(points)
        name = f"l{len(self.lines)}"
        if head:
            (x0, y0), (x1, y1) = through[-2], through[-1]
            length = hypot(x1 - x0, y1 - y0) or 1.0
            along = ((x1 - x0) / length, (y1 - y0) / length)
            back = 3.0 + width
            self.heads.append({
                "x": x1 - along[0] * back, "y": y1 - along[1] * back, "group": group, "level": level,
                "angle": degrees(atan2(along[0], -along[1])) % 360, "size": HEAD + 14 * (width - 1.5),
            })  # fmt: skip
            through[-1] = (x1 - along[0] * back, y1 - along[1] * back)
        self.lines += [{
            "x": x, "y": y, "order": i, "line": name, "group": group, "width": width, "dashed": dashed,
            "level": level, "detail": detail,
        } for i, (x, y) in enumerate(through)]  # fmt: skip

    def dot(self, x: float, y: float, radius: float, text: str = "", *, group: str = "", level: float = 0.3,
            size: float = 11, detail: str = "") -> None:  # fmt: skip
        """A circle with words in it."""
        self.dots.append({"x": x, "y": y, "area": 3.1416 * radius * radius, "group": group,
                          "level": _tint(level), "detail": detail or text})  # fmt: skip
        if text:
            self.word(x, y, text, size=size)

    def chart(self) -> Any:
        """The picture as an Altair chart."""
        alt = require_altair()

        x = alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, self.width], nice=False, zero=False))
        y = alt.Y("y:Q", axis=None,
                  scale=alt.Scale(domain=[0, self.height], nice=False, zero=False, reverse=True))  # fmt: skip
        plain = [
            alt.Chart(alt.Data(values=[{"x": 0, "y": 0}])).mark_point(opacity=0, aria=False).encode(x=x, y=y)
        ]
        layers: list[Any] = []
        for rows, own in ((r, g) for g in (False, True) for r in self._split(self.lines, g)):
            if rows:
                dash = [4, 3] if rows[0]["dashed"] else [1, 0]
                mark = {"strokeDash": dash, "strokeJoin": "round", "aria": False}
                chart = alt.Chart(alt.Data(values=rows)).mark_line(
                    **mark, **({} if own else {"color": NEUTRAL})
                )
                chart = chart.encode(
                    x=x, y=y, detail="line:N", order="order:Q", size=alt.Size("width:Q", scale=None),
                    opacity=alt.Opacity("level:Q", scale=None), tooltip="detail:N",
                )  # fmt: skip
                layers.append(chart.encode(color=self._colour(alt.Color)) if own else chart)
        for own in (False, True):
            rows = [r for r in self.heads if bool(r["group"]) == own]
            if rows:
                chart = alt.Chart(alt.Data(values=rows)).mark_point(
                    shape="triangle",
                    filled=True,
                    opacity=1,
                    tooltip=None,
                    aria=False,
                    **({} if own else {"color": NEUTRAL}),
                )
                chart = chart.encode(
                    x=x, y=y, angle=alt.Angle("angle:Q", scale=None), size=alt.Size("size:Q", scale=None),
                    opacity=alt.Opacity("level:Q", scale=None),
                )  # fmt: skip
                layers.append(chart.encode(color=self._colour(alt.Color)) if own else chart)
        layers += self._areas(alt, x, y)
        for bold in (False, True):
            for align in ("left", "center", "right"):
                for quiet in (False, True):
                    for angle in sorted({r["angle"] for r in self.words}):
                        rows = [
                            r
                            for r in self.words
                            if (r["bold"], r["align"], r["quiet"], r["angle"]) == (bold, align, quiet, angle)
                        ]
                        if rows:
                            chart = alt.Chart(alt.Data(values=rows)).mark_text(
                                align=align,
                                baseline="middle",
                                fontWeight=600 if bold else 400,
                                angle=angle % 360,
                                opacity=0.72 if quiet else 1,
                                tooltip=None,
                                aria=False,
                            )
                            layers.append(chart.encode(
                                x=x, y=y, text="text:N", size=alt.Size("size:Q", scale=None)))  # fmt: skip
        return alt.layer(*plain, *layers).properties(width=self.width, height=self.height)

    def _split(self, rows: list[dict[str, Any]], own: bool) -> Iterable[list[dict[str, Any]]]:
        for dashed in (False, True):
            yield [r for r in rows if bool(r["group"]) == own and r["dashed"] == dashed]

    def _areas(self, alt: Any, x: Any, y: Any) -> list[Any]:
        found = []
        for own in (False, True):
            for kind, every in (("box", self.boxes), ("dot", self.dots)):
                rows = [r for r in every if bool(r["group"]) == own]
                if not rows:
                    continue
                base, fixed = (
                    alt.Chart(alt.Data(values=rows)),
                    {} if own else {"fill": NEUTRAL, "stroke": NEUTRAL},
                )
                level = alt.FillOpacity("level:Q", scale=None)
                if kind == "box":
                    chart = base.mark_rect(cornerRadius=2, aria=False, **fixed).encode(
                        x=x, x2="x2:Q", y=y, y2="y2:Q", fillOpacity=level, tooltip="detail:N",
                        strokeWidth=alt.StrokeWidth("edge:Q", scale=None),
                    )  # fmt: skip
                else:
                    chart = base.mark_circle(strokeWidth=1.2, opacity=1, aria=False, **fixed).encode(
                        x=x, y=y, size=alt.Size("area:Q", scale=None), fillOpacity=level, tooltip="detail:N"
                    )
                if own:
                    chart = chart.encode(fill=self._colour(alt.Fill), stroke=self._colour(alt.Stroke, False))
                found.append(chart)
        return found

    def _colour(self, channel: Any, legend: bool = True) -> Any:
        alt = require_altair()
        shown = (
            alt.Legend(title=None, orient="bottom", direction="horizontal")
            if legend and self.legend
            else None
        )
        return channel("group:N", scale=alt.Scale(domain=list(self.groups)), legend=shown)


def _tint(level: float) -> float:
    return round(DEEPEST * min(max(float(level), 0.0), 1.0), 4)
