"""Section 1.4: recurrent networks, their state, their chain of steps, the self-check."""

from math import isqrt

from pharos.book.answer import told, unknown
from pharos.book.sums import (
    A100,
    GB,
    KIB,
    MB,
    close,
    draw,
    estimate,
    layers,
    leads,
    result,
    run,
    scores,
    symbols,
)
from pharos.graph.tensor import Tensor
from pharos.ops.recurrent import RNN

# The chapter's cell: 100 inputs, 128 units; one bias, where PyTorch's has two.
CELL = RNN(100, 128, bias=False)


def steps_in_a_row(tokens: int, batch: int = 1):
    """(dependent steps, results that one step can compute at once) of the cell over a sequence."""
    x = Tensor((batch, tokens, 100))
    spread = CELL.parallelism(x, result(CELL, x))
    return spread.depth, spread.width


def state_bytes(hidden: int, tokens: int = 1) -> int:
    """Bytes that a recurrent layer keeps between steps, fp32."""
    op, x = RNN(100, hidden), Tensor((1, tokens, 100))
    return sum(Tensor(s).nbytes for s in op.state(x, result(op, x)).values())


def bptt(tokens, hidden):
    """Numbers that a recurrent layer keeps for its backward pass, beside its input."""
    op, x = RNN(hidden, hidden), Tensor((1, tokens, hidden))
    y = result(op, x)
    kept = op.saved(x, y)
    return sum(t.numel for t in kept.extra.values()) + sum((y,)[i].numel for i in kept.outputs)


def _jacobians():
    """Growth of a linear cell's state through 100 steps at gains of 0.9 and 1.1."""
    import numpy as np

    found = []
    for gain in (0.9, 1.1):
        op = RNN(1, 1, bias=False, nonlinearity="relu")
        x = np.zeros((1, 101, 1))
        x[0, 0, 0] = 1.0
        y = run(op, x, weight_ih_l0=[[1.0]], weight_hh_l0=[[gain]])
        found.append(float(y[0, -1, 0]))
    return told(
        found[0] < 1e-4 and found[1] > 1e4,
        f"a unit of gain 0.9 passes on {found[0]:.1e} of its first input "
        f"after 100 steps, one of gain 1.1 {found[1]:.0f} times it",
    )


def _is_step_right() -> bool:
    import numpy as np

    x, w_in, w_h, b = draw(1, 4, 3), draw(2, 3, seed=1), draw(2, 2, seed=2), draw(2, seed=3)
    h, want = np.zeros(2), []
    for t in range(4):
        h = np.tanh(w_h @ h + w_in @ x[0, t] + b)
        want.append(h)
    zero = np.zeros(2)
    y = run(RNN(3, 2), x, weight_ih_l0=w_in, weight_hh_l0=w_h, bias_ih_l0=b, bias_hh_l0=zero)
    return close(y[0], want)


def _cell_sizes():
    shapes = CELL.weights()
    found = layers((1, 1, 100), CELL)
    return told(
        [list(shapes["weight_hh_l0"]), list(shapes["weight_ih_l0"][::-1])], f"{found.macs:,} MACs a step"
    )


def _wall():
    depth, _ = steps_in_a_row(1000)
    return told(depth, "the products with inputs, as many, do not wait for one another")


def _which_terms():
    """Whether a machine with twice the peak or twice the bandwidth runs the chain any faster."""
    found = estimate("lstm_tagger", A100, context=1000)
    whole = sum(found.shares.values())
    helped = (found.shares["compute"] + found.shares["memory-bandwidth"]) / whole
    return told(
        ["R_peak", "BW"] if helped < 0.5 else ["O", "D_vol"],
        f"{100 * found.shares['sequential-dependency'] / whole:.0f}% of the predicted time is the chain of"
        f" steps, {100 * helped:.0f}% compute and bandwidth. The point holds, but O and D_vol are by the"
        " law's own definition work and volume; throughput and bandwidth are R_peak and BW",
    )


def _scaling():
    n, h = symbols("N h")
    x = Tensor((1, n, h))
    op = RNN(h, h)
    kept = op.state(x, result(op, x))["h"]
    held = Tensor((1, 1, n, n)).numel
    return told(
        [leads(Tensor(kept).numel, "N", "h"), leads(held, "N", "h")],
        "scores of a whole sequence when they are stored; a decoder that makes a token at a time keeps a"
        " cache instead, O(N d), as Section 1.6 says",
    )


def _phone(memory_gb, frames):
    each = scores(frames)
    fit = int(memory_gb * GB // each)
    return told(
        fit < 12 * 8,
        f"{fit} pairs of layer and head fill {memory_gb} GB; a model of 12 layers with 8 heads has "
        "96 if all are kept. A streaming decoder keeps far less",
    )


def _microcontroller(memory_mb):
    most = isqrt(int(memory_mb * MB / scores(1)))
    return told(
        state_bytes(512) < memory_mb * MB and scores(2 * most) > memory_mb * MB,
        f"one head's fp16 scores fill 1 MB at {most} tokens; a state of 512 takes {state_bytes(512)} B",
    )


def _second_gpu() -> bool:
    one, two = steps_in_a_row(1000, 8)[0], steps_in_a_row(1000, 4)[0]
    return two < one


CLAIMS = {
    "fn16-30-50": lambda: unknown(
        "must be measured; the roofline alone does not give the range, and small states at batch 1 lie far"
        " below it"
    ),
    "def14-o1-memory": lambda: state_bytes(512, 10_000) / state_bytes(512, 10),
    "def14-jacobian-product": _jacobians,
    "eq6-rnn-step": lambda: told(
        _is_step_right(), "with column vectors; the listing has row vectors and the transposed matrix W_xh"
    ),
    "rnn-dims": _cell_sizes,
    "rnn-bptt-memory": lambda: leads(bptt(*symbols("S h")), "S", "h"),
    "rnn-wall-1000": _wall,
    "rnn-2kb-state": lambda: told(state_bytes(512) / 1e3, "exactly 2 KiB", KiB=state_bytes(512) / KIB),
    "rnn-parallel-width": lambda: told(
        steps_in_a_row(1000, 32)[1] == 32,
        f"across steps yes; within one, {steps_in_a_row(1000, 32)[1]:,} results at batch 32 are independent,"
        " batch x hidden. The sentence before it says that the sequence length limits",
        across_steps=steps_in_a_row(1000, 32)[1] / steps_in_a_row(1000, 1)[1] == 32,
    ),
    "rnn-iron-law-terms": _which_terms,
    "rnn-vs-attention-scaling": _scaling,
    "rnn-weight-temporal-reuse": lambda: told(
        layers((1, 1000, 100), CELL).macs == 1000 * layers((1, 1000, 100), CELL).parameters,
        f"only while its {layers((1, 1, 100), CELL).weight_bytes / 1e3:.0f} KB of fp32 weights stay on chip",
    ),
    "sc-200mb-10k": lambda: told(scores(10_000) / MB, "decimal megabytes; Definition 1.5 has binary ones"),
    "sc-40-util-gpu": lambda: told(
        _second_gpu(), f"the chain of {steps_in_a_row(1000, 4)[0]} steps is as long at half the batch"
    ),
    "sc-8gpu-resnet-vs-rnn": lambda: told(
        estimate("lstm_tagger", A100, context=1000).binding,
        "an eighth of the batch leaves the chain as it is",
    ),
    "sc-1mb-mcu": _microcontroller,
    "sc-4gb-phone": _phone,
}
