"""Choose: a guided path through the flowchart: data, limits, machine, then a decision and its contract."""

from typing import Any

from pharos.decide.biases import candidates, without_network
from pharos.decide.brief import TASKS, Brief
from pharos.decide.choose import Decision, choose, data_of
from pharos.decide.chosen_contract import contract_text as text_of
from pharos.decide.data.facts import KINDS, structure
from pharos.decide.search import Trial
from pharos.doors.web import drawn
from pharos.doors.web.brief_form import (
    ASSUMED,
    FIELDS,
    LIMITS,
    MOST_MACHINES,
    USE,
    brief_of,
    valid,
    yaml_of,
)
from pharos.doors.web.chosen import machine, machine_groups
from pharos.doors.web.controls import Control, menu
from pharos.doors.web.faces import WORDS, limit_row
from pharos.doors.web.question import Question, Refused
from pharos.facts.reading import Document
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.evidence import Figure
from pharos.quantity.units import fmt
from pharos.report.decisions import _numbers
from pharos.report.energies import band

STEPS = {"data": "Data", "limits": "Limits", "machine": "Machine", "decision": "Decision"}
SAYS = {
    "images": "pictures on a grid",
    "audio": "sound",
    "text": "words",
    "sequence": "steps in time",
    "tabular": "rows and columns",
    "interactions": "users and items",
    "graph": "nodes and edges",
}
TASK_WORDS = {
    "classify": "say which class",
    "regress": "give a number",
    "forecast": "tell what comes next",
    "transcribe": "write down what is heard or seen",
    "generate": "write on",
    "rank": "order items",
}


def step_of(question: Question) -> str:
    """The step of the path that is shown."""
    return question.choice("step", STEPS, "data")


