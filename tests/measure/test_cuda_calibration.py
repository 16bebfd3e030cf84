"""CUDA calibration on a simulated GPU, whose clock answers from known closed forms with noise."""

import json
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from pharos.graph.workload import Workload
from pharos.machines.calibration import find_calibration
from pharos.machines.machine import find_machine
from pharos.measure.calibrate import write
from pharos.measure.cuda import PER_CYCLE, Figures, calibrate_cuda, point_of
from pharos.measure.cuda_probes import cuda_probes
from pharos.models.registry import find
from pharos.predict.estimate import predict
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device
from pharos.report.calibrations import calibration_row, print_calibration

NOISE = 0.02
H100 = Figures(
    name="Simulated GPU", capability=(9, 0), units=132, clock_hz=1.98e9,
    peaks={d: r * 132 * 1.98e9 for d, r in PER_CYCLE[9, 0].items()}, bytes_per_s=3.35e12, cache_bytes=50e6,
    memory_bytes=80 * 10**9, max_W=700.0, tf32=True,
)  # fmt: skip
# Nothing of a fit's own start: launch, bandwidth, shares of the peak and caches are all another GPU's.
TRUE = {
    "gemm": {"launch_us": 3.1, "peak": 0.83, "bandwidth": 0.78, "tile_half": 20.0, "cache": 3.0},
    "stream": {"launch_us": 2.4, "bandwidth": 0.72, "write": 1.3, "cache": 2.0, "row_ns": 2.0},
    "prefill": {
        "launch_us": 8.0,
        "peak": 0.6,
        "bandwidth": 0.75,
        "wave": 1.0,
        "packs": 0,
        "rows": 128,
        "keys": 64,
    },
    "decode": {"launch_us": 7.0, "bandwidth": 0.8, "stream": 1.8, "resident": 2.0},
    "conv": {"launch_us": 5.0, "direct": 0.65, "bandwidth": 0.6, "winograd": 0},
    "gather": {"launch_us": 2.8, "bandwidth": 0.4},
}


class Simulated:
    """A GPU of a clock alone: each timing moves it by a tenth of a second."""

    def __init__(self, noise=NOISE, clocks=()):
        self.now, self.draw, self.noise, self.clocks = 0.0, np.random.default_rng(0), noise, iter(clocks)
        from pharos.facts.reading import Document
        from pharos.machines.machine import read_machine

        data = {"id": "s", "name": "s", "kind": "gpu", "cores": {"count": 132},
                "peaks": {"fp32": {"ops_per_s": H100.peaks["fp32"], "unit": "vector"}}}  # fmt: skip
        self.machine = read_machine(Document(data, "s", {}))

    def clock(self):
        return self.now

    def figures(self):
        return H100

    def exactly(self, graph):
        point = point_of(graph, 1.0, self.machine)
        form = FORMS[{"attention": point.phase, "gemm": "gemm", "pointwise": "gemm", "conv": "conv",
                      "grouped_conv": "conv", "gather": "gather"}.get(point.cost_class, "stream")]  # fmt: skip
        dtype = (
            "tf32"
            if point.cost_class in ("conv", "pointwise", "grouped_conv") and point.dtype == "fp32"
            else point.dtype
        )
        device = Device(
            units=132, ops_per_s=H100.peaks[dtype], bytes_per_s=H100.bytes_per_s, cache_bytes=50e6
        )
        sizes = {k: np.array([point.sizes[k]]) for k in form.sizes}
        return float(form.parts(form.start() | TRUE[form.name], sizes, device).total[0])

    def kernel_s(self, graph):
        self.now += 0.1
        return self.exactly(graph) * float(np.exp(self.draw.normal(0, self.noise))), next(self.clocks, 0.0)

    def host_s(self, graph):
        self.now += 0.05
        return 6e-6, 6e-6 + self.exactly(graph) + 9e-6

    def graph_s(self, graph):
        return 8e-6 + self.exactly(graph)

    def state(self):
        return {"clock_hz": 1.9e9, "power_W": 300.0, "celsius": 50.0}


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    bench = Simulated()
    found = calibrate_cuda(bench=bench, budget=60.0, force=True, clock=bench.clock)
    path = tmp_path_factory.mktemp("cuda") / "gpu.json"
    write(found, path)
    return bench, found, path


