"""Convolution by loops, directly, through a matrix of patches and by Winograd: time, scratch, error."""

from collections.abc import Sequence
from functools import partial
from math import isfinite
from time import perf_counter
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.timed import Span, drawn, every, ratio, threads, timed, within
from pharos.graph.count import Count, count
from pharos.graph.graph import Builder
from pharos.graph.op import Tally
from pharos.ops.conv import Conv2d
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "convolution-algorithms"
# (channels, side) of the 3x3 layers of ResNet-50.
LAYERS, FEW = ((64, 56), (128, 28), (256, 14)), ((16, 12),)
DIRECT, IM2COL, WINOGRAD2, WINOGRAD4 = "direct", "im2col", "winograd2", "winograd4"
WAYS = (DIRECT, IM2COL, WINOGRAD2, WINOGRAD4)
# Images at once for loops whose innermost run in compiled code, and the same over a map of one pixel: what
# the interpreter takes.
BATCH, TAPWISE, EMPTY = 8, "tap by tap", "of one pixel"
# Of fp32 results from fp64, over the largest: sums of a few thousand products in another order.
TOLERANCE = 1e-4
# How far a way may move the error of fp16 before it is said to be the worse; an error that training does not
# bear, ten times what rounding to fp16 does itself. Both a choice.
WORSE, USELESS = 2.0, 1e-2


@lab(NAME, "a 3x3 convolution by loops, directly, by patches and by Winograd: time, scratch, traffic, error",
     claims=("im2col-equals-conv", "fn30-im2col-2x", "s110-im2col-double", "sc-im2col-9x",
             "im2col-5-10x-cpu", "winograd-2p25", "fn35-winograd-fp16"))  # fmt: skip
def convolution_algorithms(setting: Setting, progress: Progress) -> Outcome:
    """Ways of one operator on the same tensors, on one core."""
    layers = FEW if setting.small else LAYERS
    steps = len(layers) + 2
    with threads() as torch:
        torch.manual_seed(setting.seed)
        progress(0, steps, "seven loops")
        apart, exact, per_mac = by_loops(setting.seed)
        rows, found, errors = [], [], []
        looped: dict[str, Any] = {}
        for i, (channels, side) in enumerate(layers):
            progress(i + 1, steps, f"{channels} channels of {side} x {side}")
            x, weight = torch.randn(1, channels, side, side), torch.randn(channels, channels, 3, 3) / 3
            weight = weight / channels**0.5
            calls: dict[str, Any] = {w: partial(run, torch, w, x, weight) for w in WAYS}
            times = timed(calls, 6.0, small=setting.small)
            found.append(times)
            reference = run(torch, DIRECT, x.double(), weight.double())
            errors += [error(calls[w](), reference) for w in calls]
            if not i:
                taps = partial(tap_by_tap, torch, x, weight)
                errors.append(error(taps(), reference))
                many = x.expand(BATCH, -1, -1, -1).contiguous()
                looped = timed({
                    TAPWISE: partial(tap_by_tap, torch, many, weight),
                    EMPTY: partial(tap_by_tap, torch, x[..., :1, :1].contiguous(), weight),
                    IM2COL: partial(run, torch, IM2COL, many, weight),
                }, 6.0, small=setting.small)  # fmt: skip
            for way in WAYS:
                counted = counted_of(way, channels, side)
                scratch = scratch_of(partial(run, torch, way, x, weight), x, weight, reference)
                rows.append((way, f"{channels} x {side}^2", int(counted.macs) / 1e6,
                             float(counted.lines[0].traffic.total) / 1e6, workspace(counted) / 1e6,
                             scratch / 1e6, 1e3 * times[way].median))  # fmt: skip
        progress(steps - 1, steps, "errors in fp16")
        half = halves(torch, *(layers[0]), setting.seed)
        gradients = halves(torch, *(layers[0]), setting.seed, gradient=True)
    progress(steps, steps, "done")
    worst = max(errors)
    return Outcome(
        name=NAME, summary="ways to compute one convolution, what each asks for and what it takes",
        settings={"kernel": "3 x 3", "batch": 1, "dtype": "fp32", "threads": 1, "seed": setting.seed},
        columns=("way", "layer", "MMACs", "moved_MB", "scratch_MB", "taken_MB", "ms"),
        rows=tuple(rows),
        checks=(
            Check(what="seven loops give PyTorch's convolution and do the counted MACs",
                  found=f"{apart:.0e} apart; MACs {'as counted' if exact else 'differ'}",
                  holds=exact and apart <= TOLERANCE),
            Check(what="all ways give the same convolution", holds=worst <= TOLERANCE,
                  found=f"{worst:.0e} of the largest value from fp64, {TOLERANCE:.0e} allowed"),
        ),
        findings=findings(layers, rows, found, looped, half, gradients, per_mac),
        note="moved, scratch: counted, intermediates written and read once; taken: at most of PyTorch's "
        "allocator, beyond input, weights and result; direct: PyTorch's own kernel; ms of this machine",
        figure=picture(rows),
        data={"error_fp16": _plain(half), "error_fp16_weight_gradient": _plain(gradients),
              "loops_seconds_per_mac": per_mac},
    )  # fmt: skip


