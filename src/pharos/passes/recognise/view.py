"""View: one level of a graph to look around in: makers, readers, and what lies between two values."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pharos.graph.graph import Graph, Node, Repeat, folded_name
from pharos.quantity.sizes import Size, is_int

# Kinds that give another form to the same features, or only cast them.
VIEWS = frozenset({"reshape", "transpose", "flatten", "expand", "cast", "dropout", "contiguous", "identity"})
CONVS = frozenset({"conv1d", "conv2d", "conv3d", "group_conv2d"})
NORMS = frozenset({"batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"})
# Kinds that hold the weight of a block; all else is between them.
WEIGHTY = CONVS | {"linear"}


@dataclass(frozen=True, slots=True)
class Region:
    """What lies between a value and the addition that it is added at the end of.

    Args:
        add: the addition; x: the value where both sides begin.
        branch, skip: operators on the heavier and on the lighter side, in order; none for an identity.
    """

    add: Node
    x: str
    branch: tuple[Node, ...]
    skip: tuple[Node, ...]

    def of(self, *kinds: str) -> list[Node]:
        """Operators of the branch of these kinds, in order."""
        return [n for n in self.branch if n.op.kind in kinds]


class View:
    """A level of a graph: the whole of it, or the body of a repeated layer.

    Args:
        times: how often the level runs; rounds: the repeated layers around it.
    """

    def __init__(self, graph: Graph, times: Size = 1, rounds: tuple[Repeat, ...] = ()) -> None:
        self.graph, self.times, self.rounds = graph, times, rounds
        self.nodes = [n for n in graph.nodes if isinstance(n, Node)]
        self.at: dict[str, int] = {v.name: -1 for v in graph.inputs}
        self.makers: dict[str, Node | Repeat] = {}
        self.reading: dict[str, list[Node | Repeat]] = {}
        self.position: dict[str, int] = {}
        for i, node in enumerate(graph.nodes):
            self.position[node.name] = i
            for value in node.outputs:
                self.at[value], self.makers[value] = i, node
            for value in node.inputs:
                self.reading.setdefault(value, []).append(node)

    def full(self, name: str) -> str:
        """A node's name with the repeated layers around it."""
        return folded_name(name, self.rounds)

    def maker(self, value: str) -> Node | None:
        """The operator that makes a value; None for an input or what a repeated layer returns."""
        found = self.makers.get(value)
        return found if isinstance(found, Node) else None

    def readers(self, value: str) -> list[Node]:
        """Operators that read a value."""
        return [n for n in self.reading.get(value, []) if isinstance(n, Node)]

    def next(self, value: str, through: Iterable[str] = VIEWS) -> Node | None:
        """The one operator that reads a value, behind those of the kinds `through`."""
        while len(found := self.reading.get(value, [])) == 1 and isinstance(found[0], Node):
            if found[0].op.kind not in through:
                return found[0]
            value = found[0].outputs[0]
        return None

    def before(self, value: str, through: Iterable[str] = VIEWS) -> Node | None:
        """The operator that makes a value, behind those of the kinds `through`."""
        while (node := self.maker(value)) is not None and node.op.kind in through and node.inputs:
            value = node.inputs[0]
        return node

    def plain(self, value: str, through: Iterable[str] = VIEWS) -> str:
        """The value behind operators of the kinds `through`."""
        while (node := self.maker(value)) is not None and node.op.kind in through and node.inputs:
            value = node.inputs[0]
        return value

    def regions(self) -> Iterator[Region]:
        """Every addition of two activations that begin at one value."""
        for node in self.nodes:
            if node.op.kind == "add" and len(node.inputs) == 2:
                found = self._region(node)
                if found is not None:
                    yield found

    def _region(self, add: Node) -> Region | None:
        a, b = add.inputs
        frontier: dict[str, set[int]] = {}
        for side, value in enumerate((a, b)):
            frontier.setdefault(value, set()).add(side)
        sides: tuple[list[Node], list[Node]] = ([], [])
        for _ in range(LARGEST):
            if not frontier:
                return None
            value = max(frontier, key=lambda v: (self.at.get(v, -1), len(frontier[v])))
            labels = frontier.pop(value)
            if len(labels) == 2:
                return self._oriented(add, value, sides)
            if not any(len(labels | other) == 2 for other in frontier.values()):
                return None
            node = self.makers.get(value)
            if node is None or not node.inputs:
                # a side input, such as a mask, or a stored value
                if node is not None and isinstance(node, Node):
                    sides[next(iter(labels))].append(node)
                continue
            if isinstance(node, Repeat):
                return None
            if node in sides[next(iter(labels))]:
                continue
            sides[next(iter(labels))].append(node)
            for source in node.inputs:
                frontier.setdefault(source, set()).update(labels)
        return None

    def _oriented(self, add: Node, x: str, sides: tuple[list[Node], list[Node]]) -> Region:
        """The heavier side first, operators in the order they run."""
        ordered = [tuple(sorted(side, key=lambda n: self.position[n.name])) for side in sides]
        weight = [(sum(n.op.kind in WEIGHTY or bool(n.weights) for n in side), len(side)) for side in ordered]
        heavy = 0 if weight[0] >= weight[1] else 1
        return Region(add, x, ordered[heavy], ordered[1 - heavy])


# Operators between a value and the addition at most; a longer way is no block.
LARGEST = 300


def is_depthwise(node: Node) -> bool:
    """A convolution of each channel by itself."""
    groups, channels = getattr(node.op, "groups", 1), getattr(node.op, "in_channels", 0)
    return node.op.kind in CONVS and is_int(groups) and groups > 1 and bool(groups == channels)


def kernel(node: Node) -> int:
    """The larger side of a convolution's window."""
    size = getattr(node.op, "kernel_size", 1)
    return max(size) if isinstance(size, tuple) else size
