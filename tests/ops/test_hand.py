"""Operators against arithmetic done by hand, with the reason beside each number."""

import numpy as np
import pytest
import sympy

from pharos.graph.graph import Builder
from pharos.graph.op import Tally
from pharos.graph.tensor import Tensor
from pharos.ops.activation import Activation, Softmax
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.copies import Pad
from pharos.ops.elementwise import Add, Div, Mul, Sub
from pharos.ops.embedding import Embedding, EmbeddingBag
from pharos.ops.interaction import PairwiseInteraction
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm
from pharos.ops.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.ops.reduce import Reduce
from pharos.ops.rotary import Rotary
from pharos.ops.shape_ops import Concat, Flatten, Reshape, Slice, Split, Transpose
from pharos.quantity.errors import SizeError, UnknownName


def node(op, *shapes, dtype=None, precision="fp32"):
    g = Builder("hand", precision)
    g("op", op, *[g.input(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)])
    return g.finish().nodes[0]


def work(op, *shapes):
    made = node(op, *shapes)
    return op.work(*made.io)


def traffic(op, *shapes, **how):
    made = node(op, *shapes, **how)
    return op.traffic(made)


def parameters(op):
    return sum(int(np.prod(shape)) for shape in op.weights().values())


def test_the_mnist_layer():
    layer = Linear(784, 100)
    assert work(layer, (1, 784)).macs == 784 * 100 == 78_400
    assert parameters(layer) == 78_400 + 100
    # input, weights and bias, output: 784 + 78,500 + 100 numbers of 4 bytes
    assert traffic(layer, (1, 784)).total == 4 * (784 + 78_500 + 100) == 317_536


def test_the_worked_example_of_a_layer():
    x = np.array([[0.8, 0.2, 0.9, 0.1]])
    weight = np.array([[0.5, 0.1, -0.2], [-0.3, 0.8, 0.4], [0.2, -0.4, 0.6], [0.7, 0.3, -0.1]])
    tally = Tally()
    z = Linear(4, 3, bias=False).loops(tally, x, weight=weight.T)
    np.testing.assert_allclose(z, [[0.59, -0.09, 0.45]])
    np.testing.assert_allclose(Activation("relu").loops(Tally(), z), [[0.59, 0, 0.45]])
    assert tally.macs == 12


def test_the_first_convolution_of_resnet50():
    conv = Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    made = node(conv, (1, 3, 224, 224))
    # (224 + 6 - 7) // 2 + 1
    assert made.outs[0].shape == (1, 64, 112, 112)
    assert parameters(conv) == 64 * 3 * 7 * 7 == 9_408
    assert conv.work(*made.io).macs == 112 * 112 * 9_408 == 118_013_952


def test_depthwise_separable_against_dense():
    dense = work(Conv2d(32, 64, 3, padding=1, bias=False), (1, 32, 14, 14)).macs
    depthwise = work(Conv2d(32, 32, 3, padding=1, groups=32, bias=False), (1, 32, 14, 14)).macs
    pointwise = work(Conv2d(32, 64, 1, bias=False), (1, 32, 14, 14)).macs
    assert (depthwise, pointwise) == (196 * 32 * 9, 196 * 32 * 64)
    # the ratio 1/N + 1/k^2 of the MobileNet paper
    assert (depthwise + pointwise) / dense == pytest.approx(1 / 64 + 1 / 9)


def test_the_pool_of_resnet50():
    pool = MaxPool2d(3, stride=2, padding=1)
    made = node(pool, (1, 64, 112, 112))
    assert made.outs[0].shape == (1, 64, 56, 56)
    # nine comparisons an output
    assert pool.work(*made.io).vector_flops == 56 * 56 * 64 * 9 == 1_806_336
    assert work(GlobalAvgPool(), (1, 2048, 7, 7)).vector_flops == 2048 * 49


