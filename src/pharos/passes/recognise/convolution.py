"""Convolutional blocks: residual, separable, inverted residual, squeeze-excitation, branches, U-Net."""

from pharos.graph.graph import Node
from pharos.passes.recognise.blocks import BLOCK, PART, WHOLE, Found, rule
from pharos.passes.recognise.view import CONVS, NORMS, VIEWS, Region, View, is_depthwise, kernel

ACTIVATIONS = frozenset({"activation", "prelu"})
BETWEEN = VIEWS | NORMS | ACTIVATIONS | {"clamp"}
POOLS = frozenset({"global_avg_pool", "adaptive_avg_pool2d", "adaptive_avg_pool", "reduce"})


@rule(PART)
def conv_norm_act(found: Found) -> None:
    """A convolution and its activation, with a norm between them or without."""
    view = found.view
    for node in view.nodes:
        if node.op.kind not in CONVS:
            continue
        after = view.next(node.outputs[0])
        if after is None:
            continue
        if after.op.kind in ACTIVATIONS:
            found.add("conv-activation", "", [node, after])
        elif after.op.kind in NORMS:
            act = view.next(after.outputs[0])
            if act is not None and act.op.kind in ACTIVATIONS:
                found.add("conv-norm-activation", "", [node, after, act])


@rule(PART)
def squeeze_excitation(found: Found) -> None:
    """x times a gate in (0, 1) that two small layers make of the mean of x."""
    view = found.view
    for node in view.nodes:
        if node.op.kind != "mul" or len(node.inputs) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            chain = _gate(view, gate, view.plain(x))
            if chain:
                found.add("squeeze-excitation", "cnn", [*chain, node])
                break


def _gate(view: View, value: str, x: str) -> list[Node]:
    """Operators of a gate that begins at x; none if it is no such gate."""
    chain: list[Node] = []
    layers = 0
    node = view.before(value)
    while node is not None and len(chain) < 12:
        chain.append(node)
        if node.op.kind in POOLS:
            good = 1 <= layers <= 2 and view.plain(node.inputs[0]) == x
            ends = view.before(value)
            closed = ends is not None and getattr(ends.op, "function", "") in ("sigmoid", "hardsigmoid")
            return chain if good and closed else []
        if node.op.kind in CONVS or node.op.kind == "linear":
            layers += 1
        elif node.op.kind not in BETWEEN:
            return []
        node = view.before(node.inputs[0]) if node.inputs else None
    return []


@rule(BLOCK)
def depthwise(found: Found) -> None:
    """A depthwise convolution with pointwise ones around it: inverted residual, or separable."""
    view = found.view
    gated = {n for b in found.blocks if b.block == "squeeze-excitation" for n in b.nodes}
    for node in view.nodes:
        if not is_depthwise(node):
            continue
        after, path = _pointwise_after(view, node)
        if after is None:
            continue
        before, up = _pointwise_before(view, node)
        end = view.next(after.outputs[0], VIEWS | NORMS)
        closed = end is not None and end.op.kind in ACTIVATIONS
        nodes = [*up, node, *path, *_norm_after(view, after)]
        squeezed = any(found.named(n) in gated for n in path)
        opened = _activated(view, node)
        narrow = getattr(after.op, "out_channels", getattr(after.op, "out_features", 0))
        wide = getattr(node.op, "in_channels", 0)
        if after.op.kind == "linear":
            # a ConvNeXt block's, which is a residual
            continue
        linear_end = not closed and (bool(narrow < wide) if before is not None else opened)
        if linear_end:
            if end is not None and end.op.kind == "add":
                nodes.append(end)
            found.add("inverted residual", "cnn", nodes, "squeeze-excitation" if squeezed else "")
        else:
            found.add("depthwise-separable convolution", "cnn", nodes)


def _norm_after(view: View, node: Node) -> list[Node]:
    norm = view.next(node.outputs[0])
    return [node, norm] if norm is not None and norm.op.kind in NORMS else [node]


def _activated(view: View, node: Node) -> bool:
    after = view.next(node.outputs[0], VIEWS | NORMS)
    if after is not None:
        return after.op.kind in ACTIVATIONS
    # read by a squeeze and by what it scales
    return bool(view.readers(node.outputs[0]))


def _pointwise(node: Node) -> bool:
    return (node.op.kind in CONVS and kernel(node) == 1) or node.op.kind == "linear"


