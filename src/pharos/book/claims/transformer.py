"""Section 1.6: transformers, Lighthouse 1.4, KV caches, context windows, the iron law."""

from math import log, log10

from pharos.book.answer import told, unknown
from pharos.book.claims.attention import by_hand, depths, kv_when_doubled, regime_of_attention, workspace
from pharos.book.claims.intensity import decode_intensity
from pharos.book.sums import (
    A100,
    GB,
    H100,
    attends,
    band,
    bandwidth,
    close,
    counted,
    devices,
    draw,
    estimate,
    graph,
    kv_bytes,
    leads,
    memory,
    only,
    run,
    scores,
    symbols,
)
from pharos.graph.graph import Repeat
from pharos.graph.tensor import Tensor
from pharos.ops.activation import Softmax
from pharos.ops.attention import Attention
from pharos.ops.linear import Linear

# The 7B shape that the chapter counts caches with: 32 layers, 32 heads of 128.
SEVEN = "llama-2-7b"


def _variance():
    import numpy as np

    raw, scaled = [], []
    for d in (32, 128):
        products = (draw(6_000, d) * draw(6_000, d, seed=1)).sum(1)
        raw.append(float(np.var(products)) / d)
        scaled.append(float(np.var(products * d**-0.5)))
    return told(
        [close(raw, [1, 1], 0.1), close(scaled, [1, 1], 0.1)],
        f"6,000 pairs of 32 and 128 entries: variance over d_k {raw[0]:.2f} and {raw[1]:.2f}",
    )


def _overflow():
    import numpy as np

    largest = float(np.finfo(np.float16).max)
    six_sigma = int((largest / 6) ** 2)
    return told(
        six_sigma,
        f"the width at which six standard deviations reach {largest:,.0f}; at 256 one is 16. What "
        f"overflows is exp(score), from {log(largest):.1f} on, which subtracting the maximum avoids",
    )


def _is_entropy_largest() -> bool:
    """Whether moving weight about at the same mean score lowers the entropy of softmax."""
    import numpy as np

    s = draw(6)
    p = run(Softmax(), s[None])[0]
    away = draw(20, 6, seed=1)
    basis = np.linalg.qr(np.stack([np.ones(6), s]).T)[0]
    away = 1e-3 * (away - away @ basis @ basis.T)
    entropy = lambda q: -(q * np.log(q)).sum(-1)  # noqa: E731
    return bool((entropy(p + away) < entropy(p)).all())


def _is_self_attention() -> bool:
    x = draw(1, 5, 4)
    w = [draw(4, 4, seed=s) for s in (1, 2, 3)]
    q, k, v = (run(Linear(4, 4, False), x, weight=m)[:, None] for m in w)
    return close(run(Attention(), q, k, v), by_hand(*(x @ m.T for m in w))[:, None])


def _is_multi_head() -> bool:
    import numpy as np

    x = draw(1, 5, 4)
    w = [draw(4, 4, seed=s) for s in (1, 2, 3)]
    mix = draw(4, 4, seed=4)
    heads = [run(Linear(4, 4, False), x, weight=m).reshape(1, 5, 2, 2).swapaxes(1, 2) for m in w]
    joined = run(Attention(), *heads).swapaxes(1, 2).reshape(1, 5, 4)
    y = run(Linear(4, 4, False), joined, weight=mix)
    each = [by_hand(*(x @ m[2 * h : 2 * h + 2].T for m in w)) for h in (0, 1)]
    return close(y, np.concatenate(each, -1) @ mix.T)


def _scores_by_head():
    n, h = symbols("N h")
    node = only(attends(Attention(algorithm="materialised"), *[(1, h, n, 64)] * 3))
    return told(
        str(node.op.workspace(*node.io) / 2).replace("**", "^"),
        "with d_k = d/h the MACs are those of one head, the scores h times as many",
    )


def block_kinds(name: str) -> list[str]:
    """Kinds of the operators of one repeated block of a decoder."""
    made = graph(name, "decode", 1, 64)
    (block,) = (n for n in made.nodes if isinstance(n, Repeat))
    return [node.op.kind for node, _, _ in block.body.walk()]


def _products_a_layer():
    kinds = block_kinds("gpt2-xl")
    return told(
        kinds.count("linear"),
        "queries, keys and values in one, the projection back, and two of the MLP; and two "
        "products of attention",
    )


def _token_rate():
    found = estimate("gpt2-xl", H100, "decode", context=64)
    weights = counted("gpt2-xl", precision="fp16").weight_bytes
    return told(
        found.regime == "memory-bandwidth",
        f"at most {bandwidth(H100) / weights:,.0f} tokens/s for GPT-2 XL in "
        f"fp16 on an H100, {bandwidth(H100) / weights / 2:,.0f} in fp32, before launches",
    )


def _training_regime():
    found = (
        "compute-bound" if estimate(SEVEN, A100, "prefill", 1, 2048).regime == "compute" else "memory-bound"
    )
    return told(
        found,
        "Llama-2-7B over 2,048 tokens, A100, fp16: its products are, and tiled attention is; Section 1.5 "
        "calls the same attention memory bound, which it is while scores are materialised",
        unfused_attention=regime_of_attention(),
    )


def _seventy(params):
    nominal = Tensor((int(params),), "fp16").nbytes
    real = counted("llama-2-70b", precision="fp16").weight_bytes
    return told(
        nominal / GB,
        f"of 70 G parameters; Llama-2-70B has {real / GB:.0f} GB. It takes {devices(nominal, memory(H100))}"
        f" devices of 80 GB, and 3.35 TB/s {1e3 * nominal / bandwidth(H100):.0f} ms",
    )


