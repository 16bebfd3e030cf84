"""Norms written out: means, squares and roots that together are an RMS norm or a layer norm."""

from pharos.graph.graph import Node
from pharos.graph.op import Op
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add, Div, Mul, Pow, Sub
from pharos.ops.norm import LayerNorm, RMSNorm
from pharos.ops.reduce import Reduce
from pharos.passes.composites.fusing import ends_with
from pharos.passes.composites.rewrite import Level, Mismatch, Parameter, need, number, same_sizes
from pharos.quantity.sizes import Size


@ends_with(Mul, Div)
def layer_norm(level: Level, node: Node) -> bool:
    """(x - mean(x)) / sqrt(var(x) + eps), with the weight and bias that follow it."""
    x, eps = _normalised(level, node, centred=True)
    return _written(level, node, x, eps, LayerNorm)


@ends_with(Mul, Div)
def rms_norm(level: Level, node: Node) -> bool:
    """x / sqrt(mean(x^2) + eps), then what it is multiplied by if that is a parameter."""
    x, eps = _normalised(level, node, centred=False)
    return _written(level, node, x, eps, RMSNorm)


def _normalised(level: Level, node: Node, *, centred: bool) -> tuple[str, float]:
    """(x, eps) of x / sqrt(mean(x^2) + eps), as a quotient or a product with the inverse.

    Args:
        centred: of (x - mean(x)) / sqrt(var(x) + eps) instead.
    """
    need(len(node.inputs) == 2)
    ways = [node.inputs] if isinstance(node.op, Div) else [node.inputs, node.inputs[::-1]]
    for value, other in ways:
        try:
            inside, eps = _root(level, other) if isinstance(node.op, Div) else _inverse_root(level, other)
            if centred:
                x = _centred(level, value)
                need(level.alike(_variance_of(level, inside), x))
            else:
                x = level.plain(value)
                need(level.alike(_mean_square(level, inside), x))
            return x, eps
        except Mismatch:
            continue
    raise Mismatch


def _inverse_root(level: Level, value: str) -> tuple[str, float]:
    """(m, eps) of 1 / sqrt(m + eps)."""
    node = level.op(value, Activation, Div, Pow)
    op = node.op
    if isinstance(op, Pow):
        need(op.scalar == -0.5 and not op.flipped)
        return _with_eps(level, node.inputs[0])
    if isinstance(op, Activation) and op.function == "rsqrt":
        return _with_eps(level, node.inputs[0])
    inverse = op.function == "reciprocal" if isinstance(op, Activation) else op.flipped and op.scalar == 1  # type: ignore[attr-defined]
    need(inverse)
    return _root(level, node.inputs[0])


def _root(level: Level, value: str) -> tuple[str, float]:
    """(m, eps) of sqrt(m + eps)."""
    node = level.op(value, Activation, Pow)
    op = node.op
    if isinstance(op, Activation):
        need(op.function == "sqrt")
    else:
        need(isinstance(op, Pow) and op.scalar == 0.5 and not op.flipped)
    return _with_eps(level, node.inputs[0])


def _with_eps(level: Level, value: str) -> tuple[str, float]:
    added = level.op(value, Add)
    eps = number(added) or 0.0
    need(0 < eps < 0.1)
    return level.plain(added.inputs[0]), eps


def _reduced(level: Level, value: str, function: str) -> Node:
    """A mean or variance over the last dimension, which is kept."""
    node = level.op(value, Reduce)
    op, rank = node.op, len(level.shape(value))
    assert isinstance(op, Reduce)
    dims = (op.dim,) if isinstance(op.dim, int) else op.dim
    need(op.function == function and op.keepdim and not op.correction)
    need([d % rank for d in dims] == [rank - 1])
    return node


def _mean_square(level: Level, mean: str) -> str:
    """x of mean(x^2) over the last dimension."""
    node = _reduced(level, mean, "mean")
    square = level.op(node.inputs[0], Activation, Mul, Pow)
    if isinstance(square.op, Activation):
        need(square.op.function == "square")
    elif isinstance(square.op, Pow):
        need(square.op.scalar == 2 and not square.op.flipped)
    else:
        need(len(square.inputs) == 2 and len({level.plain(i) for i in square.inputs}) == 1)
    return level.plain(square.inputs[0])


def _variance_of(level: Level, value: str) -> str:
    """x of var(x) over the last dimension, as one operator or as the mean of squared differences."""
    try:
        return _reduced(level, value, "var").inputs[0]
    except Mismatch:
        return _centred(level, _mean_square(level, value))


def _centred(level: Level, value: str) -> str:
    """x of x - mean(x) over the last dimension."""
    node = level.op(value, Sub)
    need(len(node.inputs) == 2)
    x, mean = level.plain(node.inputs[0]), _reduced(level, node.inputs[1], "mean")
    need(level.alike(mean.inputs[0], x))
    return x


def _written(level: Level, node: Node, x: str, eps: float, kind: type[Op]) -> bool:
    """Puts the norm in place, with weight and bias where parameters follow."""
    width = level.shape(x)[-1]
    last, weight, offset = _scaled(level, node, width)
    if kind is RMSNorm:
        parameters = {} if weight is None else {"weight": weight}
        op: Op = RMSNorm(width, eps, offset, weight is not None)
    else:
        # without a weight it is no layer norm of ours
        need(weight is not None and not offset)
        assert weight is not None
        last, bias = _shifted(level, last, width)
        parameters = {"weight": weight} | ({} if bias is None else {"bias": bias})
        op = LayerNorm(width, eps, bias is not None)
    level.add(node.name, op, x, outputs=last.outputs, parameters=parameters)
    return level.replace(last)


def _scaled(level: Level, node: Node, width: Size) -> tuple[Node, Parameter | None, bool]:
    """(the operator that multiplies by a weight, the weight, whether 1 is added to it)."""
    try:
        after = _next(level, node)
        need(isinstance(after.op, Mul) and len(after.inputs) == 2)
        for value in after.inputs:
            weight, offset = level.parameter(value), False
            if weight is None:
                maker = level.maker(level.plain(value))
                if maker is not None and isinstance(maker.op, Add) and maker.op.scalar == 1:
                    weight, offset = level.parameter(maker.inputs[0]), True
            if weight is not None and same_sizes(weight.tensor.shape, (width,)):
                return after, weight, offset
    except Mismatch:
        pass
    return node, None, False


def _shifted(level: Level, node: Node, width: Size) -> tuple[Node, Parameter | None]:
    """(the operator that adds a bias, the bias)."""
    try:
        after = _next(level, node)
        need(isinstance(after.op, Add) and len(after.inputs) == 2)
        for value in after.inputs:
            bias = level.parameter(value)
            if bias is not None and same_sizes(bias.tensor.shape, (width,)):
                return after, bias
    except Mismatch:
        pass
    return node, None


def _next(level: Level, node: Node) -> Node:
    """The only reader of an operator, behind casts and the like."""
    after = level.only_reader(node.outputs[0])
    while level.plain(after.outputs[0]) != after.outputs[0]:
        after = level.only_reader(after.outputs[0])
    return after
