"""Linear layers written as products and sums with stored values; weights given as inputs."""

from dataclasses import replace

from pharos.graph.graph import Node
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear, MatMul
from pharos.ops.shape_ops import Transpose
from pharos.ops.supplied import Supplied
from pharos.passes.composites.fusing import ends_with
from pharos.passes.composites.rewrite import Level, Mismatch, need, same_sizes


@ends_with(MatMul)
def stored_matrix(level: Level, node: Node) -> bool:
    """x W for a stored W[k, n], or x W^T for W[n, k], written with a transposition or without."""
    x, value = node.inputs
    turned, matrix = node.op.transpose_b, level.plain(value)  # type: ignore[attr-defined]
    maker = level.maker(matrix)
    while maker is not None and isinstance(maker.op, Transpose) and maker.op.dims == (1, 0):
        turned, matrix = not turned, level.plain(maker.inputs[0])
        maker = level.maker(matrix)
    weight = level.parameter(matrix)
    need(weight is not None and weight.tensor.rank == 2)
    assert weight is not None
    out, inside = weight.tensor.shape if turned else weight.tensor.shape[::-1]
    op = Linear(inside, out, False, not turned)
    level.add(node.name, op, x, outputs=node.outputs, parameters={"weight": weight})
    return level.replace(node)


@ends_with(Add)
def bias(level: Level, node: Node) -> bool:
    """A linear layer without bias, and a parameter of its output's width added to it."""
    need(len(node.inputs) == 2)
    for value, other in (node.inputs, node.inputs[::-1]):
        parameter, layer = level.parameter(other), level.maker(value)
        if parameter is None or layer is None or not isinstance(layer.op, Linear) or layer.op.bias:
            continue
        need(same_sizes(parameter.tensor.shape, (layer.op.out_features,)))
        need(level.only_reader(value) is node)
        op = replace(layer.op, bias=True)
        level.add(
            layer.name, op, *layer.inputs, outputs=node.outputs, parameters={"bias": parameter}, heir=layer
        )
        return level.replace(node)
    raise Mismatch


@ends_with(Supplied)
def stored_weights(level: Level, node: Node) -> bool:
    """An operator whose weights are given as inputs, all of which are stored parameters."""
    op = node.op
    assert isinstance(op, Supplied)
    given = dict(zip(op.keys, node.inputs[op.inputs :], strict=True))
    found = {key: parameter for key, value in given.items() if (parameter := level.parameter(value))}
    need(len(found) == len(given) == len(op.op.weights()))
    level.add(node.name, op.op, *node.inputs[: op.inputs], outputs=node.outputs, parameters=found)
    return level.replace(node)
