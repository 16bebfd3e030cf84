"""Uploads: what is taken, where it lies, how it is asked for again, and bombs that must not go off."""

import io
import json
import re
import struct
import time

import pytest
from doors.web.conftest import words

from pharos.doors.web import bounds
from pharos.doors.web.uploads import Uploads, shown
from pharos.quantity.errors import InputError

ORIGIN = {"origin": "http://testserver"}
LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 256}  # fmt: skip


def send(client, content, name="model.onnx", **more):
    return client.post("/upload", files={"file": (name, content)}, data=more, headers=ORIGIN)


def onnx_bytes(batch="N"):
    onnx = pytest.importorskip("onnx")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros((8, 16), np.float32), "w")],
    )  # fmt: skip
    assert onnx.__version__
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()


def test_an_onnx_file_is_explored(client):
    found = send(client, onnx_bytes(), "my net.onnx")
    assert found.status_code == 303
    place = found.headers["location"]
    assert re.fullmatch(r"/explore\?model=@[0-9a-f]{24}", place)
    told = words(client.get(place + "&on=t4&batch=4").text)
    assert "my net.onnx, uploaded" in told
    # 4 x 8 x 16
    assert "512 MAC" in told
    assert "128 parameters" in told


def test_a_config_is_served(client):
    found = send(client, json.dumps(LLAMA).encode(), "config.json", back="serve")
    assert found.headers["location"].startswith("/serve?model=@")
    told = words(client.get(found.headers["location"] + "&on=t4&context=128&users=4").text)
    # 2 x 2 layers x 2 heads x 16 x 128 tokens x 2 B
    assert "32.77 kB" in told


def test_the_same_file_has_the_same_address_and_the_page_goes_on_where_it_may(client):
    first, second = (
        send(client, onnx_bytes(), name, back="//evil.example").headers["location"]
        for name in ("a.onnx", "b.onnx")
    )
    assert first == second
    assert first.startswith("/explore?")


def test_dimensions_that_stay_open_are_asked_for(client):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "seq"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    assert onnx.__version__
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    place = send(client, content).headers["location"] + "&on=t4"
    found = client.get(place)
    assert found.status_code == 422
    assert 'data-field="dims"' in found.text
    assert 'name="dims"' in found.text
    assert client.get(place + "&dims=seq%3D128").status_code == 200
    assert client.get(place + "&dims=seq").status_code == 422


BAD = [
    (b"", "is empty"),
    (b"not a model at all", "not a whole ONNX file"),
    (b"\x08\x07" + b"\xff" * 4000, "not a whole ONNX file"),
    (b"{}", "no model_type"),
    (b"[1]", "must be an object"),
    (b'{"model_type": "llama", "num_hidden_layers": 999999999}', "at most"),
    (b'{"model_type": "llama", "hidden_size": -4}', "hidden_size"),
    (b'{"a":' * 50_000, "nested too deeply"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"model_type": "' + b"x" * 5_000_000 + b'"}', "at most 4 MiB"),
    (b"PK\x03\x04" + b"\x00" * 100, "not a whole ONNX file"),
    (b"\x1f\x8b\x08" + b"\x00" * 100, "not a whole ONNX file"),
    (b"\x80\x04c__builtin__\neval\n", "not a whole ONNX file"),
    (b'{"model_type": "nosuchkind"}', "nosuchkind"),
    (b'{"model_type": "llama", "num_hidden_layers": 1e999}', "num_hidden_layers"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "says"), BAD, ids=range(len(BAD)))
def test_what_is_no_model_is_told_and_not_kept(client, content, says):
    start = time.perf_counter()
    found = send(client, content)
    assert found.status_code == 422
    assert says in words(found.text)
    assert "Traceback" not in found.text
    assert "/tmp" not in found.text
    assert time.perf_counter() - start < 20


