"""Equivariance: which layers commute with shifts and turns of their input, and by how much others miss it."""

from collections.abc import Callable
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import dots
from pharos.book.sums import chain, draw
from pharos.book.sums import run as by_loops
from pharos.book.trials import apart, seeded
from pharos.ops.conv import Conv2d
from pharos.ops.group_conv import GroupConv2d, before, element, relative
from pharos.ops.linear import Linear
from pharos.ops.norm import BatchNorm
from pharos.ops.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from pharos.ops.shape_ops import Flatten
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "equivariance"
# Of float32 sums of a few hundred products; larger differences are no rounding.
EXACT = 1e-5
SIDE = 24
CLAIMS = (
    "eq4-equivariance", "eq5-invariance", "shift-five", "whisker-50-55", "equivariance-proof",
    "ex13-original-image", "ex13-feature-map", "ex13-shifted-image", "ex13-shifted-feature-map",
    "ex13-sign-convention", "group-closure", "stride-breaks-equivariance",
)  # fmt: skip
EDGE = [[[[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]]]


def shift(x: Any, rows: int, columns: int) -> Any:
    """An image moved down and right, what leaves on one side coming in on the other."""
    import numpy as np

    return np.roll(x, (rows, columns), (-2, -1))


def moved_in(x: Any, rows: int, columns: int) -> Any:
    """An image moved down and right, nought coming in, what leaves the frame lost."""
    import numpy as np

    y, (high, wide) = np.zeros_like(x), x.shape[-2:]
    y[..., rows:, columns:] = x[..., : high - rows, : wide - columns]
    return y


def wrapped(x: Any, by: int = 1) -> Any:
    """An image with what is beyond each border taken from the other side."""
    import numpy as np

    return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(by, by)] * 2, mode="wrap")


def turned(y: Any, h: int) -> Any:
    """Planes [B, C, |G|, H, W] of a group convolution after its input was moved by the group's element h."""
    import numpy as np

    order = y.shape[2]
    moved = np.empty_like(y)
    for s in range(order):
        # the plane that h takes to s: h t = s
        moved[:, :, s] = turned_image(y[:, :, relative(h, s)], h)
    return moved


def turned_image(x: Any, h: int) -> Any:
    """A square image moved by an element of p4m: mirrored or not, then turned by quarters."""
    import numpy as np

    n = x.shape[-1]
    moved = np.empty_like(x)
    for i in range(n):
        for j in range(n):
            moved[..., i, j] = x[(..., *before(h, i, j, n))]
    return moved


def interior(error: Any, margin: int) -> Any:
    """A map without so many places at each border."""
    return error[..., margin : error.shape[-2] - margin, margin : error.shape[-1] - margin]


