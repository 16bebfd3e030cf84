"""ONNX's own test models, one a form of an operator: shapes as their outputs, values as their data."""

import warnings

import numpy as np
import pytest

from pharos.convert.from_onnx import from_onnx
from pharos.convert.onnx_reader import FROM_SHAPES, SAME
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.quantity.errors import PharosError

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402

# Standard operators that have no rule.
NO_RULE = {
    "RegexFullMatch": "text", "StringConcat": "text", "StringNormalizer": "text", "StringSplit": "text",
    "ImageDecoder": "its work depends on the picture's bytes",
    "Gradient": "a graph of gradients, not an operator",
    "DictVectorizer": "a map is no tensor",
}  # fmt: skip
# What the reader does itself, without a rule.
READER = SAME | FROM_SHAPES

# Test models that are not read as they are, by what they hold.
REFUSED = {
    "text": ("string", "strnorm", "regex", "label_encoder_string"),
    "pictures": ("image_decoder",),
    "nothing but constants": ("test_constant", "test_shape", "test_size", "test_if", "optional_has_element"),
    "sequences as inputs": ("identity_sequence", "identity_opt", "if_opt", "loop13_seq", "loop16_seq",
                            "optional_get_element", "sequence_map", "sequence_insert"),
    "tensors without elements": ("empty_set", "zero", "slice_start_out_of_bounds", "triu", "tril",
                                 "kernel_size_one"),
    "a size that only its run knows": ("window", "melweight", "affine_grid", "center_crop_pad", "loop11",
                                       "delta_expanded"),
    "opset 1": ("test_not_",),
    "a scan of a batch, as opset 8 had it": ("scan_sum",),
    "a mask of dropout, all of it kept": ("dropout",),
}  # fmt: skip
# As many as there may be: how many there are depends on the data.
AT_MOST = ("nonmaxsuppression", "nonzero", "unique", "compress")
# Computed, but not as the test's numbers say.
OTHER_VALUES = {
    "whole numbers of few bits run wide": ("bitshift", "bitwise", "bitcast", "cast"),
    "scales and zero points are not applied": ("qlinear", "matmulinteger", "convinteger"),
    "filters of antialiasing differ": ("antialias",),
    "equal numbers in another order": ("top_k_same",),
    "lengths that only the data knows, rows that see nothing": ("nonpad", "padded_kv", "masked", "ext_cache",
                                                               "robustness"),
    "bf16 is rounded less": ("bf16", "bfloat16"),
    "text": ("string",),
    "as at inference": ("dropout",),
}  # fmt: skip
BIASES = {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4}


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return {c.name: c for c in collect_testcases(None) if c.data_sets}


def within(name, groups):
    return any(part in name for parts in groups.values() for part in parts)


def small(a):
    return isinstance(a, (np.ndarray, np.generic)) and a.dtype.kind in "iufb" and a.size <= 4096


