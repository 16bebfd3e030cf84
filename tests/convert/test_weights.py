"""Weights from files: what is read is what was stored; a damaged file is refused by name."""

import json

import numpy as np
import pytest

from pharos.convert.weights import read_weights
from pharos.quantity.errors import InputError


def test_safetensors_as_their_own_library_writes_them(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    made = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).bfloat16(),
        "c": torch.randn(2, 2).half(),
        "d": torch.arange(4),
        "scalar": torch.tensor(2.5),
    }
    safetensors.save_file(made, str(tmp_path / "w.safetensors"))
    found = read_weights(tmp_path / "w.safetensors")
    assert {k: tuple(v.shape) for k, v in found.items()} == {k: tuple(v.shape) for k, v in made.items()}
    for name, tensor in made.items():
        np.testing.assert_array_equal(
            np.asarray(found[name]), tensor.float().numpy() if name == "b" else tensor.numpy()
        )


def test_an_index_joins_its_files(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    for name in "ab":
        safetensors.save_file({name: torch.ones(2)}, str(tmp_path / f"{name}.safetensors"))
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    assert set(read_weights(index)) == {"a", "b"}
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(InputError, match="outside its folder"):
        read_weights(index)


def test_state_dicts_and_numpy_archives(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "w.pt")
    np.savez(tmp_path / "w.npz", a=np.ones((2, 3)))
    for name in ("w.pt", "w.npz"):
        assert tuple(read_weights(tmp_path / name)["a"].shape) == (2, 3)


def header(row):
    text = json.dumps(row).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("w.safetensors", b"", "not a whole"),
        ("w.safetensors", b"\xff" * 20, "header would be"),
        ("w.safetensors", header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}), "outside"),
        ("w.safetensors", header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 0]}}), "holds 0 bytes"),
        ("w.safetensors", header([1]), "not a whole"),
        ("w.pt", b"hello", "not a state_dict"),
        ("w.npz", b"hello", "not a file of NumPy arrays"),
        ("w.safetensors.index.json", b"{}", "not the index"),
        ("w.txt", b"", "not a file of weights"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, data, told):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=told) as caught:
        read_weights(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_weights(tmp_path / "w.pt")
