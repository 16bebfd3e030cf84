"""Labs that count and time: what they compute by hand formulas, verdicts on made-up numbers, all in a small run."""

import json
import math
import os
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pharos.book import timed
from pharos.book.chapter import claims
from pharos.book.lab import find_lab, run_lab
from pharos.book.labs import (
    access_patterns,
    alignment,
    batch_size,
    convolution_algorithms,
    energy,
    intensity,
    kv_cache,
    quadratic_wall,
    quantisation,
)
from pharos.book.timed import Span
from pharos.measure.meters import EnergyMeter
from pharos.measure.timing import Timing
from pharos.plan.collectives import find_collective, run
from pharos.report.labs import outcome_row, print_outcome

torch = pytest.importorskip("torch")
NAMES = ("quadratic-wall", "intensity", "convolution-algorithms", "access-patterns", "alignment", "batch-size",
         "quantisation", "energy", "kv-cache")  # fmt: skip


def steady(seconds, rounds=9):
    """A timing without noise."""
    return Timing((seconds,) * rounds)


@pytest.fixture(scope="module")
def outcomes():
    """Every lab of this file, run small, once."""
    root = str(Path(__file__).parents[2] / "src")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([root, before or ""])
    found = {}
    try:
        for name in NAMES:
            if name == "quantisation":
                pytest.importorskip("onnxruntime")
                pytest.importorskip("onnx")
            most = find_lab(name).most
            found[name] = run_lab(name, 2 if most > 1 else None, seed=1, small=True)
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_lab_holds_and_is_told_in_full(outcomes, name):
    outcome = outcomes[name]
    assert [c for c in outcome.checks if not c.holds] == []
    assert outcome.findings
    for finding in outcome.findings:
        assert finding.expected
        assert finding.found
        assert re.fullmatch(r"1\.\d+", finding.section)
    assert {c for f in outcome.findings for c in f.claims} == set(find_lab(name).claims)
    row = json.loads(json.dumps(outcome_row(outcome), allow_nan=False))
    assert len(row["rows"]) == len(outcome.rows) > 1


@pytest.mark.parametrize("name", NAMES)
def test_its_claims_are_the_ledgers(name):
    assert set(find_lab(name).claims) <= set(claims())


@pytest.mark.parametrize("name", NAMES)
def test_its_table_fits_eighty_columns(outcomes, name):
    console = Console(width=80, record=True, file=StringIO(), color_system=None)
    print_outcome(console, outcomes[name])
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_its_picture_is_a_vega_lite_chart(outcomes, name):
    pytest.importorskip("altair")
    figure = outcomes[name].figure
    assert figure.alt
    assert json.dumps(figure.themed(), allow_nan=False)


@pytest.mark.parametrize("name", ["kv-cache", "energy"])
def test_the_same_seed_gives_the_same_but_for_times(outcomes, name):
    first, again = outcomes[name], run_lab(name, seed=1, small=True)
    kept = [i for i, column in enumerate(first.columns) if column != "ms"]
    assert [[r[i] for i in kept] for r in again.rows] == [[r[i] for i in kept] for r in first.rows]
    assert again.checks == first.checks


def test_a_ratio_is_of_rounds():
    slow, fast = Timing((2.0, 4.0, 8.0)), Timing((1.0, 2.0, 4.0))
    # the machine got four times slower, the ratio stayed
    assert timed.ratio(slow, fast) == Span(2.0, 2 / 1.03, 2 * 1.03)
    assert timed.ratio(slow, fast, less=fast).value == 1.0
    noisy = timed.ratio(Timing((1.0, 2.0, 3.0, 4.0)), Timing((1.0,) * 4))
    assert noisy.low < 2 < 3 < noisy.high


def test_verdicts_on_made_up_figures():
    sure, wide = Span(2.0, 1.9, 2.1), Span(2.0, 1.0, 4.0)
    assert timed.above(sure, 1.5) == timed.below(sure, 2.5) == timed.within(sure, 1, 3) == "agrees"
    assert timed.above(sure, 2.5) == timed.below(sure, 1.5) == timed.within(sure, 3, 4) == "contradicts"
    assert timed.above(wide, 2.5) == timed.below(wide, 1.5) == timed.within(wide, 1.5, 3) == "cannot tell"
    assert timed.every(["agrees", "agrees"]) == "agrees"
    assert timed.every(["agrees", "cannot tell"]) == timed.every(["agrees", "contradicts"]) == "partly"
    assert timed.every(["cannot tell", "cannot tell"]) == "cannot tell"


def test_where_curves_cross():
    xs = [1.0, 2.0, 4.0, 8.0]
    assert timed.crossing(xs, [1, 4, 16, 64], [8, 8, 8, 8]) == pytest.approx(math.sqrt(8))
    assert timed.crossing(xs, [1, 1, 1, 1], [2, 2, 2, 2]) is None
    assert timed.crossing(xs, [3, 3, 3, 3], [2, 2, 2, 2]) == 1.0
    assert timed.power(xs, [1, 8, 64, 512]) == pytest.approx(3)


