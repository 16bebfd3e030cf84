"""Small networks over a sequence, alike outside and one family each inside: windows, states, attention."""

from collections.abc import Callable

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.blocks import norm, residual
from pharos.models.registry import model
from pharos.models.rnn import CELLS
from pharos.models.ssm import Mamba, mamba_mixer
from pharos.models.transformer import Decoder, block
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv1d
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Reshape, Slice, Transpose
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import ceil_div, is_int

# Steps of a sequence whose length is not told.
LENGTH = 128


def _graph(
    name: str, work: Workload, features: int, vocabulary: int, width: int, classes: int, each: bool,
    body: Callable[[Builder, Value], Value], last: bool,
) -> Graph:  # fmt: skip
    """Steps in (tokens, or vectors of `features`), a body, and classes of every step or of the whole.

    At decode one step arrives and the state of earlier ones is kept.

    Args:
        last: the whole is told by the last step, which has seen all; else by the mean.
    """
    context = LENGTH if work.context is None else work.context
    tokens = 1 if work.phase == "decode" else context
    g = Builder(name, work.precision)
    if vocabulary:
        ids = g.input("tokens", (work.batch, tokens), "int64")
        x = g("embedding", Embedding(vocabulary, width), ids)
    else:
        x = g.input("steps", (work.batch, tokens, features))
        x = g("projection", Linear(features, width), x) if features != width else x
    x = body(g, x)
    wide = x.shape[2]
    if not each and last:
        x = g("last", Reshape((work.batch, wide)), g("newest", Slice(1, tokens - 1, tokens), x))
    elif not each:
        x = g("mean", Reduce((1,)), x)
    return g.finish(g("head", Linear(wide, classes), x), context=context, tokens=tokens)


@model("cnn-1d", source="hand: 40 -> 64 by 1x1, 4 layers of 64*64*5 + 64, head 64*12 + 12",
       parameters=85_580, macs=128 * (40 * 64 + 4 * 64 * 64 * 5) + 64 * 12)  # fmt: skip
def sequence_cnn(
    work: Workload, *, features: int = 40, vocabulary: int = 0, hidden: int = 64, layers: int = 4,
    kernel: int = 5, classes: int = 12, each: bool = False,
) -> Graph:  # fmt: skip
    """A 1-D CNN over a sequence: windows that widen with every layer, all steps at once.

    Args:
        features: numbers of a step; vocabulary: of tokens instead, 0 for none.
        kernel: odd; layer i looks at every 2^i-th step (van den Oord et al. 2016, arXiv:1609.03499), so
            that the field of L layers is 1 + (kernel - 1) (2^L - 1) steps.
        each: a result for every step, not for the whole.
    """
    if kernel % 2 == 0:
        raise SizeError(f"kernel must be odd, not {kernel}")

    def body(g: Builder, x: Value) -> Value:
        x = g("by_channel", Transpose((0, 2, 1)), x)
        for i in range(layers):
            with g.scope(f"layers.{i}"):
                reach = 2**i
                x = g("conv", Conv1d(hidden, hidden, kernel, 1, reach * (kernel // 2), reach), x)
                x = g("relu", Activation("relu"), x)
        return g("by_step", Transpose((0, 2, 1)), x)

    return _graph("sequence_cnn", work, features, vocabulary, hidden, classes, each, body, False)


def field_of(layers: int, kernel: int) -> int:
    """Steps that one result of `sequence_cnn` can see."""
    return 1 + (kernel - 1) * (2**layers - 1)


@model("rnn", source="hand: 2 layers of 4*(128*(40 or 128) + 128*128 + 2*128), head 128*12 + 12",
       parameters=220_684, macs=128 * 4 * 128 * (40 + 128 + 128 + 128) + 128 * 12)  # fmt: skip
def sequence_rnn(
    work: Workload, *, features: int = 40, vocabulary: int = 0, hidden: int = 128, layers: int = 2,
    cell: str = "lstm", classes: int = 12, each: bool = False,
) -> Graph:  # fmt: skip
    """A recurrence over a sequence (lstm, gru or rnn): a state of fixed size, one step after another."""
    if cell not in CELLS:
        raise unknown("cell", cell, CELLS)

    def body(g: Builder, x: Value) -> Value:
        return g(cell, CELLS[cell](x.shape[2], hidden, layers), x)

    width = hidden if vocabulary else features
    return _graph("sequence_rnn", work, features, vocabulary, width, classes, each, body, True)


@model("ssm", source="Gu and Dao 2023, arXiv:2312.00752, figure 3; hand: see the test")
def sequence_ssm(
    work: Workload, *, features: int = 40, vocabulary: int = 0, hidden: int = 128, layers: int = 4,
    states: int = 16, classes: int = 12, each: bool = False,
) -> Graph:  # fmt: skip
    """Mamba blocks over a sequence: a state of fixed size that picks what to keep, scanned in trees."""
    sizes = Mamba(
        layers=layers, hidden_size=hidden, inner_size=2 * hidden, state_size=states, vocabulary=1,
        dt_rank=ceil_div(hidden, 16),
    )  # fmt: skip
    keep, cached = work.phase != "forward", work.phase == "decode"

    def layer(g: Builder, x: Value) -> Value:
        def mixed(g: Builder, x: Value) -> Value:
            return mamba_mixer(g, g("norm", norm("rms", hidden, 1e-5), x), sizes, keep, cached)

        return residual(g, x, mixed)

    def body(g: Builder, x: Value) -> Value:
        return g("norm", norm("rms", hidden, 1e-5), g.repeat("layers", layers, layer, x))

    return _graph("sequence_ssm", work, features, vocabulary, hidden, classes, each, body, True)


@model("transformer", source="hand: 4 layers of 12*128^2 + 13*128, norm, projection and head")
def sequence_transformer(
    work: Workload, *, features: int = 40, vocabulary: int = 0, hidden: int = 128, layers: int = 4,
    heads: int = 4, classes: int = 12, each: bool = False,
) -> Graph:  # fmt: skip
    """A causal transformer over a sequence: every step looks at all before it; K and V are kept."""
    if is_int(hidden) and hidden % heads:
        raise SizeError(f"hidden {hidden} cannot be split among {heads} heads")
    sizes = Decoder(
        layers=layers, hidden_size=hidden, heads=heads, kv_heads=heads, head_dim=hidden // heads,
        ffn_size=4 * hidden, gated=False, activation="gelu", vocabulary=1, max_context=1, norm="layer",
        position="rotary", attention_bias="qkvo", mlp_bias=True,
    )  # fmt: skip
    decodes = work.phase == "decode"
    context = LENGTH if work.context is None else work.context
    cached = context - 1 if decodes else 0

    def body(g: Builder, x: Value) -> Value:
        x = g.repeat(
            "layers", layers, lambda g, x: block(g, x, sizes, cached=cached, keep=work.phase != "forward"), x
        )
        return g("norm", norm("layer", hidden, 1e-5), x)

    return _graph("sequence_transformer", work, features, vocabulary, hidden, classes, each, body, True)
