"""Marks: what several plots share: axes with units, words that do not collide, how a figure is known."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, hypot, log10
from typing import TYPE_CHECKING, Any

from pharos.quantity.evidence import Figure
from pharos.quantity.units import fmt

if TYPE_CHECKING:
    import altair

    from pharos.machines.machine import Machine
    from pharos.predict.estimate import Estimate

# Shapes that stay apart at the size of a mark, in the order of the theme's colours.
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
          "triangle-left")  # fmt: skip
# Pixels of a plot without its axes: with them it is at most 600 wide.
INNER = 490
# Width of a character in parts of the size of the letters, on the wide side.
CHARACTER = 0.56
# Longest line under a title, in characters: what 600 pixels hold.
LINE = 96


def unit_labels(unit: str) -> str:
    """A Vega expression for the labels of an axis in SI units: 312 TFLOP/s, 20 ms."""
    # d3 writes 312T and 20m; the space goes before the prefix
    text = "replace(format(datum.value, '~s'), regexp('([a-zA-Zµ]?)$'), ' $1')"
    return f"{text} + '{unit}'"


def ticks(low: float, high: float) -> list[float]:
    """Where a logarithmic axis is labelled: powers of ten, or 1, 2 and 5 of them over few decades."""
    first, last = floor(log10(low)), ceil(log10(high))
    step = max(1, ceil((last - first) / 8))
    parts = (1.0, 2.0, 5.0) if last - first <= 2 else (1.0,)
    found = [part * 10.0**k for k in range(first, last + 1, step) for part in parts]
    return [v for v in found if low <= v <= high]


def log_axis(
    field: str, title: str, unit: str, low: float, high: float, *, vertical: bool,
    values: list[float] | None = None, labels: str = "",
) -> Any:  # fmt: skip
    """A logarithmic channel from `low` to `high`.

    Args:
        unit: of its labels, with a prefix; "" for plain numbers.
        values: where it is labelled; powers of ten by default.
        labels: a Vega expression instead of the unit's.
    """
    import altair as alt

    channel = alt.Y if vertical else alt.X
    told = labels or (unit_labels(unit) if unit else "format(datum.value, '~s')")
    axis = alt.Axis(title=title, values=values or ticks(low, high), grid=True, labelExpr=told)
    return channel(f"{field}:Q", axis=axis,
                   scale=alt.Scale(type="log", domain=[low, high], nice=False))  # fmt: skip


def haloed(chart: "altair.Chart", **mark: Any) -> "list[altair.Chart]":
    """Words with a rim of the ground's colour under them, so that lines do not cross them."""
    style = mark.pop("style", [])
    return [chart.mark_text(**mark, style=["halo"]), chart.mark_text(**mark, style=style)]


# Left, top, right and bottom, in pixels.
Box = tuple[float, float, float, float]


def meets(a: Box, b: Box) -> bool:
    """Whether two boxes overlap."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@dataclass(frozen=True, slots=True)
class Word:
    """Where a word goes: its left edge and its middle, in pixels from the top left corner."""

    x: float
    y: float
    text: str

    def box(self, size: float) -> Box:
        """What it covers."""
        wide = CHARACTER * size * len(self.text)
        return self.x, self.y - 0.6 * size, self.x + wide, self.y + 0.6 * size


def place(
    wanted: Sequence[tuple[float, float, float, str]], width: float, height: float, *,
    circles: Iterable[tuple[float, float, float]] = (), taken: Iterable[Box] = (), size: float = 11,
    far: Iterable[int] = (),
) -> list[Word | None]:  # fmt: skip
    """Places for words beside points so that they collide with nothing; None where there is none.

    Args:
        wanted: (x, y, radius, words) of points, the most important first.
        circles: (x, y, radius) of what words may not cover.
        taken: what is written already.
        far: numbers of those that may also stand further away, and at last over other marks.
    """
    circles, boxes, far = list(circles), list(taken), set(far)
    found: list[Word | None] = []
    for number, (x, y, radius, text) in enumerate(wanted):
        tries = list(_beside(x, y, radius + 4, text, size))
        if number in far:
            tries += [t for away in (14, 28, 42) for t in _beside(x, y, radius + 4 + away, text, size)]

        def free(word: Word, around: list[tuple[float, float, float]], own: tuple[float, float]) -> bool:
            box = word.box(size)
            if box[0] < 0 or box[1] < 0 or box[2] > width or box[3] > height:
                return False
            if any(meets(box, other) for other in boxes):
                return False
            return not any(_apart(cx, cy, *box) < r - 1 for cx, cy, r in around if (cx, cy) != own)

        chosen = next((w for w in tries if free(w, circles, (x, y))), None)
        if chosen is None and number in far:
            chosen = next((w for w in tries if free(w, [], (x, y))), None)
        if chosen is not None:
            boxes.append(chosen.box(size))
        found.append(chosen)
    return found


def _beside(x: float, y: float, gap: float, text: str, size: float) -> Iterator[Word]:
    """Right, left, above, below, then the corners."""
    wide, corner, line = CHARACTER * size * len(text), 0.7 * gap, 0.4 * size
    yield Word(x + gap, y, text)
    yield Word(x - gap - wide, y, text)
    yield Word(x - wide / 2, y - gap - 0.6 * size, text)
    yield Word(x - wide / 2, y + gap + 0.6 * size, text)
    for up in (-1, 1):
        yield Word(x + corner, y + up * (corner + line), text)
        yield Word(x - corner - wide, y + up * (corner + line), text)


def _apart(x: float, y: float, a: float, b: float, c: float, d: float) -> float:
    """How far a point lies from a box."""
    return hypot(max(a - x, 0.0, x - c), max(b - y, 0.0, y - d))


def lines(*told: str) -> list[str]:
    """Words under a title, broken into lines that 600 pixels hold; empty ones left out."""
    from textwrap import wrap

    return [line for text in told if text for line in wrap(text, LINE)]


def banded(figure: Figure) -> str:
    """A figure with its band and its weakest evidence: 831 µs (640 µs to 1.1 ms, fitted)."""
    value = fmt(figure.value, figure.unit)
    if figure.value is None or figure.low is None or figure.low == figure.high:
        return f"{value} ({figure.level})"
    return f"{value} ({fmt(figure.low, figure.unit)} to {fmt(figure.high, figure.unit)}, {figure.level})"


def short_machine(machine: "Machine") -> str:
    """A machine's id without its maker."""
    return machine.id.removeprefix(f"{machine.vendor}_") if machine.vendor else machine.id


def asked_of(estimate: "Estimate") -> str:
    """The workload in words: decode, batch 8, context 1024, bf16, compiled."""
    work = estimate.workload
    context = f", context {work.context}" if work.context else ""
    return f"{work.phase}, batch {work.batch}{context}, {work.precision}, {estimate.runtime}"


def short(name: str, most: int = 24) -> str:
    """A dotted name without its first parts, as far as needed."""
    parts = name.split(".")
    while len(parts) > 1 and len(".".join(parts)) > most:
        parts = parts[1:]
    told = ".".join(parts)
    return told if len(told) <= most else f"{told[: most - 1]}…"


def zoom() -> Any:
    """Dragging moves the axes; the wheel zooms while Shift is held, so that a page still scrolls."""
    import altair as alt

    return alt.selection_interval(bind="scales", zoom="wheel![event.shiftKey]")
