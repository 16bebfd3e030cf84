"""Gating: what gates do for memory over time, for depth, and what routing to experts does to their load."""

from math import log
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import lines
from pharos.book.sums import chain
from pharos.book.trials import Curve, descend, digits, over, seeded
from pharos.graph.count import count
from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.measure.timing import Timing, interleaved
from pharos.models.highway import highway
from pharos.ops.experts import Experts
from pharos.ops.linear import Linear
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.ops.router import Router
from pharos.ops.shape_ops import Reshape, Slice
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "gating"
CLAIMS = ("fn27-lstm-triple", "fn27-lstm-4x", "fn28-gru-25", "lstm-three-gates", "moe-softmax-gating")
CELLS = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}
# Cells that recall, and whether the gate that keeps (forget, update) is open at the start: by a bias of the
# logarithm of the steps that something is kept. Source: Tallec and Ollivier 2018, arXiv:1804.11188.
RECALLERS = {"RNN": ("RNN", False), "LSTM": ("LSTM", False), "GRU": ("GRU", False),
             "LSTM, open": ("LSTM", True), "GRU, open": ("GRU", True)}  # fmt: skip
SYMBOLS, HIDDEN, BATCH = 8, 48, 64
EXPERTS, TOKENS = 8, 256


@lab(NAME, "gates: LSTM and GRU against RNN on recalling a symbol, highway depth, load of routed experts",
     claims=CLAIMS)  # fmt: skip
def gating(setting: Setting, progress: Progress) -> Outcome:
    """Recall over time by cell, deep stacks with and without gates, experts with and without balance."""
    small = setting.small
    seeds = range(setting.seed, setting.seed + (1 if small else 3))
    waits = (3,) if small else (5, 40)
    steps = 4 if small else 300
    recalled: dict[tuple[str, int], list[float]] = {}
    for wait in waits:
        for name in RECALLERS if wait == waits[-1] else CELLS:
            progress(0, 4, f"recall over {wait} steps: {name}")
            recalled[name, wait] = [_recall(name, wait, steps, s) for s in seeds]
    deep: dict[tuple[bool, int], list[Curve]] = {}
    depths = (4,) if small else (10, 50)
    for depth in depths:
        for gated in (False, True):
            progress(1, 4, f"{depth} layers, {'with' if gated else 'without'} gates")
            deep[gated, depth] = [_deep(gated, depth, 4 if small else 150, s) for s in seeds]
    progress(2, 4, "experts")
    balance = {a: [_experts(a, 5 if small else 400, s) for s in seeds] for a in (0.0, 0.01, 0.1)}
    progress(3, 4, "cost of a step")
    with seeded(setting.seed):
        ratios, timings = _costs(0.2 if small else 3.0)
    progress(4, 4, "done")
    rows = [
        *(("share recalled", name, f"after {wait}", median(found))
          for (name, wait), found in recalled.items()),
        *(("last loss", "highway" if gated else "plain", f"{depth} layers", median(c.last for c in found))
          for (gated, depth), found in deep.items()),
        *((what, f"{EXPERTS} experts", f"balance x{a:g}", median(f[key] for f in found))
          for a, found in balance.items()
          for what, key in (("busiest / mean load", "busiest"), ("experts in use", "used"),
                            ("last loss", "loss"))),
        *(("parameters / RNN", name, "counted", ratio) for name, ratio in ratios.items()),
        *(("time / RNN", name, "32 steps, batch 8", timings[name].median / timings["RNN"].median)
          for name in CELLS),
    ]  # fmt: skip
    shares = [
        share for found in balance.values() for f in found for share in (f["lowest"], f["highest"])
    ]  # fmt: skip
    points = [
        {"expert, by load": i + 1, "share of tokens": load, "balancing loss": f"x{a:g}"}
        for a, found in balance.items()
        for i, load in enumerate(sorted(found[0]["load"], reverse=True))
    ]  # fmt: skip
    return Outcome(
        name=NAME, summary="cells that recall the first of many symbols, stacks of layers, experts routed to",
        settings={"seeds": len(seeds), "first_seed": setting.seed, "steps": steps, "units": HIDDEN},
        columns=("measured", "of", "at", "value"), rows=tuple(rows),
        checks=(
            Check(what="an LSTM has four matrices where an RNN has one, a GRU three: parameters of the "
            "modules",
                  found=", ".join(f"{n} {r:g}" for n, r in ratios.items()),
                  holds=(ratios["RNN"], ratios["LSTM"], ratios["GRU"]) == (1.0, 4.0, 3.0)),
            Check(what="shares of experts lie between 0 and 1", found=f"{min(shares):.3f} to "
            f"{max(shares):.3f}",
                  holds=min(shares) >= 0 and max(shares) <= 1),
        ),
        findings=findings(recalled, waits, deep, depths, balance, ratios, timings),
        note=f"recall: one of {SYMBOLS} symbols, marked, then others; guessing is {1 / SYMBOLS:.3f}. "
        f"Medians over "
        "seeds; times are of this machine",
        figure=lines(
            points, "expert, by load", "share of tokens", "balancing loss", name=NAME, points=True,
            title="Load of eight experts after training",
            alt="Share of tokens by expert, from the busiest on: steep without a balancing loss, level "
            "with it",
            source="top-1 routing, one seed; an even load is 0.125",
        ),
        data={"recalled": [{"cell": n, "after": w, "each": a} for (n, w), a in recalled.items()],
              "load": {str(a): [f["load"] for f in found] for a, found in balance.items()}},
    )  # fmt: skip


