"""Plain and residual networks of any depth: on CIFAR, with pre-activation, and wide ones."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm, residual
from pharos.models.cnn import basic, resnet
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.copies import Pad
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm
from pharos.ops.pooling import GlobalAvgPool, MaxPool2d
from pharos.ops.shape_ops import Flatten, Reshape, Slice
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import Size

HE2015 = "He et al. 2015, arXiv:1512.03385"
HE2016 = "He et al. 2016, arXiv:1603.05027"


def plain(name: str, work: Workload, depths: tuple[int, ...], resolution: Size, classes: int) -> Graph:
    """The layers of a ResNet of basic blocks, without its shortcuts."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm(g, x, 64, 7, name=("conv1", "bn1"), stride=2)
    x = g("relu", Activation("relu"), x)
    x = g("maxpool", MaxPool2d(3, 2, 1), x)

    def pair(g: Builder, x: Value, channels: int, stride: int = 1) -> Value:
        return g("relu2", Activation("relu"), basic(g, x, channels, stride))

    for stage, depth in enumerate(depths):
        layer = f"layer{stage + 1}"
        with g.scope(f"{layer}.0"):
            x = pair(g, x, 64 * 2**stage, 2 if stage else 1)
        x = g.repeat(layer, depth - 1, lambda g, x: pair(g, x, x.shape[1]), x, start=1)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


