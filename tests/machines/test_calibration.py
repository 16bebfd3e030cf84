"""Calibration: a machine that obeys the forms is found out, its file is read back, and bad files are told."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.calibration import find_calibration
from pharos.machines.machine import find_machine
from pharos.machines.profile import profile_of
from pharos.measure import calibrate as module
from pharos.measure.calibrate import Found, Taken, Timed, calibrate, host_of, timed_of, write
from pharos.measure.here import Noise, here
from pharos.measure.probes import probes
from pharos.measure.pulse import Beat, Pulse
from pharos.models.registry import find, names
from pharos.passes.fuse import around, kernels
from pharos.passes.heap import fresh_pages
from pharos.predict.estimate import predict
from pharos.predict.kernel import TRANSCENDENTAL_FLOPS
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device
from pharos.predict.kernels.shapes import sizes_of
from pharos.quantity.errors import InputError, PharosError, UnknownName

PEAK, MEMORY = 1e11, 2e10


OBEYED = {"launch_us": 8.0, "peak": 0.7, "far": 0.5}


def told(form):
    """Constants of the machine."""
    return {**form.start(), **{k: v for k, v in OBEYED.items() if k in form.constants}}


def cache(threads):
    """Bytes of the nearest large cache that so many threads have."""
    machine = here()
    return float(machine.caches.get("L2", 2**20)) * threads / max(machine.cores, 1)


USUAL, ROUNDS = Beat(4e-5, 1e-5), 5


def obeying(count_of=60, runtime="eager", threads=1):
    """What is measured on a machine whose kernels take what the forms say, with 2% of noise; it runs at other
    speeds for a while, which its pulse tells."""
    rng = np.random.default_rng(0)
    taken = Taken(runtime, threads, PEAK, MEMORY, 5e-7, Pulse(threads, [], ()))
    device = Device(units=threads, ops_per_s=PEAK, bytes_per_s=MEMORY, cache_bytes=cache(threads))
    for _, graph in zip(range(count_of), probes(1), strict=False):
        counted = count(graph)
        slow = np.exp(np.abs(rng.normal(0, 0.3, ROUNDS)) * rng.choice((0, 0, 1)))
        beats = [Beat(USUAL.alone * s**2, USUAL.together * s) for s in slow]
        taken.pulse.taken += beats
        pieces = {line.name: [1.0] * ROUNDS for line in counted.lines}
        apart, found = 0.0, timed_of(graph.name, counted, pieces, beats, taken)
        for each in found:
            form = FORMS[module._FORMS.get(each.cost_class, "cpu_stream")]
            columns = {k: np.array([v]) for k, v in each.sizes.items()}
            seconds = float(form.parts(told(form), columns, device).total[0]) * rng.lognormal(0, 0.02)
            each.seconds[:] = seconds * slow
            apart += seconds
        taken.timed += found
        whole = (apart + 1e-5 + 3e-6 * len(found)) * slow
        sizes = {"kernels": len(found), "views": 0.0}
        taken.calls.append(Timed(graph.name, "call", runtime, sizes, [*whole], beats))
    taken.settle()
    return taken


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    machine, quiet = here(), Noise(0.0, 0.0)
    taken = [obeying(threads=n) for n in (1, 2)]
    runs = [module._fitted(t, machine) for t in taken]
    data = module._data(machine, quiet, quiet, runs, taken, 60, 90.0, 1)
    path = tmp_path_factory.mktemp("calibration") / "machine.json"
    write(Found(data, quiet, quiet), path)
    return path


def test_probes_are_drawn_again_alike_and_are_no_network_of_the_catalogue():
    first = [g for _, g in zip(range(22), probes(5), strict=False)]
    again = [g for _, g in zip(range(22), probes(5), strict=False)]
    assert [count(g).macs for g in first] == [count(g).macs for g in again]
    assert len({g.name for g in first}) == 22
    assert not {g.name for g in first} & set(names())


def test_what_a_machine_obeys_is_found(file):
    """Networks that were not among the probes, against the forms that made the times."""
    machine = find_machine(str(file), 1)
    device = Device(units=1, ops_per_s=PEAK, bytes_per_s=MEMORY, cache_bytes=cache(1))
    for name in ("resnet18", "mobilenet_v2", "vit_b_16", "lstm_tagger"):
        graph = find(name).graph(Workload())
        expected = 1e-5 + sum(fresh_pages(graph).values()) * 5e-7
        launched = kernels(count(graph), fused=False)
        for kernel, beside in zip(launched, around(launched), strict=True):
            form = FORMS[module._FORMS.get(kernel.lead.cost_class, "cpu_stream")]
            scalar = kernel.work.vector_flops + TRANSCENDENTAL_FLOPS * kernel.work.transcendentals
            sizes = sizes_of(form.name, kernel, PEAK, scalar, beside)
            columns = {k: np.array([float(v)]) for k, v in sizes.items()}
            expected += kernel.times * (float(form.parts(told(form), columns, device).total[0]) + 3e-6)
        estimate = predict(graph, machine, Workload(), runtime="eager")
        assert estimate.latency.value == pytest.approx(expected, rel=0.15), name
        # the figure comes of a fit to what was measured, and says so
        assert {e.kind.value for e in estimate.latency.evidence} >= {"fitted", "measured"}


def test_a_prediction_at_a_slower_pace(file):
    """A machine whose pulse takes twice as long on all cores, four times on one, takes twice as long."""
    graph, calibration = find("resnet18").graph(Workload()), find_calibration(str(file))
    pace = calibration.pace("eager", 1, (4 * USUAL.alone, 2 * USUAL.together))
    assert pace == pytest.approx((4, 2), rel=0.01)
    machine = calibration.at(1)
    usual = predict(graph, machine, Workload(), runtime="eager").latency.value
    slow = predict(graph, replace(machine, pace=pace), Workload(), runtime="eager").latency.value
    assert slow == pytest.approx(2 * usual, rel=0.1)
    assert calibration.pace("compiled", 1, (1.0, 1.0)) == ()


def test_threads_and_runtimes_are_those_calibrated(file):
    machine = find_machine(str(file))
    assert machine.cores.value == 2
    assert machine.peaks["fp32"].ops_per_s.value == PEAK
    assert (
        profile_of(machine, "eager").curves("elementwise", "fp32", "forward", "relu")[0].form == "cpu_stream"
    )
    with pytest.raises(InputError, match="calibrated: 1, 2"):
        find_machine(str(file), 3)
    with pytest.raises(UnknownName, match="onnxruntime"):
        predict(find("mlp").graph(Workload()), machine, Workload(), runtime="onnxruntime")


def test_time_between_kernels():
    whole = [
        (n, v, 1e-5 + 2e-6 * n + 1e-6 * v + 1e-3, 1e-3)
        for n, v in ((5, 1), (50, 4), (9, 30), (100, 0), (20, 10))
    ]
    host = host_of(whole)
    assert (host["call_s"], host["kernel_s"], host["view_s"]) == pytest.approx((1e-5, 2e-6, 1e-6), rel=1e-6)
    # what timing a kernel alone adds to it comes off again; neither a call nor a view takes less than nothing
    host = host_of([(n, 0, 1e-3 - 1e-6 * n, 1e-3) for n in (5, 60, 700)])
    assert host == pytest.approx({"call_s": 0, "kernel_s": -1e-6, "view_s": 0}, rel=1e-6)
    # but no more than that can
    host = host_of([(n, 0, 1e-3 - 2e-5 * n + 3e-4, 1e-3) for n in (5, 10, 20)])
    assert host["kernel_s"] == pytest.approx(-6e-6)
    assert host["call_s"] > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(schema="other"), "is no calibration"),
        (lambda d: d.pop("runs"), "damaged"),
        (lambda d: d.update(runs=[]), "holds no runs"),
        (lambda d: d["runs"][0].update(classes=[1]), "damaged"),
        (lambda d: d["runs"][0].update(threads="many"), "damaged"),
        (lambda d: d["machine"].pop("kind"), "kind"),
    ],
)
def test_a_bad_file_is_told(file, tmp_path, change, says):
    data = json.loads(file.read_text())
    data["points"] = []
    change(data)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(data))
    with pytest.raises(PharosError, match=says):
        find_calibration(str(bad))


def test_not_calibrated_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("PHAROS_DATA", str(tmp_path))
    with pytest.raises(InputError, match="pharos calibrate"):
        find_machine("here")


def test_a_busy_machine_is_refused(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(module, "noise", lambda _seconds: Noise(0.9, 0.5))
    with pytest.raises(InputError, match="too busy"):
        calibrate(budget=1.0)
    with pytest.raises(UnknownName):
        calibrate(budget=1.0, runtimes=["tflite"])
    with pytest.raises(InputError, match="cores"):
        calibrate(budget=1.0, threads=[10_000])


def test_a_failed_write_leaves_the_old_file(file, tmp_path):
    old = tmp_path / "here.json"
    old.write_text("old")
    broken = Found({"it": object()}, Noise(0, 0), Noise(0, 0))
    with pytest.raises(TypeError):
        write(broken, old)
    assert old.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["here.json"]


def test_this_machine_for_real(tmp_path):
    """A short one: every probe kind once; a prediction is made with it."""
    pytest.importorskip("torch")
    found = calibrate(budget=2.0, threads=[1], runtimes=["eager"], force=True, seed=3)
    path = tmp_path / "here.json"
    write(found, path)
    estimate = predict(find("mobilenet_v2").graph(Workload()), find_machine(str(path)), Workload())
    assert 1e-4 < estimate.latency.value < 10
    assert found.data["points"]
    assert not list(tmp_path.glob("*.part"))
