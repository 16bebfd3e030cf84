"""Configs of decoders: Llama and its descendants, GPT-2, BLOOM, Gemma, DeepSeek, gpt-oss, Llama 4."""

from math import log
from typing import Any

from pharos.convert.from_hf import Config, reader
from pharos.models.registry import Model
from pharos.models.transformer import Decoder, decoder
from pharos.quantity.errors import InputError

# Keys that most configs share: ours -> theirs.
SIZES = {
    "layers": "num_hidden_layers", "hidden_size": "hidden_size", "heads": "num_attention_heads",
    "ffn_size": "intermediate_size", "vocabulary": "vocab_size", "max_context": "max_position_embeddings",
}  # fmt: skip
# What the classes of transformers 5.23 take when a config leaves a key out.
LLAMA = {
    "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "intermediate_size": 11008,
    "vocab_size": 32000, "max_position_embeddings": 2048,
}  # fmt: skip
MISTRAL = LLAMA | {
    "num_key_value_heads": 8, "intermediate_size": 14336, "max_position_embeddings": 131072,
    "sliding_window": 4096,
}  # fmt: skip
MIXTRAL = MISTRAL | {
    "num_local_experts": 8, "num_experts_per_tok": 2, "rms_norm_eps": 1e-5, "sliding_window": None,
    "rope_theta": 1e6,
}  # fmt: skip
QWEN = LLAMA | {
    "num_key_value_heads": 32, "intermediate_size": 22016, "vocab_size": 151936,
    "max_position_embeddings": 32768,
}  # fmt: skip
GEMMA2 = {
    "num_hidden_layers": 26, "hidden_size": 2304, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 256, "intermediate_size": 9216, "vocab_size": 256000, "max_position_embeddings": 8192,
    "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "query_pre_attn_scalar": 256,
    "sliding_window": 4096, "rms_norm_eps": 1e-6,
}  # fmt: skip
DEEPSEEK = {
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}  # fmt: skip


