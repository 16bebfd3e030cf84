"""Timed: calls of a lab beside each other, ratios with their doubt, what may be said of them, pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, isfinite, log, log2
from statistics import median
from typing import Any

from pharos.measure.timing import Timing, interleaved
from pharos.quantity.errors import InputError
from pharos.report.drawing import Figure
from pharos.report.labs import Agreement

# What a ratio of times may be off by, however often it is repeated: where tensors happen to lie in memory.
FLOOR = 0.03


@dataclass(frozen=True, slots=True)
class Span:
    """A figure and what it may be: about 95% of repetitions."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


def ratio(over: Timing, under: Timing, less: Timing | None = None) -> Span:
    """How many times longer a call takes than another that was timed in turn with it.

    The median of the ratios of each round, so that a machine that slows for a while changes nothing.

    Args:
        less: of a third call, taken off the first.
    """
    off = less.samples if less is not None else (0.0,) * len(over.samples)
    pairs = Timing(tuple((a - c) / b for a, b, c in zip(over.samples, under.samples, off, strict=True)))
    doubt = max(2 * pairs.uncertainty, FLOOR)
    return Span(pairs.median, pairs.median / (1 + doubt), pairs.median * (1 + doubt))


def scaled(span: Span, by: float) -> Span:
    """A multiple of it."""
    return Span(span.value * by, span.low * by, span.high * by)


def above(found: Span, bound: float) -> Agreement:
    """Whether a figure is said rightly to lie above a bound."""
    return "agrees" if found.low > bound else "contradicts" if found.high < bound else "cannot tell"


def below(found: Span, bound: float) -> Agreement:
    """Whether a figure is said rightly to lie below a bound."""
    return "agrees" if found.high < bound else "contradicts" if found.low > bound else "cannot tell"


def within(found: Span, low: float, high: float) -> Agreement:
    """Whether a figure is said rightly to lie between two."""
    if found.high < low or found.low > high:
        return "contradicts"
    return "agrees" if found.low >= low and found.high <= high else "cannot tell"


def every(verdicts: Sequence[Agreement]) -> Agreement:
    """Of an expectation with several parts: what all say, "partly" where they differ."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "partly" if set(verdicts) & {"agrees", "contradicts"} else "cannot tell"


def crossing(xs: Sequence[float], rising: Sequence[float], other: Sequence[float]) -> float | None:
    """Where a curve comes to lie above another for good, between the logarithms of points; None if it never
    does, the first point if it always did."""
    gaps = [log(a / b) for a, b in zip(rising, other, strict=True)]
    under = [i for i, gap in enumerate(gaps) if gap <= 0]
    if not under:
        return xs[0]
    at = under[-1]
    if at == len(xs) - 1:
        return None
    share = -gaps[at] / (gaps[at + 1] - gaps[at])
    return exp(log(xs[at]) + share * (log(xs[at + 1]) - log(xs[at])))


def power(xs: Sequence[float], ys: Sequence[float]) -> float:
    """p of y ~ x^p between the last two points."""
    return log2(ys[-1] / ys[-2]) / log2(xs[-1] / xs[-2])


@contextmanager
def threads(count: int = 1, *, trains: bool = False) -> Iterator[Any]:
    """PyTorch, held to some threads and taking no gradients unless it `trains`.

    Raises:
        InputError: it is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise InputError("needs PyTorch", hint="pip install 'pharos-nn[torch]'") from None
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.inference_mode(not trains):
            yield torch
    finally:
        torch.set_num_threads(before)


def timed(
    calls: Mapping[str, Callable[[], object]], seconds: float, *, small: bool = False
) -> dict[str, Timing]:
    """Calls in turn for some seconds together, nine rounds or more; a few rounds where it is `small`."""
    if small:
        return interleaved(calls, seconds=0.01, least=3, most=3)
    return interleaved(calls, seconds=seconds, least=9, sure=0.005)


def drawn(draw: Callable[[Any], Any], *, name: str, title: str, alt: str, source: str = "") -> Figure | None:
    """The figure that `draw` makes with Altair; None where that is missing, for a lab is no less run then."""
    try:
        import altair
    except ModuleNotFoundError:
        return None
    return Figure.of(draw(altair), name=name, title=title, alt=alt, source=source)


def finite(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a picture, without those that have a figure no axis shows."""
    return [dict(r) for r in rows if all(not isinstance(v, float) or isfinite(v) for v in r.values())]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(median(values))
