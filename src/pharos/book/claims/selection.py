"""Section 1.10: choosing an architecture, utilisation, tiles, Winograd, Napkin Math 1.4, the self-check."""

import re
from functools import cache

from pharos.book.answer import Answer, told, unknown
from pharos.book.chapter import printed
from pharos.book.claims.attention import attention, workspace
from pharos.book.claims.intensity import FLOPS_OR_MACS
from pharos.book.claims.primitives import patches_double
from pharos.book.claims.rnn import bptt, state_bytes
from pharos.book.sums import (
    A100,
    KIB,
    MIB,
    band,
    counted,
    dense,
    draw,
    estimate,
    figure,
    graph,
    leads,
    machine,
    machine_file,
    peak,
    result,
    symbols,
    vector_peak,
)
from pharos.facts.tables import family_card
from pharos.graph.op import Tally
from pharos.graph.tensor import Tensor
from pharos.ops.conv import Conv2d
from pharos.passes.memory import liveness


@cache
def utilisation(
    name: str, phase: str = "forward", batch: int = 1, context: int | None = None
) -> tuple[float, ...]:
    """Percent of an A100's fp16 peak that a network is predicted to reach: low, central, high."""
    found = estimate(name, A100, phase, batch, context)
    return tuple(float(100 * found.count.flops / seconds / peak(A100)) for seconds in band(found)[::-1])


def use(
    claim: str, what: str, name: str, phase: str = "forward", batch: int = 1, context: int | None = None
) -> Answer:
    """A predicted share of the peak against a claimed range; unknown where the band cannot tell."""
    low, value, high = utilisation(name, phase, batch, context)
    first, last = printed(claim)
    note = (
        f"predicted from fitted efficiencies: {what} on an A100 in fp16 reaches {value:.0f}% ({low:.0f} to"
        f" {high:.0f})"
    )
    inside, outside = first <= low and high <= last, high < first or low > last
    return told(round(value, 1), note) if inside or outside else unknown(f"{note}; it must be measured")


def mlp_use(claim: str = "util-mlp"):
    """The MLP of Example 1.1 at a large batch."""
    return use(claim, "the MLP of Example 1.1 at batch 8,192", "mlp", batch=8192)


def cnn_use(claim: str = "util-cnn"):
    """ResNet-50 at a large batch."""
    return use(claim, "ResNet-50 at batch 256", "resnet50", batch=256)


def rnn_use(claim: str = "util-rnn"):
    """The recurrent tagger at a batch of training."""
    return use(claim, "an LSTM of 128 units at batch 64", "lstm_tagger", batch=64, context=1000)


def transformer_use(claim: str = "util-transformer"):
    """Llama-2-7B over long prompts."""
    return use(claim, "Llama-2-7B with 8 prompts of 2,048", "llama-2-7b", "prefill", 8, 2048)


def _assumes(*pairs: tuple[str, str]) -> bool:
    return all(word in family_card(family)["assumes"] for family, word in pairs)


def _families():
    return told(
        [
            _assumes((f, w))
            for f, w in (
                ("mlp", "vector of fixed length"),
                ("cnn", "pixels"),
                ("rnn", "ordered sequence"),
                ("transformer", "sequence of tokens"),
            )
        ],
        "what the families' cards assume; categorical data, DLRM, is missing from the map",
    )


def biases(family: str) -> int:
    """How many assumptions about data a family's card lists."""
    listed = family_card(family)["biases"]
    return 0 if listed == ["no structure assumed"] else len(listed)


def _hierarchy():
    order = sorted(("cnn", "rnn", "mlp", "transformer"), key=biases, reverse=True)
    return told(
        order,
        "by the number of assumptions on the families' cards; Section 1.6 says that transformers assume"
        " nothing, and the self-check ranks ViT above the MLP",
    )


def _ranked():
    order = sorted(("mlp", "vit", "cnn"), key=biases, reverse=True)
    return told(order, "by the number of assumptions on the families' cards")


