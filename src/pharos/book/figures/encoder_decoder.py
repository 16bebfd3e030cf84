"""Figure 9: the encoder and the decoder of the original Transformer, as its graph has them."""

from dataclasses import dataclass

from pharos.book.figure import Asked, Picture, figure
from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.recognise import recognise
from pharos.passes.recognise.view import NORMS, View
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt_count
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

MODEL, TOKENS = "transformer-base", 64
WIDE, HIGH = 178, 44


@dataclass(frozen=True, slots=True)
class Sublayer:
    """A part of a layer with the addition around it.

    Args:
        says: what it is, as recognised. norm: the kind of norm, placement: "before" or "after" the addition.
        parameters: of its operators and its norm. reads_other: keys and values come from the encoder.
    """

    says: str
    detail: str
    norm: str
    placement: str
    parameters: int
    reads_other: bool


@dataclass(frozen=True, slots=True)
class Stack:
    """One of the two towers: what stands before its layers, its layers, and how often they repeat."""

    name: str
    before: tuple[tuple[str, int], ...]
    parts: tuple[Sublayer, ...]
    count: int


def towers(name: str = MODEL) -> tuple[list[Stack], list[tuple[str, int]]]:
    """(encoder and decoder, what follows them) of a model.

    Raises:
        InputError: it has not two stacks, of which one reads the other.
    """
    graph = find(name).graph(Workload(context=TOKENS))
    layers = [n for n in graph.nodes if isinstance(n, Repeat)]
    if len(layers) != 2 or layers[0].outputs[0] not in _ancestry(graph, layers[1].inputs[1:]):
        raise InputError(f"{name} has no encoder that a decoder reads", where="--model",
                         hint="try transformer-base, transformer-big or t5-base")  # fmt: skip
    found = recognise(graph)
    said = {n: (b.block, b.detail) for b in found.blocks for n in b.nodes if "block" not in b.block}
    stacks, after = [], []
    for layer in layers:
        own = layer.name.split(".")[0]
        at = graph.nodes.index(layer)
        before = [n for n in graph.nodes[:at] if isinstance(n, Node) and n.name.split(".")[0] == own]
        stacks.append(
            Stack(
                own,
                tuple((_kind(n), _own(n)) for n in before if _kind(n)),
                tuple(_parts(layer, said)),
                int(layer.count),
            )
        )
        if layer is layers[-1]:
            after = [(_kind(n), _own(n)) for n in graph.nodes[at + 1 :] if isinstance(n, Node) and _kind(n)]
    return stacks, after


def _parts(layer: Repeat, said: dict[str, tuple[str, str]]) -> list[Sublayer]:
    view = View(layer.body)
    found = []
    for region in view.regions():
        weighty = [n for n in region.branch if layer.title(n.name) in said]
        block, detail = said[layer.title(weighty[0].name)]
        for n in weighty:
            if said[layer.title(n.name)][0] != "dense layer":
                block, detail = said[layer.title(n.name)]
                break
        norms = region.of(*NORMS)
        behind = view.next(region.add.outputs[0])
        placement = "before" if norms else "after"
        norm = norms[0] if norms else behind if behind is not None and behind.op.kind in NORMS else None
        others = {v.name for v in layer.body.inputs[1:]}
        reads = any(set(n.inputs) & others for n in region.branch if n.op.kind == "linear")
        size = sum(_own(n) for n in region.branch) + (0 if norms or norm is None else _own(norm))
        found.append(
            Sublayer(block, detail, norm.op.kind.replace("_", " ") if norm else "", placement, size, reads)
        )
    return found


def _ancestry(graph: Graph, values: tuple[str, ...]) -> set[str]:
    """Values that these are made of, with themselves."""
    found, makers = set(values), {o: n for n in graph.nodes for o in n.outputs}
    queue = list(values)
    while queue:
        node = makers.get(queue.pop())
        new = [v for v in (node.inputs if node else ()) if v not in found]
        found.update(new)
        queue += new
    return found


def _own(node: Node) -> int:
    return int(sum(t.numel for k, t in node.weights.items() if k not in node.tied))


def _kind(node: Node) -> str:
    return {
        "embedding": "embedding",
        "sinusoidal": "positions added",
        "bucketed_bias": "distance bias",
        "layer_norm": "layer norm",
        "rms_norm": "RMS norm",
        "linear": "output: scores of tokens",
    }.get(node.op.kind, "")


@figure(9, "encoder-decoder", "the two stacks of a Transformer, skips and norms around each part", "1.6",
        takes=("model",))  # fmt: skip
