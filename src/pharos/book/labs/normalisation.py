"""Normalisation: Jacobians of batch, layer and RMS norm, what they do for depth, small batches, and cost."""

from math import sqrt
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import lines
from pharos.book.stacks import gradient_norms, network, stack
from pharos.book.sums import chain, draw
from pharos.book.sums import run as by_loops
from pharos.book.trials import apart, descend, digits, over, seeded
from pharos.graph.graph import Builder, Graph
from pharos.graph.tensor import Tensor
from pharos.measure.timing import Timing, interleaved
from pharos.ops.activation import Activation
from pharos.ops.conv import Conv2d
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pharos.ops.shape_ops import Flatten
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "normalisation"
CLAIMS = (
    "eq10-11-batchnorm", "bn-identity", "bn-jacobian", "bn-jacobian-eigenvalues", "linear-eig-range",
    "gradnorm-1e4-to-2-4", "eq12-layernorm", "layernorm-batch-independent", "bn-running-stats",
    "bn-batch-16-8", "bn-cost", "table4-rmsnorm-lower", "table4-train-infer", "fn26-7-64", "sc-ln-batch1",
)  # fmt: skip
EPS = 1e-5
# Standard deviations of what is normalised, and samples (or features) of it.
STDS = (0.01, 0.1, 1.0, 10.0)
SAMPLES = 16
BATCHES = (2, 4, 8, 16, 32)


@lab(NAME, "batch, layer and RMS norm: Jacobians against the formula, small batches, serving, cost a token",
     claims=CLAIMS)  # fmt: skip
def normalisation(setting: Setting, progress: Progress) -> Outcome:
    """Jacobians, gradients at depth, companions in a batch, training by batch size, operations and time."""
    seeds = range(setting.seed, setting.seed + (1 if setting.small else 3))
    progress(0, 5, "Jacobians")
    spectra = {std: jacobians(std, setting.seed) for std in STDS}
    linear = _linear_spectra(setting.seed)
    progress(1, 5, "gradients at depth")
    depth = 10 if setting.small else 50
    spreads = _spreads(depth, seeds)
    progress(2, 5, "companions in a batch")
    companions = _companions(setting.seed)
    identity = _identity(setting.seed)
    batches = BATCHES[-2:] if setting.small else BATCHES
    accuracy: dict[tuple[str, int], list[float]] = {}
    modes: dict[str, list[float]] = {}
    for norm in ("batch", "layer", "dense batch", "dense layer"):
        for batch in batches:
            progress(3, 5, f"training: {norm} norm, batches of {batch}")
            found = [_train(norm, batch, 256 if setting.small else 2048, s) for s in seeds]
            accuracy[norm, batch] = [f["served"] for f in found]
            for mode in found[0] if (norm, batch) == ("batch", 32) else ():
                modes[mode] = [f[mode] for f in found]
    progress(4, 5, "operations and time")
    with seeded(setting.seed):
        costs = _costs(0.2 if setting.small else 4.0)
    progress(5, 5, "done")
    rows = [
        *(("largest eigenvalue", f"{norm} norm", f"std {std:g}", found[norm]["largest"])
          for std, found in spectra.items() for norm in ("batch", "layer", "RMS")),
        *(("spread of gradients", norm, f"{depth} layers", median(found))
          for norm, found in spreads.items()),
        *(("change by companions", "batch norm", f"batch {m}", found)
          for m, found in companions["batch"].items()),
        *(("accuracy, served", f"{norm} norm", f"batch {m}", median(found))
          for (norm, m), found in accuracy.items()),
        *(("accuracy, batch 32", "batch norm", mode, median(found)) for mode, found in modes.items()),
        *(("operations an element", norm, "counted", each) for norm, each in costs["operations"].items()),
        *(("us, 256 tokens", norm, f"width {width}", timing.median * 1e6)
          for (norm, width), timing in costs["timings"].items()),
    ]  # fmt: skip
    points = [
        {"batch": m, "accuracy": value, "norm": f"{norm} norm"}
        for (norm, m), found in accuracy.items() for value in (median(found),)
    ]  # fmt: skip
    worst = max(found["formula"] for by in spectra.values() for found in by.values())
    return Outcome(
        name=NAME, summary="what a norm does to gradients, to a batch, between training and serving, and "
        "to time",
        settings={"seeds": len(seeds), "first_seed": setting.seed, "eps": EPS, "depth": depth},
        columns=("measured", "norm", "at", "value"), rows=tuple(rows),
        checks=(
            Check(what="Jacobians by automatic differentiation are those of the formula with eps",
                  found=f"{worst:.1e} apart, 1e-06 allowed", holds=worst <= 1e-6),
            Check(what="layer, RMS and batch norm: explicit loops and PyTorch give the same",
                  found=f"{companions['forms']:.1e} apart, 1e-06 allowed", holds=companions["forms"] <= 1e-6),
        ),
        findings=findings(spectra, linear, spreads, depth, companions, identity, accuracy, modes, costs),
        note="spread: largest gradient over smallest among layers; accuracy: on 1,024 drawn digits, "
        "median over seeds, after the same number of samples, learning "
        "rate in proportion to the batch; times are of this machine and change from run to run",
        figure=lines(
            points, "batch", "accuracy", "norm", name=NAME, log_x=True, points=True,
            title="Accuracy by the size of training batches",
            alt="Accuracy on test images over batches of 2 to 32, a line for batch norm and one for layer "
            "norm",
            source="2,048 samples each, three seeds, median; served with running statistics",
        ),
        data={"spectra": {str(k): v for k, v in spectra.items()}, "linear": linear,
              "accuracy": [{"norm": n, "batch": m, "each": a} for (n, m), a in accuracy.items()],
              "modes": modes, "identity": identity},
    )  # fmt: skip


