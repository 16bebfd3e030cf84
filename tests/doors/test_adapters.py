"""Ways into other tools: a summary like torchinfo's, contracts in test suites, callbacks of trainers."""

import sys
import types

import pytest

import pharos
from pharos.quantity.errors import InputError

torch = pytest.importorskip("torch")

CONTRACT = """
name: small
model: resnet50
machine: cortex-a53
workload: {batch: 1, precision: fp32}
limits: {parameters: %s}
"""


class Block(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up = torch.nn.Linear(width, 4 * width)
        self.down = torch.nn.Linear(4 * width, width)

    def forward(self, x):
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


def net():
    return torch.nn.Sequential(torch.nn.Linear(6, 8), Block(8), Block(8), torch.nn.Linear(8, 2))


def test_a_summary_is_a_tree_whose_parts_add_up():
    module = net()
    found = pharos.summary(module, input_size=(3, 6))
    assert found.total_params == sum(p.numel() for p in module.parameters())
    assert found.macs == 3 * (48 + 2 * (2 * 8 * 32) + 16)
    parts = {part.path: part for part in found.parts}
    assert [p.path for p in found.parts][:4] == ["", "0", "1", "1.up"]
    assert parts["1"].parameters == 2 * 8 * 32 + 32 + 8
    assert parts["1"].kind == "Block"
    assert parts["1.up"].output_shape == (3, 32)
    assert sum(parts[str(i)].macs for i in range(4)) == found.macs
    page = str(found)
    assert "    up (Linear)" in page
    assert "1 MAC = 2 FLOPs" in page
    shallow = pharos.summary(module, torch.zeros(3, 6), depth=1)
    assert max(part.depth for part in shallow.parts) == 1
    assert "uncounted" not in page


def test_a_module_against_a_contract(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT % "2000")
    pharos.assert_contract(net(), path, input_size=(1, 6))
    # the module says what it takes by its first layer
    pharos.assert_contract(net(), path)
    path.write_text(CONTRACT % "100")
    with pytest.raises(AssertionError, match=r"(?s)BROKEN.*parameters.*100"):
        pharos.assert_contract(net(), path)


def test_a_trainer_callback(tmp_path, capsys):
    pytest.importorskip("transformers")
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT % "100")
    state = types.SimpleNamespace(is_world_process_zero=True)
    callback = pharos.trainer_callback(path, stop=False, input_size=(1, 6))
    callback.on_train_begin(None, state, None, model=net())
    shown = capsys.readouterr().out
    assert "parameters" in shown
    assert "BROKEN" in shown
    with pytest.raises(InputError, match="breaks its contract"):
        pharos.trainer_callback(path, input_size=(1, 6)).on_train_begin(None, state, None, model=net())


def test_a_lightning_callback(monkeypatch, capsys):
    for name in ("lightning", "lightning.pytorch", "lightning.pytorch.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["lightning.pytorch.callbacks"].Callback = type("Callback", (), {})
    module = net()
    module.example_input_array = torch.zeros(2, 6)
    pharos.lightning_callback().on_fit_start(types.SimpleNamespace(is_global_zero=True), module)
    assert "Block" in capsys.readouterr().out


def test_a_missing_trainer_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch.callbacks", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", None)
    with pytest.raises(InputError, match="needs lightning"):
        pharos.lightning_callback()
