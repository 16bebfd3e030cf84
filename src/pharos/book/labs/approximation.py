"""Approximation: what width can represent, what descent finds of it, and how structure that matches helps."""

from typing import Any

import numpy as np

from pharos.book.lab import Progress, Setting, lab
from pharos.graph.graph import Builder, Graph
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv1d
from pharos.ops.shape_ops import Reshape
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "approximation"
WIDTHS, DIMENSIONS = (4, 8, 16, 32, 64), (1, 2, 4, 8, 16, 32)
# Pieces a dimension of the built networks; dimensions, units a dimension and points of the trained ones.
PIECES, TRAINED, UNITS, POINTS = 24, 8, 12, 3000
STEPS, SEEDS = 1000, 3
# Error, relative to the target's own deviation, at which a curve is said to have converged.
GOAL = 0.5


@lab(NAME, "width against error, built and trained; a sum of sines in d dimensions; structured against dense",
     claims=("sin-sum-width", "fn4-uat-exponential"))  # fmt: skip
def approximation(setting: Setting, progress: Progress) -> Outcome:
    """One hidden layer of ReLU: first with weights in closed form, then with those that descent finds."""
    steps, seeds = (150, 1) if setting.small else (STEPS, SEEDS)
    rng = np.random.default_rng([setting.seed, 31])
    whole = len(WIDTHS) + len(DIMENSIONS) + 4 * seeds
    rows: list[tuple[Any, ...]] = []
    inside, same, built_by_width, trained_by_width = True, 0.0, [], []
    for i, width in enumerate(WIDTHS):
        progress(i, whole, f"width {width}")
        x = rng.uniform(-1, 1, (4000, 1))
        error, worst, differs = _built(1, width, x)
        inside, same = inside and worst <= _bound(1, width), max(same, differs)
        found = _trained(lambda batch, width=width: _mlp(1, width, batch), sines, 1, setting.seed, steps)
        built_by_width.append(error)
        trained_by_width.append(found[0])
        rows += [("one sine", 1, "built", width, 3 * width + 1, round(error, 5)),
                 ("one sine", 1, "trained", width, 3 * width + 1, round(found[0], 5))]  # fmt: skip
    by_dimension = []
    for i, d in enumerate(DIMENSIONS):
        progress(len(WIDTHS) + i, whole, f"{d} dimensions")
        error, worst, differs = _built(d, PIECES, rng.uniform(-1, 1, (4000, d)))
        inside, same = inside and worst <= _bound(d, PIECES), max(same, differs)
        by_dimension.append(error)
        rows.append(("sum of sines", d, "built", d * PIECES, d * PIECES * (d + 2) + 1, round(error, 5)))
    curves: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    errors: dict[tuple[str, str], list[float]] = {}
    done = len(WIDTHS) + len(DIMENSIONS)
    dense_width = _same_size(TRAINED, UNITS)
    kinds = {"structured": lambda batch: additive(TRAINED, UNITS, batch),
             "dense": lambda batch: _mlp(TRAINED, dense_width, batch)}  # fmt: skip
    targets = {"sum of sines": sines, "product of pairs": products}
    for target, function in targets.items():
        for kind, graph_of in kinds.items():
            for seed in range(seeds):
                progress(done, whole, f"{kind}, {target}, seed {seed + 1}")
                error, losses = _trained(graph_of, function, TRAINED, setting.seed + seed, steps)
                errors.setdefault((target, kind), []).append(error)
                curves.setdefault((target, kind), []).append(losses)
                done += 1
            units = TRAINED * UNITS if kind == "structured" else dense_width
            rows.append((target, TRAINED, f"{kind}, trained", units, parameters(graph_of(1)),
                         round(float(np.mean(errors[target, kind])), 5)))  # fmt: skip
    progress(whole, whole, "done")
    sizes = {k: parameters(g(1)) for k, g in kinds.items()}
    apart = max(sizes.values()) / min(sizes.values()) - 1
    return Outcome(
        name=NAME, summary="one hidden layer: what it represents, what descent finds, what structure gives",
        settings={"seed": setting.seed, "seeds": seeds, "steps": steps, "points": POINTS, "pieces": PIECES},
        columns=("target", "dimensions", "network", "units", "parameters", "error"), rows=tuple(rows),
        checks=(
            Check(what="built networks stay inside the bound of straight pieces, d pi^2 / (2 k^2)",
                  found=f"at all {len(WIDTHS) + len(DIMENSIONS)} sizes" if inside else "not so",
                  holds=inside),
            Check(what="the graph run by PyTorch is the formula of its pieces",
                  found=f"largest difference {same:.1e}, 1e-3 allowed (sums in fp32)", holds=same <= 1e-3),
            Check(what="structured and dense network have one size", holds=apart <= 0.05,
                  found=f"{sizes['structured']:,} and {sizes['dense']:,} parameters"),
        ),
        findings=_findings(built_by_width, trained_by_width, by_dimension, errors, curves),
        note="error: root of the mean square on new points over the target's own deviation, mean over seeds",
        figure=_figure(curves),
        data={"errors": {f"{t}, {k}": e for (t, k), e in errors.items()},
              "curves": {f"{t}, {k}": [list(_smooth(c)) for c in cs] for (t, k), cs in curves.items()}},
    )  # fmt: skip


