"""Advice: figures of findings against hand counts and separate predictions, and order, silence, robustness."""

import math

import numpy as np
import pytest
from decide.rules.cases import A100, CASES, GPT2, cached, hybrid, made, one_value_norm

import pharos
from pharos.convert.from_torch import trace
from pharos.convert.load import load
from pharos.decide.advice import SEVERITIES, advise, rules
from pharos.decide.alignment import multiple_of
from pharos.decide.changes import longest_stretch, with_shortcuts
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.quantity.errors import InputError


def finding(name, case=None):
    """The only finding of a rule, by default of its own case."""
    (found,) = rules()[name].find(case or CASES[name][0]())
    return found


def facts(found):
    return {f.what: f.value for f in found.evidence}


def test_the_cache_that_was_left_out_is_keys_and_values_of_every_layer():
    found = finding("kv-cache-left-out")
    assert found.consequence.value == 2 * 48 * 1600 * 1024 * 2
    assert facts(found)["a token"] == 2 * 48 * 1600 * 2
    assert found.gain.before == pharos.predict("gpt2-xl", on=A100, phase="decode", **GPT2).memory.total


def test_a_budget_that_counts_keys_alone_is_told():
    weights, half = 2 * 1_557_611_200, 48 * 1600 * 1024 * 2
    case = made("gpt2-xl", A100, phase="decode", stated={"memory_bytes": float(weights + half)}, **GPT2)
    found = finding("kv-cache-left-out", case)
    assert found.severity == "error"
    assert "not both" in found.consequence.what
    enough = made("gpt2-xl", A100, phase="decode", stated={"memory_bytes": 8e9}, **GPT2)
    assert not list(rules()["kv-cache-left-out"].find(enough))


def test_scores_are_heads_by_queries_by_keys():
    found = finding("quadratic-attention")
    assert facts(found)["scores of one layer"] == 25 * 1024 * 1024 * 2
    tiled = pharos.predict("gpt2-xl", on=A100, **GPT2).latency.value
    assert found.gain.after == pytest.approx(tiled)
    assert found.consequence.value == pytest.approx(found.gain.before - tiled)


def test_statistics_of_a_small_batch():
    found = finding("batch-norm-small-batch")
    # two maps of 7 x 7 in the last stage
    assert found.consequence.value == pytest.approx(math.sqrt(2 / (2 * 49 - 1)))
    alone = finding("batch-norm-small-batch", made(one_value_norm(), A100, stated={"trains": True}))
    assert alone.severity == "error"
    assert "whatever the input" in alone.consequence.what


