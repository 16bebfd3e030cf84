"""Convolution algorithms over whole networks: fewer products, more traffic, the same results."""

import pytest

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.serial import from_dict, to_dict
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.conv import Conv2d
from pharos.passes.algorithms import fewest_macs, with_algorithm
from pharos.quantity.errors import UnknownName


def conv_macs(graph):
    return sum(line.times * line.work.macs for line in count(graph).lines if line.kind == "conv2d")


def test_the_trade_on_vgg16():
    """Maps of 224 down to 28 are whole tiles of both sizes; the last three, of 14, not of four by four."""
    graph = find("vgg16").graph()
    two, four = with_algorithm(graph, "winograd2"), with_algorithm(graph, "winograd4")
    assert conv_macs(graph) / conv_macs(two) == 2.25
    last = 3 * 14**2 * 9 * 512**2
    assert conv_macs(four) == (conv_macs(graph) - last) / 4 + 3 * 16 * 36 * 512**2
    before, after = count(graph), count(four)
    assert after.parameters == before.parameters
    assert after.traffic.workspace > before.traffic.workspace == 0
    assert after.traffic_per_op - after.traffic.workspace == before.traffic_per_op
    assert after.work.vector_flops > before.work.vector_flops
    # the matrix of patches is 9 numbers for each that a 3 x 3 convolution reads, written and read
    read = sum(
        line.times * line.node.ins[0].nbytes for line in before.lines if isinstance(line.node.op, Conv2d)
    )
    matrix = count(with_algorithm(graph, "im2col"))
    assert matrix.macs == before.macs
    assert matrix.traffic.workspace == 2 * 9 * read


def test_what_does_not_fit_is_left():
    """ResNet-50: only the 13 of its 53 convolutions that are 3 x 3 of stride 1."""
    graph = with_algorithm(find("resnet50").graph(), "winograd2")
    chosen = [
        (times, node.op.kernel_size, node.op.stride)
        for node, times, _ in graph.walk()
        if isinstance(node.op, Conv2d) and node.op.algorithm != "direct"
    ]
    assert sum(times for times, _, _ in chosen) == 13
    assert {(kernel, stride) for _, kernel, stride in chosen} == {(3, 1)}


def test_the_fewest_macs():
    graph = find("resnet18").graph()
    best = with_algorithm(graph, fewest_macs)
    names = {n.name: n.op.algorithm for n in best.expanded().nodes if isinstance(n.op, Conv2d)}
    assert names["conv1"] == names["layer2.0.conv1"] == "direct"
    assert names["layer1.0.conv1"] == "winograd4"
    assert conv_macs(best) < conv_macs(with_algorithm(graph, "winograd2")) < conv_macs(graph)
    # one output is one tile either way: 16 products beat 36, and 9 beat both
    small = find("resnet18(resolution=32, classes=10)").graph()
    last = [n for n, _, name in with_algorithm(small, fewest_macs).walk() if name == "layer4.1.conv1"]
    assert last[0].op.algorithm == "direct"


@pytest.mark.parametrize("choose", ["im2col", "winograd2", "winograd4", fewest_macs])
def test_the_network_computes_the_same(choose):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    graph = find("resnet18(resolution=48, classes=10)").graph(Workload(batch=2))
    plain, other = to_torch(graph).double().eval(), to_torch(with_algorithm(graph, choose)).double().eval()
    other.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    torch.testing.assert_close(other(x), plain(x), rtol=1e-9, atol=1e-9)


def test_an_unknown_algorithm_is_named():
    with pytest.raises(UnknownName, match="fft"):
        with_algorithm(find("lenet5").graph(), "fft")
    with pytest.raises(UnknownName, match="direct"):
        with_algorithm(find("lenet5").graph(), lambda node: "dirct")


def test_the_choice_survives_a_file(tmp_path):
    pytest.importorskip("onnx")
    from pharos.convert.from_onnx import from_onnx
    from pharos.convert.to_onnx import to_onnx

    graph = with_algorithm(find("resnet18(resolution=32, classes=10)").graph(), "winograd2")
    again = from_dict(to_dict(graph))
    assert again == graph
    read = from_onnx(to_onnx(graph, tmp_path / "m.onnx", "zeros"))
    assert conv_macs(read) == conv_macs(graph) < conv_macs(with_algorithm(graph, "direct"))
