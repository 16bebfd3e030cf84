"""Depth: steps that must follow each other through a graph, and how much each could do at once."""

from dataclasses import dataclass

from pharos.graph.graph import Graph, Node, Repeat
from pharos.quantity.sizes import Size, is_int, maximum


@dataclass(frozen=True, slots=True)
class Depth:
    """The dependency structure of one pass.

    Args:
        steps: operators on the longest chain, a recurrence as often as it has steps; views are none.
        results: independent results over all operators and steps.
        widest: the most results that one step could compute at once.
    """

    steps: Size
    results: Size
    widest: Size

    @property
    def parallelism(self) -> Size:
        """Results a step on average: the processors that infinitely many would keep busy."""
        return self.results / self.steps


def depth(graph: Graph) -> Depth:
    """Follows the longest chain; every repeated round is as long as the second one."""
    reached: dict[str, Size] = {v.name: 0 for v in graph.inputs}
    _follow(graph.nodes, reached)
    results, widest = 0, 0
    for node, times, _ in graph.walk():
        if node.op.class_of(*node.io) == "view":
            continue
        spread = node.op.parallelism(*node.io)
        results = results + times * spread.width * spread.depth
        widest = maximum(widest, spread.width)
    steps = maximum(*(reached[v.name] for v in graph.outputs), 0)
    return Depth(steps if not is_int(steps) else max(steps, 1), results, widest)


def _follow(nodes: "tuple[Node | Repeat, ...]", reached: dict[str, Size]) -> None:
    for node in nodes:
        arriving = [reached[name] for name in node.inputs]
        if isinstance(node, Node):
            view = node.op.class_of(*node.io) == "view"
            own = 0 if view else node.op.parallelism(*node.io).depth
            before = maximum(0, *arriving)
            for name in node.outputs:
                reached[name] = before + own
            continue
        once = _round(node, arriving)
        # what the first round was given may lie further back than what later rounds are given
        again = _round(node, [*once, *arriving[len(once) :]])
        for name, one, two in zip(node.outputs, once, again, strict=True):
            reached[name] = one + (node.count - 1) * (two - one)


def _round(node: Repeat, arriving: list[Size]) -> list[Size]:
    inside = dict(zip((v.name for v in node.body.inputs), arriving, strict=True))
    _follow(node.body.nodes, inside)
    return [inside[v.name] for v in node.body.outputs]
