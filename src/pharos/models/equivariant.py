"""Networks for rotated digits: one that is equivariant to rotations by a quarter, and its plain twin."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.group_conv import ORDERS, GroupConv2d
from pharos.ops.norm import BatchNorm
from pharos.ops.pooling import MaxPool2d
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Reshape

COHEN2016 = (
    "Cohen and Welling 2016, arXiv:1602.07576, section 8.1; biases and norms as in the authors' code "
    "(gconv_experiments), which the counts follow by hand"
)


def group_norm_relu(
    g: Builder, x: Value, channels: int, group: str, name: str, *, lifting: bool = False
) -> Value:
    """Group convolution of 3x3, a batch norm that all planes of a channel share, ReLU."""
    with g.scope(name):
        x = g("conv", GroupConv2d(x.shape[1], channels, 3, group=group, lifting=lifting), x)
        x = g("bn", BatchNorm(channels), x)
        return g("act", Activation("relu"), x)


def plane_pool(g: Builder, x: Value, name: str) -> Value:
    """Maximum over 2 x 2 places of each plane of x[B, C, |G|, H, W]."""
    batch, channels, order, height, width = x.shape
    with g.scope(name):
        x = g("flat", Reshape((batch, channels * order, height, width)), x)
        x = g("max", MaxPool2d(2), x)
        return g("planes", Reshape((batch, channels, order, *x.shape[2:])), x)


@model("cnn", source=COHEN2016, parameters=24_680, macs=11_673_760, aliases=("p4-cnn",))
def p4cnn(work: Workload, *, channels: int = 10, classes: int = 10, group: str = "p4") -> Graph:
    """P4CNN: seven group convolutions on 28 x 28 digits, then the largest over the group.

    What it answers does not change when the digit is turned by a quarter. Its channels are those of
    z2cnn over the root of 4, for about as many parameters: 24,490 weights against 21,380.
    """
    g = Builder("p4cnn", work.precision)
    x = g.input("image", (work.batch, 1, 28, 28))
    x = group_norm_relu(g, x, channels, group, "l1", lifting=True)
    x = group_norm_relu(g, x, channels, group, "l2")
    x = plane_pool(g, x, "pool")
    for layer in range(3, 7):
        x = group_norm_relu(g, x, channels, group, f"l{layer}")
    x = g("top", GroupConv2d(channels, classes, 4, group=group), x)
    x = g("planes", Reshape((work.batch, classes, ORDERS[group])), x)
    return g.finish(g("group_pool", Reduce(2, function="max"), x))


@model("cnn", source=COHEN2016, parameters=21_750, macs=2_976_080, aliases=("z2-cnn",))
def z2cnn(work: Workload, *, channels: int = 20, classes: int = 10) -> Graph:
    """Z2CNN: the same seven layers without a group, equivariant to translations only."""
    g = Builder("z2cnn", work.precision)
    x = g.input("image", (work.batch, 1, 28, 28))
    for layer in range(1, 7):
        with g.scope(f"l{layer}"):
            x = conv_norm(g, x, channels, 3, name=("conv", "bn"), padding=0, bias=True)
            x = g("act", Activation("relu"), x)
        if layer == 2:
            x = g("pool", MaxPool2d(2), x)
    x = g("top", Conv2d(channels, classes, 4), x)
    return g.finish(g("flat", Reshape((work.batch, classes)), x))
