"""What tests of the page share: a client without processes, a real server, and a browser where there is one."""

import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

for needed in ("fastapi", "uvicorn", "jinja2", "multipart", "httpx"):
    pytest.importorskip(needed)

from doors.web.browsing import THREAD  # noqa: E402

from pharos.doors.web import worker  # noqa: E402
from pharos.doors.web.app import create_app  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip


class Here:
    """A lane that answers in this process."""

    def __init__(self):
        self.jobs = []

    async def ask(self, job):
        self.jobs.append(job)
        return worker.answer(job)[0]

    def start(self):
        pass

    stop = start


def words(html):
    """The text of a page, spaces made one."""
    text = re.sub(
        r"<(script|style)\b.*?</\1>", " ", html if isinstance(html, str) else html.decode(), flags=re.S
    )
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).strip()


@pytest.fixture(scope="session")
def lane():
    return Here()


@pytest.fixture(scope="session")
def client(lane):
    from starlette.testclient import TestClient

    app = create_app(
        hosts=frozenset({"testserver"}), made_lanes=dict.fromkeys(("quick", "upload", "slow"), lane)
    )
    with TestClient(app, follow_redirects=False) as made:
        yield made


@pytest.fixture(scope="session")
def server():
    """The address of a real server with one worker."""
    import uvicorn

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = create_app(hosts=frozenset({"127.0.0.1"}), workers=1)
    made = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on", ws="none"))
    thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not made.started:
        time.sleep(0.02)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    made.should_exit = True
    thread.join(20)
    listening.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if "browser" not in pyfuncitem.fixturenames:
        return None
    asked = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    THREAD.submit(pyfuncitem.obj, **asked).result()
    return True


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    place = os.environ.get("PHAROS_CHROMIUM", CHROMIUM)
    if not Path(place).exists():
        pytest.skip(f"no Chromium at {place}; PHAROS_CHROMIUM names another place")

    def start():
        begun = playwright.sync_playwright().start()
        return begun, begun.chromium.launch(executable_path=place, args=ARGUMENTS)

    def end():
        made.close()
        begun.stop()

    begun, made = THREAD.submit(start).result()
    yield made
    THREAD.submit(end).result()
