"""Attention and what is built around it: projections, feed-forward parts, experts, transformer blocks."""

from collections.abc import Iterable

from pharos.graph.graph import Node
from pharos.passes.recognise.blocks import BLOCK, PART, WHOLE, Block, Found, rule
from pharos.passes.recognise.view import CONVS, NORMS, VIEWS, Region, View
from pharos.quantity.sizes import is_int

# What lies between a projection and the product of queries and keys.
TO_HEADS = VIEWS | {"split", "slice", "rotary", "turn", "rms_norm", "layer_norm", "mul", "div", "concat",
                    "cache", "select", "unbind", "add"}  # fmt: skip
ATTENTIONS = {
    "attention": "multi-head attention", "linear_attention": "linear attention",
    "pointwise_attention": "pointwise attention",
}  # fmt: skip
GATED = {"silu": "SwiGLU", "gelu": "GEGLU", "gelu_tanh": "GEGLU", "relu": "ReGLU", "sigmoid": "GLU",
         "identity": "bilinear"}  # fmt: skip


@rule(PART)
def attention(found: Found) -> None:
    """Each attention with its projections: heads, shared keys, mask, whether it crosses sequences."""
    view = found.view
    for node in view.nodes:
        if node.op.kind not in ATTENTIONS:
            continue
        nodes, ends = [node], []
        for value in node.inputs[:3]:
            between, projection = _projection(view, value)
            nodes += between
            ends.append(view.plain(projection.inputs[0] if projection is not None else value))
        out = view.next(node.outputs[0], VIEWS | NORMS | {"mul"})
        nodes += _until(view, node, out)
        found.add(*_named(view, node, ends), nodes, ", ".join(_details(view, node)))


def _named(view: View, node: Node, ends: list[str]) -> tuple[str, str]:
    name = ATTENTIONS[node.op.kind]
    if node.op.kind != "attention":
        return name, "dlrm" if node.op.kind == "pointwise_attention" else "attention"
    if _latent(view, node):
        name = "multi-head latent attention"
    elif len(ends) > 1 and view.plain(ends[0], VIEWS | NORMS) != view.plain(ends[1], VIEWS | NORMS):
        same = _same_layer(view, ends[0], ends[1])
        name = name if same else "cross attention"
    return name, "attention"


def _same_layer(view: View, a: str, b: str) -> bool:
    """Whether two values are parts of one, as of a projection of queries, keys and values together."""
    one, two = (view.before(v, VIEWS | {"split", "slice", "select"}) for v in (a, b))
    return one is not None and one is two


def _projection(view: View, value: str) -> tuple[list[Node], Node | None]:
    """(operators back to the projection and it, the projection) of queries, keys or values."""
    nodes: list[Node] = []
    for _ in range(12):
        node = view.maker(value)
        if node is None or not node.inputs:
            return nodes, None
        nodes.append(node)
        if node.op.kind in CONVS or node.op.kind == "linear":
            return nodes, node
        if node.op.kind not in TO_HEADS:
            nodes.pop()
            return nodes, None
        value = node.inputs[0]
    return nodes, None


def _until(view: View, node: Node, end: Node | None) -> list[Node]:
    """Operators after `node` up to a projection, which is one of them."""
    if end is None or end.op.kind not in CONVS | {"linear"}:
        return []
    nodes, value = [], node.outputs[0]
    while True:
        after = view.readers(value)[0]
        nodes.append(after)
        if after is end:
            return nodes
        value = after.outputs[0]


def _latent(view: View, node: Node) -> bool:
    """Keys and values made of one compressed vector a token, beside a part that all heads share."""
    if getattr(node.op, "latent", 0):
        return True
    joined = view.maker(node.inputs[1])
    if joined is None or joined.op.kind != "concat" or len(joined.inputs) != 2:
        return False
    up = view.before(joined.inputs[0], VIEWS | {"split", "slice"})
    if up is None or up.op.kind != "linear":
        return False
    down = view.before(up.inputs[0], VIEWS | NORMS | {"split", "slice", "cache", "concat"})
    return down is not None and down.op.kind == "linear"


