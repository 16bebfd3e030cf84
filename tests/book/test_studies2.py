"""Studies of causes, choices, access, parallelism and fits, each against another way to the same figure."""

import pytest

from pharos.book.study import run_study
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.training import training
from pharos.quantity.errors import PharosError


def test_bottleneck_flips_with_its_counters():
    told = run_study("bottleneck").numbers
    assert told["cause"] is None

    def cause(**given):
        return run_study("bottleneck", **given).numbers["cause"]

    assert cause(utilisation=0.7, moved="400 GB/s") == "compute"
    # 500 tokens/s that each read 3.1 GB: 1.55 of 2.039 TB/s
    told = run_study("bottleneck", utilisation=0.01, rate=500, weights="3.1 GB").numbers
    assert told["share_of_bandwidth"] == pytest.approx(500 * 3.1e9 / 2.039e12)
    assert (told["cause"], told["lighthouse"]) == ("memory-bandwidth", "gpt2-xl")
    assert cause(utilisation=0.02, moved="100 GB/s") == "latency"
    low = {"utilisation": 0.02, "moved": "100 GB/s", "before": "1 ms"}
    assert cause(**low, after="2 ms") == "sequential-dependency"
    assert cause(**low, after="1 ms", grown="batch") == "latency"
    assert run_study("bottleneck", **low, after="4 ms").numbers["growth_exponent"] == pytest.approx(2)
    assert cause(**low, after="4 ms") == "quadratic-attention"
    assert cause(utilisation=0.02, moved="100 GB/s", tables="100 GB", random=0.9) == "memory-capacity"
    assert cause(utilisation=0.4, moved="900 GB/s", power="399 W") == "power"
    assert "bytes a second" in run_study("bottleneck", utilisation=0.1).reasons[0]
    with pytest.raises(PharosError, match="from 0 to 1"):
        run_study("bottleneck", utilisation=70)


