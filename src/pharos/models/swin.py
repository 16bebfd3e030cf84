"""Swin: attention within windows of an image, shifted in every second layer, over a pyramid of maps."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import residual, self_attention
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.copies import Pad
from pharos.ops.elementwise import Add
from pharos.ops.image_window import RelativeBias, Roll, ShiftMask
from pharos.ops.linear import Linear
from pharos.ops.norm import LayerNorm
from pharos.ops.pooling import GlobalAvgPool
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Transpose
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import ceil_div, is_int

# Rows and columns of a map swap places with those of a window.
BETWEEN = Transpose((0, 1, 3, 2, 4, 5))


def window_attention(g: Builder, x: Value, heads: int, window: int, shift: int) -> Value:
    """Attention within each window of x[B, H, W, C], with a learned bias by relative position.

    The map is padded to whole windows; with a shift it is rolled first, and positions that were no
    neighbours are masked. A map of one window is not shifted.
    The scores are written out, as the reference and torchvision do.
    Source: Liu et al. 2021, arXiv:2103.14030, section 3.2.
    """
    batch, height, width, channels = x.shape
    down, across = ceil_div(height, window), ceil_div(width, window)
    tall, wide, positions = down * window, across * window, window**2
    shifts = (shift if tall > window else 0, shift if wide > window else 0)
    if (tall, wide) != (height, width):
        x = g("pad", Pad(((0, 0), (0, tall - height), (0, wide - width), (0, 0))), x)
    if any(shifts):
        x = g("roll", Roll((-shifts[0], -shifts[1]), (1, 2)), x)
    x = g("cut", Reshape((batch, down, window, across, window, channels)), x)
    x = g("gather", BETWEEN, x)
    x = g("windows", Reshape((batch * down * across, positions, channels)), x)
    bias = g("bias", RelativeBias(heads, window, window), home="")
    if any(shifts):
        mask = g("mask", ShiftMask(tall, wide, window, shifts))
        bias = g("masked", Add(), bias, mask)
        shape = (down * across, heads, positions, positions)
        bias = g("masked_all", Expand((batch, *shape)), bias)
        bias = g("masked_rows", Reshape((batch * shape[0], *shape[1:])), bias)
    x = self_attention(
        g, x, heads=heads, kv_heads=heads, head_dim=channels // heads, names=("qkv", "proj"),
        attention=Attention(algorithm="materialised"), bias="qkvo", scores=bias,
    )  # fmt: skip
    x = g("uncut", Reshape((batch, down, across, window, window, channels)), x)
    x = g("scatter", BETWEEN, x)
    x = g("map", Reshape((batch, tall, wide, channels)), x)
    if any(shifts):
        x = g("unroll", Roll(shifts, (1, 2)), x)
    if (tall, wide) != (height, width):
        x = g("unpad", Pad(((0, 0), (0, height - tall), (0, width - wide), (0, 0))), x)
    return x


def layer(g: Builder, x: Value, heads: int, window: int, shift: int) -> Value:
    """Pre-norm layer over x[B, H, W, C]: window attention, then two linear layers with GELU."""
    channels = x.shape[-1]

    def attend(g: Builder, x: Value) -> Value:
        x = g("norm1", LayerNorm(channels), x)
        with g.scope("attn"):
            return window_attention(g, x, heads, window, shift)

    def feed(g: Builder, x: Value) -> Value:
        x = g("norm2", LayerNorm(channels), x)
        x = g("mlp.0", Linear(channels, 4 * channels), x)
        x = g("mlp.1", Activation("gelu"), x)
        return g("mlp.3", Linear(4 * channels, channels), x)

    return residual(g, residual(g, x, attend, "add1"), feed, "add2")


def merge(g: Builder, x: Value) -> Value:
    """Squares of 2 x 2 patches become one of twice the channels."""
    _, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = g("pad", Pad(((0, 0), (0, height % 2), (0, width % 2), (0, 0))), x)
    parts = []
    for column in (0, 1):
        for row in (0, 1):
            rows = g(f"rows{row}{column}", Slice(1, row, None, 2), x)
            parts.append(g(f"part{row}{column}", Slice(2, column, None, 2), rows))
    x = g("concat", Concat(3), *parts)
    x = g("norm", LayerNorm(4 * channels), x)
    return g("reduction", Linear(4 * channels, 2 * channels, False), x)


def swin(
    name: str, work: Workload, depths: tuple[int, int, int, int], width: int, heads: int, resolution: int,
    classes: int, window: int = 7,
) -> Graph:  # fmt: skip
    """Four stages of `depths` layers; channels and heads double from each to the next. As torchvision's."""
    if not is_int(resolution):
        raise SizeError(f"{name}: windows need a known resolution, not {resolution}")
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("features.0.0", Conv2d(3, width, 4, 4), x)
    x = g("features.0.1", Transpose((0, 2, 3, 1), view=True), x)
    x = g("features.0.2", LayerNorm(width), x)
    for stage, depth in enumerate(depths):
        if stage:
            with g.scope(f"features.{2 * stage}"):
                x = merge(g, x)

        def plain(g: Builder, x: Value, heads: int = heads * 2**stage) -> Value:
            return layer(g, x, heads, window, 0)

        def shifted(g: Builder, x: Value, heads: int = heads * 2**stage) -> Value:
            return layer(g, x, heads, window, window // 2)

        x = g.repeat(f"features.{2 * stage + 1}", depth // 2, [plain, shifted], x)
    x = g("norm", LayerNorm(x.shape[-1]), x)
    x = g("first", Transpose((0, 3, 1, 2), view=True), x)
    x = g("avgpool", GlobalAvgPool(), x)
    return g.finish(g("head", Linear(x.shape[1], classes), x))


LIU = "Liu et al. 2021, arXiv:2103.14030; counts as torchvision's swin_transformer"


@model("vit", source=LIU, parameters=28_288_354, macs=4_490_566_656, aliases=("swin-tiny",))
def swin_t(work: Workload, *, resolution: int = 224, classes: int = 1000) -> Graph:
    """Swin-T: 2-2-6-2 layers, windows of 7 x 7 patches."""
    return swin("swin_t", work, (2, 2, 6, 2), 96, 3, resolution, classes)


@model("vit", source=LIU, parameters=49_606_258, macs=8_740_875_264, aliases=("swin-small",))
def swin_s(work: Workload, *, resolution: int = 224, classes: int = 1000) -> Graph:
    """Swin-S: 2-2-18-2 layers."""
    return swin("swin_s", work, (2, 2, 18, 2), 96, 3, resolution, classes)


@model("vit", source=LIU, parameters=87_768_224, macs=15_430_946_816, aliases=("swin-base",))
def swin_b(work: Workload, *, resolution: int = 224, classes: int = 1000) -> Graph:
    """Swin-B: as S, a third wider."""
    return swin("swin_b", work, (2, 2, 18, 2), 128, 4, resolution, classes)
