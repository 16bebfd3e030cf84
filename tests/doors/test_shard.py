"""`pharos shard`: the page as it prints, tables at 80 columns, stable JSON, mistakes told in one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.doors.cli.app import app
from pharos.quantity.errors import PharosError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sharding.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n\$ pharos (.*?)\n(.*?)\n```", PAGE, re.S)
run = CliRunner()
SMALL = ("shard", "-", "--on", "a100-sxm-80gb", "--table", "1e6x128:10:1.05", "--table", "5000x64")


def shown(*arguments, width="80"):
    result = run.invoke(app, [*arguments], env={"COLUMNS": width})
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[c for c, _ in CONSOLE])
def test_the_page_shows_what_is_printed(command, output):
    found = subprocess.run([sys.executable, "-m", "pharos", *command.split()], capture_output=True, text=True,
                           cwd=ROOT, env=os.environ | {"COLUMNS": "80"})  # fmt: skip
    assert [line.rstrip() for line in found.stdout.rstrip().splitlines()] == output.splitlines()
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize(("title", "index", "devices"), [("600 GB", 0, "8"), ("DLRM-DCNv2", 2, "8")])
def test_the_page_compares_what_is_computed(title, index, devices, monkeypatch):
    monkeypatch.chdir(ROOT)
    row = json.loads(shown(*CONSOLE[index][0].replace("least", devices).split(), "--json"))
    theirs = row["torchrec_greedy"]
    for who, found in (("greedy", theirs), ("Pharos", row)):
        line = f"| {title}, {who} | {found['max_device_s'] * 1e3:.3f} ms | {found['memory_imbalance']:.3f} |"
        assert line in PAGE
    assert row["max_device_s"] < theirs["max_device_s"]
    assert row["memory_imbalance"] <= theirs["memory_imbalance"]
    assert max(row["per_device_bytes"]) <= row["capacity_bytes"] < 81e9


def test_json_has_its_keys():
    row = json.loads(shown(*SMALL, "--devices", "4", "--json"))
    assert {"devices", "fits", "per_device_bytes", "plan", "all_to_all_bytes", "reduce_scatter_bytes", "imbalance",
            "gap", "bisection_bytes", "lookup_s", "flows", "step_s", "evidence"} <= set(row)  # fmt: skip
    assert row["devices"] == 4 == len(row["per_device_bytes"])
    assert {"table", "strategy", "devices", "tier"} <= set(row["plan"][0])
    assert row["all_to_all_bytes"] == sum(
        f["total_bytes"] for f in row["flows"] if f["collective"] == "all-to-all"
    )
    assert 0 <= row["gap"] < 1
    assert row["imbalance"] >= 1
    refused = json.loads(shown("shard", "-", "--on", "a100", "--table", "1e12x128", "--json"))
    assert refused["fits"] is False
    assert refused["would_do"]


def test_tables_fit_80_columns_and_host_tiers_tell_their_hits():
    text = shown("shard", "-", "--on", "a100", "--table", "1e9x128:10:1.05", "--devices", "2", "--host-memory", "1TB",
                 "--lay", "t0=row-wise")  # fmt: skip
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert re.search(r"row-wise, (1|5|20)% cached", text)
    assert "of its host" in text


def test_constraints_are_written(tmp_path):
    for name in ("c.json", "c.py"):
        shown(*SMALL, "--devices", "2", "--lay", "t0=column-wise", "--torchrec", str(tmp_path / name))
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["constraints"]["t0"]["sharding_types"] == ["column_wise"]
    assert "'t0': ParameterConstraints(sharding_types=['column_wise']" in (tmp_path / "c.py").read_text()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--lay", "t1=row-wize"), "did you mean row-wise"),
        (("--lay", "t9=row-wise"), "unknown table"),
        (("--lay", "t1"), "is not TABLE=STRATEGY"),
        (("--strategies", "table-wise,rows"), "unknown strategy"),
        (("--link", "0GB/s"), "carries nothing"),
        (("--table", "10"), "is not ROWSxDIM"),
        (("--table", "1.5x8"), "whole number"),
        (("--table", "3x64", "--lay", "t2=row-wise"), "3 rows cannot be cut into 8 shards"),
        (("--solver", "luck"), "no solver is called"),
        (("--host-memory", "12 apples"), "unknown unit"),
        (("--torchrec", "x.txt"), "neither .json nor .py"),
        (("--reserve", "1.5"), "no share"),
        (("--devices", "12", "--nodes-of", "8"), "do not fill nodes"),
    ],
)
def test_mistakes_are_told(more, told):
    result = run.invoke(app, [*SMALL, *more])
    assert isinstance(result.exception, PharosError)
    assert told in str(result.exception)
