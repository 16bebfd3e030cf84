"""Branches, loops, scans and functions of ONNX files: counted as often as they run."""

import numpy as np
import pytest
import sympy

from pharos.convert.from_onnx import from_onnx
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Repeat
from pharos.graph.workload import Workload
from pharos.quantity.errors import InputError

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def matrix(name, *shape):
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def save(tmp_path, nodes, inputs, outputs, stored=(), functions=(), opset=18):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(stored))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def branch(tmp_path, condition=None):
    """A branch of 4 x 8 products (x 3 rows) and one of 4 x 2."""

    def body(width):
        return helper.make_graph(
            [helper.make_node("MatMul", ["x", f"w{width}"], [f"y{width}"]),
             helper.make_node("ReduceSum", [f"y{width}"], [f"z{width}"], keepdims=0)],
            f"b{width}", [], [info(f"z{width}", [])],
        )  # fmt: skip

    stored = [matrix("w8", 4, 8), matrix("w2", 4, 2)]
    inputs = [info("x", [3, 4])]
    if condition is None:
        inputs.append(info("c", [], TensorProto.BOOL))
    else:
        stored.append(numpy_helper.from_array(np.array(condition), "c"))
    node = helper.make_node("If", ["c"], ["z"], "choice", then_branch=body(2), else_branch=body(8))
    return save(tmp_path, [node], inputs, [info("z", [])], stored)


def test_the_larger_branch_is_counted_and_both_are_told(tmp_path):
    graph = from_onnx(branch(tmp_path))
    counted = count(graph)
    assert counted.macs == 3 * 4 * 8
    # the parameters of the other are stored in the file all the same
    assert counted.parameters == 4 * 8 + 4 * 2
    assert graph.meta["notes"] == ("choice: its else branch is counted, 96 MACs; its then branch has 24",)


@pytest.mark.parametrize(("condition", "macs"), [(True, 24), (False, 96)])
def test_a_branch_that_the_file_decides_is_no_branch(tmp_path, condition, macs):
    graph = from_onnx(branch(tmp_path, condition))
    assert count(graph).macs == macs
    assert "notes" not in graph.meta


