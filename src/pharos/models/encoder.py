"""Encoders that see all tokens at once: BERT, RoBERTa and DistilBERT."""

from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import feed_forward, norm, self_attention
from pharos.models.registry import READERS, Entry
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.elementwise import Add
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.shape_ops import Reshape, Slice
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, floor_div, is_int


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a reference implementation calls the parts of an encoder."""

    layers: str
    projections: tuple[str, str, str, str]
    feeds: tuple[str, str]
    norms: tuple[str, str]


STYLES = {
    "bert": Names(
        layers="encoder.layer",
        projections=("attention.self.query", "attention.self.key", "attention.self.value",
                     "attention.output.dense"),
        feeds=("intermediate.dense", "output.dense"),
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
    ),
    "distilbert": Names(
        layers="transformer.layer",
        projections=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        feeds=("ffn.lin1", "ffn.lin2"), norms=("sa_layer_norm", "output_layer_norm"),
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Sizes of an encoder with a norm behind every residual addition.

    Args:
        token_types: rows of the table that tells sentences apart; 0 for none.
        pooler: a tanh layer over the first token, a second output.
        extra_positions: rows of the position table beyond max_context.
        style: of parameter names, one of STYLES.
    """

    layers: Size
    hidden_size: Size
    heads: Size
    ffn_size: Size
    vocabulary: Size
    max_context: Size
    activation: str = "gelu"
    token_types: int = 2
    pooler: bool = True
    extra_positions: int = 0
    norm_eps: float = 1e-12
    style: str = "bert"

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise unknown("style of names", str(self.style), STYLES)
        if is_int(self.hidden_size) and is_int(self.heads) and self.hidden_size % self.heads:
            raise SizeError(f"{self.hidden_size} cannot be split among {self.heads} heads")


def encoder(name: str, work: Workload, sizes: Encoder) -> Graph:
    """The graph of an encoder: a vector for every token, and for the whole if it has a pooler.

    Inputs are tokens[B, T], positions[1, T] and, where there are any, token_types[B, T]. An encoder has
    no cache: every phase sees all tokens. Source: Devlin et al. 2018, arXiv:1810.04805, section 3.

    Raises:
        SizeError: more context than there are positions.
    """
    tokens = sizes.max_context if work.context is None else work.context
    if is_int(tokens) and is_int(sizes.max_context) and tokens > sizes.max_context:
        hint = f"at most {sizes.max_context}"
        raise SizeError(f"context {tokens} is beyond the model's {sizes.max_context}", hint=hint)
    names, width = STYLES[sizes.style], sizes.hidden_size
    g = Builder(name, work.precision)
    ids, at = g.input("tokens", (work.batch, tokens), "int64"), g.input("positions", (1, tokens), "int64")
    with g.scope("embeddings"):
        x = g("word_embeddings", Embedding(sizes.vocabulary, width), ids)
        table = Embedding(sizes.max_context + sizes.extra_positions, width)
        x = g("add_positions", Add(), x, g("position_embeddings", table, at))
        if sizes.token_types:
            kinds = g.input("token_types", (work.batch, tokens), "int64")
            kinds = g("token_type_embeddings", Embedding(sizes.token_types, width), kinds)
            x = g("add_types", Add(), x, kinds)
        x = g("LayerNorm", norm("layer", width, sizes.norm_eps), x)

    def layer(g: Builder, x: Value) -> Value:
        y = self_attention(
            g, x, heads=sizes.heads, kv_heads=sizes.heads, head_dim=floor_div(width, sizes.heads),
            names=names.projections, attention=Attention(), bias="qkvo",
        )  # fmt: skip
        x = g(names.norms[0], norm("layer", width, sizes.norm_eps), g("add_1", Add(), y, x))
        y = feed_forward(g, x, sizes.ffn_size, names.feeds, function=sizes.activation, bias=True)
        return g(names.norms[1], norm("layer", width, sizes.norm_eps), g("add_2", Add(), y, x))

    x = g.repeat(names.layers, sizes.layers, layer, x)
    if not sizes.pooler:
        return g.finish(x, max_context=sizes.max_context, context=tokens, tokens=tokens)
    first = g("pooler.reshape", Reshape((work.batch, width)), g("pooler.first", Slice(1, 0, 1), x))
    pooled = g("pooler.tanh", Activation("tanh"), g("pooler.dense", Linear(width, width), first))
    return g.finish(x, pooled, max_context=sizes.max_context, context=tokens, tokens=tokens)


def read_encoder(data: dict[str, Any]) -> Entry:
    """An entry from a facts file with an `encoder:` block."""
    name, sizes = data["name"], Encoder(**data["encoder"])
    return Entry(
        name=name, family="transformer", build=lambda work: encoder(name, work, sizes),
        source=data["source"], parameters=data["parameters"], aliases=tuple(data.get("aliases", ())),
        summary=f"{data['family']}: {sizes.layers} layers, width {sizes.hidden_size}, sees both sides.",
    )  # fmt: skip


READERS["encoder"] = read_encoder
