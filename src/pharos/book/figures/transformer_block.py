"""Figure 11: the operators of a transformer block, with the four building blocks that they are."""

from pharos.book.building_blocks import GATING, GEMM, NORMALISATION, SHARING, SKIP, Part, parts
from pharos.book.figure import Asked, Picture, figure
from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.recognise import recognise
from pharos.passes.recognise.view import Region, View
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt_count
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

MODEL, TOKENS = "gpt2-xl", 1024
GROUPS = (GEMM, GATING, NORMALISATION, SKIP)
ROW, TOP, LEFT, WIDE = 34, 30, 150, 210


def block_of(name: str) -> tuple[Repeat, str, list[Part], list[Region], dict[str, str]]:
    """(layer, what it is, its operators, its skips, operator -> recognised part) of a model's first block.

    Raises:
        InputError: no transformer block is recognised in it.
    """
    model = find(name)
    most = model.graph().meta.get("max_context") or TOKENS
    graph = model.graph(Workload(context=min(TOKENS, int(most))))
    found = recognise(graph)
    whole = next((b for b in found.blocks if "transformer block" in b.block), None)
    layers = [n for n in graph.nodes if isinstance(n, Repeat) and whole and
              any(n.title(i.name) in whole.nodes for i in n.body.nodes if isinstance(i, Node))]  # fmt: skip
    if whole is None or not layers:
        raise InputError(f"no repeated transformer block is recognised in {name}", where="--model",
                         hint="try gpt2-xl, llama-3-8b, mixtral-8x7b or bert-base-uncased")  # fmt: skip
    layer = layers[0]
    inside = {layer.title(n.name): n.name for n in layer.body.nodes if isinstance(n, Node)}
    part_of = {inside[n]: b.block for b in found.blocks if b is not whole and b.level == whole.level
               for n in b.nodes if n in inside}  # fmt: skip
    body: Graph = layer.body
    own = [p for p in parts(body) if p.node.op.class_of(*p.node.io) != "view"]
    return layer, whole.block, own, list(View(body).regions()), part_of


@figure(
    11, "transformer-block", "a transformer block with its building blocks marked", "1.8", takes=("model",)
)
def transformer_block(asked: Asked) -> Picture:
    """Operators from top to bottom, coloured by building block; skips as lines at the left."""
    name = asked.model or MODEL
    layer, what, own, skips, part_of = block_of(name)
    canvas = Canvas(620, TOP + ROW * len(own) + 34, GROUPS, legend=True)
    y = {p.node.outputs[0]: TOP + i * ROW for i, p in enumerate(own)}
    total = sum(p.node.op.work(*p.node.io).macs for p in own) or 1
    canvas.word(LEFT + WIDE / 2, 10, f"in: {_shape(own[0].node.ins[0].shape)}", size=11, quiet=True)
    canvas.line([(LEFT + WIDE / 2, 17), (LEFT + WIDE / 2, TOP - 1)])
    rows = []
    for i, p in enumerate(own):
        top, group = TOP + i * ROW, _group(p)
        canvas.box(LEFT, top, WIDE, ROW - 9, p.name, group=group, level=0.42, size=12,
                   detail=f"{p.node.op}: {', '.join(p.blocks) or 'none of the four'}")  # fmt: skip
        if i:
            canvas.line([(LEFT + WIDE / 2, top - 9), (LEFT + WIDE / 2, top)])
        macs = p.node.op.work(*p.node.io).macs
        weights = sum(t.numel for t in p.node.weights.values())
        told = [f"{fmt_count(weights, 3)} parameters"] if weights else []
        told += [f"{macs / total:.0%} of MACs"] if macs else []
        canvas.word(
            LEFT + WIDE + 12,
            top + ROW / 2 - 4,
            ", ".join(told) or _kind(p.node),
            align="left",
            size=11,
            quiet=True,
        )
        rows.append(
            (
                p.name,
                p.node.op.kind,
                ", ".join(p.blocks),
                int(weights),
                int(macs),
                part_of.get(p.node.name, ""),
            )
        )
    _brackets(canvas, own, part_of)
    for region in skips:
        start = y.get(region.x)
        begin = TOP - 8 if start is None else start + ROW - 9 + 4
        end = y[region.add.outputs[0]] + (ROW - 9) / 2
        canvas.line(
            [(LEFT + WIDE / 2, begin), (LEFT - 26, begin), (LEFT - 26, end), (LEFT, end)],
            group=SKIP,
            width=2.6,
            detail=f"skip around {len(region.branch)} operators to {region.add.name}",
        )
    bottom = TOP + ROW * len(own) - 9
    canvas.line([(LEFT + WIDE / 2, bottom), (LEFT + WIDE / 2, bottom + 20)])
    canvas.word(
        LEFT + WIDE / 2, bottom + 30, f"out: {_shape(own[-1].node.outs[0].shape)}", size=11, quiet=True
    )
    each = {g: [p.name for p in own if _group(p) == g] for g in GROUPS}
    alt = (
        f"The {len(own)} operators of one {what} of {name}, from top to bottom, coloured by what they are: "
        + "; ".join(f"{g}: {', '.join(n)}" for g, n in each.items() if n)
        + f". {len(skips)} skip lines lead around "
        + " and ".join(f"{r.branch[0].name} to {r.branch[-1].name}" for r in skips)
        + "."
    )
    made = Figure.of(
        canvas.chart(), name="transformer-block", title=f"A {what} of {name}: four building blocks at work",
        alt=alt, source=f"recognised in the graph; {layer.count} such layers, "
                        f"{own[0].node.ins[0].shape[1]:,} tokens",
    )  # fmt: skip
    return Picture(
        figure=made,
        columns=("operator", "kind", "building_blocks", "parameters", "macs", "part"),
        rows=tuple(rows),
        note=f"skips, norms and products are read from the graph; attention "
        f"is the gate: "
        f"its softmax weighs what passes. Projections serve every token alike ({SHARING})",
    )


def _group(part: Part) -> str:
    for block in (SKIP, NORMALISATION, GATING, GEMM):
        if block in part.blocks:
            return block
    return ""


def _kind(node: Node) -> str:
    function = getattr(node.op, "function", "")
    return function.replace("_", " ") or node.op.kind.replace("_", " ")


def _brackets(canvas: Canvas, own: list[Part], part_of: dict[str, str]) -> None:
    """The recognised parts, as brackets at the right."""
    x, i = LEFT + WIDE + 218, 0
    while i < len(own):
        name, j = part_of.get(own[i].node.name, ""), i
        while j + 1 < len(own) and part_of.get(own[j + 1].node.name, "") == name:
            j += 1
        if name:
            top, low = TOP + i * ROW + 1, TOP + j * ROW + ROW - 10
            canvas.line([(x, top), (x + 7, top), (x + 7, low), (x, low)], head=False, width=1.2)
            words = name.split(" ")
            canvas.word(x + 13, (top + low) / 2, words if len(name) > 10 else [name], align="left", size=11)
        i = j + 1


def _shape(shape: tuple[object, ...]) -> str:
    return " x ".join(f"{s:,}" if isinstance(s, int) else str(s) for s in shape)
