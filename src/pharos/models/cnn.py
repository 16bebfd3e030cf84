"""Convolutional networks: ResNet, MobileNetV2, DS-CNN."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm, inverted_residual, residual, separable
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.copies import Pad
from pharos.ops.linear import Linear
from pharos.ops.pooling import GlobalAvgPool, MaxPool2d
from pharos.quantity.sizes import Size, maximum, round_to


def basic(g: Builder, x: Value, channels: int, stride: int = 1) -> Value:
    """Two 3x3 convolutions (ResNet-18 and -34)."""
    y = conv_norm(g, x, channels, 3, name=("conv1", "bn1"), stride=stride)
    y = g("relu1", Activation("relu"), y)
    return conv_norm(g, y, channels, 3, name=("conv2", "bn2"))


def bottleneck(
    g: Builder, x: Value, channels: int, stride: int = 1, groups: int = 1, group_width: int = 64
) -> Value:
    """1x1 down, 3x3, 1x1 up by four; the stride sits in the 3x3 (the "v1.5" placement).

    The 3x3 has channels x group_width / 64 x groups channels: 64 is ResNet's own, 128 Wide ResNet's,
    32 groups of 4 ResNeXt's.
    """
    wide = channels * group_width // 64 * groups
    y = conv_norm(g, x, wide, 1, name=("conv1", "bn1"))
    y = g("relu1", Activation("relu"), y)
    y = conv_norm(g, y, wide, 3, name=("conv2", "bn2"), stride=stride, groups=groups)
    y = g("relu2", Activation("relu"), y)
    return conv_norm(g, y, channels * 4, 1, name=("conv3", "bn3"))


def resnet(name: str, work: Workload, depths: tuple[int, ...], *, deep: bool, classes: int,
           resolution: Size, groups: int = 1, group_width: int = 64) -> Graph:  # fmt: skip
    """The ResNet of He et al. with four stages of `depths` blocks; `deep` uses bottlenecks.

    Parameter names are torchvision's.
    """
    growth = 4 if deep else 1

    def block(g: Builder, x: Value, channels: int, stride: int = 1) -> Value:
        return (
            bottleneck(g, x, channels, stride, groups, group_width) if deep else basic(g, x, channels, stride)
        )

    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm(g, x, 64, 7, name=("conv1", "bn1"), stride=2)
    x = g("relu", Activation("relu"), x)
    x = g("maxpool", MaxPool2d(3, 2, 1), x)
    for stage, depth in enumerate(depths):
        channels = 64 * 2**stage
        stride = 1 if stage == 0 else 2
        layer = f"layer{stage + 1}"
        with g.scope(f"{layer}.0"):
            y = block(g, x, channels, stride)
            if stride != 1 or x.shape[1] != channels * growth:
                x = conv_norm(
                    g, x, channels * growth, 1, name=("downsample.0", "downsample.1"), stride=stride
                )
            x = g("relu", Activation("relu"), residual(g, x, lambda _, __, y=y: y))

        def same(g: Builder, x: Value, channels: int = channels) -> Value:
            x = residual(g, x, lambda g, x: block(g, x, channels))
            return g("relu", Activation("relu"), x)

        x = g.repeat(layer, depth - 1, same, x, start=1)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


HE2016 = "He et al. 2015, arXiv:1512.03385; counts as torchvision's resnet"


@model("cnn", source=HE2016, parameters=11_689_512, macs=1_814_073_344)
def resnet18(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNet-18: basic blocks 2-2-2-2."""
    return resnet("resnet18", work, (2, 2, 2, 2), deep=False, classes=classes, resolution=resolution)


