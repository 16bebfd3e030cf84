"""Shared blocks that no catalogued model holds, against PyTorch written by hand."""

import pytest

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.models.blocks import low_rank_attention

torch = pytest.importorskip("torch")
NAMES = ("q_proj", "k_proj", "v_proj", "o_proj")


def low_rank(tokens):
    g = Builder("low_rank")
    x = g.input("x", (2, tokens, 12))
    return g.finish(low_rank_attention(g, x, heads=3, head_dim=4, rank=5, names=NAMES))


def test_low_rank_attention_mixes_the_tokens_first():
    module = to_torch(low_rank(9)).double()
    torch.manual_seed(0)
    w = {k: torch.randn_like(v) * 0.4 for k, v in module.state_dict().items()}
    module.load_state_dict(w)
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    q, k, v = (x @ w[f"{n}.weight"].T for n in NAMES[:3])
    k, v = (w[f"{n}_rank.weight"] @ y for n, y in (("k", k), ("v", v)))
    q, k, v = (y.unflatten(2, (3, 4)).transpose(1, 2) for y in (q, k, v))
    y = torch.softmax(q @ k.transpose(2, 3) / 2, -1) @ v
    y = y.transpose(1, 2).flatten(2) @ w["o_proj.weight"].T
    torch.testing.assert_close(module(x), y, rtol=1e-10, atol=1e-10)


def test_low_rank_attention_grows_linearly():
    macs = [count(low_rank(n)).macs for n in (100, 200, 400)]
    assert macs[2] == 2 * macs[1] == 4 * macs[0]
