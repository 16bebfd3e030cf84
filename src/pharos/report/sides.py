"""Sides: from models, contracts, results and git revisions to pairs of results that are compared."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pharos.convert.factory_names import is_factory
from pharos.convert.revisions import Revision, Tree, find_revision, is_revision, tree_of
from pharos.decide.contract_files import find_contracts, is_contract, is_named_so
from pharos.decide.diff import Diff, compare
from pharos.decide.side import Side, side_of
from pharos.facts.reading import read_text
from pharos.graph.workload import Workload
from pharos.models.registry import Model
from pharos.quantity.errors import InputError, PharosError

CONTRACTS, RESULTS, MODELS = (".yaml", ".yml"), (".json",), (".onnx",)
# The revision that means the files as they are.
AS_THEY_ARE = "."
# Seconds that code of a revision may take to be counted.
PATIENCE = 600


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What models are predicted for; contracts say it themselves."""

    machines: tuple[str, ...] = ()
    phase: str = "forward"
    batch: int = 1
    context: int | None = None
    precision: str = "fp32"
    runtime: str | None = None
    threads: int | None = None
    dims: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def workload(self) -> Workload:
        """As `Workload` takes it."""
        return Workload(phase=self.phase, batch=self.batch, context=self.context, precision=self.precision)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Thing:
    """What is compared: a model, contract, result or folder, as it is or in a revision."""

    text: str
    revision: str | None = None

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        return self.text if self.revision is None else f"{self.revision}:{self.text}"


