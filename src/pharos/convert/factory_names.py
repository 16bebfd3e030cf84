"""Factory names: which texts name code that makes a module, told without importing anything."""

import re


def is_factory(text: str) -> bool:
    """Whether a text names code: package.module:name, with a call's arguments or without."""
    return re.match(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?$", text.strip(), re.DOTALL) is not None
