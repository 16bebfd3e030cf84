"""docs/plots.md: what it prints is what the command prints, its Python runs, its pictures and commands are there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from pharos.report.plotting import plots

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "plots.md").read_text(encoding="utf-8")


def test_the_console_block_is_true():
    command, output = re.search(r"```console\n\$ pharos (.*?)\n(.*?)\n```", TEXT, re.S).groups()
    found = subprocess.run([sys.executable, "-m", "pharos", *command.split()], capture_output=True, text=True,
                           cwd=ROOT, env=os.environ | {"COLUMNS": "80", "NO_COLOR": "1"})  # fmt: skip
    assert [s.rstrip() for s in found.stdout.rstrip().splitlines()] == [
        s.rstrip() for s in output.splitlines()
    ]


def test_the_python_block_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", TEXT, re.S)[1], {})
    assert (tmp_path / "roofline.json").exists()


def test_pictures_have_words_and_every_plot_is_told():
    pictures = re.findall(r'srcset="(plots/\w+_dark\.svg)"><img src="(plots/\w+\.svg)" alt="(.*?)"', TEXT)
    assert len(pictures) >= 10
    for dark, light, alt in pictures:
        assert (ROOT / "docs" / dark).read_text(encoding="utf-8").startswith("<svg")
        assert (ROOT / "docs" / light).read_text(encoding="utf-8").startswith("<svg")
        assert len(alt) > 60
    for name in plots():
        assert f"`{name}`" in TEXT
