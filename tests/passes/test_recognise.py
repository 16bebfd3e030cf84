"""Recognition: known models have the blocks that their papers say, and the family they are catalogued in."""

from dataclasses import replace

import numpy as np
import pytest
import sympy

from pharos.facts.tables import family_card
from pharos.graph.graph import Builder
from pharos.graph.workload import Workload
from pharos.models.registry import entry, find, names
from pharos.ops.activation import Activation
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv1d, Conv2d
from pharos.ops.elementwise import Add, Mul
from pharos.ops.linear import Linear
from pharos.ops.norm import LayerNorm
from pharos.ops.pooling import GlobalAvgPool
from pharos.ops.recurrent import LSTM
from pharos.ops.shape_ops import Reshape, Transpose
from pharos.passes.recognise import recognise


def unnamed(graph):
    """The graph written out, without anything that says what it is."""
    return replace(graph.expanded(), name="model", meta={})


@pytest.mark.parametrize("name", sorted(names()))
def test_the_family_of_every_catalogued_model(name):
    graph = find(name).graph()
    found, plain = recognise(graph), recognise(unnamed(graph))
    assert plain.family == entry(name).family
    assert found.family == plain.family
    # a repeated layer counts as often as it runs
    assert totals(found) == totals(plain)
    assert plain.biases == tuple(family_card(plain.family)["biases"])
    assert plain.evidence


def totals(found):
    counts = {}
    for row in found.rows():
        if not row["part"]:
            key = (row["block"], row["detail"])
            counts[key] = counts.get(key, 0) + row["count"]
    return counts


# What the papers' tables say: layers a stage, blocks a stage, heads to key heads, experts.
MADE_OF = {
    "resnet18": {("basic residual", ""): 2 + 2 + 2 + 2},
    "resnet50": {("bottleneck residual", ""): 3 + 4 + 6 + 3},
    "resnet152": {("bottleneck residual", ""): 3 + 8 + 36 + 3},
    "resnext50_32x4d": {("bottleneck residual", "32 groups"): 16},
    "resnet50_v2": {("pre-activation bottleneck residual", ""): 16},
    "mobilenet_v1": {("depthwise-separable convolution", ""): 13},
    "mobilenet_v2": {("inverted residual", ""): 17},
    "mobilenet_v3_small": {("inverted residual", "squeeze-excitation"): 9, ("inverted residual", ""): 2},
    "efficientnet_b0": {("inverted residual", "squeeze-excitation"): 16},
    "efficientnet_v2_s": {("inverted residual", "squeeze-excitation"): 30, ("fused inverted residual", ""): 8},
    "densenet121": {("dense concatenation", ""): 6 + 12 + 24 + 16},
    "inception-v1": {("inception module", "4 branches"): 9},
    "squeezenet1_0": {("fire module", ""): 8},
    "shufflenet_v2_x1_0": {("shuffle unit", ""): 4 + 8 + 4},
    "unet": {("U-Net skip", ""): 4},
    "convnext_tiny": {("ConvNeXt block", ""): 3 + 3 + 9 + 3, ("patch embedding", "4x4"): 1},
    "ds_cnn_s": {("depthwise-separable convolution", ""): 4},
    "vit_b_16": {("pre-norm transformer block", ""): 12, ("patch embedding", "16x16"): 1},
    "swin_t": {("pre-norm transformer block", "windows of a map"): 2 + 2 + 6 + 2},
    "bert-base-uncased": {("post-norm transformer block", ""): 12},
    "gpt2-small": {("pre-norm transformer block", "causal"): 12},
    "llama-3-8b": {("pre-norm transformer block", "GQA 4:1, causal, SwiGLU"): 32},
    "falcon-7b": {("pre-norm transformer block", "MQA 71:1, causal, parallel"): 32},
    "mixtral-8x7b": {("pre-norm transformer block", "GQA 4:1, causal, experts 2 of 8"): 32},
    "deepseek-v3": {
        ("pre-norm transformer block", "MLA, causal, SwiGLU"): 3,
        ("pre-norm transformer block", "MLA, causal, experts 8 of 256, SwiGLU"): 58,
    },
    "gemma-2-2b": {
        ("pre- and post-norm transformer block", "GQA 2:1, causal, window, GEGLU"): 13,
        ("pre- and post-norm transformer block", "GQA 2:1, causal, GEGLU"): 13,
    },
    "t5-small": {
        ("pre-norm transformer block", ""): 6,
        ("pre-norm transformer block with cross attention", "causal"): 6,
    },
    "transformer-base": {
        ("post-norm transformer block", ""): 6,
        ("post-norm transformer block with cross attention", "causal"): 6,
    },
    "mamba-130m": {("Mamba block", "state 16"): 24},
    "rwkv-4-169m": {("RWKV time mixing", ""): 12, ("RWKV channel mixing", ""): 12},
    "hstu": {("HSTU block", ""): 5},
    "dlrm": {("embedding table", ""): 26, ("pairwise interaction", ""): 1},
    "dlrm-dcnv2-mlperf": {("cross layer", ""): 3},
    "din": {("attention over a history", ""): 1},
    "lstm_tagger": {("LSTM layer", ""): 1},
    "rnnsearch": {("GRU layer", "bidirectional"): 1, ("additive attention", ""): 1},
    "highway": {("highway layer", ""): 8},
    "anomaly_autoencoder": {("autoencoder", "8 in the middle"): 1},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MADE_OF))
