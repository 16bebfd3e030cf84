"""Brief form: the fields of the guided path, and the brief that they come to."""

from io import StringIO
from typing import Any

from pydantic import ValidationError

from pharos.decide.brief import TASKS, Brief
from pharos.decide.data.facts import KINDS
from pharos.doors.web.chosen import machine
from pharos.doors.web.question import Question, Refused, label
from pharos.facts.reading import Document
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.units import parse

MOST_MACHINES, MOST_COLUMNS = 4, 100
# Kind of data -> fields of `data` beside labels and classes: name, label, example, unit.
FIELDS: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "images": (("resolution", "Pixels of a side", "224", "1"), ("channels", "Channels", "3", "1")),
    "audio": (
        ("features", "Bands, or numbers of a step", "40", "1"),
        ("length", "Steps of an example", "101", "1"),
        ("rate", "Steps a second", "100", "1/s"),
    ),
    "text": (("length", "Tokens of an example", "128", "1"), ("vocabulary", "Vocabulary", "30522", "1")),
    "sequence": (
        ("features", "Numbers of a step", "9", "1"),
        ("length", "Steps of an example", "128", "1"),
        ("rate", "Steps a second", "50", "1/s"),
    ),
    "tabular": (("features", "Columns", "30", "1"),),
    "interactions": (("features", "Numbers beside identifiers", "13", "1"),),
    "graph": (("features", "Numbers of a node", "16", "1"),),
}
LIMITS = (
    ("latency", "Latency at most", "500 ms", "s"),
    ("throughput", "Examples a second at least", "30 /s", "1/s"),
    ("memory", "Memory at most", "512 MB", "B"),
    ("storage", "Storage at most", "100 MB", "B"),
    ("accuracy", "Accuracy at least", "85%", "1"),
    ("power", "Power at most", "2 W", "W"),
    ("energy", "Energy of an example", "50 mJ", "J"),
    ("energy_per_day", "Energy a day", "2 Wh", "J"),
)
USE = (
    ("rate", "Examples a second, day and night", "0.1 /s", "1/s"),
    ("per_day", "Or examples a day", "2000", "1"),
)
ASSUMED = (("system_memory", "Memory that the system holds", "50 MB", "B"),
           ("idle_power", "Power between examples", "1.4 W", "W"))  # fmt: skip


def brief_of(question: Question) -> dict[str, Any]:
    """The brief that the path has so far, as its file has it.

    Raises:
        Refused: a figure that is none.
    """
    kind = question.choice("data.kind", KINDS, "images")
    data: dict[str, Any] = {"kind": kind}
    wanted = [("labels", "1"), *((n, unit) for n, _, _, unit in FIELDS[kind])]
    if (question.raw("task") or "classify") == "classify":
        wanted.append(("classes", "1"))
    for name, unit in wanted:
        value = question.positive(f"data.{name}", unit)
        if value is not None:
            if value > 1e12:
                raise Refused(
                    InputError("is beyond any data set", where=label(f"data.{name}")), f"data.{name}"
                )
            data[name] = _plain(value)
    if kind in ("text", "sequence", "audio"):
        near = question.choice("data.dependence", ("", "local", "far"), "")
        data |= {"dependence": near} if near else {}
        data |= {"unbounded": True} if question.flag("data.unbounded") else {}
    if kind == "interactions" and question.has("data.tables"):
        data["tables"] = _columns(question.raw("data.tables"))
    found: dict[str, Any] = {"name": question.raw("name")[:200] or "my-network",
                             "task": question.choice("task", TASKS, "classify"), "data": data}  # fmt: skip
    limits = {n: question.positive(f"limit.{n}", unit) for n, _, _, unit in LIMITS}
    use = {n: question.positive(f"use.{n}", unit) for n, _, _, unit in USE}
    assumed = {n: question.positive(f"assumed.{n}", unit) for n, _, _, unit in ASSUMED}
    more: dict[str, Any] = {
        "connectivity": question.choice("use.connectivity", ("none", "intermittent", "always"), "always"),
        "pretrained": question.flag("use.pretrained"),
    }
    for part, given in (("limits", limits), ("use", use), ("assumed", assumed)):
        known = {k: _plain(v) for k, v in given.items() if v is not None}
        if part == "use":
            known |= {k: v for k, v in more.items() if v not in ("always", False)}
        if known:
            found[part] = known
    if limits["accuracy"] is not None and not 0 < limits["accuracy"] < 1:
        raise Refused(
            InputError("must lie between 0% and 100%", where="Accuracy", hint="write 85%"), "limit.accuracy"
        )
    found["machine"] = _machine(question)
    return found


def _columns(text: str) -> list[int]:
    parts = [p.strip() for p in text.replace(";", ",").split(",") if p.strip()]
    try:
        if len(parts) > MOST_COLUMNS:
            raise InputError(f"at most {MOST_COLUMNS} are taken here, not {len(parts)}")
        found = [int(parse(p, "1")) for p in parts]
        if any(not 1 <= n <= 10**11 for n in found):
            raise InputError("each has from 1 to 1e11 values")
    except PharosError as error:
        raise Refused(error.at("Values of each identifier"), "data.tables") from None
    except (ValueError, OverflowError):
        raise Refused(
            InputError(f"{text[:60]!r} are no numbers", where="Values of each identifier"), "data.tables"
        ) from None
    return found


def _machine(question: Question) -> Any:
    """One machine, perhaps with less memory; a list; or any."""
    asked = question.many("on")
    if len(asked) > MOST_MACHINES:
        raise Refused(InputError(f"at most {MOST_MACHINES} are tried, or any", where="Machine"), "on")
    names = []
    for name in asked:
        found = machine(name)
        names.append(name if found.calibration else found.id)
    capacity = question.positive("capacity", "B")
    if not names:
        return "any"
    if len(names) > 1:
        return names
    return names[0] if capacity is None else {"name": names[0], "memory.capacity": _plain(capacity)}


def _plain(value: float) -> int | float:
    return int(value) if value == int(value) and value < 1e15 else value


def valid(given: dict[str, Any]) -> tuple[Brief, Document]:
    """The brief, checked.

    Raises:
        Refused: a field that cannot be, by its name.
    """
    try:
        return Brief.model_validate(given), Document(given, "the brief", {})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(k) for k in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        field = place.replace("limits.", "limit.")
        raise Refused(InputError(message, where=label(field)), field) from None


def yaml_of(given: dict[str, Any]) -> str:
    """A brief as YAML."""
    from ruamel.yaml import YAML

    out, yaml = StringIO(), YAML()
    yaml.width = 200
    yaml.dump(given, out)
    return out.getvalue()
