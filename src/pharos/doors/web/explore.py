"""Explore: one model under one workload on up to three machines: verdict, figures, memory, roofline, kernels."""

import shlex
from typing import Any

from pharos.decide.contract import Contract
from pharos.decide.verdict import AT_LEAST, BROKEN, HOLDS, UNKNOWN, LimitVerdict, figures_of, judge
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
from pharos.doors.web.question import Question, Refused
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.predict.estimate import Estimate
from pharos.quantity.evidence import Figure
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt
from pharos.report.energies import band
from pharos.report.rows import parts_of_mcu

MODEL, MACHINE = "llama-3.1-8b", "nvidia_h100_sxm5"
ROWS, MOST_ROWS = 12, 400
SHORT = {"memory-bandwidth": "bandwidth", "memory-capacity": "capacity", "sequential-dependency": "sequence"}
WORDS = {HOLDS: "Holds", BROKEN: "Broken", UNKNOWN: "Can't tell"}
# Parts of memory: attribute, words, class of their colour.
MEMORY = (
    ("weights", "weights", "p0"), ("kv_cache", "KV cache", "p1"), ("activations_peak", "activations", "p2"),
    ("state", "state", "p3"), ("workspace", "workspace", "p4"), ("optimizer", "optimizer", "p5"),
    ("gradients", "gradients", "p6"), ("rounding", "rounding to blocks", "p4"), ("unused", "set aside unused", "p7"),
    ("runtime", "GPU context (assumed)", "p7"),
)  # fmt: skip


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
    on = [m.id if not m.calibration else name for m, name in zip(found, question.many("on") or [MACHINE], strict=False)]
    return {
        "model_value": question.raw("model") or MODEL, "model": model, "model_names": model_names(),
        "machine_groups": machine_groups(), "on": on or question.many("on") or [MACHINE],
        "workload": workload_controls(question, model), "knobs": knobs(question, model),
        "knobs_open": bool(model and model.given), "runtime": runtime_control(question, found),
        "limits": limit_controls(question), "dims": question.raw("dims"),
    }  # fmt: skip


def result(
    question: Question, uploads: dict[str, Any], model: Chosen | None = None, found: tuple[Machine, ...] | None = None
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
        "asked": asked, "estimates": estimates, "faces": [face(e, v) for e, v in zip(estimates, verdicts, strict=True)],
        "verdicts": verdicts, "limits_given": limits,
        "roofs": [drawn.roofline(estimates, f, n) for f, n in ((drawn.WIDE, "roof"), (drawn.NARROW, "roofn"))],
        "roof_note": _no_dots(first), "kernels": kernels(first, rows), "more": max(0, _count(first) - rows),
        "more_address": question.address("/explore", rows="all"), 
        "command": command(asked), "contract_address": question.address("/explore/contract.yaml") if limits else "",
        "json_address": question.address("/explore.json"), "notes": list(first.count.graph.meta.get("notes", ()))[:6],
    }  # fmt: skip


def check(question: Question, uploads: dict[str, Any]) -> None:
    """Reads a model as a question would, at its smallest.

    Raises:
        Refused: what is wrong with it.
    """
    model = chosen(question, uploads, MODEL)
    graph_of(model, Workload(context=8) if model.decodes else Workload())


def contract_of(asked: Asked, machine: Machine, limits: dict[str, float]) -> Contract:
    """What the question would be as a contract; `figures_of` reads its assumptions."""
    work: dict[str, Any] = {"phase": asked.work.phase, "batch": asked.work.batch, "precision": str(asked.work.precision)}
    if asked.work.context is not None:
        work["context"] = asked.work.context
    if asked.runtime:
        work["runtime"] = asked.runtime
    given: dict[str, Any] = {"name": asked.chosen.title[:200], "model": asked.chosen.title, "machine": machine.id,
                             "workload": work, "limits": limits or {"latency": 1e9}}  # fmt: skip
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
    asked = Asked(chosen=model, machines=found, work=workload(question, model), runtime=runtime(question, found[0]))
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


def verdict_of(estimate: Estimate, limits: list[LimitVerdict]) -> str:
    """The weakest of the limits' verdicts; without limits, whether it fits and can be told at all."""
    found = {v.verdict for v in limits}
    if estimate.fits is False:
        found.add(BROKEN)
    if not limits and (estimate.fits is None or estimate.latency.value is None):
        found.add(UNKNOWN)
    return next((v for v in (BROKEN, UNKNOWN, HOLDS) if v in found), HOLDS)