@pytest.mark.parametrize(
    ("pool", "n", "windows"),
    [
        (MaxPool2d(3, 2), 54, 26),  # floor(51 / 2) + 1
        (MaxPool2d(3, 2, ceil_mode=True), 54, 27),  # ceil(51 / 2) + 1
        (MaxPool2d(1, 2, ceil_mode=True), 4, 2),  # ceil(3 / 2) + 1 = 3, but the third starts at 4, outside
        (AvgPool2d(2, 2, ceil_mode=True), 1, 1),  # a window may hang over the end
        (AvgPool2d(2, 2, 1, ceil_mode=True), 3, 2),  # ceil(3 / 2) + 1 = 3, the third starts at 3, outside
    ],
)
def test_windows_in_three_readings(pool, n, windows):
    side = sympy.Symbol("n", integer=True, positive=True)
    assert pool.shape(Tensor((1, 1, n, n))).shape == (1, 1, windows, windows)
    swept = pool.shape(Tensor((1, 1, np.array([float(n), n + 40.0]), n))).shape[2]
    assert swept[0] == windows
    assert swept[1] == pool.shape(Tensor((1, 1, n + 40, n))).shape[2]
    assert pool.shape(Tensor((1, 1, side, n))).shape[2].subs(side, n) == windows


def test_a_window_that_hangs_over_the_end():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    inside = AvgPool2d(2, 2, ceil_mode=True).loops(Tally(), x)
    # means of (0 1 3 4), (2 5), (6 7) and (8): positions beyond the end are not counted
    np.testing.assert_allclose(inside, [[[[2, 3.5], [6.5, 8]]]])
    padded = AvgPool2d(2, 2, 1).loops(Tally(), x)
    # (0) over 4 with the padding counted; (1 2) over 4; (3 6) over 4; (4 5 7 8) over 4
    np.testing.assert_allclose(padded, [[[[0, 0.75], [2.25, 6]]]])
    with pytest.raises(SizeError, match="window of 2 on 1"):
        MaxPool2d(2, 2).shape(Tensor((1, 1, 1, 1)))


def test_a_step_of_the_textbooks_rnn():
    # one product with the 100 inputs, one with the 128 states, for each of 128 units
    assert work(RNN(100, 128), (1, 1, 100)).macs == 128 * (100 + 128) == 29_184
    # PyTorch keeps two biases of 128 where the book's equation has one: 29,312 there
    assert parameters(RNN(100, 128)) == 29_184 + 2 * 128
    assert parameters(RNN(100, 128, bias=False)) == 29_184


def test_a_relu_is_a_comparison():
    tanh, relu = (work(RNN(100, 128, nonlinearity=f), (1, 10, 100)) for f in ("tanh", "relu"))
    assert tanh.macs == relu.macs
    # per unit and step: two biases and the sum of the two products
    assert (tanh.vector_flops, tanh.transcendentals) == (10 * 128 * 3, 10 * 128)
    assert (relu.vector_flops, relu.transcendentals) == (10 * 128 * 4, 0)


def test_an_lstm_over_a_thousand_steps():
    lstm = LSTM(100, 128)
    made = node(lstm, (1, 1000, 100))
    # four gates of the RNN's step; 2 x 4 x 128 biases
    assert parameters(lstm) == 4 * 29_184 + 1_024 == 117_760
    counted = lstm.work(*made.io)
    assert counted.macs == 1000 * 4 * 29_184 == 116_736_000
    # per step 512 gate sums of 3 operations and 7 more a unit; 3 sigmoids of 2 and 2 tanh
    assert counted.vector_flops == 1000 * (512 * 3 + 128 * 7)
    assert counted.transcendentals == 1000 * 128 * 8
    assert lstm.parallelism(*made.io).depth == 1000


def test_a_gru_has_three_gates():
    assert parameters(GRU(100, 128)) == 3 * 29_184 + 2 * 3 * 128 == 88_320
    counted = work(GRU(100, 128), (1, 1, 100))
    assert counted.macs == 3 * 29_184
    # 384 gate sums of 3 operations; r gh, 1 - z, two products, their sum and two sigmoids' additions
    assert counted.vector_flops == 384 * 3 + 128 * 7
    assert counted.transcendentals == 128 * (2 * 2 + 1)


def test_a_recurrence_keeps_a_state_that_does_not_grow():
    short, long = (node(LSTM(100, 512), (1, steps, 100)) for steps in (1, 1000))
    # h and c of 512 numbers of 4 bytes
    assert short.state_bytes == long.state_bytes == 2 * 512 * 4
    assert node(RNN(100, 512), (1, 1000, 100)).state_bytes == 2048


