"""The roofline: marks and roofs are the estimate's own numbers; words collide with nothing; machines apart."""

import json
import math

import numpy as np
import pytest

import pharos
from pharos.quantity.errors import PharosError
from pharos.report.plots.roofline import roofline
from pharos.report.roofs import points

A100 = pharos.predict("gpt2_xl", "a100", phase="decode", context=1024, batch=8, precision="bf16")


def test_marks_are_the_estimates_operators():
    figure = roofline([A100])
    rows = {r["operator"]: r for r in figure.rows("points")}
    told = {op.kernel.name: op for op in A100.operations}
    assert rows
    for name, row in rows.items():
        op = told[name]
        seconds = op.time.latency_s * op.kernel.times
        flops = (op.kernel.work.flops or op.kernel.work.vector_flops) * op.kernel.times
        assert row["seconds"] == pytest.approx(seconds)
        assert row["flops"] == pytest.approx(flops)
        assert row["intensity"] == pytest.approx(flops / (op.time.traffic_bytes * op.kernel.times))
        assert row["flops_per_s"] == pytest.approx(flops / seconds)
        assert row["share"] == pytest.approx(seconds / A100.latency.value)
    # areas go with shares, above the smallest mark
    large = [r for r in rows.values() if r["area"] > 24]
    assert large
    assert len({round(r["area"] / r["share"], 6) for r in large}) == 1


def test_what_has_no_flops_is_told_not_drawn():
    drawn, without = points(A100)
    whole = sum(op.time.latency_s * op.kernel.times for op in A100.operations)
    assert sum(p.seconds for p in drawn) + without == pytest.approx(whole)


def test_roofs_meet_at_the_ridge_of_the_datasheet():
    figure = roofline([A100])
    main = [r for r in figure.rows("roofs") if r["main"]]
    flat, slope = [r for r in main if r["flat"]], [r for r in main if not r["flat"]]
    # NVIDIA's A100 data sheet: 312 TFLOP/s in bf16, 2039 GB/s
    assert {r["flops_per_s"] for r in flat} == {312e12}
    assert min(r["intensity"] for r in flat) == pytest.approx(312e12 / 2039e9)
    for end in slope:
        assert end["flops_per_s"] == pytest.approx(2039e9 * end["intensity"])
    assert "ridge 153" in {w["text"] for w in figure.rows("words")}
    assert "ridge point 153 FLOP/B" in figure.alt
    levels = {r["says"] for r in figure.rows("roofs")}
    assert any("cache 7.22 TB/s" in s for s in levels)
    assert any("int8 624 TFLOP/s" in s for s in levels)


def test_the_whole_step_has_its_band():
    (row,) = roofline([A100]).rows("whole")
    assert (row["low_s"], row["seconds"], row["high_s"]) == (
        A100.latency.low, A100.latency.value, A100.latency.high,
    )  # fmt: skip
    assert row["least"] == pytest.approx(A100.count.flops / A100.latency.high)
    assert row["intensity"] == pytest.approx(A100.roofline()["as_run"][0])


def test_machines_are_overlaid_and_named():
    several = pharos.compare(["resnet50"], ["a100", "t4", "cortex-a53"])
    figure = roofline(several)
    assert {r["machine"] for r in figure.rows("points")} == {"a100_sxm_80gb", "t4", "rpi3_cortex_a53"}
    assert sum(w["what"] == "whole" for w in figure.rows("words")) == 3
    for e in several:
        assert e.machine.id in figure.alt


def boxes(figure):
    """Where words stand in pixels, as drawn in letters of 11 pixels at 0.5 of a pixel a character."""
    spec = figure.spec["layer"][0]["encoding"]
    (x0, x1), (y0, y1) = spec["x"]["scale"]["domain"], spec["y"]["scale"]["domain"]
    for w in figure.rows("words"):
        if not w["angle"]:
            x = math.log(w["intensity"] / x0) / math.log(x1 / x0) * 490
            y = (1 - math.log(w["flops_per_s"] / y0) / math.log(y1 / y0)) * 370
            yield x, y - 6, x + 5.5 * len(w["text"]), y + 6


@pytest.mark.parametrize(
    ("model", "on", "work"),
    [("resnet50", ["a100"], {"batch": 8, "precision": "fp16"}), ("mobilenet_v2", ["cortex-a53"], {}),
     ("dlrm", ["a100", "h100-sxm"], {"batch": 2048})],
)  # fmt: skip
def test_words_do_not_collide(model, on, work):
    figure = roofline(pharos.compare([model], on, **work))
    found = list(boxes(figure))
    assert len(found) >= 3
    for i, a in enumerate(found):
        assert a[0] >= 0
        assert a[2] <= 500
        for b in found[:i]:
            assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_every_number_can_be_written_as_json():
    json.dumps(roofline([A100]).themed(), allow_nan=False)


def test_what_cannot_be_drawn_is_told():
    with pytest.raises(PharosError, match="sizes must be numbers"):
        roofline([pharos.predict("resnet50", "a100", batch=np.array([1, 2]))])
    with pytest.raises(PharosError, match="holds 1 to 6 apart"):
        roofline([A100] * 7)
