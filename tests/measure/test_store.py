"""The store of measurements: whole or not there, whoever else writes, and whenever the writer is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from pharos.graph.count import count
from pharos.measure.store import graph as stored_graph
from pharos.measure.store import keep, operators, place, runs
from pharos.models.registry import find
from pharos.quantity.errors import InputError

RUN = {
    "taken_at": "2026-01-01T00:00:00+00:00", "model": "mlp", "runtime": "eager", "threads": 1,
    "workload": {"batch": 1}, "machine": {"cpu": "x"}, "median_s": 1e-3, "low_s": 9e-4, "high_s": 2e-3,
    "samples": 7, "quiet": 1, "peak_bytes": None, "energy_J": None,
}  # fmt: skip
PART = {"name": "fc", "kind": "linear", "cost_class": "gemm", "sizes": {"macs": 10}, "seconds": 1e-4}


def test_what_is_kept_comes_back(tmp_path):
    path = tmp_path / "deep" / "m.sqlite"
    assert runs(path) == []
    first = keep(RUN, [PART, PART | {"name": "fc2"}], path)
    second = keep(RUN | {"model": "lenet5"}, [], path)
    assert second == first + 1
    assert [r.model for r in runs(path)] == ["lenet5", "mlp"]
    assert [r.id for r in runs(path, "mlp")] == [first]
    assert operators(first, path) == [PART, PART | {"name": "fc2"}]
    assert operators(second, path) == []


def test_a_run_that_cannot_be_kept_leaves_nothing(tmp_path):
    path = tmp_path / "m.sqlite"
    keep(RUN, [PART], path)
    with pytest.raises(InputError, match="could not keep"):
        keep(RUN | {"median_s": None}, [PART], path)
    with pytest.raises(InputError, match="could not keep"):
        keep(RUN, [PART, PART | {"name": None}], path)
    assert len(runs(path)) == 1


def test_a_writer_may_be_killed_at_any_moment(tmp_path):
    path = tmp_path / "m.sqlite"
    code = (
        f"from pharos.measure.store import keep\nfrom pathlib import Path\nRUN={RUN!r}\nPART={PART!r}\n"
        f"while True: keep(RUN, [PART] * 40, Path({str(path)!r})); print('.', flush=True)\n"
    )
    for _ in range(3):
        before = len(runs(path))
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
        assert writer.stdout is not None
        for _ in range(3):
            writer.stdout.readline()
        time.sleep(0.01)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        kept = runs(path)
        assert len(kept) >= before + 3
        with sqlite3.connect(path) as base:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            counts = base.execute("SELECT count(*) FROM operators GROUP BY run").fetchall()
        base.close()
        assert set(counts) == {(40,)}
        assert len(counts) == len(kept)


def test_no_store_of_ours_is_told_and_left_alone(tmp_path):
    path = tmp_path / "m.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="cannot be used"):
        keep(RUN, [], path)
    assert path.read_bytes() == b"not a database" * 100
    newer = tmp_path / "n.sqlite"
    with sqlite3.connect(newer) as base:
        base.execute("PRAGMA user_version=99")
    base.close()
    with pytest.raises(InputError, match="newer Pharos"):
        runs(newer)


def test_the_place_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("PHAROS_DATA", str(tmp_path))
    assert place() == tmp_path / "measurements.sqlite"


FIRST = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, taken_at TEXT NOT NULL, model TEXT NOT NULL, runtime TEXT NOT NULL,
    threads INTEGER NOT NULL, workload TEXT NOT NULL, machine TEXT NOT NULL, median_s REAL NOT NULL,
    low_s REAL NOT NULL, high_s REAL NOT NULL, samples INTEGER NOT NULL, quiet INTEGER NOT NULL,
    peak_bytes INTEGER, energy_J REAL);
CREATE TABLE operators (run INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE, name TEXT NOT NULL,
    kind TEXT NOT NULL, cost_class TEXT NOT NULL, sizes TEXT NOT NULL, seconds REAL NOT NULL);
INSERT INTO runs VALUES (1, '2026-01-01', 'mlp', 'eager', 1, '{"batch": 1}', '{"cpu": "x"}', 1e-3, 9e-4, 2e-3,
    7, 1, NULL, NULL);
INSERT INTO operators VALUES (1, 'fc', 'linear', 'gemm', '{"macs": 10}', 1e-4);
PRAGMA user_version=1;
"""


def of_the_first_form(path):
    """A store as the first form of it was."""
    with sqlite3.connect(path) as base:
        base.executescript(FIRST)
    base.close()


def test_rows_of_an_older_form_are_kept(tmp_path):
    path = tmp_path / "m.sqlite"
    of_the_first_form(path)
    (old,) = runs(path)
    assert (old.model, old.graph, old.device, old.pulse_s) == ("mlp", None, "cpu", ())
    assert operators(1, path) == [PART]
    graph = find("mlp").graph()
    number = keep(RUN | {"pulse_s": [1.0, 2.0], "device": "cuda"}, [PART], path, graph)
    new = runs(path)[0]
    assert (new.id, new.device, new.pulse_s) == (number, "cuda", (1.0, 2.0))
    assert count(stored_graph(new.graph, path)).macs == count(graph).macs
    # an equal graph is kept once
    keep(RUN, [], path, graph)
    with sqlite3.connect(path) as base:
        assert base.execute("SELECT count(*) FROM graphs").fetchone() == (1,)
    base.close()
    with pytest.raises(InputError, match="holds no graph"):
        stored_graph("0" * 64, path)


def test_a_store_may_be_killed_while_it_takes_a_new_form(tmp_path):
    """Killed after a time that grows from try to try: the store is of the old form or the new, with its rows."""
    code = "from pharos.measure.store import runs\nimport sys\nfrom pathlib import Path\nprint('.', flush=True)\nruns(Path(sys.argv[1]))\n"
    for wait in (0.0, 0.002, 0.01):
        path = tmp_path / f"{wait}.sqlite"
        of_the_first_form(path)
        opener = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=os.environ
        )
        assert opener.stdout is not None
        opener.stdout.readline()
        time.sleep(wait)
        opener.send_signal(signal.SIGKILL)
        opener.wait()
        opener.stdout.close()
        with sqlite3.connect(path) as base:
            assert base.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert base.execute("PRAGMA user_version").fetchone()[0] in (1, 2)
        base.close()
        assert [run.model for run in runs(path)] == ["mlp"]
        assert operators(1, path) == [PART]