def recaller(name: str, steps: int) -> Graph:
    """A cell over a sequence of symbols, and a dense layer over its last state."""
    g = Builder("recaller")
    x = g.input("x", (BATCH, steps, SYMBOLS + 1))
    y = g("cell", CELLS[RECALLERS[name][0]](SYMBOLS + 1, HIDDEN), x)
    last = g("flat", Reshape((BATCH, HIDDEN)), g("last", Slice(1, steps - 1, steps), y))
    return g.finish(g("head", Linear(HIDDEN, SYMBOLS), last))


def _recall(name: str, wait: int, steps: int, seed: int) -> float:
    """Share of symbols recalled after `wait` others, after training on fresh sequences."""
    from pharos.convert.to_torch import to_torch

    with seeded(seed) as torch:
        made = to_torch(recaller(name, wait + 1))
        with torch.no_grad():
            # both cells have the gate that keeps second
            if RECALLERS[name][1]:
                made.get_parameter("cell.bias_ih_l0")[HIDDEN : 2 * HIDDEN] += log(wait)

        def drawn() -> tuple[Any, Any]:
            symbols = torch.randint(SYMBOLS, (BATCH, wait + 1))
            x = torch.nn.functional.one_hot(symbols, SYMBOLS + 1).float()
            # only the first is to be kept
            x[:, 0, SYMBOLS] = 1
            return x, symbols[:, 0]

        def loss_of(_: int) -> Any:
            x, wanted = drawn()
            return torch.nn.functional.cross_entropy(made(x), wanted)

        descend(made, loss_of, steps, 0.01, adam=True, clip=1.0)
        with torch.no_grad():
            right = [
                (made(x).argmax(1) == wanted).float().mean() for x, wanted in (drawn() for _ in range(16))
            ]
        return float(torch.stack(right).mean())


def _deep(gated: bool, depth: int, steps: int, seed: int) -> Curve:
    """A highway network, or the same layers without gates, on drawn digits."""
    from pharos.convert.to_torch import to_torch

    with seeded(seed) as torch:
        images, labels = map(torch.from_numpy, digits(steps * BATCH, seed, roam=False))
        made = to_torch(highway(Workload(batch=BATCH), depth=depth, inputs=64, gated=gated))
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if name.endswith("plain.weight"):
                    torch.nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                elif name.endswith("gate.bias"):
                    # closed at first, as the paper does
                    parameter.fill_(-4.0)

        def loss_of(step: int) -> Any:
            at = slice(step * BATCH, (step + 1) * BATCH)
            return torch.nn.functional.cross_entropy(made(images[at].flatten(1)), labels[at])

        return Curve(descend(made, loss_of, steps, 0.02))


def mixture(tokens: int = TOKENS, width: int = 16) -> Graph:
    """A router and its experts, top-1; gives what they make, and which expert each token went to."""
    g = Builder("mixture")
    x = g.input("x", (tokens, width))
    shares, picks = g("gate", Router(width, EXPERTS, 1, scoring="softmax"), x)
    experts = Experts(EXPERTS, 1, width, 2 * width, gated=False, function="relu")
    return g.finish(g("experts", experts, x, shares, picks), shares, picks)