def _tile(side: int, held: float, what: str):
    need = 3 * Tensor((side, side)).nbytes
    return told(
        need <= held,
        f"three fp32 tiles take {need / KIB:.0f} KiB, {what} {held / KIB:,.0f}; a CPU core's cache may be"
        " smaller",
    )


def _wmma():
    tile = re.search(r"(\d+)x(\d+)x\d+", machine_file("nvidia_v100_sxm2_16gb")["alignment"]["tile"])
    assert tile is not None
    return told([int(tile[1]), int(tile[2])], "of a warp's product; the hardware's own is 4x4x4")


def _mixed():
    return told(
        peak(A100) / vector_peak(A100),
        "A100, fp16 tensor cores over fp32 vector units",
        over_tf32=peak(A100) / peak(A100, "tf32"),
        over_fp16_vector_units=peak(A100) / vector_peak(A100, "fp16"),
    )


def _products(algorithm: str) -> float:
    op, x = Conv2d(64, 64, 3, 1, 1, bias=False, algorithm=algorithm), Tensor((1, 64, 56, 56))
    return op.work(x, result(op, x)).macs


def _winograd_error(algorithm: str) -> float:
    """Largest error of a 3x3 convolution in fp16, relative to the largest result."""
    import numpy as np

    x, w = draw(1, 4, 12, 12), draw(4, 4, 3, 3, seed=1)
    exact = Conv2d(4, 4, 3, 1, 1, bias=False).loops(Tally(), x, weight=w)
    op = Conv2d(4, 4, 3, 1, 1, bias=False, algorithm=algorithm)
    y = op.loops(Tally(), x.astype(np.float16), weight=w.astype(np.float16))
    return float(abs(y.astype(float) - exact).max() / abs(exact).max())


def _half_winograd():
    return unknown(
        "needs training; by its transforms F(2x2, 3x3) has factors of 1 and 1/2 alone and loses about a bit,"
        " larger tiles more",
        MACs_saved_by_F_2x2=_products("direct") / _products("winograd2"),
        MACs_saved_by_F_4x4=_products("direct") / _products("winograd4"),
    )


def required(fps: float, flops: float) -> float:
    """GFLOP/s at so many frames a second."""
    return fps * flops / 1e9


def _camera(fps):
    found = counted("resnet50")
    return told(
        required(fps, found.flops),
        "30 x 4 would be 120, 123 takes 4.1, and these are MACs",
        of_MACs=required(fps, found.macs),
    )


def _headroom(tflops, share, fps):
    found = counted("resnet50")
    have = 1000 * tflops * share
    return told(
        have / required(fps, found.flops),
        "of the lower bound, 5 TFLOP/s, in FLOPs",
        of_MACs=have / required(fps, found.macs),
    )


def _detector(fps, gflop, tflops, share):
    return told(
        tflops * share / (required(fps, gflop * 1e9) / 1e3),
        "of 5 TFLOP/s, with which the box counts 41x; of 6 it is 2",
    )


def _words(tokens: int = 50, d: int = 256):
    scores, products = (
        attention(tokens, d).macs,
        4 * dense(d, d, tokens).macs + 2 * dense(d, 4 * d, tokens).macs,
    )
    return told(
        scores > products,
        f"of the reason: at {tokens} tokens and width {d} scores and values are"
        f" {100 * scores / (scores + products):.0f}% of a block's MACs. The locality of the task still speaks"
        " for it, which is a judgement",
    )


def _parallel():
    from pharos.plan.communication import collective_cost
    from pharos.plan.topology import topology_of

    step = estimate("resnet50", A100, batch=256).latency.value
    send = collective_cost(
        "all-reduce", counted("resnet50").weight_bytes, topology_of(machine(A100), 8)
    ).seconds.value
    assert step is not None
    assert send is not None
    share = 3 * step / (3 * step + send)
    return told(
        share > 0.9,
        "predicted: ResNet-50, batch 256 on each of 8 A100, three forward passes' time a step and an"
        f" all-reduce of fp32 gradients after it: {100 * share:.0f}% of eight times the rate",
    )


