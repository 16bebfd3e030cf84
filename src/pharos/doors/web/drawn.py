"""Drawn: plots as SVG for pages that change while one watches; their colours are a style sheet's.

Vega draws the same for reports; it takes a tenth of a second a picture, and these some milliseconds.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10, sqrt
from typing import Any

from pharos.predict.estimate import Estimate
from pharos.predict.kernel import compute_dtype
from pharos.quantity.units import fmt

# Points beyond these say nothing that the table of operators does not.
MOST_POINTS = 80
# Radii of points: of no time, and of all of it.
SMALLEST, WIDEST = 3.0, 17.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot's size and margins, in its own units."""

    width: float
    height: float
    left: float = 62
    right: float = 14
    top: float = 14
    bottom: float = 44

    @property
    def x_end(self) -> float:
        """Right end of the plot's inside."""
        return self.width - self.right

    @property
    def y_end(self) -> float:
        """Lower end of the plot's inside."""
        return self.height - self.bottom


WIDE, NARROW = Frame(720, 380), Frame(360, 320, left=54)


def log_scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a positive value stands between `start` and `end`, by its logarithm."""
    span = log10(high / low)

    def at(value: float) -> float:
        return start + (end - start) * log10(value / low) / span

    return at


def decades(low: float, high: float) -> list[float]:
    """Powers of ten between two values, at most eight of them."""
    every = list(range(ceil(log10(low) - 1e-9), floor(log10(high) + 1e-9) + 1))
    step = ceil(len(every) / 8) if every else 1
    return [10.0**e for e in every[::step]]


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A text; `kind` is its class."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _svg(frame: Frame, title: str, says: str, kind: str, parts: Iterable[str], name: str) -> str:
    """The picture with its title and, for those who cannot see it, what it says."""
    return (
        f'<svg class="plot of-{kind}" viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(says)}</desc>{"".join(parts)}</svg>'
    )


@dataclass(frozen=True, slots=True)
class Dot:
    """A kernel on the roofline: FLOP/B, FLOP/s, share of the step's time, its side, what it is called."""

    intensity: float
    rate: float
    share: float
    binding: str
    name: str
    seconds: float


def dots_of(estimate: Estimate) -> list[Dot]:
    """Kernels with matrix work, the longest first; those without have no place on a roofline."""
    found, whole = [], float(estimate.latency.value or 0.0)
    for op in estimate.operations:
        time, flops, moved = op.time, float(op.kernel.work.flops), float(op.kernel.traffic.total)
        if time is None or not flops or not moved or not whole:
            continue
        seconds = float(time.latency_s)
        parts = {"compute": time.compute_s, "memory-bandwidth": time.data_s, "overhead": time.overhead_s,
                 "sequential-dependency": time.serial_s}  # fmt: skip
        found.append(Dot(flops / moved, flops / seconds, seconds * float(op.kernel.times) / whole,
                         max(parts, key=lambda k: float(parts[k])), op.kernel.name,
                         seconds * float(op.kernel.times)))  # fmt: skip
    return sorted(found, key=lambda d: -d.share)


