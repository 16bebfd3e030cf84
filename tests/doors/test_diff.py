"""`pharos diff`: models, contracts, results and revisions of a project in a git repository of its own."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.convert.revisions import changed_since, find_revision, merge_base, tree_of
from pharos.decide.contract_files import concerned, find_contracts, is_contract
from pharos.doors.cli import app
from pharos.quantity.errors import PharosError
from pharos.report.diff_markdown import escaped
from pharos.report.sides import Thing, thing_of

CONTRACT = """name: camera
model: mobilenet_v2(width={width}, classes=50)
machine: cortex-a53
workload: {{precision: int8}}
limits:
  parameters: 1.6 M
  storage: 2 MB
  latency: 900 ms
"""
CODE = """from torch import nn

def make():
    return nn.Sequential(nn.Linear(8, {width}), nn.ReLU())
"""


def git(folder, *arguments):
    env = os.environ | {
        f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(["git", "-c", "init.defaultBranch=main", *arguments], cwd=folder, env=env, check=True,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two revisions: a wider network in the second, by contract, by code and by config."""
    folder = tmp_path / "project"
    (folder / "edge").mkdir(parents=True)
    git(folder, "init", "-q")
    for tag, width, units in (("v1", 0.75, 16), ("v2", 1.0, 24)):
        (folder / "edge/contract.yaml").write_text(CONTRACT.format(width=width))
        (folder / "mynet_of_tests.py").write_text(CODE.format(width=units))
        (folder / "smart_contract.yaml").write_text("abi: [transfer]\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", tag)
        git(folder, "tag", tag)
    monkeypatch.chdir(folder)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["diff", *map(str, arguments)])


def told(*arguments, code=0):
    found = run(*arguments)
    assert found.exit_code == code, found.output or found.exception
    return found.stdout


def test_two_revisions_of_a_project(project):
    before = {p: p.stat().st_mtime_ns for p in project.rglob("*") if ".git" not in p.parts}
    text = told("v1", "v2", "edge/contract.yaml", code=1)
    assert text.splitlines()[0] == "BROKEN  2 limits newly broken"
    assert "+61% parameters, limit broken: 1.42 M -> 2.29 M" in " ".join(text.split())
    row = json.loads(told("v1", "v2", "--json", code=1))
    (one,) = row["diffs"]
    assert row["exit_code"] == 1
    assert one["after"]["label"] == "v2:edge/contract.yaml"
    assert {c["name"]: c["status"] for c in one["limits"]} == {
        "parameters": "newly broken", "storage": "newly broken", "latency": "holds",
    }  # fmt: skip
    parameters = next(c for c in one["figures"] if c["name"] == "parameters")
    # the head and the last convolution of the wider network, by hand: 1280 x 50 stay, the rest is show's
    assert parameters["delta"] == parameters["after"]["value"] - parameters["before"]["value"] > 8e5
    latency = next(c for c in one["figures"] if c["name"] == "latency")
    # much narrower than the ratio of two bands that have nothing in common
    alone = (
        latency["after"]["high"] / latency["before"]["low"]
        - latency["after"]["low"] / latency["before"]["high"]
    )
    assert latency["part_low"] < latency["part"] < latency["part_high"]
    assert latency["part_high"] - latency["part_low"] < alone / 2
    # the work tree is as it was, and nothing is staged
    assert {p: p.stat().st_mtime_ns for p in project.rglob("*") if ".git" not in p.parts} == before
    assert git(project, "status", "--porcelain") == ""


def test_the_way_back_breaks_nothing_and_mends(project):
    text = told("v2", "v1")
    assert text.splitlines()[0] == "HOLDS  2 limits mended"


def test_files_as_they_are_beside_a_revision(project):
    (project / "edge/contract.yaml").write_text(CONTRACT.format(width=0.5))
    assert "camera" not in told("v2", "v2").splitlines()[0]
    for arguments in (
        ("v1", ".", "edge/contract.yaml"),
        ("v1:edge/contract.yaml", "edge/contract.yaml"),
        ("v1", "."),
    ):
        row = json.loads(told(*arguments, "--json"))
        assert row["diffs"][0]["after"]["label"] == "edge/contract.yaml"
        assert row["headline"][0]["part"] < 0


