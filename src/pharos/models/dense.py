"""Skips that concatenate: DenseNet within a stage, U-Net across the whole network."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.conv_transpose import ConvTranspose2d
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm
from pharos.ops.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from pharos.ops.shape_ops import Concat
from pharos.quantity.sizes import Size


def norm_relu_conv(g: Builder, x: Value, number: str, channels: int, kernel: int) -> Value:
    """Batch norm, ReLU, then a convolution that keeps the size; pre-activation order."""
    x = g(f"norm{number}", BatchNorm(x.shape[1]), x)
    x = g(f"relu{number}", Activation("relu"), x)
    return g(f"conv{number}", Conv2d(x.shape[1], channels, kernel, 1, kernel // 2, bias=False), x)


def densenet(
    name: str, work: Workload, depths: tuple[int, ...], growth: int, stem: int, resolution: Size, classes: int
) -> Graph:
    """Each layer reads all before it in its stage; between stages channels and sides halve."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    with g.scope("features"):
        x = conv_norm(g, x, stem, 7, name=("conv0", "norm0"), stride=2)
        x = g("relu0", Activation("relu"), x)
        x = g("pool0", MaxPool2d(3, 2, 1), x)
        for stage, depth in enumerate(depths):
            # as the reference does: every layer joins all features anew, so each is kept on its own
            with g.scope(f"denseblock{stage + 1}"):
                features = [x]
                for layer in range(depth):
                    # each layer's caller holds what it joined until the layer returns
                    y = g(f"concat{layer + 1}", Concat(1), *features) if layer else x
                    with g.scope(f"denselayer{layer + 1}"):
                        y = norm_relu_conv(g, y, "1", 4 * growth, 1)
                        features.append(norm_relu_conv(g, y, "2", growth, 3))
                x = g("concat", Concat(1), *features)
            if stage < len(depths) - 1:
                with g.scope(f"transition{stage + 1}"):
                    x = g("norm", BatchNorm(x.shape[1]), x)
                    x = g("relu", Activation("relu"), x)
                    x = g("conv", Conv2d(x.shape[1], x.shape[1] // 2, 1, bias=False), x)
                    x = g("pool", AvgPool2d(2), x)
        x = g("norm5", BatchNorm(x.shape[1]), x)
        x = g("relu5", Activation("relu"), x)
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("classifier", Linear(x.shape[1], classes), x))


HUANG = "Huang et al. 2016, arXiv:1608.06993; counts as torchvision's densenet"


@model("cnn", source=HUANG, parameters=7_978_856, macs=2_834_161_664)
def densenet121(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """DenseNet-121: growth 32."""
    return densenet("densenet121", work, (6, 12, 24, 16), 32, 64, resolution, classes)


@model("cnn", source=HUANG, parameters=28_681_000, macs=7_727_907_072)
def densenet161(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """DenseNet-161: growth 48."""
    return densenet("densenet161", work, (6, 12, 36, 24), 48, 96, resolution, classes)


@model("cnn", source=HUANG, parameters=14_149_480, macs=3_359_843_328)
def densenet169(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """DenseNet-169: growth 32."""
    return densenet("densenet169", work, (6, 12, 32, 32), 32, 64, resolution, classes)


@model("cnn", source=HUANG, parameters=20_013_928, macs=4_291_365_888)
def densenet201(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """DenseNet-201: growth 32."""
    return densenet("densenet201", work, (6, 12, 48, 32), 32, 64, resolution, classes)


@model("cnn", source="Ronneberger et al. 2015, arXiv:1505.04597, padded; hand sum of its kernels",
       parameters=31_031_745)  # fmt: skip
def unet(work: Workload, *, resolution: Size = 256, channels: int = 3, width: int = 64, depth: int = 4,
         classes: int = 1) -> Graph:  # fmt: skip
    """U-Net: contracting and expanding halves joined by long skips, for segmentation."""
    g = Builder("unet", work.precision)
    x = g.input("image", (work.batch, channels, resolution, resolution))

    def double(x: Value, wide: int) -> Value:
        for i in (1, 2):
            x = g(f"conv{i}", Conv2d(x.shape[1], wide, 3, 1, 1), x)
            x = g(f"relu{i}", Activation("relu"), x)
        return x

    skips = []
    for level in range(depth):
        with g.scope(f"down.{level}"):
            x = double(x, width * 2**level)
            skips.append(x)
            x = g("pool", MaxPool2d(2), x)
    with g.scope("bottom"):
        x = double(x, width * 2**depth)
    for level in reversed(range(depth)):
        with g.scope(f"up.{level}"):
            x = g("transpose", ConvTranspose2d(x.shape[1], width * 2**level, 2, 2), x)
        # what is joined is held until the level returns
        x = g(f"concat{level}", Concat(1), skips[level], x)
        with g.scope(f"up.{level}"):
            x = double(x, width * 2**level)
    return g.finish(g("head", Conv2d(width, classes, 1), x))
