"""Hugging Face configs: parameters equal transformers' own, what would be miscounted is refused."""

import json

import pytest

from pharos.convert.from_hf import DEFAULTS, from_hf_config
from pharos.graph.count import count
from pharos.quantity.errors import PharosError, UnknownName

LLAMA = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip
TINY = {
    "gpt2": {"n_layer": 2, "n_embd": 64, "n_head": 4, "vocab_size": 1000},
    "llama": LLAMA | {"tie_word_embeddings": True},
    "mistral": LLAMA | {"sliding_window": None},
    "mixtral": LLAMA | {"num_local_experts": 4},
    "qwen2": LLAMA,
    "qwen3": LLAMA | {"head_dim": 32},
    "phi3": LLAMA | {"pad_token_id": 0},
}
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


@pytest.mark.parametrize("kind", sorted(TINY))
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
    assert sum(p.numel() for p in theirs.parameters()) == EXPECTED[kind]
    bare = transformers.AutoConfig.for_model(kind).to_dict()
    bare["rope_theta"] = (bare.get("rope_parameters") or {}).get("rope_theta")
    assert {k: bare.get(k) for k in DEFAULTS[kind]} == DEFAULTS[kind]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"hidden_size": 10**12}, "hidden_size"),
        ({"num_key_value_heads": 3}, "kv_heads"),
        ({"hidden_act": "gelo"}, "gelu"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"hidden_size": 65}, "65"),
    ],
)
def test_refusals_name_file_and_field(tmp_path, change, told):
    path = write(tmp_path, model_type="llama", **(LLAMA | change))
    with pytest.raises(PharosError, match="config.json") as caught:
        from_hf_config(path)
    assert told in str(caught.value)


def test_a_sliding_window_is_refused_not_miscounted(tmp_path):
    with pytest.raises(PharosError, match="sliding_window"):
        from_hf_config(write(tmp_path, model_type="mistral", **LLAMA))


def test_another_architecture_lists_what_is_known(tmp_path):
    with pytest.raises(UnknownName, match="did you mean"):
        from_hf_config(write(tmp_path, model_type="lama"))
