"""Eager: what PyTorch would hold while it runs a graph operator by operator, as Python keeps its tensors."""

from collections.abc import Sequence

from pharos.graph.graph import Graph, Node
from pharos.graph.tensor import Tensor
from pharos.passes.held import Held, Storage, held_of
from pharos.quantity.sizes import Size

# Functions that reference implementations of convolutional networks apply in place, to the output of a
# convolution or norm that nothing else reads.
IN_PLACE = ("relu", "relu6", "silu", "hardswish", "leaky_relu", "elu", "mish")
FEATURES = ("conv2d", "batch_norm", "group_conv2d", "conv_transpose2d")


def eager(graph: Graph) -> Held:
    """What eager PyTorch holds: as it was seen, of a traced module; else as Python's scopes would have it.

    A value lives until its last reader. Beyond that, the frame that calls a module holds what it passes
    in until the module returns, so a value read inside a block lives to the end of that block. Functions
    on feature maps, and the sum of a residual block that ends in one, are computed in place. Views and
    the extra results of an operator follow the operator. Inputs of the graph are the caller's and stay.
    Repeats are represented by their first and last rounds.
    """
    seen = held_of(graph)
    if seen is not None:
        return seen
    plain = graph.expanded(most=2)
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    weights = buffers = 0
    for node, times, _ in graph.walk():
        own = sum([t.nbytes for key, t in node.weights.items() if key not in node.tied], start=0)
        weights, buffers = weights + times * own, buffers + times * node.buffer_bytes
    walk = Scopes(plain, nodes)
    storages = [Storage("input", v.name, v.tensor.nbytes, 0, max(len(nodes) - 1, 0)) for v in plain.inputs]
    storages += [Storage("activation", name, nbytes, walk.first[name], walk.last[name])
                 for name, nbytes in walk.sizes.items()]  # fmt: skip
    for i, node in enumerate(nodes):
        scratch = node.op.workspace(*node.io)
        if node.op.gives_extra:
            scratch = scratch + sum([t.nbytes for t in node.op.saved(*node.io).extra.values()], start=0)
        if not (type(scratch) is int and scratch == 0):
            storages.append(Storage("activation", node.name, scratch, i, i))
    return Held(
        "any", {"weights": weights, "buffers": buffers}, tuple(n.name for n in nodes) or ("input",),
        tuple(storages),
    )  # fmt: skip


class Scopes:
    """First and last step of every stored value under Python's scopes.

    Args:
        nodes: of `graph`, written out, in order.
    """

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.sizes: dict[str, Size] = {}
        self.first: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.root: dict[str, str | None] = {v.name: None for v in graph.inputs}
        self.readers = _readers(graph, nodes)
        self.ends = _ends(nodes)
        self.made_by = {name: node for node in nodes for name in node.outputs}
        # nodes that write over their first input
        self.over: set[int] = set()
        maker: dict[str, str] = {}
        for i, node in enumerate(nodes):
            for name in node.inputs:
                at = self.root[name]
                if at is not None:
                    self.last[at] = max(self.last[at], i, self.ends.get(_entered(maker[at], node.name), i))
            over = self._written_over(i)
            if over is not None:
                self.over.add(i)
            for j, (name, tensor) in enumerate(zip(node.outputs, node.outs, strict=True)):
                source = self._source(node, j, over)
                if source is not None:
                    self.root[name] = self.root[source]
                    at = self.root[name]
                    if at is not None:
                        self.last[at] = max(self.last[at], i)
                        # a frame returns it under a new name; who made it is who returned it last
                        maker[at] = node.name
                    continue
                self.root[name], maker[name] = name, node.name
                self.sizes[name], self.first[name], self.last[name] = self._stored(node, tensor), i, i
        for value in graph.outputs:
            at = self.root[value.name]
            if at is not None:
                self.last[at] = max(len(nodes) - 1, 0)

    def _source(self, node: Node, j: int, over: str | None) -> str | None:
        """The value whose memory an output lies in, None if it has memory of its own."""
        if over is not None and j == 0:
            return over
        if node.op.class_of(*node.io) == "view" and node.inputs:
            return node.inputs[0]
        return None

    @staticmethod
    def _stored(node: Node, tensor: Tensor) -> Size:
        # a stored parameter used as a value already counts among the weights
        return 0 if node.op.class_of(*node.io) == "view" else tensor.nbytes

    def _written_over(self, i: int) -> str | None:
        """The input that a node writes its result over."""
        node = self.nodes[i]
        if not node.inputs or len(node.outputs) != 1 or self.root.get(node.inputs[0]) is None:
            return None
        first = node.inputs[0]
        if len(self.readers[first]) != 1:
            return None
        if node.op.kind == "activation" and getattr(node.op, "function", "") in IN_PLACE:
            return first if self._is_feature(first) else None
        if node.op.kind != "add" or node.outs[0].shape != node.ins[0].shape:
            return None
        after = [self.nodes[k] for k in self.readers[node.outputs[0]]]
        ends = len(after) == 1 and getattr(after[0].op, "function", "") in IN_PLACE
        return first if ends and self._is_feature(first) else None

    def _is_feature(self, name: str) -> bool:
        made = self.made_by.get(name)
        return made is not None and made.op.kind in (*FEATURES, "add") and len(made.outs[0].shape) >= 3


def _readers(graph: Graph, nodes: Sequence[Node]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.inputs:
            found.setdefault(name, []).append(i)
        for name in node.outputs:
            found.setdefault(name, [])
    for value in graph.outputs:
        found.setdefault(value.name, []).append(len(nodes))
    return found


def _ends(nodes: Sequence[Node]) -> dict[str, int]:
    """Number of the last node under each prefix of names."""
    found: dict[str, int] = {}
    for i, node in enumerate(nodes):
        parts = node.name.split(".")
        for k in range(1, len(parts) + 1):
            found[".".join(parts[:k])] = i
    return found


def _entered(maker: str, reader: str) -> str:
    """The outermost module that holds the reader and not the maker of a value."""
    made, read = maker.split("."), reader.split(".")
    k = 0
    while k < len(made) - 1 and k < len(read) - 1 and made[k] == read[k]:
        k += 1
    return ".".join(read[: k + 1])