def _findings(
    built: list[float], trained: list[float], by_dimension: list[float],
    errors: dict[tuple[str, str], list[float]], curves: dict[tuple[str, str], list[tuple[float, ...]]],
) -> tuple[Finding, ...]:  # fmt: skip
    slope = float(np.polyfit(np.log(WIDTHS), np.log(built), 1)[0])
    flat = max(by_dimension) / min(by_dimension)
    units = DIMENSIONS[-1] * PIECES
    behind = trained[-1] / built[-1]
    mean = {k: float(np.mean(v)) for k, v in errors.items()}
    sums, pairs = "sum of sines", "product of pairs"
    needed = {k: _steps_to(curves[sums, k]) for k in ("structured", "dense")}
    helps = mean[sums, "dense"] / mean[sums, "structured"]
    hurts = mean[pairs, "structured"] / mean[pairs, "dense"]
    grades: tuple[Agreement, Agreement, Agreement] = ("agrees", "partly", "contradicts")

    def grade(value: float, good: float, fair: float) -> Agreement:
        return grades[0] if value >= good else grades[1] if value > fair else grades[2]

    return (
        Finding(expected="one hidden layer, wide enough, comes as near to a continuous function as asked",
                found=f"built in closed form the error falls as width^{slope:.2f}, from {built[0]:.1%} to "
                f"{built[-1]:.2%} at {WIDTHS[-1]} units", agreement=grade(-slope, 1.5, 0), section="1.2"),
        Finding(expected="an MLP may need exp(d) neurons for sin x1 + ... + sin xd",
                found=f"{PIECES} units a dimension do: {units} units in {DIMENSIONS[-1]} dimensions, error "
                f"{by_dimension[-1]:.2%} as in one ({by_dimension[0]:.2%}); the width is O(d k). A grid over "
                f"all dimensions would take {PIECES}^{DIMENSIONS[-1]}",
                agreement="contradicts" if flat < 1.5 else "partly", section="1.2",
                claims=("sin-sum-width", "fn4-uat-exponential")),
        Finding(expected="what can be represented may not be learnt: descent may miss weights that exist",
                found=f"at {WIDTHS[-1]} units descent ends at an error of {trained[-1]:.2%}, {behind:.1f} "
                f"times that of the weights in closed form ({built[-1]:.2%})", agreement=grade(behind, 2, 1),
                section="1.2"),
        Finding(expected="a structure that matches makes the search easier: it converges sooner and lower",
                found=f"of one size on the sum of sines in {TRAINED} dimensions: error "
                f"{mean[sums, 'structured']:.1%} structured, {mean[sums, 'dense']:.1%} dense; steps to "
                f"{GOAL:.0%} in training {needed['structured']} and {needed['dense']}",
                agreement=grade(helps, 1.5, 1), section="1.2"),
        Finding(expected="a bias that helps on data that fit it hurts on data that break it",
                found=f"on a product of pairs, which no sum over dimensions is, the structured network errs "
                f"by {mean[pairs, 'structured']:.1%}, the dense one by {mean[pairs, 'dense']:.1%}",
                agreement=grade(hurts, 1.1, 1), section="1.2"),
    )  # fmt: skip


def sines(x: Any) -> Any:
    """sin(pi x1) + ... + sin(pi xd) of points in [-1, 1]^d."""
    return np.sin(np.pi * x).sum(axis=1)


def products(x: Any) -> Any:
    """The sum over pairs of dimensions of sin(pi x) sin(pi x'): nothing of it is a sum over dimensions."""
    s = np.sin(np.pi * x)
    return (s[:, 0::2] * s[:, 1::2]).sum(axis=1)


def _mlp(d: int, width: int, batch: int) -> Graph:
    return find(f"mlp(widths=({d}, {width}, 1))").graph(Workload(batch=batch))


def additive(d: int, units: int, batch: int) -> Graph:
    """A sum of functions of one dimension each, of so many ReLU units: grouped convolution of width 1."""
    g = Builder("additive")
    x = g("rows", Reshape((batch, d, 1)), g.input("x", (batch, d)))
    x = g("relu", Activation("relu"), g("own", Conv1d(d, d * units, 1, groups=d), x))
    return g.finish(g("flat", Reshape((batch, 1)), g("sum", Conv1d(d * units, 1, 1), x)))


