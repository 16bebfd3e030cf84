"""Active: which stored parameters a router picks a few of, so that a token uses only its share of them."""

from dataclasses import replace

from pharos.graph.graph import Graph, Node, Repeat
from pharos.ops.reduce import TopK
from pharos.ops.stored import Stored
from pharos.quantity.sizes import Size, same


def with_active_experts(graph: Graph) -> Graph:
    """The graph whose expert matrices say how many of them a token meets.

    Matrices are those of experts if their groups, or the index they are picked by, come from the largest
    scores of as many candidates: a `TopK` over a dimension as long as there are matrices.
    """
    nodes = [n for n in graph.nodes if isinstance(n, Node)]
    if not any(isinstance(n.op, TopK) for n in nodes):
        return graph
    by_output = {name: node for node in nodes for name in node.outputs}
    found: dict[str, tuple[Size, Size]] = {}
    for node in nodes:
        if node.op.kind == "grouped_mat_mul":
            matrices, chosen = node.inputs[1], node.inputs[2]
        elif node.op.kind == "take" and node.ins[0].rank >= 2:
            matrices, chosen = node.inputs
        else:
            continue
        held = _stored_behind(by_output, matrices)
        if held is None:
            continue
        count = held.outs[0].shape[0]
        picked = _picked(by_output, chosen, count)
        if picked is not None:
            found[held.name] = (picked, count)

    def told(node: Node | Repeat) -> Node | Repeat:
        if not isinstance(node, Node) or node.name not in found or not isinstance(node.op, Stored):
            return node
        return replace(node, op=replace(node.op, share=found[node.name]))

    return replace(graph, nodes=tuple(map(told, graph.nodes))) if found else graph


def _stored_behind(by_output: dict[str, Node], name: str) -> Node | None:
    """The parameter that a value is, through views of it."""
    node = by_output.get(name)
    while node is not None and not isinstance(node.op, Stored):
        if len(node.inputs) != 1 or node.op.class_of(*node.io) != "view":
            return None
        node = by_output.get(node.inputs[0])
    return node if node is not None and node.weights else None


def _picked(by_output: dict[str, Node], name: str, count: Size) -> Size | None:
    """How many of `count` are picked where a value comes from; None if it comes from no such choice."""
    waiting, seen = [name], set()
    while waiting:
        node = by_output.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if isinstance(node.op, TopK) and node.op.k is not None:
            if same(node.ins[0].shape[node.op.dim], count):
                return node.op.k
            continue
        waiting.extend(node.inputs)
    return None