def shared(config: Config, **found: Any) -> dict[str, Any]:
    """Sizes, heads, activation, norm and positions as most configs write them."""
    found |= {ours: config.whole(theirs) for ours, theirs in SIZES.items() if ours not in found}
    found.setdefault("kv_heads", config.whole("num_key_value_heads", found["heads"]))
    if "head_dim" not in found:
        if config.get("head_dim") is None and found["hidden_size"] % found["heads"]:
            why = f"{found['hidden_size']} cannot be split among {found['heads']} heads"
            raise InputError(why, where=config.path)
        found["head_dim"] = config.whole("head_dim", found["hidden_size"] // found["heads"])
    found.setdefault("activation", config.activation("hidden_act"))
    found.setdefault("norm_eps", config.number("rms_norm_eps"))
    found.setdefault("rope_theta", config.rope_theta())
    found.setdefault("rope_scaling", config.rope_scaling())
    found.setdefault("tied", config.flag("tie_word_embeddings"))
    found.setdefault("attention_bias", "qkvo" if config.flag("attention_bias") else "none")
    found.setdefault("mlp_bias", config.flag("mlp_bias"))
    part = config.rope("partial_rotary_factor")
    if part not in (None, 1, 1.0) and "rotary_width" not in found:
        found["rotary_width"] = int(found["head_dim"] * part)
    return found


def model_of(name: str, **found: Any) -> Model:
    """A decoder of the sizes that a config states."""
    sizes = Decoder(**found)
    return Model(name=name, family="transformer", build=lambda work: decoder(name, work, sizes), sizes=sizes)


def cycle(layers: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """The shortest round that, repeated, gives every layer."""
    for period in range(1, len(layers) + 1):
        if all(layer == layers[i % period] for i, layer in enumerate(layers)):
            return tuple(layers[:period])
    return tuple(layers)


def windows(config: Config, found: dict[str, Any], kinds: list[str] | None) -> dict[str, Any]:
    """Which layers see a window only: those named sliding, or all of them where nothing is named."""
    width = config.count("sliding_window")
    if not width or width >= found["max_context"]:
        return {}
    if kinds is None:
        return {"window": width}
    local = {"sliding_attention": {"window": width}, "full_attention": {}}
    return {"round": cycle([local[kind] for kind in kinds])}


_KINDS = ("sliding_attention", "full_attention")


@reader("llama", **LLAMA)
def _llama(name: str, config: Config) -> Model:
    config.refuse(num_local_experts=(0, 1), num_experts=(0, 1), n_routed_experts=(0,), kv_lora_rank=(0,))
    return model_of(name, **shared(config))


@reader("mistral", **MISTRAL)
def _mistral(name: str, config: Config) -> Model:
    found = shared(config)
    return model_of(name, **found, **windows(config, found, None))


@reader("phi3", **LLAMA | {"hidden_size": 3072, "intermediate_size": 8192, "vocab_size": 32064,
                           "max_position_embeddings": 4096, "rms_norm_eps": 1e-5})  # fmt: skip
def _phi3(name: str, config: Config) -> Model:
    found = shared(config, style="phi3")
    return model_of(name, **found, **windows(config, found, None))


@reader("qwen2", **QWEN)
def _qwen2(name: str, config: Config) -> Model:
    found = shared(config, attention_bias="qkv")
    kinds = config.layer_types(found["layers"], _KINDS)
    if kinds is None and config.flag("use_sliding_window"):
        full = config.count("max_window_layers")
        kinds = ["full_attention" if i < full else "sliding_attention" for i in range(found["layers"])]
    return model_of(name, **found, **(windows(config, found, kinds) if kinds else {}))


@reader("qwen3", **QWEN | {"head_dim": 128})
def _qwen3(name: str, config: Config) -> Model:
    config.refuse(use_sliding_window=(False,))
    return model_of(name, **shared(config, qk_norm="rms"))


@reader("mixtral", **MIXTRAL)
def _mixtral(name: str, config: Config) -> Model:
    experts, top_k = config.whole("num_local_experts"), config.whole("num_experts_per_tok")
    found = shared(config, experts=experts, top_k=top_k)
    return model_of(name, **found, **windows(config, found, None))


@reader("qwen3_moe", **QWEN | {
    "num_hidden_layers": 24, "hidden_size": 2048, "num_key_value_heads": 4, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_local_experts": 128})  # fmt: skip
def _qwen3_moe(name: str, config: Config) -> Model:
    config.refuse(use_sliding_window=(False,), decoder_sparse_step=(1,), mlp_only_layers=([],))
    experts = config.whole("num_experts" if config.get("num_experts") else "num_local_experts")
    found = shared(
        config, qk_norm="rms", experts=experts, top_k=config.whole("num_experts_per_tok"),
        expert_size=config.whole("moe_intermediate_size"),
        routing={"scoring": "softmax", "normalise": config.flag("norm_topk_prob")},
    )  # fmt: skip
    return model_of(name, **found)


@reader("gpt2", n_layer=12, n_embd=768, n_head=12, vocab_size=50257, n_positions=1024,
        tie_word_embeddings=True, activation_function="gelu_new")  # fmt: skip
def _gpt2(name: str, config: Config) -> Model:
    config.refuse(add_cross_attention=(False,))
    width = config.whole("n_embd")
    found = shared(
        config, layers=config.whole("n_layer"), hidden_size=width, heads=config.whole("n_head"),
        kv_heads=config.whole("n_head"), ffn_size=config.whole("n_inner", 4 * width),
        max_context=config.whole("n_positions"), gated=False, norm="layer", position="learned",
        attention_bias="qkvo", mlp_bias=True, activation=config.activation("activation_function"),
        norm_eps=config.number("layer_norm_epsilon"),
    )  # fmt: skip
    return model_of(name, **found)


@reader("bloom", n_layer=2, hidden_size=64, n_head=8, vocab_size=250880, tie_word_embeddings=True,
        layer_norm_epsilon=1e-5)  # fmt: skip
def _bloom(name: str, config: Config) -> Model:
    config.refuse(apply_residual_connection_post_layernorm=(False,))
    width, heads = config.whole("hidden_size"), config.whole("n_head")
    found = shared(
        config, layers=config.whole("n_layer"), heads=heads, kv_heads=heads, ffn_size=4 * width,
        # ALiBi has no limit of its own; the published models were trained with 2048 tokens
        max_context=config.whole("seq_length", 2048), gated=False, norm="layer", position="alibi",
        attention_bias="qkvo", mlp_bias=True, activation="gelu_tanh", embedding_norm=True, style="bloom",
        norm_eps=config.number("layer_norm_epsilon"),
    )  # fmt: skip
    return model_of(name, **found)


@reader("gemma", **GEMMA2 | {
    "num_hidden_layers": 28, "hidden_size": 3072, "num_attention_heads": 16, "num_key_value_heads": 16,
    "intermediate_size": 24576, "hidden_act": "gelu_pytorch_tanh"})  # fmt: skip
def _gemma(name: str, config: Config) -> Model:
    return model_of(name, **shared(config, norm="rms_offset", embedding_scale=True))


def _gemma_later(config: Config, **found: Any) -> dict[str, Any]:
    config.refuse(use_bidirectional_attention=(False,))
    scalar = config.number("query_pre_attn_scalar")
    return shared(
        config, norm="rms_offset", embedding_scale=True, post_norms=True,
        activation=config.activation("hidden_activation"),
        attention_scale=None if scalar is None else scalar**-0.5,
        attention_softcap=config.number("attn_logit_softcapping") or 0.0,
        final_softcap=config.number("final_logit_softcapping") or 0.0, **found,
    )  # fmt: skip


@reader("gemma2", **GEMMA2 | {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0})
def _gemma2(name: str, config: Config) -> Model:
    found = _gemma_later(config)
    kinds = config.layer_types(found["layers"], _KINDS)
    kinds = kinds or [_KINDS[i % 2] for i in range(found["layers"])]
    return model_of(name, **found, **windows(config, found, kinds))


@reader("gemma3_text", **GEMMA2 | {"vocab_size": 262208, "max_position_embeddings": 131072,
                                   "rope_theta": 1e6})  # fmt: skip
def _gemma3(name: str, config: Config) -> Model:
    found = _gemma_later(config, qk_norm="rms_offset", rope_theta=config.rope_theta("full_attention"),
                         rope_scaling=config.rope_scaling("full_attention"))  # fmt: skip
    every = config.whole("_sliding_window_pattern", 6)
    kinds = config.layer_types(found["layers"], _KINDS)
    kinds = kinds or [_KINDS[(i + 1) % every == 0] for i in range(found["layers"])]
    near = config.number("rope_local_base_freq")
    if near is None:
        held = config.get("rope_parameters", {}).get("sliding_attention", {})
        near = float(held.get("rope_theta", 10000.0))
    sliding = {"window": config.whole("sliding_window"), "rope_theta": near, "rope_scaling": {}}
    local = {"sliding_attention": sliding, "full_attention": {}}
    return model_of(name, **found, round=cycle([local[kind] for kind in kinds]))


def _deepseek(name: str, config: Config, routing: dict[str, Any]) -> Model:
    latent: dict[str, Any] = {
        "q_rank": config.whole("q_lora_rank") if config.get("q_lora_rank") else None,
        "kv_rank": config.whole("kv_lora_rank"), "nope_dim": config.whole("qk_nope_head_dim"),
        "rope_dim": config.whole("qk_rope_head_dim"), "v_dim": config.whole("v_head_dim"),
    }  # fmt: skip
    config.refuse(attention_bias=(False,), moe_layer_freq=(1,))
    wide = config.whole("moe_intermediate_size")
    groups, slowed = config.count("n_group"), config.rope_scaling()
    scale = float(latent["nope_dim"] + latent["rope_dim"]) ** -0.5
    if slowed.get("mscale_all_dim") and slowed.get("factor", 1) > 1:
        scale *= (0.1 * slowed["mscale_all_dim"] * log(slowed["factor"]) + 1) ** 2
    if groups > 1 and config.get("topk_method") != "greedy":
        routing |= {"groups": groups, "top_groups": config.whole("topk_group")}
    found = shared(
        config, head_dim=latent["nope_dim"] + latent["rope_dim"], latent=latent, attention_scale=scale,
        rotary_interleaved=config.get("rope_interleave", True), experts=config.whole("n_routed_experts"),
        top_k=config.whole("num_experts_per_tok"), expert_size=wide, rotary_width=0,
        shared_size=config.count("n_shared_experts") * wide,
        routing=routing | {"scale": config.number("routed_scaling_factor", 1.0)},
        first=({"experts": 0},) * config.count("first_k_dense_replace"),
    )  # fmt: skip
    return model_of(name, **found)


@reader("deepseek_v2", **LLAMA | DEEPSEEK | {
    "vocab_size": 102400, "first_k_dense_replace": 0, "n_routed_experts": 64, "n_shared_experts": 2,
    "moe_intermediate_size": 1407, "topk_method": "greedy"})  # fmt: skip
def _deepseek_v2(name: str, config: Config) -> Model:
    return _deepseek(name, config, {"scoring": "softmax"})


@reader("deepseek_v3", "kimi_k2", **LLAMA | DEEPSEEK | {
    "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128, "intermediate_size": 18432,
    "vocab_size": 129280, "max_position_embeddings": 4096, "first_k_dense_replace": 3, "n_group": 8,
    "topk_group": 4, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048, "routed_scaling_factor": 2.5, "norm_topk_prob": True})  # fmt: skip
def _deepseek_v3(name: str, config: Config) -> Model:
    routing = {"scoring": "sigmoid", "normalise": config.flag("norm_topk_prob"), "correction": True}
    return _deepseek(name, config, routing)


@reader("gpt_oss", num_hidden_layers=36, num_local_experts=128, vocab_size=201088, hidden_size=2880,
        intermediate_size=2880, head_dim=64, num_attention_heads=64, num_key_value_heads=8,
        sliding_window=128, max_position_embeddings=131072, rms_norm_eps=1e-5, num_experts_per_tok=4,
        attention_bias=True, rope_theta=150000.0)  # fmt: skip
def _gpt_oss(name: str, config: Config) -> Model:
    config.refuse(swiglu_alpha=(1.702,), swiglu_limit=(7.0,))
    found = shared(
        config, sinks=True, experts=config.whole("num_local_experts"),
        top_k=config.whole("num_experts_per_tok"), routing={"bias": True}, style="gpt_oss",
        expert_form={"bias": True, "transposed": True, "clamped": True},
    )  # fmt: skip
    kinds = config.layer_types(found["layers"], _KINDS)
    kinds = kinds or [_KINDS[i % 2] for i in range(found["layers"])]
    return model_of(name, **found, **windows(config, found, kinds))


@reader("llama4_text", num_hidden_layers=48, hidden_size=5120, intermediate_size=8192,
        intermediate_size_mlp=16384, num_attention_heads=40, num_key_value_heads=8, head_dim=128,
        vocab_size=202048, max_position_embeddings=131072, rms_norm_eps=1e-5, num_experts_per_tok=1,
        num_local_experts=16, interleave_moe_layer_step=1, use_qk_norm=True, no_rope_layer_interval=4,
        attention_chunk_size=8192, rope_theta=500000.0)  # fmt: skip
def _llama4(name: str, config: Config) -> Model:
    """Llama 4, its text part; the slow growth of query length beyond 8192 tokens is not expressed."""
    layers = config.whole("num_hidden_layers")
    every, step = config.whole("no_rope_layer_interval"), config.whole("interleave_moe_layer_step")
    ropes = config.get("no_rope_layers") or [int((i + 1) % every != 0) for i in range(layers)]
    routed = config.get("moe_layers")
    routed = list(range(step - 1, layers, step)) if routed is None else routed
    if not isinstance(ropes, list) or len(ropes) != layers or not isinstance(routed, list):
        raise config.wrong("no_rope_layers", f"must say it for each of the {layers} layers")
    wide = config.whole("intermediate_size")
    changes: list[dict[str, Any]] = []
    for i in range(layers):
        change: dict[str, Any] = {} if ropes[i] else {"position": "none", "chunk": 0}
        changes.append(change if i in routed else change | {"experts": 0})
    found = shared(
        config, ffn_size=config.whole("intermediate_size_mlp"), chunk=config.count("attention_chunk_size"),
        rotary_interleaved=True, qk_norm="l2_after" if config.flag("use_qk_norm") else "none",
        experts=config.whole("num_local_experts"), top_k=config.whole("num_experts_per_tok"),
        expert_size=wide, shared_size=wide, routing={"scoring": "sigmoid"}, style="llama4",
        expert_form={"transposed": True, "scale_input": True}, round=cycle(changes),
    )  # fmt: skip
    return model_of(name, **found)


def _named(config: Config, **keys: str) -> dict[str, Any]:
    """Sizes that stand under the names of older configs; as many KV heads as heads."""
    found = {ours: config.whole(theirs) for ours, theirs in keys.items()}
    return found | {"kv_heads": found["heads"], "gated": False, "norm": "layer"}


@reader("gpt_neox", vocab_size=50432, hidden_size=6144, num_hidden_layers=44, num_attention_heads=64,
        intermediate_size=24576, hidden_act="gelu", max_position_embeddings=2048, layer_norm_eps=1e-5,
        attention_bias=True)  # fmt: skip
def _gpt_neox(name: str, config: Config) -> Model:
    width = config.whole("hidden_size") // config.whole("num_attention_heads")
    part = config.rope("partial_rotary_factor") or config.get("rotary_pct") or 0.25
    found = shared(
        config, gated=False, norm="layer", mlp_bias=True, rotary_width=int(width * part), style="gpt_neox",
        norm_eps=config.number("layer_norm_eps"),
        parallel=2 if config.get("use_parallel_residual", True) else 0,
    )  # fmt: skip
    return model_of(name, **found)


@reader("opt", vocab_size=50272, hidden_size=768, num_hidden_layers=12, ffn_dim=3072, num_attention_heads=12,
        max_position_embeddings=2048, activation_function="relu", tie_word_embeddings=True)  # fmt: skip
def _opt(name: str, config: Config) -> Model:
    config.refuse(
        word_embed_proj_dim=(config.whole("hidden_size"),), _remove_final_layer_norm=(False,),
        layer_norm_elementwise_affine=(True,),
    )  # fmt: skip
    bias = bool(config.get("enable_bias", True))
    found = shared(
        config, ffn_size=config.whole("ffn_dim"), activation=config.activation("activation_function"),
        kv_heads=config.whole("num_attention_heads"), gated=False, norm="layer", position="learned",
        attention_bias="qkvo" if bias else "none", mlp_bias=bias, extra_positions=2, style="opt",
        norm_sums=not config.get("do_layer_norm_before", True),
    )  # fmt: skip
    return model_of(name, **found)


@reader("falcon", vocab_size=65024, hidden_size=4544, num_hidden_layers=32, num_attention_heads=71,
        layer_norm_epsilon=1e-5, max_position_embeddings=2048, activation="gelu",
        tie_word_embeddings=True)  # fmt: skip
def _falcon(name: str, config: Config) -> Model:
    config.refuse(alibi=(False,), parallel_attn=(True,), num_ln_in_parallel_attn=(2,))
    heads, width = config.whole("num_attention_heads"), config.whole("hidden_size")
    grouped = config.flag("new_decoder_architecture")
    kv_heads = config.whole("num_kv_heads", heads) if grouped else heads
    if not grouped and config.get("multi_query", True):
        kv_heads = 1
    bias = config.flag("bias")
    found = shared(
        config, kv_heads=kv_heads, ffn_size=config.whole("ffn_hidden_size", 4 * width), gated=False,
        norm="layer", norm_eps=config.number("layer_norm_epsilon"), mlp_bias=bias,
        activation=config.activation("activation"), attention_bias="qkvo" if bias else "none",
        parallel=2 if grouped else 1, style="falcon_grouped" if grouped or kv_heads > 1 else "falcon",
    )  # fmt: skip
    return model_of(name, **found)


@reader("phi", vocab_size=51200, hidden_size=2048, intermediate_size=8192, num_hidden_layers=24,
        num_attention_heads=32, hidden_act="gelu_new", max_position_embeddings=2048,
        layer_norm_eps=1e-5)  # fmt: skip
def _phi(name: str, config: Config) -> Model:
    config.refuse(qk_layernorm=(False,))
    width = config.whole("hidden_size") // config.whole("num_attention_heads")
    part = config.rope("partial_rotary_factor") or 0.5
    found = shared(
        config, gated=False, norm="layer", norm_eps=config.number("layer_norm_eps"), attention_bias="qkvo",
        mlp_bias=True, parallel=1, head_bias=True, rotary_width=int(width * part), style="phi",
    )  # fmt: skip
    return model_of(name, **found)


@reader("gptj", vocab_size=50400, n_positions=2048, n_embd=4096, n_layer=28, n_head=16, rotary_dim=64,
        activation_function="gelu_new", layer_norm_epsilon=1e-5)  # fmt: skip
def _gptj(name: str, config: Config) -> Model:
    found = _named(config, layers="n_layer", hidden_size="n_embd", heads="n_head", max_context="n_positions")
    found["ffn_size"] = config.whole("n_inner", 4 * found["hidden_size"])
    found = shared(
        config, **found, activation=config.activation("activation_function"), mlp_bias=True, parallel=1,
        norm_eps=config.number("layer_norm_epsilon"), rotary_width=config.count("rotary_dim"),
        rotary_interleaved=True, head_bias=True, attention_bias="none", style="gptj",
    )  # fmt: skip
    return model_of(name, **found)
