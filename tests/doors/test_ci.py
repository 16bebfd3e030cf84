"""`pharos ci`, locks, hooks and the Action: what a pull request sees, told without GitHub."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pharos.decide.lock import lock_schema
from pharos.doors.cli import app
from pharos.doors.github import Run, comment, run_of
from pharos.quantity.errors import PharosError
from pharos.report.diff_markdown import LONGEST, MARKER

ROOT = Path(__file__).parents[2]
CONTRACT = """name: camera
model: mobilenet_v2(width={width}, classes=50)
machine: cortex-a53
workload: {{precision: int8}}
limits:
  parameters: 1.6 M
  storage: {storage}
  latency: 900 ms
"""
# The essentials of SARIF 2.1.0, section 3 of the standard: what must be there, and of what kind.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array", "minItems": 1,
            "items": {
                "type": "object", "required": ["tool", "results"],
                "properties": {
                    "tool": {"type": "object", "required": ["driver"], "properties": {"driver": {
                        "type": "object", "required": ["name", "rules"], "properties": {"rules": {
                            "type": "array", "uniqueItems": True, "items": {
                                "type": "object", "required": ["id", "shortDescription"],
                                "properties": {"shortDescription": {"type": "object", "required": ["text"]}}}}}}}},
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": {
                        "type": "object", "required": ["ruleId", "ruleIndex", "level", "message", "locations"],
                        "properties": {
                            "level": {"enum": ["none", "note", "warning", "error"]},
                            "message": {"type": "object", "required": ["text"]},
                            "baselineState": {"enum": ["new", "unchanged", "updated", "absent"]},
                            "partialFingerprints": {"type": "object", "additionalProperties": {"type": "string"}},
                            "locations": {"type": "array", "minItems": 1, "items": {
                                "type": "object", "required": ["physicalLocation"],
                                "properties": {"physicalLocation": {
                                    "type": "object", "required": ["artifactLocation", "region"],
                                    "properties": {
                                        "artifactLocation": {"type": "object", "required": ["uri"]},
                                        "region": {"type": "object", "required": ["startLine"], "properties": {
                                            "startLine": {"type": "integer", "minimum": 1}}}}}}}}}}},
                },
            },
        },
    },
}  # fmt: skip


def git(folder, *arguments):
    env = os.environ | {
        f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(["git", "-c", "init.defaultBranch=main", *arguments], cwd=folder, env=env, check=True,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


def write(folder, name="edge/contract.yaml", width=0.75, storage="1.7 MB"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(CONTRACT.format(width=width, storage=storage))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """main with a contract that holds, and a branch on which the network grew."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    write(folder)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "base")
    git(folder, "checkout", "-qb", "wider")
    write(folder, width=1.0)
    git(folder, "commit", "-qam", "wider")
    monkeypatch.chdir(folder)
    for name in [n for n in os.environ if n.startswith("GITHUB_")]:
        monkeypatch.delenv(name)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_change_beside_its_base(project):
    found = run(
        "ci", "--base", "main", "--sarif", "s.json", "--junit", "j.xml", "--markdown", "c.md", "--json"
    )
    assert found.exit_code == 1
    row = json.loads(found.stdout)
    assert row["verdict"] == "broken"
    assert row["base"] == git(project, "rev-parse", "main")
    assert [(r["level"], r["rule"], r["file"], r["line"], r["limit"]) for r in row["remarks"]] == [
        ("error", "newly broken", "edge/contract.yaml", 6, "parameters"),
        ("error", "newly broken", "edge/contract.yaml", 7, "storage"),
    ]
    made = json.loads(Path("s.json").read_text())
    jsonschema.validate(made, SARIF)
    (one,) = made["runs"]
    assert [r["ruleId"] for r in one["results"]] == ["pharos/newly-broken"] * 2
    assert all(one["tool"]["driver"]["rules"][r["ruleIndex"]]["id"] == r["ruleId"] for r in one["results"])
    places = [r["locations"][0]["physicalLocation"] for r in one["results"]]
    lines = Path("edge/contract.yaml").read_text().splitlines()
    assert [lines[p["region"]["startLine"] - 1].split(":")[0].strip() for p in places] == [
        "parameters",
        "storage",
    ]
    assert len({r["partialFingerprints"]["pharos/v1"] for r in one["results"]}) == 2
    cases = ET.fromstring(Path("j.xml").read_text()).iter("testcase")
    assert sorted(c.get("name") for c in cases if c.find("failure") is not None) == ["parameters", "storage"]


