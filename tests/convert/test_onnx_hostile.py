"""Hostile, huge and damaged ONNX files: a clear error in bounded time and memory, nothing outside is read."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pharos.convert.from_onnx import from_onnx
from pharos.convert.onnx_file import read_model, skimmed
from pharos.graph.count import count
from pharos.quantity.errors import InputError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import fuzz  # noqa: E402


def info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(nodes, shape, stored=()):
    graph = helper.make_graph(nodes, "g", [info("x", shape)], [info("y", None)], list(stored))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def linear(width, raw=True):
    w = np.zeros((width, width), np.float32)
    tensor = numpy_helper.from_array(w, "w") if raw else helper.make_tensor("w", 1, w.shape, w.reshape(-1))
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [1, width], [tensor])


@pytest.mark.parametrize("raw", [True, False])
def test_the_data_of_large_tensors_is_left_out(tmp_path, raw):
    path = tmp_path / "m.onnx"
    path.write_bytes(linear(700, raw).SerializeToString())
    assert path.stat().st_size > 700 * 700 * 4
    kept = skimmed(path)
    assert len(kept) < 1000
    expected = linear(700, raw)
    expected.graph.initializer[0].ClearField("raw_data")
    expected.graph.initializer[0].ClearField("float_data")
    assert onnx.ModelProto.FromString(kept) == expected
    assert count(from_onnx(path)).macs == 700 * 700


def test_small_tensors_keep_their_numbers_in_a_large_file(tmp_path):
    shape = numpy_helper.from_array(np.array([10, 49_000], np.int64), "shape")
    big = numpy_helper.from_array(np.zeros((700, 700), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "shape"], ["y"]),
    ]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, [700, 700], [shape, big]).SerializeToString())
    assert from_onnx(path).outputs[0].shape == (10, 49_000)


def test_a_file_of_weights_takes_little_memory(tmp_path):
    """A file of 300 MB, most of it a hole, read in a process that may have 700 MB of address space more."""
    path = tmp_path / "m.onnx"
    big = linear(8)
    size = 300_000_000
    tensor = big.graph.initializer[0]
    tensor.raw_data = b"MARK"
    tensor.dims[0], tensor.dims[1] = 8, size // 32
    head = big.graph.initializer.pop().SerializeToString()
    at = head.index(b"MARK")
    # the same tensor with its data made longer: field 9, length-delimited
    body = head[: at - 1] + varint(size)
    held = body + b"\0" * 0
    rest = head[at + 4 :]
    tensor_length = len(held) + size + len(rest)
    graph = big.graph.SerializeToString() + b"\x2a" + varint(tensor_length)
    length = len(graph) + tensor_length
    big.ClearField("graph")
    with path.open("wb") as file:
        file.write(big.SerializeToString() + b"\x3a" + varint(length) + graph + held)
        file.seek(size, os.SEEK_CUR)
        file.write(rest)
        if not rest:
            file.truncate(file.tell())
    code = (
        "import resource, sys\nimport onnx\nfrom pharos.convert.onnx_file import read_model\nfrom pathlib import Path\n"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"m = read_model(Path({str(path)!r}))\n"
        "print(list(m.graph.initializer[0].dims), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    dims, grown = found.stdout.rsplit(" ", 1)
    assert dims == str([8, size // 32])
    assert int(grown) < 50_000


def varint(value):
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes(made) + bytes([value])


def test_a_cut_off_large_file_is_refused(tmp_path):
    whole = linear(700).SerializeToString()
    path = tmp_path / "m.onnx"
    for end in (len(whole) - 1, len(whole) // 2, 1_000_001 + 100_000):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"m\.onnx.*not a whole ONNX file"):
            read_model(path)


def test_a_link_to_outside_is_outside(tmp_path):
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (inside / "w.bin").symlink_to(tmp_path / "secret")
    made = linear(8)
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (inside / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder"):
        from_onnx(inside / "m.onnx")


def test_external_data_of_a_constant_in_a_branch_is_checked_too(tmp_path):
    tensor = TensorProto(name="k", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../k.bin")
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["k"], value=tensor)], "b", [], [info("k", [2])]
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    (tmp_path / "m.onnx").write_bytes(model([node], [1]).SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder"):
        from_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([("Relu", ["y"], ["z"]), ("Relu", ["z"], ["y"])], "'y' is used before anything makes it"),
        ([("Relu", ["y"], ["y"])], "'y' is used before anything makes it"),
        ([("Relu", ["x"], ["z"])], "output 'y' is made by no node"),
        ([("Relu", ["nowhere"], ["y"])], "'nowhere' is used before anything makes it"),
    ],
)
def test_circles_and_loose_ends_are_named(tmp_path, nodes, told):
    path = tmp_path / "m.onnx"
    path.write_bytes(model([helper.make_node(*n) for n in nodes], [2]).SerializeToString())
    with pytest.raises(InputError, match=told):
        from_onnx(path)


def test_bodies_within_bodies_end(tmp_path):
    body = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "b", [], [info("y", [2])])
    for _ in range(30):
        node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "b", [], [info("y", [2])])
        if body.ByteSize() > 200_000:
            break
    path = tmp_path / "m.onnx"
    path.write_bytes(model(list(body.node), [2]).SerializeToString())
    # both branches of every level are alike: two comparisons in all
    assert count(from_onnx(path)).work.vector_flops == 2


def test_mutated_seeds_are_read_or_refused(tmp_path):
    """A few of what benchmarks/fuzz.py runs by the thousand."""
    rng = random.Random(7)
    models, configs = fuzz.graph_seeds(), fuzz.config_seeds()
    for i in range(60):
        content = fuzz.flipped(rng, rng.choice(models)) if i % 3 else fuzz.remodelled(rng, rng.choice(models))
        (tmp_path / "m.onnx").write_bytes(content)
        assert fuzz.attempt(tmp_path / "m.onnx") in ("read", "refused")
        (tmp_path / "m.json").write_bytes(fuzz.reconfigured(rng, rng.choice(configs)))
        assert fuzz.attempt(tmp_path / "m.json") in ("read", "refused")


def test_more_layers_than_any_network_has_are_refused(tmp_path):
    row = '{"model_type": "gpt_oss", "num_hidden_layers": 9223372036854775807, "num_local_experts": 4}'
    (tmp_path / "config.json").write_text(row)
    assert fuzz.attempt(tmp_path / "config.json") == "refused"


def test_a_message_is_of_bounded_length(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "gpt2", "activation_function": "' + "x" * 30_000 + '"}'
    )
    assert fuzz.attempt(tmp_path / "config.json") == "refused"


def test_a_list_where_one_number_belongs_is_refused(tmp_path):
    region = helper.make_node("RoiAlign", ["x", "rois", "at"], ["y"], output_width=[3, 4])
    graph = helper.make_graph(
        [region], "g", [info("x", [1, 1, 8, 8]), info("rois", [2, 4]),
                        helper.make_tensor_value_info("at", TensorProto.INT64, [2])], [info("y", None)],
    )  # fmt: skip
    path = tmp_path / "list.onnx"
    onnx.save(helper.make_model(graph), path)
    with pytest.raises(InputError, match="output_width must be one number"):
        from_onnx(path)