def test_layers_wait_for_each_other_and_directions_do_not():
    lstm = LSTM(100, 128, num_layers=2, bidirectional=True)
    made = node(lstm, (1, 10, 100))
    assert made.outs[0].shape == (1, 10, 256)
    # the second layer reads both directions of the first
    assert lstm.work(*made.io).macs == 10 * 2 * 4 * 128 * ((100 + 128) + (256 + 128))
    assert lstm.parallelism(*made.io).depth == 2 * 10


def test_the_bags_of_a_recommender():
    bag = EmbeddingBag(100_000, 64)
    moved = traffic(bag, (128, 4), dtype="int64")
    # 128 samples x 4 rows x 64 numbers of 4 bytes, of a table of 25.6 MB
    assert moved.weights == 128 * 4 * 256 == 131_072
    assert moved.inputs == 128 * 4 * 8
    assert moved.outputs == 128 * 64 * 4
    assert 26 * moved.weights == 26 * 128 * 4 * 256 == 3_407_872
    made = node(bag, (128, 4), dtype="int64")
    # three additions join four rows
    assert bag.work(*made.io).vector_flops == 128 * 64 * 3
    assert bag.work(*made.io).macs == 0


def test_a_small_table_is_read_once():
    # 1,000 lookups in 10 rows of 16 numbers
    assert traffic(Embedding(10, 16), (1000,), dtype="int64").weights == 10 * 16 * 4
    swept = traffic(Embedding(10, 16), (np.array([4.0, 1000.0]),), dtype="int64").weights
    assert swept.tolist() == [4 * 64, 10 * 64]


def test_a_lookup_has_the_type_of_the_activations():
    made = node(Embedding(10, 16), (3,), dtype="int64", precision="fp16")
    assert (made.outs[0].dtype, made.outs[0].nbytes) == ("fp16", 3 * 16 * 2)
    with pytest.raises(SizeError, match="integer indices"):
        Embedding(10, 16).shape(Tensor((3,), "fp32"))


