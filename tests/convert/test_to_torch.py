"""To PyTorch: graphs run, with the names and the numbers of the reference implementations."""

import json
from pathlib import Path

import pytest

from pharos.convert.from_hf import from_hf_config
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.models.ssm import Mamba, mamba
from pharos.quantity.errors import InputError

torch = pytest.importorskip("torch")

TINY = json.loads(Path(__file__).with_name("tiny_configs.json").read_text())
# Without the scaling of positions that this family's default carries.
DEFAULT_ROPE = {"gpt_oss": {"rope_type": "default", "rope_theta": 150000.0}}
SMALL = [
    "mlp(widths=[8, 16, 4])",
    "resnet18(resolution=32, classes=10)",
    "resnet50(resolution=32, classes=10)",
    "mobilenet_v2(width=0.25, resolution=32, classes=10)",
    "unet(resolution=32, width=4, depth=2)",
    "lenet5",
    "mobilenet_v1(width=0.25, resolution=32)",
    "ds_cnn_s",
    "ds_cnn_m",
    "lstm_tagger(vocabulary=20, bidirectional=True, layers=2)",
    "lstm_tagger(vocabulary=20, cell='gru')",
    "dlrm(rows=[10, 20, 30], dim=8, bottom=[16, 8], lookups=3)",
]


def inputs_of(graph):
    made = []
    for value in graph.inputs:
        shape = tuple(value.shape)
        made.append(torch.randint(0, 3, shape) if value.tensor.dtype == "int64" else torch.randn(shape))
    return made


@pytest.mark.parametrize("name", SMALL)
def test_a_graph_runs_and_has_the_parameters_it_counts(name):
    graph = find(name).graph(Workload(batch=2, context=5 if "lstm" in name else None))
    module = to_torch(graph).eval()
    with torch.no_grad():
        out = module(*inputs_of(graph))
    assert tuple(out.shape) == graph.outputs[0].shape
    assert sum(p.numel() for p in module.parameters()) == count(graph).parameters
    assert {k: tuple(p.shape) for k, p in module.named_parameters()} == {
        k: t.shape for k, t in graph.parameter_names().items()
    }


def test_a_graph_trains():
    module = to_torch(find("mlp(widths=[4, 8, 2])").graph(Workload(batch=16)))
    x, y = torch.randn(16, 4), torch.randint(0, 2, (16,))
    optimiser = torch.optim.SGD(module.parameters(), 0.5)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(module(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_resnet50_computes_what_its_textbook_definition_computes():
    """The same weights in a ResNet-18 written out by hand with torch modules."""
    nn, F = torch.nn, torch.nn.functional
    graph = find("resnet18(resolution=64, classes=7)").graph(Workload(batch=2))
    module = to_torch(graph).eval()
    state = module.state_dict()
    for name, tensor in state.items():
        if tensor.dtype.is_floating_point:
            tensor.copy_(
                torch.rand_like(tensor) * 0.2 + 0.1
                if "running_var" in name
                else torch.randn_like(tensor) * 0.1
            )

    def conv_norm(x, conv, norm, stride, padding):
        x = F.conv2d(x, state[f"{conv}.weight"], None, stride, padding)
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *[state[f"{norm}.{k}"] for k in keys])

    x = torch.randn(2, 3, 64, 64)
    y = F.max_pool2d(F.relu(conv_norm(x, "conv1", "bn1", 2, 3)), 3, 2, 1)
    for stage in range(1, 5):
        for block in range(2):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            z = F.relu(conv_norm(y, f"{at}.conv1", f"{at}.bn1", stride, 1))
            z = conv_norm(z, f"{at}.conv2", f"{at}.bn2", 1, 1)
            if stride == 2:
                y = conv_norm(y, f"{at}.downsample.0", f"{at}.downsample.1", 2, 0)
            y = F.relu(z + y)
    expected = F.linear(y.mean((2, 3)), state["fc.weight"], state["fc.bias"])
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)
    assert nn


