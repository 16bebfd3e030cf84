"""Hugging Face configs: parameters equal transformers' own, what would be miscounted is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pharos.convert.from_hf import from_hf_config, reader_of
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.quantity.errors import PharosError, UnknownName

TINY = json.loads(Path(__file__).with_name("tiny_configs.json").read_text())
LLAMA = {k: v for k, v in TINY["llama"].items() if k != "tie_word_embeddings"}
# By hand: embedding, head if untied, norms, and per layer attention, feed-forward and biases.
EXPECTED = {
    "gpt2": 1000 * 64 + 1024 * 64 + 2 * (12 * 64 * 64 + 13 * 64) + 2 * 64,
    "llama": 1000 * 64 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64) + 64,
    "mistral": 2 * 1000 * 64 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64) + 64,
    "mixtral": 2 * 1000 * 64 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 4 * 64 + 4 * 3 * 64 * 128 + 2 * 64) + 64,
    "qwen2": 2 * 1000 * 64 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 128 + 3 * 64 * 128 + 2 * 64) + 64,
    "qwen3": 2 * 1000 * 64 + 2 * (64 * 128 * 2 + 64 * 64 * 2 + 64 + 3 * 64 * 128 + 2 * 64) + 64,
    "phi3": 2 * 1000 * 64 + 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64) + 64,
}


def write(tmp_path, **config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize("kind", sorted(EXPECTED))
def test_parameters_by_hand(tmp_path, kind):
    model = from_hf_config(write(tmp_path, model_type=kind, **TINY[kind]))
    assert count(model.graph()).parameters == EXPECTED[kind]


@pytest.mark.parametrize("kind", sorted(TINY))
def test_parameters_as_transformers_counts_them(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.AutoConfig.for_model(kind, **TINY[kind])
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config)
    numbers = sum(p.numel() for p in theirs.parameters())
    # the router's correction is learned, and a buffer there
    numbers += sum(b.numel() for n, b in theirs.named_buffers() if n.endswith("correction_bias"))
    counted = count(from_hf_config(write(tmp_path, model_type=kind, **TINY[kind])).graph())
    assert counted.parameters == numbers
    bare = transformers.AutoConfig.for_model(kind).to_dict()
    rope = bare.get("rope_parameters") or {}
    bare["rope_theta"] = rope.get("full_attention", rope).get("rope_theta")
    ours = {k: v for k, v in reader_of(kind)[1].items() if k in bare}
    if kind == "deepseek_v2":
        ours["n_group"] = bare["n_group"]
    assert {k: bare[k] for k in ours} == ours


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"num_key_value_heads": 3}, "kv_heads"),
        ({"hidden_act": "gelo"}, "gelu"),
        ({"hidden_size": 65}, "65"),
    ],
)
def test_refusals_name_file_and_field(tmp_path, change, told):
    path = write(tmp_path, model_type="llama", **(LLAMA | change))
    with pytest.raises(PharosError, match="config.json") as caught:
        from_hf_config(path)
    assert told in str(caught.value)


def test_a_sliding_window_bounds_the_cache(tmp_path):
    model = from_hf_config(write(tmp_path, model_type="mistral", **(LLAMA | {"sliding_window": 100})))
    held = [
        count(model.graph(Workload(phase="prefill", context=n, precision="fp16"))).state_bytes
        for n in (50, 100, 1000)
    ]
    assert held == [50 * 2 * 2 * 2 * 16 * 2, 100 * 256, 100 * 256]


def test_another_architecture_lists_what_is_known(tmp_path):
    with pytest.raises(UnknownName, match="did you mean"):
        from_hf_config(write(tmp_path, model_type="lama"))


def test_a_recognised_config_needs_neither_torch_nor_transformers(tmp_path):
    path = write(tmp_path, model_type="llama", **LLAMA)
    code = (
        "import sys; from pharos.convert.load import load; from pharos.graph.count import count; "
        f"count(load({str(path)!r}).graph()); "
        "print([m for m in ('torch', 'transformers', 'huggingface_hub', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
