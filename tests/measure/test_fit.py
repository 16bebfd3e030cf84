"""Fit: known constants come back, bands hold what they say, equal shapes fall on one side."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.measure.fit import Rows, bucket, conformal, fit, spread
from pharos.predict.kernels import FORMS
from pharos.predict.kernels.base import Device
from pharos.quantity.evidence import Z80

DEVICE = Device(units=108, ops_per_s=312e12, bytes_per_s=2.039e12, cache_bytes=40e6)


def made(noise, count=400, seed=0):
    """Products of many shapes with the times of known constants and a log-normal noise."""
    draw = np.random.default_rng(seed)
    m, n, k = (2.0 ** np.round(draw.uniform(3, 13, count), 1) // 1 for _ in range(3))
    sizes = {"batch": np.ones(count), "m": m, "n": n, "k": k, "element": np.full(count, 2.0),
             "read": 2 * (m * k + k * n), "written": 2 * m * n}  # fmt: skip
    true = FORMS["gemm"].start() | {"launch_us": 4.0, "peak": 0.8, "bandwidth": 0.7}
    seconds = FORMS["gemm"].parts(true, sizes, DEVICE).total * np.exp(draw.normal(0, noise, count))
    return Rows(sizes=sizes, seconds=seconds)


def test_known_constants_come_back():
    found = fit(FORMS["gemm"], made(0.02), DEVICE, residual=False, switches=False)
    assert found.constants["launch_us"] == pytest.approx(4.0, rel=0.1)
    assert found.constants["bandwidth"] == pytest.approx(0.7, rel=0.1)
    assert found.mape < 0.03
    assert found.errors["all"] == pytest.approx(0.02, rel=0.4)


def test_a_residual_learns_what_the_form_cannot():
    """Times that double for one size of k: the closed form cannot know, neighbours can."""
    rows = made(0.01)
    odd = rows.sizes["k"] > 1000
    rows = Rows(
        sizes=rows.sizes, seconds=rows.seconds * np.where(odd, 1.3, 1.0) * (rows.sizes["n"] / 500) ** 0.05
    )
    without = fit(FORMS["gemm"], rows, DEVICE, residual=False, switches=False)
    with_it = fit(FORMS["gemm"], rows, DEVICE, switches=False)
    assert with_it.mape < 0.8 * without.mape


def test_bands_hold_four_in_five_of_rows_nobody_fitted():
    found = fit(FORMS["gemm"], made(0.1, 300), DEVICE, switches=False)
    fresh = made(0.1, 2000, seed=1)
    off = np.abs(np.log(fresh.seconds / found.predict(fresh.sizes, DEVICE)))
    assert 0.72 < np.mean(off <= Z80 * found.errors["all"]) < 0.88


@given(st.integers(30, 400), st.sampled_from(["normal", "laplace", "uniform"]))
def test_conformal_bands_hold_whatever_the_shape_of_the_errors(count, kind):
    draw = np.random.default_rng(count)
    errors = getattr(draw, kind)(size=count)
    held = np.mean(np.abs(errors) <= Z80 * conformal(errors) + 1e-12)
    assert 0.8 <= held <= 0.8 + 2 / count + 0.01


def test_equal_shapes_fall_on_one_side():
    sizes = np.array([1.0, 2.0, 1.0, 3.0, 2.0]), np.array([5.0, 5.0, 5.0, 5.0, 5.0])
    found = bucket(*sizes)
    assert found[0] == found[2]
    assert found[1] == found[4]
    assert len(set(found)) == 3
    many = bucket(np.arange(5000.0))
    assert 0.45 < np.mean(many < 500) < 0.55


def test_points_are_spread():
    line = np.arange(100.0)[:, None]
    found = sorted(spread(line, 3))
    assert found[0] == 0
    assert found[-1] == 99
    assert len(spread(line[:2], 3)) == 2


def test_a_mislabelled_row_does_not_bend_a_fit():
    rows = made(0.02)
    seconds = rows.seconds.copy()
    seconds[::20] *= 30
    found = fit(
        FORMS["gemm"], Rows(sizes=rows.sizes, seconds=seconds), DEVICE, residual=False, switches=False
    )
    assert found.constants["bandwidth"] == pytest.approx(0.7, rel=0.15)
    assert found.median < 0.05
