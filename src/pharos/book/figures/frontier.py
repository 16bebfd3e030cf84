"""Figure 1: accuracy against multiply-accumulates, with the frontier that no network beats in both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pharos.book.figure import Asked, Picture, figure
from pharos.decide.accuracy import Published, published
from pharos.graph.count import count
from pharos.models.registry import entry, find, parse_name
from pharos.report.canvas import NEUTRAL
from pharos.report.drawing import Figure

TABLES = ("imagenet", "imagenet-eras")
# ImageNet-1k has so many labels: more means that other images were seen before.
IMAGENET = 1_281_167
KINDS = ("dense convolutions", "depthwise convolutions", "attention")
# A label takes so many letters of the picture's width, and so much of its height.
ACROSS, HIGH, WIDE = 90, 22, 15
WIDTH, HEIGHT = 560, 400


@dataclass(frozen=True, slots=True)
class Point:
    """A published accuracy with the MACs that are counted for it.

    Args:
        year: of the paper that the catalogue names for the network.
        kind: one of KINDS, by its operators.
    """

    model: str
    macs: int
    accuracy: float
    year: int
    kind: str
    extra_data: bool
    trained: str
    source: str
    on_frontier: bool = False


@cache
def _counted(name: str) -> tuple[int, str]:
    found = count(find(name).graph())
    classes = {line.cost_class for line in found.lines}
    kind = 2 if "attention" in classes else 1 if "depthwise" in classes else 0
    return int(found.macs), KINDS[kind]


def named(row: Published) -> str:
    """The model as the catalogue names it, at the resolution that it was trained at."""
    name, given = parse_name(row.model)
    if row.resolution and "resolution" in entry(name).hyperparameters():
        given["resolution"] = row.resolution
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})" if given else name


@cache
def points() -> tuple[Point, ...]:
    """Every float accuracy on ImageNet that is published for a network of the catalogue."""
    from dataclasses import replace

    found = []
    for row in published():
        if row.table in TABLES and row.precision == "fp32":
            name = named(row)
            macs, kind = _counted(name)
            year = re.search(r"\b(19|20)\d\d\b", entry(parse_name(row.model)[0]).source)
            found.append(
                Point(
                    name,
                    macs,
                    row.accuracy,
                    int(year[0]) if year else 0,
                    kind,
                    row.labels > IMAGENET,
                    row.trained,
                    row.source,
                )
            )
    best = frontier([(p.macs, p.accuracy) for p in found])
    return tuple(replace(p, on_frontier=(p.macs, p.accuracy) in best) for p in found)


def frontier(pairs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Pairs (cost, gain) that no other one is at most as costly and more gainful than, by cost."""
    found: list[tuple[float, float]] = []
    for cost, gain in sorted(set(pairs), key=lambda pair: (pair[0], -pair[1])):
        if not found or gain > found[-1][1]:
            found.append((cost, gain))
    return found


