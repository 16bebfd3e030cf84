"""Explore: one model under one workload on up to three machines: verdict, figures, roofline, kernels."""

import shlex
from typing import Any

from pharos.decide.contract import Contract
from pharos.decide.verdict import LimitVerdict, figures_of, judge
from pharos.doors.web import drawn
from pharos.doors.web.chosen import (
    Asked,
    Chosen,
    chosen,
    estimated,
    graph_of,
    machine_groups,
    machines,
    model_names,
    runtime,
    workload,
)
from pharos.doors.web.controls import (
    knobs,
    limit_controls,
    limits_of,
    runtime_control,
    workload_controls,
)
from pharos.doors.web.faces import face, kernel_count, kernels, roof_note
from pharos.doors.web.question import Question, Refused
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.predict.estimate import Estimate

MODEL, MACHINE = "llama-3.1-8b", "nvidia_h100_sxm5"
ROWS, MOST_ROWS = 12, 400


def whole(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """The form and the answer; a mistake leaves the form as it was written."""
    model: Chosen | None = None
    found: tuple[Machine, ...] = ()
    answer: dict[str, Any] = {}
    try:
        model = chosen(question, uploads, MODEL)
        found = machines(question, (MACHINE,))
        answer = result(question, uploads, model, found)
    except Refused as refused:
        answer = {"mistake": refused}
    return {**form(question, model, found), **answer}


def form(question: Question, model: Chosen | None, found: tuple[Machine, ...]) -> dict[str, Any]:
    """Every field of the form."""
    on = [
        m.id if not m.calibration else name
        for m, name in zip(found, question.many("on") or [MACHINE], strict=False)
    ]
    return {
        "model_value": question.raw("model") or MODEL, "model": model, "model_names": model_names(),
        "machine_groups": machine_groups(), "on": on or question.many("on") or [MACHINE],
        "workload": workload_controls(question, model), "knobs": knobs(question, model),
        "knobs_open": bool(model and model.given), "runtime": runtime_control(question, found),
        "limits": limit_controls(question), "dims": question.raw("dims"),
    }  # fmt: skip


def result(
    question: Question,
    uploads: dict[str, Any],
    model: Chosen | None = None,
    found: tuple[Machine, ...] | None = None,
) -> dict[str, Any]:
    """The answer.

    Raises:
        Refused: a mistake in the question.
    """
    model = model or chosen(question, uploads, MODEL)
    found = found or machines(question, (MACHINE,))
    work = workload(question, model)
    asked = Asked(chosen=model, machines=found, work=work, runtime=runtime(question, found[0]))
    limits = limits_of(question)
    estimates = [estimated(question, model, work, m) for m in found]
    contract = contract_of(asked, found[0], limits)
    first = estimates[0]
    verdicts = [judged(e, contract, limits) for e in estimates]
    rows = MOST_ROWS if question.raw("rows") == "all" else ROWS
    return {
        "asked": asked,
        "estimates": estimates,
        "faces": [face(e, v) for e, v in zip(estimates, verdicts, strict=True)],
        "verdicts": verdicts,
        "limits_given": limits,
        "roofs": [
            drawn.roofline(estimates, f, n) for f, n in ((drawn.WIDE, "roof"), (drawn.NARROW, "roofn"))
        ],
        "roof_note": roof_note(estimates),
        "kernels": kernels(first, rows),
        "more": max(0, kernel_count(first) - rows),
        "more_address": question.address("/explore", rows="all"),
        "command": command(asked),
        "contract_address": question.address("/explore/contract.yaml") if limits else "",
        "json_address": question.address("/explore.json"),
        "notes": list(first.count.graph.meta.get("notes", ()))[:6],
    }


def check(question: Question, uploads: dict[str, Any]) -> None:
    """Reads a model as a question would, at its smallest.

    Raises:
        Refused: what is wrong with it.
    """
    model = chosen(question, uploads, MODEL)
    graph_of(model, Workload(context=8) if model.decodes else Workload())


def contract_of(asked: Asked, machine: Machine, limits: dict[str, float]) -> Contract:
    """What the question would be as a contract; `figures_of` reads its assumptions."""
    work: dict[str, Any] = {
        "phase": asked.work.phase,
        "batch": asked.work.batch,
        "precision": str(asked.work.precision),
    }
    if asked.work.context is not None:
        work["context"] = asked.work.context
    if asked.runtime:
        work["runtime"] = asked.runtime
    given: dict[str, Any] = {
        "name": asked.chosen.title[:200],
        "model": asked.chosen.title,
        "machine": machine.id,
        "workload": work,
        "limits": limits or {"latency": 1e9},
    }
    if asked.chosen.dims:
        from pharos.doors.web.chosen import read_dims

        given["dims"] = read_dims(asked.chosen.dims)
    return Contract.model_validate(given)


def contract_text(question: Question, uploads: dict[str, Any]) -> str:
    """The question as a contract file.

    Raises:
        Refused: a mistake in the question, or no limits.
    """
    from io import StringIO

    from ruamel.yaml import YAML

    from pharos.quantity.errors import InputError

    model = chosen(question, uploads, MODEL)
    found = machines(question, (MACHINE,))
    limits = limits_of(question)
    if not limits:
        raise Refused(InputError("a contract needs a limit", hint="write one, such as a latency of 10 ms"),
                      "limit.latency")  # fmt: skip
    asked = Asked(
        chosen=model, machines=found, work=workload(question, model), runtime=runtime(question, found[0])
    )
    made = contract_of(asked, found[0], limits)
    out = StringIO()
    out.write("# From pharos ui. SI units. Check it with: pharos check contract.yaml\n")
    yaml = YAML()
    yaml.width = 200
    yaml.dump(made.model_dump(exclude_none=True, exclude_defaults=True), out)
    return out.getvalue()


def judged(estimate: Estimate, contract: Contract, limits: dict[str, float]) -> list[LimitVerdict]:
    """Each limit held against the figures."""
    figures = figures_of(estimate, contract)
    return [judge(name, limit, figures[name]) for name, limit in limits.items()]


def command(asked: Asked) -> str:
    """The same question on the command line."""
    work, words = asked.work, ["pharos", "predict"]
    words.append(asked.chosen.title)
    words += ["--on", asked.machines[0].id if not asked.machines[0].calibration else "here"]
    if work.phase != "forward":
        words.append(f"--{work.phase}")
    if work.batch != 1:
        words += ["--batch", str(work.batch)]
    if work.context is not None:
        words += ["--context", str(work.context)]
    words += ["-p", str(work.precision)]
    if asked.runtime:
        words += ["--runtime", asked.runtime]
    for part in filter(None, asked.chosen.dims.split(",")):
        words += ["--dim", part.strip()]
    return shlex.join(words)


def rows(question: Question, uploads: dict[str, Any]) -> Any:
    """The question as `pharos predict --json` answers it, one row a machine.

    Raises:
        Refused: a mistake in the question.
    """
    from pharos.report.rows import predict_row

    model = chosen(question, uploads, MODEL)
    found = machines(question, (MACHINE,))
    made = [predict_row(estimated(question, model, workload(question, model), m)) for m in found]
    return made[0] if len(made) == 1 else made
