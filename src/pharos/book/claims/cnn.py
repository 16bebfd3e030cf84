"""Section 1.3: convolution, equivariance and receptive fields, the self-check."""

from functools import cache
from math import ceil
from typing import Literal

from pharos.book.answer import told, unknown
from pharos.book.claims.mlp import RGB
from pharos.book.claims.principles import WIDTHS, separable_gain
from pharos.book.sums import (
    A100,
    KB,
    MB,
    bandwidth,
    chain,
    close,
    conv,
    counted,
    dense,
    draw,
    executed,
    graph,
    leads,
    out,
    peak,
    run,
    symbols,
    weight_layers,
)
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv2d
from pharos.ops.pooling import GlobalAvgPool, MaxPool2d
from pharos.passes.receptive import fields
from pharos.quantity.dtypes import BITS

# The vertical-edge detector of Example 1.3, and its image's row.
EDGE = [[[[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]]]
LINE = [0, 0, 1, 0, 0, 0, 0]


@cache
def sees(*ops: Conv2d) -> int:
    """Pixels a side that an output of these layers depends on."""
    made = chain((1, 1, 512, 512), *ops)
    size = fields(made)[made.outputs[0].name].size
    assert size is not None
    return int(size[0])


def threes(n: int, stride: int = 1) -> tuple[Conv2d, ...]:
    """So many 3x3 layers."""
    return (Conv2d(1, 1, 3, stride, 1, bias=False),) * n


def layers_to_see(pixels: int) -> int:
    """3x3 layers of stride 1 until an output sees so many pixels a side."""
    each = sees(*threes(2)) - sees(*threes(1))
    return ceil((pixels - 1) / each)


def moved(x, by: int):
    """An image shifted around its edges, down and to the right."""
    import numpy as np

    return np.roll(x, (by, by), (2, 3))


def is_equivariant(stride: int = 1, by: int = 1, mode: Literal["wrap", "constant"] = "wrap") -> bool:
    """Whether shifting the image shifts the feature map, with edges that wrap or are zero."""
    import numpy as np

    w, x, op = draw(1, 1, 3, 3, seed=1), draw(1, 1, 12, 12), Conv2d(1, 1, 3, stride, bias=False)

    def features(image):
        padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=mode)
        return run(op, padded, weight=w)

    if by % stride:
        return any(close(features(moved(x, by)), moved(features(x), s)) for s in range(12 // stride))
    return close(features(moved(x, by)), moved(features(x), by // stride))


def _is_pooled_invariant(wraps: bool) -> bool:
    import numpy as np

    x = draw(1, 1, 8, 8)
    other = moved(x, 2)
    if not wraps:
        other[:, :, :2, :], other[:, :, :, :2] = 0, 0
    return close(run(GlobalAvgPool(), np.maximum(x, 0)), run(GlobalAvgPool(), np.maximum(other, 0)))


def _peak_of(side: int, at: int, height: float = 1.0):
    """(row and column of the largest response, mean response) to one bright pixel."""
    import numpy as np

    x = np.zeros((1, 1, side, side))
    x[0, 0, at, at] = height
    w = np.zeros((1, 1, 3, 3))
    w[0, 0, 1, 1] = 1.0
    y = run(Conv2d(1, 1, 3, 1, 1, bias=False), x, weight=w)
    row, column = np.unravel_index(int(y.argmax()), y.shape)[2:]
    return [int(row), int(column)], float(run(GlobalAvgPool(), y).ravel()[0])


def _whisker(at, by, mean):
    side = at + by + 5
    return list(_peak_of(side, at + by, mean * side * side))


def _five():
    first, second = _peak_of(16, 4)[0], _peak_of(16, 4 + 5)[0]
    return told(second[0] - first[0], "stride 1")


def edge_response(row: list[int], flipped: bool = False):
    """What the edge detector answers in each row of the 7x7 image with that row seven times."""
    weights = [[[r[::-1] for r in EDGE[0][0]]]] if flipped else EDGE
    y = run(Conv2d(1, 1, 3, bias=False), [[[row] * 7]], weight=weights)[0, 0]
    assert all(close(line, y[0]) for line in y)
    return [int(v) for v in y[0]]


def _shifted(row: list[int], by: int = 2) -> list[int]:
    return [0] * by + row[:-by] if by > 0 else row[-by:] + [0] * -by


def _is_window_sum() -> bool:
    import numpy as np

    x, w, b = draw(1, 2, 6, 6), draw(3, 2, 3, 3, seed=1), draw(3, seed=2)
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), (1, 2))
    by_hand = np.einsum("cijuv,ocuv->oij", windows, w) + b[:, None, None]
    return close(run(Conv2d(2, 3, 3), x, weight=w, bias=b)[0], by_hand)


def is_im2col_exact() -> bool:
    """Whether a product with unfolded patches gives the convolution."""
    x, w = draw(1, 2, 6, 6), draw(3, 2, 3, 3, seed=1)
    direct, unfolded = (Conv2d(2, 3, 3, 1, 1, bias=False, algorithm=a) for a in ("direct", "im2col"))
    return close(run(direct, x, weight=w), run(unfolded, x, weight=w))


def _closure() -> bool:
    x, w, op = draw(1, 1, 8, 8), draw(1, 1, 3, 3, seed=1), Conv2d(1, 1, 3, bias=False)
    return close(run(op, moved(moved(x, 2), 3), weight=w), run(op, moved(x, 5), weight=w))


def _tasks():
    kinds = {line.kind for line in counted("resnet50").lines}
    made = graph("unet")
    same = made.inputs[0].shape[2:] == made.outputs[0].shape[2:]
    return told(
        "global_avg_pool" in kinds and same,
        "ResNet-50 pools over all positions before it classifies; U-Net, "
        "for segmentation, answers at every pixel",
    )


def _doorbell(sram_kb):
    small, large = (counted(n, precision="int8").weight_bytes for n in ("ds_cnn_m", "resnet50"))
    return told(
        [small < sram_kb * KB, large > sram_kb * KB],
        f"int8 weights: {small / KB:.0f} KB and "
        f"{large / MB:.1f} MB; activations come on top, and the printed 800 KB in fp32 would not fit",
    )


def _equal_flops() -> bool:
    one, other = dense(2048, 2048), conv(64, 64, 1, 32)
    assert one.macs == other.macs
    times = [max(c.flops / peak(A100, "fp32"), c.traffic.total / bandwidth(A100)) for c in (one, other)]
    return close(times[0], times[1])


def _doubled_exponent(stride: int) -> bool:
    """Whether twice the layers see the square of the area, up to a constant."""
    few, many = (sees(*threes(n, stride)) ** 2 for n in (3, 6))
    return many >= few**2 / 4


def _tree():
    areas = [sees(*threes(n)) ** 2 for n in (1, 3, 10)]
    return told(
        _doubled_exponent(1),
        f"stride 1: {areas[0]}, {areas[1]} and {areas[2]} inputs after 1, 3 and 10 "
        "layers, the square of the depth",
        with_stride_2=_doubled_exponent(2),
    )


def _lenet():
    first = conv(1, 6, 5, 32, same=False)
    made = out(Conv2d(1, 6, 5), 1, 1, 32, 32)
    full = dense(32 * 32, Tensor(made).numel)
    return told(
        100 * (1 - first.parameters / full.parameters),
        f"LeNet's first layer, {made[1]} maps of "
        f"{made[2]}x{made[3]}: {first.parameters} weights against {full.parameters / 1e6:.1f} M",
    )


def _formula_of_conv():
    n, k, cin, cout = symbols("N K Cin Cout")
    return leads(Conv2d(cin, cout, (k, k)).taps() * Tensor((n, cout)).numel, "N", "K", "Cin", "Cout")


def _separable_weights():
    k, cin, cout = symbols("K Cin Cout")
    deep, point = Conv2d(cin, cin, (k, k), groups=cin), Conv2d(cin, cout, 1)
    return [leads(deep.taps() * cin, "K", "Cin"), leads(point.taps() * cout, "Cin", "Cout")]


def _separable_share():
    share = 1 / separable_gain(64, 128)
    return told(
        close(share, 1 / 128 + 1 / 9),
        f"{share:.4f} for 64 to 128 channels: what remains, not the factor by which it falls",
    )


CLAIMS = {
    "fn10-25-weights": lambda: told(conv(1, 1, 5).parameters, "one channel"),
    "fn10-million-x": lambda pixels: told(
        dense(pixels, pixels).parameters / conv(1, 1, 5).parameters,
        "a dense layer of as many outputs; of a single output it would be "
        f"{dense(pixels, 1).parameters / conv(1, 1, 5).parameters:,.0f}, below the bound",
    ),
    "def13-o1-params": lambda: told(
        conv(64, 64, side=448).parameters / conv(64, 64).parameters,
        "of convolutions; a dense layer behind them does grow",
    ),
    "cnn-params-independent-of-input": lambda: [dense(RGB.numel, 64).parameters, conv(3, 64).parameters],
    "fn11-alexnet-top5": lambda: unknown(
        "a competition's result; 15.3% is an ensemble with further data, 16.4% the one without"
    ),
    "fn11-imagenet-size": lambda: unknown("facts about a data set that is not read here"),
    "fn12-95-percent": _lenet,
    "fn12-lenet-60k": lambda: told(
        counted("lenet5").parameters,
        "with a full third layer; the sparse one of 1998 and its trained subsampling give 60,000",
    ),
    "fn13-pool-75": lambda: (
        100 * (1 - Tensor(out(MaxPool2d(2), 1, 1, 28, 28)).numel / Tensor((1, 1, 28, 28)).numel)
    ),
    "eq3-conv": lambda: told(
        _is_window_sum(), "as cross-correlation: the kernel is not flipped, nothing is padded"
    ),
    "fn14-rf-growth": lambda: told(sees(*threes(3)), "stride 1"),
    "fn14-100px-depth": lambda: told(
        layers_to_see(100) > weight_layers("vgg19"),
        f"{layers_to_see(100)} layers of stride 1, more than VGG-19 has; far fewer with strides",
    ),
    "mnist-conv-output": lambda: [*out(Conv2d(1, 32, 3, 1, 1), 1, 1, 28, 28)[2:], 32],
    "eq4-equivariance": lambda: told(
        is_equivariant(),
        "exact where edges wrap, or away from them, and for shifts that are multiples of the stride",
        with_zero_padding=is_equivariant(mode="constant"),
    ),
    "eq5-invariance": lambda: told(
        _is_pooled_invariant(True),
        "exact while nothing leaves the frame",
        with_content_lost=_is_pooled_invariant(False),
    ),
    "shift-five": _five,
    "whisker-50-55": _whisker,
    "equivariance-proof": lambda: told(
        is_equivariant(by=3),
        "checked by the loop form for a shift of 3; the printed subscripts v_one are slips for v_1",
    ),
    "ex13-original-image": lambda: unknown(
        "the matrix is not in the text; the shifted image moved back has its line in the third column",
        row=_shifted(_shifted(LINE), -2),
    ),
    "ex13-feature-map": lambda: told(
        edge_response(LINE),
        "cross-correlation without padding; with the kernel flipped the signs are the other way "
        f"round, {edge_response(LINE, True)}",
    ),
    "ex13-shifted-image": lambda: _shifted(LINE),
    "ex13-shifted-feature-map": lambda: told(
        edge_response(_shifted(LINE)),
        "the shifted response, as nothing leaves the frame; one column further it is "
        f"{edge_response(_shifted(LINE, 3))}",
    ),
    "ex13-sign-convention": lambda: told(
        [edge_response([0, 0, 0, 1, 1, 1, 1])[1] > 0, edge_response([1, 1, 1, 1, 0, 0, 0])[2] < 0],
        "of cross-correlation; a flipped kernel reverses it",
    ),
    "rgb-150528": lambda: RGB.numel,
    "filter-27": lambda: conv(3, 1).parameters,
    "ratio-5575": lambda: told(
        RGB.numel / conv(3, 1).parameters,
        "rounded; Definition 1.1 prints about a thousand for the same geometry",
    ),
    "im2col-simd-friendly": is_im2col_exact,
    "group-closure": _closure,
    "stride-breaks-equivariance": lambda: told(
        not is_equivariant(stride=2, by=1),
        "stride 2 and a shift of one pixel; a shift of two "
        f"{'holds' if is_equivariant(stride=2, by=2) else 'breaks too'}",
    ),
    "task-equivariance-map": _tasks,
    "listing3-macs": lambda: told(
        executed(Conv2d(1, 1, 3, 1, 1, bias=False), draw(1, 1, 28, 28), weight=draw(1, 1, 3, 3)),
        "executed by the loop form: one channel in, one out",
    ),
    "listing4-seven-loops": lambda: told(
        len(out(Conv2d(3, 64, 3), 1, 3, 8, 8)) + len(Conv2d(3, 64, 3).weights()["weight"][1:]),
        "a loop for each dimension of the output, and for each of a filter",
    ),
    "conv-9-macs-vs-784": lambda: told(
        [Conv2d(1, 1, 3).taps(), dense(28 * 28, 1).macs], "for each output value"
    ),
    "conv-576-weights": lambda: conv(1, 64).parameters,
    "conv-cin-weights": lambda: str(conv(symbols("C_in"), 64).parameters),
    "conv-activations-3p2m": lambda: told(
        Tensor(out(Conv2d(3, 64, 3, 1, 1), 1, 3, 224, 224)).numel, f"{4 * 224 * 224 * 64 / MB:.1f} MB in fp32"
    ),
    "conv-576-macs-position": lambda: conv(1, 64).macs / Tensor((224, 224)).numel,
    "conv-50176-positions": lambda: Tensor(out(Conv2d(1, 1, 3, 1, 1), 1, 1, 224, 224)).numel,
    "conv-50176-reuse": lambda: told(
        conv(1, 64).macs / conv(1, 64).parameters,
        f"padded; without padding {conv(1, 64, same=False).macs / conv(1, 64).parameters:,.0f}",
    ),
    "fn15-avx512-16": lambda: told(
        512 // BITS["fp32"], "lanes; the gain is less where memory or the clock limits"
    ),
    "conv-complexity": _formula_of_conv,
    "ds-params": _separable_weights,
    "ds-reduction": _separable_share,
    "sc-cnn-150m-per-neuron": lambda: told(
        dense(RGB.numel, 1).parameters,
        "per neuron it is 150 thousand, as Section 1.3 says itself",
        of_a_layer_of_1000_neurons=dense(RGB.numel, 1000).parameters,
    ),
    "sc-1728": lambda: conv(3, 64).parameters,
    "sc-rf-50": lambda: told(layers_to_see(50), f"they see {sees(*threes(layers_to_see(50)))} pixels"),
    "sc-2500": lambda: told(
        conv(1, 1, 50).parameters,
        f"{conv(1, 1, 50).parameters / (25 * conv(1, 1).parameters):.0f} times the stack of "
        "25 3x3 layers, 278 times one",
    ),
    "sc-doorbell": _doorbell,
    "sc-ds-order-of-magnitude": lambda: [separable_gain(c) for c in WIDTHS[:4]],
    "sc-equal-flops-latency": lambda: told(
        _equal_flops(),
        "a dense layer of 2,048 and a pointwise one with as many MACs on an A100, by the roofline",
    ),
    "sc-filter-9-weights-4k": lambda: told(conv(1, 1, side=3840).parameters, "per input channel"),
    "tree-exponential-inputs": _tree,
}
