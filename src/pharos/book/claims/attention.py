"""Section 1.5: attention, its scores, tiling, Napkin Math 1.1, the war story, the self-check."""

from pharos.book.answer import told
from pharos.book.sums import (
    A100,
    GB,
    MB,
    MIB,
    attends,
    close,
    counted,
    dense,
    devices,
    draw,
    executed,
    graph,
    kv_bytes,
    leads,
    memory,
    only,
    per_byte,
    result,
    ridge,
    run,
    scores,
    symbols,
)
from pharos.graph.tensor import Tensor
from pharos.ops.activation import Softmax
from pharos.ops.attention import Attention
from pharos.ops.recurrent import RNN


def attention(tokens, dim, heads=1, algorithm: str = "tiled", precision: str = "fp16"):
    """What full attention over a sequence asks for."""
    shape = (1, heads, tokens, dim)
    return attends(Attention(algorithm=algorithm), shape, shape, shape, precision=precision)


def workspace(tokens, dim=64, algorithm: str = "materialised"):
    """Bytes of scores that it holds."""
    node = only(attention(tokens, dim, algorithm=algorithm))
    return node.op.workspace(*node.io)


def traffic(tokens, dim=64, algorithm: str = "tiled"):
    """Bytes that it moves."""
    return attention(tokens, dim, algorithm=algorithm).traffic.total


def depth_of_attention(tokens: int = 1000) -> int:
    """Dependent steps of attention over a sequence."""
    q = Tensor((1, 1, tokens, 64))
    return Attention().parallelism(q, q, q, q).depth


def depths() -> list[str]:
    """Growth of dependent steps in the sequence: of a recurrence, of attention."""
    n = symbols("N")
    x, q = Tensor((1, n, 8)), Tensor((1, 1, n, 8))
    return [
        leads(RNN(8, 8).parallelism(x, result(RNN(8, 8), x)).depth, "N"),
        leads(Attention().parallelism(q, q, q, q).depth, "N"),
    ]


def by_hand(q, k, v):
    """softmax(Q K^T / sqrt(d)) V."""
    import numpy as np

    weights = np.exp(q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5)
    return weights / weights.sum(-1, keepdims=True) @ v


def is_attention_right(heads: int = 1, algorithm: str = "materialised") -> bool:
    """Whether the loop form gives the matrix form."""
    q, k, v = (draw(1, heads, 5, 4, seed=s) for s in range(3))
    return close(run(Attention(algorithm=algorithm), q, k, v), by_hand(q, k, v))


def _forces_scores():
    held = [workspace(4096, algorithm=a) for a in ("materialised", "tiled")]
    return told(
        held[1] == held[0] and not is_attention_right(algorithm="tiled"),
        f"the denominator belongs to a row: with the online softmax the result is the same and {held[1]}"
        f" bytes of scores are stored instead of {held[0] / MIB:.0f} MiB. The count of pairs is what is"
        " quadratic",
    )


def _gpt3():
    weights = counted("gpt3-175b", precision="fp16").weight_bytes
    cards = devices(weights, memory(A100))
    return told(
        [2048, cards],
        f"its fp16 weights alone, {weights / GB:.0f} GB, take {cards} devices of 80 GB; 2,048 is the "
        "length of its position table, not a limit of memory",
    )


def _context_of(name: str) -> int:
    return graph(name).meta["max_context"]


def _trade() -> list[str]:
    n = symbols("N")
    return [*depths(), leads(attention(n, 64).macs, "N")]