def test_a_file_that_claims_to_be_huge_takes_no_memory(client):
    """A tensor that says it holds 2 GB more than there are bytes."""
    claimed = b"\x3a" + b"\xff\xff\xff\xff\x07" + b"\x2a" + b"\xff\xff\xff\xff\x07"
    assert send(client, claimed).status_code == 422


def test_shapes_that_multiply_beyond_sense_are_refused(client):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Expand", ["x", "s"], ["y"])], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("s", TensorProto.INT64, [3], struct.pack("<3q", 10**9, 10**9, 10**9), raw=True)],
    )  # fmt: skip
    assert onnx.__version__
    content = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()
    start = time.perf_counter()
    found = send(client, content)
    if found.status_code == 303:
        assert client.get(found.headers["location"] + "&on=t4").status_code in (200, 422)
    assert time.perf_counter() - start < 20


def test_weights_outside_the_file_are_not_looked_for(client):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(onnx_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    for place in ("/etc/passwd", "../../etc/passwd"):
        del tensor.external_data[:]
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", place
        found = send(client, model.SerializeToString())
        assert found.status_code == 422
        assert "root:" not in found.text


@pytest.mark.parametrize(("title", "kept"), [
    ("../../etc/passwd", "passwd"), ("C:\\x\\net.onnx", "net.onnx"), ("a<b>.onnx", "a_b_.onnx"), ("", "model.onnx"), ("...", "model.onnx"),
    ("é" * 300, "é" * 80), ("a\x00b\n.onnx", "a_b_.onnx"),
])  # fmt: skip
def test_a_title_is_harmless(title, kept):
    assert shown(title, ".onnx") == kept


def test_names_of_files_are_the_servers_own():
    held = Uploads()
    try:
        made = held.add("../../../evil.sh", io.BytesIO(b"abc"))
        assert re.fullmatch(r"[0-9a-f]{24}\.onnx", made.path.name)
        assert made.path.parent == made.path.parent.resolve()
        assert made.path.stat().st_mode & 0o077 == 0
        assert held.find(made.id).path == made.path
        for wrong in ("@" + "0" * 24, made.id + "/..", made.id[:-1], "@../x"):
            with pytest.raises(InputError, match="not on this server"):
                held.find(wrong)
    finally:
        held.close()
    assert not made.path.exists()


def test_what_is_kept_is_bounded_and_the_oldest_goes():
    held = Uploads(most=250)
    try:
        made = [held.add("x", io.BytesIO(bytes([i]) * 100)) for i in range(3)]
        assert [u.path.exists() for u in made] == [False, True, True]
        with pytest.raises(InputError):
            held.find(made[0].id)
    finally:
        held.close()


def test_a_file_beyond_the_bound_is_not_kept(monkeypatch):
    from pharos.doors.web import uploads

    monkeypatch.setattr(uploads, "LARGEST_UPLOAD", 1000)
    held = Uploads()
    try:
        with pytest.raises(InputError, match="has more than"):
            held.add("x", io.BytesIO(b"x" * 1001))
        assert list(held._kept) == []
    finally:
        held.close()


def test_an_upload_that_says_it_is_too_large_is_not_read(client):
    length = str(bounds.LARGEST_UPLOAD + 10**6)
    found = client.post("/upload", content=b"x", headers=ORIGIN | {"content-length": length})
    assert found.status_code == 413


def test_forms_that_are_none(client):
    for content, kind in ((b"", "text/plain"), (b"x", "multipart/form-data"), (b"a=b", "application/x-www-form-urlencoded"),
                          (b"--x\r\nbroken", "multipart/form-data; boundary=x")):  # fmt: skip
        found = client.post("/upload", content=content, headers=ORIGIN | {"content-type": kind})
        assert found.status_code in (400, 422)
        assert "Traceback" not in found.text
    many = [("file", (f"{i}", b"x")) for i in range(5)]
    assert client.post("/upload", files=many, headers=ORIGIN).status_code in (400, 413, 422)
