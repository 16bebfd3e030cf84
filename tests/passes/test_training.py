"""Training steps: operations against a counter on PyTorch, saved bytes against autograd, rules by hand."""

from dataclasses import replace

import pytest

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.models.transformer import Decoder, decoder
from pharos.passes.training import training
from pharos.quantity.errors import PharosError

torch = pytest.importorskip("torch")
SIZES = {"layers": 6, "hidden_size": 32, "heads": 4, "kv_heads": 4, "head_dim": 8, "ffn_size": 128,
         "vocabulary": 60, "max_context": 64}  # fmt: skip
GPT = Decoder(**SIZES, gated=False, activation="gelu", norm="layer", position="learned",
              attention_bias="qkvo", mlp_bias=True)  # fmt: skip
LLAMA = Decoder(**SIZES | {"kv_heads": 2})
NAMED = [
    "mlp(widths=[8, 16, 4])",
    "resnet18(resolution=64, classes=10)",
    "vgg_like",
    "lstm_tagger(vocabulary=20)",
    "lstm_tagger(vocabulary=20, cell='gru', layers=2)",
    "dlrm(rows=[10, 20, 30], dim=8, bottom=[16, 8], top=[9, 1])",
    "lenet5",
    "highway(depth=3)",
]


def graph_of(name, batch=2):
    if name == "gpt":
        return decoder("gpt", Workload(batch=batch, context=24), GPT)
    if name == "llama":
        return decoder("llama", Workload(batch=batch, context=24), LLAMA)
    if name == "vgg_like":
        return find("unet(resolution=32, width=4, depth=2)").graph(Workload(batch=batch))
    return find(name).graph(Workload(batch=batch, context=7 if "lstm" in name else None))