def test_the_comment(project):
    run("ci", "--base", "main", "--markdown", "c.md")
    text = Path("c.md").read_text()
    lines = text.splitlines()
    assert lines[0] == MARKER
    assert lines[2] == "### Pharos: 2 limits newly broken"
    # the three figures that changed most, before anything else
    most = [line for line in lines if line.startswith("- **")]
    assert len(most) == 3
    assert most[0] == "- **+61% parameters, limit broken** (camera): 1.42 M → 2.29 M"
    assert "| ❌ | camera | parameters | 1.42 M | 2.29 M | 1.6 M | 0.699x | **newly broken** |" in lines
    assert "| ✅ | camera | latency |" in text
    assert "camera, parameters: width=0.75: parameters 1.42 M" in text
    assert f"base {git(project, 'rev-parse', 'main')[:9]}" in text
    assert text.count("<details>") == text.count("</details>") == 1
    rows = [line for line in lines if line.startswith("|")]
    assert all(line.count("|") - line.count("\\|") in (6, 7, 9) for line in rows)


def test_what_was_broken_before_does_not_fail(project):
    git(project, "checkout", "-q", "main")
    write(project, storage="1 MB")
    git(project, "commit", "-qam", "a limit that never held")
    git(project, "checkout", "-qb", "later")
    told = json.loads(run("ci", "--base", "main", "--json").stdout)["remarks"]
    assert [(r["level"], r["limit"]) for r in told if r["rule"] == "broken before"] == [
        ("warning", "storage")
    ]
    assert run("ci", "--base", "main").exit_code == 0
    assert run("ci").exit_code == 1
    write(project, width=1.0, storage="1 MB")
    row = json.loads(run("ci", "--base", "main", "--json").stdout)
    assert ("broken and grown", "storage") in {(r["rule"], r["limit"]) for r in row["remarks"]}


def test_limits_nearly_used_up_and_loosened(project):
    write(project, width=1.0, storage="2.4 MB")
    path = project / "edge/contract.yaml"
    path.write_text(path.read_text().replace("1.6 M", "4 M"))
    found = run("ci", "--base", "main", "--json")
    assert found.exit_code == 0
    told = {(r["rule"], r["limit"]) for r in json.loads(found.stdout)["remarks"] if r["level"] == "warning"}
    assert told == {("near", "storage"), ("loosened", "storage"), ("loosened", "parameters")}
    assert "the limit was loosened: 1.6 M → 4 M" in (run("ci", "--base", "main", "--markdown", "c.md"),
                                                        Path("c.md").read_text())[1]  # fmt: skip
    near = json.loads(run("ci", "--base", "main", "--warn-at", "50%", "--json").stdout)["remarks"]
    assert {r["limit"] for r in near if r["rule"] == "near"} == {"storage", "parameters"}


def test_only_contracts_of_which_something_changed(project):
    write(project, "other_contract.yaml")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "another")
    base = git(project, "rev-parse", "HEAD")
    write(project, "new_contract.yaml", width=0.5)
    row = json.loads(run("ci", "--base", base, "--changed", "--json").stdout)
    assert row["contracts"] == ["new_contract.yaml"]
    assert row["unchanged"] == ["edge/contract.yaml", "other_contract.yaml"]
    Path("other_contract.yaml").unlink()
    row = json.loads(run("ci", "--base", base, "--changed", "--json").stdout)
    assert ("removed", "other_contract.yaml") in {(r["rule"], r["file"]) for r in row["remarks"]}


