"""Blocks for sequences: recurrent layers, additive attention, state-space and RWKV layers."""

from pharos.graph.graph import Node
from pharos.passes.recognise.blocks import BLOCK, PART, Found, rule
from pharos.passes.recognise.view import Region

RECURRENT = {"lstm": "LSTM layer", "gru": "GRU layer", "rnn": "recurrent layer",
             "attentive_gru": "GRU layer with additive attention", "augru": "GRU with attentional update gate"}  # fmt: skip
SCANS = {"selective_scan": "Mamba block", "ssd": "Mamba-2 block", "wkv": "RWKV time mixing"}


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


def _state(node: Node) -> str:
    size = getattr(node.op, "state_size", getattr(node.op, "d_state", None))
    return f"state {size}" if size is not None else ""
