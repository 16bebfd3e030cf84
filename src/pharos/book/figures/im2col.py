"""Figure 12: windows of an image unfolded into the columns of a matrix, so that convolution is a product."""

from typing import Any

from pharos.book.figure import Asked, Picture, figure
from pharos.book.sums import run
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv2d
from pharos.ops.conv_algorithms import Im2col
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

IMAGE = ((1, 2, 0, 3), (4, 1, 5, 2), (0, 6, 2, 1), (3, 1, 7, 4))
FILTERS = (((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 1, 0), (1, -4, 1), (0, 1, 0)))
CELL = 25


def unfolded() -> tuple[Any, Any, Any, Any, Conv2d]:
    """(image, filters as rows, patches as columns, feature maps, operator), by the operator's own im2col."""
    import numpy as np

    op = Conv2d(1, len(FILTERS), (3, 3), bias=False, algorithm="im2col")
    image, filters = np.array(IMAGE, float), np.array(FILTERS, float)
    patches = Im2col().patches(op, image[None, None])
    maps = run(op, image[None, None], weight=filters[:, None])[0]
    return image, filters.reshape(len(FILTERS), -1), patches, maps, op


@figure(12, "im2col", "windows become columns, filters rows, convolution one matrix product", "1.9")
def im2col(asked: Asked) -> Picture:
    """Above the image with its windows, below filters times patches."""
    image, rows, patches, maps, op = unfolded()
    positions, taps = patches.shape[1], patches.shape[0]
    side = maps.shape[1]
    groups = tuple(f"window {i + 1}" for i in range(positions))
    canvas = Canvas(600, 452, groups)
    for i in range(positions):
        x, y = 8 + i * 150, 34
        canvas.word(x + 2 * CELL, 14, groups[i], bold=True)
        for r in range(image.shape[0]):
            for c in range(image.shape[1]):
                inside = i // side <= r < i // side + 3 and i % side <= c < i % side + 3
                canvas.box(x + c * CELL, y + r * CELL, CELL, CELL, f"{image[r, c]:g}", size=11, edge=0.8,
                           group=groups[i] if inside else "", level=0.5 if inside else 0.06)  # fmt: skip
    top = 190
    at = {"rows": 8, "patches": 8 + taps * CELL + 34, "maps": 8 + (taps + positions) * CELL + 34 + 40}
    canvas.word(at["rows"] + taps * CELL / 2, top - 14, f"filters as rows: {len(rows)} x {taps}", bold=True)
    canvas.word(at["patches"] + positions * CELL / 2, top - 14, f"patches: {taps} x {positions}", bold=True)
    canvas.word(at["maps"] + positions * CELL / 2, top - 14, f"maps: {len(rows)} x {positions}", bold=True)
    mid = top + (taps - len(rows)) * CELL / 2
    for r in range(len(rows)):
        for c in range(taps):
            canvas.box(
                at["rows"] + c * CELL,
                mid + r * CELL,
                CELL,
                CELL,
                f"{rows[r, c]:g}",
                size=11,
                edge=0.8,
                level=0.3,
            )
    for r in range(taps):
        for c in range(positions):
            canvas.box(at["patches"] + c * CELL, top + r * CELL, CELL, CELL, f"{patches[r, c]:g}", size=11,
                       edge=0.8, group=groups[c], level=0.5)  # fmt: skip
    flat = maps.reshape(len(rows), -1)
    for r in range(len(rows)):
        for c in range(positions):
            canvas.box(
                at["maps"] + c * CELL,
                mid + r * CELL,
                CELL,
                CELL,
                f"{flat[r, c]:g}",
                size=11,
                edge=1.6,
                group=groups[c],
                level=0.3,
            )
    canvas.word(at["patches"] - 17, mid + CELL, "×", size=18)
    canvas.word(at["maps"] - 20, mid + CELL, "=", size=18)
    x = Tensor((1, 1, *image.shape))
    y = op.shape(x)
    assert isinstance(y, Tensor)
    copies = op.workspace(x, y) / x.nbytes
    large = Conv2d(64, 64, 3, 1, 1, bias=False, algorithm="im2col")
    maps_64 = Tensor((1, 64, 56, 56))
    grown = large.workspace(maps_64, maps_64) / maps_64.nbytes
    overlap = [int(v) for v in _uses(image, side).ravel()]
    canvas.word(8, top + taps * CELL + 18, f"the middle numbers of the image lie in {max(overlap)} "
                                           f"windows and are "
                f"copied {max(overlap)} times, the corners once", align="left", quiet=True)  # fmt: skip
    note = (
        f"{patches.size} numbers unfolded from {image.size}, {copies:.2f} times; a padded 3x3 convolution "
        f"over 56x56 "
        f"maps unfolds {grown:.0f} times its input"
    )
    alt = (
        f"Above, an image of {image.shape[0]} by {image.shape[1]} numbers with each of its {positions} "
        f"windows of 3 by 3"
        f" coloured. Below, a product of matrices: {len(rows)} filters as rows of {taps} numbers, times "
        f"{positions} "
        f"columns that hold the numbers of the windows in the same colours, gives {len(rows)} rows of "
        f"{positions} "
        "results: "
        + "; ".join(", ".join(f"{v:g}" for v in line) for line in flat)
        + ". These are the feature maps of the convolution."
    )
    made = Figure.of(canvas.chart(), name="im2col", title="Convolution as one matrix product over "
                                                          "unfolded windows",
                     alt=alt, source=note)  # fmt: skip
    table = tuple((r, *(float(v) for v in patches[r])) for r in range(taps))
    width = 4 + max(len(f"{v:g}") for v in [*rows.ravel(), *patches.ravel(), *flat.ravel()])
    lines = []
    for r in range(taps):
        left = "".join(f"{v:>4g}" for v in rows[r]) if r < len(rows) else " " * 4 * taps
        right = "".join(f"{v:>{width}g}" for v in flat[r]) if r < len(rows) else ""
        sign, same = (" x ", " = ") if r == 0 else ("   ", "   ")
        lines.append(left + sign + "".join(f"{v:>4g}" for v in patches[r]) + same + right)
    return Picture(figure=made, columns=("tap", *(g.replace(" ", "_") for g in groups)), rows=table,
                   lines=tuple(lines), note=note)  # fmt: skip


def _uses(image: Any, side: int) -> Any:
    """In how many windows each number of the image lies."""
    import numpy as np

    found = np.zeros_like(image)
    for i in range(side):
        for j in range(side):
            found[i : i + 3, j : j + 3] += 1
    return found