def _details(view: View, node: Node) -> list[str]:
    found: list[str] = []
    if node.op.kind == "attention":
        heads, groups = node.ins[0].shape[1], node.ins[1].shape[1]
        if is_int(heads) and is_int(groups) and not _latent(view, node):
            ratio = heads // groups
            if ratio > 1:
                found.append(f"MQA {heads}:1" if groups == 1 else f"GQA {ratio}:1")
    if getattr(node.op, "causal", False):
        found.append("causal")
    pattern = getattr(node.op, "pattern", "full")
    if pattern != "full":
        found.append(pattern if pattern == "window" else f"{pattern} pattern")
    elif _windows(view, node):
        found.append("windows of a map")
    return found


def _windows(view: View, node: Node) -> bool:
    """Whether the rows of the batch are windows that were cut out of a map."""
    _, projection = _projection(view, node.inputs[0])
    if projection is None:
        return False
    value = projection.inputs[0]
    for _ in range(3):
        maker = view.maker(value)
        if maker is None or maker.op.kind not in VIEWS:
            return False
        if maker.op.kind == "transpose" and maker.ins[0].rank == 6:
            return True
        value = maker.inputs[0]
    return False


@rule(PART)
def unfused_attention(found: Found) -> None:
    """Attention whose shares are wanted too, which keeps it from being one operator."""
    view = found.view
    for node in view.nodes:
        if node.op.kind != "softmax":
            continue
        scores = view.before(node.inputs[0], VIEWS | {"add", "mul", "div", "where", "masked_fill"})
        after = [r for r in view.readers(node.outputs[0]) if r.op.kind == "mat_mul"]
        if scores is not None and scores.op.kind == "mat_mul" and after:
            found.add("multi-head attention", "attention", [scores, node, after[0]], "its shares are read")


@rule(BLOCK)
def feed_forward(found: Found) -> None:
    """x + f(x) with two linear layers and an activation in f, or three with a gate; or experts."""
    for region in found.regions:
        if (
            region.of(*CONVS)
            or region.of(*ATTENTIONS)
            or region.of("router", "experts", "mat_mul", "softmax")
        ):
            continue
        nodes = [n for n in region.branch if n.op.kind not in NORMS or not _outer(found.view, region, n)]
        made = _feed_forward(found, nodes)
        if made is not None:
            found.of_region[region.add.name] = region, made


def _feed_forward(found: Found, nodes: Iterable[Node]) -> Block | None:
    nodes = list(nodes)
    linears = [n for n in nodes if n.op.kind == "linear"]
    acts = [n for n in nodes if n.op.kind == "activation"]
    products = [n for n in nodes if n.op.kind == "mul" and len(n.inputs) == 2]
    if not acts or not 2 <= len(linears) <= 3:
        return None
    function = acts[0].op.function  # type: ignore[attr-defined]
    split = any(n.op.kind in ("split", "slice") for n in nodes)
    gate = next((p for p in products if _gates(found.view, p)), None)
    if gate is not None and (len(linears) == 3 or split):
        return found.add("gated feed-forward", "", nodes, GATED.get(function, function))
    if len(linears) == 2:
        return found.add("feed-forward", "", nodes, function)
    return None


def _gates(view: View, product: Node) -> bool:
    """Whether a product is of an activation and another part of the same input."""
    makers = [view.before(i) for i in product.inputs]
    return any(m is not None and m.op.kind == "activation" for m in makers)


def _outer(view: View, region: Region, norm: Node) -> bool:
    """Whether a norm stands at the beginning or end of a branch, not inside what it norms."""
    return view.plain(norm.inputs[0]) == region.x or region.add.name in [
        r.name for r in view.readers(norm.outputs[0])
    ]


@rule(PART)
def experts(found: Found) -> None:
    """A router and the experts that it picks, as one operator or as dispatch, products and combination."""
    view = found.view
    for node in view.nodes:
        if node.op.kind != "router":
            continue
        users = [n for out in node.outputs for n in view.readers(out)]
        heart = [n for n in users if n.op.kind in ("experts", "dispatch")]
        if not heart:
            continue
        nodes = [node, *users]
        top, many = node.op.top_k, node.op.num_experts  # type: ignore[attr-defined]
        if heart[0].op.kind == "dispatch":
            nodes += [n for n in view.nodes if n.op.kind in ("expert_linear", "combine")]
        found.add("mixture of experts", "", nodes, f"{top} of {many}")


