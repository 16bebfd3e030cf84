"""The networks that made convolution: LeNet-5, AlexNet, VGG, MobileNetV1, SqueezeNet."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.ops.local_norm import LocalResponseNorm
from pharos.ops.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from pharos.ops.shape_ops import Concat, Flatten
from pharos.quantity.sizes import Size, round_to


def conv_relu(
    g: Builder, x: Value, name: str, channels: int, kernel: int, stride: int = 1, padding: int = 0,
    groups: int = 1,
) -> Value:  # fmt: skip
    """Convolution with bias, then ReLU."""
    x = g(name, Conv2d(x.shape[1], channels, kernel, stride, padding, groups=groups), x)
    return g(f"{name}_relu", Activation("relu"), x)


def head(g: Builder, x: Value, widths: tuple[int, ...], names: tuple[str, ...]) -> Value:
    """Flatten, then linear layers with ReLU between them."""
    x = g("flatten", Flatten(1), x)
    for i, (width, name) in enumerate(zip(widths, names, strict=True)):
        x = g(name, Linear(x.shape[1], width), x)
        if i < len(widths) - 1:
            x = g(f"{name}_relu", Activation("relu"), x)
    return x


@model("cnn", parameters=61_706, macs=416_520, aliases=("lenet",),
       source="LeCun et al. 1998, every map connected, average pooling: 60 k weights")  # fmt: skip
def lenet5(work: Workload, *, classes: int = 10) -> Graph:
    """LeNet-5 on 32 x 32 digits: two convolutions of 5 x 5 with tanh, three dense layers."""
    g = Builder("lenet5", work.precision)
    x = g.input("image", (work.batch, 1, 32, 32))
    for i, channels in enumerate((6, 16)):
        x = g(f"conv{i + 1}", Conv2d(x.shape[1], channels, 5), x)
        x = g(f"tanh{i + 1}", Activation("tanh"), x)
        x = g(f"pool{i + 1}", AvgPool2d(2), x)
    return g.finish(head(g, x, (120, 84, classes), ("fc1", "fc2", "fc3")))


@model("cnn", parameters=61_100_840, macs=714_188_480,
       source="Krizhevsky 2014, arXiv:1404.5997 (one tower); counts as torchvision's alexnet")  # fmt: skip
def alexnet(work: Workload, *, classes: int = 1000) -> Graph:
    """AlexNet, the one-tower form, at 224 x 224."""
    g = Builder("alexnet", work.precision)
    x = g.input("image", (work.batch, 3, 224, 224))
    x = conv_relu(g, x, "features.0", 64, 11, 4, 2)
    x = g("features.2", MaxPool2d(3, 2), x)
    x = conv_relu(g, x, "features.3", 192, 5, 1, 2)
    x = g("features.5", MaxPool2d(3, 2), x)
    for at, channels in ((6, 384), (8, 256), (10, 256)):
        x = conv_relu(g, x, f"features.{at}", channels, 3, 1, 1)
    x = g("features.12", MaxPool2d(3, 2), x)
    return g.finish(head(g, x, (4096, 4096, classes), ("classifier.1", "classifier.4", "classifier.6")))


@model("cnn", parameters=60_965_224, macs=724_406_816,
       source="Krizhevsky, Sutskever and Hinton 2012, section 3.5")  # fmt: skip
def alexnet_two_towers(work: Workload, *, classes: int = 1000) -> Graph:
    """AlexNet as published: two towers that meet at layer 3, normed by their neighbours, 227 x 227."""
    g = Builder("alexnet_two_towers", work.precision)
    x = g.input("image", (work.batch, 3, 227, 227))
    x = conv_relu(g, x, "conv1", 96, 11, 4, 0)
    x = g("pool1", MaxPool2d(3, 2), g("norm1", LocalResponseNorm(5, 5e-4, 0.75, 2.0), x))
    x = conv_relu(g, x, "conv2", 256, 5, 1, 2, groups=2)
    x = g("pool2", MaxPool2d(3, 2), g("norm2", LocalResponseNorm(5, 5e-4, 0.75, 2.0), x))
    x = conv_relu(g, x, "conv3", 384, 3, 1, 1)
    x = conv_relu(g, x, "conv4", 384, 3, 1, 1, groups=2)
    x = conv_relu(g, x, "conv5", 256, 3, 1, 1, groups=2)
    x = g("pool5", MaxPool2d(3, 2), x)
    return g.finish(head(g, x, (4096, 4096, classes), ("fc6", "fc7", "fc8")))


# Convolutions per stage of 64, 128, 256, 512, 512 channels: Simonyan and Zisserman 2014, table 1
VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
VGG_SOURCE = "Simonyan and Zisserman 2014, arXiv:1409.1556, table 1; counts as torchvision's vgg"


def vgg(work: Workload, depth: int, classes: int) -> Graph:
    """VGG without batch norm; names as torchvision's."""
    g = Builder(f"vgg{depth}", work.precision)
    x, at = g.input("image", (work.batch, 3, 224, 224)), 0
    for count, channels in zip(VGG[depth], (64, 128, 256, 512, 512), strict=True):
        for _ in range(count):
            x = conv_relu(g, x, f"features.{at}", channels, 3, 1, 1)
            at += 2
        x = g(f"features.{at}", MaxPool2d(2), x)
        at += 1
    return g.finish(head(g, x, (4096, 4096, classes), ("classifier.0", "classifier.3", "classifier.6")))


