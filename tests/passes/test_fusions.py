"""Fusion rules: kernels of a runtime against the graphs that ONNX Runtime writes, and bytes by hand."""

from collections import Counter
from pathlib import Path

import pytest

import pharos
from pharos.convert.load import load
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.graph.workload import Workload
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm, LayerNorm
from pharos.passes.fuse import kernels, launches
from pharos.passes.fusions import FUSIONS

BERT = {"model_type": "bert", "architectures": ["BertModel"], "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 500,
        "num_attention_heads": 2, "intermediate_size": 128, "max_position_embeddings": 64}  # fmt: skip
GPT = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 500}
# Nodes that move data, which our graph has as views, and what attention is written out as.
MOVES = ("Reshape", "Transpose", "ReorderOutput", "ReorderInput", "Slice", "Split", "Unsqueeze", "Identity")


def made(graph, name):
    return launches(count(graph), FUSIONS[name]).kernels


def optimised(graph, folder: Path):
    """Nodes of the graph that ONNX Runtime makes of ours: (kind, whether an activation or a sum is inside)."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from pharos.convert.to_onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    path = to_onnx(graph, folder / "model.onnx", "random")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node
    return [
        n
        for n in nodes
        if n.op_type not in MOVES and "attention/" not in n.name and not n.name.endswith("attention")
    ]


# Our kinds under the names of ONNX Runtime's nodes.
KINDS = {
    "Conv": "conv2d", "FusedConv": "conv2d", "Gemm": "linear", "FusedGemm": "linear", "MatMul": "linear",
    "MaxPool": "max_pool2d", "AveragePool": "avg_pool2d", "ReduceMean": "global_avg_pool", "Gather": "embedding", "Add": "add",
    "LayerNormalization": "layer_norm", "SkipLayerNormalization": "skip_layer_norm", "Gelu": "activation",
    "BatchNormalization": "batch_norm", "Relu": "activation", "Concat": "concat", "LSTM": "lstm",
}  # fmt: skip


def kind(kernel):
    kinds = [line.kind for line in kernel.lines]
    return "skip_layer_norm" if kinds[0] == "layer_norm" and "add" in kinds else kinds[0]


@pytest.mark.parametrize(
    "model",
    ["resnet18", "mobilenet_v2(width=0.5)", "squeezenet1_1", "resnet8", "ds_cnn_s", "anomaly_autoencoder", "lstm_tagger",
     BERT, GPT],
    ids=lambda m: m if isinstance(m, str) else m["model_type"],
)  # fmt: skip
def test_onnxruntime_fuses_what_our_rules_fuse(model, tmp_path):
    """As many kernels of each kind as ONNX Runtime's optimised graph has nodes; attention apart."""
    if isinstance(model, dict):
        import json

        path = tmp_path / "config.json"
        path.write_text(json.dumps(model))
        graph = load(str(path)).graph(Workload(context=32))
    else:
        graph = load(model).graph(Workload())
    # rules do not reach over the ends of repeated layers, the library does
    graph = graph.expanded()
    nodes = optimised(graph, tmp_path)
    ours = Counter()
    for kernel in made(graph, "onnxruntime"):
        if kernel.lead.kind != "attention":
            ours[kind(kernel)] += kernel.times
    theirs = Counter(KINDS[n.op_type] for n in nodes)
    assert ours == theirs
    acted = sum(
        k.times for k in made(graph, "onnxruntime") if len(k.lines) > 1 and k.lines[-1].kind == "activation"
    )
    assert acted == sum(any(a.name == "activation" for a in n.attribute) for n in nodes)


def residual():
    g = Builder("residual")
    x = g.input("x", (2, 8, 16, 16))
    y = g("act", Activation("relu"), g("bn", BatchNorm(8), g("conv", Conv2d(8, 8, 3, padding=1), x)))
    y = g("bn2", BatchNorm(8), g("conv2", Conv2d(8, 8, 3, padding=1), y))
    return g.finish(g("out", Activation("relu"), g("sum", Add(), y, x)))


def inside(graph, name):
    return [[line.name for line in k.lines] for k in made(graph, name)]


def test_each_runtime_by_its_rules():
    graph = residual()
    folded = [["conv", "bn", "act"], ["conv2", "bn2", "sum", "out"]]
    assert inside(graph, "usual") == inside(graph, "tensorrt") == inside(graph, "onnxruntime") == folded
    assert inside(graph, "inductor") == folded
    assert inside(graph, "tflite") == [["conv", "bn", "act"], ["conv2", "bn2"], ["sum", "out"]]
    assert inside(graph, "ncnn") == [["conv", "bn", "act"], ["conv2", "bn2"], ["sum"], ["out"]]
    assert inside(graph, "none") == [[n] for n in ("conv", "bn", "act", "conv2", "bn2", "sum", "out")]


def block():
    g = Builder("block")
    x, y = g.input("x", (4, 32, 64)), g.input("y", (4, 32, 64))
    s = g("sum", Add(), x, y)
    n = g("norm", LayerNorm(64), s)
    q, k = g("q", Linear(64, 64), n), g("k", Linear(64, 16), n)
    u = g("act", Activation("silu"), q)
    return g.finish(g("end", Add(), u, s), k)


def test_what_others_read_is_written_and_not_read_again():
    """sum + norm in one kernel: x and y read, the sum and its norm written; fp32 of 4 x 32 x 64."""
    graph, size = block(), 4 * 32 * 64 * 4
    (first, *_) = made(graph, "inductor")
    assert [line.name for line in first.lines] == ["norm", "sum"]
    assert (first.traffic.inputs, first.traffic.outputs) == (2 * size, 2 * size)
    assert first.lead.cost_class == "norm"
    # alone it is read once more
    apart = made(graph, "none")
    assert sum(k.traffic.total for k in apart[:2]) == first.traffic.total + size


def test_products_of_one_input_lie_side_by_side():
    graph = block()
    q = next(k for k in made(graph, "tensorrt") if k.name == "q")
    assert [line.name for line in q.lines] == ["q", "k"]
    assert q.work.macs == 4 * 32 * 64 * (64 + 16)
    assert q.traffic.inputs == 4 * 32 * 64 * 4
    assert q.traffic.outputs == 4 * 32 * (64 + 16) * 4
    # it takes no longer than both, and longer than one
    found = {r: pharos_time(graph, r) for r in ("tensorrt", "cudagraph")}
    assert found["tensorrt"]["q"] < found["cudagraph"]["q"] + found["cudagraph"]["k"]


def pharos_time(graph, runtime):
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict

    estimate = predict(graph, find_machine("h100"), Workload(), runtime=runtime)
    return {op.kernel.name: op.time.latency_s for op in estimate.operations}


@pytest.mark.parametrize("name", FUSIONS)
def test_rules_lose_no_work_and_move_no_more(name):
    for model in ("resnet18", "mobilenet_v2", "bert-base", "gpt2-small", "llama-3-8b", "dlrm"):
        counted = pharos.show(model)
        found, apart = launches(counted, FUSIONS[name]).kernels, kernels(counted, fused=False)
        assert sum(k.work.macs * k.times for k in found) == counted.macs
        moved = [sum(k.traffic.total * k.times for k in each) for each in (found, apart)]
        assert moved[0] <= moved[1]
        names = sorted(line.name for k in found for line in k.lines)
        assert names == sorted(line.name for k in apart for line in k.lines)
