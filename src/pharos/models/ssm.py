"""Models whose memory of the past is a state of fixed size: Mamba, Mamba-2 and RWKV."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import norm, residual
from pharos.models.registry import READERS, Entry
from pharos.ops.activation import Activation
from pharos.ops.causal_conv import CausalConv
from pharos.ops.elementwise import Mul
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.linear_attention import WKV
from pharos.ops.norm import RMSNorm
from pharos.ops.scan import SSD, SelectiveScan
from pharos.ops.shape_ops import Reshape, Slice, Split
from pharos.ops.stored import Stored
from pharos.ops.token_shift import TokenShift
from pharos.quantity.sizes import Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba:
    """Sizes of a Mamba or Mamba-2 model.

    Args:
        inner_size: channels that are scanned, twice hidden_size as published.
        state_size: numbers kept a channel.
        conv_kernel: tokens that the causal convolution sees.
        dt_rank: width that Mamba's step sizes are computed through.
        heads: heads of Mamba-2, each with one decay; 0 for Mamba.
        groups: heads of a group share what is written and read (Mamba-2).
        chunk: tokens of a chunk of Mamba-2's scan.
        bias: of the projections in and out; conv_bias: of the convolution.
        tied: the output head is the embedding matrix.
    """

    layers: Size
    hidden_size: Size
    inner_size: Size
    state_size: Size
    vocabulary: Size
    conv_kernel: int = 4
    dt_rank: Size = 0
    heads: Size = 0
    groups: int = 1
    chunk: int = 256
    bias: bool = False
    conv_bias: bool = True
    tied: bool = True
    norm_eps: float = 1e-5
    activation: str = "silu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rwkv:
    """Sizes of an RWKV-4 model: `attention_size` channels mixed over tokens, `ffn_size` over features."""

    layers: Size
    hidden_size: Size
    attention_size: Size
    ffn_size: Size
    vocabulary: Size
    tied: bool = False
    norm_eps: float = 1e-5


def _language_model(
    name: str, work: Workload, sizes: Mamba | Rwkv, path: dict[str, str],
    stem: Callable[[Builder, Value], Value], layer: Callable[[Builder, Value, bool, bool], Value],
    final: Any,
) -> Graph:  # fmt: skip
    """Embedding, layers, norm and head; a decode step continues from the state of all earlier tokens."""
    context = 2048 if work.context is None else work.context
    decodes = work.phase == "decode"
    tokens = 1 if decodes else context
    g = Builder(name, work.precision)
    ids = g.input("tokens", (work.batch, tokens), "int64")
    x = stem(g, g(path["stem"], Embedding(sizes.vocabulary, sizes.hidden_size), ids))
    keep = work.phase != "forward"
    x = g.repeat(path["layers"], sizes.layers, lambda g, x: layer(g, x, keep, decodes), x)
    x = g(path["final"], final, x)
    if work.phase == "prefill":
        x = g("last", Slice(1, tokens - 1, tokens), x)
    tied = {"weight": f"{path['stem']}.weight"} if sizes.tied else None
    logits = g(path["head"], Linear(sizes.hidden_size, sizes.vocabulary, bias=False), x, tied=tied)
    return g.finish(logits, context=context, tokens=tokens)


def mamba(name: str, work: Workload, sizes: Mamba) -> Graph:
    """The graph of a Mamba or Mamba-2 language model; parameter names are those of transformers.

    Sources: Gu and Dao 2023, arXiv:2312.00752, figure 3; Dao and Gu 2024, arXiv:2405.21060, figure 6.
    """
    mixer = mamba2_mixer if sizes.heads else mamba_mixer

    def layer(g: Builder, x: Value, keep: bool, cached: bool) -> Value:
        def mixed(g: Builder, x: Value) -> Value:
            x = g("norm", norm("rms", sizes.hidden_size, sizes.norm_eps), x)
            with g.scope("mixer"):
                return mixer(g, x, sizes, keep, cached)

        return residual(g, x, mixed)

    path = {"stem": "backbone.embeddings", "layers": "backbone.layers", "final": "backbone.norm_f"}
    return _language_model(
        name, work, sizes, path | {"head": "lm_head"}, lambda g, x: x, layer,
        norm("rms", sizes.hidden_size, sizes.norm_eps),
    )  # fmt: skip


def mamba_mixer(g: Builder, x: Value, sizes: Mamba, keep: bool, cached: bool) -> Value:
    """Half of the channels are convolved and scanned, the other half gates them."""
    wide, states, rank = sizes.inner_size, sizes.state_size, sizes.dt_rank
    both = g("in_proj", Linear(sizes.hidden_size, 2 * wide, sizes.bias), x)
    y, gate = g("gate_split", Split((wide, wide), 2), both)
    y = g("conv1d", CausalConv(wide, sizes.conv_kernel, sizes.conv_bias, keep, cached), y)
    y = g("act", Activation(sizes.activation), y)
    picked = g("x_proj", Linear(wide, rank + 2 * states, False), y)
    dt, b, c = g("select", Split((rank, states, states), 2), picked)
    dt = g("softplus", Activation("softplus"), g("dt_proj", Linear(rank, wide), dt))
    y = g("scan", SelectiveScan(wide, states, keep, cached), y, dt, b, c, home="")
    y = g("gated", Mul(), y, g("gate", Activation("silu"), gate))
    return g("out_proj", Linear(wide, sizes.hidden_size, sizes.bias), y)


def mamba2_mixer(g: Builder, x: Value, sizes: Mamba, keep: bool, cached: bool) -> Value:
    """Gate, channels, states and steps come from one projection; heads are scanned, gated and normed."""
    batch, tokens, _ = x.shape
    wide, states, heads, groups = sizes.inner_size, sizes.state_size, sizes.heads, sizes.groups
    convolved = wide + 2 * groups * states
    every = g("in_proj", Linear(sizes.hidden_size, wide + convolved + heads, sizes.bias), x)
    gate, y, dt = g("gate_split", Split((wide, convolved, heads), 2), every)
    y = g("conv1d", CausalConv(convolved, sizes.conv_kernel, sizes.conv_bias, keep, cached), y)
    y = g("act", Activation(sizes.activation), y)
    y, b, c = g("select", Split((wide, groups * states, groups * states), 2), y)
    # a single token has no chunk to multiply
    chunk = 0 if isinstance(tokens, int) and tokens == 1 else sizes.chunk
    y = g("scan", SSD(heads, wide // heads, states, groups, chunk, keep, cached), y, dt, b, c, home="")
    y = g("gated", Mul(), y, g("gate", Activation("silu"), gate))
    if groups == 1:
        y = g("norm", RMSNorm(wide, sizes.norm_eps), y)
    else:
        y = g("by_group", Reshape((batch, tokens, groups, wide // groups)), y)
        y = g("norm_plain", RMSNorm(wide // groups, sizes.norm_eps, affine=False), y)
        y = g("joined", Reshape((batch, tokens, wide)), y)
        y = g("scaled", Mul(), y, g("norm", Stored((wide,))))
    return g("out_proj", Linear(wide, sizes.hidden_size, sizes.bias), y)


def rwkv(name: str, work: Workload, sizes: Rwkv) -> Graph:
    """The graph of an RWKV-4 language model; parameter names are those of transformers.

    Source: Peng et al. 2023, arXiv:2305.13048, sections 3.1 and 3.2.
    """
    width = sizes.hidden_size

    def layer_norm() -> Any:
        return norm("layer", width, sizes.norm_eps)

    def mix_tokens(g: Builder, x: Value, keep: bool, cached: bool) -> Value:
        x = g("ln1", layer_norm(), x)
        with g.scope("attention"):
            wide = sizes.attention_size
            key, value, open_ = g("shift", TokenShift(width, keep=keep, cached=cached), x, home="")
            key = g("key", Linear(width, wide, False), key)
            value = g("value", Linear(width, wide, False), value)
            open_ = g("gate", Activation("sigmoid"), g("receptance", Linear(width, wide, False), open_))
            y = g("wkv", WKV(wide, keep, cached), key, value, home="")
            return g("output", Linear(wide, width, False), g("gated", Mul(), open_, y))

    def mix_features(g: Builder, x: Value, keep: bool, cached: bool) -> Value:
        x = g("ln2", layer_norm(), x)
        with g.scope("feed_forward"):
            shift = TokenShift(width, ("key", "receptance"), keep, cached)
            key, open_ = g("shift", shift, x, home="")
            key = g("act", Activation("relu"), g("key", Linear(width, sizes.ffn_size, False), key))
            value = g("value", Linear(sizes.ffn_size, width, False), g("squared", Activation("square"), key))
            open_ = g("gate", Activation("sigmoid"), g("receptance", Linear(width, width, False), open_))
            return g("gated", Mul(), open_, value)

    def layer(g: Builder, x: Value, keep: bool, cached: bool) -> Value:
        x = residual(g, x, lambda g, x: mix_tokens(g, x, keep, cached), "add_1")
        return residual(g, x, lambda g, x: mix_features(g, x, keep, cached), "add_2")

    path = {"stem": "rwkv.embeddings", "layers": "rwkv.blocks", "final": "rwkv.ln_out", "head": "head"}
    return _language_model(
        name, work, sizes, path, lambda g, x: g("rwkv.blocks.0.pre_ln", layer_norm(), x), layer, layer_norm()
    )


def _entry(data: dict[str, Any], build: Callable[[Workload], Graph], summary: str) -> Entry:
    return Entry(
        name=data["name"], family="ssm", build=build, source=data["source"], parameters=data["parameters"],
        aliases=tuple(data.get("aliases", ())), summary=f"{data['family']}: {summary}.",
    )  # fmt: skip


def read_mamba(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with a `mamba:` block."""
    name, sizes = data["name"], Mamba(**data["mamba"])
    held = f"{sizes.inner_size} x {sizes.state_size} numbers of state a layer"
    return _entry(
        data, lambda work: mamba(name, work, sizes),
        f"{sizes.layers} layers, width {sizes.hidden_size}, {held}",
    )  # fmt: skip


def read_rwkv(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with an `rwkv:` block."""
    name, sizes = data["name"], Rwkv(**data["rwkv"])
    held = "5 vectors of state a layer"
    return _entry(
        data, lambda work: rwkv(name, work, sizes),
        f"{sizes.layers} layers, width {sizes.hidden_size}, {held}",
    )  # fmt: skip


READERS["mamba"] = read_mamba
READERS["rwkv"] = read_rwkv
