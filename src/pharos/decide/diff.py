"""Diff: what changed between two results of Pharos, by effect, and whether a limit is newly broken."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import exp, log
from typing import Any

from pharos.decide.operators import OperatorChange, matched
from pharos.decide.side import FIGURES, Operator, Reading, Side, is_better_more, unit_of
from pharos.decide.verdict import BROKEN, HOLDS, UNKNOWN
from pharos.quantity.evidence import Z80

# Log standard deviation of the part of a network's error that is its own; what exceeds it is shared by all
# networks on that machine and runtime, for they rest on the same figures and curves. Half the mean square of
# log(predicted / measured) of one network less another's, by benchmarks/differences.py on the field data.
# Networks of one family, families left out of the fit: 311 timm runs on 3 devices, 0.07 to 0.13 by device.
OWN_KIN = 0.11
# Any two networks, on boards never fitted: 321 ncnn runs on 4 cores, 0.15 to 0.20 by core.
OWN_STRANGERS = 0.165
# Networks are kin where at least so much of either's latency is in operators that have a partner. Assumed.
KIN_FROM = 0.5

# Growth of a figure that was fitted or assumed, below which a limit that was broken before has not grown.
GROWTH = 0.01

# What became of a limit; those of FAILS fail, those of TELLS_NOT leave it open.
NEWLY, GROWN, WAS, MENDED, NEWLY_UNKNOWN, STILL_UNKNOWN, KEPT, GONE = (
    "newly broken", "broken and grown", "broken before", "mended", "no longer told", "not told before either",
    "holds", "removed",
)  # fmt: skip
FAILS, TELLS_NOT = (NEWLY, GROWN), (NEWLY_UNKNOWN,)

# Figures of which one tells the others: only the first of a group makes a headline.
_GROUPS = (("latency", "throughput"), ("macs", "flops"), ("parameters", "weights", "storage"),
           ("traffic per_op", "traffic ideal"), ("energy", "energy_per_day", "battery_life"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure on both sides.

    Args:
        delta: after less before; None where either is unknown.
        low, high: the 80% band of the change, as parts of the figure before; None where exact or unknown.
    """

    name: str
    before: Reading
    after: Reading
    delta: float | None
    low: float | None = None
    high: float | None = None

    @property
    def unit(self) -> str:
        """SI unit of the figure."""
        return unit_of(self.name)

    @property
    def part(self) -> float | None:
        """The delta as a part of the figure before."""
        return None if self.delta is None or not self.before.value else self.delta / self.before.value

    @property
    def is_changed(self) -> bool:
        """Whether the figure differs, or is known on one side only."""
        return self.delta != 0 and (self.before.value, self.after.value) != (None, None)

    @property
    def is_exact(self) -> bool:
        """Whether the change has no error."""
        return self.delta is not None and self.low is None

    @property
    def is_told(self) -> bool | None:
        """Whether the band leaves out zero; None where there is no delta."""
        if self.delta is None:
            return None
        return self.low is None or self.high is None or self.low > 0 or self.high < 0

    @property
    def is_worse(self) -> bool | None:
        """Whether it changed for the worse; None where it did not or cannot be known."""
        return None if not self.delta else (self.delta > 0) != is_better_more(self.name)

    @property
    def weight(self) -> float:
        """What changes are sorted by: the log of after over before."""
        before, after = self.before.value, self.after.value
        if before is None or after is None:
            return 0.0
        return abs(log(after / before)) if before > 0 and after > 0 else (0.0 if before == after else 100.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """A limit on both sides, as rows of `check --json`; None where a side has none of it.

    Args:
        status: NEWLY, GROWN, WAS, MENDED, NEWLY_UNKNOWN, STILL_UNKNOWN, KEPT or GONE.
        loosened: the limit allows more than it did.
    """

    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    status: str
    loosened: bool = False

    @property
    def unit(self) -> str:
        """SI unit of the limit."""
        return unit_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What changed from one result to another; a side is None where only the other has it.

    Args:
        own_error: OWN_KIN or OWN_STRANGERS, as the bands rest on; None where all error is each side's own.
    """

    before: Side | None
    after: Side | None
    figures: tuple[Change, ...] = ()
    limits: tuple[LimitChange, ...] = ()
    operators: tuple[OperatorChange, ...] = ()
    own_error: float | None = None

    @property
    def side(self) -> Side:
        """The side after, or before where it was removed."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def is_changed(self) -> bool:
        """Whether anything differs."""
        if self.before is None or self.after is None:
            return True
        limits = any(c.before is None or c.after is None or c.before["limit"] != c.after["limit"]
                     or c.before["verdict"] != c.after["verdict"] for c in self.limits)  # fmt: skip
        return limits or any(c.is_changed for c in self.figures) or bool(self.operators)

    def of_limit(self, name: str) -> LimitChange | None:
        """The limit on a figure, if there is one."""
        return next((c for c in self.limits if c.name == name), None)

    def with_status(self, statuses: Iterable[str]) -> list[LimitChange]:
        """The limits that became one of the statuses."""
        return [c for c in self.limits if c.status in statuses]


def compare(before: Side | None, after: Side | None) -> Diff:
    """What changed between two sides, each list by effect, the largest first."""
    if before is None or after is None:
        was, now = (before.limits if before else None), (after.limits if after else None)
        return Diff(before=before, after=after, limits=limit_changes(was, now))
    operators = matched(before.operators, after.operators)
    spread = _spread(before, after, operators)
    figures = [_change(name, before.figures.get(name), after.figures.get(name), spread)
               for name in dict.fromkeys((*before.figures, *after.figures))]  # fmt: skip
    changed = [o for o in operators if not o.is_same]
    return Diff(
        before=before, after=after, figures=tuple(sorted(figures, key=lambda c: -c.weight)),
        limits=limit_changes(before.limits, after.limits),
        operators=tuple(sorted(changed, key=lambda o: o.effect, reverse=True)),
        own_error=_own(before, after, operators),
    )  # fmt: skip


def _change(
    name: str, before: Reading | None, after: Reading | None, spread: Callable[[float, float], float]
) -> Change:
    missing = Reading(value=None, level="unknown")
    was, now = before or missing, after or missing
    if was.value is None or now.value is None:
        return Change(name=name, before=was, after=now, delta=None)
    delta = now.value - was.value
    if delta == 0 or was.value <= 0 or now.value <= 0 or (was.sigma == 0 and now.sigma == 0):
        return Change(name=name, before=was, after=now, delta=delta)
    ratio, factor = now.value / was.value, exp(Z80 * spread(was.sigma, now.sigma))
    return Change(
        name=name, before=was, after=now, delta=delta, low=ratio / factor - 1, high=ratio * factor - 1
    )


def are_kin(
    before: Side, after: Side, operators: "list[OperatorChange] | tuple[OperatorChange, ...]"
) -> bool:
    """Whether most of either side's latency is in operators that the other has too, changed or not."""
    paired = [o for o in operators if o.before is not None and o.after is not None]
    for side, own in ((before, [o.before for o in paired]), (after, [o.after for o in paired])):
        whole = sum(o.latency_s or 0 for o in side.operators)
        if not whole or sum((o.latency_s or 0) for o in own if o is not None) < KIN_FROM * whole:
            return False
    return True


def _own(before: Side, after: Side, operators: list[OperatorChange]) -> float | None:
    if before.machine != after.machine or before.workload.get("runtime") != after.workload.get("runtime"):
        return None
    return OWN_KIN if are_kin(before, after, operators) else OWN_STRANGERS


def _spread(before: Side, after: Side, operators: list[OperatorChange]) -> Callable[[float, float], float]:
    """Standard deviation of the log of after over before, from that of either figure; to first order.

    What errs alike for all networks on a machine leaves a ratio as it is. Each side's own error counts
    (OWN_KIN or OWN_STRANGERS, or all there is if that is less), weighted by where the time is: kernels that
    are the same work on both sides have one error in common, which counts by how much their share of the time
    changes, and so have launches between kernels; those of the rest are each side's own. Where machine or
    runtime differ, nothing is shared.
    """
    own = _own(before, after, operators)
    if own is None:
        return lambda was, now: (was**2 + now**2) ** 0.5
    shares = [_shares(side, [getattr(o, which) for o in operators if not o.is_same])
              for side, which in ((before, "before"), (after, "after"))]  # fmt: skip
    (a_other, a_between), (b_other, b_between) = (shares[0] or (1.0, 0.0)), (shares[1] or (1.0, 0.0))
    common = (1 - b_other - b_between) - (1 - a_other - a_between)

    def spread(was: float, now: float) -> float:
        a, b, both = min(was, own), min(now, own), min(max(was, now), own)
        terms = (a_other * a, b_other * b, common * both, (b_between - a_between) * both)
        return sum(t**2 for t in terms) ** 0.5

    return spread


def _shares(side: Side, changed: "list[Operator | None]") -> tuple[float, float] | None:
    """Parts of a side's latency in some of its kernels, and between kernels; None where they are unknown."""
    whole = side.figures["latency"].value if "latency" in side.figures else None
    if not whole or not side.operators or any(o.latency_s is None for o in side.operators):
        return None
    inside = sum(o.latency_s or 0.0 for o in side.operators)
    seconds = sum(o.latency_s or 0.0 for o in changed if o is not None)
    return seconds / whole, max(0.0, 1 - inside / whole)


def limit_changes(
    before: dict[str, dict[str, Any]] | None, after: dict[str, dict[str, Any]] | None
) -> tuple[LimitChange, ...]:
    """What became of every limit; without anything before, a broken one is newly broken."""
    was, now = before or {}, after or {}
    return tuple(limit_change(name, was.get(name), now.get(name)) for name in dict.fromkeys((*now, *was)))


def limit_change(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> LimitChange:
    """What became of one limit."""
    made = LimitChange(name=name, before=before, after=after, status=GONE)
    if after is None:
        return made
    verdict, earlier = after["verdict"], None if before is None else before["verdict"]
    if verdict == HOLDS:
        status = MENDED if earlier == BROKEN else KEPT
    elif verdict == UNKNOWN:
        status = STILL_UNKNOWN if earlier in (UNKNOWN, BROKEN) else NEWLY_UNKNOWN
    elif earlier != BROKEN or before is None:
        status = NEWLY
    else:
        status = GROWN if _grew(name, before, after) else WAS
    more = is_better_more(name)
    loosened = before is not None and (
        after["limit"] < before["limit"] if more else after["limit"] > before["limit"]
    )
    return replace(made, status=status, loosened=loosened)


def _grew(name: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    known = [row["value"] if row["value"] is not None else row.get("low") for row in (before, after)]
    if known[0] is None or known[1] is None:
        return False
    counted = all(row.get("low") == row.get("high") for row in (before, after))
    slack = 1.0 if counted else 1 + GROWTH
    return known[1] * slack < known[0] if is_better_more(name) else known[1] > known[0] * slack


def headline(diffs: Iterable[Diff], most: int = 3) -> list[tuple[Diff, Change]]:
    """The figures that changed most: those whose limits newly broke first, then those whose limits can no
    longer be told, then what is beyond its error, each by size.

    Of figures that tell each other (latency and throughput, MACs and FLOPs) only one is among them, unless
    its own limit broke.
    """
    ranked = []
    known: set[tuple[str, float | None, float | None]] = set()
    for diff in diffs:
        said: set[int] = set()
        for change in sorted(diff.figures, key=lambda c: (_urgency(diff, c), _order(c.name))):
            if not change.is_changed or change.delta is None:
                continue
            urgency = _urgency(diff, change)
            group = next((i for i, names in enumerate(_GROUPS) if change.name in names), None)
            # what shapes decide is the same on every machine
            ends = (change.name, change.before.value, change.after.value)
            if (group in said or ends in known) and urgency:
                continue
            known.add(ends)
            if group is not None:
                said.add(group)
            ranked.append(((urgency, change.is_told is False, -change.weight), diff, change))
    ranked.sort(key=lambda item: item[0])
    return [(diff, change) for _, diff, change in ranked[:most]]


def _urgency(diff: Diff, change: Change) -> int:
    limit = diff.of_limit(change.name)
    status = KEPT if limit is None else limit.status
    return 0 if status in FAILS else 1 if status in TELLS_NOT else 2


def _order(name: str) -> int:
    return list(FIGURES).index(name) if name in FIGURES else len(FIGURES)


def exit_code(diffs: Iterable[Diff]) -> int:
    """1 when a limit is newly broken or a broken one grew, 3 when one can no longer be told, else 0."""
    found = {c.status for diff in diffs for c in diff.limits}
    return 1 if found & set(FAILS) else 3 if found & set(TELLS_NOT) else 0