@model("cnn", source=HE2016, parameters=21_797_672, macs=3_663_761_408)
def resnet34(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNet-34: basic blocks 3-4-6-3."""
    return resnet("resnet34", work, (3, 4, 6, 3), deep=False, classes=classes, resolution=resolution)


@model("cnn", source=HE2016, parameters=25_557_032, macs=4_089_184_256, lighthouse="compute")
def resnet50(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNet-50: bottlenecks 3-4-6-3, stride in the 3x3."""
    return resnet("resnet50", work, (3, 4, 6, 3), deep=True, classes=classes, resolution=resolution)


@model("cnn", source=HE2016, parameters=44_549_160, macs=7_801_405_440)
def resnet101(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNet-101: bottlenecks 3-4-23-3."""
    return resnet("resnet101", work, (3, 4, 23, 3), deep=True, classes=classes, resolution=resolution)


@model("cnn", source=HE2016, parameters=60_192_808, macs=11_513_626_624)
def resnet152(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNet-152: bottlenecks 3-8-36-3."""
    return resnet("resnet152", work, (3, 8, 36, 3), deep=True, classes=classes, resolution=resolution)


@model("cnn", source="Xie et al. 2016, arXiv:1611.05431; counts as torchvision's", parameters=25_028_904,
       macs=4_230_479_872)  # fmt: skip
def resnext50_32x4d(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNeXt-50: bottlenecks whose 3x3 is split in 32 groups of 4 channels."""
    return resnet("resnext50_32x4d", work, (3, 4, 6, 3), deep=True, classes=classes, resolution=resolution,
                  groups=32, group_width=4)  # fmt: skip


@model("cnn", source="Zagoruyko and Komodakis 2016, arXiv:1605.07146; counts as torchvision's",
       parameters=68_883_240, macs=11_398_021_120)  # fmt: skip
def wide_resnet50_2(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """Wide ResNet-50-2: the 3x3 of each bottleneck twice as wide."""
    return resnet("wide_resnet50_2", work, (3, 4, 6, 3), deep=True, classes=classes, resolution=resolution,
                  group_width=128)  # fmt: skip


@model("cnn", source="Xie et al. 2016, arXiv:1611.05431; counts as torchvision's",
       parameters=88_791_336, macs=16_414_015_488)  # fmt: skip
def resnext101_32x8d(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNeXt-101: 32 groups of 8 channels."""
    return resnet("resnext101_32x8d", work, (3, 4, 23, 3), deep=True, classes=classes, resolution=resolution,
                  groups=32, group_width=8)  # fmt: skip


@model("cnn", source="Xie et al. 2016, arXiv:1611.05431; counts as torchvision's",
       parameters=83_455_272, macs=15_460_270_080)  # fmt: skip
def resnext101_64x4d(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """ResNeXt-101: 64 groups of 4 channels."""
    return resnet("resnext101_64x4d", work, (3, 4, 23, 3), deep=True, classes=classes, resolution=resolution,
                  groups=64, group_width=4)  # fmt: skip


@model("cnn", source="Zagoruyko and Komodakis 2016, arXiv:1605.07146; counts as torchvision's",
       parameters=126_886_696, macs=22_753_050_624)  # fmt: skip
def wide_resnet101_2(work: Workload, *, classes: int = 1000, resolution: Size = 224) -> Graph:
    """Wide ResNet-101-2: the 3x3 of each bottleneck twice as wide."""
    return resnet("wide_resnet101_2", work, (3, 4, 23, 3), deep=True, classes=classes, resolution=resolution,
                  group_width=128)  # fmt: skip


# (expansion, channels, blocks, stride) of each stage: Sandler et al. 2018, arXiv:1801.04381, table 2
INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
            (6, 320, 1, 1))  # fmt: skip


@model("cnn", source="Sandler et al. 2018, arXiv:1801.04381, table 2; counts as torchvision's mobilenet_v2",
       parameters=3_504_872, macs=300_774_272, lighthouse="latency")  # fmt: skip
def mobilenet_v2(work: Workload, *, width: float = 1.0, resolution: Size = 224, classes: int = 1000) -> Graph:
    """MobileNetV2: inverted residuals; width scales channels, in steps of 8. Names as torchvision's."""
    g = Builder("mobilenet_v2", work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm(g, x, round_to(32 * width, 8), 3, name=("features.0.0", "features.0.1"), stride=2)
    x = g("features.0.2", Activation("relu6"), x)
    at = 1
    for expand, base, count, stride in INVERTED:
        channels = round_to(base * width, 8)
        with g.scope(f"features.{at}"):
            x = inverted_residual(g, x, channels, stride, expand)

        def same(g: Builder, x: Value, channels: int = channels, expand: int = expand) -> Value:
            return inverted_residual(g, x, channels, 1, expand)

        x = g.repeat("features", count - 1, same, x, start=at + 1)
        at += count
    last = round_to(1280 * maximum(1.0, width), 8)
    x = conv_norm(g, x, last, 1, name=(f"features.{at}.0", f"features.{at}.1"))
    x = g(f"features.{at}.2", Activation("relu6"), x)
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("classifier.1", Linear(last, classes), x))


def ds_cnn(name: str, work: Workload, channels: int, blocks: int, first: tuple[int, int], second: int,
           classes: int) -> Graph:  # fmt: skip
    """Keyword spotter on 49 x 10 MFCCs: one 10x4 convolution of stride `first`, separable blocks.

    Convolutions have biases beside batch norm, as the MLPerf Tiny reference does; a runtime folds
    both away.
    """
    g = Builder(name, work.precision)
    x = g.input("mfcc", (work.batch, 1, 49, 10))
    if first[1] == 1:
        # TensorFlow's "same" padding of a kernel of 4 is one column wider on the right
        x = g("pad", Pad(((0, 0), (0, 0), (0, 0), (0, 1))), x)
    x = conv_norm(g, x, channels, (10, 4), name=("conv", "norm"), stride=first, padding=(5, 1), bias=True)
    x = g("relu", Activation("relu"), x)
    start = 0
    if second != 1:
        with g.scope("blocks.0"):
            x = separable(g, x, channels, second, bias=True)
        start = 1
    x = g.repeat("blocks", blocks - start, lambda g, x: separable(g, x, channels, bias=True), x, start=start)
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(channels, classes), x))


HELLO = "Zhang et al. 2017, arXiv:1711.07128; layer sizes of its reference code"


@model("cnn", source=HELLO + "; MLPerf Tiny keyword spotting", parameters=23_756, macs=2_656_768,
       aliases=("ds-cnn", "dscnn", "kws-mlperf-tiny", "mlperf-tiny-kws"))  # fmt: skip
def ds_cnn_s(work: Workload, *, channels: int = 64, blocks: int = 4, classes: int = 12) -> Graph:
    """DS-CNN small, MLPerf Tiny's keyword spotter; 22,604 parameters once norms are folded."""
    return ds_cnn("ds_cnn_s", work, channels, blocks, (2, 2), 1, classes)


@model("cnn", source=HELLO, parameters=138_128, macs=9_816_384, aliases=("kws", "kws-ds-cnn"),
       lighthouse="power")  # fmt: skip
def ds_cnn_m(work: Workload, *, channels: int = 172, blocks: int = 4, classes: int = 12) -> Graph:
    """DS-CNN medium, the textbook's keyword spotter: 20 MFLOP, the 200 KB class."""
    return ds_cnn("ds_cnn_m", work, channels, blocks, (2, 1), 2, classes)


@model("cnn", source=HELLO, parameters=416_772, macs=28_327_812)
def ds_cnn_l(work: Workload, *, channels: int = 276, blocks: int = 5, classes: int = 12) -> Graph:
    """DS-CNN large."""
    return ds_cnn("ds_cnn_l", work, channels, blocks, (2, 1), 2, classes)
