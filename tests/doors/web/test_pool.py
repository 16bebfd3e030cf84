"""Worker processes: late ones are killed, none answers another's question, memory and queue are bounded."""

import asyncio
import os

import pytest

from pharos.doors.web.pool import Answer, Busy, Job, Lane, TooLate

QUICK = Job("explore", "result", (("model", "lenet5"), ("on", "cortex-a53")))
# Hundreds of tables over many devices: seconds for a solver.
LONG = Job("shard", "result", (("model", "own"), ("tables", "190 x 1e7x128:10"), ("devices", "256")))


def test_a_late_worker_is_killed_and_replaced():
    async def run():
        lane = Lane(1, 60.0, 4)
        try:
            first = await lane.ask(QUICK)
            assert first.status == 200
            before = lane.workers[0].process
            lane.seconds = 0.3
            with pytest.raises(TooLate) as late:
                await lane.ask(LONG)
            assert late.value.seconds == 0.3
            assert not before.is_alive()
            # its answer never comes to another question
            lane.seconds = 60.0
            again = await lane.ask(QUICK)
            assert again.body == first.body
            assert lane.workers[0].process.pid != before.pid
        finally:
            lane.stop()
        assert lane.workers[0].process is None

    asyncio.run(run())


def test_started_ahead_it_answers_the_question_that_was_asked():
    async def run():
        lane = Lane(1, 60.0, 8)
        try:
            lane.start()
            names = ("lenet5", "vgg11", "squeezenet1_0")
            jobs = [Job("explore", "result", (("model", n), ("on", "t4"))) for n in names]
            found = await asyncio.gather(*map(lane.ask, jobs))
            for name, answer in zip(names, found, strict=True):
                assert isinstance(answer, Answer)
                assert f"pharos predict {name} --on".encode() in answer.body
            os.kill(lane.workers[0].process.pid, 9)
            lane.workers[0].process.join(5)
            assert (await lane.ask(jobs[0])).body == found[0].body
        finally:
            lane.stop()

    asyncio.run(run())


def test_the_queue_is_bounded():
    async def run():
        lane = Lane(1, 60.0, 2)
        try:
            waiting = [asyncio.create_task(lane.ask(QUICK)) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(Busy):
                await lane.ask(QUICK)
            assert [a.status for a in await asyncio.gather(*waiting)] == [200, 200]
            task = asyncio.create_task(lane.ask(LONG))
            await asyncio.sleep(0.2)
            task.cancel()
            lane.workers[0].process.kill()
            with pytest.raises((asyncio.CancelledError, TooLate)):
                await task
            assert (await lane.ask(QUICK)).status == 200
        finally:
            lane.stop()

    asyncio.run(run())


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="address space is bounded on Linux")
def test_memory_is_bounded_by_the_system():
    """A child takes more than it may: MemoryError, not the machine's memory."""
    import subprocess
    import sys

    code = ("from pharos.doors.web.pool import limit_memory\nlimit_memory(400 * 2**20)\n"
            "try:\n    x = bytearray(10**9)\nexcept MemoryError:\n    print('bounded')")  # fmt: skip
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "bounded"
