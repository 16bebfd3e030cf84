"""Intensity: this machine's roofline, dense layers from one row to many, convolutions, whole networks."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.sums import chain, counted
from pharos.book.timed import Span, above, below, crossing, drawn, every, ratio, threads, timed
from pharos.graph.count import Count, count
from pharos.graph.op import Op
from pharos.measure.timing import Timing
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "intensity"
WIDTH, BATCHES = 2048, (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Bytes of copies that are used in turn, so that each comes from memory: more than the largest last cache
# in common use.
COLD = 600_000_000
# Side of the product that gives the peak, bytes that are read at once for the bandwidth.
SQUARE, PIECE = 768, 16_000_000
# Numbers in a row of the matrix that a piece is read as.
LINE = 1000
# Fewer FLOPs first: what the chapter compares, and two more pairs of the catalogue.
PAIRS = (("mobilenet_v2", "resnet50"), ("efficientnet_b0", "resnet18"), ("efficientnet_b0", "squeezenet1_0"))
TINY = (("mobilenet_vww", "resnet8"),)
RUNTIMES = ("eager", "onnxruntime")


def convolutions(small: bool) -> dict[str, tuple[tuple[int, ...], Op]]:
    """The kinds of layers that MobileNet and ResNet are made of, by name: (input, operator)."""
    channels, side = (16, 14) if small else (128, 56)
    shape = (1, channels, side, side)
    return {
        "3x3 convolution": (shape, Conv2d(channels, channels, 3, 1, 1, bias=False)),
        "pointwise": (shape, Conv2d(channels, channels, 1, bias=False)),
        "depthwise 3x3": (shape, Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)),
    }


@lab(NAME, "this machine's roofline; dense layers by batch, kinds of convolution, MobileNet against ResNet",
     claims=("eq2-intensity", "sc-dense-0p5", "sc-fix-is-batching", "depthwise-ai", "misconception-14x",
             "mobilenet-slower-on-gpu", "sc-mnv2-latency-match", "sum-14x"))  # fmt: skip
def intensity(setting: Setting, progress: Progress) -> Outcome:
    """Rates are of one core; weights and inputs of each call come from memory."""
    small = setting.small
    width, batches = (128, BATCHES[:4]) if small else (WIDTH, BATCHES)
    pairs = TINY if small else PAIRS
    steps = 2 + len(pairs)
    with threads() as torch:
        torch.manual_seed(setting.seed)
        progress(0, steps, "dense layers by batch, peak and bandwidth")
        roofs, sizes = roof_calls(torch, small)
        dense = timed(dense_calls(torch, width, batches, small) | roofs, 15.0, small=small)
        progress(1, steps, "kinds of convolution")
        convs = convolutions(small)
        kinds = timed(cold(torch, convs, small) | roofs, 8.0, small=small)
        asked = {f"dense, batch {b}": (count(chain((b, width), Linear(width, width, False))), dense[str(b)])
                 for b in batches} | {
            n: (count(chain(shape, op)), kinds[n]) for n, (shape, op) in convs.items()
        }  # fmt: skip
        best = {n: sizes[n] / min(t[n].best for t in (dense, kinds)) for n in roofs}
        # the most that any product reached
        peak = max(best["product"], *(float(c.flops) / t.best for c, t in asked.values()))
        bandwidth = max(best["read"], best["weigh"])
        rows = [point(n, counts, timing, peak, bandwidth) for n, (counts, timing) in asked.items()]
        # of the best runs, as the roof is
        over = max(point(n, c, Timing((t.best,)), peak, bandwidth)[4] for n, (c, t) in asked.items())
        worst = difference(torch, width)
    found = {}
    for i, pair in enumerate(pairs):
        progress(2 + i, steps, " and ".join(pair))
        found[pair] = together(pair, setting)
    for pair, timings in found.items():
        for name in pair:
            if not any(r[0] == name for r in rows):
                rows.append(point(name, counted(name), timings["eager"][name], peak, bandwidth))
    progress(steps, steps, "done")
    return Outcome(
        name=NAME, summary="what operations reach of this machine's roofline, and why fewer FLOPs need not "
        "be faster",
        settings={"width": width, "dtype": "fp32", "threads": 1, "seed": setting.seed,
                  "peak": f"{peak / 1e9:.3g} GFLOP/s", "bandwidth": f"{bandwidth / 1e9:.3g} GB/s",
                  "ridge": f"{peak / bandwidth:.3g} FLOP/B"},
        columns=("operation", "flop_per_byte", "gflop_per_s", "roof_gflop_per_s", "share"),
        rows=tuple(rows),
        checks=(
            Check(what="dense layers in loops and here give the same", holds=worst <= 1e-4,
                  found=f"largest difference {worst:.0e} of the largest value, 1e-04 allowed"),
            Check(what="no operation from memory is above its roof", holds=small or over <= 1.25,
                  found=f"at most {over:.2f} of it, 1.25 allowed" + (" in a full run" if small else "")),
        ),
        findings=findings(batches, dense, rows, found, peak / bandwidth),
        note="flop_per_byte: counted, each tensor of each operator moved once; roof: the lower of peak and "
        "bandwidth times it; all but the networks find their weights or inputs in memory, not in a cache",
        figure=picture(rows, peak, bandwidth),
        data={"peak_flop_per_s": peak, "bandwidth_bytes_per_s": bandwidth, "ridge_point": peak / bandwidth},
    )  # fmt: skip


def roof_calls(torch: Any, small: bool) -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """A product of matrices and two ways to read the next piece of a large array, the FLOP and bytes of them.

    Both are as short as the calls beside them, so that their best are as likely free of interruptions.
    """
    side, piece = (256, 1_000_000) if small else (SQUARE, PIECE)
    a, b, out = (torch.randn(side, side) for _ in range(3))
    pieces = torch.zeros(4 if small else COLD // piece, piece // 4)
    turn = cycle(pieces)
    # a sum waits for its additions where a product with a vector does not
    matrices, vector = cycle([p.reshape(-1, LINE) for p in pieces]), torch.zeros(LINE)
    calls = {"product": partial(torch.mm, a, b, out=out), "read": lambda: next(turn).sum(),
             "weigh": lambda: torch.mv(next(matrices), vector)}  # fmt: skip
    return calls, {"product": 2.0 * side**3, "read": float(piece), "weigh": float(piece)}


def cold(
    torch: Any, convs: dict[str, tuple[tuple[int, ...], Op]], small: bool
) -> dict[str, Callable[[], Any]]:
    """Calls of operators that take one shape, each on the next of many inputs."""
    from pharos.convert.to_torch import to_torch

    (shape,) = {shape for shape, _ in convs.values()}
    one = torch.randn(shape)
    turn = cycle([one.clone() for _ in range(2 if small else max(2, COLD // one.nbytes))])
    modules = {n: to_torch(chain(shape, op)) for n, (_, op) in convs.items()}
    return {n: (lambda module=module: module(next(turn))) for n, module in modules.items()}


def dense_calls(torch: Any, width: int, batches: Sequence[int], small: bool) -> dict[str, Callable[[], Any]]:
    """Dense layers by batch, each call with the weights of the next of many layers."""
    from pharos.convert.to_torch import to_torch

    copies = 2 if small else max(2, COLD // (4 * width**2))
    layers = [to_torch(chain((1, width), Linear(width, width, False))) for _ in range(copies)]
    turn = cycle(layers)
    inputs = {b: torch.randn(b, width) for b in batches}
    return {str(b): partial(lambda x: next(turn)(x), x) for b, x in inputs.items()}


def difference(torch: Any, width: int) -> float:
    """Of the explicit loops from the module, for a layer of a few outputs."""
    from pharos.graph.op import Tally

    op = Linear(width, 3, False)
    layer, x = op.torch(torch), torch.randn(2, width)
    wanted = op.loops(Tally(), x.double().numpy(), weight=layer.weight.double().numpy())
    return float((layer(x).double() - torch.from_numpy(wanted)).abs().max() / abs(wanted).max())


def together(pair: Sequence[str], setting: Setting) -> dict[str, dict[str, Timing]]:
    """Times of two networks of the catalogue in turn, by runtime; a runtime that is missing is left out."""
    from contextlib import ExitStack
    from importlib.util import find_spec

    from pharos.book.sums import graph
    from pharos.measure.runs import runnable

    found = {}
    for runtime in RUNTIMES:
        if runtime == "onnxruntime" and not (find_spec("onnxruntime") and find_spec("onnx")):
            continue
        with ExitStack() as stack:
            ready = {n: stack.enter_context(runnable(graph(n), runtime, 1, setting.seed)) for n in pair}
            found[runtime] = timed({n: r.call for n, r in ready.items()}, 4.0, small=setting.small)
    return found


def point(name: str, asked: Count, timing: Timing, peak: float, bandwidth: float) -> tuple[Any, ...]:
    """A row: intensity, rate, its roof, the share of it that is reached."""
    per_byte = float(asked.flops / asked.traffic_per_op)
    rate, most = float(asked.flops) / timing.median, min(peak, bandwidth * per_byte)
    return name, per_byte, rate / 1e9, most / 1e9, rate / most


def reached(batches: Sequence[int], dense: dict[str, Timing]) -> float | None:
    """The batch at which a row takes twice as long as in the largest batch: half of the rate reached."""
    each = [dense[str(b)].median / b for b in batches]
    return crossing(batches, [2 * each[-1]] * len(each), each)


def near_ridge(batch: float | None, ridge: float) -> Agreement:
    """Whether the batch from which a dense layer computes is where the ridge says: ridge / 0.5 FLOP/B of a
    row, to a factor of three, for the change is gradual."""
    if batch is None:
        return "contradicts"
    wanted = ridge / 0.5
    return "agrees" if wanted / 3 <= batch <= 3 * wanted else "contradicts"


def findings(
    batches: Sequence[int], dense: dict[str, Timing], rows: Sequence[tuple[Any, ...]],
    found: dict[tuple[str, str], dict[str, dict[str, Timing]]], ridge: float,
) -> tuple[Finding, ...]:  # fmt: skip
    """What the chapter expects beside what came out."""
    some = batches[min(3, len(batches) - 1)]
    cost = ratio(dense[str(some)], dense["1"])
    gain = ratio(dense["1"], dense[str(batches[-1])])
    more = Span(*(batches[-1] * g for g in (gain.value, gain.low, gain.high)))
    at = reached(batches, dense)
    cells = {r[0]: r for r in rows}
    kinds = {n: cells[n] for n in ("3x3 convolution", "pointwise", "depthwise 3x3")}
    lowest = all(kinds["depthwise 3x3"][i] <= min(k[i] for k in kinds.values()) for i in (1, 2))
    shown = ", ".join(f"{n} {k[1]:.3g} FLOP/B, {k[2]:.3g} GFLOP/s" for n, k in kinds.items())
    (less, most), first = next(iter(found.items()))
    flops = counted(most).flops / counted(less).flops
    times = {runtime: ratio(t[most], t[less]) for runtime, t in first.items()}
    told = ", ".join(f"{t} ({runtime})" for runtime, t in times.items())
    return (
        Finding(
            expected="a dense layer at batch 1 has 0.5 FLOP/B and waits for memory",
            found=f"{rows[0][1]:.3g} FLOP/B; batch {some} takes {cost} times as long as batch 1",
            agreement=below(cost, some / 2), section="1.2", claims=("eq2-intensity", "sc-dense-0p5"),
        ),
        Finding(
            expected="what mends it is a larger batch, up to the ridge point",
            found=f"batch {batches[-1]} has {more} times the throughput of batch 1; half of it is reached at "
            + ("none" if at is None else f"batch {at:.0f}") + f", the ridge is at batch {2 * ridge:.0f}",
            agreement=near_ridge(at, ridge) if above(more, 2.0) == "agrees" else "contradicts",
            section="1.2", claims=("sc-fix-is-batching",),
        ),
        Finding(
            expected="depthwise convolutions have the lowest intensity of their kind, and the lowest rate",
            found=shown, agreement="agrees" if lowest else "contradicts", section="1.1",
            claims=("depthwise-ai",),
        ),
        Finding(
            expected=f"{flops:.3g} times fewer FLOPs do not make {less} as many times faster than {most}",
            found=f"{told} times faster", agreement=all_below(list(times.values()), flops), section="1.3",
            claims=("misconception-14x", "sum-14x"),
        ),
        Finding(
            expected=f"{less} can be slower than {most} on a large GPU, or as fast",
            found="not measured: this machine has one core in use and little to fill; "
            f"here it is {told} times faster",
            agreement="cannot tell", section="1.3",
            claims=("mobilenet-slower-on-gpu", "sc-mnv2-latency-match"),
        ),
        Finding(
            expected="a network with fewer FLOPs can be slower than one with more",
            found="; ".join(slower_told(pair, t) for pair, t in found.items()),
            agreement=reversed_anywhere(found), section="1.11",
        ),
    )  # fmt: skip


def all_below(times: Sequence[Span], bound: float) -> Agreement:
    """Whether all ratios of times stay below the ratio of FLOPs."""
    return every([below(t, bound) for t in times])


def reversed_anywhere(found: dict[tuple[str, str], dict[str, dict[str, Timing]]]) -> Agreement:
    """Whether some network with fewer FLOPs is slower than its other in some runtime."""
    spans = [ratio(t[less], t[more]) for (less, more), by in found.items() for t in by.values()]
    told = {above(s, 1.0) for s in spans}
    return "agrees" if "agrees" in told else "cannot tell" if "cannot tell" in told else "contradicts"


def slower_told(pair: tuple[str, str], by: dict[str, dict[str, Timing]]) -> str:
    """A pair in words."""
    less, more = pair
    share = counted(less).flops / counted(more).flops
    times = ", ".join(f"{ratio(t[less], t[more])} ({runtime})" for runtime, t in by.items())
    return f"{less} has {share:.2g} of {more}'s FLOPs and takes {times} of its time"


def picture(rows: Sequence[tuple[Any, ...]], peak: float, bandwidth: float) -> Any:
    """The roofline with every row as a point."""
    dense = [{"operation": r[0], "x": r[1], "y": r[2]} for r in rows if r[0].startswith("dense,")]
    others = [{"operation": r[0], "x": r[1], "y": r[2]} for r in rows if not r[0].startswith("dense,")]
    low, high = min(r[1] for r in rows) / 2, 2 * max(r[1] for r in rows)
    xs = sorted({low, min(max(peak / bandwidth, low), high), high})
    roofs = [{"x": x, "y": min(peak, bandwidth * x) / 1e9} for x in xs]

    def draw(alt: Any) -> Any:
        x = alt.X("x:Q", scale=alt.Scale(type="log"), title="FLOP per byte")
        y = alt.Y("y:Q", scale=alt.Scale(type="log"), title="GFLOP/s")
        line = alt.Chart(alt.Data(values=roofs)).mark_line(color="#6E6E6E").encode(x=x, y=y)
        told = ["operation:N", alt.Tooltip("x:Q", format=".3g"), alt.Tooltip("y:Q", format=".3g")]
        by_batch = alt.Chart(alt.Data(values=dense)).encode(x=x, y=y, tooltip=told)
        ends = alt.Chart(alt.Data(values=[dense[0], dense[-1]])).encode(x=x, y=y, text="operation:N")
        points = alt.Chart(alt.Data(values=others)).mark_point(size=90).encode(
            x=x, y=y, color=alt.Color("operation:N", title=None, sort=None),
            shape=alt.Shape("operation:N", title=None, sort=None), tooltip=told,
        )  # fmt: skip
        return (line + by_batch.mark_line(color="#6E6E6E", strokeDash=[2, 3])
                + by_batch.mark_point(color="#6E6E6E", shape="square", size=30)
                + ends.mark_text(align="center", dy=15) + points)  # fmt: skip

    return drawn(draw, name=NAME, title="The roofline of this machine",
                 alt=f"Operations under a roof of {bandwidth / 1e9:.3g} GB/s and {peak / 1e9:.3g} GFLOP/s.",
                 source="measured on this machine, one core, fp32")  # fmt: skip