def whole(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """The form of a step; the decision comes by itself."""
    del uploads  # the path knows no files
    try:
        step = step_of(question)
    except Refused:
        step = "data"
    kind = question.raw("data.kind") or "images"
    kind = kind if kind in KINDS else "images"
    shown = _shown(step, kind)
    hidden = [(k, v) for k, v in question.pairs if v and k not in shown and k != "step"]
    found: dict[str, Any] = {
        "step": step,
        "steps": STEPS,
        "kind": kind,
        "kinds": SAYS,
        "hidden": hidden[:80],
        "name": question.raw("name"),
        "machine_groups": machine_groups(),
        "on": [_menu_name(n) for n in question.many("on")[:MOST_MACHINES]],
        "tasks": menu(
            "task",
            "What it is to do",
            question.raw("task") or "classify",
            [(t, TASK_WORDS[t]) for t in TASKS],
        ),
        "data": _data_controls(question, kind),
        "limits": _controls(question, "limit", LIMITS),
        "use": _controls(question, "use", USE),
        "assumed": _controls(question, "assumed", ASSUMED),
        "capacity": _control(question, "capacity", "Memory of that machine, where it is less", "512 MB"),
        "connectivity": menu(
            "use.connectivity",
            "Network where it runs",
            question.raw("use.connectivity") or "always",
            [(c, c) for c in ("always", "intermittent", "none")],
        ),
        "pretrained": question.flag("use.pretrained"),
        "unbounded": question.flag("data.unbounded"),
        "answer_address": question.address("/choose/result", step=step),
    }
    keys = list(STEPS)
    at = keys.index(step)
    found |= {"before": keys[at - 1] if at else "", "after": keys[at + 1] if at + 1 < len(keys) else ""}
    if step != "decision":
        try:
            found |= result(question, {})
        except Refused as refused:
            found["mistake"] = refused
    return found


def _menu_name(name: str) -> str:
    """A machine's name as the menu has it; as it was written where it is none."""
    try:
        found = machine(name)
    except Refused:
        return name
    return name if found.calibration else found.id


def _shown(step: str, kind: str) -> set[str]:
    """Names of the fields that a step's form has itself."""
    names = {
        "data": {
            "name",
            "task",
            "data.kind",
            "data.labels",
            "data.classes",
            "data.dependence",
            "data.unbounded",
            "data.tables",
            *(f"data.{n}" for n, *_ in FIELDS[kind]),
        },
        "limits": {
            *(f"limit.{n}" for n, *_ in LIMITS),
            *(f"use.{n}" for n, *_ in USE),
            "use.connectivity",
            "use.pretrained",
        },
        "machine": {"on", "capacity", *(f"assumed.{n}" for n, *_ in ASSUMED)},
    }
    return names.get(step, set())


def _control(question: Question, name: str, words: str, example: str) -> Control:
    return Control(name=name, label=words, value=question.raw(name), placeholder=example)


def _controls(
    question: Question, prefix: str, fields: tuple[tuple[str, str, str, str], ...]
) -> list[Control]:
    return [_control(question, f"{prefix}.{n}", words, example) for n, words, example, _ in fields]


def _data_controls(question: Question, kind: str) -> list[Control]:
    found = _controls(question, "data", (("labels", "Labelled examples", "20000", "1"), *FIELDS[kind]))
    if question.raw("task") in ("", "classify"):
        found.insert(1, _control(question, "data.classes", "Classes", "50"))
    if kind in ("text", "sequence", "audio"):
        found.append(
            menu(
                "data.dependence",
                "Elements depend on each other",
                question.raw("data.dependence"),
                (("", "not known"), ("local", "nearby"), ("far", "from far")),
            )
        )
    if kind == "interactions":
        found.append(
            Control(
                name="data.tables",
                label="Values of each identifier",
                value=question.raw("data.tables"),
                placeholder="1 M, 50 k, 300",
            )
        )
    return found


def result(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """What stands beside a step: the families that match the data, the brief so far, or the decision.

    Raises:
        Refused: a mistake in what was told.
    """
    del uploads
    step = step_of(question)
    given = brief_of(question)
    brief, document = valid(given)
    if step == "data":
        return {"step": step, **_families(brief, document)}
    if step != "decision":
        return {"step": step, "text": yaml_of(given), "brief_address": question.address("/choose/brief.yaml")}
    try:
        found = choose(brief, document)
    except PharosError as error:
        field = (
            "data.tables" if "identifiers" in str(error) else "on" if "machine" in str(error) else "data.kind"
        )
        raise Refused(InputError(error.what, hint=error.hint), field) from None
    return {
        "step": step,
        **_decided(found),
        "contract_address": question.address("/choose/contract.yaml"),
        "brief_address": question.address("/choose/brief.yaml"),
        "explore_address": _explore(found),
    }


def _families(brief: Brief, document: Document) -> dict[str, Any]:
    data = data_of(brief, document)
    matches = candidates(data, pretrained=brief.use.pretrained)
    other = without_network(data)
    best = max((abs(m.score) for m in matches), default=1.0) or 1.0
    return {
        "families": [
            {
                "name": m.family,
                "score": f"{m.score:+.1f}",
                "svg": drawn.share(max(m.score, 0.0) / best),
                "for": [_plainly(r) for r in m.reasons[:2]],
                "against": [_plainly(r) for r in m.counters[:1]],
            }
            for m in matches
        ],
        "alternative": None
        if other is None
        else {"name": other.name, "reason": other.reason, "leads": other.leads},
        "structure": [
            (n, lv.value, lv.says, lv.known)
            for n, lv in structure(data).items()
            if lv.value is None or lv.value > 0.05
        ],
    }


def _plainly(reason: str) -> str:
    """A reason without the key that it starts with."""
    return reason.rpartition("]: ")[2]


def _decided(found: Decision) -> dict[str, Any]:
    chosen = found.chosen
    trail = [
        {
            "step": s.step,
            "question": s.question,
            "answer": s.answer,
            "numbers": _numbers(s.numbers).strip(" ()"),
            "action": s.action,
            "candidate": s.candidate,
            "kind": "yes"
            if s.answer == "yes"
            else "no"
            if s.answer == "no"
            else "cannot"
            if "cannot" in s.answer
            else "",
        }
        for s in found.trail
    ]
    told: dict[str, Any] = {
        "chosen": chosen,
        "trail": trail,
        "rejected": found.rejected[:24],
        "risks": found.risks,
        "conflicts": found.conflicts,
        "relaxation": found.relaxation and found.relaxation.words,
        "searched": found.searched,
        "words": WORDS,
    }
    if chosen is None:
        return {
            **told,
            "verdict": "broken",
            "headline": "Nothing stands",
            "detail": "; ".join(found.conflicts[:2]),
        }
    weakest = "unknown" if chosen.unknown else "holds"
    nearest = found.margin
    detail = f"{chosen.member.family}, {chosen.precision}, on {chosen.machine.name}"
    if nearest is not None:
        detail += f"; the nearest limit is {nearest[0]}, {nearest[1]:.3g} times better"
    if found.runner_up is not None:
        detail += f"; runner-up {found.runner_up.member.model}, {found.runner_up.precision}"
    return {
        **told,
        "verdict": weakest,
        "headline": chosen.member.model,
        "detail": detail + ".",
        "limits": [
            {**limit_row(v), "value": _band(v.figure, v.name)} if v.name in LIMITED else _own_row(v)
            for v in chosen.verdicts.values()
        ],
        "accuracy": [str(e) for e in chosen.figures["accuracy"].evidence[:3]],
        "notes": chosen.notes,
        "cheapest": found.cheapest,
        "alternative": found.alternative,
        "contract": text_of(chosen, found.brief),
        "front": _front(found),
    }


LIMITED = ("latency", "throughput", "memory", "storage", "energy", "energy_per_day", "power")


def _band(figure: Figure, name: str) -> str:
    return band(figure) if name != "accuracy" else f"{float(figure.value or 0):.1%}"


def _own_row(v: Any) -> dict[str, str]:
    """Accuracy is of a brief, not of a contract."""
    value = "unknown" if v.figure.value is None else f"{float(v.figure.value):.1%}"
    return {
        "name": v.name,
        "value": value,
        "allowed": f"at least {v.limit:.1%}",
        "verdict": v.verdict,
        "word": WORDS[v.verdict],
        "margin": "?" if v.margin is None else f"{v.margin:.3g}x",
        "level": v.figure.level,
    }


def _front(found: Decision) -> list[list[str]]:
    """Choices that none beats in accuracy, latency, memory and energy at once."""
    shown = sorted(found.front, key=lambda t: t.value("latency") or 0.0)
    step = max(1, len(shown) // 10)

    def cell(t: Trial, name: str) -> str:
        value = t.value(name)
        return (
            "?"
            if value is None
            else f"{value:.1%}"
            if name == "accuracy"
            else fmt(value, t.figures[name].unit)
        )

    return [
        [t.member.model, t.precision, *(cell(t, a) for a in ("accuracy", "latency", "memory", "energy"))]
        for t in shown[::step]
    ]


def _explore(found: Decision) -> str:
    """The address that explores what was chosen."""
    if found.chosen is None:
        return ""
    from urllib.parse import urlencode

    pairs = [
        ("model", found.chosen.member.model),
        ("on", found.chosen.machine.id),
        ("precision", found.chosen.precision),
    ]
    pairs += [(k, str(v)) for k, v in found.chosen.member.work.items() if k in ("phase", "context")]
    return f"/explore?{urlencode(pairs)}"


def brief_text(question: Question) -> str:
    """The brief as a file.

    Raises:
        Refused: a mistake in what was told.
    """
    given = brief_of(question)
    valid(given)
    return "# From pharos ui. SI units. Decide with: pharos choose brief.yaml\n" + yaml_of(given)


def contract_text(question: Question, uploads: dict[str, Any]) -> str:
    """The contract of the decision as a file.

    Raises:
        Refused: a mistake in what was told, or nothing stands.
    """
    del uploads
    found = choose(*valid(brief_of(question)))
    if found.chosen is None:
        raise Refused(
            InputError("nothing stands, so there is no contract", hint="; ".join(found.conflicts[:2])),
            "limit.latency",
        )
    return text_of(found.chosen, found.brief)