def test_norm_choice_by_its_batch():
    import numpy as np

    def chosen(**given):
        return run_study("norm-choice", **given).numbers["chosen"][0]

    assert chosen() == chosen(batch=16) == "batch norm"
    assert chosen(batch=4) == chosen(batch=64, varies="yes") == chosen(batch=8) == "group norm"
    assert chosen(use="transformer") == chosen(use="rnn", batch=64) == chosen(use="decode") == "layer norm"
    one = run_study("norm-choice", batch=1, positions=1)
    x = np.random.default_rng(0).standard_normal((1, 5))
    assert one.numbers["output_is_beta"]
    assert np.allclose((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 0)
    assert not run_study("norm-choice", batch=1, positions=4).numbers["output_is_beta"]
    wrong = run_study("norm-choice", serving="train")
    assert wrong.numbers["mode_mismatch"]
    assert "depends on what else" in wrong.answer
    rows = {r[0]: r for r in run_study("norm-choice", batch=2, channels=4, positions=3).rows}
    # in and out once, beside weight and bias of 4, and running statistics of 4 for batch norm
    assert rows["layer"][6] == 4 * (2 * 24 + 8)
    assert rows["batch"][6] == 4 * (2 * 24 + 16)
    with pytest.raises(PharosError, match="did you mean vision"):
        run_study("norm-choice", use="visoin")


def test_depth_rule_by_layers_and_by_network():
    def needs(layers):
        return run_study("depth-rule", layers=layers).numbers["needs"]

    assert [needs(n) for n in (19, 20, 100, 101)] == [
        "nothing",
        "skips",
        "skips",
        "skips and normalisation before each activation",
    ]
    assert run_study("depth-rule", model="vgg16").numbers["needs"] == "nothing"
    resnet = run_study("depth-rule", model="resnet50").numbers
    assert (resnet["layers"], resnet["skips"], resnet["has_them"]) == (50, 16, True)
    assert not run_study("depth-rule", model="plain34").numbers["has_them"]
    assert run_study("depth-rule", model="resnet152_v2").numbers["has_them"]
    assert not run_study("depth-rule", model="resnet152").numbers["has_them"]


def test_equivariance_need_by_task():
    told = run_study("equivariance-need").numbers
    assert not told["equivariant_throughout"]
    assert told["head_bytes"] == 2048 * 4
    kept = run_study("equivariance-need", task="segmentation").numbers
    assert kept["head_bytes"] == 49 * 2048 * 4
    assert kept["after_stride_bytes"] == 16 * 2048 * 4
    assert not told["layer_is_equivariant"]
    assert run_study("equivariance-need", stride=2, shift=2).numbers["layer_is_equivariant"]


def test_access_patterns_are_told_apart():
    from pharos.book.addresses import lru_hits, pattern

    assert pattern(list(range(100)), 16) == ("sequential", 0)
    assert pattern([0, 1, 2, 3] * 5, 16) == ("sequential", 0)
    assert pattern([7 * i for i in range(50)], 16) == ("strided", 7)
    assert pattern([(i * i * 7919) % 10007 for i in range(1, 80)], 16) == ("random", 0)
    # four elements a line, two lines: 0 and 4 miss, 1 hits, 8 drops line 1, 0 hits, 4 misses again
    assert lru_hits([0, 4, 1, 8, 0, 4], 4, 2) == 2


def test_access_pattern_by_hand():
    told = run_study("access-pattern", side=28, kernel=3, cache="1 MB")
    # 26 x 26 windows of 9 reads over 784 elements of 4 bytes: 49 lines of 64, each missed once
    assert told.numbers["pattern"] == "strided"
    assert told.numbers["stride_bytes"] == 28 * 4
    assert told.numbers["uses"] == pytest.approx(26 * 26 * 9 / 784)
    assert told.numbers["most_uses"] == 9
    assert told.numbers["lines"] == 49
    assert told.numbers["hit_share"] == pytest.approx(1 - 49 / (26 * 26 * 9))
    rows = {(r[0], r[1]): r for r in told.rows}
    assert rows["rows", "weights"][2] == "sequential"
    assert rows["columns", "weights"][2:4] == ("strided", 32 * 4)
    assert rows["lookups", "table"][2] == "random"
    assert rows["window", "weights"][4] == 26 * 26
    # a column of 128 rows takes 128 lines, more than 16 that are held: nothing hits
    small = {(r[0], r[1]): r for r in run_study("access-pattern", cache="1 KiB").rows}
    assert small["columns", "weights"][7] == 0
    assert small["rows", "weights"][7] == pytest.approx(15 / 16)
    random = run_study("access-pattern", access="lookups", width=4, latency="500 ns").numbers
    assert random["useful_bytes_per_s"] == pytest.approx(64 / 500e-9 * random["useful_share_of_fetched"])
    assert (
        run_study("access-pattern", access="lookups", on="cortex-a53").numbers["useful_bytes_per_s"] is None
    )


def test_working_set_by_hand():
    told = run_study("working-set").numbers
    # 784 x 100 weights and 100 biases, 784 in, 100 out, in fp32
    assert told["working_set_bytes"] == 4 * (784 * 100 + 100 + 784 + 100)
    assert told["scratchpad_bytes"] == 108 * 164 * 1024
    assert told["cache_bytes"] == 40 * 2**20
    assert told["level"] == "registers"
    large = run_study("working-set", inputs=2896, outputs=2896).numbers
    assert large["level"] == "cache"
    assert run_study("working-set", inputs=4096, outputs=4096).numbers["level"] == "main memory"
    tiny = run_study("working-set", on="stm32h743_cortex_m7")
    assert tiny.numbers["cache_bytes"] is None
    assert tiny.numbers["level"] == "main memory"
    whole = run_study("working-set", of="network", model="llama-2-70b", context=8, precision="fp16")
    assert whole.numbers["level"] is None


def test_parallelism_by_hand():
    told = run_study("parallelism", models="lstm_tagger,resnet50", devices=8, batch=64, micro_batches=8)
    rnn, cnn = (told.numbers[m]["ways"] for m in ("lstm_tagger", "resnet50"))
    # fp16 gradients of 25,557,032 parameters in a ring of eight
    assert cnn["data"]["sent_bytes"] == pytest.approx(2 * 7 / 8 * 2 * 25_557_032, rel=1e-6)
    assert not rnn["data"]["one_sample"]
    assert told.numbers["lstm_tagger"]["steps_in_a_row"] >= 128
    assert rnn["data"]["speedup"] < 2 < cnn["data"]["speedup"] <= 8
    assert rnn["tensor"]["speedup"] < 1
    assert "sequence" in rnn
    assert "sequence" not in cnn
    assert "table" not in cnn
    tables = run_study("parallelism", models="dlrm-mlperf", devices=8, batch=2048).numbers["dlrm-mlperf"][
        "ways"
    ]
    assert tables["table"]["speedup"] > tables["data"]["speedup"]
    # 26 results of 128 fp16 numbers for 2048 samples: an eighth on each device, 7/8 of it sent, twice
    dense = run_study("parallelism", models="dlrm-mlperf", devices=2, batch=2048, micro_batches=2)
    assert dense.numbers["dlrm-mlperf"]["ways"]["table"]["sent_bytes"] > 26 * 128 * 2 * 2048 / 2 / 2 * 2
    assert dense.numbers["dlrm-mlperf"]["fits_one_device"] is False
    experts = run_study("parallelism", models="mixtral-8x7b", batch=8, micro_batches=8, context=64)
    ways = experts.numbers["mixtral-8x7b"]["ways"]
    assert ways["expert"]["speedup"] > ways["data"]["speedup"]
    with pytest.raises(PharosError, match="share evenly"):
        run_study("parallelism", batch=30)


def test_production_profile_by_family():
    found = run_study("production-profile", context=1024).numbers
    assert found["mlp"]["steps"] == found["mlp"]["memory"] == "O(1)"
    assert found["cnn"]["memory"] == "O(H W)"
    assert found["rnn"]["steps"] == "O(S)"
    assert found["rnn"]["kept"] == found["ssm"]["kept"] == "O(1)"
    assert (found["transformer"]["steps"], found["transformer"]["memory"]) == ("O(1)", "O(n^2)")
    assert (found["transformer"]["kept"], found["transformer"]["step_work"]) == ("O(n)", "O(n)")
    assert [f for f in found if found[f]["stateful"]] == ["rnn", "transformer", "ssm"]
    # keys and values of 48 layers of 1600, fp16
    assert found["transformer"]["state_bytes"] == 2 * 48 * 1600 * 2 * 1024
    # weights in fp16, their copies in fp32 and two moments in fp32, beside fp32 statistics of norms
    assert found["mlp"]["checkpoint_bytes"] == 20_037_642 * (2 + 4 + 8)
    half = run_study("production-profile", families="transformer,ssm", context=512).numbers
    assert half["transformer"]["state_bytes"] == found["transformer"]["state_bytes"] / 2
    assert half["ssm"]["state_bytes"] == found["ssm"]["state_bytes"]


def test_attention_traffic_by_hand():
    told = run_study("attention-traffic").numbers
    n, d = 512, 64
    assert (told["broadcast"], told["gather_keys"], told["reduce"]) == (n * d, n * n * d, n * n)
    assert told["distinct_gathered"] == 2 * n * d
    assert told["tiled_bytes"] == 4 * n * d * 2
    assert told["stored_scores_bytes"] > told["tiled_bytes"] + 2 * n * n * 2
    assert run_study("attention-traffic", tokens=1024).numbers["gather"] == 4 * told["gather"]


def test_compression_by_hand():
    told = run_study("compression", model="mlp(widths=(64, 128, 10))", sizes="widths", on="a100-sxm-80gb")
    base, half = told.numbers["as it is"], told.numbers["int8"]
    n = 64 * 128 + 128 + 128 * 10 + 10
    assert (
        base["weight_bytes"] == 4 * n == 4 * half["weight_bytes"] == 8 * told.numbers["int4"]["weight_bytes"]
    )
    assert base["macs"] == half["macs"] == 64 * 128 + 128 * 10
    assert told.numbers["widths x 0.5"]["macs"] == 32 * 64 + 64 * 5
    assert told.numbers["50% pruned"]["weight_bytes"] == 2 * n + n / 8
    assert told.numbers["50% pruned"]["macs"] == base["macs"]
    none = run_study("compression", model="mlp(widths=(64, 128, 10))", sizes="widths", pruned=0)
    assert "pruned" not in " ".join(none.numbers)
    small = run_study("compression", model="resnet50", sizes="resolution", precisions="int8", on="stm32f746")
    assert small.numbers["as it is"]["fits"] is False


def test_performance_per_watt_by_hand():
    printed = run_study("performance-per-watt", watts="40,300")
    assert printed.numbers["ratios"]["google_tpu_v1 over nvidia_k80"] == pytest.approx(92 / 40 / (8.74 / 300))
    assert "unlike types" in printed.answer
    alike = run_study("performance-per-watt", machines="a100,h100", precisions="fp16")
    assert "unlike" not in alike.answer
    assert run_study("performance-per-watt", precisions="int8").answer.startswith("not known: peak or power")


def test_convolution_choice_by_memory_kernel_and_stride():
    def chosen(**given):
        return run_study("convolution-choice", **given).numbers["chosen"]

    assert chosen() == "winograd4"
    assert chosen(memory="2 MB") == chosen(kernel=1) == chosen(precision="fp16") == "direct"
    assert chosen(on="rpi4", kernel=5) == chosen(on="rpi4", stride=2) == "im2col"
    told = run_study("convolution-choice").numbers
    assert told["macs"]["direct"] == 64 * 64 * 9 * 56 * 56
    # 4 x 4 outputs take 36 products instead of 144
    assert told["macs"]["direct"] / told["macs"]["winograd4"] == 4
    assert told["workspace_bytes"]["im2col"] == 64 * 9 * 56 * 56 * 4


def test_gemm_efficiency_falls_off():
    told = run_study("gemm-efficiency").numbers
    assert told["utilisation_of_a_call"] < told["utilisation"] < 0.1 < 0.5 < told["square_utilisation"] < 1
    large = run_study("gemm-efficiency", rows=4096, inputs=4096, outputs=4096, square=128).numbers
    assert large["utilisation"] == pytest.approx(told["square_utilisation"])


def test_resolution_memory_by_hand():
    told = run_study("resolution-memory", side=64, channels=8, stages=3, output_stride=1).numbers
    # maps of 8, 16 and 32 channels at 64 pixels a side, against 32, 16 and 8 pixels
    assert told["last_map_ratio"] == 64
    full, halved = (8 + 16 + 32) * 64 * 64, 8 * 32 * 32 + 16 * 16 * 16 + 32 * 8 * 8
    image = 3 * 64 * 64
    # every activation's result once: a relu in place of its input, read again by the next layer
    assert told["saved_bytes"] == 4 * (image + full)
    assert told["saved_bytes_classification"] == 4 * (image + halved)


def test_skip_memory_by_hand():
    told = run_study("skip-memory", batch=32).numbers
    # the inputs of 3, 4, 6 and 3 blocks: the first of a stage has the map of the stage before
    maps = (64 + 3 * 256) * 56**2, 4 * 512 * 28**2, 6 * 1024 * 14**2, 2 * 2048 * 7**2
    assert told["block_input_bytes"] == 32 * 4 * sum(maps)
    # what four projections give to their norms
    widths = 256 * 56**2 + 512 * 28**2 + 1024 * 14**2 + 2048 * 7**2
    assert told["shared_bytes"] == 32 * 4 * widths
    assert run_study("skip-memory", model="gpt2-small", context=64, batch=1).numbers["skips"] == 24
    assert told["peak_bytes"] == pytest.approx(told["liveness_peak_bytes"], rel=0.01)
    assert told["peak_without_bytes"] <= told["peak_bytes"]
    # a network that was built without skips keeps less by what the projections and sums keep
    small = run_study("skip-memory", model="resnet34", batch=2).numbers
    plain = float(training(find("plain34").graph(Workload(batch=2)), "sgd").saved)
    assert small["shared_bytes"] == pytest.approx(small["saved_bytes"] - plain, rel=0.02)
    with pytest.raises(PharosError, match="no additions"):
        run_study("skip-memory", model="vgg16")


def test_optimisations_by_architecture():
    found = run_study("optimisations").numbers
    assert {"tiled products", "mixed precision", "fused norms", "skips freed early"} <= set(
        found["transfers"]
    )
    assert {"fused attention", "sparse attention"} <= set(found["only_here"])
    assert found["applies"]["Winograd"] is None
    rnn = run_study("optimisations", model="lstm_tagger").numbers["applies"]
    assert rnn["unrolled steps"] and rnn["gates as one product"] and not rnn["fused attention"]  # noqa: PT018
    assert run_study("optimisations", model="vgg16").numbers["applies"]["Winograd"] > 0.9
    # on a machine whose 16-bit peak is not known to be higher, narrower products gain no rate
    assert run_study("optimisations", on="nvidia_k80").numbers["applies"]["mixed precision"] is None


def test_match_of_data_beside_machine():
    images = run_study("match")
    assert images.rows[0][0] == "cnn"
    assert (
        images.numbers["cnn"]["strength"]
        > images.numbers["vit"]["strength"]
        > images.numbers["mlp"]["strength"]
    )
    many = run_study("match", labels=300_000_000).numbers
    assert many["vit"]["score"] > many["cnn"]["score"]
    clicks = run_study("match", data="interactions", labels=10_000_000, tables="1000000,10000")
    assert clicks.rows[0][0] == "dlrm"
    assert clicks.numbers["dlrm"]["of_peak"] < 0.05
    rnn = run_study("match", data="sequence", length=512, dependence=100).numbers["rnn"]
    assert rnn["reached"] < rnn["of_peak"]
    assert rnn["of_peak"] == pytest.approx(rnn["flops_per_byte"] / (312e12 / 2.039e12))
