"""The flowchart: every question of the flow is a box, and a decision's way is a path through it."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.decide.choose import choose_file
from pharos.decide.flow import CHECKS
from pharos.decide.flowchart import ACCEPT, NOTHING, START, flowchart
from pharos.doors.cli.app import app

BRIEFS = Path(__file__).parents[2] / "examples" / "briefs"


@pytest.fixture(scope="module")
def decided():
    return choose_file(BRIEFS / "wildlife.yaml")


def test_the_flow_without_a_decision_takes_nothing():
    found = flowchart()
    assert {p.key for p in found.places} >= set(CHECKS)
    assert not any(w.taken for w in found.ways)
    assert not any(p.visits for p in found.places)
    # each question leads on, and back in two ways
    for name in CHECKS:
        assert [w.label for w in found.ways if w.source == name] == ["yes", "no", "no"]


def test_a_decisions_way_is_a_path(decided):
    found = flowchart(decided)
    into, out = {}, {}
    for way in found.ways:
        out[way.source] = out.get(way.source, 0) + way.taken
        into[way.target] = into.get(way.target, 0) + way.taken
    for place in found.places:
        if place.key not in (ACCEPT, NOTHING):
            assert out[place.key] == place.visits, place.key
        if place.key != START:
            assert into.get(place.key, 0) == place.visits, place.key
    assert found.place(ACCEPT).visits == (decided.chosen is not None)
    # as many noes as the trail has
    noes = sum(s.answer == "no" for s in decided.trail if s.step in CHECKS)
    assert sum(w.taken for w in found.ways if w.label == "no") == noes


def test_figures_are_those_of_the_choice(decided):
    speed = flowchart(decided).place("speed").figures
    assert speed.startswith("latency ")
    assert speed.endswith("of 500 ms")


def test_as_text_and_as_dot(decided):
    found = flowchart(decided)
    text = found.text()
    assert text[0] == "wildlife-camera"
    assert any(line.startswith("? ") for line in text)
    assert any("yes => " in line for line in text)
    dot = found.dot()
    assert dot.startswith("digraph")
    assert dot.count("{") == dot.count("}") == 1
    nodes = set(re.findall(r"^  (\w+) \[", dot, re.M))
    assert nodes == {p.key for p in found.places} | {"node"}
    edges = re.findall(r"^  (\w+) -> (\w+) ", dot, re.M)
    assert len(edges) == len(found.ways)
    assert {n for e in edges for n in e} <= nodes


def test_nothing_stands_ends_there(tmp_path):
    brief = tmp_path / "b.yaml"
    text = (BRIEFS / "wildlife.yaml").read_text(encoding="utf-8").replace("latency: 500 ms", "latency: 1 us")
    brief.write_text(text, encoding="utf-8")
    found = flowchart(choose_file(brief))
    assert found.place(NOTHING).visits == 1
    assert found.place(ACCEPT).visits == 0


def test_choose_writes_it(tmp_path):
    target = tmp_path / "way.dot"
    result = CliRunner().invoke(app, ["choose", str(BRIEFS / "loan.yaml"), "--flow", str(target)])
    assert result.exit_code == 0
    assert target.read_text().startswith("digraph")
    wrong = CliRunner().invoke(
        app, ["choose", str(BRIEFS / "loan.yaml"), "--flow", str(tmp_path / "way.pdf")]
    )
    assert "no form of a flow" in str(wrong.exception)
