"""Members: small networks of each family for one data set, of one size, by parameters or by MACs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, exp, log
from typing import Any

from pharos.decide.data.views import Shape, view_of
from pharos.graph.count import count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.models.sequence import field_of
from pharos.quantity.errors import InputError, PharosError

BUDGETS = ("parameters", "macs")
# How far two members may lie apart and still be called of one size.
TOLERANCE = 0.15
# Parameters aimed at where nobody tells, and the least width of each family that makes sense of data.
USUAL = 20_000
LEAST = {"mlp": 16, "cnn": 4, "vit": 16, "cnn-1d": 8, "rnn": 8, "ssm": 8, "transformer": 16, "dlrm": 4}
STEP = {"vit": 2, "transformer": 4}
WIDEST = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One network.

    Args:
        model: its name with arguments, as `pharos show` reads it.
        view: how it takes data; loss: "classes", "number", or "shares" of outputs that are probabilities.
        context: steps of a sequence.
    """

    family: str
    model: str
    width: int
    view: str
    loss: str
    parameters: int
    macs: int
    context: int | None = None

    def graph(self, batch: int) -> Graph:
        """Its graph for a batch."""
        return find(self.model).graph(Workload(batch=batch, context=self.context))

    def size(self, by: str) -> int:
        """Parameters or MACs."""
        return self.parameters if by == "parameters" else self.macs


def member(family: str, shape: Shape, kind: str, width: int, loss: str) -> Member:
    """The member of a family at a width.

    Raises:
        InputError: the family takes no such data, or has no small member.
    """
    view = view_of(family, shape.form, kind)
    if view is None or family not in _MODELS:
        raise InputError(f"{family} has no small member for {kind}", where="--families")
    context = shape.steps[0] if view in ("steps", "tokens") else None
    if family == "dlrm" and loss == "classes":
        loss = "shares"
    made = Member(family=family, model=_MODELS[family](shape, view, width), width=width, view=view, loss=loss,
                  parameters=0, macs=0, context=context)  # fmt: skip
    counted = count(made.graph(1))
    return replace(made, parameters=int(counted.parameters), macs=int(counted.macs))


def _call(name: str, **arguments: Any) -> str:
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"


