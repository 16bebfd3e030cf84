"""The root of d_k: variance of scores, saturation of softmax, and what overflows in half precision."""

from math import log, sqrt
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import lines
from pharos.book.sums import draw
from pharos.book.sums import run as by_loops
from pharos.book.trials import apart, over, seeded
from pharos.ops.activation import Softmax
from pharos.ops.attention import Attention
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "sqrt-dk"
CLAIMS = ("dot-product-variance", "fn21-fp16-overflow-256", "softmax-sums-one", "softmax-max-entropy")
WIDTHS = (16, 64, 256, 1024)
KEYS = 64
FP16_MAX = 65504.0


@lab(NAME, "why scores are divided by the root of d_k: variance, saturated softmax, overflow in fp16",
     claims=CLAIMS)  # fmt: skip
def sqrt_dk(setting: Setting, progress: Progress) -> Outcome:
    """Variance of dot products, entropy and gradient of attention with and without the scale, fp16."""
    seeds = range(setting.seed, setting.seed + (1 if setting.small else 5))
    pairs = 2000 if setting.small else 20_000
    found: dict[int, dict[str, list[float]]] = {}
    with seeded(setting.seed):
        for i, width in enumerate(WIDTHS):
            progress(i, len(WIDTHS) + 2, f"d_k = {width}")
            found[width] = _measured(width, pairs, seeds)
        progress(len(WIDTHS), len(WIDTHS) + 2, "half precision")
        half = _half(pairs, setting.seed)
        progress(len(WIDTHS) + 1, len(WIDTHS) + 2, "entropy")
        entropy = _entropy(200 if setting.small else 2000, setting.seed)
        progress(len(WIDTHS) + 2, len(WIDTHS) + 2, "done")
    columns = ("d_k", "variance", "scaled", "entropy", "entropy_scaled", "slope", "slope_scaled")
    rows = tuple((w, *(median(of[name]) for name in columns[1:])) for w, of in found.items())
    points = [
        {"d_k": w, "over that of equal weights": median(of[key]), "scores": what, "of": of_what}
        for w, of in found.items()
        for what, ends in (("as they are", ""), ("over root d_k", "_scaled"))
        for of_what, key in (("entropy", f"entropy{ends}"), ("slope of softmax", f"slope{ends}"))
    ]  # fmt: skip
    return Outcome(
        name=NAME, summary=f"random queries and {KEYS} keys of unit variance; softmax of their products",
        settings={"seeds": len(seeds), "first_seed": setting.seed, "pairs": pairs, "keys": KEYS},
        columns=columns, rows=rows,
        checks=(
            Check(what="attention by explicit loops and by PyTorch gives the same, with both scales",
                  found=f"{half['forms']:.1e} apart, 1e-05 allowed", holds=half["forms"] <= 1e-5),
            Check(what="gradient of softmax is p_i (delta_ij - p_j)", found=f"{half['slope']:.1e} apart, "
            f"1e-09 allowed",
                  holds=half["slope"] <= 1e-9),
        ),
        findings=findings(found, half, entropy, pairs),
        note="variance, scaled: of products, and of products over the root of d_k; entropy: of the "
        "weights over "
        "its largest, ln of the keys; slope: size of softmax's Jacobian over that at equal weights, of "
        "the median "
        "query; medians over seeds",
        figure=lines(
            points, "d_k", "over that of equal weights", "scores", name=NAME, log_x=True,
            points=True, panel="of", own_y=True,
            title="Softmax saturates where scores are not scaled",
            alt="Entropy of attention weights and gradient of softmax over d_k from 16 to 1024: without the "
            "scale both fall towards nought, with it they stay level",
            source=f"{KEYS} keys, entries of unit variance, five seeds, median",
        ),
        data={"half": half, "entropy": entropy},
    )  # fmt: skip


def _measured(width: int, pairs: int, seeds: range) -> dict[str, list[float]]:
    """Figures of each seed: variances, entropies, gradients, with and without the scale."""
    import torch

    found: dict[str, list[float]] = {}
    for seed in seeds:
        with seeded(seed):
            q, k = torch.randn(pairs, width), torch.randn(pairs, width)
            products = (q * k).sum(1).double()
            keys = torch.randn(KEYS, width).double()
            raw = q[:200].double() @ keys.T
        for ends, scores in (("", raw), ("_scaled", raw / sqrt(width))):
            p = scores.softmax(-1)
            entropy = -(p * p.clamp_min(1e-300).log()).sum(-1)
            found.setdefault(f"entropy{ends}", []).append(float(entropy.mean()) / log(KEYS))
            slopes = slope(p) / slope_of_equal(KEYS)
            found.setdefault(f"slope{ends}", []).append(float(slopes.median()))
            found.setdefault(f"mean_slope{ends}", []).append(float(slopes.mean()))
            found.setdefault(f"largest{ends}", []).append(float(p.max(-1)[0].mean()))
        found.setdefault("variance", []).append(float(products.var()))
        found.setdefault("scaled", []).append(float((products / sqrt(width)).var()))
        shared = (q + 1) * (k + 1)
        found.setdefault("scaled_of_mean_one", []).append(float((shared.sum(1).double() / sqrt(width)).var()))
    return found


