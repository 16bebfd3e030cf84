"""Tables: energies per operation, access and bit, and links; each row with its source."""

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.quantity.errors import unknown


@cache
def table(name: str) -> dict[str, Any]:
    """The rows of ``energy`` or ``links`` by section, as their file has them (SI units)."""
    return read_yaml(Path(str(files("pharos.facts"))) / f"{name}.yaml").data


def families() -> list[str]:
    """The families of networks that have a card."""
    return list(folder("families"))


@cache
def family_card(name: str) -> dict[str, Any]:
    """A family's four-part card (`needs`, `structure`, `mapping`, `implications`), and its `biases`: what it
    assumes about data. Numbers are never written there: they are computed from the model that is shown.

    Raises:
        UnknownName: no such family.
    """
    if name not in families():
        raise unknown("family", name, families())
    return read_yaml(folder("families")[name][0]).data


def board_energy(row: str) -> dict[str, Any]:
    """Energy per byte of memory and per operation at a board's power sensor, by the device measured.

    Raises:
        UnknownName: no such row.
    """
    rows = table("energy")["gpu_system_level"]["rows"]
    if row not in rows:
        raise unknown("row of board-level energies", row, rows)
    return rows[row]


def listed(name: str) -> list[dict[str, Any]]:
    """Every row of a table with its section, flat, for listing."""
    found: list[dict[str, Any]] = []
    _collect(table(name), [], found)
    return found


def _collect(at: Any, path: list[str], found: list[dict[str, Any]]) -> None:
    if isinstance(at, list):
        for row in at:
            if isinstance(row, dict):
                found.append({"section": ".".join(path), **row})
    elif isinstance(at, dict):
        plain = {k: v for k, v in at.items() if not isinstance(v, (dict, list))}
        if len(plain) > 1 and any(isinstance(v, (int, float)) for v in plain.values()):
            found.append({"section": ".".join(path), **plain})
        for key, value in at.items():
            if isinstance(value, (dict, list)):
                _collect(value, [*path, str(key)], found)
