"""Recurrent encoder-decoders: one chain of steps reads the source, another writes the target."""

from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.workload import Workload
from pharos.models.registry import model
from pharos.ops.activation import Activation
from pharos.ops.additive import AttentiveGRU
from pharos.ops.cache import Cache, Recall
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.recurrent import GRU
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Concat, Reshape, Slice
from pharos.ops.stored import Stored
from pharos.quantity.sizes import Size


@model("rnn", source="Bahdanau, Cho and Bengio 2015, arXiv:1409.0473, appendix A and B: RNNsearch-50")
def rnnsearch(
    work: Workload, *, source: int = 50, source_vocabulary: int = 30_000, target_vocabulary: int = 30_000,
    embedding_dim: int = 620, hidden: int = 1000, align: int = 1000, maxout: int = 500,
) -> Graph:  # fmt: skip
    """Encoder-decoder with additive attention: a bidirectional GRU, then a GRU that looks back at it.

    Forward: `source` tokens are read and the workload's context of target tokens is scored. Prefill keeps
    what was read and the decoder's state, decode writes one more token from them: all of it of a size
    that the target's length does not change.
    """
    target = 50 if work.context is None else work.context
    decodes, keep = work.phase == "decode", work.phase != "forward"
    tokens, batch, memory_size = 1 if decodes else target, work.batch, 2 * hidden
    g = Builder("rnnsearch", work.precision)
    if decodes:
        memory = _recall(g, batch, source, memory_size, "memory")
        keys = _recall(g, batch, source, align, "keys")
        # the kept state stands in for it
        first = g("decoder_first", Stored((batch, hidden), trainable=False))
    else:
        ids = g.input("source", (batch, source), "int64")
        x = g("source_embedding", Embedding(source_vocabulary, embedding_dim), ids)
        memory = g("encoder", GRU(embedding_dim, hidden, bidirectional=True), x)
        keys = g("align_memory", Linear(memory_size, align, False), memory)
        # the backward pass ends at the first token
        end = g("backward_end", Slice(2, hidden, memory_size), g("first_token", Slice(1, 0, 1), memory))
        end = g("backward_state", Reshape((batch, hidden)), end)
        first = g("decoder_first", Activation("tanh"), g("initial", Linear(hidden, hidden), end))
        if keep:
            memory = _keep(g, memory, "memory")
            keys = _keep(g, keys, "keys")
    ids = g.input("tokens", (batch, tokens), "int64")
    y = g("target_embedding", Embedding(target_vocabulary, embedding_dim), ids)
    decoder = AttentiveGRU(embedding_dim, hidden, memory_size, align, keep, decodes)
    before, context = g("decoder", decoder, y, keys, memory, first)
    together = g("readout_input", Concat(2), before, y, context)
    wide = g("readout", Linear(hidden + embedding_dim + memory_size, 2 * maxout), together)
    pairs = g("pairs", Reshape((batch, tokens, maxout, 2)), wide)
    best = g("maxout", Reduce(3, False, "max"), pairs)
    if work.phase == "prefill":
        best = g("last", Slice(1, tokens - 1, tokens), best)
    return g.finish(g("output", Linear(maxout, target_vocabulary), best), context=target, tokens=tokens)


def _keep(g: Builder, x: Value, name: str) -> Value:
    batch, tokens, width = x.shape
    rows = g(f"{name}_rows", Reshape((batch, 1, tokens, width)), x)
    return g(f"{name}_used", Reshape((batch, tokens, width)), g(f"{name}_kept", Cache(), rows))


def _recall(g: Builder, batch: Size, tokens: Size, width: Size, name: str) -> Value:
    rows = g(f"{name}_kept", Recall(batch, 1, tokens, width))
    return g(f"{name}_used", Reshape((batch, tokens, width)), rows)
