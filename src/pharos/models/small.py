"""Small networks to train on this machine: the textbook's digit CNN, a small ViT, an MLP over tokens."""

from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.models.mlp import dense_stack
from pharos.models.registry import model
from pharos.models.vit import layer
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm, LayerNorm
from pharos.ops.pooling import GlobalAvgPool, MaxPool2d
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Flatten, Reshape, Transpose
from pharos.ops.stored import Stored
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import is_int


@model("cnn", source="hand: 9*32 + 32, 9*32*64 + 64, 7*7*64*128 + 128, 128*10 + 10", parameters=421_642,
       macs=28 * 28 * 9 * 32 + 14 * 14 * 9 * 32 * 64 + 3136 * 128 + 1280, aliases=("mnist-cnn",))  # fmt: skip
def small_cnn(
    work: Workload, *, side: int | tuple[int, int] = 28, image_channels: int = 1,
    channels: tuple[int, ...] = (32, 64), kernel: int = 3, dense: tuple[int, ...] = (128,),
    normed: bool = False, pooled: bool = False, classes: int = 10,
) -> Graph:  # fmt: skip
    """A small CNN, by default the textbook's for MNIST: each convolution halves the side, then dense layers.

    Args:
        side: pixels of a side, or (height, width).
        normed: batch norm after every convolution.
        pooled: the mean over all places before the dense layers, and no halving after the last convolution;
            else places are kept apart.
    """
    if kernel % 2 == 0:
        raise SizeError(f"kernel must be odd, not {kernel}")
    if not channels:
        raise SizeError("channels must name at least one convolution")
    height, width = side if isinstance(side, tuple) else (side, side)
    g = Builder("small_cnn", work.precision)
    x = g.input("image", (work.batch, image_channels, height, width))
    for i, wide in enumerate(channels):
        with g.scope(f"layers.{i}"):
            x = g("conv", Conv2d(x.shape[1], wide, kernel, 1, kernel // 2), x)
            if normed:
                x = g("norm", BatchNorm(wide), x)
            x = g("relu", Activation("relu"), x)
            if not (pooled and i == len(channels) - 1):
                x = g("pool", MaxPool2d(2), x)
    x = g("mean", GlobalAvgPool(), x) if pooled else g("flatten", Flatten(1), x)
    return g.finish(dense_stack(g, x, (*dense, classes), "head"))


@model("vit", source="Beyer, Zhai and Kolesnikov 2022, arXiv:2205.01580, at a small size; hand: see the test")
def small_vit(
    work: Workload, *, side: int | tuple[int, int] = 32, image_channels: int = 3,
    patch: int | tuple[int, int] = 4, hidden: int = 64, layers: int = 2, heads: int = 2, classes: int = 10,
) -> Graph:  # fmt: skip
    """A small vision transformer: patches, learned positions, encoder layers, the mean of all patches.

    Args:
        side: pixels of a side, or (height, width); patch: likewise; what is left at an edge is not seen.
    """
    if is_int(hidden) and hidden % heads:
        raise SizeError(f"hidden {hidden} cannot be split among {heads} heads")
    height, width = side if isinstance(side, tuple) else (side, side)
    high, wide = patch if isinstance(patch, tuple) else (patch, patch)
    g = Builder("small_vit", work.precision)
    x = g.input("image", (work.batch, image_channels, height, width))
    x = g("patch_embed.proj", Conv2d(image_channels, hidden, (high, wide), (high, wide)), x)
    patches = x.shape[2] * x.shape[3]
    x = g("patch_embed.flat", Reshape((work.batch, hidden, patches)), x)
    x = g("patch_embed.rows", Transpose((0, 2, 1), view=True), x)
    positions = g("positions", Stored((1, patches, hidden), key="pos_embed"), home="")
    x = g("placed", Add(), x, positions)
    x = g.repeat("blocks", layers, lambda g, x: layer(g, x, heads), x)
    x = g("norm", LayerNorm(hidden, 1e-6), x)
    return g.finish(g("head", Linear(hidden, classes), g("mean", Reduce((1,)), x)))


@model("mlp", source="hand: 1,000*16 + (32*16)*64 + 64 + 64*64 + 64 + 64*2 + 2", parameters=53_122,
       macs=512 * 64 + 64 * 64 + 64 * 2)  # fmt: skip
def token_mlp(
    work: Workload, *, vocabulary: int = 1000, length: int = 32, embedding_dim: int = 16,
    hidden: tuple[int, ...] = (64, 64), classes: int = 2,
) -> Graph:  # fmt: skip
    """Tokens as one flat vector: a row looked up for each place, and weights of its own for every place."""
    g = Builder("token_mlp", work.precision)
    ids = g.input("tokens", (work.batch, length), "int64")
    x = g("flatten", Flatten(1), g("embedding", Embedding(vocabulary, embedding_dim), ids))
    return g.finish(dense_stack(g, x, (*hidden, classes), "layers"))