def _seven_weights(params):
    real = counted(SEVEN, precision="fp16").weight_bytes
    return told(
        Tensor((int(params),), "fp16").nbytes / GB, f"of 7 G parameters; Llama-2-7B has {real / GB:.2f} GB"
    )


def _cache_formula():
    n, d = symbols("N d")
    x = Tensor((1, 1, n, d))
    return leads(
        sum(Tensor(s).numel for s in Attention(causal=True, keep=True).state(x, x, x).values()), "N", "d"
    )


def _hundred_gigabytes():
    each = kv_bytes("llama-2-70b", 2048) / 2048
    return told(
        kv_bytes("llama-65b", 40_000) / GB,
        "80 layers, 64 heads of 128, 40,000 tokens, fp16; with the 8 KV heads "
        f"of Llama-2-70B it takes {100 * GB / each:,.0f} tokens",
    )


def _window_growth():
    open_to = {
        n: graph(n).meta.get("max_context", 0)
        for n in ("gpt3-175b", "phi-3-mini-128k", "llama-4-scout-17b-16e-text")
    }
    first, middle, last = open_to.values()
    return told(
        log10(middle / first),
        f"GPT-3's {first:,} tokens to the {middle:,} of Phi-3 in 2024, the longest of the "
        "catalogue by then; closed models announced 1 to 2 M tokens in that year, 3.0 orders",
        until_Llama_4_Scout_of_2025=log10(last / first),
    )


def _thirty():
    found = estimate("opt-30b", H100, "decode", context=64)
    weights = counted("opt-30b", precision="fp16").weight_bytes
    return told(
        found.binding,
        f"OPT-30B in fp16 on an H100: at most {bandwidth(H100) / weights:.0f} tokens/s a stream",
    )


def _phases():
    whole = estimate(SEVEN, A100, "prefill", 1, 2048).regime == "compute"
    token = estimate(SEVEN, A100, "decode", 1, 2048).regime == "memory-bandwidth"
    return told([whole, token], "Llama-2-7B, 2,048 tokens at once and one at a time, on an A100")


def _walls():
    n = symbols("N")
    x = Tensor((1, 1, n, 64))
    cache = sum(Tensor(s).numel for s in Attention(causal=True, keep=True).state(x, x, x).values())
    return told(
        [leads(workspace(n), "N"), leads(cache, "N")],
        "growth of stored scores and of the cache: limits of "
        "capacity first, although the definition calls them a bandwidth wall",
    )


def _iron_law():
    found = estimate(SEVEN, A100, "decode", 1, 2048)
    terms = [t for t in (found.data_s, found.compute_s, found.overhead_s) if t is not None]
    whole = band(found)[1]
    return told(
        max(terms) <= whole <= sum(terms) * (1 + 1e-9),
        "the predicted time of a token lies between the largest term, full overlap, and their sum, none",
    )


CLAIMS = {
    "dot-product-variance": _variance,
    "fn21-fp16-overflow-256": _overflow,
    "softmax-sums-one": lambda: float(run(Softmax(), draw(1, 9)).sum()),
    "softmax-max-entropy": lambda: told(
        _is_entropy_largest(), "twenty other weightings with the same mean score all have less"
    ),
    "multihead-quadratic-per-head": _scores_by_head,
    "eq7-self-attention": lambda: told(_is_self_attention(), "loops against the matrix form"),
    "eq8-multi-head": lambda: told(_is_multi_head(), "loops over two heads against the matrix form"),
    "lh-gpt2-params": lambda: counted("gpt2-xl").parameters,
    "lh-gpt2-6gb": lambda: told(
        counted("gpt2-xl").weight_bytes / GB, "fp32; footnote 2 reads 3 GB, fp16, for the same step"
    ),
    "lh-gpt2-3gflops": lambda: counted("gpt2-xl", "decode", context=1).flops,
    "lh-gpt2-1-op-byte": lambda: told(
        decode_intensity(),
        "over the 6 GB of fp32 weights of the same box",
        with_fp16_weights=decode_intensity("fp16"),
    ),
    "lh-gpt2-one-gemv-per-layer": _products_a_layer,
    "h100-3tbs": lambda: told(
        bandwidth(H100) / 1e12, f"SXM; the PCIe board has {bandwidth('nvidia_h100_pcie') / 1e12:.1f}"
    ),
    "tokens-per-s-bw": _token_rate,
    "train-32k-gigabytes": lambda: told(scores(32_768), "bytes a head and sequence in fp16"),
    "train-compute-bound": _training_regime,
    "infer-140gb-70b": _seventy,
    "kv-linear-nd": _cache_formula,
    "kv-100gb": _hundred_gigabytes,
    "fn22-weights-14gb": _seven_weights,
    "fn22-kv-1p07gb": lambda: told(
        kv_bytes(SEVEN, 2048) / GB, "keys and values; the pitfall of Section 1.11 prints 537 MB, keys alone"
    ),
    "fn22-8-users-8p6gb": lambda: told(
        8 * kv_bytes(SEVEN, 2048) / GB, f"{8 * kv_bytes(SEVEN, 2048) / 14 / 1e7:.0f}% of 14 GB of weights"
    ),
    "fig10-three-orders": _window_growth,
    "recsys-majority-cycles": lambda: unknown("a fleet's statistic, published for one company (79%)"),
    "sc-30b-bandwidth": _thirty,
    "sc-20gb-100k": lambda: scores(100_000) / GB,
    "sc-context-not-free": lambda: told(
        scores(4096) <= scores(2048) or kv_when_doubled() <= 1, "twice the context: scores x4, cache x2"
    ),
    "sc-train-vs-serve": _phases,
    "gpt3-2048": lambda: graph("gpt3-175b").meta["max_context"],
    "def16-depth": lambda: depths()[::-1],
    "def16-memory-wall": _walls,
    "iron-law": _iron_law,
}
