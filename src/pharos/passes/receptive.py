"""Receptive fields: which part of the image a feature can see, and the resolution of each stage."""

from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv1d, Conv2d
from pharos.ops.conv_transpose import ConvTranspose2d
from pharos.ops.pooling import AvgPool2d, MaxPool2d
from pharos.quantity.sizes import Size, prod, same_shape


@dataclass(frozen=True, slots=True)
class Field:
    """What a feature sees along each spatial axis.

    Args:
        size: input positions in its window; None for all of them.
        jump: input positions between neighbouring features.
    """

    size: tuple[Any, ...] | None
    jump: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """A run of operators at one resolution.

    Args:
        first, last: operators that it begins and ends with.
        shape: of its last feature map, without the batch.
        field: what a feature of it sees.
        operators: kernels in it.
        macs, parameters: of all its operators.
    """

    first: str
    last: str
    shape: tuple[Size, ...]
    field: Field
    operators: int
    macs: Size
    parameters: Size


# Operators that look at every position, whatever the shapes say.
_SEE_ALL = {"attention", "global_avg_pool", "linear_attention", "reduce", "flatten"}


def fields(graph: Graph) -> dict[str, Field]:
    """The field of every feature map that a spatial input reaches, by the value's name.

    A window of k positions, dilated d times, over features j input positions apart adds (k - 1) d j to
    the window and its stride multiplies j; where branches meet the larger window counts. Sources: Araujo,
    Norris and Sim 2019, "Computing receptive fields of convolutional neural networks", Distill.
    """
    found: dict[str, Field] = {}
    for value in graph.inputs:
        axes = _axes(value.tensor)
        if axes:
            found[value.name] = Field((1,) * axes, (1,) * axes)
    for node in graph.expanded().nodes:
        assert isinstance(node, Node)
        seen = [found[name] for name in node.inputs if name in found]
        if not seen:
            continue
        made = _through(node, seen)
        for name, tensor in zip(node.outputs, node.outs, strict=True):
            if made.size is None or _axes(tensor) == len(made.jump):
                found[name] = made
    return found


def _axes(tensor: Tensor) -> int:
    """Spatial axes of an image or a signal [B, C, ...]; 0 for what is neither."""
    return tensor.rank - 2 if tensor.rank in (3, 4) and not tensor.dtype.startswith("int") else 0


def _through(node: Node, seen: list[Field]) -> Field:
    op, jump = node.op, tuple(max(f.jump[i] for f in seen) for i in range(len(seen[0].jump)))
    if node.op.kind in _SEE_ALL or any(f.size is None for f in seen):
        return Field(None, jump)
    size = tuple(max(f.size[i] for f in seen if f.size) for i in range(len(jump)))
    if isinstance(op, (Conv2d, Conv1d, MaxPool2d, AvgPool2d)):
        axes = op.axes()
        return Field(
            tuple(s + (k - 1) * d * j for s, j, (k, _, _, d) in zip(size, jump, axes, strict=True)),
            tuple(j * stride for j, (_, stride, _, _) in zip(jump, axes, strict=True)),
        )
    if isinstance(op, ConvTranspose2d):
        fine = [(j / s, k, d) for j, (k, s, _, d, _) in zip(jump, op.axes(), strict=True)]
        # an output lies under ceil(k / s) inputs, next to each other
        return Field(
            tuple(
                s + (-(-((k - 1) * d + 1) // int(j / small)) - 1) * j
                for s, j, (small, k, d) in zip(size, jump, fine, strict=True)
            ),
            tuple(int(small) if small == int(small) else small for small, _, _ in fine),
        )
    spatial = [t for t in node.ins if _axes(t) == len(jump)]
    kept = any(same_shape(t.shape[2:], node.outs[0].shape[2:]) for t in spatial)
    return Field(size, jump) if kept and _axes(node.outs[0]) == len(jump) else Field(None, jump)


def stages(graph: Graph) -> list[Stage]:
    """Runs of operators at one resolution, in order; the tail that sees everything is the last.

    Empty for a network without a spatial input or without windows over it.
    """
    plain = graph.expanded()
    seen = fields(graph)
    runs: list[tuple[tuple[Size, ...], list[Node]]] = []
    for node in plain.nodes:
        assert isinstance(node, Node)
        if node.outputs[0] not in seen or not any(name in seen for name in node.inputs):
            continue
        out = node.outs[0]
        place = out.shape[2:] if seen[node.outputs[0]].size is not None else ()
        if node.op.class_of(*node.io) == "view" and not node.weights:
            continue
        if not runs or not same_shape(runs[-1][0], place):
            runs.append((place, []))
        runs[-1][1].append(node)
    found = []
    for place, nodes in runs:
        last = nodes[-1]
        found.append(
            Stage(
                nodes[0].name, last.name, last.outs[0].shape[1:], seen[last.outputs[0]] if place else
                Field(None, seen[last.outputs[0]].jump), len(nodes),
                sum((n.op.work(*n.io).macs for n in nodes), start=0),
                sum((prod(t.shape) for n in nodes for k, t in n.weights.items() if k not in n.tied), start=0),
            )
        )  # fmt: skip
    windows = (Conv2d, Conv1d, MaxPool2d, AvgPool2d)
    return found if any(isinstance(n.op, windows) for n in plain.nodes if isinstance(n, Node)) else []
