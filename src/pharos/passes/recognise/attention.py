"""Attention and what is built around it: projections, feed-forward parts, experts, transformer blocks."""

from collections.abc import Iterable

from pharos.graph.graph import Node
from pharos.passes.recognise.blocks import BLOCK, PART, WHOLE, Block, Found, rule
from pharos.passes.recognise.view import CONVS, NORMS, VIEWS, Region, View
from pharos.quantity.sizes import is_int

# What lies between a projection and the product of queries and keys.
TO_HEADS = VIEWS | NORMS | {"split", "slice", "rotary", "turn", "mul", "div", "concat", "cache", "add", "sub",
                            "overwrite", "strided_view"}  # fmt: skip
# Those of them that put several parts of the features together.
JOINS = frozenset({"concat", "overwrite", "add", "sub"})
# What lies between a compressing layer and the one that expands again.
INSIDE = VIEWS | NORMS | {"split", "slice", "cache", "concat"}
LINEARS = frozenset({"linear", "supplied"})
MOST_BETWEEN = 60
ATTENTIONS = {
    "attention": "multi-head attention", "linear_attention": "linear attention",
    "pointwise_attention": "pointwise attention",
}  # fmt: skip
# Operators that no feed-forward part holds.
NOT_FEED_FORWARD = ("router", "experts", "mat_mul", "softmax", "selective_scan", "ssd", "wkv", "causal_conv",
                    "token_shift", "top_k", "grouped_mat_mul")  # fmt: skip
# Functions that are no activation of a layer.
ARITHMETIC = frozenset({
    "cos", "sin", "neg", "exp", "sqrt", "rsqrt", "reciprocal", "square", "log", "erf", "abs", "floor", "ceil",
    "round", "sign", "identity",
})  # fmt: skip
GATED = {"silu": "SwiGLU", "gelu": "GEGLU", "gelu_tanh": "GEGLU", "relu": "ReGLU", "sigmoid": "GLU",
         "identity": "bilinear"}  # fmt: skip


@rule(PART)
def attention(found: Found) -> None:
    """Each attention with its projections: heads, shared keys, mask, whether it crosses sequences."""
    view = found.view
    for node in view.nodes:
        if node.op.kind not in ATTENTIONS:
            continue
        behind = [_behind(view, value) for value in node.inputs[:3]]
        nodes = [node, *(n for between, _ in behind for n in between)]
        nodes += [n for _, layers in behind for n in layers]
        out = view.next(node.outputs[0], VIEWS | NORMS | {"mul"})
        nodes += _until(view, node, out)
        name = ATTENTIONS[node.op.kind]
        latent = node.op.kind == "attention" and _latent(view, node, behind[1][1])
        if latent:
            name = "multi-head latent attention"
        elif node.op.kind == "attention" and _crossing(view, behind):
            name = "cross attention"
        family = "dlrm" if node.op.kind == "pointwise_attention" else "attention"
        found.add(name, family, nodes, ", ".join(_details(view, node, latent)))


def _behind(view: View, value: str) -> tuple[list[Node], list[Node]]:
    """(what lies between, the projections) that queries, keys or values come from."""
    between: dict[str, Node] = {}
    layers: dict[str, Node] = {}
    queue = [value]
    while queue and len(between) < MOST_BETWEEN:
        node = view.maker(queue.pop())
        if node is None or node.name in between or not node.inputs:
            continue
        if node.op.kind in CONVS | LINEARS:
            layers[node.name] = node
        elif node.op.kind in TO_HEADS:
            between[node.name] = node
            # tables and numbers beside the features come in later places
            queue.extend(node.inputs if node.op.kind in JOINS else node.inputs[:1])
    return list(between.values()), list(layers.values())


def _crossing(view: View, behind: list[tuple[list[Node], list[Node]]]) -> bool:
    """Whether keys come from another sequence than queries."""
    of_q, of_k = ({_origin(view, n) for n in layers} for _, layers in behind[:2])
    return bool(of_q) and bool(of_k) and not of_q & of_k


def _origin(view: View, layer: Node) -> str:
    """The value that a projection is of, through low-rank ones before it and norms."""
    value = layer.inputs[0]
    for _ in range(4):
        before = view.before(value, INSIDE)
        if before is None or before.op.kind not in LINEARS:
            break
        value = before.inputs[0]
    return view.plain(value, VIEWS | NORMS)


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


