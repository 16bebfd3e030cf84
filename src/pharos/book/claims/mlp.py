"""Section 1.2: multi-layer perceptrons, the MNIST pair of Example 1.1, the dense layers argued with."""

import re

from pharos.book.answer import told, unknown
from pharos.book.sums import (
    A100,
    A100_40,
    H100,
    MB,
    MIB,
    bandwidth,
    close,
    conv,
    counted,
    dense,
    dram_energy,
    draw,
    executed,
    figure,
    grows,
    joules,
    layers,
    leads,
    mac_energy,
    machine_file,
    peak,
    per_byte,
    ridge,
    run,
    symbols,
    vector_peak,
)
from pharos.graph.tensor import Tensor
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.ops.pooling import MaxPool2d
from pharos.ops.shape_ops import Flatten

RGB = Tensor((3, 224, 224))
GREY = Tensor((1, 256, 256))
DIGIT = Tensor((1, 28, 28))
MLP = "mlp(bias=False)"
# The layer that the section takes apart.
REFERENCE = dense(784, 100)


def mnist_cnn(bias: bool = False):
    """Example 1.1's CNN: two padded 3x3 convolutions with pooling, a dense layer of 128, ten classes."""
    return layers(
        (1, 1, 28, 28),
        Conv2d(1, 32, 3, 1, 1, bias=bias),
        MaxPool2d(2),
        Conv2d(32, 64, 3, 1, 1, bias=bias),
        MaxPool2d(2),
        Flatten(1),
        Linear(64 * 7 * 7, 128, bias),
        Linear(128, 10, bias),
    )


def mnist_ratio() -> float:
    """Weights of the MLP over those of the CNN."""
    return counted(MLP).parameters / mnist_cnn().parameters


def _fewer_bytes():
    cnn, mlp = mnist_cnn(), counted(MLP)
    maps = [sum(n.node.outs[0].numel for n in c.lines if n.work.macs) for c in (cnn, mlp)]
    return told(
        mlp.weight_bytes / cnn.weight_bytes,
        f"weights alone: of activations the CNN makes more, {maps[0]:,} numbers a sample against {maps[1]:,}",
    )


def _by_hand():
    h, w = [[0.8, 0.2, 0.9, 0.1]], [[0.5, 0.1, -0.2], [-0.3, 0.8, 0.4], [0.2, -0.4, 0.6], [0.7, 0.3, -0.1]]
    z = run(Linear(4, 3, False, transposed=True), h, weight=w)
    return [round(float(v), 12) for v in z[0]]


def _after_relu():
    return [float(v) for v in run(Activation("relu"), [_by_hand()])[0]]


def _additive(d, pieces):
    neurons = symbols("d") * pieces
    return told(
        [leads(neurons, "d"), leads(neurons, "d")],
        "the function is a sum over coordinates: one hidden ReLU layer whose units each read one coordinate,"
        f" {pieces} pieces a sine, takes {neurons.subs('d', d)} for d = {d}. That layer is a dense layer with"
        " zeros, so that an MLP needs O(d) as well; other functions do need exponential width",
    )


def _aligned(dtype: str) -> int:
    rule = machine_file(A100)["alignment"]["rule"]
    return int(re.search(rf"{dtype}(?:/\w+)? (\d+)", rule)[1])  # type: ignore[index]


def _multiple_of_eight():
    return told(
        _aligned("fp16"),
        "the fp16 rule, 16 bytes; since cuBLAS 11 other sizes run on tensor cores too, only slower",
        int8=_aligned("int8"),
        tf32=_aligned("tf32"),
        fp64=_aligned("fp64"),
    )


def _tensor_core_gap():
    return told(
        peak(A100) / vector_peak(A100),
        "more than 9 is true, but the two printed peaks are 16 apart; an fp16 kernel that loses its"
        f" tensor cores falls {peak(A100) / vector_peak(A100, 'fp16'):g}x, tf32 to fp32"
        f" {peak(A100, 'tf32') / vector_peak(A100):g}x",
    )


def _crossover(machine: str, n: int = 2048, m: int = 2048) -> int | None:
    """The batch from which a dense layer in fp16 lies above the ridge; None if it never does."""
    low, high = 1, 2**20
    if per_byte(dense(n, m, high, "fp16")) < ridge(machine):
        return None
    while low < high:
        middle = (low + high) // 2
        if per_byte(dense(n, m, middle, "fp16")) < ridge(machine):
            low = middle + 1
        else:
            high = middle
    return low


