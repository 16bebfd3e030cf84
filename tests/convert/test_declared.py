"""Operators of the user's own: named and unknown without a rule, counted with one, in PyTorch and ONNX."""

import numpy as np
import pytest

import pharos
from pharos.convert import declared
from pharos.graph.count import count
from pharos.quantity.errors import PharosError


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(declared, "_KNOWN", {})


def test_a_custom_operator_of_pytorch():
    torch = pytest.importorskip("torch")

    @torch.library.custom_op("pharos_tests::twice", mutates_args=())
    def twice(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x @ y * 2

    @twice.register_fake
    def _(x, y):
        return x.new_empty(x.shape[0], y.shape[1])

    class Net(torch.nn.Module):
        def forward(self, x):
            return torch.ops.pharos_tests.twice(x, x.T).relu()

    x = torch.zeros(4, 6)
    unknown = count(pharos.trace(Net(), x).graph())
    assert unknown.uncounted
    assert "pharos_tests::twice" in unknown.uncounted[0]
    assert unknown.macs == 0

    @pharos.rule("pharos_tests::twice", runs_as="gemm")
    def cost(x, y, outputs):
        return pharos.Work(macs=outputs[0].numel * x.shape[1], vector_flops=outputs[0].numel)

    model = pharos.trace(Net(), x)
    counted = count(model.graph())
    assert not counted.uncounted
    assert (counted.macs, counted.work.vector_flops) == (4 * 4 * 6, 16 + 16)
    batches = np.array([2.0, 3.0])
    assert count(model.graph(pharos.Workload(batch=batches))).macs.tolist() == [2 * 2 * 6, 3 * 3 * 6]


def test_an_operator_of_another_onnx_domain(tmp_path):
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Blur", ["x"], ["y"], domain="com.acme", radius=2)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 3, 8, 8])], [value("y", 1, [1, 3, 8, 8])])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.acme", 1)]
    path = tmp_path / "blur.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), path)
    assert count(pharos.load(str(path)).graph()).uncounted

    @pharos.rule("com.acme::Blur")
    def blur(x, radius):
        return pharos.Work(vector_flops=x.numel * (2 * radius + 1) ** 2)

    counted = count(pharos.load(str(path)).graph())
    assert not counted.uncounted
    assert counted.work.vector_flops == 3 * 64 * 25


def test_mistakes_are_told():
    with pytest.raises(PharosError, match="write library::operator"):
        pharos.rule("twice")
    with pytest.raises(PharosError, match="did you mean gemm"):
        pharos.rule("a::b", runs_as="gem")
    from pharos.graph.tensor import Tensor

    pharos.rule("a::b")(lambda x: 3)
    with pytest.raises(PharosError, match=r"not a pharos\.Work"):
        declared.declared("a::b", [Tensor((1,))], [Tensor((1,))])
    pharos.rule("a::b")(lambda x: x.nothing)
    with pytest.raises(PharosError, match="fails: AttributeError"):
        declared.declared("a::b", [Tensor((1,))], [Tensor((1,))])
