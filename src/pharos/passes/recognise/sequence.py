"""Blocks for sequences: recurrent layers, additive attention, state-space and RWKV layers."""

from collections.abc import Callable

from pharos.graph.graph import Node
from pharos.passes.recognise.blocks import BLOCK, PART, Found, rule
from pharos.passes.recognise.view import CONVS, Region, View
from pharos.quantity.sizes import same

RECURRENT = {
    "lstm": "LSTM layer",
    "gru": "GRU layer",
    "rnn": "recurrent layer",
    "attentive_gru": "GRU layer with additive attention",
    "augru": "GRU with attentional update gate",
}
SCANS = {"selective_scan": "Mamba block", "ssd": "Mamba-2 block", "wkv": "RWKV time mixing"}

# What a layer is by the gates of its cell.
CELLS = {4: "LSTM layer", 3: "GRU layer", 1: "recurrent layer"}
# Steps in a row that make a scan or a recurrence, and operators that a cell has at most.
STEPS, CELL = 4, 40


@rule(PART)
def recurrent(found: Found) -> None:
    """A recurrence over the steps of a sequence, each of its layers."""
    for node in found.view.nodes:
        if node.op.kind not in RECURRENT:
            continue
        layers = getattr(node.op, "num_layers", 1)
        details = ["bidirectional"] if getattr(node.op, "bidirectional", False) else []
        details += [f"{layers} layers"] if layers > 1 else []
        family = "dlrm" if node.op.kind == "augru" else "rnn"
        found.add(RECURRENT[node.op.kind], family, [node], ", ".join(details))


@rule(PART)
def recurrence_written_out(found: Found) -> None:
    """A loop over cells: products with one matrix, each of what came of the one before."""
    view = found.view
    users: dict[str, list[Node]] = {}
    for node in view.nodes:
        if node.op.kind == "linear":
            name = node.tied.get("weight") or node.parameter("weight")
            users.setdefault(name, []).append(node)
    for steps in users.values():
        if len(steps) < STEPS or not all(map(_leads_to(view), steps, steps[1:])):
            continue
        out, state = steps[0].op.out_features, steps[0].op.in_features  # type: ignore[attr-defined]
        cell = next((name for gates, name in CELLS.items() if same(out, gates * state)), "")
        if cell:
            # the products with the inputs, one a step, as wide as those with the state
            beside = [n for other in users.values() if len(other) == len(steps) for n in other]
            wide = [n for n in beside if n.op.out_features == steps[0].op.out_features]  # type: ignore[attr-defined]
            found.add(cell, "rnn", [*steps, *wide], f"{len(steps)} steps written out")


def _leads_to(view: View) -> Callable[[Node, Node], bool]:
    def leads(first: Node, second: Node) -> bool:
        """Whether a node's result is used for another's input, within a cell's operators."""
        queue, seen = list(second.inputs), set[str]()
        while queue and len(seen) < CELL:
            node = view.maker(queue.pop())
            if node is first:
                return True
            if node is not None and node.name not in seen and node.op.kind != "linear":
                seen.add(node.name)
                queue.extend(node.inputs)
        return False

    return leads


@rule(PART)
def additive(found: Found) -> None:
    """Scores by a small network over the sum of query and key."""
    for node in found.view.nodes:
        if node.op.kind in ("additive_attention", "attentive_gru"):
            found.add("additive attention", "attention", [node])


@rule(BLOCK)
def scan(found: Found) -> None:
    """A layer around a scan with a carried state, with its gate and short convolution."""
    inside: dict[str, Region] = {n.name: r for r in found.regions for n in r.branch}
    for node in found.view.nodes:
        if node.op.kind not in SCANS:
            continue
        region = inside.get(node.name)
        nodes: list[Node] = [*region.branch, region.add] if region is not None else [node]
        found.add(SCANS[node.op.kind], "ssm", nodes, _state(node))


@rule(BLOCK)
def channel_mixing(found: Found) -> None:
    """RWKV's feed-forward part: each token mixed with the one before, squared, gated."""
    for region in found.regions:
        if region.of("token_shift") and not region.of("wkv"):
            found.add("RWKV channel mixing", "ssm", [*region.branch, region.add])


@rule(BLOCK)
def unrolled_scan(found: Found) -> None:
    """state = decay x state + input for one step after another, as code without a scan kernel runs."""
    view = found.view
    length: dict[str, int] = {}
    last: dict[str, str] = {}
    for node in view.nodes:
        if node.op.kind != "add" or len(node.inputs) != 2:
            continue
        products = [m for m in map(view.maker, node.inputs) if m is not None and m.op.kind == "mul"]
        before = [view.maker(i) for m in products for i in m.inputs]
        chained = [b.name for b in before if b is not None and b.name in length and b.outs == node.outs]
        length[node.name] = 1 + max((length[n] for n in chained), default=0)
        for name in chained:
            last[name] = node.name
    ends = [n for n in length if n not in last and length[n] >= STEPS]
    for region in found.regions:
        inside = {n.name for n in region.branch}
        for end in ends:
            if end in inside and region.of("supplied", *CONVS):
                steps = f"{length[end]} steps written out"
                found.add("state-space block", "ssm", [*region.branch, region.add], steps)


def _state(node: Node) -> str:
    size = getattr(node.op, "state_size", getattr(node.op, "d_state", None))
    return f"state {size}" if size is not None else ""
