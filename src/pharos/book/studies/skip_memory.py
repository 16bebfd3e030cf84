"""Memory of skips: what inputs of residual blocks take, stored apart, shared with the layers, or live."""

from collections.abc import Iterable
from dataclasses import dataclass

from pharos.book.study import study
from pharos.decide.changes import written_out
from pharos.graph.graph import Graph, Node
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.memory import liveness
from pharos.passes.training import training
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("skip-memory", "How much memory do skip connections take?", section="1.7")
def skip_memory(
    *, model: str = "resnet50", batch: int = 32, context: int = 0, precision: str = "fp32"
) -> Told:
    """Block inputs against what training keeps anyway, and against the peak of inference.

    Values that layers of a block keep for their own gradients are held once; projections keep some more.
    """
    work = Workload(batch=batch, context=context or None, precision=precision)  # type: ignore[arg-type]
    graph = find(model).graph(work)
    nodes = written_out(graph)
    skips = shortcuts(graph, nodes)
    if not skips:
        raise InputError(f"{model} has no additions around layers", where="model")
    sizes = {v: float(t.nbytes) for n in nodes for v, t in zip(n.inputs, n.ins, strict=True)}
    apart = sum(sizes[k.start] for k in skips)
    aside = {name for k in skips for name in k.aside}
    own = _kept(n for n in nodes if n.name in aside) - _kept(n for n in nodes if n.name not in aside)
    shared = sum(sizes[v] for v in own)
    saved = float(training(graph, "sgd").saved)
    with_skips, without = peak(nodes, {}), peak(nodes, {k.add: k.operand for k in skips})
    rows = (
        ("stored apart, as if nothing were shared", apart, apart / saved),
        ("shared: what projections keep for themselves", shared, shared / saved),
        (
            "live longer at inference, at the peak",
            with_skips - without,
            (with_skips - without) / without,
        ),
    )
    return Told(
        answer=f"{len(skips)} block inputs of {model} at batch {batch} are {fmt(apart, 'B')}, "
        f"{apart / saved:.1%} of what training keeps, stored apart; shared with layers, {fmt(shared, 'B')}",
        numbers={
            "skips": len(skips),
            "block_input_bytes": apart,
            "share_stored_apart": apart / saved,
            "shared_bytes": shared,
            "share_when_shared": shared / saved,
            "saved_bytes": saved,
            "peak_bytes": with_skips,
            "peak_without_bytes": without,
            "liveness_peak_bytes": float(liveness(graph).peak),
        },
        reasons=(
            "a block's first layer keeps its input for gradients anyway; an addition needs none of its own",
            "at inference a block's input stays until the addition, beside what the block writes",
        ),
        columns=("way", "bytes", "share"),
        rows=rows,
        evidence=(counted("tensors of the graph, what each operator keeps for its gradients"),),
        note="share: of what training keeps; of the peak without skips for the last",
    )


@dataclass(frozen=True, slots=True)
class Skip:
    """An addition, its operand that goes around, the value where both part, nodes on the way around."""

    add: str
    operand: str
    start: str
    aside: frozenset[str]


def shortcuts(graph: Graph, nodes: list[Node]) -> list[Skip]:
    """Additions of a value, or of a projection of it, and of what was made from it."""
    order = {v.name: -1 for v in graph.inputs}
    made_from = {v.name: {v.name} for v in graph.inputs}
    maker: dict[str, str] = {}
    found = []
    for i, node in enumerate(nodes):
        given = [v for v in node.inputs if v in made_from]
        behind = set().union(*(made_from[v] for v in given)) if given else set()
        for name in node.outputs:
            made_from[name], order[name], maker[name] = behind | {name}, i, node.name
        if node.op.kind != "add" or len(given) != 2:
            continue
        a, b = sorted(given, key=lambda v: len(made_from[v]))
        both = (made_from[a] & made_from[b]) - {v.name for v in graph.inputs}
        if both:
            start = max(both, key=lambda v: order[v])
            aside = frozenset(maker[v] for v in made_from[a] - made_from[start])
            found.append(Skip(node.name, a, start, aside))
    return found


def _kept(nodes: Iterable[Node]) -> set[str]:
    """Values that gradients of these operators need."""
    found: set[str] = set()
    for node in nodes:
        saved = node.op.saved(*node.io)
        found |= {node.inputs[i] for i in saved.inputs} | {node.outputs[i] for i in saved.outputs}
    return found


def peak(nodes: list[Node], without: dict[str, str]) -> float:
    """The most bytes that are live at once; operands of additions that are left out hold nothing."""
    sizes = {v: float(t.nbytes) for n in nodes for v, t in zip(n.outputs, n.outs, strict=True)}
    sizes |= {v: float(t.nbytes) for n in nodes for v, t in zip(n.inputs, n.ins, strict=True)}
    first, last = dict.fromkeys(sizes, 0), dict.fromkeys(sizes, 0)
    for i, node in enumerate(nodes):
        first.update(dict.fromkeys(node.outputs, i))
        last.update(dict.fromkeys(node.outputs, i))
        for name in node.inputs:
            if without.get(node.name) != name:
                last[name] = i
    return max(sum(sizes[v] for v in sizes if first[v] <= i <= last[v]) for i in range(len(nodes)))
