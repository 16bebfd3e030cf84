"""Notebooks: every result shows itself safely, and its frame holds the numbers of its JSON."""

import sys
from types import SimpleNamespace

import pytest

import pharos
from pharos.quantity.errors import PharosError
from pharos.report.labs import Check, Outcome

pytest.importorskip("vl_convert")


class Rows:
    """Stands in for a library of frames."""

    def __init__(self, rows, **_):
        self.rows = rows


@pytest.fixture
def rows(monkeypatch):
    """The rows of a result's frame."""

    def of(result):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=Rows))
            return result.to_frame().rows

    return of


def test_an_estimate_shows_figures_and_roofline(rows):
    found = pharos.predict("resnet18", on="a100-sxm-80gb", precision="fp16")
    text = found._repr_html_()
    assert "resnet18 on nvidia_a100_sxm_80gb" in text
    assert text.count("<img ") == 1
    made = rows(found)
    assert sum(r["macs"] for r in made) == found.count.macs
    assert sum(r["latency_s"] for r in made) == pytest.approx(sum(float(o.total_s) for o in found.operations))


def test_graphs_and_counts(rows):
    found = pharos.show("mlp(widths=(4, 8, 2))")
    assert rows(found) == rows(found.graph)
    assert [r["parameters"] for r in rows(found) if r["parameters"]] == [40, 18]
    assert "58 parameters" in found._repr_html_()


def test_verdicts_and_decisions(rows):
    verdict = pharos.check("examples/wildlife/contract.yaml")
    assert {r["name"] for r in rows(verdict)} == {"latency", "memory", "storage", "power"}
    assert "wildlife-camera" in verdict._repr_html_()
    decision = pharos.choose("examples/briefs/keywords.yaml")
    text = decision._repr_html_()
    assert decision.chosen.member.model.split("(")[0] in text
    assert rows(decision)


def test_what_comes_from_outside_is_text():
    outcome = Outcome(
        name="<b>", summary="s", settings={}, columns=("a",), rows=(("<img src=x onerror=alert(1)>",),),
        checks=(Check(what="<script>", found="x", holds=True),),
    )  # fmt: skip
    text = outcome._repr_html_()
    assert "<script>" not in text
    assert "<img src=x" not in text


def test_a_frame_needs_a_library_for_frames(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(PharosError, match="pip install pandas"):
        pharos.show("mlp").to_frame()
