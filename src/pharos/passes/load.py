"""Load: how tokens spread over experts, and what a capacity drops, if every expert is as likely."""

from dataclasses import dataclass
from math import ceil, exp, lgamma, log

from pharos.quantity.errors import SizeError


@dataclass(frozen=True, slots=True)
class Load:
    """Tokens on the experts of one layer.

    Args:
        mean: tokens an expert gets on average.
        touched: experts that get at least one, expected.
        capacity: tokens an expert has room for.
        dropped: share of the tokens' copies that find their expert full, expected.
        padding: share of the slots that stay empty, expected.
    """

    mean: float
    touched: float
    capacity: int
    dropped: float
    padding: float


def expert_load(tokens: int, experts: int, top_k: int, factor: float = 1.25) -> Load:
    """Load of a layer whose router sends each token to top_k different experts, all equally likely.

    An expert's tokens are then binomial, n = tokens and p = top_k / experts. A trained router is less
    even: what it drops is at least this. Capacity = ceil(factor x mean): Fedus et al. 2021,
    arXiv:2101.03961, equation 3, whose factors are 1.0 to 1.25.

    Raises:
        SizeError: a size below one, more picks than experts, or a factor that is not positive.
    """
    if min(tokens, experts, top_k) < 1 or top_k > experts or factor <= 0:
        raise SizeError(
            f"no load of {tokens} tokens on {top_k} of {experts} experts with capacity factor {factor}"
        )
    p = top_k / experts
    mean = tokens * p
    capacity = ceil(factor * mean)
    over = sum((n - capacity) * _binomial(tokens, p, n) for n in range(capacity + 1, tokens + 1))
    kept = mean - over
    touched = experts * (1 - (1 - p) ** tokens)
    return Load(mean, touched, capacity, over / mean, 1 - kept / capacity)


def _binomial(n: int, p: float, k: int) -> float:
    if p == 1.0:
        return 1.0 if k == n else 0.0
    ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
    return exp(ways + k * log(p) + (n - k) * log(1 - p))
