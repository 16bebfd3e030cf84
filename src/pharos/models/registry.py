"""Registry: models as decorated functions, found by loose name, with their arguments checked."""

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from pharos.facts.declared import by_name, declared, import_all
from pharos.facts.names import folder, resolve
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.quantity.errors import InputError, PharosError, SizeError, unknown
from pharos.quantity.sizes import is_array, is_symbol

FAMILIES = ("mlp", "cnn", "cnn-1d", "rnn", "attention", "transformer", "vit", "dlrm", "ssm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A catalogued model: its builder and what is known about it from elsewhere.

    Args:
        family: one of FAMILIES.
        build: ``build(workload, **arguments) -> Graph``.
        parameters, macs: the published or hand-computed counts of the default configuration.
        source: where the architecture and those counts come from.
        lighthouse: the bottleneck this model isolates in the textbook, if it is one of the five.
        sizes: the dataclass it is built from where one describes a whole family, such as `Decoder`.
    """

    name: str
    family: str
    build: Callable[..., Graph]
    source: str
    parameters: int | None = None
    macs: int | None = None
    aliases: tuple[str, ...] = ()
    lighthouse: str = ""
    summary: str = ""
    fixed: dict[str, Any] = field(default_factory=dict)
    sizes: Any = None

    def hyperparameters(self) -> dict[str, inspect.Parameter]:
        """Hyperparameters by name."""
        found = inspect.signature(self.build).parameters
        return {n: p for n, p in found.items() if p.kind is p.KEYWORD_ONLY and n not in self.fixed}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model with its hyperparameters chosen; ask it for a graph per workload.

    Args:
        sizes: the dataclass it is built from where one describes a whole family, so that a plan may ask
            for the same model with other sizes.
    """

    name: str
    family: str
    build: Callable[[Workload], Graph]
    entry: Entry | None = None
    sizes: Any = None

    def graph(self, workload: Workload | None = None) -> Graph:
        """The graph under a workload.

        Raises:
            PharosError: a size or hyperparameter that makes no network.
        """
        return self.build(workload or Workload())


ENTRIES: dict[str, Entry] = {}


def model(
    family: str, *, source: str, parameters: int | None = None, macs: int | None = None,
    aliases: tuple[str, ...] = (), lighthouse: str = "",
) -> Callable[[Callable[..., Graph]], Callable[..., Graph]]:  # fmt: skip
    """Registers ``def name(work: Workload, *, hyperparameters) -> Graph`` under its name."""

    def register(build: Callable[..., Graph]) -> Callable[..., Graph]:
        name = build.__name__
        if name in ENTRIES or family not in FAMILIES:
            raise ValueError(f"model {name} is registered twice or of unknown family {family}")
        summary = (build.__doc__ or "").strip().split("\n")[0]
        ENTRIES[name] = Entry(
            name=name, family=family, build=build, source=source, parameters=parameters, macs=macs,
            aliases=aliases, lighthouse=lighthouse, summary=summary,
        )  # fmt: skip
        return build

    return register


# Readers of facts/models files: first key they handle -> function from the file's data to an Entry.
READERS: dict[str, Callable[[dict[str, Any]], Entry]] = {}


_ROOM = "pharos.models"
_MODEL = re.compile(r"^@model\((.*?)^def (\w+)", re.M | re.S)
_ALIASES = re.compile(r"aliases=\((.*?)\)", re.S)
_READER = re.compile(r"^READERS\[\"(\w+)\"\] = ", re.M)


def load_all() -> None:
    """Registers every model and reader."""
    import_all(_ROOM)


@cache
def _files() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name of a model -> the module that registers it, its aliases."""
    found = {}
    for module, match in declared(_ROOM, _MODEL):
        aliases = _ALIASES.search(match[1])
        found[match[2]] = module, tuple(re.findall(r"\"(.*?)\"", aliases[1])) if aliases else ()
    return found


@cache
def _reader_files() -> dict[str, str]:
    return by_name(_ROOM, _READER)


def names() -> dict[str, tuple[str, ...]]:
    """Every known model name with its aliases."""
    known = {name: aliases for name, (_, aliases) in _files().items()}
    known.update({name: entry.aliases for name, entry in ENTRIES.items()})
    known.update({name: aliases for name, (_, aliases) in folder("models").items()})
    return known


def entry(name: str) -> Entry:
    """The catalogue entry that `name` loosely matches.

    Raises:
        UnknownName: nothing or several match.
    """
    found = resolve("model", name, names())
    if found not in ENTRIES and found in _files():
        import_module(_files()[found][0])
    if found in ENTRIES:
        return ENTRIES[found]
    return _configured(found)


@cache
def _configured(name: str) -> Entry:
    """The entry that a file of facts gives."""
    from pharos.facts.reading import read_yaml

    path = folder("models")[name][0]
    data = read_yaml(path).data
    for key in data:
        if key not in READERS and key in _reader_files():
            import_module(_reader_files()[key])
        if key in READERS:
            return READERS[key](data)
    raise InputError(f"has none of the keys {', '.join(_reader_files())}", where=path.name)


def find(text: str) -> Model:
    """A model by name, with hyperparameters in parentheses: ``mobilenet_v2(width=0.75)``.

    Raises:
        UnknownName: unknown model or hyperparameter, with the nearest.
        SizeError: a hyperparameter of the wrong kind.
    """
    name, arguments = parse_name(text)
    found = entry(name)
    allowed = found.hyperparameters()
    for key, value in arguments.items():
        if key not in allowed:
            raise unknown(f"hyperparameter of {found.name}", key, allowed)
        default = allowed[key].default
        if isinstance(default, int) and isinstance(value, (tuple, list)) and "tuple" in str(allowed[key]):
            # one number for all, or one for each
            default = (default,)
        _check_kind(found.name, key, value, default)
    shown = ", ".join(f"{k}={v}" for k, v in arguments.items())
    title = f"{found.name}({shown})" if shown else found.name

    def build(work: Workload) -> Graph:
        try:
            return found.build(work, **found.fixed, **arguments)
        except PharosError as error:
            if not error.where.startswith(found.name):
                raise error.at(title) from None
            raise

    return Model(name=title, family=found.family, build=build, entry=found, sizes=found.sizes)


def parse_name(text: str) -> tuple[str, dict[str, Any]]:
    """``name(key=literal, ...)`` split in name and arguments; literals only, nothing is run.

    Raises:
        InputError: not of that form.
    """
    text = text.strip()
    if "(" not in text:
        return text, {}
    name, _, inside = text.partition("(")
    wrong = InputError(f"{text!r} is not a model", hint="write e.g. mobilenet_v2(width=0.75, resolution=192)")
    if not name.strip() or not inside.endswith(")"):
        raise wrong
    try:
        call = ast.parse(f"f({inside}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise wrong from None
    if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
        raise wrong
    arguments = {}
    for keyword in call.keywords:
        try:
            value = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            if not isinstance(keyword.value, ast.Name):
                raise wrong from None
            value = keyword.value.id
        if keyword.arg is None or keyword.arg in arguments:
            raise wrong
        arguments[keyword.arg] = value
    return name.strip(), arguments


def _check_kind(name: str, key: str, value: Any, default: Any) -> None:
    """A hyperparameter must be of the kind its default is, so that mistakes are told early."""
    if is_symbol(value) or is_array(value) or default is inspect.Parameter.empty or default is None:
        return
    where = f"{name}.{key}"
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise SizeError(f"must be True or False, not {value!r}", where=where)
    elif isinstance(default, (int, float)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SizeError(f"must be a number like {default}, not {value!r}", where=where)
        if isinstance(default, int) and not float(value).is_integer():
            raise SizeError(f"must be a whole number, not {value!r}", where=where)
        if value <= 0 or value > 1e18:
            raise SizeError(f"must lie between 0 and 1e18, not {value!r}", where=where)
    elif isinstance(default, (tuple, list)):
        good = isinstance(value, (tuple, list)) and all(
            isinstance(v, type(default[0])) and not isinstance(v, bool) for v in value
        )
        if not good or (value and isinstance(value[0], int) and min(value) <= 0):
            raise SizeError(f"must be a list like {tuple(default)}, not {value!r}", where=where)
    elif isinstance(default, str) and not isinstance(value, str):
        raise SizeError(f"must be a word like {default!r}, not {value!r}", where=where)
