"""`pharos export`: files that others read, nothing overwritten unasked, one message for a mistake."""

import json

import pytest
from typer.testing import CliRunner

from pharos.doors.cli import app
from pharos.graph.count import count
from pharos.graph.serial import from_dict
from pharos.quantity.errors import PharosError


def export(*arguments):
    found = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def test_onnx(tmp_path):
    onnx = pytest.importorskip("onnx")
    row = json.loads(export("lenet5", tmp_path / "m.onnx", "--batch", "4", "--json"))
    assert row["parameters"] == 61_706
    assert row["files"] == [{"path": str(tmp_path / "m.onnx"), "bytes": (tmp_path / "m.onnx").stat().st_size}]
    model = onnx.load(str(tmp_path / "m.onnx"))
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [4, 1, 32, 32]


def test_weights_of_a_file(tmp_path):
    torch, onnx = pytest.importorskip("torch"), pytest.importorskip("onnx")
    from pharos.convert.load import load
    from pharos.convert.to_torch import to_torch

    state = to_torch(load("lenet5").graph()).state_dict()
    torch.save(state, tmp_path / "w.pt")
    export("lenet5", tmp_path / "m.onnx", "--weights", tmp_path / "w.pt")
    stored = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(str(tmp_path / "m.onnx")).graph.initializer
    }
    assert set(stored) == set(state)
    assert all((stored[k] == state[k].numpy()).all() for k in state)


def test_a_program_runs_without_us(tmp_path):
    torch = pytest.importorskip("torch")
    export("resnet18(resolution=32, classes=10)", tmp_path / "m.pt2", "--weights", "zeros")
    program = torch.export.load(str(tmp_path / "m.pt2")).module()
    assert program(torch.ones(1, 3, 32, 32)).tolist() == [[0.0] * 10]


def test_json_is_the_graph(tmp_path):
    export("gpt2-small", "--to", "json", tmp_path / "graph", "--context", "16")
    graph = from_dict(json.loads((tmp_path / "graph").read_text()))
    assert count(graph).parameters == 124_439_808


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lenet5", "m.foo"), "does not say what to export to"),
        (("lenet5", "m.onnx", "--to", "onix"), "did you mean onnx"),
        (("lenet5", "m.onnx", "--weights", "ones"), "does not exist"),
        (("lenet5", "m.onnx", "--opset", "9"), "opset 9"),
        (("lenet5", "m.onnx", "-p", "int8"), "int8"),
        (("lenet5", "m.json", "-w", "zeros"), "holds no weights"),
        (("resnet51", "m.onnx"), "did you mean resnet50"),
        (("lenet5", "missing/m.onnx"), "cannot be written"),
        (("lenet5", "taken.onnx"), "exists already"),
        (("lenet5", "."), "does not say"),
        (("lenet5", ".", "--to", "onnx"), "is a folder"),
        (("deepseek-v3", "m.onnx"), "are free"),
    ],
)
def test_mistakes_are_told_and_write_nothing(tmp_path, monkeypatch, arguments, told):
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.onnx").write_text("precious")
    with pytest.raises(PharosError) as caught:
        export(*arguments)
    assert told in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.onnx"]
    assert (tmp_path / "taken.onnx").read_text() == "precious"


def test_force_replaces(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "m.onnx").write_text("old")
    export("lenet5", tmp_path / "m.onnx", "--force")
    assert (tmp_path / "m.onnx").stat().st_size > 200_000
