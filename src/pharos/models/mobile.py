"""Networks for phones: MobileNetV3, MnasNet, ShuffleNetV2."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm, squeeze_excite
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.pooling import GlobalAvgPool, MaxPool2d
from pharos.ops.shape_ops import Concat, Reshape, Split, Transpose
from pharos.quantity.sizes import Size, agree, is_array, round_to


def conv_norm_act(
    g: Builder, x: Value, channels: int, kernel: int, name: str, function: str, *, stride: int = 1,
    groups: int = 1, eps: float = 1e-5,
) -> Value:  # fmt: skip
    """Convolution, batch norm, activation, called name.0, name.1, name.2."""
    x = conv_norm(
        g, x, channels, kernel, name=(f"{name}.0", f"{name}.1"), stride=stride, groups=groups, eps=eps
    )
    return g(f"{name}.2", Activation(function), x)


def gated_inverted_residual(
    g: Builder, x: Value, wide: Size, channels: Size, kernel: int, stride: int, *, function: str,
    squeeze: Size = 0, squeeze_function: str = "relu", gate: str = "sigmoid", eps: float = 1e-5,
) -> Value:  # fmt: skip
    """Expand by 1x1, filter depthwise, squeeze and excite, project by 1x1; add if it fits.

    Names as torchvision's MobileNetV3 and EfficientNet. Source: Tan et al. 2018, arXiv:1807.11626.

    Args:
        wide: channels between; as many as x has means no expansion.
        squeeze: channels that the gate is computed from; 0 for no gate.
    """
    y, step = x, 0
    with g.scope("block"):
        if not agree(wide, x.shape[1]):
            y = conv_norm_act(g, y, wide, 1, "0", function, eps=eps)
            step = 1
        y = conv_norm_act(g, y, wide, kernel, str(step), function, stride=stride, groups=wide, eps=eps)
        if is_array(squeeze) or squeeze:
            step += 1
            with g.scope(str(step)):
                y = squeeze_excite(g, y, squeeze, function=squeeze_function, gate=gate)
        y = conv_norm(g, y, channels, 1, name=(f"{step + 1}.0", f"{step + 1}.1"), eps=eps)
    return g("add", Add(), y, x) if stride == 1 and agree(x.shape[1], channels) else y


# (kernel, expanded, channels, gated, activation, stride): Howard et al. 2019, arXiv:1905.02244, tables 1, 2
LARGE = (
    (3, 16, 16, False, "relu", 1), (3, 64, 24, False, "relu", 2), (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2), (5, 120, 40, True, "relu", 1), (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hardswish", 2), (3, 200, 80, False, "hardswish", 1),
    (3, 184, 80, False, "hardswish", 1), (3, 184, 80, False, "hardswish", 1),
    (3, 480, 112, True, "hardswish", 1), (3, 672, 112, True, "hardswish", 1),
    (5, 672, 160, True, "hardswish", 2), (5, 960, 160, True, "hardswish", 1),
    (5, 960, 160, True, "hardswish", 1),
)  # fmt: skip
SMALL = (
    (3, 16, 16, True, "relu", 2), (3, 72, 24, False, "relu", 2), (3, 88, 24, False, "relu", 1),
    (5, 96, 40, True, "hardswish", 2), (5, 240, 40, True, "hardswish", 1),
    (5, 240, 40, True, "hardswish", 1), (5, 120, 48, True, "hardswish", 1),
    (5, 144, 48, True, "hardswish", 1), (5, 288, 96, True, "hardswish", 2),
    (5, 576, 96, True, "hardswish", 1), (5, 576, 96, True, "hardswish", 1),
)  # fmt: skip


def mobilenet_v3(
    name: str, work: Workload, blocks: tuple[tuple[int, int, int, bool, str, int], ...], last: int,
    width: float, resolution: Size, classes: int,
) -> Graph:  # fmt: skip
    """MobileNetV3: inverted residuals, some gated; `last` channels before the classifier."""

    def scaled(channels: int) -> Size:
        return round_to(channels * width, 8)

    g, eps = Builder(name, work.precision), 0.001
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm_act(g, x, scaled(16), 3, "features.0", "hardswish", stride=2, eps=eps)
    for i, (kernel, wide, channels, gated, function, stride) in enumerate(blocks):
        with g.scope(f"features.{i + 1}"):
            wide = scaled(wide)
            x = gated_inverted_residual(
                g, x, wide, scaled(channels), kernel, stride, function=function, gate="hardsigmoid",
                squeeze=round_to(wide // 4, 8) if gated else 0, eps=eps,
            )  # fmt: skip
    x = conv_norm_act(g, x, 6 * x.shape[1], 1, f"features.{len(blocks) + 1}", "hardswish", eps=eps)
    x = g("avgpool", GlobalAvgPool(), x)
    x = g("classifier.0", Linear(x.shape[1], scaled(last)), x)
    x = g("classifier.1", Activation("hardswish"), x)
    return g.finish(g("classifier.3", Linear(x.shape[1], classes), x))


HOWARD = "Howard et al. 2019, arXiv:1905.02244; counts as torchvision's mobilenet_v3"


@model("cnn", source=HOWARD, parameters=5_483_032, macs=216_589_760)
def mobilenet_v3_large(
    work: Workload, *, width: float = 1.0, resolution: Size = 224, classes: int = 1000
) -> Graph:
    """MobileNetV3 large: found by search for phones, with gates and hard swish."""
    return mobilenet_v3("mobilenet_v3_large", work, LARGE, 1280, width, resolution, classes)


@model("cnn", source=HOWARD, parameters=2_542_856, macs=56_510_400)
def mobilenet_v3_small(
    work: Workload, *, width: float = 1.0, resolution: Size = 224, classes: int = 1000
) -> Graph:
    """MobileNetV3 small."""
    return mobilenet_v3("mobilenet_v3_small", work, SMALL, 1024, width, resolution, classes)


# (kernel, stride, expansion, channels, blocks) of each stage: Tan et al. 2018, arXiv:1807.11626, model B1
MNAS = ((3, 2, 3, 24, 3), (5, 2, 3, 40, 3), (5, 2, 6, 80, 3), (3, 1, 6, 96, 2), (5, 2, 6, 192, 4),
        (3, 1, 6, 320, 1))  # fmt: skip
TAN = "Tan et al. 2018, arXiv:1807.11626, without gates (B1); counts as torchvision's mnasnet"


def mnasnet(name: str, work: Workload, width: float, resolution: Size, classes: int) -> Graph:
    """MnasNet-B1: inverted residuals of 3x3 and 5x5; width scales all but the last 1,280 channels."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))

    def layer(g: Builder, x: Value, channels: int, kernel: int, at: int, stride: int, deep: bool) -> Value:
        groups = x.shape[1] if deep else 1
        names = (f"layers.{at}", f"layers.{at + 1}")
        return conv_norm(g, x, channels, kernel, name=names, stride=stride, groups=groups)

    def inverted(g: Builder, x: Value, channels: int, kernel: int, stride: int, expand: int) -> Value:
        wide = x.shape[1] * expand
        y = g("layers.2", Activation("relu"), layer(g, x, wide, 1, 0, 1, False))
        y = g("layers.5", Activation("relu"), layer(g, y, wide, kernel, 3, stride, True))
        y = layer(g, y, channels, 1, 6, 1, False)
        return g("add", Add(), y, x) if stride == 1 and agree(x.shape[1], channels) else y

    stem = round_to(32 * width, 8)
    x = g("layers.2", Activation("relu"), layer(g, x, stem, 3, 0, 2, False))
    x = g("layers.5", Activation("relu"), layer(g, x, stem, 3, 3, 1, True))
    x = layer(g, x, round_to(16 * width, 8), 1, 6, 1, False)
    for stage, (kernel, stride, expand, base, count) in enumerate(MNAS):
        channels = round_to(base * width, 8)
        with g.scope(f"layers.{8 + stage}.0"):
            x = inverted(g, x, channels, kernel, stride, expand)

        def same(g: Builder, x: Value, kernel: int = kernel, expand: int = expand) -> Value:
            return inverted(g, x, x.shape[1], kernel, 1, expand)

        x = g.repeat(f"layers.{8 + stage}", count - 1, same, x, start=1)
    x = g("layers.16", Activation("relu"), layer(g, x, 1280, 1, 14, 1, False))
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("classifier.1", Linear(1280, classes), x))


