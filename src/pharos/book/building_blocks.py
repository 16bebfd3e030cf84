"""Building blocks: the five that networks share, found in any graph by what its operators declare."""

from collections.abc import Iterator
from dataclasses import dataclass

from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.op import MATMUL, SLIDING_WINDOW
from pharos.passes.recognise.view import NORMS, Region, View
from pharos.quantity.sizes import Size

GEMM, SHARING, SKIP, NORMALISATION, GATING = "GEMM", "parameter sharing", "skip", "normalisation", "gating"
NAMES = (GEMM, SHARING, SKIP, NORMALISATION, GATING)
# Operators whose own rule multiplies what passes by shares or gates that the data set.
_GATES = {
    "attention",
    "router",
    "lstm",
    "gru",
    "wkv",
    "selective_scan",
    "additive_attention",
    "pointwise_attention",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A node with the building blocks that it is.

    Args:
        times: how often it runs. uses: MACs a weight, for one sample; None without weights or MACs.
    """

    node: Node
    name: str
    times: Size
    blocks: tuple[str, ...]
    uses: float | None = None


def parts(graph: Graph) -> list[Part]:
    """Every operator of a graph with its building blocks, repeated layers once.

    GEMM: it declares matrix products. Parameter sharing: each weight serves several places of one sample,
    so that MACs exceed weights. Skip: an addition of two branches that begin at one value. Gating: its rule
    weighs by data, or it multiplies two activations of which one went through an activation function.
    """
    return [
        Part(node, name, times, _blocks(node, view, skips), _uses(node))
        for view, node, times, name, skips in _nodes(graph)
    ]


def counted_blocks(graph: Graph) -> dict[str, int]:
    """How many operators of a graph are each of the building blocks, repeated layers as often as they run."""
    found: dict[str, int] = dict.fromkeys(NAMES, 0)
    for part in parts(graph):
        for block in part.blocks:
            found[block] += int(part.times) if isinstance(part.times, int) else 1
    return found


def regions(graph: Graph) -> list[Region]:
    """The residual regions of one level of a graph, in order."""
    return list(View(graph).regions())


def _nodes(graph: Graph) -> Iterator[tuple[View, Node, Size, str, set[str]]]:
    names = iter([name for _, _, name in graph.walk()])

    def level(at: Graph, times: Size) -> Iterator[tuple[View, Node, Size, str, set[str]]]:
        view = View(at)
        skips = {region.add.name for region in view.regions()}
        for node in at.nodes:
            if isinstance(node, Repeat):
                yield from level(node.body, times * node.count)
            else:
                yield view, node, times, next(names), skips

    yield from level(graph, 1)


def _uses(node: Node) -> float | None:
    weights = sum(t.numel for t in node.weights.values() if t.rank > 1)
    macs = node.op.work(*node.io).macs
    batch = node.ins[0].shape[0] if node.ins and node.ins[0].rank else 1
    return float(macs / weights / batch) if weights and macs else None


def _blocks(node: Node, view: View, skips: set[str]) -> tuple[str, ...]:
    declared = node.op.primitives(*node.io)
    found = []
    weighty = any(t.rank > 1 for t in node.weights.values())
    pointwise = node.op.class_of(*node.io) == "pointwise"
    if (MATMUL in declared and weighty) or pointwise:
        found.append(GEMM)
    uses = _uses(node)
    if uses is not None and uses > 1.5 and (SLIDING_WINDOW in declared or weighty):
        found.append(SHARING)
    if node.name in skips:
        found.append(SKIP)
    if node.op.kind in NORMS:
        found.append(NORMALISATION)
    if node.op.kind in _GATES or (node.op.kind == "mul" and _is_gate(node, view)):
        found.append(GATING)
    return tuple(found)


def _is_gate(node: Node, view: View) -> bool:
    """Whether one of two factors is an activation that shuts or opens the other."""
    makers = [view.before(value) for value in node.inputs]
    return len(node.inputs) == 2 and any(
        m is not None and m.op.kind in ("activation", "softmax") for m in makers
    )
