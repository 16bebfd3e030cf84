"""Highway networks: layers that learn how much of their input to leave alone."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.cross import HighwayGate
from pharos.ops.linear import Linear
from pharos.quantity.errors import SizeError


def highway_layer(g: Builder, x: Value, function: str = "relu") -> Value:
    """T(x) H(x) + (1 - T(x)) x, H a layer with `function`, T one with a sigmoid: twice the weights.

    Source: Srivastava, Greff and Schmidhuber 2015, arXiv:1505.00387, equation 3.
    """
    width = x.shape[-1]
    h = g("act", Activation(function), g("plain", Linear(width, width), x))
    t = g("open", Activation("sigmoid"), g("gate", Linear(width, width), x))
    return g("mix", HighwayGate(), t, h, x)


@model("mlp", source="Srivastava et al. 2015, arXiv:1505.00387, section 3: MNIST, width 50, depth to 100; "
       "parameters by hand: 784*50+50 + depth*2*(50*50+50) + 50*10+10", parameters=39_760 + 8 * 5100,
       macs=784 * 50 + 8 * 5000 + 500)  # fmt: skip
def highway(
    work: Workload, *, width: int = 50, depth: int = 8, inputs: int = 784, classes: int = 10,
    activation: str = "relu", gated: bool = True,
) -> Graph:  # fmt: skip
    """Highway network of any depth over a flat input; ungated it is the plain network of equal depth."""
    if depth < 1:
        raise SizeError(f"needs a layer or more, not {depth}")
    g = Builder("highway", work.precision)
    x = g("first", Linear(inputs, width), g.input("x", (work.batch, inputs)))

    def plain(g: Builder, x: Value) -> Value:
        return g("act", Activation(activation), g("plain", Linear(width, width), x))

    x = g.repeat("layers", depth, (lambda g, x: highway_layer(g, x, activation)) if gated else plain, x)
    return g.finish(g("last", Linear(width, classes), x))
