"""Remedy: the smallest single change that would mend a broken limit, found by trying."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pharos.decide.contract import Contract
from pharos.decide.verdict import BROKEN, HOLDS, UNKNOWN, LimitVerdict, estimate_of, figures_of, judge
from pharos.facts.reading import Document
from pharos.models.registry import Model, entry, parse_name
from pharos.predict.estimate import Estimate
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import PharosError
from pharos.quantity.units import fmt

# Narrower types to try, widest first, and the most bits a step may drop to.
NARROWER = ("fp16", "int8", "int4")
# Hyperparameters that scale a network, with the steps to try, mildest first.
FACTORS = (0.875, 0.75, 0.625, 0.5, 0.375, 0.25)
SCALABLE = ("width", "resolution", "hidden", "channels", "context", "batch")


def with_remedies(
    limits: list[LimitVerdict],
    contract: Contract,
    document: Document,
    estimate: Estimate,
    model: Model | None = None,
) -> list[LimitVerdict]:
    """The limits with `remedy` filled in where one does not hold.

    Args:
        model: what stands in for the model that the contract names, and cannot be rescaled by name.
    """
    done = []
    for limit in limits:
        if limit.verdict == BROKEN:
            limit = replace(limit, remedy=_mend(limit, contract, document, model))
        elif limit.verdict == UNKNOWN:
            limit = replace(limit, remedy=_find_out(limit, estimate))
        done.append(limit)
    return done


def _mend(limit: LimitVerdict, contract: Contract, document: Document, model: Model | None) -> str:
    found = []
    fixed: dict[str, Any] = {} if model is None else {"model": model}
    for what, changes, cost in _candidates(contract, document):
        if model is not None and "model" in changes:
            continue
        changes = {**fixed, **changes}
        try:
            figure = figures_of(estimate_of(contract, document, **changes), contract)[limit.name]
        except PharosError:
            continue
        verdict = judge(limit.name, limit.limit, figure).verdict
        if verdict == HOLDS:
            found.append((cost, f"{what}: {limit.name} {fmt(figure.value, limit.unit)}"))
    if not found:
        return "no single change of precision, width, resolution, context or batch mends it"
    found.sort(key=lambda item: item[0])
    return found[0][1]


def _candidates(contract: Contract, document: Document) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Single changes with the share of the network they give up, mildest of each knob first."""
    work = contract.workload
    if "=" not in work.precision:
        for narrower in NARROWER:
            if BITS.get(narrower, 0) < BITS.get(work.precision, 32):
                yield f"precision {narrower}", {"precision": narrower}, 0.05 + 0.4 / BITS[narrower]
    for factor in FACTORS:
        if work.context is not None and work.context > 1:
            context = max(1, int(work.context * factor))
            yield f"context {context}", {"context": context}, 1 - factor
        if work.batch > 1:
            batch = max(1, int(work.batch * factor))
            yield f"batch {batch}", {"batch": batch}, 1 - factor
    if contract.model.endswith((".onnx", ".json")):
        return
    try:
        name, given = parse_name(contract.model)
        known = entry(name).hyperparameters()
    except PharosError:
        # code, or an architecture of the hub, has no sizes to be asked for by name
        return
    for key in SCALABLE:
        if key not in known:
            continue
        now = given.get(key, known[key].default)
        if not isinstance(now, (int, float)) or isinstance(now, bool):
            continue
        for factor in FACTORS:
            value = round(now * factor, 3) if isinstance(now, float) else _whole(key, now * factor)
            if value == now or not value:
                continue
            arguments = ", ".join(f"{k}={v!r}" for k, v in (given | {key: value}).items())
            yield f"{key}={value}", {"model": f"{name}({arguments})"}, 1 - factor


def _whole(key: str, value: float) -> int:
    # images are cut to multiples of 32 so that strides divide them
    return max(32, round(value / 32) * 32) if key == "resolution" else max(1, int(value))


def _find_out(limit: LimitVerdict, estimate: Estimate) -> str:
    if limit.figure.value is None:
        missing = limit.figure.evidence[0].where if limit.figure.evidence else ""
        if limit.name == "power" or limit.name == "energy":
            return f"{missing}; state the machine's power.max_W, or measure"
        return missing
    band = f"{fmt(limit.figure.low, limit.unit)} to {fmt(limit.figure.high, limit.unit)}"
    return f"the limit lies inside the band ({band}): measure it"
