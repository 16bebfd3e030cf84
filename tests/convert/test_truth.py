"""Counts against hand formulas: each network once traced from PyTorch, and once from our own catalogue."""

import json
import runpy
from itertools import pairwise
from pathlib import Path

import pytest

import pharos
from pharos.graph.count import count
from pharos.graph.graph import Node
from pharos.graph.workload import Workload
from pharos.models.registry import find

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import torch_nets as nets  # noqa: E402

VISION = Path(__file__).parents[1] / "models"
REFERENCE = json.loads((VISION / "vision_reference.json").read_text())["models"]
LLAMA3_70B = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
              "num_key_value_heads": 8, "vocab_size": 128256}  # fmt: skip
MIXTRAL_TINY = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8,
                "num_key_value_heads": 2, "vocab_size": 1000}  # fmt: skip


def image(side=224, channels=3, batch=1):
    return torch.zeros(batch, channels, side, side, device="meta")


def tokens(context, batch=1):
    return torch.zeros(batch, context, dtype=torch.long, device="meta")


def of_config(kind, name, **sizes):
    config = getattr(transformers, f"{kind}Config")(**sizes)
    return getattr(transformers, name)._from_config(config)


def encoder(n, d, layers):
    """(parameters, MACs) of layers with biases: 4 d^2 + 2 * 4 d^2 weights, n^2 d twice."""
    parameters = layers * (12 * d * d + 13 * d)
    return parameters, layers * (12 * n * d * d + 2 * n * n * d)


def vit(n=197, d=768, layers=12):
    parameters, macs = encoder(n, d, layers)
    ends = 3 * 16**2 * d + d + d + n * d + 2 * d + 1000 * d + 1000
    return parameters + ends, 14**2 * 3 * 16**2 * d + macs + 1000 * d


def bert(n=128, d=768, layers=12):
    parameters, macs = encoder(n, d, layers)
    return parameters + (30522 + 512 + 2) * d + 2 * d + d * d + d, macs + d * d


def gpt2(d, layers, n=1024, vocabulary=50257):
    parameters, macs = encoder(n, d, layers)
    return parameters + (vocabulary + 1024) * d + 2 * d, macs + n * d * vocabulary


def llama(d, ff, layers, heads, kv, vocabulary, n, experts=1, picked=1, width=None):
    """Per token 2 d^2 + 2 d kv hd and three matrices of d ff for each expert, and a router of d E."""
    hd = d // heads
    router = d * experts if experts > 1 else 0
    attention = 2 * d * d + 2 * d * kv * hd
    parameters = layers * (attention + 3 * d * ff * experts + router + 2 * d) + 2 * vocabulary * d + d
    macs = (
        layers * n * (attention + 3 * d * ff * picked + router) + layers * 2 * n * n * d + n * d * vocabulary
    )
    return parameters, macs


