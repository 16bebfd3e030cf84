"""Decoder transformers, from one description of their sizes: GPT, Llama, Gemma, DeepSeek shapes."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from itertools import groupby
from typing import Any

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import feed_forward, latent_attention, mixture, norm, residual, self_attention
from pharos.models.registry import READERS, Entry
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.elementwise import Add, Div, Mul
from pharos.ops.embedding import Embedding
from pharos.ops.experts import Experts
from pharos.ops.linear import Linear
from pharos.ops.norm import RMSNorm
from pharos.ops.rotary import Rotary
from pharos.ops.router import Router
from pharos.ops.shape_ops import Slice
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, is_int, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a reference implementation calls the parts of a decoder."""

    stem: str = "model.embed_tokens"
    positions: str = "model.embed_positions"
    embedding_norm: str = "model.embed_norm"
    layers: str = "model.layers"
    final: str = "model.norm"
    attention: str = "self_attn"
    feed_forward: str = "mlp"
    # before attention, before the feed-forward part; with post-norms: before and after each
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    post_norms: tuple[str, ...] = (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )  # fmt: skip
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")
    feeds: tuple[str, ...] = ("up_proj", "down_proj")
    gated_feeds: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    router: str = "gate"
    shared: str = "shared_experts"
    # linear layers inside the blocks are stored [in, out]
    transposed: bool = False
    # a fused projection holds the queries of a KV head with its key and value
    by_group: bool = False


STYLES = {
    "llama": Names(),
    "gpt2": Names(
        stem="transformer.wte", positions="transformer.wpe", layers="transformer.h",
        final="transformer.ln_f", attention="attn", norms=("ln_1", "ln_2"),
        projections=("c_attn", "c_proj"), feeds=("c_fc", "c_proj"), transposed=True,
    ),
    "phi3": Names(projections=("qkv_proj", "o_proj"), gated_feeds=("gate_up_proj", "down_proj")),
    "bloom": Names(
        stem="transformer.word_embeddings", embedding_norm="transformer.word_embeddings_layernorm",
        layers="transformer.h", final="transformer.ln_f", attention="self_attention",
        projections=("query_key_value", "dense"), feeds=("dense_h_to_4h", "dense_4h_to_h"),
        by_group=True,
    ),
    "gpt1": Names(
        stem="transformer.tokens_embed", positions="transformer.positions_embed", layers="transformer.h",
        attention="attn", norms=("ln_1", "ln_2"), projections=("c_attn", "c_proj"),
        feeds=("c_fc", "c_proj"), transposed=True,
    ),
    "gpt_neox": Names(
        stem="gpt_neox.embed_in", layers="gpt_neox.layers", final="gpt_neox.final_layer_norm",
        attention="attention", projections=("query_key_value", "dense"),
        feeds=("dense_h_to_4h", "dense_4h_to_h"), by_group=True,
    ),
    "opt": Names(
        stem="model.decoder.embed_tokens", positions="model.decoder.embed_positions",
        layers="model.decoder.layers", final="model.decoder.final_layer_norm",
        norms=("self_attn_layer_norm", "final_layer_norm"), feed_forward="",
        projections=("q_proj", "k_proj", "v_proj", "out_proj"), feeds=("fc1", "fc2"),
    ),
    "falcon": Names(
        stem="transformer.word_embeddings", layers="transformer.h", final="transformer.ln_f",
        attention="self_attention", projections=("query_key_value", "dense"),
        feeds=("dense_h_to_4h", "dense_4h_to_h"),
    ),
    "falcon_grouped": Names(
        stem="transformer.word_embeddings", layers="transformer.h", final="transformer.ln_f",
        attention="self_attention", projections=("query_key_value", "dense"), norms=("ln_attn", "ln_mlp"),
        feeds=("dense_h_to_4h", "dense_4h_to_h"), by_group=True,
    ),
    "phi": Names(
        final="model.final_layernorm", projections=("q_proj", "k_proj", "v_proj", "dense"),
        feeds=("fc1", "fc2"),
    ),
    "gptj": Names(
        stem="transformer.wte", layers="transformer.h", final="transformer.ln_f", attention="attn",
        norms=("ln_1", "ln_2"), projections=("q_proj", "k_proj", "v_proj", "out_proj"),
        feeds=("fc_in", "fc_out"),
    ),
    "gpt_oss": Names(router="router"),
    "starcoder2": Names(feeds=("c_fc", "c_proj")),
    "glm": Names(gated_feeds=("gate_up_proj", "down_proj")),
    "glm4": Names(
        gated_feeds=("gate_up_proj", "down_proj"),
        post_norms=("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm",
                    "post_mlp_layernorm"),
    ),
    "llama4": Names(feed_forward="feed_forward", router="router", shared="shared_expert"),
}  # fmt: skip