@model("cnn", source=TAN, parameters=2_218_512, macs=104_455_968)
def mnasnet0_5(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """MnasNet at half width."""
    return mnasnet("mnasnet0_5", work, 0.5, resolution, classes)


@model("cnn", source=TAN, parameters=3_170_208, macs=215_493_104)
def mnasnet0_75(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """MnasNet at three quarters of its width."""
    return mnasnet("mnasnet0_75", work, 0.75, resolution, classes)


@model("cnn", source=TAN, parameters=4_383_312, macs=314_415_872, aliases=("mnasnet",))
def mnasnet1_0(work: Workload, *, width: float = 1.0, resolution: Size = 224, classes: int = 1000) -> Graph:
    """MnasNet-B1: found by search for latency on a phone."""
    return mnasnet("mnasnet1_0", work, width, resolution, classes)


@model("cnn", source=TAN, parameters=6_282_256, macs=526_362_432)
def mnasnet1_3(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """MnasNet at 1.3 times its width."""
    return mnasnet("mnasnet1_3", work, 1.3, resolution, classes)


def channel_shuffle(g: Builder, x: Value, groups: int) -> Value:
    """Channels of x[B, C, H, W] dealt out in turn, so that the next grouped layer sees all groups."""
    batch, channels, height, width = x.shape
    x = g("grouped", Reshape((batch, groups, channels // groups, height, width)), x)
    x = g("shuffled", Transpose((0, 2, 1, 3, 4)), x)
    return g("ungrouped", Reshape((batch, channels, height, width)), x)


def shuffle_unit(g: Builder, x: Value, channels: int, stride: int) -> Value:
    """Half of the channels pass, half are filtered; at stride 2 both halves are filtered from all of x."""
    half = channels // 2
    if stride == 1:
        kept, y = g("halves", Split((half, half), 1), x)
    else:
        with g.scope("branch1"):
            kept = conv_norm(g, x, x.shape[1], 3, name=("0", "1"), stride=2, groups=x.shape[1])
            kept = conv_norm(g, kept, half, 1, name=("2", "3"))
            kept = g("4", Activation("relu"), kept)
        y = x
    with g.scope("branch2"):
        y = g("2", Activation("relu"), conv_norm(g, y, half, 1, name=("0", "1")))
        y = conv_norm(g, y, half, 3, name=("3", "4"), stride=stride, groups=half)
        y = g("7", Activation("relu"), conv_norm(g, y, half, 1, name=("5", "6")))
    return channel_shuffle(g, g("concat", Concat(1), kept, y), 2)


def shufflenet_v2(
    name: str, work: Workload, widths: tuple[int, int, int, int], resolution: Size, classes: int
) -> Graph:
    """ShuffleNetV2: stages of 4, 8 and 4 units of the first three widths; names as torchvision's."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm_act(g, x, 24, 3, "conv1", "relu", stride=2)
    x = g("maxpool", MaxPool2d(3, 2, 1), x)
    for stage, (channels, count) in enumerate(zip(widths, (4, 8, 4), strict=False)):
        with g.scope(f"stage{stage + 2}.0"):
            x = shuffle_unit(g, x, channels, 2)

        def same(g: Builder, x: Value, channels: int = channels) -> Value:
            return shuffle_unit(g, x, channels, 1)

        x = g.repeat(f"stage{stage + 2}", count - 1, same, x, start=1)
    x = conv_norm_act(g, x, widths[3], 1, "conv5", "relu")
    x = g("pool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(widths[3], classes), x))


MA = "Ma et al. 2018, arXiv:1807.11164, table 5; counts as torchvision's shufflenet_v2"


@model("cnn", source=MA, parameters=1_366_792, macs=40_476_448)
def shufflenet_v2_x0_5(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ShuffleNetV2 at half width."""
    return shufflenet_v2("shufflenet_v2_x0_5", work, (48, 96, 192, 1024), resolution, classes)


@model("cnn", source=MA, parameters=2_278_604, macs=144_907_992, aliases=("shufflenet-v2",))
def shufflenet_v2_x1_0(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ShuffleNetV2: half of the channels pass each unit, and are shuffled with the others."""
    return shufflenet_v2("shufflenet_v2_x1_0", work, (116, 232, 464, 1024), resolution, classes)


@model("cnn", source=MA, parameters=3_503_624, macs=295_759_392)
def shufflenet_v2_x1_5(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ShuffleNetV2 at 1.5 times its width."""
    return shufflenet_v2("shufflenet_v2_x1_5", work, (176, 352, 704, 1024), resolution, classes)


@model("cnn", source=MA, parameters=7_393_996, macs=583_253_464)
def shufflenet_v2_x2_0(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ShuffleNetV2 at twice its width."""
    return shufflenet_v2("shufflenet_v2_x2_0", work, (244, 488, 976, 2048), resolution, classes)
