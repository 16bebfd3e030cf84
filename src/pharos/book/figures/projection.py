"""Figure 8: embeddings times the weights of queries, keys and values, with the sizes of a model."""

from dataclasses import dataclass

from pharos.book.figure import Asked, Picture, figure
from pharos.graph.graph import Node
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.recognise import recognise
from pharos.quantity.errors import InputError
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt_count
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

MODEL, TOKENS = "gpt2-xl", 1024


@dataclass(frozen=True, slots=True)
class Projection:
    """The projections of one attention.

    Args:
        parts: (Q, K or V, columns) of the weights side by side.
        heads, kv_heads, head_dim: how the columns split.
        macs: of all of them, for one layer and all tokens; layers: that have such.
    """

    model: str
    tokens: int
    width: int
    parts: tuple[tuple[str, int], ...]
    heads: int
    kv_heads: int
    head_dim: int
    weights: int
    macs: int
    layers: int


def projection(name: str, tokens: int = TOKENS) -> Projection:
    """The first attention of a model whose queries, keys and values are made of one sequence.

    Raises:
        InputError: the model has none with whole sizes.
    """
    model = find(name)
    open_to = model.graph().meta.get("max_context") or tokens
    graph = model.graph(Workload(phase="forward", context=min(tokens, int(open_to))))
    at = {full: (node, times) for node, times, full in graph.walk()}
    for block in recognise(graph).blocks:
        if not block.block.startswith("multi-head attention"):
            continue
        nodes = [at[n][0] for n in block.nodes if n in at]
        (core,) = [n for n in nodes if n.op.kind == "attention"] or [None]
        made = (
            [n for n in nodes if n.op.kind == "linear" and nodes.index(n) < nodes.index(core)] if core else []
        )
        if core is None or not made or len({n.inputs[0] for n in made}) != 1:
            continue
        q, k, v = core.ins[:3]
        own = [q.shape[1] * q.shape[3], k.shape[1] * k.shape[3], v.shape[1] * v.shape[3]]
        if not all(is_int(s) for s in own) or sum(own) != sum(n.outs[0].shape[-1] for n in made):
            continue
        x = made[0].ins[0]
        return Projection(
            model=model.name, tokens=int(x.shape[-2]), width=int(x.shape[-1]),
            parts=tuple(zip(("Q", "K", "V"), map(int, own), strict=True)), heads=int(q.shape[1]),
            kv_heads=int(k.shape[1]), head_dim=int(q.shape[3]), layers=int(at[block.nodes[0]][1]),
            weights=sum(_matrix(n) for n in made), macs=int(sum(n.op.work(*n.io).macs for n in made)),
        )  # fmt: skip
    raise InputError(f"{name} has no attention with plain projections of one sequence", where="--model",
                     hint="try gpt2-xl, llama-3-8b, bert-base-uncased or vit_b_16")  # fmt: skip


def _matrix(node: Node) -> int:
    return int(node.weights["weight"].numel)


