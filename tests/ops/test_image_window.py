"""Windows of an image and group norm: masks, offsets and counts written out by hand."""

import numpy as np

from pharos.graph.op import Tally, Work
from pharos.graph.tensor import Tensor
from pharos.ops.image_window import RelativeBias, ShiftMask
from pharos.ops.norm import GroupNorm


def test_the_mask_of_a_shifted_map():
    """4 x 4 positions, windows of 2 x 2, shifted by one: what came round is no neighbour."""
    first, right, below, corner = ShiftMask(4, 4, 2, (1, 1)).loops(Tally())[:, 0]
    # positions of a window: upper left, upper right, lower left, lower right
    columns = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
    rows = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(first, 0)
    np.testing.assert_array_equal(right, -100 * columns)
    np.testing.assert_array_equal(below, -100 * rows)
    np.testing.assert_array_equal(corner, -100 * np.maximum(rows, columns))


def test_a_bias_depends_on_the_offset_alone():
    op = RelativeBias(1, 2, 3)
    # offsets down -1..1 and right -2..2, numbered row by row: 3 x 5 rows of the table
    table = np.arange(15.0)[:, None]
    index = np.array(op._index())
    (bias,) = op.loops(Tally(), relative_position_bias_table=table, relative_position_index=index)[0]
    places = [(r, c) for r in range(2) for c in range(3)]
    for i, (r, c) in enumerate(places):
        for j, (s, d) in enumerate(places):
            assert bias[i, j] == 5 * (r - s + 1) + (c - d + 2)


def test_group_norm_by_hand():
    x = Tensor((2, 6, 5, 5))
    op = GroupNorm(3, 6)
    # 300 values in 6 groups; sum, difference, square, its sum, scale, weight, bias; root and 3 divisions
    assert op.work(x, x) == Work(vector_flops=7 * 300, transcendentals=4 * 6)
    assert op.gradient((True,), x, x) == Work(vector_flops=13 * 300, transcendentals=2 * 6)
    assert op.gradient((False,), x, x) == Work(vector_flops=5 * 300)
    assert op.saved(x, x).extra["rstd"].shape == (2, 3)
    # one group is layer norm of each image, as many as channels is instance norm
    values = np.random.default_rng(0).normal(size=(2, 6, 4))
    ones, zeros = np.ones(6), np.zeros(6)
    for groups, axes in ((1, (1, 2)), (6, (2,))):
        y = GroupNorm(groups, 6, 0.0).loops(Tally(), values, weight=ones, bias=zeros)
        centred = values - values.mean(axes, keepdims=True)
        np.testing.assert_allclose(y, centred / values.std(axes, keepdims=True), atol=1e-12)
