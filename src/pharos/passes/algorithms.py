"""Algorithms: a graph whose convolutions are computed by another algorithm, where it fits."""

from collections.abc import Callable
from dataclasses import replace

from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op
from pharos.ops.conv import Conv2d
from pharos.ops.conv_algorithms import ALGORITHMS
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import is_int


def fitting(node: Node) -> dict[str, Conv2d]:
    """The convolution of a node under each algorithm that can compute it; nothing for another operator."""
    if not isinstance(node.op, Conv2d):
        return {}
    found = {"direct": replace(node.op, algorithm="direct")}
    for name, algorithm in ALGORITHMS.items():
        if not algorithm.misfit(node.op):
            found[name] = replace(node.op, algorithm=name)
    return found


def fewest_macs(node: Node) -> str:
    """The algorithm with the fewest multiply-accumulates for a node's convolution; "direct" of equals.

    What it moves and holds may well cost more than it saves.

    Raises:
        SizeError: sizes that are no numbers, of which none is the fewest.
    """
    macs = {name: op.work(*node.io).macs for name, op in fitting(node).items()}
    if not all(is_int(m) for m in macs.values()):
        raise SizeError(f"{node.name}: the fewest of {', '.join(map(str, macs.values()))} is not known")
    return min(macs, key=lambda name: macs[name])


def with_algorithm(graph: Graph, choose: str | Callable[[Node], str]) -> Graph:
    """The same graph with the two-dimensional convolutions that an algorithm fits computed by it.

    What the network computes stays the same to rounding; `count` shows what it does instead.

    Args:
        choose: an algorithm, or one for each node that holds a convolution, such as `fewest_macs`.
            A convolution that the algorithm does not fit is left as it is.

    Raises:
        UnknownName: an algorithm that is none.
    """
    known = ("direct", *ALGORITHMS)

    def change(node: Node) -> Op | None:
        if not isinstance(node.op, Conv2d):
            return None
        name = choose if isinstance(choose, str) else choose(node)
        if name not in known:
            raise unknown("convolution algorithm", str(name), known)
        return fitting(node).get(name)

    return graph.with_ops(change)