def parameters(graph: Graph) -> int:
    """How many it has."""
    from pharos.graph.count import count

    return int(count(graph).parameters)


def _same_size(d: int, units: int) -> int:
    """The width of a dense layer with as many parameters as `additive`."""
    return max(1, round((parameters(additive(d, units, 1)) - 1) / (d + 2)))


def _bound(d: int, k: int) -> float:
    """Straight pieces of length h miss f by at most h^2 / 8 max |f''|, here d (2 / k)^2 / 8 pi^2."""
    return d * np.pi**2 / (2 * k**2) + 1e-4


def _built(d: int, k: int, x: Any) -> tuple[float, float, float]:
    """Relative and largest error of an MLP set to straight pieces, and how far PyTorch differs."""
    import torch

    from pharos.convert.to_torch import to_torch

    knots = np.linspace(-1, 1, k + 1)
    slopes = np.diff(np.sin(np.pi * knots)) / np.diff(knots)
    bends = np.diff(slopes, prepend=0.0)
    network = to_torch(_mlp(d, d * k, len(x)))
    weights = np.kron(np.eye(d), np.ones((k, 1)))
    with torch.no_grad():
        own = dict(network.named_parameters())
        for name, value in (("layers.0.weight", weights), ("layers.0.bias", np.tile(-knots[:-1], d)),
                            ("layers.2.weight", np.tile(bends, d)[None]),
                            ("layers.2.bias", np.zeros(1))):  # fmt: skip
            own[name].copy_(torch.from_numpy(value).float())
        out = network(torch.from_numpy(x).float())[:, 0].numpy()
    told = np.interp(x, knots, np.sin(np.pi * knots)).sum(axis=1)
    wanted = sines(x)
    left = out - wanted
    return float(left.std() / wanted.std()), float(np.abs(left).max()), float(np.abs(out - told).max())


def _trained(graph_of: Any, function: Any, d: int, seed: int, steps: int) -> tuple[float, tuple[float, ...]]:
    """Relative error on new points of a network that descent has trained, and its losses."""
    from pharos.measure.training import Recipe, train

    rng = np.random.default_rng([seed, 37])
    x, new = rng.uniform(-1, 1, (POINTS, d)), rng.uniform(-1, 1, (2000, d))
    y, held = function(x), POINTS // 6
    given = x.astype(np.float32)
    made = train(graph_of, "number", (given[held:],), y[held:], (given[:held],), y[:held],
                 Recipe(rate=1e-2, steps=steps, batch=64, looks=10, patience=10), seed=seed)  # fmt: skip
    assert made is not None
    wanted = function(new)
    left = made.predict((new.astype(np.float32),)) - wanted
    return float((left**2).mean() ** 0.5 / wanted.std()), made.losses


def _smooth(losses: tuple[float, ...], every: int = 20) -> list[float]:
    """Roots of mean losses of so many steps each: relative errors in training."""
    return [float(np.mean(losses[i : i + every]) ** 0.5) for i in range(0, len(losses), every)]


def _steps_to(curves: list[tuple[float, ...]], every: int = 20) -> str:
    """Steps until the mean curve falls below GOAL."""
    mean = np.mean([_smooth(c, every) for c in curves], axis=0)
    below = np.flatnonzero(mean < GOAL)
    return f"{(int(below[0]) + 1) * every:,}" if len(below) else f"more than {len(mean) * every:,}"


def _figure(curves: dict[tuple[str, str], list[tuple[float, ...]]]) -> Any:
    """Error in training by step, a panel a target."""
    try:
        import altair as alt
    except ImportError:
        return None
    from pharos.report.drawing import Figure

    rows = []
    for (target, kind), found in curves.items():
        for i, value in enumerate(np.mean([_smooth(c) for c in found], axis=0)):
            rows.append({"step": 20 * (i + 1), "error": float(value), "network": kind, "target": target})
    chart = alt.Chart(alt.Data(values=rows)).mark_line().encode(
        x=alt.X("step:Q"), y=alt.Y("error:Q", title="error in training", scale=alt.Scale(type="log")),
        color=alt.Color("network:N", sort=["structured", "dense"], title=None),
    )  # fmt: skip
    chart = chart.properties(width=260).facet(
        column=alt.Column("target:N", title=None, sort=["sum of sines"])
    )
    alt_text = "a structured network converges lower on a sum of sines and not at all on products"
    return Figure.of(chart, name=NAME, title="One size, structured and dense", alt=alt_text,
                     source="relative to the target's deviation")  # fmt: skip
