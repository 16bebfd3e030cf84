"""ONNX: counts equal PyTorch's own, refusals name the file, nothing is silently zero."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.convert.from_onnx import from_onnx
from pharos.graph.count import count
from pharos.graph.workload import Workload
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
        [helper.make_node("Conv", ["x", "w"], ["y"]), helper.make_node("Det", ["y"], ["d"]),
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