def _mlp(shape: Shape, view: str, width: int) -> str:
    if view == "tokens":
        sizes = {
            "vocabulary": shape.vocabulary,
            "length": shape.steps[0],
            "embedding_dim": max(4, width // 4),
        }
        return _call("token_mlp", **sizes, hidden=(width, width), classes=shape.outputs)
    return _call("mlp", widths=(shape.flat, width, width, shape.outputs))


def _cnn(shape: Shape, view: str, width: int) -> str:
    channels, height, width_of = shape.grid
    # places are put together at 4 x 4 or somewhat more
    layers = 2 + (min(height, width_of) >= 16)
    return _call("small_cnn", side=(height, width_of), image_channels=channels,
                 channels=tuple(width * 2**i for i in range(layers)), dense=(), normed=True, pooled=True,
                 classes=shape.outputs)  # fmt: skip


def _vit(shape: Shape, view: str, width: int) -> str:
    channels, height, width_of = shape.grid
    patch = tuple(_patch(n) for n in (height, width_of))
    return _call("small_vit", side=(height, width_of), image_channels=channels, patch=patch, hidden=width,
                 layers=2, heads=2, classes=shape.outputs)  # fmt: skip


def _patch(side: int) -> int:
    """Pixels of a patch's side: what divides the side, nearest to an eighth of it, from 2 up."""
    wanted = max(2.0, side / 8)
    return min((p for p in range(1, side + 1) if side % p == 0), key=lambda p: (abs(log(p / wanted)), p))


def _sequence(shape: Shape, width: int) -> dict[str, Any]:
    given = {"vocabulary": shape.vocabulary} if shape.vocabulary else {"features": shape.steps[1]}
    return {**given, "hidden": width, "classes": shape.outputs}


def _cnn_1d(shape: Shape, view: str, width: int) -> str:
    layers = next((n for n in range(2, 6) if field_of(n, 5) >= shape.steps[0]), 5)
    return _call("sequence_cnn", **_sequence(shape, width), layers=layers)


def _rnn(shape: Shape, view: str, width: int) -> str:
    return _call("sequence_rnn", **_sequence(shape, width), layers=1)


def _ssm(shape: Shape, view: str, width: int) -> str:
    return _call("sequence_ssm", **_sequence(shape, width), layers=2, states=8)


def _transformer(shape: Shape, view: str, width: int) -> str:
    return _call("sequence_transformer", **_sequence(shape, width), layers=2, heads=2)


def _dlrm(shape: Shape, view: str, width: int) -> str:
    outputs = 1 if shape.outputs == 2 else shape.outputs
    return _call("dlrm", rows=shape.tables, dim=width, dense=shape.dense, bottom=(2 * width, width),
                 top=(4 * width, 2 * width, outputs))  # fmt: skip


_MODELS: dict[str, Callable[[Shape, str, int], str]] = {
    "mlp": _mlp, "cnn": _cnn, "vit": _vit, "cnn-1d": _cnn_1d, "rnn": _rnn, "ssm": _ssm,
    "transformer": _transformer, "dlrm": _dlrm,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Members of one size.

    Args:
        by: what is counted; target: that all come near; apart: the largest over the smallest, less 1.
    """

    members: tuple[Member, ...]
    by: str
    target: float
    apart: float

    @property
    def holds(self) -> bool:
        """Whether they are of one size within TOLERANCE."""
        return self.apart <= TOLERANCE


def matched(families: list[str], shape: Shape, kind: str, loss: str, by: str = "parameters",
            budget: float | None = None) -> Matched:  # fmt: skip
    """A member of every family, of one size as near as widths allow.

    The size that all come nearest to is looked for within a quarter of `budget`. Without one, it is USUAL
    or what the family with the largest least member has.

    Raises:
        InputError: a family takes no such data, or the budget is below its smallest member.
    """
    if by not in BUDGETS:
        raise InputError(f"{by!r} is not counted", where="--budget-by", hint=" or ".join(BUDGETS))
    memo: dict[tuple[str, int], Member] = {}

    def at(family: str, width: int) -> Member:
        if (family, width) not in memo:
            memo[family, width] = member(family, shape, kind, width, loss)
        return memo[family, width]

    wanted = budget
    if wanted is None:
        least = [at(f, LEAST.get(f, 4)).size(by) for f in families]
        wanted = max(*least, USUAL if by == "parameters" else 0, 1)
    steps = [wanted * exp(log(1.25) * i / 20) for i in range(-20, 21)]
    near: dict[str, list[Member]] = {}
    for family in families:
        step = STEP.get(family, 1)
        low, high = 1, ceil(WIDEST / step)
        if at(family, step).size(by) > 1.25 * wanted:
            smallest = at(family, step).size(by)
            hint = f"at least {ceil(smallest / 1.25):,}"
            raise InputError(f"the smallest {family} for these data has {smallest:,} {by}, more than "
                             f"{wanted:,.0f}", where="--budget", hint=hint)  # fmt: skip
        while low < high:
            middle = (low + high) // 2
            low, high = (
                (low, middle) if at(family, middle * step).size(by) >= steps[0] else (middle + 1, high)
            )
        found = [at(family, max(1, low - 1) * step)]
        while found[-1].size(by) < steps[-1] and low * step < WIDEST:
            found.append(at(family, low * step))
            low += 1
        near[family] = found

    def of(target: float) -> tuple[Member, ...]:
        return tuple(min(near[f], key=lambda m: abs(log(m.size(by) / target))) for f in families)

    def apart(chosen: tuple[Member, ...]) -> float:
        sizes = [m.size(by) for m in chosen]
        return max(sizes) / min(sizes) - 1

    best = min(steps, key=lambda t: (round(apart(of(t)), 3), abs(log(t / wanted))))
    chosen = of(best)
    return Matched(members=chosen, by=by, target=best, apart=apart(chosen))


def takes(family: str, shape: Shape, kind: str) -> bool:
    """Whether a family has a small member for data of a shape."""
    if view_of(family, shape.form, kind) is None:
        return False
    try:
        member(family, shape, kind, LEAST.get(family, 4), "classes")
    except PharosError:
        return False
    return True
