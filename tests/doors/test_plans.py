"""`pharos collective` and `pharos parallel`: tables at 80 columns, JSON with stable keys, mistakes told in one line."""

import json

import pytest
from typer.testing import CliRunner

from pharos.doors.cli.app import app
from pharos.quantity.errors import PharosError

run = CliRunner()
LLAMA = ("parallel", "llama-3-8b", "--on", "h100-sxm", "--global-batch", "64", "--context", "1024")


def shown(*arguments, width="80"):
    result = run.invoke(app, [*arguments], env={"COLUMNS": width})
    assert result.exit_code == 0, result.output
    return result.output


def test_collective_as_a_table_and_as_data():
    text = shown("collective", "all_reduce", "64MB", "--devices", "16", "--on", "h100-sxm")
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "2 nodes of 8" in text
    row = json.loads(
        shown("collective", "all-reduce", "64MB", "--devices", "8", "--on", "h100-sxm", "--json")
    )
    by_name = {a["algorithm"]: a for a in row["algorithms"] if not a["as_run"]}
    assert by_name["ring"]["sent_bytes"] == 2 * 7 / 8 * 64e6
    assert by_name["switch"]["sent_bytes"] == 64e6
    assert by_name["tree"]["steps"] == 6
    usual = row["algorithms"][0]
    assert usual["as_run"]
    assert usual["latency_s"]["low"] < usual["latency_s"]["value"] < usual["latency_s"]["high"]


def test_a_plan_of_ones_own_and_the_best_of_all():
    own = json.loads(shown(*LLAMA, "--tp", "2", "--zero", "1", "--json"))
    assert own["layout"] | {"tensor": 2, "data": 4, "zero": 1, "sequence": True} == own["layout"]
    assert own["tried"] == 1
    best = json.loads(shown(*LLAMA, "--json"))
    assert best["fits"]
    assert best["tried"] > 100
    assert best["step_s"]["value"] <= own["step_s"]["value"]
    assert best["memory_bytes"]["total"] <= 0.95 * 85.1e9
    assert {"model", "machine", "devices", "layout", "fits", "memory_bytes", "step_s", "tokens_per_s", "mfu", "hfu",
            "binding", "shares_s", "bubble", "collectives", "evidence", "others"} <= set(best)  # fmt: skip


def test_tables_fit_80_columns():
    text = shown(*LLAMA, "--scaling", "strong", "--devices", "16")
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "communication overtakes compute" in text
    assert "strong scaling" in text


def test_what_does_not_fit_says_where_it_would():
    text = shown("parallel", "gpt3-175b", "--on", "a100-sxm-80gb", "--devices", "8", "--global-batch", "64")
    assert "does NOT fit" in text
    assert "some layout fits on 64 devices" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--tp", "3"), "nearest: 2"),
        (("--pp", "64", "--devices", "64"), "at most 32 stages"),
        (("--dp", "8", "--ep", "2"), "no experts"),
        (("--dp", "8", "--micro-batch", "5"), "nearest micro-batch: 4"),
        (("--tp", "8", "--dp", "8"), "64 devices, not 8"),
        (("--network", "0Gb/s", "--devices", "16"), "carries nothing"),
        (("--devices", "12"), "8 or 16 devices"),
        (("--train", "--decode"), "give one"),
        (("--scaling", "stong"), "strong"),
        (("--checkpoint", "ful"), "full"),
        (("--zero", "4"), "stages 0 to 3"),
        (("--overlap", "1.5"), "from 0 to 1"),
    ],
)
def test_mistakes_name_the_nearest(arguments, told):
    result = run.invoke(app, [*LLAMA, *arguments])
    assert isinstance(result.exception, PharosError)
    assert told in str(result.exception)


def test_a_scan_cannot_share_its_sequence():
    result = run.invoke(
        app, ["parallel", "mamba2-1.3b", "--on", "h100-sxm", "--cp", "2", "--global-batch", "8"]
    )
    assert "step by step" in str(result.exception)