def _experts(balance: float, steps: int, seed: int) -> dict[str, Any]:
    """Load of experts after training, with `balance` times the loss N sum f_i P_i added.

    f is the share of tokens an expert gets, P its mean probability. Source: Fedus et al. 2021,
    arXiv:2101.03961, equation 4.
    """
    from pharos.convert.to_torch import to_torch

    with seeded(seed) as torch:
        made = to_torch(mixture())
        gate = made.get_submodule("gate")
        centres = torch.randn(EXPERTS, 16)
        maps = torch.randn(EXPERTS, 16, 16) / 4

        def drawn() -> tuple[Any, Any]:
            kind = torch.randint(EXPERTS, (TOKENS,))
            x = centres[kind] + 0.3 * torch.randn(TOKENS, 16)
            return x, torch.einsum("bij,bj->bi", maps[kind], x)

        def parts() -> tuple[Any, Any, Any, Any]:
            x, wanted = drawn()
            y, shares, picks = made(x)
            load = torch.nn.functional.one_hot(picks[:, 0], EXPERTS).float().mean(0)
            mean = torch.nn.functional.linear(x, gate.weight).softmax(-1).mean(0)
            return ((y - wanted) ** 2).mean(), EXPERTS * (load * mean).sum(), load, shares

        def loss_of(_: int) -> Any:
            error, uneven, *_rest = parts()
            return error + balance * uneven

        descend(made, loss_of, steps, 0.01, adam=True)
        with torch.no_grad():
            found = [parts() for _ in range(16)]
        load = torch.stack([f[2] for f in found]).mean(0)
        shares = torch.cat([f[3] for f in found])
        return {
            "load": [float(v) for v in load], "busiest": float(load.max() * EXPERTS),
            "used": int((load > 0.01).sum()), "loss": float(torch.stack([f[0] for f in found]).mean()),
            "lowest": float(shares.min()), "highest": float(shares.max()),
        }  # fmt: skip


def _costs(seconds: float) -> tuple[dict[str, float], dict[str, Timing]]:
    """Parameters over an RNN's by the rules, and seconds of 32 steps."""
    import torch

    from pharos.convert.to_torch import to_torch

    graphs = {n: chain((8, 32, 128), c(128, 256)) for n, c in CELLS.items()}
    counts = {n: count(g) for n, g in graphs.items()}
    calls = {}
    x = torch.randn(8, 32, 128)
    for name, graph in graphs.items():
        made = to_torch(graph)

        def call(made: Any = made) -> Any:
            with torch.no_grad():
                return made(x)

        calls[name] = call
    return (
        {n: float(c.parameters / counts["RNN"].parameters) for n, c in counts.items()},
        interleaved(calls, seconds=seconds, least=11),
    )