@model("cnn", source=VGG_SOURCE, parameters=132_863_336, macs=7_609_090_048)
def vgg11(work: Workload, *, classes: int = 1000) -> Graph:
    """VGG-11."""
    return vgg(work, 11, classes)


@model("cnn", source=VGG_SOURCE, parameters=133_047_848, macs=11_308_466_176)
def vgg13(work: Workload, *, classes: int = 1000) -> Graph:
    """VGG-13."""
    return vgg(work, 13, classes)


@model("cnn", source=VGG_SOURCE, parameters=138_357_544, macs=15_470_264_320)
def vgg16(work: Workload, *, classes: int = 1000) -> Graph:
    """VGG-16."""
    return vgg(work, 16, classes)


@model("cnn", source=VGG_SOURCE, parameters=143_667_240, macs=19_632_062_464)
def vgg19(work: Workload, *, classes: int = 1000) -> Graph:
    """VGG-19."""
    return vgg(work, 19, classes)


# (channels, stride) of each separable layer: Howard et al. 2017, arXiv:1704.04861, table 1
SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
             (512, 1), (512, 1), (1024, 2), (1024, 1))  # fmt: skip


@model("cnn", source="Howard et al. 2017, arXiv:1704.04861, table 1", parameters=4_231_976, macs=568_740_352,
       aliases=("mobilenet",))  # fmt: skip
def mobilenet_v1(work: Workload, *, width: float = 1.0, resolution: Size = 224, classes: int = 1000) -> Graph:
    """MobileNetV1: thirteen separable layers; width scales channels, in steps of 8."""
    g = Builder("mobilenet_v1", work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm(g, x, round_to(32 * width, 8), 3, name=("stem", "stem_norm"), stride=2)
    x = g("stem_relu", Activation("relu"), x)
    for i, (base, stride) in enumerate(SEPARABLE):
        with g.scope(f"layers.{i}"):
            x = conv_norm(
                g, x, x.shape[1], 3, name=("depthwise", "depthwise_norm"), stride=stride, groups=x.shape[1]
            )
            x = g("depthwise_relu", Activation("relu"), x)
            x = conv_norm(g, x, round_to(base * width, 8), 1, name=("pointwise", "pointwise_norm"))
            x = g("pointwise_relu", Activation("relu"), x)
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


# (squeeze, expand) of each fire module, and before which of them a pool stands
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
IANDOLA = "Iandola et al. 2016, arXiv:1602.07360; counts as torchvision's squeezenet"


def squeezenet(
    name: str, work: Workload, stem: tuple[int, int], pools: tuple[int, ...], resolution: Size, classes: int
) -> Graph:
    """Fire modules squeeze by 1x1, expand by 1x1 and 3x3, and concatenate; names as torchvision's.

    Args:
        stem: channels and kernel of the first convolution.
        pools: fire modules, counted from 0, before which a pool stands.
    """
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_relu(g, x, "features.0", *stem, 2)
    x = g("features.2", MaxPool2d(3, 2, ceil_mode=True), x)
    at = 3
    for i, (squeeze, expand) in enumerate(FIRES):
        if i in pools:
            x = g(f"features.{at}", MaxPool2d(3, 2, ceil_mode=True), x)
            at += 1
        with g.scope(f"features.{at}"):
            x = conv_relu(g, x, "squeeze", squeeze, 1)
            one = conv_relu(g, x, "expand1x1", expand, 1)
            three = conv_relu(g, x, "expand3x3", expand, 3, 1, 1)
            x = g("concat", Concat(1), one, three)
        at += 1
    x = conv_relu(g, x, "classifier.1", classes, 1)
    return g.finish(g("pool", GlobalAvgPool(), x))


@model("cnn", source=IANDOLA, parameters=1_248_424, macs=818_924_576, aliases=("squeezenet",))
def squeezenet1_0(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """SqueezeNet 1.0: AlexNet's accuracy with a fiftieth of its weights."""
    return squeezenet("squeezenet1_0", work, (96, 7), (3, 7), resolution, classes)


@model("cnn", source=IANDOLA, parameters=1_235_496, macs=349_151_936)
def squeezenet1_1(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """SqueezeNet 1.1: a smaller stem and earlier pools, less than half the work."""
    return squeezenet("squeezenet1_1", work, (64, 3), (2, 4), resolution, classes)
