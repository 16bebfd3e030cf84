"""Highway networks, gated units and the recurrent encoder-decoder against hand-written PyTorch."""

import pytest

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.graph.workload import Workload
from pharos.models.blocks import GATES, gated_unit
from pharos.models.registry import find

torch = pytest.importorskip("torch")
F = torch.nn.functional
TINY = (
    "rnnsearch(source=6, source_vocabulary=20, target_vocabulary=15, embedding_dim=5, hidden=4, align=3, "
    "maxout=4)"
)


def weights_of(module):
    torch.manual_seed(0)
    weights = {k: torch.randn_like(v) * 0.4 for k, v in module.state_dict().items()}
    module.load_state_dict(weights)
    return weights


@pytest.mark.parametrize("gated", [True, False])
def test_highway_layers(gated):
    graph = find(f"highway(width=7, depth=3, inputs=9, classes=4, gated={gated})").graph(Workload(batch=2))
    module = to_torch(graph).double()
    w, x = weights_of(module), torch.randn(2, 9, dtype=torch.float64)

    def linear(x, name):
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    y = linear(x, "first")
    for i in range(3):
        h = torch.relu(linear(y, f"layers.{i}.plain"))
        t = torch.sigmoid(linear(y, f"layers.{i}.gate")) if gated else 1.0
        y = t * h + (1 - t) * y
    torch.testing.assert_close(module(x), linear(y, "last"), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("kind", "function"),
    [("glu", torch.sigmoid), ("bilinear", lambda x: x), ("reglu", torch.relu), ("geglu", F.gelu), ("swiglu", F.silu)],
)  # fmt: skip
def test_gated_units_are_those_of_shazeer(kind, function):
    """(f(x W) * x V) W2, arXiv:2002.05202, equations 5 and 6; three matrices of d x d_ff."""
    g = Builder("unit")
    graph = g.finish(gated_unit(g, g.input("x", (2, 3, 4)), 6, kind))
    module = to_torch(graph).double()
    w, x = weights_of(module), torch.randn(2, 3, 4, dtype=torch.float64)
    expected = (function(x @ w["gate.weight"].T) * (x @ w["up.weight"].T)) @ w["down.weight"].T
    torch.testing.assert_close(module(x), expected, rtol=1e-10, atol=1e-10)
    assert count(graph).macs == 6 * 3 * 4 * 6
    assert set(GATES) == {"glu", "bilinear", "reglu", "geglu", "swiglu"}


def test_rnnsearch_is_the_network_of_its_appendix():
    """Teacher-forced, with GRU cells of PyTorch and the alignment written out."""
    module = to_torch(find(TINY).graph(Workload(batch=2, context=5))).double()
    w = weights_of(module)
    source, target = torch.randint(0, 20, (2, 6)), torch.randint(0, 15, (2, 5))
    read = w["source_embedding.weight"][source]

    def cell(x, h, name, suffix=""):
        parts = [w[f"{name}.{kind}{suffix}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        return torch.gru_cell(x, h, *parts)

    ways = []
    for suffix, order in (("_l0", range(6)), ("_l0_reverse", reversed(range(6)))):
        h, rows = torch.zeros(2, 4, dtype=torch.float64), {}
        for t in order:
            rows[t] = h = cell(read[:, t], h, "encoder", suffix)
        ways.append(torch.stack([rows[t] for t in range(6)], 1))
    memory = torch.cat(ways, 2)
    state = torch.tanh(F.linear(ways[1][:, 0], w["initial.weight"], w["initial.bias"]))
    expected = []
    for t in range(5):
        y = w["target_embedding.weight"][target[:, t]]
        asked = state @ w["decoder.weight"].T
        energy = torch.tanh(asked[:, None] + memory @ w["align_memory.weight"].T) @ w["decoder.v"]
        context = (energy.softmax(1)[..., None] * memory).sum(1)
        wide = F.linear(torch.cat([state, y, context], 1), w["readout.weight"], w["readout.bias"])
        best = torch.maximum(wide[:, 0::2], wide[:, 1::2])
        expected.append(F.linear(best, w["output.weight"], w["output.bias"]))
        state = cell(torch.cat([y, context], 1), state, "decoder")
    torch.testing.assert_close(module(source, target), torch.stack(expected, 1), rtol=1e-9, atol=1e-9)


def test_rnnsearch_writes_token_by_token():
    model, kept, weights = find(TINY), {}, None
    source, target = torch.randint(0, 20, (2, 6)), torch.randint(0, 15, (2, 7))

    def run(phase, context, inputs, state=None):
        nonlocal weights
        module = to_torch(model.graph(Workload(phase=phase, context=context, batch=2))).double()
        weights = weights or weights_of(module)
        module.load_state_dict({k: weights.get(k, v) for k, v in module.state_dict().items()})
        return module(*inputs, state=state)

    steps = [run("prefill", 3, (source, target[:, :3]), kept)]
    for n in range(4, 8):
        steps.append(run("decode", n, (target[:, n - 1 : n],), kept))
    whole = run("forward", 7, (source, target))
    torch.testing.assert_close(torch.cat(steps, 1), whole[:, 2:], rtol=1e-9, atol=1e-9)


def test_rnnsearch_50_by_hand():
    """Table sizes of the paper's appendix: embeddings, encoder, alignment, decoder, readout, output."""
    e, n, a, m, v = 620, 1000, 1000, 500, 30_000
    encoder = 2 * (3 * n * (e + n) + 2 * 3 * n)
    decoder = 3 * n * (e + 2 * n + n) + 2 * 3 * n
    align = a * n + a + a * 2 * n
    readout = 2 * m * (n + e + 2 * n + 1)
    total = 2 * v * e + encoder + decoder + align + n * n + n + readout + m * v + v
    assert count(find("rnnsearch").graph()).parameters == total
    s, t = 50, 50
    macs = s * (6 * n * (e + n) + 2 * n * a) + n * n
    macs += t * (a * n + s * (a + 2 * n) + 3 * n * (e + 3 * n) + 2 * m * (3 * n + e) + m * v)
    assert count(find("rnnsearch").graph()).macs == macs
