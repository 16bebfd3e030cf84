"""Substitute: a graph whose sizes are formulas, at other sizes: ints, arrays, or other formulas."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from pharos.graph.graph import Graph, Node, Repeat, Value
from pharos.graph.op import Op
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import Size, is_array, is_symbol

Change = Callable[[Any], Any]


def substitute(graph: Graph, sizes: Mapping[Any, Size]) -> Graph:
    """The same graph with symbols replaced in every shape and every field of every operator.

    Args:
        sizes: symbol -> what stands for it; symbols that are not named stay.

    Raises:
        SizeError: a size that is no whole number then, or is negative.
    """
    known: dict[Any, Any] = {}

    def change(value: Any) -> Any:
        if is_symbol(value):
            if value not in known:
                known[value] = _evaluated(value, sizes)
            return known[value]
        if isinstance(value, tuple):
            made = tuple([change(v) for v in value])
            return value if all(a is b for a, b in zip(made, value, strict=True)) else made
        if isinstance(value, Op):
            return _operator(value, change)
        return value

    return _graph(graph, change)


def symbols_of(graph: Graph) -> set[Any]:
    """The free symbols in the sizes of its inputs."""
    found: set[Any] = set()
    for value in graph.inputs:
        for s in value.shape:
            if is_symbol(s):
                found |= s.free_symbols
    return found


def _evaluated(formula: Any, sizes: Mapping[Any, Size]) -> Any:
    used = {s: sizes[s] for s in formula.free_symbols if s in sizes}
    if not used:
        return formula
    if any(is_array(v) for v in used.values()):
        import sympy

        if any(s not in sizes for s in formula.free_symbols):
            raise SizeError(f"{formula} needs a size for every symbol when one of them is an array")
        order = list(used)
        return sympy.lambdify(order, formula, "numpy")(*[used[s] for s in order])
    made = formula.subs(used)
    if not made.is_number:
        return made
    if not made.is_integer:
        return float(made)
    return int(made)


def _operator(op: Op, change: Change) -> Op:
    held = {f.name: getattr(op, f.name) for f in fields(op)}  # type: ignore[arg-type]
    made = {name: change(value) for name, value in held.items()}
    same = all(made[name] is held[name] for name in held)
    return op if same else replace(op, **made)  # type: ignore[type-var]


def _tensor(tensor: Tensor, change: Change) -> Tensor:
    if not any(is_symbol(s) for s in tensor.shape):
        return tensor
    return Tensor(change(tensor.shape), tensor.dtype)


def _value(value: Value, change: Change) -> Value:
    return Value(value.name, _tensor(value.tensor, change))


def _node(node: Node, change: Change) -> Node:
    def each(held: dict[str, Tensor]) -> dict[str, Tensor]:
        return {key: _tensor(t, change) for key, t in held.items()} if held else held

    return replace(
        node,
        op=_operator(node.op, change),
        ins=tuple([_tensor(t, change) for t in node.ins]),
        outs=tuple([_tensor(t, change) for t in node.outs]),
        weights=each(node.weights),
        buffers=each(node.buffers),
        state=each(node.state),
    )


def _repeat(node: Repeat, change: Change) -> Repeat:
    return replace(node, body=_graph(node.body, change), count=change(node.count))


def _graph(graph: Graph, change: Change) -> Graph:
    return replace(
        graph,
        inputs=tuple([_value(v, change) for v in graph.inputs]),
        nodes=tuple([_repeat(n, change) if isinstance(n, Repeat) else _node(n, change) for n in graph.nodes]),
        outputs=tuple([_value(v, change) for v in graph.outputs]),
        meta={key: change(value) for key, value in graph.meta.items()},
    )
