"""Operators: one file each; the registry imports the file that an operator is looked up in."""

import re

from pharos.facts.declared import by_name, import_all
from pharos.graph import op

_OPERATOR = re.compile(r"^@operator\b.*?^class (\w+)", re.M | re.S)


def load_all() -> None:
    """Registers every operator."""
    import_all(__name__)


def _files() -> dict[str, str]:
    return by_name(__name__, _OPERATOR, op.kind_of)


op.look_in(_files)
