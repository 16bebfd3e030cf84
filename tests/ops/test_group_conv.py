"""Group convolution: turning or mirroring the input turns, mirrors and permutes the output."""

import numpy as np
import pytest
from draws import node_of

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.tensor import Tensor
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.conv import Conv2d
from pharos.ops.group_conv import ORDERS, GroupConv2d, element, relative
from pharos.passes.fuse import kernels
from pharos.quantity.errors import SizeError, UnknownName

torch = pytest.importorskip("torch")


def turned(image, h):
    """An array's last two axes under element h, by NumPy: mirrored left to right, then turned."""
    mirrored, turns = divmod(h, 4)
    return np.rot90(np.flip(image, -1) if mirrored else image, turns, (-2, -1))


def inverse(h):
    return relative(h, 0)


def acted(features, h, order):
    """Features on a group under h: plane s of the result is plane h^-1 s, turned by h."""
    return np.stack([turned(features[:, :, relative(h, s)], h) for s in range(order)], 2)


@pytest.mark.parametrize("s", range(8))
@pytest.mark.parametrize("t", range(8))
def test_the_group_is_that_of_the_images(s, t):
    """Moving by s what t s^-1 is relative to gives what moving by t gives."""
    image = np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(turned(turned(image, relative(s, t)), s), turned(image, t))
    assert relative(s, s) == 0 == element(2, 4)
    assert relative(inverse(s), 0) == s


def run(op, x, seed=0):
    torch.manual_seed(seed)
    module = op.torch(torch).double()
    with torch.no_grad():
        return module(torch.tensor(np.ascontiguousarray(x))).numpy()


@pytest.mark.parametrize("lifting", [True, False])
@pytest.mark.parametrize("group", ORDERS)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(3, 1, 0, (6, 6)), (3, 1, 1, (5, 7)), (4, 1, 0, (6, 6)), (2, 1, 1, (4, 5)), (3, 2, 1, (5, 7)),
     (1, 1, 0, (3, 3))],
)  # fmt: skip
def test_equivariance(group, lifting, kernel, stride, padding, size):
    """f(h x) = h f(x) for every element h, with places that are no square too."""
    order = ORDERS[group]
    op = GroupConv2d(3, 2, kernel, stride, padding, group, lifting)
    x = np.random.default_rng(0).normal(size=(2, 3, *(() if lifting else (order,)), *size))
    y = run(op, x)
    assert y.shape[:3] == (2, 2, order)
    for h in range(order):
        moved = turned(x, h) if lifting else acted(x, h, order)
        np.testing.assert_allclose(run(op, moved), acted(y, h, order), rtol=1e-10, atol=1e-10)
    # and it is no accident of symmetric results
    assert (
        np.abs(run(op, turned(x, 1) if lifting else acted(x, 1, order))[..., :2, :2] - y[..., :2, :2]).max()
        > 0.1
    )


def test_a_stride_that_leaves_something_over_breaks_it():
    op = GroupConv2d(1, 1, 3, 2, 0, "p4", True)
    x = np.random.default_rng(0).normal(size=(1, 1, 6, 6))
    assert np.abs(run(op, turned(x, 2)) - acted(run(op, x), 2, 4)).max() > 0.1


@pytest.mark.parametrize("group", ORDERS)
def test_pooled_over_group_and_places_it_is_invariant(group):
    order = ORDERS[group]
    first, second = (
        GroupConv2d(1, 3, 3, padding=1, group=group, lifting=True),
        GroupConv2d(3, 4, 3, group=group),
    )
    x = np.random.default_rng(0).normal(size=(1, 1, 6, 6))
    pooled = [run(second, np.maximum(run(first, turned(x, h)), 0)).max((2, 3, 4)) for h in range(order)]
    for other in pooled[1:]:
        np.testing.assert_allclose(other, pooled[0], rtol=1e-10, atol=1e-10)


def test_the_first_plane_is_the_ordinary_convolution():
    op = GroupConv2d(2, 3, 3, group="p4m", lifting=True)
    torch.manual_seed(0)
    module = op.torch(torch).double()
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    expected = torch.nn.functional.conv2d(x, module.weight, module.bias)
    torch.testing.assert_close(module(x)[:, :, 0], expected)


