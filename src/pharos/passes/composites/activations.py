"""Activations written out: GELU in both forms, SiLU, mish, hard sigmoid and hard swish, squares."""

from math import isclose, pi

from pharos.graph.graph import Node
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add, Clamp, Div, Mul, Pow
from pharos.passes.composites.fusing import ends_with
from pharos.passes.composites.rewrite import Level, Mismatch, multiplier, need, number

# Constants in files are often those of a float32, or typed with four digits.
NEAR = 2e-4


def _near(a: float, b: float) -> bool:
    return isclose(a, b, rel_tol=NEAR)


def _put(level: Level, node: Node, function: str, x: str) -> bool:
    level.add(node.name, Activation(function), x, outputs=node.outputs)
    return level.replace(node)


def _ways(node: Node) -> list[tuple[str, str]]:
    need(len(node.inputs) == 2)
    return [(node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])]


@ends_with(Mul)
def self_gated(level: Level, node: Node) -> bool:
    """x sigmoid(x), x tanh(softplus(x)), x hardsigmoid(x)."""
    for x, other in _ways(node):
        maker = level.maker(level.plain(other))
        if maker is None or not isinstance(maker.op, Activation):
            continue
        function, inside = maker.op.function, level.plain(maker.inputs[0])
        if function in ("sigmoid", "hardsigmoid") and inside == level.plain(x):
            return _put(level, node, {"sigmoid": "silu", "hardsigmoid": "hardswish"}[function], inside)
        if function == "tanh":
            soft = level.maker(inside)
            if soft is not None and isinstance(soft.op, Activation) and soft.op.function == "softplus":
                need(level.plain(soft.inputs[0]) == level.plain(x))
                return _put(level, node, "mish", level.plain(x))
    raise Mismatch


@ends_with(Mul, Div)
def hard_sigmoid(level: Level, node: Node) -> bool:
    """clamp(x + 3, 0, 6) / 6."""
    share = multiplier(node)
    need(share is not None and _near(share, 1 / 6))
    return _put(level, node, "hardsigmoid", _clamped(level, node.inputs[0]))


@ends_with(Mul, Div)
def hard_swish(level: Level, node: Node) -> bool:
    """x clamp(x + 3, 0, 6) / 6, divided at the end."""
    share = multiplier(node)
    need(share is not None and _near(share, 1 / 6))
    product = level.op(node.inputs[0], Mul)
    for x, other in _ways(product):
        try:
            need(_clamped(level, other) == level.plain(x))
            return _put(level, node, "hardswish", level.plain(x))
        except Mismatch:
            continue
    raise Mismatch


def _clamped(level: Level, value: str) -> str:
    """x of clamp(x + 3, 0, 6)."""
    node = level.op(value, Clamp, Activation)
    if isinstance(node.op, Clamp):
        need((node.op.low, node.op.high) == (0, 6))
    else:
        need(node.op.function == "relu6")  # type: ignore[attr-defined]
    return _plus(level, node.inputs[0], 3)


def _plus(level: Level, value: str, wanted: float) -> str:
    """x of x + wanted."""
    node = level.op(value, Add)
    scalar = number(node)
    need(scalar is not None and _near(scalar, wanted))
    return level.plain(node.inputs[0])


@ends_with(Mul, Div)
def gelu(level: Level, node: Node) -> bool:
    """x (1 + erf(x / sqrt 2)) / 2, or with tanh(sqrt(2 / pi) (x + 0.044715 x^3)); the half anywhere."""
    factors, half = _product(level, node)
    need(len(factors) == 2 and _near(half, 0.5))
    for one, two in (factors, factors[::-1]):
        try:
            inner = level.op(_plus(level, two, 1), Activation)
            function = inner.op.function  # type: ignore[attr-defined]
            if function == "erf":
                x, scale = level.factor(inner.inputs[0])
                need(x == one and _near(scale, 2**-0.5))
                return _put(level, node, "gelu", x)
            need(function == "tanh")
            need(_cubic(level, inner.inputs[0], one))
            return _put(level, node, "gelu_tanh", one)
        except Mismatch:
            continue
    raise Mismatch


def _product(level: Level, node: Node) -> tuple[list[str], float]:
    """Factors of nested products and the number they are multiplied by; two factors at most."""
    whole, found, queue = 1.0, [], [node.outputs[0]]
    while queue:
        value, scale = level.factor(queue.pop())
        whole *= scale
        maker = level.maker(value)
        # the outermost products only: each is read once
        inside = maker is not None and isinstance(maker.op, Mul) and len(maker.inputs) == 2
        if inside and maker is not None and (value == node.outputs[0] or len(level.readers(value)) == 1):
            queue.extend(maker.inputs)
        else:
            found.append(value)
        need(len(found) + len(queue) <= 2)
    return found, whole


def _cubic(level: Level, value: str, x: str) -> bool:
    """Whether a value is sqrt(2 / pi) (x + 0.044715 x^3), or the same with x taken out."""
    factors, scale = _spread(level, value)
    need(_near(scale, (2 / pi) ** 0.5))
    rest = [f for f in factors if f != x]
    need(len(rest) == 1 and len(factors) <= 2)
    total, power = level.op(rest[0], Add), 3 - (len(factors) - 1)
    if power == 2:
        share, found = _monomial(level, _plus(level, rest[0], 1), x)
        return found == 2 and _near(share, 0.044715)
    for one, two in _ways(total):
        if level.plain(one) == x:
            share, found = _monomial(level, two, x)
            return found == 3 and _near(share, 0.044715)
    return False


def _spread(level: Level, value: str) -> tuple[list[str], float]:
    """Factors of nested products, and the number they are multiplied by."""
    value, whole = level.factor(value)
    node = level.maker(value)
    if node is None or not isinstance(node.op, Mul) or len(node.inputs) != 2:
        return [value], whole
    found: list[str] = []
    for one in node.inputs:
        inner, share = _spread(level, one)
        found, whole = found + inner, whole * share
    return found, whole


def _monomial(level: Level, value: str, x: str) -> tuple[float, int]:
    """(c, n) of c x^n written as products and powers; n = 0 if it is none."""
    factors, share = _spread(level, value)
    total = 0
    for factor in factors:
        node = level.maker(factor)
        if factor == x:
            total += 1
        elif node is not None and isinstance(node.op, Pow) and node.op.scalar in (2, 3):
            need(not node.op.flipped and level.plain(node.inputs[0]) == x)
            total += int(node.op.scalar)
        elif node is not None and isinstance(node.op, Activation) and node.op.function == "square":
            need(level.plain(node.inputs[0]) == x)
            total += 2
        else:
            return share, 0
    return share, total


@ends_with(Mul, Pow)
def square(level: Level, node: Node) -> bool:
    """x x, or x to the power of 2."""
    if isinstance(node.op, Pow):
        need(node.op.scalar == 2 and not node.op.flipped)
    else:
        need(len(node.inputs) == 2 and level.plain(node.inputs[0]) == level.plain(node.inputs[1]))
    return _put(level, node, "square", level.plain(node.inputs[0]))
