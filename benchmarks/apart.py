"""A call in a process of its own, which has run nothing before; with a limit of time."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any


def in_a_process(call: Callable[[], Any], limit: float, *, silent: bool = False) -> Any:
    """What a call returns in a forked process; a text that begins with "fails" if it does not.

    Args:
        limit: seconds. silent: what it prints is thrown away.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def run() -> None:
        with _silence() if silent else contextlib.nullcontext():
            try:
                theirs.send(call())
            except BaseException as error:
                theirs.send(f"fails: {type(error).__name__}: {str(error)[:200]}")
        theirs.close()
        os._exit(0)

    process = context.Process(target=run)
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(limit) else f"fails: longer than {limit:g} s"
    except EOFError:
        return "fails: the process died"
    finally:
        process.kill()
        process.join()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    yield
