"""Pictures: where points stand is held against arithmetic; what they say is read by those who cannot see them."""

import re
from math import log10
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pharos
from pharos.doors.web import drawn
from pharos.predict.kernel import compute_dtype

NS = "{http://www.w3.org/2000/svg}"


def tree(svg):
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


@pytest.fixture(scope="module")
def estimate():
    return pharos.predict("resnet50", on="a100-sxm-80gb", precision="fp16", batch=32)


@pytest.mark.parametrize("frame", [drawn.WIDE, drawn.NARROW])
def test_the_roof_bends_at_the_ridge(estimate, frame):
    root = tree(drawn.roofline([estimate], frame))
    path = next(p for p in root.iter(f"{NS}path"))
    (_, y0), (x1, y1), (x2, y2) = [
        tuple(map(float, p.split(","))) for p in re.findall(r"[\d.]+,[\d.]+", path.get("d"))
    ]
    assert y1 == y2 < y0
    ticks = {}
    for text in root.iter(f"{NS}text"):
        if text.get("text-anchor") == "middle" and re.fullmatch(r"[\d.]+", text.text or ""):
            ticks[float(text.text)] = float(text.get("x"))
    (a, xa), (b, xb) = sorted(ticks.items())[0], sorted(ticks.items())[-1]
    ridge = estimate.machine.ridge_point(compute_dtype(estimate.workload.precision))
    assert x1 == pytest.approx(xa + (xb - xa) * log10(ridge / a) / log10(b / a), abs=0.2)
    assert x2 > x1


def test_every_dot_lies_at_or_below_its_roof(estimate):
    machine, kind = estimate.machine, compute_dtype(estimate.workload.precision)
    for dot in drawn.dots_of(estimate):
        assert (
            dot.rate
            <= min(machine.peak(kind).value, dot.intensity * machine.bandwidth_bytes_per_s.value) * 1.001
        )


def test_dots_are_the_kernels_with_operations(estimate):
    dots = drawn.dots_of(estimate)
    assert len(dots) == sum(bool(op.kernel.work.macs) for op in estimate.operations)
    assert sum(d.seconds for d in dots) <= float(estimate.latency.value)
    assert [d.share for d in dots] == sorted((d.share for d in dots), reverse=True)
    assert drawn.roofline([estimate]).count("<circle") == min(len(dots), drawn.MOST_POINTS)


def test_pictures_have_words_and_no_styles(estimate):
    for svg in (
        drawn.roofline([estimate]),
        drawn.bar([drawn.Part("a<b", 1.0, "p0")], 2.0, "B", "n", "Memory"),
    ):
        root = tree(svg)
        assert root.get("role") == "img"
        assert root.find(f"{NS}title").text
        assert root.find(f"{NS}desc").text
        assert "style=" not in svg


def test_names_are_escaped():
    svg = drawn.bar([drawn.Part("<script>x</script>", 1.0, "p0")], None, "B", "n", "M")
    assert "<script" not in svg


@given(st.lists(st.floats(0, 1e12), min_size=1, max_size=6), st.one_of(st.none(), st.floats(1, 1e12)))
def test_a_bar_is_as_wide_as_its_parts(values, limit):
    svg = drawn.bar([drawn.Part(str(i), v, "p0") for i, v in enumerate(values)], limit, "B", "n", "M")
    total, end = sum(values), max(sum(values), limit or 0.0) or 1.0
    found = [r for r in tree(svg).iter(f"{NS}rect") if r.get("class").startswith("part")]
    last = max((float(r.get("x")) + float(r.get("width")) for r in found), default=0.0)
    assert last <= 1000 * total / end + 1.6
    assert ("over" in svg) == bool(limit and total > limit)


@given(st.floats(1e-6, 1e6), st.floats(1.5, 1e6))
def test_log_scales_keep_their_ends(low, times):
    at = drawn.log_scale(low, low * times, 10, 200)
    assert at(low) == pytest.approx(10)
    assert at(low * times) == pytest.approx(200)
    assert at(low * times**0.5) == pytest.approx(105)
    assert len(drawn.decades(low, low * times)) <= 8


def test_the_look_has_the_colours_of_figures():
    from pathlib import Path

    from pharos.report.drawing import COLOURS, DARK_COLOURS

    css = (Path(drawn.__file__).parent / "static" / "app.css").read_text(encoding="utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)")[:2]
    for i, (day, night) in enumerate(zip(COLOURS, DARK_COLOURS, strict=True)):
        assert f"--c{i}: {day}" in light
        assert f"--c{i}: {night}" in dark


def test_contexts_are_said_as_people_say_them():
    assert [drawn.tokens(n) for n in (512, 1000, 1024, 131072, 2**20)] == ["512", "1,000", "1k", "128k", "1M"]
