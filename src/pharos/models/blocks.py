"""Blocks that the families share: convolution, residual, separable, attention, feed-forward."""

from collections.abc import Callable

from pharos.graph.graph import Builder, Value
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add, Mul
from pharos.ops.experts import Experts
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm
from pharos.ops.rotary import Rotary
from pharos.ops.shape_ops import Reshape, Split, Transpose
from pharos.quantity.sizes import Size


def conv_norm(
    g: Builder, x: Value, channels: Size, kernel: int | tuple[int, int], *, name: tuple[str, str],
    stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] | None = None,
    groups: Size = 1, bias: bool = False,
) -> Value:  # fmt: skip
    """Convolution and batch norm, padded to keep the size at stride 1; names of the two."""
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    conv = Conv2d(x.shape[1], channels, kernel, stride, padding, groups=groups, bias=bias)
    x = g(name[0], conv, x)
    return g(name[1], BatchNorm(channels), x)


def residual(g: Builder, x: Value, inside: Callable[[Builder, Value], Value], name: str = "add") -> Value:
    """x + inside(x)."""
    return g(name, Add(), inside(g, x), x)


def inverted_residual(g: Builder, x: Value, channels: Size, stride: int, expand: int) -> Value:
    """Expand by 1x1, filter depthwise by 3x3, project by 1x1 without activation; add if it fits.

    Names follow torchvision's: conv.0.0 is the first convolution, conv.0.1 its norm.
    Source: Sandler et al. 2018, arXiv:1801.04381, table 1.
    """
    wide, step, y = x.shape[1] * expand, 0, x
    if expand != 1:
        y = conv_norm(g, y, wide, 1, name=("conv.0.0", "conv.0.1"))
        y = g("conv.0.2", Activation("relu6"), y)
        step = 1
    depthwise = (f"conv.{step}.0", f"conv.{step}.1")
    y = conv_norm(g, y, wide, 3, name=depthwise, stride=stride, groups=wide)
    y = g(f"conv.{step}.2", Activation("relu6"), y)
    y = conv_norm(g, y, channels, 1, name=(f"conv.{step + 1}", f"conv.{step + 2}"))
    fits = stride == 1 and x.shape[1] == channels
    return g("add", Add(), x, y) if fits else y


def separable(g: Builder, x: Value, channels: Size, stride: int = 1, bias: bool = False) -> Value:
    """Depthwise 3x3, then pointwise 1x1, each with batch norm and ReLU."""
    x = conv_norm(g, x, x.shape[1], 3, name=("depthwise", "depthwise_norm"), stride=stride,
                  groups=x.shape[1], bias=bias)  # fmt: skip
    x = g("depthwise_relu", Activation("relu"), x)
    x = conv_norm(g, x, channels, 1, name=("pointwise", "pointwise_norm"), bias=bias)
    return g("pointwise_relu", Activation("relu"), x)


def norm(kind: str, width: Size, eps: float | None = None) -> LayerNorm | RMSNorm:
    """Layer norm ("layer", or "layer_no_bias") or RMS norm ("rms") over the last dimension."""
    if kind == "rms":
        return RMSNorm(width, 1e-6 if eps is None else eps)
    return LayerNorm(width, 1e-5 if eps is None else eps, bias=kind == "layer")


def split_heads(g: Builder, x: Value, heads: Size, head_dim: Size, name: str) -> Value:
    """[B, T, heads * head_dim] -> [B, heads, T, head_dim]; a view for the attention kernel."""
    batch, tokens, _ = x.shape
    x = g(f"{name}_heads", Reshape((batch, tokens, heads, head_dim)), x)
    return g(f"{name}_swap", Transpose((0, 2, 1, 3), view=True), x)


def self_attention(
    g: Builder, x: Value, *, heads: Size, kv_heads: Size, head_dim: Size, names: tuple[str, ...],
    cached: Size = 0, keep: bool = False, causal: bool = True, bias: str = "none",
    rotary: float | None = None, rotary_width: Size | None = None, qk_norm: bool = False,
    algorithm: str = "tiled",
) -> Value:  # fmt: skip
    """Multi-head, grouped-query (kv_heads < heads) or multi-query (1) self-attention with projections.

    Args:
        x: [B, T, width].
        names: of the projections: (query-key-value, output) fused, or (q, k, v, output).
        cached, keep, causal, algorithm: see `ops.attention.Attention`.
        bias: "none", "qkv" or "qkvo": which projections have one.
        rotary: base of the rotary positions, or None; rotary_width: features of a head they turn.
    """
    batch, tokens, width = x.shape
    with_bias = bias in ("qkv", "qkvo")
    if len(names) == 2:
        together = (heads + 2 * kv_heads) * head_dim
        qkv = g(names[0], Linear(width, together, with_bias), x)
        q, k, v = g("split", Split((heads * head_dim, kv_heads * head_dim, kv_heads * head_dim), 2), qkv)
    else:
        q = g(names[0], Linear(width, heads * head_dim, with_bias), x)
        k = g(names[1], Linear(width, kv_heads * head_dim, with_bias), x)
        v = g(names[2], Linear(width, kv_heads * head_dim, with_bias), x)
    q = split_heads(g, q, heads, head_dim, "q")
    k = split_heads(g, k, kv_heads, head_dim, "k")
    v = split_heads(g, v, kv_heads, head_dim, "v")
    if qk_norm:
        q, k = g("q_norm", RMSNorm(head_dim), q), g("k_norm", RMSNorm(head_dim), k)
    if rotary is not None:
        q = g("q_rotary", Rotary(rotary, cached, rotary_width), q)
        k = g("k_rotary", Rotary(rotary, cached, rotary_width), k)
    # one query sees every key: the causal mask hides nothing
    hides = causal and not (isinstance(tokens, int) and tokens == 1)
    y = g("attention", Attention(hides, cached, keep, algorithm), q, k, v)
    y = g("merge_swap", Transpose((0, 2, 1, 3), view=True), y)
    y = g("merge_heads", Reshape((batch, tokens, heads * head_dim)), y)
    return g(names[-1], Linear(heads * head_dim, width, bias == "qkvo"), y)


def feed_forward(
    g: Builder, x: Value, wide: Size, names: tuple[str, ...], *, function: str, bias: bool
) -> Value:
    """Two linear layers around an activation, or three with a gate: down(f(gate(x)) * up(x))."""
    width = x.shape[-1]
    if len(names) == 2:
        y = g(names[0], Linear(width, wide, bias), x)
        y = g("act", Activation(function), y)
        return g(names[1], Linear(wide, width, bias), y)
    gate = g(names[0], Linear(width, wide, bias), x)
    up = g(names[1], Linear(width, wide, bias), x)
    y = g("gated", Mul(), g("act", Activation(function), gate), up)
    return g(names[2], Linear(wide, width, bias), y)


def mixture(
    g: Builder, x: Value, experts: Size, top_k: int, wide: Size, *, function: str, gated: bool
) -> Value:
    """A router and the experts it picks for each token."""
    width = x.shape[-1]
    logits = g("gate", Linear(width, experts, bias=False), x)
    return g("experts", Experts(experts, top_k, width, wide, gated, function), x, logits)
