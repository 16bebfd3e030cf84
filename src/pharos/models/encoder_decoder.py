"""Encoder-decoder transformers: the original Transformer, and T5."""

from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import feed_forward, norm, split_heads
from pharos.models.registry import READERS, Entry
from pharos.ops.attention import Attention
from pharos.ops.cache import Cache, Recall
from pharos.ops.elementwise import Add, Mul
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.positions import BucketedBias, Sinusoidal
from pharos.ops.shape_ops import Reshape, Slice, Transpose
from pharos.ops.stored import Stored
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, is_int


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a reference implementation calls the parts; norms and the parts they belong to alternate."""

    layers: str = "layers"
    final: str = "norm"
    attention: str = "self_attn"
    cross: str = "cross_attn"
    feed: str = "feed_forward"
    norms: tuple[str, str, str] = ("norm1", "norm2", "norm3")
    projections: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "out_proj")
    feeds: tuple[str, str] = ("linear1", "linear2")
    gated_feeds: tuple[str, str, str] = ("gate", "up", "down")


STYLES = {
    "transformer": Names(),
    "t5": Names(
        layers="block", final="final_layer_norm", attention="layer.0.SelfAttention",
        cross="layer.1.EncDecAttention", feed="layer.{last}.DenseReluDense",
        norms=("layer.0.layer_norm", "layer.1.layer_norm", "layer.2.layer_norm"),
        projections=("q", "k", "v", "o"), feeds=("wi", "wo"), gated_feeds=("wi_0", "wi_1", "wo"),
    ),
}  # fmt: skip

_ALLOWED = {"norm": ("layer", "rms"), "placement": ("pre", "post"), "position": ("sinusoidal", "buckets")}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderDecoder:
    """Sizes of an encoder and a decoder of equal width that share one embedding matrix.

    Args:
        placement: a norm before each part ("pre") and behind the last layer, or after each addition.
        position: "sinusoidal", added to the embeddings, or "buckets": a bias of the scores by distance.
        tied: the output head is the embedding matrix too.
        embedding_scale: embeddings are multiplied by sqrt(hidden_size).
        head_scale: what the head is given is multiplied by 1 / sqrt(hidden_size).
        attention_scale: factor of the scores, None for 1 / sqrt(head_dim).
        max_context: longest sequence; 0 where none is stated.
        default_source: source tokens assumed when none are asked for.
    """

    encoder_layers: Size
    decoder_layers: Size
    hidden_size: Size
    heads: Size
    head_dim: Size
    ffn_size: Size
    vocabulary: Size
    gated: bool = False
    activation: str = "relu"
    norm: str = "layer"
    norm_eps: float | None = None
    placement: str = "pre"
    position: str = "sinusoidal"
    mlp_bias: bool = False
    tied: bool = True
    embedding_scale: bool = False
    head_scale: bool = False
    attention_scale: float | None = None
    buckets: int = 32
    max_distance: int = 128
    max_context: Size = 0
    default_source: Size = 512
    style: str = "transformer"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise unknown("style of names", str(self.style), STYLES)
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)


@dataclass(frozen=True, slots=True)
class _Stack:
    """One of the two stacks under a workload: which attention it has and what it reads."""

    sizes: EncoderDecoder
    side: str
    tokens: Size
    cached: Size = 0
    keep: bool = False
    # length of the source, for a decoder
    source: Size = 0

    @property
    def decodes(self) -> bool:
        """Whether it is the decoder."""
        return self.side == "decoder"

    def name(self, text: str) -> str:
        """A name with the number of the layer's last part filled in."""
        return text.replace("{last}", "2" if self.decodes else "1")


def encoder_decoder(name: str, work: Workload, sizes: EncoderDecoder, source: Size | None = None) -> Graph:
    """The graph of an encoder-decoder; the workload's context is that of the decoder.

    forward runs both stacks over `source` and `context` tokens and scores every target position. prefill
    does the same, keeps the decoder's keys and values and those made from the source, and scores the
    last position. decode is the decoder alone: one token that attends to ``context - 1`` kept ones and to
    the kept keys and values of the source. Sources: Vaswani et al. 2017, arXiv:1706.03762, section 3;
    Raffel et al. 2020, arXiv:1910.10683, section 2.1.

    Raises:
        SizeError: a sequence longer than the model allows.
    """
    source = sizes.default_source if source is None else source
    context = sizes.default_source if work.context is None else work.context
    for length, what in ((source, "source"), (context, "context")):
        if is_int(length) and is_int(sizes.max_context) and 0 < sizes.max_context < length:
            hint = f"at most {sizes.max_context}"
            raise SizeError(f"{what} {length} is beyond the model's {sizes.max_context}", hint=hint)
    steps, keep = work.phase == "decode", work.phase != "forward"
    tokens, cached = (1, context - 1) if steps else (context, 0)
    g = Builder(name, work.precision)
    g("shared", Stored((sizes.vocabulary, sizes.hidden_size)))
    memory = None
    if not steps:
        ids = g.input("source", (work.batch, source), "int64")
        memory = _stack(g, ids, None, _Stack(sizes, "encoder", source))
    ids = g.input("tokens", (work.batch, tokens), "int64")
    x = _stack(g, ids, memory, _Stack(sizes, "decoder", tokens, cached, keep, source))
    if work.phase == "prefill":
        x = g("last", Slice(1, tokens - 1, tokens), x)
    if sizes.head_scale:
        x = g("head_scale", Mul(scalar=float(sizes.hidden_size) ** -0.5), x)
    tied = {"weight": "shared.weight"} if sizes.tied else None
    logits = g("lm_head", Linear(sizes.hidden_size, sizes.vocabulary, bias=False), x, tied=tied)
    return g.finish(logits, max_context=sizes.max_context or None, context=context, tokens=tokens)


