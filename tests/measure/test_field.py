"""Field trials: they say what is missing, cut rows by shape, and count nothing that was fitted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pharos.measure.fit import Rows

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def field():
    """The modules of benchmarks/field."""
    sys.path.insert(0, str(ROOT / "benchmarks/field"))
    import kernels
    import read
    import trial

    yield read, kernels, trial
    sys.path.remove(str(ROOT / "benchmarks/field"))


def test_absent_data_is_told_and_nothing_written(tmp_path):
    before = (ROOT / "docs/accuracy.md").read_bytes()
    found = subprocess.run([sys.executable, str(ROOT / "benchmarks/field"), "--data", str(tmp_path / "none")],
                           capture_output=True, text=True, check=False)  # fmt: skip
    assert found.returncode == 0
    assert "no field data" in found.stdout
    assert (ROOT / "docs/accuracy.md").read_bytes() == before


def test_no_counted_row_was_fitted(field):
    read, _, _ = field
    draw = np.random.default_rng(0)
    sizes = {"m": draw.integers(1, 30, 3000).astype(float), "n": draw.integers(1, 30, 3000).astype(float)}
    fitted, counted = read.halves(Rows(sizes=sizes, seconds=np.ones(3000)), budget=500)
    mine = {(m, n) for m, n in zip(*fitted.sizes.values(), strict=True)}
    theirs = {(m, n) for m, n in zip(*counted.sizes.values(), strict=True)}
    assert len(fitted) == 500
    assert not mine & theirs
    assert 0.4 < len(counted) / 3000 < 0.6


def test_a_folder_of_one_source_is_read_and_tried(field, tmp_path):
    """Products of a made-up A100 that follow a roofline: calibration is near, the plain roofline is what was added away."""
    _, kernels, trial = field
    draw = np.random.default_rng(1)
    lines = ["gpu,dtype,m,k,n,time(us)"]
    for _ in range(400):
        m, k, n = (int(2 ** draw.uniform(6, 12)) for _ in range(3))
        micro = 40 + 1e6 * max(2 * m * n * k / 80e12, 2 * (m * k + k * n + m * n) / 0.7e12)
        lines.append(f"V100,half,{m},{k},{n},{micro}")
    (tmp_path / "apex_plus").mkdir()
    (tmp_path / "apex_plus/v100_gemm_fp16_sample.csv").write_text("\n".join(lines))
    (case,) = kernels.cases(tmp_path)
    found = trial.trial(case)
    assert case.device == "v100_pcie"
    assert found.calibrated.mean < 0.05
    assert found.simple.mean < 0.02 < found.roofline.mean
    assert len(found.worst) == 3


def test_collectives_that_follow_their_form_are_found_again(tmp_path):
    """Made-up all-reduces over PCIe: latency and bandwidth, and some noise; counted sizes were never fitted."""
    sys.path.insert(0, str(ROOT / "benchmarks/field"))
    import collectives

    sys.path.remove(str(ROOT / "benchmarks/field"))
    draw = np.random.default_rng(2)
    lines = ["gpu,num_nodes,num_gpus_per_node,dtype,size(kb),time(us),collective"]
    for n in (2, 4, 8):
        for size in np.unique((2 ** draw.uniform(0, 18, 60)).astype(int)):
            micro = 15 + 3 * (n - 1) + 1e6 * 2 * (n - 1) / n * 1024 * size / 12e9
            lines.append(
                f"V100-PCIE-16GB,1,{n},half,{size},{micro * np.exp(draw.normal(0, 0.01))},all_reduce"
            )
    (tmp_path / "apex_plus").mkdir()
    (tmp_path / "apex_plus/collectives.csv").write_text("\n".join(lines))
    (found,) = collectives.results(tmp_path)
    assert found.group.link == "pcie-3"
    assert found.fitted.rows + found.count == len(lines) - 1
    assert found.all.mean < 0.03
    # the ideal of the form is at 15.75 GB/s
    assert 0.7 < found.fitted.constants["rate"] < 0.82
