"""Section 1.8: what networks share: depth and skip connections, gating, patches, hardware of their time."""

import re
from math import ceil, log, log10

from pharos.book.answer import told, unknown
from pharos.book.claims.attention import depths
from pharos.book.claims.recsys import has_skip
from pharos.book.sums import (
    GB,
    MB,
    bandwidth,
    chain,
    close,
    counted,
    dense,
    draw,
    figure,
    graph,
    layers,
    leads,
    machine,
    out,
    run,
    scores,
    symbols,
    weight_layers,
)
from pharos.graph.graph import Repeat
from pharos.graph.op import BROADCAST, GATHER, MATMUL, RANDOM, SEQUENTIAL, SLIDING_WINDOW, STRIDED
from pharos.graph.tensor import Tensor
from pharos.models.registry import entry
from pharos.ops.activation import Activation, Softmax
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.passes.training import training

P100, V100 = "nvidia_p100_sxm2", "nvidia_v100_sxm2_16gb"


def _primitives():
    kinds = {n: {line.kind for line in counted(n).lines} for n in ("mlp", "lenet5", "resnet50")}
    return told(
        [
            "linear" in kinds["mlp"],
            "conv2d" in kinds["lenet5"],
            has_skip("resnet50"),
            "batch_norm" in kinds["resnet50"],
            _matrices(LSTM) > 1,
        ],
        "each is in the network named; where it was born is history",
    )


def _pascal():
    paper = int(re.search(r"\d{4}", entry("resnet152").source)[0])  # type: ignore[index]
    year = machine(P100).year
    assert year is not None
    return told(
        year <= paper,
        f"the network is of {paper}, the P100 of {year}: boards of 12 GB of the generations before it were "
        "what there was",
    )


def _on_chip() -> float:
    each = figure(P100, "B", "memory", "scratchpad", "register_file_bytes_per_core")
    shared = figure(P100, "B", "memory", "scratchpad", "bytes_per_core")
    return figure(P100, "1", "cores", "count") * (each + shared) + figure(
        P100, "B", "memory", "cache", "capacity_bytes"
    )


def _sram():
    return told(
        _on_chip() / MB,
        "registers, shared memory and L2 of a P100 together; its L2 alone has "
        f"{figure(P100, 'B', 'memory', 'cache', 'capacity_bytes') / MB:.1f}",
    )


def _feasible():
    each = scores(512, 12)
    return told(each < _on_chip(), f"{each / MB:.1f} MB a layer for 12 heads in fp16")


def saved_bytes(depth: int, width: int = 64) -> float:
    """Bytes that so many dense layers with ReLU keep for the backward pass."""
    ops = [op for _ in range(depth) for op in (Linear(width, width), Activation("relu"))]
    return float(training(chain((32, width), *ops)).saved)


def slope(function: str, at: float) -> float:
    """Derivative of an activation, by a central difference of its loop form."""
    step = 1e-5
    high, low = (float(run(Activation(function), [[at + s]])[0, 0]) for s in (step, -step))
    return round((high - low) / (2 * step), 9)


def _sigmoid_chain(n: int) -> float:
    """Derivative through n sigmoids in a row, started where the first is steepest."""
    at, total = 0.0, 1.0
    for _ in range(n):
        total *= slope("sigmoid", at)
        at = float(run(Activation("sigmoid"), [[at]])[0, 0])
    return total


def _sigmoids():
    steepest = slope("sigmoid", 0.0)
    found = _sigmoid_chain(10)
    return told(
        found <= steepest**10,
        f"an upper bound of the activations' part: {found:.1e} through ten sigmoids with weights of 1, "
        f"{steepest**10:.1e} by the formula; the weights multiply in as well",
    )


def _through(gains, skip: bool = True) -> float:
    """What is left of a unit signal after linear blocks of these gains, each with a skip around it."""
    x = [[1.0]]
    for gain in gains:
        y = run(Linear(1, 1, False), x, weight=[[gain]])
        x = y + x if skip else y
    return float(x[0][0])


def _explodes():
    import numpy as np

    half, single = (float(np.finfo(t).max) for t in (np.float16, np.float32))
    gain = _through([1.5] * 50, False)
    return told(
        gain > half,
        f"{gain:.1e} after 50 layers; fp16 overflows after {ceil(log(half, 1.5))}, fp32 after "
        f"{ceil(log(single, 1.5))}",
    )


def _rates(norms, layers):
    each = [
        (b / a) ** (1 / (at - to)) for a, b, at, to in zip(norms, norms[1:], layers, layers[1:], strict=False)
    ]
    return unknown(
        f"needs training; the three values imply {each[0]:.2f} a layer above and {each[1]:.2f} below, no one"
        " rate"
    )


