"""`pharos choose` and `pharos data` as people and programs see them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]


def run(*words, columns="80"):
    env = os.environ | {"COLUMNS": columns, "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pharos", *words], capture_output=True, text=True, cwd=ROOT, env=env
    )


def test_the_json_of_choose_has_its_stable_keys():
    found = run("choose", "examples/briefs/keywords.yaml", "--json")
    assert found.returncode == 0
    assert found.stderr == ""
    row = json.loads(found.stdout)
    assert {"family", "model", "parameters", "machine"} <= set(row["decision"])
    assert row["decision"]["family"] == "cnn"
    assert {"decision", "margin", "runner_up", "trail", "rejected", "risks", "contract"} <= set(row)
    assert {"step", "question", "answer", "numbers", "action"} <= set(row["trail"][0])
    assert {"candidate", "reason"} <= set(row["rejected"][0])
    assert {"risk", "mitigation"} <= set(row["risks"][0])


def test_choose_at_80_columns_and_the_contract_it_writes(tmp_path):
    out = tmp_path / "contract.yaml"
    found = run("choose", "examples/briefs/loan.yaml", "-o", str(out))
    assert found.returncode == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    assert "gradient-boosted trees" in found.stdout
    assert run("check", str(out)).returncode in (0, 3)


def test_nothing_stands_is_1_and_a_mistake_is_2(tmp_path):
    brief = tmp_path / "b.yaml"
    brief.write_text(
        "name: b\ndata: {kind: tabular, features: 5}\nlimits: {latency: 1 ns}\nmachine: cortex-a53\n"
    )
    found = run("choose", str(brief))
    assert found.returncode == 1
    assert "NOTHING STANDS" in found.stdout
    assert "conflict" in found.stdout
    assert (
        json.loads(run("choose", str(brief), "--json").stdout)["relaxation"]["limits"]["latency"]["now"]
        == 1e-9
    )
    brief.write_text("name: b\ndata: {kind: tabular, fetures: 5}\n")
    found = run("choose", str(brief))
    assert found.returncode == 2
    assert "did you mean features?" in found.stderr
    assert "Traceback" not in found.stderr


def test_data_for_people_and_programs(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n" + "\n".join(f"{i * 7 % 13},{i * 5 % 11},{i % 2}" for i in range(200)))
    found = run("data", str(path))
    assert found.returncode == 0
    assert max(map(len, found.stdout.splitlines())) <= 80
    row = json.loads(run("data", str(path), "--json").stdout)
    assert (row["kind"], row["examples"], row["classes"]) == ("tabular", 200, 2)
    assert row["candidates"][0]["family"] == "mlp"
    found = run("data", str(tmp_path / "none.csv"))
    assert found.returncode == 2
    assert "does not exist" in found.stderr


@pytest.mark.parametrize("name", ["wildlife", "speech"])
def test_the_schema_of_briefs_takes_the_examples(name):
    from ruamel.yaml import YAML

    schema = json.loads(run("schema", "brief").stdout)
    with (ROOT / "examples" / "briefs" / f"{name}.yaml").open() as file:
        jsonschema.validate(YAML(typ="safe").load(file), schema)
