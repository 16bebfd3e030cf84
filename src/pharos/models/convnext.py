"""ConvNeXt: a convolutional network with the proportions of a transformer."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add, Mul
from pharos.ops.linear import Linear
from pharos.ops.norm import LayerNorm
from pharos.ops.pooling import GlobalAvgPool
from pharos.ops.shape_ops import Transpose
from pharos.ops.stored import Stored
from pharos.quantity.sizes import Size

# Kernels that take channels last read a map by strides: nothing is copied.
TO_LAST = Transpose((0, 2, 3, 1), view=True)
TO_FIRST = Transpose((0, 3, 1, 2), view=True)


def channel_norm(g: Builder, x: Value, name: str) -> Value:
    """Layer norm over the channels of x[B, C, H, W]."""
    x = g(f"{name}_last", TO_LAST, x)
    x = g(name, LayerNorm(x.shape[-1], 1e-6), x)
    return g(f"{name}_first", TO_FIRST, x)


def block(g: Builder, x: Value) -> Value:
    """Depthwise 7x7, norm, two linear layers four times as wide between them, scaled by channel, added.

    Source: Liu et al. 2022, arXiv:2201.03545, figure 4.
    """
    channels = x.shape[1]
    with g.scope("block"):
        y = g("0", Conv2d(channels, channels, 7, padding=3, groups=channels), x)
        y = g("1", TO_LAST, y)
        y = g("2", LayerNorm(channels, 1e-6), y)
        y = g("3", Linear(channels, 4 * channels), y)
        y = g("4", Activation("gelu"), y)
        y = g("5", Linear(4 * channels, channels), y)
        y = g("6", TO_FIRST, y)
    scale = g("scale", Stored((channels, 1, 1), key="layer_scale"), home="")
    return g("add", Add(), g("scaled", Mul(), y, scale), x)


def convnext(
    name: str, work: Workload, depths: tuple[int, int, int, int], width: int, resolution: Size, classes: int
) -> Graph:
    """Four stages of `depths` blocks, `width` channels in the first; names as torchvision's."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("features.0.0", Conv2d(3, width, 4, 4), x)
    x = channel_norm(g, x, "features.0.1")
    for stage, depth in enumerate(depths):
        if stage:
            x = channel_norm(g, x, f"features.{2 * stage}.0")
            x = g(f"features.{2 * stage}.1", Conv2d(x.shape[1], 2 * x.shape[1], 2, 2), x)
        x = g.repeat(f"features.{2 * stage + 1}", depth, block, x)
    x = g("avgpool", GlobalAvgPool(), x)
    x = g("classifier.0", LayerNorm(x.shape[1], 1e-6), x)
    return g.finish(g("classifier.2", Linear(x.shape[1], classes), x))


LIU = "Liu et al. 2022, arXiv:2201.03545; counts as torchvision's convnext"


@model("cnn", source=LIU, parameters=28_589_128, macs=4_455_531_264)
def convnext_tiny(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ConvNeXt-T: stages of 3-3-9-3 blocks."""
    return convnext("convnext_tiny", work, (3, 3, 9, 3), 96, resolution, classes)


@model("cnn", source=LIU, parameters=50_223_688, macs=8_683_712_256)
def convnext_small(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ConvNeXt-S: stages of 3-3-27-3 blocks."""
    return convnext("convnext_small", work, (3, 3, 27, 3), 96, resolution, classes)


@model("cnn", source=LIU, parameters=88_591_464, macs=15_354_729_472)
def convnext_base(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ConvNeXt-B: as S, a third wider."""
    return convnext("convnext_base", work, (3, 3, 27, 3), 128, resolution, classes)


@model("cnn", source=LIU, parameters=197_767_336, macs=34_361_433_600)
def convnext_large(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ConvNeXt-L: as S, twice as wide."""
    return convnext("convnext_large", work, (3, 3, 27, 3), 192, resolution, classes)
