"""Models from the user's own code: named, built, run on guessed or stated inputs, found again in the cache."""

import json
import sys

import pytest

from pharos.convert.cache import cached
from pharos.convert.factory import from_factory, is_factory, tensor_of
from pharos.convert.load import load
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.quantity.errors import PharosError

torch = pytest.importorskip("torch")

CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.fc = torch.nn.Linear(width, 10)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

class Words(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(100, 16)
        self.cell = torch.nn.GRU(16, 32, batch_first=True)

    def forward(self, ids):
        return self.cell(self.embed(ids))[0]

def small():
    return Net(4)

def broken():
    raise OSError("no such weights")

made = Net(2)
number = 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "mynets.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("mynets", None)
    yield tmp_path
    sys.modules.pop("mynets", None)


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("a.b:c", True), ("a:C(width=3)", True), ("a.b:c.d", True), ("model.onnx", False), ("C:/x/config.json", False),
        ("resnet50", False), ("mobilenet_v2(width=0.5)", False), ("a:b:c", False),
    ],
)  # fmt: skip
def test_what_names_code(text, yes):
    assert is_factory(text) == yes


def test_a_class_a_function_arguments_and_a_module(code):
    for text, width in [
        ("mynets:Net", 8),
        ("mynets:small", 4),
        ("mynets:Net(width=16)", 16),
        ("mynets:made", 2),
    ]:
        counted = count(load(text).graph())
        assert counted.parameters == 27 * width + width + 10 * width + 10
        # the image that a first convolution of three channels suggests
        assert counted.macs == 222 * 222 * 27 * width + 10 * width


def test_stated_inputs_and_the_workload(code):
    model = load("mynets:Words", inputs={"0": "int64:2x7"})
    assert count(model.graph()).macs == 2 * 7 * 3 * 32 * (16 + 32)
    assert count(model.graph(Workload(batch=5, context=11))).macs == 5 * 11 * 3 * 32 * (16 + 32)
    assert count(load("mynets:Words").graph()).macs == 128 * 3 * 32 * (16 + 32)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mynets:Nett", "did you mean Net"),
        ("nowhere:Net", "there is no module 'nowhere'"),
        ("mynets:broken", "OSError: no such weights"),
        ("mynets:number", "is a int, not a function"),
        ("mynets:Net(wide=3)", "unexpected keyword"),
        ("mynets:Net(width=__import__('os'))", "is not a model"),
    ],
)
def test_mistakes_are_told(code, text, told):
    with pytest.raises(PharosError) as caught:
        from_factory(text).graph()
    assert told in str(caught.value)


def test_inputs_that_do_not_fit_are_told_with_their_shapes(code):
    with pytest.raises(PharosError, match=r"cannot run on float32\[1, 5, 8, 8\].*channels"):
        load("mynets:Net", inputs={"0": "1x5x8x8"}).graph()
    for wrong in ("1x", "float33:1x2", "1x-2", "a"):
        with pytest.raises(PharosError):
            tensor_of(torch, wrong)


def test_a_second_look_comes_from_the_cache_until_the_code_changes(code, monkeypatch):
    monkeypatch.setenv("PHAROS_CACHE", str(code / "cache"))
    first = load("mynets:Net").graph()
    kept = list((code / "cache" / "graphs").glob("*.json"))
    assert len(kept) == 1
    noted = [source[0] for source in json.loads(kept[0].read_text())["sources"]]
    assert str(code / "mynets.py") in noted
    from pharos.convert import factory

    def fail(*_):
        raise AssertionError("was traced again")

    monkeypatch.setattr(factory, "_traced", fail)
    again = load("mynets:Net").graph()
    assert count(again).macs == count(first).macs
    assert [n.name for n in again.nodes] == [n.name for n in first.nodes]
    (code / "mynets.py").write_text(CODE + "\n# changed\n")
    with pytest.raises(AssertionError, match="traced again"):
        load("mynets:Net").graph()


def test_a_damaged_entry_is_built_anew(tmp_path, monkeypatch):
    from pharos.models.registry import find

    monkeypatch.setenv("PHAROS_CACHE", str(tmp_path))
    calls = []

    def build(work):
        calls.append(1)
        return find("mlp").graph(work)

    ask = cached({"name": "x"}, build)
    assert ask(Workload()) == ask(Workload())
    assert len(calls) == 1
    for file in (tmp_path / "graphs").iterdir():
        file.write_text(file.read_text()[:100])
    ask(Workload())
    assert len(calls) == 2
    ask(Workload(batch=2))
    assert len(calls) == 3


DYNAMIC = """
import torch

class Experts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.router = torch.nn.Linear(4, 3)
        self.experts = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)])

    def forward(self, x):
        picked, out = self.router(x).argmax(-1), torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            at = torch.where(picked == k)[0]
            out[at] = expert(x[at])
        return out
"""


def test_what_depends_on_data_is_run_once_on_numbers(code):
    (code / "mynets.py").write_text(DYNAMIC)
    graph = load("mynets:Experts", inputs={"0": "7x4"}).graph()
    counted = count(graph)
    assert graph.meta["one_run"] is True
    assert not counted.uncounted
    # every row meets the router and one expert, whichever
    assert counted.macs == 7 * (4 * 3 + 4 * 4)
    assert counted.parameters == 15 + 3 * 20
