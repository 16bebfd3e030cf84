"""Changes: what a remedy asks for, made on the graph of a network so that it can be predicted."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pharos.graph.graph import Builder, Graph, Node, Value
from pharos.graph.op import Op
from pharos.graph.tensor import Tensor
from pharos.graph.workload import Workload
from pharos.models.registry import Model
from pharos.ops.elementwise import Add
from pharos.predict.estimate import predict
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.evidence import Evidence
from pharos.quantity.sizes import Size, same, same_shape

if TYPE_CHECKING:
    from pharos.decide.advice import Case

# Operators with weights that count as a layer.
LAYERS = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
          "group_conv2d")  # fmt: skip
# Operators that a shortcut ends in.
JOINS = ("add", "concat")


@dataclass(frozen=True, slots=True)
class Alone:
    """Seconds of one run of an operator by itself, before and after a change."""

    before_s: float
    after_s: float
    known: tuple[Evidence, ...]


def alone(pairs: "Iterable[tuple[Node, Op, tuple[Any, ...]]]", case: "Case") -> list[Alone]:
    """Predicts operators on their own, as they are and changed.

    Args:
        pairs: node, the operator instead, shapes of its inputs.
    """
    found = []
    for node, op, shapes in pairs:
        before, _ = _one(node.op, [t.shape for t in node.ins], node, case)
        after, known = _one(op, list(shapes), node, case)
        found.append(Alone(before, after, known))
    return found


def _one(
    op: Op, shapes: list[tuple[Size, ...]], node: Node, case: "Case"
) -> tuple[float, tuple[Evidence, ...]]:
    g = Builder(node.name, case.graph.precision)
    ins = [g.input(f"in{i}", s, t.dtype) for i, (s, t) in enumerate(zip(shapes, node.ins, strict=True))]
    out = g("op", op, *ins)
    graph = g.finish(*(out if isinstance(out, tuple) else (out,)))
    made = predict(graph, case.machine, case.workload, runtime=case.base.runtime)
    seconds = sum(float(o.total_s) for o in made.operations if o.total_s is not None)
    return seconds, made.latency.evidence


def graph_at(model: Model, workload: Workload, like: Graph, before: Workload) -> Graph:
    """The graph of a model under another workload than that of the graph `like`.

    Raises:
        InputError: a batch that the model does not take, as a file with fixed sizes.
    """
    graph = model.graph(workload)
    asked, had = workload.batch, before.batch
    if asked is not had and not same(asked, had):
        alike = zip(graph.inputs, like.inputs, strict=True)
        if len(graph.inputs) == len(like.inputs) and all(same_shape(a.shape, b.shape) for a, b in alike):
            raise InputError("has a batch of its own, which no workload changes", where=model.name)
    return graph


def written_out(graph: Graph) -> list[Node]:
    """Its nodes with every repeated layer as often as it runs."""
    return [n for n in graph.expanded().nodes if isinstance(n, Node)]


def longest_stretch(graph: Graph) -> int:
    """The most layers with weights in a row that no shortcut leads around.

    A shortcut is an addition or a concatenation of a value with what was made from it. Where branches of
    layers meet, the one with the fewest counts.
    """
    plain = graph.expanded()
    run: dict[str, int] = {v.name: 0 for v in plain.inputs}
    # the values that a value was made from, a bit each
    bit: dict[str, int] = {v.name: 1 << i for i, v in enumerate(plain.inputs)}
    made_from = dict(bit)
    longest = 0
    for number, node in enumerate(plain.nodes, len(bit)):
        assert isinstance(node, Node)
        given = [i for i in node.inputs if i in run]
        own = 1 << number
        behind = own
        for i in given:
            behind |= made_from[i]
        least = min((run[i] for i in given), default=0)
        if node.op.kind in JOINS and any(
            bit[a] & made_from[b] and a != b and run[b] > run[a] for a in given for b in given
        ):
            least = 0
        length = least + (node.op.kind in LAYERS)
        longest = max(longest, length)
        for name in node.outputs:
            run[name], bit[name], made_from[name] = length, own, behind
    return longest


def with_shortcuts(graph: Graph) -> tuple[Graph, int]:
    """The graph with an addition around every two layers between which the shape is the same.

    Returns:
        The graph and the number of additions.
    """
    plain = graph.expanded()
    nodes: list[Node] = []
    renamed: dict[str, str] = {}
    # the value before the last layers, and how many there were since
    source: Value | None = None
    since = 0
    added = 0
    for node in plain.nodes:
        assert isinstance(node, Node)
        node = replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs))
        if node.op.kind in LAYERS and since >= 2 and source is not None:
            at = Value(node.inputs[0], node.ins[0])
            if same_shape(at.shape, source.shape) and at.name != source.name:
                made = _addition(f"shortcut.{added}", at, source)
                renamed[at.name] = made.name
                node = replace(node, inputs=(made.name, *node.inputs[1:]))
                nodes.append(made)
                added += 1
                at = Value(made.name, made.outs[0])
            source, since = at, 0
        if node.op.kind in LAYERS:
            source = source or Value(node.inputs[0], node.ins[0])
            since += 1
        nodes.append(node)
    outputs = tuple(Value(renamed.get(v.name, v.name), v.tensor) for v in plain.outputs)
    return replace(plain, nodes=tuple(nodes), outputs=outputs), added


def _addition(name: str, a: Value, b: Value) -> Node:
    out: Tensor = a.tensor
    return Node(name, Add(), (a.name, b.name), (name,), (a.tensor, b.tensor), (out,))


def swapped(graph: Graph, change: Callable[[Node], Op | None]) -> Graph | None:
    """The graph with some operators exchanged; None where none is, or a change gives no network."""
    count = 0

    def counted(node: Node) -> Op | None:
        nonlocal count
        op = change(node)
        count += op is not None and op != node.op
        return op

    try:
        made = graph.with_ops(counted)
    except PharosError:
        return None
    return made if count else None
