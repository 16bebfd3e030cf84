"""Score memory: what attention over a context keeps, materialised, tiled, and as a cache."""

from pharos.book.study import Bytes, study
from pharos.book.sums import attends, kv_bytes, only, scores
from pharos.ops.attention import Attention
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("score-memory", "How many bytes do the scores of a context take, and what avoids them?", section="1.5")
def score_memory(
    *,
    tokens: int = 4096,
    heads: int = 1,
    layers: int = 1,
    batch: int = 1,
    precision: str = "fp16",
    memory: Bytes = 80e9,
    model: str = "gpt2-xl",
) -> Told:
    """Bytes before anything is allocated, so that an input that cannot fit is refused by its length.

    Args:
        layers: whose scores are kept at once; training keeps all of them, inference one.
        model: whose KV cache stands beside, for the same context.
    """
    lengths = sorted({tokens // 8, tokens // 2, tokens, 2 * tokens, 8 * tokens} - {0})
    rows = []
    for n in lengths:
        one = scores(n, heads, precision, batch) * layers
        rows.append((n, one, _tiled(n, heads, precision, batch), kv_bytes(model, n, precision) * batch))
    mine = next(r for r in rows if r[0] == tokens)
    longest = _longest(memory, heads, layers, precision, batch)
    fits = mine[1] <= memory
    return Told(
        answer=f"{fmt(mine[1], 'B')} for {tokens:,} tokens: {'fits' if fits else 'does not fit'} in "
        f"{fmt(memory, 'B')}, which holds the scores of {longest:,} tokens",
        numbers={
            "score_bytes": mine[1],
            "tiled_workspace_bytes": mine[2],
            "kv_cache_bytes": mine[3],
            "fits": fits,
            "longest_tokens": longest,
        },
        reasons=(
            "scores of all pairs: twice the tokens, four times the bytes",
            "tiled attention keeps sums of a row and never writes the scores; a window keeps few of them",
            "more operations per second would not help: the bytes are what does not fit",
        ),
        columns=("tokens", "scores_bytes", "tiled_bytes", "kv_cache_bytes"),
        rows=tuple(rows),
        evidence=(counted("workspace of the attention operator; caches of " + model),),
        note=f"batch {batch}, heads {heads}, layers kept {layers}, {precision}; cache: all of {model}",
    )


def _tiled(tokens: int, heads: int, precision: str, batch: int) -> int:
    shape = (batch, heads, tokens, 64)
    node = only(attends(Attention(algorithm="tiled"), shape, shape, shape, precision=precision))
    return int(node.op.workspace(*node.io))


def _longest(memory: float, heads: int, layers: int, precision: str, batch: int) -> int:
    low, high = 0, 1 << 26
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (
            (middle, high)
            if scores(middle, heads, precision, batch) * layers <= memory
            else (low, middle - 1)
        )
    return low