@pytest.mark.parametrize("kind", sorted(TINY))
def test_decoders_compute_the_logits_of_transformers(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        kind, **TINY[kind], rope_parameters=DEFAULT_ROPE.get(kind), attn_implementation="eager"
    )
    theirs = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    if hasattr(config, "num_experts_per_tok") or kind == "mixtral":
        # the grouped kernel does not take float64
        theirs.set_experts_implementation("eager")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY[kind] | {"model_type": kind}))
    graph = from_hf_config(path).graph(Workload(batch=2, context=9))
    ours = to_torch(graph).double().eval()
    ours.load_state_dict(theirs.state_dict())
    tokens = torch.randint(0, 1000, (2, 9))
    # the first two rows of this table stand for no position
    first = 2 if kind == "opt" else 0
    inputs = (tokens, torch.arange(first, first + 9)[None])[: len(graph.inputs)]
    with torch.no_grad():
        # transformers computes rotary angles in single precision even in a float64 model
        expected = theirs(tokens).logits.double()
        torch.testing.assert_close(ours(*inputs), expected, rtol=1e-4, atol=1e-5)


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
SLOWED = {
    "linear": ("llama", {"rope_type": "linear", "factor": 2.0}),
    "dynamic": ("llama", {"rope_type": "dynamic", "factor": 2.0}),
    "llama3": ("llama", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 16}),
    "yarn": ("llama", YARN),
    "yarn_exact": ("llama", YARN | {"truncate": False, "beta_fast": 16.0}),
    "yarn_latent": ("deepseek_v3", YARN | {"mscale": 1.0, "mscale_all_dim": 0.7}),
    "short": ("phi3", {"rope_type": "longrope", "short_factor": [1.0 + 0.1 * i for i in range(8)],
                       "long_factor": [2.0 + i for i in range(8)]}),
    "long": ("phi3", {"rope_type": "longrope", "short_factor": [1.0] * 8,
                      "long_factor": [2.0 + i for i in range(8)]}),
}  # fmt: skip


@pytest.mark.parametrize("way", sorted(SLOWED))
def test_slowed_positions_are_those_of_transformers(tmp_path, way):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    kind, rope = SLOWED[way]
    rope = rope | {"rope_theta": 10000.0}
    sizes = TINY[kind] | {"max_position_embeddings": 64, "rope_parameters": rope}
    if kind == "phi3":
        sizes |= {"sliding_window": None, "original_max_position_embeddings": 8 if way == "long" else 32}
    config = transformers.AutoConfig.for_model(kind, **sizes, attn_implementation="eager")
    theirs = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    if kind == "deepseek_v3":
        theirs.set_experts_implementation("eager")
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    path, tokens = tmp_path / "config.json", torch.randint(0, 1000, (1, 24))
    path.write_text(json.dumps(sizes | {"model_type": kind}))
    ours = to_torch(from_hf_config(path).graph(Workload(context=24))).double().eval()
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind",
    ["gpt2", "llama", "mistral", "gemma3_text", "deepseek_v3", "gpt_oss", "bloom", "mamba", "mamba2", "rwkv"],
)
def test_decoding_from_the_cache_is_recomputing_everything(tmp_path, kind):
    torch.manual_seed(0)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY[kind] | {"model_type": kind}))
    model, tokens, state, weights = from_hf_config(path), torch.randint(0, 1000, (2, 12)), {}, None

    def run(phase, context, first):
        nonlocal weights
        module = to_torch(model.graph(Workload(phase=phase, context=context, batch=2))).double().eval()
        if weights is None:
            weights = {k: torch.randn_like(v) * 0.2 for k, v in module.state_dict().items()}
        module.load_state_dict(weights)
        inputs = [tokens[:, first:context]]
        if kind == "gpt2":
            inputs.append(torch.arange(first, context)[None])
        with torch.no_grad():
            return module(*inputs, state=None if phase == "forward" else state)

    steps = [run("prefill", 7, 0)[:, -1]]
    for context in range(8, 13):
        steps.append(run("decode", context, context - 1)[:, -1])
    whole = run("forward", 12, 0)[:, 6:]
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=1e-9, atol=1e-9)
    counted = count(model.graph(Workload(phase="decode", context=12, batch=2)))
    assert sum(t.numel() for t in state.values()) * 4 == counted.state_bytes


def test_a_decode_step_without_its_cache_is_refused():
    module = to_torch(find("gpt2-small").graph(Workload(phase="decode", context=8)))
    with pytest.raises(InputError, match="cache"):
        module(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_recurrence_goes_on_from_its_state(cell):
    model = find(f"lstm_tagger(vocabulary=20, embedding_dim=5, hidden=4, layers=2, tags=3, cell='{cell}')")
    whole = to_torch(model.graph(Workload(batch=2, context=6))).double()
    step = to_torch(model.graph(Workload(batch=2, context=6, phase="decode"))).double()
    step.load_state_dict(whole.state_dict())
    tokens, state = torch.randint(0, 20, (2, 6)), {}
    steps = torch.cat([step(tokens[:, t : t + 1], state=state) for t in range(6)], 1)
    torch.testing.assert_close(steps, whole(tokens), rtol=1e-10, atol=1e-10)


def test_exported_programs_hold_every_parameter():
    """Also those that sit under another module's name than the operator that uses them."""
    sizes = Mamba(layers=2, hidden_size=16, inner_size=32, state_size=4, vocabulary=30, dt_rank=2)
    module = to_torch(mamba("tiny", Workload(context=5), sizes)).eval()
    program = torch.export.export(module, (torch.zeros(1, 5, dtype=torch.int64),))
    held = set(program.graph_signature.inputs_to_parameters.values())
    assert held | {"lm_head.weight"} == {name for name, _ in module.named_parameters(remove_duplicate=False)}
    assert not program.graph_signature.inputs_to_lifted_tensor_constants