def face(e: Estimate, limits: list[LimitVerdict]) -> dict[str, Any]:
    """What a page shows of an estimate, in words and pictures."""
    verdict = verdict_of(e, limits)
    return {
        "machine": e.machine.name, "id": e.machine.id, "verdict": verdict, "headline": headline(e, limits, verdict),
        "detail": detail(e), "figures": figures(e), "memory": memory(e), "shares": shares(e),
        "limits": [limit_row(v) for v in limits], "evidence": [str(item) for item in e.evidence[:10]],
        "binding": short(e.binding), "runtime": e.runtime,
        "iron": [(n, fmt(v, "s")) for n, v in (("compute", e.compute_s), ("data", e.data_s), ("overhead", e.overhead_s))
                 if v is not None],
        "uncounted": list(e.count.uncounted[:8]),
        "intensity": [(b, fmt(v), short(side) if side else "") for b, (v, side) in e.roofline().items() if v is not None],
        "ridge": fmt(e.ridge_point) if e.ridge_point else "unknown",
        "parameters": f"{e.count.parameters:,}", "macs": fmt(e.count.macs, "MAC"), "flops": fmt(e.count.flops, "FLOP"),
    }  # fmt: skip


def short(name: Any) -> str:
    """A resource in one word."""
    return SHORT.get(str(name), str(name))


def headline(e: Estimate, limits: list[LimitVerdict], verdict: str) -> str:
    """The verdict in a few words."""
    if e.fits is False:
        capacity = e.machine.capacity_bytes.value
        times = f": it needs {float(e.memory.total) / capacity:.3g} times the memory there is" if capacity else ""
        return f"Does not fit{times}"
    if not limits:
        if e.latency.value is None:
            return "Time cannot be told"
        return "Fits" if e.fits else "Whether it fits cannot be told"
    broken = [v.name for v in limits if v.verdict == BROKEN]
    unknown = [v.name for v in limits if v.verdict == UNKNOWN]
    if broken:
        return f"Breaks its limit on {' and '.join(broken)}"
    if unknown:
        return f"Measure {' and '.join(unknown)}: the limit lies inside the band"
    return "Holds every limit" if len(limits) > 1 else f"Holds its limit on {limits[0].name}"


def detail(e: Estimate) -> str:
    """The sentence behind the verdict: the time, its band, what binds."""
    what = {"decode": "a step", "prefill": "a prompt"}.get(e.workload.phase, "a pass")
    if e.latency.value is None:
        why = e.latency.evidence[0].where if e.latency.evidence else "a figure is missing"
        return f"{e.model} on {e.machine.name}: {why}."
    time = fmt(e.latency.value, "s")
    shown = f"{time} {what} ({fmt(e.latency.low, 's')} to {fmt(e.latency.high, 's')}, 80% band)"
    return f"{e.model} on {e.machine.name}: {shown}; {short(e.binding)} binds."


def figures(e: Estimate) -> list[dict[str, str]]:
    """Time, rate, memory, energy and power, each with its band and how it is known."""
    what = "tokens" if "tokens" in e.count.graph.meta else "samples"
    total, capacity = e.memory.total, e.machine.capacity_bytes.value
    rate = e.throughput_per_s
    return [
        _figure("Latency", e.latency),
        {"name": "Throughput", "value": f"{fmt(rate)}/s" if rate is not None else "unknown", "band": what,
         "level": e.latency.level},
        {"name": "Memory", "value": fmt(total, "B"), "level": "counted" if not e.memory.runtime else "assumed",
         "band": f"{fmt(total, 'B', binary=True)}; of {fmt(capacity, 'B')}" if capacity else "capacity unknown"},
        _figure("Energy", e.energy), _figure("Power", e.power_W),
    ]  # fmt: skip


def _figure(name: str, figure: Figure) -> dict[str, str]:
    if figure.value is None:
        return {"name": name, "value": "unknown", "band": band(figure).removeprefix("unknown, "), "level": "unknown"}
    return {"name": name, "value": fmt(figure.value, figure.unit), "level": figure.level,
            "band": f"{fmt(figure.low, figure.unit)} to {fmt(figure.high, figure.unit)}"}  # fmt: skip