def _chance() -> float:
    return -float(run(Softmax(log=True), [[0.0] * 10])[0, 0])


def _is_residual_slope() -> bool:
    at, step = 0.3, 1e-5

    def block(x: float) -> float:
        return float(run(Activation("sigmoid"), [[x]])[0, 0]) + x

    return close((block(at + step) - block(at - step)) / (2 * step), slope("sigmoid", at) + 1, 1e-6)


def _residual_product():
    mixed, positive = _through([0.5, -0.5] * 25), _through([0.01] * 50)
    return told(
        mixed,
        "50 blocks with F' of 0.5 and -0.5 in turn, zero on average; with 0.5 throughout it explodes, "
        f"{_through([0.5] * 50):.1e}. The product of means needs independence, and no F' below zero",
        with_F_prime_of_0_01_throughout=positive,
    )


def _is_shifted_spectrum() -> bool:
    import numpy as np

    w = draw(5, 5)
    jacobian = run(Linear(5, 5, False), np.eye(5), weight=w).T + np.eye(5)
    shifted = np.linalg.eigvals(w) + 1
    return close(np.sort_complex(np.linalg.eigvals(jacobian)), np.sort_complex(shifted), 1e-8)


def _orthogonal():
    import numpy as np

    x = draw(1, 8)
    start = np.linalg.norm(x)
    for i in range(300):
        x = run(Linear(8, 8, False), x, weight=np.linalg.qr(draw(8, 8, seed=i + 1))[0])
    kept = float(np.linalg.norm(x) / start)
    return told(
        not close(kept, 1, 1e-6),
        f"orthogonal weights pass on {kept:.6f} of a signal's length after 300 layers; networks of "
        "10,000 plain layers were trained so",
    )


def _skip_memory():
    with_skip, without = (float(training(graph(n, batch=2)).saved) for n in ("resnet34", "plain34"))
    return told(
        100 * (with_skip / without - 1),
        "what is kept for the backward pass, ResNet-34 against the plain network of 34 "
        "layers: a block's input is kept for its first convolution anyway, and only projections and sums add",
    )


def _modern():
    since = (
        "resnet50",
        "mobilenet_v2",
        "densenet121",
        "efficientnet_b0",
        "convnext_tiny",
        "vit_b_16",
        "gpt2-xl",
        "llama-2-7b",
    )
    normed = [any("norm" in line.kind for line in counted(n).lines) for n in since]
    return told(
        all(normed),
        f"of {len(since)} looked at, ResNet-50 to Llama-2; VGG-19, {weight_layers('vgg19')} layers, and"
        f" SqueezeNet, {weight_layers('squeezenet1_0')}, have none, nor have normalisation-free designs",
    )


def _matrices(cell) -> int:
    """Weight matrices that a recurrent cell applies to its input."""
    return cell(100, 128).weights()["weight_ih_l0"][0] // 128


def _of_cells(one, other, what: str) -> float:
    found = [layers((1, 1, 100), c(100, 128, bias=False)) for c in (one, other)]
    return getattr(found[0], what) / getattr(found[1], what)


def _deepest():
    made = graph("llama-3.1-405b", "decode", 1, 64)
    (block,) = (n for n in made.nodes if isinstance(n, Repeat))
    return told(block.count >= 100, f"Llama 3.1 405B repeats its block {block.count} times")


def _row(op, shape, *wanted: str, second: bool = True, low: bool = False):
    tensors = [Tensor(shape)] * (3 if isinstance(op, Attention) else 1)
    io = [*tensors, op.shape(*tensors)]
    has, spread = op.primitives(*io), op.parallelism(*io)
    return [w in has for w in wanted] + [(spread.depth > 1) == low]


def _transformer_row():
    found = _row(Attention(), (1, 12, 512, 64), MATMUL, RANDOM, GATHER)
    dynamic = sorted(Attention().primitives(*[Tensor((1, 12, 512, 64))] * 4))
    return told(
        found,
        f"dense attention declares {', '.join(dynamic)}: it reads keys and values in a row, and access is"
        " random only when it is sparse or paged",
    )


def _additions():
    found = counted("resnet50")
    adds = sum(line.work.vector_flops * line.times for line in found.lines if line.kind == "add")
    return told(
        100 * adds / found.flops < 1,
        f"{adds / 1e6:.2f} M additions, {100 * adds / found.flops:.2f}% of the FLOPs of ResNet-50",
    )


def _activations_bind():
    step = training(graph("resnet50", batch=32))
    return told(
        step.saved > step.weights,
        f"ResNet-50, batch 32, fp32: {step.saved / GB:.2f} GB are kept, {step.saved / step.weights:.0f} "
        "times the weights",
    )