@figure(1, "efficiency-frontier", "accuracy against MACs, the Pareto line, three eras", "1.1")
def efficiency_frontier(asked: Asked) -> Picture:
    """Each published result as a point, coloured by the kind of its operators; the frontier as steps."""
    import altair as alt

    found = points()
    best = sorted((p for p in found if p.on_frontier), key=lambda p: p.macs)
    spans = {k: [p.year for p in found if p.kind == k] for k in KINDS}
    labels = {k: f"{k}, from {min(years)}" for k, years in spans.items()}
    rows = [
        {
            "model": p.model,
            "gmacs": p.macs / 1e9,
            "accuracy": p.accuracy,
            "era": labels[p.kind],
            "year": p.year,
            "data": "more images than ImageNet-1k" if p.extra_data else "ImageNet-1k alone",
            "trained": p.trained,
            "source": p.source,
            "opacity": 1.0 if p.on_frontier else 0.38,
            "size": 70 if p.on_frontier else 34,
        }
        for p in found
    ]
    low, high = 0.009, 130
    x = alt.X(
        "gmacs:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(
            title="multiply-accumulates an image, billions (counted)",
            values=[0.01, 0.1, 1, 10, 100],
            format="~g",
            grid=True,
        ),
    )
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0.38, 0.89], nice=False),
              axis=alt.Axis(title="ImageNet-1k top-1 (published)", format=".0%"))  # fmt: skip
    base = alt.Chart(alt.Data(values=rows))
    colour = alt.Color(
        "era:N",
        scale=alt.Scale(domain=list(labels.values())),
        legend=alt.Legend(
            title="eras, by operators and first paper",
            orient="bottom",
            columns=1,
            labelLimit=300,
            symbolOpacity=1,
            titleLimit=300,
        ),
    )
    told = [
        "model:N",
        alt.Tooltip("gmacs:Q", format=".3g"),
        alt.Tooltip("accuracy:Q", format=".1%"),
        "year:Q",
        "trained:N",
        "source:N",
    ]
    shape = alt.Shape("data:N", scale=alt.Scale(domain=["ImageNet-1k alone", "more images than ImageNet-1k"],
                                                range=["circle", "diamond"]),
                      legend=alt.Legend(title="trained on", orient="bottom", columns=1, labelLimit=300,
                                        symbolFillColor=NEUTRAL, symbolStrokeColor=NEUTRAL))  # fmt: skip
    dots = base.mark_point(filled=True).encode(
        x=x, y=y, color=colour, shape=shape, opacity=alt.Opacity("opacity:Q", scale=None),
        size=alt.Size("size:Q", scale=None), tooltip=told,
    )  # fmt: skip
    line = [{"gmacs": p.macs / 1e9, "accuracy": p.accuracy} for p in best]
    line.append({"gmacs": high, "accuracy": best[-1].accuracy})
    steps = (
        alt.Chart(alt.Data(values=line))
        .mark_line(interpolate="step-after", strokeWidth=1.4, color=NEUTRAL, tooltip=None)
        .encode(x=x, y=y)
    )
    words = (
        alt.Chart(alt.Data(values=_labels(best, low, high)))
        .mark_text(align="right", dx=-8, dy=-7, fontSize=10, tooltip=None)
        .encode(x=x, y=y, text="label:N")
    )
    firsts = {k: next((p for p in best if p.kind == k), None) for k in KINDS}
    chart = alt.layer(steps, dots, words).properties(width=WIDTH, height=HEIGHT)
    ranges = "; ".join(
        f"{k}, {min(p.macs for p in found if p.kind == k) / 1e9:.2g} to "
        f"{max(p.macs for p in found if p.kind == k) / 1e9:.2g} "
        f"G MACs, networks of {min(spans[k])} to {max(spans[k])}, "
        + (
            f"{sum(p.on_frontier for p in found if p.kind == k)} on the frontier"
            if firsts[k]
            else "none on the frontier"
        )
        for k in KINDS
    )
    alt_text = (
        f"Points of {len(found)} published accuracies over counted multiply-accumulates, both rising to "
        f"the right: {ranges}. The frontier, {len(best)} points, climbs from {best[0].model} with "
        f"{best[0].accuracy:.1%} at "
        f"{best[0].macs / 1e6:.0f} M MACs to {best[-1].model} with {best[-1].accuracy:.1%} at "
        f"{best[-1].macs / 1e9:.0f} G."
    )
    made = Figure.of(
        chart, name="efficiency-frontier", title="The efficiency frontier of image classifiers", alt=alt_text,
        source="MACs counted from the graphs at the resolution trained at; accuracies as published, each "
               "with its recipe",
    )  # fmt: skip
    columns = ("model", "macs", "accuracy", "year", "kind", "extra_data", "on_frontier", "trained", "source")
    table = tuple(tuple(getattr(p, c) for c in columns) for p in sorted(found, key=lambda p: p.macs))
    return Picture(figure=made, columns=columns, rows=table, note="a network stands higher with a newer "
        "recipe: one "
                   "architecture has several points; 1 MAC is 2 FLOPs")  # fmt: skip


def _labels(best: list[Point], low: float, high: float) -> list[dict[str, Any]]:
    """Names of frontier points, those left out that would lie on another's; ends and larger steps first."""
    from math import log

    def place(p: Point) -> tuple[float, float]:
        return (WIDTH * log(p.macs / 1e9 / low) / log(high / low), HEIGHT * (p.accuracy - 0.38) / 0.51)

    shown: list[tuple[float, float, float, str, Point]] = []
    order = [best[-1], best[0], *sorted(best[1:-1], key=lambda p: -p.accuracy)]
    for p in order:
        x, y = place(p)
        name, given = parse_name(p.model)
        label = name + (f" {given['resolution']}" if given.get("resolution", 224) != 224 else "")
        label += f" x{given['width']}" if "width" in given else ""
        wide = 5.6 * len(label)
        if x - wide > 2 and all(abs(y - other) > HIGH or x - wide > right + 4 or right - width > x + 4
                                for right, other, width, *_ in shown):  # fmt: skip
            shown.append((x, y, wide, label, p))
    return [{"gmacs": p.macs / 1e9, "accuracy": p.accuracy, "label": label} for *_, label, p in shown]
