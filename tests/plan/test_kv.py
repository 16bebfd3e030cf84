"""What decoders keep for a request: against hand computations, published sizes and the symbolic reading."""

import json

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from pharos.convert.load import load
from pharos.graph.workload import Workload
from pharos.models.transformer import Decoder, decoder
from pharos.plan.kv import kept, paging
from pharos.quantity.errors import InputError, SizeError


def of(name: str, precision: str = "bf16"):
    return kept(load(name).graph, precision)


def test_32_layers_32_heads_128_wide_2048_tokens() -> None:
    sizes = Decoder(layers=32, hidden_size=4096, heads=32, kv_heads=32, head_dim=128, ffn_size=11008,
                    vocabulary=32000, max_context=4096)  # fmt: skip
    found = kept(lambda work: decoder("lighthouse", work, sizes), "fp16")
    assert found.bytes_at(2048) == 2 * 32 * 32 * 128 * 2048 * 2 == 1_073_741_824
    assert 8 * found.bytes_at(2048) == 8_589_934_592
    assert found.formula == "2 (K, V) x 32 layers x 32 KV heads x 128 x S x 2 B"


# Llama 3: 80 layers, 8 KV heads of 128 (arXiv:2407.21783, table 3). DeepSeek-V3: 61 layers of a 512-wide
# latent and a 64-wide rotary key, 70 kB a token (arXiv:2412.19437 and arXiv:2505.09343, table 1: 70.272 KB).
# The other figures of that table 1: Qwen2.5-72B 327.680 KB, Llama-3.1-405B 516.096 KB.
@pytest.mark.parametrize(
    ("name", "per_token"),
    [
        ("llama-3-70b", 2 * 80 * 8 * 128 * 2),
        ("deepseek-v3", 70_272),
        ("qwen2.5-72b", 327_680),
        ("llama-3.1-405b", 516_096),
        ("gemma-3-27b-text", 2 * 62 * 16 * 128 * 2),
        ("gpt-oss-120b", 2 * 36 * 8 * 64 * 2),
        ("gpt-oss-20b", 2 * 24 * 8 * 64 * 2),
        ("falcon-7b", 2 * 32 * 1 * 64 * 2),
    ],
)
def test_bytes_a_token(name: str, per_token: int) -> None:
    assert of(name).per_token == per_token


def test_windows_stop_growing() -> None:
    # Gemma 3 27B: 52 of 62 layers see 1024 tokens (arXiv:2503.19786); gpt-oss: every second sees 128
    gemma = of("gemma-3-27b-text")
    row = 2 * 16 * 128 * 2
    assert gemma.bytes_at(32768) == row * (52 * 1024 + 10 * 32768)
    assert gemma.growth(1023) == row * 62
    assert gemma.growth(1024) == row * 10 == gemma.unbounded_per_token
    oss = of("gpt-oss-120b")
    assert oss.bytes_at(8192) == 2 * 8 * 64 * 2 * 18 * (128 + 8192)
    assert of("mistral-7b-v0.1").bytes_at(8192) == 2 * 32 * 8 * 128 * 2 * 4096


def test_states_do_not_grow() -> None:
    # Mamba-2 2.7B: 64 layers of 80 heads x 64 x 128 and 5376 channels x 4 of a convolution (arXiv:2405.21060)
    found = of("mamba2-2.7b")
    assert found.per_token == 0
    assert found.bytes_at(10) == found.bytes_at(100_000) == 64 * (80 * 64 * 128 + 5376 * 4) * 2
    assert {t.kind for t in found.terms} == {"state"}


def test_cross_attention_is_kept_once() -> None:
    found = of("t5-base")
    assert found.per_token == 2 * 12 * 12 * 64 * 2
    assert found.fixed == 2 * 12 * 12 * 64 * 512 * 2
    assert "cross-attention" in {t.kind for t in found.terms}


@pytest.mark.parametrize(
    "name", ["llama-3-8b", "deepseek-v3", "gemma-3-4b-text", "gpt-oss-20b", "t5-small", "rwkv-4-169m",
             "llama-4-scout-17b-16e-text", "mixtral-8x7b"]
)  # fmt: skip
def test_agrees_with_the_symbolic_reading(name: str) -> None:
    model, s = load(name), sympy.Symbol("S", positive=True, integer=True)
    graph = model.graph(Workload(phase="decode", context=s, precision="bf16"))  # type: ignore[arg-type]
    formula = sum(times * node.state_bytes for node, times, _ in graph.walk() if node.state)
    found = kept(model.graph, "bf16")
    for context in (2, 77, 1024, 9000):
        assert found.bytes_at(context) == int(sympy.sympify(formula).subs(s, context))


def test_cache_in_other_types() -> None:
    assert of("llama-3-8b", "weights=bf16,activations=bf16,kv_cache=fp8").per_token == 65_536
    assert of("llama-3-8b", "weights=bf16,activations=bf16,kv_cache=int4").per_token == 32_768


@pytest.mark.parametrize("name", ["resnet50", "bert-base-uncased", "dlrm-repo-default"])
def test_what_is_no_decoder_says_so(name: str) -> None:
    with pytest.raises(InputError, match="is not a decoder"):
        of(name)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(1, 256))
def test_pages_waste_less_than_a_page_a_request(lengths: list[int], block: int) -> None:
    found = paging(lengths, block, max(lengths))
    handed_out = sum(lengths) / (1 - found.paged)
    assert 0 <= handed_out - sum(lengths) < block * len(lengths) * (1 + 1e-9)
    assert 0 <= found.doubled < 0.5
    assert found.longest >= 0


def test_waste_by_hand() -> None:
    found = paging([100, 200, 300], 16, 2048)
    assert found.paged == pytest.approx(1 - 600 / (112 + 208 + 304))
    assert found.longest == pytest.approx(1 - 600 / (3 * 2048))
    assert found.doubled == pytest.approx(1 - 600 / (128 + 256 + 512))
    assert found.table_bytes == 4 * 128
    with pytest.raises(SizeError):
        paging([], 16, 10)


def test_a_hybrid_that_transformers_builds(tmp_path) -> None:
    # Bamba: 3 layers of 4 heads x 16 x 8 numbers of state and a convolution over 4 tokens of 64 + 2 x 8
    # channels; 1 layer of attention with 2 KV heads of 16
    config = {"model_type": "bamba", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 50, "mamba_n_heads": 4,
              "mamba_d_head": 32, "mamba_d_state": 8, "mamba_expand": 2, "attn_layer_indices": [3]}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    found = kept(load(str(path)).graph, "bf16")
    assert found.per_token == 2 * 2 * 16 * 2
    assert found.fixed == 3 * 2 * (4 * 32 * 8 + 4 * (4 * 32 + 2 * 8))
    assert {t.kind for t in found.terms} == {"attention", "state"}
