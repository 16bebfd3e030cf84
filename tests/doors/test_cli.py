"""The command line as a user runs it: exit codes, JSON, one message for every mistake, start-up."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pharos.doors.cli import app
from pharos.quantity.errors import PharosError

ROOT = Path(__file__).parents[2]
WILDLIFE = str(ROOT / "examples/wildlife/contract.yaml")


def pharos(*arguments, cwd=None, columns="100"):
    """A fresh process, as in a shell."""
    import os

    env = os.environ | {"COLUMNS": columns, "PYTHONWARNINGS": "error::ResourceWarning"}
    return subprocess.run(
        [sys.executable, "-m", "pharos", *arguments], capture_output=True, text=True, cwd=cwd, env=env
    )


def run(*arguments):
    """In this process, fast; errors come out as exceptions."""
    return CliRunner().invoke(app, list(arguments))


def load(*arguments):
    found = run(*arguments)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


def test_show_json_has_the_stable_keys():
    row = load("show", "resnet50", "--json")
    assert row["totals"]["parameters"] == 25_557_032
    assert row["totals"]["flops"] == 2 * row["totals"]["macs"] == 8_178_368_512
    assert {"ideal", "per_op"} <= set(row["totals"]["traffic_bytes"])
    assert {"weights_only", "ideal", "per_op"} == set(row["totals"]["intensity"])
    assert row["uncounted"] == []
    assert {
        "name",
        "kind",
        "count",
        "macs",
        "flops",
        "parameters",
        "input_shape",
        "output_shape",
        "traffic_bytes",
        "intensity",
    } <= set(row["operators"][0])
    assert sum(op["macs"] for op in row["operators"]) == row["totals"]["macs"]


def test_show_says_what_a_model_is_made_of():
    row = load("show", "llama-3-8b", "--json")
    (layers,) = [b for b in row["blocks"] if not b["part"]]
    assert layers == {
        "block": "pre-norm transformer block", "detail": "GQA 4:1, causal, SwiGLU", "count": 32, "part": False,
        "paths": ["model.layers.0-31"],
    }  # fmt: skip
    assert row["family"] == "transformer"
    assert "all-pairs dynamic routing" in row["biases"]
    text = run("show", "resnet50").output
    assert "16 bottleneck residual blocks (layer1-4)" in text
    both = load("show", "deepseek-v3", "--json")["blocks"]
    assert sum(b["count"] for b in both if not b["part"]) == 61


@pytest.mark.parametrize(
    ("by", "rows"),
    [("kind", ["conv2d", "batch_norm", "linear"]), ("module", ["layer1.0", "layer4.1-2"]),
     ("block", ["bottleneck residual", "conv-norm-activation", "the rest"])],
)  # fmt: skip
def test_operators_are_grouped(by, rows):
    text = run("show", "resnet50", "--by", by).output
    table = [line.split("  ")[0].strip() for line in text.split("──")[-1].splitlines()]
    assert set(rows) <= set(table)


def test_predict_json_has_the_stable_keys():
    row = load(
        "predict", "gpt2_xl", "--on", "h100-sxm", "--decode", "--context", "1024", "-p", "fp16", "--json"
    )
    for key in (
        "model",
        "machine",
        "workload",
        "latency_s",
        "throughput_per_s",
        "energy_J",
        "memory_bytes",
        "fits",
        "binding",
        "iron_law",
        "ridge_point",
        "evidence",
        "operators",
        "tokens_per_s",
    ):
        assert key in row
    assert row["kv_bytes_per_token"] == 2 * 48 * 1600 * 2
    assert set(row["iron_law"]) == {"compute_s", "data_s", "overhead_s"}
    assert row["latency_s"]["low"] < row["latency_s"]["value"] < row["latency_s"]["high"]
    assert {"ideal", "per_op", "as_run"} == set(row["operators"][0]["roofline"])


def test_check_exit_codes(tmp_path):
    assert pharos("check", WILDLIFE).returncode == 3
    contract = tmp_path / "c.yaml"
    contract.write_text("name: c\nmodel: resnet50\nmachine: a100\nlimits: {parameters: 30 M}\n")
    assert pharos("check", str(contract)).returncode == 0
    assert pharos("check", str(contract), WILDLIFE).returncode == 3
    contract.write_text("name: c\nmodel: resnet50\nmachine: a100\nlimits: {parameters: 3 M}\n")
    assert pharos("check", str(contract), WILDLIFE).returncode == 1
    contract.write_text("name: c\nmodle: resnet50\n")
    wrong = pharos("check", str(contract), WILDLIFE)
    assert wrong.returncode == 2
    assert "did you mean model?" in wrong.stderr


def test_check_json_and_junit(tmp_path):
    target = tmp_path / "out.xml"
    found = pharos("check", WILDLIFE, "--json", "--junit", str(target))
    assert json.loads(found.stdout)["verdict"] == "unknown"
    assert target.read_text().startswith("<?xml")
    assert [p.name for p in tmp_path.iterdir()] == ["out.xml"]


def test_a_mistake_writes_nothing(tmp_path):
    (tmp_path / "bad.yaml").write_text("name: [\n")
    target = tmp_path / "out.xml"
    target.write_text("precious")
    assert pharos("check", str(tmp_path / "bad.yaml"), "--junit", str(target)).returncode == 2
    assert target.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "resnet5O"), "did you mean resnet50"),
        (("show", "nowhere/model.onnx"), "does not exist"),
        (("show", "nowhere/config.json"), "does not exist"),
        (("show", "some/thing.pt"), "is not a model"),
        (("show", "resnet50", "--batch", "0"), "--batch: batch must be at least 1"),
        (("show", "resnet50", "--batch", "-3"), "at least 1"),
        (("show", "resnet50", "--batch", "1e30"), "--batch"),
        (("show", "resnet50", "--batch", "two"), "not a plain number"),
        (("show", "resnet50", "--precision", "fp17"), "fp16"),
        (("show", "gpt2", "--context", "4096"), "beyond the model's 1024"),
        (("show", "gpt2", "--prefill", "--decode"), "two workloads"),
        (("show", "mlp(widths=[784])"), "at least one layer"),
        (("show", "resnet18", "--by", "blok"), "did you mean block"),
        (("predict", "resnet50", "--on", "h1000"), "machine"),
        (("predict", "resnet50", "--on", "h100", "--runtime", "egaer"), "eager"),
        (("compare", "resnet50", "--on", ","), "names no machine"),
        (("machines", "h1o0"), "did you mean"),
        (("machines", "--kind", "gpoo"), "did you mean gpu"),
        (("models", "resent50"), "did you mean resnet50"),
        (("schema", "contrat"), "contract"),
        (("check", "missing.yaml"), "does not exist"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(arguments, told, tmp_path):
    found = pharos(*arguments, cwd=tmp_path)
    assert found.returncode == 2
    assert told in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    assert list(tmp_path.iterdir()) == []


HEADERS = {
    *(
        "operator",
        "runs",
        "output",
        "params",
        "MACs",
        "FLOPs",
        "bytes",
        "FLOP/B",
        "%",
        "kernel",
        "time",
        "share",
    ),
    *(
        "compute",
        "data",
        "limit",
        "value",
        "allowed",
        "margin",
        "verdict",
        "model",
        "machine",
        "latency",
        "per",
        "s",
    ),
    *(
        "memory",
        "energy",
        "binds",
        "kind",
        "peak",
        "type",
        "bandwidth",
        "max",
        "W",
        "family",
        "isolates",
        "what",
    ),
}


@pytest.mark.parametrize("columns", ["80", "120"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "resnet50"),
        ("show", "llama-3-70b"),
        ("predict", "mobilenet_v2", "--on", "a100", "-b", "32"),
        ("check", WILDLIFE),
        ("compare", "resnet50", "mobilenet_v2", "--on", "a100-sxm-80gb,cortex-a53"),
        ("machines",),
        ("machines", "h100"),
        ("models",),
    ],
)
def test_tables_fit_the_terminal(arguments, columns):
    found = pharos(*arguments, columns=columns)
    assert found.returncode in (0, 3)
    lines = found.stdout.splitlines()
    for line in lines:
        assert len(line.rstrip()) <= int(columns), line
    # every header stands whole above its rule: no column of figures was cut
    for line in (above for above, rule in pairwise(lines) if set(rule.strip()) == {"─"}):
        for word in line.replace("80% band", "").replace("(", "").replace(")", "").split():
            assert word in HEADERS, word


def test_every_command_has_help():
    for command in ("show", "predict", "check", "compare", "models", "machines", "schema", "export"):
        assert run(command, "--help").exit_code == 0


def test_importing_pharos_loads_nothing_heavy():
    code = "import sys, pharos; print([m for m in ('numpy','sympy','torch','onnx','pydantic','rich') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_show_needs_neither_numpy_nor_a_deep_learning_framework():
    code = (
        "import sys; sys.argv = ['pharos', 'show', 'llama-3-70b']\n"
        "from pharos.doors.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('numpy','sympy','torch','onnx','transformers') if m in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr.strip() == "[]"


def test_models_and_machines_list_everything():
    assert len(load("machines", "--json")) == 73
    names = {row["name"] for row in load("models", "--json")}
    assert {"resnet50", "gpt2-xl", "dlrm", "mobilenet_v2", "ds_cnn_s"} <= names


def test_python_functions_do_what_the_commands_do():
    import pharos as library

    assert library.show("resnet50").parameters == 25_557_032
    assert library.check(WILDLIFE).verdict == "unknown"
    assert len(library.compare(["resnet50", "mobilenet_v2"], ["a100", "h100"])) == 4
    import pharos.predict as room

    assert room("mobilenet_v2", on="h100").binding


def test_serve_json_has_the_stable_keys():
    row = load("serve", "llama3_8b", "--on", "a100-sxm-80gb", "--context", "2048", "--users", "8", "--json")
    keys = {"kv_bytes_per_token", "kv_bytes_per_request", "weights_bytes", "free_bytes", "max_users", "fits",
            "ttft_s", "tpot_s", "tokens_per_s", "remedies"}  # fmt: skip
    assert keys <= set(row)
    assert row["kv_bytes_per_token"] == 131_072
    assert row["kv_bytes_per_request"] == 2048 * 131_072
    assert row["weights_bytes"] == 2 * 8_030_261_248
    assert row["fits"]
    assert 0 < row["ttft_s"]["low"] < row["ttft_s"]["value"] < row["ttft_s"]["high"]
    gains = [r["gain"] for r in row["remedies"]]
    assert gains == sorted(gains, reverse=True)


def test_serve_tells_that_free_memory_is_not_room():
    found = run("serve", "llama-2-7b", "--on", "a100-sxm-80gb", "--context", "2048", "--users", "60")
    assert found.exit_code == 0
    text = " ".join(found.output.split())
    assert "after weights is not room for users" in text
    assert "NO: 57 such users at most" in text
    assert "2 (K, V) x 32 layers x 32 KV heads x 128 x S x 2 B" in text


def test_serve_simulates_and_judges(tmp_path):
    trace = tmp_path / "trace.csv"
    lines = [f"{i * 0.1},{200 + i},{20 + i % 7}" for i in range(100)]
    trace.write_text("arrival,prompt,output\n" + "\n".join(lines) + "\n")
    asked = ("serve", "llama-3-8b", "--on", "h100-sxm", "--trace", str(trace), "--stack", "vllm", "--json")
    row = load(*asked)
    assert row["simulation"]["requests"] == 100
    assert row["simulation"]["refused"] == 0
    waits = row["simulation"]["latency_s"]["ttft_s"]
    assert waits["p50"] <= waits["p90"] <= waits["p99"]
    broken = run(*asked, "--rate", "20", "--slo", "ttft=1ms")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout)["slo"]["holds"] is False
    best = load("serve", "llama-3-8b", "--on", "h100-sxm", "--slo", "ttft=1s,tpot=50ms", "--requests", "200",
                "--json")["slo"]  # fmt: skip
    assert best["holds"]
    assert best["highest_rate_per_s"] > 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("resnet50", "--on", "h100-sxm"), "is not a decoder"),
        (("llama-3-8b", "--on", "h100-sxm", "--context", "1M"), "beyond the 8192 tokens"),
        (("llama-3-70b", "--on", "h100-sxm", "--rate", "1"), "no room for caches"),
        (("llama-3-8b", "--on", "h100-sxm", "--stack", "vlm"), "did you mean vllm"),
        (("llama-3-8b", "--on", "h100-sxm", "--slo", "ttft"), "is not NAME=LIMIT"),
        (("llama-3-8b", "--on", "h100-sxm", "--devices", "3"), "cannot be divided among 3 devices"),
        (("llama-3-8b", "--on", "h100-sxm", "--rate", "1", "--preemption", "kill"), "unknown preemption"),
    ],
)
def test_serve_explains_what_cannot_be(arguments, says):
    with pytest.raises(PharosError, match=says):
        CliRunner().invoke(app, ["serve", *arguments], catch_exceptions=False)


def test_stored_runs_are_listed_and_mistakes_of_measuring_told(tmp_path, monkeypatch):
    from pharos.measure.store import keep

    monkeypatch.setenv("PHAROS_DATA", str(tmp_path))
    run = {"taken_at": "2026-01-01T00:00:00+00:00", "model": "mlp", "runtime": "eager", "threads": 1,
           "workload": {"batch": 8}, "machine": {"cpu": "x"}, "median_s": 1e-3, "low_s": 9e-4, "high_s": 2e-3,
           "samples": 7, "quiet": 1, "peak_bytes": None, "energy_J": None, "predicted_s": 1.1e-3}  # fmt: skip
    keep(run, [])
    found = load("measure", "--history", "mlp", "--json")
    assert [(r["model"], r["median_s"], r["predicted_s"]) for r in found["runs"]] == [("mlp", 1e-3, 1.1e-3)]
    for width in ("80", "120"):
        told = pharos("measure", "--history", columns=width).stdout
        assert "+10%" in told
        assert max(map(len, told.splitlines()[:3])) <= int(width)
    for arguments, why in (
        (("measure", "--history", "nlp"), "did you mean mlp"),
        (("measure",), "give a model"),
        (("measure", "mlp", "--whole"), "goes with --unique"),
        (("measure", "mlp", "--device", "gpu"), "unknown device"),
        (("calibrate", "--refine"), "no calibration to refine"),
        (("calibrate", "--refine", "--device", "cuda"), "leave out --device"),
        (("predict", "mlp", "--on", "here-cuda"), "calibrate --device cuda"),
    ):
        failed = pharos(*arguments)
        assert failed.returncode == 2, arguments
        assert why in failed.stderr, failed.stderr
        assert "Traceback" not in failed.stderr
