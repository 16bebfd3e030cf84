"""Quantised models and fused operators, as ONNX Runtime's own tools write them, and by hand."""

import warnings

import numpy as np
import pytest

from pharos.convert.from_onnx import from_onnx
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def stored(name, *shape, kind=np.float32):
    rng = np.random.default_rng(len(name))
    values = rng.normal(size=shape) if np.dtype(kind).kind == "f" else rng.integers(0, 100, shape)
    return numpy_helper.from_array(values.astype(kind), name)


def save(path, nodes, inputs, outputs, initialisers, opset=17):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initialisers))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def network(path):
    """A convolution, a residual, a pool and two linear layers."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "c2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"], "a"),
        helper.make_node("GlobalAveragePool", ["a"], ["g"], "g"),
        helper.make_node("Flatten", ["g"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["h"], "h", transB=1),
        helper.make_node("MatMul", ["h", "w4"], ["y"], "y"),
    ]
    weights = [stored("w1", 8, 3, 3, 3), stored("b1", 8), stored("w2", 8, 8, 3, 3), stored("w3", 16, 8),
               stored("b3", 16), stored("w4", 16, 10)]  # fmt: skip
    return save(path, nodes, [info("x", [1, 3, 16, 16])], [info("y", [1, 10])], weights)


MACS = 16 * 16 * (8 * 27 + 8 * 72) + 8 * 16 + 16 * 10
WEIGHTS = 8 * 27 + 8 * 72 + 16 * 8 + 16 * 10


def quantised(tmp_path, form):
    quantization = pytest.importorskip("onnxruntime.quantization")
    source, target = network(tmp_path / "float.onnx"), tmp_path / "quantised.onnx"

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self.rows = iter([{"x": np.ones((1, 3, 16, 16), np.float32)}] * 2)

        def get_next(self):
            return next(self.rows, None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "dynamic":
            quantization.quantize_dynamic(source, target)
        else:
            kind = getattr(quantization.QuantFormat, form)
            quantization.quantize_static(
                source, target, Reader(), quant_format=kind, per_channel=form == "QDQ"
            )
    return target


@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
def test_quantising_changes_bytes_and_no_products(tmp_path, form):
    graph = from_onnx(quantised(tmp_path, form))
    counted = count(graph)
    assert not counted.uncounted
    assert counted.macs == MACS
    layers = [n for n in graph.nodes if isinstance(n.op, (Conv2d, Linear))]
    assert len(layers) == 4
    whole = [n for n in layers if n.weights["weight"].dtype in ("int8", "uint8")]
    assert len(whole) == 4
    assert sum(n.weights["weight"].nbytes for n in whole) == WEIGHTS
    # products of whole numbers read whole numbers
    assert all(n.ins[0].dtype in ("int8", "uint8") for n in whole)


def test_a_quantised_pair_is_computed_on_whole_numbers(tmp_path):
    graph = from_onnx(quantised(tmp_path, "QDQ"))
    kinds = [n.op.kind for n in graph.nodes]
    # one way in, one way out; nothing is dequantised between layers
    assert kinds.count("quantize") == 1
    assert kinds.count("dequantize") <= 1


def test_weights_of_four_bits(tmp_path):
    nodes = [helper.make_node("MatMulNBits", ["x", "b", "s"], ["y"], domain="com.microsoft", K=64, N=32, bits=4,
                              block_size=32)]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes, [info("x", [1, 7, 64])], [info("y", [1, 7, 32])],
                [stored("b", 32, 2, 16, kind=np.uint8), stored("s", 64)])  # fmt: skip
    counted = count(from_onnx(path))
    assert counted.macs == 7 * 64 * 32
    assert counted.parameters == 64 * 32
    assert counted.weight_bytes == 64 * 32 / 2
    # a scale for every block of 32
    assert counted.buffer_bytes == 64 * 4


def encoder(torch):
    nn = torch.nn

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
            self.n1, self.n2 = nn.LayerNorm(32), nn.LayerNorm(32)
            self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x):
            q, k, v = (f(x).view(1, 12, 4, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
            scores = torch.softmax(q @ k.transpose(-1, -2) / 8**0.5, -1)
            x = self.n1(x + self.o((scores @ v).transpose(1, 2).reshape(1, 12, 32)))
            return self.n2(x + self.down(torch.nn.functional.gelu(self.up(x))))

    return nn.Sequential(Layer(), Layer())


def test_fused_by_onnx_runtime_an_encoder_has_the_same_products(tmp_path):
    torch = pytest.importorskip("torch")
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    plain, fused = tmp_path / "plain.onnx", tmp_path / "fused.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(encoder(torch).eval(), (torch.zeros(1, 12, 32),), str(plain), dynamo=False,
                          opset_version=17)  # fmt: skip
        made = optimizer.optimize_model(str(plain), "bert", num_heads=4, hidden_size=32, opt_level=0)
    made.save_model_to_file(str(fused))
    kinds = {n.op_type for n in onnx.load(str(fused)).graph.node}
    assert kinds & {"Attention", "SkipLayerNormalization", "MultiHeadAttention", "BiasGelu"}
    # 4 projections and 2 layers of 64 a token; scores and their sums
    by_hand = 2 * (12 * (4 * 32 * 32 + 2 * 32 * 64) + 2 * 12 * 12 * 32)
    for path in (plain, fused):
        counted = count(from_onnx(path))
        assert not counted.uncounted
        assert counted.macs == by_hand


def test_what_microsoft_s_operators_take_together(tmp_path):
    """Embeddings with their norm, attention by one matrix, a residual with its norm, a gate."""
    nodes = [
        helper.make_node("EmbedLayerNormalization", ["ids", "", "word", "place", "", "g", "b"], ["e", ""],
                         domain="com.microsoft"),
        helper.make_node("Attention", ["e", "wqkv", "bqkv"], ["a"], domain="com.microsoft", num_heads=4),
        helper.make_node("SkipLayerNormalization", ["a", "e", "g", "b"], ["s"], domain="com.microsoft"),
        helper.make_node("FusedMatMul", ["s", "up"], ["u"], domain="com.microsoft", transB=1, alpha=0.5),
        helper.make_node("BiasGelu", ["u", "bias"], ["h"], domain="com.microsoft"),
        helper.make_node("QuickGelu", ["h"], ["y"], domain="com.microsoft"),
    ]  # fmt: skip
    weights = [stored("word", 50, 32), stored("place", 16, 32), stored("g", 32), stored("b", 32),
               stored("wqkv", 32, 96), stored("bqkv", 96), stored("up", 64, 32), stored("bias", 64)]  # fmt: skip
    path = save(
        tmp_path / "m.onnx", nodes, [info("ids", [2, 12], TensorProto.INT32)], [info("y", None)], weights
    )
    counted = count(from_onnx(path))
    assert not counted.uncounted
    assert counted.macs == 2 * (12 * 32 * 96 + 2 * 12 * 12 * 32 + 12 * 32 * 64)
    assert counted.parameters == 66 * 32 + 64 + 32 * 96 + 96 + 64 * 32 + 64


def test_grouped_queries_and_a_cache(tmp_path):
    """One token of 8 query and 2 key heads of 16 behind 20 others."""
    nodes = [helper.make_node("GroupQueryAttention", ["q", "k", "v", "pk", "pv", "lengths", "total"],
                              ["y", "nk", "nv"], domain="com.microsoft", num_heads=8, kv_num_heads=2)]  # fmt: skip
    inputs = [info("q", [1, 1, 128]), info("k", [1, 1, 32]), info("v", [1, 1, 32]),
              info("pk", ["batch", 2, "past", 16]), info("pv", ["batch", 2, "past", 16])]  # fmt: skip
    tensors = [numpy_helper.from_array(np.array([20], np.int32), "lengths"),
               numpy_helper.from_array(np.array(21, np.int32), "total")]  # fmt: skip
    path = save(tmp_path / "m.onnx", nodes, inputs, [info(n, None) for n in ("y", "nk", "nv")], tensors)
    graph = from_onnx(path, dims={"past": 20})
    assert count(graph).macs == 2 * 8 * 21 * 16
    assert [v.shape for v in graph.outputs] == [(1, 1, 128), (1, 2, 21, 16), (1, 2, 21, 16)]
    first = from_onnx(path, dims={"past": 0})
    assert count(first).macs == 2 * 8 * 1 * 16
    assert any(isinstance(n.op, Attention) for n in first.nodes)


def test_one_import_answers_every_batch(tmp_path):
    path = network(tmp_path / "m.onnx")
    model = onnx.load(str(path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, str(path))
    batches = np.array([1, 2, 7, 64])
    swept = count(from_onnx(path, Workload(batch=batches)))
    assert swept.macs.tolist() == [MACS * b for b in batches]
    for i, b in enumerate(batches):
        one = count(from_onnx(path, Workload(batch=int(b))))
        assert one.traffic_per_op == swept.traffic_per_op[i]
        assert one.work.vector_flops == swept.work.vector_flops[i]
