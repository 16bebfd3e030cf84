"""The documentation site: it builds strictly, asks nobody else for anything, and its blocks are true."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SITE = runpy.run_path(str(ROOT / "benchmarks/docs_site.py"))
CONFIG = YAML(typ="safe").load(ROOT / "mkdocs.yml")
TEXTS = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in SITE["PAGES"]}
CONSOLE = [(name, *found) for name, text in TEXTS.items() for found in SITE["BLOCK"].findall(text)]
PYTHON = [
    (name, block) for name, text in TEXTS.items() for block in re.findall(r"```python\n(.*?)```", text, re.S)
]


def targets(entries):
    for entry in entries:
        for target in entry.values():
            yield from targets(target) if isinstance(target, list) else [target]


def test_every_page_is_in_the_navigation_once():
    named = list(targets(CONFIG["nav"]))
    assert len(named) == len(set(named))
    there = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert set(named) - SITE["absent"]() == there


def test_links_lead_to_the_project_and_to_pages_that_are_there():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="howto/x.md"))
    fill = SITE["on_page_markdown"]
    assert fill("[a](../../README.md#b) [c](../model.md)", page) == (
        f"[a]({SITE['HOME']}README.md#b) [c](../model.md)"
    )
    for name in SITE["absent"]():
        assert fill(f"see [words]({name}#part)", page) == "see words"


def test_parts_of_files_are_taken():
    assert SITE["taken"]("CONTRIBUTING.md", "Add a limit to contracts").startswith("1. A field of `Limits`")
    assert "#" not in SITE["taken"]("CONTRIBUTING.md", "Add a limit to contracts")
    assert SITE["taken"]("src/pharos/__main__.py").startswith("```python\n")


@pytest.mark.parametrize(("page", "command", "shown"), CONSOLE, ids=[f"{p}: {c}" for p, c, _ in CONSOLE])
def test_console_blocks_are_true(page, command, shown, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert SITE["shortened"](SITE["printed"](command), shown.splitlines()) == shown.splitlines(), (
        "run `python benchmarks/docs_site.py`"
    )


def test_a_block_says_where_it_was_shortened():
    lines = [str(i) for i in range(9)]
    assert SITE["shortened"](lines, ["0", "...", "7", "8"]) == ["0", "...", "7", "8"]
    assert SITE["shortened"](lines, ["0", "..."]) == ["0", "..."]
    assert SITE["shortened"](lines, ["0", "1"]) == lines


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=[p for p, _ in PYTHON])
def test_python_blocks_run(page, block, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(block, {})
    assert capsys.readouterr().out


def test_the_machine_of_the_page_is_one(tmp_path):
    import pharos
    from pharos.machines.machine import from_file

    (written,) = re.findall(r"```yaml\n(.*?)```", TEXTS["extend.md"], re.S)
    (tmp_path / "my_board.yaml").write_text(written)
    machine = from_file(tmp_path / "my_board.yaml")
    assert machine.peak("int8").value == 256e9
    assert machine.ridge_point("fp32") == 8
    assert pharos.predict("mobilenet_v2", on=str(tmp_path / "my_board.yaml")).latency.is_known


def test_help_of_every_command_is_told():
    from pharos.doors.cli.app import app

    told = SITE["commands"]()
    names = {c.name or c.callback.__name__.replace("_", "-") for c in app.registered_commands}
    assert set(re.findall(r"^## (\S+)$", told, re.M)) == names
    assert "`pharos show MODEL`" in told
    assert "| `--json` | Print JSON with stable keys. |" in told


def test_it_builds_strictly_and_asks_nobody(tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    found = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)],
                           cwd=ROOT, capture_output=True, text=True)  # fmt: skip
    assert found.returncode == 0, found.stderr[-3000:]
    for name in set(targets(CONFIG["nav"])) - SITE["absent"]():
        assert (tmp_path / name).with_suffix(".html").is_file()
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^\"> ]*", page.read_text()
        )
        assert not loaded, page
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", style.read_text()), style
    python = (tmp_path / "reference/python.html").read_text()
    assert 'id="pharos.api.predict"' in python
    assert "Predicts a model under a workload on a machine." in python
    assert "does-not-fit" in (tmp_path / "extend.html").read_text()