def test_mistakes(project):
    Path("bad_contract.yaml").write_text("name: x\nmodel: resnet5O\nmachine: a100\nlimits: {macs: 1}\n")
    found = run("ci", "--base", "HEAD", "--markdown", "c.md", "--json")
    assert found.exit_code == 2
    (remark,) = [r for r in json.loads(found.stdout)["remarks"] if r["rule"] == "mistake"]
    assert (remark["file"], remark["line"]) == ("bad_contract.yaml", 2)
    assert "did you mean resnet50" in remark["text"]
    assert "**bad\\_contract.yaml** cannot be read" in Path("c.md").read_text()
    with pytest.raises(PharosError, match="is no revision"):
        raise run("ci", "--base", "nowhere").exception


def test_no_contract_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = run("ci", "--no-github")
    assert found.exit_code == 0
    assert found.stdout == "no contract to check\n"


def test_names_of_a_contract_write_no_markdown(project):
    path = project / "edge/contract.yaml"
    path.write_text(path.read_text().replace("name: camera", 'name: "<script>x</script> | @all #1 `a`"'))
    run("ci", "--base", "main", "--markdown", "c.md")
    text = Path("c.md").read_text()
    assert "<script>" not in text
    assert "@all" not in text
    assert len(text) < LONGEST


def event(tmp_path, monkeypatch, project, **more):
    """The environment of a pull request's run."""
    content = {"pull_request": {"number": 7, "base": {"sha": git(project, "rev-parse", "main")}}}
    (tmp_path / "event.json").write_text(json.dumps(content))
    given = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
             "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_OUTPUT": str(tmp_path / "output"),
             "GITHUB_REPOSITORY": "a/b"}  # fmt: skip
    for key, value in (given | more).items():
        monkeypatch.setenv(key, value)


def test_a_run_on_github(project, tmp_path, monkeypatch):
    event(tmp_path, monkeypatch, project)
    (tmp_path / "summary.md").write_text("what other steps wrote\n")
    found = run("ci")
    assert found.exit_code == 1
    lines = found.stdout.splitlines()
    assert re.fullmatch(
        r"::error file=edge/contract\.yaml,line=6,title=camera%3A parameters newly broken::\+61%25 parameters, "
        r"limit broken: .*; to mend it: width=0\.75: parameters 1\.42 M", lines[0],
    )  # fmt: skip
    assert all(line.startswith(("::error ", "::warning ", "::notice ")) for line in lines)
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("what other steps wrote\n<!-- pharos -->")
    assert (tmp_path / "output").read_text() == "verdict=broken\nexit-code=1\n"
    monkeypatch.chdir(project / "edge")
    assert "file=edge/contract.yaml,line=6" in run("ci").stdout


def test_a_push_is_compared_with_what_was_before_it(tmp_path):
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"before": "abc"}))
    asked = {"GITHUB_ACTIONS": "true", "GITHUB_EVENT_PATH": str(path)}
    assert run_of(asked).base == "abc"
    path.write_text(json.dumps({"before": "0" * 40}))
    assert run_of(asked).base == ""
    assert run_of(asked | {"GITHUB_BASE_REF": "main"}).base == "origin/main"
    assert run_of({}) is None
    path.write_text("{")
    with pytest.raises(PharosError, match="no event"):
        run_of(asked)


