"""Masks: what a mask that follows from sizes alone lets through, worked out in NumPy."""

from collections.abc import Callable
from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.graph.substitute import substitute
from pharos.passes.composites.rewrite import Level
from pharos.quantity.errors import PharosError
from pharos.quantity.sizes import is_array, is_int, is_symbol, prod

# Elements that a mask may have to be worked out, and operators that may make it.
LARGEST, LONGEST = 2**24, 200
# Lengths at which a mask over formulas is worked out.
LENGTHS = (5, 8)
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


def mask_of(level: Level, value: str, *, hides: bool = False) -> str:
    """What a mask is: "none" hides nothing, "causal" what is later; "" where that is not known.

    Only masks that depend on nothing but sizes are known, whether truths or numbers added to scores.

    Args:
        hides: truths say what is hidden, not what is seen.
    """
    key = f"~{value}" if hides else value
    if key not in level.masks:
        level.masks[key] = _classified(level, value, hides)
    return level.masks[key]


def _classified(level: Level, value: str, hides: bool) -> str:
    shape = level.shape(value)
    made_by = _cone(level, value) if len(shape) >= 2 else None
    if made_by is None or any(map(is_array, shape)):
        return ""
    try:
        if all(map(is_int, shape)):
            return _seen(made_by, value, hides) if prod(shape) <= LARGEST else ""
        # a mask over formulas is what it is at two lengths of its own
        answers = {_seen(_at(made_by, first), value, hides) for first in LENGTHS}
    except (PharosError, NotImplementedError, ValueError, TypeError, AttributeError, IndexError):
        return ""
    return answers.pop() if len(answers) == 1 else ""


def _cone(level: Level, value: str) -> list[Node] | None:
    """The operators that make a value, in order; None if they depend on an input or a stored value."""
    order: dict[str, Node] = {}
    queue = [value]
    while queue:
        node = level.maker(queue.pop())
        if node is None or node.op.kind not in RULES or len(node.outputs) != 1 or len(order) > LONGEST:
            return None
        if node.name not in order:
            order[node.name] = node
            queue.extend(node.inputs)
    return sorted(order.values(), key=level.position)


def _at(nodes: list[Node], first: int) -> list[Node]:
    """The operators with a number in place of every symbol: `first`, and the ones after it."""
    found: set[Any] = set()
    for node in nodes:
        for tensor in node.outs:
            for size in tensor.shape:
                found |= size.free_symbols if is_symbol(size) else set()
    sizes = {s: first + i for i, s in enumerate(sorted(found, key=str))}
    return [n for n in substitute(Graph("mask", (), tuple(nodes), ()), sizes).nodes if isinstance(n, Node)]


def _seen(nodes: list[Node], value: str, hides: bool) -> str:
    """What a mask lets through, by its numbers."""
    import numpy as np

    found: dict[str, Any] = {}
    for node in nodes:
        given = [found[i] for i in node.inputs]
        found[node.outputs[0]] = np.asarray(RULES[node.op.kind](np, node.op, given))
    made = found[value]
    if made.dtype != bool:
        if not bool(((made == 0) | (made <= HIDES)).all()):
            return ""
        made = made == 0
    elif hides:
        made = ~made
    if bool(made.all()):
        return "none"
    rows, keys = made.shape[-2:]
    return "causal" if rows == keys and bool((made == np.tril(np.ones((rows, keys), bool))).all()) else ""


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