def _pointwise_after(view: View, node: Node) -> tuple[Node | None, list[Node]]:
    """(the pointwise convolution that follows, what lies between), through a squeeze-excitation too."""
    path: list[Node] = []
    value = node.outputs[0]
    for _ in range(8):
        readers = view.readers(value)
        if len(readers) > 1:
            scaled = [r for r in readers if r.op.kind == "mul"]
            if len(scaled) != 1:
                return None, []
            path += _gate(view, next(i for i in scaled[0].inputs if i != value), view.plain(value))
            after = scaled[0]
        elif len(readers) == 1:
            after = readers[0]
        else:
            return None, []
        if _pointwise(after):
            return after, path
        if after.op.kind not in BETWEEN and after.op.kind != "mul":
            return None, []
        path.append(after)
        value = after.outputs[0]
    return None, []


def _pointwise_before(view: View, node: Node) -> tuple[Node | None, list[Node]]:
    """(the pointwise convolution before that widens, what lies between)."""
    path: list[Node] = []
    value = node.inputs[0]
    for _ in range(6):
        before = view.maker(value)
        if before is None or len(view.readers(value)) != 1:
            return None, []
        path.append(before)
        if _pointwise(before):
            wide = getattr(before.op, "out_channels", 0)
            return (before, path) if bool(wide > getattr(before.op, "in_channels", 0)) else (None, [])
        if before.op.kind not in BETWEEN:
            return None, []
        value = before.inputs[0]
    return None, []


@rule(BLOCK)
def fused_inverted_residual(found: Found) -> None:
    """A wide k x k convolution, activated, then a pointwise one without activation. EfficientNetV2."""
    view = found.view
    for node in view.nodes:
        if node.op.kind != "conv2d" or kernel(node) == 1 or is_depthwise(node):
            continue
        if getattr(node.op, "groups", 1) != 1 or not bool(node.op.out_channels > node.op.in_channels):  # type: ignore[attr-defined]
            continue
        after, path = _pointwise_after(view, node)
        if after is None or after.op.kind != "conv2d" or not any(n.op.kind in ACTIVATIONS for n in path):
            continue
        end = view.next(after.outputs[0], VIEWS | NORMS)
        narrow = after.op.out_channels < node.op.out_channels  # type: ignore[attr-defined]
        follows = _norm_after(view, after)
        if not bool(narrow) or len(follows) < 2 or (end is not None and end.op.kind in ACTIVATIONS):
            continue
        nodes = [node, *path, *follows]
        found.add(
            "fused inverted residual", "cnn", nodes if end is None or end.op.kind != "add" else [*nodes, end]
        )


@rule(BLOCK)
def residual(found: Found) -> None:
    """x + f(x) with convolutions in f: basic, bottleneck, ConvNeXt; pre-activation if norms come first."""
    view = found.view
    taken = found.covered("inverted residual", "fused inverted residual")
    for region in found.regions:
        convs = region.of(*CONVS)
        if not convs or found.named(region.add) in taken or region.of("attention"):
            continue
        gates = {n for b in found.blocks if b.block == "squeeze-excitation" for n in b.nodes}
        main = [n for n in convs if found.named(n) not in gates]
        name, detail = _kind_of_residual(view, region, main)
        if any(found.named(n) in gates for n in convs):
            detail = f"{detail}, squeeze-excitation" if detail else "squeeze-excitation"
        nodes = [*region.branch, *region.skip, region.add]
        act = view.next(region.add.outputs[0])
        if act is not None and act.op.kind in ACTIVATIONS and not name.startswith("pre-activation"):
            nodes.append(act)
        found.add(name, "cnn", nodes, detail)


def _kind_of_residual(view: View, region: Region, convs: list[Node]) -> tuple[str, str]:
    sizes = [kernel(n) for n in convs]
    linears = region.of("linear")
    if len(convs) == 1 and is_depthwise(convs[0]) and len(linears) == 2:
        return "ConvNeXt block", ""
    middle = convs[1] if len(convs) == 3 else None
    grouped = ""
    if middle is not None and sizes[0] == sizes[2] == 1 and sizes[1] > 1:
        groups = getattr(middle.op, "groups", 1)
        grouped = f"{groups} groups" if groups != 1 else ""
        name = "bottleneck residual"
    elif len(convs) == 2 and sizes[0] > 1 and sizes[1] > 1:
        name = "basic residual"
    else:
        name = "residual"
    last = convs[-1]
    norms = [n for n in region.branch if n.op.kind in NORMS]
    normed = view.next(last.outputs[0])
    if norms and not (normed is not None and normed.op.kind in NORMS):
        return f"pre-activation {name}", grouped
    return name, grouped


