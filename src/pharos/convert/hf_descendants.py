"""Configs of decoders that are Llama or GPT with a turn: StableLM, StarCoder2, GLM, SmolLM3, ..."""

from pharos.convert.from_hf import Config, reader
from pharos.convert.hf_decoders import LLAMA, cycle, model_of, shared, windows
from pharos.models.registry import Model
from pharos.quantity.errors import InputError

# What the classes of transformers 5.24 take when a config leaves a key out.
GLM = LLAMA | {
    "num_hidden_layers": 40, "num_key_value_heads": 2, "head_dim": 128, "intermediate_size": 13696,
    "vocab_size": 151552, "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-07,
    "attention_bias": True, "partial_rotary_factor": 0.5,
}  # fmt: skip


def _part(config: Config, usual: float) -> int:
    """Features of a head that rotary positions turn."""
    width = config.whole("hidden_size") // config.whole("num_attention_heads")
    return int(config.whole("head_dim", width) * (config.rope("partial_rotary_factor") or usual))


@reader("stablelm", **LLAMA | {"vocab_size": 50304, "intermediate_size": 6912, "hidden_size": 2560,
                               "max_position_embeddings": 4096, "layer_norm_eps": 1e-5})  # fmt: skip
def _stablelm(name: str, config: Config) -> Model:
    config.refuse(qk_layernorm=(False,))
    found = shared(
        config, norm="layer", norm_eps=config.number("layer_norm_eps"), rotary_width=_part(config, 0.25),
        attention_bias="qkv" if config.flag("use_qkv_bias") else "none",
        parallel=1 if config.flag("use_parallel_residual") else 0,
    )  # fmt: skip
    return model_of(name, **found)


@reader("starcoder2", **LLAMA | {
    "vocab_size": 49152, "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
    "num_attention_heads": 24, "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 4096, "norm_epsilon": 1e-5, "use_bias": True,
    "tie_word_embeddings": True})  # fmt: skip
def _starcoder2(name: str, config: Config) -> Model:
    biased = config.flag("use_bias")
    found = shared(
        config, norm="layer", norm_eps=config.number("norm_epsilon"), gated=False, mlp_bias=biased,
        attention_bias="qkvo" if biased else "none", style="starcoder2",
    )  # fmt: skip
    return model_of(name, **found, **windows(config, found, None))


@reader("smollm3", **LLAMA | {
    "vocab_size": 128256, "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True, "no_rope_layer_interval": 4, "rope_theta": 2e6})  # fmt: skip
def _smollm3(name: str, config: Config) -> Model:
    config.refuse(use_sliding_window=(False,))
    found = shared(config)
    turned = config.get("no_rope_layers")
    if turned is None:
        every = config.whole("no_rope_layer_interval")
        turned = [int((i + 1) % every != 0) for i in range(found["layers"])]
    if not isinstance(turned, list) or len(turned) != found["layers"]:
        raise config.wrong("no_rope_layers", f"must have an entry for each of the {found['layers']} layers")
    return model_of(name, **found, round=cycle([{} if each else {"position": "none"} for each in turned]))


@reader("glm", **GLM)
def _glm(name: str, config: Config) -> Model:
    found = shared(
        config, rotary_width=_part(config, 0.5), rotary_interleaved=True, style="glm",
        attention_bias="qkv" if config.flag("attention_bias") else "none",
    )  # fmt: skip
    return model_of(name, **found)


@reader("glm4", **GLM)
def _glm4(name: str, config: Config) -> Model:
    found = shared(
        config, rotary_width=_part(config, 0.5), rotary_interleaved=True, style="glm4", post_norms=True,
        attention_bias="qkv" if config.flag("attention_bias") else "none",
    )  # fmt: skip
    return model_of(name, **found)


@reader("helium", **LLAMA | {
    "vocab_size": 48000, "hidden_size": 2560, "intermediate_size": 7040, "num_hidden_layers": 24,
    "num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-8, "rope_theta": 100000.0})  # fmt: skip
def _helium(name: str, config: Config) -> Model:
    if config.whole("head_dim") * config.whole("num_attention_heads") != config.whole("hidden_size"):
        raise InputError("head_dim x num_attention_heads must be hidden_size", where=config.path)
    biased = "qkv" if config.flag("attention_bias") else "none"
    return model_of(name, **shared(config, rotary_interleaved=True, attention_bias=biased))


@reader("seed_oss", **LLAMA | {
    "vocab_size": 155136, "intermediate_size": 27648, "num_hidden_layers": 64, "num_attention_heads": 80,
    "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 524288, "rms_norm_eps": 1e-6,
    "attention_bias": True})  # fmt: skip
def _seed_oss(name: str, config: Config) -> Model:
    if config.flag("attention_out_bias") and not config.flag("attention_bias"):
        config.refuse(attention_out_bias=(False,))
    biased = "none"
    if config.flag("attention_bias"):
        biased = "qkvo" if config.flag("attention_out_bias") else "qkv"
    return model_of(name, **shared(config, attention_bias=biased))


@reader("ernie4_5", **LLAMA | {
    "vocab_size": 103424, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 18,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 128, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 131072, "tie_word_embeddings": True, "rope_theta": 500000.0})  # fmt: skip
def _ernie(name: str, config: Config) -> Model:
    biased = config.flag("use_bias")
    found = shared(config, attention_bias="qkvo" if biased else "none", mlp_bias=biased,
                   rotary_interleaved=True)  # fmt: skip
    return model_of(name, **found)


@reader("internlm3", **LLAMA | {
    "vocab_size": 128512, "intermediate_size": 10240, "num_hidden_layers": 48, "num_key_value_heads": 2,
    "head_dim": 128, "rms_norm_eps": 1e-5, "max_position_embeddings": 32768})  # fmt: skip
def _internlm3(name: str, config: Config) -> Model:
    return model_of(name, **shared(config))
