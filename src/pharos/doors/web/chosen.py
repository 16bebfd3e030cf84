"""Chosen: model, machines and workload of a question, from the catalogue or an upload and nothing else."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from pharos.doors.web.bounds import (
    LONGEST_MODEL,
    MOST_BATCH,
    MOST_BESIDE,
    MOST_CONTEXT,
    check_hyperparameters,
)
from pharos.doors.web.question import Question, Refused
from pharos.doors.web.uploads import is_upload
from pharos.facts.names import folder
from pharos.facts.reading import read_text
from pharos.graph.graph import Graph
from pharos.graph.workload import PHASES, Workload
from pharos.machines.machine import HERE, HERE_CUDA, KINDS, Machine, find_machine
from pharos.models.registry import Model, entry, find, names, parse_name
from pharos.predict.estimate import Estimate, predict
from pharos.predict.runtimes import RUNTIMES
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError

PRECISIONS = ("fp32", "bf16", "fp16", "fp8", "int8", "int4")
KIND_NAMES = {
    "gpu": "GPUs",
    "tpu": "TPUs",
    "npu": "Accelerators",
    "cpu": "Processors",
    "mobile_soc": "Mobile chips",
    "mcu": "Microcontrollers",
}
# What a catalogue's name is made of; anything else could name a file, a hub's model or code.
_NAME = re.compile(r"[\w.+ -]{1,120}")
_DIM = re.compile(r"\s*([^=,\s][^=,]*?)\s*=\s*(\d{1,10})\s*")
# Questions whose graph is kept.
GRAPHS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """A model of the catalogue with its hyperparameters, or an upload.

    Args:
        name: of the catalogue, or the upload's id. title: what people read.
        given: hyperparameters that were set; knobs: those that can be, with their defaults.
        decodes: it makes a token at a time. longest: tokens that it was made for, where it has such a bound.
    """

    model: Model
    name: str
    title: str
    given: dict[str, Any] = field(default_factory=dict)
    knobs: dict[str, Any] = field(default_factory=dict)
    decodes: bool = False
    longest: int | None = None
    uploaded: bool = False
    dims: str = ""

    @property
    def key(self) -> str:
        """What its graphs depend on beside the workload."""
        return f"{self.model.name}|{self.name}|{self.dims}"


def chosen(question: Question, uploads: dict[str, Any], default: str, field: str = "model") -> Chosen:
    """The model that a question names.

    Args:
        uploads: id -> {path, title} of what the server holds of the models that are asked for.

    Raises:
        Refused: no such model or hyperparameter, or a size beyond the page's bounds.
    """
    text = question.raw(field, default) or default
    try:
        if is_upload(text):
            return _uploaded(text, uploads, question.raw("dims"))
        return _catalogued(text, question.prefixed("h."))
    except PharosError as error:
        raise Refused(error, field) from None


def _catalogued(text: str, knobs: dict[str, str]) -> Chosen:
    if len(text) > LONGEST_MODEL:
        raise InputError("is longer than any model's name", where="Model")
    name, given = parse_name(text)
    if not _NAME.fullmatch(name):
        raise InputError(f"{name[:60]!r} is not a name of the catalogue", where="Model",
                         hint="files are uploaded; see the button beside it")  # fmt: skip
    found = entry(name)
    allowed = found.hyperparameters()
    for key, value in knobs.items():
        # a knob that another model had is left behind with it
        if key in allowed:
            given.setdefault(key, _literal(value, allowed[key].default))
    check_hyperparameters(found.name, given)
    given = {k: v for k, v in given.items() if k not in allowed or allowed[k].default != v}
    inside = ", ".join(f"{k}={v!r}" for k, v in given.items())
    model = find(f"{found.name}({inside})" if inside else found.name)
    simple = {k: p.default for k, p in allowed.items() if isinstance(p.default, (bool, int, float, str))}
    decodes, longest = _decodes(model.name, model)
    return Chosen(model=model, name=found.name, title=model.name, given=given, knobs=simple, decodes=decodes,
                  longest=longest)  # fmt: skip


def _literal(text: str, default: Any) -> Any:
    """A knob's text as the kind of value its default is; what is none stays text, and is refused as such."""
    if isinstance(default, bool):
        return {"true": True, "1": True, "on": True, "false": False, "0": False}.get(text.lower(), text)
    if isinstance(default, str):
        return text
    try:
        value = float(text)
    except ValueError:
        return text
    return int(value) if value.is_integer() and not isinstance(default, float) else value


