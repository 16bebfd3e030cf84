"""Closed forms of kernel time: hand arithmetic, one formula for numbers and arrays, more work never faster."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.predict.kernels import FORMS, evaluate
from pharos.predict.kernels.base import Device, Residual, joined, waves
from pharos.predict.kernels.cpu import CPU_FORMS

# 100 units of 1 TFLOP/s, 1 TB/s, 10 MB: numbers that a person can divide by.
DEVICE = Device(units=100, ops_per_s=100e12, bytes_per_s=1e12, cache_bytes=10e6)


def plain(form, **changes):
    """Constants of a form that lose nothing: no launch, no start, full rates, max() for a norm."""
    found = {k: 1e-9 if k.endswith(("_us", "_ns")) else 1.0 for k in FORMS[form].constants}
    found |= {k: options[0] for k, options in FORMS[form].switches.items()}
    return {
        **found,
        "sharpness": 60.0,
        "stream": 1e3,
        "cache": 1e3,
        "cache_stream": 1e3,
        "tile_half": 1e-9,
    } | changes


def gemm(batch=1, m=1024, n=1024, k=1024, element=2):
    return {"batch": batch, "m": m, "n": n, "k": k, "element": element,
            "read": element * batch * (m * k + k * n), "written": element * batch * m * n}  # fmt: skip


def conv(batch=8, size=28, c_in=64, c_out=64, taps=3, stride=1):
    return {"batch": batch, "out_h": size, "out_w": size, "c_in": c_in, "c_out": c_out, "groups": 1, "kh": taps, "kw": taps,
            "stride": stride, "element": 4, "read": 4.0 * (batch * c_in * size**2 + taps**2 * c_in * c_out),
            "written": 4.0 * batch * c_out * size**2}  # fmt: skip


def attention(batch=4, queries=1024, keys=1024, heads=16, kv_heads=4, width=128, window=2.0**40, causal=1):
    cached = 4.0 * batch * min(keys, window) * kv_heads * width
    return {"batch": batch, "queries": queries, "keys": keys, "heads": heads, "kv_heads": kv_heads, "width": width,
            "window": window, "causal": causal, "moved": cached + 4.0 * batch * queries * heads * width,
            "cached": cached}  # fmt: skip


STREAM = {"rows": 1000, "row": 1000, "read": 4e9, "written": 1e9, "work": 0.0}
GATHER = {"rows": 1000, "row": 100, "written": 1e5, "hits": 0.0}
CASES = {"gemm": gemm(), "conv": conv(), "prefill": attention(), "decode": attention(queries=1), "stream": STREAM,
         "gather": GATHER}  # fmt: skip


def recurrence(
    rows=16, steps=100, layers=1, directions=1, width=256, hidden=512, gates=4, halves=0, element=4
):
    macs = layers * directions * gates * hidden * rows * steps * width
    weights = element * layers * directions * gates * hidden * (width + hidden)
    return {"rows": rows, "steps": steps, "layers": layers, "directions": directions, "input": width, "hidden": hidden,
            "gates": gates, "small": 192, "halves": halves, "element": element, "work": 0.0, "products": macs,
            "moved": weights + element * rows * steps * (width + hidden)}  # fmt: skip


CASES["recurrence"] = recurrence()
# What the forms of a CPU ask for, each of some of it.
CPU = {"macs": 1e8, "inner": 64, "outer": 64, "rows": 1000, "ragged": 1, "weights": 1e4, "read": 1e6, "written": 1e6,
       "work": 1e-4, "steps": 10, "bulk": 1e7, "once": 1e4, "since": 1e6, "whole": 1e7, "batch": 4, "c_in": 64, "taps": 9, "groups": 1,
       "stride": 1, "wide": 28, "row": 64}  # fmt: skip
CASES |= {form.name: {k: CPU[k] for k in form.sizes} for form in CPU_FORMS}


def total(form, sizes, constants=None, device=DEVICE, residual=None):
    found = evaluate(FORMS[form], constants or FORMS[form].start(), residual, sizes, device)
    assert found is not None
    return found[0].total


def test_a_product_that_fills_every_wave():
    """2560 x 2560 outputs are 200 tiles of 256 x 128, two waves: 2 x 2560^2 x 4096 operations at 100 TFLOP/s."""
    sizes = gemm(m=2560, n=2560, k=4096)
    assert total("gemm", sizes, plain("gemm", wave=1e9)) == pytest.approx(
        2 * 2560**2 * 4096 / 100e12, rel=1e-3
    )


def test_one_tile_more_costs_a_wave():
    """With whole waves, 201 tiles of a kind take three rounds; 128 x 128 at k = 64 is 2.1 us on 1 TFLOP/s."""
    assert waves(np.array([100.0, 101.0, 200.0, 201.0]), 100, 1e12) == pytest.approx([1, 2, 2, 3])
    assert waves(np.array([50.0, 150.0]), 100, 1e-12) == pytest.approx([1, 1.5])


def test_a_product_with_one_row_streams_its_weights():
    """8192 x 8192 weights of 2 bytes are 134 MB: 134 us at 1 TB/s and two thirds of it."""
    took = total("gemm", gemm(m=1, n=8192, k=8192), plain("gemm", bandwidth=2 / 3))
    assert took == pytest.approx(8192 * 8192 * 2 / 1e12 * 1.5, rel=0.01)


def test_a_long_sum_is_split():
    """16 x 64 outputs over k = 65,536 are one tile; split 32 ways it takes less than a tenth of the time."""
    whole = (
        FORMS["gemm"].parts(plain("gemm", split_us=1e9), _columns(gemm(m=16, n=64, k=65536)), DEVICE).total[0]
    )
    assert total("gemm", gemm(m=16, n=64, k=65536), plain("gemm")) < whole / 10


def test_winograd_multiplies_less():
    """256 channels both ways on 56 x 56: 36 products for 16 outputs instead of 144, transforms at memory speed."""
    sizes = conv(batch=32, size=56, c_in=256, c_out=256)
    fast, slow = (total("conv", sizes, plain("conv", winograd=w, fused=0.01, wave=1e-9)) for w in (1, 0))
    assert slow == pytest.approx(2 * 32 * 56 * 56 * 256 * 256 * 9 / 100e12, rel=0.02)
    transforms = 2 * 4 * 36 * (32 * 14 * 14 * 512 + 256 * 256) / 1e12
    assert fast == pytest.approx(slow / 4 + transforms, rel=0.05)
    assert total("conv", conv(stride=2), plain("conv")) == total(
        "conv", conv(stride=2), plain("conv", winograd=0)
    )


def test_causal_attention_scores_half_the_pairs():
    """Blocks of 128 queries see 64 keys more than the diagonal leaves: (n + 1) / 2 of n blocks of keys."""
    long = attention(batch=64, queries=4096, keys=4096, kv_heads=16)
    whole = 4 * 64 * 16 * 4096 * 4096 * 128 / 100e12
    c = plain("prefill", wave=1e-9, chain=1e-9)
    assert total("prefill", long | {"causal": 0}, c) == pytest.approx(whole, rel=1e-3)
    assert total("prefill", long, c) == pytest.approx(whole * 33 / 64, rel=1e-3)


def test_a_window_bounds_attention():
    long = attention(queries=8192, keys=8192)
    assert total("prefill", long | {"window": 512}) < total("prefill", long) / 4
    assert total("decode", attention(queries=1, keys=8192, window=128)) == pytest.approx(
        total("decode", attention(queries=1, keys=128)), rel=1e-9
    )


def test_decode_streams_its_cache():
    """16 sequences of 8192 keys in 8 heads of 128: 537 MB of keys and values at 1 TB/s."""
    sizes = attention(batch=16, queries=1, keys=8192, kv_heads=8)
    assert total("decode", sizes, plain("decode")) == pytest.approx(sizes["moved"] / 1e12, rel=0.02)


def test_a_library_that_does_not_split_lone_heads_leaves_units_idle():
    lone = attention(batch=1, queries=1, keys=65536, heads=2, kv_heads=2)
    assert total("decode", lone, plain("decode", stream=1.0, split_alone=0)) > 20 * total("decode", lone, plain("decode", stream=1.0))  # fmt: skip


def test_a_stream_moves_its_bytes():
    """4 GB read and 1 GB written, a written byte worth two: 6 ms; within a cache ten times as fast, a tenth."""
    c = plain("stream", write=2.0, resident=1e-9, cache=10.0)
    assert total("stream", STREAM, c) == pytest.approx(6e-3, rel=1e-3)
    small = {"rows": 1, "row": 1000, "read": 4e6, "written": 1e6, "work": 0.0}
    assert total("stream", small, c | {"resident": 1.0}) == pytest.approx(6e-7, rel=1e-2)


def test_gathered_rows_cost_whole_sectors():
    """1000 rows of 100 bytes are 128 each; with all of them in a cache ten times as fast, a tenth of that."""
    c = plain("gather", cache=10.0)
    sizes = GATHER | {"rows": 1e6, "written": 0.0}
    assert total("gather", sizes, c) == pytest.approx(1e6 * 128 / 1e12, rel=1e-3)
    assert total("gather", sizes | {"hits": 1.0}, c) == pytest.approx(1e5 * 128 / 1e12, rel=1e-3)


def test_a_recurrence_by_hand():
    """A chain of steps: its own launches and weights from the cache, or one kernel that holds them in registers."""
    constants = plain("recurrence", step_us=6.0, sync_us=2.0, cache=2.0, launch_us=1e-9, held=0.01)
    # 1024 rows of a step are 32 x 64 tiles, more than units: 2 x 1024 x 4 x 512^2 at 100 TFLOP/s
    wide = total("recurrence", recurrence(rows=1024, steps=10), constants)
    inputs = 2 * 1024 * 10 * 2048 * 256 / 100e12
    assert wide == pytest.approx(10 * (6e-6 + 2 * 1024 * 2048 * 512 / 100e12) + inputs, rel=0.01)
    # 4 MiB of weights a step from the cache at 2 TB/s, from memory once the cache is smaller, and not at all in one kernel
    few = recurrence(rows=8, steps=1000)
    once = few["moved"] / 1e12
    assert total("recurrence", few, constants) == pytest.approx(1000 * (6e-6 + 2**22 / 2e12) + once, rel=0.01)
    small = Device(units=100, ops_per_s=100e12, bytes_per_s=1e12, cache_bytes=1e6)
    far = total("recurrence", few, constants, small)
    assert far == pytest.approx(1000 * (6e-6 + 2**22 / 1e12) + once, rel=0.01)
    held = total("recurrence", recurrence(rows=8, steps=1000, halves=1), constants | {"held": 0.5})
    assert held < 1000 * (2e-6 + 1e-6) + once
    # what PyTorch does not ask one kernel for: odd rows, two layers, more than 1024 hidden
    for other in ({"rows": 9}, {"layers": 2}, {"hidden": 1152}):
        steps = 1000 * other.get("layers", 1)
        assert (
            total("recurrence", recurrence(**{"rows": 8, "steps": 1000, "halves": 1} | other), constants)
            > steps * 6e-6
        )


@given(st.integers(1, 600), st.integers(1, 2000), st.integers(1, 4), st.integers(1, 2), st.integers(1, 2000))
def test_a_recurrence_is_never_faster_than_the_roofline(rows, steps, layers, directions, hidden):
    sizes = recurrence(rows=rows, steps=steps, layers=layers, directions=directions, hidden=hidden, halves=1)
    macs = sizes["products"] + layers * directions * 4 * hidden**2 * rows * steps
    found, _ = evaluate(FORMS["recurrence"], FORMS["recurrence"].start(), None, sizes, DEVICE)
    assert found.total >= max(2 * macs / DEVICE.ops_per_s, sizes["moved"] / DEVICE.bytes_per_s)
    assert found.total >= found.serial + found.fixed


@pytest.mark.parametrize("form", FORMS)
def test_arrays_give_what_numbers_give(form):
    sizes = CASES[form]
    factors = np.array([1.0, 2.0, 5.0])
    first = next(iter(sizes))
    many = evaluate(FORMS[form], FORMS[form].start(), None, sizes | {first: sizes[first] * factors}, DEVICE)
    for i, factor in enumerate(factors):
        one = evaluate(FORMS[form], FORMS[form].start(), None, sizes | {first: sizes[first] * factor}, DEVICE)
        assert many[0].total[i] == pytest.approx(one[0].total, rel=1e-12)
        assert many[1][i] == one[1]


def test_repeated_sizes_are_computed_once_and_alike(monkeypatch):
    batch = np.tile(np.arange(1.0, 301.0), 40)
    sizes = gemm(m=batch)
    calls = []
    parts = FORMS["gemm"].parts
    monkeypatch.setattr("pharos.predict.kernels.DEDUPLICATED", 256)
    counted = type(FORMS["gemm"])(name="gemm", sizes=FORMS["gemm"].sizes, constants=FORMS["gemm"].constants,
                                  features=FORMS["gemm"].features, switches=FORMS["gemm"].switches,
                                  parts=lambda c, s, d: calls.append(len(s["m"])) or parts(c, s, d))  # fmt: skip
    found, _ = evaluate(counted, counted.start(), None, sizes, DEVICE)
    assert calls == [300]
    assert found.total[:300] == pytest.approx(
        parts(counted.start(), _columns(gemm(m=batch[:300])), DEVICE).total
    )
    assert (found.total[300:600] == found.total[:300]).all()


def test_symbols_have_no_such_formula():
    import sympy

    assert evaluate(FORMS["gemm"], FORMS["gemm"].start(), None, gemm(m=sympy.Symbol("m")), DEVICE) is None


SIZE = st.integers(1, 4096)


@given(SIZE, SIZE, SIZE, st.sampled_from([2, 3, 8]))
def test_a_larger_product_is_no_faster(m, n, k, factor):
    """But for tiles: those of a larger product reach more units, and so more bandwidth; 5% is let through."""
    small, large = total("gemm", gemm(m=m, n=n, k=k)), total("gemm", gemm(m=m, n=n, k=k * factor))
    assert large >= 0.95 * small
    assert total("gemm", gemm(m=m * factor, n=n, k=k)) >= 0.95 * small


@given(st.sampled_from(sorted(FORMS)), st.floats(1.01, 20))
def test_more_bandwidth_or_rate_is_no_slower(form, factor):
    faster = Device(units=100, ops_per_s=100e12, bytes_per_s=1e12 * factor, cache_bytes=10e6)
    stronger = Device(units=100, ops_per_s=100e12 * factor, bytes_per_s=1e12, cache_bytes=10e6)
    usual = total(form, CASES[form])
    assert total(form, CASES[form], device=faster) <= usual * 1.000001
    assert total(form, CASES[form], device=stronger) <= usual * 1.000001


@given(st.integers(1, 64), st.integers(1, 8192), st.integers(2, 4))
def test_longer_attention_is_no_faster(batch, keys, factor):
    for form, queries in (("decode", 1), ("prefill", None)):
        one = attention(batch=batch, queries=queries or keys, keys=keys)
        more = attention(batch=batch, queries=queries or keys * factor, keys=keys * factor)
        assert total(form, more) >= 0.99 * total(form, one)


def test_the_norm_lies_between_largest_and_sum():
    assert joined(60.0, np.array([3.0]), np.array([4.0]))[0] == pytest.approx(4.0, rel=1e-2)
    assert joined(1.0, np.array([3.0]), np.array([4.0]))[0] == pytest.approx(7.0)
    assert joined(2.0, np.array([3.0]), np.array([4.0]))[0] == pytest.approx(5.0)


def test_a_residual_fades_away_from_its_points():
    near = Residual(points=np.zeros((1, 2)), scales=np.ones(2), weights=np.array([0.1]))
    assert near(np.zeros((1, 2)))[0] == pytest.approx(0.1)
    assert abs(near(np.full((1, 2), 50.0))[0]) < 1e-12
    wild = Residual(points=np.zeros((1, 2)), scales=np.ones(2), weights=np.array([9.0]))
    assert wild(np.zeros((1, 2)))[0] == wild.limit


def _columns(sizes):
    shape = np.broadcast_shapes(*[np.shape(v) for v in sizes.values()]) or (1,)
    return {k: np.broadcast_to(np.asarray(v, float), shape).reshape(-1) for k, v in sizes.items()}
