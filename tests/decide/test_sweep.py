"""Sweeps: grid files and their mistakes, rows equal to single predictions, conditions, runs that go on."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pharos
from pharos.convert.load import load
from pharos.decide.sweep import sweep
from pharos.decide.sweep.grid_file import grid_schema, read_grid
from pharos.decide.sweep.plan import plan
from pharos.decide.sweep.values import values
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.predict.estimate import predict
from pharos.predict.figures import COLUMNS
from pharos.quantity.errors import PharosError

SMALL = {
    "name": "small",
    "models": [{"name": "mobilenet_v2", "width": [0.35, 0.5, 1.0], "resolution": [96, 160]}, "resnet18"],
    "machines": ["cortex-a53", "a100-sxm-80gb"],
    "workload": {"batch": [1, 8], "precision": ["fp32", "int8"]},
}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (3, (3,)),
        ([1, 2, 2, 4], (1, 2, 4)),
        ({"start": 32, "stop": 64, "step": 16}, (32, 48, 64)),
        ({"start": 1, "stop": 10, "step": 4}, (1, 5, 9)),
        ({"start": 0.1, "stop": 0.4, "step": 0.1}, (0.1, 0.2, 0.3, 0.4)),
        ({"start": 1, "stop": 64, "spacing": "powers_of_two"}, (1, 2, 4, 8, 16, 32, 64)),
        ({"start": 3, "stop": 20, "spacing": "powers_of_two"}, (3, 6, 12)),
        ({"start": 1, "stop": 1000, "count": 4, "spacing": "log"}, (1, 10, 100, 1000)),
        ({"start": 0, "stop": 1.0, "count": 5}, (0, 0.25, 0.5, 0.75, 1.0)),
        ([1, {"start": 10, "stop": 20, "step": 10}], (1, 10, 20)),
        ({"start": "1k", "stop": "2k", "step": 500}, (1000, 1500, 2000)),
    ],
)
def test_values(written, meant):
    assert values(written) == pytest.approx(meant)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"start": 1},
        {"start": 4, "stop": 1, "step": 1},
        {"start": 1, "stop": 4},
        {"start": 1, "stop": 4, "step": 0},
        {"start": 1, "stop": 1e12, "step": 1},
        {"start": 0, "stop": 4, "spacing": "powers_of_two"},
        {"start": 1, "stop": 4, "spacing": "octaves"},
        {"start": 1, "stop": 4, "steps": 2},
        float("nan"),
    ],
)
def test_values_that_are_none(wrong):
    with pytest.raises(ValueError):
        values(wrong)


@given(st.integers(1, 500), st.integers(0, 500), st.integers(1, 40))
def test_ranges_are_python_ranges(start, more, step):
    assert values({"start": start, "stop": start + more, "step": step}) == tuple(
        range(start, start + more + 1, step)
    )


MISTAKES = [
    ("models: mobilenet_v9\nmachines: here", "g.yaml:1:1 models.name: unknown model 'mobilenet_v9'"),
    ("models:\n  - name: mobilenet_v2\n    widht: 1.0\nmachines: h100-sxm",
     "g.yaml:3:5 models.0.widht: unknown hyperparameter of mobilenet_v2 'widht' (did you mean width?)"),
    ("models:\n  - name: mobilenet_v2\n    width: [0.5, -1]\nmachines: h100-sxm", "g.yaml:3:5 models.0.width"),
    ("models: resnet18\nmachines: [h100-sxm, h1000]", "g.yaml:2:"),
    ("models: resnet18\nmachines: {kind: gpus}", "unknown kind of machine 'gpus'"),
    ("models: resnet18\nmachines: h100-sxm\nworkload:\n  batch: {start: 1, stop: 8}", "g.yaml:4:3 workload.batch"),
    ("models: resnet18\nmachines: h100-sxm\nworkload:\n  phase: decod", "g.yaml:4:3 workload.phase"),
    ("models: resnet18\nmachines: h100-sxm\ncolumns: [latency]", "g.yaml:3:11 columns.0: unknown column"),
    ("models: resnet18\nmachines: h100-sxm\nwhere: [latency_s < 5 MB]", "g.yaml:3:9 where.0"),
    ("models: resnet18\nmachines: h100-sxm\nwhere: [import os]", "is no comparison"),
    ("models: resnet18\nmachines: h100-sxm\nwhere: ['binding < compute']", "only == and != compare it"),
    ("models: resnet18\nmachines: h100-sxm\nmachine: x", "g.yaml:3:1 machine: unknown field 'machine'"),
    ("models: a.module:factory\nmachines: h100-sxm", "a sweep runs no code"),
    ("models: resnet18", "the field 'machines' is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), MISTAKES)
def test_mistakes_name_their_place(text, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("g.yaml").write_text(text)
    with pytest.raises(PharosError) as error:
        read_grid("g.yaml")
    assert told in str(error.value)


def test_a_file_and_its_fields_are_one_grid(tmp_path):
    path = tmp_path / "g.yaml"
    path.write_text(json.dumps(SMALL))
    assert read_grid(path).given == read_grid(SMALL).given


def test_the_schema_takes_the_examples():
    jsonschema = pytest.importorskip("jsonschema")
    from pharos.facts.reading import read_yaml

    examples = sorted((Path(__file__).parents[2] / "examples" / "sweeps").glob("*.yaml"))
    assert examples
    jsonschema.validate(SMALL | {"models": SMALL["models"][0], "machines": {"kind": "gpu"}}, grid_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(SMALL | {"models": {"width": 1.0}}, grid_schema())
    for path in examples:
        jsonschema.validate(read_yaml(path).data, grid_schema())
        assert plan(read_grid(path)).points


def test_parts_hold_every_point_once():
    grid = read_grid(SMALL | {"workload": {"batch": {"start": 1, "stop": 97, "step": 1}}})
    whole, cut = plan(grid), plan(grid, 100)
    assert whole.points == cut.points == (3 * 2 + 1) * 97 * 2
    assert len(whole.parts) == 1
    assert len(cut.parts) > 10
    assert max(sum(s.rows for s in part) for part in cut.parts) <= 100


def rows_of(found):
    """Rows as tuples by their axes, for comparison."""
    columns = found.numpy()
    names = list(columns)
    return sorted(tuple(str(columns[n][i]) for n in names) for i in range(found.rows))


def scalar(row, columns, model=None):
    """The columns of one row by a prediction of that point alone."""
    hyper = {k: row[k] for k in ("width", "resolution", "classes", "hidden", "layers", "heads", "cell")
             if k in row and row[k] is not None}  # fmt: skip
    name = row["model"] + ("(" + ", ".join(f"{k}={v!r}" for k, v in hyper.items()) + ")" if hyper else "")
    work = Workload(phase=row["phase"], batch=row["batch"], precision=row["precision"],
                    context=row.get("asked_context"))  # fmt: skip
    found = predict(load(name).graph(work), find_machine(row["machine"]), work, runtime=row["runtime"])
    return {c: COLUMNS[c].read(found) for c in columns}


def check_rows(grid, picks):
    """Every column of some rows of a sweep against single predictions."""
    grid = grid | {"columns": list(COLUMNS)}
    found = sweep(grid)
    columns = found.numpy()
    for pick in picks:
        i = pick % found.rows
        row = {k: None if np.ma.is_masked(v[i]) else v[i] for k, v in columns.items()}
        row = {k: v.item() if hasattr(v, "item") else v for k, v in row.items()}
        if "context" in grid.get("workload", {}):
            row["asked_context"] = row["context"]
        alone = scalar(row, COLUMNS)
        for name, value in alone.items():
            place = f"{name} of {row}"
            if value is None or isinstance(value, (str, bool)):
                assert row[name] == value, place
            else:
                assert row[name] == pytest.approx(float(value), rel=1e-9), place
    return found


MACHINES = (
    "cortex-a53",
    "h100-sxm",
    "a100-sxm-80gb",
    "raspberry-pi-5",
    "tpu-v4",
    "v100-sxm2-16gb",
    "apple-m1",
)
PHRASES = [
    {"models": {"name": "mobilenet_v2", "width": [0.1, 0.35, 0.5, 0.75, 1.0, 1.4],
                "resolution": [32, 96, 97, 160, 224]}},
    {"models": {"name": "mobilenet_v3_small", "width": [0.5, 0.75, 1.0], "resolution": [64, 128, 224]}},
    {"models": {"name": "mobilenet_v1", "width": [0.25, 0.5, 1.0], "classes": [10, 1000]},
     "workload": {"batch": [1, 3, 64]}},
    {"models": {"name": "resnet50", "resolution": [96, 224]}, "workload": {"batch": [1, 2, 7]}},
    {"models": ["gpt2-small", "llama-3.2-1b", "mamba-130m"],
     "workload": {"phase": ["decode", "prefill"], "batch": [1, 5, 16], "context": [7, 64, 1000],
                  "precision": ["fp16", "int8"]}},
    {"models": {"name": "sequence_rnn", "hidden": [16, 64, 512], "layers": [1, 2], "cell": ["lstm", "gru"],
                "classes": 10},
     "workload": {"context": [10, 100]}},
    {"models": {"name": "sequence_transformer", "hidden": [64, 96, 256], "heads": [1, 3, 4], "classes": 10},
     "workload": {"context": [10, 100]}},
    {"models": ["bert-base", "vit_b_16"], "workload": {"batch": [1, 4]}},
]  # fmt: skip


@settings(max_examples=8)
@given(
    st.sampled_from(PHRASES), st.lists(st.sampled_from(MACHINES), min_size=1, max_size=2, unique=True),
    st.lists(st.integers(0, 10**6), min_size=3, max_size=3),
)  # fmt: skip
def test_rows_are_what_predict_says(phrase, machines, picks):
    check_rows(phrase | {"machines": machines}, picks)


@pytest.mark.parametrize("phrase", PHRASES)
def test_each_model_is_evaluated_as_arrays(phrase):
    found = check_rows(phrase | {"machines": "a100-sxm-80gb"}, [0, 5, 11])
    assert found.told.single == 0
    assert found.told.evaluated == found.rows


def test_where_arrays_do_not_do_points_are_predicted_one_by_one():
    grid = {"models": {"name": "mobilenet_v2", "width": [0.5, 1.0], "resolution": [96]},
            "machines": ["stm32h743", "h100-sxm"], "workload": {"precision": ["int8"]}}  # fmt: skip
    found = check_rows(grid, [0, 1, 2, 3])
    assert found.told.single == 2
    eager = check_rows(grid | {"machines": ["raspberry-pi-5"], "runtime": ["eager"]}, [0, 1])
    assert eager.told.single == 2


def test_points_that_are_no_network_are_counted():
    # 96 = 3 x 32: heads of 5 do not divide it; contexts beyond 1,024 are beyond GPT-2
    grid = {"models": {"name": "sequence_transformer", "hidden": 96, "heads": [3, 4, 5], "classes": 10},
            "machines": ["h100-sxm", "cortex-a53"]}  # fmt: skip
    found = sweep(grid)
    assert (found.rows, found.points, found.told.impossible) == (4, 6, 2)
    assert "5" in found.told.why
    long = sweep({"models": "gpt2-small", "machines": "h100-sxm",
                  "workload": {"phase": "decode", "context": {"start": 1000, "stop": 1050, "step": 1}}})  # fmt: skip
    assert long.rows == 25
    assert long.told.impossible == 26
    assert "1024" in long.told.why


def test_conditions_keep_what_meets_them():
    every = sweep(SMALL).numpy()
    conditions = ["memory_bytes <= 20 MB", "batch == 1", "binding != overhead", "latency_s_high < 0.1 s"]
    kept = sweep(SMALL | {"where": conditions})
    holds = ((every["memory_bytes"] <= 20e6) & (every["batch"] == 1) & (every["binding"] != "overhead")
             & (every["latency_s_high"] < 0.1))  # fmt: skip
    assert 0 < kept.rows == int(holds.sum()) < len(holds)
    assert kept.told.evaluated == len(holds)
    assert sorted(kept.numpy()["latency_s"]) == sorted(every["latency_s"][holds])
    other = sweep(SMALL | {"where": ["machine == rpi3_cortex_a53", "compute_s > data_s"]})
    assert set(other.numpy()["machine"]) == {"rpi3_cortex_a53"}


def test_what_is_not_known_stays_so():
    found = sweep({"models": "resnet18", "machines": "all", "columns": ["latency_s", "energy_J", "fits"]})
    columns = found.numpy()
    lacking = np.ma.getmaskarray(columns["latency_s"])
    assert 0 < lacking.sum() < found.rows
    for machine in columns["machine"][lacking]:
        alone = pharos.predict("resnet18", on=machine)
        assert alone.latency.value is None


def test_a_runtime_that_a_machine_lacks_is_told():
    found = sweep({"models": "resnet18", "machines": ["h100-sxm", "cortex-a53"], "runtime": "tensorrt"})
    assert set(found.numpy()["machine"]) == {"nvidia_h100_sxm5"}
    assert len(found.refused) == 1
    with pytest.raises(PharosError, match="runtime"):
        sweep({"models": "resnet18", "machines": "cortex-a53", "runtime": "tensorrt"})


def test_files_and_folders_hold_the_same_rows(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    memory = sweep(SMALL)
    one = sweep(SMALL, tmp_path / "one.parquet", jobs=1)
    many = sweep(SMALL, tmp_path / "many", jobs=1, rows=10)
    assert rows_of(one) == rows_of(many) == rows_of(memory)
    assert many.parts > 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many", "one.parquet", "one.parquet.json"]
    told = json.loads((tmp_path / "one.parquet.json").read_text())
    within = duckdb.execute(
        f"SELECT value FROM parquet_kv_metadata('{tmp_path / 'one.parquet'}') WHERE key = 'pharos'::BLOB"
    ).fetchone()
    assert json.loads(bytes(within[0])) == told
    assert told["pharos"] == pharos.__version__
    assert any("fitted" in e for each in told["evidence"].values() for e in each["latency_s"])
    types = dict(duckdb.execute(
        f"SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM '{tmp_path / 'one.parquet'}')"
    ).fetchall())  # fmt: skip
    assert types["batch"] == "BIGINT"
    assert types["width"] == "DOUBLE"
    assert types["fits"] == "BOOLEAN"
    assert types["machine"] == "VARCHAR"
    # what is there is not computed again
    assert sweep(SMALL, tmp_path / "one.parquet").resumed == 1
    assert sweep(SMALL, tmp_path / "many", rows=10).resumed == many.parts


def test_another_grid_is_refused(tmp_path):
    pytest.importorskip("duckdb")
    sweep(SMALL, tmp_path / "out", jobs=1)
    changed = SMALL | {"workload": {"batch": [1, 16], "precision": ["fp32", "int8"]}}
    with pytest.raises(PharosError, match=r"workload differ \(give --fresh"):
        sweep(changed, tmp_path / "out", jobs=1)
    assert sweep(changed, tmp_path / "out", jobs=1, fresh=True).resumed == 0
    sweep(SMALL, tmp_path / "one.parquet", jobs=1)
    with pytest.raises(PharosError, match="no file of this sweep"):
        sweep(changed, tmp_path / "one.parquet", jobs=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(PharosError, match="thesis.txt"):
        sweep(SMALL, tmp_path / "mine", jobs=1, fresh=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


LONG = SMALL | {"workload": {"batch": {"start": 1, "stop": 30, "step": 1}, "precision": ["fp32", "int8"]}}


def begun(folder, parts):
    """Waits until a sweep has written so many parts."""
    for _ in range(600):
        if len(list(folder.glob("part-*.parquet"))) >= parts:
            return
        time.sleep(0.05)
    raise AssertionError("no part in 30 s")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on(how, tmp_path):
    pytest.importorskip("duckdb")
    grid, out = tmp_path / "grid.yaml", tmp_path / "out.parquet"
    grid.write_text(json.dumps(LONG))
    command = [sys.executable, "-m", "pharos", "sweep", str(grid), "-o", str(out), "--rows-per-part", "20",
               "--jobs", "1"]  # fmt: skip
    # tests that run in the background of a shell are started deaf to the signal
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=heard)  # fmt: skip
    folder = tmp_path / "out.parquet.parts"
    begun(folder, 2)
    os.kill(running.pid, how)
    _, said = running.communicate(timeout=30)
    assert running.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    if how == signal.SIGINT:
        assert "the same command goes on" in said
        assert "Traceback" not in said
    assert not out.exists()
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("part-*.parquet")}
    assert 2 <= len(kept) < len(plan(read_grid(LONG), 20).parts)
    # a file that was being written when the end came
    (folder / ".part-000009.parquet.tmp").write_bytes(b"half")
    found = sweep(grid, out, jobs=1, rows=20)
    assert found.resumed == len(kept)
    assert rows_of(found) == rows_of(sweep(LONG, rows=20))
    assert found.told.evaluated == found.points
    assert not folder.exists()