class _GitHub(BaseHTTPRequestHandler):
    """Comments of a pull request, kept in a list; `refuses` is what writing is answered with."""

    comments: list = []  # noqa: RUF012
    asked: list = []  # noqa: RUF012
    refuses = 0

    def _answer(self, code, body):
        text = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        page = int(re.search(r"[?&]page=(\d+)", self.path)[1])
        self._answer(200, self.comments[100 * (page - 1) : 100 * page])

    def _write(self):
        self.asked.append((self.command, self.path, self.headers["Authorization"]))
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refuses:
            return self._answer(self.refuses, {})
        if self.command == "POST":
            self.comments.append({"id": 1000 + len(self.comments), **body})
        else:
            number = int(self.path.rpartition("/")[2])
            next(c for c in self.comments if c["id"] == number)["body"] = body["body"]
        return self._answer(200, {})

    do_POST = do_PATCH = _write

    def log_message(self, *_):
        pass


@pytest.fixture
def github():
    _GitHub.comments, _GitHub.asked, _GitHub.refuses = [], [], 0
    server = HTTPServer(("127.0.0.1", 0), _GitHub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_comment_is_kept_up_to_date(github, project, tmp_path, monkeypatch):
    _GitHub.comments += [{"id": i, "body": "what people say"} for i in range(120)]
    event(tmp_path, monkeypatch, project, GITHUB_API_URL=github, GITHUB_TOKEN="secret")
    assert run("ci", "--comment").exit_code == 1
    assert len(_GitHub.comments) == 121
    first = _GitHub.comments[-1]["body"]
    assert first.startswith(MARKER)
    write(project)
    assert run("ci", "--comment").exit_code == 0
    assert len(_GitHub.comments) == 121
    assert _GitHub.comments[-1]["body"] != first
    assert [(m, p) for m, p, _ in _GitHub.asked] == [
        ("POST", "/repos/a/b/issues/7/comments"), ("PATCH", "/repos/a/b/issues/comments/1120"),
    ]  # fmt: skip
    assert {t for _, _, t in _GitHub.asked} == {"Bearer secret"}


def test_a_token_that_may_not_comment_is_no_failure(github, project, tmp_path, monkeypatch):
    _GitHub.refuses = 403
    event(tmp_path, monkeypatch, project, GITHUB_API_URL=github, GITHUB_TOKEN="of a fork")
    found = run("ci", "--comment")
    assert found.exit_code == 1
    assert "pull-requests: write" in found.stderr
    assert "of a fork" not in found.output
    _GitHub.refuses = 500
    assert "GitHub answers 500" in run("ci", "--comment").stderr


def test_a_token_goes_nowhere_without_encryption():
    with pytest.raises(PharosError, match="https only"):
        comment(Run(number=1, repository="a/b", api="http://example.org", token="x"), "text", MARKER)
    assert "no token" in comment(Run(number=1, repository="a/b"), "text", MARKER)
    assert "no pull request" in comment(Run(), "text", MARKER)


def test_locks(project):
    write(project, width=1.0)
    assert run("check", "edge/contract.yaml").exit_code == 1
    assert run("check", "edge/contract.yaml", "--update-lock").exit_code == 0
    lock = json.loads(Path("contract.lock.json").read_text())
    jsonschema.validate(lock, lock_schema())
    assert lock["contracts"]["edge/contract.yaml"]["limits"]["parameters"]["verdict"] == "broken"
    found = run("check", "edge/contract.yaml", "--lock", "contract.lock.json")
    assert found.exit_code == 0
    assert found.stdout.startswith("BROKEN")
    assert "parameters broken before" in " ".join(found.stdout.split())
    assert run("ci", "--lock", "contract.lock.json").exit_code == 0
    write(project, width=1.25)
    row = json.loads(run("check", "edge/contract.yaml", "--lock", "contract.lock.json", "--json").stdout)
    assert row["lock"]["parameters"] == "broken and grown"
    assert run("check", "edge/contract.yaml", "--lock", "contract.lock.json").exit_code == 1
    assert run("ci", "--lock", "contract.lock.json").exit_code == 1
    # another contract is added to the lock, and the first stays
    write(project, "other_contract.yaml")
    assert run("check", "other_contract.yaml", "--update-lock").exit_code == 0
    assert set(json.loads(Path("contract.lock.json").read_text())["contracts"]) == {
        "edge/contract.yaml", "other_contract.yaml",
    }  # fmt: skip
    Path("contract.lock.json").write_text('{"schema": "pharos/lock@1"}')
    with pytest.raises(PharosError, match="is not a lock: contracts"):
        raise run("check", "edge/contract.yaml", "--lock", "contract.lock.json").exception


def test_the_published_schema_of_locks():
    assert json.loads((ROOT / "docs/lock.schema.json").read_text()) == lock_schema()
    assert json.loads(run("schema", "lock").stdout) == lock_schema()


def hooks():
    return YAML(typ="safe").load(ROOT / ".pre-commit-hooks.yaml")


@pytest.mark.parametrize("hook", hooks(), ids=lambda h: h["id"])
def test_hooks_check_what_a_commit_touches(hook, project):
    (command, *options) = hook["entry"].split()
    assert command == "pharos"
    touched = ["edge/contract.yaml", "nets/config.json", "deep/model.onnx", "notes.yaml", "contract.py"]
    assert [p for p in touched if re.search(hook["files"], p)] == touched[:3]
    assert run(*options, "edge/contract.yaml").exit_code == 1
    write(project)
    assert run(*options, "edge/contract.yaml").exit_code == 0
    nothing = run(*options, "nets/config.json")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    # what cannot be told does not stop a commit
    path = project / "edge/contract.yaml"
    path.write_text(path.read_text().replace("900 ms", "60 ms"))
    assert run(*options, "edge/contract.yaml").exit_code == 0
    assert run("check", "edge/contract.yaml").exit_code == 3


def test_a_changed_config_checks_the_contract_that_names_it(project):
    small = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "vocab_size": 100, "architectures": ["LlamaForCausalLM"]}  # fmt: skip
    (project / "edge/config.json").write_text(json.dumps(small))
    (project / "edge/llm_contract.yaml").write_text(
        "name: small\nmodel: config.json\nmachine: a100\nlimits: {parameters: 10 k}\n"
    )
    found = run("check", "--touched", "--json", "edge/config.json")
    assert found.exit_code == 1
    assert json.loads(found.stdout)["contract"] == "small"
    # embeddings and head 2 x 100 x 64, two layers of 4 x 64 x 64 + 3 x 64 x 128 + 2 x 64, a last norm of 64
    assert json.loads(found.stdout)["limits"][0]["value"] == 2 * 6400 + 2 * (16384 + 24576 + 128) + 64


