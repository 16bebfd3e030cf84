"""Pages whose code is run: what they show works as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_page_on_own_networks(capsys):
    pytest.importorskip("torch")
    text = (ROOT / "docs" / "own_networks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    scope = {}
    exec(blocks[0], scope)
    assert "Conv2d" in capsys.readouterr().out
    assert scope["pharos"].show(scope["model"], batch=8).macs == 8 * 30 * 30 * (27 * 16 + 16 * 8)
    exec(blocks[1], scope)
    assert "seen call by call" in capsys.readouterr().out
    from pharos.convert import declared

    known = dict(declared._KNOWN)
    try:
        exec(blocks[2], scope)
        assert "mylib::my_attention" in declared._KNOWN
    finally:
        declared._KNOWN.clear()
        declared._KNOWN.update(known)
