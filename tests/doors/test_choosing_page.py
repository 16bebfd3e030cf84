"""docs/choosing.md shows what the command prints, and the brief that it shows is the one in examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")


def test_the_example_is_true():
    command, output = re.search(r"```console\n\$ pharos (.*?)\n(.*?)\n```", TEXT, re.S).groups()
    found = subprocess.run([sys.executable, "-m", "pharos", *command.split()], capture_output=True, text=True,
                           cwd=ROOT, env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"})  # fmt: skip
    assert [s.rstrip() for s in found.stdout.rstrip().splitlines()] == [
        s.rstrip() for s in output.splitlines()
    ]


def test_the_brief_is_the_example():
    shown = re.search(r"```yaml\n(.*?)\n```", TEXT, re.S)[1]
    assert shown == (ROOT / "examples" / "briefs" / "keywords.yaml").read_text().rstrip()