def memory(e: Estimate) -> dict[str, Any]:
    """The memory bar and its parts; of a microcontroller, flash and SRAM apart."""
    if e.machine.kind == "mcu":
        bars = []
        for label, part in zip(("flash", "SRAM"), parts_of_mcu(e).values(), strict=True):
            one = drawn.Part(part["holds"], float(part["value"]), "p0" if label == "flash" else "p2")
            bars.append({"title": label, "svg": drawn.bar([one], part["limit"], "B", f"mem-{label}-{e.machine.id}", label),
                         "total": fmt(part["value"], "B"), "limit": fmt(part["limit"], "B"), "over": part["fits"] is False,
                         "parts": [(one.kind, one.name, fmt(one.value, "B"), "")]})  # fmt: skip
        return {"bars": bars}
    parts = [drawn.Part(words, float(value), kind) for key, words, kind in MEMORY
             if not (is_int(value := getattr(e.memory, key)) and value == 0)]  # fmt: skip
    total, limit = float(e.memory.total), e.machine.capacity_bytes.value
    listed = [(p.kind, p.name, fmt(p.value, "B"), f"{p.value / total:.0%}" if total else "") for p in parts]
    return {"bars": [{
        "title": "Memory", "svg": drawn.bar(parts, limit, "B", f"mem-{e.machine.id}", "Memory"),
        "total": f"{fmt(total, 'B')} ({fmt(total, 'B', binary=True)})",
        "limit": f"{fmt(limit, 'B')} ({fmt(limit, 'B', binary=True)})" if limit else "unknown",
        "over": e.fits is False, "parts": listed,
    }]}  # fmt: skip


def shares(e: Estimate) -> dict[str, Any] | None:
    """Where the time goes, by resource."""
    if e.latency.value is None:
        return None
    known = sorted(((n, float(v)) for n, v in e.shares.items() if float(v) > 0), key=lambda item: -item[1])
    whole = sum(v for _, v in known) or 1.0
    parts = [drawn.Part(short(n), v, f"b-{n}") for n, v in known]
    return {"svg": drawn.bar(parts, None, "s", f"time-{e.machine.id}", "Where the time goes"),
            "parts": [(p.kind, p.name, fmt(p.value, "s"), f"{p.value / whole:.0%}") for p in parts]}  # fmt: skip


def limit_row(v: LimitVerdict) -> dict[str, str]:
    """A limit as a row."""
    allowed = fmt(v.limit, v.unit)
    return {"name": v.name, "value": band(v.figure), "allowed": f"at least {allowed}" if v.name in AT_LEAST else allowed,
            "margin": "?" if v.margin is None else f"{v.margin:.3g}x", "verdict": v.verdict, "word": WORDS[v.verdict],
            "level": v.figure.level}  # fmt: skip


def _count(e: Estimate) -> int:
    return sum(op.time is not None for op in e.operations)


def _no_dots(e: Estimate) -> str:
    """How much of the time kernels take that have no operations, and so no dot."""
    if e.latency.value is None:
        return ""
    shown = sum(d.share for d in drawn.dots_of(e))
    rest = _count(e) - len(drawn.dots_of(e))
    if not rest:
        return ""
    return f"{rest} kernels only move data ({max(1 - shown, 0):.0%} of the time, with what is between kernels)."


def kernels(e: Estimate, rows: int) -> list[dict[str, str]]:
    """The slowest kernels."""
    ordered = sorted((op for op in e.operations if op.time is not None), key=lambda op: -float(op.total_s or 0))
    whole, found = float(e.latency.value or 0.0), []
    joules = {id(op): j for op, j in zip(e.operations, e.energies, strict=False) if j}
    for op in ordered[:rows]:
        time, n = op.time, op.kernel.times
        assert time is not None
        seconds, moved, flops = float(op.total_s or 0.0), float(time.traffic_bytes), float(op.kernel.work.flops)
        parts = {"compute": time.compute_s, "memory-bandwidth": time.data_s, "overhead": time.overhead_s,
                 "sequential-dependency": time.serial_s}  # fmt: skip
        binding = max(parts, key=lambda k: float(parts[k]))
        found.append({
            "name": op.kernel.name, "kind": op.kernel.lead.kind, "fused": str(len(op.kernel.lines) - 1),
            "runs": f"{n:,}" if isinstance(n, int) else fmt(n), "time": fmt(seconds, "s"),
            "share": f"{seconds / whole:.1%}" if whole else "-", "width": f"{100 * seconds / whole:.1f}" if whole else "0",
            "flops": fmt(flops * float(n)).replace(" ", "") if flops else "-", "bytes": fmt(moved * float(n), "B"),
            "intensity": fmt(flops / moved) if flops and moved else "-",
            "energy": fmt(joules[id(op)].total_J, "J") if id(op) in joules else "-",
            "binding": short(binding), "kindclass": f"b-{binding}", "level": time.evidence[0].kind.value,
        })  # fmt: skip
    return found


def command(asked: Asked) -> str:
    """The same question on the command line."""
    work, words = asked.work, ["pharos", "predict"]
    words += [asked.chosen.title if not asked.chosen.uploaded else asked.chosen.title]
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
