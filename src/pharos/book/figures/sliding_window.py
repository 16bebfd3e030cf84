"""Figure 4: a filter that slides over an image, step by step, with the numbers of each product."""

from typing import Any

from pharos.book.figure import Asked, Picture, figure
from pharos.book.sums import executed, run
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv2d
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

# A bright square on dark ground, and a filter that answers to its left and right edges.
IMAGE = ((0, 0, 0, 0, 0, 0), (0, 0, 8, 8, 0, 0), (0, 0, 8, 9, 0, 0), (0, 0, 9, 8, 0, 0), (0, 0, 0, 0, 0, 0))
FILTER = ((-1, 0, 1), (-1, 0, 1), (-1, 0, 1))
CELL = 25
# Positions of the output that are shown, as (row, column).
STEPS = ((0, 0), (0, 2), (1, 1), (2, 3))


def slide() -> tuple[Any, Any, Any, Conv2d]:
    """(image, filter, feature map, operator); the map is what the operator's loops give."""
    import numpy as np

    op = Conv2d(1, 1, (len(FILTER), len(FILTER[0])), bias=False)
    image, kernel = np.array(IMAGE, float), np.array(FILTER, float)
    return image, kernel, run(op, image[None, None], weight=kernel[None, None])[0, 0], op


@figure(4, "sliding-window", "a filter slides over an image: window, products, feature map", "1.3")
def sliding_window(asked: Asked) -> Picture:
    """Four positions one below the other: the window, the filter on it, the sum in the feature map."""
    image, kernel, out, op = slide()
    canvas = Canvas(590, 28 + len(STEPS) * 152, ("window", "feature map"))
    left, middle, right = 6, 232, 372
    h, w = image.shape
    for x, text in ((left + w * CELL / 2, "image"), (middle + 1.5 * CELL, "filter"),
                    (right + out.shape[1] * CELL / 2, "feature map")):  # fmt: skip
        canvas.word(x, 12, text, bold=True)
    rows, lines = [], []
    top = float(abs(out).max()) or 1.0
    done: set[tuple[int, int]] = set()
    order = [(i, j) for i in range(out.shape[0]) for j in range(out.shape[1])]
    for step, (i, j) in enumerate(STEPS):
        y = 28 + step * 152
        window = image[i : i + kernel.shape[0], j : j + kernel.shape[1]]
        done |= set(order[: order.index((i, j)) + 1])
        for r in range(h):
            for c in range(w):
                inside = i <= r < i + kernel.shape[0] and j <= c < j + kernel.shape[1]
                canvas.box(
                    left + c * CELL,
                    y + r * CELL,
                    CELL,
                    CELL,
                    f"{image[r, c]:g}",
                    group="window" if inside else "",
                    level=0.5 if inside else 0.08,
                    edge=0.8,
                    size=11,
                )
        ky = y + CELL
        for r in range(kernel.shape[0]):
            for c in range(kernel.shape[1]):
                canvas.box(middle + c * CELL, ky + r * CELL, CELL, CELL, f"{kernel[r, c]:g}", group="window",
                           level=0.2, edge=0.8, size=11)  # fmt: skip
        for r in range(out.shape[0]):
            for c in range(out.shape[1]):
                known = (r, c) in done
                canvas.box(
                    right + c * CELL,
                    ky + r * CELL,
                    CELL,
                    CELL,
                    f"{out[r, c]:g}" if known else "",
                    group="feature map" if known else "",
                    edge=2.4 if (r, c) == (i, j) else 0.8,
                    size=11,
                    level=(0.15 + 0.7 * abs(out[r, c]) / top) if known else 0.05,
                    bold=(r, c) == (i, j),
                )
        canvas.line([(left + w * CELL + 8, ky + 1.5 * CELL), (middle - 8, ky + 1.5 * CELL)])
        canvas.line([(middle + 3 * CELL + 8, ky + 1.5 * CELL), (right - 8, ky + 1.5 * CELL)])
        at = order.index((i, j)) + 1
        canvas.word(
            right + out.shape[1] * CELL + 10,
            ky + 0.9 * CELL,
            f"position {at}",
            align="left",
            size=11,
            quiet=True,
        )
        canvas.word(
            right + out.shape[1] * CELL + 10, ky + 1.6 * CELL, f"sum {out[i, j]:g}", align="left", bold=True
        )
        told = products(window, kernel, out[i, j])
        canvas.word(middle, y + 5.25 * CELL - 4, told, align="left", size=11,
                    quiet=True)  # fmt: skip
        rows.append((at, i, j, float((window * kernel).sum()), float(out[i, j])))
        lines += _letters(image, kernel, out, (i, j), done, at, told)
    macs = executed(op, image[None, None], weight=kernel[None, None])
    dense = Tensor(image.shape).numel * Tensor(out.shape).numel
    alt = (
        f"A {kernel.shape[0]} by {kernel.shape[1]} filter at {len(STEPS)} of the {out.size} positions on "
        f"an image of "
        f"{h} by {w} numbers. At each, the nine numbers under it are multiplied with the filter and "
        f"added, and the "
        f"sum becomes one number of the feature map, {out.shape[0]} by {out.shape[1]}: "
        + ", ".join(f"{r[4]:g} at position {r[0]}" for r in rows)
        + ". The filter's nine weights are the same at every position."
    )
    note = (
        f"{kernel.size} weights, {macs} MACs over all {out.size} positions, counted by the loops; a dense "
        f"layer to as "
        f"many results would have {dense} weights"
    )
    made = Figure.of(canvas.chart(), name="sliding-window", title="One small filter at every position of "
        "an image",
                     alt=alt, source=note)  # fmt: skip
    return Picture(figure=made, columns=("position", "row", "column", "by_hand", "feature"), rows=tuple(rows),
                   lines=tuple(lines), note=note)  # fmt: skip


def products(window: Any, kernel: Any, total: float) -> str:
    """The products that are not zero, and their sum: 8x1 + 9x(-1) = -1."""
    terms = [f"{a:g}×{b:g}" if b > 0 else f"{a:g}×({b:g})"
             for a, b in zip(window.ravel(), kernel.ravel(), strict=True) if a and b]  # fmt: skip
    return f"{' + '.join(terms) or '0'} = {total:g}"


def _letters(image: Any, kernel: Any, out: Any, at: tuple[int, int], done: set[tuple[int, int]], step: int,
             told: str) -> list[str]:  # fmt: skip
    """A step in letters: the window in brackets, the map as far as it is known."""
    i, j = at
    lines = [f"position {step}: {told}"]
    for r in range(image.shape[0]):
        cells = [
            f"[{v:g}]" if i <= r < i + kernel.shape[0] and j <= c < j + kernel.shape[1] else f" {v:g} "
            for c, v in enumerate(image[r])
        ]
        known = ""
        if r < out.shape[0]:
            known = "    " + " ".join(
                f"{out[r, c]:>4g}" if (r, c) in done else "   ." for c in range(out.shape[1])
            )
        lines.append("  " + "".join(cells) + known)
    return [*lines, ""]
