"""Operators of two networks side by side: matched by name, then by kind and shape; what became of each."""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from pharos.decide.side import Operator

ADDED, REMOVED, CHANGED, RENAMED, SAME = "added", "removed", "changed", "renamed", "same"
# What of an operator is compared.
ASKED = ("parameters", "macs", "traffic_bytes", "latency_s", "energy_J")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorChange:
    """An operator on both sides; None where a side has none."""

    before: Operator | None
    after: Operator | None

    @property
    def one(self) -> Operator:
        """The operator after, or before where it was removed."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def what(self) -> str:
        """ADDED, REMOVED, CHANGED, RENAMED or SAME."""
        if self.before is None:
            return ADDED
        if self.after is None:
            return REMOVED
        if not self.is_same:
            return CHANGED
        return SAME if self.before.name == self.after.name else RENAMED

    @property
    def is_same(self) -> bool:
        """Whether both sides ask the same work, and it takes the same time."""
        if self.before is None or self.after is None or not self.before.asks_as(self.after):
            return False
        was, now = self.before.latency_s, self.after.latency_s
        return was == now or (was is not None and now is not None and abs(now - was) <= 1e-9 * was)

    def delta(self, key: str) -> float | None:
        """After less before of one of ASKED, where nothing counts as 0; None where it is unknown."""
        known = [0 if side is None else getattr(side, key) for side in (self.before, self.after)]
        return None if None in known else known[1] - known[0]

    @property
    def effect(self) -> tuple[float, ...]:
        """What changes are sorted by: time, else operations, then bytes and parameters."""
        return tuple(
            abs(self.delta(key) or 0) for key in ("latency_s", "macs", "traffic_bytes", "parameters")
        )


def matched(before: Iterable[Operator], after: Iterable[Operator]) -> list[OperatorChange]:
    """Every operator of either side once: pairs by name and kind, then by kind and shapes, then by name.

    Folded layers (``layers.1-5.conv``) match whatever their range; operators of one kind and shape match in
    their order. What is left was removed or added.
    """
    old, new = list(before), list(after)
    pairs: list[tuple[Operator, Operator]] = []
    keys: tuple[Callable[[Operator], Hashable], ...] = (
        lambda o: (o.name, o.kind),
        lambda o: (_unfolded(o.name), o.kind),
        lambda o: (o.kind, _shapes(o), o.parameters, o.macs),
        lambda o: (o.kind, _shapes(o)),
        lambda o: o.name,
    )
    for key in keys:
        waiting: dict[Hashable, list[Operator]] = {}
        for operator in old:
            waiting.setdefault(key(operator), []).append(operator)
        left = []
        for operator in new:
            found = waiting.get(key(operator))
            if found:
                pairs.append((found.pop(0), operator))
            else:
                left.append(operator)
        new, old = left, [o for rest in waiting.values() for o in rest]
    return [
        *(OperatorChange(before=a, after=b) for a, b in pairs),
        *(OperatorChange(before=a, after=None) for a in old),
        *(OperatorChange(before=None, after=b) for b in new),
    ]


def _unfolded(name: str) -> str:
    """layers.1-5.conv as layers.1.conv."""
    return re.sub(r"(?<![^.])(\d+)-\d+(?![^.])", r"\1", name)


def _shapes(operator: Operator) -> Any:
    return operator.input_shape, operator.output_shape
