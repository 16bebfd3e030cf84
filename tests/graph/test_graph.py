"""Graph: repeats, ties, names, errors that name the place."""

import pytest

from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.models.registry import find
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.quantity.errors import SizeError


def test_a_repeat_is_its_layers_written_out():
    for name in ("resnet50", "mobilenet_v2", "llama-3.2-1b"):
        graph = find(name).graph()
        folded, written = count(graph), count(graph.expanded())
        assert folded.macs == written.macs
        assert folded.parameters == written.parameters
        assert folded.traffic == written.traffic
        assert len(folded.lines) < len(written.lines)


def test_resnet_parameters_have_torchvisions_names():
    names = find("resnet50").graph().parameter_names()
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.2.bn3.bias": (2048,),
        "fc.weight": (1000, 2048),
    }.items():
        assert names[name].shape == shape
    assert len(names) == 161


def test_llama_parameters_have_transformers_names():
    names = find("llama-3-8b").graph().parameter_names()
    assert names["model.layers.31.self_attn.k_proj.weight"].shape == (1024, 4096)
    assert names["model.layers.0.mlp.down_proj.weight"].shape == (4096, 14336)
    assert names["lm_head.weight"].shape == (128256, 4096)
    assert len(names) == 3 + 32 * 9


def test_tied_weights_count_once_and_move_twice():
    g = Builder("tied")
    x = g("in", Embedding(100, 8), g.input("ids", (1, 4), "int64"))
    graph = g.finish(g("head", Linear(8, 100, bias=False), x, tied={"weight": "in.weight"}))
    counted = count(graph)
    assert counted.parameters == 800
    # four gathered rows and the whole matrix for the head
    assert counted.traffic.weights == 4 * 8 * 4 + 800 * 4


def test_errors_name_model_and_node():
    g = Builder("net")
    x = g.input("x", (2, 3))
    with g.scope("block.0"), pytest.raises(SizeError, match=r"net: block\.0\.fc: Linear.* not 3, given 2x3"):
        g("fc", Linear(4, 5), x)
    with pytest.raises(SizeError, match="two nodes are called x"):
        g.input("x", (1,))
    with pytest.raises(SizeError, match="keeps the shape"):
        g.repeat("layers", 3, lambda g, x: g("fc", Linear(3, 5), x), x)
    with pytest.raises(SizeError, match="at least 1, not 0"):
        g.input("y", (0, 3))


def test_intensity_of_a_matrix_vector_product_is_the_textbooks_half():
    """2MN / 4MN in fp32, weights only: equation 2 of the textbook."""
    counted = count(find("mlp(widths=[2048, 2048], bias=False)").graph())
    assert counted.intensity("weights_only") == 0.5
    assert counted.weight_bytes == 16 * 2**20


def test_a_round_of_two_layers_counts_its_names_in_twos():
    from pharos.graph.serial import from_dict, to_dict
    from pharos.passes.fuse import kernels

    def narrow(g, x):
        return g("fc", Linear(4, 4), x)

    def wide(g, x):
        with g.scope("mlp"):
            return g("down", Linear(8, 4), g("up", Linear(4, 8), x))

    g = Builder("twos")
    x = g.repeat("layers", 3, [narrow, wide], g.input("x", (2, 4)), start=1)
    graph = g.finish(x)
    named = set(graph.parameter_names())
    assert {n.rpartition(".")[0] for n in named} == {
        f"layers.{i}.{part}" for i in (1, 3, 5) for part in ("fc",)
    } | {f"layers.{i}.mlp.{part}" for i in (2, 4, 6) for part in ("up", "down")}
    assert [name for _, _, name in graph.walk()] == [
        "layers.1-5:2.fc", "layers.2-6:2.mlp.up", "layers.2-6:2.mlp.down",
    ]  # fmt: skip
    counted = count(graph)
    assert counted.parameters == 3 * (20 + 40 + 36)
    assert len(kernels(counted, fused=True)) == 3
    assert from_dict(to_dict(graph)) == graph
    assert count(graph.expanded()).parameters == counted.parameters


def test_a_parameter_may_belong_to_the_enclosing_module():
    from pharos.graph.serial import from_dict, to_dict
    from pharos.ops.elementwise import Mul
    from pharos.ops.stored import Stored

    def layer(g, x):
        with g.scope("attn"):
            return g("scaled", Mul(), g("scale", Stored((4,), key="gamma"), home=""), x)

    g = Builder("homes")
    x = g("cls", Mul(), g("token", Stored((4,), key="class_token"), home=""), g.input("x", (2, 4)))
    x = g.repeat("layers", 2, [layer, layer], x)
    graph = g.finish(x)
    names = ["class_token", *(f"layers.{i}.attn.gamma" for i in range(4))]
    assert list(graph.parameter_names()) == names
    assert from_dict(to_dict(graph)) == graph
    torch = pytest.importorskip("torch")
    from pharos.convert.to_torch import to_torch

    module = to_torch(graph)
    module.load_state_dict({name: torch.full((4,), 2.0) for name in names})
    assert float(module(torch.ones(2, 4)).detach().mean()) == 2.0**5
