"""ONNX: counts equal PyTorch's own, refusals name the file, nothing is silently zero."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.convert.from_onnx import from_onnx
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.ops.activation import Activation, Softmax
from pharos.ops.elementwise import Add, Clamp, Div, Maximum, Minimum, Mul, Pow, Sub
from pharos.quantity.errors import InputError, PharosError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


def small(tmp_path, nodes, inputs, outputs, initializers=(), opset=18, name="m.onnx"):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path = tmp_path / name
    path.write_bytes(model.SerializeToString())
    return path


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name, *shape):
    n = 1
    for s in shape:
        n *= s
    return helper.make_tensor(name, TensorProto.FLOAT, shape, [0.5] * n)


def conv_model(tmp_path, batch="N"):
    """3x8x8 -> 4 channels of 3x3, no padding: 6x6 outputs of 27 products each."""
    return small(
        tmp_path,
        [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        [info("x", [batch, 3, 8, 8])],
        [info("z", None)],
        [weight("w", 4, 3, 3, 3)],
    )


def test_counts_by_hand(tmp_path):
    counted = count(from_onnx(conv_model(tmp_path), Workload(batch=5)))
    assert counted.macs == 5 * 4 * 6 * 6 * 27
    assert counted.parameters == 4 * 27
    assert not counted.uncounted


def export(tmp_path, module, inputs, dynamo):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module.eval(), inputs, str(path), dynamo=dynamo, verbose=False)
    return path


def modules():
    torch = pytest.importorskip("torch")
    nn, F = torch.nn, torch.nn.functional

    class Convolutions(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 2, 1)
            self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
            self.pointwise = nn.Conv2d(16, 32, 1, bias=False)
            self.up = nn.ConvTranspose2d(32, 8, 3, 2, 1, 1)
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            x = F.relu6(self.depthwise(torch.relu(self.stem(x))))
            x = self.up(F.max_pool2d(F.hardswish(self.pointwise(x)), 2))
            return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.position = nn.Embedding(100, 32), nn.Parameter(torch.zeros(1, 16, 32))
            self.norm, self.qkv, self.out = nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)
            self.up, self.down = nn.Linear(32, 128), nn.Linear(128, 32)

        def forward(self, tokens):
            x = self.embedding(tokens) + self.position
            batch, n, width = x.shape
            q, k, v = (a.view(batch, n, 4, 8).transpose(1, 2) for a in self.qkv(self.norm(x)).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v)
            x = x + self.out(y.transpose(1, 2).reshape(batch, n, width))
            return x + self.down(F.gelu(self.up(x)))

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(50, 8)
            self.lstm, self.tag = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 5)

        def forward(self, tokens):
            return self.tag(self.lstm(self.embedding(tokens))[0])

    tokens = torch.zeros(1, 16, dtype=torch.long)
    return {
        "convolutions": (Convolutions(), (torch.randn(1, 3, 32, 32),)),
        "block": (Block(), (tokens,)),
        "tagger": (Tagger(), (tokens,)),
    }


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", ["convolutions", "block", "tagger"])
def test_an_exported_module_counts_as_pytorch_counts_it(tmp_path, name, dynamo):
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    module, inputs = modules()[name]
    counted = count(from_onnx(export(tmp_path, module, inputs, dynamo)))
    parameters = sum(p.numel() for p in module.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.to("meta")(*[x.to("meta") for x in inputs])
    assert not counted.uncounted
    assert counted.parameters == parameters
    assert counted.flops == counter.get_total_flops()


def test_an_unknown_operator_is_listed_and_totals_are_at_least(tmp_path):
    path = small(
        tmp_path,
        [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Vanish", ["y"], ["d"]),
         helper.make_node("Frobnicate", ["y"], ["z"], domain="my.ops")],
        [info("x", [1, 3, 8, 8])],
        [info("z", [1, 4, 6, 6])],
        [weight("w", 4, 3, 3, 3)],
    )  # fmt: skip
    counted = count(from_onnx(path))
    assert len(counted.uncounted) == 2
    assert any("my.ops.Frobnicate" in name for name in counted.uncounted)
    assert counted.macs == 4 * 6 * 6 * 27


@pytest.mark.parametrize(
    ("location", "refused"),
    [("weights.bin", False), ("sub/weights.bin", False), ("../weights.bin", True), ("/etc/passwd", True),
     ("a/../../x", True), ("C:\\x", True), ("..\\x", True)],
)  # fmt: skip
def test_external_data_stays_in_its_folder(tmp_path, location, refused):
    w = weight("w", 4, 3, 3, 3)
    w.ClearField("float_data")
    w.data_location = TensorProto.EXTERNAL
    w.external_data.add(key="location", value=location)
    path = small(tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"])], [info("x", [1, 3, 8, 8])],
                 [info("y", [1, 4, 6, 6])], [w])  # fmt: skip
    if refused:
        with pytest.raises(InputError, match="outside the model's folder"):
            from_onnx(path)
    else:
        # the data itself is absent: only its shape is needed
        assert count(from_onnx(path)).parameters == 108


def test_refusals_name_the_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        from_onnx(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match=r"text\.onnx"):
        from_onnx(tmp_path / "text.onnx")
    whole = conv_model(tmp_path).read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.onnx"):
        from_onnx(tmp_path / "cut.onnx")
    old = small(
        tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [info("x", [1])], [info("y", [1])], opset=5
    )
    with pytest.raises(InputError, match="opset 5"):
        from_onnx(old)


def test_open_dimensions_are_asked_for(tmp_path):
    path = small(
        tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [info("x", ["N", "width"])], [info("y", None)]
    )
    with pytest.raises(InputError, match="--dim width="):
        from_onnx(path)
    assert from_onnx(path, dims={"width": 7}).outputs[0].shape == (1, 7)
    with pytest.raises(InputError, match="no dimension called 'wide'"):
        from_onnx(path, dims={"wide": 7})


def test_absurd_shapes_are_refused(tmp_path):
    path = small(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [info("x", [10**12])], [info("y", None)])
    with pytest.raises(PharosError, match="1000000000000"):
        from_onnx(path)


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    whole = bytearray(conv_model(folder, batch=1).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    (folder / "d.onnx").write_bytes(bytes(whole[: data.draw(st.integers(1, len(whole)))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            count(from_onnx(folder / "d.onnx"))
        except PharosError as error:
            assert "d" in str(error)


def one_node(tmp_path, kind, *, before=(), after=(), attributes=None, opset=18, domain=""):
    """A file of a single node: x of 3 x 4, with numbers given before and after it as initialisers."""
    stored, inputs = [], []
    for i, value in enumerate((*before, "x", *after)):
        inputs.append("x" if value == "x" else "" if value is None else f"c{i}")
        if inputs[-1] == f"c{i}":
            row = isinstance(value, list)
            shape, values = ([len(value)], value) if row else ([], [value])
            stored.append(helper.make_tensor(inputs[-1], TensorProto.FLOAT, shape, values))
    made = helper.make_node(kind, inputs, ["y"], domain=domain, **(attributes or {}))
    return small(tmp_path, [made], [info("x", [3, 4])], [info("y", [3, 4])], stored, opset)


@pytest.mark.parametrize(
    ("kind", "how", "ops"),
    [
        ("Clip", {"after": [0.0, 6.0]}, [Activation("relu6")]),
        ("Clip", {"after": [-1.0, 0.5]}, [Clamp(-1.0, 0.5)]),
        ("Clip", {"after": [0.1]}, [Clamp(0.1)]),
        ("Clip", {"after": [None, 0.3]}, [Clamp(None, 0.3)]),
        ("Clip", {"after": [-0.2, 3.4028234663852886e38]}, [Clamp(-0.2)]),
        ("Clip", {"attributes": {"min": -0.5, "max": 0.7}, "opset": 10}, [Clamp(-0.5, 0.7)]),
        ("Sqrt", {}, [Activation("sqrt")]),
        ("Reciprocal", {}, [Activation("reciprocal")]),
        ("Log", {}, [Activation("log")]),
        ("Floor", {}, [Activation("floor")]),
        ("Ceil", {}, [Activation("ceil")]),
        ("Round", {}, [Activation("round")]),
        ("Sign", {}, [Activation("sign")]),
        ("Pow", {"after": [2.0]}, [Activation("square")]),
        ("Pow", {"after": [3.0]}, [Pow(3.0)]),
        ("Pow", {"before": [0.7]}, [Pow(0.7, flipped=True)]),
        ("Max", {"after": [0.1]}, [Maximum(0.1)]),
        ("Min", {"before": [0.1]}, [Minimum(0.1)]),
        ("Max", {"after": [0.1, -0.5]}, [Maximum(0.1), Maximum(-0.5)]),
        ("Sum", {"after": [0.1, 2.0]}, [Add(0.1), Add(2.0)]),
        ("Add", {"after": [0.3]}, [Add(0.3)]),
        ("Sub", {"after": [0.3]}, [Sub(0.3)]),
        ("Sub", {"before": [1.0]}, [Sub(1.0, flipped=True)]),
        ("Div", {"after": [8.0]}, [Div(8.0)]),
        ("Div", {"before": [1.0]}, [Div(1.0, flipped=True)]),
        ("Mul", {"before": [0.1]}, [Mul(0.1)]),
        ("LeakyRelu", {}, [Activation("leaky_relu")]),
        ("LeakyRelu", {"attributes": {"alpha": 0.1}}, [Activation("leaky_relu", 0.1)]),
        ("Elu", {"attributes": {"alpha": 0.5}}, [Activation("elu", 0.5)]),
        ("HardSigmoid", {"attributes": {"alpha": 1 / 6}}, [Activation("hardsigmoid")]),
        ("HardSigmoid", {}, [Mul(0.2), Add(0.5), Clamp(0.0, 1.0)]),
        ("Softmax", {}, [Softmax()]),
        ("LogSoftmax", {"attributes": {"axis": 0}}, [Softmax(0, log=True)]),
    ],
)  # fmt: skip
def test_elementwise_nodes_lower_to_what_they_compute(tmp_path, kind, how, ops):
    """Held against ONNX's own reference evaluator."""
    torch = pytest.importorskip("torch")
    from onnx.reference import ReferenceEvaluator

    path = one_node(tmp_path, kind, **how)
    graph = from_onnx(path)
    assert [n.op for n in graph.nodes] == ops
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    np.testing.assert_allclose(to_torch(graph)(torch.tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_quick_gelu_is_a_sigmoid_of_a_multiple(tmp_path):
    torch = pytest.importorskip("torch")
    graph = from_onnx(one_node(tmp_path, "QuickGelu", domain="com.microsoft"))
    x = torch.randn(3, 4)
    torch.testing.assert_close(to_torch(graph)(x), x * torch.sigmoid(1.702 * x))
    # two products, and what a sigmoid takes: a sum, an exponential, a division
    assert count(graph).work.vector_flops == 3 * 12
    assert count(graph).work.transcendentals == 2 * 12


def test_operands_that_are_tensors_stay_tensors(tmp_path):
    """A vector, a limit that is computed, and a single number that adds a dimension."""
    row = from_onnx(one_node(tmp_path, "Max", after=[[1.0, 2.0, 3.0, 4.0]]))
    assert [n.op.kind for n in row.nodes] == ["stored", "maximum"]
    path = small(
        tmp_path,
        [helper.make_node("Clip", ["x", "low"], ["y"])],
        [info("x", [3, 4]), info("low", [])],
        [info("y", [3, 4])],
    )
    assert [n.op for n in from_onnx(path).nodes] == [Maximum()]
    deep = helper.make_tensor("c", TensorProto.FLOAT, [1, 1, 1], [2.0])
    path = small(tmp_path, [helper.make_node("Mul", ["x", "c"], ["y"])], [info("x", [3, 4])],
                 [info("y", [1, 3, 4])], [deep])  # fmt: skip
    assert from_onnx(path).outputs[0].shape == (1, 3, 4)


def test_what_elementwise_nodes_cost(tmp_path):
    def work(kind, **how):
        found = count(from_onnx(one_node(tmp_path, kind, **how))).work
        return found.vector_flops / 12, found.transcendentals / 12

    assert work("Clip", after=[0.0]) == (1, 0)
    assert work("Clip", after=[0.0, 1.0]) == (2, 0)
    assert work("Pow", after=[2.0]) == (1, 0)
    assert work("Pow", after=[0.5]) == work("Sqrt") == work("Log") == work("Reciprocal") == (0, 1)
    assert work("Max", after=[0.0, 1.0]) == (2, 0)
    # of a row of 4: maximum, difference, sum, difference each; 4 exponentials and a logarithm
    assert work("LogSoftmax") == (4, 1.25)