def test_the_file_is_a_calibration_like_any_other(calibrated):
    _, found, path = calibrated
    machine = find_machine(str(path))
    assert machine.kind == "gpu"
    assert machine.cores.value == 132
    assert machine.bandwidth_bytes_per_s.value == pytest.approx(3.35e12)
    assert {run.runtime for run in find_calibration(str(path)).runs} == {"eager", "compiled"}
    assert json.loads(path.read_text())["taken"]["gpu"]["name"] == "Simulated GPU"
    assert len(found.data["points"]) > 300


def test_operators_nobody_timed_are_predicted_within_the_noise(calibrated):
    """Shapes of another seed: the median of what is predicted is as near as the noise of the clock."""
    bench, _, path = calibrated
    machine = find_machine(str(path))
    off: dict[str, list[float]] = {}
    inside = []
    for _, graph in zip(range(330), cuda_probes(seed=7), strict=False):
        decodes = graph.name == "decode"
        work = Workload(phase="decode" if decodes else "forward")
        estimate = predict(graph, machine, work, runtime="compiled")
        (operation,) = estimate.operations
        true = bench.exactly(graph)
        error = abs(operation.time.latency_s / true - 1)
        off.setdefault(operation.kernel.lead.cost_class, []).append(error)
        inside.append(error <= 1.2816 * operation.time.error)
    medians = {name: float(np.median(errors)) for name, errors in off.items()}
    print({n: (round(float(np.mean(e)), 4), round(float(np.max(e)), 3)) for n, e in off.items()})
    assert set(medians) >= {"gemm", "attention", "conv", "norm", "softmax", "gather", "elementwise"}
    assert np.median(np.concatenate(list(off.values()))) < NOISE
    assert all(median < 3 * NOISE for name, median in medians.items() if len(off[name]) >= 10)
    assert np.mean(inside) > 0.75


def test_whole_networks_race_their_host(calibrated):
    """Eager: so many kernels at 6 us each, and the wait at the end; compiled: one launch."""
    _, _, path = calibrated
    machine = find_machine(str(path))
    graph = find("resnet18").graph()
    eager = predict(graph, machine, Workload(), runtime="eager")
    launches = sum(op.kernel.times for op in eager.operations)
    busy = sum(op.total_s for op in eager.operations)
    assert float(eager.latency.value) == pytest.approx(max(busy, 6e-6 * launches) + 9e-6, rel=0.02)
    compiled = predict(graph, machine, Workload(), runtime="compiled")
    busy = sum(op.total_s for op in compiled.operations)
    assert float(compiled.latency.value) == pytest.approx(busy + 8e-6, rel=0.02)


def test_every_class_is_timed_in_both_types():
    seen = {(g.name, g.precision.activations) for _, g in zip(range(250), cuda_probes(), strict=False)}
    for name in ("linear", "product", "conv", "norm", "softmax", "gather", "pointwise", "depthwise", "pool"):
        assert {(name, "bf16"), (name, "fp32")} <= seen, name


def test_a_moving_clock_spoils_a_probe_until_it_rests():
    bench = Simulated(clocks=[0.0] * 13 + [0.1, 0.1, 0.0] + [0.5] * 6)
    found = calibrate_cuda(bench=bench, budget=8.0, force=True, clock=bench.clock)
    assert found.data["taken"]["dropped"] == 2
    assert len(found.data["points"]) == found.data["taken"]["probes"] - 2


def test_what_is_shown_tells_types_and_phases_apart(calibrated):
    _, found, path = calibrated
    out = Console(width=80, file=StringIO(), no_color=True)
    print_calibration(out, found, str(path))
    told = out.file.getvalue()
    for label in ("gemm bf16", "gemm fp32", "attention bf16 decode", "attention bf16", "gather bf16"):
        assert any(line.startswith(f"{label} ") for line in told.splitlines()), label
    assert "6 µs to send a kernel off" in told
    assert "predict with --on here-cuda" in told
    assert {"gemm bf16", "conv fp32"} <= set(calibration_row(found, "")["runs"][0]["classes"])
