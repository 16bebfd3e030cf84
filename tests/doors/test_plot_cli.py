"""`pharos plot`: pictures to files in four forms, words where no file is asked for, mistakes told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.doors.cli import app
from pharos.quantity.errors import PharosError

RUN = CliRunner()


def run(*words: str):
    return RUN.invoke(app, ["plot", *words], env={"COLUMNS": "80", "NO_COLOR": "1"})


def test_every_plot_is_listed():
    listed = json.loads(run("--json").stdout)["plots"]
    assert {p["plot"] for p in listed} >= {
        "roofline", "waterfall", "memory", "treemap", "tornado", "pareto", "capacity", "sharding", "measured",
        "training", "sweep",
    }  # fmt: skip
    assert "roofline" in run().stdout


@pytest.mark.parametrize("form", ["png", "svg", "html", "json"])
def test_a_file_is_written_whole(tmp_path, form):
    path = tmp_path / f"roof.{form}"
    found = run(
        "roofline", "resnet50", "--on", "a100,t4", "-o", str(path), *(["--dark"] if form == "svg" else [])
    )
    assert found.exit_code == 0, found.output
    made = path.read_bytes()
    begins = {"png": b"\x89PNG", "svg": b"<svg", "html": b"<!DOCTYPE html>", "json": b"{"}[form]
    assert made.lstrip()[: len(begins)] == begins
    if form == "svg":
        assert b"#16181C" in made
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert str(path) in found.stdout.replace("\n", "")


def test_without_a_file_it_is_characters_and_words():
    found = run("waterfall", "resnet50", "--on", "a100", "--by", "memory")
    assert "weights" in found.stdout
    assert "█" in found.stdout
    assert all(len(line) <= 80 for line in found.stdout.splitlines())
    roof = run("roofline", "gpt2", "--on", "a100", "--decode", "-c", "512", "-p", "bf16").stdout
    assert "◆ whole step" in roof
    assert "╱" in roof
    assert all(len(line) <= 80 for line in roof.splitlines()[:26])


def test_json_has_the_rows():
    found = json.loads(run("treemap", "resnet18", "--by", "macs", "--json").stdout)
    assert found["schema"] == "pharos/plot@1"
    assert sum(r["value"] for r in found["data"]["parts"]) == pytest.approx(1_814_073_344)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rofline", "resnet50"), "did you mean roofline"),
        (("roofline",), "a machine is missing"),
        (("roofline", "--on", "a100"), "a model is missing"),
        (("waterfall", "resnet50", "--on", "a100,t4"), "of one machine, not of 2"),
        (("roofline", "resnet50", "--on", "a100", "--by", "time"), "takes no 'by'"),
        (("roofline", "resnet50", "--on", "a100", "--users", "4"), "has no users"),
        (("treemap", "resnet18", "--by", "time"), "give --on MACHINE"),
        (("roofline", "resnet50", "--on", "a100", "-o", "x.pdf"), ".pdf is no form of a figure"),
        (("roofline", "resnet50", "--on", "a100", "-o", "nowhere/x.png"), "its folder does not exist"),
        (("sweep", "gone.parquet"), "no such file"),
        (("pareto",), "a brief is missing"),
    ],
)
def test_mistakes_are_told(words, says):
    found = run(*words)
    assert isinstance(found.exception, PharosError)
    assert says in str(found.exception)


def test_a_table_alone_is_a_sweep(tmp_path):
    (tmp_path / "rows.csv").write_text("model,latency_s,energy_J\na,1,2\nb,2,1\n")
    found = run(str(tmp_path / "rows.csv"))
    assert "energy_J by latency_s" in found.stdout
    assert "2 rows are beaten by none" in found.stdout.replace("\n", " ")


def test_altair_is_loaded_only_for_a_picture():
    source = ("import sys, pharos, pharos.doors.cli.app, pharos.report.plots.roofline, pharos.report.asked\n"
              "assert 'altair' not in sys.modules and 'duckdb' not in sys.modules")  # fmt: skip
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True,
                           env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")})  # fmt: skip
    assert found.returncode == 0, found.stderr
