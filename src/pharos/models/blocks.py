"""Blocks that the families share: convolution, residual, separable, attention, feed-forward."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil

from pharos.graph.graph import Builder, Value
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.cache import Cache
from pharos.ops.conv import Conv2d
from pharos.ops.dispatch import Combine, Dispatch, ExpertLinear
from pharos.ops.elementwise import Add, Mul
from pharos.ops.experts import Experts
from pharos.ops.linear import Linear, MatMul
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm
from pharos.ops.pooling import GlobalAvgPool
from pharos.ops.rotary import Rotary
from pharos.ops.router import Router
from pharos.ops.shape_ops import Concat, Expand, Reshape, Split, Transpose
from pharos.ops.stored import Stored
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, agree, floor_div, is_int, prod


def conv_norm(
    g: Builder, x: Value, channels: Size, kernel: int | tuple[int, int], *, name: tuple[str, str],
    stride: int | tuple[int, int] = 1, padding: int | tuple[int, int] | None = None,
    groups: Size = 1, bias: bool = False, eps: float = 1e-5,
) -> Value:  # fmt: skip
    """Convolution and batch norm, padded to keep the size at stride 1; names of the two."""
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    conv = Conv2d(x.shape[1], channels, kernel, stride, padding, groups=groups, bias=bias)
    x = g(name[0], conv, x)
    return g(name[1], BatchNorm(channels, eps), x)


def squeeze_excite(
    g: Builder, x: Value, squeeze: Size, *, function: str = "relu", gate: str = "sigmoid",
    names: tuple[str, str] = ("fc1", "fc2"),
) -> Value:  # fmt: skip
    """x * gate(W2 f(W1 mean(x))): each channel of x[B, C, H, W] is weighted by what all of them hold.

    Source: Hu et al. 2017, arXiv:1709.01507.

    Args:
        squeeze: width between the two 1x1 convolutions.
    """
    batch, channels = x.shape[:2]
    y = g("avgpool", GlobalAvgPool(), x)
    y = g("pixel", Reshape((batch, channels, 1, 1)), y)
    y = g(names[0], Conv2d(channels, squeeze, 1), y)
    y = g("act", Activation(function), y)
    y = g(names[1], Conv2d(squeeze, channels, 1), y)
    return g("scaled", Mul(), x, g("gate", Activation(gate), y))


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
    fits = stride == 1 and agree(x.shape[1], channels)
    return g("add", Add(), x, y) if fits else y


def separable(g: Builder, x: Value, channels: Size, stride: int = 1, bias: bool = False) -> Value:
    """Depthwise 3x3, then pointwise 1x1, each with batch norm and ReLU."""
    x = conv_norm(g, x, x.shape[1], 3, name=("depthwise", "depthwise_norm"), stride=stride,
                  groups=x.shape[1], bias=bias)  # fmt: skip
    x = g("depthwise_relu", Activation("relu"), x)
    x = conv_norm(g, x, channels, 1, name=("pointwise", "pointwise_norm"), bias=bias)
    return g("pointwise_relu", Activation("relu"), x)


def norm(kind: str, width: Size, eps: float | None = None) -> LayerNorm | RMSNorm:
    """Norm over the last dimension: "layer", "layer_no_bias", "rms", or "rms_offset" of weight 1 + w."""
    if kind in ("rms", "rms_offset"):
        return RMSNorm(width, 1e-6 if eps is None else eps, unit_offset=kind == "rms_offset")
    return LayerNorm(width, 1e-5 if eps is None else eps, bias=kind == "layer")


def split_heads(g: Builder, x: Value, heads: Size, head_dim: Size, name: str) -> Value:
    """[B, T, heads * head_dim] -> [B, heads, T, head_dim]; a view for the attention kernel."""
    batch, tokens, _ = x.shape
    x = g(f"{name}_heads", Reshape((batch, tokens, heads, head_dim)), x)
    return g(f"{name}_swap", Transpose((0, 2, 1, 3), view=True), x)


def self_attention(
    g: Builder, x: Value, *, heads: Size, kv_heads: Size, head_dim: Size, names: tuple[str, ...],
    attention: Attention, bias: str = "none", rotary: Rotary | None = None, by_group: bool = False,
    qk_norm: RMSNorm | None = None, norm_after: bool = False, scores: Value | None = None,
    sinks: bool = False, transposed: bool = False,
) -> Value:  # fmt: skip
    """Multi-head, grouped-query (kv_heads < heads) or multi-query (1) self-attention with projections.

    Args:
        x: [B, T, width].
        names: of the projections: (query-key-value, output) fused, or (q, k, v, output).
        attention: the operator in the middle, with its mask, cache and pattern.
        bias: "none", "qkv" or "qkvo": which projections have one.
        rotary: positions turned into queries and keys.
        by_group: a fused projection holds the queries of each KV head with its key and value.
        qk_norm: a norm over head_dim of queries and keys, before the rotary positions or after.
        scores: [B or 1, heads or 1, T, S] that is added to the scores, such as a bias by position.
        sinks: a learned logit a head takes part in the softmax.
        transposed: fused projections are stored [in, out].
    """
    batch, tokens, width = x.shape
    with_bias = bias in ("qkv", "qkvo")
    if len(names) == 2 and by_group:
        shared = floor_div(heads, kv_heads)
        qkv = g(names[0], Linear(width, (heads + 2 * kv_heads) * head_dim, with_bias), x)
        qkv = g("by_group", Reshape((batch, tokens, kv_heads, (shared + 2) * head_dim)), qkv)
        q, k, v = g("split", Split((shared * head_dim, head_dim, head_dim), 3), qkv)
        q = g("q_heads", Reshape((batch, tokens, heads, head_dim)), q)
        swap = Transpose((0, 2, 1, 3), view=True)
        q, k, v = (g(f"{n}_swap", swap, part) for n, part in zip("qkv", (q, k, v), strict=True))
    else:
        if len(names) == 2:
            together = (heads + 2 * kv_heads) * head_dim
            qkv = g(names[0], Linear(width, together, with_bias, transposed), x)
            q, k, v = g("split", Split((heads * head_dim, kv_heads * head_dim, kv_heads * head_dim), 2), qkv)
        else:
            q = g(names[0], Linear(width, heads * head_dim, with_bias), x)
            k = g(names[1], Linear(width, kv_heads * head_dim, with_bias), x)
            v = g(names[2], Linear(width, kv_heads * head_dim, with_bias), x)
        q = split_heads(g, q, heads, head_dim, "q")
        k = split_heads(g, k, kv_heads, head_dim, "k")
        v = split_heads(g, v, kv_heads, head_dim, "v")
    if qk_norm and not norm_after:
        q, k = g("q_norm", qk_norm, q), g("k_norm", qk_norm, k)
    if rotary:
        q, k = g("q_rotary", rotary, q), g("k_rotary", rotary, k)
    if qk_norm and norm_after:
        q, k = g("q_norm", qk_norm, q), g("k_norm", qk_norm, k)
    extra = [] if scores is None else [scores]
    extra += [g("sinks", Stored((heads,), key="sinks"), home="")] if sinks else []
    y = g("attention", attention, q, k, v, *extra)
    y = g("merge_swap", Transpose((0, 2, 1, 3), view=True), y)
    y = g("merge_heads", Reshape((batch, tokens, heads * head_dim)), y)
    return g(names[-1], Linear(heads * head_dim, width, bias == "qkvo", transposed), y)


def latent_attention(
    g: Builder, x: Value, *, heads: Size, q_rank: Size | None, kv_rank: Size, nope_dim: Size,
    rope_dim: Size, v_dim: Size, attention: Attention, rotary: Rotary, absorbed: bool,
) -> Value:  # fmt: skip
    """Multi-head latent attention: one latent vector a token stands for the keys and values of all heads.

    Queries and keys have `nope_dim` features without and `rope_dim` with positions; the cache holds
    kv_rank + rope_dim numbers a token. Expanded, keys and values are made from the latents of all
    tokens; absorbed, their matrices are multiplied into queries and results and attention reads the
    latents themselves, as decoding does. Source: DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.

    Args:
        x: [B, T, width].
        q_rank: width that queries are compressed to, None for a direct projection.
    """
    batch, tokens, width = x.shape
    each, out = nope_dim + rope_dim, heads * (nope_dim + v_dim)
    if q_rank is None:
        q = g("q_proj", Linear(width, heads * each, False), x)
    else:
        q = g("q_a_proj", Linear(width, q_rank, False), x)
        q = g("q_b_proj", Linear(q_rank, heads * each, False), g("q_a_layernorm", RMSNorm(q_rank), q))
    q = split_heads(g, q, heads, each, "q")
    q_plain, q_turned = g("q_split", Split((nope_dim, rope_dim), 3), q)
    q_turned = g("q_rotary", rotary, q_turned)
    both = g("kv_a_proj_with_mqa", Linear(width, kv_rank + rope_dim, False), x)
    latent, k_turned = g("kv_split", Split((kv_rank, rope_dim), 2), both)
    latent = g("kv_a_layernorm", RMSNorm(kv_rank), latent)
    latent = split_heads(g, latent, 1, kv_rank, "latent")
    k_turned = g("k_rotary", rotary, split_heads(g, k_turned, 1, rope_dim, "k"))
    scale = float(each) ** -0.5 if attention.scale is None else attention.scale
    if absorbed:
        matrix = g("kv_b_proj", Stored((out, kv_rank)))
        matrix = g("by_head", Reshape((heads, nope_dim + v_dim, kv_rank)), matrix)
        of_k, of_v = g("kv_b_split", Split((nope_dim, v_dim), 1), matrix)
        q = g("q_joined", Concat(3), g("absorb_k", MatMul(), q_plain, of_k), q_turned)
        k = g("k_joined", Concat(3), latent, k_turned)
        y = g("attention", replace(attention, latent=kv_rank, scale=scale), q, k, home="")
        y = g("absorb_v", MatMul(transpose_b=True), y, of_v)
    else:
        if attention.keep:
            rows = g("cache", Cache(attention.cached), g("rows", Concat(3), latent, k_turned), home="")
            latent, k_turned = g("rows_split", Split((kv_rank, rope_dim), 3), rows)
        held = latent.shape[2]
        latent = g("held", Reshape((batch, held, kv_rank)), latent)
        expanded = g("kv_b_proj", Linear(kv_rank, out, False), latent)
        expanded = split_heads(g, expanded, heads, nope_dim + v_dim, "kv")
        k_plain, v = g("kv_b_split", Split((nope_dim, v_dim), 3), expanded)
        k_turned = g("k_shared", Expand((batch, heads, held, rope_dim)), k_turned)
        q = g("q_joined", Concat(3), q_plain, q_turned)
        k = g("k_joined", Concat(3), k_plain, k_turned)
        y = g("attention", replace(attention, keep=False, cached=0, scale=scale), q, k, v)
    y = g("merge_swap", Transpose((0, 2, 1, 3), view=True), y)
    y = g("merge_heads", Reshape((batch, tokens, heads * v_dim)), y)
    return g("o_proj", Linear(heads * v_dim, width, False), y)


def low_rank_attention(
    g: Builder, x: Value, *, heads: Size, head_dim: Size, rank: Size, names: tuple[str, ...]
) -> Value:
    """Self-attention over `rank` mixtures of the tokens' keys and values: linear in their number.

    Source: Wang et al. 2020, arXiv:2006.04768 (Linformer), with projections shared by the heads.

    Args:
        x: [B, T, width], all T tokens at once, not causal.
    """
    batch, tokens, width = x.shape
    q, k, v = (g(n, Linear(width, heads * head_dim, False), x) for n in names[:3])
    mixed = []
    for name, value in (("k", k), ("v", v)):
        across = g(f"{name}_across", Transpose((0, 2, 1), view=True), value)
        across = g(f"{name}_rank", Linear(tokens, rank, False), across)
        across = g(f"{name}_back", Transpose((0, 2, 1), view=True), across)
        mixed.append(split_heads(g, across, heads, head_dim, name))
    y = g("attention", Attention(), split_heads(g, q, heads, head_dim, "q"), *mixed)
    y = g("merge_swap", Transpose((0, 2, 1, 3), view=True), y)
    y = g("merge_heads", Reshape((batch, tokens, heads * head_dim)), y)
    return g(names[3], Linear(heads * head_dim, width, False), y)


def feed_forward(
    g: Builder, x: Value, wide: Size, names: tuple[str, ...], *, function: str, bias: bool,
    gated: bool | None = None, transposed: bool = False,
) -> Value:  # fmt: skip
    """Two linear layers around an activation, or with a gate: down(f(gate(x)) * up(x)).

    Args:
        names: (up, down), (gate, up, down), or (gate and up in one, down) if `gated`.
        gated: None means that there is a gate if there are three names.
        transposed: weights are stored [in, out].
    """
    width = x.shape[-1]
    if len(names) == 2 and not gated:
        y = g(names[0], Linear(width, wide, bias, transposed), x)
        y = g("act", Activation(function), y)
        return g(names[1], Linear(wide, width, bias, transposed), y)
    if len(names) == 2:
        both = g(names[0], Linear(width, 2 * wide, bias, transposed), x)
        gate, up = g("gate_split", Split((wide, wide), -1), both)
    else:
        gate = g(names[0], Linear(width, wide, bias, transposed), x)
        up = g(names[1], Linear(width, wide, bias, transposed), x)
    y = g("gated", Mul(), g("act", Activation(function), gate), up)
    return g(names[-1], Linear(wide, width, bias, transposed), y)


# The gate's function in each unit of the family. Source: Shazeer 2020, arXiv:2002.05202.
GATES = {"glu": "sigmoid", "bilinear": "identity", "reglu": "relu", "geglu": "gelu", "swiglu": "silu"}


def gated_unit(g: Builder, x: Value, wide: Size, kind: str, bias: bool = False) -> Value:
    """down(f(gate(x)) * up(x)), f as one of GATES says."""
    if kind not in GATES:
        raise unknown("gated unit", kind, GATES)
    return feed_forward(g, x, wide, ("gate", "up", "down"), function=GATES[kind], bias=bias)


def mixture(
    g: Builder, x: Value, router: Router, experts: Experts, *, names: tuple[str, str] = ("gate", "experts"),
    shared: Callable[[Builder, Value], Value] | None = None,
) -> Value:  # fmt: skip
    """A router, the experts it picks for each token, and what every token goes through besides."""
    shares, picks = g(names[0], router, x)
    y = g(names[1], experts, x, shares, picks)
    return y if shared is None else g("with_shared", Add(), y, shared(g, x))


def capacity_mixture(
    g: Builder, x: Value, router: Router, wide: Size, *, factor: float, function: str,
    names: tuple[str, str] = ("gate", "experts"),
) -> Value:  # fmt: skip
    """A mixture whose experts have a fixed number of slots: factor x the mean load, rounded up.

    Tokens are dispatched to slots, all experts multiply at once, results are combined; tokens beyond an
    expert's capacity pass it by. Source: Fedus et al. 2021, arXiv:2101.03961 (Switch Transformer).

    Args:
        x: [..., tokens, width], of known sizes.
    """
    experts, width = router.num_experts, router.hidden_size
    tokens = prod(x.shape[:-1])
    if not is_int(tokens) or not is_int(experts):
        raise SizeError("a capacity needs a known number of tokens and experts")
    capacity = ceil(factor * tokens * router.top_k / experts)
    shares, picks = g(names[0], router, x)
    with g.scope(names[1]):
        slots, places = g("dispatch", Dispatch(experts, capacity), x, picks)
        y = g("up_proj", ExpertLinear(experts, width, wide), slots)
        y = g("act", Activation(function), y)
        y = g("down_proj", ExpertLinear(experts, wide, width), y)
        return g("combine", Combine(), y, shares, picks, places)