class _Layers:
    """Layers of the graph as functions of arrays, with fixed weights drawn once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], *ops: Any) -> Callable[[Any], Any]:
        import torch

        from pharos.convert.to_torch import to_torch

        made = to_torch(chain(shape, *ops)).eval()

        def apply(x: Any) -> Any:
            with torch.no_grad():
                return made(torch.from_numpy(x.copy())).numpy()

        return apply


@lab(NAME, "convolution commutes with shifts until padding, stride or pooling break it; turns take a group",
     claims=CLAIMS)  # fmt: skip
def equivariance(setting: Setting, progress: Progress) -> Outcome:
    """f(T x) held against T f(x) for layers and shifts, then for turns by a quarter and reflections."""
    import numpy as np

    with seeded(setting.seed):
        progress(0, 4, "shifts")
        layers = _Layers(setting.seed)
        x = draw(2, 3, SIDE, SIDE, seed=setting.seed).astype(np.float32)
        rows, by_name = _shifts(layers, x)
        progress(1, 4, "pooling over everything")
        invariances = _invariances(layers, x)
        rows += [("average of all places", how, err, err, None) for how, err in invariances.items()]
        progress(2, 4, "turns")
        groups = _turns(layers, setting.seed)
        rows += [(what, how, err, err, None) for what, how, err in groups]
        progress(3, 4, "the chapter's example")
        example = edge_example()
        places = whiskers(setting.seed)
        closed = apart(shift(shift(x, 2, 5), 1, 3), shift(x, 3, 8))
        forms = _forms(setting.seed)
        progress(4, 4, "done")
    errors = {f"{layer}, {how}": whole for layer, how, whole, *_ in rows}
    points = [
        {"layer": f"{layer}, {how}", "error": max(e, 1e-9), "measured": where}
        for layer, how, whole, inside, _ in rows
        for where, e in (("whole map", whole), ("away from borders", None if inside == whole else inside))
        if e is not None
    ]  # fmt: skip
    return Outcome(
        name=NAME, summary="f(T x) against T f(x): largest difference over the largest value",
        settings={"seed": setting.seed, "image": f"{SIDE} x {SIDE}"},
        columns=("layer", "moved", "error", "inside", "places"),
        rows=tuple((a, b, c, "" if d is None else d, "" if e is None else e) for a, b, c, d, e in rows),
        checks=(
            Check(what="explicit loops and PyTorch give the same (convolution, group convolution)",
                  found=f"{max(forms):.1e} apart, {EXACT:.0e} allowed", holds=max(forms) <= EXACT),
            Check(what="a shift after a shift is their sum, T_u T_v = T_(u+v)", found=_tiny(closed),
                  holds=closed == 0),
        ),
        findings=findings(by_name, invariances, {f"{w}, {h}": e for w, h, e in groups}, example, places),
        note="inside: the error without the places that a border reaches; places: the share of them where "
        "f(T x) and "
        "T f(x) differ. Weights and images are random; errors repeat to the last digits on one machine",
        figure=dots(
            points, "error", "layer", "measured", name=NAME, title="How far layers miss f(T x) = T f(x)",
            alt="Error of equivariance by layer on a logarithmic axis: rounding only, around 1e-7, for "
            "convolution away from borders and group convolution; 0.1 to 2 where padding, stride, pooling "
            "or turns break it",
            log_x=True, source="largest difference over the largest value; 1e-9 stands for none",
        ),
        data={"errors": errors, "example": example, "places": places},
    )  # fmt: skip


def _shifts(layers: _Layers, x: Any) -> tuple[list[tuple[Any, ...]], dict[str, tuple[float, float]]]:
    """Rows of the table for shifts, and (error, error inside) by a short name."""
    import numpy as np

    n, channels = SIDE, x.shape[1]
    conv = layers((2, 3, n + 2, n + 2), Conv2d(3, 4, 3))
    padded = layers((2, 3, n, n), Conv2d(3, 4, 3, padding=1))
    two = layers((2, 3, n, n), Conv2d(3, 4, 3, padding=1), Conv2d(4, 4, 3, padding=1),
                 Conv2d(4, 4, 3, padding=1))  # fmt: skip
    strided = layers((2, 3, n + 2, n + 2), Conv2d(3, 4, 3, 2))
    largest, mean = layers((2, 3, n, n), MaxPool2d(2)), layers((2, 3, n, n), AvgPool2d(2))
    overlapping = layers((2, 3, n + 2, n + 2), MaxPool2d(3, 1))
    dense = layers((2, 3, n, n), Flatten(), Linear(channels * n * n, 64))

    flat = channels * n * n
    held = {"running_mean": 0.3 * draw(flat, seed=8), "running_var": 0.5 + draw(flat, seed=9) ** 2}

    def by_place(x: Any) -> Any:
        """Batch norm with statistics of its own at every place, as they were kept in training."""
        y = by_loops(BatchNorm(flat, affine=False), x.reshape(len(x), flat), **held)
        return y.reshape(x.shape)

    def by_batch(x: Any) -> Any:
        """The same with statistics of the batch at hand."""
        return (x - x.mean(0, keepdims=True)) / np.sqrt(x.var(0, keepdims=True) + 1e-5)

    by_channel = layers((2, 3, n, n), BatchNorm(3))
    cases: list[tuple[str, str, Callable[[Any], Any], tuple[int, int], int, int, str]] = [
        # name, how moved, f, shift, stride of f, reach of a border, short name
        ("convolution, wrapped", "by 1, 5", lambda x: conv(wrapped(x)), (1, 5), 1, 0, "wrapped"),
        ("convolution, zeros around", "by 1, 5", padded, (1, 5), 1, 6, "zeros"),
        ("three of them", "by 1, 5", two, (1, 5), 1, 8, "three"),
        ("convolution, stride 2", "by 2", lambda x: strided(wrapped(x)), (2, 2), 2, 0, "stride even"),
        ("convolution, stride 2", "by 1", lambda x: strided(wrapped(x)), (1, 1), 2, 0, "stride odd"),
        ("max pooling 3, stride 1", "by 1", lambda x: overlapping(wrapped(x)), (1, 1), 1, 0, "max dense"),
        ("max pooling 2", "by 2", largest, (2, 2), 2, 0, "max even"),
        ("max pooling 2", "by 1", largest, (1, 1), 2, 0, "max odd"),
        ("average pooling 2", "by 1", mean, (1, 1), 2, 0, "mean odd"),
        ("batch norm by channel", "by 1, 5", by_channel, (1, 5), 1, 0, "norm channel"),
        ("batch norm by place, kept", "by 1, 5", by_place, (1, 5), 1, 0, "norm place"),
        ("batch norm by place, own batch", "by 1, 5", by_batch, (1, 5), 1, 0, "norm batch"),
    ]  # fmt: skip
    rows, short = [], {}
    for name, how, f, (down, right), stride, reach, key in cases:
        whole, inside, share = equivariance_error(f, x, down, right, stride, reach)
        rows.append((name, how, whole, inside, share))
        short[key] = (whole, inside)
    # a dense layer gives no map: the nearest thing to a shift of its outputs is none at all
    miss = apart(dense(shift(x, 0, 1)), dense(x))
    rows.append(("dense layer, held unmoved", "by 0, 1", miss, None, None))
    short["dense"] = (miss, miss)
    return rows, short


def equivariance_error(
    f: Callable[[Any], Any], x: Any, down: int, right: int, stride: int = 1, reach: int = 0
) -> tuple[float, float, float]:
    """How far f(T x) is from T f(x), over the largest value of f(x): in all, away from borders, and where.

    A layer of stride s takes a shift by v to one by v / s; where that is no whole number, the best of the
    whole numbers around it is taken.

    Args:
        reach: places from each border that are left out of the second figure.

    Returns:
        Largest error, largest error inside, share of places with one beyond rounding.
    """
    import numpy as np

    before_, after = f(x), f(shift(x, down, right))
    top = np.abs(before_).max()
    tries = []
    for i in {down // stride, -(-down // stride)}:
        for j in {right // stride, -(-right // stride)}:
            tries.append(np.abs(after - shift(before_, i, j)) / top)
    error = min(tries, key=lambda e: float(e.max()))
    return (
        float(error.max()),
        float(interior(error, reach).max()) if reach else float(error.max()),
        float((error.max(axis=(0, 1)) > EXACT).mean()),
    )


def _invariances(layers: _Layers, x: Any) -> dict[str, float]:
    """How far the average over all places changes with a shift."""
    import numpy as np

    conv = layers((2, 3, SIDE, SIDE), Conv2d(3, 4, 3, padding=1, bias=False), GlobalAvgPool())
    pool = layers((2, 3, SIDE, SIDE), GlobalAvgPool())
    framed = np.zeros_like(x)
    framed[..., 4:-4, 4:-4] = x[..., 4:-4, 4:-4]
    return {
        "wrapped": apart(pool(shift(x, 2, 3)), pool(x)),
        "inside the frame": apart(conv(moved_in(framed, 2, 3)), conv(framed)),
        "out of the frame": apart(pool(moved_in(x, 2, 3)), pool(x)),
        "half out of it": apart(pool(moved_in(x, 0, SIDE // 2)), pool(x)),
    }


def _turns(layers: _Layers, seed: int) -> list[tuple[str, str, float]]:
    """Errors under quarter turns and reflections: plain convolution, group convolutions, a whole network."""
    import numpy as np
    import torch

    from pharos.convert.to_torch import to_torch
    from pharos.graph.workload import Workload
    from pharos.models.equivariant import p4cnn, z2cnn

    n = 9
    x = draw(2, 3, n, n, seed=seed + 1).astype(np.float32)
    turn, mirror = element(0, 1), element(1, 0)
    plain = layers((2, 3, n, n), Conv2d(3, 4, 3))
    rows = [("convolution", "turned", apart(plain(turned_image(x, turn)), turned_image(plain(x), turn)))]
    for group, moves in (("p4", {"turned": turn}), ("p4m", {"turned": turn, "mirrored": mirror})):
        ops = (GroupConv2d(3, 4, 3, group=group, lifting=True), GroupConv2d(4, 4, 3, group=group))
        f = layers((2, 3, n, n), *ops)
        rows += [
            (f"{group} convolutions", how, apart(f(turned_image(x, h)), turned(f(x), h)))
            for how, h in moves.items()
        ]
    strided = layers((2, 3, 10, 10), GroupConv2d(3, 4, 3, 2, group="p4", lifting=True))
    even = draw(2, 3, 10, 10, seed=seed + 2).astype(np.float32)
    rows.append(("p4, stride 2 with a rest", "turned",
                 apart(strided(turned_image(even, turn)), turned(strided(even), turn))))  # fmt: skip
    image = draw(4, 1, 28, 28, seed=seed + 3).astype(np.float32)
    for name, build in (("P4CNN, its answer", p4cnn), ("Z2CNN, its answer", z2cnn)):
        made = to_torch(build(Workload(batch=4))).eval()
        with torch.no_grad():
            a, b = (made(torch.from_numpy(i.copy())).numpy() for i in (turned_image(image, turn), image))
        # answers differ by little beside what they share: held against their spread over images
        rows.append((name, "turned", float(np.abs(a - b).max() / b.std(0).max())))
    return rows


def edge_example() -> dict[str, list[list[int]]]:
    """The chapter's vertical edge detector on a line of 7 x 7, and what other conventions give."""
    import numpy as np

    def line(column: int) -> Any:
        image = np.zeros((1, 1, 7, 7))
        image[..., column - 1] = 1
        return image

    def filtered(image: Any, padding: int = 0, flipped: bool = False) -> Any:
        weight = np.array(EDGE, float)
        weight = weight[..., ::-1, ::-1] if flipped else weight
        return by_loops(Conv2d(1, 1, 3, padding=padding, bias=False), image, weight=weight)

    made = {
        "image": line(3), "map": filtered(line(3)), "shifted image": moved_in(line(3), 0, 2),
        "map of the shifted": filtered(line(5)), "shifted map": moved_in(filtered(line(3)), 0, 2),
        "map, true convolution": filtered(line(3), flipped=True),
        "map, zeros around": filtered(line(3), padding=1),
        "map of a line in column 6": filtered(line(6)),
        "map shifted by 3": moved_in(filtered(line(3)), 0, 3),
    }  # fmt: skip
    return {name: [[int(v) for v in row] for row in array[0, 0]] for name, array in made.items()}


