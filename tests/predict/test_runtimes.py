"""Runtimes: where each runs, what it adds to kernels by hand, and what its page says."""

import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pharos
from pharos.graph.workload import Workload
from pharos.machines.machine import KINDS, Known, find_machine
from pharos.machines.profile import profile_of
from pharos.models.registry import find
from pharos.passes.fusions import FUSIONS
from pharos.predict.estimate import predict
from pharos.predict.runtimes import DEFAULTS, RUNTIMES, runtime_of, runtimes_of, settle
from pharos.quantity.errors import InputError, UnknownName

ROOT = Path(__file__).parents[2]
MACHINES = {"gpu": "h100", "cpu": "intel_xeon_8380", "tpu": "google_tpu_v4", "npu": "aws_inferentia2", "mobile_soc": "apple_m1",
            "mcu": "stm32l4r5"}  # fmt: skip


def test_every_kind_of_machine_has_its_default():
    assert set(DEFAULTS) == set(KINDS) == set(MACHINES)
    for kind, name in DEFAULTS.items():
        assert runtimes_of(kind)[0] == name
        assert runtime_of(None, find_machine(MACHINES[kind])).name == name
    for runtime in RUNTIMES.values():
        assert runtime.fusion in FUSIONS
        assert all(c.low <= c.value <= c.high for c in runtime.constants.values())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", MACHINES)
def test_a_runtime_runs_on_its_machines_and_is_refused_elsewhere(runtime, kind):
    machine, precision = find_machine(MACHINES[kind]), "int8" if kind == "mcu" else "bf16"
    work = Workload(precision=precision)
    graph = find("ds_cnn_s").graph(work)
    if kind in RUNTIMES[runtime].kinds:
        found = predict(graph, machine, work, runtime=runtime)
        assert found.runtime == runtime
        assert found.latency.value > 0
        assert sum(found.shares.values()) == pytest.approx(found.latency.value)
        assert found.device_s <= found.latency.value * (1 + 1e-12)
        assert found.idle_s == pytest.approx(found.latency.value - found.device_s, abs=1e-12) or kind != "gpu"
    else:
        with pytest.raises(InputError, match="does not run on") as error:
            predict(graph, machine, work, runtime=runtime)
        assert runtimes_of(kind)[0] in str(error.value)


def test_a_wrong_name_has_its_nearest():
    with pytest.raises(UnknownName, match="cudagraph"):
        pharos.predict("mlp", on="h100", runtime="cuda-graph")


def test_efficiencies_of_another_runtime_widen_the_band():
    machine = find_machine("cortex-a53")
    assert profile_of(machine).fitted_with == "ncnn"
    assert pharos.predict("resnet18", on="cortex-a53").runtime == "ncnn"
    own, other = (pharos.predict("resnet18", on="cortex-a53", runtime=r) for r in ("ncnn", "tflite"))
    assert other.latency.high / other.latency.value > own.latency.high / own.latency.value
    assert any("fitted with ncnn" in e.where for e in other.evidence)


def test_eager_by_hand():
    """A long chain on a fast GPU: the host's parts and views, then the last kernel and a synchronisation."""
    machine, work = find_machine("h100"), Workload(precision="fp16", phase="decode")
    graph = find("gpt2-small").graph(work)
    found = predict(graph, machine, work, runtime="eager")
    constants = settle(RUNTIMES["eager"], machine, profile_of(machine))
    host = 0.0
    for line in found.count.lines:
        each = constants.by_class.get(line.cost_class, constants["op_s"])
        host += line.times * (constants["view_s"] if line.cost_class == "view" else each)
    assert found.host_s == pytest.approx(host)
    last = found.operations[-1].time.latency_s
    assert found.latency.value == pytest.approx(host + constants["wait_s"] + last + constants["sync_s"])
    assert found.binding == "overhead"
    # a recorded graph of the same kernels is what would relieve it
    graphed = predict(graph, machine, work, runtime="cudagraph")
    assert graphed.latency.value == pytest.approx(found.device_s + 7.5e-6) == pytest.approx(found.relieved_s)


def test_a_large_batch_hides_the_host():
    found = pharos.predict("resnet50", on="h100", batch=512, precision="fp16", runtime="eager")
    assert found.host_s < found.device_s
    assert found.idle_s < 0.01 * found.latency.value
    assert found.binding != "overhead"


