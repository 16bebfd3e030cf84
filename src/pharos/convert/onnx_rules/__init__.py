"""ONNX rules: one small function a kind of node; importing this package registers every file of it."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
