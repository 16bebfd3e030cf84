"""Recurrent networks: a chain of steps over a state of fixed size."""

from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.models.registry import model
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.quantity.errors import unknown

CELLS = {"rnn": RNN, "lstm": LSTM, "gru": GRU}


@model("rnn", source="hand: 10,000*100 + 4*128*(100+128+2) + 128*64+64", parameters=1_126_016,
       macs=1000 * (4 * 128 * 228 + 128 * 64))  # fmt: skip
def lstm_tagger(
    work: Workload, *, vocabulary: int = 10_000, embedding_dim: int = 100, hidden: int = 128,
    layers: int = 1, tags: int = 64, cell: str = "lstm", bidirectional: bool = False,
) -> Graph:  # fmt: skip
    """Sequence tagger: embedding, recurrence (lstm, gru or rnn), one label per token.

    At decode one new token arrives and the state is all that is kept.
    """
    if cell not in CELLS:
        raise unknown("cell", cell, CELLS)
    tokens = 1 if work.phase == "decode" else (1000 if work.context is None else work.context)
    g = Builder("lstm_tagger", work.precision)
    x = g.input("tokens", (work.batch, tokens), "int64")
    x = g("embedding", Embedding(vocabulary, embedding_dim), x)
    recurrence = CELLS[cell](embedding_dim, hidden, layers, bidirectional=bidirectional)
    x = g("lstm" if cell == "lstm" else cell, recurrence, x)
    return g.finish(g("hidden2tag", Linear(x.shape[-1], tags), x))