def baked(case):
    """The model with all but its first input stored in it, as sizes, axes and weights are in real files."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    given, node = case.data_sets[0][0], case.model.graph.node[0]
    first = node.input[0] if node.input else ""
    kept = []
    for value, a in zip(case.model.graph.input, given, strict=False):
        size = small(a) and a.size == 1 and a.dtype.kind in "iub" and len(given) > 1
        if small(a) and value.type.HasField("tensor_type") and (value.name != first or size):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(a), value.name))
        else:
            kept.append(value)
    if not kept:
        return None
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model


def read(path, case):
    """(graph, model) in the first form of which everything is counted."""
    for model in (case.model, baked(case)):
        if model is None:
            continue
        path.write_bytes(model.SerializeToString())
        try:
            graph = from_onnx(path)
        except PharosError:
            continue
        if not count(graph).uncounted:
            return graph, model
    return None


def outputs(case):
    flat = []
    for o in case.data_sets[0][1]:
        flat += o if isinstance(o, list) else [o]
    return [numpy_helper.to_array(o) if hasattr(o, "dims") else np.asarray(o) for o in flat]


def test_every_node_model_is_counted_with_the_shapes_of_its_outputs(tmp_path):
    wrong, total = [], 0
    for name, case in cases().items():
        found = read(tmp_path / "m.onnx", case)
        if found is None:
            if not within(name, REFUSED):
                wrong.append(f"{name}: not counted")
            continue
        shapes, wanted = [v.shape for v in found[0].outputs], [o.shape for o in outputs(case)]
        most = any(part in name for part in AT_MOST) and len(shapes) == len(wanted)
        fits = (
            all(a >= b for s, w in zip(shapes, wanted, strict=False) for a, b in zip(s, w, strict=True))
            if most
            else shapes == wanted
        )
        if not fits and not within(name, REFUSED):
            wrong.append(f"{name}: {shapes}, not {wanted}")
        total += 1
    assert not wrong
    assert total > 1750


def weights_of(graph, case, model):
    """Numbers of a module's parameters, from the test's inputs; None where they are laid out otherwise."""
    stored = {t.name: numpy_helper.to_array(t).astype(float) for t in model.graph.initializer}
    node, found = case.model.graph.node[0], {}
    module = to_torch(graph).double()
    for name, tensor in module.state_dict().items():
        key = name
        if key not in stored:
            i = BIASES.get(name.rpartition(".")[2], 99)
            key = node.input[i] if i < len(node.input) else ""
        values = stored.get(key)
        if values is None or values.size != tensor.numel() or node.op_type in ("LSTM", "GRU", "RNN"):
            return None
        found[name] = values.reshape(tensor.shape)
    return module, found


def test_what_runs_gives_the_outputs_of_the_node_models(tmp_path):
    torch = pytest.importorskip("torch")
    wrong, total = [], 0
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        for name, case in cases().items():
            if within(name, OTHER_VALUES) or any(part in name for part in AT_MOST):
                continue
            good = runs(torch, tmp_path / "m.onnx", case)
            if good is False:
                wrong.append(name)
            total += good is True
    finally:
        torch.set_default_dtype(before)
    assert not wrong
    assert total > 950


def runs(torch, path, case):
    """Whether the graph computes the test's outputs; None where it has no form that runs."""
    found = read(path, case)
    if found is None or any(n.op.kind in ("priced", "stacked") for n, _, _ in found[0].walk()):
        return None
    graph, model = found
    try:
        held = weights_of(graph, case, model)
    except PharosError:
        return None
    if held is None:
        return None
    module, weights = held
    module.load_state_dict({k: torch.tensor(v) for k, v in weights.items()}, strict=False)
    given = dict(zip((v.name for v in case.model.graph.input), case.data_sets[0][0], strict=False))
    arrays = [np.asarray(given[v.name]) for v in graph.inputs]
    if any(a.dtype.kind not in "iufb" for a in arrays):
        return None
    wide = [
        a.astype(float) if a.dtype.kind == "f" else a.astype(np.int64) if a.dtype.kind in "iu" else a
        for a in arrays
    ]
    with torch.no_grad():
        made = module(*map(torch.tensor, wide))
    made, wanted = made if isinstance(made, tuple) else (made,), outputs(case)
    if len(made) != len(wanted):
        return None
    pairs = zip((m.numpy().astype(float) for m in made), (w.astype(float) for w in wanted), strict=True)
    return all(a.shape == b.shape and np.allclose(a, b, 2e-3, 1e-3, equal_nan=True) for a, b in pairs)


def test_every_standard_operator_has_a_rule():
    import pharos.convert.onnx_rules
    from pharos.convert.onnx_rules.registry import RULES

    assert pharos.convert.onnx_rules
    heads = {"": "", "ai.onnx.ml": "ai.onnx.ml.", "ai.onnx.preview": "",
             "ai.onnx.preview.training": "ai.onnx.preview.training."}  # fmt: skip
    missing = {
        s.name
        for s in onnx.defs.get_all_schemas()
        if f"{heads[s.domain]}{s.name}" not in RULES and s.name not in READER
    }
    assert missing == set(NO_RULE)
