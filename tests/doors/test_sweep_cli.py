"""`pharos sweep` as people see it, and docs/sweeps.md: its grid is the example, its Python runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def run(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "pharos", "sweep", *arguments], capture_output=True, text=True,
                          cwd=cwd, env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"})  # fmt: skip


def test_the_grid_of_the_page_is_the_example():
    shown = re.search(r"```yaml\n(.*?)\n```", TEXT, re.S)[1]
    assert shown == (ROOT / "examples" / "sweeps" / "phones.yaml").read_text().rstrip()


def test_the_python_of_the_page_runs():
    block = re.search(r"```python\n(.*?)```", TEXT, re.S)[1]
    scope = {}
    exec(block, scope)
    columns, i = scope["columns"], scope["fastest"]
    assert str((str(columns["machine"][i]), float(columns["width"][i]))) in block


def test_a_table_of_80_columns_and_json(tmp_path):
    pytest.importorskip("duckdb")
    shown = run("examples/sweeps/phones.yaml", "-o", str(tmp_path / "p.parquet"), "-j", "1", "-n", "3")
    assert shown.returncode == 0, shown.stderr
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    assert "rows of 1,056 meet memory_bytes <=" in " ".join(shown.stdout.split())
    found = run("examples/sweeps/phones.yaml", "-o", str(tmp_path / "p.parquet"), "--json")
    row = json.loads(found.stdout)
    assert row["schema"] == "pharos/sweep@1"
    assert row["points"] == row["evaluated"] == 22 * 8 * 3 * 2
    assert row["parts"] == {"all": 1, "resumed": 1, "retried": 0}
    assert row["first_rows"][0]["width"] == 0.35
    assert set(row["first_rows"][0]) == set(row["columns"])


def test_mistakes_are_one_message(tmp_path):
    (tmp_path / "g.yaml").write_text("models: resnet18\nmachines: h100-sxm\ncolumn: [latency_s]\n")
    found = run("g.yaml", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stderr == "error: g.yaml:3:1 column: unknown field 'column' (did you mean columns?)\n"
    found = run("nothing.yaml", cwd=tmp_path)
    assert found.returncode == 2
    assert "nothing.yaml: does not exist" in found.stderr
    (tmp_path / "g.yaml").write_text(
        "models: gpt2-small\nmachines: h100-sxm\nworkload:\n  phase: decode\n"
        "  batch: {start: 1, stop: 5000, step: 1}\n  context: {start: 1, stop: 1000, step: 1}\n"
    )
    found = run("g.yaml", cwd=tmp_path)
    assert found.returncode == 2
    assert "give a file: -o out.parquet" in found.stderr