@model("cnn", source=f"{HE2015}, table 1, without shortcuts", parameters=11_515_688, macs=1_794_805_760)
def plain18(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """The plain network of 18 layers that ResNet-18 is compared with."""
    return plain("plain18", work, (2, 2, 2, 2), resolution, classes)


@model("cnn", source=f"{HE2015}, table 1, without shortcuts", parameters=21_623_848, macs=3_644_493_824)
def plain34(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """The plain network of 34 layers that does worse than one of 18."""
    return plain("plain34", work, (3, 4, 6, 3), resolution, classes)


@model("cnn", source=HE2015, parameters=11_515_688, macs=1_794_805_760)
def plain_net(
    work: Workload, *, depths: tuple[int, ...] = (2, 2, 2, 2), resolution: Size = 224, classes: int = 1000
) -> Graph:
    """A plain network of any depth: pairs of 3x3 convolutions in each stage."""
    return plain("plain_net", work, tuple(depths), resolution, classes)


@model("cnn", source=HE2015, parameters=25_557_032, macs=4_089_184_256)
def residual_net(
    work: Workload, *, depths: tuple[int, ...] = (3, 4, 6, 3), bottleneck: bool = True, groups: int = 1,
    group_width: int = 64, resolution: Size = 224, classes: int = 1000,
) -> Graph:  # fmt: skip
    """A ResNet, ResNeXt or Wide ResNet of any depth; the default is ResNet-50."""
    return resnet(
        "residual_net", work, tuple(depths), deep=bottleneck, classes=classes, resolution=resolution,
        groups=groups, group_width=group_width,
    )  # fmt: skip


def blocks_a_stage(name: str, depth: int, layers: int) -> int:
    """n of a network with 3 n blocks of so many layers, and a first and a last one."""
    if depth < layers * 3 + 2 or (depth - 2) % (3 * layers):
        raise SizeError(
            f"{name} cannot have {depth} layers", hint=f"depth is {3 * layers} n + 2 for n blocks a stage"
        )
    return (depth - 2) // (3 * layers)


def cifar(name: str, work: Workload, depth: int, resolution: Size, classes: int, *, shortcuts: bool = True,
          batch_norm: bool = True) -> Graph:  # fmt: skip
    """6 n + 2 layers in stages of 16, 32, 64 channels; shortcuts drop positions and add zero channels.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2 (shortcuts of option A).
    """
    g, count = Builder(name, work.precision), blocks_a_stage(name, depth, 2)

    def layer(g: Builder, x: Value, channels: int, number: str, stride: int = 1) -> Value:
        if batch_norm:
            return conv_norm(g, x, channels, 3, name=(f"conv{number}", f"bn{number}"), stride=stride)
        return g(f"conv{number}", Conv2d(x.shape[1], channels, 3, stride, 1), x)

    def block(g: Builder, x: Value, channels: int, stride: int = 1) -> Value:
        y = g("relu1", Activation("relu"), layer(g, x, channels, "1", stride))
        y = layer(g, y, channels, "2")
        if shortcuts:
            if stride != 1:
                x = g("columns", Slice(3, 0, None, stride), g("rows", Slice(2, 0, None, stride), x))
            more = channels - x.shape[1]
            if more:
                x = g("zeros", Pad(((0, 0), (more // 2, more - more // 2), (0, 0), (0, 0))), x)
            y = g("add", Add(), y, x)
        return g("relu2", Activation("relu"), y)

    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("relu", Activation("relu"), layer(g, x, 16, "1"))
    for stage, channels in enumerate((16, 32, 64)):
        with g.scope(f"layer{stage + 1}.0"):
            x = block(g, x, channels, 2 if stage else 1)
        x = g.repeat(f"layer{stage + 1}", count - 1, lambda g, x: block(g, x, x.shape[1]), x, start=1)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(64, classes), x))


@model("cnn", source=f"{HE2015}, section 4.2", parameters=269_722, macs=40_551_040)
def cifar_resnet(work: Workload, *, depth: int = 20, resolution: Size = 32, classes: int = 10) -> Graph:
    """A CIFAR ResNet of any depth 6 n + 2."""
    return cifar("cifar_resnet", work, depth, resolution, classes)


@model("cnn", source=f"{HE2015}, section 4.2", parameters=269_722, macs=40_551_040)
def cifar_plain(
    work: Workload, *, depth: int = 20, batch_norm: bool = True, resolution: Size = 32, classes: int = 10
) -> Graph:
    """A plain CIFAR network of any depth 6 n + 2, in which gradients vanish without batch norm."""
    return cifar("cifar_plain", work, depth, resolution, classes, shortcuts=False, batch_norm=batch_norm)


@model("cnn", source=f"{HE2015}, section 4.2 and table 6", parameters=269_722, macs=40_551_040)
def cifar_resnet20(work: Workload, *, resolution: Size = 32, classes: int = 10) -> Graph:
    """CIFAR ResNet of 20 layers."""
    return cifar("cifar_resnet20", work, 20, resolution, classes)


@model("cnn", source=f"{HE2015}, section 4.2 and table 6", parameters=853_018, macs=125_485_696)
def cifar_resnet56(work: Workload, *, resolution: Size = 32, classes: int = 10) -> Graph:
    """CIFAR ResNet of 56 layers."""
    return cifar("cifar_resnet56", work, 56, resolution, classes)


@model("cnn", source=f"{HE2015}, section 4.2 and table 6", parameters=1_727_962, macs=252_887_680)
def cifar_resnet110(work: Workload, *, resolution: Size = 32, classes: int = 10) -> Graph:
    """CIFAR ResNet of 110 layers."""
    return cifar("cifar_resnet110", work, 110, resolution, classes)


def activated(g: Builder, x: Value, name: str) -> Value:
    """Batch norm, then ReLU."""
    return g(f"{name}_relu", Activation("relu"), g(name, BatchNorm(x.shape[1]), x))


def preact_block(g: Builder, x: Value, channels: int, stride: int, deep: bool, project: bool) -> Value:
    """Norm and activation before each convolution, nothing after the addition.

    A projection reads what the first norm and activation give. The stride of a bottleneck is in its 3x3.
    Source: He et al. 2016, arXiv:1603.05027, figure 4(e).
    """
    first = activated(g, x, "norm1")
    if project:
        x = g("downsample.conv", Conv2d(x.shape[1], channels, 1, stride, bias=False), first)
    if not deep:
        y = g("conv1", Conv2d(first.shape[1], channels, 3, stride, 1, bias=False), first)
        y = g("conv2", Conv2d(channels, channels, 3, 1, 1, bias=False), activated(g, y, "norm2"))
    else:
        narrow = channels // 4
        y = g("conv1", Conv2d(first.shape[1], narrow, 1, bias=False), first)
        y = g("conv2", Conv2d(narrow, narrow, 3, stride, 1, bias=False), activated(g, y, "norm2"))
        y = g("conv3", Conv2d(narrow, channels, 1, bias=False), activated(g, y, "norm3"))
    return residual(g, x, lambda _, __: y)


def preact_stages(
    g: Builder, x: Value, depths: tuple[int, ...], widths: tuple[int, ...], deep: bool
) -> Value:
    """Stages of `depths` pre-activation blocks of `widths` channels, the last norm and activation."""
    for stage, (depth, channels) in enumerate(zip(depths, widths, strict=True)):
        at, stride = f"stages.{stage}.blocks", 2 if stage else 1
        with g.scope(f"{at}.0"):
            project = deep or stride != 1 or x.shape[1] != channels
            x = preact_block(g, x, channels, stride, deep, project)

        def same(g: Builder, x: Value, channels: int = channels) -> Value:
            return preact_block(g, x, channels, 1, deep, False)

        x = g.repeat(at, depth - 1, same, x, start=1)
    return activated(g, x, "norm")


def resnet_v2(
    name: str, work: Workload, depths: tuple[int, ...], resolution: Size, classes: int, deep: bool = True
) -> Graph:
    """A pre-activation ResNet for ImageNet; names as timm's resnetv2, whose head is a 1x1 convolution."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("stem.conv", Conv2d(3, 64, 7, 2, 3, bias=False), x)
    x = g("stem.pool", MaxPool2d(3, 2, 1), x)
    first = 256 if deep else 64
    x = preact_stages(g, x, depths, tuple(first * 2**i for i in range(len(depths))), deep)
    channels = x.shape[1]
    x = g("head.pool", GlobalAvgPool(), x)
    x = g("head.pixel", Reshape((work.batch, channels, 1, 1)), x)
    x = g("head.fc", Conv2d(channels, classes, 1), x)
    return g.finish(g("head.flatten", Flatten(1), x))


V2 = f"{HE2016}; counts as timm's resnetv2"


@model("cnn", source=V2, parameters=11_687_720, macs=1_814_073_344, aliases=("resnetv2_18",))
def resnet18_v2(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """Pre-activation ResNet-18."""
    return resnet_v2("resnet18_v2", work, (2, 2, 2, 2), resolution, classes, deep=False)


@model("cnn", source=V2, parameters=21_795_880, macs=3_663_761_408, aliases=("resnetv2_34",))
def resnet34_v2(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """Pre-activation ResNet-34."""
    return resnet_v2("resnet34_v2", work, (3, 4, 6, 3), resolution, classes, deep=False)


@model("cnn", source=V2, parameters=25_549_352, macs=4_089_184_256, aliases=("resnetv2_50",))
def resnet50_v2(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """Pre-activation ResNet-50: an unbroken path of additions from the stem to the last norm."""
    return resnet_v2("resnet50_v2", work, (3, 4, 6, 3), resolution, classes)


@model("cnn", source=V2, parameters=44_541_480, macs=7_801_405_440, aliases=("resnetv2_101",))
def resnet101_v2(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """Pre-activation ResNet-101."""
    return resnet_v2("resnet101_v2", work, (3, 4, 23, 3), resolution, classes)


@model("cnn", source=V2, parameters=60_185_128, macs=11_513_626_624, aliases=("resnetv2_152",))
def resnet152_v2(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """Pre-activation ResNet-152."""
    return resnet_v2("resnet152_v2", work, (3, 8, 36, 3), resolution, classes)


def preact_cifar(
    name: str, work: Workload, depth: int, widths: tuple[int, ...], deep: bool, resolution: Size, classes: int
) -> Graph:
    """Three stages of pre-activation blocks on small images, from a stem of 16 channels."""
    count = blocks_a_stage(name, depth, 3 if deep else 2)
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("stem.conv", Conv2d(3, 16, 3, 1, 1, bias=False), x)
    x = preact_stages(g, x, (count,) * 3, widths, deep)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


@model("cnn", source=f"{HE2016}, table 4: 1.7 M weights", parameters=1_703_258, macs=247_646_720)
def preact_resnet164(work: Workload, *, depth: int = 164, resolution: Size = 32, classes: int = 10) -> Graph:
    """Pre-activation CIFAR ResNet of 164 layers, or any depth 9 n + 2, of bottlenecks."""
    return preact_cifar("preact_resnet164", work, depth, (64, 128, 256), True, resolution, classes)


@model("cnn", source=f"{HE2016}, table 4: 10.2 M weights", parameters=10_327_706, macs=1_490_995_712,
       aliases=("resnet1001",))  # fmt: skip
def preact_resnet1001(work: Workload, *, resolution: Size = 32, classes: int = 10) -> Graph:
    """Pre-activation CIFAR ResNet of 1001 layers, which still trains."""
    return preact_cifar("preact_resnet1001", work, 1001, (64, 128, 256), True, resolution, classes)


@model("cnn", source="Zagoruyko and Komodakis 2016, arXiv:1605.07146, table 4: 36.5 M parameters",
       parameters=36_479_194, macs=5_243_328_768, aliases=("wrn-28-10",))  # fmt: skip
def wide_resnet28_10(
    work: Workload, *, depth: int = 28, width: int = 10, resolution: Size = 32, classes: int = 10
) -> Graph:
    """Wide ResNet-28-10 for CIFAR: few pre-activation blocks, ten times as wide; depth counts 6 n + 4."""
    # the paper counts the two projections that change the size as layers
    widths = (16 * width, 32 * width, 64 * width)
    return preact_cifar("wide_resnet28_10", work, depth - 2, widths, False, resolution, classes)