def loop(tmp_path, rounds, grows=False):
    """h = tanh(h W) over and over, each h also stacked: 2 x 4 x 4 products a round."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "w"], ["a"]),
            helper.make_node("Tanh", ["a"], ["b"]),
            helper.make_node("Concat", ["b", "b"], ["h2"], axis=0)
            if grows
            else helper.make_node("Identity", ["b"], ["h2"]),
            helper.make_node("ReduceSum", ["b"], ["sum"], keepdims=0),
            helper.make_node("Identity", ["k"], ["k2"]),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("k", [], TensorProto.BOOL), info("h", None)],
        [info("k2", [], TensorProto.BOOL), info("h2", None), info("sum" if grows else "b", None)],
    )
    stored = [matrix("w", 4, 4), numpy_helper.from_array(np.array(True), "true")]
    inputs = [info("x", [2, 4])]
    if rounds is None:
        inputs.append(info("m", [], TensorProto.INT64))
    else:
        stored.append(numpy_helper.from_array(np.array(rounds, np.int64), "m"))
    node = helper.make_node("Loop", ["m", "true", "x"], ["last", "all"], "steps", body=body)
    return save(tmp_path, [node], inputs, [info("last", None), info("all", None)], stored)


@pytest.mark.parametrize("rounds", [1, 5, 40, 1000])
def test_a_loop_counts_its_rounds_and_stores_its_parameters_once(tmp_path, rounds):
    graph = from_onnx(loop(tmp_path, rounds))
    counted = count(graph)
    assert counted.macs == rounds * 2 * 4 * 4
    assert counted.parameters == 16
    assert [v.shape for v in graph.outputs] == [(2, 4), (rounds, 2, 4)]
    assert not counted.uncounted
    assert any(isinstance(n, Repeat) for n in graph.nodes) == (rounds > 16)


def test_a_short_loop_runs(tmp_path):
    torch = pytest.importorskip("torch")
    runtime = pytest.importorskip("onnxruntime")
    path = loop(tmp_path, 3)
    module = to_torch(from_onnx(path))
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    x = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": x})
    with torch.no_grad():
        found = module(torch.tensor(x))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5)


def test_rounds_that_nobody_states_make_the_total_at_least(tmp_path):
    path = loop(tmp_path, None)
    graph = from_onnx(path)
    counted = count(graph)
    assert counted.macs == 32
    assert counted.uncounted == ("steps (Loop of open length)",)
    assert "--dim trip_count:steps=" in graph.meta["notes"][0]
    stated = count(from_onnx(path, dims={"trip_count:steps": 7}))
    assert stated.macs == 7 * 32
    assert not stated.uncounted
    with pytest.raises(InputError, match=r"no loop called 'stops'.*it has steps"):
        from_onnx(path, dims={"trip_count:stops": 7})


def test_a_loop_whose_values_grow_is_written_out_while_it_is_short(tmp_path):
    graph = from_onnx(loop(tmp_path, 3, grows=True))
    assert count(graph).macs == (2 + 4 + 8) * 16
    assert graph.outputs[0].shape == (16, 4)


def scan(tmp_path, steps):
    """A recurrence over time: [1, 4] times [4, 4] a step."""
    body = helper.make_graph(
        [helper.make_node("Add", ["h", "x_t"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["h2"]),
         helper.make_node("Identity", ["h2"], ["y_t"])],
        "body",
        [info("h", [1, 4]), info("x_t", [1, 4])],
        [info("h2", [1, 4]), info("y_t", [1, 4])],
    )  # fmt: skip
    node = helper.make_node("Scan", ["h0", "x"], ["h", "y"], "scan", body=body, num_scan_inputs=1)
    return save(tmp_path, [node], [info("h0", [1, 4]), info("x", [steps, 1, 4])],
                [info("h", [1, 4]), info("y", [steps, 1, 4])], [matrix("w", 4, 4)])  # fmt: skip


@pytest.mark.parametrize("steps", [2, 300])
def test_a_scan_runs_as_often_as_there_are_steps(tmp_path, steps):
    graph = from_onnx(scan(tmp_path, steps))
    counted = count(graph)
    assert counted.macs == steps * 16
    assert counted.parameters == 16
    assert [v.shape for v in graph.outputs] == [(1, 4), (steps, 1, 4)]


def test_a_scan_of_an_open_length_is_a_formula(tmp_path):
    n = sympy.Symbol("n", integer=True, positive=True)
    graph = from_onnx(scan(tmp_path, "time"), Workload(batch=n))
    assert sympy.expand(count(graph).macs) == 16 * n
    swept = from_onnx(scan(tmp_path, "time"), Workload(batch=np.array([10, 20, 30])))
    assert count(swept).macs.tolist() == [160, 320, 480]


def function(name, *nodes, attributes=()):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a", "w"], ["b"], list(nodes), opsets, list(attributes))


def test_local_functions_are_written_out_where_they_are_called(tmp_path):
    concat = helper.make_node("Concat", ["c", "c"], ["b"])
    concat.attribute.append(
        onnx.AttributeProto(name="axis", ref_attr_name="side", type=onnx.AttributeProto.INT)
    )
    inner = function("inner", helper.make_node("MatMul", ["a", "w"], ["c"]), concat, attributes=["side"])
    outer = function("outer", helper.make_node("inner", ["a", "w"], ["t"], domain="local", side=0),
                     helper.make_node("Relu", ["t"], ["b"]))  # fmt: skip
    path = save(tmp_path, [helper.make_node("outer", ["x", "k"], ["y"], domain="local"),
                           helper.make_node("outer", ["y", "k"], ["z"], domain="local")],
                [info("x", [2, 4])], [info("z", None)], [matrix("k", 4, 4)], [inner, outer])  # fmt: skip
    graph = from_onnx(path)
    assert count(graph).macs == (2 + 4) * 16
    assert count(graph).parameters == 16
    assert graph.outputs[0].shape == (8, 4)


def test_functions_without_end_are_refused(tmp_path):
    once = function("f", helper.make_node("f", ["a", "w"], ["b"], domain="local"))
    path = save(tmp_path, [helper.make_node("f", ["x", "x"], ["y"], domain="local")], [info("x", [2, 4])],
                [info("y", None)], [], [once])  # fmt: skip
    with pytest.raises(InputError, match="without end"):
        from_onnx(path)


def test_functions_that_multiply_are_refused_in_bounded_time(tmp_path):
    """Thirty functions, each calling the one before it twice: a billion nodes."""
    made = [function("f0", helper.make_node("Relu", ["a"], ["b"]))]
    for i in range(1, 31):
        calls = [helper.make_node(f"f{i - 1}", ["a", "w"], ["t"], domain="local"),
                 helper.make_node(f"f{i - 1}", ["t", "w"], ["b"], domain="local")]  # fmt: skip
        made.append(function(f"f{i}", *calls))
    path = save(tmp_path, [helper.make_node("f30", ["x", "x"], ["y"], domain="local")], [info("x", [2, 4])],
                [info("y", None)], [], made)  # fmt: skip
    with pytest.raises(InputError, match="more than"):
        from_onnx(path)
