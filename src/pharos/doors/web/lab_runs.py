"""Lab runs: one runs at a time, a few wait, each can be stopped, the last are kept."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

# Labs that may wait, outcomes that are kept, seconds that one may take, and bytes of one of its lines.
MOST_WAITING, MOST_KEPT, SECONDS, LINE = 4, 24, 240.0, 8 * 2**20
WAITING, RUNNING, DONE, FAILED, STOPPED = "waiting", "running", "done", "failed", "stopped"


@dataclass(slots=True)
class Run:
    """One run of a lab.

    Args:
        step, steps, words: how far it is. outcome: what it found, as `lab_process` writes it.
    """

    id: str
    lab: str
    processes: int
    seed: int
    small: bool
    state: str = WAITING
    step: int = 0
    steps: int = 0
    words: str = ""
    error: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)
    begun: float = 0.0
    ended: float = 0.0
    process: Any = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (DONE, FAILED, STOPPED)

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.ended or time.monotonic()) - self.begun if self.begun else 0.0


PROCESS = (sys.executable, "-m", "pharos.doors.web.lab_process")


class Runs:
    """The runs of a server.

    Args:
        process: the command that runs a lab; its name, processes, seed, seconds and smallness follow.
    """

    def __init__(self, process: tuple[str, ...] = PROCESS, seconds: float = SECONDS) -> None:
        self.process, self.seconds = process, seconds
        self._known: OrderedDict[str, Run] = OrderedDict()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, name: str) -> Run | None:
        """A run by its id."""
        return self._known.get(name)

    def latest(self) -> list[Run]:
        """Runs, the newest first."""
        return list(reversed(self._known.values()))

    def add(self, lab: str, processes: int, seed: int, small: bool) -> Run | None:
        """A new run, which starts when it is its turn; None where too many wait."""
        if sum(r.state == WAITING for r in self._known.values()) >= MOST_WAITING:
            return None
        made = Run(secrets.token_hex(8), lab, processes, seed, small)
        self._known[made.id] = made
        over = [r.id for r in self._known.values() if r.is_over]
        for old in over[: max(0, len(self._known) - MOST_KEPT)]:
            del self._known[old]
        task = asyncio.create_task(self._do(made))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return made

    def ahead(self, run: Run) -> int:
        """Runs that come before one that waits."""
        count = 0
        for other in self._known.values():
            if other is run:
                return count
            count += not other.is_over
        return count

    def stop(self, run: Run) -> None:
        """Stops a run, and every process that it started."""
        if run.is_over:
            return
        run.state, run.ended = STOPPED, time.monotonic()
        _kill(run.process)

    async def close(self) -> None:
        """Stops everything."""
        for run in self._known.values():
            self.stop(run)
        if self._tasks:
            # each ends by itself, as its process is killed as soon as there is one
            await asyncio.wait(list(self._tasks), timeout=20)

    async def _do(self, run: Run) -> None:
        async with self._turn:
            if run.is_over:
                return
            run.state, run.begun = RUNNING, time.monotonic()
            words = [
                run.lab,
                str(run.processes),
                str(run.seed),
                str(self.seconds - 10),
                "1" if run.small else "0",
            ]
            try:
                run.process = await asyncio.create_subprocess_exec(
                    *self.process, *words, stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
                    limit=LINE,
                )  # fmt: skip
                if not run.is_over:
                    # it may have been stopped while its process was made
                    async with asyncio.timeout(self.seconds):
                        await self._read(run)
            except TimeoutError:
                self._end(run, FAILED, f"It was not done after {self.seconds:g} s and was stopped.")
            except (OSError, ValueError) as error:
                self._end(run, FAILED, f"It could not be run: {error}.")
            finally:
                _kill(run.process)
                if run.process is not None:
                    with contextlib.suppress(ProcessLookupError):
                        await run.process.wait()
            self._end(run, FAILED, "It ended without a word.")

    async def _read(self, run: Run) -> None:
        """Takes the lines of a run's process until it ends."""
        async for line in run.process.stdout:
            told = json.loads(line)
            if "progress" in told:
                run.step, run.steps, run.words = told["progress"]
            elif "error" in told:
                self._end(run, FAILED, told["error"])
            elif "outcome" in told:
                run.outcome = told["outcome"]
                self._end(run, DONE)

    def _end(self, run: Run, state: str, error: str = "") -> None:
        if not run.is_over:
            run.state, run.error, run.ended = state, error, time.monotonic()


def _kill(process: Any) -> None:
    """Kills a process with all that it started, which are in a session of its own."""
    if process is None or process.pid is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode is None:
            process.kill()
