"""Section 1.9: computational primitives, patches, access patterns, movement, Tables 6 and 7."""

from math import isqrt

from pharos.book.answer import told, unknown
from pharos.book.claims.attention import attention, traffic, workspace
from pharos.book.claims.cnn import is_im2col_exact
from pharos.book.claims.principles import cnn_bottleneck
from pharos.book.sums import (
    A100,
    GB,
    H100,
    KB,
    MB,
    counted,
    dense,
    figure,
    layers,
    leads,
    out,
    peak,
    result,
    scores,
    symbols,
)
from pharos.graph import op as primitives
from pharos.graph.op import DYNAMIC, MATMUL, SLIDING_WINDOW
from pharos.graph.tensor import Tensor
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.ops.recurrent import RNN

V100 = "nvidia_v100_sxm2_16gb"
# Ten names of primitives that operators declare: three of computation, three of access, four of movement.
NAMES = {
    getattr(primitives, n)
    for n in (
        "MATMUL",
        "SLIDING_WINDOW",
        "DYNAMIC",
        "SEQUENTIAL",
        "STRIDED",
        "RANDOM",
        "BROADCAST",
        "SCATTER",
        "GATHER",
        "REDUCE",
    )
}


def _three():
    three, found = {MATMUL, SLIDING_WINDOW, DYNAMIC}, {}
    for name in ("resnet50", "gpt2-xl", "lstm_tagger", "dlrm-mlperf"):
        for line in counted(name).lines:
            node = line.node
            if line.cost_class != "view":
                found[node.op.kind] = bool(three & set(node.op.primitives(*node.io))), bool(line.work.macs)
    rest = [kind for kind, (has, _) in found.items() if not has]
    return told(
        not rest,
        f"of the operators of four lighthouses, {', '.join(rest[:5])} and others are none of the three;"
        " im2col makes a sliding window a product",
        of_those_with_MACs=all(has for has, macs in found.values() if macs),
    )


def unfolded(stride: int = 1, side: int = 224) -> float:
    """Bytes of the matrix of patches of a 3x3 convolution over those of its input."""
    op, x = Conv2d(64, 64, 3, stride, 1, bias=False, algorithm="im2col"), Tensor((1, 64, side, side))
    return op.workspace(x, result(op, x)) / x.nbytes


def patches_double():
    """What unfolding for im2col takes."""
    return told(
        unfolded(),
        "each input is copied nine times at stride 1; the self-check of Section 1.9 says so",
        with_stride_2=unfolded(2),
    )


def _latency():
    cycles = [
        figure(V100, "1", "measured", "dram_latency_cycles"),
        figure(A100, "1", "measured", "hbm_latency_cycles"),
        figure(H100, "1", "measured", "hbm_latency_cycles"),
    ]
    return told(
        [cycles, None],
        "measured on V100, A100 and H100; what an operation takes on chip is not in the catalogue",
    )


def _positions(cin: int = 1):
    return list(out(Conv2d(cin, 1, 3), 1, cin, 28, 28)[2:])


