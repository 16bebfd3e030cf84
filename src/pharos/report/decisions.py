"""Decisions and data: what `pharos choose` and `pharos data` print, and their JSON."""

from textwrap import wrap
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.decide.choose import Decision
from pharos.decide.chosen_contract import contract_of, contract_text
from pharos.decide.data.facts import Data, structure
from pharos.decide.search import Trial
from pharos.quantity.evidence import Figure
from pharos.quantity.units import fmt
from pharos.report.estimates import band
from pharos.report.text import grid, pair


def data_row(data: Data) -> dict[str, Any]:
    """`pharos data --json`: the facts, and the levels of structure they come to."""
    from pharos.decide.biases import candidates, without_network

    levels = {n: {"level": v.value, "says": v.says, "known": v.known} for n, v in structure(data).items()}
    found = [{"family": m.family, "score": m.score, "for": list(m.reasons), "against": list(m.counters)}
             for m in candidates(data)]  # fmt: skip
    other = without_network(data)
    row: dict[str, Any] = {**data.row(), "structure": levels, "candidates": found}
    if other is not None:
        row["without_network"] = {"name": other.name, "leads": other.leads, "reason": other.reason}
    return row


SHOWN = (
    "examples",
    "labels",
    "classes",
    "features",
    "resolution",
    "channels",
    "length",
    "longest",
    "vocabulary",
    "tables",
    "zipf",
    "dependence",
    "neighbours",
    "reach",
    "order_p",
    "translation",
    "rotation",
    "skew",
)


def print_data(console: Console, data: Data) -> None:
    """`pharos data`: sizes, measured structure with how it is known, and the families that match."""
    from pharos.decide.biases import candidates, without_network

    console.print(Text(f"{data.path}  {data.kind}", style="bold"))
    seen: dict[str, list[str]] = {}
    for name in SHOWN:
        value = getattr(data, name)
        if value is None or value == ():
            continue
        pair(console, name.replace("_", " "), _value(name, value))
        seen.setdefault(data.known.get(name, "assumed"), []).append(name)
    for i, (how, names) in enumerate(seen.items()):
        pair(console, "known by" if i == 0 else "", f"{how}: {', '.join(names)}")
    for note in data.notes:
        pair(console, "note", note)
    console.print()
    rows = [[n, "-" if v.value is None else f"{v.value:.2f}", v.known, v.says]
            for n, v in structure(data).items() if v.value is None or v.value > 0.05]  # fmt: skip
    grid(
        console, [("structure", "left"), ("level", "right"), ("known", "left"), ("from", "left")], rows, (3,)
    )
    found = candidates(data)
    if found:
        console.print()
        grid(
            console,
            [("family", "left"), ("score", "right"), ("for", "left"), ("against", "left")],
            [[m.family, f"{m.score:.1f}", _first(m.reasons), _first(m.counters)] for m in found],
            (2, 3),
        )
    other = without_network(data)
    if other is not None:
        pair(console, "or", f"{other.name}: {other.reason}")


def _first(words: tuple[str, ...]) -> str:
    return words[0].rpartition("]: ")[2] if words else "-"


def _value(name: str, value: Any) -> str:
    if name == "tables":
        return f"{len(value)} columns, {sum(value):,} values" + (
            f", the largest {max(value):,}" if value else ""
        )
    if isinstance(value, float):
        return f"{value:.3g}" + (" steps" if name == "dependence" else "")
    return f"{value:,}"


def figure_row(figure: Figure) -> dict[str, Any]:
    """A figure as plain data."""
    return {"value": figure.value, "low": figure.low, "high": figure.high, "unit": figure.unit,
            "known": figure.level, "evidence": [str(e) for e in figure.evidence[:4]]}  # fmt: skip


