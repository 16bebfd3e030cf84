"""Sweeps on processes, Dask and Ray: a worker dies midway and the rows are those of a run that nothing broke."""

import os
import signal
import time

import pytest

from pharos.decide.sweep import sweep
from pharos.decide.sweep.engines import Here, engine
from pharos.quantity.errors import InputError, PharosError

pytest.importorskip("duckdb")

GRID = {
    "name": "clusters",
    "models": {"name": "mobilenet_v1", "width": [0.25, 0.5]},
    "machines": ["cortex-a53"],
    "workload": {"batch": {"start": 1, "stop": 12, "step": 1}},
}
# two points a part: twelve parts
ROWS = 2


def rows_of(found):
    columns = found.numpy()
    return sorted(tuple(str(v[i]) for v in columns.values()) for i in range(found.rows))


@pytest.fixture(scope="module")
def unbroken():
    return rows_of(sweep(GRID, rows=ROWS))


def killing(victim, after=2):
    """A tick that kills a process once so many parts are written."""
    seen = []

    def tick(progress):
        seen.append(progress.points)
        if len(seen) == after + 1:
            os.kill(victim(), signal.SIGKILL)

    return tick


def test_processes_of_which_one_is_killed(unbroken, tmp_path):
    import multiprocessing

    def victim():
        return multiprocessing.active_children()[0].pid

    found = sweep(GRID, tmp_path / "out", jobs=2, rows=ROWS, tick=killing(victim))
    assert rows_of(found) == unbroken
    assert found.retried > 0
    assert sum(found.workers.values()) == found.parts == 12


def test_dask_workers_of_which_one_is_killed(unbroken, tmp_path):
    pytest.importorskip("distributed")
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")

        def victim():
            return next(iter(cluster.workers.values())).pid

        found = sweep(GRID, tmp_path / "out.parquet", engine=address, rows=ROWS, tick=killing(victim))
    assert rows_of(found) == unbroken
    assert sum(found.workers.values()) == found.parts


def test_ray_workers_of_which_one_is_killed(unbroken, tmp_path):
    ray = pytest.importorskip("ray")
    from pharos.decide.sweep.engines import Ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        mine = Ray(ray).submit(os.getpid)
        found = sweep(GRID, tmp_path / "out", engine="ray", rows=ROWS, tick=killing(lambda: mine.result(60)))
    finally:
        ray.shutdown()
    assert rows_of(found) == unbroken
    assert sum(found.workers.values()) == found.parts


def test_a_part_that_always_fails_ends_the_run(tmp_path, monkeypatch):
    from pharos.decide.sweep import run

    tried = []

    def fails(text, rows, version, number):
        tried.append(number)
        raise MemoryError("none left")

    monkeypatch.setattr(run, "compute", fails)
    with pytest.raises(InputError, match=r"failed 4 times: MemoryError: none left \(what is written stays"):
        sweep(GRID, tmp_path / "out", jobs=1, rows=ROWS)
    assert tried == [0] * run.TRIES


def test_a_worker_of_another_version_is_refused():
    from pharos.decide.sweep.run import compute

    with pytest.raises(InputError, match="a worker has Pharos"):
        compute("{}", 1, "0.0.1", 0)


def test_engines_that_are_none():
    with pytest.raises(PharosError, match="unknown engine"), engine("spark://x:1"):
        pass
    if pytest.importorskip("distributed"):
        start = time.monotonic()
        with pytest.raises(PharosError, match="no Dask scheduler answers"), engine("dask://127.0.0.1:1"):
            pass
        assert time.monotonic() - start < 60


def test_the_seam_is_an_executor():
    with engine("local", 1) as here:
        assert isinstance(here.executor, Here)
        assert here.executor.submit(pow, 2, 5).result() == 32
        assert list(here.executor.map(abs, [-1, 2])) == [1, 2]
