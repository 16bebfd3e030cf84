"""Recommenders: embedding tables, pairwise interaction, cross layers, attention over a user's history."""

from pharos.passes.recognise.blocks import PART, WHOLE, Found, rule
from pharos.passes.recognise.view import VIEWS


@rule(PART)
def tables(found: Found) -> None:
    """Tables that ids are looked up in, one for each kind of id."""
    inputs = {v.name for v in found.view.graph.inputs if v.tensor.dtype.startswith(("int", "uint"))}
    kinds = [n for n in found.view.nodes if n.op.kind in ("embedding", "embedding_bag")]
    ids = {found.view.plain(n.inputs[0]) for n in kinds}
    bags = sum(n.op.kind == "embedding_bag" for n in kinds)
    if bags or (len(kinds) > 1 and len(ids & inputs) > 1):
        family = "dlrm" if bags or len(ids & inputs) > 2 or _scores(found) else ""
        for node in kinds:
            found.add("embedding table", family, [node])


def _scores(found: Found) -> bool:
    """Whether what comes out is a score or two for each sample."""
    outputs = found.view.graph.outputs
    return all(len(v.shape) <= 2 and (len(v.shape) < 2 or v.shape[-1] in (1, 2)) for v in outputs)


@rule(PART)
def interaction(found: Found) -> None:
    """Dot products of all pairs of embeddings, as one operator or as a product with its own transpose."""
    view = found.view
    for node in view.nodes:
        if node.op.kind == "pairwise_interaction":
            found.add("pairwise interaction", "dlrm", [node])
        elif node.op.kind == "mat_mul" and view.plain(node.inputs[0]) == view.plain(node.inputs[1]):
            source = view.maker(view.plain(node.inputs[0]))
            if node.ins[0].rank == 3 and source is not None and source.op.kind in ("concat", "stack"):
                found.add("pairwise interaction", "dlrm", [source, node])


@rule(PART)
def cross(found: Found) -> None:
    """x0 (W x + b) + x, as one operator or written out."""
    for node in found.view.nodes:
        if node.op.kind == "cross":
            found.add("cross layer", "dlrm", [node])
    for region in found.regions:
        kinds = [n.op.kind for n in region.branch if n.op.kind not in VIEWS]
        if sorted(kinds) in (["linear", "mul"], ["linear", "linear", "mul"]) and not region.skip:
            found.add("cross layer", "dlrm", [*region.branch, region.add])


@rule(WHOLE)
def history(found: Found) -> None:
    """A user's history weighed by how each item goes with the candidate, and summed over time."""
    view = found.view
    for node in view.nodes:
        if node.op.kind != "reduce" or getattr(node.op, "function", "") != "sum" or node.ins[0].rank != 3:
            continue
        product = view.maker(node.inputs[0])
        if product is None or product.op.kind != "mul" or len(product.inputs) != 2:
            continue
        shares = [t.shape[-1] for t in product.ins]
        if 1 in [s for s in shares if isinstance(s, int)]:
            found.add("attention over a history", "dlrm", [product, node])
