"""docs/ci.md: its console block and its comment are what the commands print for its contract."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/ci.md").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path):
    """The page's contract on main, and its wider network on a branch."""
    contract = re.search(r"```yaml\n(name: .*?)```", TEXT, re.S)[1]

    def git(*arguments):
        env = os.environ | {
            f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        subprocess.run(
            ["git", "-c", "init.defaultBranch=main", *arguments], cwd=tmp_path, env=env, check=True
        )

    git("init", "-q")
    (tmp_path / "contract.yaml").write_text(contract)
    git("add", "-A")
    git("commit", "-qm", "A camera")
    git("checkout", "-qb", "deeper")
    (tmp_path / "contract.yaml").write_text(
        contract.replace("width=0.75, resolution=224", "width=1.0, resolution=256")
    )
    git("commit", "-qam", "Sees more")
    return tmp_path


def pharos(folder, *arguments):
    env = os.environ | {
        "COLUMNS": "80",
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, sys.path)]),
    }
    found = subprocess.run([sys.executable, "-m", "pharos", *arguments], cwd=folder, env=env, capture_output=True,
                           text=True)  # fmt: skip
    assert found.returncode == 1, found.stderr
    return found.stdout


def test_the_page_shows_what_the_commands_print(project):
    ((command, shown),) = re.findall(r"```console\n\$ pharos (.*?)\n(.*?)\n```", TEXT, re.S)
    printed = pharos(project, *command.split())
    assert [line.rstrip() for line in printed.rstrip().splitlines()] == shown.splitlines()
    pharos(project, "ci", "--base", "main", "--no-github", "--markdown", "c.md")
    comment = re.search(r"<!-- begin -->\n(.*)\n<!-- end -->", TEXT, re.S)[1]
    made = re.sub(r"base [0-9a-f]{9}", "base 1f2e3d4c5", (project / "c.md").read_text())
    assert made.strip() == comment


def test_examples_are_those_of_the_page():
    workflow = YAML(typ="safe").load(ROOT / "examples/ci/github.yml")
    (block,) = (YAML(typ="safe").load(b) for b in re.findall(r"```yaml\n(permissions.*?)```", TEXT, re.S))
    steps = workflow["jobs"]["contracts"]["steps"]
    assert block["permissions"] == workflow["permissions"]
    assert [s["uses"] for s in block["steps"]] == [s["uses"] for s in steps if "if" not in s]
    known = YAML(typ="safe").load(ROOT / "action.yml")["inputs"]
    assert all(set(s.get("with", {})) <= set(known) for s in steps if s["uses"].startswith("pharos-nn/"))
    hooks = {h["id"] for h in YAML(typ="safe").load(ROOT / ".pre-commit-hooks.yaml")}
    asked = YAML(typ="safe").load(ROOT / "examples/ci/pre-commit.yaml")["repos"][0]["hooks"]
    assert {h["id"] for h in asked} <= hooks
