"""Configs of models with a state of fixed size: Mamba, Mamba-2 and RWKV."""

from math import ceil
from typing import Any

from pharos.convert.from_hf import Config, reader
from pharos.models.registry import Model
from pharos.models.ssm import Mamba, Rwkv, mamba, rwkv

# What the classes of transformers 5.23 take when a config leaves a key out.
MAMBA = {
    "hidden_size": 768, "num_hidden_layers": 32, "state_size": 16, "vocab_size": 50280, "expand": 2,
    "conv_kernel": 4, "use_conv_bias": True, "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True,
}  # fmt: skip
MAMBA2 = MAMBA | {
    "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 128, "vocab_size": 32768, "num_heads": 128,
    "head_dim": 64, "n_groups": 8, "chunk_size": 256, "tie_word_embeddings": False,
}  # fmt: skip


def _sizes(config: Config, **found: Any) -> Mamba:
    width = config.whole("hidden_size")
    return Mamba(
        layers=config.whole("num_hidden_layers"), hidden_size=width, state_size=config.whole("state_size"),
        vocabulary=config.whole("vocab_size"), conv_kernel=config.whole("conv_kernel"),
        bias=config.flag("use_bias"), conv_bias=config.flag("use_conv_bias"),
        tied=config.flag("tie_word_embeddings"), norm_eps=config.number("layer_norm_epsilon") or 1e-5,
        activation=config.activation("hidden_act"), **found,
    )  # fmt: skip


def _model(name: str, sizes: Mamba) -> Model:
    return Model(name=name, family="ssm", build=lambda work: mamba(name, work, sizes))


@reader("mamba", **MAMBA)
def _mamba(name: str, config: Config) -> Model:
    width = config.whole("hidden_size")
    inner = int((config.number("expand") or 2) * width)
    if config.given.get("intermediate_size", inner) != inner:
        inner = config.whole("intermediate_size")
    automatic = config.get("time_step_rank", "auto") == "auto"
    rank = ceil(width / 16) if automatic else config.whole("time_step_rank")
    return _model(name, _sizes(config, inner_size=inner, dt_rank=rank))


@reader("mamba2", **MAMBA2)
def _mamba2(name: str, config: Config) -> Model:
    config.refuse(time_step_limit=([0.0, float("inf")], (0.0, float("inf"))))
    heads, groups = config.whole("num_heads"), config.whole("n_groups")
    inner = int((config.number("expand") or 2) * config.whole("hidden_size"))
    if heads * config.whole("head_dim") != inner:
        raise config.wrong("num_heads", f"x head_dim must be expand x hidden_size = {inner}")
    if heads % groups:
        raise config.wrong("n_groups", f"must divide the {heads} heads, not {groups}")
    chunk = config.whole("chunk_size")
    return _model(name, _sizes(config, inner_size=inner, heads=heads, groups=groups, chunk=chunk))


@reader("rwkv", hidden_size=4096, num_hidden_layers=32, vocab_size=50277, layer_norm_epsilon=1e-5)
def _rwkv(name: str, config: Config) -> Model:
    width = config.whole("hidden_size")
    sizes = Rwkv(
        layers=config.whole("num_hidden_layers"), hidden_size=width,
        attention_size=config.whole("attention_hidden_size", width),
        ffn_size=config.whole("intermediate_size", 4 * width), vocabulary=config.whole("vocab_size"),
        tied=config.flag("tie_word_embeddings"), norm_eps=config.number("layer_norm_epsilon") or 1e-5,
    )  # fmt: skip
    return Model(name=name, family="ssm", build=lambda work: rwkv(name, work, sizes))
