"""Rotary positions written out: halves or neighbours of features turned by tables of cosines and sines."""

from pharos.graph.graph import Node
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add, Mul, Sub
from pharos.ops.rotary import Turn
from pharos.ops.shape_ops import Concat, Reshape, Slice, Split
from pharos.passes.composites.fusing import ends_with
from pharos.passes.composites.rewrite import Level, Mismatch, multiplier, need, same_size, same_sizes
from pharos.quantity.sizes import Size


@ends_with(Add)
def turned(level: Level, node: Node) -> bool:
    """x cos + turned(x) sin."""
    need(len(node.inputs) == 2)
    for straight, across in (node.inputs, node.inputs[::-1]):
        for x, cos in _factors(level, straight):
            for other, sin in _factors(level, across):
                try:
                    layout = _layout(level, other, x)
                except Mismatch:
                    continue
                level.add(node.name, Turn(layout), x, cos, sin, outputs=node.outputs)
                return level.replace(node)
    raise Mismatch


@ends_with(Concat)
def turned_halves(level: Level, node: Node) -> bool:
    """Halves (a cos - b sin, b cos + a sin) joined, with tables of half the width."""
    need(len(node.inputs) == 2 and _last(level, node))
    first, second = level.op(node.inputs[0], Sub), level.op(node.inputs[1], Add)
    need(len(first.inputs) == len(second.inputs) == 2)
    for a, cos in _factors(level, first.inputs[0]):
        for b, sin in _factors(level, first.inputs[1]):
            x, start, step = _part(level, a)
            other, middle, second_step = _part(level, b)
            if x != other or start != 0 or step != 1 or second_step != 1:
                continue
            need(same_size(2 * middle, level.shape(x)[-1]))
            sides = {level.plain(i) for n in second.inputs for i in _two(level, n)}
            need(sides == {level.plain(v) for v in (a, b, cos, sin)})
            level.add(node.name, Turn(), x, cos, sin, outputs=node.outputs)
            return level.replace(node)
    raise Mismatch


def _two(level: Level, value: str) -> tuple[str, ...]:
    node = level.op(value, Mul)
    need(len(node.inputs) == 2)
    return node.inputs


def _factors(level: Level, value: str) -> list[tuple[str, str]]:
    a, b = _two(level, value)
    return [(level.plain(a), b), (level.plain(b), a)]


def _last(level: Level, node: Node) -> bool:
    rank = len(level.shape(node.outputs[0]))
    return node.op.dim % rank == rank - 1  # type: ignore[attr-defined]


def _layout(level: Level, value: str, x: str) -> str:
    """How a value holds (-b, a) of the pairs (a, b) of x."""
    node = level.op(value, Concat, Reshape)
    if isinstance(node.op, Concat):
        need(len(node.inputs) == 2 and _last(level, node))
        b, a = _negated(level, node.inputs[0]), node.inputs[1]
        (of_b, middle, step), (of_a, start, other) = _part(level, b), _part(level, a)
        need(of_a == of_b == x and start == 0 and step == other == 1)
        need(same_size(2 * middle, level.shape(x)[-1]))
        return "halves"
    # neighbours are stacked in a dimension of their own and then laid flat
    stacked = level.op(node.inputs[0], Concat)
    need(len(stacked.inputs) == 2 and _last(level, stacked))
    need(same_sizes(level.shape(value), level.shape(x)))
    first, second = (_unstacked(level, i) for i in stacked.inputs)
    (of_b, one, step), (of_a, zero, other) = _part(level, _negated(level, first)), _part(level, second)
    need(of_a == of_b == x and (zero, one) == (0, 1) and step == other == 2)
    return "neighbours"


def _unstacked(level: Level, value: str) -> str:
    """A value before it was given a last dimension of 1; the minus may stand on either side of that."""
    node = level.maker(level.plain(value))
    if node is not None and isinstance(node.op, Activation) and node.op.function == "neg":
        inner = level.op(node.inputs[0], Reshape)
        need(same_sizes((*level.shape(inner.inputs[0]), 1), level.shape(value)))
        return value
    inner = level.op(value, Reshape)
    need(same_sizes((*level.shape(inner.inputs[0]), 1), level.shape(value)))
    return inner.inputs[0]


def _negated(level: Level, value: str) -> str:
    """b of -b."""
    node = level.maker(level.plain(value))
    if node is None:
        raise Mismatch
    negative = multiplier(node) == -1
    negative = negative or (isinstance(node.op, Activation) and node.op.function == "neg")
    need(negative)
    return level.plain(node.inputs[0])


def _part(level: Level, value: str) -> tuple[str, Size, int]:
    """(x, first feature, step) of some features of x."""
    value = level.plain(value)
    node = level.op(value, Slice, Split)
    rank = len(level.shape(value))
    need(node.op.dim % rank == rank - 1)  # type: ignore[attr-defined]
    x = level.plain(node.inputs[0])
    if isinstance(node.op, Slice):
        return x, node.op.start, node.op.step
    at = node.outputs.index(value)
    start = sum(node.op.sizes[:at]) if at else 0  # type: ignore[attr-defined]
    return x, start, 1