def _batch_to_cross():
    limit = per_byte(dense(784, 100, 2**20, "fp16"))
    return told(
        _crossover(A100),
        "2048 x 2048 in fp16 on an A100 80 GB. The 784 x 100 layer never crosses: with batch it tends to "
        f"{limit:.0f} FLOP/B",
        A100_40_GB=_crossover(A100_40),
        H100=_crossover(H100),
    )


def _share_of_peak():
    intensity = per_byte(dense(2048, 2048), "weights_only")
    return told(
        100 * intensity * bandwidth(A100) / peak(A100),
        f"{intensity * bandwidth(A100) / 1e12:.2f} TFLOP/s by the roofline, of a peak of"
        f" {peak(A100) / 1e12:g}",
        of_the_tf32_peak=100 * intensity * bandwidth(A100) / peak(A100, "tf32"),
        of_the_vector_units_of_an_A100_40_GB=100 * intensity * bandwidth(A100_40) / vector_peak(A100_40),
    )


def energy_ratio(mac_pj: float, dram_pj: float):
    """Energy of an operand from DRAM over that of a MAC, and of the printed figures."""
    return told(
        dram_energy() / mac_energy(),
        "fp32 at 45 nm, 640 pJ over 4.6 pJ as Section 1.9 prints; the footnote names no node and no type",
        of_the_printed_figures=dram_pj / mac_pj,
        of_an_int8_MAC=dram_energy() / joules("arithmetic", 45, op="int8_mac"),
    )


def _misaligned():
    by = _aligned("fp16")
    return told(
        784 % by != 0 and 100 % by != 0,
        f"784 = {by} x {784 // by}; only 100 is not a multiple, it leaves {100 % by}",
        of_the_100_alone=100 % by != 0,
    )


def _order():
    x, w, b = draw(1, 5), draw(1, 5, seed=1), draw(1, seed=2)
    total = b[0]
    for k in range(5):
        total = total + x[0, k] * w[0, k]
    y = run(Activation("relu"), run(Linear(5, 1), x, weight=w, bias=b))
    return told(
        close(y, [[max(total, 0.0)]]), "the loop form starts at the bias, adds the products, then activates"
    )


def _fastest_phones():
    names = ("apple_a17_pro", "qualcomm_sd8gen3", "google_edge_tpu")
    return told(
        [peak(n, "int8") / 2 for n in names],
        "int8 peaks over 2: A17 Pro and Snapdragon 8 Gen 3 lie above the range, the Edge TPU in it",
    )


def _matmul_share(machine: str) -> float:
    best = figure(machine, "FLOP/s", "measured", "matmul_bf16_best_ops_per_s")
    return 100 * best / peak(machine, "bf16")