def test_bytes_of_attention_by_hand(outcomes):
    for form, n, allocated, predicted, per_byte, _ in outcomes["quadratic-wall"].rows:
        inputs, heads, width = 3 * 4 * n * 256, 4, 256
        if form == "stored":
            # scores and probabilities at once
            assert predicted * 1e6 == inputs + 2 * 4 * heads * n * n
            assert allocated == predicted
            assert per_byte == pytest.approx(4 * n * n * width / (16 * n * width + 16 * heads * n * n))
        elif form == "tiled":
            assert predicted * 1e6 == inputs + 4 * n * 256
            assert per_byte == pytest.approx(4 * n * n * width / (16 * n * width))


def test_a_window_is_what_a_mask_says():
    q, k, v = (torch.randn(1, 2, 23, 4, dtype=torch.float64) for _ in range(3))
    found = quadratic_wall.windowed(torch, q, k, v, span=5)
    scores = q @ k.transpose(-1, -2)
    apart = torch.arange(23)[:, None] - torch.arange(23)[None]
    scores = scores.masked_fill((apart < 0) | (apart >= 5), -math.inf)
    torch.testing.assert_close(found, scores.softmax(-1) @ v)


def test_sparse_attention_by_hand(outcomes):
    n, found = 128, outcomes["quadratic-wall"].data["sparse"]
    full = n * (n + 1) / 2
    assert found["window"]["macs_share"] == pytest.approx(sum(min(i, 64) for i in range(1, n + 1)) / full)
    strided = sum(1 for p in range(n) for s in range(p + 1) if p - s < 32 or (p - s) % 32 == 0)
    assert found["strided"]["macs_share"] == pytest.approx(strided / full)
    # of 128 keys 64 are left, and are made by products with a 64 x 128 matrix, of keys and of values
    assert found["low rank"]["macs_share"] == pytest.approx(1 / 2 + 1 / 2)
    assert all(one["error"] > 0 for name, one in found.items() if name != "blocks")


def test_verdicts_on_attention():
    crossed = {f"{f} beyond {p}": n for f in ("stored", "tiled")
               for p, n in (("projections", 500.0), ("projections and feed-forward", 1600.0))}  # fmt: skip
    assert quadratic_wall.outgrown(crossed) == "agrees"
    assert quadratic_wall.outgrown(dict.fromkeys(crossed, 100.0)) == "partly"
    assert quadratic_wall.outgrown(dict.fromkeys(crossed)) == "contradicts"
    assert quadratic_wall.growth({"stored": 2.0, "tiled": 1.0, "window": 1.0}) == "agrees"
    assert quadratic_wall.growth({"stored": 1.0, "tiled": 2.0, "window": 2.0}) == "contradicts"
    slow, level = Span(3.0, 2.9, 3.1), Span(1.0, 0.9, 1.1)
    assert quadratic_wall.regime(slow, level) == "partly"
    assert quadratic_wall.regime(slow, slow) == "agrees"
    assert quadratic_wall.regime(level, level) == "contradicts"


def test_convolutions_by_hand(outcomes):
    rows = {r[0]: r for r in outcomes["convolution-algorithms"].rows}
    channels, side = convolution_algorithms.FEW[0]
    macs, plane = 9 * channels**2 * side**2, 4 * channels * side**2
    assert rows["direct"][2] * 1e6 == rows["im2col"][2] * 1e6 == pytest.approx(macs)
    assert rows["winograd2"][2] * 1e6 == pytest.approx(macs * 16 / 36)
    assert rows["winograd4"][2] * 1e6 == pytest.approx(macs / 4)
    assert rows["im2col"][4] * 1e6 == rows["im2col"][5] * 1e6 == pytest.approx(9 * plane)
    assert rows["im2col"][3] * 1e6 == pytest.approx(2 * plane + 36 * channels**2 + 18 * plane)
    data = outcomes["convolution-algorithms"].data["error_fp16"]
    # fp16 has eleven bits
    assert 2**-14 < data["direct"] < 2**-10 < data["winograd4"]