def whiskers(seed: int) -> dict[str, Any]:
    """Where a detector of a patch answers in 100 x 100 places, before and after a shift by 5; the mean."""
    import numpy as np

    patch = draw(3, 3, seed=seed + 4)
    image = np.zeros((1, 1, 100, 100))
    image[0, 0, 49:52, 49:52] = patch
    found, means = [], []
    for x in (image, moved_in(image, 5, 5)):
        # only around the two places: beyond them everything is nought
        part = x[..., 40:66, 40:66]
        y = by_loops(Conv2d(1, 1, 3, padding=1, bias=False), part, weight=patch[None, None])
        i, j = np.unravel_index(int(y[0, 0].argmax()), y.shape[2:])
        found.append([int(i) + 40, int(j) + 40])
        means.append(float(y.mean()))
    return {"found": found, "means": means}


def _forms(seed: int) -> list[float]:
    """Differences of loops and PyTorch."""
    import numpy as np

    from pharos.convert.to_torch import to_torch

    found = []
    x = draw(1, 2, 6, 6, seed=seed + 5)
    for op in (Conv2d(2, 2, 3, 2, 1), GroupConv2d(2, 2, 3, group="p4m", lifting=True)):
        made = to_torch(chain((1, 2, 6, 6), op)).double().eval()
        weights = {k.removeprefix("op0."): v.detach().numpy() for k, v in made.named_parameters()}
        import torch

        found.append(apart(made(torch.from_numpy(np.array(x))).detach().numpy(), by_loops(op, x, **weights)))
    return found


