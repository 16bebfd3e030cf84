"""Points: a slab of a grid evaluated as arrays where the network's form allows, else point by point."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import Any

from pharos.convert.load import load
from pharos.decide.sweep.grid_file import Condition, Entered
from pharos.decide.sweep.plan import OWN, Plan, Slab, Target
from pharos.graph.graph import Graph, Repeat
from pharos.graph.workload import Workload
from pharos.models.registry import entry
from pharos.predict.estimate import Estimate, predict
from pharos.predict.figures import COLUMNS
from pharos.predict.grid import Codes, Points
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import PharosError
from pharos.quantity.sizes import is_array

# Values of an axis whose networks are built to see whether there are any; of longer ones the ends and some.
LOOKED_AT = 512
# Mistakes of arrays: a form that depends on sizes, a size that Python must know.
NO_ARRAY = (PharosError, TypeError, ValueError)


@dataclass(slots=True)
class Block:
    """Rows: columns as arrays of one length, numbers or words that are the same in all rows, or codes."""

    columns: dict[str, Any]
    rows: int


@dataclass(slots=True)
class Told:
    """What a part tells beside its rows.

    Args:
        evaluated: predictions made. impossible: points that are no network, with an example of why.
        evidence: how figures are known, by model, machine, runtime and precision.
    """

    evaluated: int = 0
    impossible: int = 0
    why: str = ""
    single: int = 0
    evidence: dict[str, dict[str, list[str]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Combinations of hyperparameters whose networks have one form, on the places of the other axes.

    Args:
        places: their numbers in the slab. resolutions, batches, contexts: None where the grid does not say.
    """

    places: tuple[int, ...]
    combos: tuple[dict[str, Any], ...]
    resolutions: tuple[int, ...] | None
    batches: tuple[int, ...]
    contexts: tuple[int, ...] | None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Lengths of the four axes."""
        return (
            len(self.combos),
            len(self.resolutions or (0,)),
            len(self.batches),
            len(self.contexts or (0,)),
        )

    def at(self, place: tuple[int, ...]) -> "Group":
        """The one point at a place."""
        i, j, k, m = place
        return Group(
            (self.places[i],), (self.combos[i],), self.resolutions and (self.resolutions[j],),
            (self.batches[k],), self.contexts and (self.contexts[m],),
        )  # fmt: skip


def blocks(plan: Plan, slab: Slab, told: Told) -> Iterator[Block]:
    """The rows of a slab that meet the grid's conditions, in an order that is always the same."""
    model, axes, grid = plan.grid.models[slab.model], plan.axes[slab.model], plan.grid
    resolutions = axes.resolutions and axes.resolutions[slice(*slab.resolutions)]
    batches = grid.batches[slice(*slab.batches)]
    contexts = grid.contexts and grid.contexts[slice(*slab.contexts)]
    groups, lost = _groups(model, axes.combos, slab, resolutions, batches, contexts)
    if lost:
        told.impossible += lost[0] * (slab.targets[1] - slab.targets[0])
        told.why = told.why or lost[1]
    for i, group in enumerate(groups):
        yield from _of_group(plan, model, group, slab, told, i)


def _of_group(
    plan: Plan, model: Entered, group: Group, slab: Slab, told: Told, number: int | tuple[int, ...]
) -> Iterator[Block]:
    work = _workload(group, slab)
    key = (plan.grid.key, replace(slab, targets=(0, 0)), number)
    if key not in _LAST:
        # a slab's next machines ask for the same points
        _LAST.clear()
        _LAST[key] = _points(model, group, work)
    points = _LAST[key]
    if points is None and len(group.combos) > 1:
        # a form that arrays do not reach: one combination after the other
        for i in range(len(group.combos)):
            one = Group(group.places[i : i + 1], group.combos[i : i + 1], group.resolutions, group.batches,
                        group.contexts)  # fmt: skip
            yield from _of_group(plan, model, one, slab, told, (i,))
        return
    for target in plan.targets[slice(*slab.targets)]:
        if points is not None and target.lean:
            found = points.estimate(target.machine, work, target.runtime, plan.needs, model=model.name)
            told.evaluated += _size(group.shape)
            _note(told, model, found)
            yield from _rows(plan, model, group, slab, target, found)
            continue
        for place in product(*map(range, group.shape)):
            alone = group.at(place)
            single = _workload(alone, slab)
            try:
                graph = build(model, alone, single)
                found = predict(graph, target.machine, single, model=model.name, runtime=target.runtime.name)
            except PharosError as error:
                told.impossible += 1
                told.why = told.why or str(error)
                continue
            told.evaluated += 1
            told.single += 1
            _note(told, model, found)
            yield from _rows(plan, model, alone, slab, target, found)


