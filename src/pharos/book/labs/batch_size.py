"""Batch size: latency and throughput of an MLP, a CNN, a recurrence and a transformer layer by batch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.timed import Span, above, crossing, drawn, every, ratio, scaled, threads, timed, within
from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.measure.timing import Timing
from pharos.models.registry import find
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "batch-size"
# By family: (model of the catalogue, tokens).
NETWORKS: dict[str, tuple[str, int | None]] = {
    "MLP": ("mlp", None),
    "CNN": ("resnet8", None),
    "separable": ("ds_cnn_s", None),
    "LSTM": ("lstm_tagger", 50),
}
BATCHES, FEW = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4)
SIDE = 1536
# Of rows of a batch from the same rows alone, over the largest value.
TOLERANCE = 1e-4


@lab(NAME, "latency and throughput by batch of an MLP, CNNs and a recurrence; the batch that pays",
     claims=("dense-batch-several-hundred", "broadcast-batch-32", "rnn-parallel-width",
             "util-mlp"))  # fmt: skip
def batch_size(setting: Setting, progress: Progress) -> Outcome:
    """Each network at every batch in turn, on one core."""
    batches = FEW if setting.small else BATCHES
    steps = len(NETWORKS) + 1
    rows, found, worst = [], {}, 0.0
    with threads() as torch:
        torch.manual_seed(setting.seed)
        for i, family in enumerate(NETWORKS):
            progress(i, steps, family)
            calls, apart = calls_of(torch, family, batches)
            worst = max(worst, apart)
            found[family] = times = timed(calls, 7.0, small=setting.small)
            for b in batches:
                asked = counted_of(family, b)
                rows.append((family, b, 1e3 * times[str(b)].median, b / times[str(b)].median,
                             float(asked.flops / asked.traffic_per_op),
                             float(asked.flops) / times[str(b)].median / 1e9))  # fmt: skip
        progress(steps - 1, steps, "a product of matrices")
        a, out = torch.randn(SIDE, SIDE), torch.empty(SIDE, SIDE)
        peak = timed({"product": lambda: torch.mm(a, a, out=out)}, 2.0, small=setting.small)["product"]
    progress(steps, steps, "done")
    reused = weights_stay(batches)
    return Outcome(
        name=NAME, summary="what a batch gains in throughput and costs in latency, by family",
        settings={"models": ", ".join(name for name, _ in NETWORKS.values()), "dtype": "fp32", "threads": 1,
                  "seed": setting.seed},
        columns=("family", "batch", "ms", "samples_per_s", "flop_per_byte", "gflop_per_s"), rows=tuple(rows),
        checks=(
            Check(what="a batch gives what its samples give alone",
                  holds=worst <= TOLERANCE,
                  found=f"{worst:.0e} of the largest value, {TOLERANCE:.0e} allowed"),
            Check(what="weights are read once a batch, whatever its size (counted)",
                  found="so they are" if reused else "they are not", holds=reused),
        ),
        findings=findings(batches, found, rows, 2 * SIDE**3 / peak.median),
        note="ms: of a batch; flop_per_byte: counted, each tensor of each operator moved once",
        figure=picture(rows),
        data={"half_throughput_batch": {f: knee(batches, t) for f, t in found.items()}},
    )  # fmt: skip


def graph_of(family: str, batch: int) -> Graph:
    """A network at a batch."""
    name, tokens = NETWORKS[family]
    return find(name).graph(Workload(batch=batch, context=tokens))


def counted_of(family: str, batch: int) -> Count:
    """What it asks for."""
    return count(graph_of(family, batch))


def calls_of(torch: Any, family: str, batches: Sequence[int]) -> tuple[dict[str, Any], float]:
    """(calls by batch with the same weights, largest difference of a batch's rows from the rows alone)."""
    from pharos.convert.to_torch import to_torch

    modules: dict[int, Any] = {}
    for b in batches:
        modules[b] = to_torch(graph_of(family, b)).eval()
        if b != batches[0]:
            modules[b].load_state_dict(modules[batches[0]].state_dict(), assign=True)
    value = graph_of(family, batches[-1]).inputs[0]
    shape = tuple(value.shape)
    x = torch.randint(0, 10_000, shape) if value.tensor.dtype.startswith("int") else torch.randn(shape)
    some = min(4, batches[-1])
    whole = modules[batches[-1]](x)[:some]
    alone = torch.cat([modules[1](x[i : i + 1]) for i in range(some)])
    calls = {str(b): partial(modules[b], x[:b].clone()) for b in batches}
    return calls, float((whole - alone).abs().max() / whole.abs().max())


def weights_stay(batches: Sequence[int]) -> bool:
    """Whether counted bytes of weights, but for rows that are looked up, are those of batch 1 and MACs grow
    with the batch, in all families."""
    few, many = batches[0], batches[-1]
    kept = []
    for family in NETWORKS:
        a, b = (
            (c.macs, sum(ln.times * ln.traffic.weights for ln in c.lines if ln.cost_class != "gather"))
            for c in (counted_of(family, few), counted_of(family, many))
        )
        kept.append(a[1] == b[1] and b[0] * few == a[0] * many)
    return all(kept)


def gained(batches: Sequence[int], times: dict[str, Timing]) -> Span:
    """Throughput at the largest batch over that at batch 1."""
    return scaled(ratio(times[str(batches[0])], times[str(batches[-1])]), batches[-1] / batches[0])


def knee(batches: Sequence[int], times: dict[str, Timing]) -> float | None:
    """The batch with half of the throughput of the largest."""
    each = [times[str(b)].median / b for b in batches]
    return crossing(batches, [2 * each[-1]] * len(each), each)


def doubled(batches: Sequence[int], times: dict[str, Timing]) -> float | None:
    """The batch whose latency is twice that of one sample; None where none is."""
    return crossing(batches, [times[str(b)].median for b in batches],
                    [2 * times[str(batches[0])].median] * len(batches))  # fmt: skip


def most(gains: dict[str, Span], family: str) -> Agreement:
    """Whether a family is said rightly to gain most."""
    others = [g for f, g in gains.items() if f != family]
    best = max(others, key=lambda g: g.value)
    if gains[family].low > best.high:
        return "agrees"
    return "contradicts" if gains[family].high < best.low else "cannot tell"


def findings(
    batches: Sequence[int], found: dict[str, dict[str, Timing]], rows: Sequence[tuple[Any, ...]], peak: float
) -> tuple[Finding, ...]:
    """What the chapter expects beside what came out."""
    last = batches[-1]
    gains = {f: gained(batches, t) for f, t in found.items()}
    at = {f: knee(batches, t) for f, t in found.items()}
    twice = {f: doubled(batches, t) for f, t in found.items()}
    some = batches[min(3, len(batches) - 1)]
    recurrent = ratio(found["LSTM"][str(some)], found["LSTM"]["1"])
    reached = {r[0]: 1e9 * r[5] / peak for r in rows if r[1] == last}
    share = Span(reached["MLP"], 0.95 * reached["MLP"], 1.05 * reached["MLP"])
    return (
        Finding(
            expected="larger batches raise throughput, at the price of latency",
            found=f"batch {last} has " + ", ".join(f"{g} times ({f})" for f, g in gains.items())
            + " the throughput of one sample; latency doubles at batch "
            + ", ".join(f"{_told(b, last)} ({f})" for f, b in twice.items()),
            agreement=every([above(g, 1.0) for g in gains.values()]), section="1.2",
        ),
        Finding(
            expected="dense layers gain most from a batch: each weight is read once for all its samples",
            found=", ".join(f"{f} {g.value:.3g} times" for f, g in gains.items()),
            agreement=most(gains, "MLP"), section="1.2", claims=("broadcast-batch-32",),
        ),
        Finding(
            expected="dense layers are bound by memory until batches of several hundred (on accelerators)",
            found=f"half of the throughput of batch {last} is reached at batch {_told(at['MLP'], last)} "
            "here: the ridge point of one core is far lower than an accelerator's",
            agreement="cannot tell" if at["MLP"] is None or at["MLP"] > 100 else "contradicts",
            section="1.2", claims=("dense-batch-several-hundred",),
        ),
        Finding(
            expected="a recurrence can use no more width than its batch, and gains by each sample of it",
            found=f"batch {some} takes {recurrent} times as long as one sequence",
            agreement="agrees" if recurrent.high < some / 2 else
            "contradicts" if recurrent.low > some / 1.2 else "partly",
            section="1.4", claims=("rnn-parallel-width",),
        ),
        Finding(
            expected="MLPs reach 80 to 90% of a machine's peak",
            found=f"{reached['MLP']:.0%} of a large product's rate at batch {last}; "
            + ", ".join(f"{f} {s:.0%}" for f, s in reached.items() if f != "MLP"),
            agreement=within(share, 0.8, 0.9), section="1.10", claims=("util-mlp",),
        ),
    )  # fmt: skip


def _told(batch: float | None, last: int) -> str:
    return f"beyond {last}" if batch is None else f"{batch:.3g}"


def picture(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Throughput over latency, a point a batch, a line a family."""
    ones = {r[0]: r[3] for r in rows if r[1] == 1}
    data = [{"family": r[0], "batch": r[1], "latency_ms": r[2], "gain": r[3] / ones[r[0]]} for r in rows]

    def draw(alt: Any) -> Any:
        x = alt.X("batch:Q", scale=alt.Scale(type="log", base=2), title="batch")

        def panel(y: str, title: str) -> Any:
            return alt.Chart(alt.Data(values=data)).mark_line(point=True).encode(
                x=x, y=alt.Y(f"{y}:Q", scale=alt.Scale(type="log"), title=title),
                color=alt.Color("family:N", title=None, sort=list(NETWORKS), legend=alt.Legend(orient="top")),
                tooltip=["family:N", "batch:Q", alt.Tooltip(f"{y}:Q", format=".3g")],
            ).properties(width=250, height=260)  # fmt: skip

        return alt.hconcat(panel("gain", "throughput over that of one sample"),
                           panel("latency_ms", "milliseconds a batch"))  # fmt: skip

    return drawn(draw, name=NAME, title="Throughput and latency by batch",
                 alt="Throughput and latency of four networks by batch; the MLP gains most.",
                 source="measured on this machine, one core")  # fmt: skip
