"""Predict: what must hold of any prediction, and what the textbook says of its lighthouses."""

import numpy as np
import pytest

import pharos
from pharos.machines.machine import find_machine
from pharos.passes.fuse import kernels

A100 = "a100-sxm-80gb"


def test_lighthouses_bind_where_the_textbook_says():
    assert pharos.predict("mobilenet_v2", on=A100, batch=32, precision="fp16").binding == "memory-bandwidth"
    assert pharos.predict("gpt2-xl", on=A100, phase="decode", precision="fp16").binding == "memory-bandwidth"
    assert pharos.predict("gpt2-xl", on=A100, phase="prefill", precision="fp16", batch=8).binding == "compute"
    capacity = pharos.predict("dlrm", on=A100, batch=128)
    assert capacity.binding == "memory-capacity"
    assert capacity.fits is False
    mixed = pharos.predict("resnet50", on=A100, batch=32, precision="fp16").shares
    total = sum(mixed.values())
    assert mixed["compute"] > 0.1 * total
    assert mixed["memory-bandwidth"] > 0.1 * total


def test_sides_of_the_ridge():
    """9.56 FLOP/B is the ridge of an A100 in fp32: 19.5 TFLOP/s over 2.039 TB/s."""
    mobile = pharos.predict("mobilenet_v2", on=A100)
    assert mobile.ridge_point == pytest.approx(19.5e12 / 2.039e12)
    assert mobile.roofline()["per_op"][1] == mobile.regime == "memory-bandwidth"
    assert mobile.roofline()["ideal"][1] == "compute"
    intensities = [mobile.roofline()[b][0] for b in ("per_op", "as_run", "ideal")]
    assert intensities == sorted(intensities)
    assert pharos.predict("resnet50", on=A100, batch=32).roofline()["per_op"][1] == "compute"


def test_a_recurrence_is_bound_by_its_steps():
    assert pharos.predict("lstm_tagger", on=A100, precision="fp16").binding == "sequential-dependency"
    short = pharos.predict("lstm_tagger", on=A100, context=100).latency.value
    long = pharos.predict("lstm_tagger", on=A100, context=1000).latency.value
    assert long > 8 * short


def test_shares_add_up_to_the_latency():
    for runtime in ("compiled", "eager"):
        found = pharos.predict("resnet50", on="h100", batch=4, precision="fp16", runtime=runtime)
        assert sum(found.shares.values()) == pytest.approx(found.latency.value)
        assert found.latency.low < found.latency.value < found.latency.high


def test_no_prediction_beats_the_iron_law():
    """Latency is at least each term alone at the machine's own peaks."""
    for model, work in (
        ("resnet50", {"batch": 64}),
        ("gpt2-xl", {"phase": "decode"}),
        ("llama-3-8b", {"phase": "prefill"}),
    ):
        found = pharos.predict(model, on="h100", precision="bf16", **work)
        machine = found.machine
        executed = found.count.macs - found.count.work.masked_macs
        assert found.latency.value >= 2 * executed / machine.peak("bf16").value
        assert found.latency.value >= found.count.traffic.weights / machine.bandwidth_bytes_per_s.value


def test_eager_is_never_faster_and_waits_for_the_host():
    compiled = pharos.predict("mobilenet_v2", on="h100", precision="fp16")
    eager = pharos.predict("mobilenet_v2", on="h100", precision="fp16", runtime="eager")
    assert eager.latency.value > compiled.latency.value
    assert eager.binding == "overhead"


def test_arrays_give_what_ints_give():
    batches, contexts = np.array([1, 3, 16]), np.array([17, 512, 1024])
    together = pharos.predict(
        "gpt2-xl", on="h100", phase="decode", batch=batches, context=contexts, precision="fp16"
    )
    for i, (b, c) in enumerate(zip(batches, contexts, strict=True)):
        one = pharos.predict(
            "gpt2-xl", on="h100", phase="decode", batch=int(b), context=int(c), precision="fp16"
        )
        assert together.latency.value[i] == pytest.approx(one.latency.value)
        assert together.energy.value[i] == pytest.approx(one.energy.value)
        assert together.memory.total[i] == one.memory.total
        assert together.binding[i] == one.binding