def encoder_decoder(asked: Asked) -> Picture:
    """Encoder left, decoder right, read downwards; the encoder's end goes into every cross attention."""
    name = asked.model or MODEL
    stacks, after = towers(name)
    groups = ("attention", "feed-forward", "add and norm", "in and out")
    tallest = max(len(s.parts) for s in stacks)
    step = 100
    head = 34 + 34 * max(len(s.before) for s in stacks)
    height = head + 24 + step * tallest + 34 * len(after) + 24
    canvas = Canvas(620, height, groups, legend=True)
    lefts = {s.name: x for s, x in zip(stacks, (70, 380), strict=True)}
    rows, cross, source = [], [], (0.0, 0.0)
    for s in stacks:
        x = lefts[s.name]
        mid = x + WIDE / 2
        canvas.word(mid, 8, s.name, bold=True, size=14)
        y = head - 34 * len(s.before)
        for says, size in s.before:
            canvas.box(
                x, y, WIDE, 25, says, group="in and out", level=0.35, detail=f"{says}: {size:,} parameters"
            )
            canvas.line([(mid, y + 25), (mid, y + 34)])
            y += 34
        top = y + 10
        canvas.line([(mid, y), (mid, top + 14)])
        canvas.box(x - 42, y + 2, WIDE + 56, step * len(s.parts) + 14, level=0.06, edge=1)
        canvas.word(
            x + WIDE + 20,
            y + 2 + (step * len(s.parts) + 14) / 2,
            f"× {s.count}",
            size=15,
            bold=True,
            align="left",
        )
        for part in s.parts:
            _sublayer(canvas, part, x, top, rows, s)
            if part.reads_other:
                cross.append((x, top + 14 + HIGH / 2))
            top += step
        end = y + 2 + step * len(s.parts) + 14
        if s is stacks[0]:
            source = (mid, end)
        else:
            for says, size in after:
                canvas.line([(mid, end), (mid, end + 12)])
                canvas.box(x, end + 12, WIDE, 25, says, group="in and out", level=0.35,
                           detail=f"{says}: {size:,} parameters of its own")  # fmt: skip
                end += 37
            canvas.line([(mid, end), (mid, end + 14)])
    for x, y in cross:
        turn = x - 66
        canvas.line(
            [source, (source[0], source[1] + 22), (turn, source[1] + 22), (turn, y), (x - 1, y)],
            width=2.2,
            group="attention",
            detail="the encoder's result: keys and values",
        )
        canvas.word((source[0] + turn) / 2, source[1] + 34, "keys and values", size=11, quiet=True)
    whole = sum(r[-1] * r[-2] for r in rows)
    told = "; ".join(
        f"{s.name}: {s.count} layers of "
        f"{', '.join(p.says + (' (' + p.detail + ')' if p.detail else '') for p in s.parts)}"
        for s in stacks
    )  # fmt: skip
    placement = {p.placement for s in stacks for p in s.parts}
    alt = (
        f"Two stacks side by side. {told}. Around every part a skip line leads to an addition, with a norm "
        f"{' and '.join(sorted(placement))} it. An arrow leads from the end of the encoder into every "
        f"cross attention "
        "of the decoder, as keys and values."
    )
    made = Figure.of(
        canvas.chart(), name="encoder-decoder", title=f"{name}: an encoder, and a decoder that reads it",
        alt=alt, source=f"blocks recognised in the graph; {fmt_count(whole, 3)} parameters in the layers",
    )  # fmt: skip
    return Picture(
        figure=made,
        columns=("stack", "part", "detail", "norm", "placement", "layers", "parameters"),
        rows=tuple(rows),
        note="parameters of one layer's part, with its norm",
    )


def _sublayer(canvas: Canvas, part: Sublayer, x: float, top: float, rows: list, stack: Stack) -> None:
    mid, y = x + WIDE / 2, top + 14
    group = "feed-forward" if "attention" not in part.says else "attention"
    detail = {"causal": "causal: sees only earlier tokens"}.get(part.detail, part.detail)
    canvas.box(
        x,
        y,
        WIDE,
        HIGH,
        [part.says, f"{fmt_count(part.parameters, 3)} parameters"],
        group=group,
        level=0.4,
        size=12,
        detail=f"{part.says}, {detail}",
    )
    if part.detail:
        canvas.word(x + WIDE - 4, y - 7, part.detail, size=10, align="right", quiet=True)
    low = y + HIGH + 8
    canvas.line([(mid, y + HIGH), (mid, low)])
    canvas.box(
        x,
        low,
        WIDE,
        20,
        f"add, {part.norm} {'' if part.placement == 'after' else '(before)'}".strip(" ,"),
        group="add and norm",
        level=0.4,
        size=11,
    )
    canvas.line(
        [(mid, y - 9), (x - 22, y - 9), (x - 22, low + 10), (x - 1, low + 10)],
        group="add and norm",
        width=2.2,
    )
    canvas.line([(mid, low + 20), (mid, top + 100 + 13)])
    rows.append((stack.name, part.says, part.detail, part.norm, part.placement, stack.count, part.parameters))