def op_of(way: str, channels: int) -> Conv2d:
    """The layer's operator."""
    return Conv2d(channels, channels, 3, 1, 1, bias=False, algorithm=way)


def counted_of(way: str, channels: int, side: int) -> Count:
    """What it asks for at batch 1."""
    g = Builder(way)
    return count(g.finish(g("conv", op_of(way, channels), g.input("x", (1, channels, side, side)))))


def workspace(counted: Count) -> int:
    """Bytes of the way's own intermediates."""
    node = counted.lines[0].node
    return int(node.op.workspace(*node.io))


def run(torch: Any, way: str, x: Any, weight: Any) -> Any:
    """The convolution; directly by PyTorch, else by the operator's own form."""
    op = op_of(way, x.shape[1])
    if way == DIRECT:
        return torch.nn.functional.conv2d(x, weight, padding=1)
    return op._by.torch(op, torch, x, weight)


def tap_by_tap(torch: Any, x: Any, weight: Any) -> Any:
    """The seven loops with only the two innermost in compiled code: a whole map a channel, kernel and tap."""
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    high, wide = x.shape[2:]
    y = x.new_zeros(len(x), len(weight), high, wide)
    for o, c in ((o, c) for o in range(len(weight)) for c in range(x.shape[1])):
        for u in range(3):
            for v in range(3):
                y[:, o].add_(padded[:, c, u : u + high, v : v + wide], alpha=float(weight[o, c, u, v]))
    return y


def by_loops(seed: int) -> tuple[float, bool, float]:
    """(difference of the explicit loops from PyTorch, whether their MACs are the counted, seconds a MAC)."""
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    channels, side = 4, 8
    x, weight = (
        rng.standard_normal((1, channels, side, side)),
        rng.standard_normal((channels, channels, 3, 3)),
    )
    tally, start = Tally(), perf_counter()
    found = op_of(DIRECT, channels).loops(tally, x, weight=weight)
    passed = perf_counter() - start
    wanted = run(torch, DIRECT, torch.tensor(x), torch.tensor(weight))
    exact = tally.macs == counted_of(DIRECT, channels, side).macs
    return error(torch.tensor(found), wanted), exact, passed / tally.macs


def error(found: Any, wanted: Any) -> float:
    """Largest difference over the largest value."""
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


def scratch_of(call: Any, x: Any, weight: Any, y: Any) -> int:
    """Bytes given out at most during a call, without those of its fp32 result."""
    from pharos.measure.peaks import cpu_peaks

    return (cpu_peaks(call, 0, allocator=True).allocator or 0) - y.numel() * x.element_size()


def halves(torch: Any, channels: int, side: int, seed: int, gradient: bool = False) -> dict[str, float]:
    """Root mean square error in fp16 over that of the values, by way: of results, or of dW.

    Inputs and weights are rounded to fp16 before, for all alike; every intermediate is fp16.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, side, side, generator=generator).half()
    weight = (torch.randn(channels, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5).half()
    up = torch.randn(1, channels, side, side, generator=generator).half()
    found = {}
    with torch.inference_mode(False), torch.set_grad_enabled(gradient):
        x, up = x.clone(), up.clone()

        def made(way: str, dtype: Any) -> Any:
            w = weight.to(dtype).clone().requires_grad_(gradient)
            y = run(torch, way, x.to(dtype), w)
            return torch.autograd.grad(y, w, up.to(dtype))[0] if gradient else y

        wanted = made(DIRECT, torch.float64)
        for way in WAYS:
            off = made(way, torch.float16).double() - wanted
            found[way] = float((off**2).mean() ** 0.5 / (wanted**2).mean() ** 0.5)
    return found


def doubling(grows: Sequence[float]) -> Agreement:
    """Of "a matrix of patches doubles memory": its bytes over the input's."""
    return "agrees" if all(1.5 <= g <= 2.5 for g in grows) else "contradicts"


def unsuitable(results: dict[str, float], gradients: dict[str, float]) -> Agreement:
    """Of "Winograd is unsuitable in fp16", by errors of each way: "agrees" where both sizes of tiles overflow
    or are further off than `USELESS`, "partly" where one is, or loses `WORSE` times what the direct way does.
    """
    errors = [(e[w], e[DIRECT]) for e in (results, gradients) for w in (WINOGRAD2, WINOGRAD4)]
    # what overflows is no number, and no smaller than any
    useless = [not (isfinite(error) and error <= USELESS) for error, _ in errors]
    if any(useless[::2]) and any(useless[1::2]):
        return "agrees"
    worse = [error > WORSE * direct for error, direct in errors]
    return "partly" if any(useless) or any(worse) else "contradicts"


