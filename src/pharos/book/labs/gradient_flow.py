"""Gradient flow: what arrives at the first layers of plain and residual stacks, and whether they train."""

from math import ceil, inf, isfinite, log, log10
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import lines
from pharos.book.stacks import gradient_norms, network, stack
from pharos.book.sums import chain
from pharos.book.trials import Curve, decades, descend, digits, over, saved_bytes, seeded
from pharos.graph.graph import Graph
from pharos.measure.timing import Timing, interleaved
from pharos.ops.linear import Linear
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "gradient-flow"
CLAIMS = (
    "sigmoid-max-0p25", "sigmoid-0p25-power", "explode-1p5", "plain50-gradnorms", "plain50-initial-loss",
    "plain50-loss-acc", "relu-derivative", "eq9-residual", "residual-product",
    "residual-eigen-1-plus-lambda", "edge-of-chaos-impossible", "resnet50-cifar", "four-orders-gradient",
    "skip-memory-20", "skip-epoch-10", "depth-thresholds", "resnet-20-layer-barrier", "sc-depth-20",
    "sum-depth-20", "sc-vgg30",
)  # fmt: skip
DEPTHS = (10, 20, 50, 100)
CHANCE = log(10)
# A network has learned when its loss is below this share of what guessing gives.
LEARNED = 0.7
BATCH = 32

# name: (residual, norm, function, start of the weights)
NETS = {
    "plain, sigmoid": (False, "none", "sigmoid", "pytorch"),
    "plain, ReLU": (False, "none", "relu", "pytorch"),
    "plain, ReLU, He": (False, "none", "relu", "he"),
    "plain, tanh, orthogonal": (False, "none", "tanh", "orthogonal"),
    "plain, batch norm": (False, "batch", "relu", "he"),
    "residual": (True, "none", "relu", "pytorch"),
    "residual, batch norm": (True, "batch", "relu", "he"),
}
# what is trained: (net of NETS, depth)
TRAINED = (
    ("plain, ReLU, He", 8), ("plain, ReLU, He", 20), ("plain, ReLU, He", 50),
    ("plain, tanh, orthogonal", 50), ("plain, batch norm", 50), ("residual", 50),
    ("residual, batch norm", 50),
)  # fmt: skip
RATES = (0.003, 0.01)


def build(name: str, depth: int, batch: int = BATCH, channels: int = 8) -> tuple[Graph, Any]:
    """One of NETS at a depth: its graph, and the module in training mode."""
    skip, norm, function, start = NETS[name]
    graph = stack(depth, skip=skip, norm=norm, function=function, batch=batch, channels=channels)
    return graph, network(graph, start)


@lab(NAME, "gradients in plain and residual stacks of 10 to 100 layers: vanishing, exploding, and training",
     claims=CLAIMS)  # fmt: skip