def exact(x: Any, kind: str, eps: float = EPS) -> Any:
    """Jacobian of a norm of x[n] without gain: (I - 1/n - z z^T / n) / s, z = (x - mean) / s, with eps in s.

    RMS norm takes no mean off, so its is (I - z z^T / n) / s with z = x / s.
    """
    import numpy as np

    n = len(x)
    z = x - (0 if kind == "RMS" else x.mean())
    s = sqrt(float((z**2).mean()) + eps)
    z = z / s
    return (np.eye(n) - (0 if kind == "RMS" else 1 / n) - np.outer(z, z) / n) / s


def printed(x: Any, eps: float = EPS) -> Any:
    """The chapter's formula, whose last term has the variance without eps."""
    import numpy as np

    n, z, variance = len(x), x - x.mean(), float(x.var())
    return (np.eye(n) - 1 / n - np.outer(z, z) / (n * variance)) / sqrt(variance + eps)


def jacobians(std: float, seed: int) -> dict[str, dict[str, float]]:
    """Of each norm at a standard deviation: its eigenvalues, and how far formulas are from autograd."""
    import numpy as np

    found = {}
    with seeded(seed) as torch:
        x = torch.from_numpy(draw(SAMPLES, seed=seed) * std + std)
        for kind, op in (("batch", BatchNorm(1, EPS, affine=False)),
                         ("layer", LayerNorm(SAMPLES, EPS, bias=False, affine=False)),
                         ("RMS", RMSNorm(SAMPLES, EPS, affine=False))):  # fmt: skip
            made = op.torch(torch).double().train()
            shape = (SAMPLES, 1) if kind == "batch" else (SAMPLES,)
            measured = torch.autograd.functional.jacobian(
                lambda x, made=made, shape=shape: made(x.reshape(shape)).flatten(), x
            ).numpy()
            eigen = np.sort(np.abs(np.linalg.eigvalsh((measured + measured.T) / 2)))
            s = float(x.std(correction=0)) if kind != "RMS" else sqrt(float((x**2).mean()))
            found[kind] = {
                "largest": float(eigen[-1]), "predicted": 1 / sqrt(s**2 + EPS),
                # an eigenvalue is nought where eps alone makes it anything
                "noughts": float((eigen < eigen[-1] * (1.01 * EPS / (s**2 + EPS) + 1e-9)).sum()),
                "formula": apart(exact(x.numpy(), kind), measured),
            }  # fmt: skip
            if kind == "batch":
                found[kind]["printed"] = apart(printed(x.numpy()), measured)
    return found