def run(graph):
    """(bytes that autograd saves, FLOPs a counter sees) of a step of the graph's PyTorch form."""
    from torch.utils.flop_counter import FlopCounterMode

    module = to_torch(graph).train()
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    inputs = [
        torch.randint(0, 7, tuple(v.shape)) if v.tensor.dtype == "int64" else torch.randn(tuple(v.shape))
        for v in graph.inputs
    ]
    held = {}

    def pack(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = module(*inputs)
        out.sum().backward()
    return sum(n for at, n in held.items() if at not in own), counter.get_total_flops()


@pytest.mark.parametrize("name", [n for n in NAMED if "lstm_tagger" not in n])
def test_operations_are_those_a_counter_sees(name):
    graph = graph_of(name)
    step = training(graph, "sgd")
    assert 2 * (step.forward.macs + step.backward.macs) == run(graph)[1]
    assert step.forward.macs == count(graph).macs


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_operations_of_decoders_beside_attention(name):
    """The counter does not know the CPU's fused attention: its products are added by hand."""
    graph = graph_of(name)
    step = training(graph, "sgd")
    # forward 2 products of pairs x head_dim, backward 5 because the scores are made again
    attention = 6 * 2 * 4 * 24 * 24 * 8 * (2 + 5)
    assert 2 * (step.forward.macs + step.backward.macs - attention) == run(graph)[1]


@pytest.mark.parametrize(
    "name",
    ["mlp(widths=[8, 16, 4])", "lenet5", "neumf(users=9, items=8)", "gpt", "squeezenet1_1(resolution=64)",
     "densenet121(resolution=32)"],
)  # fmt: skip
def test_saved_bytes_are_those_of_autograd(name):
    graph = graph_of(name)
    # the causal mask of each layer, which a fused kernel needs not be given
    masks = 6 * 24 * 24 * 4 if name == "gpt" else 0
    assert training(graph).saved + masks == run(graph)[0]


@pytest.mark.parametrize("name", ["resnet18(resolution=64, classes=10)", "vgg_like", "llama", *NAMED[3:6]])
def test_saved_bytes_are_within_what_autograd_keeps(name):
    """Fused kernels keep less than their steps one by one, and a library's LSTM a workspace of its own."""
    saved, kept = training(graph_of(name)).saved, run(graph_of(name))[0]
    assert (0.25 if "lstm" in name else 0.75) * kept <= saved <= kept


def test_a_transformer_layer_keeps_what_its_analysis_says():
    """Korthikanti et al. 2022, arXiv:2205.05198, equation 1, without dropout and with fused attention.

    Of s b h (34 + 5 a s / h) bytes in 16 bits: 5 a s / h are scores that fused attention does not keep,
    and dropout masks and their outputs are 1 + 1 + ... : what remains a layer is two norm inputs (4),
    the joint input of q, k and v (2), q, k, v (6), attention's output (2), the inputs of the two
    feed-forward matrices (2 + 8) and of the activation (8): 32 s b h.
    """
    sizes = Decoder(**SIZES | {"hidden_size": 64, "head_dim": 16, "ffn_size": 256, "vocabulary": 8},
                    gated=False, activation="gelu", norm="layer", position="none", attention_bias="qkvo",
                    mlp_bias=True)  # fmt: skip
    saved = []
    for layers in (3, 4):
        each = replace(sizes, layers=layers)
        saved.append(training(decoder("d", Workload(batch=2, context=32, precision="bf16"), each)).saved)
    tokens = 2 * 32
    statistics = tokens * 4 * (2 + 2 + 4)
    assert saved[1] - saved[0] == 32 * tokens * 64 + statistics


def test_six_operations_a_parameter_and_token():
    """Kaplan et al. 2020, arXiv:2001.08361: 6 N D without attention and embedding."""
    graph = find("gpt2-small").graph(Workload(context=256))
    step = training(graph)
    attention = 12 * 256 * 256 * 768 * (2 + 5)
    matrices = 124_439_808 - 1024 * 768 - 12 * (13 * 768) - 2 * 768
    assert 2 * (step.forward.macs + step.backward.macs - attention) == 6 * matrices * 256


def test_checkpointing_runs_layers_again_and_keeps_their_inputs():
    graph = graph_of("gpt")
    plain, layers, sqrt = (training(graph, checkpointing=way) for way in ("none", "layers", "sqrt"))
    inside = sum(line.times * line.work.macs for line in count(graph).lines if "transformer.h" in line.name)
    assert plain.recomputed.macs == 0
    assert layers.recomputed.macs == sqrt.recomputed.macs == inside
    assert (plain.forward, plain.backward) == (layers.forward, layers.backward)
    row = 2 * 24 * 32 * 4
    # six inputs of layers, against two of three layers each
    assert layers.saved - sqrt.saved == 4 * row
    assert layers.saved < 0.3 * plain.saved
    assert layers.peak < plain.peak
    assert training(graph, checkpointing=3).saved == sqrt.saved


@pytest.mark.parametrize(("optimizer", "numbers"), [("sgd", 0), ("momentum", 1), ("adam", 2), ("adamw", 2)])
def test_state_of_optimizers(optimizer, numbers):
    graph = find("mlp(widths=[8, 16, 4])").graph()
    step = training(graph, optimizer)
    assert step.optimizer == 4 * numbers * count(graph).parameters
    module = to_torch(graph)
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    extra = {"momentum": 0.9} if optimizer == "momentum" else {}
    made = make.get(optimizer, torch.optim.SGD)(module.parameters(), lr=0.1, **extra)
    module(torch.randn(1, 8)).sum().backward()
    made.step()
    kept = [t for s in made.state.values() for t in s.values() if t is not None and t.numel() > 1]
    assert sum(t.nbytes for t in kept) == step.optimizer


def test_narrow_parameters_have_wide_copies():
    graph = find("mlp(widths=[8, 16, 4])").graph(Workload(precision="bf16"))
    step, numbers = training(graph, "adafactor"), count(graph).parameters
    assert (step.weights, step.gradients, step.master) == (2 * numbers, 2 * numbers, 4 * numbers)
    assert step.optimizer == 4 * (8 + 16 + 16 + 16 + 4 + 4)


def test_the_peak_by_hand():
    """x 8, a hidden layer of 16 and an output of 4 for 4 samples, fp32."""
    graph = find("mlp(widths=[8, 16, 4])").graph(Workload(batch=4))
    step = training(graph, "sgd")
    # input, hidden, its relu, output; saved are input and relu output
    x, h, y = 4 * 8 * 4, 4 * 16 * 4, 4 * 4 * 4
    assert step.saved == x + h
    parameters = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    # back through the first layer: input, gradients of hidden, and those of all parameters
    live = max(x + 2 * h, x + h + y + y, x + h + h + y + 4 * (16 * 4 + 4), x + h + parameters)
    assert step.peak <= parameters + x + 2 * h + 2 * y + parameters
    assert step.peak >= parameters + live


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("mlp", {"optimizer": "adm"}, "adam"),
        ("mlp", {"checkpointing": "layer"}, "layers"),
        ("lenet5", {"checkpointing": "layers"}, "repeats no layer"),
    ],
)
def test_mistakes_are_told(name, arguments, told):
    with pytest.raises(PharosError, match=told):
        training(find(name).graph(), **arguments)