def findings(
    layers: Sequence[tuple[int, int]], rows: Sequence[tuple[Any, ...]], found: Sequence[dict[str, Any]],
    looped: dict[str, Any], half: dict[str, float], gradients: dict[str, float], per_mac: float,
) -> tuple[Finding, ...]:  # fmt: skip
    """What the chapter expects beside what came out."""
    inputs = [4 * c * side * side / 1e6 for c, side in layers]
    cells = {(r[0], r[1]): r for r in rows}
    names = [f"{c} x {side}^2" for c, side in layers]
    grows = [cells[IM2COL, n][5] / b for n, b in zip(names, inputs, strict=True)]
    patches = [cells[IM2COL, n][4] / b for n, b in zip(names, inputs, strict=True)]
    moved = [cells[IM2COL, n][3] / cells[DIRECT, n][3] for n in names]
    fewer = [cells[DIRECT, n][2] / cells[WINOGRAD2, n][2] for n in names]
    speed = ratio(looped[TAPWISE], looped[IM2COL])
    net = ratio(looped[TAPWISE], looped[IM2COL], less=looped[EMPTY])
    gains = [ratio(t[DIRECT], t[WINOGRAD2]) for t in found]
    unfolded = [ratio(t[IM2COL], t[DIRECT]) for t in found]
    loops = per_mac * rows[0][2] * 1e6 / found[0][IM2COL].median
    return (
        Finding(
            expected="the matrix of patches of a 3x3 convolution doubles memory",
            found=f"it takes {_each(grows)} times its input ({_each(patches)} counted)",
            agreement=doubling(grows), section="1.9", claims=("fn30-im2col-2x", "s110-im2col-double"),
        ),
        Finding(
            expected="it takes about nine times its input (the self-check of the same section)",
            found=f"{_each(grows)} times",
            agreement="agrees" if all(7.5 <= g <= 10.5 for g in grows) else "partly" if
            all(6 <= g <= 20 for g in grows) else "contradicts",
            section="1.9", claims=("sc-im2col-9x",),
        ),
        Finding(
            expected="patches make loops 5 to 10 times as fast on a CPU",
            found=f"{net} times as fast as loops whose innermost run vectorised, without what the "
            f"interpreter takes ({speed.value:.3g} times with it), at batch {BATCH}; {loops:,.0f} times as "
            "fast as all seven in Python",
            agreement=within(net, 5.0, 10.0), section="1.9", claims=("im2col-5-10x-cpu",),
        ),
        Finding(
            expected="a convolution is usually computed through patches, as one product of matrices",
            found=f"that takes {_each(unfolded)} times as long here as PyTorch's kernel without patches, and "
            f"moves {_each(moved)} times the bytes (counted)",
            agreement=every([below_or_equal(s) for s in unfolded]), section="1.3",
            claims=("im2col-equals-conv",),
        ),
        Finding(
            expected="Winograd cuts the arithmetic of 3x3 convolutions 2.25 times",
            found=f"MACs {_each(fewer)} times fewer (counted); with transforms that go through memory it is "
            f"{_each(gains)} times as fast as the direct kernel here",
            agreement="agrees" if all(2.2 <= f <= 2.26 for f in fewer) else "contradicts",
            section="1.10", claims=("winograd-2p25",),
        ),
        Finding(
            expected="its rounding makes it unsuitable for training in fp16",
            found="error of results " + _errors(half) + "; of the weights' gradient " + _errors(gradients),
            agreement=unsuitable(half, gradients), section="1.10", claims=("fn35-winograd-fp16",),
        ),
    )  # fmt: skip


def below_or_equal(slower: Span) -> Agreement:
    """Whether a way loses no more than a tenth to another."""
    return "agrees" if slower.high <= 1.1 else "contradicts" if slower.low > 1.1 else "cannot tell"


def _each(values: Sequence[Any]) -> str:
    return ", ".join(str(v) if isinstance(v, Span) else f"{v:.3g}" for v in values)


def _errors(errors: dict[str, float]) -> str:
    return ", ".join(f"{w} {e:.1e}" if isfinite(e) else f"{w} overflows" for w, e in errors.items())


def _plain(errors: dict[str, float]) -> dict[str, float | None]:
    return {w: e if isfinite(e) else None for w, e in errors.items()}


def picture(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Time and scratch of each way, layer by layer."""
    data = [{"way": r[0], "layer": r[1], "scratch_MB": r[5], "milliseconds": r[6]} for r in rows]

    def draw(alt: Any) -> Any:
        def panel(y: str, title: str) -> Any:
            return (alt.Chart(alt.Data(values=data)).mark_bar().encode(
                x=alt.X("layer:N", sort=None, title="channels x side", axis=alt.Axis(labelAngle=0)),
                xOffset=alt.XOffset("way:N", sort=list(WAYS)), y=alt.Y(f"{y}:Q", title=title),
                color=alt.Color("way:N", title=None, sort=list(WAYS), legend=alt.Legend(orient="top")),
                tooltip=["way:N", "layer:N", alt.Tooltip(f"{y}:Q", format=".3g")],
            ).properties(width=250, height=240))  # fmt: skip

        return alt.hconcat(panel("milliseconds", "milliseconds"), panel("scratch_MB", "MB of scratch"))

    return drawn(draw, name=NAME, title="Four ways to compute a 3x3 convolution",
                 alt="Time and scratch memory of a convolution done directly, by patches and by Winograd.",
                 source="measured on this machine, one core, batch 1, fp32")  # fmt: skip