def gradient_flow(setting: Setting, progress: Progress) -> Outcome:
    """Gradient norms by layer, spectra of Jacobians, overflow, dead units, training, memory and time."""
    seeds = range(setting.seed, setting.seed + (1 if setting.small else 3))
    depths = (4, 8) if setting.small else DEPTHS
    steps = 8 if setting.small else 60
    with seeded(setting.seed) as torch:
        images, labels = map(torch.from_numpy, digits(2048, setting.seed, roam=False))
    total = len(NETS) + len(TRAINED) + 3
    norms: dict[tuple[str, int], list[list[float]]] = {}
    for i, name in enumerate(NETS):
        progress(i, total, f"gradients: {name}")
        for depth in depths:
            norms[name, depth] = [_norms(name, depth, images, labels, s) for s in seeds]
    progress(len(NETS), total, "Jacobians")
    spectra = _spectra(depths[-2], setting.seed, channels=3 if setting.small else 8)
    dead = _dead(depths[0], images, labels, setting.seed)
    with seeded(setting.seed):
        overflow = {"fp16": _overflow("float16"), "fp32": _overflow("float32")}
    curves: dict[tuple[str, int], list[Curve]] = {}
    rates = {}
    trained = TRAINED[:1] if setting.small else TRAINED
    for i, (name, depth) in enumerate(trained):
        progress(len(NETS) + 1 + i, total, f"training: {name}, {depth} layers")
        at = (name, depth)
        rates[at], first = _best(name, depth, images, labels, steps, setting.seed)
        curves[at] = [first, *(_train(name, depth, images, labels, steps, rates[at], s) for s in seeds[1:])]
    progress(total - 2, total, "memory and time of skips")
    costs = _costs(depths[-2], images, labels, setting)
    progress(total, total, "done")
    rows = [
        (name, depth, *(median(n[at] for n in found) for at in (0, len(found[0]) // 2, -1)),
         per_layer([n[0] / n[-1] for n in found], len(found[0])))
        for (name, depth), found in norms.items()
    ]  # fmt: skip
    points = [
        {"net": name, "layer": at + 1, "gradient norm": value}
        for (name, depth), found in norms.items() if depth == depths[-2]
        for at, value in enumerate(found[0])
    ]  # fmt: skip
    told = [
        {"net": f"{name}, {depth}", "learning_rate": rates[name, depth],
         "last_loss": [c.last if isfinite(c.last) else None for c in found],
         "accuracy": [c.accuracy for c in found],
         "losses": [round(x, 4) if isfinite(x) else None for x in found[0].losses]}
        for (name, depth), found in curves.items()
    ]  # fmt: skip
    return Outcome(
        name=NAME, summary=f"3x3 convolutions of 8 channels on 8 x 8 digits; gradient at initialisation, "
        f"{steps} "
        "steps of training",
        settings={"seeds": len(seeds), "first_seed": setting.seed, "depths": " ".join(map(str, depths)),
                  "batch": BATCH},
        columns=("net", "layers", "first", "middle", "last", "a_layer"), rows=tuple(rows),
        checks=(
            Check(what="eigenvalues of a residual block's Jacobian are those of its branch plus one",
                  found=f"{spectra['shift']:.1e} apart, 1e-04 allowed", holds=spectra["shift"] <= 1e-4),
            Check(what="the gradient through a stack is the product of its layers' Jacobians",
                  found=f"{spectra['product']:.1e} apart, 1e-04 allowed", holds=spectra["product"] <= 1e-4),
            Check(what="no derivative of sigmoid exceeds 0.25, and ReLU's are 0 and 1",
                  found=f"largest {spectra['sigmoid']:.6f}; {', '.join(map(str, spectra['relu']))}",
                  holds=spectra["sigmoid"] <= 0.25 and set(spectra["relu"]) == {0.0, 1.0}),
        ),
        findings=findings(norms, depths, spectra, dead, overflow, curves, costs),
        note="first, middle, last: norm of the loss's gradient by the weights of that layer, median over "
        "seeds; a_layer: factor from a layer to the one before. In place of the chapter's CIFAR-10 network "
        "stand narrow ones on drawn digits, on which minutes suffice",
        figure=lines(
            points, "layer", "gradient norm", "net", name=NAME, log_y=True,
            title=f"Gradient by layer, {depths[-2]} layers, before training",
            alt="Gradient norm by layer on a logarithmic axis: level for residual networks and orthogonal "
            "weights; falling steadily towards the first layers of plain networks, steepest with sigmoid; "
            "rising with batch norm and no skips",
            source="norm of the gradient by each convolution's weights; one seed",
        ),
        data={"training": told, "spectra": spectra, "dead_units": dead,
              "overflow_after": overflow, "skip_costs": {k: v for k, v in costs.items() if k != "timings"}},
    )  # fmt: skip


def _norms(name: str, depth: int, images: Any, labels: Any, seed: int) -> list[float]:
    with seeded(seed):
        graph, made = build(name, depth)
        # in double precision: what arrives may be smaller than float32 goes
        return gradient_norms(made.double(), graph, images[:BATCH].double(), labels[:BATCH])


def per_layer(ratios: list[float], layers: int) -> float:
    """Factor by which the gradient changes from a layer to the one before, from first over last."""
    middle = median(ratios)
    return middle ** (1 / (layers - 1)) if layers > 1 else 1.0


def _train(
    name: str, depth: int, images: Any, labels: Any, steps: int, rate: float, seed: int
) -> Curve:  # fmt: skip
    with seeded(seed) as torch:
        _, made = build(name, depth)
        apart = len(images) * 3 // 4

        def loss_of(step: int) -> Any:
            at = (step * BATCH) % apart
            batch = slice(at, at + BATCH)
            return torch.nn.functional.cross_entropy(made(images[batch]), labels[batch])

        losses = descend(made, loss_of, steps, rate)
        made.eval()
        with torch.no_grad():
            parts = [made(images[i : i + BATCH]).argmax(1) for i in range(apart, len(images), BATCH)]
        right = (torch.cat(parts) == labels[apart:]).float().mean()
        return Curve(losses, float(right))


def _best(
    name: str, depth: int, images: Any, labels: Any, steps: int, seed: int
) -> tuple[float, Curve]:  # fmt: skip
    """The learning rate with the lower last loss on one seed, and how it went."""
    tried = [(r, _train(name, depth, images, labels, steps, r, seed)) for r in RATES]
    return min(tried, key=lambda t: t[1].last)


def jacobian(function: Any, x: Any) -> Any:
    """d function / d x as a square matrix, for one sample."""
    import torch

    x = x.detach().clone().requires_grad_()
    y = function(x).flatten()
    rows = torch.autograd.grad(y, x, torch.eye(y.numel(), dtype=y.dtype), is_grads_batched=True)[0]
    return rows.flatten(1).double().numpy()


def _spectra(depth: int, seed: int, channels: int) -> dict[str, Any]:
    """Jacobians of single layers and blocks, and of a whole stack by its layers."""
    import numpy as np

    from pharos.ops.activation import Activation

    found: dict[str, Any] = {}
    with seeded(seed) as torch:
        x = torch.randn(1, channels, 8, 8).double()
        for name in ("plain, ReLU", "plain, ReLU, He", "plain, tanh, orthogonal", "residual"):
            graph, made = build(name, depth, 1, channels)
            made = made.double()
            layers = _layers(graph, made)
            parts, at = [], x
            for layer in layers:
                parts.append(jacobian(layer, at))
                at = layer(at).detach()
            product = np.linalg.multi_dot(parts[::-1])

            def whole(x: Any, layers: list[Any] = layers) -> Any:
                for layer in layers:
                    x = layer(x)
                return x

            direct = jacobian(whole, x)
            apart = float(np.abs(product - direct).max() / max(np.abs(direct).max(), 1e-300))
            found["product"] = max(found.get("product", 0.0), apart)
            eigen = np.abs(np.linalg.eigvals(parts[len(parts) // 2]))
            singular = np.linalg.svd(product, compute_uv=False)
            found[name] = {
                "eigenvalues_of_one": [float(eigen.min()), float(np.median(eigen)), float(eigen.max())],
                "largest_singular_value_of_all": float(singular[0]),
            }
        branch = torch.nn.Conv2d(channels, channels, 3, padding=1).double()
        alone, with_skip = jacobian(branch, x), jacobian(lambda x: branch(x) + x, x)
        found["shift"] = float(np.abs(with_skip - alone - np.eye(len(alone))).max())
        found["branch"] = float(np.abs(np.linalg.eigvals(alone)).max())
        grid = torch.linspace(-4, 4, 81).double().requires_grad_()
        slopes = [
            torch.autograd.grad(Activation(f).torch(torch)(grid).sum(), grid)[0] for f in ("sigmoid", "relu")
        ]
        found["sigmoid"], found["relu"] = float(slopes[0].max()), sorted({float(v) for v in slopes[1]})
    return found


def _layers(graph: Graph, made: Any) -> list[Any]:
    """The stack's layers or blocks as functions, in order."""
    inside: dict[str, list[Any]] = {}
    for node in graph.expanded().nodes:
        if node.name.startswith("layers."):  # type: ignore[union-attr]
            inside.setdefault(node.name.split(".")[1], []).append(node)  # type: ignore[union-attr]

    def run(nodes: list[Any]) -> Any:
        def call(x: Any) -> Any:
            values = {nodes[0].inputs[0]: x}
            for node in nodes:
                values[node.outputs[0]] = made.call_of(node)(*[values[n] for n in node.inputs])
            return values[nodes[-1].outputs[0]]

        return call

    return [run(nodes) for nodes in inside.values()]


def _dead(depth: int, images: Any, labels: Any, seed: int) -> tuple[float, float]:
    """Share of a plain stack's ReLUs that no image of 256 makes positive, before and after large steps."""
    with seeded(seed) as torch:
        graph, made = build("plain, ReLU, He", depth)

        def share() -> float:
            with torch.no_grad():
                x, dead = made.get_submodule("stem")(images[:256]).relu(), []
                for layer in _layers(graph, made):
                    x = layer(x)
                    dead.append((x <= 0).all(0).float().mean())
            return float(torch.stack(dead).mean())

        before = share()
        batch = slice(0, BATCH)
        descend(made, lambda _: torch.nn.functional.cross_entropy(made(images[batch]), labels[batch]), 5, 1.0)
        return before, share()


def _overflow(dtype: str) -> int:
    """Layers of gain 1.5, orthogonal matrices times 1.5, after which a gradient of norm 1 is no number."""
    import numpy as np
    import torch

    from pharos.convert.to_torch import to_torch

    kind = getattr(torch, dtype)
    layer = to_torch(chain((1, 1), Linear(1, 1, False))).to(kind)
    with torch.no_grad():
        next(iter(layer.parameters())).fill_(1.5)
    gradient = torch.ones(1, 1, dtype=kind)
    for count in range(1, 1000):
        x = torch.zeros(1, 1, dtype=kind, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x), x, gradient)
        if not np.isfinite(gradient.double().numpy()).all():
            return count
    return 1000


def _costs(depth: int, images: Any, labels: Any, setting: Setting) -> dict[str, Any]:
    """What a step of a residual stack keeps and takes, against the same layers without skips."""
    from pharos.passes.training import training

    found: dict[str, Any] = {}
    calls = {}
    with seeded(setting.seed) as torch:
        for skip in (False, True):
            graph = stack(depth, skip=skip, norm="batch", batch=BATCH)
            made = network(graph)

            def forward(made: Any = made, torch: Any = torch) -> Any:
                return torch.nn.functional.cross_entropy(made(images[:BATCH]), labels[:BATCH])

            def step(made: Any = made, forward: Any = forward) -> None:
                made.zero_grad()
                forward().backward()

            name = "residual" if skip else "plain"
            found[f"{name}_saved_bytes"] = saved_bytes(forward, [*made.parameters(), *made.buffers()])
            found[f"{name}_predicted_bytes"] = int(training(graph).saved)
            calls[name] = step
        found["timings"] = interleaved(calls, seconds=0.5 if setting.small else 5.0, least=5)
    found["memory"] = found["residual_saved_bytes"] / found["plain_saved_bytes"] - 1
    found["memory_predicted"] = found["residual_predicted_bytes"] / found["plain_predicted_bytes"] - 1
    return found


def findings(
    norms: dict[tuple[str, int], list[list[float]]], depths: tuple[int, ...], spectra: dict[str, Any],
    dead: tuple[float, float], overflow: dict[str, int], curves: dict[tuple[str, int], list[Curve]],
    costs: dict[str, Any],
) -> tuple[Finding, ...]:  # fmt: skip
    """The chapter's statements beside what came out."""
    deep = depths[-2]

    def falls(name: str, depth: int = deep) -> list[float]:
        return [decades(n[-1], n[0]) for n in norms[name, depth]]

    sigmoid = [n[0] / n[-1] for n in norms["plain, sigmoid", deep]]
    rate = per_layer(sigmoid, len(norms["plain, sigmoid", deep][0]))
    gains = [decades(r[0], p[0]) for r, p in zip(norms["residual, batch norm", deep],
                                                 norms["plain, ReLU", deep], strict=True)]  # fmt: skip
    he = [decades(r[0], p[0]) for r, p in zip(norms["residual, batch norm", deep],
                                              norms["plain, ReLU, He", deep], strict=True)]  # fmt: skip
    plain = falls("plain, ReLU")
    expected = {"fp16": ceil(log(65504, 1.5)), "fp32": ceil(log(3.4028e38, 1.5))}
    first = next(iter(curves.values()))
    singular = {n: spectra[n]["largest_singular_value_of_all"] for n in spectra if n in NETS}
    made = [
        Finding(
            expected="through N layers of sigmoid a gradient shrinks by about 0.25^N",
            found=f"by {rate:.2g} a layer in {deep} layers: 0.25 is the largest derivative, weights multiply "
            "in besides, and with small ones it falls faster",
            agreement=near(rate, 0.25, 1.25, 4), section="1.8",
            claims=("sigmoid-max-0p25", "sigmoid-0p25-power"),
        ),
        Finding(
            expected="factors of 1.5 a layer overflow",
            found=f"a gradient of 1 is no number after {overflow['fp16']} layers in fp16, "
            f"{overflow['fp32']} in fp32; 1.5^N has it at {expected['fp16']} and {expected['fp32']}",
            agreement="agrees" if overflow == expected else "partly", section="1.8", claims=("explode-1p5",),
        ),
        Finding(
            expected="a plain network of 50 layers with ReLU: gradient 0.1 at the last layer, 1e-8 at the "
            "first, 7 orders of magnitude",
            found=f"{over(plain)} orders with PyTorch's weights, {over(falls('plain, ReLU, He'))} with He's, "
            f"{over(falls('plain, tanh, orthogonal'))} with orthogonal ones and tanh: it is the weights' "
            "doing as much as the depth's (a minus: it grows)",
            agreement=of_vanishing(plain, falls("plain, ReLU, He"), 7.0), section="1.8",
            claims=("plain50-gradnorms",),
        ),
        Finding(
            expected="with skips the first layer's gradient is four orders of magnitude larger (0.01 against "
            "1e-8, which are six)",
            found=f"{over(gains)} orders against PyTorch's weights, {over(he)} against He's, both with "
            f"{deep} layers; from last to first it changes by {over(falls('residual, batch norm'))} orders",
            agreement=of_gain(gains, he, 4.0), section="1.8",
            claims=("four-orders-gradient", "resnet50-cifar"),
        ),
        Finding(
            expected="eigenvalues of a residual block's Jacobian cluster around 1, so that a signal passes "
            "with unit gain by construction",
            found="of one block {:.2f} to {:.2f} in magnitude, of a plain layer {:.2f} to {:.2f}; but the "
            "largest gain of all {} layers is {:.1e}, of the plain stack {:.1e}. The ReLU after the addition "
            "makes the small ones".format(
                *spectra["residual"]["eigenvalues_of_one"][::2],
                *spectra["plain, ReLU"]["eigenvalues_of_one"][::2],
                deep, singular["residual"], singular["plain, ReLU"],
            ),
            agreement=of_cluster(spectra["residual"]["eigenvalues_of_one"], singular["residual"]),
            section="1.8", claims=("residual-eigen-1-plus-lambda", "residual-product", "eq9-residual"),
        ),
        Finding(
            expected="to balance hundreds of plain layers at unit gain is numerically impossible",
            found=f"orthogonal weights and tanh: gradients of {depths[-1]} layers span "
            f"{over([spread(n) for n in norms['plain, tanh, orthogonal', depths[-1]]])} orders",
            agreement=of_balance([spread(n) for n in norms["plain, tanh, orthogonal", depths[-1]]]),
            section="1.8", claims=("edge-of-chaos-impossible",),
        ),
        Finding(
            expected="units with ReLU die where no input makes them positive, as a large step may do",
            found=f"{dead[0]:.0%} of the units of {depths[0]} layers pass nothing of any image before "
            f"training, "
            f"{dead[1]:.0%} after five steps of a learning rate of 1",
            agreement=of_dying(*dead), section="1.8",
            claims=("relu-derivative",),
        ),
        Finding(
            expected="loss starts at 2.3, that of guessing among ten",
            found=f"{first[0].losses[0]:.2f} with {next(iter(curves))[1]} layers",
            agreement="agrees" if abs(first[0].losses[0] - CHANCE) < 0.2 else "partly", section="1.8",
            claims=("plain50-initial-loss",),
        ),
        Finding(
            expected="skips need about 20 percent more memory",
            found=f"{costs['memory']:+.1%} measured, {costs['memory_predicted']:+.1%} by the operators' "
            f"rules: "
            "a block's input is kept for its first convolution anyway",
            agreement=near(100 * costs["memory"], 20, 1.25, 2), section="1.8", claims=("skip-memory-20",),
        ),
        _epoch(costs["timings"]),
    ]  # fmt: skip
    if len(curves) == len(TRAINED):
        made += _trained(curves)
    return tuple(made)


def _trained(curves: dict[tuple[str, int], list[Curve]]) -> list[Finding]:
    """What training says, with the better of two learning rates each."""

    def loss(name: str, depth: int) -> str:
        return over([c.last for c in curves[name, depth]], ".2f")

    he, residual = "plain, ReLU, He", "residual"
    right = over([100 * c.accuracy for c in curves[residual, 50]], ".0f")
    shallow = over([100 * c.accuracy for c in curves[he, 8]], ".0f")
    stuck = over([100 * c.accuracy for c in curves[he, 50]], ".0f")
    works = {at: learns(found) for at, found in curves.items()}
    return [
        Finding(
            expected="a plain network of 50 layers trains worse than a shallow one: loss 1.8, 45 percent, "
            "against 60 percent and more",
            found=f"loss {loss(he, 50)} with 50 layers, {stuck} percent right; {loss(he, 8)} with 8, "
            f"{shallow} percent; other data, other training",
            agreement="agrees" if works[he, 8] and not works[he, 50] else "contradicts", section="1.8",
            claims=("plain50-loss-acc", "sc-vgg30"),
        ),
        Finding(
            expected="the same depth with skips trains: loss 0.05, 93 percent",
            found=f"loss {loss(residual, 50)}, {right} percent right without norm; "
            f"{loss('residual, batch norm', 50)} with batch norm",
            agreement="agrees" if works[residual, 50] and works["residual, batch norm", 50]
            else "partly" if works[residual, 50] or works["residual, batch norm", 50] else "contradicts",
            section="1.8", claims=("resnet50-cifar", "sc-depth-20"),
        ),
        Finding(
            expected="beyond 20 layers skips and norms are prerequisites",
            found=f"plain with 20: loss {loss(he, 20)}; 50 plain with batch norm: "
            f"{loss('plain, batch norm', 50)}; 50 plain, orthogonal, tanh: "
            f"{loss('plain, tanh, orthogonal', 50)}; guessing is {CHANCE:.2f}",
            agreement=of_barrier(works), section="1.8",
            claims=("depth-thresholds", "resnet-20-layer-barrier", "sum-depth-20"),
        ),
    ]  # fmt: skip


def learns(curves: list[Curve]) -> bool:
    """Whether the median over seeds is well below guessing."""
    return median(c.last for c in curves) < LEARNED * CHANCE


def of_barrier(works: dict[tuple[str, int], bool]) -> Agreement:
    """Whether skips are needed: contradicted by a plain network of 50 layers that learns."""
    without = works["plain, tanh, orthogonal", 50] or works["plain, batch norm", 50]
    if without:
        return "contradicts"
    return "agrees" if works["residual", 50] and not works["plain, ReLU, He", 50] else "cannot tell"


def of_dying(before: float, after: float) -> Agreement:
    """More dead units after large steps; in part if there are some and no more than before."""
    return "agrees" if after > before else "partly" if after > 0 else "contradicts"


def near(value: float, wanted: float, close: float, wide: float) -> Agreement:
    """Agrees within a factor `close`, in part within `wide`."""
    if value <= 0 or wanted <= 0:
        return "contradicts"
    ratio = max(value / wanted, wanted / value)
    return "agrees" if ratio <= close else "partly" if ratio <= wide else "contradicts"


def of_vanishing(drawn: list[float], scaled: list[float], orders: float) -> Agreement:
    """Vanishing by about so many orders with usual weights; in part if by others, or not with all."""
    if min(drawn) < 1:
        return "contradicts"
    return "agrees" if all(abs(median(d) - orders) <= 1 for d in (drawn, scaled)) else "partly"


def of_gain(drawn: list[float], scaled: list[float], orders: float) -> Agreement:
    """A larger gradient by about so many orders, in part if it is larger by other factors."""
    if min(*drawn, *scaled) <= 0:
        return "contradicts"
    return "agrees" if all(abs(median(d) - orders) <= 0.5 for d in (drawn, scaled)) else "partly"


def of_cluster(eigenvalues: list[float], gain: float) -> Agreement:
    """Around 1, and all blocks together with a gain of about 1; in part if only one of them."""
    low, _, high = eigenvalues
    one, whole = low > 0.3 and high < 2, 0.1 < gain < 10
    return "agrees" if one and whole else "partly" if one or whole else "contradicts"


def spread(norms: list[float]) -> float:
    """Orders of magnitude between the largest and the smallest of a network's gradients."""
    return log10(max(norms) / min(norms)) if min(norms) > 0 else inf


def of_balance(spreads: list[float]) -> Agreement:
    """Impossible is contradicted by gradients within one order of magnitude on every seed."""
    return "contradicts" if max(spreads) < 1 else "agrees" if min(spreads) > 4 else "partly"


def _epoch(timings: dict[str, Timing]) -> Finding:
    plain, residual = timings["plain"], timings["residual"]
    more = residual.median / plain.median - 1
    off = plain.uncertainty + residual.uncertainty
    return Finding(
        expected="an epoch takes about 10 percent longer with skips",
        found=f"{more:+.1%} a step, known to within {off:.1%}; on this machine, on this network",
        agreement=of_share(more, off, 0.05, 0.15), section="1.8", claims=("skip-epoch-10",),
    )  # fmt: skip


def of_share(value: float, off: float, low: float, high: float) -> Agreement:
    """Whether a measured share lies between two; cannot tell where its error reaches over a bound."""
    if not isfinite(value) or off > (high - low):
        return "cannot tell"
    if low <= value <= high:
        return "agrees" if low <= value - off and value + off <= high else "partly"
    if low <= value + off and value - off <= high:
        return "cannot tell"
    return "contradicts"