def test_a_module_served_as_it_was_trained(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    x = torch.zeros(2, 3, 8, 8)
    told = trace(module, x).graph(Workload(batch=2)).meta["training_statistics"]
    assert told == ("1",)
    case = made(trace(module, x), A100, batch=2)
    found = finding("training-statistics", case)
    # two maps of 6 x 6
    assert found.gain.before == pytest.approx(math.sqrt(2 / (2 * 36 - 1)))
    assert not list(
        rules()["training-statistics"].find(made(trace(module, x), A100, batch=2, stated={"trains": True}))
    )
    assert "training_statistics" not in trace(module.eval(), x).graph(Workload(batch=2)).meta


def test_an_onnx_file_that_serves_as_it_was_trained(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    for mode in (0, 1):
        names = [f"p{i}" for i in range(4)]
        outputs = ["y"] if mode == 0 else ["y", "mean", "var"]
        node = helper.make_node("BatchNormalization", ["x", *names], outputs, name="norm", training_mode=mode)
        graph = helper.make_graph(
            [node], "g", [helper.make_tensor_value_info("x", kind, [2, 4, 6, 6])],
            [helper.make_tensor_value_info("y", kind, [2, 4, 6, 6])],
            [helper.make_tensor(n, kind, [4], [1.0] * 4) for n in names],
        )  # fmt: skip
        path = tmp_path / f"{mode}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
        told = load(str(path)).graph(Workload()).meta.get("training_statistics")
        assert told == (("norm",) if mode else None)


def test_the_spread_of_a_variance_is_that_of_draws():
    draws = np.random.default_rng(0).standard_normal((4000, 98)).var(axis=1, ddof=1)
    assert draws.std() == pytest.approx(math.sqrt(2 / 97), rel=0.05)


def test_batch_norms_of_their_own_are_told_at_inference():
    eager = made("resnet50", "v100", runtime="eager", precision="fp16")
    found = finding("batch-norm-small-batch", eager)
    assert facts(found)["batch norms"] == 53
    assert found.gain.after < found.gain.before
    compiled = made("mobilenet_v2", "cortex-a53", precision="int8")
    assert not list(rules()["batch-norm-small-batch"].find(compiled))


def test_the_largest_score_is_that_of_draws():
    found = finding("softmax-overflow-fp16")
    case = CASES["softmax-overflow-fp16"][0]()
    line = next(ln for ln in case.lines if ln.name == found.where[0])
    heads, queries, keys, width = 12, line.node.ins[0].shape[2], line.node.ins[1].shape[2], 64
    assert line.node.ins[0].shape[1] == heads
    rng = np.random.default_rng(0)
    largest = []
    for _ in range(heads):
        q, k = rng.standard_normal((queries, width)), rng.standard_normal((keys, width))
        largest.append(float((q @ k.T).max()))
    # entries of a matrix of products lean on each other and their tails are heavier than a normal one's
    assert max(largest) == pytest.approx(found.gain.before, rel=0.2)
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(np.float16(facts(found)["score whose exponential fp16 still holds"] + 0.05)))
        assert np.isinf(np.exp(np.float16(max(largest))))


@pytest.mark.parametrize(
    ("name", "layers"), [("plain34", 34), ("plain18", 18), ("vgg19", 19), ("cifar_plain(depth=56)", 56)]
)
def test_plain_networks_are_as_deep_as_they_say(name, layers):
    assert longest_stretch(load(name).graph()) == layers


@pytest.mark.parametrize(
    "name",
    ["resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121", "inception-v1", "gpt2-small", "vit_b_16",
     "preact_resnet1001", "llama-3-8b", "lstm_tagger"],
)  # fmt: skip
def test_shortcuts_are_seen(name):
    assert longest_stretch(load(name).graph()) <= 20


def test_shortcuts_can_be_added_and_run():
    torch = pytest.importorskip("torch")
    graph = load("plain_net(resolution=32, classes=10)").graph()
    made_, added = with_shortcuts(graph)
    assert added >= 4
    assert count(made_).macs == count(graph).macs
    assert count(made_).parameters == count(graph).parameters
    assert longest_stretch(made_) < longest_stretch(graph)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert pharos.to_torch(made_).eval()(x).shape == (1, 10)


@pytest.mark.parametrize(
    ("machine", "dtype", "multiple"),
    # NVIDIA, Matrix Multiplication Background, table 1; systolic arrays by their edge; AMX by its K
    [("a100-sxm-80gb", "fp16", 8), ("a100-sxm-80gb", "tf32", 4), ("t4", "int8", 16), ("v100", "fp16", 8),
     ("h100-sxm", "bf16", 8), ("h100-sxm", "fp8", 16), ("google_tpu_v5e", "bf16", 128),
     ("google_tpu_v6e", "bf16", 256)],
)  # fmt: skip
def test_multiples_of_matrix_units(machine, dtype, multiple):
    assert multiple_of(find_machine(machine), dtype)[0] == multiple


def test_no_matrix_unit_wants_no_multiple():
    assert multiple_of(find_machine("cortex-a53"), "fp32") is None
    found = finding("matrix-alignment")
    assert facts(found)["inner size of layers.0"] == 1001


def test_batches_are_predicted_anew():
    found = finding("dense-at-batch-1")
    batch = int(found.remedy.split(":")[0].split()[-1])
    again = pharos.predict("mlp", on=A100, precision="fp16", batch=batch).latency.value
    assert found.gain.after == pytest.approx(again / batch)
    assert again <= 1.5 * found.gain.before


def test_a_faster_network_with_more_macs_is_one():
    found = finding("fewer-flops-slower")
    name = found.remedy.split(" instead")[0]
    other = pharos.predict(name, on="v100", precision="fp16")
    mine = pharos.predict("densenet121", on="v100", precision="fp16")
    assert other.count.macs > 1.2 * mine.count.macs
    assert other.latency.value == pytest.approx(mine.latency.value - found.consequence.value)


def test_one_sequence_gains_nothing_from_a_second_device():
    found = finding("recurrence-on-wide-machine")
    told = facts(found)
    assert told["steps in a row at lstm"] == 1000
    assert told["results that a step could compute at once"] == 4 * 4 * 128
    speedup = next(v for k, v in told.items() if k.startswith("speed-up"))
    assert 0.95 < speedup < 1.1


def test_640_gb_is_160_times_4_gb():
    found = finding("trained-large-deployed-small")
    assert facts(found)["times the memory here"] == 160
    # 8.03 G parameters in 4 bits are 4.02 GB alone
    assert "no narrower type closes the gap" in found.remedy
    assert "closes the gap alone" in finding("does-not-fit").remedy


def test_a_matrix_of_patches_is_nine_times_its_input():
    found = finding("im2col-workspace")
    told = facts(found)
    line = found.where[0]
    assert told[f"matrix of patches of {line}"] == 9 * told["its input"]


def test_tables_over_devices_fit():
    found = finding("tables-beyond-device")
    assert found.consequence.value == 26 * 7_512_019 * 128 * 4 - find_machine(A100).capacity_bytes.value
    assert found.gain.after <= find_machine(A100).capacity_bytes.value
    assert "2 devices" in found.remedy


def test_windows_score_the_pairs_within_reach():
    found = finding("long-range-for-local-data")
    told = facts(found)
    # 12 layers of 12 heads: rows of min(position, 128) keys
    assert told["pairs within the range"] == 144 * sum(min(i, 128) for i in range(1, 1025))
    assert told["pairs scored in a step"] == 144 * 1024 * 1025 // 2


def test_macs_are_half_of_the_flops():
    found = finding("macs-quoted-as-flops")
    assert found.gain.after == 2 * 4_089_184_256
    assert found.consequence.value == pytest.approx(4_089_184_256 / 125e12)


def test_a_cache_that_holds_everything_or_nothing_loses_nothing_to_others():
    for nbytes in (1e12, 1e3):
        case = made(hybrid(True), cached(A100, nbytes), precision="fp16")
        assert not list(rules()["hybrid-blocks-flush-cache"].find(case))
    assert facts(finding("hybrid-blocks-flush-cache"))["changes from one kind of block to another"] == 7


def test_speed_is_not_spoken_of_until_it_fits():
    case = made("llama-3-70b", "h100", phase="decode", precision="fp16")
    names = {f.rule for f in advise(case)}
    assert "does-not-fit" in names
    assert not names & {name for name, rule in rules().items() if rule.of_speed}


@pytest.mark.parametrize(
    "machine", ["h100", "google_tpu_v5e", "cortex-a53", "apple_m1", "esp32_s3", "groq_lpu_v1"]
)
@pytest.mark.parametrize("model", ["resnet50", "gpt2-xl", "dlrm", "mamba-130m", "swin_t", "rnnsearch"])
def test_findings_come_worst_first_whatever_is_unknown(model, machine):
    found = advise(made(model, machine, precision="int8"), quick=True)
    order = [SEVERITIES.index(f.severity) for f in found]
    assert order == sorted(order)
    assert all(f.rule in rules() for f in found)


def test_a_file_of_a_fixed_batch_is_promised_no_other(tmp_path):
    pytest.importorskip("onnx")
    path = tmp_path / "mlp.onnx"
    pharos.to_onnx(load("mlp").graph(), path)
    found = finding("dense-at-batch-1", made(str(path), A100, precision="fp16"))
    narrow = pharos.predict("mlp", on=A100, precision="weights=int8,activations=fp16").latency.value
    assert found.gain.after == pytest.approx(narrow)
    asked = pharos.why(str(path), on=A100, precision="fp16", limits={"latency": "10 ms"})
    assert next(d for d in asked.doubled if d.resource == "batch").speedup is None
    assert next(n for n in asked.answers[0].needs if n.what == "batch").value is None


def test_sizes_must_be_numbers():
    with pytest.raises(InputError, match="must be numbers"):
        made("resnet50", "h100", batch=np.array([1, 2]))
