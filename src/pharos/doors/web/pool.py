"""Pool: worker processes with bounded time, memory and queue; a late one is killed and started anew."""

import asyncio
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pharos.doors.web.bounds import READER_BYTES, WORKER_BYTES

# Seconds that a process may take for its imports.
STARTS_S = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is asked: a page, its part, the pairs of its query, and what the server adds."""

    page: str
    part: str
    query: tuple[tuple[str, str], ...]
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker made of it: HTTP status, content type, body, further headers."""

    status: int
    kind: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class TooLate(Exception):
    """The worker was killed: the job took longer than it may, or more memory than there is."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        super().__init__("out of time" if seconds else "the worker died")


class Busy(Exception):
    """As many wait already as may."""


class Worker:
    """One process at the other end of a pipe; started when it is first asked."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.process: Any = None
        self.pipe: Any = None
        self._asked = 0
        self._is_ready = False

    def start(self) -> None:
        """Starts the process unless it runs."""
        if self.process is not None and self.process.is_alive():
            return
        spawn = multiprocessing.get_context("spawn")
        self.pipe, other = spawn.Pipe()
        self._is_ready = False
        with _quiet_environment():
            self.process = spawn.Process(target=_run, args=(other, self.memory_bytes), daemon=True)
            self.process.start()
        other.close()

    def ask(self, job: Job, seconds: float) -> Answer:
        """The answer to a job.

        Raises:
            TooLate: it took longer, or the process died of it.
        """
        self.start()
        self._asked += 1
        try:
            if not self._is_ready:
                # its imports alone
                if not self.pipe.poll(STARTS_S):
                    raise TooLate(STARTS_S)
                self.pipe.recv()
                self._is_ready = True
            self.pipe.send((self._asked, job))
            if not self.pipe.poll(seconds):
                raise TooLate(seconds)
            number, found = self.pipe.recv()
            if number != self._asked:
                # never an answer to another question
                raise TooLate
            return found
        except (EOFError, OSError):
            self.stop()
            raise TooLate from None
        except TooLate:
            self.stop()
            raise

    def stop(self) -> None:
        """Kills the process and waits for it."""
        if self.process is not None:
            self.process.kill()
            self.process.join(5)
            self.pipe.close()
        self.process = self.pipe = None


class _quiet_environment:  # noqa: N801 (used as a function)
    """One thread of arithmetic a worker, and no cache of graphs on disk that an upload could fill."""

    def __enter__(self) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        self.given = {n: "1" for n in names if n not in os.environ} | {"PHAROS_CACHE": "off"}
        self.before = {n: os.environ.get(n) for n in self.given}
        os.environ.update(self.given)

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _run(pipe: Any, memory_bytes: int) -> None:
    """A worker's life: answers jobs until the pipe closes."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_memory(memory_bytes)
    from pharos.doors.web.worker import answer, warm

    warm()
    pipe.send("ready")
    while True:
        try:
            number, job = pipe.recv()
        except (EOFError, OSError):
            return
        found, healthy = answer(job)
        pipe.send((number, found))
        if not healthy:
            return


def limit_memory(nbytes: int) -> None:
    """Bounds this process's address space where the system can, and forbids dumps of it."""
    if sys.platform == "win32":
        return
    import resource

    for what, most in ((resource.RLIMIT_AS, nbytes), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(what, (bound, hard))
        except (ValueError, OSError):
            # a system without that bound; time is bounded still
            continue


class Lane:
    """Workers for jobs of one kind.

    Args:
        workers: processes. seconds: that a job may take. queue: jobs that may wait.
    """

    def __init__(self, workers: int, seconds: float, queue: int, memory_bytes: int = WORKER_BYTES) -> None:
        self.seconds, self.queue = seconds, queue
        self.workers = [Worker(memory_bytes) for _ in range(workers)]
        self._free = list(self.workers)
        self._waiting = 0
        self._turn = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pharos-lane")

    def start(self) -> None:
        """Starts all workers; they import while nobody waits."""
        for worker in self.workers:
            worker.start()

    async def ask(self, job: Job) -> Answer:
        """The answer of the next free worker.

        Raises:
            Busy: the queue is full. TooLate: see `Worker.ask`.
        """
        if self._waiting >= self.queue:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                worker = self._free.pop()
                # the worker is free again when its thread is done, even if nobody waits any more
                running = asyncio.get_running_loop().run_in_executor(
                    self._threads, worker.ask, job, self.seconds
                )
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    await asyncio.wait([running])
                    raise
                finally:
                    self._free.append(worker)
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Kills all workers."""
        for worker in self.workers:
            worker.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)


def lanes(workers: int = 2) -> dict[str, Lane]:
    """The three lanes: quick questions, uploads (read and predicted apart), and searches."""
    return {
        "quick": Lane(workers, 10.0, 200),
        "upload": Lane(1, 20.0, 16, READER_BYTES),
        "slow": Lane(1, 60.0, 8),
    }
