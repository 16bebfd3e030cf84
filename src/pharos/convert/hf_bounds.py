"""Bounds on what a config.json may ask for: absurd sizes are refused before they cost time or memory."""

import ctypes
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pharos.quantity.errors import InputError

# The deepest published networks have about a thousand layers; the widest entries of configs are vocabularies
# and feed-forward widths of about a million.
LARGEST_DEPTH = 1024
LARGEST_SIZE = 10**7
# Entries that build nothing by their size: numbers of tokens, positions, constants.
LARGEST_NUMBER = 2**40
# Modules that a model may have, and seconds of a processor that building it may take.
LARGEST_COUNT = 200_000
SECONDS = 10.0
_DEPTH = re.compile(r"(layers?|depths?|blocks?|stages?)$", re.IGNORECASE)
_NUMBER = re.compile(r"max|length|position|token|theta|seed|rate|base|eps|window|version|_id$|bytes|time",
                     re.IGNORECASE)  # fmt: skip


class TooLong(Exception):
    """Raised inside what takes longer than it may."""


def check_sizes(data: Any, path: str, key: str = "", inside: str = "") -> None:
    """Looks through the contents of a config.json for sizes that no network has.

    Raises:
        InputError: a size beyond its bound, with its place.
    """
    if isinstance(data, dict):
        for name, value in data.items():
            check_sizes(value, path, str(name), f"{inside}.{name}" if inside else str(name))
    elif isinstance(data, (list, tuple)):
        for i, value in enumerate(data):
            check_sizes(value, path, key, f"{inside}[{i}]")
    elif isinstance(data, (int, float)) and not isinstance(data, bool):
        # numbers of layers in a list are depths, but a list of layers is one of their places
        deep = _DEPTH.search(key) is not None
        bound = LARGEST_DEPTH if deep else LARGEST_NUMBER if _NUMBER.search(key) else LARGEST_SIZE
        if isinstance(data, float) and not (deep and data > bound):
            return
        if abs(data) > bound:
            raise InputError(f"{inside} is {data}, beyond what any network has", where=path,
                             hint=f"at most {bound:,}")  # fmt: skip


@contextmanager
def bounded(torch: Any, seconds: float = SECONDS, most: int = LARGEST_COUNT) -> Iterator[None]:
    """Stops the building of a model that has too many modules or takes too long.

    Raises:
        TooLong: inside, in the thread that entered.
    """
    from torch.nn.modules.module import register_module_module_registration_hook

    count = 0
    me, lock = threading.get_ident(), threading.Lock()
    state: dict[str, Any] = {"over": False}

    def counted(parent: Any, name: str, part: Any) -> None:
        nonlocal count
        count += 1
        if threading.get_ident() == me and count > most:
            raise TooLong(f"more than {most:,} modules")

    began = time.process_time()

    def stop() -> None:
        with lock:
            left = seconds - (time.process_time() - began)
            if state["over"]:
                return
            if left > 0:
                # a busy machine is not the model's fault
                watch(left)
            else:
                # CPython's way to end what loops in another thread
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(me), ctypes.py_object(TooLong))

    hook = register_module_module_registration_hook(counted)

    def watch(after: float) -> None:
        state["timer"] = timer = threading.Timer(after, stop)
        timer.daemon = True
        timer.start()

    watch(seconds)
    try:
        yield
    finally:
        with lock:
            state["over"] = True
        state["timer"].cancel()
        hook.remove()