def _latent(view: View, node: Node, layers: list[Node]) -> bool:
    """Keys and values made of one compressed vector a token, beside a part that all heads share."""
    if getattr(node.op, "latent", 0):
        return True
    for up in layers:
        down = view.before(up.inputs[0], INSIDE)
        # the shared part of the keys comes from the compressing layer itself
        if down is not None and down.op.kind in LINEARS and any(down is n for n in layers):
            return True
    return False


def _details(view: View, node: Node, latent: bool) -> list[str]:
    found: list[str] = []
    if node.op.kind == "attention":
        heads, groups = node.ins[0].shape[1], node.ins[1].shape[1]
        if is_int(heads) and is_int(groups) and not latent:
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
    _, layers = _behind(view, node.inputs[0])
    if not layers:
        return False
    value = layers[0].inputs[0]
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
    cells = {n for b in found.blocks if b.family == "rnn" for n in b.nodes}
    for region in found.regions:
        other = region.of(*CONVS, *ATTENTIONS, *NOT_FEED_FORWARD)
        if other or _touches(found, region, cells):
            continue
        nodes = [n for n in region.branch if n.op.kind not in NORMS or not _outer(found.view, region, n)]
        made = _feed_forward(found, nodes)
        if made is not None:
            found.of_region[region.add.name] = region, made


def _touches(found: Found, region: Region, names: set[str]) -> bool:
    return bool(names) and any(found.named(n) in names for n in region.branch)


def _feed_forward(found: Found, nodes: Iterable[Node]) -> Block | None:
    nodes = list(nodes)
    linears = [n for n in nodes if n.op.kind == "linear"]
    acts = [n for n in nodes if n.op.kind == "activation" and n.op.function not in ARITHMETIC]  # type: ignore[attr-defined]
    products = [n for n in nodes if n.op.kind == "mul" and len(n.inputs) == 2]
    if not acts or not 2 <= len(linears) <= 3:
        return None
    split = any(n.op.kind in ("split", "slice") for n in nodes)
    gate = next((p for p in products if _gates(found.view, p)), None)
    ends = gate if gate is not None else acts[0]
    last = found.view.next(ends.outputs[0], VIEWS | NORMS)
    if last is None or last.op.kind not in LINEARS:
        return None
    if gate is not None and (len(linears) == 3 or split):
        function = _gates(found.view, gate)
        return found.add("gated feed-forward", "", nodes, GATED.get(function, function))
    if len(linears) == 2:
        return found.add("feed-forward", "", nodes, acts[0].op.function)  # type: ignore[attr-defined]
    return None


def _gates(view: View, product: Node) -> str:
    """The activation of one factor of a product; "" for a product of something else."""
    makers = [view.before(i) for i in product.inputs]
    named = [m.op.function for m in makers if m is not None and m.op.kind == "activation"]  # type: ignore[attr-defined]
    return next((name for name in named if name not in ARITHMETIC), "")


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


@rule(PART)
def experts_written_out(found: Found) -> None:
    """The largest few of scores, and products with stored matrices of which each token meets a few."""
    # the innermost region that holds them: one around it holds them too
    held: set[str] = set()
    for region in sorted(found.regions, key=lambda r: len(r.branch)):
        picks = region.of("top_k")
        stored = [n for n in region.of("stored") if len(n.outs[0].shape) == 3]
        many = {n.outs[0].shape[0] for n in stored}
        if not picks or len(many) != 1 or len(stored) < 2:
            continue
        found.of_experts.add(region.add.name)
        if held & {n.name for n in stored}:
            continue
        held.update(n.name for n in stored)
        (number,) = many
        chosen = [n for n in picks if n.ins[0].shape[-1] == number]
        top = chosen[-1].outs[0].shape[-1] if chosen else "?"
        found.add("mixture of experts", "", region.branch, f"{top} of {number}")


@rule(WHOLE)
def generative_recommender(found: Found) -> None:
    """A residual around attention without softmax, gated by a part of the same projection: HSTU."""
    for region in found.regions:
        if region.of("pointwise_attention"):
            found.add("HSTU block", "dlrm", [*region.branch, region.add])


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
    role = set()
    if region.of("attention", "linear_attention") or (region.of("softmax") and region.of("mat_mul")):
        role.add("attention")
    if region.of("router", "experts") or region.add.name in found.of_experts:
        role.add("experts")
    if region.add.name in found.of_region or ("attention" in role and _parallel(found, region)):
        role.add("feed")
    return role


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
    found.add(name, "transformer", nodes, ", ".join(dict.fromkeys(details)))
