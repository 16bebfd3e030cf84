"""Graph to PyTorch and back: the same graph, for every model of the catalogue; edited modules are read anew."""

import copy
from dataclasses import replace

import pytest

import pharos
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder, Repeat
from pharos.models.registry import find, names
from pharos.ops.activation import Activation
from pharos.ops.linear import Linear
from pharos.passes.held import HELD

torch = pytest.importorskip("torch")
nn = torch.nn


def inputs_of(graph):
    kinds = {"int64": torch.long, "bool": torch.bool}
    return [torch.zeros(tuple(v.shape), dtype=kinds.get(v.tensor.dtype), device="meta") for v in graph.inputs]


def by_kind(counted):
    found = {}
    for line in counted.lines:
        found[line.kind] = found.get(line.kind, 0) + line.times * line.work.macs
    return {k: v for k, v in found.items() if v}


def shortened(graph):
    """The same network with at most two rounds of each repeated layer."""
    nodes = [
        replace(n, body=shortened(n.body), count=min(n.count, 2)) if isinstance(n, Repeat) else n
        for n in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


# Whole, with all their layers: one of each kind, and the largest there are.
WHOLE = ["resnet50", "mobilenet-v2", "vit-b-16", "gpt2-small", "llama-3.1-405b", "mixtral-8x7b", "deepseek-v3", "t5-small",
         "mamba-130m", "rwkv-4-169m", "dlrm"]  # fmt: skip


@pytest.mark.parametrize("name", [*(f"{n}, short" for n in sorted(names())), *WHOLE])
def test_every_model_of_the_catalogue(name):
    graph = find(name.removesuffix(", short")).graph()
    graph = shortened(graph) if name.endswith(", short") else graph
    with torch.device("meta"):
        module = to_torch(graph)
    again = pharos.trace(module, *inputs_of(graph)).graph()
    # what the run held in memory is known of a traced graph only
    again = replace(again, meta={k: v for k, v in again.meta.items() if k not in (HELD, "unwatched")})
    assert again == graph
    # what is built and what is read name the same tensors
    own = {k: tuple(p.shape) for k, p in module.named_parameters()}
    assert own == {k: tuple(t.shape) for k, t in again.parameter_names().items()}
    theirs, ours = count(graph), count(again)
    assert (ours.parameters, ours.macs, by_kind(ours)) == (theirs.parameters, theirs.macs, by_kind(theirs))
    assert sum(p.numel() for p in module.parameters()) == ours.parameters


@pytest.fixture
def network():
    g = Builder("small")
    x = g.input("x", (2, 6))
    x = g("hidden", Linear(6, 8), x)
    x = g("relu", Activation("relu"), x)
    return to_torch(g.finish(g("fc", Linear(8, 4), x)))


def traced(module):
    return pharos.trace(module, torch.zeros(2, 6)).graph()


def test_it_is_read_back_node_by_node_and_not_handed_over(network):
    source = network.source_graph
    assert traced(network) is source
    assert traced(copy.deepcopy(network)) == source
    assert traced(network.train()) == source
    # inside another module the names begin with its path
    around = traced(nn.Sequential(network, nn.Tanh()))
    assert [n.name for n in around.nodes] == ["0.hidden", "0.relu", "0.fc", "1"]
    assert list(around.parameter_names()) == ["0.hidden.weight", "0.hidden.bias", "0.fc.weight", "0.fc.bias"]
    # another batch is another graph
    assert pharos.trace(network, torch.zeros(5, 6)).graph().outputs[0].shape == (5, 4)


def test_an_exchanged_layer_is_read_as_it_is_now(network):
    network.fc = nn.Sequential(nn.Linear(8, 3), nn.LayerNorm(3))
    graph = traced(network)
    assert graph.outputs[0].shape == (2, 3)
    assert count(graph).parameters == 6 * 8 + 8 + 8 * 3 + 3 + 6
    assert tuple(network(torch.zeros(2, 6)).shape) == (2, 3)
    assert "fc.0.weight" in graph.parameter_names()


def test_a_changed_layer_is_read_as_it_is_now(network):
    network.fc.weight = nn.Parameter(torch.zeros(5, 8))
    network.fc.bias = nn.Parameter(torch.zeros(5))
    assert traced(network).outputs[0].shape == (2, 5)
    conv = find("lenet5").graph()
    module = to_torch(conv)
    first = next(m for m in module.modules() if isinstance(m, nn.Conv2d))
    before = count(pharos.trace(module, *inputs_of(conv)).graph()).macs
    first.padding, first.dilation = (4, 4), (3, 3)
    after = pharos.trace(module, *inputs_of(conv)).graph()
    assert count(after).macs == before
    assert after != conv


def test_a_hook_and_a_parametrised_weight_are_seen(network):
    network.hidden.register_forward_hook(lambda module, args, out: out @ out.new_ones(8, 8))
    assert count(traced(network)).macs == 2 * (6 * 8 + 8 * 4 + 8 * 8)
    nn.utils.parametrizations.weight_norm(network.fc)
    graph = traced(network)
    assert count(graph).parameters == sum(p.numel() for p in network.parameters())
    assert {"fc.parametrizations.weight.original0"} < set(graph.parameter_names())
