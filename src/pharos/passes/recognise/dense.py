"""Dense blocks: layers with an activation, highway layers, autoencoders."""

from pharos.passes.recognise.blocks import PART, WHOLE, Found, rule
from pharos.passes.recognise.view import NORMS, VIEWS
from pharos.quantity.sizes import is_int


@rule(PART)
def highway(found: Found) -> None:
    """t f(x) + (1 - t) x, as one operator or written out."""
    view = found.view
    for node in view.nodes:
        if node.op.kind == "highway_gate":
            makers = [view.before(i, VIEWS | {"activation"}) for i in node.inputs]
            found.add("highway layer", "mlp", [*(m for m in makers if m is not None), node])


@rule(WHOLE)
def dense(found: Found) -> None:
    """A linear layer and its activation that are part of no other block."""
    view, taken = found.view, found.covered()
    for node in view.nodes:
        if node.op.kind != "linear" or found.named(node) in taken:
            continue
        act = view.next(node.outputs[0], VIEWS | NORMS)
        if act is not None and act.op.kind == "activation" and found.named(act) not in taken:
            found.add("dense layer", "mlp", [node, act], act.op.function)  # type: ignore[attr-defined]


@rule(WHOLE)
def autoencoder(found: Found) -> None:
    """Layers that narrow and widen again, to an output as large as the input."""
    graph = found.view.graph
    if found.view.rounds or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return
    given, made = graph.inputs[0].shape, graph.outputs[0].shape
    if len(given) < 2 or not all(map(is_int, (*given, *made))) or given != made:
        return
    layers = [n for n in found.view.nodes if n.op.kind in ("linear", "conv2d", "conv_transpose2d")]
    if any(n.op.kind in ("attention", "lstm", "gru", "rnn", "concat") for n, _, _ in graph.walk()):
        return
    sizes = [n.outs[0].numel for n in layers]
    if len(sizes) < 2 or not all(map(is_int, sizes)):
        return
    least = min(range(len(sizes)), key=lambda i: sizes[i])
    if 2 * sizes[least] <= graph.inputs[0].tensor.numel and least < len(sizes) - 1:
        found.add("autoencoder", "", layers, f"{layers[least].outs[0].shape[-1]} in the middle")
