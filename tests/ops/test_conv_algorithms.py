"""Convolution algorithms: Winograd's matrices and counts as published, PyTorch's results, traffic by hand."""

from dataclasses import replace

import numpy as np
import pytest
from draws import node_of

from pharos.graph.serial import op_from_fields, op_to_fields
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv2d
from pharos.ops.conv_algorithms import ALGORITHMS, both_axes
from pharos.quantity.errors import SizeError, UnknownName

# Lavin and Gray 2015, section 4: B', G and A' of F(2x2, 3x3) and of F(4x4, 3x3).
MATRICES = {
    "winograd2": (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, -1]],
    ),
    "winograd4": (
        [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0],
         [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
         [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
        [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    ),
}  # fmt: skip


class Counted:
    """A number that counts the operations done with it."""

    done = 0

    def __init__(self, value):
        self.value = value

    def _with(self, other, result):
        Counted.done += 1
        return Counted(result(self.value, getattr(other, "value", other)))

    def __add__(self, other):
        return self._with(other, lambda a, b: a + b)

    def __sub__(self, other):
        return self._with(other, lambda a, b: a - b)

    def __mul__(self, other):
        return self._with(other, lambda a, b: a * b)


@pytest.mark.parametrize("name", MATRICES)
def test_transforms_are_the_published_matrices(name):
    winograd = ALGORITHMS[name]
    for matrix, transform, operations in zip(
        MATRICES[name],
        (winograd.data, winograd.kernel, winograd.output),
        (winograd.data_flops, winograd.kernel_flops, winograd.output_flops),
        strict=True,
    ):
        columns = np.eye(len(matrix[0]))
        np.testing.assert_allclose(np.stack(transform(list(columns))), matrix, atol=1e-15)
        values = np.random.default_rng(0).normal(size=(2, len(matrix[0]), len(matrix[0])))
        both = both_axes(transform, values, np.stack)
        np.testing.assert_allclose(both, np.array(matrix) @ values @ np.array(matrix).T, atol=1e-12)
        Counted.done = 0
        transform([Counted(1.0) for _ in columns])
        assert operations == Counted.done


def test_operations_of_two_by_two():
    """32 additions a tile of data and 24 of output, as published.

    The paper's 28 for a kernel are instructions with a multiply-add as one: 3 additions and 2 products
    along each of 7 lines are 35 operations.
    """
    winograd = ALGORITHMS["winograd2"]
    assert (winograd.data_work, winograd.output_work, winograd.kernel_work) == (32, 24, 35)
    # turned round: from (a, b) to (a, a + b, a - b, -b), 2 operations along 6 lines; for the kernel
    # b + c, b - c, their halves and two sums, 6 along 7 lines
    assert (winograd.output_gradient_work, winograd.kernel_gradient_work) == (12, 42)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("groups", "size", "padding"), [(1, (8, 8), 1), (1, (7, 9), (0, 2)), (2, (5, 6), 1), (4, (3, 3), 0)]
)
def test_results_and_gradients_are_pytorchs(algorithm, groups, size, padding):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    plain = torch.nn.Conv2d(4, 8, 3, 1, padding, groups=groups).double()
    ours = Conv2d(4, 8, 3, 1, padding, groups=groups, algorithm=algorithm).torch(torch).double()
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    y, expected = ours(x), plain(x)
    torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
    upstream = torch.randn_like(y)
    found = torch.autograd.grad(y, (x, *ours.parameters()), upstream)
    wanted = torch.autograd.grad(expected, (x, *plain.parameters()), upstream)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_winograd_saves_products_where_tiles_fit():
    x = Tensor((2, 16, 8, 8))
    y = Tensor((2, 32, 8, 8))
    direct = Conv2d(16, 32, 3, 1, 1)
    macs = direct.work(x, y).macs
    assert macs == 2 * 32 * 64 * 16 * 9
    two, four = (replace(direct, algorithm=f"winograd{m}").work(x, y) for m in (2, 4))
    # 36 products become 16, 144 become 36
    assert (macs / two.macs, macs / four.macs) == (2.25, 4)
    # 16 tiles of 2 x 2 in each of 2 images, 512 kernels, and the bias
    assert two.vector_flops == 2 * 16 * (16 * 32 + 32 * 24) + 512 * 35 + y.numel
    # 7 x 7 outputs are 4 tiles of 4 x 4, computed whole
    ragged = Conv2d(1, 1, 3, algorithm="winograd4")
    assert ragged.work(Tensor((1, 1, 9, 9)), Tensor((1, 1, 7, 7))).macs == 4 * 36


def test_intermediates_are_held_written_and_read():
    def moved(op, dtype="fp32"):
        node = node_of(op, [Tensor((2, 3, 8, 8), dtype)])
        return op.traffic(node).workspace, op.workspace(*node.io)

    assert moved(Conv2d(3, 5, 3, padding=1)) == (0, 0)
    # 27 numbers for each of 2 x 64 outputs
    assert moved(Conv2d(3, 5, 3, padding=1, algorithm="im2col")) == (2 * 4 * 27 * 128, 4 * 27 * 128)
    assert moved(Conv2d(3, 5, 3, padding=1, algorithm="im2col"), "fp16") == (2 * 2 * 27 * 128, 2 * 27 * 128)
    # 32 tiles of 16 numbers in 3 channels in and 5 out, and 15 kernels
    assert moved(Conv2d(3, 5, 3, padding=1, algorithm="winograd2"))[1] == 4 * 16 * (32 * 8 + 15)
    # a pointwise convolution is a matrix product already, unless it skips or pads
    assert moved(Conv2d(3, 5, 1, algorithm="im2col")) == (0, 0)
    assert moved(Conv2d(3, 5, 1, 2, algorithm="im2col"))[1] == 4 * 3 * 2 * 16


@pytest.mark.parametrize("fields", [(5,), (3, 2), (3, 1, 1, 2), ((3, 1),), (1,)])
def test_winograd_refuses_what_it_is_not_for(fields):
    with pytest.raises(SizeError, match="3 x 3 kernel of stride and dilation 1"):
        Conv2d(4, 4, *fields, algorithm="winograd2")
    with pytest.raises(UnknownName, match="did you mean winograd"):
        Conv2d(4, 4, 3, algorithm="winograd")


def test_an_algorithm_survives_serialisation():
    op = Conv2d(4, 4, 3, padding=1, algorithm="winograd4")
    assert op_from_fields(op.kind, op_to_fields(op)) == op
    fields = op_to_fields(Conv2d(4, 4, 3))
    del fields["algorithm"]
    assert op_from_fields("conv2d", fields) == Conv2d(4, 4, 3)
