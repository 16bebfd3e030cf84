"""Engines: where parts are computed: here, in processes, on a Dask or a Ray cluster; all are Executors."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from pharos.quantity.errors import InputError

KINDS = ("local", "dask://HOST:PORT", "ray", "ray://HOST:PORT")


class Here(Executor):
    """Computes in this process, when asked."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Computes at once."""
        found: Future[Any] = Future()
        try:
            found.set_result(fn(*args, **kwargs))
        except Exception as error:
            found.set_exception(error)
        return found


class Ray(Executor):
    """Tasks of a Ray cluster as an Executor; Ray itself runs a task again whose worker died."""

    def __init__(self, ray: Any) -> None:
        self._task = ray.remote(_call).options(num_cpus=1, max_retries=3)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Sends a task to the cluster."""
        return self._task.remote(fn, *args, **kwargs).future()


def _call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return fn(*args, **kwargs)


class Engine:
    """An executor, how many tasks it should have at a time, and how to begin again when it breaks.

    Args:
        make: a new executor.
    """

    def __init__(self, name: str, make: Callable[[], Executor], workers: Callable[[], int]) -> None:
        self.name, self._make, self._workers = name, make, workers
        self.executor = make()

    @property
    def ahead(self) -> int:
        """Tasks in flight: enough that no worker waits, few enough that results fit in memory."""
        return 1 if isinstance(self.executor, Here) else 2 * max(1, self._workers())

    def again(self) -> None:
        """A new executor in the place of a broken one."""
        self.stop()
        self.executor = self._make()

    def stop(self) -> None:
        """Ends what runs, at once."""
        executor = self.executor
        if isinstance(executor, ProcessPoolExecutor):
            for process in list((getattr(executor, "_processes", None) or {}).values()):
                process.terminate()
        executor.shutdown(wait=False, cancel_futures=True)


def _quiet() -> None:
    """A worker leaves Ctrl-C to the process that it works for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@contextmanager
def engine(name: str = "local", jobs: int | None = None) -> Iterator[Engine]:
    """An engine by name: local, dask://HOST:PORT, ray (the cluster of this machine) or ray://HOST:PORT.

    Args:
        jobs: of local, processes; all cores by default, 1 for none beside this one.

    Raises:
        InputError: no such engine, its library is not installed, or nobody answers.
    """
    if name == "local":
        count = jobs or cores()
        made = Engine("local", lambda: _pool(count), lambda: count)
        try:
            yield made
        finally:
            made.stop()
    elif name.startswith(("dask://", "tcp://")):
        yield from _dask(name)
    elif name == "ray" or name.startswith("ray://"):
        yield from _ray(name)
    else:
        raise InputError(f"unknown engine {name!r}", where="--engine", hint=f"known: {', '.join(KINDS)}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool(count: int) -> Executor:
    if count == 1:
        return Here()
    from multiprocessing import get_context

    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_quiet)


def _dask(name: str) -> Iterator[Engine]:
    try:
        from distributed import Client
    except ImportError:
        raise InputError(
            "Dask is not installed", where="--engine", hint="pip install 'pharos-nn[sweep]'"
        ) from None
    address = "tcp://" + name.partition("://")[2]
    try:
        client = Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {error}", where="--engine") from None
    try:
        # workers that come and go: Dask itself runs a lost task again
        made = Engine(name, lambda: client.get_executor(pure=False, retries=3),
                      lambda: sum(_threads(client)))  # fmt: skip
        yield made
    finally:
        client.close(timeout=5)


def _threads(client: Any) -> list[int]:
    return list(client.nthreads().values())


def _ray(name: str) -> Iterator[Engine]:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "Ray is not installed", where="--engine", hint="pip install 'pharos-nn[ray]'"
        ) from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(
                address="auto" if name == "ray" else name, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            what = str(error).splitlines()[0]
            raise InputError(f"no Ray cluster answers at {name}: {what}", where="--engine") from None
    try:
        yield Engine(name, lambda: Ray(ray), lambda: int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if ours:
            ray.shutdown()
        sys.stdout.flush()
