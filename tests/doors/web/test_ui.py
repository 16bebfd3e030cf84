"""`pharos ui` as a command: loopback without a token, others with one; addresses that cannot be had; a clean end."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from pharos.doors.cli.ui import _is_loopback, _listen, _shown
from pharos.quantity.errors import InputError


class Served:
    """A server in a process of its own."""

    def __init__(self, *words):
        self.process = subprocess.Popen([sys.executable, "-m", "pharos", "ui", "--port", "0", "--workers", "1", *words],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        self.address = re.search(r"http://([^:/]+):(\d+)/(\?token=.*)?", self.process.stdout.readline())

    def get(self, path, **headers):
        link = http.client.HTTPConnection("127.0.0.1", int(self.address[2]), timeout=60)
        with contextlib.closing(link):
            link.request("GET", path, headers=headers)
            answer = link.getresponse()
            answer.read()
            return answer

    def end(self):
        self.process.send_signal(signal.SIGINT)
        told = self.process.communicate(timeout=60)
        return self.process.returncode, *told


def test_on_loopback_without_a_token_and_a_quiet_end():
    served = Served()
    try:
        assert served.address[1] == "127.0.0.1"
        assert served.address[3] is None
        assert served.get("/labs").status == 200
        assert served.get("/labs", Host="evil.example").status == 421
    finally:
        code, out, err = served.end()
    assert code in (0, 130, -2)
    assert "Traceback" not in err
    assert out == ""


def test_for_others_with_a_token():
    served = Served("--host", "0.0.0.0")
    try:
        token = served.address[3]
        assert len(token) > 40
        assert served.get("/labs").status == 401
        assert served.get("/labs?token=x").status == 401
        admitted = served.get("/labs" + token)
        assert admitted.status == 303
        cookie = admitted.headers["set-cookie"].split(";")[0]
        assert served.get("/labs", Cookie=cookie).status == 200
    finally:
        _, _, err = served.end()
    assert "unencrypted" in err


def test_a_taken_port_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot listen") as told:
            _listen("127.0.0.1", taken.getsockname()[1])
        assert "--port 0" in told.value.hint
    with pytest.raises(InputError, match="cannot listen"):
        _listen("name.invalid", 0)


def test_which_addresses_are_this_machines():
    assert all(map(_is_loopback, ("127.0.0.1", "127.8.8.8", "::1")))
    assert not any(map(_is_loopback, ("0.0.0.0", "192.168.0.1", "::", "evil.example")))
    assert _shown("::1") == "[::1]"
    assert _shown("192.0.2.7") == "192.0.2.7"
    assert _shown("0.0.0.0") != "0.0.0.0"


def test_it_says_what_it_needs(monkeypatch):
    found = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['uvicorn'] = None\nsys.argv = ['pharos', 'ui']\n"
         "from pharos.doors.cli import main; main()"],
        capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    assert found.returncode == 2
    assert "pip install 'pharos-nn[web]'" in found.stderr