@rule(BLOCK)
def branches(found: Found) -> None:
    """Channels joined: inception and fire modules, dense layers, shuffle units, a U-Net's skips."""
    view = found.view
    for node in view.nodes:
        at = getattr(node.op, "dim", 0)
        if node.op.kind != "concat" or node.ins[0].rank != 4 or at % 4 != 1 or len(node.inputs) < 2:
            continue
        if len(node.inputs) == 2 and _skips(view, node):
            found.add("U-Net skip", "cnn", [node])
            continue
        ways = [_way(view, value) for value in node.inputs]
        starts = {start for start, _ in ways}
        convs = [sum(n.op.kind in CONVS for n in nodes) for _, nodes in ways]
        inside = [n for _, nodes in ways for n in nodes]
        if len(starts) == 1 and len(ways) >= 3 and sum(map(bool, convs)) >= 2:
            found.add("inception module", "cnn", [*inside, node], f"{len(ways)} branches")
        elif (
            len(starts) == 1
            and convs == [1, 1]
            and {kernel(n) for n in inside if n.op.kind in CONVS} == {1, 3}
        ):
            squeeze = view.before(next(iter(starts)), BETWEEN)
            more = [squeeze] if squeeze is not None and squeeze.op.kind in CONVS else []
            found.add("fire module", "cnn", [*more, *inside, node])
        elif _shuffled(view, node):
            found.add("shuffle unit", "cnn", [*inside, node])
        elif convs[-1] and (not convs[0] or _is_concat(view, node.inputs[0])):
            found.add("dense concatenation", "cnn", [*ways[-1][1], node])


def _windows(nodes: list[Node]) -> set[int]:
    return {kernel(n) for n in nodes if n.op.kind in CONVS}


def _way(view: View, value: str) -> tuple[str, list[Node]]:
    """(where a branch begins, its operators): back until what others read too, or what is joined."""
    nodes: list[Node] = []
    for _ in range(40):
        node = view.maker(value)
        if node is None or node.op.kind == "concat" or len(node.inputs) != 1:
            break
        if nodes and len(view.readers(value)) > 1:
            break
        if not nodes and len(view.readers(value)) > 1 and node.op.kind not in CONVS | BETWEEN:
            break
        nodes.append(node)
        value = node.inputs[0]
    return value, nodes


def _is_concat(view: View, value: str) -> bool:
    node = view.before(value, BETWEEN | POOLS)
    return node is None or node.op.kind == "concat"


def _shuffled(view: View, node: Node) -> bool:
    """Whether channels change places in groups afterwards."""
    after = view.next(node.outputs[0], ())
    turned = view.next(after.outputs[0], ()) if after is not None and after.op.kind == "reshape" else None
    return turned is not None and turned.op.kind == "transpose" and turned.ins[0].rank == 5


UPSAMPLING = frozenset({"conv_transpose2d", "conv_transpose1d", "conv_transpose3d", "resize", "upsample",
                        "interpolate", "pixel_shuffle"})  # fmt: skip


def _skips(view: View, node: Node) -> bool:
    """Whether one input was just made larger and the other comes from further back."""
    made = [view.before(value, BETWEEN | CONVS) for value in node.inputs]
    larger = [m is not None and m.op.kind in UPSAMPLING for m in made]
    if sum(larger) != 1:
        return False
    other = node.inputs[larger.index(False)]
    return len(view.readers(other)) > 1 or other not in view.makers


@rule(WHOLE)
def patch_embedding(found: Found) -> None:
    """An image cut in patches: a convolution as wide as its stride, whose map becomes tokens."""
    view = found.view
    for node in view.nodes:
        if node.op.kind != "conv2d" or kernel(node) < 2:
            continue
        size, stride = (_pair(getattr(node.op, k)) for k in ("kernel_size", "stride"))
        if size != stride or node.inputs[0] not in {v.name for v in view.graph.inputs}:
            continue
        found.add("patch embedding", "vit", [node], f"{size[0]}x{size[1]}")


def _pair(n: object) -> tuple[object, object]:
    return (n[0], n[1]) if isinstance(n, tuple) else (n, n)