def action():
    return YAML(typ="safe").load(ROOT / "action.yml")


def test_the_action_gives_every_option_that_it_takes(project, tmp_path, monkeypatch):
    """The Action's own script, in bash, with its inputs' defaults."""
    made = action()
    step = next(s for s in made["runs"]["steps"] if s.get("id") == "check")
    inputs = {name: i.get("default", "") for name, i in made["inputs"].items()}
    names = {
        key: re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", value)[1] for key, value in step["env"].items()
    }
    assert set(names.values()) <= set(inputs)
    event(tmp_path, monkeypatch, project)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin/python").chmod(0o755)
    env = os.environ | {key: "" if name == "token" else str(inputs[name]) for key, name in names.items()}
    env["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{env['PATH']}"
    env["PYTHONPATH"] = str(ROOT / "src")
    found = subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], env=env,
                           capture_output=True, text=True)  # fmt: skip
    assert found.returncode == 1, found.stderr
    assert found.stdout.startswith("::error file=edge/contract.yaml,line=6")
    assert "no token" in found.stderr
    assert (tmp_path / "output").read_text() == "verdict=broken\nexit-code=1\n"
    assert all((project / inputs[name]).stat().st_size for name in ("sarif", "junit", "markdown"))
    # no input is put into a script's text, where it could be read as commands
    assert not any("${{" in s.get("run", "") for s in made["runs"]["steps"])
