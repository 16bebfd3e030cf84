"""How a number is known: kinds of evidence, figures with a band, and how they combine."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from math import exp, log

from pharos.quantity.sizes import Size

# z of the central 80% of a normal distribution: bands run from the 10th to the 90th percentile.
Z80 = 1.2816


class Kind(Enum):
    """Kinds of evidence, strongest first."""

    COUNTED = "counted"
    MEASURED = "measured"
    SPEC = "spec"
    FITTED = "fitted"
    ASSUMED = "assumed"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """0 for the strongest."""
        return list(Kind).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Why a figure may be believed.

    Args:
        kind: how it is known.
        where: the source key, formula, data set or machine.
        error: relative error (standard deviation of the log) where one is known.
    """

    kind: Kind
    where: str
    error: float | None = None

    def __str__(self) -> str:
        text = f"{self.kind.value}: {self.where}" if self.where else self.kind.value
        return f"{text}, {self.error:.0%} error" if self.error else text


def counted(where: str = "") -> Evidence:
    """Exact, from shapes."""
    return Evidence(kind=Kind.COUNTED, where=where)


def spec(where: str) -> Evidence:
    """From a document; `where` names it."""
    return Evidence(kind=Kind.SPEC, where=where)


def fitted(where: str, error: float) -> Evidence:
    """From a fit with a residual error; `where` names the rows."""
    return Evidence(kind=Kind.FITTED, where=where, error=error)


def measured(where: str) -> Evidence:
    """Timed or read on a machine; `where` says which and when."""
    return Evidence(kind=Kind.MEASURED, where=where)


def assumed(where: str, error: float | None = None) -> Evidence:
    """Taken for lack of better; `where` says why."""
    return Evidence(kind=Kind.ASSUMED, where=where, error=error)


def unknown_because(where: str) -> Evidence:
    """Not known; `where` says what is missing."""
    return Evidence(kind=Kind.UNKNOWN, where=where)


def weakest(parts: Iterable[Evidence]) -> Evidence:
    """The evidence a combination of `parts` rests on: its weakest part."""
    return max(parts, key=lambda e: e.kind.rank)


def merge(parts: Iterable[Evidence]) -> tuple[Evidence, ...]:
    """Parts without repetition, weakest first, in their order."""
    return tuple(sorted(dict.fromkeys(parts), key=lambda e: -e.kind.rank))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with its 80% band, its unit and its evidence.

    `value` is None when it cannot be known; a lower bound may then still stand in `low`.
    Values may be NumPy arrays when sizes were.
    """

    value: Size | None
    unit: str
    evidence: tuple[Evidence, ...]
    low: Size | None = None
    high: Size | None = None

    @property
    def level(self) -> str:
        """The weakest kind among the evidence."""
        return weakest(self.evidence).kind.value if self.evidence else Kind.UNKNOWN.value

    @property
    def is_known(self) -> bool:
        """False when any part of it is unknown."""
        return self.value is not None


def exact(value: Size, unit: str, where: str = "") -> Figure:
    """A counted figure: its band is itself."""
    return Figure(value=value, unit=unit, evidence=(counted(where),), low=value, high=value)


def unknown_figure(unit: str, where: str, low: Size | None = None) -> Figure:
    """A figure that cannot be told, with what is missing and, if known, a lower bound."""
    return Figure(value=None, unit=unit, evidence=(unknown_because(where),), low=low)


def banded(value: Size, unit: str, sigma: Size, evidence: Iterable[Evidence]) -> Figure:
    """A figure whose log has standard deviation `sigma`: 80% band value / k to value x k."""
    if isinstance(sigma, (int, float)):
        factor: Size = exp(Z80 * sigma)
    else:
        import numpy

        factor = numpy.exp(Z80 * sigma)
    return Figure(value=value, unit=unit, low=value / factor, high=value * factor, evidence=merge(evidence))


def sigma_of(low: float, high: float) -> float:
    """The log standard deviation that an 80% band implies."""
    return log(high / low) / (2 * Z80)