def test_paths_are_those_of_the_current_folder_or_the_root(project, monkeypatch):
    monkeypatch.chdir(project / "edge")
    row = json.loads(told("v1", "v2", "contract.yaml", "--json", code=1))
    assert row["diffs"][0]["before"]["label"] == "v1:contract.yaml"
    told("v1:edge/contract.yaml", "v2:edge/contract.yaml", code=1)
    assert json.loads(told("v1", "v2", "--json", code=1))["diffs"][0]["after"]["label"] == "v2:contract.yaml"


def test_code_runs_from_its_own_revision(project):
    pytest.importorskip("torch")
    row = json.loads(told("v1", "v2", "mynet_of_tests:make", "--json"))
    parameters = next(c for c in row["diffs"][0]["figures"] if c["name"] == "parameters")
    assert (parameters["before"]["value"], parameters["after"]["value"]) == (9 * 16, 9 * 24)
    # a module that only today's tree has is not found in the revision
    (project / "later_of_tests.py").write_text(CODE.format(width=8))
    found = run("v1:later_of_tests:make", "v2:mynet_of_tests:make")
    assert "there is no module 'later_of_tests'" in str(found.exception)
    assert not list(project.rglob("__pycache__"))


def test_contracts_added_and_removed(project):
    (project / "new_contract.yaml").write_text(CONTRACT.format(width=0.5).replace("camera", "mic"))
    (project / "edge/contract.yaml").unlink()
    row = json.loads(told("v1", ".", "--json"))
    assert [(d["before"] is None, d["after"] is None) for d in row["diffs"]] == [(False, True), (True, False)]
    assert {c["status"] for d in row["diffs"] if d["after"] is None for c in d["limits"]} == {"removed"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("v1", "nowhere", "edge/contract.yaml"), "'nowhere' is no revision"),
        (("v1", "v22", "edge/contract.yaml"), "did you mean v2"),
        (("v1", "v2", "edge/contrat.yaml"), "did you mean edge/contract.yaml"),
        (("v1:edge/contract.yaml", "missing.yaml"), "missing.yaml: does not exist"),
        (("v1:edge", "edge/contract.yaml"), "there is no module"),
        (("edge", "edge/contract.yaml"), "a folder of contracts"),
        (("v1", "v2", "edge/contract.yaml", "--on", "a100"), "name their own machines"),
        (("resnet18", "resnet5O"), "did you mean resnet50"),
        (("--output=x", "v2", "edge/contract.yaml"), "No such option"),
    ],
)
def test_mistakes_are_told(project, arguments, message):
    found = run(*arguments)
    assert found.exit_code in (1, 2)
    assert message in f"{found.exception} {found.output}"


