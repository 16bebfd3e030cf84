"""Measuring: samples by a clock of our own, this machine's description, and real runs of small models."""

import json
import os
from pathlib import Path

import pytest

from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.measure import timing
from pharos.measure.here import here, noise
from pharos.measure.measure import measure, operator_rows, row
from pharos.measure.meters import EnergyMeter, peak_resident
from pharos.measure.runs import runnable
from pharos.measure.unique import Between, compose
from pharos.models.registry import find
from pharos.passes.fuse import kernels
from pharos.quantity.errors import PharosError


class Clock:
    """A clock that only calls move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", made)
    return made


def test_short_calls_are_taken_many_at_a_time(clock):
    def short():
        clock.now += 1e-6

    def long():
        clock.now += 0.01

    found = timing.interleaved({"short": short, "long": long}, seconds=1.0)
    assert found["short"].median == pytest.approx(1e-6)
    assert found["short"].calls >= 100
    assert found["long"].calls == 1
    # equal samples are known at once
    assert len(found["long"].samples) == 7


def test_it_goes_on_until_the_median_is_known_or_the_time_is_up(clock):
    order = iter([0.01, 0.02, 0.03, 0.02] * 1000)

    def uneven():
        clock.now += next(order)

    found = timing.interleaved({"x": uneven}, seconds=2.0, most=10_000)["x"]
    assert 0.9 <= sum(found.samples) / 2.0 <= 1.1 or found.uncertainty <= 0.01
    assert found.median == pytest.approx(0.02, rel=0.1)
    assert found.share(0.1) <= found.median <= found.share(0.9)
    assert found.best == pytest.approx(0.01)
    told = []
    timing.interleaved({"x": uneven}, seconds=0.5, tick=told.append)
    assert told == sorted(told)
    assert told[-1] <= 1.0


def test_this_machine_is_described():
    found = here()
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.memory_bytes == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.versions["python"]
    if "avx2" in Path("/proc/cpuinfo").read_text():
        assert found.flop_per_cycle is not None
        assert found.flop_per_cycle >= 32
    busy = noise(0.05)
    assert 0 <= busy.others <= 1
    assert str(busy)


def test_resident_memory_of_a_call():
    rise = peak_resident(lambda: bytearray(64_000_000))
    assert rise is None or 60_000_000 <= rise <= 90_000_000


def test_energy_counters_are_read_and_wrap(tmp_path):
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("1000000")
    (zone / "energy_uj").write_text("900000")
    (tmp_path / "intel-rapl:0:0").mkdir()
    meter = EnergyMeter(tmp_path)
    assert meter.exists
    assert meter.joules(lambda: (zone / "energy_uj").write_text("100000")) == pytest.approx(0.2)
    assert EnergyMeter(tmp_path / "none").joules(lambda: None) is None


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_a_small_model_is_run_whole_and_by_operator(runtime):
    pytest.importorskip("torch" if runtime == "eager" else "onnxruntime")
    graph = find("ds_cnn_s").graph()
    found = measure(graph, Workload(), model="ds_cnn_s", runtime=runtime, threads=1, seconds=0.2)
    assert found.timing.median > 0
    assert found.operators
    names = {line.name for line in count(graph).lines}
    assert {o.name for o in found.operators} <= names
    assert [o.seconds for o in found.operators] == sorted((o.seconds for o in found.operators), reverse=True)
    assert json.dumps(row(found))
    rows = operator_rows(found, count(graph))
    assert sum(r["seconds"] for r in rows) > 0
    convolutions = [r for r in rows if r["kind"] == "conv2d"]
    assert convolutions
    assert all(r["sizes"]["macs"] > 0 for r in convolutions)


def test_repeated_layers_are_folded_and_unique_operators_timed_once():
    pytest.importorskip("torch")
    graph = find("gpt2-small").graph(Workload(context=4))
    found = measure(
        graph, Workload(context=4), model="gpt2", threads=1, seconds=0.1, unique=True, whole=False
    )
    layers = [o for o in found.operators if o.kind == "attention"]
    assert [o.times for o in layers] == [12]
    assert found.composed is not None
    assert found.composed.kernels_s == pytest.approx(sum(o.seconds for o in found.operators), rel=1e-6)


@pytest.mark.parametrize("runtime", ["eager", "onnxruntime"])
def test_the_whole_is_composed_of_every_kernel(runtime):
    """Each kernel of the graph has a time, as often as it runs, and what is between is added."""
    pytest.importorskip("torch" if runtime == "eager" else "onnxruntime")
    graph = find("resnet18").graph()
    counted = count(graph)
    between = Between(call_s=1e-3, kernel_s=1e-4, view_s=1e-5, known="a test")
    found = compose(graph, counted, runtime, 1, 0.05, between=between)
    ours = kernels(counted, fused=runtime == "onnxruntime")
    assert set(found.pieces) == {k.name for k in ours}
    assert all(seconds > 0 for seconds in found.pieces.values())
    assert found.launches == sum(k.times for k in ours)
    # ResNet-18 repeats its shapes within a stage: 3x3 of stride 1 in layer1 are one and the same
    assert found.distinct < found.launches
    assert found.pieces["layer1.0.conv1"] == found.pieces["layer1.1.conv1"] or runtime == "onnxruntime"
    views = sum(line.times for line in counted.lines if line.cost_class == "view")
    assert found.between_s == pytest.approx(1e-3 + 1e-4 * found.launches + 1e-5 * views)
    assert found.total_s == pytest.approx(sum(found.pieces[k.name] * k.times for k in ours) + found.between_s)


def test_a_host_that_is_slower_than_its_device_binds():
    between = Between(host_s=1e-5, call_s=2e-6)
    assert between.around(busy_s=1e-3, launches=10, views=0) == pytest.approx(2e-6)
    assert between.around(busy_s=1e-5, launches=10, views=0) == pytest.approx(9e-5 + 2e-6)


def test_mistakes_are_told():
    with pytest.raises(PharosError, match="did you mean eager"), runnable(find("mlp").graph(), "eagre", 1):
        pass
