"""Super-resolution: a small network on the small image, and a shuffle at the end."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.pixel_shuffle import PixelShuffle
from pharos.quantity.sizes import Size


def sub_pixel(g: Builder, x: Value, channels: Size, factor: int, name: str) -> Value:
    """Enlarges by `factor`: a 3x3 convolution makes factor^2 channels for each, a shuffle places them."""
    x = g(name, Conv2d(x.shape[1], channels * factor**2, 3, padding=1), x)
    return g(f"{name}_shuffle", PixelShuffle(factor), x)


@model("cnn", source="Shi et al. 2016, arXiv:1609.05158, section 3.1: 64 and 32 channels", parameters=22_729)
def espcn(work: Workload, *, scale: int = 3, resolution: int = 85, channels: int = 1) -> Graph:
    """ESPCN: super-resolution by sub-pixel convolution, on the luminance channel."""
    g = Builder("espcn", work.precision)
    x = g.input("image", (work.batch, channels, resolution, resolution))
    x = g("conv1", Conv2d(channels, 64, 5, padding=2), x)
    x = g("act1", Activation("tanh"), x)
    x = g("conv2", Conv2d(64, 32, 3, padding=1), x)
    x = g("act2", Activation("tanh"), x)
    return g.finish(sub_pixel(g, x, channels, scale, "conv3"))