def _uploaded(name: str, uploads: dict[str, Any], dims: str) -> Chosen:
    held = uploads.get(name)
    if held is None:
        raise InputError("that upload is not on this server, or no more", where="Model",
                         hint="upload the file again")  # fmt: skip
    model = _read(held["path"], tuple(sorted(read_dims(dims).items())))
    decodes, longest = _decodes(f"{name}|{dims}", model)
    return Chosen(model=model, name=name, title=held["title"], uploaded=True, dims=dims, decodes=decodes,
                  longest=longest)  # fmt: skip


@lru_cache(maxsize=8)
def _read(path: str, dims: tuple[tuple[str, int], ...]) -> Model:
    from pharos.convert.load import load

    return load(path, dict(dims))


def read_dims(text: str) -> dict[str, int]:
    """``seq=128, width=64`` as a mapping.

    Raises:
        InputError: not of that form.
    """
    found: dict[str, int] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = _DIM.fullmatch(part)
        if match is None or not 0 < int(match[2]) <= 10**9:
            raise InputError(f"{part[:40]!r} is not NAME=SIZE", where="Sizes of named dimensions",
                             hint="write seq=128")  # fmt: skip
        found[match[1]] = int(match[2])
    return found


_KNOWN: dict[str, tuple[bool, int | None]] = {}


def _decodes(key: str, model: Model) -> tuple[bool, int | None]:
    """Whether it has a decode phase, as decoders and state-space models do, and its longest context."""
    if key not in _KNOWN:
        if len(_KNOWN) >= GRAPHS:
            _KNOWN.clear()
        _KNOWN[key] = _looked_at(model)
    return _KNOWN[key]


