"""Accuracy as evidence: published figures with how they were trained, carried to other numbers of classes."""

from dataclasses import dataclass, replace
from functools import cache
from math import erf, pi, sqrt
from typing import Any

from pharos.decide.data.facts import Data
from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.models.registry import find, parse_name
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Z80, Figure, assumed, spec, unknown_figure

# Arguments of a model that its accuracy is not looked up by.
IGNORED = ("classes", "resolution", "features", "vocabulary")
KORNBLITH = ("the order of networks carries over when they are tuned further: Kornblith et al. 2019, "
             "arXiv:1805.08974, r = 0.96 over 12 data sets")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published accuracy.

    Args:
        model: with the arguments it was trained with; labels: how many it was trained on.
    """

    table: str
    kind: str
    task: str
    classes: int
    metric: str
    model: str
    key: tuple[Any, ...]
    resolution: int | None
    precision: str
    accuracy: float
    labels: int
    trained: str
    source: str


def _key(model: str) -> tuple[Any, ...]:
    name, given = parse_name(model)
    rest = {k: v for k, v in given.items() if k not in IGNORED and (k, v) != ("width", 1.0)}
    if name == "mlp":
        # the widths between input and output
        rest["widths"] = tuple(rest.get("widths", ()))[1:-1]
    return name, tuple(sorted(rest.items()))


@cache
def published() -> tuple[Published, ...]:
    """Every row of the facts on accuracy."""
    found = []
    for path, _ in folder("accuracy").values():
        data = read_yaml(path).data
        for row in data["rows"]:
            found.append(Published(
                table=data["name"], kind=data["kind"], task=data["task"], classes=int(data["classes"]),
                metric=data["metric"], model=row["model"], key=_key(row["model"]),
                resolution=row.get("resolution"), precision=row["precision"],
                accuracy=float(row["accuracy"]), labels=int(row["labels"]), trained=row["trained"],
                source=row["source"],
            ))  # fmt: skip
    return tuple(found)


@cache
def _spread() -> float:
    """Standard deviation of one network's accuracy over the recipes it was trained with, in float."""
    by: dict[Any, list[float]] = {}
    for row in published():
        if row.precision == "fp32" and row.table == "imagenet" and row.labels < 2e6:
            by.setdefault((row.key, row.resolution), []).append(row.accuracy)
    squares = degrees = 0.0
    for values in (v for v in by.values() if len(v) > 1):
        mean = sum(values) / len(values)
        squares += sum((v - mean) ** 2 for v in values)
        degrees += len(values) - 1
    return sqrt(squares / degrees) if degrees else 0.02


def _normal(x: float) -> float:
    return 0.5 * (1 + erf(x / sqrt(2)))


@cache
def _grid() -> tuple[Any, Any]:
    import numpy as np

    x = np.arange(-9, 9.001, 0.05)
    return x, np.array([_normal(v) for v in x])


def chosen_right(separation: float, classes: int) -> float:
    """P(the true one of `classes` wins) when its evidence lies `separation` deviations above the others'.

    Independent normal evidence for every class: m-alternative forced choice. Source: Green and Swets
    1966, Signal Detection Theory and Psychophysics.
    """
    import numpy as np

    x, below = _grid()
    density = np.exp(-((x - separation) ** 2) / 2) / sqrt(2 * pi)
    return min(1.0, float((0.05 * density * below ** (classes - 1)).sum()))


@cache
def with_classes(accuracy: float, of: int, to: int) -> float:
    """An accuracy among `of` classes as it would be among `to` that are told apart as well."""
    low, high = 0.0, 9.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chosen_right(middle, of) < accuracy else (low, middle)
    return chosen_right(low, to)


@cache
def _losses(name: str) -> tuple[float, ...]:
    """Published int8 accuracy less float accuracy of the same architecture at other sizes."""
    rows = [r for r in published() if r.key[0] == name]
    floats = {(r.key, r.resolution): r for r in rows if r.precision == "fp32" and "tf-slim" in r.trained}
    every = {(r.key, r.resolution): r for r in rows if r.precision == "fp32"} | floats
    return tuple(
        r.accuracy - every[r.key, r.resolution].accuracy
        for r in rows if r.precision == "int8" and (r.key, r.resolution) in every
    )  # fmt: skip


def accuracy_of(model: str, resolution: int | None, precision: str, data: Data, task: str,
                pretrained: bool) -> Figure:  # fmt: skip
    """What is published of a network, for this data, or else what a probe of them measured of its family.

    Unknown stays unknown, with what is missing.

    Args:
        pretrained: its published weights may be tuned further; otherwise labels must be as many as it was
            trained on, within a factor of three.
    """
    told = _published(model, resolution, precision, data, task, pretrained)
    if told.value is not None or not data.learnt or task != "classify":
        return told
    measured = data.learnt.get(find(model).family)
    if measured is None or precision in ("fp32", "fp16", "bf16"):
        return measured or told
    return replace(measured, evidence=(*measured.evidence, assumed(f"{precision} taken to lose nothing")))


def _published(model: str, resolution: int | None, precision: str, data: Data, task: str,
               pretrained: bool) -> Figure:  # fmt: skip
    try:
        key = _key(model)
    except PharosError:
        return unknown_figure("", "no name to look up")
    rows = [r for r in published() if r.key == key and r.kind == data.kind and r.task == task]
    rows = [r for r in rows if r.resolution is None or r.resolution == resolution]
    if not rows:
        return unknown_figure("", f"no published accuracy of {model} for {data.kind}")
    exact = [r for r in rows if r.precision == precision]
    wide = precision in ("fp16", "bf16")
    rows_used, loss, how = (
        (exact, 0.0, "") if exact else ([r for r in rows if r.precision == "fp32"], 0.0, "")
    )
    if not exact and wide:
        how = f"{precision} taken to lose nothing"
    elif not exact:
        losses = _losses(key[0]) if precision == "int8" else ()
        if not losses or not rows_used:
            return unknown_figure("", f"no published {precision} accuracy of {key[0]}")
        loss = sum(losses) / len(losses)
        how = f"int8 loses {-loss:.1%} at {len(losses)} other size(s) of {key[0]}"
    # the plainest recipe: what a team gets without a search for a better one
    row = min(rows_used, key=lambda r: (r.labels, r.accuracy))
    labels = data.labels or data.examples
    if labels is not None and labels < row.labels / 3 and not pretrained:
        return unknown_figure("", f"published with {row.labels:,} labels ({row.table}), here are {labels:,}")
    value = row.accuracy + loss
    spread = _spread()
    evidence = [spec(f"{row.metric} {row.accuracy:.1%} on {row.table}, {row.trained}; {row.source}")]
    if how:
        evidence.append(assumed(how))
    ends = [value - Z80 * spread, value, min(value + Z80 * spread, 0.999)]
    evidence.append(assumed(f"the data are as hard as those of {row.table}"))
    if data.classes and data.classes != row.classes and row.metric.startswith("top-1"):
        ends = [with_classes(v, row.classes, data.classes) for v in ends]
        evidence.append(assumed(
            f"{data.classes} classes as hard to tell apart as those of {row.table} (forced choice among "
            f"{data.classes} for {row.classes}); {KORNBLITH}"
        ))  # fmt: skip
    return Figure(value=ends[1], low=ends[0], high=ends[2], unit="", evidence=tuple(evidence))