def _linear_spectra(seed: int) -> dict[str, list[float]]:
    """Magnitudes of eigenvalues, 5 to 95 percent, of a dense layer and of it with batch norm, on a batch."""
    import numpy as np
    import torch

    from pharos.convert.to_torch import to_torch

    found = {}
    with seeded(seed):
        for scale in (0.1, 1.0, 10.0):
            for norm in (False, True):
                ops = (Linear(32, 32, False), *([BatchNorm(32, EPS, affine=False)] if norm else []))
                made = to_torch(chain((8, 32), *ops)).double().train()
                with torch.no_grad():
                    next(iter(made.parameters())).normal_(0, scale / sqrt(32))
                x = torch.randn(8, 32).double()
                whole = torch.autograd.functional.jacobian(
                    lambda x, made=made: made(x.reshape(8, 32)).flatten(), x.flatten(), vectorize=True
                )
                eigen = np.abs(np.linalg.eigvals(whole.numpy()))
                eigen = eigen[eigen > 1e-3 * eigen.max()]
                name = f"{'with batch norm' if norm else 'dense alone'}, weights x{scale:g}"
                found[name] = [float(np.quantile(eigen, q)) for q in (0.05, 0.5, 0.95)]
    return found


def _spreads(depth: int, seeds: range) -> dict[str, list[float]]:
    """Largest over smallest gradient among the layers of a stack, by its norm."""
    found = {}
    for name, norm, start, skip in (
        ("none", "none", "pytorch", False), ("none, He", "none", "he", False),
        ("batch norm", "batch", "he", False), ("layer norm", "layer", "he", False),
        ("batch norm, skips", "batch", "he", True),
    ):  # fmt: skip
        each = []
        for seed in seeds:
            with seeded(seed) as torch:
                graph = stack(depth, norm=norm, skip=skip, batch=32)
                images, labels = map(torch.from_numpy, digits(32, seed, roam=False))
                norms = gradient_norms(network(graph, start).double(), graph, images.double(), labels)
                each.append(max(norms) / max(min(norms), 1e-300))
        found[name] = each
    return found


def _companions(seed: int) -> dict[str, Any]:
    """How far a sample's output depends on the others of its batch, and on the mode."""
    import numpy as np

    rng = np.random.default_rng(seed)
    sample = rng.standard_normal((1, 32)).astype(np.float32)
    with seeded(seed) as torch:
        batch = BatchNorm(32).torch(torch).train()
        rows = {"layer": LayerNorm(32).torch(torch), "RMS": RMSNorm(32).torch(torch)}
        changes: dict[int, float] = {}
        alone = {name: made(torch.from_numpy(sample)).detach().numpy() for name, made in rows.items()}
        others = 0.0
        for m in (2, 4, 8, 16, 32, 64):
            outs = []
            for _ in range(200):
                x = torch.from_numpy(np.concatenate([sample, rng.standard_normal((m - 1, 32))]).astype("f4"))
                outs.append(batch(x)[0].detach().numpy())
                others = max(
                    others, *(apart(made(x)[:1].detach().numpy(), alone[n]) for n, made in rows.items())
                )
            changes[m] = float(np.std(outs, 0).mean())
        modes = {}
        x = torch.from_numpy(3 * rng.standard_normal((16, 32)).astype("f4") + 1)
        for name, made in ({"batch": BatchNorm(32).torch(torch)} | rows).items():
            served = made.eval()(x).detach().numpy()
            modes[name] = apart(made.train()(x).detach().numpy(), served)
        try:
            batch(torch.from_numpy(sample))
            refused = False
        except ValueError:
            refused = True
        forms = [
            apart(made(x).detach().numpy(), by_loops(op, x.numpy(), **{
                k: v.detach().numpy() for k, v in (*made.named_parameters(), *made.named_buffers())
                if k != "num_batches_tracked"
            }))
            for op in (LayerNorm(32), RMSNorm(32), BatchNorm(32)) for made in (op.torch(torch).eval(),)
        ]  # fmt: skip
    # the definition of equations 10 and 11 on a batch of one, gain 2 and shift 3
    centred = sample - sample.mean(0)
    output = 2 * centred / np.sqrt(sample.var(0) + EPS) + 3
    return {
        "batch": changes, "rows": others, "modes": modes, "refused": refused, "forms": max(forms),
        "one": float(np.abs(output - 3).max()),
        "buffers": sum(int(s[0]) for s in BatchNorm(64).buffers().values()),
    }  # fmt: skip


