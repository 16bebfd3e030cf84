"""Contract files of a project: found by their names, and which of them a changed file concerns."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from pharos.convert.factory_names import is_factory
from pharos.quantity.errors import InputError

# Folders that hold other people's files.
SKIPPED = {".git", ".venv", "venv", "node_modules", "site-packages", "__pycache__", ".tox", "build", "dist"}
_NAMED = re.compile(r"contract[^/]*\.ya?ml$", re.IGNORECASE)
_KEYS = re.compile(r"^(model|machine|limits)\s*:", re.MULTILINE)
_FIELD = re.compile(r"^(model|machine|\s+name)\s*:\s*(\S.*?)\s*(?:#.*)?$", re.MULTILINE)
# Bytes of a file that may be a contract.
_LARGEST = 1 << 20


def is_named_so(path: str) -> bool:
    """Whether a path's last part says that it is a contract: contract.yaml, my_contract.yml."""
    return _NAMED.search(PurePosixPath(path.replace(os.sep, "/")).name) is not None


def is_contract(text: str) -> bool:
    """Whether a YAML text is a contract of Pharos, as far as its keys tell: two of model, machine, limits."""
    return len(set(_KEYS.findall(text))) >= 2


def find_contracts(folder: str | Path = ".") -> list[str]:
    """Contracts below a folder, from the current one; in a git repository those that it does not ignore.

    Raises:
        InputError: no such folder.
    """
    from pharos.convert.revisions import tracked

    if not Path(folder).is_dir():
        raise InputError("is no folder", where=str(folder))
    listed = tracked(str(folder))
    if listed is None:
        listed = _below(Path(folder))
    return [path for path in listed if is_named_so(path) and is_contract(_text(path))]


def concerned(
    contracts: Iterable[str], touched: Iterable[str], read: Callable[[str], str] | None = None
) -> list[str]:
    """The contracts that are among changed files, or name one of them as their model or machine.

    A contract whose model is code is always concerned: what its code imports cannot be told from outside.

    Args:
        touched: paths, from the current folder.
        read: text of a contract.
    """
    names = {os.path.normpath(path) for path in touched}
    found = []
    for contract in contracts:
        if os.path.normpath(contract) in names or any(
            path is None or path in names for path in named_files(contract, (read or _text)(contract))
        ):
            found.append(contract)
    return found


def named_files(contract: str, text: str) -> list[str | None]:
    """Files that a contract names, from the current folder; None for code."""
    found: list[str | None] = []
    for key, value in _FIELD.findall(text):
        value = value.strip("'\"")
        if key == "model" and value.endswith((".onnx", ".json")):
            found.append(os.path.normpath(Path(contract).parent / value))
        elif key == "model" and is_factory(value):
            found.append(None)
        elif key != "model" and value.endswith((".yaml", ".yml", ".json")):
            found.append(os.path.normpath(value))
    return found


def _text(path: str) -> str:
    try:
        file = Path(path)
        return file.read_text(encoding="utf-8-sig") if file.stat().st_size <= _LARGEST else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _below(folder: Path) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not f.startswith("."))
        found += [os.path.normpath(Path(place) / name) for name in sorted(names)]
    return found
