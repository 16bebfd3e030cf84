"""RegNet: stage widths that follow a straight line, found as a design space rather than as one network."""

from itertools import groupby
from math import log

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import conv_norm, squeeze_excite
from pharos.models.mobile import conv_norm_act
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.pooling import GlobalAvgPool
from pharos.quantity.sizes import Size, round_to

RADOSAVOVIC = "Radosavovic et al. 2020, arXiv:2003.13678; counts as torchvision's regnet"


def stages(depth: int, first: int, slope: float, step: float, group: int) -> list[tuple[int, int, int]]:
    """(blocks, width, group width) of each stage.

    Block j would have first + slope j channels; that is rounded to first step^s for a whole s, and to a
    multiple of 8. Source: Radosavovic et al. 2020, arXiv:2003.13678, equations 2 to 4.
    """
    widths = []
    for j in range(depth):
        power = round(log((first + slope * j) / first) / log(step))
        widths.append(8 * round(first * step**power / 8))
    found = []
    for width, run in groupby(widths):
        each = min(group, width)
        found.append((len(list(run)), round_to(width, each), each))
    return found


def block(g: Builder, x: Value, width: int, group: int, stride: int, gated: bool) -> Value:
    """Bottleneck of one width: 1x1, grouped 3x3, perhaps a gate, 1x1; the gate is 1/4 of x's channels."""
    with g.scope("f"):
        y = conv_norm_act(g, x, width, 1, "a", "relu")
        y = conv_norm_act(g, y, width, 3, "b", "relu", stride=stride, groups=width // group)
        if gated:
            with g.scope("se"):
                y = squeeze_excite(g, y, round(x.shape[1] / 4))
        y = conv_norm(g, y, width, 1, name=("c.0", "c.1"))
    if stride != 1 or x.shape[1] != width:
        x = conv_norm(g, x, width, 1, name=("proj.0", "proj.1"), stride=stride)
    return g("activation", Activation("relu"), g("add", Add(), x, y))


def regnet(
    name: str, work: Workload, depth: int, first: int, slope: float, step: float, group: int,
    resolution: Size, classes: int,
) -> Graph:  # fmt: skip
    """A stem of 32 channels, then four stages that halve the sides; Y has gates, X none. As torchvision's."""
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = conv_norm_act(g, x, 32, 3, "stem", "relu", stride=2)
    for i, (count, width, each) in enumerate(stages(depth, first, slope, step, group)):
        for j in range(count):
            with g.scope(f"trunk_output.block{i + 1}.block{i + 1}-{j}"):
                x = block(g, x, width, each, 1 if j else 2, gated="_y_" in name)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("fc", Linear(x.shape[1], classes), x))


@model("cnn", source=RADOSAVOVIC, parameters=5_495_976, macs=413_812_608)
def regnet_x_400mf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 400 MMACs."""
    return regnet("regnet_x_400mf", work, 22, 24, 24.48, 2.54, 16, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=7_259_656, macs=799_699_712)
def regnet_x_800mf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 800 MMACs."""
    return regnet("regnet_x_800mf", work, 16, 56, 35.73, 2.28, 16, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=9_190_136, macs=1_602_849_792)
def regnet_x_1_6gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 1.6 GMACs."""
    return regnet("regnet_x_1_6gf", work, 18, 80, 34.01, 2.25, 24, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=15_296_552, macs=3_176_621_952)
def regnet_x_3_2gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 3.2 GMACs."""
    return regnet("regnet_x_3_2gf", work, 25, 88, 26.31, 2.25, 48, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=39_572_648, macs=7_995_132_416)
def regnet_x_8gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 8 GMACs."""
    return regnet("regnet_x_8gf", work, 23, 80, 49.56, 2.88, 120, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=54_278_536, macs=15_940_755_456)
def regnet_x_16gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 16 GMACs."""
    return regnet("regnet_x_16gf", work, 22, 216, 55.59, 2.1, 128, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=107_811_560, macs=31_735_929_792)
def regnet_x_32gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetX of 32 GMACs."""
    return regnet("regnet_x_32gf", work, 23, 320, 69.86, 2.0, 168, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=4_344_144, macs=401_842_848)
def regnet_y_400mf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 400 MMACs, with gates."""
    return regnet("regnet_y_400mf", work, 16, 48, 27.89, 2.09, 8, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=6_432_512, macs=833_856_256)
def regnet_y_800mf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 800 MMACs, with gates."""
    return regnet("regnet_y_800mf", work, 14, 56, 38.84, 2.4, 16, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=11_202_430, macs=1_612_076_160)
def regnet_y_1_6gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 1.6 GMACs, with gates."""
    return regnet("regnet_y_1_6gf", work, 27, 48, 20.71, 2.65, 24, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=19_436_338, macs=3_176_482_752)
def regnet_y_3_2gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 3.2 GMACs, with gates."""
    return regnet("regnet_y_3_2gf", work, 21, 80, 42.63, 2.66, 24, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=39_381_472, macs=8_473_070_592)
def regnet_y_8gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 8 GMACs, with gates."""
    return regnet("regnet_y_8gf", work, 17, 192, 76.82, 2.19, 56, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=83_590_140, macs=15_911_510_272)
def regnet_y_16gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 16 GMACs, with gates."""
    return regnet("regnet_y_16gf", work, 18, 200, 106.23, 2.48, 112, resolution, classes)


@model("cnn", source=RADOSAVOVIC, parameters=145_046_770, macs=32_279_552_832)
def regnet_y_32gf(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """RegNetY of 32 GMACs, with gates."""
    return regnet("regnet_y_32gf", work, 20, 232, 115.89, 2.53, 232, resolution, classes)