def test_two_models_on_machines(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    page = tmp_path / "d.md"
    text = told("resnet18", "resnet34", "--on", "a100,cortex-a53", "-n", "3", "--markdown", page)
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert text.count("difference") + text.count("80% band of it") == 2
    assert text.count("1 -> 5 runs") == 4
    assert text.count("% macs: ") == 1
    assert page.read_text().startswith("### Pharos: what changed\n")
    row = json.loads(told("resnet18", "resnet34", "--on", "a100", "-m", "cortex-a53", "--json"))
    assert [d["after"]["machine"] for d in row["diffs"]] == ["nvidia_a100_sxm_80gb", "rpi3_cortex_a53"]
    macs = next(c for c in row["diffs"][0]["figures"] if c["name"] == "macs")
    # 16 basic blocks instead of 8: eight more of two 3x3 convolutions, 115.6 MMAC each
    assert macs["delta"] == 16 * 115_605_504


def test_a_model_is_held_against_a_contract(project):
    row = json.loads(told("v1:edge/contract.yaml", "resnet18", "--json", code=1))
    assert row["diffs"][0]["after"]["model"] == "resnet18"
    assert {c["name"]: c["status"] for c in row["diffs"][0]["limits"]}["parameters"] == "newly broken"


def test_results_kept_as_json(project):
    kept = CliRunner().invoke(app, ["predict", "resnet18", "--on", "a100", "--json"]).stdout
    Path("old.json").write_text(kept)
    Path("new.json").write_text(kept.replace('"parameters": 11689512', '"parameters": 11689513'))
    row = json.loads(told("old.json", "new.json", "--json"))
    assert [c["delta"] for c in row["diffs"][0]["figures"] if c["delta"]] == [1]
    checked = CliRunner().invoke(app, ["check", "edge/contract.yaml", "--json"]).stdout
    Path("check.json").write_text(checked)
    row = json.loads(told("check.json", "edge/contract.yaml", "--json"))
    assert all(c["delta"] == 0 for c in row["diffs"][0]["figures"] if c["name"] in ("parameters", "storage"))
    found = run("old.json", "edge/contract.yaml")
    assert "is held against limits and the other is not" in str(found.exception)
    Path("bad.json").write_text('{"schema": "pharos/serve@1"}')
    assert "unknown result" in str(run("bad.json", "old.json").exception)


def test_how_things_are_read(project):
    assert thing_of("v1:edge/contract.yaml") == Thing("edge/contract.yaml", "v1")
    assert thing_of("v1:mynet:make(width=2)") == Thing("mynet:make(width=2)", "v1")
    assert thing_of("package.module:factory") == Thing("package.module:factory")
    assert thing_of("HEAD~1:model.onnx") == Thing("model.onnx", "HEAD~1")
    assert thing_of(".:model.onnx") == Thing("model.onnx")
    assert thing_of("resnet50") == Thing("resnet50")
    Path("odd:name.yaml").write_text("x: 1\n")
    assert thing_of("odd:name.yaml") == Thing("odd:name.yaml")


def test_revisions_only_read(project):
    assert find_revision("v1").commit == git(project, "rev-parse", "v1")
    assert merge_base("v1", "v2") == git(project, "rev-parse", "v1")
    assert changed_since("v1") == {"edge/contract.yaml", "mynet_of_tests.py"}
    with tree_of(find_revision("v1")) as tree:
        folder = tree.folder
        tree.fetch_all()
        assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == [
            "contract.yaml", "mynet_of_tests.py", "smart_contract.yaml",
        ]  # fmt: skip
    assert not folder.exists()
    for wrong in ("--all", "", "v1^{tree}"):
        with pytest.raises(PharosError):
            find_revision(wrong)


def test_links_and_pointers_are_not_followed(project):
    (project / "link_contract.yaml").symlink_to("/etc/passwd")
    (project / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "links")
    assert "link_contract.yaml" not in find_revision("HEAD").files
    with pytest.raises(PharosError, match="Git LFS"):
        run_("HEAD:model.onnx", "resnet18")


def run_(*arguments):
    found = run(*arguments)
    if found.exception is not None:
        raise found.exception
    return found


def test_contracts_are_found_and_concerned(project):
    (project / "my_contract.yml").write_text(
        "name: x\nmodel: nets/model.onnx\nmachine: {name: boards/b.yaml}\nlimits: {macs: 1}\n"
    )
    (project / "edge/code_contract.yaml").write_text("model: mynet:make\nlimits:\n  macs: 1\n")
    assert find_contracts() == ["edge/code_contract.yaml", "edge/contract.yaml", "my_contract.yml"]
    assert find_contracts("edge") == ["edge/code_contract.yaml", "edge/contract.yaml"]
    found = find_contracts()
    assert concerned(found, ["nets/model.onnx"]) == ["edge/code_contract.yaml", "my_contract.yml"]
    assert concerned(found, ["edge/contract.yaml"]) == ["edge/code_contract.yaml", "edge/contract.yaml"]
    assert not is_contract("abi: []\n")


def test_names_cannot_write_markdown():
    assert (
        escaped("a|b `c` <img> @me #12\n<!-- x -->")
        == "a\\|b \\`c\\` &lt;img&gt; @\u200bme #\u200b12 &lt;!-- x --&gt;"
    )


def test_names_that_no_file_can_have(project):
    long = f"mlp(widths=[{', '.join(['8'] * 200)}])"
    row = json.loads(told(long, long.replace("[8,", "[16,"), "--json"))
    parameters = next(c for c in row["diffs"][0]["figures"] if c["name"] == "parameters")
    assert parameters["delta"] == 8 * 8
