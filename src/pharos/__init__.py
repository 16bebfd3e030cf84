"""Pharos: what a neural network will ask of a machine before anyone builds either."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pharos.api import advise as advise
    from pharos.api import check as check
    from pharos.api import choose as choose
    from pharos.api import compare as compare
    from pharos.api import data as data
    from pharos.api import load as load
    from pharos.api import plot as plot
    from pharos.api import predict as predict
    from pharos.api import serve as serve
    from pharos.api import show as show
    from pharos.api import summary as summary
    from pharos.api import sweep as sweep
    from pharos.api import train as train
    from pharos.api import why as why
    from pharos.convert.declared import rule as rule
    from pharos.convert.from_torch import trace as trace
    from pharos.convert.to_onnx import to_onnx as to_onnx
    from pharos.convert.to_torch import to_torch as to_torch
    from pharos.doors.callbacks import lightning_callback as lightning_callback
    from pharos.doors.callbacks import trainer_callback as trainer_callback
    from pharos.graph.graph import Builder as Builder
    from pharos.graph.graph import Graph as Graph
    from pharos.graph.op import Work as Work
    from pharos.graph.tensor import Tensor as Tensor
    from pharos.graph.workload import Workload as Workload
    from pharos.quantity.errors import PharosError as PharosError
    from pharos.testing import assert_contract as assert_contract

from pharos.quantity.version import __version__ as __version__

_NAMES = {
    **dict.fromkeys(
        (
            "advise",
            "check",
            "choose",
            "compare",
            "data",
            "load",
            "plot",
            "predict",
            "serve",
            "show",
            "summary",
            "sweep",
            "train",
            "why",
        ),
        "pharos.api",
    ),
    "to_onnx": "pharos.convert.to_onnx",
    "to_torch": "pharos.convert.to_torch",
    "trace": "pharos.convert.from_torch",
    "Workload": "pharos.graph.workload",
    "Work": "pharos.graph.op",
    "Tensor": "pharos.graph.tensor",
    "rule": "pharos.convert.declared",
    "Graph": "pharos.graph.graph",
    "Builder": "pharos.graph.graph",
    "PharosError": "pharos.quantity.errors",
    "assert_contract": "pharos.testing",
    "lightning_callback": "pharos.doors.callbacks",
    "trainer_callback": "pharos.doors.callbacks",
}
__all__ = [
    "Builder",
    "Graph",
    "PharosError",
    "Tensor",
    "Work",
    "Workload",
    "__version__",
    "advise",
    "assert_contract",
    "check",
    "compare",
    "lightning_callback",
    "load",
    "plot",
    "predict",
    "rule",
    "serve",
    "show",
    "summary",
    "sweep",
    "to_onnx",
    "to_torch",
    "trace",
    "train",
    "trainer_callback",
    "why",
]


def __getattr__(name: str) -> Any:
    # `pharos.predict` and `pharos.models` are rooms too; a public name wins once it was asked for
    if name not in _NAMES:
        raise AttributeError(f"module 'pharos' has no attribute {name!r}")
    value = getattr(import_module(_NAMES[name]), name)
    globals()[name] = value
    return value