def findings(
    recalled: dict[tuple[str, int], list[float]], waits: tuple[int, ...],
    deep: dict[tuple[bool, int], list[Curve]], depths: tuple[int, ...],
    balance: dict[float, list[dict[str, Any]]], ratios: dict[str, float], timings: dict[str, Timing],
) -> tuple[Finding, ...]:  # fmt: skip
    """The chapter's statements beside what came out."""
    near, far = waits[0], waits[-1]
    lstm = timings["LSTM"].median / timings["RNN"].median
    gru = timings["GRU"].median / timings["LSTM"].median
    off = sum(t.uncertainty for t in timings.values())

    def loss(gated: bool, depth: int) -> str:
        return over([c.last for c in deep[gated, depth]], ".2f")

    def told(wait: int) -> str:
        return ", ".join(
            f"{n} {over([100 * v for v in recalled[n, wait]], '.0f')}"
            for n in RECALLERS
            if (n, wait) in recalled
        )

    without, with_ = balance[0.0], balance[0.01]
    return (
        Finding(
            expected="gates let LSTM and GRU keep what a plain RNN loses over long sequences",
            found="; ".join(f"after {w} others {told(w)} percent recalled" for w in waits)
            + ". Open: the gate that keeps starts so, by a bias of ln of the steps",
            agreement=of_memory({n: recalled[n, far] for n in RECALLERS}, recalled["RNN", near]),
            section="1.8",
        ),
        Finding(
            expected="an LSTM has three gates and so three times the parameters of an RNN, a step is "
            "about 4 times "
            "the cost",
            found=f"{ratios['LSTM']:g} times the parameters and MACs, as the candidate is a fourth matrix; "
            f"{lstm:.1f} times the time here, within {off:.0%}",
            agreement=of_cost(ratios["LSTM"], lstm, off), section="1.8",
            claims=("fn27-lstm-triple", "fn27-lstm-4x", "lstm-three-gates"),
        ),
        Finding(
            expected="a GRU has about 25 percent fewer parameters than an LSTM, at the same accuracy",
            found=f"{1 - ratios['GRU'] / ratios['LSTM']:.0%} fewer; a step takes {gru:.2f} of an LSTM's "
            f"time here; "
            f"{over([100 * v for v in recalled['GRU, open', far]], '.0f')} percent recalled after {far}, "
            f"LSTM "
            f"{over([100 * v for v in recalled['LSTM, open', far]], '.0f')}, both open",
            agreement=of_same(recalled["GRU, open", far], recalled["LSTM, open", far]), section="1.8",
            claims=("fn28-gru-25",),
        ),
        Finding(
            expected="highway gates let a layer pass its input on, so that deep stacks train",
            found="; ".join(
                f"{d} layers: loss {loss(False, d)} without gates, {loss(True, d)} with" for d in depths
            ),
            agreement=of_depth(deep[False, depths[-1]], deep[True, depths[-1]]), section="1.8",
        ),
        Finding(
            expected="routing to experts is gating by learned shares; its load must be balanced",
            found=f"busiest expert {over([f['busiest'] for f in without])} times the mean load without a "
            f"balancing "
            f"loss, {over([f['used'] for f in without], '.0f')} of {EXPERTS} in use; "
            f"{over([f['busiest'] for f in with_])} times and {over([f['used'] for f in with_], '.0f')} "
            f"with 0.01 of it; "
            f"error {over([f['loss'] for f in without])} and {over([f['loss'] for f in with_])}",
            agreement=of_load([f["busiest"] for f in without], [f["busiest"] for f in with_]), section="1.8",
            claims=("moe-softmax-gating",),
        ),
    )  # fmt: skip


def of_memory(far: dict[str, list[float]], near: list[float]) -> Agreement:
    """Agrees if gated cells recall more than the RNN, on every seed and by a tenth, as they come.

    In part where they do so only with their gates set open; it cannot be told where the RNN does not even
    recall what is near, or none of them differs.
    """
    better = {n: min(found) > max(far["RNN"]) + 0.1 for n, found in far.items() if n != "RNN"}
    if median(near) < 0.5:
        return "cannot tell"
    if better["LSTM"] and better["GRU"]:
        return "agrees"
    if any(better.values()):
        return "partly"
    return "contradicts" if all(median(f) <= median(far["RNN"]) for f in far.values()) else "cannot tell"


def of_cost(parameters: float, time: float, off: float) -> Agreement:
    """Three times the parameters would agree; in part where only the cost of a step is about four times."""
    if off > 0.5:
        return "cannot tell"
    four = time * (1 + off) >= 3 and time * (1 - off) <= 5
    return "agrees" if parameters == 3 and four else "partly" if four or parameters == 4 else "contradicts"


def of_same(gru: list[float], lstm: list[float]) -> Agreement:
    """Within a tenth of each other, or within what seeds differ by."""
    apart = abs(median(gru) - median(lstm))
    wide = max(max(gru) - min(gru), max(lstm) - min(lstm))
    return "agrees" if apart <= 0.1 else "cannot tell" if apart <= wide else "partly"


def of_depth(plain: list[Curve], gated: list[Curve]) -> Agreement:
    """The gated stack ends lower on every seed, and the plain one is stuck near guessing."""
    if min(c.last for c in plain) <= max(c.last for c in gated):
        return (
            "contradicts" if median(c.last for c in plain) < median(c.last for c in gated) else "cannot tell"
        )
    return "agrees" if median(c.last for c in gated) < 1.6 else "partly"


def of_load(without: list[float], with_: list[float]) -> Agreement:
    """Uneven without, and more even with a balancing loss, on every seed."""
    if min(without) > max(with_):
        return "agrees" if max(with_) < 2 else "partly"
    return "contradicts" if median(without) < median(with_) else "cannot tell"