def test_models_are_made_of_what_their_papers_say(name):
    found = totals(recognise(unnamed(find(name).graph())))
    assert {key: found.get(key) for key in MADE_OF[name]} == MADE_OF[name]
    # no block of the same kind beside them
    kinds = {block for block, _ in MADE_OF[name]}
    assert {key for key in found if key[0] in kinds} == set(MADE_OF[name])


def test_paths_name_the_modules():
    found = recognise(find("resnet50").graph())
    paths = [row["paths"] for row in found.rows() if row["block"] == "bottleneck residual"]
    assert paths == [["layer1.0", "layer2.0", "layer3.0", "layer4.0", "layer1.1-2", "layer2.1-3", "layer3.1-5",
                      "layer4.1-2"]]  # fmt: skip
    (row,) = [r for r in recognise(find("llama-3-8b").graph()).rows() if not r["part"]]
    assert (row["count"], row["paths"]) == (32, ["model.layers.0-31"])


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_cache_changes_nothing(phase):
    for name in ("llama-3-8b", "deepseek-v2-lite", "mamba-130m", "t5-small"):
        graph = find(name).graph(Workload(phase=phase, context=64))
        found = recognise(graph)
        assert found.family == entry(name).family
        whole = recognise(find(name).graph())
        blocks = [b.block for b in whole.outermost if b.block.endswith("block")]
        assert [b.block for b in found.outermost if b.block.endswith("block")] == blocks


def test_symbols_and_arrays():
    b, n = (sympy.Symbol(s, integer=True, positive=True) for s in "bn")
    found = recognise(find("llama-3-8b").graph(Workload(batch=b, context=n)))
    assert found.family == "transformer"
    assert found.count("transformer block") == 32
    swept = recognise(find("resnet50").graph(Workload(batch=np.array([1, 8]))))
    assert (swept.family, swept.count("bottleneck residual")) == ("cnn", 16)


def transformer(g, x, width):
    batch, tokens, _ = x.shape

    def heads(name, y):
        y = g(f"{name}.cut", Reshape((batch, tokens, 4, width // 4)), g(name, Linear(width, width), y))
        return g(f"{name}.swap", Transpose((0, 2, 1, 3)), y)

    y = g("norm1", LayerNorm(width), x)
    y = g("attention", Attention(), *(heads(n, y) for n in ("q", "k", "v")))
    y = g("rows", Reshape((batch, tokens, width)), g("back", Transpose((0, 2, 1, 3)), y))
    x = g("add1", Add(), x, g("out", Linear(width, width), y))
    y = g("act", Activation("gelu"), g("up", Linear(width, 4 * width), g("norm2", LayerNorm(width), x)))
    return g("add2", Add(), g("down", Linear(4 * width, width), y), x)


def test_two_families_of_weight_are_both_named():
    """Convolutions over an image, then attention over its positions."""
    g = Builder("both")
    x = g.input("image", (1, 3, 32, 32))
    for i in range(3):
        x = g(f"conv{i}", Conv2d(x.shape[1], 64, 3, 2 if i else 1, 1), x)
        x = g(f"relu{i}", Activation("relu"), x)
    x = g("tokens", Transpose((0, 2, 1)), g("flat", Reshape((1, 64, 64)), x))
    for i in range(2):
        with g.scope(f"layers.{i}"):
            x = transformer(g, x, 64)
    found = recognise(g.finish(x))
    assert set(found.family.split(" + ")) == {"cnn", "transformer"}
    assert "locality" in found.biases
    assert found.count("transformer block") == 2


def test_one_dimension_and_recurrence():
    g = Builder("speech")
    x = g.input("x", (1, 40, 100))
    x = g("relu", Activation("relu"), g("conv", Conv1d(40, 64, 11, 1, 5), x))
    one = g.finish(x)
    assert recognise(one).family == "cnn-1d"
    y = g("lstm", LSTM(64, 64, 1, True, True), g("steps", Transpose((0, 2, 1)), x))
    found = recognise(g.finish(y))
    assert set(found.family.split(" + ")) == {"cnn-1d", "rnn"}
    assert found.count("LSTM layer") == 1


def test_squeeze_excitation_with_linear_layers():
    g = Builder("se")
    x = g("conv", Conv2d(3, 8, 3, 1, 1), g.input("x", (1, 3, 8, 8)))
    y = g("fc1", Linear(8, 2), g("pool", GlobalAvgPool(), x))
    y = g("gate", Activation("sigmoid"), g("fc2", Linear(2, 8), g("relu", Activation("relu"), y)))
    graph = g.finish(g("scaled", Mul(), x, g("pixel", Reshape((1, 8, 1, 1)), y)))
    assert recognise(graph).count("squeeze-excitation") == 1


def test_a_sum_of_two_inputs_is_no_residual():
    g = Builder("sum")
    a, b = g.input("a", (1, 8)), g.input("b", (1, 8))
    found = recognise(g.finish(g("add", Add(), g("fc", Linear(8, 8), a), b)))
    assert not [b for b in found.blocks if "residual" in b.block]
    assert found.family == "mlp"


def test_nothing_known_is_said_to_be_nothing():
    g = Builder("none")
    found = recognise(g.finish(g("relu", Activation("relu"), g.input("x", (1, 8)))))
    assert (found.blocks, found.family, found.biases) == ((), "", ())
