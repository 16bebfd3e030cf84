"""Shipped closed forms in use: which form a kernel gets, what stays a roofline, and that bands are regimes' own."""

import numpy as np
import pytest

import pharos
from pharos.machines.machine import find_machine
from pharos.machines.profile import profile_of
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import REACH, Anchor, Device, blend


def forms(machine):
    for kind, curves in profile_of(find_machine(machine)).classes.items():
        for curve in curves:
            if curve.form:
                yield kind, curve


@pytest.mark.parametrize(
    "machine", ["h100-sxm", "h200-sxm", "a100-sxm-80gb", "a100-sxm-40gb", "v100", "p100", "t4", "b200"]
)
def test_shipped_forms_state_what_they_know(machine):
    found = list(forms(machine))
    assert found
    for _, curve in found:
        form = FORMS[curve.form]
        assert 0.05 <= curve.error < 1.5
        assert set(curve.errors) <= {"launch", "compute", "data"}
        for constants in [a["constants"] for a in curve.anchors] or [curve.constants]:
            assert set(constants) == set(form.constants) | set(form.switches)
            assert all(v > 0 or k in form.switches for k, v in constants.items())
        if curve.correction:
            rows = len(curve.correction["weights"])
            assert all(len(v) == rows for k, v in curve.correction.items() if k.startswith("x"))
            assert len(curve.correction["scales"]) == sum(k.startswith("x") for k in curve.correction)


def test_decode_takes_the_curve_of_decode():
    h100 = profile_of(find_machine("h100-sxm"))
    assert h100.curve("attention", "bf16", "decode").form == "decode"
    assert h100.curve("attention", "bf16", "prefill").form == "prefill"
    assert profile_of(find_machine("b200")).curve("attention", "bf16", "decode").form == "decode"


def test_an_unmeasured_gpu_blends_its_neighbours_and_is_less_sure():
    known, unknown = (
        profile_of(find_machine(m)).curve("gemm", "bf16", "forward") for m in ("h100-sxm", "b200")
    )
    assert known.constants
    assert not known.anchors
    assert len(unknown.anchors) >= 5
    assert unknown.error > known.error


def test_a_blend_is_nearest_to_the_nearest():
    def one(name, rate, launch):
        return Anchor(device=Device(units=100, ops_per_s=rate, bytes_per_s=1e12, cache_bytes=4e7), name=name,
                      constants=FORMS["stream"].start() | {"launch_us": launch})  # fmt: skip

    known = [one("slow", 100e12, 2.0), one("fast", 800e12, 8.0)]
    assert blend(known, known[0].device)["launch_us"] == pytest.approx(
        2.0 * 4 ** (np.exp(-3 / REACH) / (1 + np.exp(-3 / REACH)))
    )
    middle = Device(units=100, ops_per_s=(100e12 * 800e12) ** 0.5, bytes_per_s=1e12, cache_bytes=4e7)
    assert blend(known, middle)["launch_us"] == pytest.approx(4.0)
    assert blend(known[:1], middle)["launch_us"] == pytest.approx(2.0)


def test_attention_that_stores_its_scores_takes_longer():
    from dataclasses import replace

    from pharos.graph.workload import Workload
    from pharos.ops.attention import Attention
    from pharos.predict.estimate import predict

    asked = Workload(batch=4, context=1024, precision="fp16")
    graph = pharos.load("gpt2-small").graph(asked)
    stored = graph.with_ops(
        lambda n: replace(n.op, algorithm="materialised") if isinstance(n.op, Attention) else None
    )
    machine = find_machine("a100-sxm-80gb")
    tiled, unfused = (predict(g, machine, asked) for g in (graph, stored))
    assert unfused.latency.value > tiled.latency.value
    scores = next(o for o in unfused.operations if o.kernel.lead.kind == "attention")
    # softmax, scale and mask read and write 4 x 12 x 1024 x 1024 scores of 2 bytes, and both products touch them
    assert scores.time.latency_s > 8 * 4 * 12 * 1024 * 1024 * 2 / machine.bandwidth_bytes_per_s.value / 2


def test_a_long_sweep_gives_what_single_points_give():
    """Longer arrays look sizes up once; the answer must not depend on that."""
    batch = np.repeat(np.arange(1, 41), 200)
    context = np.tile(np.arange(1, 201) * 5, 40)
    work = {"on": "h100-sxm", "phase": "decode", "precision": "fp16"}
    many = pharos.predict("gpt2-small", batch=batch, context=context, **work)
    for i in (0, 777, 7999):
        one = pharos.predict("gpt2-small", batch=int(batch[i]), context=int(context[i]), **work)
        assert many.latency.value[i] == pytest.approx(one.latency.value)
        assert many.latency.high[i] == pytest.approx(one.latency.high)
