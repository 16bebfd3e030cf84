"""Explained figures: rules are where they are said to be, and their figures are those of show and predict."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import pharos
from pharos.doors.cli.app import app
from pharos.graph.op import kinds, op_class
from pharos.quantity.errors import UnknownName
from pharos.report.explained import RULES, explain, totals_row, written

SOURCE = Path(pharos.__file__).parents[1]
run = CliRunner(env={"COLUMNS": "80", "NO_COLOR": "1"})


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_every_operators_rules_stand_where_they_are_said_to(kind):
    for method, _ in RULES.values():
        for place, formula in written(op_class(kind), method):
            where, _, name = place.partition(" ")
            file, _, line = where.rpartition(":")
            lines = (SOURCE / file).read_text(encoding="utf-8").splitlines()
            # a decorator may stand above
            assert any(
                f"def {name.partition('.')[2]}(" in text for text in lines[int(line) - 1 : int(line) + 2]
            )
            assert formula
            assert '"""' not in formula.splitlines()[0]


def test_a_rule_that_calls_its_base_is_followed_by_it():
    places = [place.partition(" ")[2] for place, _ in written(op_class("conv2d"), "work")]
    assert places[:2] == ["Conv2d.work", "_Conv.work"]


def test_figures_are_those_of_show():
    counted = pharos.show("resnet50")
    found = {r.figure: r.gave for r in explain(counted, "conv1").rules}
    assert found["macs"]["macs"] == 7 * 7 * 3 * 64 * 112 * 112
    assert found["parameters"] == {"parameters": 9408}
    assert found["traffic"]["outputs"] == 64 * 112 * 112 * 4
    totals = totals_row(counted)["totals"]
    assert totals["macs"]["value"] == counted.macs
    for total in totals.values():
        values = [t["value"] for t in total["largest"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) < total["value"]


def test_names_may_be_ends_and_must_be_one():
    counted = pharos.show("resnet50")
    assert explain(counted, "fc").line.name == "fc"
    with pytest.raises(UnknownName, match="end so"):
        explain(counted, "conv2")
    with pytest.raises(UnknownName, match="did you mean conv1"):
        explain(counted, "konv1")


def test_seconds_reach_no_more_than_the_peaks():
    shown = run.invoke(
        app, ["explain", "gpt2-small", "lm_head", "--on", "a100-sxm-80gb", "-p", "fp16", "--json"]
    )
    assert shown.exit_code == 0, shown.output
    time = json.loads(shown.stdout)["time"]
    assert time["peak"]["ops_per_s"] == 312e12
    macs = 1024 * 768 * 50257
    assert time["least_s"]["compute"] == pytest.approx(2 * macs / 312e12)
    assert time["alone_s"]["compute"] >= time["least_s"]["compute"]
    assert 0 < time["reached"]["compute"] <= 1
    assert time["latency_s"] >= max(time["alone_s"].values())
    assert time["evidence"]


def test_told_in_eighty_columns():
    shown = run.invoke(app, ["explain", "resnet50", "conv1", "--on", "a100-sxm-80gb"])
    assert shown.exit_code == 0
    words = [line for line in shown.stdout.splitlines() if not line.startswith(" " * 16)]
    assert max(map(len, words)) <= 80
    assert "1 MAC = 2 FLOPs" in shown.stdout
    totals = run.invoke(app, ["explain", "resnet50"])
    assert "25,557,032" in totals.stdout
    assert run.invoke(app, ["explain", "resnet50", "--on", "a100-sxm-80gb"]).exception is not None
