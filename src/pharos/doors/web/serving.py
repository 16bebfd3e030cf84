"""Serve: users that a decoder serves on devices, their KV caches, times, energy and price."""

from typing import Any

from pharos.doors.web import drawn
from pharos.doors.web.bounds import MOST_BATCH, MOST_CONTEXT, MOST_DEVICES
from pharos.doors.web.chosen import (
    Chosen,
    chosen,
    decoder_names,
    machine,
    machine_groups,
    precision,
    usual_context,
)
from pharos.doors.web.controls import BATCHES, CONTEXTS, Control, menu, number, precision_control
from pharos.doors.web.faces import figure_face
from pharos.doors.web.question import Question, Refused
from pharos.machines.machine import Machine
from pharos.plan.deployment import Deployment, find_stack, stacks
from pharos.plan.serving import Serving, serving
from pharos.plan.steps import Steps
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.evidence import Figure, merge
from pharos.quantity.units import fmt

MODEL, MACHINE = "llama-3.1-8b", "nvidia_h100_sxm5"
USERS, CONTEXT = 16, 4096


def whole(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """The form and the answer."""
    model: Chosen | None = None
    on: Machine | None = None
    try:
        model = chosen(question, uploads, MODEL)
        on = machine(question.raw("on") or MACHINE)
        answer = result(question, uploads, model, on)
    except Refused as refused:
        answer = {"mistake": refused}
    return {**form(question, model), **answer}


def form(question: Question, model: Chosen | None) -> dict[str, Any]:
    """Every field of the form."""
    longest = model.longest if model else None
    usual = usual_context(model, CONTEXT) if model else CONTEXT
    stops = [c for c in CONTEXTS if longest is None or c <= longest]
    load = [
        number("users", "Users at once", question.raw("users") or USERS, BATCHES),
        number(
            "context",
            "Context of each",
            question.raw("context") or usual,
            stops,
            hint=f"tokens in and out; the model was made for {longest:,}" if longest else "tokens in and out",
        ),
        Control(
            name="prompt",
            label="Tokens in",
            value=question.raw("prompt"),
            kind="number",
            placeholder="three quarters",
        ),
        Control(
            name="output",
            label="Tokens out",
            value=question.raw("output"),
            kind="number",
            placeholder="a quarter, at most 512",
        ),
    ]
    runs = [
        number(
            "devices", "Devices that share every layer", question.raw("devices") or 1, (1, 2, 4, 8, 16, 32)
        ),
        precision_control(question, "bf16"),
        menu(
            "kv",
            "Cache in",
            question.raw("kv"),
            (("", "the same"), ("bf16", "bf16"), ("fp8", "fp8"), ("int8", "int8"), ("int4", "int4")),
        ),
    ]
    more = [
        menu("stack", "Serving stack", question.raw("stack") or "none", [(s, s) for s in stacks()]),
        number("block", "Tokens of a page, 0 for none", question.raw("block") or 16, (0, 8, 16, 32, 64, 128)),
        number(
            "utilization",
            "Memory to use, percent",
            question.raw("utilization") or 90,
            (50, 60, 70, 80, 85, 90, 95, 100),
        ),
        Control(
            name="rent",
            label="USD an hour a device",
            value=question.raw("rent"),
            kind="number",
            placeholder="of the catalogue",
        ),
    ]
    return {
        "model_value": question.raw("model") or MODEL,
        "model": model,
        "model_names": decoder_names(),
        "machine_groups": machine_groups(),
        "on": question.raw("on") or MACHINE,
        "load": load,
        "runs": runs,
        "more": more,
        "dims": question.raw("dims"),
        "more_open": any(question.has(n) for n in ("rent",)) or question.raw("stack") not in ("", "none"),
    }


def served(question: Question, model: Chosen, on: Machine) -> Serving:
    """What the question's deployment serves.

    Raises:
        Refused: no decoder, or sizes that do not go together.
    """
    devices = question.whole("devices", 1, 1, MOST_DEVICES) or 1
    users = question.whole("users", USERS, 1, MOST_BATCH) or USERS
    context = question.whole("context", usual_context(model, CONTEXT), 2, MOST_CONTEXT)
    prompt, output = (question.whole(n, None, 1, MOST_CONTEXT) for n in ("prompt", "output"))
    block = question.whole("block", 16, 0, 65536)
    percent = question.whole("utilization", 90, 1, 100) or 90
    rent = question.quantity("rent", "USD")
    stack = question.choice("stack", stacks(), "none")
    kinds = precision(question, decodes=True)
    cache = question.choice("kv", ("", "bf16", "fp8", "int8", "int4"), "")
    if cache:
        kinds = Precision(
            weights=kinds.weights,
            activations=kinds.activations,
            accumulators=kinds.accumulators,
            kv_cache=cache,
        )
    if model.uploaded and not model.decodes:
        raise Refused(
            InputError(
                "is not a model that makes a token at a time",
                where=model.title,
                hint="upload the config.json of a decoder",
            ),
            "model",
        )
    try:
        made = _deployed(model, on, kinds, devices, percent / 100, 16 if block is None else block, stack)
        found = serving(
            made, context=context, users=users, prompt=prompt, output=output, rent_usd_per_hour=rent
        )
        return _with_steps(found)
    except PharosError as error:
        raise Refused(error, _field(str(error))) from None


def _field(told: str) -> str:
    words = {
        "context": "context",
        "tokens in": "prompt",
        "decoder": "model",
        "memory of": "on",
        "devices": "devices",
    }
    return next((f for w, f in words.items() if w in told), "model")


_DEPLOYED: dict[Any, Deployment] = {}
_STEPS: dict[tuple[int, int, int], Steps] = {}


def _with_steps(found: Serving) -> Serving:
    """The same with tables of step times that another question of this deployment and context has made."""
    if found.deployment.is_traced:
        return found
    key = (id(found.deployment), max(found.context, found.prompt + found.output), found.sequences)
    if key not in _STEPS:
        if len(_STEPS) >= 64:
            _STEPS.clear()
        _STEPS[key] = Steps(found.deployment, key[1], key[2])
    # where Serving keeps them once it has made them
    vars(found)["steps"] = _STEPS[key]
    return found


def _deployed(
    model: Chosen, on: Machine, kinds: Precision, devices: int, utilization: float, block: int, stack: str
) -> Deployment:
    """A deployment, kept with what it has worked out: a slider of users or context asks it again."""
    key = (model.key, on.id, on.calibration, kinds, devices, utilization, block, stack)
    if key not in _DEPLOYED:
        if len(_DEPLOYED) >= 32:
            # tables are kept by the identity of their deployment
            _STEPS.clear()
            _DEPLOYED.pop(next(iter(_DEPLOYED)))
        found = find_stack(stack)
        _DEPLOYED[key] = Deployment(
            model=model.model,
            machine=on,
            precision=kinds,
            devices=devices,
            utilization=utilization,
            block=block,
            stack=found,
            chunked=found.mixes,
        )
    return _DEPLOYED[key]


def result(
    question: Question, uploads: dict[str, Any], model: Chosen | None = None, on: Machine | None = None
) -> dict[str, Any]:
    """The answer.

    Raises:
        Refused: a mistake in the question.
    """
    model = model or chosen(question, uploads, MODEL)
    on = on or machine(question.raw("on") or MACHINE)
    found = served(question, model, on)
    made, room = found.deployment, found.room
    try:
        figures = [
            figure_face("First token", found.ttft),
            figure_face("Each token", found.tpot),
            _rate("Tokens a second", found.tokens_per_s),
            figure_face("A million tokens", found.energy_per_million),
            _price(found.usd_per_million),
        ]
        evidence = [str(e) for e in merge((*found.tpot.evidence, *room.evidence))[:9]]
        turn = found.turn
    except PharosError as error:
        raise Refused(error, "model") from None
    caches = float(found.users * found.request_bytes)
    parts = [
        drawn.Part("weights", float(room.weights), "p0"),
        drawn.Part("workspace", float(room.workspace), "p4"),
        drawn.Part("GPU context (assumed)", float(room.runtime), "p7"),
        drawn.Part(f"caches of {found.users:,}", caches, "p1"),
    ]
    mark = (float(found.context), float(found.max_users))
    says = ", ".join(f"{n:,} users of {drawn.tokens(c)} tokens" for c, n in found.curve)
    return {
        "asked": model,
        "found": found,
        "verdict": "holds" if found.fits else "broken",
        "headline": _headline(found),
        "detail": _detail(found),
        "figures": figures,
        "evidence": evidence,
        "memory": {
            "svg": drawn.bar([p for p in parts if p.value], room.usable, "B", "room", "Memory of a device"),
            "key": [(p.kind, p.name, fmt(p.value, "B"), "") for p in parts if p.value],
            "usable": fmt(room.usable, "B"),
            "whole": fmt(room.memory, "B"),
            "free": fmt(max(room.pool - caches, 0.0), "B"),
        },
        "kv": {
            "token": fmt(made.whole_kept.per_token, "B"),
            "request": fmt(found.kv_bytes_per_request, "B", digits=4),
            "binary": fmt(found.kv_bytes_per_request, "B", binary=True),
            "formula": made.whole_kept.formula,
            "all": fmt(found.kv_bytes_per_request * found.users, "B"),
        },
        "curves": [
            drawn.curve(
                [(float(c), float(n)) for c, n in found.curve],
                mark,
                ("context, tokens", "users that fit"),
                "Users that fit, by context",
                says,
                f,
                n,
            )
            for f, n in ((drawn.WIDE, "cap"), (drawn.NARROW, "capn"))
        ],
        "rows": [
            (drawn.tokens(c), f"{n:,}", fmt(made.whole_kept.bytes_at(c), "B"), c == found.context)
            for c, n in found.curve
        ],
        "turn": turn,
        "ceilings": [(name, p) for name, p in (("first token", found.prefill), ("each token", found.decode))],
        "paging": found.page_use if made.block else None,
        "reserving": found.but_reserving(),
        "remedies_address": question.address("/serve/remedies"),
        "fmt": fmt,
    }


def remedies_of(question: Question, uploads: dict[str, Any]) -> dict[str, Any]:
    """What each remedy would buy, the largest gain first.

    Raises:
        Refused: a mistake in the question.
    """
    from pharos.plan.remedies import remedies

    found = served(question, chosen(question, uploads, MODEL), machine(question.raw("on") or MACHINE))
    try:
        helps = remedies(found)
    except PharosError as error:
        raise Refused(error, "model") from None
    return {
        "remedies": [
            {
                "name": r.name + (" (in use)" if r.in_use else ""),
                "gain": "from none" if r.gain is None else f"{r.gain:.3g}x",
                "in": r.gain_in,
                "users": f"{r.max_users:,}",
                "ttft": fmt(r.ttft_s, "s"),
                "tpot": fmt(r.tpot_s, "s"),
                "needs": r.needs,
            }
            for r in helps
        ]
    }


def _headline(found: Serving) -> str:
    n = found.max_users
    if found.room.pool <= 0:
        return f"Weights and workspace are {fmt(-found.room.pool, 'B')} more than there is"
    many = f"{n:,} user{'s' if n != 1 else ''} of {found.context:,} tokens fit at once"
    return many if found.fits else f"{many}, not {found.users:,}"


def _detail(found: Serving) -> str:
    made = found.deployment
    where = made.machine.name if made.devices == 1 else f"{made.devices} x {made.machine.name}"
    told = f"{made.model.name} in {made.precision} on {where}"
    if found.tpot.value is None:
        return f"{told}: times cannot be told."
    binds = (
        ""
        if found.decode.binding == "unknown"
        else f"; {found.decode.binding.replace('memory-', '')} is the nearer ceiling"
    )
    return f"{told}: each of {found.users:,} users has a token every {fmt(found.tpot.value, 's')}{binds}."


def _rate(name: str, figure: Figure) -> dict[str, str]:
    made = figure_face(name, figure)
    if figure.value is not None:
        made |= {
            "value": fmt(figure.value),
            "band": f"{fmt(figure.low)} to {fmt(figure.high)}, prompts between",
        }
    return made


def _price(figure: Figure) -> dict[str, str]:
    if figure.value is None:
        return {
            "name": "Price of a million",
            "value": "unknown",
            "band": "rent is not known; give it",
            "level": "unknown",
        }
    return {"name": "Price of a million", "value": f"{float(figure.value):.3g} USD", "level": figure.level,
            "band": f"{float(figure.low or 0):.3g} to {float(figure.high or 0):.3g} USD"}  # fmt: skip
