"""The store of measurements: whole or not there, whoever else writes, and whenever the writer is killed."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from pharos.measure.store import keep, operators, place, runs
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
    found = list(operators(path))
    assert [(run.id, name, sizes, s) for run, name, _, _, sizes, s in found] == [
        (first, "fc", {"macs": 10}, 1e-4), (first, "fc2", {"macs": 10}, 1e-4),
    ]  # fmt: skip


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