CLAIMS = {
    "table3-primitives": _primitives,
    "alexnet-60m": lambda: told(
        counted("alexnet_two_towers").parameters,
        f"the original of two towers; the later one of one has {counted('alexnet').parameters / 1e6:.1f} M",
    ),
    "alexnet-billions-flops": lambda: told(counted("alexnet_two_towers").flops, "2 a MAC"),
    "resnet152-pascal": _pascal,
    "p100-900gbs": lambda: told(
        bandwidth(P100) / GB, "its data sheet; 900 GB/s came with the V100 of 2017", V100=bandwidth(V100) / GB
    ),
    "sram-20mb": _sram,
    "attn-512-feasible": _feasible,
    "fn24-activation-memory": lambda: told(
        saved_bytes(40) / saved_bytes(20), "dense layers with ReLU, 40 against 20"
    ),
    "gemm-n2": lambda: [
        leads(dense(symbols("n"), symbols("n")).parameters, "n"),
        leads(Conv2d(1, 1, (symbols("k"), symbols("k"))).taps(), "k"),
    ],
    "sigmoid-max-0p25": lambda: max(slope("sigmoid", at / 10) for at in range(-20, 21)),
    "sigmoid-0p25-power": _sigmoids,
    "explode-1p5": _explodes,
    "plain50-gradnorms": _rates,
    "plain50-initial-loss": lambda: told(_chance(), "cross entropy of ten equal logits"),
    "plain50-loss-acc": lambda: unknown(
        "needs training; published plain networks of 56 layers with batch norm do far better"
    ),
    "relu-derivative": lambda: told(
        [slope("relu", 1.0), slope("relu", -1.0)], "the range of layers is an experiment's"
    ),
    "eq9-residual": lambda: told(_is_residual_slope(), "central differences of sigmoid(x) + x"),
    "residual-product": _residual_product,
    "residual-eigen-1-plus-lambda": lambda: told(
        _is_shifted_spectrum(), "of a linear block with random weights"
    ),
    "edge-of-chaos-impossible": _orthogonal,
    "resnet50-cifar": lambda: unknown("needs training"),
    "four-orders-gradient": lambda residual, plain: told(
        log10(residual / plain), "of the two printed norms, 0.01 and 1e-8"
    ),
    "skip-memory-20": _skip_memory,
    "skip-epoch-10": lambda: unknown("must be measured; by operations the additions are next to nothing"),
    "depth-thresholds": lambda: unknown(
        "a rule from experiments; ResNet-152 trains with ordinary normalisation"
    ),
    "vgg16-16-layers": lambda: weight_layers("vgg16"),
    "norm-deeper-than-10": _modern,
    "fn27-lstm-triple": lambda: told(
        _of_cells(LSTM, RNN, "parameters"),
        "three gates and the candidate are four sets of weights; the same sentence has 4x for the step",
    ),
    "fn27-lstm-4x": lambda: _of_cells(LSTM, RNN, "macs"),
    "fn28-gru-25": lambda: 100 * (1 - _of_cells(GRU, LSTM, "parameters")),
    "fn29-196-tokens": lambda: told(
        Tensor(out(Conv2d(3, 768, 16, 16), 1, 3, 224, 224)[2:]).numel, "and the class token"
    ),
    "fn29-3-5x": lambda: unknown(
        "needs training; the first ViT had 11 to 231 times the images, later recipes as many",
        ratio_of_MACs_an_image=counted("vit_b_16").macs / counted("resnet50").macs,
    ),
    "synthesis-100-layers": _deepest,
    "synthesis-on-to-o1": lambda: told(depths(), "in the sequence; layers still follow each other"),
    "table5-mlp": lambda: _row(Linear(784, 100), (32, 784), MATMUL, SEQUENTIAL, BROADCAST),
    "table5-cnn": lambda: _row(
        Conv2d(64, 64, 3, 1, 1), (1, 64, 56, 56), SLIDING_WINDOW, STRIDED, SLIDING_WINDOW
    ),
    "table5-rnn": lambda: _row(RNN(100, 128), (1, 1000, 100), MATMUL, SEQUENTIAL, BROADCAST, low=True),
    "table5-transformer": _transformer_row,
    "sc-vgg30": lambda: unknown(
        "needs training; published is that a plain network of 34 layers trains worse than one of 18"
    ),
    "sc-depth-20": lambda: unknown("needs training: plain and residual stacks of growing depth"),
    "skip-overhead-compute-negligible": _additions,
    "moe-softmax-gating": lambda: bool(
        ((run(Softmax(), draw(4, 9)) >= 0) & (run(Softmax(), draw(4, 9)) <= 1)).all()
    ),
    "lstm-three-gates": lambda: told(
        _matrices(LSTM) - _matrices(RNN), "and the candidate, which a plain RNN has too"
    ),
    "fn24-activations-bind": _activations_bind,
}