def roofline(estimates: Sequence[Estimate], frame: Frame = WIDE, name: str = "roof") -> str | None:
    """Roofs of the machines, and every kernel at its intensity and speed, as large as its share of the time.

    x: FLOP a byte moved as run; y: FLOP/s reached; both logarithmic. None where no machine's roof is known.
    """
    roofs = []
    for e in estimates:
        peak = e.machine.peak(compute_dtype(e.workload.precision)).value
        rate = e.machine.bandwidth_bytes_per_s.value
        if peak and rate:
            roofs.append((e, peak, rate))
    if not roofs:
        return None
    dots = [dots_of(e)[:MOST_POINTS] for e in estimates]
    every = [d for each in dots for d in each]
    ridges = [peak / rate for _, peak, rate in roofs]
    top = 2.2 * max(peak for _, peak, _ in roofs)
    # slow kernels of little time do not stretch the plot
    floor_ = max(top / 1e7, min((d.rate for d in every if d.share > 0.002), default=top / 1e4) / 2)
    low = max(1e-3, min([min(ridges) / 30, *(d.intensity for d in every)]) / 1.5)
    high = max([max(ridges) * 8, *(d.intensity for d in every)]) * 1.5
    x = log_scale(low, high, frame.left, frame.x_end)
    y = log_scale(floor_, top, frame.y_end, frame.top)
    parts = [f'<rect x="{frame.left:g}" y="{frame.top:g}" width="{frame.x_end - frame.left:g}" '
             f'height="{frame.y_end - frame.top:g}" class="inside"/>']  # fmt: skip
    for value in decades(low, high):
        parts.append(_line(x(value), frame.top, x(value), frame.y_end, "rule"))
        parts.append(
            _text(x(value), frame.y_end + 18, f"{value:g}" if value < 1e5 else fmt(value), "tick", "middle")
        )
    for value in decades(floor_, top):
        parts.append(_line(frame.left, y(value), frame.x_end, y(value), "rule"))
        parts.append(_text(frame.left - 7, y(value) + 4, fmt(value).replace(" ", ""), "tick", "end"))
    parts.append(
        _text(
            (frame.left + frame.x_end) / 2, frame.height - 6, "FLOP per byte moved, as run", "axis", "middle"
        )
    )
    parts.append(f'<text transform="translate(13 {(frame.top + frame.y_end) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle" class="axis">FLOP/s</text>')  # fmt: skip
    taken: list[float] = []
    for i, (e, peak, rate) in enumerate(roofs):
        at = estimates.index(e)
        start = max(low, floor_ / rate)
        ridge = peak / rate
        path = (
            f"M{x(start):.1f},{y(start * rate):.1f}L{x(ridge):.1f},{y(peak):.1f}L{x(high):.1f},{y(peak):.1f}"
        )
        parts.append(f'<path d="{path}" class="roof s{at}"/>')
        level = y(peak) - 6
        if all(abs(level - t) > 13 for t in taken):
            taken.append(level)
            label = f"{fmt(peak)}FLOP/s {compute_dtype(e.workload.precision)}"
            parts.append(_text(frame.x_end - 4, level, label, f"label s{at}", "end"))
        if i == 0:
            parts.append(_line(x(ridge), y(peak), x(ridge), frame.y_end, "ridge"))
            parts.append(_text(x(ridge) + 5, frame.y_end - 7, f"ridge {fmt(ridge)}", "tick"))
    # large points first, so that small ones lie on top
    for at, each in enumerate(dots):
        for d in each:
            radius = SMALLEST + (WIDEST - SMALLEST) * sqrt(min(d.share, 1.0))
            level = min(max(y(max(d.rate, floor_)), frame.top), frame.y_end)
            words = f"{d.name}: {fmt(d.seconds, 's')}, {d.share:.1%} of the time, "
            words += f"{fmt(d.intensity)} FLOP/B, {d.binding}"
            kind = f"dot s{at}" if len(estimates) > 1 else f"dot b-{d.binding}"
            parts.append(
                f'<circle cx="{x(d.intensity):.1f}" cy="{level:.1f}" r="{radius:.1f}" class="{kind}">'
                f"<title>{escape(words)}</title></circle>"
            )
    return _svg(frame, "Roofline", roofline_says(estimates), "roofline", parts, name)