def _memories():
    s, h = symbols("S h")
    grows = leads(bptt(s, h), "S")
    return told(
        [state_bytes(512, 10_000) == state_bytes(512, 10), grows == "O(S)"],
        "constant to serve; training through time keeps every step unless it is cut",
    )


def _resolution():
    held = [liveness(graph(f"resnet50(resolution={r})")).peak for r in (224, 448)]
    fixed = counted("mlp", batch=2).traffic.outputs == 2 * counted("mlp").traffic.outputs
    return told(
        [fixed, held[1] > held[0]],
        f"ResNet-50's peak of activations grows {held[1] / held[0]:.1f}x from 224 to 448 pixels; "
        "an MLP takes one length of input",
    )


def _flash_bytes() -> float:
    """Bytes moved with stored scores over those of tiled attention, 4,096 tokens."""
    return attention(4096, 64, algorithm="materialised").traffic.total / attention(4096, 64).traffic.total


CLAIMS = {
    "map-tabular-mlp": _families,
    "util-mlp": lambda: mlp_use(),
    "util-cnn": lambda: cnn_use(),
    "util-rnn": lambda: rnn_use(),
    "util-transformer": lambda: transformer_use(),
    "cnn-sub-ms": lambda: told(
        1e3 * band(estimate("resnet50", A100))[1],
        "predicted: ResNet-50 on an A100, fp16, batch 1, at most "
        f"{1e3 * band(estimate('resnet50', A100))[2]:.2f} ms",
    ),
    "tile-64-l1": lambda: _tile(
        64, figure(A100, "B", "memory", "scratchpad", "bytes_per_core"), "an A100's L1 has"
    ),
    "tile-256-l2": lambda: _tile(
        256, figure(A100, "B", "memory", "cache", "capacity_bytes"), "an A100's L2 has"
    ),
    "volta-16x16": _wmma,
    "mixed-precision-2x": _mixed,
    "s110-im2col-double": patches_double,
    "winograd-2p25": lambda: told(
        _products("direct") / _products("winograd2"),
        f"F(2x2, 3x3), products alone; F(4x4, 3x3) {_products('direct') / _products('winograd4'):.0f}x",
    ),
    "fn35-winograd-fp16": _half_winograd,
    "fn36-flash-2-4x": lambda: unknown("a published measurement", bytes_saved_at_4096_tokens=_flash_bytes()),
    "fn36-n2-to-n": lambda: told(
        [leads(workspace(symbols("N")), "N"), leads(attention(symbols("N"), 64).traffic.total, "N")],
        f"at 16,384 tokens and heads of 64: {workspace(16_384) / MIB:.0f} MiB of scores, "
        f"{attention(16_384, 64).traffic.total / MIB:.0f} of queries, keys, values and results",
    ),
    "fn36-4-16x-longer": lambda: unknown("a published result of training"),
    "bias-hierarchy": _hierarchy,
    "napkin14-4gflops": lambda: told(counted("resnet50").flops, FLOPS_OR_MACS, MACs=counted("resnet50").macs),
    "napkin14-123": _camera,
    "napkin14-effective": lambda tflops, low, high: [tflops * low, tflops * high],
    "napkin14-41x": _headroom,
    "napkin14-3tflops": lambda fps, gflop: required(fps, gflop * 1e9) / 1e3,
    "napkin14-2x": _detector,
    "sc-loan-47": lambda: told(
        _assumes(("mlp", "vector of fixed length")), "what the card of the MLP assumes"
    ),
    "sc-50k-cnn": _ranked,
    "sc-50-token-edge": _words,
    "dp-near-linear": _parallel,
    "rnn-unbounded-memory": _memories,
    "mlp-fixed-memory": _resolution,
}
