"""Models with a state of fixed size: what they compute and keep, against transformers and by hand."""

import json

import pytest

from pharos.convert.from_hf import from_hf_config
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.quantity.errors import PharosError

TINY = {"num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 100}


def config(tmp_path, **data):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY | data))
    return path


def test_macs_as_a_counter_of_matrix_products_sees_transformers_mamba(tmp_path):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    made = transformers.AutoConfig.for_model("mamba", **TINY, state_size=4, time_step_rank=3)
    theirs = transformers.AutoModelForCausalLM.from_config(made).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        theirs(torch.zeros(2, 11, dtype=torch.int64))
    path = config(tmp_path, model_type="mamba", state_size=4, time_step_rank=3)
    counted = count(from_hf_config(path).graph(Workload(batch=2, context=11)))
    # theirs pads the causal convolution on both sides and cuts the 3 outputs too many of 4 taps away
    assert counter.get_total_flops() == 2 * counted.macs + 2 * 2 * (2 * 64 * 3 * 4)


def test_macs_of_mamba_by_hand():
    tokens, width, inner, states, rank = 512, 768, 1536, 16, 48
    layer = 3 * width * inner + inner * (rank + 2 * states) + rank * inner + 4 * inner + inner * states
    macs = tokens * (24 * layer + width * 50280)
    assert count(find("mamba-130m").graph(Workload(context=tokens))).macs == macs


def test_chunks_of_mamba2_by_hand():
    """Two chunks of 256 and one of 88: squares within chunks, states between them."""
    tokens, inner, states = 600, 1536, 128
    pairs = 2 * 256**2 + 88**2
    line = next(
        x for x in count(find("mamba2-130m").graph(Workload(context=tokens))).lines if x.kind == "ssd"
    )
    assert line.work.macs == pairs * (states + inner) + 2 * tokens * inner * states


@pytest.mark.parametrize(
    ("name", "elements"),
    # a layer: inner x (state + kernel); (inner + 2 state) x kernel beside it; 5 vectors of the width
    [
        ("mamba-130m", 24 * 1536 * (16 + 4)),
        ("mamba2-130m", 24 * (1536 * 128 + (1536 + 256) * 4)),
        ("rwkv-4-169m", 12 * 5 * 768),
    ],
)
def test_the_state_is_as_large_for_any_context(name, elements):
    model = find(name)
    held = [
        count(model.graph(Workload(phase=phase, context=n, batch=3, precision="fp16"))).state_bytes
        for phase in ("prefill", "decode")
        for n in (10, 1000)
    ]
    assert held == [3 * 2 * elements] * 4
    assert count(model.graph(Workload(context=10))).state_bytes == 0


def test_a_decode_step_costs_the_same_at_any_context():
    model = find("mamba2-370m")
    steps = [count(model.graph(Workload(phase="decode", context=n))) for n in (2, 100_000)]
    assert steps[0].macs == steps[1].macs
    assert steps[0].traffic_per_op == steps[1].traffic_per_op


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_heads": 3, "head_dim": 16}, "num_heads"),
        ({"num_heads": 4, "head_dim": 16, "n_groups": 3}, "n_groups"),
    ],
)
def test_configs_that_fit_nothing_are_told(tmp_path, change, told):
    with pytest.raises(PharosError, match=told):
        from_hf_config(config(tmp_path, model_type="mamba2", **change))


def test_what_the_reader_does_not_express_is_traced(tmp_path):
    """A limit on the steps changes no count: what transformers builds has the reader's parameters."""
    pytest.importorskip("transformers")
    sizes = {"num_heads": 4, "head_dim": 16, "n_groups": 1}
    read = count(from_hf_config(config(tmp_path, model_type="mamba2", **sizes)).graph(Workload(context=8)))
    limited = config(tmp_path, model_type="mamba2", **sizes, time_step_limit=[0.0, 1.0])
    assert count(from_hf_config(limited).graph(Workload(context=8))).parameters == read.parameters