def _looked_at(model: Model) -> tuple[bool, int | None]:
    try:
        graph = model.graph(Workload(phase="decode", context=8))
    except PharosError:
        return False, None
    decodes = "context" in graph.meta and any(node.state for node, _, _ in graph.walk())
    longest = graph.meta.get("max_context")
    return decodes, longest if isinstance(longest, int) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A model under a workload on machines."""

    chosen: Chosen
    machines: tuple[Machine, ...]
    work: Workload
    runtime: str | None


def phase_of(question: Question, model: Chosen) -> str:
    """The phase that was asked for, where the model has it; else its usual one."""
    asked = question.choice("phase", PHASES, "decode" if model.decodes else "forward")
    return asked if model.decodes else "forward"


def workload(question: Question, model: Chosen) -> Workload:
    """The workload of a question.

    Raises:
        Refused: a size or a precision that is none.
    """
    phase = phase_of(question, model)
    batch = question.whole("batch", 1, 1, MOST_BATCH)
    context = question.whole("context", usual_context(model) if model.decodes else None, 1, MOST_CONTEXT)
    return Workload(
        phase=phase, batch=batch or 1, context=context, precision=precision(question, model.decodes)
    )


def usual_context(model: Chosen, usual: int = 1024) -> int:
    """Tokens where a question names none: all that the model was made for, if fewer."""
    return usual if model.longest is None else min(usual, model.longest)


def precision(question: Question, decodes: bool) -> Precision:
    """The precision of a question.

    Raises:
        Refused: an unknown one.
    """
    text = question.raw("precision") or ("bf16" if decodes else "fp32")
    try:
        return Precision.of(text[:120])
    except PharosError as error:
        raise Refused(error, "precision") from None


def machines(question: Question, default: tuple[str, ...], most: int = MOST_BESIDE) -> tuple[Machine, ...]:
    """The machines that a question names.

    Raises:
        Refused: an unknown one, or more than go beside each other.
    """
    asked = question.many("on") or list(default)
    if len(asked) > most:
        raise Refused(
            InputError(f"at most {most} go beside each other, not {len(asked)}", where="Machine"), "on"
        )
    found: dict[str, Machine] = {}
    for name in asked:
        made = machine(name)
        found[made.id if name not in (HERE, HERE_CUDA) else name] = made
    return tuple(found.values())


def machine(name: str) -> Machine:
    """A machine of the catalogue, or this one as it was calibrated.

    Raises:
        Refused: no such machine; a file is never read.
    """
    if not _NAME.fullmatch(name) or name.lower().endswith((".json", ".yaml", ".yml")):
        raise Refused(InputError(f"{name[:60]!r} is not a machine of the catalogue", where="Machine"), "on")
    try:
        return find_machine(name)
    except PharosError as error:
        raise Refused(error, "on") from None


def runtime(question: Question, machine: Machine) -> str | None:
    """The runtime that was asked for, where this kind of machine has it; None for its usual one."""
    asked = question.raw("runtime")
    if not asked:
        return None
    question.choice("runtime", RUNTIMES, "")
    return asked if machine.kind in RUNTIMES[asked].kinds else None


_GRAPHS: dict[tuple[str, Workload], Graph] = {}


def graph_of(model: Chosen, work: Workload) -> Graph:
    """The graph, kept for the next time.

    Raises:
        Refused: sizes that make no network.
    """
    key = (model.key, work)
    if key in _GRAPHS:
        return _GRAPHS[key]
    try:
        made = model.model.graph(work)
    except PharosError as error:
        raise Refused(error, _field(error)) from None
    if len(_GRAPHS) >= GRAPHS:
        _GRAPHS.pop(next(iter(_GRAPHS)))
    _GRAPHS[key] = made
    return made


def _field(error: PharosError) -> str:
    """The control that an error of the graph belongs to."""
    told = str(error)
    if "dimension" in told:
        return "dims"
    return "context" if "context" in told else "model"


def estimated(question: Question, model: Chosen, work: Workload, machine: Machine) -> Estimate:
    """The prediction on one machine.

    Raises:
        Refused: sizes that make no network, or a runtime that is none.
    """
    graph = graph_of(model, work)
    try:
        return predict(graph, machine, work, model=model.title, runtime=runtime(question, machine))
    except PharosError as error:
        raise Refused(error, "runtime" if "runtime" in str(error) else "model") from None


# Lines of a machine's file that a menu needs; parsing all files would take seconds.
_HEAD = re.compile(r"^(id|name|kind): *[\"']?(.*?)[\"']? *(?:#.*)?$", re.M)


@cache
def machine_groups() -> list[tuple[str, list[tuple[str, str]]]]:
    """Machines by kind, (id, name), for a menu; this one first where it was calibrated."""
    groups: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    for path, _ in folder("machines").values():
        head = dict(_HEAD.findall(read_text(path)))
        groups[head["kind"]].append((head["id"], head["name"]))
    listed = [(KIND_NAMES[k], sorted(v, key=lambda item: item[1].lower())) for k, v in groups.items() if v]
    here = list(_here())
    return [("This machine", here), *listed] if here else listed


def _here() -> Iterator[tuple[str, str]]:
    for name in (HERE, HERE_CUDA):
        try:
            yield name, f"{find_machine(name).name}, as calibrated"
        except PharosError:
            continue


@cache
def model_names() -> tuple[str, ...]:
    """Every name of the catalogue, for suggestions."""
    return tuple(sorted(names(), key=str.lower))


@cache
def decoder_names() -> tuple[str, ...]:
    """Names of models that make a token at a time."""
    written = {n: read_text(path) for n, (path, _) in folder("models").items()}
    return tuple(sorted((n for n, text in written.items() if _DECODER.search(text)), key=str.lower))


# Sections of the files of such models.
_DECODER = re.compile(r"^(decoder|mamba|rwkv):", re.M)
