"""Shown: what a notebook shows of a result, and its table as a data frame."""

from importlib import import_module
from typing import Any


class Shown:
    """A result with faces. They are made by the room of reports, which knows every result and which no
    result knows: it is looked up when somebody looks."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return import_module("pharos.report.notebook").html(self)

    def to_frame(self) -> Any:
        """Its table as a data frame of pandas, or of polars where pandas is not installed; SI units.

        Operators of a graph, kernels of an estimate, limits of a verdict, candidates of a decision, rows of a
        lab.

        Raises:
            InputError: neither is installed.
        """
        return import_module("pharos.report.notebook").frame(self)