def test_work_is_that_of_all_filters():
    x = Tensor((2, 3, 4, 8, 8))
    op = GroupConv2d(3, 5, 3, padding=1)
    node = node_of(op, [x])
    # as an ordinary convolution of 3 x 4 channels to 5 x 4
    plain = Conv2d(12, 20, 3, padding=1, bias=False)
    expected = plain.work(Tensor((2, 12, 8, 8)), Tensor((2, 20, 8, 8)))
    assert op.work(*node.io).macs == expected.macs == 2 * 20 * 64 * 108
    assert op.weights() == {"weight": (5, 3, 4, 3, 3), "bias": (5,)}
    # a quarter as many weights as that one has, which are made in full, written and read
    assert op.traffic(node).weights == 4 * (5 * 108 + 5)
    assert op.traffic(node).workspace == 2 * 4 * 20 * 108
    # four copies of each weight: their gradients are summed by three additions
    assert op.gradient([True], *node.io).vector_flops == 3 * 5 * 108 + 2 * 20 * 64
    assert GroupConv2d(3, 5, 3, lifting=True, group="p4m").weights()["weight"] == (5, 3, 3, 3)


def test_refusals():
    with pytest.raises(UnknownName, match="p4"):
        GroupConv2d(1, 1, 3, group="p6")
    with pytest.raises(SizeError, match="elements of the group 8, not 4"):
        GroupConv2d(1, 1, 3, group="p4m").shape(Tensor((1, 1, 4, 5, 5)))
    with pytest.raises(SizeError, match="rank 4"):
        GroupConv2d(1, 1, 3, lifting=True).shape(Tensor((1, 1, 4, 5, 5)))


@pytest.mark.parametrize("group", ORDERS)
def test_p4cnn_does_not_see_a_quarter_turn(group):
    torch.manual_seed(0)
    network = to_torch(find(f"p4cnn(group='{group}', channels=4)").graph()).double().eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn_like(buffer) * 0.1)
    x = torch.randn(1, 1, 28, 28, dtype=torch.float64)
    y = network(x)
    for h in range(ORDERS[group]):
        again = network(torch.tensor(np.ascontiguousarray(turned(x.numpy(), h))))
        torch.testing.assert_close(again, y, rtol=1e-10, atol=1e-10)
    torch.manual_seed(0)
    plain = to_torch(find("z2cnn").graph()).double().eval()
    assert (plain(x.rot90(1, (2, 3))) - plain(x)).abs().max() > 1e-3


def test_the_twins_have_about_as_many_parameters():
    """Weights by hand: 9 a pair of channels, 16 in the last layer, times 4 rotations of the input."""
    group, plain = count(find("p4cnn").graph()), count(find("z2cnn").graph())
    assert group.parameters == 10 * 9 + 5 * 400 * 9 + 400 * 16 + 7 * 10 + 6 * 20
    assert plain.parameters == 20 * 9 + 5 * 400 * 9 + 200 * 16 + 6 * 20 + 10 + 6 * 40
    # 13 % more parameters and almost four times the products: the group pays in arithmetic
    assert group.macs / plain.macs == pytest.approx(3.92, abs=0.01)
    assert count(find("p4cnn").graph(Workload(batch=8))).macs == 8 * group.macs


def test_p4cnn_as_onnx_reads_back_as_it_was(tmp_path):
    pytest.importorskip("onnx")
    from pharos.convert.from_onnx import from_onnx
    from pharos.convert.to_onnx import to_onnx

    graph = find("p4cnn").graph()
    again = from_onnx(to_onnx(graph, tmp_path / "m.onnx"))
    assert [n.op for n in again.nodes] == [n.op for n in graph.nodes]
    assert again.parameter_names() == graph.parameter_names()
    assert count(again).work == count(graph).work


def test_norms_fold_into_group_convolutions():
    """Nine launches: seven convolutions that take norm and ReLU along, two pools."""
    assert [k.lead.kind for k in kernels(count(find("p4cnn").graph()), fused=True)] == [
        "group_conv2d", "group_conv2d", "max_pool2d", *["group_conv2d"] * 5, "reduce",
    ]  # fmt: skip
