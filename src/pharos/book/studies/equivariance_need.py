"""Equivariance: whether a task needs position to the end, and what keeping or dropping it moves and holds."""

from pharos.book.claims.cnn import is_equivariant
from pharos.book.study import study
from pharos.book.sums import out
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv2d
from pharos.ops.pooling import GlobalAvgPool
from pharos.quantity.errors import unknown
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told

# Task -> (whether position reaches the output, what it answers).
TASKS = {
    "classification": (False, "one answer an image"),
    "detection": (True, "boxes at places"),
    "segmentation": (True, "a class a pixel"),
    "generation": (True, "a value a pixel"),
}


@study("equivariance-need", "Must a network keep track of position for a task?", section="1.3")
def equivariance_need(
    *,
    task: str = "classification",
    channels: int = 2048,
    side: int = 7,
    stride: int = 2,
    shift: int = 1,
    precision: str = "fp32",
) -> Told:
    """Invariant at the end for a class, equivariant throughout where places are answered.

    Args:
        channels, side: the map before the head. stride, shift: of a layer, and of the input in pixels.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    keeps, says = TASKS[task]
    grid = Tensor((1, channels, side, side), precision)
    pooled = Tensor(out(GlobalAvgPool(), *grid.shape), precision)
    strided = Tensor(out(Conv2d(channels, channels, 3, stride, 1), *grid.shape), precision)
    holds = is_equivariant(stride=stride, by=shift)
    rows = []
    for name, (position, what) in TASKS.items():
        held = grid if position else pooled
        rows.append(
            (
                name,
                "equivariant throughout" if position else "invariant at the end",
                what,
                int(held.nbytes),
                float(held.nbytes / pooled.nbytes),
            )
        )
    held = grid if keeps else pooled
    return Told(
        answer=f"{task} wants {says}: {'equivariant throughout' if keeps else 'invariant at the end'}; "
        f"{fmt(held.nbytes, 'B')} reach the head, {fmt(grid.nbytes, 'B')} before it is pooled",
        numbers={
            "equivariant_throughout": keeps,
            "map_bytes": int(grid.nbytes),
            "pooled_bytes": int(pooled.nbytes),
            "head_bytes": int(held.nbytes),
            "after_stride_bytes": int(strided.nbytes),
            "layer_is_equivariant": holds,
        },
        reasons=(
            "a convolution moves its features with the input; a mean over all places forgets them",
            f"at stride {stride} a shift of {shift} pixel{'s' if shift > 1 else ''} "
            + ("moves the features as well" if holds else "is no shift of the features"),
        ),
        columns=("task", "needs", "answers", "head_bytes", "of_pooled"),
        rows=tuple(rows),
        evidence=(counted("bytes of the maps; the loops of a convolution on an image and a shifted one"),),
    )
