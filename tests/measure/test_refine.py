"""Refine: what was measured since makes a calibration nearer to such networks, and never worse unsaid."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest

from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.measure import calibrate as module
from pharos.measure.calibrate import Found, Taken, write
from pharos.measure.here import Noise, here
from pharos.measure.points import points_of
from pharos.measure.probes import probes
from pharos.measure.pulse import Beat, Pulse
from pharos.measure.reasons import Alone, reason
from pharos.measure.refine import refine
from pharos.measure.store import keep
from pharos.models.registry import find
from pharos.passes.fuse import around, kernels
from pharos.predict.estimate import predict
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device
from pharos.quantity.errors import InputError

PEAK, MEMORY = 1e11, 2e10
USUAL = (4e-5, 2e-5)
NETWORKS = ("resnet18", "mobilenet_v2", "squeezenet1_1", "ds_cnn_s", "lenet5")
# Convolutions of real networks take so many times longer than those of the probes.
SLOWER = 1.5
# A run's part of a file, as far as sizes ask for it.
RUN = {"runtime": "eager", "threads": 1, "ops_per_s": PEAK,
       "classes": {c: [{"form": module._FORMS.get(c, "cpu_stream")}]
                   for c in ("conv", "pointwise", "depthwise", "gemm", "elementwise", "attention", "recurrence")}}  # fmt: skip


def seconds_of(cost_class, sizes):
    """What the machine takes, exactly."""
    form = FORMS[module._FORMS.get(cost_class, "cpu_stream")]
    machine = here()
    cache = float(machine.caches.get("L2", 2**20)) / max(machine.cores, 1)
    device = Device(units=1, ops_per_s=PEAK, bytes_per_s=MEMORY, cache_bytes=cache)
    columns = {k: np.array([sizes[k]]) for k in form.sizes}
    return float(form.parts(form.start(), columns, device).total[0])


def points(graph):
    """Kernels of a graph with their exact times."""
    counted = count(graph)
    return [
        (c, kind, sizes, seconds_of(c, sizes))
        for c, kind, sizes, _ in points_of(counted, {line.name: 1.0 for line in counted.lines}, RUN)
    ]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A calibration of the machine of forms, and a store of networks whose convolutions are slower there."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("refine")
    taken = Taken("eager", 1, PEAK, MEMORY, 0.0, Pulse(1, [Beat(*USUAL)], ()))
    for _, graph in zip(range(40), probes(1), strict=False):
        found = [(c, k, s, t * rng.lognormal(0, 0.02)) for c, k, s, t in points(graph)]
        taken.points += [module.Point(graph.name, *p) for p in found]
        apart = sum(p[3] for p in found)
        taken.whole.append((len(found), 0, apart + 1e-5, apart))
    quiet, machine = Noise(0.0, 0.0), here()
    data = module._data(machine, quiet, quiet, [module._fitted(taken, machine)], [taken], 40, 90.0, 1)
    path = folder / "calibration.json"
    write(Found(data, quiet, quiet), path)
    kept = folder / "m.sqlite"
    for name in NETWORKS:
        store_run(name, kept, rng)
    return path, kept


def store_run(name, kept, rng, **changes):
    """A network as measured at half the usual speed, which its pulse tells."""
    graph = find(name).graph(Workload())
    counted = count(graph)
    rows = []
    ours = kernels(counted, fused=False)
    timed = points(graph)
    assert len(timed) == len(ours)
    for kernel, (cost_class, _, _, seconds) in zip(ours, timed, strict=True):
        slower = SLOWER if cost_class in ("conv", "pointwise") else 1.0
        rows.append({"name": kernel.name, "kind": kernel.lead.kind, "cost_class": cost_class, "sizes": {},
                     "seconds": 2 * slower * seconds * rng.lognormal(0, 0.02)})  # fmt: skip
    pace = 2 ** (1 / sum(module.EXPECTED))
    run = {"taken_at": "2026-01-01T00:00:00+00:00", "model": name, "runtime": "eager", "threads": 1,
           "workload": {"batch": 1, "precision": "fp32"}, "machine": asdict(here()), "median_s": 1.0,
           "low_s": 1.0, "high_s": 1.0, "samples": 7, "quiet": 1, "peak_bytes": None, "energy_J": None,
           "pulse_s": [pace * u for u in USUAL]}  # fmt: skip
    keep(run | changes, rows, kept, graph)


@pytest.fixture(scope="module")
def refined(calibrated):
    return refine(calibrated[0], kept=calibrated[1])


def test_classes_that_were_off_are_nearer_on_networks_left_out(refined):
    changes = {c.cost_class: c for c in refined.changes}
    for name in ("conv", "pointwise"):
        # log 1.5 is 0.41
        assert changes[name].before == pytest.approx(np.log(SLOWER), abs=0.12)
        assert changes[name].after < 0.6 * changes[name].before
        assert not changes[name].kept
    assert refined.by == {("eager", 1): "networks"}
    assert set(refined.networks["eager", 1]) == set(NETWORKS)


def test_a_curve_that_gains_nothing_stays_as_it_was(calibrated, refined):
    before = json.loads(calibrated[0].read_text())
    for change in refined.changes:
        assert change.kept == (change.after >= change.before)
        if change.kept:
            name = change.cost_class
            assert refined.found.data["runs"][0]["classes"][name] == before["runs"][0]["classes"][name]


def test_a_network_nobody_measured_is_predicted_better(calibrated, refined, tmp_path):
    new = tmp_path / "refined.json"
    write(refined.found, new)
    graph = find("resnet34").graph(Workload())
    true = 1e-5 + sum(
        k.times * t * (SLOWER if c in ("conv", "pointwise") else 1.0)
        for k, (c, _, _, t) in zip(kernels(count(graph), fused=False), points(graph), strict=True)
    )
    off = [
        abs(predict(graph, find_machine(str(path)), Workload(), runtime="eager").latency.value / true - 1)
        for path in (calibrated[0], new)
    ]
    assert off[1] < 0.5 * off[0]


def test_refining_again_starts_from_the_calibrations_own_points(calibrated, refined, tmp_path):
    new = tmp_path / "refined.json"
    write(refined.found, new)
    again = refine(new, kept=calibrated[1])
    assert again.found.data["runs"] == refined.found.data["runs"]
    assert len(again.found.data["points"]) == len(refined.found.data["points"])


def test_runs_that_say_nothing_are_left_out_with_the_reason(calibrated, tmp_path):
    path, kept = calibrated[0], tmp_path / "m.sqlite"
    rng = np.random.default_rng(1)
    store_run("lenet5", kept, rng, quiet=0)
    store_run("lenet5", kept, rng, machine={"cpu": "another"})
    store_run("lenet5", kept, rng, threads=2)
    store_run("lenet5", kept, rng, machine=asdict(replace(here(), versions={"torch": "1.0"})))
    with pytest.raises(InputError) as told:
        refine(path, kept=kept)
    for why in (
        "while the machine was busy",
        "of another machine",
        "with 2 threads",
        "another version of torch",
    ):
        assert why in str(told.value)
    found = refine(path, kept=kept, noisy=True)
    # one network alone: shapes are left out, and it is said
    assert found.by == {("eager", 1): "shapes"}


def test_a_refinement_may_be_killed_at_any_moment(calibrated, tmp_path):
    """The calibration is the old one or the new one, whole, whenever the writer dies."""
    path = tmp_path / "calibration.json"
    path.write_bytes(calibrated[0].read_bytes())
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom pharos.measure.calibrate import Found, write\n"
        "from pharos.measure.here import Noise\npath = Path(sys.argv[1])\ndata = json.loads(path.read_text())\n"
        "n = Noise(0.0, None)\nprint('.', flush=True)\n"
        "while True: write(Found(data, n, n), path)\n"
    )
    for wait in (0.0, 0.03, 0.1):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=os.environ
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert find_machine(str(path), 1).cores.value == 1


@pytest.fixture(scope="module")
def estimate(calibrated):
    machine = find_machine(str(calibrated[0]), 1)
    return predict(find("resnet18").graph(Workload()), machine, Workload(), runtime="eager")


def operation(estimate, name):
    return next(o for o in estimate.operations if o.kernel.name == name)


def test_reasons_come_with_their_figures(estimate):
    one = operation(estimate, "layer1.0.conv1")
    predicted = one.time.latency_s
    assert reason(one, predicted, estimate) == ""
    assert "±40%" in reason(one, 2 * predicted, estimate, spread=0.4)
    cold = reason(one, 2 * predicted, estimate, by_itself=Alone(predicted))
    assert cold.startswith("cold: ")
    assert "147 kB of weights" in cold
    shared = reason(one, 2 * predicted, estimate, threads=2, by_itself=Alone(2 * predicted, 2 * predicted))
    assert shared.startswith("threads share it badly: 2 are 1.00x as fast as one")
    alike = reason(one, 2 * predicted, estimate, by_itself=Alone(2 * predicted))
    assert "the curve is off for this shape" in alike
    assert "GFLOP/s" in alike
    assert "layout copy" in reason(one, 2 * predicted, estimate, copied=True)


def test_a_shape_beyond_what_was_calibrated_is_said(calibrated):
    machine = find_machine(str(calibrated[0]), 1)
    graph = find("vgg16").graph(Workload())
    found = predict(graph, machine, Workload(), runtime="eager")
    one = operation(found, "classifier.0")
    told = reason(one, 3 * one.time.latency_s, found)
    assert told.startswith("above what was calibrated")
    assert around([one.kernel])
