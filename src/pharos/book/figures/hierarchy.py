"""Figure 3: the stages of a CNN: resolution falls, channels grow, and a feature sees more of the image."""

from math import log2

from pharos.book.figure import Asked, Picture, figure
from pharos.book.sums import graph
from pharos.graph.graph import Graph
from pharos.passes.receptive import Stage, stages
from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt_count
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure
from pharos.report.text import share

MODEL = "resnet50"
WIDTH = 620


@figure(3, "feature-hierarchy", "CNN stages: resolution, channels, receptive field", "1.3", takes=("model",))
def feature_hierarchy(asked: Asked) -> Picture:
    """Above the maps of every stage; below the part of the image that a feature of it sees."""
    name = asked.model or MODEL
    made = graph(name)
    found = [s for s in stages(made) if len(s.shape) == 3]
    if not found:
        raise InputError(
            f"{name} has no stages of feature maps", where="--model", hint="try resnet50, vgg16 or lenet5"
        )
    image = [int(v) for v in made.inputs[0].shape[1:]]
    every = stages(made)
    tail = [s for s in every if len(s.shape) != 3]
    slots = len(found) + 1 + bool(tail)
    gap = WIDTH / slots
    canvas = Canvas(WIDTH, 372, ("image", "feature maps", "classes", "sees"))
    largest = max(image[1], *(int(s.shape[1]) for s in found))
    most = min(gap - 34, 88)
    floor = 128
    _maps(
        canvas, 0, gap, image, largest, most, floor, "image", f"{image[1]}×{image[2]}", f"{image[0]} colours"
    )
    total = sum(float(s.macs) for s in every) or 1.0
    rows = []
    see = gap - 22
    for i, s in enumerate(found, 1):
        high, wide = (int(v) for v in s.shape[1:])
        channels = _widest(made, high, wide)
        _maps(canvas, i, gap, [channels, high, wide], largest, most, floor, "feature maps", f"{high}×{wide}",
              f"{channels:,} channels")  # fmt: skip
        _stage_words(canvas, i, gap, s, total)
        _field(canvas, i, gap, s, image, see)
        size = s.field.size
        rows.append((i, s.first, s.last, channels, high, wide, None if size is None else int(size[0]),
                     int(s.field.jump[0]), s.operators, int(s.macs), int(s.parameters)))  # fmt: skip
    if tail:
        classes = tail[-1].shape[-1]
        x = len(found) * gap + gap + gap / 2
        canvas.box(x - 8, floor - 92, 16, 92, group="classes", level=0.5, detail=f"{classes} classes")
        canvas.word(x, floor + 14, f"{classes:,}", bold=True)
        canvas.word(x, floor + 30, "classes", size=11, quiet=True)
        _stage_words(canvas, len(found) + 1, gap, tail[-1], total)
        canvas.word(x, 302, ["sees", "all"], size=11)
        rows.append(
            (
                len(found) + 1,
                tail[-1].first,
                tail[-1].last,
                int(classes),
                1,
                1,
                None,
                None,
                tail[-1].operators,
                int(tail[-1].macs),
                int(tail[-1].parameters),
            )
        )
    for i in range(slots - 1):
        canvas.line([((i + 1) * gap - 13, floor - 34), ((i + 1) * gap + 7, floor - 34)])
    canvas.word(0, 224, "what one feature sees of the image", align="left", bold=True)
    canvas.word(gap / 2, 302, ["the image,", f"{image[1]}×{image[2]}"], size=11, quiet=True)
    told = "; ".join(
        f"{s.shape[1]} by {s.shape[2]} with up to {_widest(made, *s.shape[1:])} channels, each feature "
        f"seeing " + ("all" if s.field.size is None else f"{s.field.size[0]} by {s.field.size[1]} pixels")
        for s in found
    )
    alt = (
        f"The stages of {name} from left to right, after an image of {image[1]} by {image[2]}: {told}"
        + (f"; then {tail[-1].shape[-1]} classes" if tail else "")
        + ". Squares below show the part of the image that one feature of each stage sees."
    )
    drawn = Figure.of(canvas.chart(), name="feature-hierarchy",
                      title=f"{name}: from pixels to classes in {len(found)} resolutions", alt=alt,
                      source="resolution, channels and receptive field computed from the graph")  # fmt: skip
    columns = ("stage", "first", "last", "channels", "height", "width", "sees", "stride", "operators", "macs",
               "parameters")  # fmt: skip
    return Picture(figure=drawn, columns=columns, rows=tuple(rows),
                   note="sees: side of the window of input pixels, border included; more than the image "
                        "has is possible")  # fmt: skip


def _widest(made: Graph, high: int, wide: int) -> int:
    """Most channels of any map of this size."""
    shapes = [t.shape for node, _, _ in made.walk() for t in node.outs if t.rank == 4]
    return max(int(shape[1]) for shape in shapes if shape[2:] == (high, wide))


def _maps(
    canvas: Canvas,
    slot: int,
    gap: float,
    size: list[int],
    largest: int,
    most: float,
    floor: float,
    group: str,
    first: str,
    second: str,
) -> None:
    """A stack of squares: larger for more positions, more sheets for more channels."""
    # of a quarter of the positions, half the side: to scale the last maps could not be seen
    side = most * (size[1] / largest) ** 0.5
    sheets = max(1, min(7, round(log2(max(size[0], 1)) - 2))) if group != "image" else 3
    step = 3.2
    x = slot * gap + (gap - side - step * (sheets - 1)) / 2
    for k in reversed(range(sheets)):
        canvas.box(
            x + k * step,
            floor - side - k * step,
            side,
            side,
            group=group,
            level=0.3,
            edge=0.8,
            detail=f"{first}, {second}",
        )
    canvas.word(slot * gap + gap / 2, floor + 14, first, bold=True)
    canvas.word(slot * gap + gap / 2, floor + 30, second, size=11, quiet=True)


def _stage_words(canvas: Canvas, slot: int, gap: float, s: Stage, total: float) -> None:
    canvas.word(
        slot * gap + gap / 2,
        177,
        f"{fmt_count(s.parameters, 3)} weights" if s.parameters else "no weights",
        size=11,
        quiet=True,
    )
    canvas.word(slot * gap + gap / 2, 192, f"{share(float(s.macs), total)} of MACs", size=11, quiet=True)


def _field(canvas: Canvas, slot: int, gap: float, s: Stage, image: list[int], see: float) -> None:
    """The image as a frame with the window that a feature in its middle sees."""
    side = min(see, 92)
    x, y = slot * gap + (gap - side) / 2, 302 - side / 2
    canvas.box(x, y, side, side, level=0.08, edge=0.8)
    size = image[1] if s.field.size is None else int(s.field.size[0])
    part = min(side, side * size / image[1])
    canvas.box(x + (side - part) / 2, y + (side - part) / 2, part, part, group="sees", level=0.55, edge=1,
               detail=f"sees {size} of {image[1]} pixels")  # fmt: skip
    canvas.word(
        slot * gap + gap / 2, y + side + 13, f"{size} px" + (" (all)" if size >= image[1] else ""), size=11
    )