def _layer_storage():
    n, d = symbols("N d")
    each = dense(d, d)
    return [
        leads(workspace(n) // 2, "N"),
        str(3 * each.parameters).replace("**2", "*d"),
        leads(Tensor((n, d)).numel),
    ]


def _seven(heads=12, layers=32):
    one = scores(100_000, heads)
    return told(
        layers * one / GB,
        "a sum that holds when training keeps every layer for its backward pass; at inference "
        f"the layers follow each other and {one / GB:.0f} GB are held at a time",
    )


def regime_of_attention(tokens: int = 4096, algorithm: str = "materialised") -> str:
    """The side of an A100's ridge, fp16, heads of 64."""
    intensity = per_byte(attention(tokens, 64, algorithm=algorithm))
    return "compute-bound" if intensity >= ridge(A100) else "memory-bound"


def _bound():
    plain, tiled = (per_byte(attention(4096, 64, algorithm=a)) for a in ("materialised", "tiled"))
    return told(
        regime_of_attention(),
        f"materialised scores, 4,096 tokens: {plain:.0f} FLOP/B against a ridge of "
        f"{ridge(A100):.0f}; tiled {tiled:.0f}",
        tiled=regime_of_attention(algorithm="tiled"),
    )


def _projections(tokens: int, d: int = 768):
    return 4 * dense(d, d, tokens).macs, attention(tokens, d // 12, 12).macs


def _not_the_projections():
    long, short = _projections(4096), _projections(512)
    return told(
        long[0] > long[1],
        f"4,096 tokens, width 768: scores and values {long[1] / 1e9:.1f} G MACs, the four projections"
        f" {long[0] / 1e9:.1f} G; at 512 tokens {short[1] / 1e9:.1f} and {short[0] / 1e9:.1f}, so that below"
        " 2 widths the statement is true",
        at_512_tokens=short[0] > short[1],
    )


def _doubled_weights():
    grown = scores(8192) / scores(4096)
    return told(
        grown == 4, "weights stay, scores quadruple; a decoder's cache, which doubles, is the other candidate"
    )


def _keeps_all_states():
    n, d = symbols("N d")
    return told(leads(Tensor((1, n, d)).numel, "N"), "the annotations of all inputs")


def _is_softmax_blocking() -> bool:
    x = draw(1, 6)
    part = run(Softmax(), x[:, :3])
    return not close(run(Softmax(), x)[:, :3], part)


def _is_fixed() -> bool:
    n = symbols("N")
    return leads(traffic(n), "N") == "O(N)" and leads(attention(n, 64).macs, "N") == "O(N^2)"


def kv_when_doubled() -> float:
    """Growth of a KV cache with twice the tokens."""
    return kv_bytes("llama-2-7b", 4096) / kv_bytes("llama-2-7b", 2048)


CLAIMS = {
    "fn17-bahdanau-linear": _keeps_all_states,
    "def15-32mb": lambda: told(
        scores(4096) / MB,
        "decimal; 32 are binary, where other sections have decimal ones",
        MiB=scores(4096) / MIB,
    ),
    "def15-doubling": lambda: scores(8192) / scores(4096),
    "def15-o1-depth": depth_of_attention,
    "def15-flash-recompute": lambda: told(
        workspace(4096, algorithm="tiled") == 0 and is_attention_right(algorithm="tiled"),
        f"the tiled form gives the same and stores no scores; {leads(traffic(symbols('N')), 'N')} bytes move",
    ),
    "fn18-gpt3-2048-single-gpu": _gpt3,
    "fn18-n-to-1": _trade,
    "fn19-softmax-forces-nxn": _forces_scores,
    "fn20-3d2": lambda: told(
        str(3 * dense(symbols("d"), symbols("d")).parameters).replace("**", "^"),
        "the output projection adds d^2",
    ),
    "fn20-kv-linear": kv_when_doubled,
    "attention-equation": lambda: told(is_attention_right(), "loops against the matrix form"),
    "listing7-loops": lambda: told(
        str(attention(symbols("N"), symbols("d")).macs).replace("**", "^"),
        "the loop form executes"
        f" {executed(Attention(), draw(1, 1, 8, 4), draw(1, 1, 8, 4), draw(1, 1, 8, 4))} for N = 8, d = 4;"
        " the listing runs over d_model but scales by d_k, the same for one head only",
    ),
    "attention-layer-storage": _layer_storage,
    "napkin11-elements": lambda: scores(100_000, 12) // 2,
    "napkin11-240gb": lambda: told(
        scores(100_000, 12) / GB,
        f"{scores(100_000, 12) / 2**30:.1f} GiB; more than a device holds is a lack of capacity, "
        "where the box concludes with bandwidth",
    ),
    "napkin11-7680gb": _seven,
    "attention-qk-macs": lambda: [leads(attention(*symbols("N d")).macs / 2)] * 2,
    "attention-memory-bound": _bound,
    "war-512-1024": lambda: scores(1024) / scores(512),
    "war-4000-64x": lambda: told(
        scores(4000) / scores(512), "64 is that of 4,096 tokens", of_4096_tokens=scores(4096) / scores(512)
    ),
    "war-512-limit": lambda: told(_context_of("bert-base-uncased"), "BERT's position table"),
    "sc-32-to-128mb": lambda: told(scores(8192) / MB, "decimal; 128 are binary", MiB=scores(8192) / MIB),
    "sc-4096-8192": _doubled_weights,
    "sc-8000-64000": lambda: scores(64_000) / scores(8000),
    "sc-projections-not-main": _not_the_projections,
    "sc-softmax-blank": lambda: told(
        _is_softmax_blocking(), "each weight of a row changes with every further score"
    ),
    "sc-longctx-fix": lambda: told(_is_fixed(), "tiled: O(N) bytes move for O(N^2) MACs"),
}
