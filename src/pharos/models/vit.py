"""Vision transformers: an image as a sequence of patches."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import feed_forward, residual, self_attention
from pharos.models.registry import model
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.norm import LayerNorm
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Transpose
from pharos.ops.stored import Stored
from pharos.quantity.sizes import Size


def layer(g: Builder, x: Value, heads: int) -> Value:
    """Pre-norm encoder layer: every patch attends to all, then two linear layers with GELU."""
    width = x.shape[-1]

    def attend(g: Builder, x: Value) -> Value:
        x = g("norm1", LayerNorm(width, 1e-6), x)
        with g.scope("attn"):
            return self_attention(
                g, x, heads=heads, kv_heads=heads, head_dim=width // heads, names=("qkv", "proj"),
                attention=Attention(), bias="qkvo",
            )  # fmt: skip

    def feed(g: Builder, x: Value) -> Value:
        x = g("norm2", LayerNorm(width, 1e-6), x)
        with g.scope("mlp"):
            return feed_forward(g, x, 4 * width, ("fc1", "fc2"), function="gelu", bias=True)

    return residual(g, residual(g, x, attend, "add1"), feed, "add2")


def vit(name: str, work: Workload, patch: int, width: int, layers: int, heads: int, resolution: Size,
        classes: int) -> Graph:  # fmt: skip
    """Patches and a class token, learned positions, `layers` encoder layers, a head on the class token.

    Names as timm's vision_transformer. Source: Dosovitskiy et al. 2020, arXiv:2010.11929.
    """
    g = Builder(name, work.precision)
    x = g.input("image", (work.batch, 3, resolution, resolution))
    x = g("patch_embed.proj", Conv2d(3, width, patch, patch), x)
    patches = x.shape[2] * x.shape[3]
    x = g("patch_embed.flat", Reshape((work.batch, width, patches)), x)
    x = g("patch_embed.rows", Transpose((0, 2, 1), view=True), x)
    token = g("token", Stored((1, 1, width), key="cls_token"), home="")
    token = g("tokens", Expand((work.batch, 1, width)), token)
    x = g("joined", Concat(1), token, x)
    positions = g("positions", Stored((1, patches + 1, width), key="pos_embed"), home="")
    x = g("placed", Add(), x, positions)
    x = g.repeat("blocks", layers, lambda g, x: layer(g, x, heads), x)
    x = g("norm", LayerNorm(width, 1e-6), x)
    x = g("first", Slice(1, 0, 1), x)
    x = g("class", Reshape((work.batch, width)), x)
    return g.finish(g("head", Linear(width, classes), x))


DOSOVITSKIY = "Dosovitskiy et al. 2020, arXiv:2010.11929, table 1; counts as timm's vision_transformer"
TOUVRON = "Touvron et al. 2020, arXiv:2012.12877, table 1; counts as timm's deit"


@model("vit", source=TOUVRON, parameters=5_717_416, macs=1_253_683_200,
       aliases=("deit-tiny", "deit_tiny_patch16_224", "vit_tiny_patch16_224"))  # fmt: skip
def vit_t_16(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-Ti/16, the shape of DeiT-Ti: 12 layers, width 192, 3 heads."""
    return vit("vit_t_16", work, 16, 192, 12, 3, resolution, classes)


@model("vit", source=TOUVRON, parameters=22_050_664, macs=4_598_882_304,
       aliases=("deit-small", "deit_small_patch16_224", "vit_small_patch16_224"))  # fmt: skip
def vit_s_16(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-S/16, the shape of DeiT-S: 12 layers, width 384, 6 heads."""
    return vit("vit_s_16", work, 16, 384, 12, 6, resolution, classes)


@model("vit", source=DOSOVITSKIY, parameters=86_567_656, macs=17_563_828_224,
       aliases=("deit-base", "deit_base_patch16_224", "vit_base_patch16_224", "vit-base"))  # fmt: skip
def vit_b_16(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-B/16: 12 layers, width 768, 12 heads over patches of 16 x 16."""
    return vit("vit_b_16", work, 16, 768, 12, 12, resolution, classes)


@model("vit", source=DOSOVITSKIY, parameters=88_224_232, macs=4_409_186_304,
       aliases=("vit_base_patch32_224",))  # fmt: skip
def vit_b_32(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-B/32: patches of 32 x 32, a quarter of the tokens."""
    return vit("vit_b_32", work, 32, 768, 12, 12, resolution, classes)


@model("vit", source=DOSOVITSKIY, parameters=304_326_632, macs=61_554_712_576,
       aliases=("vit_large_patch16_224", "vit-large"))  # fmt: skip
def vit_l_16(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-L/16: 24 layers, width 1,024, 16 heads."""
    return vit("vit_l_16", work, 16, 1024, 24, 16, resolution, classes)


@model("vit", source=DOSOVITSKIY, parameters=306_535_400, macs=15_377_539_072,
       aliases=("vit_large_patch32_224",))  # fmt: skip
def vit_l_32(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-L/32: patches of 32 x 32."""
    return vit("vit_l_32", work, 32, 1024, 24, 16, resolution, classes)


@model("vit", source=DOSOVITSKIY, parameters=632_045_800, macs=167_295_109_120,
       aliases=("vit_huge_patch14_224", "vit-huge"))  # fmt: skip
def vit_h_14(work: Workload, *, resolution: Size = 224, classes: int = 1000) -> Graph:
    """ViT-H/14: 32 layers, width 1,280, 16 heads over patches of 14 x 14."""
    return vit("vit_h_14", work, 14, 1280, 32, 16, resolution, classes)