def findings(
    shifts: dict[str, tuple[float, float]], invariances: dict[str, float], groups: dict[str, float],
    example: dict[str, list[list[int]]], places: dict[str, Any],
) -> tuple[Finding, ...]:  # fmt: skip
    """The chapter's statements beside the errors."""
    zeros, inside = shifts["zeros"]
    wrapped_ = shifts["wrapped"][0]
    exact = max(wrapped_, inside) <= EXACT
    broken = {k: shifts[k][0] for k in ("stride odd", "max odd", "mean odd")}
    by_place = shifts["norm place"][0]
    turns = {k: v for k, v in groups.items() if "convolutions" in k}
    return (
        Finding(
            expected="convolution commutes with shifts, f(T x) = T f(x), as a derivation shows",
            found=f"to rounding where the border does not matter ({_tiny(max(wrapped_, inside))}); with "
            f"zeros "
            f"around, the map misses by up to {zeros:.0%} of its largest value next to the borders, and "
            f"three such layers by {shifts['three'][0]:.0%}: the derivation has no border",
            agreement=equals(exact, zeros > EXACT), section="1.3",
            claims=("eq4-equivariance", "equivariance-proof", "shift-five"),
        ),
        Finding(
            expected="the average over all places does not change with a shift, f(T x) = f(x)",
            found=f"{invariances['inside the frame']:.0e} while all stays in the frame, "
            f"{invariances['out of the frame']:.0%} where a part leaves it",
            agreement=equals(
                max(invariances["wrapped"], invariances["inside the frame"]) <= EXACT,
                invariances["out of the frame"] > EXACT,
            ),
            section="1.3", claims=("eq5-invariance",),
        ),
        Finding(
            expected="asymmetric padding and stride break equivariance: a shift by one pixel is none by a "
            "whole number",
            found=f"stride 2, a shift by 1: misses by {broken['stride odd']:.0%}, by 2: "
            f"{_tiny(shifts['stride even'][0])}; max pooling {broken['max odd']:.0%}, average pooling "
            f"{broken['mean odd']:.0%}. Symmetric padding breaks it too",
            agreement=equals(min(broken.values()) > 0.01 and shifts["stride even"][0] <= EXACT),
            section="1.3", claims=("stride-breaks-equivariance",),
        ),
        Finding(
            expected="batch norm with statistics by place breaks it as well",
            found=f"with statistics kept by place by {by_place:.0%}; those of the batch at hand move along, "
            f"{_tiny(shifts['norm batch'][0])}; by channel {_tiny(shifts['norm channel'][0])}",
            agreement=equals(by_place > 0.01, shifts["norm batch"][0] <= EXACT), section="1.3",
        ),
        Finding(
            expected="the edge detector gives rows of 3, 0, -3, 0, 0, and 0, 0, 3, 0, -3 for the shifted "
            "line",
            found=_example_words(example), agreement=equals(*_example_holds(example)), section="1.3",
            claims=("ex13-original-image", "ex13-feature-map", "ex13-shifted-image",
                    "ex13-shifted-feature-map", "ex13-sign-convention"),
        ),
        Finding(
            expected="a pattern at (50, 50) is found at (55, 55) after a shift by 5; the average stays",
            found=f"found at {tuple(places['found'][0])}, then {tuple(places['found'][1])}; the "
            f"average is {places['means'][0]:.6f}, then {places['means'][1]:.6f}",
            agreement=equals(
                places["found"] == [[50, 50], [55, 55]]
                and abs(places["means"][0] - places["means"][1]) < EXACT
            ),
            section="1.3", claims=("whisker-50-55", "shift-five"),
        ),
        Finding(
            expected="convolutions over a group extend this to turns and reflections",
            found=f"p4 and p4m miss by {max(turns.values()):.0e}, plain convolution by "
            f"{groups['convolution, turned']:.0%}; P4CNN's answer to a turned image differs by "
            f"{groups['P4CNN, its answer, turned']:.0e} of the spread of answers, that of its plain twin "
            f"by {groups['Z2CNN, its answer, turned']:.1f}; a stride that leaves a rest breaks it, "
            f"{groups['p4, stride 2 with a rest, turned']:.0%}",
            agreement=equals(
                max(turns.values()) <= EXACT and groups["convolution, turned"] > 0.01
            ),
            section="1.3",
        ),
    )  # fmt: skip


def equals(holds: bool, but: bool = False) -> Agreement:
    """Agrees if it holds, in part if something else must be said beside it; otherwise it contradicts."""
    return ("partly" if but else "agrees") if holds else "contradicts"


def _tiny(error: float) -> str:
    return f"{error:.0e}" if error else "exactly"


def _example_holds(example: dict[str, list[list[int]]]) -> tuple[bool, bool]:
    same = (
        example["map"] == [[3, 0, -3, 0, 0]] * 5
        and example["map of the shifted"] == [[0, 0, 3, 0, -3]] * 5
        and example["shifted map"] == example["map of the shifted"]
    )
    return same, False


def _example_words(example: dict[str, list[list[int]]]) -> str:
    def row(name: str, at: int = 0) -> str:
        return ", ".join(map(str, example[name][at]))

    return (
        f"{row('map')} and {row('map of the shifted')}, for a line in column 3 (the chapter leaves the image "
        f"out) and what networks call convolution; flipped as in mathematics {row('map, true convolution')}; "
        f"with zeros around {row('map, zeros around', 3)}, at the top {row('map, zeros around')}. A line in "
        f"column 6 gives {row('map of a line in column 6')}: a lobe has left the map"
    )