CLAIMS = {
    "fn3-1e14-ops": lambda: told(peak(A100) / 2, f"A100, fp16; an H100 {peak(H100) / 2:.2e}"),
    "fn4-uat-exponential": lambda: told(GREY.numel, "one channel; the bound itself is a worst-case theorem"),
    "def12-1024-params": lambda: told(dense(1024, 1024).parameters, "without its bias"),
    "def12-2mb": lambda: told(
        dense(1024, 1024, precision="fp16").weight_bytes / MB,
        "exactly 2 MiB; the chapter uses decimal megabytes elsewhere",
        MiB=dense(1024, 1024, precision="fp16").weight_bytes / MIB,
    ),
    "def12-9408": lambda: told(
        conv(3, 64).parameters,
        "the printed number is the 7x7 stem of ResNet: no 3x3 layer without bias has it, for 9 does not"
        " divide it",
        with_a_7x7_kernel=conv(3, 64, 7).parameters,
    ),
    "def12-quadratic": lambda: grows(dense(symbols("d"), symbols("d")).parameters, symbols("d")),
    "fn5-65536": lambda: told(GREY.numel, "one channel"),
    "mnist-784": lambda: DIGIT.numel,
    "sample-complexity": lambda: unknown(
        "a worst-case statement without a named theorem; samples must be drawn"
    ),
    "sin-sum-width": _additive,
    "mnist-mlp-params": lambda: told(
        counted(MLP).parameters, f"without biases; {counted('mlp').parameters:,} with them"
    ),
    "mnist-cnn-params": lambda: told(
        mnist_cnn().parameters,
        f"without biases; {mnist_cnn(True).parameters:,} with them. The dense layer of 128 holds "
        f"{100 * dense(64 * 7 * 7, 128).parameters / mnist_cnn().parameters:.0f}%",
    ),
    "mnist-47x": mnist_ratio,
    "mnist-47x-memory": _fewer_bytes,
    "mnist-faster-inference": lambda: unknown(
        "time must be measured; the MACs are not 47 times apart",
        ratio_of_MACs=counted(MLP).macs / mnist_cnn().macs,
    ),
    "mnist-mlp-acc": lambda: unknown("needs training"),
    "mnist-cnn-acc": lambda: unknown("needs training"),
    "mnist-60000": lambda: unknown("a fact about a data set that is not read here"),
    "no-free-lunch-date": lambda: unknown(
        "dates of publications: the 1996 theorem is on learning, the 1997 one, which the footnote describes,"
        " on search"
    ),
    "ex12-preactivation": lambda: told(
        _by_hand(), "row vectors as in Equation 1, although the example prints a column; no bias is given"
    ),
    "ex12-relu": _after_relu,
    "ref-layer-params": lambda: told(
        REFERENCE.parameters, f"{dense(784, 100, bias=True).parameters:,} with biases"
    ),
    "listing1-macs": lambda: REFERENCE.macs,
    "listing2-per-output": lambda: told(
        executed(Linear(784, 1, False), draw(1, 784), weight=draw(1, 784)),
        "executed by the loop form; each MAC reads an input and a weight, 1,568 reads in all",
    ),
    "fn7-datacenter-mac-rate": lambda: told(
        [peak(A100) / 2, peak(H100) / 2, peak(H100, "fp8") / 2], "A100 and H100 in fp16, H100 in fp8"
    ),
    "fn7-mobile-mac-rate": _fastest_phones,
    "fn7-mac-1pj-dram-200pj": energy_ratio,
    "fn8-784-macs": lambda: dense(784, 1).macs,
    "fn8-80-95-utilisation": lambda: told(
        [_matmul_share(A100), _matmul_share(H100)],
        "the best bf16 matrix products measured in public on A100 and H100; Section 1.10 prints 70-85%",
    ),
    "fn9-multiple-of-8": _multiple_of_eight,
    "fn9-9x-gap": _tensor_core_gap,
    "fn9-a100-peaks": lambda: [peak(A100) / 1e12, vector_peak(A100) / 1e12],
    "ref-1568-accesses": lambda: told(
        dense(784, 1).traffic.inputs // 4 + dense(784, 1).traffic.weights // 4,
        "one output written beside them",
    ),
    "dense-2048-params": lambda: dense(2048, 2048).parameters,
    "dense-2048-17mb": lambda: told(
        dense(2048, 2048).weight_bytes / MB,
        "decimal; the self-check of the same section has 16, binary",
        MiB=dense(2048, 2048).weight_bytes / MIB,
    ),
    "eq2-intensity": lambda: told(
        per_byte(REFERENCE, "weights_only"),
        f"weights alone; {per_byte(REFERENCE):.4f} with input and output",
    ),
    "a100-needs-100": lambda: told(ridge(A100), f"fp16; fp32 vector units need {ridge(A100, 'fp32'):.1f}"),
    "dense-batch-several-hundred": _batch_to_cross,
    "mlp-oMN-memory": lambda: leads(dense(*symbols("M N")).weight_bytes, "M", "N"),
    "weight-used-once": lambda: REFERENCE.macs / REFERENCE.parameters,
    "sc-thousands-fewer": lambda: told(
        dense(RGB.numel, 1).parameters / conv(3, 1).parameters, "a detector; the MNIST pair differs by 47"
    ),
    "sc-16mb": lambda: told(
        dense(2048, 2048).weight_bytes / MB,
        "16 MiB; the body of the section prints 17, decimal",
        MiB=dense(2048, 2048).weight_bytes / MIB,
    ),
    "sc-4-percent-peak": _share_of_peak,
    "sc-tens-of-billions": lambda: told(
        dense(RGB.numel, 1000).parameters,
        f"1,000 units; 10 G weights take a width of {1e10 / RGB.numel:,.0f}, and the same quiz says 150"
        " million",
    ),
    "sc-150528": lambda: RGB.numel,
    "sc-784-not-multiple-of-8": _misaligned,
    "sc-dense-order": _order,
    "sc-fix-is-batching": lambda: told(
        per_byte(dense(2048, 2048, 256)) > 100 * per_byte(dense(2048, 2048)),
        f"{per_byte(dense(2048, 2048)):.2f} FLOP/B at batch 1, "
        f"{per_byte(dense(2048, 2048, 256)):.0f} at 256, fp32",
    ),
    "sc-4p2m-weights": lambda: dense(2048, 2048).parameters,
}