def slope(p: Any) -> Any:
    """Frobenius norm of softmax's Jacobian diag(p) - p p^T, for each row."""
    squares = (p**2).sum(-1)
    return ((p**2).sum(-1) - 2 * (p**3).sum(-1) + squares**2).clamp_min(0) ** 0.5


def slope_of_equal(keys: int) -> float:
    """The same for equal weights: sqrt(keys - 1) / keys."""
    return sqrt(keys - 1) / keys


def largest_exponent() -> float:
    """The largest fp16 number whose exponential is one too."""
    import numpy as np

    with np.errstate(over="ignore"):
        values = np.arange(1, 2**15, dtype=np.uint16).view(np.float16)
        values = values[np.isfinite(values)]
        return float(values[np.isfinite(np.exp(values))].max())


def _half(pairs: int, seed: int) -> dict[str, Any]:
    """What overflows in fp16: products, and exponentials of scores as they are, scaled, less the largest."""
    import numpy as np
    import torch

    found: dict[str, Any] = {"limit": largest_exponent(), "by_width": {}}
    for width in WIDTHS:
        with seeded(seed):
            q, k = torch.randn(pairs, width), torch.randn(pairs, width)
        products = (q * k).sum(1)
        half = (q.half() * k.half()).sum(1)
        with np.errstate(over="ignore"):
            over_ = ~np.isfinite(np.exp(half.numpy()))
            scaled = ~np.isfinite(np.exp((half / sqrt(width)).numpy()))
        found["by_width"][width] = {
            "largest": float(products.abs().max()),
            "products": float((~half.isfinite()).float().mean()),
            "exponentials": float(over_.mean()),
            "exponentials_scaled": float(scaled.mean()),
            # the exponential of what is left after the largest was taken off cannot exceed one
            "shifted": float((~(half - half.max()).exp().isfinite()).float().mean()),
        }
    # entries, all alike, from which a product of 256 overflows
    found["entries"] = sqrt(FP16_MAX / 256)
    with seeded(seed):
        q, k, v = (torch.randn(1, 2, 3, 4) for _ in range(3))
        found["forms"] = max(
            apart(op.torch(torch)(q, k, v).numpy(), by_loops(op, q.numpy(), k.numpy(), v.numpy()))
            for op in (Attention(), Attention(scale=1.0))
        )
        s = torch.randn(7).double()
        p = s.softmax(0)
        jacobian = torch.autograd.functional.jacobian(lambda s: Softmax().torch(torch)(s), s)
        found["slope"] = max(
            float((jacobian - (p.diag() - torch.outer(p, p))).abs().max()),
            abs(float(jacobian.norm()) - float(slope(p))),
        )
    return found


def _entropy(tries: int, seed: int) -> dict[str, float]:
    """Sums of softmax, and how much entropy other weights with the same expected score have, at most."""
    import numpy as np

    scores = 2 * draw(8, seed=seed)
    p = by_loops(Softmax(), scores[None])[0]
    # directions that keep the sum of the weights and the expected score
    held = np.stack([np.ones(8), scores])
    basis = np.linalg.svd(held)[2][2:]
    rng = np.random.default_rng(seed)
    best = -np.inf

    def entropy(w: Any) -> float:
        return float(-(w * np.log(w)).sum())

    for _ in range(tries):
        step = rng.standard_normal(6) @ basis
        room = np.min(np.where(step < 0, -p / step, np.inf))
        other = p + step * room * rng.uniform(1e-3, 0.99)
        if other.min() > 0:
            best = max(best, entropy(other))
    rows = by_loops(Softmax(), 5 * draw(50, KEYS, seed=seed))
    import torch

    half = torch.from_numpy(5 * draw(50, KEYS, seed=seed)).half().softmax(-1).double().sum(-1)
    return {"own": entropy(p), "best_other": best, "sum": float(np.abs(rows.sum(-1) - 1).max()),
            "sum_fp16": float((half - 1).abs().max())}  # fmt: skip