_LAST: dict[Any, Points | None] = {}


def _size(shape: tuple[int, ...]) -> int:
    a, b, c, d = shape
    return a * b * c * d


def _workload(group: Group, slab: Slab) -> Workload:
    return Workload(
        phase=slab.phase, batch=_axis(group.batches, 2), precision=Precision.of(slab.precision),
        context=None if group.contexts is None else _axis(group.contexts, 3),
    )  # fmt: skip


def _axis(values: tuple[Any, ...], at: int) -> Any:
    """One value as it is, several as an array along an axis of the four."""
    if len(values) == 1:
        return values[0]
    import numpy as np

    return np.array(values, float).reshape([-1 if i == at else 1 for i in range(4)])


def build(model: Entered, group: Group, work: Workload) -> Graph:
    """The graph of a group of points; arrays where values differ.

    Raises:
        PharosError, TypeError, ValueError: no network, or none whose sizes can be arrays.
    """
    if model.name.endswith((".onnx", ".json")):
        return load(model.name).graph(work)
    known = entry(model.name)
    given: dict[str, Any] = {}
    for key, first in group.combos[0].items():
        every = [c[key] for c in group.combos]
        same = all(v == first for v in every)
        given[key] = first if same else _axis(tuple(every), 0)
        if not same and len(set(map(type, every)) - {int, float}):
            raise TypeError(f"{key} differs and is no number")
    if group.resolutions is not None:
        given[OWN] = _axis(group.resolutions, 1)
    return known.build(work, **known.fixed, **given)


def _points(model: Entered, group: Group, work: Workload) -> Points | None:
    """The graph of all points of a group; None where arrays do not give what numbers give."""
    try:
        points = Points(build(model, group, work))
        if _size(group.shape) > 1 and not all(
            _agrees(points, model, group, work, place) for place in _corners(group.shape)
        ):
            return None
    except NO_ARRAY:
        return None
    return points


