"""Recurrence: time step by step, a state of fixed size, memory of training, gradients through time."""

from collections.abc import Callable
from math import log
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import lines
from pharos.book.sums import chain
from pharos.book.sums import run as by_loops
from pharos.book.trials import apart, saved_bytes, seeded
from pharos.graph.graph import Builder, Graph
from pharos.graph.tensor import Tensor
from pharos.measure.timing import Timing, interleaved
from pharos.models.blocks import self_attention
from pharos.ops.attention import Attention
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.passes.training import training
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "recurrence"
CLAIMS = (
    "def14-o1-memory", "def14-jacobian-product", "eq6-rnn-step", "rnn-bptt-memory", "rnn-wall-1000",
    "rnn-2kb-state", "rnn-parallel-width", "rnn-vs-attention-scaling", "rnn-weight-temporal-reuse",
    "def15-o1-depth", "synthesis-on-to-o1",
)  # fmt: skip
CELLS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
# The chapter's words and state.
WIDTH, HIDDEN = 100, 128
RADII = (0.5, 0.9, 1.0, 1.1)


def attention_graph(batch: int, tokens: int, width: int = HIDDEN, algorithm: str = "tiled") -> Graph:
    """Self-attention of four heads with its projections: the counterpart of one recurrent layer."""
    g = Builder("attention")
    x = g.input("x", (batch, tokens, width))
    names = ("q", "k", "v", "out")
    op = Attention(causal=True, algorithm=algorithm)
    return g.finish(
        self_attention(g, x, heads=4, kv_heads=4, head_dim=width // 4, names=names, attention=op)
    )  # fmt: skip


@lab(NAME, "RNN, LSTM and GRU: time by length and batch, state, memory of training, gradients through time",
     claims=CLAIMS)  # fmt: skip
def recurrence(setting: Setting, progress: Progress) -> Outcome:
    """Cells against attention: time, memory, how far gradients reach, and ways to be faster."""
    small = setting.small
    with seeded(setting.seed):
        progress(0, 6, "time by length and batch")
        lengths = (8, 32) if small else (16, 64, 256)
        timings = _times(lengths, (1, 32), 0.3 if small else 12.0)
        progress(1, 6, "state")
        state = _state(500 if small else 10_000)
        progress(2, 6, "memory of training")
        memory = _memory((32, 64) if small else (64, 128, 256))
        progress(3, 6, "gradients through time")
        gains = gradients(60 if small else 100, setting.seed)
        truncated = _truncated(64 if small else 256, setting.seed)
        progress(4, 6, "ways to be faster")
        faster = _faster(16 if small else 128, 0.3 if small else 4.0)
        progress(5, 6, "forms")
        forms = [_forms(cell) for cell in CELLS.values()]
        progress(6, 6, "done")
    rows = [
        *(("ms", what, f"T {t}, batch {b}", 1e3 * timing.median) for (what, t, b), timing in timings.items()),
        *(("state, B", name, f"after {t}", size) for (name, t), size in state["bytes"].items()),
        *(("kept to train, B", name, f"T {t}", size) for (name, t), (size, _) in memory.items()),
        *((f"gradient over {gains['steps']}", name, at, value)
          for (name, at), value in gains["gains"].items()),
        *(("truncated, cosine", f"radius {r:g}", f"every {k}", cosine)
          for (r, k), (cosine, _) in truncated.items()),
        *(("ms", name, f"T {faster['steps']}, {faster['layers']} layers", 1e3 * timing.median)
          for name, timing in faster["timings"].items()),
    ]  # fmt: skip
    points = [
        {"steps": t, "ms": 1e3 * timing.median, "layer": what, "batch": f"batch {b}"}
        for (what, t, b), timing in timings.items()
    ]  # fmt: skip
    return Outcome(
        name=NAME, summary="recurrent layers of 100 inputs and 128 units, and self-attention of that width",
        settings={"seed": setting.seed, "lengths": " ".join(map(str, lengths)), "batches": "1 32"},
        columns=("measured", "of", "at", "value"), rows=tuple(rows),
        checks=(
            Check(what="cells: explicit loops and PyTorch give the same", found=f"{max(forms):.1e} apart, "
            f"1e-05 allowed",
                  holds=max(forms) <= 1e-5),
            Check(what="a sequence in pieces, its state carried on, gives what the whole gives",
                  found=f"{state['pieces']:.1e} apart, 1e-05 allowed", holds=state["pieces"] <= 1e-5),
            Check(what="steps one by one, projected beforehand, and as a wavefront give the same",
                  found=f"{faster['apart']:.1e} apart, 1e-05 allowed", holds=faster["apart"] <= 1e-5),
        ),
        findings=findings(timings, lengths, state, memory, gains, truncated, faster),
        note="ms are medians on this machine and change from run to run; gradient: length of what arrives at "
        "the first state (attention: the first input) over what leaves from the last",
        figure=lines(
            points, "steps", "ms", "layer", name=NAME, log_x=True, log_y=True, points=True, panel="batch",
            title="Time of a layer by length of the sequence",
            alt="Milliseconds over the number of steps on logarithmic axes, for batches of 1 and 32: "
            "lines of "
            "RNN, GRU and LSTM rise in proportion to the steps; attention rises later",
            source="forward pass on this machine, medians of interleaved runs",
        ),
        data={"memory": [{"of": n, "steps": t, "saved_bytes": m, "by_rules_bytes": p}
                         for (n, t), (m, p) in memory.items()],
              "spread": {f"{w} {t} {b}": round(x.uncertainty, 4) for (w, t, b), x in timings.items()}},
    )  # fmt: skip


def _times(lengths: tuple[int, ...], batches: tuple[int, ...], seconds: float) -> dict[Any, Timing]:
    """Seconds of a forward pass of each cell, and of attention, by length and batch."""
    import torch

    from pharos.convert.to_torch import to_torch

    calls: dict[Any, Callable[[], Any]] = {}
    for t in lengths:
        for b in batches:
            made = {n: to_torch(chain((b, t, WIDTH), c(WIDTH, HIDDEN))) for n, c in CELLS.items()}
            made["attention"] = to_torch(attention_graph(b, t))
            for name, network in made.items():
                network.eval()
                x = torch.randn(b, t, HIDDEN if name == "attention" else WIDTH)

                def call(network: Any = network, x: Any = x) -> Any:
                    with torch.no_grad():
                        return network(x)

                calls[name, t, b] = call
    return interleaved(calls, seconds=seconds, least=5)


def _state(long: int) -> dict[str, Any]:
    """Bytes that a cell of 512 units keeps after 10 steps and after many, and a sequence run in pieces."""
    import torch

    found: dict[Any, int] = {}
    with torch.no_grad():
        for name, cell in CELLS.items():
            made = cell(8, 512 if name == "RNN" else 64).torch(torch)
            for steps in (10, long):
                state: dict[str, Any] = {}
                made(torch.randn(1, steps, 8), state)
                found[name, steps] = sum(t.nbytes for t in state.values())
        made, x = LSTM(8, 32).torch(torch), torch.randn(2, 60, 8)
        state, parts = {}, []
        for part in x.split(7, 1):
            parts.append(made(part, state))
        pieces = apart(torch.cat(parts, 1).numpy(), made(x).numpy())
    rule = RNN(8, 512)
    x = Tensor((1, 10, 8))
    made_of = rule.shape(x)
    assert isinstance(made_of, Tensor)
    declared = sum(4 * 512 for _ in rule.state(x, made_of))
    return {"bytes": found, "pieces": pieces, "declared": declared}


def _memory(lengths: tuple[int, ...]) -> dict[tuple[str, int], tuple[int, int]]:
    """(bytes that PyTorch keeps to train, those by the operators' rules), batch 4."""
    from contextlib import nullcontext

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from pharos.convert.to_torch import to_torch

    found = {}
    for t in lengths:
        graphs = {f"{n}, 128 units": chain((4, t, WIDTH), c(WIDTH, HIDDEN)) for n, c in CELLS.items()}
        graphs["RNN, 256 units"] = chain((4, t, WIDTH), RNN(WIDTH, 2 * HIDDEN))
        graphs |= {f"attention, {a}": attention_graph(4, t, HIDDEN, a) for a in ("tiled", "materialised")}
        for name, graph in graphs.items():
            made = to_torch(graph)
            x = torch.randn(graph.inputs[0].shape)
            with sdpa_kernel(SDPBackend.MATH) if "materialised" in name else nullcontext():
                measured = saved_bytes(lambda made=made, x=x: made(x), [*made.parameters()])
            found[name, t] = (measured, int(training(graph).saved))
    return found


def recurrent_matrix(radius: float, size: int) -> Any:
    """An orthogonal matrix times `radius`: all eigenvalues have that magnitude."""
    import torch

    return radius * torch.nn.init.orthogonal_(torch.empty(size, size)).double()


def gradients(steps: int, seed: int) -> dict[str, Any]:
    """How long a gradient is that comes back through `steps` steps, over what it was."""
    found = {}
    rates = {}
    with seeded(seed) as torch:
        for drive in (0.0, 1.0):
            for radius in RADII:
                made = RNN(8, 64, bias=False).torch(torch).double()
                with torch.no_grad():
                    made.weight_hh_l0.copy_(recurrent_matrix(radius, 64))
                gain = through(made, drive * torch.randn(1, steps, 8).double(), ("h",))
                at = "driven by inputs" if drive else "at rest"
                found[f"RNN, radius {radius:g}", at] = gain
                rates[radius, drive] = gain ** (1 / steps) if gain > 0 else 0.0
        for bias in (0.0, 4.0):
            made = LSTM(8, 64).torch(torch).double()
            with torch.no_grad():
                # PyTorch has the forget gate second of four
                made.bias_ih_l0[64:128] = bias
            found[f"LSTM, forget bias {bias:g}", "driven by inputs"] = through(
                made, torch.randn(1, steps, 8).double(), ("h", "c")
            )
        from pharos.convert.to_torch import to_torch

        for tokens in (steps // 4, steps):
            made = to_torch(attention_graph(1, tokens, 64)).double()
            x = torch.randn(1, tokens, 64).double().requires_grad_()
            each = []
            for _ in range(8):
                v = torch.randn(64).double()
                (grad,) = torch.autograd.grad(made(x)[0, -1], x, v)
                each.append(float(grad[0, 0].norm() / v.norm()))
            found["attention", f"{tokens} tokens"] = median(each)
    return {"gains": found, "rates": rates, "steps": steps}


def through(made: Any, x: Any, states: tuple[str, ...]) -> float:
    """Median over eight directions: a gradient at the first state over that at the last one."""
    import torch

    width, each = made.hidden_size, []
    for _ in range(8):
        first = [(1e-6 * torch.randn(1, 1, width).double()).requires_grad_() for _ in states]
        state: dict[str, Any] = dict(zip(states, first, strict=True))
        made(x, state)
        # the cell's own memory where it has one, otherwise its state
        v = torch.randn(1, 1, width).double()
        grads = torch.autograd.grad(state[states[-1]], first, v, allow_unused=True)
        each.append(sum(float(g.norm()) for g in grads if g is not None) / float(v.norm()))
    return median(each)


def _truncated(steps: int, seed: int) -> dict[tuple[float, int], tuple[float, int]]:
    """(cosine of the truncated gradient and the full one, bytes kept) by radius and length of pieces."""
    found = {}
    with seeded(seed) as torch:
        x, wanted = torch.randn(4, steps, 8).double(), torch.randn(4, steps, 64).double()
        for radius in (0.9, 1.0):
            made = RNN(8, 64, bias=False).torch(torch).double()
            with torch.no_grad():
                made.weight_hh_l0.copy_(recurrent_matrix(radius, 64))

            def gradient(every: int, made: Any = made) -> tuple[Any, int]:
                made.zero_grad()
                state: dict[str, Any] = {}
                kept = 0
                for part, target in zip(x.split(every, 1), wanted.split(every, 1), strict=True):
                    state = {k: t.detach() for k, t in state.items()}
                    losses = []

                    def forward(
                        part: Any = part, target: Any = target, losses: Any = losses, state: Any = state
                    ) -> None:
                        losses.append(((made(part, state) - target) ** 2).sum())

                    kept = max(kept, saved_bytes(forward, [*made.parameters(), x, wanted]))
                    losses[0].backward()
                return made.weight_hh_l0.grad.flatten().clone(), kept

            full, kept = gradient(steps)
            found[radius, steps] = (1.0, kept)
            for every in (1, 8, 32):
                part, kept = gradient(every)
                cosine = torch.nn.functional.cosine_similarity(part, full, 0)
                found[radius, every] = (float(cosine), kept)
    return found


def _faster(steps: int, seconds: float, layers: int = 4) -> dict[str, Any]:
    """A stack of RNN layers: step by step, inputs projected at once, as a wavefront, PyTorch's kernel."""
    import torch

    made = RNN(HIDDEN, HIDDEN, layers, bias=False).torch(torch).eval()
    ins = [getattr(made, f"weight_ih_l{i}").detach() for i in range(layers)]
    recs = [getattr(made, f"weight_hh_l{i}").detach() for i in range(layers)]
    both = torch.stack([torch.cat([a, b], 1).T for a, b in zip(ins, recs, strict=True)]).contiguous()
    x = torch.randn(1, steps, HIDDEN)

    def one_by_one() -> Any:
        y = x[0]
        for a, b in zip(ins, recs, strict=True):
            h, out = torch.zeros(1, HIDDEN), []
            for t in range(steps):
                h = torch.tanh(y[t : t + 1] @ a.T + h @ b.T)
                out.append(h)
            y = torch.cat(out)
        return y

    def projected() -> Any:
        y = x[0]
        for a, b in zip(ins, recs, strict=True):
            h, out, seen = torch.zeros(1, HIDDEN), [], y @ a.T
            for t in range(steps):
                h = torch.tanh(torch.addmm(seen[t : t + 1], h, b.T))
                out.append(h)
            y = torch.cat(out)
        return y

    def wavefront() -> Any:
        # layer l is at step t - l: all layers of a diagonal in one product, T + L - 1 of them
        h, out = torch.zeros(layers, HIDDEN), []
        nought = torch.zeros(1, HIDDEN)
        for t in range(steps + layers - 1):
            seen = torch.cat([x[0, t : t + 1] if t < steps else nought, h[:-1]])
            moved = torch.tanh(torch.bmm(torch.cat([seen, h], 1)[:, None], both)[:, 0])
            if t < layers - 1:
                # layers that have not begun keep their first state
                moved[t + 1 :] = 0
            h = moved
            if t >= layers - 1:
                out.append(h[-1:])
        return torch.cat(out)

    def kernel() -> Any:
        return made(x)[0]

    calls = {"steps one by one": one_by_one, "inputs projected at once": projected,
             "wavefront over layers": wavefront, "PyTorch's kernel": kernel}  # fmt: skip

    def quiet(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return call()

        return run

    calls = {name: quiet(call) for name, call in calls.items()}
    outs = {name: call().numpy() for name, call in calls.items()}
    timings = interleaved(calls, seconds=seconds, least=7)
    wanted = outs.pop("PyTorch's kernel")
    return {"timings": timings, "apart": max(apart(o, wanted) for o in outs.values()), "steps": steps,
            "layers": layers}  # fmt: skip


def _forms(cell: Any) -> float:
    """How far a cell's loops are from PyTorch."""
    import torch

    op = cell(3, 4)
    made, x = op.torch(torch), torch.randn(2, 5, 3)
    with torch.no_grad():
        y = made(x).numpy()
    return apart(y, by_loops(op, x.numpy(), **{k: v.detach().numpy() for k, v in made.named_parameters()}))


def exponent(large: float, small: float, times: float) -> float:
    """Power of the length with which a figure grows: log of its growth over log of the length's."""
    return log(large / small) / log(times)


def findings(
    timings: dict[Any, Timing], lengths: tuple[int, ...], state: dict[str, Any],
    memory: dict[tuple[str, int], tuple[int, int]], gains: dict[str, Any],
    truncated: dict[tuple[float, int], tuple[float, int]], faster: dict[str, Any],
) -> tuple[Finding, ...]:  # fmt: skip
    """The chapter's statements beside what came out."""
    short, long = lengths[-2], lengths[-1]
    grows = {n: exponent(timings[n, long, 1].median, timings[n, short, 1].median, long / short)
             for n in (*CELLS, "attention")}  # fmt: skip
    off = max(t.uncertainty for t in timings.values())
    wide = {n: timings[n, long, 32].median / timings[n, long, 1].median for n in CELLS}
    first, last = min(t for _, t in memory), max(t for _, t in memory)
    kept = {n: exponent(memory[n, last][0], memory[n, first][0], last / first)
            for n in dict.fromkeys(n for n, _ in memory)}  # fmt: skip
    ruled = {n: memory[n, last][1] / memory[n, last][0] for n in kept}
    # the inputs of every step are kept too, for the input weights
    inputs = 4 * last * WIDTH * 4
    double = (memory["RNN, 256 units", last][0] - inputs) / (memory["RNN, 128 units", last][0] - inputs)
    steps, rates = gains["steps"], gains["rates"]
    rest, driven = ({r: rates[r, d] for r in RADII} for d in (0.0, 1.0))
    sizes = {t: size for (name, t), size in state["bytes"].items() if name == "RNN"}
    far = gains["gains"]
    cosines = ", ".join(
        f"{k} steps {truncated[1.0, k][0]:.2f} with "
        f"{truncated[1.0, k][1] / truncated[1.0, max(truncated)[1]][1]:.0%}"
        f" of the memory" for k in (1, 8, 32)
    )  # fmt: skip
    times = faster["timings"]
    gain = {n: times["steps one by one"].median / t.median for n, t in times.items()}
    return (
        Finding(
            expected="steps follow each other, so that time grows with the length of the sequence",
            found="as T to the power " + ", ".join(f"{e:.2f} ({n})" for n, e in grows.items())
            + f" from {short} to {long} steps at batch 1; attention has one step, and its work grows too",
            agreement=of_growth([grows[n] for n in CELLS], off), section="1.4",
            claims=("rnn-wall-1000", "synthesis-on-to-o1"),
        ),
        Finding(
            expected="only the batch can be worked on at once",
            found="32 times the batch takes " + ", ".join(f"{w:.1f}" for w in wide.values())
            + f" times as long ({', '.join(wide)}): units of a step are independent too, and weights are "
            f"read "
            "once for all",
            agreement=of_width(list(wide.values()), 32), section="1.4",
            claims=("rnn-parallel-width", "rnn-weight-temporal-reuse"),
        ),
        Finding(
            expected="the state takes the same memory whatever the length: 2 KB for 512 units",
            found=" and ".join(f"{size:,} B after {t:,} steps" for t, size in sizes.items()),
            agreement="agrees" if set(sizes.values()) == {2048} == {state["declared"]} else "contradicts",
            section="1.4", claims=("def14-o1-memory", "rnn-2kb-state"),
        ),
        Finding(
            expected="training keeps O(S h), in proportion to steps and units",
            found=f"it grows with S to the power {kept['RNN, 128 units']:.2f} and {double:.2f} times with "
            f"twice "
            f"the units, beside the inputs; the rules give {ruled['RNN, 128 units']:.0%} of what PyTorch "
            f"keeps for the RNN, "
            f"{ruled['LSTM, 128 units']:.0%} LSTM, {ruled['GRU, 128 units']:.0%} GRU",
            agreement=of_powers(kept["RNN, 128 units"], log(double) / log(2)), section="1.4",
            claims=("rnn-bptt-memory",),
        ),
        Finding(
            expected="attention needs O(N^2) memory, a recurrence O(h)",
            found=f"kept to train, attention grows as N to the power "
            f"{kept['attention, materialised']:.2f} where "
            f"it writes its scores, {kept['attention, tiled']:.2f} where it does not; the RNN's state "
            f"does not grow",
            agreement=of_quadratic(kept["attention, materialised"], kept["attention, tiled"]), section="1.4",
            claims=("rnn-vs-attention-scaling",),
        ),
        Finding(
            expected="a gradient through T steps is a product of T Jacobians, and vanishes or explodes",
            found=f"a step at rest passes on {', '.join(f'{x:.3f}' for x in rest.values())} with radius "
            f"{', '.join(f'{r:g}' for r in rest)}; driven by inputs "
            f"{', '.join(f'{x:.3f}' for x in driven.values())}, as tanh flattens: then even {max(RADII):g} "
            f"vanishes over {steps} steps",
            agreement=of_product(rest, driven), section="1.4",
            claims=("def14-jacobian-product", "eq6-rnn-step"),
        ),
        Finding(
            expected="attention joins any two places in one step",
            found=f"the first of {steps} tokens gets {far['attention', f'{steps} tokens']:.1e} of the "
            f"last one's "
            f"gradient, of {steps // 4} {far['attention', f'{steps // 4} tokens']:.1e}, as its share of the "
            f"average; through a driven RNN of radius 0.9 "
            f"{far['RNN, radius 0.9', 'driven by inputs']:.0e}, an "
            f"LSTM {far['LSTM, forget bias 0', 'driven by inputs']:.0e}, with a forget bias of 4 "
            f"{far['LSTM, forget bias 4', 'driven by inputs']:.0e}",
            agreement=of_reach(far["attention", f"{steps} tokens"], far["attention", f"{steps // 4} tokens"]),
            section="1.5", claims=("def15-o1-depth", "synthesis-on-to-o1"),
        ),
        Finding(
            expected="truncated backpropagation through time keeps less, for a gradient that is not the "
            "whole",
            found=f"cosine with the whole gradient, radius 1: {cosines}",
            agreement="agrees" if truncated[1.0, 1][0] < truncated[1.0, 32][0] <= 1 + 1e-9 else "partly",
            section="1.4",
        ),
        Finding(
            expected="recurrences gain by unrolling and by products over several steps or layers at once",
            found=f"against steps one by one, {faster['layers']} layers, batch 1: "
            + ", ".join(f"{g:.2f}x ({n})" for n, g in gain.items() if n != "steps one by one"),
            agreement=of_gains([gain["inputs projected at once"], gain["wavefront over layers"]],
                               max(t.uncertainty for t in times.values())),
            section="1.10",
        ),
    )  # fmt: skip


def of_growth(exponents: list[float], off: float) -> Agreement:
    """In proportion to the length, within the error of the times."""
    if off > 0.25:
        return "cannot tell"
    return "agrees" if min(exponents) > 0.8 else "partly" if min(exponents) > 0.4 else "contradicts"


def of_width(ratios: list[float], times: int) -> Agreement:
    """In part: a batch costs less than in proportion, but units are independent as well."""
    return "contradicts" if min(ratios) >= times else "partly"


def of_powers(steps: float, units: float) -> Agreement:
    """Both powers near one."""
    worst = max(abs(steps - 1), abs(units - 1))
    return "agrees" if worst < 0.1 else "partly" if worst < 0.4 else "contradicts"


def of_quadratic(written: float, tiled: float) -> Agreement:
    """Near two where scores are written; in part where an algorithm without them exists."""
    if written < 1.2:
        return "contradicts"
    return "agrees" if tiled > 1.8 else "partly"


def of_product(rest: dict[float, float], driven: dict[float, float]) -> Agreement:
    """A step at rest passes on the spectral radius; in part if inputs change that beyond one percent."""
    if any(abs(rate / radius - 1) > 0.01 for radius, rate in rest.items()):
        return "contradicts"
    return "partly" if any(abs(driven[r] / rest[r] - 1) > 0.01 for r in rest) else "agrees"


def of_reach(far: float, near: float) -> Agreement:
    """No slower than one over the distance, up to a factor of two: nothing vanishes exponentially."""
    return "agrees" if far > near / 8 else "contradicts"


def of_gains(gains: list[float], off: float) -> Agreement:
    """Faster beyond the error of the times, all or some."""
    if all(abs(g - 1) <= 2 * off for g in gains):
        return "cannot tell"
    return (
        "agrees"
        if all(g > 1 + 2 * off for g in gains)
        else "partly"
        if max(gains) > 1 + 2 * off
        else "contradicts"
    )