def trial_row(trial: Trial) -> dict[str, Any]:
    """A trial as plain data."""
    member = trial.member
    return {
        "family": member.family, "line": member.line, "model": member.model,
        "parameters": {**member.knobs, "precision": trial.precision, "devices": trial.devices,
                       **({"attention": "tiled"} if member.family in ("transformer", "vit") else {})},
        "machine": trial.machine.id, "workload": {"precision": trial.precision, **member.work},
        "figures": {n: figure_row(f) for n, f in trial.figures.items()},
        "limits": [{"name": v.name, "limit": v.limit, "value": v.figure.value, "margin": v.margin,
                    "verdict": v.verdict} for v in trial.verdicts.values()],
        "notes": list(trial.notes),
    }  # fmt: skip


def decision_row(found: Decision) -> dict[str, Any]:
    """`pharos choose --json`."""
    nearest = found.margin
    row: dict[str, Any] = {
        "name": found.brief.name,
        "decision": None if found.chosen is None else trial_row(found.chosen),
        "margin": None if nearest is None else {"limit": nearest[0], "margin": nearest[1]},
        "runner_up": None if found.runner_up is None else trial_row(found.runner_up),
        "trail": [step.row() for step in found.trail],
        "rejected": [{"candidate": c, "reason": r} for c, r in found.rejected],
        "risks": [{"risk": r, "mitigation": m} for r, m in found.risks],
        "contract": None if found.chosen is None else contract_of(found.chosen, found.brief),
        "candidates": [
            {"family": m.family, "score": m.score, "for": list(m.reasons), "against": list(m.counters)}
            for m in found.matches
        ],
        "front": [
            {
                "model": t.member.model,
                "precision": t.precision,
                **{n: t.value(n) for n in ("accuracy", "latency", "memory", "energy")},
            }
            for t in found.front
        ],
        "searched": {"judged": found.searched[0], "predictions": found.searched[1]},
        "conflicts": list(found.conflicts),
        "relaxation": None
        if found.relaxation is None
        else {
            "candidate": found.relaxation.trial.label,
            "limits": {n: {"now": now, "needed": need} for n, (now, need) in found.relaxation.limits.items()},
            "says": found.relaxation.words,
        },
        "cheapest_machine": found.cheapest or None,
        "data": data_row(found.data),
    }
    if found.probe is not None:
        from pharos.report.probes import probe_row

        row["probe"] = probe_row(found.probe)
    if found.alternative is not None:
        row["without_network"] = {
            "name": found.alternative.name,
            "leads": found.alternative.leads,
            "reason": found.alternative.reason,
        }
    return row


def print_decision(console: Console, found: Decision) -> None:
    """`pharos choose`: the decision and its margins, the trail, what was rejected, risks, the contract."""
    chosen = found.chosen
    if chosen is None:
        console.print(Text(f"NOTHING STANDS  {found.brief.name}", style="bold red"))
        for i, words in enumerate(found.conflicts):
            pair(console, "conflict" if i == 0 else "", words)
        if found.relaxation is not None:
            pair(console, "nearest", found.relaxation.words)
    else:
        console.print(Text(f"{chosen.member.family.upper()}  {found.brief.name}", style="bold green"))
        pair(console, "chosen", f"{chosen.member.model}, {chosen.precision}, on {chosen.machine.id}")
        for note in chosen.notes:
            pair(console, "", note)
        if found.alternative is not None:
            pair(console, "or", f"{found.alternative.name}: {found.alternative.reason}")
        if found.cheapest:
            pair(console, "machine", f"{found.cheapest} is the cheapest on which the first choice stands")
        if found.runner_up is not None:
            r = found.runner_up
            pair(console, "runner-up", f"{r.member.model}, {r.precision} ({r.member.family})")
        _limits(console, chosen)
    console.print()
    console.print(Text("how it went", style="bold"))
    last = ""
    for i, step in enumerate(found.trail, 1):
        if step.candidate and step.candidate != last and step.step != "search":
            _say(console, f"try {step.candidate}", 2)
        last = step.candidate or last
        _say(
            console,
            f"{i:>2} {step.step}: {step.question} {step.answer}{_numbers(step.numbers)}: {step.action}",
            2,
        )
    if found.rejected:
        console.print()
        console.print(Text("not chosen", style="bold"))
        for name, reason in found.rejected:
            _say(console, f"{name}: {reason}", 2)
    if found.risks:
        console.print()
        console.print(Text("risks", style="bold"))
        for risk, mitigation in found.risks:
            _say(console, f"{risk}: {mitigation}", 2)
    if len(found.front) > 1:
        console.print()
        _front(console, found)
    if chosen is not None:
        console.print()
        console.print(Text("contract", style="bold"))
        for line in contract_text(chosen, found.brief, found.path).splitlines():
            console.print(f"  {line}", markup=False, soft_wrap=True)