_ALLOWED = {
    "norm": ("layer", "layer_no_bias", "rms", "rms_offset"),
    "position": ("learned", "rotary", "alibi", "none"),
    "attention_bias": ("none", "qkv", "qkvo"),
    "qk_norm": ("none", "rms", "rms_offset", "l2_after"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """Sizes of a decoder; layers are alike unless `first` and `round` say how they differ.

    Args:
        gated: three feed-forward matrices (gate, up, down) instead of two.
        norm: "layer", "layer_no_bias", "rms" or "rms_offset".
        position: "learned", "rotary", "alibi" or "none".
        attention_bias: "none", "qkv" or "qkvo".
        tied: the output head is the embedding matrix.
        qk_norm: norm over head_dim of queries and keys: "none", "rms", "rms_offset", or "l2_after" the
            rotary positions, without a weight.
        rotary_width: features of a head that rotary positions turn; 0 means all.
        rotary_interleaved: neighbouring features turn together.
        rope_scaling: how rotary positions were slowed for longer contexts, see `ops.rotary.Rotary`.
        parallel: attention and feed-forward read the same input and are added together; the number of
            norms in front of them, 0 for blocks in sequence.
        post_norms: a norm after attention and after the feed-forward part too.
        norm_sums: norms stand behind the residual additions alone, and none at the end.
        embedding_norm: a norm behind the embedding.
        window: a token sees the last so many; chunk: or those of its own chunk of so many; 0 means all.
        sinks: a learned logit a head in the softmax.
        attention_scale: factor of the scores, None for 1 / sqrt(head_dim).
        attention_softcap, final_softcap: bounds of scores and logits by tanh; 0 for none.
        latent: sizes of multi-head latent attention: q_rank (None for none), kv_rank, nope_dim,
            rope_dim, v_dim.
        experts, top_k: feed-forward networks a layer, and those each token goes through; 0 for one dense.
        expert_size: inner width of one expert, 0 means ffn_size.
        shared_size: inner width of the feed-forward part that every token goes through besides; 0 for none.
        routing: further fields of `ops.router.Router`; expert_form: of `ops.experts.Experts`.
        head_bias: the output head has a bias.
        embedding_scale: embeddings are multiplied by sqrt(hidden_size).
        extra_positions: rows of the position table beyond max_context.
        first: for each leading layer that differs, the fields in which it does.
        round: for each layer of a round, likewise; rounds follow each other to the end.
        style: of parameter names: one of STYLES.
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
    qk_norm: str = "none"
    rope_theta: float = 10000.0
    norm_eps: float | None = None
    rotary_width: int = 0
    rotary_interleaved: bool = False
    rope_scaling: dict[str, Any] = field(default_factory=dict)
    parallel: int = 0
    post_norms: bool = False
    norm_sums: bool = False
    embedding_norm: bool = False
    window: int = 0
    chunk: int = 0
    sinks: bool = False
    attention_scale: float | None = None
    attention_softcap: float = 0.0
    final_softcap: float = 0.0
    latent: dict[str, Any] = field(default_factory=dict)
    experts: int = 0
    top_k: int = 0
    expert_size: int = 0
    shared_size: int = 0
    routing: dict[str, Any] = field(default_factory=dict)
    expert_form: dict[str, Any] = field(default_factory=dict)
    head_bias: bool = False
    embedding_scale: bool = False
    extra_positions: int = 0
    first: tuple[dict[str, Any], ...] = ()
    round: tuple[dict[str, Any], ...] = ()
    style: str = ""

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.type is Size:
                object.__setattr__(self, each.name, size(getattr(self, each.name), each.name))
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)
        if not self.style:
            object.__setattr__(self, "style", "gpt2" if self.position == "learned" else "llama")
        if self.style not in STYLES:
            raise unknown("style of names", str(self.style), STYLES)
        if is_int(self.heads) and is_int(self.kv_heads) and self.heads % self.kv_heads:
            raise SizeError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads evenly")
        known = {each.name for each in fields(self)}
        for change in (*self.first, *self.round):
            for name in change:
                if name not in known:
                    raise unknown("field of a decoder's layer", name, known)

    @property
    def names(self) -> Names:
        """The reference implementation's names."""
        return STYLES[self.style]

    @property
    def default_context(self) -> Size:
        """Tokens assumed when a workload names none: 2048, or all the model allows if fewer."""
        return min(self.max_context, 2048)

    def stretches(self) -> list[tuple[int, Size, list["Decoder"]]]:
        """Layers as (number of the first, rounds, the layers of a round); neighbours alike are one."""
        plain = replace(self, first=(), round=())
        if not self.first and not self.round:
            return [(0, self.layers, [plain])]
        found: list[tuple[int, Size, list[Decoder]]] = []
        at = 0

        def add(changes: tuple[dict[str, Any], ...]) -> None:
            nonlocal at
            for change, alike in groupby(changes):
                count = len(list(alike))
                found.append((at, count, [replace(plain, **change)]))
                at += count

        add(self.first)
        cycle = self.round or ({},)
        rounds, rest = divmod(self.layers - at, len(cycle))
        if rounds:
            found.append((at, rounds, [replace(plain, **change) for change in cycle]))
            at += rounds * len(cycle)
        add(cycle[:rest])
        return found


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
    names, width = sizes.names, sizes.hidden_size
    g = Builder(name, work.precision)
    ids = g.input("tokens", (work.batch, tokens), "int64")
    x = g(names.stem, Embedding(sizes.vocabulary, width), ids)
    if sizes.embedding_scale:
        x = g("scale", Mul(scalar=float(width) ** 0.5), x)
    if sizes.position == "learned":
        at = g.input("positions", (1, tokens), "int64")
        place = g(names.positions, Embedding(sizes.max_context + sizes.extra_positions, width), at)
        x = g("embed", Add(), x, place)
    if sizes.embedding_norm:
        x = g(names.embedding_norm, norm(sizes.norm, width, sizes.norm_eps), x)

    def layer(each: Decoder) -> Callable[[Builder, Value], Value]:
        return lambda g, x: block(g, x, each, cached=cached, keep=work.phase != "forward")

    for start, count, cycle in sizes.stretches():
        body = layer(cycle[0]) if len(cycle) == 1 else list(map(layer, cycle))
        x = g.repeat(names.layers, count, body, x, start=start)
    if not sizes.norm_sums:
        x = g(names.final, norm(sizes.norm, width, sizes.norm_eps), x)
    if work.phase == "prefill":
        x = g("last", Slice(1, tokens - 1, tokens), x)
    tied = {"weight": f"{names.stem}.weight"} if sizes.tied else None
    logits = g("lm_head", Linear(width, sizes.vocabulary, bias=sizes.head_bias), x, tied=tied)
    if sizes.final_softcap:
        logits = g("cap_down", Div(scalar=sizes.final_softcap), logits)
        logits = g("cap_up", Mul(scalar=sizes.final_softcap), g("cap", Activation("tanh"), logits))
    return g.finish(logits, max_context=sizes.max_context, context=context, tokens=tokens)


def block(g: Builder, x: Value, sizes: Decoder, *, cached: Size, keep: bool) -> Value:
    """Attention and feed-forward inside residuals, in sequence or in parallel, normed before (and after)."""
    names = sizes.names

    def attend(g: Builder, x: Value) -> Value:
        with g.scope(names.attention):
            return _attend(g, x, sizes, cached, keep)

    def feed(g: Builder, x: Value) -> Value:
        with g.scope(names.feed_forward) if names.feed_forward else nullcontext():
            return _feed(g, x, sizes)

    def normed(g: Builder, x: Value, name: str) -> Value:
        return g(name, norm(sizes.norm, sizes.hidden_size, sizes.norm_eps), x)

    if sizes.post_norms:
        a, b, c, d = names.post_norms
        x = residual(g, x, lambda g, x: normed(g, attend(g, normed(g, x, a)), b), "add_1")
        return residual(g, x, lambda g, x: normed(g, feed(g, normed(g, x, c)), d), "add_2")
    a, b = names.norms
    if sizes.norm_sums:
        x = normed(g, residual(g, x, attend, "add_1"), a)
        return normed(g, residual(g, x, feed, "add_2"), b)
    if sizes.parallel:
        first = normed(g, x, a)
        second = normed(g, x, b) if sizes.parallel == 2 else first
        both = g("add_1", Add(), attend(g, first), feed(g, second))
        return g("add_2", Add(), both, x)
    x = residual(g, x, lambda g, x: attend(g, normed(g, x, a)), "add_1")
    return residual(g, x, lambda g, x: feed(g, normed(g, x, b)), "add_2")


def _attend(g: Builder, x: Value, sizes: Decoder, cached: Size, keep: bool) -> Value:
    tokens, span = x.shape[1], sizes.window or sizes.chunk
    # one query sees every key it may: the causal mask hides nothing, a window does
    one = isinstance(tokens, int) and tokens == 1
    attention = Attention(
        bool(span) or not one, cached, keep, scale=sizes.attention_scale,
        pattern="window" if sizes.window else "blocks" if sizes.chunk else "full", span=span,
        softcap=sizes.attention_softcap, alibi=sizes.position == "alibi",
    )  # fmt: skip
    rotary = None
    if sizes.position == "rotary":
        rotary = Rotary(
            sizes.rope_theta, cached, sizes.rotary_width or None, sizes.rotary_interleaved,
            tuple(sorted(sizes.rope_scaling.items())),
        )  # fmt: skip
    if sizes.latent:
        assert rotary is not None
        # one token against a cache of many: what is absorbed is not made for each of them again
        absorbed = keep and one
        return latent_attention(
            g, x, heads=sizes.heads, attention=attention, rotary=rotary, absorbed=absorbed, **sizes.latent
        )
    qk_norm = None
    if sizes.qk_norm != "none" and (rotary or sizes.qk_norm != "l2_after"):
        eps = 1e-6 if sizes.norm_eps is None else sizes.norm_eps
        qk_norm = RMSNorm(
            sizes.head_dim, eps, sizes.qk_norm == "rms_offset", affine=sizes.qk_norm != "l2_after"
        )
    return self_attention(
        g, x, heads=sizes.heads, kv_heads=sizes.kv_heads, head_dim=sizes.head_dim,
        names=sizes.names.projections, attention=attention, bias=sizes.attention_bias, rotary=rotary,
        by_group=sizes.names.by_group, qk_norm=qk_norm, norm_after=sizes.qk_norm == "l2_after",
        sinks=sizes.sinks, transposed=sizes.names.transposed,
    )  # fmt: skip


def _feed(g: Builder, x: Value, sizes: Decoder) -> Value:
    names = sizes.names
    feeds = names.gated_feeds if sizes.gated else names.feeds

    def dense(g: Builder, x: Value, wide: Size) -> Value:
        return feed_forward(
            g, x, wide, feeds, function=sizes.activation, bias=sizes.mlp_bias, gated=sizes.gated,
            transposed=names.transposed,
        )  # fmt: skip

    if not sizes.experts:
        return dense(g, x, sizes.ffn_size)

    def shared(g: Builder, x: Value) -> Value:
        with g.scope(names.shared):
            return dense(g, x, sizes.shared_size)

    width = sizes.hidden_size
    return mixture(
        g, x, Router(width, sizes.experts, sizes.top_k, **sizes.routing),
        Experts(sizes.experts, sizes.top_k, width, sizes.expert_size or sizes.ffn_size, sizes.gated,
                sizes.activation, **sizes.expert_form),
        names=(names.router, "experts"), shared=shared if sizes.shared_size else None,
    )  # fmt: skip


def read_decoder(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with a `decoder:` block."""
    name = data["name"]
    sizes = Decoder(**data["decoder"])

    def build(work: Workload) -> Graph:
        return decoder(name, work, sizes)

    kind = "grouped-query" if sizes.kv_heads != sizes.heads else "multi-head"
    if sizes.latent:
        kind = "multi-head latent"
    local = next(
        (s for s in (sizes, *(replace(sizes, **c) for c in sizes.round)) if s.window or s.chunk), None
    )
    reach = f" within {local.window or local.chunk} tokens" if local else ""
    mixed = f", {sizes.experts} experts" if sizes.experts else ""
    return Entry(
        name=name, family="transformer", build=build, source=data["source"],
        parameters=data["parameters"], aliases=tuple(data.get("aliases", ())),
        lighthouse=data.get("lighthouse", ""), sizes=sizes,
        summary=f"{data['family']}: {sizes.layers} layers, width {sizes.hidden_size}, {kind} attention"
        f"{reach}{mixed}.",
    )  # fmt: skip


READERS["decoder"] = read_decoder
