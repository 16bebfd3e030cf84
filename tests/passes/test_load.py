"""Expert load against drawing it, and a layer with a capacity against one without."""

import random

import pytest

from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.models.blocks import capacity_mixture, mixture
from pharos.ops.experts import Experts
from pharos.ops.router import Router
from pharos.passes.load import expert_load
from pharos.quantity.errors import SizeError


@pytest.mark.parametrize(("tokens", "experts", "top_k", "factor"), [(64, 8, 1, 1.0), (200, 16, 2, 1.25)])
def test_load_by_drawing(tokens, experts, top_k, factor):
    rng = random.Random(0)
    load = expert_load(tokens, experts, top_k, factor)
    rounds, dropped, touched = 2000, 0, 0
    for _ in range(rounds):
        filled = [0] * experts
        for _ in range(tokens):
            for e in rng.sample(range(experts), top_k):
                filled[e] += 1
        dropped += sum(max(0, n - load.capacity) for n in filled)
        touched += sum(n > 0 for n in filled)
    assert load.mean == tokens * top_k / experts
    assert load.dropped == pytest.approx(dropped / rounds / tokens / top_k, rel=0.05)
    assert load.touched == pytest.approx(touched / rounds, rel=0.01)


def test_every_expert_picked_by_every_token():
    load = expert_load(10, 4, 4, 1.0)
    assert (load.mean, load.touched, load.dropped, load.padding) == (10, 4, 0, 0)


def test_impossible_loads_are_told():
    with pytest.raises(SizeError, match="5 of 4 experts"):
        expert_load(10, 4, 5)


def layer(build):
    g = Builder("layer")
    x = g.input("x", (2, 6, 8))
    router = Router(8, 4, 2)
    return g.finish(build(g, x, router))


def test_with_room_for_all_a_capacity_changes_no_answer():
    torch = pytest.importorskip("torch")
    from pharos.convert.to_torch import to_torch

    free = layer(lambda g, x, router: mixture(g, x, router, Experts(4, 2, 8, 16, gated=False)))
    roomy = layer(lambda g, x, router: capacity_mixture(g, x, router, 16, factor=4.0, function="silu"))
    tight = layer(lambda g, x, router: capacity_mixture(g, x, router, 16, factor=1.0, function="silu"))
    ours = to_torch(free).double()
    weights = {k: torch.randn_like(v) for k, v in ours.state_dict().items()}
    ours.load_state_dict(weights)
    same = {"gate.weight": weights["gate.weight"], "experts.up_proj.weight": weights["experts.up_proj"],
            "experts.down_proj.weight": weights["experts.down_proj"]}  # fmt: skip
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    results = [ours(x)]
    for graph in (roomy, tight):
        module = to_torch(graph).double()
        module.load_state_dict(same)
        results.append(module(x))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(results[0], results[2])


def test_capacity_is_paid_in_macs_by_the_slot():
    router = 2 * 6 * 8 * 4
    for factor, slots in ((1.0, 6), (1.25, 8), (2.0, 12)):
        graph = layer(lambda g, x, r, f=factor: capacity_mixture(g, x, r, 16, factor=f, function="silu"))
        assert count(graph).macs == router + 4 * slots * 2 * 8 * 16
