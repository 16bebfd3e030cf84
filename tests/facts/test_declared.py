"""What sources declare is what importing every file registers: nothing is missed, nothing made up."""

import re

from pharos.convert import from_hf
from pharos.facts.declared import by_name, import_all
from pharos.graph.op import REGISTRY, kinds, op_class
from pharos.models import registry
from pharos.ops import load_all


def test_operators() -> None:
    known = kinds()
    load_all()
    ours = {kind for kind, cls in REGISTRY.items() if cls.__module__.startswith("pharos.ops.")}
    assert {kind for kind in known if kind in ours or kind not in REGISTRY} == ours
    assert all(op_class(kind).kind == kind for kind in ours)


def test_models() -> None:
    named = {name: aliases for name, (_, aliases) in registry._files().items()}
    registry.load_all()
    ours = {
        n: e.aliases for n, e in registry.ENTRIES.items() if e.build.__module__.startswith("pharos.models.")
    }
    assert named == ours
    assert set(registry._reader_files()) == set(registry.READERS)


def test_readers_of_configs() -> None:
    known = from_hf.kinds()
    import_all("pharos.convert")
    assert set(known) == set(from_hf.KINDS)


def test_bytecode_alone(tmp_path, monkeypatch) -> None:
    """A module without its source is imported, so that what it registers is there."""
    import compileall

    package = tmp_path / "bare"
    package.mkdir()
    (package / "__init__.py").write_text("SEEN = []\n")
    (package / "one.py").write_text("import bare\n\nbare.SEEN.append('one')\n")
    compileall.compile_dir(str(package), quiet=1, legacy=True)
    (package / "one.py").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert by_name("bare", re.compile("SEEN.append[(]'(.*)'")) == {}
    import bare

    assert bare.SEEN == ["one"]
