"""Figures: one description drawn in every form, in both themes, with words for those who do not see them."""

import json

import pytest

from pharos.quantity.errors import PharosError
from pharos.report.drawing import COLOURS, DARK_COLOURS, Figure, config


def bars(**spec) -> Figure:
    values = [{"kind": "a", "n": 1}, {"kind": "b", "n": 3}]
    return Figure(name="bars", title="Two bars", alt="a bar of 1 and a bar of 3", source="counted", spec={
        "data": {"values": values}, "mark": "bar",
        "encoding": {"x": {"field": "n", "type": "quantitative"}, "y": {"field": "kind", "type": "nominal"}}, **spec,
    })  # fmt: skip


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    bright, dim = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_theme_is_legible(dark):
    made = config(dark)
    ground = made["background"]
    for words in (
        made["title"]["color"],
        made["axis"]["labelColor"],
        made["legend"]["labelColor"],
        made["text"]["color"],
    ):
        assert contrast(words, ground) >= 4.5
    marks = DARK_COLOURS if dark else COLOURS
    assert all(contrast(m, ground) >= 2 for m in marks)
    assert len(set(marks)) == len(marks) == 8


def test_a_figures_own_settings_win():
    spec = bars(config={"axis": {"grid": False}}).themed()
    assert spec["config"]["axis"]["grid"] is False
    assert spec["config"]["axis"]["labelFontSize"] == config()["axis"]["labelFontSize"]
    assert spec["description"] == "a bar of 1 and a bar of 3"


def test_every_form(tmp_path):
    pytest.importorskip("vl_convert")
    one = bars()
    svg = one.save(tmp_path / "a.svg").read_text()
    assert svg.startswith("<svg")
    assert "Two bars" in svg
    png = one.save(tmp_path / "a.png", dark=True).read_bytes()
    assert png.startswith(b"\x89PNG")
    page = one.save(tmp_path / "a.html").read_text()
    assert 'src="http' not in page
    assert "import(" not in page or "cdn" not in page
    assert json.loads(one.save(tmp_path / "a.json").read_text())["mark"] == "bar"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.json", "a.png", "a.svg"]


def test_mistakes_are_told(tmp_path):
    with pytest.raises(PharosError, match="jpg is no form of a figure"):
        bars().save(tmp_path / "a.jpg")
    with pytest.raises(PharosError, match="folder does not exist"):
        bars().save(tmp_path / "no" / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_altair_charts_become_figures():
    alt = pytest.importorskip("altair")
    chart = alt.Chart(alt.Data(values=[{"x": 1, "y": 2}])).mark_point().encode(x="x:Q", y="y:Q")
    spec = Figure.of(chart, name="p", title="A point", alt="one point").themed()
    assert spec["mark"]["type"] == "point"
