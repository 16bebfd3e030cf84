"""Pharos: what a neural network will ask of a machine before anyone builds either."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    **dict.fromkeys(("load", "show", "predict", "check", "compare"), "pharos.api"),
    "Workload": "pharos.graph.workload",
    "Graph": "pharos.graph.graph",
    "Builder": "pharos.graph.graph",
    "PharosError": "pharos.quantity.errors",
}
__all__ = ["__version__", *_NAMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    # `pharos.predict` and `pharos.models` are rooms too; a public name wins once it was asked for
    if name not in _NAMES:
        raise AttributeError(f"module 'pharos' has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value
