"""Attention: its closed forms against a mask written out pair by pair, its cache, its variants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.graph.op import Tally
from pharos.graph.tensor import Tensor
from pharos.ops.attention import Attention
from pharos.quantity.errors import PharosError

PATTERNS = [
    {},
    {"pattern": "window"},
    {"pattern": "window", "anchors": 2},
    {"pattern": "blocks", "before": 0},
    {"pattern": "blocks", "before": 2},
    {"pattern": "strided"},
]


def sees(op, p, s):
    """Whether query p sees key s, in the words of the definition."""
    if op.causal and s > p:
        return False
    if op.pattern == "window":
        return abs(p - s) < op.span or s < op.anchors
    if op.pattern == "blocks":
        return abs(p // op.span - s // op.span) <= op.before
    if op.pattern == "strided":
        return p - s < op.span or (p - s) % op.span == 0
    return True


@given(
    form=st.sampled_from(PATTERNS), causal=st.booleans(), cached=st.integers(0, 25),
    tokens=st.integers(1, 25), span=st.integers(1, 12),
)  # fmt: skip
def test_pairs_and_cached_reads_by_counting(form, causal, cached, tokens, span):
    causal = causal or "anchors" in form or form.get("pattern") == "strided"
    cached = cached if causal else 0
    op = Attention(causal, cached, True, **form, span=span if form else 0)
    pairs = [(p, s) for p in range(cached, cached + tokens) for s in range(cached + tokens)]
    visible = [(p, s) for p, s in pairs if sees(op, p, s)]
    scored, masked = op.pairs(tokens, tokens)
    assert scored - masked == len(visible)
    assert op._read_from_cache(tokens) == len({s for _, s in visible if s < cached})
    everything, none = Attention(
        causal, cached, True, "materialised", **form, span=span if form else 0
    ).pairs(tokens, tokens)
    assert (everything, everything - none) == (len(pairs), len(visible))


@pytest.mark.parametrize("form", [PATTERNS[1], PATTERNS[2], PATTERNS[4]])
def test_a_cache_that_forgets_gives_what_the_whole_one_gives(form):
    rng = np.random.default_rng(0)
    cached, tokens = 19, 3
    op = Attention(True, cached, True, **form, span=4)
    q, k, v = (rng.normal(size=(1, 2, tokens, 4)) for _ in range(3))
    past_k, past_v = (rng.normal(size=(1, 2, cached, 4)) for _ in range(2))
    whole = op.loops(Tally(), q, k, v, past_k=past_k, past_v=past_v)
    held = min(cached, op._reach())
    rows = [*range(op.anchors), *range(cached - held + op.anchors, cached)]
    trimmed = op.loops(Tally(), q, k, v, past_k=past_k[:, :, rows], past_v=past_v[:, :, rows])
    np.testing.assert_allclose(whole, trimmed, atol=1e-12)
    shape = Tensor((1, 2, tokens, 4))
    assert op.state(shape, shape, shape)["k"][2] == held


def test_a_window_wider_than_the_context_is_full_attention():
    full, window = Attention(True), Attention(True, pattern="window", span=64)
    assert window.pairs(48, 48) == full.pairs(48, 48) == (48 * 48, 48 * 47 // 2)


def test_a_window_grows_with_the_context_and_not_with_its_square():
    op = Attention(True, pattern="window", span=4096)
    assert op.pairs(32768, 32768)[0] == 32768 * 4096
    assert op.pairs(65536, 65536)[0] == 2 * op.pairs(32768, 32768)[0]


def test_strided_attention_scores_what_its_paper_promises():
    """About 2 n sqrt(n) pairs with a stride of sqrt(n): Child et al. 2019, section 4."""
    n, span = 4096, 64
    scored, _ = Attention(True, pattern="strided", span=span).pairs(n, n)
    assert scored == n * span + sum(p // span for p in range(n))
    assert scored < 2 * n * span


def test_pages_round_the_cache_up():
    q = Tensor((2, 4, 1, 8), "fp16")
    held = {page: Attention(False, 32, True, page=page).state(q, q, q)["v"][2] for page in (1, 16, 32)}
    assert held == {1: 33, 16: 48, 32: 64}


def test_a_latent_cache_holds_keys_alone():
    q, k = Tensor((1, 128, 1, 576), "bf16"), Tensor((1, 1, 1, 576), "bf16")
    op = Attention(False, 1023, True, latent=512)
    assert op.shape(q, k).shape == (1, 128, 1, 512)
    assert op.state(q, k) == {"k": (1, 1, 1024, 576)}
    assert op.work(q, k, q.with_last(512)).macs == 128 * 1024 * (576 + 512)


def test_alibi_slopes_are_those_of_its_paper():
    """Geometric, from 1/2 to 1/256 for eight heads; for others those of the power below, then of twice it."""
    assert Attention()._slopes(8) == [2.0**-i for i in range(1, 9)]
    assert Attention()._slopes(12)[8:] == [2 ** (-0.5 * i) for i in (1, 3, 5, 7)]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Attention(pattern="windoww", span=4), "did you mean window"),
        (lambda: Attention(True, pattern="window"), "span of 1 or more"),
        (lambda: Attention(pattern="strided", span=4), "looks both ways"),
        (lambda: Attention(algorithm="flash"), "attention algorithm"),
    ],
)
def test_mistakes_are_told(make, told):
    with pytest.raises(PharosError) as caught:
        make()
    assert told in str(caught.value)