def test_pairs_of_twenty_seven_features():
    pairs = PairwiseInteraction()
    made = node(pairs, (128, 27, 64))
    assert made.outs[0].shape == (128, 27 * 26 // 2) == (128, 351)
    # the whole square is multiplied, though half of it is kept
    assert pairs.work(*made.io).macs == 128 * 27 * 27 * 64 == 5_971_968
    assert PairwiseInteraction(True).shape(Tensor((128, 27, 64))).shape == (128, 378)
    # vectors (1, 2), (3, 4), (5, 6): 2.1, 3.1, 3.2
    x = np.array([[[1.0, 2], [3, 4], [5, 6]]])
    np.testing.assert_allclose(pairs.loops(Tally(), x), [[11, 17, 39]])


def test_the_attention_of_gpt2_small():
    attend = Attention(causal=True, keep=True, algorithm="materialised")
    made = node(attend, *[(1, 12, 1024, 64)] * 3)
    counted = attend.work(*made.io)
    # 1024 x 1024 scores in 12 heads, 64 for q k and 64 for the values
    assert counted.macs == 12 * 1024 * 1024 * (64 + 64) == 1_610_612_736
    assert counted.masked_macs == 12 * (1024 * 1023 // 2) * 128
    # scores written and read, probabilities written and read
    assert attend.traffic(made).workspace == 4 * 12 * 1024 * 1024 * 4
    assert made.state_bytes == 2 * 12 * 1024 * 64 * 4


def test_the_cache_of_llama2_at_2080_tokens():
    shape = (1, 32, 1, 128)
    layer = node(Attention(cached=2079, keep=True), shape, shape, shape, precision="fp16")
    # 32 layers x 2 x 4096 numbers of 2 bytes: 524,288 bytes a token
    assert 32 * layer.state_bytes == 2080 * 524_288 == 1_090_519_040


def test_norms_count_rows_and_elements():
    assert parameters(LayerNorm(768)) == 2 * 768
    assert parameters(RMSNorm(4096)) == 4096
    assert work(LayerNorm(768), (1, 128, 768)).transcendentals == 4 * 128
    assert work(RMSNorm(768), (1, 128, 768)).vector_flops == 4 * 128 * 768
    frozen = BatchNorm(64)
    assert work(frozen, (1, 64, 56, 56)).vector_flops == 2 * 64 * 56 * 56
    # weights, biases, means and variances of 64 channels
    moved = traffic(frozen, (1, 64, 56, 56))
    assert moved.weights == 4 * 64 * 4


def test_norms_of_a_row():
    one, row = np.ones(2), np.array([[1.0, 3.0]])
    # mean 2, deviation 1; root of the mean square, 5 ** 0.5
    np.testing.assert_allclose(LayerNorm(2, eps=0.0).loops(Tally(), row, weight=one, bias=one), [[0, 2]])
    np.testing.assert_allclose(RMSNorm(2, eps=0.0).loops(Tally(), row, weight=one), row / 5**0.5)


@pytest.mark.parametrize(
    ("function", "x", "y"),
    [
        ("relu6", 7, 6),
        ("hardswish", 3, 3),
        ("hardswish", -3, 0),
        ("hardsigmoid", 0, 0.5),
        ("leaky_relu", -2, -0.02),
        ("sigmoid", 0, 0.5),
        ("silu", 1, 0.7310585786),
        ("gelu", 1, 0.8413447461),  # the normal distribution's Phi(1)
        ("gelu_tanh", 1, 0.8411919906),
        ("elu", -1, -0.6321205588),
        ("identity", 5, 5),
    ],
)
def test_values_of_functions(function, x, y):
    assert Activation(function).loops(Tally(), np.array([float(x)]))[0] == pytest.approx(y, abs=1e-9)


def test_an_unknown_function_names_the_nearest():
    with pytest.raises(UnknownName, match="unknown activation 'rellu'.*relu"):
        Activation("rellu")


def test_softmax_of_large_numbers_does_not_overflow():
    np.testing.assert_allclose(Softmax().loops(Tally(), np.zeros((1, 4))), [[0.25] * 4])
    shifted = Softmax().loops(Tally(), np.array([[1000.0, 1000.0 + np.log(3)]]))
    np.testing.assert_allclose(shifted, [[0.25, 0.75]])


def test_a_residual_moves_its_tensor_three_times():
    # two reads and a write of 64 x 56 x 56 numbers
    assert traffic(Add(), (1, 64, 56, 56), (1, 64, 56, 56)).total == 3 * 64 * 56 * 56 * 4
    assert traffic(Add(scalar=1.0), (1, 64, 56, 56)).total == 2 * 64 * 56 * 56 * 4
    # an addition an input, a division an output
    mean = work(Reduce(1), (2, 7, 5))
    assert (mean.vector_flops, mean.transcendentals) == (70, 10)


@pytest.mark.parametrize(
    ("op", "shapes", "vector", "transcendental"),
    [
        (Linear(3, 5), [(2, 3)], 10, 0),  # a bias for each of 2 x 5 outputs
        (Linear(3, 5, bias=False), [(2, 3)], 0, 0),
        (Conv2d(3, 4, 1), [(1, 3, 5, 5)], 100, 0),  # a bias for each of 4 x 25 outputs
        (Add(), [(2, 3), (3,)], 6, 0),
        (Sub(), [(2, 3), (2, 1)], 6, 0),
        (Mul(scalar=2.0), [(2, 3)], 6, 0),
        (Div(), [(2, 3), (2, 3)], 0, 6),  # a division is counted with the roots and exponentials
        (Rotary(), [(1, 2, 5, 8)], 3 * 80, 0),  # two products and a sum
        (LayerNorm(4), [(3, 4)], 7 * 12, 4 * 3),  # sum, difference, square, its sum, scale, weight, bias
        (LayerNorm(4, bias=False), [(3, 4)], 6 * 12, 4 * 3),
        (Softmax(), [(3, 4)], 3 * 12, 2 * 12),  # maximum, difference, sum; exponential and division
        (Activation("relu"), [(3, 4)], 12, 0),  # a comparison
        (Activation("sigmoid"), [(3, 4)], 12, 24),  # an addition; an exponential and a division
        (Activation("gelu"), [(3, 4)], 4 * 12, 12),  # x / 2 ** 0.5, 1 + erf, times x, halved
        (AvgPool2d(2), [(1, 1, 4, 4)], 16, 4),  # an addition a position; a division an output
        (EmbeddingBag(9, 4, "mean"), [(3, 5)], 3 * 4 * 4, 12),  # 4 additions of 5 rows; a division
        # 3 x 3 scores in 2 heads: scale, maximum, difference, sum; exponentials, and 2 x 3 x 4 divisions
        (Attention(), [(1, 2, 3, 4)] * 3, 4 * 18, 18 + 24),
    ],
)
def test_what_is_not_a_mac(op, shapes, vector, transcendental):
    kind = "int64" if isinstance(op, EmbeddingBag) else "fp32"
    ins = [Tensor(shape, kind) for shape in shapes]
    counted = op.work(*ins, op.shape(*ins))
    assert (counted.vector_flops, counted.transcendentals) == (vector, transcendental)


@pytest.mark.parametrize("op", [Reshape((2, -1)), Flatten(), Slice(1, 1), Split((2, 2), 1)])
def test_views_move_nothing(op):
    made = node(op, (2, 4, 3))
    assert op.traffic(made).total == 0
    assert op.class_of(*made.io) == "view"
    assert op.work(*made.io).macs == 0


def test_copies_read_all_and_write_all():
    assert traffic(Transpose((0, 2, 1)), (2, 4, 3)).total == 2 * 24 * 4
    assert traffic(Transpose((0, 2, 1), view=True), (2, 4, 3)).total == 0
    assert traffic(Concat(1), (2, 4, 3), (2, 1, 3)).total == 2 * 30 * 4
    # 24 numbers read; a row of zeros makes 30 written
    assert traffic(Pad(((0, 0), (0, 1), (0, 0))), (2, 4, 3)).total == (24 + 30) * 4


@pytest.mark.parametrize(
    ("slice_", "length"),
    [
        (Slice(0, 0, -1), 6),
        (Slice(0, -2), 2),
        (Slice(0, 0, 100), 7),
        (Slice(0, -100), 7),
        (Slice(0, 1, None, 2), 3),  # 1, 3, 5
        (Slice(0, 0, -1, 3), 2),  # 0, 3
    ],
)
def test_slices_of_seven_in_three_readings(slice_, length):
    n = sympy.Symbol("n", integer=True, positive=True)
    assert slice_.shape(Tensor((7,))).shape == (length,)
    assert slice_.shape(Tensor((np.array([7.0, 7.0]),))).shape[0].tolist() == [length] * 2
    assert slice_.shape(Tensor((n,))).shape[0].subs(n, 7) == length


def test_padding_may_cut():
    y = Pad(((1, -1), (0, 2))).loops(Tally(), np.array([[1.0], [2.0]]))
    np.testing.assert_allclose(y, [[0, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: Reshape((-2, -3)).shape(x),
        lambda x: Reshape((-1, -1)).shape(x),
        lambda x: Reshape((4, -1)).shape(x),
        lambda x: Split((7, -1), 0).shape(x),
        lambda x: Slice(0, 3, 3).shape(x),
        lambda x: Slice(0, 0, 3, 0).shape(x),
        lambda x: Concat(0).shape(x, Tensor((6, 1))),
        lambda x: Transpose((0, 1)).shape(x),
    ],
)
def test_shapes_nothing_can_have_are_refused(wrong):
    with pytest.raises(SizeError, match="^(Reshape|Split|Slice|Concat|Transpose)"):
        wrong(Tensor((6,)))


def test_a_rotation():
    x = np.array([1.0, 0.0]).reshape(1, 1, 1, 2)
    # one pair, angle = position: the first position is not turned
    np.testing.assert_allclose(Rotary().loops(Tally(), x), x)
    turned = Rotary(offset=2).loops(Tally(), x).reshape(2)
    np.testing.assert_allclose(turned, [np.cos(2), np.sin(2)])


def test_a_rotation_continues_where_the_cache_ends():
    x = np.random.default_rng(0).normal(size=(1, 2, 5, 8))
    whole = Rotary().loops(Tally(), x)
    np.testing.assert_allclose(Rotary(offset=3).loops(Tally(), x[:, :, 3:]), whole[:, :, 3:])


def test_a_rotation_in_half_precision_knows_its_position():
    torch = pytest.importorskip("torch")
    x = torch.ones(1, 1, 1, 2, dtype=torch.bfloat16)
    # in bf16 position 257 would round to 256
    turned = Rotary(offset=257).torch(torch)(x).double().numpy()
    assert Rotary(offset=257).torch(torch)(x).dtype == torch.bfloat16
    np.testing.assert_allclose(turned, Rotary(offset=257).loops(Tally(), np.ones((1, 1, 1, 2))), atol=0.02)