def test_verdicts_on_convolutions():
    even = {"direct": 1e-4, "im2col": 1e-4, "winograd2": 1.5e-4, "winograd4": 1.9e-4}
    worse, useless = (
        even | {"winograd2": 1e-3, "winograd4": 9e-3},
        even | {"winograd2": 2e-2, "winograd4": math.nan},
    )
    assert convolution_algorithms.unsuitable(even, even) == "contradicts"
    assert convolution_algorithms.unsuitable(worse, worse) == "partly"
    assert convolution_algorithms.unsuitable(even, useless) == "agrees"
    assert convolution_algorithms.unsuitable(even, even | {"winograd4": math.nan}) == "partly"
    assert convolution_algorithms.doubling([2.1]) == "agrees"
    assert convolution_algorithms.doubling([9.0, 2.0]) == "contradicts"
    assert convolution_algorithms.below_or_equal(Span(1.0, 0.95, 1.05)) == "agrees"
    assert convolution_algorithms.below_or_equal(Span(2.0, 1.9, 2.1)) == "contradicts"


def test_intensities_by_hand(outcomes):
    rows = {r[0]: r for r in outcomes["intensity"].rows}
    for batch in (1, 8):
        wanted = 2 * batch * 128**2 / (4 * (128**2 + 2 * batch * 128))
        assert rows[f"dense, batch {batch}"][1] == pytest.approx(wanted)
    assert rows["depthwise 3x3"][1] == pytest.approx(18 * 196 * 16 / (4 * (2 * 196 * 16 + 9 * 16)))
    assert all(r[4] == pytest.approx(r[2] / r[3]) for r in rows.values())


def test_verdicts_on_intensity():
    # a row costs 8 alone and 1 in a crowd: half the rate where it costs 2
    dense = {str(b): steady(max(8.0, b)) for b in (1, 2, 4, 8, 16)}
    assert intensity.reached((1, 2, 4, 8, 16), dense) == pytest.approx(4)
    assert intensity.near_ridge(4, ridge=2) == "agrees"
    assert intensity.near_ridge(40, ridge=2) == intensity.near_ridge(None, ridge=2) == "contradicts"
    pairs = {("a", "b"): {"eager": {"a": steady(2.0), "b": steady(1.0)}}}
    assert intensity.reversed_anywhere(pairs) == "agrees"
    assert intensity.reversed_anywhere({("b", "a"): pairs["a", "b"]}) == "contradicts"
    assert intensity.all_below([Span(3, 2, 4), Span(5, 4, 6)], 14) == "agrees"
    assert intensity.all_below([Span(3, 2, 4), Span(15, 14.5, 16)], 14) == "partly"


@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_movements_are_the_planners(n):
    assert access_patterns.whole(n, 4_000_000) % (32 * n) == 0
    for name, algorithm in access_patterns.MOVES.items():
        size = access_patterns.whole(n, 4_000_000)
        moved = run(find_collective(name), algorithm, n, size)
        assert access_patterns.planned(n)[name] == round(moved.total())
    made = access_patterns.schedules(n)
    assert len(made["reduce, chain"][0]) == n - 1
    assert len(made["reduce, tree"][0]) == math.ceil(math.log2(n))


@pytest.mark.parametrize("rows", [7, 100, 4096])
def test_ids_are_spread_over_the_whole_table(rows):
    factor = access_patterns.spread(rows)
    assert sorted(np.arange(rows) * factor % rows) == list(range(rows))
    ids = access_patterns.drawn_ids(rows, 20_000, 1.0, 0)
    # the most wanted row by the harmonic sum
    assert np.bincount(ids, minlength=rows).max() / 20_000 == pytest.approx(
        1 / sum(1 / i for i in range(1, rows + 1)), rel=0.1
    )


def test_verdicts_on_access():
    lines = {"in a row": steady(1.0), "a page apart": steady(2.0), "at random": steady(4.0)}
    assert access_patterns.ranking(lines) == "agrees"
    assert access_patterns.ranking(lines | {"at random": steady(1.0)}) == "partly"
    assert access_patterns.random_slower(Span(19, 16, 22), Span(3, 2, 4)) == "agrees"
    assert access_patterns.random_slower(Span(5, 4, 6), Span(3, 2, 4)) == "contradicts"
    assert access_patterns.stalls(120) == "agrees"
    assert access_patterns.stalls(60) == "cannot tell"


def test_verdicts_on_alignment():
    times = {"63": steady(63**2), "64": steady(64**2), "65": steady(2 * 65**2)}
    assert alignment.per_flop(times, 63, 64).value == pytest.approx(1)
    assert alignment.per_flop(times, 65, 64).value == pytest.approx(2)
    slow, level = Span(2.0, 1.9, 2.1), Span(1.0, 0.97, 1.03)
    assert alignment.slower([slow, slow, level]) == "agrees"
    assert alignment.slower([slow, level, level]) == "partly"
    assert alignment.slower([level]) == "contradicts"


