"""Fusing: every rule tried on every operator of a graph until none finds anything more."""

from collections.abc import Callable
from dataclasses import replace

from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.op import Op
from pharos.passes.composites.rewrite import Level, Mismatch

Rule = Callable[[Level, Node], bool]
# Rules by the operator that their group ends with, in the order they are tried.
RULES: dict[type[Op], list[Rule]] = {}
# Times that a graph is gone through: a group may hold another.
MOST_ROUNDS = 4


def ends_with(*kinds: type[Op]) -> Callable[[Rule], Rule]:
    """Registers a rule for groups whose last operator is of one of the kinds.

    A rule takes the level and that operator, and returns whether it replaced the group; it may raise
    `Mismatch` at any point.
    """

    def register(rule: Rule) -> Rule:
        for kind in kinds:
            RULES.setdefault(kind, []).append(rule)
        return rule

    return register


def fuse_composites(graph: Graph) -> Graph:
    """The same graph with groups of small operators in place of which one known operator stands.

    Attention written as two products and a softmax, norms, activations, gates, rotary positions and
    linear layers written out become the operators they are. Multiply-accumulates, parameters with their
    names and ties, and all outputs stay what they were; a group that cannot be replaced so is left.
    """
    return _fused(graph, ())


def _fused(graph: Graph, around: tuple[str, ...]) -> Graph:
    from pharos.passes.composites import rules

    assert rules
    level = Level(graph)
    for _ in range(MOST_ROUNDS):
        found = False
        for name in list(level.nodes):
            node = level.nodes.get(name)
            if isinstance(node, Node):
                found |= _try(level, node)
        if not found:
            break
    made = level.finished()
    # a tie says a parameter's full name, which differs from round to round
    if around and _new_ties(graph, made):
        made = graph
    nodes = tuple(
        replace(n, body=_fused(n.body, (*around, n.name))) if isinstance(n, Repeat) else n for n in made.nodes
    )
    return replace(made, nodes=nodes)


def _try(level: Level, node: Node) -> bool:
    level.trying = node.name
    for rule in RULES.get(type(node.op), ()):
        try:
            if rule(level, node):
                return True
        except Mismatch:
            pass
        level.drop()
    return False


def _new_ties(before: Graph, after: Graph) -> bool:
    known = {name for n in before.nodes if isinstance(n, Node) for name in n.tied.values()}
    return any(name not in known for n in after.nodes if isinstance(n, Node) for name in n.tied.values())
