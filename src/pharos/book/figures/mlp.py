"""Figure 2: a network of dense layers: every unit reads every unit before it, a weight each."""

from typing import Any

from pharos.book.figure import Asked, Picture, figure
from pharos.book.sums import counted, draw, run
from pharos.graph.graph import Node
from pharos.ops.linear import Linear
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt_count
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

SMALL = "mlp(widths=(5, 4, 3))"
# Units of a layer that are drawn; of more, the first and the last.
MOST = 7
WIDTH, HEIGHT = 560, 320


@figure(2, "mlp", "dense layers: every unit to every unit, a weight each", "1.2", takes=("model",))
def mlp(asked: Asked) -> Picture:
    """Units as circles with their values, weights as lines: thick for large ones, by the sign's colour."""
    name = asked.model or SMALL
    nodes = [n for n in counted(name).graph.expanded().nodes if isinstance(n, Node)]
    layers = [n for n in nodes if isinstance(n.op, Linear)]
    if not layers or any(n.op.kind not in ("linear", "activation", "softmax", "flatten") for n in nodes):
        raise InputError(
            f"{name} is not made of dense layers alone", where="--model", hint=f"write e.g. {SMALL}"
        )
    widths = [int(layers[0].ins[0].shape[-1]), *(int(n.outs[0].shape[-1]) for n in layers)]
    small = max(widths) <= MOST
    weights = [draw(*n.weights["weight"].shape, seed=i + 1) for i, n in enumerate(layers)] if small else []
    values = _values(nodes, weights, widths[0]) if small else []
    canvas = Canvas(WIDTH, HEIGHT, ("positive weight", "negative weight"), legend=small)
    xs = [60 + i * (WIDTH - 120) / (len(widths) - 1) for i in range(len(widths))]
    places = [_places(w) for w in widths]
    for i, layer in enumerate(layers):
        for a, ya in places[i]:
            for b, yb in places[i + 1]:
                w = float(weights[i][b, a]) if small else None
                group = "" if w is None else "positive weight" if w > 0 else "negative weight"
                canvas.line(
                    [(xs[i] + 17, ya), (xs[i + 1] - 17, yb)],
                    group=group,
                    head=False,
                    width=0.9 if w is None else min(0.5 + 1.8 * abs(w), 4.5),
                    level=0.45 if w is None else 0.75,
                    detail=f"{layer.name}: unit {b} reads unit {a}"
                    + ("" if w is None else f", weight {w:.2f}"),
                )
    for i, width in enumerate(widths):
        for unit, y in places[i]:
            text = f"{values[i][unit]:.2f}" if small else ""
            canvas.dot(
                xs[i],
                y,
                17,
                text,
                level=0.3,
                size=11,
                detail=f"{_title(i, widths)}, unit {unit}" + (f": {text}" if text else ""),
            )
        if width > MOST:
            canvas.word(xs[i], (places[i][-2][1] + places[i][-1][1]) / 2, "⋮", size=20)
        canvas.word(xs[i], 14, _title(i, widths), bold=True)
        canvas.word(xs[i], HEIGHT - 10, f"{width:,} {'numbers' if i == 0 else 'units'}", quiet=True)
    for i, layer in enumerate(layers):
        w = layer.weights["weight"]
        canvas.word((xs[i] + xs[i + 1]) / 2, HEIGHT - 10, f"{w.shape[1]:,} x {w.shape[0]:,} = {w.numel:,} "
                                                          f"weights",
                    size=11, quiet=True)  # fmt: skip
    rows = tuple(
        (n.name, int(n.ins[0].shape[-1]), int(n.outs[0].shape[-1]), n.weights["weight"].numel,
         int(n.op.work(*n.io).macs)) for n in layers
    )  # fmt: skip
    total = counted(name).macs
    book = counted("mlp").macs
    what = f"{'-'.join(map(str, widths))}: {fmt_count(total, 4)} weights, as many MACs"
    alt = (
        f"A network of dense layers with {', '.join(f'{w:,}' for w in widths)} units. A line leads from "
        f"every unit "
        f"to every unit of the next layer: {' + '.join(f'{r[3]:,}' for r in rows)} = {total:,} weights, "
        f"each used in "
        "one multiply-accumulate."
        + (" Line width shows a weight's size, colour its sign; circles hold the value that the layers "
           "compute."
           if small else "")
    )  # fmt: skip
    note = f"drawn in full, the textbook's 784-4096-4096-10 network would have {book:,} lines"
    if small:
        note = f"weights and inputs are random, the values computed by the layers' loops; {note}"
    made = Figure.of(canvas.chart(), name="mlp", title="Dense layers: every unit reads every unit before it",
                     alt=alt, source=what)  # fmt: skip
    return Picture(figure=made, columns=("layer", "inputs", "units", "weights", "macs"), rows=rows, note=note)


def _values(nodes: list[Node], weights: list[Any], inputs: int) -> list[list[float]]:
    """Input and outputs of every layer, after its activation, with biases of zero."""
    import numpy as np

    x = abs(draw(1, inputs))
    found, at = [x], 0
    for node in nodes:
        if isinstance(node.op, Linear):
            bias = {"bias": np.zeros(node.op.out_features)} if node.op.bias else {}
            x = run(node.op, x, weight=weights[at], **bias)
            found.append(x)
            at += 1
        else:
            x = run(node.op, x)
            found[-1] = x
    return [row[0].tolist() for row in found]


def _places(width: int) -> list[tuple[int, float]]:
    """(unit, y) of what is drawn of a layer."""
    shown = list(range(width)) if width <= MOST else [*range(MOST - 1), width - 1]
    gap = (HEIGHT - 80) / max(len(shown), 4)
    top = (HEIGHT - gap * (len(shown) - 1)) / 2
    return [(unit, top + gap * i) for i, unit in enumerate(shown)]


def _title(i: int, widths: list[int]) -> str:
    return "input" if i == 0 else "output" if i == len(widths) - 1 else f"hidden {i}"