def thing_of(text: str) -> Thing:
    """``REV:path`` with a file's suffix, ``REV:package.module:factory`` and ``REV:.`` lie in a revision; all
    else is a file, a name, or code as it is. A file that exists is itself, whatever its name."""
    text = text.strip()
    revision, colon, rest = text.partition(":")
    if colon and revision and rest and not _exists(text):
        named = rest == "." or rest.endswith((*CONTRACTS, *RESULTS, *MODELS, "/"))
        if named or is_factory(rest):
            return Thing(rest, None if revision == AS_THEY_ARE else revision)
    return Thing(text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        # too long for a name, or with a character that no name has
        return False


def things_of(a: str, b: str, thing: str | None) -> tuple[Thing, Thing]:
    """The two things that ``A B`` or ``REV REV THING`` name; two revisions alone mean all contracts.

    Raises:
        InputError: a revision that is none.
    """
    if thing is None and _are_revisions(a, b):
        thing = "."
    if thing is None:
        return thing_of(a), thing_of(b)
    made = []
    for revision in (a, b):
        if revision != AS_THEY_ARE:
            find_revision(revision)
        made.append(Thing(thing, None if revision == AS_THEY_ARE else revision))
    return made[0], made[1]


def _are_revisions(a: str, b: str) -> bool:
    if a == b == AS_THEY_ARE or any(x != AS_THEY_ARE and _exists(x) for x in (a, b)):
        return False
    return all(x == AS_THEY_ARE or is_revision(x) for x in (a, b))


def diffs_of(a: Thing, b: Thing, asked: Asked) -> list[Diff]:
    """What changed from one thing to another: a diff a machine or contract.

    A model beside a contract is held against that contract.

    Raises:
        PharosError: what is wrong with either, or that they cannot be compared.
    """
    kinds = [_kind(thing) for thing in (a, b)]
    contract = next((t for t, kind in zip((a, b), kinds, strict=True) if kind == "contract"), None)
    if "folder" in kinds and set(kinds) != {"folder"}:
        raise InputError("a folder of contracts can only be compared with one", where=f"{a.label} {b.label}")
    against = contract if "model" in kinds and contract is not None else None
    if asked.machines and (contract is not None or set(kinds) <= {"folder", "result"}):
        raise InputError("contracts and results name their own machines", where="--on")
    sides = [
        sides_of(thing, asked, against if kind == "model" else None)
        for thing, kind in zip((a, b), kinds, strict=True)
    ]
    return paired(*sides, several="folder" in kinds)


def _kind(thing: Thing) -> str:
    """folder, contract, model, or result where a file has to be looked into."""
    text = thing.text
    if is_factory(text) and not text.endswith((*CONTRACTS, *RESULTS, *MODELS)):
        return "model"
    if (
        text == "."
        or text.endswith("/")
        or (thing.revision is None and _exists(text) and Path(text).is_dir())
    ):
        return "folder"
    if text.endswith(CONTRACTS):
        return "contract"
    if text.endswith(RESULTS):
        return "result" if "schema" in _json(thing) else "model"
    if thing.revision is not None and not text.endswith(MODELS):
        hint = "a file by its suffix, or package.module:factory"
        raise InputError("is nothing that a revision holds", where=thing.label, hint=hint)
    return "model"


def _json(thing: Thing) -> dict[str, Any]:
    """A JSON file's top level; {"schema": ...} for a list of results."""
    try:
        if thing.revision is None:
            data = json.loads(read_text(thing.text))
        else:
            revision = find_revision(thing.revision)
            data = json.loads(revision.text(revision.path(thing.text)))
    except ValueError:
        raise InputError("is not JSON", where=thing.label) from None
    first = data[0] if isinstance(data, list) and data else data
    return first if isinstance(first, dict) else {"schema": None}


def sides_of(thing: Thing, asked: Asked, against: Thing | None = None) -> list[Side]:
    """The results of a thing: one, or one a machine or contract.

    Args:
        against: a contract that a model is held against.

    Raises:
        PharosError: what is wrong with it.
    """
    revision = thing.revision or (against.revision if against else None)
    if revision is None:
        rows = rows_here(thing.text, asked, against.text if against else None)
        return [side_of(row, key if _kind(thing) == "folder" else thing.label, key) for key, row in rows]
    if (
        against is not None
        and against.revision != thing.revision
        and (thing.revision or _is_local(thing.text))
    ):
        where = f"{thing.label} {against.label}"
        raise InputError("a model and the contract it is held against must lie in one revision", where=where)
    with tree_of(find_revision(revision)) as tree:
        if against is not None:
            tree.fetch(against.text)
        rows = rows_of_revision(tree, thing.text, asked, against.text if against else None)
    folder = _kind(thing) == "folder"
    return [side_of(row, f"{revision}:{key}" if folder else thing.label, key) for key, row in rows]


def _is_local(text: str) -> bool:
    """Whether a model lies in files: one that the catalogue knows is the same in every revision."""
    return is_factory(text) or text.endswith((*MODELS, *RESULTS))


def rows_here(text: str, asked: Asked, against: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Rows of a thing in the current folder, each with the key that it is matched by.

    Raises:
        PharosError: what is wrong with it.
    """
    if against is not None:
        return [("", contract_row(against, text, asked))]
    if text.endswith(CONTRACTS):
        return [(os.path.normpath(text), contract_row(text))]
    if _exists(text) and Path(text).is_dir():
        found = find_contracts(text)
        if not found:
            raise InputError("holds no contract: none is called *contract*.yaml", where=text)
        return [(path, contract_row(path)) for path in found]
    if text.endswith(RESULTS):
        data = json.loads(read_text(text))
        if not isinstance(data, dict) or "schema" in data:
            return [("", row) for row in (data if isinstance(data, list) else [data])]
    return _model_rows(text, asked)


def contract_row(path: str, model: str | None = None, asked: Asked | None = None) -> dict[str, Any]:
    """A contract's verdict with all that its model asks for; with another model in place of its own."""
    from pharos.convert.load import load
    from pharos.decide.verdict import check_file
    from pharos.report.rows import predict_row
    from pharos.report.verdicts import limits_row

    inputs = asked.inputs if asked else {}
    other: Model | None = None if model is None else load(model, asked.dims if asked else None, inputs)
    verdict = check_file(path, other)
    return limits_row(verdict) | {"estimate": predict_row(verdict.estimate)}


def _model_rows(text: str, asked: Asked) -> list[tuple[str, dict[str, Any]]]:
    from pharos.convert.load import load
    from pharos.graph.count import count
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict
    from pharos.report.rows import predict_row, show_row

    model, work = load(text, asked.dims, asked.inputs), asked.workload
    graph = model.graph(work)
    if not asked.machines:
        return [("", show_row(model.name, model.family, count(graph)))]
    found = []
    for name in asked.machines:
        machine = find_machine(name, asked.threads)
        estimate = predict(graph, machine, work, model=model.name, runtime=asked.runtime)
        found.append((machine.id, predict_row(estimate)))
    return found


def rows_of_revision(
    tree: Tree, text: str, asked: Asked, against: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Rows of a thing in a revision: its data are read here, its code runs in a process of its own.

    Raises:
        PharosError: what is wrong with it, with the revision's name.
    """
    try:
        if text == "." or text.endswith("/"):
            found = []
            for path in contracts_in(tree.revision, text):
                found += _of_contract(tree, path)
            return found
        if text.endswith(CONTRACTS):
            return _of_contract(tree, text)
        if is_factory(text) and not text.endswith((*RESULTS, *MODELS)):
            return _elsewhere(tree, text, asked, against)
        with contextlib.chdir(tree.here):
            return rows_here(tree.fetch(text) if _is_local(text) else text, asked, against)
    except PharosError as error:
        if error.where.startswith(f"{tree.revision.name}:"):
            raise
        raise error.at(f"{tree.revision.name}") from None


def contracts_in(revision: Revision, folder: str = ".") -> list[str]:
    """Contracts of a revision below a folder, by their paths from the current one."""
    top = os.path.normpath(os.path.join(revision.prefix, folder))
    inside = [path for path in revision.files if top == "." or path.startswith(f"{top}/")]
    named = [path for path in inside if is_named_so(path) and is_contract(revision.text(path))]
    return [os.path.relpath(path, revision.prefix or ".") for path in named]


def _of_contract(tree: Tree, text: str) -> list[tuple[str, dict[str, Any]]]:
    from pharos.decide.contract import read_contract
    from pharos.decide.contract_files import named_files

    path = tree.fetch(text)
    key = os.path.normpath(text)
    with contextlib.chdir(tree.here):
        contract, _ = read_contract(path)
        if is_factory(contract.model):
            return [(key, row) for _, row in _elsewhere(tree, path, Asked())]
        for name in named_files(path, read_text(path)):
            # a file that is not there is told where the contract is read
            with contextlib.suppress(InputError):
                if name is not None:
                    tree.fetch(name)
        return [(key, contract_row(path))]


def _elsewhere(
    tree: Tree, text: str, asked: Asked, against: str | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Rows of what a revision's code makes: the whole tree, in a process that sees none of today's files."""
    tree.fetch_all()
    root = tree.revision.root
    kept = [str(Path(entry).resolve()) for entry in sys.path if entry]
    kept = [
        entry
        for entry in kept
        if not Path(entry).is_relative_to(root) or Path(entry).is_relative_to(sys.prefix)
    ]
    own = [str(Path(__file__).parents[2]), *kept]
    code = [
        str(path) for path in dict.fromkeys((tree.here, tree.here / "src", tree.folder, tree.folder / "src"))
    ]
    with tempfile.TemporaryDirectory(prefix="pharos-") as folder:
        answer = Path(folder) / "answer.json"
        order = {
            "text": text,
            "asked": asdict(asked),
            "against": against,
            "answer": str(answer),
            "path": code + kept,
        }
        # Pharos itself is imported before the revision's folders are looked into
        program = (
            f"import sys; sys.path[:] = {own!r}; from pharos.report.sides import _answer; "
            "_answer(sys.stdin.read())"
        )
        env = os.environ | {"PHAROS_CACHE": "off", "PYTHONDONTWRITEBYTECODE": "1"}
        env.pop("PYTHONPATH", None)
        try:
            done = subprocess.run([sys.executable, "-P", "-c", program], input=json.dumps(order), text=True,
                                  capture_output=True, cwd=tree.here, env=env, timeout=PATIENCE)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise InputError(f"takes longer than {PATIENCE} s", where=text) from None
        try:
            told = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise InputError(f"fails: {last[:300]}", where=text) from None
    if "error" in told:
        raise InputError(told["error"]["what"], where=told["error"]["where"], hint=told["error"]["hint"])
    return [(key, row) for key, row in told["rows"]]


def _answer(order: str) -> None:
    """What the process of `_elsewhere` does: rows, or what was wrong, in a file."""
    asked = json.loads(order)
    sys.path[:] = asked["path"]
    options = asked["asked"] | {"machines": tuple(asked["asked"]["machines"])}
    try:
        told: dict[str, Any] = {"rows": rows_here(asked["text"], Asked(**options), asked["against"])}
    except PharosError as error:
        told = {"error": {"what": error.what, "where": error.where, "hint": error.hint}}
    Path(asked["answer"]).write_text(json.dumps(told), encoding="utf-8")


def paired(before: list[Side], after: list[Side], *, several: bool = False) -> list[Diff]:
    """Sides that belong together: the only ones; contracts of one file, or else of one name; other results of
    one model and machine, or else of one machine. A side without a partner was added or removed.

    Args:
        several: even one side each need not belong together.

    Raises:
        InputError: a contract beside a result without limits.
    """
    if {s.limits is None for s in before} != {s.limits is None for s in after} and before and after:
        where = f"{before[0].label} {after[0].label}"
        raise InputError("one is held against limits and the other is not", where=where,
                         hint="two contracts, two models, or two results of one command")  # fmt: skip
    if len(before) == len(after) == 1 and not several:
        return [compare(before[0], after[0])]
    pairs, old, new = [], list(before), list(after)
    for key in (_by_key, _by_name, _by_machine):
        known: dict[Any, list[Side]] = {}
        for side in old:
            known.setdefault(key(side), []).append(side)
        again = [key(side) for side in new]
        for side in list(new):
            found = known.get(key(side), [])
            if key(side) and len(found) == 1 and again.count(key(side)) == 1:
                pairs.append((found[0], side))
                old.remove(found[0])
                new.remove(side)
    made = [compare(a, b) for a, b in pairs]
    return made + [compare(a, None) for a in old] + [compare(None, b) for b in new]


def _by_key(side: Side) -> Any:
    return side.key


def _by_name(side: Side) -> Any:
    return (side.model, side.machine) if side.limits is None else (side.name,)


def _by_machine(side: Side) -> Any:
    return side.machine if side.limits is None else ""
