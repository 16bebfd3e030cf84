"""Decoder transformers, from one description of their sizes: GPT-2 and Llama shapes."""

from dataclasses import dataclass, fields
from typing import Any

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import feed_forward, mixture, norm, residual, self_attention
from pharos.models.registry import READERS, Entry
from pharos.ops.elementwise import Add, Mul
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.shape_ops import Slice
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, is_int, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Sizes of a decoder whose layers are all alike.

    Args:
        gated: three feed-forward matrices (gate, up, down) instead of two.
        norm: "layer", "layer_no_bias" or "rms".
        position: "learned", "rotary" or "none".
        attention_bias: "none", "qkv" or "qkvo".
        tied: the output head is the embedding matrix.
        qk_norm: RMS norm over head_dim of queries and keys.
        rotary_width: features of a head that rotary positions turn; 0 means all.
        parallel: attention and feed-forward read the same input and are added together; the number of
            norms in front of them, 0 for blocks in sequence.
        experts, top_k: feed-forward networks a layer, and those each token goes through; 0 for one dense.
        head_bias: the output head has a bias.
        embedding_scale: embeddings are multiplied by sqrt(hidden_size).
        extra_positions: rows of the position table beyond max_context.
    """

    layers: Size
    hidden_size: Size
    heads: Size
    kv_heads: Size
    head_dim: Size
    ffn_size: Size
    vocabulary: Size
    max_context: Size
    gated: bool = True
    activation: str = "silu"
    norm: str = "rms"
    position: str = "rotary"
    attention_bias: str = "none"
    mlp_bias: bool = False
    tied: bool = False
    qk_norm: bool = False
    rope_theta: float = 10000.0
    norm_eps: float | None = None
    rotary_width: int = 0
    parallel: int = 0
    experts: int = 0
    top_k: int = 0
    head_bias: bool = False
    embedding_scale: bool = False
    extra_positions: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is Size:
                object.__setattr__(self, field.name, size(value, field.name))
        for name, value, allowed in (
            ("norm", self.norm, ("layer", "layer_no_bias", "rms")),
            ("position", self.position, ("learned", "rotary", "none")),
            ("attention_bias", self.attention_bias, ("none", "qkv", "qkvo")),
        ):
            if value not in allowed:
                raise unknown(name, str(value), allowed)
        if is_int(self.heads) and is_int(self.kv_heads) and self.heads % self.kv_heads:
            raise SizeError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads evenly")

    @property
    def default_context(self) -> Size:
        """Tokens assumed when a workload names none: 2048, or all the model allows if fewer."""
        return min(self.max_context, 2048)


def decoder(name: str, work: Workload, sizes: Decoder) -> Graph:
    """The graph of a decoder under a workload.

    forward scores every position; prefill keeps K and V and scores the last position; decode adds
    one token to ``context - 1`` kept ones.

    Raises:
        SizeError: more context than learned positions allow.
    """
    context = sizes.default_context if work.context is None else work.context
    if is_int(context) and is_int(sizes.max_context) and context > sizes.max_context:
        raise SizeError(
            f"context {context} is beyond the model's {sizes.max_context}",
            hint=f"at most {sizes.max_context}",
        )
    decodes = work.phase == "decode"
    tokens, cached = (1, context - 1) if decodes else (context, 0)
    gpt = sizes.position == "learned"
    g = Builder(name, work.precision)
    ids = g.input("tokens", (work.batch, tokens), "int64")
    stem = "transformer.wte" if gpt else "model.embed_tokens"
    x = g(stem, Embedding(sizes.vocabulary, sizes.hidden_size), ids)
    if sizes.embedding_scale:
        x = g("scale", Mul(scalar=float(sizes.hidden_size) ** 0.5), x)
    if gpt:
        at = g.input("positions", (1, tokens), "int64")
        place = g(
            "transformer.wpe", Embedding(sizes.max_context + sizes.extra_positions, sizes.hidden_size), at
        )
        x = g("transformer.embed", Add(), x, place)

    def layer(g: Builder, x: Value) -> Value:
        return block(g, x, sizes, cached=cached, keep=work.phase != "forward", gpt=gpt)

    x = g.repeat("transformer.h" if gpt else "model.layers", sizes.layers, layer, x)
    x = g("transformer.ln_f" if gpt else "model.norm", norm(sizes.norm, sizes.hidden_size, sizes.norm_eps), x)
    if work.phase == "prefill":
        x = g("last", Slice(1, tokens - 1, tokens), x)
    tied = {"weight": f"{stem}.weight"} if sizes.tied else None
    head = Linear(sizes.hidden_size, sizes.vocabulary, bias=sizes.head_bias)
    logits = g("lm_head", head, x, tied=tied)
    return g.finish(logits, max_context=sizes.max_context, context=context, tokens=tokens)


def block(g: Builder, x: Value, sizes: Decoder, *, cached: Size, keep: bool, gpt: bool) -> Value:
    """Pre-norm attention and feed-forward inside residuals, in sequence or in parallel."""
    if gpt:
        norms, scopes = ("ln_1", "ln_2"), ("attn", "mlp")
        projections: tuple[str, ...] = ("c_attn", "c_proj")
        feeds: tuple[str, ...] = ("c_fc", "c_proj")
    else:
        norms, scopes = ("input_layernorm", "post_attention_layernorm"), ("self_attn", "mlp")
        projections = ("q_proj", "k_proj", "v_proj", "o_proj")
        feeds = ("up_proj", "down_proj")
    if sizes.gated:
        feeds = ("gate_proj", "up_proj", "down_proj")

    def attend(g: Builder, x: Value) -> Value:
        with g.scope(scopes[0]):
            return self_attention(
                g, x, heads=sizes.heads, kv_heads=sizes.kv_heads, head_dim=sizes.head_dim,
                names=projections, cached=cached, keep=keep, bias=sizes.attention_bias,
                rotary=sizes.rope_theta if sizes.position == "rotary" else None,
                rotary_width=sizes.rotary_width or None,
                qk_norm=sizes.qk_norm,
            )  # fmt: skip

    def feed(g: Builder, x: Value) -> Value:
        with g.scope(scopes[1]):
            if sizes.experts:
                return mixture(
                    g,
                    x,
                    sizes.experts,
                    sizes.top_k,
                    sizes.ffn_size,
                    function=sizes.activation,
                    gated=sizes.gated,
                )
            return feed_forward(g, x, sizes.ffn_size, feeds, function=sizes.activation, bias=sizes.mlp_bias)

    def before(g: Builder, x: Value, i: int) -> Value:
        return g(norms[i], norm(sizes.norm, sizes.hidden_size, sizes.norm_eps), x)

    if sizes.parallel:
        first = before(g, x, 0)
        second = before(g, x, 1) if sizes.parallel == 2 else first
        both = g("add_1", Add(), attend(g, first), feed(g, second))
        return g("add_2", Add(), both, x)
    x = residual(g, x, lambda g, x: attend(g, before(g, x, 0)), "add_1")
    return residual(g, x, lambda g, x: feed(g, before(g, x, 1)), "add_2")


def read_decoder(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with a `decoder:` block."""
    name = data["name"]
    sizes = Decoder(**data["decoder"])

    def build(work: Workload) -> Graph:
        return decoder(name, work, sizes)

    kind = "grouped-query" if sizes.kv_heads != sizes.heads else "multi-head"
    return Entry(
        name=name, family="transformer", build=build, source=data["source"],
        parameters=data["parameters"], aliases=tuple(data.get("aliases", ())),
        lighthouse=data.get("lighthouse", ""),
        summary=f"{data['family']}: {sizes.layers} layers, width {sizes.hidden_size}, {kind} attention.",
    )  # fmt: skip


READERS["decoder"] = read_decoder
