"""Declared: which file of a room declares what, read from its source, so that one is imported and not all."""

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.resources import files
from pkgutil import iter_modules


@cache
def modules(package: str) -> tuple[str, ...]:
    """Full names of the modules that lie directly in a package."""
    found = iter_modules(import_module(package).__path__)
    return tuple(f"{package}.{m.name}" for m in found if not m.ispkg)


def import_all(package: str) -> None:
    """Imports every module that lies directly in a package."""
    for module in modules(package):
        import_module(module)


def declared(package: str, pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    """(module, match) of every match of a pattern in the sources of a package's modules.

    A module whose source is not there (an installation of bytecode alone) is imported instead, so that it
    declares by itself.
    """
    found = []
    folder = files(package)
    for module in modules(package):
        source = folder / f"{module.rpartition('.')[2]}.py"
        if not source.is_file():
            import_module(module)
            continue
        found += [(module, match) for match in pattern.finditer(source.read_text(encoding="utf-8"))]
    return found


def by_name(package: str, pattern: re.Pattern[str], name: Callable[[str], str] = str) -> dict[str, str]:
    """Name -> module for a pattern whose first group is the name."""
    return {name(match[1]): module for module, match in declared(package, pattern)}
