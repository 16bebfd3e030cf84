"""Count: operations, bytes and parameters of a graph, per operator and in total; all exact."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.op import Traffic, Work
from pharos.quantity.shown import Shown
from pharos.quantity.sizes import Size, is_int, prod


@dataclass(frozen=True, slots=True)
class Line:
    """One operator, as often as it runs.

    Args:
        name: full path, with repeated layers folded: layer3.1-5.conv2.
        times: how often it runs.
        work, traffic: of one run.
        cost_class: the efficiency curve it belongs to.
    """

    node: Node
    name: str
    times: Size
    work: Work
    traffic: Traffic
    cost_class: str

    @property
    def kind(self) -> str:
        """The operator's kind."""
        return self.node.op.kind

    @property
    def parameters(self) -> Size:
        """Trainable numbers over all runs, without those tied to another operator's."""
        own = [t.numel for key, t in self.node.weights.items() if key not in self.node.tied]
        return self.times * sum(own) if own else 0

    @property
    def active_parameters(self) -> Size:
        """Those of them that one token uses."""
        used, stored = self.node.op.active()
        return self.parameters * used // stored if stored is not used else self.parameters

    @property
    def weight_bytes(self) -> Size:
        """Bytes of those parameters as stored."""
        own = [t.nbytes for key, t in self.node.weights.items() if key not in self.node.tied]
        return self.times * sum(own) if own else 0


@dataclass(frozen=True, slots=True)
class Count(Shown):
    """What a graph asks for, in total and line by line."""

    graph: Graph
    lines: tuple[Line, ...]
    work: Work
    traffic: Traffic
    parameters: Size
    buffers: Size
    weight_bytes: Size
    buffer_bytes: Size
    state_bytes: Size
    uncounted: tuple[str, ...]

    @property
    def active_parameters(self) -> Size:
        """Parameters that one token uses: all but the experts it is not sent to."""
        total: Size = 0
        for line in self.lines:
            if line.node.weights:
                total = total + line.active_parameters
        return total

    @property
    def macs(self) -> Size:
        """Multiply-accumulates; 1 MAC = 2 FLOPs."""
        return self.work.macs

    @property
    def flops(self) -> Size:
        """2 x MACs."""
        return self.work.flops

    @property
    def traffic_per_op(self) -> Size:
        """Bytes when every operator reads its inputs and weights and writes its outputs once."""
        return self.traffic.total

    @property
    def traffic_ideal(self) -> Size:
        """Bytes when weights, state, graph inputs and outputs move once and intermediates never."""
        ends = sum(v.tensor.nbytes for v in (*self.graph.inputs, *self.graph.outputs))
        return self.traffic.weights + self.traffic.state + ends

    def intensity(self, bound: str) -> Size | None:
        """FLOP per byte under a traffic bound: "weights_only", "ideal" or "per_op".

        weights_only divides by the parameters that one step reads. None where there is no traffic.
        """
        moved = {
            "weights_only": self.traffic.weights - self.buffer_bytes,
            "ideal": self.traffic_ideal,
            "per_op": self.traffic_per_op,
        }[bound]
        if isinstance(moved, int) and moved == 0:
            return None
        return self.flops / moved

    def written_out(self) -> dict[str, list[str]]:
        """Names of every line's runs, as `Graph.expanded` has them; counts must be numbers."""
        found: dict[str, list[str]] = {line.name: [] for line in self.lines}
        lines = {id(line.node): line.name for line in self.lines}

        def walk(nodes: Sequence[Node | Repeat], place: Callable[[str], str]) -> None:
            for node in nodes:
                if isinstance(node, Repeat):
                    assert is_int(node.count)
                    for i in range(node.count):
                        walk(node.body.nodes, lambda n, i=i, node=node: place(node.path(i, n)))
                elif id(node) in lines:
                    found[lines[id(node)]].append(place(node.name))

        walk(self.graph.nodes, str)
        return found


def count(graph: Graph) -> Count:
    """Every operator of `graph` costed once, repeated ones multiplied."""
    lines = []
    works: list[Work] = []
    moves: list[Traffic] = []
    parameters = buffers = weight_bytes = buffer_bytes = state_bytes = 0
    uncounted = []
    for node, times, name in graph.walk():
        op = node.op
        io = node.io
        one, moved = op.work(*io), op.traffic(node)
        line = Line(node, name, times, one, moved, op.class_of(*io))
        lines.append(line)
        if not op.is_counted:
            uncounted.append(name)
        single = type(times) is int and times == 1
        works.append(one if single else one * times)
        moves.append(moved if single else moved * times)
        if node.weights:
            parameters = parameters + line.parameters
            weight_bytes = weight_bytes + line.weight_bytes
        if node.buffers:
            buffers = buffers + times * reduce(add, (prod(t.shape) for t in node.buffers.values()))
            buffer_bytes = buffer_bytes + times * node.buffer_bytes
        if node.state:
            state_bytes = state_bytes + times * node.state_bytes
    return Count(
        graph, tuple(lines), Work.total_of(works), Traffic.total_of(moves), parameters, buffers,
        weight_bytes, buffer_bytes, state_bytes, tuple(uncounted),
    )  # fmt: skip
