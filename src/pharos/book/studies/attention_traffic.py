"""Attention's movement: numbers broadcast, gathered and reduced, and bytes if each is fetched or kept."""

from pharos.book.study import study
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.graph.op import BROADCAST, GATHER, REDUCE
from pharos.graph.tensor import Tensor
from pharos.ops.attention import Attention
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("attention-traffic", "How many numbers does attention broadcast, gather and reduce?", section="1.9")
def attention_traffic(
    *, tokens: int = 512, head_dim: int = 64, heads: int = 1, causal: bool = False, precision: str = "fp16"
) -> Told:
    """Of one layer and sequence; queries go to all keys, every query gathers every key and value.

    Args:
        causal: a token sees those before it only.
    """
    x = Tensor((1, heads, tokens, head_dim), precision)
    moved = Attention(causal).primitives(x, x, x, x)
    broadcast, gathered, reduced = (int(moved[k]) for k in (BROADCAST, GATHER, REDUCE))
    element = int(Tensor((1,), precision).nbytes)
    stored, tiled = (_bytes(x, causal, a, precision) for a in ("materialised", "tiled"))
    rows = tuple(
        (n, int(f[BROADCAST]), int(f[GATHER]), int(f[REDUCE]), int(f[GATHER]) * element)
        for n in (tokens // 4, tokens // 2, tokens, 2 * tokens, 4 * tokens)
        if n > 0
        for f in [Attention(causal).primitives(*[Tensor((1, heads, n, head_dim), precision)] * 4)]
    )
    return Told(
        answer=f"{broadcast:,} broadcast, {gathered:,} gathered ({gathered // 2:,} of keys, rest of values) "
        f"and {reduced:,} reduced: {fmt(gathered * element, 'B')} if every query fetched its own",
        numbers={
            "broadcast": broadcast,
            "gather": gathered,
            "gather_keys": gathered // 2,
            "reduce": reduced,
            "distinct_gathered": 2 * int(x.numel),
            "gather_bytes": gathered * element,
            "stored_scores_bytes": stored,
            "tiled_bytes": tiled,
        },
        reasons=(
            f"{2 * int(x.numel):,} of the gathered numbers are distinct: each is used "
            f"{gathered / (2 * int(x.numel)):.4g} times, which tiles keep near",
            f"a layer that stores its scores moves {fmt(stored, 'B')}, a tiled one {fmt(tiled, 'B')}",
        ),
        columns=("tokens", "broadcast", "gather", "reduce", "gather_bytes"),
        rows=rows,
        evidence=(counted("primitives of the operator, and its tensors"),),
    )


def _bytes(x: Tensor, causal: bool, algorithm: str, precision: str) -> int:
    g = Builder("attention", precision)
    q, k, v = (g.input(n, x.shape) for n in "qkv")
    return int(count(g.finish(g("attend", Attention(causal, algorithm=algorithm), q, k, v))).traffic.total)