def _corners(shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    return {tuple(n // 3 for n in shape), tuple(n - 1 for n in shape)}


def _agrees(points: Points, model: Entered, group: Group, work: Workload, place: tuple[int, ...]) -> bool:
    """Whether the arrays hold at a place what the network there, built by itself, has."""
    alone = group.at(place)
    single = work.but(batch=alone.batches[0], context=alone.contexts and alone.contexts[0])
    there = Points(build(model, alone, single))
    a, b = points.count, there.count
    if len(a.lines) != len(b.lines) or any(
        x.cost_class != y.cost_class for x, y in zip(a.lines, b.lines, strict=True)
    ):
        return False
    held = zip(_told(points), _told(there), strict=True)
    return all(abs(_at(x, place) - y) <= 1e-9 * abs(y) for x, y in held)


def _told(points: Points) -> tuple[Any, ...]:
    c = points.count
    return (c.macs, c.work.vector_flops, c.parameters, c.weight_bytes, c.state_bytes, c.traffic_per_op,
            points.lived.peak)  # fmt: skip


def _at(value: Any, place: tuple[int, ...]) -> float:
    if not is_array(value):
        return float(value)
    return float(value[tuple(min(i, n - 1) for i, n in zip(place, value.shape, strict=True))])


# Which points are networks, and of which form.


def _groups(
    model: Entered, combos: tuple[dict[str, Any], ...], slab: Slab, resolutions: tuple[int, ...] | None,
    batches: tuple[int, ...], contexts: tuple[int, ...] | None,
) -> tuple[list[Group], tuple[int, str] | None]:  # fmt: skip
    """Combinations by the form of their networks, without what is none; points that were lost, and why."""
    found: dict[Any, list[int]] = {}
    found_form: dict[int, Any] = {}
    why, total = "", 0
    for i in range(*slab.combos):
        form = _form(model.name, _key(combos[i]), slab.phase, _first(resolutions), _first(contexts))
        if isinstance(form, str):
            # another resolution or context may do; it is looked at by itself
            form = ("alone", i)
        found.setdefault(form, []).append(i)
        found_form[i] = form
    groups = []
    for places in found.values():
        first = _alike(model.name, slab.phase, found_form[places[0]], combos[places[0]])
        fine_r, why_r = _possible(model, first, slab, resolutions, contexts, OWN)
        fine_c, why_c = _possible(model, first, slab, resolutions, contexts, "context")
        why = why or why_r or why_c
        kept = (len(fine_r) if fine_r is not None else 1) * (len(fine_c) if fine_c is not None else 1)
        all_ = len(resolutions or (0,)) * len(contexts or (0,))
        total += (all_ - kept) * len(places) * len(batches)
        if kept:
            groups.append(Group(tuple(places), tuple(combos[i] for i in places), fine_r, batches, fine_c))
    return groups, (total, why) if total else None


_SEEN: dict[Any, dict[str, Any]] = {}


def _alike(name: str, phase: str, form: Any, combo: dict[str, Any]) -> dict[str, Any]:
    """The first combination seen of the same form that differs in multipliers (fractions) alone.

    Which resolutions and contexts give networks is looked up for it, once for all of them.
    """
    if isinstance(form, tuple):
        return combo
    rest = tuple((k, str(v)) for k, v in combo.items() if not isinstance(v, float))
    return _SEEN.setdefault((name, phase, form, rest), combo)


def _first(values: tuple[int, ...] | None) -> int | None:
    return values[0] if values else None


def _key(combo: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(combo.items())


def _possible(
    model: Entered, combo: dict[str, Any], slab: Slab, resolutions: tuple[int, ...] | None,
    contexts: tuple[int, ...] | None, axis: str,
) -> tuple[tuple[int, ...] | None, str]:  # fmt: skip
    """The values of an axis that give networks, the other at a value that does; and why others do not."""
    mine, other = (resolutions, contexts) if axis == OWN else (contexts, resolutions)
    if mine is None:
        if other is None and isinstance(form := _form(model.name, _key(combo), slab.phase, None, None), str):
            return (), form
        return None, ""
    step = max(1, len(mine) // LOOKED_AT)
    looked = sorted({*range(0, len(mine), step), len(mine) - 1})
    bad: dict[int, str] = {}
    for beside in (None,) if other is None else (other[0], other[-1], other[len(other) // 2]):
        bad = {}
        for i in looked:
            pair = (mine[i], beside) if axis == OWN else (beside, mine[i])
            form = _form(model.name, _key(combo), slab.phase, *pair)
            if isinstance(form, str):
                bad[i] = form
        if len(bad) < len(looked):
            break
    if not bad:
        return mine, ""
    why = next(iter(bad.values()))
    if step == 1:
        return tuple(v for i, v in enumerate(mine) if i not in bad), why
    # between two that were looked at and differ, every one is looked at
    fine = []
    for i, value in enumerate(mine):
        low, high = i - i % step, min(i - i % step + step, len(mine) - 1)
        if (low in bad) == (high in bad):
            good = low not in bad
        else:
            pair = (value, _first(other)) if axis == OWN else (_first(other), value)
            good = not isinstance(_form(model.name, _key(combo), slab.phase, *pair), str)
        if good:
            fine.append(value)
    return tuple(fine), why


@lru_cache(maxsize=1 << 16)
def _form(
    name: str, combo: tuple[tuple[str, Any], ...], phase: str, resolution: int | None, context: int | None
) -> Any:
    """What a network's graph looks like without its sizes; as text, why there is none."""
    group = Group((0,), (dict(combo),), resolution and (resolution,), (1,), context and (context,))  # type: ignore[arg-type]
    try:
        graph = build(Entered(name, {}), group, Workload(phase=phase, context=context))
    except PharosError as error:
        return str(error)
    words = tuple((k, v) for k, v in combo if isinstance(v, bool) or not isinstance(v, (int, float)))
    return hash((_signature(graph), words))


def _signature(graph: Graph) -> tuple[Any, ...]:
    found: list[Any] = []
    for node in graph.nodes:
        if isinstance(node, Repeat):
            found.append((node.name, node.count, node.start, node.period, _signature(node.body)))
        else:
            found.append((node.name, node.op.kind, node.op.class_of(*node.io), node.inputs, node.outputs))
    return tuple(found)


# Rows.


def _note(told: Told, model: Entered, found: Estimate) -> None:
    key = f"{model.name} on {found.machine.id}, {found.runtime}, {found.workload.precision}"
    if key not in told.evidence:
        told.evidence[key] = {
            "latency_s": [str(e) for e in found.latency.evidence],
            "energy_J": [str(e) for e in found.energy.evidence],
            "memory_bytes": [str(e) for e in found.memory.evidence] or ["counted"],
        }


def _rows(
    plan: Plan, model: Entered, group: Group, slab: Slab, target: Target, found: Estimate
) -> Iterator[Block]:
    """The points of an estimate as columns, those that meet the conditions."""
    import numpy as np

    grid, shape = plan.grid, group.shape
    axes: dict[str, Any] = {
        "model": model.name, "machine": target.machine.id, "runtime": target.runtime.name,
        "phase": slab.phase, "precision": slab.precision, "batch": _ints(group.batches, 2),
        "context": found.count.graph.meta.get("context") if group.contexts is None
        else _ints(group.contexts, 3),
    }  # fmt: skip
    for name in grid.axes[7:]:
        if name == OWN and group.resolutions is not None:
            axes[name] = _ints(group.resolutions, 1)
        else:
            axes[name] = _listed([c.get(name) for c in group.combos])
    values = axes | {name: COLUMNS[name].read(found) for name in _asked(plan)}
    keep = None
    for condition in grid.where:
        holds = _holds(condition, values)
        if holds is False:
            return
        if holds is not True:
            keep = holds if keep is None else keep & holds
    rows = _size(shape)
    if keep is not None:
        keep = np.broadcast_to(keep, shape).reshape(-1)
        rows = int(keep.sum())
        if not rows:
            return
    columns = {name: _flat(values[name], shape, keep) for name in (*axes, *grid.columns)}
    yield Block(columns, rows)


def _asked(plan: Plan) -> set[str]:
    named = {c.left for c in plan.grid.where} | {str(c.right) for c in plan.grid.where if c.is_column}
    return {*plan.grid.columns, *(n for n in named if n in COLUMNS)}


def _ints(values: tuple[int, ...], at: int) -> Any:
    import numpy as np

    if len(values) == 1:
        return values[0]
    return np.array(values, np.int64).reshape([-1 if i == at else 1 for i in range(4)])


def _listed(values: list[Any]) -> Any:
    """Values of a hyperparameter along the first axis: a number or word, an array, or codes of words."""
    import numpy as np

    if all(v == values[0] for v in values):
        return str(values[0]) if isinstance(values[0], tuple) else values[0]
    if all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        return np.array(values, np.int64).reshape(-1, 1, 1, 1)
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return np.array(values, float).reshape(-1, 1, 1, 1)
    words = tuple(dict.fromkeys(map(str, values)))
    return Codes(np.array([words.index(str(v)) for v in values]).reshape(-1, 1, 1, 1), words)


def _flat(value: Any, shape: tuple[int, ...], keep: Any) -> Any:
    if isinstance(value, Codes):
        return Codes(_flat(value.codes, shape, keep), value.words) if np_like(value.codes) else value
    if not is_array(value):
        return value.item() if hasattr(value, "item") else value
    import numpy as np

    wide = np.broadcast_to(value, shape).reshape(-1)
    return wide if keep is None else wide[keep]


def np_like(value: Any) -> bool:
    """Whether codes are an array with a length, not a single number."""
    return is_array(value) and value.ndim > 0


def _holds(condition: Condition, values: dict[str, Any]) -> Any:
    """True, False, or an array of them; what is not known does not hold."""
    import operator

    left = values[condition.left]
    right = values[condition.right] if condition.is_column else condition.right
    signs = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq,
             "!=": operator.ne}  # fmt: skip
    if left is None or right is None:
        return False
    if isinstance(left, Codes) or isinstance(right, Codes):
        return _words(left, right, condition.sign == "==")
    if isinstance(left, str) != isinstance(right, str) and not is_array(left):
        left, right = str(left), str(right)
    found = signs[condition.sign](left, right)
    return found if is_array(found) else bool(found)


def _words(left: Any, right: Any, equal: bool) -> Any:
    import numpy as np

    def words(value: Any) -> Any:
        return np.array(value.words)[value.codes] if isinstance(value, Codes) else value

    found = words(left) == words(right)
    return found if equal else ~np.asarray(found)
