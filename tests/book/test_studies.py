"""Studies: arguments are read strictly, answers are numbers with reasons, and none is slow to ask."""

import json

import pytest
from typer.testing import CliRunner

from pharos.book.study import find_study, run_study, studies
from pharos.doors.cli.app import app
from pharos.quantity.errors import PharosError

run = CliRunner()
NAMES = sorted(studies())


@pytest.mark.parametrize("name", NAMES)
def test_every_study_answers_by_its_defaults(name):
    found = find_study(name)
    for kind, default in found.arguments().values():
        assert kind is not None
        assert default is not None or name in found.required
    if found.required:
        with pytest.raises(PharosError, match="needs"):
            run_study(name)
        return
    told = run_study(name)
    assert told.answer
    assert told.numbers
    assert told.evidence
    assert all(len(row) == len(told.columns) for row in told.rows)
    shown = run.invoke(app, ["study", name, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["numbers"].keys() == told.numbers.keys()


def test_mistakes_are_told():
    with pytest.raises(PharosError, match="did you mean parameter-sharing"):
        run_study("parameter-shering")
    with pytest.raises(PharosError, match="did you mean kernel"):
        run_study("parameter-sharing", kernal=3)
    with pytest.raises(PharosError, match="not a whole number"):
        run_study("parameter-sharing", kernel="2.5")
    with pytest.raises(PharosError, match="kernel"):
        run_study("parameter-sharing", kernel="three")
    shown = run.invoke(app, ["study", "parameter-sharing", "kernel"])
    assert shown.exit_code != 0


def test_parameter_sharing_by_hand():
    told = run_study("Parameter_Sharing", side="10", kernel=3, channels=2, outputs=4)
    assert told.numbers["dense_parameters"] == (100 * 2) * (100 * 4)
    assert told.numbers["local_parameters"] == 100 * 9 * 2 * 4
    assert told.numbers["shared_parameters"] == 9 * 2 * 4
    # 224 x 224 x 3 inputs of a unit against 3 x 3 x 3 weights of a filter
    assert run_study("parameter-sharing").numbers["per_unit_ratio"] == pytest.approx(150_528 / 27)


def test_scaling_by_hand():
    told = run_study("scaling", model="mlp(widths=(8, 16, 4))", size="widths", factor=2)
    (row,) = told.rows
    before, after = (8 * 16 + 16 + 16 * 4 + 4), (16 * 32 + 32 + 32 * 8 + 8)
    assert row[2] == pytest.approx(after / before)
    assert row[3] == pytest.approx(4)
    # n^2 d of the scores beside n d^2 of the products: between two and four times
    context = run_study("scaling", model="gpt2-small", size="context", factor="8").rows[0]
    assert 8 < context[3] < 64
    with pytest.raises(PharosError, match="did you mean resolution"):
        run_study("scaling", model="resnet18", size="resolutoin")
    with pytest.raises(PharosError, match="go together"):
        run_study("scaling", model="resnet18")


def test_crossover_batch_by_hand():
    """2 B n m FLOP over 2 (n m + B n + B m) bytes reaches the ridge r at B = r n m / (n m - r (n + m))."""
    n, ridge = 2048, 312e12 / 2039e9
    told = run_study("crossover-batch", on="a100-sxm-80gb")
    exact = ridge * n * n / (n * n - ridge * 2 * n)
    assert told.numbers["batch"] in (int(exact) + 1, int(exact) + 2)
    never = run_study("crossover-batch", inputs=784, outputs=100)
    assert never.numbers["batch"] is None
    assert never.numbers["intensity_limit"] == pytest.approx(784 * 100 / 884, rel=1e-3)
    assert never.answer.startswith("never")


def test_score_memory_by_hand():
    told = run_study("score-memory", tokens=4096, memory="33554432 B")
    assert told.numbers["score_bytes"] == 4096 * 4096 * 2
    assert told.numbers["longest_tokens"] == 4096
    assert told.numbers["fits"]
    assert not run_study("score-memory", tokens=4097, memory="33554432 B").numbers["fits"]
    whole = run_study("score-memory", tokens=100_000, heads=12, layers=32, memory="80 GB")
    assert whole.numbers["score_bytes"] == 100_000**2 * 12 * 32 * 2


def test_longest_sequence_by_hand():
    told = run_study("longest-sequence", memory="1 GB", weights="no")
    a_token = 2 * 48 * 1600 * 2
    assert told.numbers["attention, tiled, with a KV cache"] == int(1e9 // a_token)
    n = told.numbers["attention, scores written out"]
    assert 25 * n * n * 2 + a_token * n <= 1e9 < 25 * (n + 1) ** 2 * 2 + a_token * (n + 1)
    assert told.rows[2][1] == "any"
    assert run_study("longest-sequence", memory="1 GB").rows[1][1] == "0"


def test_replicas_by_hand():
    told = run_study("replicas", demand=10_000, utilisation=0.5, drop=3)
    rate = told.numbers["throughput_per_s"]
    assert told.numbers["replicas"] == -(-10_000 // (rate * 0.5))
    assert told.numbers["replicas_low"] <= told.numbers["replicas"] <= told.numbers["replicas_high"]
    assert told.numbers["replicas_after_drop"] == -(-30_000 // (rate * 0.5))
    priced = run_study("replicas", price_per_hour=2)
    assert priced.numbers["price_usd_per_hour"] == 2 * priced.numbers["replicas"]
    assert "price as given" in " ".join(e.where for e in priced.evidence)
    assert "price as given" not in " ".join(e.where for e in told.evidence)


def test_plausible_by_hand():
    told = run_study("plausible", model="gpt2-xl", context=1, precision="fp32")
    # 1.5576 G weights in fp32 at 2.039 TB/s
    assert told.numbers["bound_s"] == pytest.approx(1_557_611_200 * 4 / 2.039e12, rel=0.1)
    bound = told.numbers["bound_s"]
    assert (
        run_study("plausible", context=1, precision="fp32", latency=bound * 1.01).numbers["possible"] is True
    )
    false = run_study("plausible", context=1, precision="fp32", throughput=f"{1.1 / bound}/s")
    assert false.numbers["possible"] is False
    assert "cannot be true" in false.answer


def test_throughput_ceiling_by_hand():
    told = run_study("throughput-ceiling", rate="30/s", peak="10 TFLOP/s", utilisation=0.5)
    assert told.numbers["headroom"] == pytest.approx(5e12 / (30 * 2 * 4_089_184_256))
    assert told.rows[1][3] == pytest.approx(2 * told.rows[1][2])
    assert run_study("throughput-ceiling", model="vgg16", rate=1000, peak=10e12).answer.startswith(
        "does not fit"
    )


def test_tiling_by_hand():
    told = run_study("tiling", rows=512, columns=512, inner=512, cache="48 KiB", on="cortex-a53")
    assert told.numbers["tile"] == 64
    assert told.numbers["tile_bytes"] == 3 * 64 * 64 * 4 == 48 * 1024
    # each of 8 x 8 tiles of the product reads 512/64 pairs of tiles
    assert told.numbers["moved_bytes"] == 4 * (8 * 8 * 8 * 2 * 64 * 64 + 512 * 512)
    assert run_study("tiling", cache="96 KiB", precision="fp16").numbers["tile"] == 128
    with pytest.raises(PharosError, match="hold no three tiles"):
        run_study("tiling", cache=8, on="cortex-a53")


def test_critical_path_grows_with_the_tokens_for_a_recurrence_alone():
    rows = {r[0].split("(")[0]: r for r in run_study("critical-path", context=64).rows}
    assert rows["sequence_rnn"][1] >= 64
    assert rows["sequence_rnn"][3] == pytest.approx(2, rel=0.05)
    assert rows["transformer-base"][3] == rows["resnet50"][3] == 1


def test_systolic_by_counting_cycles():
    """A 2 x 2 array whose weights stay, cycle by cycle: the last sum leaves after n + 2 + 2 - 2 steps."""
    n, rows, columns = 5, 2, 2
    last = max(i + r + c for i in range(n) for r in range(rows) for c in range(columns))
    told = run_study("systolic", batch=n, inputs=2, outputs=2, rows=2, columns=2, clock="1 kHz")
    assert told.numbers["cycles"] == rows + last + 1
    assert told.numbers["utilisation"] == pytest.approx(n * 4 / ((rows + last + 1) * 4))
    tpu = run_study("systolic").numbers
    assert tpu["macs_per_cycle"] == 65_536
    assert tpu["peak_flops_per_s"] == pytest.approx(92e12, rel=0.01)


def test_the_spectrum_turns_round_with_the_batch():
    told = run_study("intensity-spectrum", model="resnet50", batch=1, precision="fp16").numbers
    assert told["early"] > told["late"]
    assert told["early_at_32x"] < told["late_at_32x"]
    # the last layer at batch 1: 2 FLOP a weight of 2 bytes, and little else
    assert told["least"] == pytest.approx(1, abs=0.01)