@rule(WHOLE)
def transformer_blocks(found: Found) -> None:
    """Attention and a feed-forward part, each in a residual, or both in one."""
    parts = []
    for region in found.regions:
        role = _role(found, region)
        if role:
            parts.append((region, role))
    used: set[str] = set()
    for i, (region, role) in enumerate(parts):
        if region.add.name in used or "attention" not in role:
            continue
        chain = [region]
        roles = set(role)
        while not roles & {"feed", "experts"}:
            after = _follows(found.view, chain[-1], parts[i + 1 :])
            # the second attention of a decoder's layer crosses to the encoder
            if after is None or ("attention" in after[1] and not _crosses(found, after[0])):
                break
            chain.append(after[0])
            roles |= after[1]
        if not roles & {"feed", "experts"}:
            continue
        used.update(r.add.name for r in chain)
        _add_transformer(found, chain)


def _role(found: Found, region: Region) -> set[str]:
    names = {found.named(n) for n in region.branch}
    role = set()
    if region.of(*ATTENTIONS) or (region.of("softmax") and region.of("mat_mul")):
        role.add("attention")
    if region.of("router", "experts"):
        role.add("experts")
    if region.add.name in found.of_region:
        role.add("feed")
    elif "attention" in role and _parallel(found, region):
        role.add("feed")
    return role if names else set()


def _parallel(found: Found, region: Region) -> bool:
    """Whether a branch with attention holds a feed-forward part beside it."""
    inside = {n for b in found.blocks if b.family == "attention" for n in b.nodes}
    rest = [n for n in region.branch if found.named(n) not in inside]
    if sum(n.op.kind == "linear" for n in rest) < 2:
        return False
    return _feed_forward(found, [n for n in rest if n.op.kind not in NORMS]) is not None


def _crosses(found: Found, region: Region) -> bool:
    names = {found.named(n) for n in region.branch}
    return any(b.block == "cross attention" and names & set(b.nodes) for b in found.blocks)


def _follows(
    view: View, region: Region, parts: list[tuple[Region, set[str]]]
) -> tuple[Region, set[str]] | None:
    """The region that begins where another one ends, perhaps behind a norm."""
    for other, role in parts:
        x = view.plain(other.x)
        if x == region.add.outputs[0] or view.plain(x, VIEWS | NORMS) == region.add.outputs[0]:
            return other, role
    return None


def _add_transformer(found: Found, chain: list[Region]) -> None:
    view = found.view
    nodes = [n for r in chain for n in (*r.branch, *r.skip, r.add)]
    first = chain[0]
    reads = [n for n in view.readers(first.x) if n in first.branch]
    pre = bool(reads) and all(n.op.kind in NORMS for n in reads)
    after = [n for n in view.readers(chain[-1].add.outputs[0]) if n.op.kind in NORMS]
    inner = [n for n in view.readers(first.add.outputs[0]) if n.op.kind in NORMS]
    behind = view.before(next((i for i in first.add.inputs if i != first.x), first.x))
    closing = behind is not None and behind.op.kind in NORMS
    if pre and closing:
        order = "pre- and post-norm"
    elif pre:
        order = "pre-norm"
    elif after or (len(chain) > 1 and inner) or closing:
        order = "post-norm"
        nodes += [*after, *inner] if not closing else []
    else:
        order = "un-normed"
    names = {found.named(n) for n in nodes}
    details: list[str] = []
    attentions = [b for b in found.blocks if b.family == "attention" and set(b.nodes) & names]
    crossed = any(b.block == "cross attention" for b in attentions)
    for block in attentions[:1]:
        kind = {"multi-head attention": "", "multi-head latent attention": "MLA"}.get(
            block.block, block.block
        )
        details += [d for d in (kind, block.detail) if d]
    for block in found.blocks:
        if set(block.nodes) <= names and block.block in ("gated feed-forward", "mixture of experts"):
            said = block.detail if block.block != "mixture of experts" else f"experts {block.detail}"
            details.append(said)
    if len(chain) == 1:
        details.append("parallel")
    name = f"{order} transformer block" + (" with cross attention" if crossed else "")
    family = "dlrm" if first.of("pointwise_attention") else "transformer"
    found.add(name, family, nodes, ", ".join(dict.fromkeys(details)))
