"""Studies: questions of the textbook answered by counting and predicting, one file of `studies` each."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pharos.facts.declared import import_all
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.units import parse
from pharos.report.studies import Told

# Arguments of studies that carry a unit: a text such as "40 GB" is read as SI.
Bytes = Annotated[float, "B"]
Seconds = Annotated[float, "s"]
FlopRate = Annotated[float, "FLOP/s"]
ByteRate = Annotated[float, "B/s"]
Joules = Annotated[float, "J"]
Watts = Annotated[float, "W"]
PerSecond = Annotated[float, "1/s"]
Hertz = Annotated[float, "Hz"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One question with its arguments.

    Args:
        question: in one sentence. section: of the chapter.
        run: called with the arguments by keyword; every one has a default.
        required: names of those that must be given all the same, as nothing sensible could stand there.
    """

    name: str
    question: str
    section: str
    run: Callable[..., Told]
    required: tuple[str, ...] = ()

    def arguments(self) -> dict[str, tuple[Any, Any]]:
        """(type, default) of each argument by its name."""
        hints = get_type_hints(self.run, include_extras=True)
        found = inspect.signature(self.run).parameters
        return {name: (hints[name], p.default) for name, p in found.items()}


STUDIES: dict[str, Study] = {}


def study(
    name: str, question: str, *, section: str, required: tuple[str, ...] = ()
) -> Callable[[Callable[..., Told]], Callable[..., Told]]:
    """Registers a function as a study; its arguments are keyword-only, typed, with defaults.

    An argument is an int, a float, a bool, a str, one of the aliases above, or a tuple of one of these.
    """

    def register(run: Callable[..., Told]) -> Callable[..., Told]:
        STUDIES[name] = Study(name=name, question=question, section=section, run=run, required=required)
        return run

    return register


def studies() -> dict[str, Study]:
    """Every study by its name, in the chapter's order."""
    import_all("pharos.book.studies")
    return dict(sorted(STUDIES.items(), key=lambda kv: ([int(p) for p in kv[1].section.split(".")], kv[0])))


def find_study(name: str) -> Study:
    """A study by its name; `-`, `_` and case do not matter.

    Raises:
        UnknownName: with the nearest.
    """
    known = studies()
    for one in known.values():
        if one.name.replace("-", "") == name.lower().replace("_", "").replace("-", ""):
            return one
    raise unknown("study", name, known)


def run_study(name: str, **given: Any) -> Told:
    """Answers a study; arguments may be values or texts with units.

    Raises:
        UnknownName: no such study or argument, with the nearest.
        InputError: an argument that is no value of its kind, or one that is missing.
    """
    found = find_study(name)
    kinds = found.arguments()
    values = {}
    for key, value in given.items():
        plain = key.replace("-", "_").lower()
        if plain not in kinds:
            raise unknown(f"argument of {found.name}", key, kinds)
        values[plain] = _read(plain, value, kinds[plain][0])
    missing = [r for r in found.required if r not in values]
    if missing:
        raise InputError(f"{found.name} needs {', '.join(missing)}", hint=f"write {missing[0]}=...")
    return found.run(**values)


def _read(key: str, value: Any, kind: Any) -> Any:
    """A value, or a text in the kind that an argument has."""
    where = key
    if get_origin(kind) is Annotated:
        return _with_unit(where, value, get_args(kind)[1])
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        parts = value.strip("()[] ").split(",") if isinstance(value, str) else value
        return tuple(_read(key, p.strip() if isinstance(p, str) else p, inner) for p in parts if p != "")
    if kind is str:
        return str(value)
    if kind is bool:
        words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
        if str(value).lower() not in words:
            raise InputError(f"{value!r} is neither yes nor no", where=where)
        return words[str(value).lower()]
    try:
        number = parse(value, "1")
    except PharosError as error:
        raise error.at(where) from None
    if kind is int:
        if number != int(number):
            raise InputError(f"{value!r} is not a whole number", where=where)
        return int(number)
    return float(number)


def _with_unit(where: str, value: Any, unit: str) -> float:
    try:
        return float(parse(value, unit))
    except PharosError as error:
        raise error.at(where) from None