def _say(console: Console, words: str, indent: int) -> None:
    """A sentence, wrapped with an indent."""
    for line in wrap(
        words,
        console.width - 1,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 3),
        break_long_words=False,
        break_on_hyphens=False,
    ):
        console.print(line, markup=False)


def _limits(console: Console, chosen: Trial) -> None:
    rows = [
        [
            v.name,
            band(v.figure),
            fmt(v.limit, v.figure.unit),
            "?" if v.margin is None else f"{v.margin:.3g}x",
            v.verdict,
        ]
        for v in chosen.verdicts.values()
    ]
    if "accuracy" not in chosen.verdicts:
        rows.append(["accuracy", band(chosen.figures["accuracy"]), "-", "-", "-"])
    grid(console, [("limit", "left"), ("value (80% band)", "left"), ("allowed", "right"), ("margin", "right"),
                   ("verdict", "left")], rows, (1,))  # fmt: skip
    known = chosen.figures["accuracy"].evidence
    for i, item in enumerate(known[:3]):
        pair(console, "accuracy" if i == 0 else "", str(item))


def _numbers(numbers: dict[str, Any]) -> str:
    """The figures of a step in a few words."""
    told = []
    for name, value in numbers.items():
        if isinstance(value, dict) and "limit" in value:
            unit = _UNITS.get(name, "")
            figure = value["value"] if value["value"] is not None else value["low"]
            shown = "unknown" if value["value"] is None and figure is None else fmt(figure, unit)
            least = "at least " if value["value"] is None and figure is not None else ""
            told.append(f"{name} {least}{shown} of {fmt(value['limit'], unit)}")
        elif name == "busy":
            told.append(f"busy {value:.1%} of the time")
        elif name in ("judged", "stand", "front", "predictions", "devices"):
            told.append(f"{value:,} {name}")
        elif isinstance(value, dict) and "score" in value:
            told.append(f"{name} {value['score']:.1f}")
    return f" ({', '.join(told[:5])})" if told else ""


_UNITS = {"latency": "s", "throughput": "1/s", "memory": "B", "storage": "B", "energy": "J", "power": "W",
          "energy_per_day": "J"}  # fmt: skip


def _front(console: Console, found: Decision) -> None:
    def cell(trial: Trial, name: str) -> str:
        value = trial.value(name)
        if value is None:
            return "?"
        return f"{value:.1%}" if name == "accuracy" else fmt(value, trial.figures[name].unit)

    axes = ("accuracy", "latency", "memory", "energy")
    shown = sorted(found.front, key=lambda t: t.value("latency") or 0.0)
    step = max(1, len(shown) // 10)
    rows = [[t.member.model, t.precision, *(cell(t, a) for a in axes)] for t in shown[::step]]
    grid(console, [("front", "left"), ("precision", "left"), *((a, "right") for a in axes)], rows, (0,))
    console.print(f"{len(rows)} of {len(shown)} that none beats in all four; {found.searched[0]:,} judged by "
                  f"{found.searched[1]:,} predictions", style="dim")  # fmt: skip
