"""`advise`, `why`, and advice in `check` and `show`: what a person and a program get."""

import json
import runpy
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.doors.cli.app import app

ROOT = Path(__file__).parents[2]
RUN = CliRunner()
KEYS = {"rule", "severity", "evidence", "consequence", "remedy", "gain"}


def run(*words, code=0):
    found = RUN.invoke(app, list(words), env={"COLUMNS": "80", "NO_COLOR": "1"})
    assert found.exit_code == code, found.output
    return found.output


def test_advise_is_told_in_eighty_columns():
    text = run("advise", "gpt2-xl", "--on", "a100-sxm-80gb", "-p", "fp16", "--decode", "--context", "1024")
    assert "dense-at-batch-1" in text
    assert "not asked" in text
    assert "see it      pharos lab intensity" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_advise_as_json():
    row = json.loads(run("advise", "dlrm", "--on", "a100-sxm-80gb", "--json"))
    assert row["schema"] == "pharos/advise@1"
    assert all(set(f) >= KEYS for f in row["findings"])
    assert {f["rule"] for f in row["findings"]} == {"does-not-fit", "tables-beyond-device"}
    assert all(e["kind"] for f in row["findings"] for e in f["evidence"])
    assert "matrix-alignment" in row["withheld"]
    assert row["not_asked"]["weak-bias-few-labels"] == ["labels"]
    labs = {f["rule"]: f["lab"] for f in row["findings"]}
    assert labs == {"does-not-fit": None, "tables-beyond-device": "sharded-embedding"}


def test_advise_takes_what_is_stated():
    text = run(
        "advise", "resnet50", "--on", "v100", "-p", "fp16", "--flops", "4.1 GFLOP", "--trained-on", "640 GB"
    )
    assert "macs-quoted-as-flops" in text


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [("--flops", "4.1 GB", "--flops"), ("--memory", "-1", "positive"), ("--attention", "tyled", "tiled"),
     ("--convolution", "im2cl", "im2col"), ("--labels", "many", "--labels")],
)  # fmt: skip
def test_wrong_statements_are_told(option, value, told):
    from pharos.quantity.errors import PharosError

    found = RUN.invoke(app, ["advise", "resnet50", "--on", "v100", option, value])
    assert isinstance(found.exception, PharosError)
    assert told in str(found.exception)


def test_why_is_told_in_eighty_columns():
    text = run("why", "gpt2-xl", "--on", "a100-sxm-80gb", "-p", "fp16", "--decode", "--context", "1024",
               "--limit", "latency=3ms", "--limit", "power=100 W")  # fmt: skip
    assert "twice the bandwidth makes a step" in text
    assert "latency at most 3 ms: misses" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_why_as_json():
    row = json.loads(run("why", "resnet50", "--on", "cortex-a53", "--limit", "latency=100ms", "--json"))
    assert set(row["sensitivity"]) == {"compute", "bandwidth", "capacity", "network", "batch"}
    assert {"binding", "regime", "helpful_upgrade", "flips"} <= set(row)
    (limit,) = row["limits"]
    assert {n["what"] for n in limit["machine"]} == {"compute", "bandwidth", "capacity"}
    assert {n["what"] for n in limit["network"]} >= {"batch", "resolution"}


CONTRACT = """name: deep
model: plain_net(depths=(10, 10, 10, 10))
machine: v100
workload: {precision: fp16}
limits: {storage: 1 GB, flops: 9.2 GFLOP}
"""


def test_check_ends_with_the_worst_in_a_line(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT)
    text = run("check", str(path), code=1)
    assert "advice      " in text
    row = json.loads(run("check", str(path), "--json", code=1))
    assert {f["rule"] for f in row["advice"]} >= {"depth-without-skips", "macs-quoted-as-flops"}


def test_check_is_silent_where_nothing_is_wrong():
    text = run("check", str(ROOT / "examples/wildlife/contract.yaml"), code=3)
    assert "advice" not in text


def test_show_advises_for_a_machine():
    text = run("show", "plain_net(depths=(10, 10, 10, 10))", "--on", "v100", "-p", "fp16", "--depth", "1")
    assert "depth-without-skips" in text
    assert "advice" not in run("show", "resnet50", "--depth", "1")
    row = json.loads(run("show", "t5-base", "--on", "v100", "-p", "fp16", "--json"))
    assert "softmax-overflow-fp16" in {f["rule"] for f in row["advice"]}
    assert "advice" not in json.loads(run("show", "t5-base", "--json"))


def test_the_page_of_rules_is_up_to_date():
    page = runpy.run_path(str(ROOT / "benchmarks/advice.py"))["page"]()
    assert (ROOT / "docs/advice.md").read_text(encoding="utf-8") == page