def dlrm(batch=128):
    bottom, top = (13, 512, 256, 64), (27 * 26 // 2 + 64, 1024, 1024, 512, 256, 1)
    layers = [*pairwise(bottom), *pairwise(top)]
    mlp = sum(a * b for a, b in layers)
    return 26 * 100_000 * 64 + mlp + sum(b for _, b in layers), batch * (mlp + 27**2 * 64)


def ds_cnn():
    weights = 10 * 4 * 64 + 4 * (9 * 64 + 64 * 64) + 64 * 12
    # nine convolutions with biases and two numbers a channel of nine norms
    return weights + 9 * 64 + 9 * 2 * 64 + 12, 320_000 + 4 * (72_000 + 512_000) + 768


ROWS = {
    "resnet50": (nets.resnet50, lambda: [image()], 25_557_032, 4_089_184_256),
    "mobilenet_v2": (nets.mobilenet_v2, lambda: [image()], 3_504_872, 300_774_272),
    "vgg16": (nets.vgg16, lambda: [image()], 138_357_544, 15_470_264_320),
    "alexnet": (nets.alexnet, lambda: [image()], 61_100_840, 714_188_480),
    "vit": (nets.ViT, lambda: [image()], *vit()),
    "vit, attention written out": (lambda: nets.ViT(written=True), lambda: [image()], *vit()),
    "vit of transformers": (
        lambda: of_config("ViT", "ViTForImageClassification", num_labels=1000), lambda: [image()], *vit()
    ),
    "resnet50 of transformers": (
        lambda: of_config("ResNet", "ResNetForImageClassification", num_labels=1000), lambda: [image()],
        25_557_032, 4_089_184_256,
    ),
    "bert": (lambda: of_config("Bert", "BertModel"), lambda: [tokens(128)], *bert()),
    "gpt2": (lambda: of_config("GPT2", "GPT2LMHeadModel"), lambda: [tokens(1024)], *gpt2(768, 12)),
    "gpt2-xl": (
        lambda: of_config("GPT2", "GPT2LMHeadModel", n_embd=1600, n_layer=48, n_head=25),
        lambda: [tokens(1024)], *gpt2(1600, 48),
    ),
    "lstm": (
        lambda: torch.nn.LSTM(100, 128), lambda: [torch.zeros(1000, 1, 100)],
        4 * 128 * (100 + 128 + 2), 1000 * 4 * 128 * (100 + 128),
    ),
    "dlrm": (nets.DLRM, lambda: [torch.zeros(128, 13), *[tokens(4, 128) for _ in range(26)]], *dlrm()),
    "ds_cnn": (nets.ds_cnn, lambda: [torch.zeros(1, 1, 49, 10)], *ds_cnn()),
    "llama-2-7b": (
        lambda: of_config("Llama", "LlamaForCausalLM"), lambda: [tokens(2048)],
        *llama(4096, 11008, 32, 32, 32, 32000, 2048),
    ),
    "llama-3-70b": (
        lambda: of_config("Llama", "LlamaForCausalLM", **LLAMA3_70B), lambda: [tokens(2048)],
        *llama(8192, 28672, 80, 64, 8, 128256, 2048),
    ),
    "mixtral-8x7b": (
        lambda: of_config("Mixtral", "MixtralForCausalLM"), lambda: [tokens(2048)],
        *llama(4096, 14336, 32, 32, 8, 32000, 2048, 8, 2),
    ),
    "mixtral-tiny": (
        lambda: of_config("Mixtral", "MixtralForCausalLM", **MIXTRAL_TINY), lambda: [tokens(64)],
        *llama(256, 512, 2, 8, 2, 1000, 64, 8, 2),
    ),
}  # fmt: skip
# The figures that the formulas must come to.
KNOWN = {
    "vit": (86_567_656, 17_563_828_224), "bert": (109_482_240, 11_174_215_680),
    "gpt2": (124_439_808, 145_824_153_600), "gpt2-xl": (1_557_611_200, 1_753_351_782_400),
    "lstm": (117_760, 116_736_000), "dlrm": (168_686_913, 298_229_760), "ds_cnn": (23_756, 2_656_768),
    "llama-2-7b": (6_738_415_616, 14_630_806_093_824), "llama-3-70b": (70_553_706_496, 147_837_069_295_616),
    "mixtral-8x7b": (46_702_792_704, 27_208_617_820_160), "mixtral-tiny": (7_136_512, 142_475_264),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_a_traced_module_counts_exactly_what_its_formula_says(name):
    build, inputs, parameters, macs = ROWS[name]
    assert KNOWN.get(name, (parameters, macs)) == (parameters, macs)
    with torch.device("meta"):
        module = build().eval()
    assert sum(p.numel() for p in module.parameters()) == parameters
    counted = count(pharos.trace(module, *inputs()).graph())
    assert (counted.parameters, counted.macs) == (parameters, macs)
    assert counted.flops == 2 * macs
    assert counted.uncounted == ()
    assert "unused" not in counted.graph.meta
    assert "reasons" not in counted.graph.meta


CATALOGUE = {
    "resnet50": ("resnet50", None), "mobilenet_v2": ("mobilenet_v2", None), "vgg16": ("vgg16", None),
    "alexnet": ("alexnet", None), "vit": ("vit_b_16", None), "bert": ("bert-base", 128),
    "gpt2": ("gpt2-small", 1024), "gpt2-xl": ("gpt2-xl", 1024), "llama-2-7b": ("llama-2-7b", 2048),
    "llama-3-70b": ("llama-3-70b", 2048), "mixtral-8x7b": ("mixtral-8x7b", 2048),
    "dlrm": (f"dlrm(rows={[100_000] * 26}, dim=64, lookups=4, bottom=[512, 256, 64])", None),
    "ds_cnn": ("ds_cnn_s", None),
}  # fmt: skip


@pytest.mark.parametrize("name", CATALOGUE)
def test_our_own_definition_counts_the_same(name):
    ours, context = CATALOGUE[name]
    counted = count(find(ours).graph(Workload(context=context, batch=128 if name == "dlrm" else 1)))
    assert (counted.parameters, counted.macs) == ROWS[name][2:]


def test_parameter_shapes_are_the_modules_own():
    """Every parameter once, under its own name; a tied head has none."""
    with torch.device("meta"):
        module = of_config("GPT2", "GPT2LMHeadModel")
    graph = pharos.trace(module, tokens(16)).graph()
    assert {k: tuple(p.shape) for k, p in module.named_parameters()} == {
        k: tuple(t.shape) for k, t in graph.parameter_names().items()
    }
    tied = [n for n in graph.nodes if isinstance(n, Node) and n.tied]
    assert [n.tied for n in tied] == [{"weight": "transformer.wte.weight"}]


@pytest.mark.parametrize("way", ["grouped_mm", "batched_mm", "eager"])
def test_experts_are_counted_in_total_and_as_used(way):
    """Two of eight experts work on a token; all are stored."""
    with torch.device("meta"):
        module = of_config("Mixtral", "MixtralForCausalLM", **MIXTRAL_TINY)
    module.set_experts_implementation(way)
    graph = pharos.trace(module, tokens(64)).graph()
    experts = 2 * 8 * 3 * 256 * 512
    counted = count(graph)
    assert counted.parameters - counted.active_parameters == experts * 6 // 8


def test_torchvision_and_timm_traced():
    """Where they are installed; the saved counts come from FlopCounterMode on the meta device."""
    for package in ("torchvision", "timm"):
        pytest.importorskip(package, exc_type=Exception)
    made = runpy.run_path(str(VISION / "make_vision_reference.py"))
    for name, known in REFERENCE.items():
        with torch.device("cpu" if name.startswith("regnet") else "meta"):
            module = made["reference"](name)
        counted = count(pharos.trace(module, image(made["TORCHVISION"].get(name, 224))).graph())
        assert (name, counted.parameters, counted.macs) == (name, known["parameters"], known["macs"])
