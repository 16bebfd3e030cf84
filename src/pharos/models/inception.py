"""GoogLeNet: modules that look at several scales at once and concatenate what they see."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.linear import Linear
from pharos.ops.pooling import GlobalAvgPool, MaxPool2d
from pharos.ops.shape_ops import Concat
from pharos.quantity.sizes import Size


def unit(g: Builder, x: Value, channels: int, kernel: int, name: str, stride: int = 1) -> Value:
    """Convolution, batch norm, ReLU."""
    x = conv_norm(g, x, channels, kernel, name=(f"{name}.conv", f"{name}.bn"), stride=stride, eps=0.001)
    return g(f"{name}.relu", Activation("relu"), x)


def module(g: Builder, x: Value, sizes: tuple[int, int, int, int, int, int]) -> Value:
    """1x1, 3x3, a second 3x3 and a pooled branch, each made cheap by a 1x1 in front.

    The third branch is the paper's 5x5 as the reference code has it, with a 3x3 kernel.

    Args:
        sizes: channels of the 1x1; before and of the 3x3; before and of the third; of the pooled branch.
    """
    one, before_three, three, before_five, five, pooled = sizes
    branches = [
        unit(g, x, one, 1, "branch1"),
        unit(g, unit(g, x, before_three, 1, "branch2.0"), three, 3, "branch2.1"),
        unit(g, unit(g, x, before_five, 1, "branch3.0"), five, 3, "branch3.1"),
        unit(g, g("branch4.0", MaxPool2d(3, 1, 1, ceil_mode=True), x), pooled, 1, "branch4.1"),
    ]
    return g("concat", Concat(1), *branches)


# Modules between the pools: Szegedy et al. 2014, arXiv:1409.4842, table 1
MODULES = (
    {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    {
        "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
)  # fmt: skip


@model("cnn", source="Szegedy et al. 2014, arXiv:1409.4842; counts as torchvision's googlenet",
       parameters=6_624_904, macs=1_498_376_192, aliases=("inception-v1",))  # fmt: skip
def googlenet(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """GoogLeNet (Inception v1) with batch norm, without the classifiers that only training uses."""
    g = Builder("googlenet", work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = unit(g, x, 64, 7, "conv1", 2)
    x = g("maxpool1", MaxPool2d(3, 2, ceil_mode=True), x)
    x = unit(g, unit(g, x, 64, 1, "conv2"), 192, 3, "conv3")
    x = g("maxpool2", MaxPool2d(3, 2, ceil_mode=True), x)
    for stage, modules in enumerate(MODULES):
        if stage:
            x = g(f"maxpool{stage + 2}", MaxPool2d(3 if stage == 1 else 2, 2, ceil_mode=True), x)
        for name, sizes in modules.items():
            with g.scope(f"inception{name}"):
                x = module(g, x, sizes)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))
