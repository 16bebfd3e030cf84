"""The README shows what the commands print and its Python runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
CONSOLE = re.findall(r"```console\n\$ pharos (.*?)\n(.*?)\n```", TEXT, re.S)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize(("command", "output"), CONSOLE, ids=[c for c, _ in CONSOLE])
def test_console_blocks_are_true(command, output):
    found = subprocess.run([sys.executable, "-m", "pharos", *command.split()], capture_output=True, text=True,
                           cwd=ROOT, env=os.environ | {"COLUMNS": "80"})  # fmt: skip
    assert [line.rstrip() for line in found.stdout.rstrip().splitlines()] == [
        line.rstrip() for line in output.splitlines()
    ]


def test_python_blocks_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    scope = {}
    for block in PYTHON:
        exec(block, scope)
    assert scope["counted"].parameters == 25_557_032
    assert scope["found"].latency.value.shape == (64,)
    assert str(scope["expand"](scope["pharos"].show("gpt2-small", context=scope["Symbol"]("n")).macs)) in TEXT