def roofline_says(estimates: Sequence[Estimate]) -> str:
    """The roofline in words."""
    told = []
    for e in estimates:
        intensity, side = e.roofline()["as_run"]
        ridge = e.ridge_point
        where = (
            f"the {side} side of its ridge at {fmt(ridge)}"
            if ridge and side
            else "a machine of unknown ridge"
        )
        known = "no intensity" if intensity is None else f"{fmt(intensity)} FLOP/B"
        first = dots_of(e)[:1]
        longest = f"; the longest kernel, {first[0].name}, takes {first[0].share:.0%}" if first else ""
        told.append(f"{e.model} on {e.machine.name} as a whole has {known}, on {where}{longest}.")
    return " ".join(told)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar: what it is called, how large, its class."""

    name: str
    value: float
    kind: str


def bar(parts: Sequence[Part], limit: float | None, unit: str, name: str, title: str) -> str:
    """Parts side by side against a limit, which is the end of the bar unless they are more.

    Widths are of 1000, and the picture is stretched to its place: there is no text in it.
    """
    total = sum(p.value for p in parts)
    end = max(total, limit or 0.0) or 1.0
    made, at = [], 0.0
    for p in parts:
        width = 1000 * p.value / end
        if width > 0:
            made.append(
                f'<rect x="{at:.1f}" y="0" width="{max(width, 1.5):.1f}" height="28" class="part {p.kind}">'
                f"<title>{escape(p.name)} {fmt(p.value, unit)}</title></rect>"
            )
        at += width
    if limit and total > limit:
        spot = 1000 * limit / end
        made.append(f'<rect x="{spot:.1f}" y="0" width="{1000 - spot:.1f}" height="28" class="over"/>')
        made.append(_line(spot, -4, spot, 32, "limit"))
    says = ", ".join(f"{p.name} {fmt(p.value, unit)}" for p in parts if p.value)
    against = f"; {fmt(total, unit)} of {fmt(limit, unit)}" if limit else f"; {fmt(total, unit)} in all"
    return (
        f'<svg class="bar" viewBox="0 -4 1000 36" preserveAspectRatio="none" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(says + against)}</desc>{"".join(made)}</svg>'
    )


def whisker(value: float, low: float, high: float, end: float, kind: str, says: str) -> str:
    """One value as a bar with its band, against the largest of all."""

    def at(v: float) -> float:
        return 1000 * min(v / end, 1.0)

    return (
        f'<svg class="whisker" viewBox="0 0 1000 20" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(says)}">'
        f'<rect x="0" y="4" width="{max(at(value), 2):.1f}" height="12" class="part {kind}"/>'
        f"{_line(at(low), 10, at(high), 10, 'band')}{_line(at(low), 5, at(low), 15, 'band')}"
        f"{_line(at(high), 5, at(high), 15, 'band')}</svg>"
    )


def share(part: float) -> str:
    """A part of a whole as a thin bar; what it is stands beside it in words."""
    return (
        '<svg class="share" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{1000 * min(max(part, 0.0), 1.0):.0f}" height="10" class="part p0"/></svg>'
    )


def curve(
    points: Sequence[tuple[float, float]],
    mark: tuple[float, float] | None,
    words: tuple[str, str],
    title: str,
    says: str,
    frame: Frame,
    name: str,
) -> str | None:
    """A falling or rising line on two logarithmic axes, with one point marked.

    Args:
        points: (x, y), of which those without a positive y are left out.
        words: what the axes are.
    """
    known = [(a, b) for a, b in points if a > 0 and b > 0]
    if len(known) < 2:
        return None
    marks = [mark] if mark and min(mark) > 0 else []
    xs, ys = [a for a, _ in (*known, *marks)], [b for _, b in (*known, *marks)]
    low_x, high_x, low_y, high_y = min(xs) / 1.1, max(xs) * 1.1, min(ys) / 1.6, max(ys) * 1.6
    x, y = log_scale(low_x, high_x, frame.left, frame.x_end), log_scale(low_y, high_y, frame.y_end, frame.top)
    parts = [
        f'<rect x="{frame.left:g}" y="{frame.top:g}" width="{frame.x_end - frame.left:g}" '
        f'height="{frame.y_end - frame.top:g}" class="inside"/>'
    ]
    for a, _ in known:
        parts.append(_line(x(a), frame.top, x(a), frame.y_end, "rule"))
        parts.append(_text(x(a), frame.y_end + 18, tokens(a), "tick", "middle"))
    for value in decades(low_y, high_y) or [low_y, high_y]:
        parts.append(_line(frame.left, y(value), frame.x_end, y(value), "rule"))
        parts.append(_text(frame.left - 7, y(value) + 4, fmt(value).replace(" ", ""), "tick", "end"))
    parts.append(_text((frame.left + frame.x_end) / 2, frame.height - 6, words[0], "axis", "middle"))
    parts.append(f'<text transform="translate(13 {(frame.top + frame.y_end) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle" class="axis">{escape(words[1])}</text>')  # fmt: skip
    path = "M" + "L".join(f"{x(a):.1f},{y(b):.1f}" for a, b in known)
    under = f"{path}L{x(known[-1][0]):.1f},{frame.y_end:.1f}L{x(known[0][0]):.1f},{frame.y_end:.1f}Z"
    parts.append(f'<path d="{under}" class="under s0"/>')
    parts.append(f'<path d="{path}" class="curve s0"/>')
    for a, b in known:
        parts.append(
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.5" class="point s0"><title>{tokens(a)}: {b:,.0f}'
            "</title></circle>"
        )
    for a, b in marks:
        parts.append(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="7" class="here"/>')
    return _svg(frame, title, says, "curve", parts, name)


def tokens(n: float) -> str:
    """A context as people say it: 4k is 4096."""
    whole = int(n)
    if whole >= 2**20 and whole % 2**20 == 0:
        return f"{whole // 2**20}M"
    return f"{whole // 1024}k" if whole >= 1024 and whole % 1024 == 0 else f"{whole:,}"


def devices(rows: Sequence[Sequence[Part]], capacity: float, frame: Frame, name: str, says: str) -> str:
    """Devices side by side, each a column of what lies on it, up to what it holds."""
    inside = frame.y_end - frame.top
    width = (frame.x_end - frame.left) / max(len(rows), 1)
    gap = min(6.0, width * 0.2)
    parts: list[Any] = []
    for step in (0.0, 0.25, 0.5, 0.75, 1.0):
        level = frame.y_end - inside * step
        parts.append(_line(frame.left, level, frame.x_end, level, "limit" if step == 1 else "rule"))
        parts.append(
            _text(
                frame.left - 7,
                level + 4,
                fmt(capacity * step, "B").replace(" ", "") if step else "0",
                "tick",
                "end",
            )
        )
    every = max(1, ceil(len(rows) / max(1, (frame.x_end - frame.left) // 24)))
    for d, row in enumerate(rows):
        at, x = frame.y_end, frame.left + d * width + gap / 2
        for p in row:
            tall = inside * p.value / capacity
            at -= tall
            if tall > 0.05:
                parts.append(
                    f'<rect x="{x:.1f}" y="{at:.2f}" width="{width - gap:.1f}" height="{tall:.2f}" '
                    f'class="part {p.kind}"><title>device {d}: {escape(p.name)}, {fmt(p.value, "B")}</title>'
                    "</rect>"
                )
        if d % every == 0:
            parts.append(_text(x + (width - gap) / 2, frame.y_end + 17, str(d), "tick", "middle"))
    parts.append(_text((frame.left + frame.x_end) / 2, frame.height - 6, "device", "axis", "middle"))
    return _svg(frame, "What lies on each device", says, "devices", parts, name)