def _identity(seed: int) -> dict[str, float]:
    """How far batch norm with its gain and shift set is from the identity, by what the gain is."""
    x = draw(64, 1, seed=seed) * 0.02
    mean, variance = x.mean(0), x.var(0)
    held = {"bias": mean, "running_mean": mean, "running_var": variance}
    return {
        name: apart(by_loops(BatchNorm(1, EPS), x, weight=gain, **held), x)
        for name, gain in (("std", variance**0.5), ("with eps", (variance + EPS) ** 0.5))
    }  # fmt: skip


def classifier(norm: str, batch: int) -> Graph:
    """Three convolutions, each with a norm, and a dense layer, on images of 8 x 8; "dense": two dense layers.

    A statistic of a batch is of batch x 64 or 16 values for convolutions, of as many as the batch for dense
    layers.
    """
    g = Builder(f"{norm}_norm")
    x = g.input("image", (batch, 1, 8, 8))
    if "dense" in norm:
        x = g("flat", Flatten(), x)
        for i in range(2):
            with g.scope(f"l{i}"):
                x = g("fc", Linear(64, 64), x)
                x = g("norm", BatchNorm(64) if "batch" in norm else LayerNorm(64), x)
                x = g("act", Activation("relu"), x)
        return g.finish(g("head", Linear(64, 10), x))
    for i, (channels, stride) in enumerate(((8, 1), (16, 2), (16, 1))):
        with g.scope(f"l{i}"):
            x = g("conv", Conv2d(x.shape[1], channels, 3, stride, 1), x)
            x = g("norm", BatchNorm(channels) if norm == "batch" else GroupNorm(1, channels), x)
            x = g("act", Activation("relu"), x)
    return g.finish(g("head", Linear(16 * 16, 10), g("flat", Flatten(), x)))