def test_more_work_takes_longer():
    found = [pharos.predict("resnet50", on="h100", batch=b).latency.value for b in (1, 2, 8, 64)]
    assert found == sorted(found)
    narrow = pharos.predict("mobilenet_v2(width=0.5)", on="cortex-a53", precision="int8").latency.value
    assert narrow < pharos.predict("mobilenet_v2", on="cortex-a53", precision="int8").latency.value


def test_what_is_unknown_is_not_guessed():
    found = pharos.predict("resnet50", on="rpi4")
    assert found.energy.level == "assumed"
    # the idle power is known, the rest within a factor of seven
    idle = 2.2 * found.latency.value
    assert found.energy.high - idle > 6 * (found.energy.low - idle) > 0
    blind = pharos.predict("ds_cnn_s", on="esp32_s3", precision="int8")
    assert blind.latency.value is blind.energy.value is None
    assert "not in the catalogue" in blind.latency.evidence[0].where


def test_a_stand_in_peak_is_assumed_and_widens_the_band():
    machine = find_machine("intel_xeon_8380")
    assert machine.peak("bf16").value is None
    found = pharos.predict("gpt2-small", on="intel_xeon_8380", precision="bf16")
    assert any("stands in" in e.where and e.kind.value == "assumed" for e in found.evidence)
    known = pharos.predict("gpt2-small", on="intel_xeon_8380", precision="fp32")
    assert found.latency.high / found.latency.value > known.latency.high / known.latency.value


def test_memory_parts():
    found = pharos.predict("llama-3-8b", on="h100", phase="decode", context=4096, batch=8, precision="fp16")
    assert found.memory.weights == 2 * 8_030_261_248
    assert found.memory.kv_cache == 8 * 4096 * 2 * 32 * 8 * 128 * 2
    assert found.fits
    assert pharos.predict("llama-3-70b", on="h100", precision="fp16", phase="decode").fits is False
    state = pharos.predict("lstm_tagger", on="h100").memory.state
    assert state == 2 * 128 * 4


def test_fusion_moves_less_and_keeps_the_work():
    counted = pharos.show("mobilenet_v2")
    eager, fused = kernels(counted, fused=False), kernels(counted, fused=True)
    assert len(fused) < len(eager)
    assert (
        sum(k.work.macs * k.times for k in fused) == sum(k.work.macs * k.times for k in eager) == counted.macs
    )
    assert sum(k.traffic.total * k.times for k in fused) < sum(k.traffic.total * k.times for k in eager)
    assert sum(k.traffic.total * k.times for k in eager) == counted.traffic_per_op


def test_energy_is_the_sum_of_its_parts():
    found = pharos.predict("gpt2-xl", on="h100", phase="decode", precision="fp16")
    parts = found.energy_parts
    assert found.energy.value == pytest.approx(parts.compute_J + parts.data_J + parts.static_J)
    # 3.1 GB of weights and the cache at 81.6 pJ a byte, what the board was fitted to
    assert parts.data_J == pytest.approx(3.5e9 * 81.6e-12, rel=0.1)
    assert found.power_W.value < found.machine.max_W.value


def test_a_microcontroller_adds_cycles_up():
    """MLPerf Tiny's keyword spotter in int8 takes 60 to 180 ms on a 120 MHz Cortex-M4F, by framework."""
    found = pharos.predict("ds_cnn_s", on="stm32l4r5", precision="int8")
    assert found.binding == "compute"
    assert found.arena.size == found.memory.activations_peak == 16_000
    assert found.latency.low < 75e-3 < found.latency.high
    assert found.energy.value == pytest.approx(0.047 * found.latency.value)
    assert pharos.predict("ds_cnn_s", on="stm32f746", precision="int8").latency.value < found.latency.value


def test_what_is_kept_is_a_cache_or_a_state():
    """Keys and values of tokens and of the source are a cache; what does not grow is a state."""
    t5 = pharos.predict("t5-base(source=100)", on="h100-sxm", phase="decode", context=50, precision="fp16")
    assert (t5.memory.kv_cache, t5.memory.state) == (2 * 12 * 2 * 768 * (100 + 50), 0)
    mamba = pharos.predict("mamba2-130m", on="h100-sxm", phase="decode", context=50, precision="fp16")
    assert (mamba.memory.kv_cache, mamba.memory.state) == (0, 2 * 24 * (1536 * 128 + (1536 + 256) * 4))