@figure(8, "projection", "embeddings times QKV weights, with a model's sizes", "1.5", takes=("model",))
def qkv(asked: Asked) -> Picture:
    """Matrices to scale: X, the weights of Q, K and V side by side, and their products; then the heads."""
    p = projection(asked.model or MODEL)
    names = tuple(f"{n}" for n, _ in p.parts)
    columns = sum(c for _, c in p.parts)
    scale = 500 / (p.width + 2 * columns)
    low = 44 + max(p.tokens, p.width) * scale
    canvas = Canvas(640, low + 118, names)
    tall = {"x": max(p.tokens * scale, 16), "w": max(p.width * scale, 16)}
    mid = 44 + max(tall.values()) / 2
    x0 = 40.0
    canvas.box(x0, mid - tall["x"] / 2, p.width * scale, tall["x"], "X", bold=True, level=0.3,
               detail=f"X: {p.tokens} tokens of {p.width}")  # fmt: skip
    canvas.word(x0 + p.width * scale / 2, mid - tall["x"] / 2 - 12, f"{p.width:,}", size=11)
    canvas.word(x0 - 8, mid, f"{p.tokens:,}", size=11, align="right")
    at = x0 + p.width * scale + 34
    canvas.word(at - 17, mid, "×", size=18)
    starts = [at, at + columns * scale + 34]
    canvas.word(starts[1] - 17, mid, "=", size=18)
    rows = []
    for start, high, of in ((starts[0], tall["w"], "w"), (starts[1], tall["x"], "y")):
        at = start
        for name, width in p.parts:
            text = {"Q": "Wq", "K": "Wk", "V": "Wv"}[name] if of == "w" else name
            canvas.box(at, mid - high / 2, width * scale, high, text, group=name, level=0.45, bold=True,
                       size=12 if width * scale > 22 else 10,
                       detail=f"{text}: {p.width if of == 'w' else p.tokens:,} x {width:,}")  # fmt: skip
            canvas.word(
                at + width * scale / 2,
                mid - high / 2 - 12,
                f"{width:,}",
                size=11 if width * scale > 40 else 9,
            )
            if of == "w":
                rows.append((name, p.tokens, p.width, width, p.width * width, p.tokens * p.width * width,
                             p.heads if name == "Q" else p.kv_heads))  # fmt: skip
            at += width * scale
        canvas.word(start - 4, mid + high / 2 + 12, f"{p.width if of == 'w' else p.tokens:,} rows", size=11,
                    align="left", quiet=True)  # fmt: skip
    _heads(canvas, p, starts[1], scale, mid + tall["x"] / 2)
    canvas.word(40, low + 74, [f"one product of {p.tokens:,} x {p.width:,} with {p.width:,} x {columns:,}:",
                          f"{p.macs:,} MACs, {p.weights:,} weights a layer,",
                          f"{p.layers} layers"], align="left", size=12)  # fmt: skip
    total = fmt_count(p.macs, 3)
    shared = (
        "" if p.kv_heads == p.heads else f", {p.heads // p.kv_heads} heads share a pair of keys and values"
    )
    alt = (
        f"A product of matrices drawn to scale: X, {p.tokens:,} tokens of {p.width:,} numbers, times the "
        f"weights of "
        f"queries, keys and values side by side, {' + '.join(f'{c:,}' for _, c in p.parts)} columns, "
        f"gives Q, K and V "
        f"of {p.tokens:,} rows. Then Q splits in {p.heads} heads of {p.head_dim}, K and V in "
        f"{p.kv_heads}{shared}. "
        f"{p.macs:,} multiply-accumulates a layer."
    )
    made = Figure.of(canvas.chart(), name="projection", title=f"Queries, keys and values of {p.model} in "
        f"one product",
                     alt=alt, source=f"sizes from the model's graph; {total} MACs a layer for "
                                     f"{p.tokens:,} tokens")  # fmt: skip
    return Picture(figure=made, columns=("part", "tokens", "width", "columns", "weights", "macs", "heads"),
                   rows=tuple(rows), note=f"the weights are fixed; the product changes with every "
                                          f"input{shared}")  # fmt: skip


def _heads(canvas: Canvas, p: Projection, left: float, scale: float, top: float) -> None:
    """Below each of Q, K and V, its heads as strips."""
    at, y, high = left, top + 52, 26
    for name, width in p.parts:
        heads = p.heads if name == "Q" else p.kv_heads
        wide = width * scale
        canvas.line([(at + wide / 2, top + 4 if name != "Q" else top + 22), (at + wide / 2, y - 3)])
        for i in range(heads):
            canvas.box(
                at + i * wide / heads,
                y,
                wide / heads,
                high,
                group=name,
                level=0.2 + 0.35 * (i % 2),
                edge=0.3,
                detail=f"{name}, head {i + 1} of {heads}: {p.tokens} x {p.head_dim}",
            )
        canvas.word(
            at + wide / 2,
            y + high + 13,
            [f"{heads} heads", f"of {p.head_dim}"] if wide > 46 else [f"{heads} ×", str(p.head_dim)],
            size=11,
        )
        at += wide
