"""Compare: one model under one workload on many machines, side by side."""

from typing import Any

from pharos.doors.web import drawn
from pharos.doors.web.bounds import MOST_COMPARED
from pharos.doors.web.chosen import (
    Asked,
    Chosen,
    chosen,
    estimated,
    machine_groups,
    machines,
    model_names,
    workload,
)
from pharos.doors.web.controls import knobs, limit_controls, limits_of, menu, workload_controls
from pharos.doors.web.explore import MODEL, contract_of, judged
from pharos.doors.web.faces import headline, short, verdict_of
from pharos.doors.web.question import Question, Refused
from pharos.machines.machine import Machine
from pharos.predict.estimate import Estimate
from pharos.quantity.evidence import Figure
from pharos.quantity.units import fmt

MACHINES = ("nvidia_h100_sxm5", "nvidia_a100_sxm_80gb", "amd_mi300x", "nvidia_l4")
ORDERS = (("latency", "fastest first"), ("energy", "least energy first"), ("memory", "least memory first"),
          ("price", "cheapest token or sample first"), ("given", "as chosen"))  # fmt: skip


def whole(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """The form and the answer."""
    model: Chosen | None = None
    found: tuple[Machine, ...] = ()
    try:
        model = chosen(question, uploads, MODEL)
        found = machines(question, MACHINES, MOST_COMPARED)
        answer = result(question, uploads, model, found)
    except Refused as refused:
        answer = {"mistake": refused}
    ids = {m.id for m in found} | set(question.many("on"))
    return {
        "model_value": question.raw("model") or MODEL,
        "model": model,
        "model_names": model_names(),
        "machine_groups": machine_groups(),
        "on": ids,
        "workload": workload_controls(question, model),
        "knobs": knobs(question, model),
        "knobs_open": bool(model and model.given),
        "limits": limit_controls(question),
        "dims": question.raw("dims"),
        "order": menu("order", "Order", question.raw("order") or "latency", ORDERS),
        "most": MOST_COMPARED,
        **answer,
    }


def result(
    question: Question,
    uploads: dict[str, Any],
    model: Chosen | None = None,
    found: tuple[Machine, ...] | None = None,
) -> dict[str, Any]:
    """A row a machine, sorted.

    Raises:
        Refused: a mistake in the question.
    """
    model = model or chosen(question, uploads, MODEL)
    found = found or machines(question, MACHINES, MOST_COMPARED)
    work = workload(question, model)
    limits = limits_of(question)
    order = question.choice("order", [o for o, _ in ORDERS], "latency")
    estimates = _sorted([estimated(question, model, work, m) for m in found], order)
    contract = contract_of(Asked(chosen=model, machines=found, work=work, runtime=None), found[0], limits)
    slowest = max((float(e.latency.high) for e in estimates if e.latency.high is not None), default=1.0)
    hungriest = max((float(e.energy.high) for e in estimates if e.energy.high is not None), default=1.0)
    rows = []
    for e in estimates:
        verdicts = judged(e, contract, limits)
        verdict = verdict_of(e, verdicts)
        rows.append(
            {
                "name": e.machine.name,
                "id": e.machine.id,
                "verdict": verdict,
                "headline": headline(e, verdicts, verdict),
                "latency": _bar(e.latency, slowest, f"b-{e.binding}"),
                "energy": _bar(e.energy, hungriest, "p2"),
                "rate": fmt(e.throughput_per_s),
                "memory": fmt(e.memory.total, "B"),
                "capacity": fmt(e.machine.capacity_bytes.value, "B"),
                "binding": short(e.binding),
                "kind": f"b-{e.binding}",
                "level": e.latency.level,
                "price": price_text(e),
                "explore": question.address("/explore", on=[e.machine.id], order=None),
                "evidence": str(e.latency.evidence[0]) if e.latency.evidence else "",
            }
        )
    what = "tokens" if estimates and "tokens" in estimates[0].count.graph.meta else "samples"
    return {
        "asked": model,
        "work": work,
        "rows": rows,
        "what": what,
        "said": _said(estimates),
        "roofs": [
            drawn.roofline(estimates[:6], f, n) for f, n in ((drawn.WIDE, "roof"), (drawn.NARROW, "roofn"))
        ],
        "roof_names": [e.machine.name for e in estimates[:6]],
    }


def price(e: Estimate) -> float | None:
    """Dollars of rent for a million tokens or samples."""
    rent, rate = e.machine.rent_usd_per_hour.value, e.throughput_per_s
    return None if rent is None or not rate else rent / 3600 / float(rate) * 1e6


def price_text(e: Estimate) -> str:
    """The same, for people."""
    value = price(e)
    return "-" if value is None else f"{value:.3g}"


def _sorted(estimates: list[Estimate], order: str) -> list[Estimate]:
    keys: dict[str, Any] = {
        "latency": lambda e: e.latency.value,
        "energy": lambda e: e.energy.value,
        "memory": lambda e: e.memory.total,
        "price": price,
    }
    if order == "given":
        return estimates
    key = keys[order]
    # what does not fit comes last, and what is not known after it
    return sorted(estimates, key=lambda e: (key(e) is None, e.fits is False, float(key(e) or 0.0)))


def _bar(figure: Figure, end: float, kind: str) -> dict[str, str]:
    if figure.value is None or figure.low is None or figure.high is None:
        return {"value": "unknown", "band": "", "svg": ""}
    value, low, high = float(figure.value), float(figure.low), float(figure.high)
    told = f"{fmt(low, figure.unit)} to {fmt(high, figure.unit)}"
    says = f"{fmt(value, figure.unit)}, {told}"
    return {
        "value": fmt(value, figure.unit),
        "band": told,
        "svg": drawn.whisker(value, low, high, end, kind, says),
    }


def _said(estimates: list[Estimate]) -> str:
    """Who is first, in a sentence; two whose bands overlap cannot be told apart."""
    known = sorted((e for e in estimates if e.latency.value is not None and e.fits is not False),
                   key=lambda e: float(e.latency.value or 0.0))  # fmt: skip
    if not known:
        return "It fits on none of these machines, as far as can be told."
    first = known[0]
    if len(known) == 1:
        return f"{first.machine.name} is the only one of these on which it fits and can be timed."
    tied = [
        e.machine.name
        for e in known[1:]
        if e.latency.low is not None and e.latency.low <= (first.latency.high or 0)
    ]
    times = float(known[1].latency.value or 0.0) / float(first.latency.value or 1.0)
    if tied:
        others = " and ".join(tied[:2]) + (f" and {len(tied) - 2} more" if len(tied) > 2 else "")
        return (
            f"{first.machine.name} is fastest by the central figure, but its band overlaps that of {others}."
        )
    return f"{first.machine.name} is fastest, {times:.2g} times as fast as {known[1].machine.name}."
