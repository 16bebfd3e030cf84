"""Figure 5: a recurrence as a loop, and unrolled over time, with the states that its loops compute."""

from typing import Any

from pharos.book.figure import Asked, Picture, figure
from pharos.book.sums import draw, run
from pharos.graph.tensor import Tensor
from pharos.ops.recurrent import RNN
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

STEPS, INPUTS, HIDDEN = 5, 2, 4


def states(steps: int = STEPS) -> tuple[Any, Any, RNN, dict[str, Any]]:
    """(inputs, states, operator, weights): what the operator's loops give for random inputs and weights."""
    import numpy as np

    op = RNN(INPUTS, HIDDEN)
    x = draw(1, steps, INPUTS)
    weights = {n: (0.6 * draw(*s, seed=i + 1) if len(s) == 2 else np.zeros(s))
               for i, (n, s) in enumerate(op.weights().items())}  # fmt: skip
    return x[0], run(op, x, **weights)[0], op, weights


@figure(5, "recurrence", "a recurrent cell as a loop, and unrolled over time", "1.4")
def recurrence(asked: Asked) -> Picture:
    """Left the loop, right a copy of the cell for every step, joined by the state."""
    inputs, found, op, weights = states()
    canvas = Canvas(608, 300, ("cell", "input", "state"))
    canvas.word(66, 12, "the loop", bold=True)
    canvas.word(396, 12, f"unrolled over {STEPS} steps: the same weights at each", bold=True)
    _loop(canvas)
    gap, left, y = 84, 200, 128
    for t in range(STEPS):
        x = left + t * gap
        canvas.box(x, y, 46, 40, "cell", group="cell", level=0.45)
        _column(canvas, x + 23, y + 100, inputs[t], "input", f"x{t + 1}", below=True)
        canvas.line([(x + 23, y + 98), (x + 23, y + 42)], width=1.5)
        _column(canvas, x + 23, y - 98, found[t], "state", f"h{t + 1}", below=False)
        canvas.line([(x + 23, y - 2), (x + 23, y - 32)], width=1.5)
        canvas.line([(x - 38 if t else x - 30, y + 20), (x - 1, y + 20)], group="state", width=2.4)
        if t == 0:
            canvas.word(x - 36, y + 20, "0", size=12)
        canvas.word(x - 20, y + 34, "Wh", size=10, quiet=True)
    tensor = Tensor((1, STEPS, INPUTS))
    y_out = op.shape(tensor)
    assert isinstance(y_out, Tensor)
    depth = op.parallelism(tensor, y_out).depth
    macs = op.work(tensor, y_out).macs
    size = sum(w.size for w in weights.values())
    note = f"{size} parameters at any length; {macs // STEPS} MACs a step, {depth} steps one after the other"
    alt = (
        f"Left, a cell that reads an input and its own state of the step before, drawn as a loop. Right, "
        f"the same cell "
        f"{STEPS} times in a row, once a step: each reads its input and the state that the step before "
        f"hands on, so "
        f"that step {STEPS} waits for all before it. Small bars show the {HIDDEN} numbers of each state, "
        f"computed: "
        f"the last is {', '.join(f'{v:.2f}' for v in found[-1])}."
    )
    made = Figure.of(canvas.chart(), name="recurrence", title="One cell, used once a step, each waiting "
        "for the last",
                     alt=alt, source=note)  # fmt: skip
    columns = ("step", *(f"x{i + 1}" for i in range(INPUTS)), *(f"h{i + 1}" for i in range(HIDDEN)))
    rows = tuple((t + 1, *map(float, inputs[t]), *map(float, found[t])) for t in range(STEPS))
    return Picture(figure=made, columns=columns, rows=rows, note=f"random inputs and weights; {note}")


def _loop(canvas: Canvas) -> None:
    x, y = 42, 128
    canvas.box(x, y, 52, 40, "cell", group="cell", level=0.45)
    canvas.box(x + 8, y + 102, 36, 24, "x(t)", group="input", level=0.35)
    canvas.box(x + 8, y - 84, 36, 24, "h(t)", group="state", level=0.35)
    canvas.line([(x + 26, y + 100), (x + 26, y + 42)])
    canvas.line([(x + 26, y - 2), (x + 26, y - 58)])
    canvas.line(
        [(x + 26, y - 30), (x + 88, y - 30), (x + 88, y + 20), (x + 54, y + 20)], group="state", width=2.4
    )
    canvas.word(x + 8, y + 72, "Wx", size=11, quiet=True)
    canvas.word(x + 98, y - 4, "Wh", size=11, quiet=True, align="left")
    canvas.word(x + 26, y + 150, ["h(t) = tanh(", "Wh h(t-1) + Wx x(t) + b)"], size=12)


def _column(canvas: Canvas, x: float, y: float, values: Any, group: str, name: str, below: bool) -> None:
    """Numbers as bars up and down from a line, in a frame."""
    n, high, bar = len(values), 56, 9
    wide = n * bar + 8
    top = y if below else y + 8
    canvas.box(x - wide / 2, top, wide, high, group=group, level=0.08, edge=0.9,
               detail=f"{name}: {', '.join(f'{v:.2f}' for v in values)}")  # fmt: skip
    most = max(1.0, *(abs(float(v)) for v in values))
    for i, v in enumerate(values):
        tall = (high / 2 - 3) * float(v) / most
        at = top + high / 2
        canvas.box(
            x - n * bar / 2 + i * bar + 1,
            at - max(tall, 0),
            bar - 2,
            abs(tall),
            group=group,
            level=0.9,
            edge=0.4,
            detail=f"{name}[{i + 1}] = {v:.3f}",
        )
    canvas.word(x, top + high + 11 if below else top - 10, name, size=12)
