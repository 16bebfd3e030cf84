"""Masks: what a mask that follows from sizes alone lets through, worked out in NumPy."""

from collections.abc import Callable
from typing import Any

from pharos.graph.graph import Node
from pharos.passes.composites.rewrite import Level
from pharos.quantity.sizes import is_int, prod

# Elements that a mask may have to be worked out, and operators that may make it.
LARGEST, LONGEST = 2**24, 200
# An added number that leaves nothing of a score, in the narrowest float too.
HIDES = -1e4

Rule = Callable[[Any, Any, list[Any]], Any]


def _binary(apply: Callable[[Any, Any], Any]) -> Rule:
    def run(np: Any, op: Any, given: list[Any]) -> Any:
        if op.scalar is None:
            return apply(*given)
        return apply(op.scalar, given[0]) if getattr(op, "flipped", False) else apply(given[0], op.scalar)

    return run


def _sides(np: Any, op: Any, given: list[Any]) -> Any:
    rest = iter(given[1:])
    a = next(rest) if op.a is None else op.a
    return np.where(given[0], a, next(rest) if op.b is None else op.b)


def _compare(np: Any, op: Any, given: list[Any]) -> Any:
    names = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
             "ge": "greater_equal"}  # fmt: skip
    return getattr(np, names[op.function])(given[0], given[1] if op.scalar is None else op.scalar)


def _cumulate(np: Any, op: Any, given: list[Any]) -> Any:
    if op.function != "sum" or op.exclusive or op.reverse:
        raise NotImplementedError
    return np.cumsum(given[0], op.dim)


def _slice(np: Any, op: Any, given: list[Any]) -> Any:
    index = [slice(None)] * given[0].ndim
    index[op.dim] = slice(op.start, op.stop, op.step)
    return given[0][tuple(index)]


def _triangle(np: Any, op: Any, given: list[Any]) -> Any:
    return (np.triu if op.upper else np.tril)(given[0], op.diagonal)


def _cast(np: Any, op: Any, given: list[Any]) -> Any:
    kinds = {"bool": bool, "int64": "int64", "int32": "int64", "int16": "int64", "int8": "int64"}
    return given[0].astype(kinds.get(op.dtype, "float64"))


RULES: dict[str, Rule] = {
    "arange": lambda np, op, given: op.start + op.step * np.arange(op.count),
    "full": lambda np, op, given: np.full(op.size, bool(op.value) if op.dtype == "bool" else op.value),
    "add": _binary(lambda a, b: a + b), "sub": _binary(lambda a, b: a - b),
    "mul": _binary(lambda a, b: a * b), "div": _binary(lambda a, b: a / b),
    "compare": _compare, "where": _sides, "cumulate": _cumulate, "slice": _slice, "cast": _cast,
    "triangle": _triangle,
    "logical": lambda np, op, given: getattr(np, f"logical_{op.function}")(*given),
    "clone": lambda np, op, given: given[0],
    "reshape": lambda np, op, given: given[0].reshape(op.target),
    "expand": lambda np, op, given: np.broadcast_to(given[0], op.target),
    "transpose": lambda np, op, given: given[0].transpose(op.dims),
    "concat": lambda np, op, given: np.concatenate(given, op.dim),
    "take": lambda np, op, given: np.take(given[0], given[1], op.dim),
}  # fmt: skip


def mask_of(level: Level, value: str) -> str:
    """What a mask is: "none" hides nothing, "causal" what is later; "" where that is not known.

    Only masks that depend on nothing but sizes are known, whether truths or numbers added to scores.
    """
    if value not in level.masks:
        level.masks[value] = _classified(level, value)
    return level.masks[value]


def _classified(level: Level, value: str) -> str:
    shape = level.shape(value)
    if len(shape) < 2 or not all(map(is_int, shape)) or prod(shape) > LARGEST:
        return ""
    import numpy as np

    try:
        made = _evaluated(np, level, value)
    except (NotImplementedError, ValueError, TypeError, AttributeError, IndexError):
        return ""
    if made is None:
        return ""
    if made.dtype != bool:
        if not bool(((made == 0) | (made <= HIDES)).all()):
            return ""
        made = made == 0
    if bool(made.all()):
        return "none"
    rows, keys = made.shape[-2:]
    return "causal" if rows == keys and bool((made == np.tril(np.ones((rows, keys), bool))).all()) else ""


def _evaluated(np: Any, level: Level, value: str) -> Any:
    """The numbers of a value; None if they depend on an input or a stored value."""
    order: list[Node] = []
    seen: set[str] = set()
    queue = [value]
    while queue:
        node = level.maker(queue.pop())
        if node is None or node.op.kind not in RULES or len(node.outputs) != 1 or len(order) > LONGEST:
            return None
        if node.name not in seen:
            seen.add(node.name)
            order.append(node)
            queue.extend(node.inputs)
    found: dict[str, Any] = {}
    for node in sorted(order, key=level.position):
        given = [found[i] for i in node.inputs]
        found[node.outputs[0]] = np.asarray(RULES[node.op.kind](np, node.op, given))
    return found[value]


def hidden(level: Level, node: Node) -> tuple[str, str, float] | None:
    """(scores, condition, number) of scores that a number stands in for where they are hidden.

    The condition is named with "~" in front if it holds where scores stay.
    """
    op: Any = node.op
    if op.kind != "where":
        return None
    given = list(node.inputs)
    condition, rest = given[0], given[1:]
    sides: list[Any] = [rest.pop(0) if op.a is None else op.a, rest.pop(0) if op.b is None else op.b]
    for i, side in enumerate(sides):
        maker = level.maker(level.plain(side)) if isinstance(side, str) else None
        if maker is not None and maker.op.kind == "full":
            sides[i] = maker.op.value  # type: ignore[attr-defined]
    numbers = [i for i, s in enumerate(sides) if not isinstance(s, str)]
    if len(numbers) != 1 or sides[numbers[0]] > HIDES:
        return None
    (at,) = numbers
    return sides[1 - at], condition if at == 0 else f"~{condition}", float(sides[at])
