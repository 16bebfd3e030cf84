"""Labs: real processes give what the whole network gives, and send exactly the bytes that were planned."""

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.book.lab import find_lab, labs, run_lab
from pharos.book.processes import spawn
from pharos.doors.cli.app import app
from pharos.quantity.errors import PharosError
from pharos.report.labs import Check, Outcome

run = CliRunner()


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    """Workers find the same sources."""
    root = str(Path(__file__).parents[2] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))


@pytest.mark.parametrize(
    ("name", "processes", "kinds"),
    [
        ("sharded-embedding", 2, {"ids", "vectors", "partial sums", "gradients", "gradients of sums",
                                  "replicated tables", "dense parts"}),
        ("sharded-embedding", 4, {"sums of a node", "vectors by node", "gradients by node", "gradients in a node"}),
        ("tensor-parallel", 2, {"forward", "backward"}),
        ("pipeline", 2, {"activations", "gradients"}),
    ],
)  # fmt: skip
def test_labs_hold(name, processes, kinds):
    pytest.importorskip("torch")
    outcome = run_lab(name, processes, seed=3)
    assert [c for c in outcome.checks if not c.holds] == []
    assert outcome.data["exact"]
    assert kinds <= {row[0] for row in outcome.rows}
    planned = outcome.columns.index("planned_bytes")
    assert [row[planned] for row in outcome.rows] == [row[planned + 1] for row in outcome.rows]
    assert sum(row[planned] for row in outcome.rows) > 0


def test_a_worker_that_fails_is_told_and_nothing_stays(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(PharosError, match="process . failed: .*no_such"):
        spawn("pharos.book.labs.pipeline:no_such", 2, {}, 60)


def test_names_and_numbers_of_processes():
    assert {"sharded-embedding", "tensor-parallel", "pipeline"} <= set(labs())
    assert find_lab("Sharded_Embedding").name == "sharded-embedding"
    with pytest.raises(PharosError, match="did you mean pipeline"):
        find_lab("pipelin")
    with pytest.raises(PharosError, match="2 to 8 processes, not 1"):
        run_lab("pipeline", 1)


def test_the_command_lists_shows_and_fails(monkeypatch):
    listed = run.invoke(app, ["lab", "--list", "--json"])
    told = {"lab": "pipeline", "shows": find_lab("pipeline").summary, "sections": [], "claims": []}
    assert told in json.loads(listed.stdout)["labs"]
    broken = Outcome(name="pipeline", summary="s", settings={"processes": 2}, columns=("moves", "bytes"),
                     rows=(("x", 3),), checks=(Check(what="w", found="f", holds=False),))  # fmt: skip
    monkeypatch.setattr("pharos.book.lab.run_lab", lambda *_: broken)
    shown = run.invoke(app, ["lab", "pipeline"], env={"COLUMNS": "80"})
    assert shown.exit_code == 1
    assert "BROKEN" in shown.stdout
    row = json.loads(run.invoke(app, ["lab", "pipeline", "--json"]).stdout)
    assert row["holds"] is False
    assert row["measured_on"]["cores"] >= 1
    assert row["rows"] == [{"moves": "x", "bytes": 3}]
