"""Labs that are watched: one at a time, a bounded queue, stopped with all that they started, late ones too."""

import asyncio
import os
import sys
import time

import pytest

from pharos.doors.web.lab_runs import DONE, FAILED, MOST_KEPT, MOST_WAITING, RUNNING, STOPPED, WAITING, Runs

DOES = "import json, sys; print(json.dumps({'progress': [1, 2, 'half']}), flush=True); "
DOES += "print(json.dumps({'outcome': {'name': sys.argv[1], 'seed': sys.argv[3]}}), flush=True)"
CHILD = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
CHILD += "import json; print(json.dumps({'progress': [0, 1, str(p.pid)]}), flush=True); time.sleep(60)"


def command(code):
    return (sys.executable, "-c", code)


async def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def test_a_run_tells_how_far_it_is_and_what_it_found():
    async def run():
        runs = Runs(command(DOES))
        made = runs.add("one", 2, 7, False)
        assert made.state == WAITING
        await until(lambda: made.is_over)
        assert made.state == DONE
        assert (made.step, made.steps, made.words) == (1, 2, "half")
        assert made.outcome == {"name": "one", "seed": "7"}
        assert runs.find(made.id) is made
        assert runs.find("other") is None
        await runs.close()

    asyncio.run(run())


def test_one_runs_at_a_time_and_few_wait():
    async def run():
        runs = Runs(command("import time; time.sleep(60)"))
        made = [runs.add("x", 1, i, False) for i in range(1 + MOST_WAITING)]
        assert all(made[:MOST_WAITING])
        await until(lambda: made[0].state == RUNNING)
        more = [runs.add("x", 1, 9, False) for _ in range(MOST_WAITING + 1)]
        assert more[-1] is None
        assert sum(r.state == RUNNING for r in runs.latest()) == 1
        assert runs.ahead(made[2]) == 2
        runs.stop(made[0])
        await until(lambda: made[1].state == RUNNING)
        assert made[0].state == STOPPED
        runs.stop(made[2])
        assert made[2].state == STOPPED
        await runs.close()
        assert all(r.is_over for r in runs.latest())

    asyncio.run(run())


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="groups of processes are POSIX's")
def test_stopping_ends_what_it_started():
    async def run():
        runs = Runs(command(CHILD))
        made = runs.add("x", 1, 0, False)
        await until(lambda: made.words)
        child = int(made.words)
        os.kill(child, 0)
        runs.stop(made)

        def is_gone():
            try:
                with open(f"/proc/{child}/stat") as held:
                    return held.read().split(")")[1].split()[0] == "Z"
            except OSError:
                return True

        await until(is_gone)
        await runs.close()

    asyncio.run(run())


@pytest.mark.parametrize(("code", "says"), [
    ("import sys; sys.exit(3)", "without a word"),
    ("print('no json')", "could not be run"),
    ("import json; print(json.dumps({'error': 'needs PyTorch'}))", "needs PyTorch"),
    ("import time; time.sleep(60)", "was not done after"),
])  # fmt: skip
def test_what_fails_is_told(code, says):
    async def run():
        runs = Runs(command(code), seconds=3.0 if "sleep" in code else 60.0)
        made = runs.add("x", 1, 0, False)
        await until(lambda: made.is_over)
        assert made.state == FAILED
        assert says in made.error
        await runs.close()

    asyncio.run(run())


def test_the_last_runs_are_kept():
    async def run():
        runs = Runs(command("pass"))
        for i in range(MOST_KEPT + 3):
            made = runs.add("x", 1, i, False)
            runs.stop(made)
        assert len(runs.latest()) <= MOST_KEPT + 1
        await runs.close()

    asyncio.run(run())


def test_a_lab_of_the_textbook_comes_through_its_process():
    pytest.importorskip("torch")

    async def run():
        runs = Runs()
        made = runs.add("tensor-parallel", 2, 0, True)
        await until(lambda: made.is_over, 120)
        assert made.error == ""
        assert made.outcome["holds"] is True
        assert made.outcome["columns"] == ["pass", "process", "planned_bytes", "counted_bytes"]
        assert len(made.outcome["rows"]) == 4
        await runs.close()

    asyncio.run(run())
