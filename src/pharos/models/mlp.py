"""Multi-layer perceptrons: dense pattern processing, every unit to every unit."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.linear import Linear
from pharos.quantity.errors import SizeError


def dense_stack(g: Builder, x: Value, widths: tuple[int, ...], name: str, *, last: str | None = None,
                function: str = "relu", bias: bool = True) -> Value:  # fmt: skip
    """Linear layers with an activation between them, and `last` after the final one.

    Names count layers and activations together, as ``nn.Sequential`` does.
    """
    for i, width in enumerate(widths):
        x = g(f"{name}.{2 * i}", Linear(x.shape[-1], width, bias), x)
        after = function if i < len(widths) - 1 else last
        if after is not None:
            x = g(f"{name}.{2 * i + 1}", Activation(after), x)
    return x


@model("mlp", source="hand: 784*4096 + 4096*4096 + 4096*10 weights, 8,202 biases",
       parameters=20_037_642, macs=20_029_440)  # fmt: skip
def mlp(
    work: Workload, *, widths: tuple[int, ...] = (784, 4096, 4096, 10), activation: str = "relu",
    bias: bool = True,
) -> Graph:  # fmt: skip
    """Multi-layer perceptron over a flat input; the default is the textbook's MNIST network."""
    if len(widths) < 2:
        raise SizeError(f"widths must name the input and at least one layer, not {widths}")
    g = Builder("mlp", work.precision)
    x = g.input("x", (work.batch, widths[0]))
    return g.finish(dense_stack(g, x, tuple(widths[1:]), "layers", function=activation, bias=bias))
