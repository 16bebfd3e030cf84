"""From Hugging Face: a decoder's config.json becomes a model; no code of the model's is run."""

from pathlib import Path
from typing import Any

from pharos.facts.reading import Document, read_json
from pharos.models.registry import Model
from pharos.models.transformer import Decoder, decoder
from pharos.ops.activation import FUNCTIONS
from pharos.quantity.errors import InputError, PharosError, unknown

# Activations by the names configs use.
ACTIVATIONS = {
    "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "silu": "silu", "swish": "silu", "relu": "relu",
}  # fmt: skip

# Keys of the Llama shape, shared by its descendants: ours -> theirs.
LLAMA_KEYS = {
    "layers": "num_hidden_layers", "hidden_size": "hidden_size", "heads": "num_attention_heads",
    "ffn_size": "intermediate_size", "vocabulary": "vocab_size", "max_context": "max_position_embeddings",
}  # fmt: skip
GPT2_KEYS = {
    "layers": "n_layer", "hidden_size": "n_embd", "heads": "n_head", "vocabulary": "vocab_size",
    "max_context": "n_positions",
}  # fmt: skip
# What each class of transformers 5.23 takes when a config leaves a key out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "n_layer": 12,
        "n_embd": 768,
        "n_head": 12,
        "vocab_size": 50257,
        "n_positions": 1024,
        "tie_word_embeddings": True,
        "activation_function": "gelu_new",
    },
    "llama": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 32000,
        "max_position_embeddings": 2048,
    },
    "mistral": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "mixtral": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "max_position_embeddings": 131072,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-5,
    },
    "qwen2": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 22016,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
    },
    "qwen3": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "intermediate_size": 22016,
        "vocab_size": 151936,
        "max_position_embeddings": 32768,
    },
    "phi3": {
        "num_hidden_layers": 32,
        "hidden_size": 3072,
        "num_attention_heads": 32,
        "intermediate_size": 8192,
        "vocab_size": 32064,
        "max_position_embeddings": 4096,
    },
}
# Keys that change the network in a way the decoder does not express, with the values that do not.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "num_local_experts": (None, 0, 1),
    "num_experts": (None, 0, 1),
    "n_routed_experts": (None, 0),
    "kv_lora_rank": (None, 0),
    "add_cross_attention": (None, False),
}


def from_hf_config(path: str | Path) -> Model:
    """A decoder from a local config.json, of model_type gpt2, llama, mistral, mixtral, qwen2, qwen3 or phi3.

    Raises:
        InputError: another model_type, or a feature that would change the count (sliding windows,
            experts, latent attention): refused rather than miscounted.
    """
    document = read_json(path)
    data = document.data
    if not isinstance(data, dict):
        raise InputError("is not a config: it must be an object", where=str(path))
    kind = data.get("model_type")
    if not isinstance(kind, str):
        raise InputError("has no model_type", where=str(path), hint=f"known: {', '.join(DEFAULTS)}")
    if kind not in DEFAULTS:
        raise unknown("model_type", kind, DEFAULTS, where=f"{path} model_type")
    try:
        sizes = _sizes(document, kind)
    except PharosError as error:
        raise error if str(path) in str(error) else error.at(str(path)) from None
    name = str(data.get("_name_or_path") or Path(path).parent.name or kind)
    return Model(name=name, family="transformer", build=lambda work: decoder(name, work, sizes))


def _sizes(document: Document, kind: str) -> Decoder:
    data, path = {**DEFAULTS[kind], **document.data}, document.path

    def whole(key: str) -> int:
        value = data.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 10**9:
            raise InputError(f"must be a whole number from 1 to 1e9, not {value!r}", where=f"{path} {key}")
        return value

    for key, fine in HARMLESS.items():
        if data.get(key) not in fine and key not in DEFAULTS[kind]:
            raise InputError(f"is {data[key]!r}: Pharos would miscount it and refuses", where=f"{path} {key}")
    window, context = data.get("sliding_window"), None
    keys = GPT2_KEYS if kind == "gpt2" else LLAMA_KEYS
    found: dict[str, Any] = {ours: whole(theirs) for ours, theirs in keys.items()}
    context = found["max_context"]
    windowed = kind in ("mistral", "mixtral", "phi3") or bool(data.get("use_sliding_window"))
    if windowed and isinstance(window, int) and not isinstance(window, bool) and window < context:
        raise InputError(
            f"is {window}: attention within a window would be miscounted",
            where=f"{path} sliding_window",
            hint="null, or at least max_position_embeddings, is full attention",
        )
    found["kv_heads"] = (
        found["heads"] if data.get("num_key_value_heads") is None else whole("num_key_value_heads")
    )
    if data.get("head_dim") is None:
        if found["hidden_size"] % found["heads"]:
            raise InputError(
                f"{found['hidden_size']} cannot be split among {found['heads']} heads", where=path
            )
        found["head_dim"] = found["hidden_size"] // found["heads"]
    else:
        found["head_dim"] = whole("head_dim")
    written = data.get("activation_function" if kind == "gpt2" else "hidden_act", "silu")
    if written not in ACTIVATIONS:
        raise unknown("activation", str(written), [*ACTIVATIONS, *FUNCTIONS], where=path)
    found["activation"] = ACTIVATIONS[written]
    rope = data.get("rope_parameters")
    theta = data.get("rope_theta") or (rope.get("rope_theta") if isinstance(rope, dict) else None) or 10000.0
    eps = data.get("layer_norm_epsilon" if kind == "gpt2" else "rms_norm_eps")
    for key, value in (("rope_theta", theta), ("rms_norm_eps", 1.0 if eps is None else eps)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e12:
            raise InputError(f"must be a positive number, not {value!r}", where=f"{path} {key}")
    found |= {"rope_theta": float(theta), "norm_eps": None if eps is None else float(eps)}
    found["tied"] = bool(data.get("tie_word_embeddings", False))
    if kind == "gpt2":
        inner = data.get("n_inner")
        found |= {
            "ffn_size": 4 * found["hidden_size"] if inner is None else whole("n_inner"),
            "gated": False,
            "norm": "layer",
            "position": "learned",
            "attention_bias": "qkvo",
            "mlp_bias": True,
        }
        return Decoder(**found)
    if kind == "mixtral":
        found |= {"experts": whole("num_local_experts"), "top_k": whole("num_experts_per_tok")}
    bias = bool(data.get("attention_bias", False))
    found |= {
        "attention_bias": "qkv" if kind == "qwen2" else "qkvo" if bias else "none",
        "mlp_bias": bool(data.get("mlp_bias", False)), "qk_norm": "rms" if kind == "qwen3" else "none",
    }  # fmt: skip
    return Decoder(**found)
