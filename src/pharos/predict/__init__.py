"""Predict: time, energy, memory and the binding resource of a graph on a machine.

The room shares its name with the public function: `pharos.predict(...)` works whether or not the
room has been imported.
"""

import sys
from types import ModuleType
from typing import Any


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from importlib import import_module

        return import_module("pharos.api").predict(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