def test_verdicts_on_batches(outcomes):
    flat = {str(b): steady(1.0) for b in (1, 2, 4, 8)}
    assert batch_size.gained((1, 2, 4, 8), flat).value == pytest.approx(8)
    assert batch_size.doubled((1, 2, 4, 8), flat) is None
    assert batch_size.knee((1, 2, 4, 8), flat) == pytest.approx(4)
    linear = {str(b): steady(float(b)) for b in (1, 2, 4, 8)}
    assert batch_size.doubled((1, 2, 4, 8), linear) == pytest.approx(2)
    gains = {"MLP": Span(10, 9, 11), "CNN": Span(3, 2, 4)}
    assert batch_size.most(gains, "MLP") == "agrees"
    assert batch_size.most(gains, "CNN") == "contradicts"
    for row in outcomes["batch-size"].rows:
        assert row[3] == pytest.approx(1e3 * row[1] / row[2])


def test_verdicts_on_quantisation(outcomes):
    assert quantisation.fourfold([4.0, 3.9]) == "agrees"
    assert quantisation.fourfold([4.0, 2.0]) == "partly"

    def one(after, samples=500):
        return quantisation.Quantised(size=(4, 1), accuracy=(0.95, after), agreement=1 - 2 * (0.95 - after),
                                      cosine=1, apart=0, samples=samples, times={})  # fmt: skip

    kept, lost = one(0.945), one(0.80)
    # two hundredths of the samples changed their class, of five hundred
    assert quantisation.lost(one(0.94)).high == pytest.approx(0.01 + 2 * math.sqrt(0.02 / 500))
    assert quantisation.little_lost({"a": one(0.94, 20)}) == "cannot tell"
    assert quantisation.little_lost({"a": kept}) == "agrees"
    assert quantisation.little_lost({"a": lost}) == "contradicts"
    assert quantisation.little_lost({"a": kept, "b": lost}) == "partly"
    rows = {(r[0], r[1]): r for r in outcomes["quantisation"].rows}
    assert rows["DS-CNN", "fp32"][3] == pytest.approx(4 * rows["DS-CNN", "int8"][3])
    # a file holds its weights, and its graph beside them
    assert all(r[2] > r[3] for r in rows.values())
    assert all(0.9 < cosine <= 1 for cosine in outcomes["quantisation"].data["cosine"].values())


def test_energy_by_hand(outcomes):
    rows = {r[0]: r for r in outcomes["energy"].rows}
    macs = 784 * 4096 + 4096 * 4096 + 4096 * 10
    assert rows["mlp"][1] == pytest.approx(4.6e-6 * macs)
    assert rows["mlp"][3] > 0.99
    # attention over N tokens stores N^2 scores, written and read, and probabilities likewise
    tokens = energy.TOKENS
    assert rows["attention, stored"][2] == pytest.approx(640e-6 * (4 * tokens**2 + 4 * tokens * 64))
    assert rows["attention, tiled"][2] == pytest.approx(640e-6 * 4 * tokens * 64)
    assert energy.dearest({"dense, batch 1": 2.0, "attention, stored": 1.0}) == "contradicts"
    assert energy.dearest({"dense, batch 1": 2.0, "attention, stored": 3.0}) == "agrees"
    assert energy.quadratic((4, 3.9), (4, 2)) == "partly"
    assert energy.doubles(2.1) == "agrees"
    assert energy.doubles(3.9) == "contradicts"
    assert energy.by_movement(None) == "cannot tell"
    assert energy.by_movement(energy.Measured({1: 3.0, 256: 1.0}, {})) == "agrees"
    assert energy.by_movement(energy.Measured({1: 1.0, 256: 1.0}, {})) == "contradicts"


def test_energy_is_measured_where_a_counter_is():
    class Meter:
        exists = True

        def joules(self, call):
            call()
            return 3.0

    setting = type("S", (), {"small": True, "seed": 0})()
    found = energy.measure(setting, Meter())
    assert set(found.joules_per_flop) == {1, 256}
    assert all(j > 0 for j in found.joules_per_flop.values())
    assert found.watts[1] == pytest.approx(3.0 / 0.05, rel=0.5)
    assert not EnergyMeter(Path("/nowhere")).exists
    assert energy.measure(setting, EnergyMeter(Path("/nowhere"))) is None


def test_the_cache_by_hand(outcomes):
    sizes = kv_cache.LITTLE
    for how, n, megabytes, *_ in outcomes["kv-cache"].rows:
        wanted = 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * n * 4 if how == "with cache" else 0
        assert megabytes * 1e6 == pytest.approx(wanted)
    assert kv_cache.linear((2, 4), (1.0, 2.0)) == "agrees"
    assert kv_cache.linear((2, 4), (1.0, 4.0)) == "contradicts"
    assert kv_cache.flat(steady(1.0), steady(1.1), 16)[1] == "agrees"
    assert kv_cache.flat(steady(1.0), steady(16.0), 16)[1] == "contradicts"
    assert kv_cache.one_each([0.9, 1.1]) == "agrees"
    assert kv_cache.one_each([0.1, 0.2]) == "contradicts"