def _stack(g: Builder, ids: Value, memory: Value | None, at: _Stack) -> Value:
    sizes, names = at.sizes, STYLES[at.sizes.style]
    width, causal = sizes.hidden_size, at.decodes
    with g.scope(at.side):
        table = Embedding(sizes.vocabulary, width)
        x = g("embed_tokens", table, ids, tied={"weight": "shared.weight"})
        if sizes.embedding_scale:
            x = g("scale", Mul(scalar=float(width) ** 0.5), x)
        shared = [] if memory is None else [memory]
        if sizes.position == "sinusoidal":
            x = g("positions", Sinusoidal(at.cached), x)
        else:
            bias = BucketedBias(
                sizes.heads, at.tokens, at.cached + at.tokens, not causal, sizes.buckets, sizes.max_distance
            )
            # the first layer owns the table that all layers of the stack use
            shared.insert(0, g(f"{names.layers}.0.{names.attention}.relative_attention_bias", bias))

        def layer(g: Builder, x: Value, *rest: Value) -> Value:
            bias = rest[:1] if sizes.position == "buckets" else ()
            return _layer(g, x, rest[len(bias)] if len(rest) > len(bias) else None, bias, at)

        layers = sizes.decoder_layers if at.decodes else sizes.encoder_layers
        x = g.repeat(names.layers, layers, layer, x, shared=shared)
        if sizes.placement == "pre":
            x = g(names.final, norm(sizes.norm, width, sizes.norm_eps), x)
    return x


def _layer(g: Builder, x: Value, memory: Value | None, bias: tuple[Value, ...], at: _Stack) -> Value:
    sizes, names = at.sizes, STYLES[at.sizes.style]

    def attend(g: Builder, x: Value) -> Value:
        # one query sees every key it may: the causal mask hides nothing
        one = isinstance(at.tokens, int) and at.tokens == 1
        op = Attention(at.decodes and not one, at.cached, at.keep, scale=sizes.attention_scale)
        with g.scope(names.attention):
            return _attend(g, x, x, op, sizes, bias)

    def look(g: Builder, x: Value) -> Value:
        with g.scope(names.cross):
            return _attend(g, x, memory, Attention(scale=sizes.attention_scale), sizes, (), at)

    def feed(g: Builder, x: Value) -> Value:
        feeds = names.gated_feeds if sizes.gated else names.feeds
        with g.scope(at.name(names.feed)):
            return feed_forward(
                g, x, sizes.ffn_size, feeds, function=sizes.activation, bias=sizes.mlp_bias, gated=sizes.gated
            )

    parts = [attend, look, feed] if at.decodes else [attend, feed]
    for i, (part, title) in enumerate(zip(parts, names.norms, strict=False), 1):
        normed = norm(sizes.norm, sizes.hidden_size, sizes.norm_eps)
        if sizes.placement == "pre":
            x = g(f"add_{i}", Add(), part(g, g(title, normed, x)), x)
        else:
            x = g(title, normed, g(f"add_{i}", Add(), part(g, x), x))
    return x


def _attend(
    g: Builder, x: Value, memory: Value | None, attention: Attention, sizes: EncoderDecoder,
    bias: tuple[Value, ...], cross: _Stack | None = None,
) -> Value:  # fmt: skip
    """Attention from x[B, T, width] to memory[B, S, width]; None for one whose K and V are kept."""
    batch, tokens, width = x.shape
    heads, head_dim = sizes.heads, sizes.head_dim
    q_name, k_name, v_name, o_name = STYLES[sizes.style].projections

    def projected(name: str, of: Value, short: str) -> Value:
        y = g(name, Linear(width, heads * head_dim, False), of)
        return split_heads(g, y, heads, head_dim, short)

    q = projected(q_name, x, "q")
    if memory is None:
        assert cross is not None
        recall = Recall(batch, heads, cross.source, head_dim)
        k, v = g("k_kept", recall), g("v_kept", recall)
    else:
        k, v = projected(k_name, memory, "k"), projected(v_name, memory, "v")
        if cross is not None and cross.keep:
            k, v = g("k_kept", Cache(), k), g("v_kept", Cache(), v)
    y = g("attention", attention, q, k, v, *bias)
    y = g("merge_swap", Transpose((0, 2, 1, 3), view=True), y)
    y = g("merge_heads", Reshape((batch, tokens, heads * head_dim)), y)
    return g(o_name, Linear(heads * head_dim, width, False), y)


def read_encoder_decoder(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with an `encoder_decoder:` block; `source` tokens can be asked for."""
    name, sizes = data["name"], EncoderDecoder(**data["encoder_decoder"])

    def build(work: Workload, *, source: Size = sizes.default_source) -> Graph:
        return encoder_decoder(name, work, sizes, source)

    layers = f"{sizes.encoder_layers} + {sizes.decoder_layers} layers"
    return Entry(
        name=name, family="transformer", build=build, source=data["source"],
        parameters=data["parameters"], aliases=tuple(data.get("aliases", ())),
        summary=f"{data['family']}: {layers}, width {sizes.hidden_size}, encoder and decoder.",
    )  # fmt: skip


READERS["encoder_decoder"] = read_encoder_decoder
