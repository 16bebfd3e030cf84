"""Requirements and risks of the selection example, decided by the flow and beside what the chapter has."""

from functools import cache
from typing import Any

from pharos.book.chapter import printed
from pharos.book.claims.wildlife import CAMERA
from pharos.book.ledger import entry
from pharos.book.shown import computed, stated, why
from pharos.book.sums import machine
from pharos.book.table import COUNTED, DECLARED, PREDICTED, Asked, Cell, Filled, cell, printed_rows, table
from pharos.decide.brief import Brief
from pharos.decide.choose import Decision, choose
from pharos.facts.reading import Document
from pharos.quantity.units import fmt

# The chapter's own check of each requirement, as the ledger has it.
CHECKS = {"power": "wild-15mj", "latency": "wild-latency-75ms", "memory": "wild-total-65mb"}
# What of our risks answers each of the chapter's: a word in their text.
ANSWERS = {"accuracy": "accuracy", "heat": "heat", "new classes": "once deployed"}


@cache
def decided(on: str) -> Decision:
    """The chapter's example, decided for a machine, from the numbers that it sets."""
    watts, milliseconds, ram, _, model, percent, classes = printed("wild-constraints")
    brief = Brief.model_validate({
        "name": "wildlife-camera", "task": "classify",
        "data": {"kind": "images", "labels": 20_000, "classes": classes, "resolution": 224},
        "limits": {"latency": f"{milliseconds} ms", "memory": f"{ram} MB", "storage": f"{model} MB",
                   "power": f"{watts} W", "accuracy": f"{percent}%"},
        "use": {"per_day": 100, "connectivity": "none", "pretrained": True},
        "machine": {"name": on, "memory.capacity": f"{ram} MB"} if on == CAMERA else on,
        "assumed": {"system_memory": "50 MB"},
    })  # fmt: skip
    return choose(brief, Document({}, "the selection example", {}))


def _limit(found: Decision, name: str) -> tuple[str, str, Any]:
    """(value against limit, margin and verdict, the figure)."""
    verdict = None if found.chosen is None else found.chosen.verdicts.get(name)
    if verdict is None:
        return "no limit", "", None
    figure, unit = verdict.figure, verdict.figure.unit

    def shown(x: float | None) -> str:
        return "unknown" if x is None else fmt(float(x), unit) if unit else f"{x:.1%}"

    margin = "" if verdict.margin is None else f", {verdict.margin:.3g} times the room"
    return shown(figure.value), f"{verdict.verdict}{margin}", figure.value


@table("requirements", "requirements", "Requirements of the selection example", "1.10", heeds=("machine",))
def requirements(asked: Asked) -> Filled:
    """Each requirement with what the chosen network needs of it."""
    found = decided(_machine(asked))
    watts, milliseconds, ram, _, model, percent, classes = printed("wild-constraints")
    rows = []
    plan = {
        "connectivity": (None, "none: all of it runs on the device", ()),
        "power": (watts, f"{watts} W", ("power",)),
        "latency": (milliseconds / 1e3, f"{milliseconds} ms", ("latency",)),
        "memory": (ram * 1e6, f"{ram} MB of RAM, {model} MB for the model", ("memory", "storage")),
        "accuracy": (percent / 100, f"{percent}% on {classes} species", ("accuracy",)),
    }  # fmt: skip
    for row, (value, text, limits) in plan.items():
        told = [(name, *_limit(found, name)) for name in limits]
        says = "; ".join(f"{name} {shown}: {verdict}" for name, shown, verdict, _ in told)
        devices = found.chosen.devices if found.chosen else 0
        rows.append(
            (
                row,
                (
                    Cell(
                        value=value,
                        text=text,
                        how=DECLARED,
                        printed=cell(("requirements", row, "requirement"), None).printed,
                    ),
                    Cell(
                        value=[v for *_, v in told] or devices,
                        text=says or f"{devices} device, nothing sent",
                        how=PREDICTED,
                        printed=cell(("requirements", row, "implication"), None).printed,
                    ),
                    _checked(row),
                ),
            )
        )
    return Filled(
        columns=("constraint", "requirement", "what the choice needs", "the chapter's check, recomputed"),
        rows=tuple(rows),
        setting=_said(found),
        note="requirements are the chapter's premises; `pharos choose` decided by its flow",
    )


def _checked(row: str) -> Cell:
    """The number that the chapter sets against a requirement, from the ledger."""
    if row not in CHECKS:
        return Cell(value=None, text="-", how=DECLARED)
    found = entry(CHECKS[row])
    return Cell(value=found.computed, text=computed(found), how=COUNTED, printed=stated(found),
                stated=found.claim.stated, verdict=found.verdict, note=why(found))  # fmt: skip


@table("risks", "risks", "Risks of the selection example", "1.10", heeds=("machine",))
def risks(asked: Asked) -> Filled:
    """The chapter's risks with what the rules raise for each, then what they raise besides."""
    found = decided(_machine(asked))
    left = list(found.risks)
    rows = []
    for row in printed_rows("risks"):
        own = next((r for r in left if ANSWERS[row] in r[0]), None)
        if own is not None:
            left.remove(own)
        rows.append((row, (
            cell(("risks", row, "risk"), own is not None, own[0] if own else "no rule raises it"),
            Cell(value=own[1] if own else None, text=own[1] if own else "-", how=DECLARED,
                 printed=cell(("risks", row, "mitigation"), None).printed),
        )))  # fmt: skip
    for i, (risk, mitigation) in enumerate(left, 1):
        rows.append((f"also {i}", (Cell(value=risk, text=risk, how=PREDICTED),
                                   Cell(value=mitigation, text=mitigation, how=DECLARED))))  # fmt: skip
    return Filled(
        columns=("risk of", "as the rules raise it", "mitigation"),
        rows=tuple(rows),
        setting=_said(found),
        note="a risk is raised where a limit cannot be told, a figure was carried over, or the "
        "device and "
        "its use make it likely",
    )


def _machine(asked: Asked) -> str:
    return CAMERA if asked.machine == Asked().machine else asked.machine


def _said(found: Decision) -> str:
    name = machine(found.machine.id).name if found.machine is not None else ""
    if found.chosen is None:
        return f"{name}: nothing stands"
    return f"{found.chosen.member.model}, {found.chosen.precision}, on {name}"
