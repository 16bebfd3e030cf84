"""Why on a terminal and as JSON: what binds, what twice of each resource gives, what would meet a limit."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.decide.inverse import Answer, Need
from pharos.decide.why import Doubled, Why, evidence
from pharos.quantity.units import fmt
from pharos.report.estimates import SHORT, band, title
from pharos.report.rows import evidence_row, figure_row, plain, workload_row
from pharos.report.text import grid, pair

YES = {True: "yes", False: "no", None: "unknown"}


def why_row(found: Why) -> dict[str, Any]:
    """What `pharos why --json` prints."""
    base = found.base
    step = base.latency if found.plan is None else found.plan.step
    shares = base.shares if found.plan is None else found.plan.shares
    return {
        "schema": "pharos/why@1",
        "model": base.model,
        "machine": base.machine.id,
        "devices": found.devices,
        "workload": workload_row(base),
        "latency_s": figure_row(step),
        "fits": plain(base.fits if found.plan is None else found.plan.fits),
        "binding": found.binding,
        "regime": plain(base.regime),
        "shares_s": {k: plain(v) for k, v in shares.items()},
        "sensitivity": {d.resource: plain(d.speedup) for d in found.doubled},
        "doubled": [
            {
                "resource": d.resource, "speedup": plain(d.speedup), "fits": plain(d.fits),
                "latency_s": None if d.latency is None else figure_row(d.latency),
                "binding": d.binding or None, "note": d.note or None,
            }
            for d in found.doubled
        ],
        "helpful_upgrade": found.helpful or None,
        "reason": found.reason,
        "flips": None if found.flips is None else {
            "machine": found.flips.machine.id, "binding": found.flips.binding,
            "latency_s": figure_row(found.flips.latency),
        },
        "limits": [_answer(a) for a in found.answers],
        "evidence": [evidence_row(e) for e in evidence(found)],
    }  # fmt: skip


def _answer(answer: Answer) -> dict[str, Any]:
    def rows(of: str) -> list[dict[str, Any]]:
        return [_need(n) for n in answer.needs if n.of == of]

    return {
        "name": answer.limit,
        "limit": plain(answer.allowed),
        "unit": answer.figure.unit,
        **{k: v for k, v in figure_row(answer.figure).items() if k != "level"},
        "meets": answer.meets,
        "evidence": [evidence_row(e) for e in answer.figure.evidence],
        "machine": rows("machine"),
        "network": rows("network"),
    }


def _need(need: Need) -> dict[str, Any]:
    return {
        "what": need.what, "now": plain(need.now), "needed": plain(need.value), "unit": need.unit,
        "times": plain(need.times), "reached": plain(need.reached), "note": need.note or None,
    }  # fmt: skip


def print_why(console: Console, found: Why) -> None:
    """`pharos why`: the binding resource, the table of doublings, and the answers to limits."""
    base = found.base
    several = f" x {found.devices}, every layer divided" if found.devices > 1 else ""
    console.print(Text(f"{title(base)}{several}", style="bold"))
    step = base.latency if found.plan is None else found.plan.step
    shares = base.shares if found.plan is None else found.plan.shares
    pair(console, "latency", f"{band(step)}  [{step.level}]")
    pair(console, "binds", found.binding + _parts(shares, step.value))
    pair(console, "regime", f"{base.regime}: " + _side(found))
    pair(console, "upgrade", found.reason)
    if found.flips is not None:
        at = found.flips
        pair(console, "flips on", f"{at.machine.id}, the nearest machine where something else binds: "
             f"{at.binding}, {fmt(at.latency.value, 's')}")  # fmt: skip
    else:
        pair(console, "flips on", "none of the nearest machines of the catalogue")
    for i, item in enumerate(evidence(found)[:3]):
        pair(console, "known by" if i == 0 else "", str(item))
    console.print()
    columns = [("twice the", "left"), ("gain", "right"), ("latency", "right"), ("fits", "left"),
               ("then binds", "left")]  # fmt: skip
    grid(console, columns, [_doubled(d) for d in found.doubled])
    for d in found.doubled:
        if d.note:
            pair(console, d.resource, d.note)
    console.print("gain: of a step's latency; of samples a second for the batch", style="dim")
    for answer in found.answers:
        _print_answer(console, answer)


def _parts(shares: dict[str, Any], whole: Any) -> str:
    if not whole or not shares:
        return ""
    ordered = sorted(shares.items(), key=lambda item: -float(item[1]))
    parts = [(k, float(v) / float(whole)) for k, v in ordered]
    told = [f"{k} {share:.0%}" for k, share in parts if share >= 0.005]
    return f" ({', '.join(told)})"


def _side(found: Why) -> str:
    ridge, line = found.base.ridge_point, found.base.roofline()["as_run"]
    if ridge is None or line[0] is None:
        return "the ridge point of this machine is not known"
    return f"{fmt(line[0])} FLOP/B as run, ridge point {fmt(ridge)}"


def _doubled(d: Doubled) -> list[str]:
    gain = "unknown" if d.speedup is None else f"{d.speedup:.3g}x"
    latency = "" if d.latency is None else fmt(d.latency.value, "s")
    return [d.resource, gain, latency, YES[d.fits], SHORT.get(d.binding, d.binding)]


def _print_answer(console: Console, answer: Answer) -> None:
    unit = answer.figure.unit
    state = {True: "meets", False: "misses", None: "cannot tell"}[answer.meets]
    word = "at least" if answer.limit == "throughput" else "at most"
    console.print()
    console.print(Text(f"{answer.limit} {word} {fmt(answer.allowed, unit)}: {state}, {band(answer.figure)}",
                       style="bold"), soft_wrap=True)  # fmt: skip
    if answer.meets is None:
        for item in answer.figure.evidence[:2]:
            pair(console, "to know", str(item))
        return
    rows = [
        [
            n.of,
            n.what,
            _size(n.now, n.unit),
            _size(n.value, n.unit),
            "" if n.times is None else f"{n.times:.3g}x",
            "" if n.reached is None else fmt(n.reached, unit),
        ]
        for n in answer.needs
    ]
    heads = (("of the", "left"), ("alone", "left"), ("now", "right"), ("needed", "right"), ("times", "right"))
    grid(console, [*heads, ("gives", "right")], rows)
    for need in answer.needs:
        if need.note:
            pair(console, need.what, need.note)


def _size(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return fmt(value, unit) if unit else f"{value:g}"
