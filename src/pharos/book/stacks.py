"""Stacks: plain and residual convolutional networks of any depth, on which gradients are watched."""

from typing import Any

from pharos.graph.graph import Builder, Graph, Node, Value
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm, GroupNorm
from pharos.ops.shape_ops import Flatten
from pharos.quantity.errors import unknown

NORMS = ("none", "batch", "layer")
STARTS = ("pytorch", "he", "orthogonal")


def stack(
    depth: int, *, skip: bool = False, norm: str = "none", function: str = "relu", channels: int = 8,
    side: int = 8, batch: int = 64, classes: int = 10,
) -> Graph:  # fmt: skip
    """`depth` convolutions of 3x3 between a first one and a dense layer, on images [batch, 1, side, side].

    Args:
        skip: two and two of them are the branch of a residual block, relu(x + branch(x)).
        norm: after every one of them: "none", "batch", or "layer" over channels and places.

    Raises:
        UnknownName: another norm.
    """
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    g = Builder("residual" if skip else "plain")
    x = g("stem", Conv2d(1, channels, 3, padding=1), g.input("image", (batch, 1, side, side)))
    x = g("stem_act", Activation(function), x)

    def layer(g: Builder, x: Value, name: str) -> Value:
        x = g(f"conv{name}", Conv2d(channels, channels, 3, padding=1), x)
        if norm == "batch":
            return g(f"norm{name}", BatchNorm(channels), x)
        return g(f"norm{name}", GroupNorm(1, channels), x) if norm == "layer" else x

    def plain(g: Builder, x: Value) -> Value:
        return g("act", Activation(function), layer(g, x, ""))

    def block(g: Builder, x: Value) -> Value:
        y = layer(g, g("act1", Activation(function), layer(g, x, "1")), "2")
        return g("act2", Activation(function), g("add", Add(), y, x))

    x = g.repeat("layers", depth // 2 if skip else depth, block if skip else plain, x)
    return g.finish(g("head", Linear(channels * side**2, classes), g("flat", Flatten(), x)))


def layers_of(graph: Graph) -> list[str]:
    """Names of the weights of the stack's convolutions, in order."""
    return [
        node.parameter("weight") for node in graph.expanded().nodes
        if isinstance(node, Node) and isinstance(node.op, Conv2d) and node.name != "stem"
    ]  # fmt: skip


def network(graph: Graph, start: str = "pytorch", gain: float = 1.0) -> Any:
    """The stack as a module in training mode, its convolutions initialised.

    Args:
        start: "pytorch", uniform within 1/sqrt(fan-in), its default; "he", normal of variance 2/fan-in
            (He et al. 2015, arXiv:1502.01852); "orthogonal", an orthogonal matrix at the middle of the
            filter and nothing around it (Xiao et al. 2018, arXiv:1806.05393), times `gain`.

    Raises:
        UnknownName: another start.
    """
    import torch

    from pharos.convert.to_torch import to_torch

    if start not in STARTS:
        raise unknown("start of weights", start, STARTS)
    made = to_torch(graph)
    names = dict(made.named_parameters())
    with torch.no_grad():
        if start != "pytorch":
            torch.nn.init.kaiming_normal_(names["stem.weight"], nonlinearity="relu")
        for name in layers_of(graph) if start != "pytorch" else ():
            weight, bias = names[name], names[name.removesuffix("weight") + "bias"]
            bias.zero_()
            if start == "he":
                torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
                continue
            weight.zero_()
            middle = weight.shape[-1] // 2
            weight[:, :, middle, middle] = gain * torch.nn.init.orthogonal_(torch.empty(weight.shape[:2]))
    return made.train()


def gradient_norms(made: Any, graph: Graph, images: Any, labels: Any) -> list[float]:
    """Norm of the loss's gradient by the weights of each layer of the stack, from the first to the last."""
    import torch

    made.zero_grad()
    torch.nn.functional.cross_entropy(made(images), labels).backward()
    names = dict(made.named_parameters())
    # in double precision, as squares of what is small are smaller than float32 goes
    return [float(names[name].grad.double().norm()) for name in layers_of(graph)]
