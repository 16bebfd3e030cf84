"""Figure 13: broadcast, scatter, gather and reduction between four devices, with the bytes on every arrow."""

from pharos.book.figure import Asked, Picture, figure
from pharos.graph.op import REDUCE
from pharos.graph.tensor import Tensor
from pharos.plan.collectives import find_collective
from pharos.plan.collectives.patterns import reverse, tree_broadcast
from pharos.quantity.units import fmt
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

DEVICES = 4
# What is moved: the matrix of the chapter's example, in fp16.
WHOLE = Tensor((512, 512), "fp16")
Round = list[tuple[int, int, int]]


def rounds(name: str, devices: int = DEVICES, size: int = WHOLE.nbytes) -> list[Round]:
    """(from, to, bytes) of every message by the round it travels in, as the collective's own steps have it.

    A reduction is a broadcast by a tree backwards, each device adding what arrives.
    """
    if name == REDUCE:
        steps, blocks = reverse([*tree_broadcast(range(devices), (0,))], adds=True), 1.0
    else:
        how = find_collective(name)
        algorithm = "switch" if name == "broadcast" else "tree" if devices < 2 else "switch"
        steps, blocks = [messages for _, messages in how.steps(algorithm, devices)], how.blocks(devices)
    return [
        [(s, t, round(size * len(m.blocks) / blocks)) for m in step for s in m.sources for t in m.targets]
        for step in steps
    ]


@figure(13, "movement", "broadcast, scatter, gather, reduction: arrows and bytes", "1.9")
def movement(asked: Asked) -> Picture:
    """Four panels; the arrow tells who sends, its width and number how many bytes."""
    kinds = ("broadcast", "scatter", "gather", REDUCE)
    says = {
        "broadcast": "one to all: the same to each", "scatter": "one to all: a part to each",
        "gather": "all to one: parts put together", REDUCE: "all to one: added on the way",
    }  # fmt: skip
    panel_w, panel_h = 296, 228
    canvas = Canvas(2 * panel_w, 2 * panel_h, ("whole", "part", "sum"))
    rows, words = [], []
    for k, kind in enumerate(kinds):
        ox, oy = (k % 2) * panel_w, (k // 2) * panel_h
        canvas.word(
            ox + 10, oy + 16, kind if kind != REDUCE else "reduction", size=14, bold=True, align="left"
        )
        canvas.word(ox + 10, oy + 35, says[kind], align="left", quiet=True)
        group = {"broadcast": "whole", REDUCE: "sum"}.get(kind, "part")
        found = rounds(kind)
        out = kind in ("broadcast", "scatter")
        xs = [ox + 50 + i * (panel_w - 100) / (DEVICES - 1) for i in range(DEVICES)]
        ones, others = (oy + 76, oy + 178) if out else (oy + 178, oy + 76)
        size = {"whole": 20, "part": 13, "sum": 20}[group]
        if kind == REDUCE:
            _tree(canvas, found, xs, oy)
        else:
            mid = ox + panel_w / 2
            canvas.dot(mid, ones, 20, "0", group="whole", level=0.5)
            for i, x in enumerate(xs):
                canvas.dot(x, others, size, str(i), group=group, level=0.5 if i else 0.25)
            for moved in found:
                for a, b, n in moved:
                    far = b if out else a
                    root, leaf = (mid, float(ones)), (xs[far], float(others))
                    ends = [root, leaf] if out else [leaf, root]
                    canvas.line(_clear(ends, 22), group=group, width=4 if group == "whole" else 2.2,
                                detail=f"device {a} to {b}: {n:,} bytes")  # fmt: skip
            # device 0 has its own already
            canvas.line(_clear([(xs[0], others), (mid, ones)], 22), dashed=True, head=False, width=1)
            each = found[0][0][2]
            canvas.word(
                ox + panel_w / 2,
                oy + 212,
                f"{fmt(each, 'B')} an arrow, device 0 keeps its own",
                size=11,
                quiet=True,
            )
        for r, moved in enumerate(found, 1):
            rows += [("reduction" if kind == REDUCE else kind, r, a, b, n) for a, b, n in moved]
        total = sum(n for moved in found for _, _, n in moved)
        canvas.word(ox + panel_w - 12, oy + 16, f"{fmt(total, 'B')} in all", align="right", bold=True)
        words.append(f"{kind if kind != REDUCE else 'reduction'}, {says[kind]}, {total:,} bytes in "
                     f"{len(found)} "
                     f"round{'s' if len(found) > 1 else ''}")  # fmt: skip
    alt = (
        f"Four panels of arrows between {DEVICES} devices that move a 512 by 512 fp16 matrix of "
        f"{WHOLE.nbytes:,} "
        f"bytes. {'; '.join(words)}. Device 0 is the root and sends itself nothing."
    )
    made = Figure.of(
        canvas.chart(), name="movement", title="Four ways to move data between devices", alt=alt,
        source=f"a 512 x 512 matrix in fp16, {fmt(WHOLE.nbytes, 'B')}, {DEVICES} devices; bytes by the "
               f"collectives' own steps",
    )  # fmt: skip
    return Picture(figure=made, columns=("movement", "round", "from", "to", "bytes"), rows=tuple(rows),
                   note="broadcast copies, so that it moves as often the whole as there are receivers; "
                        "scatter and "
                   "gather move each part once; a tree adds in log2(n) rounds")  # fmt: skip


def _clear(ends: list[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """A line cut short at both ends."""
    (x0, y0), (x1, y1) = ends
    length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
    dx, dy = (x1 - x0) / length * gap, (y1 - y0) / length * gap
    return [(x0 + dx, y0 + dy), (x1 - dx, y1 - dy)]


def _tree(canvas: Canvas, found: list[Round], xs: list[float], oy: float) -> None:
    """A reduction as rows of devices, one below the other, that get fewer."""
    levels = [oy + 70 + i * 56 for i in range(len(found) + 1)]
    alive = list(range(DEVICES))
    for i in alive:
        canvas.dot(xs[i], levels[0], 16, str(i), group="sum", level=0.25)
    for r, moved in enumerate(found):
        sources = {a for a, _, _ in moved}
        left = [d for d in alive if d not in sources]
        for d in left:
            canvas.dot(xs[d], levels[r + 1], 16, "+", group="sum", level=0.6, size=14)
            canvas.line(
                _clear([(xs[d], levels[r]), (xs[d], levels[r + 1])], 18), dashed=True, head=False, width=1
            )
        for a, b, n in moved:
            canvas.line(_clear([(xs[a], levels[r]), (xs[b], levels[r + 1])], 18), group="sum", width=4,
                        detail=f"device {a} to {b}: {n:,} bytes")  # fmt: skip
        canvas.word(
            xs[-1] + 26,
            (levels[r] + levels[r + 1]) / 2,
            f"round {r + 1}",
            align="center",
            size=11,
            quiet=True,
        )
        alive = left
    canvas.word((xs[0] + xs[-1]) / 2, oy + 212, f"{fmt(found[0][0][2], 'B')} an arrow", size=11, quiet=True)