def _pairs() -> list[int]:
    n = isqrt(scores(512) // 2)
    return [n, n]


def _conv_parameters():
    k, c, d = symbols("K C D")
    return told(
        leads(Conv2d(c, d, (k, k)).taps() * d, "K", "C", "D"),
        "K x K taps, C channels in and D out; Table 7 has it right",
    )


def _conv_activations():
    b, c, h, w = symbols("B C H W")
    made = Tensor(out(Conv2d(c, c, 3, 1, 1), b, c, h, w)).numel
    return told(
        leads(made, "B", "H", "W", "C"), "and the channels", with_channels_fixed=leads(made, "B", "H", "W")
    )


def recurrent(b=1):
    """(parameters, MACs, state, what training keeps) of an RNN of d inputs and h units over S steps."""
    s, h, d = symbols("S h d")
    op, x = RNN(d, h, bias=False), Tensor((b, s, d))
    y = result(op, x)
    assert isinstance(y, Tensor)
    found = layers((b, s, d), op)
    kept = sum(t.numel for t in op.saved(x, y).extra.values()) + y.numel
    return found.parameters, found.macs, Tensor(op.state(x, y)["h"]).numel, kept


def _rnn_table6():
    b = symbols("B")
    parameters, _, _, kept = recurrent(b)
    return told(
        [leads(parameters, "h", "d"), leads(kept, "B", "S", "h")],
        "the input matrix is left out, which Table 7 includes",
        with_the_input_width_fixed=[leads(parameters, "h"), leads(kept, "B", "S", "h")],
    )


def _rnn_table7():
    parameters, macs, state, _ = recurrent()
    return told(
        [leads(parameters, "h", "d"), leads(macs, "S", "h", "d"), leads(state, "h")],
        "the forward cell leaves out the S h d of the inputs, 44% of the work of the chapter's 100 and 128",
        with_the_input_width_fixed=[leads(parameters, "h", "d"), leads(macs, "S", "h"), leads(state, "h")],
    )


def block(n, d):
    """(parameters, MACs) of a transformer block of width d over n tokens."""
    parts = [dense(d, d, n)] * 4 + [dense(d, 4 * d, n), dense(4 * d, d, n)]
    return sum(p.parameters for p in parts), sum(p.macs for p in parts) + attention(n, d).macs


def _block_parameters():
    n, d = symbols("N d")
    return told(
        leads(block(n, d)[0], "N", "d"),
        f"{block(n, d)[0]} a block, whatever N; only a learned table of positions grows with it. "
        "Table 7 has O(d^2)".replace("**", "^"),
    )


def _block_activations():
    b, n, d = symbols("B N d")
    both = Tensor((b, 1, n, n)).numel + Tensor((b, n, d)).numel
    return told(
        leads(both, "B", "N", "d"),
        "by head; below N = d / heads the second term is the larger",
        of_stored_scores=leads(b * workspace(n), "B", "N"),
    )


def _multi_head():
    d, h = symbols("d h")
    return told(
        leads(3 * h * Linear(d, d / h, False).weights()["weight"][0] * d, "d", "h"),
        "h heads of d / h hold together what one full head does; a factor h needs every head at full width",
    )


def _movement():
    shape = (1, 1, 512, 64)
    op, x = Attention(), Tensor(shape)
    found = op.primitives(x, x, x, x)
    return told(
        [found["broadcast"], found["gather"] // 2, found["reduce"]],
        "by head and sequence; the gather is of keys alone, with "
        f"values {found['gather']:,}, of {2 * x.numel:,} distinct numbers",
    )


def _reduction():
    n = symbols("n")
    trees = [Linear(k, 1).parallelism(Tensor((1, k)), Tensor((1, 1))).tree for k in (512, 1024)]
    return told(
        [leads(dense(n, 1).macs, "n"), trees[1] - trees[0] == 1],
        f"{trees[0]} levels for 512 numbers, one more for twice as many",
    )


def _links():
    both = [figure(m, "B/s", "links", "nvlink_both_directions_bytes_per_s") / GB for m in (A100, H100)]
    return told(both, "NVLink 3 and 4, both directions together")


def _rows():
    return told(
        len(NAMES),
        "primitives that the chapter names and operators declare here; the table puts two in one row and has "
        "none for strided access and reduction",
        of_those_in_the_table=len(NAMES - {"strided", "reduce"}) - 1,
    )


def _uses():
    h, w = symbols("H W")
    op = Conv2d(64, 64, 3, 1, 1, bias=False)
    found = layers((1, 64, h, w), op)
    return found.macs / found.parameters


def _table7_cnn():
    h, w, k, c, d = symbols("H W k cin cout")
    taps = Conv2d(c, d, (k, k)).taps()
    return [
        leads(taps * Tensor((d, h, w)).numel, "H", "W", "k", "cin", "cout"),
        leads(taps * d, "k", "cin", "cout"),
    ]


CLAIMS = {
    "resnet50-billions-macs": lambda: told(
        counted("resnet50").macs, "here in MACs, the unit that the 4.1 G of other sections have"
    ),
    "three-primitives": _three,
    "im2col-equals-conv": is_im2col_exact,
    "fn30-im2col-2x": patches_double,
    "sc-im2col-9x": lambda: told(unfolded(), "footnote 30 says about 2x"),
    "im2col-5-10x-cpu": lambda: unknown("must be measured; it depends on the loops it is compared with"),
    "hundreds-tflops": lambda: told([peak(A100), peak(H100)], "A100 and H100, dense fp16"),
    "windows-26x26": lambda: told(
        _positions(), "nothing padded; Section 1.3 pads the same image to 28x28 positions"
    ),
    "dynamic-512-patterns": lambda: told(_pairs()[0], "by head"),
    "transformer-512-ops": lambda: told(
        _pairs(),
        f"a size of a matrix, not a count: its products take {attention(512, 64).macs:,} MACs a head",
    ),
    "dram-hundreds-cycles": _latency,
    "strided-nine": lambda: told(Conv2d(1, 1, 3).taps(), "by channel"),
    "random-100-cycles": lambda: told(
        min(
            figure(V100, "1", "measured", "dram_latency_cycles"),
            figure(A100, "1", "measured", "hbm_latency_cycles"),
        ),
        "the shorter of V100 and A100",
    ),
    "table6-mlp": lambda: [
        leads(dense(*symbols("N W")).parameters, "N", "W"),
        leads(Tensor(out(Linear(symbols("N"), symbols("W")), symbols("B"), symbols("N"))).numel, "B", "W"),
    ],
    "table6-cnn-params": _conv_parameters,
    "table6-cnn-acts": _conv_activations,
    "table6-rnn": _rnn_table6,
    "table6-transformer-params": _block_parameters,
    "table6-transformer-acts": _block_activations,
    "table7-mlp": lambda: [
        leads(dense(*symbols("d_in d_out")).macs, "d_in", "d_out"),
        leads(dense(symbols("d"), symbols("d")).parameters, "d"),
        leads(Tensor(out(Linear(symbols("d"), symbols("d")), symbols("B"), symbols("d"))).numel, "d", "B"),
    ],
    "table7-cnn": _table7_cnn,
    "table7-cnn-bottleneck": cnn_bottleneck,
    "table7-rnn": _rnn_table7,
    "table7-transformer-forward": lambda: leads(block(*symbols("n d"))[1], "n", "d"),
    "table7-multihead-params": _multi_head,
    "table7-transformer-memory": lambda: told(
        [leads(workspace(symbols("n")), "n"), leads(traffic(*symbols("n d")), "n", "d")],
        "scores by head, and only while they are stored",
    ),
    "pixel-nine-windows": lambda: told(Conv2d(1, 1, 3).taps(), "away from the border, stride 1"),
    "working-set-mlp": lambda: told(dense(784, 100).traffic.total / KB, "the reference layer in fp32"),
    "working-set-transformer": lambda: told(scores(512, 12) / MB, "12 heads, 512 tokens, fp16"),
    "broadcast-batch-32": lambda: dense(784, 100, 32).macs / dense(784, 100).parameters,
    "interconnect-hundreds": _links,
    "gather-10x": lambda: unknown("must be measured"),
    "gather-512-pairs": _pairs,
    "reduce-log-n": _reduction,
    "attn-movement-counts": _movement,
    "models-100b": lambda: told(counted("gpt3-175b").parameters, "GPT-3"),
    "table8-mapping": _rows,
    "sc-access-ranking": lambda: unknown("must be measured: caches are not simulated"),
    "sc-primitive-order": lambda: unknown("an order of presentation, not of anything computed"),
    "napkin13-reuse": lambda: [str(_uses()), dense(784, 100).macs / dense(784, 100).parameters],
}
