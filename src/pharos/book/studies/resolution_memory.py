"""Resolution kept: what feature maps take if a network keeps places, as detection does, or gives them up."""

from pharos.book.study import study
from pharos.graph.count import count
from pharos.graph.graph import Builder, Graph
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.passes.memory import liveness
from pharos.passes.training import training
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("resolution-memory", "What does it take to keep the resolution of an image?", section="1.3")
def resolution_memory(
    *,
    side: int = 224,
    channels: int = 64,
    stages: int = 5,
    output_stride: int = 8,
    batch: int = 1,
    precision: str = "fp32",
) -> Told:
    """3 x 3 layers whose channels double from stage to stage, each halving its map until an output stride.

    Args:
        channels: of the first stage. output_stride: input pixels a side of the last map's pixel, as
            detection and segmentation keep; classification halves at every stage.
    """
    strides = [2**i for i in range(stages + 1)]
    if output_stride not in strides:
        raise InputError(f"an output stride is one of {', '.join(map(str, strides))}", where="output_stride")
    if side < strides[-1]:
        raise InputError(f"{side} pixels do not halve {stages} times", where="side")
    rows = []
    for stride in reversed(strides):
        graph = _stack(side, channels, stages, stride, batch, precision)
        step = training(graph, "sgd")
        last = graph.outputs[0].tensor
        made = count(graph)
        rows.append(
            (
                stride,
                int(last.shape[-1]),
                int(last.nbytes),
                int(liveness(graph).peak),
                int(step.saved),
                int(made.macs),
                int(made.weight_bytes),
            )
        )
    given_up, kept = rows[0], next(r for r in rows if r[0] == output_stride)
    return Told(
        answer=f"a last map of {kept[1]} x {kept[1]} instead of {given_up[1]} x {given_up[1]} takes "
        f"{kept[2] / given_up[2]:.3g}x the bytes, {kept[4] / given_up[4]:.3g}x those kept for training "
        f"({fmt(kept[4], 'B')}) and {kept[5] / given_up[5]:.3g}x the MACs, with the same weights",
        numbers={
            "last_map_ratio": kept[2] / given_up[2],
            "peak_ratio": kept[3] / given_up[3],
            "saved_ratio": kept[4] / given_up[4],
            "macs_ratio": kept[5] / given_up[5],
            "saved_bytes": kept[4],
            "saved_bytes_classification": given_up[4],
        },
        reasons=(
            "channels double while a map has a quarter of the places: each halving halves a stage's bytes",
            "a stage that does not halve its map costs twice the one before, and four times the MACs",
        ),
        columns=("output_stride", "side", "last_map", "peak", "saved", "macs", "weights"),
        rows=tuple(rows),
        evidence=(counted("maps, what is live at once, what a backward pass needs"),),
        note="bytes; peak: live at once at inference; saved: kept for gradients",
    )


def _stack(side: int, channels: int, stages: int, keep: int, batch: int, precision: str) -> Graph:
    g, stride, wide = Builder("stack", precision), 1, 3
    x = g.input("image", (batch, 3, side, side))
    for i in range(stages):
        by = 2 if stride < keep else 1
        x = g(f"conv{i}", Conv2d(wide, channels * 2**i, 3, by, 1, bias=False), x)
        x = g(f"act{i}", Activation("relu"), x)
        stride, wide = stride * by, channels * 2**i
    return g.finish(x)