def test_eager_over_an_array_of_batches_gives_what_numbers_give():
    batches = np.array([1, 8, 64, 512])
    many = pharos.predict("resnet50", on="h100", batch=batches, precision="fp16", runtime="eager")
    for i, batch in enumerate(batches):
        one = pharos.predict("resnet50", on="h100", batch=int(batch), precision="fp16", runtime="eager")
        for name in ("latency", "idle_s", "host_s", "device_s"):
            found, expected = getattr(many, name), getattr(one, name)
            if name == "latency":
                found, expected = found.value, expected.value
            assert np.broadcast_to(found, batches.shape)[i] == pytest.approx(expected)
    assert list(many.binding[[0, 3]]) == ["overhead", "memory-bandwidth"] or many.binding[0] == "overhead"


def test_an_interpreter_costs_cycles_an_operator():
    machine = find_machine("stm32l4r5")
    found = pharos.predict("ds_cnn_s", on="stm32l4r5", precision="int8")
    count = sum(op.kernel.times for op in found.operations)
    assert found.latency.value - found.device_s == pytest.approx(200 * count / machine.clock_hz.value)


def test_threads_part_and_meet():
    """Of a kernel with next to no work, the launch: 59 us on 14 cores, 14.1 us less each time they halve."""
    machine = find_machine("intel_xeon_8380")
    for cores in (1, 7, 14, 28):
        found = pharos.predict("mlp(widths=[8, 8])", on=machine.but({"cores": float(cores)}, "test"))
        each = found.latency.value / sum(op.kernel.times for op in found.operations)
        assert each == pytest.approx(59e-6 + 14.1e-6 * np.log2(cores / 14), rel=0.02)


def test_activations_stay_in_a_cache_that_is_known():
    """Activations that fit come 2.5 times faster than from a memory without a cache; weights do not."""
    machine = find_machine("intel_xeon_8380")
    blind = replace(machine, cache_bytes=Known(value=None, evidence=machine.cache_bytes.evidence))
    work = Workload(batch=4)
    for model, faster in (("resnet18", True), ("mlp(widths=[4096, 4096, 4096])", False)):
        graph = find(model).graph(work)
        warm, cold = (predict(graph, m, work).data_s for m in (machine, blind))
        assert (warm < 0.8 * cold) is faster
        assert warm >= cold / 2.5


def test_fresh_pages_are_among_the_data_of_an_eager_call():
    eager, arena = (
        pharos.predict("resnet18", on="intel_xeon_8380", batch=32, runtime=r)
        for r in ("eager", "onnxruntime")
    )
    assert eager.data_s > 2 * arena.data_s
    assert any("first touch of a page" in e.where for e in eager.evidence)
    assert not any("first touch of a page" in e.where for e in arena.evidence)


def test_a_recurrence_on_a_gpu_pays_its_steps():
    short = pharos.predict("lstm_tagger", on="h100", context=100, runtime="cudagraph")
    long = pharos.predict("lstm_tagger", on="h100", context=1000, runtime="cudagraph")
    assert long.binding == "sequential-dependency"
    lstm = [next(op for op in e.operations if op.kernel.lead.kind == "lstm").time for e in (short, long)]
    assert lstm[1].serial_s == pytest.approx(10 * lstm[0].serial_s) == pytest.approx(1000 * 2.5e-6)


def test_the_page_is_what_the_table_says():
    page = runpy.run_path(str(ROOT / "benchmarks/runtimes.py"))["page"]()
    assert (ROOT / "docs/runtimes.md").read_text(encoding="utf-8") == page
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(block, {})
    for command, output in re.findall(r"```console\n\$ pharos (.*?)\n(.*?)\n```", page, re.S):
        found = subprocess.run(
            [sys.executable, "-m", "pharos", *command.split()], capture_output=True, text=True
        )
        assert (found.returncode, found.stderr.strip(), found.stdout) == (2, output, "")


def test_the_command_line_lists_them():
    from pharos.doors.cli.app import Runtime

    told = Runtime.__metadata__[0].help
    assert all(name in told for name in RUNTIMES)