def findings(
    found: dict[int, dict[str, list[float]]], half: dict[str, Any], entropy: dict[str, float], pairs: int
) -> tuple[Finding, ...]:
    """The chapter's statements beside what came out."""
    top = max(found)
    by = half["by_width"]
    off = 3 * sqrt(2 / pairs)
    raw, kept = found[top]["entropy"], found[top]["entropy_scaled"]
    worst = max(abs(median(of["variance"]) / w - 1) for w, of in found.items())
    scaled = max(abs(median(of["scaled"]) - 1) for of in found.values())
    return (
        Finding(
            expected="products of d_k entries of unit variance have variance d_k, and 1 over the root of d_k",
            found=", ".join(f"{median(of['variance']):.1f} at {w}" for w, of in found.items())
            + f", scaled {over([median(of['scaled']) for of in found.values()])}; chance alone makes "
            f"{off:.1%}. With "
            f"entries of mean 1 the scaled variance is {median(found[top]['scaled_of_mean_one']):.2f}: "
            f"the rule "
            "needs mean nought and independence",
            agreement=of_variance(worst, scaled, off), section="1.6", claims=("dot-product-variance",),
        ),
        Finding(
            expected="without the scale softmax saturates and its gradients vanish",
            found=f"at d_k = {top} the entropy is {over([100 * e for e in raw])} percent of the largest, "
            f"with the "
            f"scale {over([100 * e for e in kept])}; the slope of softmax is "
            f"{median(found[top]['slope']):.1e} of that "
            f"at equal weights for the median query, {over(found[top]['mean_slope'])} on average, as some "
            f"keys "
            f"still tie; with the scale {over(found[top]['slope_scaled'])}",
            agreement=of_saturation(raw, kept, median(found[top]["slope"]), median(found[top]["mean_slope"])),
            section="1.6",
        ),
        Finding(
            expected="products without the scale can overflow fp16 above d_k = 256",
            found=f"the largest of {pairs:,} at 256 is {by[256]['largest']:.0f}, at {top} "
            f"{by[top]['largest']:.0f}, "
            f"against {FP16_MAX:,.0f}: entries near {half['entries']:.0f} all through would be needed. "
            f"What overflows "
            f"is their exponential, beyond {half['limit']:.2f}: {by[256]['exponentials']:.0%} of them at "
            f"256, "
            f"{by[16]['exponentials']:.1%} at 16; scaled {by[256]['exponentials_scaled']:.0%}, and none "
            f"once softmax "
            "has taken the largest score off",
            agreement=of_overflow(by), section="1.6", claims=("fn21-fp16-overflow-256",),
        ),
        Finding(
            expected="softmax weights sum to one",
            found=f"to {entropy['sum']:.0e} in double precision, {entropy['sum_fp16']:.0e} in fp16",
            agreement="agrees" if entropy["sum"] < 1e-12 and entropy["sum_fp16"] < 1e-2 else "contradicts",
            section="1.6", claims=("softmax-sums-one",),
        ),
        Finding(
            expected="of all weights with the same expected score softmax's have the largest entropy",
            found=f"{entropy['own']:.4f}; the best of other weights has "
            f"{entropy['own'] - entropy['best_other']:.1e} less",
            agreement="agrees" if entropy["best_other"] < entropy["own"] else "contradicts", section="1.6",
            claims=("softmax-max-entropy",),
        ),
    )  # fmt: skip


def of_variance(worst: float, scaled: float, off: float) -> Agreement:
    """Within three standard errors."""
    return "agrees" if max(worst, scaled) <= off else "contradicts" if max(worst, scaled) > 0.1 else "partly"


def of_saturation(raw: list[float], kept: list[float], slope: float, mean_slope: float) -> Agreement:
    """Without the scale entropy falls to a fifth on every seed and slopes to a tenth, and not so with it.

    In part where slopes vanish for most queries but not on average, or only fall.
    """
    if max(raw) >= min(kept) or slope > 1:
        return "contradicts"
    return "agrees" if max(raw) < 0.2 and min(kept) > 0.5 and max(slope, mean_slope) < 0.1 else "partly"


def of_overflow(by: dict[int, dict[str, float]]) -> Agreement:
    """Whether products do; in part if only some beyond 256 do."""
    large = [of["products"] for w, of in by.items() if w >= 256]
    return "contradicts" if max(large) == 0 else "agrees" if min(large) > 0 else "partly"
