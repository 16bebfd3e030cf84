"""EfficientNet: depth, width and resolution scaled together; and V2, whose first stages are fused."""

from dataclasses import dataclass
from math import ceil

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm
from pharos.models.mobile import conv_norm_act, gated_inverted_residual
from pharos.models.registry import model
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.pooling import GlobalAvgPool
from pharos.quantity.sizes import Size, agree, maximum, round_to


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks of one shape.

    Args:
        expand: wide channels per channel of the input.
        fused: expansion and depthwise filter are one convolution.
    """

    expand: int
    kernel: int
    stride: int
    channels: int
    blocks: int
    fused: bool = False


def fused_residual(g: Builder, x: Value, channels: int, stage: Stage, stride: int, eps: float) -> Value:
    """One convolution that expands and filters, a 1x1 that projects; add if it fits.

    Source: Tan and Le 2021, arXiv:2104.00298, figure 2.
    """
    wide, y = round_to(x.shape[1] * stage.expand, 8), x
    with g.scope("block"):
        if wide == x.shape[1]:
            y = conv_norm_act(g, y, channels, stage.kernel, "0", "silu", stride=stride, eps=eps)
        else:
            y = conv_norm_act(g, y, wide, stage.kernel, "0", "silu", stride=stride, eps=eps)
            y = conv_norm(g, y, channels, 1, name=("1.0", "1.1"), eps=eps)
    return g("add", Add(), y, x) if stride == 1 and agree(x.shape[1], channels) else y


def efficientnet(
    name: str, work: Workload, stages: tuple[Stage, ...], resolution: Size, classes: int, *, stem: int,
    last: int | None = None, width: float = 1.0, depth: float = 1.0, eps: float = 1e-5,
) -> Graph:  # fmt: skip
    """A stem, stages of gated inverted residuals, a 1x1 to `last` channels; names as torchvision's.

    Args:
        last: None means four times the last stage's channels.
        width, depth: factors of all channels, and of the blocks of each stage.
    """

    def block(g: Builder, x: Value, channels: int, stage: Stage, stride: int) -> Value:
        if stage.fused:
            return fused_residual(g, x, channels, stage, stride, eps)
        return gated_inverted_residual(
            g, x, round_to(x.shape[1] * stage.expand, 8), channels, stage.kernel, stride, function="silu",
            squeeze=maximum(1, x.shape[1] // 4), squeeze_function="silu", eps=eps,
        )  # fmt: skip

    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm_act(g, x, round_to(stem * width, 8), 3, "features.0", "silu", stride=2, eps=eps)
    for i, stage in enumerate(stages):
        at, channels = f"features.{i + 1}", round_to(stage.channels * width, 8)
        with g.scope(f"{at}.0"):
            x = block(g, x, channels, stage, stage.stride)

        def same(g: Builder, x: Value, channels: int = channels, stage: Stage = stage) -> Value:
            return block(g, x, channels, stage, 1)

        x = g.repeat(at, ceil(stage.blocks * depth) - 1, same, x, start=1)
    wide = 4 * x.shape[1] if last is None else last
    x = conv_norm_act(g, x, wide, 1, f"features.{len(stages) + 1}", "silu", eps=eps)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("classifier.1", Linear(wide, classes), x))


# Tan and Le 2019, arXiv:1905.11946, table 1
B0 = (Stage(1, 3, 1, 16, 1), Stage(6, 3, 2, 24, 2), Stage(6, 5, 2, 40, 2), Stage(6, 3, 2, 80, 3),
      Stage(6, 5, 1, 112, 3), Stage(6, 5, 2, 192, 4), Stage(6, 3, 1, 320, 1))  # fmt: skip
V1 = "Tan and Le 2019, arXiv:1905.11946; sizes and counts as torchvision's efficientnet"


@model("cnn", source=V1, parameters=5_288_548, macs=385_814_752)
def efficientnet_b0(
    work: Workload, *, width: float = 1.0, depth: float = 1.0, resolution: Size = 224, classes: int = 1000
) -> Graph:
    """EfficientNet-B0; width, depth and resolution scale it together."""
    return efficientnet("efficientnet_b0", work, B0, resolution, classes, stem=32, width=width, depth=depth)


@model("cnn", source=V1, parameters=7_794_184, macs=686_802_832)
def efficientnet_b1(work: Workload, *, resolution: Size = 240, classes: int = 1000) -> Graph:
    """EfficientNet-B1: 1.1 times as deep."""
    return efficientnet("efficientnet_b1", work, B0, resolution, classes, stem=32, depth=1.1)


@model("cnn", source=V1, parameters=9_109_994, macs=1_087_529_456)
def efficientnet_b2(work: Workload, *, resolution: Size = 288, classes: int = 1000) -> Graph:
    """EfficientNet-B2: 1.1 times as wide, 1.2 times as deep; at 260 x 260 in the paper."""
    return efficientnet("efficientnet_b2", work, B0, resolution, classes, stem=32, width=1.1, depth=1.2)


@model("cnn", source=V1, parameters=12_233_232, macs=1_827_141_392)
def efficientnet_b3(work: Workload, *, resolution: Size = 300, classes: int = 1000) -> Graph:
    """EfficientNet-B3: 1.2 times as wide, 1.4 times as deep."""
    return efficientnet("efficientnet_b3", work, B0, resolution, classes, stem=32, width=1.2, depth=1.4)


@model("cnn", source=V1, parameters=19_341_616, macs=4_393_771_024)
def efficientnet_b4(work: Workload, *, resolution: Size = 380, classes: int = 1000) -> Graph:
    """EfficientNet-B4: 1.4 times as wide, 1.8 times as deep."""
    return efficientnet("efficientnet_b4", work, B0, resolution, classes, stem=32, width=1.4, depth=1.8)


@model("cnn", source=V1, parameters=30_389_784, macs=10_266_384_752)
def efficientnet_b5(work: Workload, *, resolution: Size = 456, classes: int = 1000) -> Graph:
    """EfficientNet-B5: 1.6 times as wide, 2.2 times as deep."""
    return efficientnet(
        "efficientnet_b5", work, B0, resolution, classes, stem=32, width=1.6, depth=2.2, eps=0.001
    )


@model("cnn", source=V1, parameters=43_040_704, macs=19_067_593_536)
def efficientnet_b6(work: Workload, *, resolution: Size = 528, classes: int = 1000) -> Graph:
    """EfficientNet-B6: 1.8 times as wide, 2.6 times as deep."""
    return efficientnet(
        "efficientnet_b6", work, B0, resolution, classes, stem=32, width=1.8, depth=2.6, eps=0.001
    )


@model("cnn", source=V1, parameters=66_347_960, macs=37_745_884_192)
def efficientnet_b7(work: Workload, *, resolution: Size = 600, classes: int = 1000) -> Graph:
    """EfficientNet-B7: 2 times as wide, 3.1 times as deep."""
    return efficientnet(
        "efficientnet_b7", work, B0, resolution, classes, stem=32, width=2.0, depth=3.1, eps=0.001
    )


# Tan and Le 2021, arXiv:2104.00298, table 4 and the sizes of its reference code
S = (Stage(1, 3, 1, 24, 2, True), Stage(4, 3, 2, 48, 4, True), Stage(4, 3, 2, 64, 4, True),
     Stage(4, 3, 2, 128, 6), Stage(6, 3, 1, 160, 9), Stage(6, 3, 2, 256, 15))  # fmt: skip
M = (Stage(1, 3, 1, 24, 3, True), Stage(4, 3, 2, 48, 5, True), Stage(4, 3, 2, 80, 5, True),
     Stage(4, 3, 2, 160, 7), Stage(6, 3, 1, 176, 14), Stage(6, 3, 2, 304, 18),
     Stage(6, 3, 1, 512, 5))  # fmt: skip
L = (Stage(1, 3, 1, 32, 4, True), Stage(4, 3, 2, 64, 7, True), Stage(4, 3, 2, 96, 7, True),
     Stage(4, 3, 2, 192, 10), Stage(6, 3, 1, 224, 19), Stage(6, 3, 2, 384, 25),
     Stage(6, 3, 1, 640, 7))  # fmt: skip
V2 = "Tan and Le 2021, arXiv:2104.00298; counts as torchvision's efficientnet_v2"


@model("cnn", source=V2, parameters=21_458_488, macs=8_365_617_152)
def efficientnet_v2_s(work: Workload, *, resolution: Size = 384, classes: int = 1000) -> Graph:
    """EfficientNetV2-S: whole convolutions first, where depthwise ones leave the machine idle."""
    return efficientnet("efficientnet_v2_s", work, S, resolution, classes, stem=24, last=1280, eps=0.001)


@model("cnn", source=V2, parameters=54_139_356, macs=24_582_460_384)
def efficientnet_v2_m(work: Workload, *, resolution: Size = 480, classes: int = 1000) -> Graph:
    """EfficientNetV2-M."""
    return efficientnet("efficientnet_v2_m", work, M, resolution, classes, stem=24, last=1280, eps=0.001)


@model("cnn", source=V2, parameters=118_515_272, macs=56_079_699_008)
def efficientnet_v2_l(work: Workload, *, resolution: Size = 480, classes: int = 1000) -> Graph:
    """EfficientNetV2-L."""
    return efficientnet("efficientnet_v2_l", work, L, resolution, classes, stem=32, last=1280, eps=0.001)