def _train(norm: str, batch: int, samples: int, seed: int) -> dict[str, float]:
    """Accuracy after so many samples: as it is served, and in training mode by what comes together."""
    from pharos.convert.to_torch import to_torch

    with seeded(seed) as torch:
        images, labels = map(torch.from_numpy, digits(samples + 1024, seed, noise=0.5, roam=False))
        made = to_torch(classifier(norm, batch)).train()

        def loss_of(step: int) -> Any:
            at = slice(step * batch, (step + 1) * batch)
            return torch.nn.functional.cross_entropy(made(images[at]), labels[at])

        descend(made, loss_of, samples // batch, 0.05 * batch / 32)
        test, wanted = images[samples:], labels[samples:]

        def right(size: int) -> float:
            with torch.no_grad():
                parts = [made(test[i : i + size]).argmax(1) for i in range(0, len(test), size)]
            return float((torch.cat(parts) == wanted).float().mean())

        made.eval()
        found = {"served": right(1024)}
        if norm == "batch" and batch == 32:
            # in training mode by mistake; running statistics are not used there
            made.train()
            found |= {f"not in eval, {n} at once": right(n) for n in (1, 4, 32)}
        return found


def _costs(seconds: float) -> dict[str, Any]:
    """Operations an element by the operators' rules, and seconds of a call on 256 tokens."""
    import torch

    tokens, found, timings = 256, {}, {}
    for width in (512, 2048):
        x, io = torch.randn(tokens, width), (Tensor((tokens, width)),) * 2
        ops = {
            "layer norm": LayerNorm(width),
            "RMS norm": RMSNorm(width),
            "batch norm, served": BatchNorm(width),
        }
        calls = {}
        for name, op in ops.items():
            work = op.work(*io)
            found[name] = (work.vector_flops + work.transcendentals) / (tokens * width)
            made = op.torch(torch).eval()

            def call(made: Any = made, x: Any = x) -> Any:
                with torch.no_grad():
                    return made(x)

            calls[name] = call
        trained = BatchNorm(width)
        work = trained.training_work(*io)
        found["batch norm, training"] = (work.vector_flops + work.transcendentals) / (tokens * width)
        timings |= {(n, width): t for n, t in interleaved(calls, seconds=seconds, least=15).items()}
    return {"operations": found, "timings": timings}


def findings(
    spectra: dict[float, dict[str, dict[str, float]]], linear: dict[str, list[float]],
    spreads: dict[str, list[float]], depth: int, companions: dict[str, Any], identity: dict[str, float],
    accuracy: dict[tuple[str, int], list[float]], modes: dict[str, list[float]], costs: dict[str, Any],
) -> tuple[Finding, ...]:  # fmt: skip
    """The chapter's statements beside what came out."""
    first = next(iter(spectra))
    eigen = {std: found["batch"]["largest"] for std, found in spectra.items()}
    noughts = {found["batch"]["noughts"] for found in spectra.values()}
    alone, normed = ([qs for name, qs in linear.items() if part in name] for part in ("alone", "with"))
    operations = costs["operations"]
    fewer = 1 - operations["RMS norm"] / operations["layer norm"]
    made = [
        Finding(
            expected="the Jacobian over a batch is (delta_ij - 1/m - z_i z_j / (m var)) / sqrt(var + eps)",
            found=f"its last term lacks eps: {spectra[first]['batch']['printed']:.1%} off at a standard "
            f"deviation of {first:g}, {spectra[1.0]['batch']['printed']:.0e} at 1; with var + eps it is "
            f"exact",
            agreement=of_formula([s["batch"]["printed"] for s in spectra.values()]), section="1.8",
            claims=("bn-jacobian", "eq10-11-batchnorm"),
        ),
        Finding(
            expected="its eigenvalues lie within 0.5 to 2",
            found=f"they are nought {' or '.join(f'{n:.0f}' for n in sorted(noughts))} times and else "
            "1/sqrt(var + eps): " + ", ".join(f"{e:.3g} at {s:g}" for s, e in eigen.items()),
            agreement=of_bounds(list(eigen.values()), 0.5, 2.0), section="1.8",
            claims=("bn-jacobian-eigenvalues",),
        ),
        Finding(
            expected="eigenvalues of a linear layer span 0.01 to 100, with batch norm 0.5 to 2",
            found="weights over two decades: a dense layer's large eigenvalues lie at "
            f"{', '.join(f'{q[2]:.2g}' for q in alone)}, with batch norm at "
            f"{', '.join(f'{q[2]:.2g}' for q in normed)}, which undoes the scale; small ones stay, "
            f"{normed[1][0]:.1g} against {alone[1][0]:.1g} (5 and 95 percent of magnitudes)",
            agreement=of_narrowing(alone, normed), section="1.8",
            claims=("linear-eig-range",),
        ),
        Finding(
            expected="gradients differ by 10^4 among layers without norms, by two to four with batch norm",
            found=f"{depth} layers: " + ", ".join(f"{n} {over(s, '.1e')}" for n, s in spreads.items())
            + ". Before training batch norm without skips makes gradients grow towards the first layers",
            agreement=of_spread(spreads["none"], spreads["batch norm"]), section="1.8",
            claims=("gradnorm-1e4-to-2-4",),
        ),
        Finding(
            expected="batch norm depends on the batch and on the mode, layer and RMS norm on neither",
            found=f"a sample's output changes by {companions['batch'][2]:.2f} with its companions in a "
            f"batch of "
            f"2, by {companions['batch'][64]:.2f} in one of 64; of layer and RMS norm by "
            f"{companions['rows']:.0e}. "
            "Between modes by " + ", ".join(f"{v:.2g} ({n})" for n, v in companions["modes"].items()),
            agreement=of_dependence(companions), section="1.8",
            claims=("layernorm-batch-independent", "table4-train-infer", "eq12-layernorm"),
        ),
        Finding(
            expected="batch norm breaks at a batch of one, so that serving one at a time needs layer norm",
            found=f"trained on one value a channel its output is its shift ({companions['one']:.0e} "
            f"beside it), "
            f"and PyTorch {'refuses' if companions['refused'] else 'accepts'} that; served, it uses running "
            "statistics and a batch of one is like any other",
            agreement="partly" if companions["one"] == 0 else "contradicts", section="1.8",
            claims=("sc-ln-batch1",),
        ),
        Finding(
            expected="gain sigma and shift mu make batch norm the identity",
            found=f"{identity['std']:.1%} off at a standard deviation of 0.02; the root of var + eps as gain "
            f"is {identity['with eps']:.0e} off",
            agreement="partly" if identity["with eps"] < 1e-9 < identity["std"] else "contradicts",
            section="1.8", claims=("bn-identity",),
        ),
        Finding(
            expected="batch norm keeps 2 H running statistics; its statistics cost O(m H), layer norm's O(H) "
            "a sample",
            found=f"{companions['buffers']} numbers for 64 channels; "
            f"{operations['batch norm, training']:.1f} operations an element in training, "
            f"{operations['layer norm']:.1f} for layer norm: the same in a batch of m",
            agreement="agrees" if companions["buffers"] == 128 else "contradicts", section="1.8",
            claims=("bn-running-stats", "bn-cost"),
        ),
        _rms(fewer, costs["timings"]),
    ]  # fmt: skip
    if {m for _, m in accuracy} == set(BATCHES):
        made.append(_small(accuracy, modes))
    return tuple(made)


def _small(accuracy: dict[tuple[str, int], list[float]], modes: dict[str, list[float]]) -> Finding:
    told = {
        norm: ", ".join(f"{m}: {100 * median(accuracy[norm, m]):.0f}" for m in BATCHES)
        for norm in ("batch", "layer", "dense batch", "dense layer")
    }
    wrong = "; ".join(
        f"{n} {100 * median(v):.0f}" for n, v in modes.items() if n != "served"
    )  # fmt: skip

    def of_kind(kind: str) -> Agreement:
        batch, layer = ({m: accuracy[f"{kind}{norm}", m] for m in BATCHES} for norm in ("batch", "layer"))
        return of_batches(batch, layer)

    return Finding(
        expected="batches below 16 degrade batch norm, below 8 training may become unstable",
        found=f"percent right by batch, convolutions with batch norm {told['batch']}, with layer norm "
        f"{told['layer']}; dense layers {told['dense batch']} and {told['dense layer']}. In a convolution a "
        "batch of 2 has 128 values a statistic, in a dense layer 2. Convolutions trained on batches of 32, "
        f"{wrong}",
        agreement=of_both(of_kind(""), of_kind("dense ")),
        section="1.8", claims=("bn-batch-16-8",),
    )  # fmt: skip


def of_formula(errors: list[float]) -> Agreement:
    """Right to rounding, right where the variance is not small, or wrong."""
    return "agrees" if max(errors) < 1e-9 else "partly" if min(errors) < 1e-3 else "contradicts"


def of_bounds(values: list[float], low: float, high: float) -> Agreement:
    """Whether all values lie within two bounds, some, or none."""
    inside = [low <= v <= high for v in values]
    return (
        "agrees"
        if all(inside)
        else "contradicts"
        if not all(inside) and inside.count(False) > 1
        else "partly"
    )


def of_narrowing(alone: list[list[float]], normed: list[list[float]]) -> Agreement:
    """Within 0.5 to 2 with the norm; in part if it only takes the scale of the weights out.

    Args:
        alone, normed: low, middle and high magnitude by scale of the weights.
    """
    if all(0.5 <= q <= 2 for qs in normed for q in qs):
        return "agrees"
    before, after = (max(q[2] for q in of) / min(q[2] for q in of) for of in (alone, normed))
    return "partly" if after < before / 10 else "contradicts"


def of_spread(without: list[float], with_norm: list[float]) -> Agreement:
    """10^4 and more without, at most 4 with a norm; in part if one of them."""
    large, level = median(without) >= 1e4, median(with_norm) <= 4
    return "agrees" if large and level else "partly" if large or level else "contradicts"


def of_dependence(found: dict[str, Any]) -> Agreement:
    """Batch norm alone depends on companions and mode."""
    batch = found["batch"][2] > 10 * max(found["rows"], 1e-6) and found["modes"]["batch"] > 1e-3
    rows = found["rows"] < 1e-5 and max(found["modes"]["layer"], found["modes"]["RMS"]) < 1e-6
    return "agrees" if batch and rows else "contradicts"


def of_both(convolutions: Agreement, dense: Agreement) -> Agreement:
    """What both say; in part where one kind of network contradicts and the other does not."""
    if convolutions == dense:
        return dense
    return "cannot tell" if "cannot tell" in (convolutions, dense) else "partly"


def of_batches(batch: dict[int, list[float]], other: dict[int, list[float]]) -> Agreement:
    """Whether accuracy falls below 16 with batch norm by more than seeds differ, and not so without it.

    It cannot be told where nothing is learned.
    """
    if max(median(v) for v in (*batch.values(), *other.values())) < 0.5:
        return "cannot tell"
    best = {m: batch[m] for m in batch if m >= 16}
    apart_ = max(max(v) - min(v) for v in best.values())
    top = max(median(v) for v in best.values())

    def falls(sizes: tuple[int, ...], of: dict[int, list[float]]) -> bool:
        return any(top - median(of[m]) > max(apart_, 0.02) for m in sizes)

    if falls((8,), batch):
        return "agrees" if not falls((8,), other) else "partly"
    return "partly" if falls((2, 4), batch) else "contradicts"


def _rms(fewer: float, timings: dict[tuple[str, int], Timing]) -> Finding:
    told, shares = [], []
    for width in dict.fromkeys(w for _, w in timings):
        layer, rms = timings["layer norm", width], timings["RMS norm", width]
        share, off = 1 - rms.median / layer.median, rms.uncertainty + layer.uncertainty
        shares.append((share, off))
        told.append(f"{share:+.0%} at {width} (within {off:.0%})")
    return Finding(
        expected="RMS norm costs less than layer norm, 7 to 64 percent of the time",
        found=f"{fewer:.0%} fewer operations by the rules; time saved in PyTorch on this machine: "
        f"{', '.join(told)}",
        agreement=of_saving(fewer, shares), section="1.8", claims=("table4-rmsnorm-lower", "fn26-7-64"),
    )  # fmt: skip


def of_saving(fewer: float, shares: list[tuple[float, float]]) -> Agreement:
    """Fewer operations, and time saved beyond the error at every width; in part if only the first."""
    if fewer <= 0:
        return "contradicts"
    if any(abs(share) <= 2 * off for share, off in shares):
        return "cannot tell"
    return "agrees" if all(share > 0 for share, _ in shares) else "partly"
