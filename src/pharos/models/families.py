"""Families as formulas: the layer that each repeats, in symbols, for the textbook's complexity tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Builder, Graph
from pharos.models.blocks import feed_forward, norm, residual, self_attention
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.embedding import Embedding
from pharos.ops.interaction import PairwiseInteraction
from pharos.ops.linear import Linear
from pharos.ops.recurrent import RNN
from pharos.ops.scan import SelectiveScan
from pharos.quantity.sizes import Size


@dataclass(frozen=True, slots=True)
class Formulas:
    """A family's repeated layer with its sizes as symbols.

    Args:
        build: the layer's graph from a symbol a name.
        symbols: name -> what it is, in the order formulas print them.
        layer: what is built, in words.
        decode: the same layer when one more token arrives, for what is kept between steps.
    """

    build: Callable[[dict[str, Size]], Graph]
    symbols: dict[str, str]
    layer: str
    decode: Callable[[dict[str, Size]], Graph] | None = None


def _mlp(s: dict[str, Size]) -> Graph:
    g = Builder("mlp")
    x = g.input("x", (s["B"], s["d_in"]))
    return g.finish(g("act", Activation("relu"), g("linear", Linear(s["d_in"], s["d_out"]), x)))


def _cnn(s: dict[str, Size]) -> Graph:
    g, k = Builder("cnn"), s["k"]
    # padded so that the size stays
    conv = Conv2d(s["c_in"], s["c_out"], k, 1, (k - 1) / 2)
    x = g.input("x", (s["B"], s["c_in"], s["H"], s["W"]))
    return g.finish(g("act", Activation("relu"), g("conv", conv, x)))


def _rnn(s: dict[str, Size]) -> Graph:
    g = Builder("rnn")
    return g.finish(g("rnn", RNN(s["d"], s["h"]), g.input("x", (s["B"], s["S"], s["d"]))))


def _attention(s: dict[str, Size]) -> Graph:
    g = Builder("attention")
    q, k, v = (g.input(name, (s["B"], 1, s["n"], s["d"])) for name in "qkv")
    return g.finish(g("attention", Attention(algorithm="materialised"), q, k, v))


def _attention_step(s: dict[str, Size]) -> Graph:
    g = Builder("attention")
    q, k, v = (g.input(name, (s["B"], 1, 1, s["d"])) for name in "qkv")
    return g.finish(g("attention", Attention(cached=s["n"] - 1, keep=True), q, k, v))


def _layer(s: dict[str, Size], attention: Attention, tokens: Size) -> Graph:
    g, d = Builder("transformer"), s["d"]

    def attend(g: Any, x: Any) -> Any:
        x = g("norm_1", norm("layer", d), x)
        return self_attention(
            g, x, heads=1, kv_heads=1, head_dim=d, names=("qkv", "out"), attention=attention, bias="qkvo"
        )

    def feed(g: Any, x: Any) -> Any:
        x = g("norm_2", norm("layer", d), x)
        return feed_forward(g, x, 4 * d, ("up", "down"), function="gelu", bias=True)

    x = residual(g, g.input("x", (s["B"], tokens, d)), attend, "add_1")
    return g.finish(residual(g, x, feed, "add_2"))


def _transformer(s: dict[str, Size]) -> Graph:
    return _layer(s, Attention(True, algorithm="materialised"), s["n"])


def _transformer_step(s: dict[str, Size]) -> Graph:
    return _layer(s, Attention(cached=s["n"] - 1, keep=True), 1)


def _dlrm(s: dict[str, Size]) -> Graph:
    g = Builder("dlrm")
    # F tables of R rows are one of F R rows that is asked F times
    ids = g.input("ids", (s["B"], s["F"]), "int64")
    rows = g("tables", Embedding(s["F"] * s["R"], s["E"]), ids)
    return g.finish(g("interaction", PairwiseInteraction(), rows))


def _ssm(s: dict[str, Size]) -> Graph:
    g = Builder("ssm")
    x, dt = (g.input(name, (s["B"], s["n"], s["d"])) for name in ("x", "dt"))
    b, c = (g.input(name, (s["B"], s["n"], s["N"])) for name in ("b", "c"))
    return g.finish(g("scan", SelectiveScan(s["d"], s["N"]), x, dt, b, c))


def _ssm_step(s: dict[str, Size]) -> Graph:
    g = Builder("ssm")
    x, dt = (g.input(name, (s["B"], 1, s["d"])) for name in ("x", "dt"))
    b, c = (g.input(name, (s["B"], 1, s["N"])) for name in ("b", "c"))
    return g.finish(g("scan", SelectiveScan(s["d"], s["N"], True, True), x, dt, b, c))


_B, _TOKENS = {"B": "batch"}, {"n": "tokens", "d": "width"}
FORMULAS = {
    "mlp": Formulas(_mlp, _B | {"d_in": "inputs", "d_out": "outputs"}, "a dense layer with ReLU"),
    "cnn": Formulas(
        _cnn,
        _B | {"H": "height", "W": "width", "k": "kernel", "c_in": "channels in", "c_out": "channels out"},
        "a k x k convolution with ReLU, padded to keep the size",
    ),
    "rnn": Formulas(
        _rnn, _B | {"S": "steps", "h": "hidden units", "d": "inputs"}, "a recurrence over S steps"
    ),
    "attention": Formulas(
        _attention, _B | _TOKENS, "attention of one head, its scores materialised", _attention_step
    ),
    "transformer": Formulas(
        _transformer, _B | _TOKENS, "a layer: attention and a feed-forward part of 4 d", _transformer_step
    ),
    "dlrm": Formulas(
        _dlrm, _B | {"F": "tables", "R": "rows", "E": "embedding width"},
        "lookups in F tables and the dots of all pairs",
    ),
    "ssm": Formulas(_ssm, _B | _TOKENS | {"N": "states a channel"}, "a selective scan", _ssm_step),
}  # fmt: skip
ALIASES = {"dense": "mlp", "conv": "cnn", "cnn-1d": "cnn", "vit": "transformer", "recommender": "dlrm"}
