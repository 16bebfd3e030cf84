"""Composites: what is written out is found, computes the same, and counts the same."""

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.ops.activation import Activation, Softmax
from pharos.ops.attention import Attention
from pharos.ops.compare import Compare, Where
from pharos.ops.copies import Arange, Full
from pharos.ops.elementwise import Add, Clamp, Div, Mul, Pow, Sub
from pharos.ops.linear import Linear, MatMul
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Split, Transpose
from pharos.ops.stored import Stored
from pharos.ops.supplied import Supplied
from pharos.passes.composites import fuse_composites


def kinds(graph):
    return sorted(n.op.kind for n in graph.expanded().nodes if n.op.kind not in ("reshape", "transpose"))


def stay_the_same(graph, tolerance=1e-5):
    """The fused graph, after counts, names and results were held against the original's."""
    fused = fuse_composites(graph)
    before, after = count(graph), count(fused)
    assert after.macs == before.macs
    assert after.parameters == before.parameters
    assert fused.parameter_names() == graph.parameter_names()
    assert [(v.name, v.tensor) for v in fused.outputs] == [(v.name, v.tensor) for v in graph.outputs]
    one, two = to_torch(graph), to_torch(fused)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in one.parameters():
            p.copy_(torch.randn_like(p))
    two.load_state_dict(one.state_dict(), strict=False)
    # a tied parameter is seen under the name of each operator that uses it
    ties = {n.parameter(k) for n in fused.expanded().nodes for k in n.tied}
    assert set(two.state_dict()) - set(one.state_dict()) <= ties
    inputs = [
        torch.randint(0, 7, v.shape) if v.tensor.dtype == "int64" else torch.randn(v.shape)
        for v in graph.inputs
    ]
    made = [network(*inputs) for network in (one, two)]
    for a, b in zip(*(m if isinstance(m, tuple) else (m,) for m in made), strict=True):
        assert torch.allclose(a, b, atol=tolerance, rtol=1e-4)
    assert fuse_composites(fused) == fused
    return fused


def eager(g, q, k, v, *, scale="scores", mask=None, groups=1, flat=False, cap=0.0, turned="k"):
    """softmax(q k^T / sqrt d + mask) v over q[B, H, T, d] and k, v[B, G, S, d], in one of many ways."""
    b, h, t, d = q.shape
    s, gs, factor = k.shape[2], k.shape[1], q.shape[3] ** -0.5
    if groups > 1:
        for name, value in (("k", k), ("v", v)):
            value = g(f"{name}_one", Reshape((b, gs, 1, s, d)), value)
            value = g(f"{name}_all", Expand((b, gs, groups, s, d)), value)
            value = g(f"{name}_heads", Reshape((b, h, s, d)), value)
            k, v = (value, v) if name == "k" else (k, value)
    if flat:
        q, k, v = (
            g(f"{n}_flat", Reshape((b * h, x.shape[2], d)), x) for n, x in {"q": q, "k": k, "v": v}.items()
        )
    if scale == "q":
        q = g("q_scaled", Mul(scalar=factor), q)
    if scale == "both":
        q, k = g("q_scaled", Mul(scalar=factor**0.5), q), g("k_scaled", Mul(scalar=factor**0.5), k)
    if turned == "op":
        scores = g("scores", MatMul(transpose_b=True), q, k)
    else:
        order = (0, 2, 1) if flat else (0, 1, 3, 2)
        scores = g("scores", MatMul(), q, g("k_turned", Transpose(order), k))
    if scale == "scores":
        scores = g("scaled", Div(scalar=1 / factor), scores)
    if cap:
        scores = g(
            "capped", Mul(scalar=cap), g("tanh", Activation("tanh"), g("small", Div(scalar=cap), scores))
        )
    if mask is not None:
        if flat and mask.tensor.rank == 4:
            scores = g("wide", Reshape((b, h, t, s)), scores)
        scores = g("masked", Add(), scores, mask)
        if flat and mask.tensor.rank == 4:
            scores = g("flat", Reshape((b * h, t, s)), scores)
    y = g("out", MatMul(), g("softmax", Softmax(), scores), v)
    return g("rows", Reshape((b, h, t, d)), y) if flat else y


@given(
    st.sampled_from(["scores", "q", "both", "none"]), st.sampled_from([None, (1, 1), (2, 1), (2, 4), ()]),
    st.sampled_from([1, 2, 4]), st.booleans(), st.sampled_from([0.0, 3.0]), st.sampled_from(["k", "op"]),
)  # fmt: skip
@settings(max_examples=40)
def test_attention_in_every_way_it_is_written(scale, mask, groups, flat, cap, turned):
    g = Builder("eager")
    q = g.input("q", (2, 4, 5, 6))
    k, v = (g.input(n, (2, 4 // groups, 7, 6)) for n in "kv")
    if flat and groups > 1:
        groups = 1
        k, v = (g(f"{n}_wide", Reshape((2, 4, 7, 6)), g.input(f"{n}4", (2, 4, 7, 6))) for n in "kv")
    bias = None if mask is None else g.input("mask", (*mask, 5, 7))
    y = eager(g, q, k, v, scale=scale, mask=bias, groups=groups, flat=flat, cap=cap, turned=turned)
    fused = stay_the_same(g.finish(y))
    assert [k for k in kinds(fused) if k != "mul"] == ["attention"]
    (node,) = [n for n in fused.nodes if n.op.kind == "attention"]
    assert node.ins[0].shape[:2] == (2, 4)
    assert node.ins[1].shape[:2] == (2, 4 // groups)
    assert node.op.softcap == cap


def test_attention_over_symbols():
    b, n = (sympy.Symbol(s, integer=True, positive=True) for s in "bn")
    g = Builder("eager")
    q, k, v = (g.input(name, (b, 4, n, 6)) for name in "qkv")
    graph = g.finish(eager(g, q, k, v, scale="q"))
    fused = fuse_composites(graph)
    assert kinds(fused) == ["attention"]
    assert count(fused).macs == 2 * b * 4 * n**2 * 6


def test_flat_heads_are_told_from_the_width_they_were_cut_of():
    """torch.nn.MultiheadAttention: [T, B, E] -> [T, B H, d] -> [B H, T, d]."""
    g = Builder("mha")
    x = g.input("x", (5, 2, 12))
    parts = []
    for name in "qkv":
        y = g(f"{name}_proj", Linear(12, 12), x)
        parts.append(g(f"{name}_front", Transpose((1, 0, 2)), g(f"{name}_cut", Reshape((5, 6, 4)), y)))
    q, k, v = parts
    scores = g("scores", MatMul(), g("small", Mul(scalar=0.5), q), g("turned", Transpose((0, 2, 1)), k))
    y = g("out", MatMul(), g("softmax", Softmax(), scores), v)
    fused = stay_the_same(g.finish(g("back", Reshape((5, 2, 12)), g("front", Transpose((1, 0, 2)), y))))
    (node,) = [n for n in fused.nodes if n.op.kind == "attention"]
    assert node.ins[0].shape == (2, 3, 5, 4)


def test_windows_of_a_map_with_a_bias_and_a_mask():
    """Swin: scores of windows get a bias a head, then seen by image a mask a window."""
    g = Builder("swin")
    q, k, v = (g.input(n, (6, 2, 4, 3)) for n in "qkv")
    bias, mask = g.input("bias", (1, 2, 4, 4)), g.input("mask", (1, 3, 1, 4, 4))
    scores = g("scores", MatMul(transpose_b=True), g("small", Mul(scalar=3**-0.5), q), k)
    scores = g("biased", Add(), scores, bias)
    scores = g("masked", Add(), g("by_image", Reshape((2, 3, 2, 4, 4)), scores), mask)
    scores = g("by_window", Reshape((6, 2, 4, 4)), scores)
    fused = stay_the_same(g.finish(g("out", MatMul(), g("softmax", Softmax(), scores), v)))
    assert kinds(fused) == ["add", "attention", "expand"]


def test_shares_that_are_wanted_themselves_leave_attention_as_it_is():
    g = Builder("shown")
    q, k, v = (g.input(n, (1, 2, 3, 4)) for n in "qkv")
    shares = g("softmax", Softmax(), g("scores", MatMul(transpose_b=True), q, k))
    graph = g.finish(g("out", MatMul(), shares, v), shares)
    assert stay_the_same(graph) == graph


def stored(g, name, size):
    return g(name, Stored((size,)))


def by_hand_rms(g, x, form, offset):
    squared = g("pow", Pow(scalar=2), x) if form != "mul" else g("pow", Mul(), x, x)
    inside = g("eps", Add(scalar=1e-5), g("mean", Reduce(-1, True), squared))
    if form == "pow":
        y = g("scaled", Mul(), x, g("root", Pow(scalar=-0.5), inside))
    elif form == "div":
        y = g("scaled", Div(), x, g("root", Activation("sqrt"), inside))
    else:
        root = g("inverse", Activation("reciprocal"), g("root", Activation("sqrt"), inside))
        y = g("scaled", Mul(), root, x)
    weight = stored(g, "norm.weight", 6)
    return g("weighted", Mul(), g("offset", Add(scalar=1.0), weight) if offset else weight, y)


@pytest.mark.parametrize("form", ["pow", "div", "mul"])
@pytest.mark.parametrize("offset", [False, True])
def test_rms_norm_by_hand(form, offset):
    g = Builder("rms")
    x = g.input("x", (2, 3, 6))
    fused = stay_the_same(g.finish(by_hand_rms(g, x, form, offset)))
    (node,) = fused.nodes
    assert (node.op.kind, node.op.eps, node.op.unit_offset) == ("rms_norm", 1e-5, offset)
    assert node.parameter("weight") == "norm.weight.weight"


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_layer_norm_by_hand(twice, biased):
    g = Builder("layer")
    x = g.input("x", (2, 3, 6))
    mean = g("mean", Reduce(-1, True), x)
    centred = g("centred", Sub(), x, mean)
    again = g("centred2", Sub(), x, mean) if twice else centred
    var = g("var", Reduce(-1, True), g("square", Activation("square"), again))
    y = g("normed", Div(), centred, g("root", Activation("sqrt"), g("eps", Add(scalar=1e-6), var)))
    y = g("weighted", Mul(), y, g("norm", Stored((6,), key="weight")))
    if biased:
        y = g("shifted", Add(), y, g("shift", Stored((6,), key="bias"), home="norm"))
    (node,) = stay_the_same(g.finish(y)).nodes
    assert (node.name, node.op.kind, node.op.bias) == ("norm", "layer_norm", biased)
    assert set(node.weights) == ({"weight", "bias"} if biased else {"weight"})
    assert not node.tied


def test_a_weight_that_two_norms_share_is_tied_to_the_first():
    g = Builder("shared")
    x = g.input("x", (2, 6))
    weight = g("norm", Stored((6,)))
    for i in range(2):
        with g.scope(str(i)):
            inside = g(
                "eps", Add(scalar=1e-5), g("mean", Reduce(-1, True), g("square", Activation("square"), x))
            )
            root = g("inverse", Activation("reciprocal"), g("root", Activation("sqrt"), inside))
            x = g("weighted", Mul(), weight, g("scaled", Mul(), x, root))
    one, two = stay_the_same(g.finish(x)).nodes
    assert (one.name, one.tied) == ("norm", {})
    assert two.tied == {"weight": "norm.weight"}


def test_a_length_is_no_norm():
    """x / sqrt(sum x^2) is left as it is."""
    g = Builder("l2")
    x = g.input("x", (2, 6))
    total = g("sum", Reduce(-1, True, "sum"), g("square", Activation("square"), x))
    graph = g.finish(g("y", Div(), x, g("root", Activation("sqrt"), g("eps", Add(scalar=1e-6), total))))
    assert fuse_composites(graph) == graph


def _gelu(g, x, where):
    inner = g("erf", Activation("erf"), g("small", Div(scalar=2**0.5), x))
    one = g("one", Add(scalar=1.0), inner)
    if where == "x":
        return g("y", Mul(), g("half", Mul(scalar=0.5), x), one)
    if where == "end":
        return g("y", Mul(scalar=0.5), g("product", Mul(), x, one))
    return g("y", Mul(), x, g("half", Mul(scalar=0.5), one))


def _gelu_tanh(g, x, cube):
    if cube == "pow":
        third = g("cube", Pow(scalar=3.0), x)
    else:
        third = g("cube", Mul(), g("square", Mul(), x, x), x)
    inside = g("sum", Add(), x, g("part", Mul(scalar=0.044715), third))
    tanh = g("tanh", Activation("tanh"), g("wide", Mul(scalar=0.7978845608028654), inside))
    return g("y", Mul(), g("half", Mul(scalar=0.5), x), g("one", Add(scalar=1.0), tanh))


def _hard(g, x, at):
    six = g("six", Clamp(0.0, 6.0), g("three", Add(scalar=3.0), x))
    if at == "end":
        return g("y", Div(scalar=6.0), g("product", Mul(), x, six))
    return g("y", Mul(), x, g("sixth", Div(scalar=6.0), six))


WRITTEN = {
    "gelu": [lambda g, x, w=w: _gelu(g, x, w) for w in ("x", "end", "one")],
    "gelu_tanh": [lambda g, x, c=c: _gelu_tanh(g, x, c) for c in ("pow", "mul")],
    "silu": [lambda g, x: g("y", Mul(), g("sigmoid", Activation("sigmoid"), x), x)],
    "mish": [lambda g, x: g("y", Mul(), x, g("tanh", Activation("tanh"), g("s", Activation("softplus"), x)))],
    "hardswish": [lambda g, x, a=a: _hard(g, x, a) for a in ("end", "inside")],
    "square": [lambda g, x: g("y", Mul(), x, x), lambda g, x: g("y", Pow(scalar=2), x)],
}


@pytest.mark.parametrize(("function", "write"), [(k, w) for k, ways in WRITTEN.items() for w in ways])
def test_activations_by_hand(function, write):
    g = Builder("activation")
    (node,) = stay_the_same(g.finish(write(g, g.input("x", (3, 8))))).nodes
    assert node.op == Activation(function)


def _halves(g, x, cos, sin):
    a, b = g("a", Slice(-1, 0, 4), x), g("b", Slice(-1, 4, 8), x)
    turned = g("turned", Concat(-1), g("minus", Activation("neg"), b), a)
    return g("y", Add(), g("straight", Mul(), x, cos), g("across", Mul(), sin, turned))


def _half_tables(g, x, cos, sin):
    a, b = g("split", Split((4, 4), -1), x)
    first = g("first", Sub(), g("ac", Mul(), a, cos), g("bs", Mul(), b, sin))
    return g("y", Concat(-1), first, g("second", Add(), g("bc", Mul(), b, cos), g("as", Mul(), a, sin)))


def _neighbours(g, x, cos, sin):
    a, b = g("a", Slice(-1, 0, None, 2), x), g("b", Slice(-1, 1, None, 2), x)
    each = [
        g(f"{n}_1", Reshape((*y.shape, 1)), y) for n, y in (("b", g("minus", Activation("neg"), b)), ("a", a))
    ]
    turned = g("turned", Reshape(x.shape), g("stacked", Concat(-1), *each))
    return g("y", Add(), g("straight", Mul(), x, cos), g("across", Mul(), turned, sin))


@pytest.mark.parametrize(
    ("write", "width", "layout"),
    [(_halves, 8, "halves"), (_half_tables, 4, "halves"), (_neighbours, 8, "neighbours")],
)
def test_rotary_by_hand(write, width, layout):
    g = Builder("rotary")
    x, cos, sin = g.input("x", (2, 3, 5, 8)), g.input("cos", (5, width)), g.input("sin", (5, width))
    (node,) = stay_the_same(g.finish(write(g, x, cos, sin))).nodes
    assert (node.op.kind, node.op.layout) == ("turn", layout)


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_by_hand(transposed):
    g = Builder("linear")
    x = g.input("x", (2, 3, 6))
    matrix = g("fc", Stored((4, 6) if transposed else (6, 4)))
    y = g("product", MatMul(), x, g("turned", Transpose((1, 0)), matrix) if transposed else matrix)
    y = g("biased", Add(), g("bias", Stored((4,), key="bias"), home="fc"), y)
    (node,) = stay_the_same(g.finish(y)).nodes
    assert (node.name, node.op, node.tied) == ("fc", Linear(6, 4, True, not transposed), {})


def test_inside_a_repeated_layer_names_follow_the_round():
    def layer(g, x):
        return by_hand_rms(g, x, "div", False)

    g = Builder("stack")
    x = g.repeat("layers", 3, layer, g.input("x", (2, 6)))
    graph = g.finish(x)
    fused = stay_the_same(graph)
    assert kinds(fused) == ["rms_norm"] * 3
    assert sorted(fused.parameter_names()) == [f"layers.{i}.norm.weight.weight" for i in range(3)]


@pytest.mark.parametrize(
    "name", ["llama-3.2-1b", "bert-base-uncased", "resnet50", "swin_t", "dlrm", "mamba-130m"]
)
def test_models_of_whole_operators_stay_as_they_are(name):
    graph = find(name).graph(Workload())
    fused = fuse_composites(graph)
    assert count(fused).macs == count(graph).macs
    assert [n.op.kind for n, _, _ in fused.walk()] == [n.op.kind for n, _, _ in graph.walk()]


def test_arrays_of_sizes_pass_through():
    graph = find("gpt2-small").graph(Workload(batch=np.array([1, 2])))
    assert (count(fuse_composites(graph)).macs == count(graph).macs).all()


def triangle(g, size, how):
    """A causal mask of size x size, as libraries make it of nothing but numbers."""
    rows, keys = (g(f"arange_{n}", Arange(size)) for n in ("rows", "keys"))
    rows, keys = g("rows", Reshape((size, 1)), rows), g("keys", Reshape((1, size)), keys)
    if how == "seen":
        seen = g("le", Compare("le"), keys, rows)
        return g("added", Where(0.0, -1e9), seen)
    hidden = g("gt", Compare("gt"), keys, rows)
    return g("added", Where(float("-inf"), 0.0), hidden)


@pytest.mark.parametrize("how", ["seen", "hidden"])
@pytest.mark.parametrize("size", [5, sympy.Symbol("n", integer=True, positive=True)])
def test_a_mask_that_follows_from_sizes_is_causal(how, size):
    g = Builder("causal")
    q, k, v = (g.input(name, (2, 4, size, 6)) for name in "qkv")
    y = eager(g, q, k, v, scale="q", mask=triangle(g, size, how))
    graph = g.finish(y)
    (node,) = fuse_composites(graph).nodes
    assert (node.op.causal, node.inputs) == (True, ("q", "k", "v"))
    if size == 5:
        stay_the_same(graph)


def test_a_mask_that_hides_nothing_is_left_out_and_a_window_stays_a_bias():
    g = Builder("masks")
    q, k, v = (g.input(name, (1, 2, 5, 6)) for name in "qkv")
    nothing = g("nothing", Where(0.0, -1e9), g("all", Full((5, 5), 1.0, "bool")))
    (node,) = stay_the_same(g.finish(eager(g, q, k, v, scale="q", mask=nothing))).nodes
    assert (node.op.causal, len(node.inputs)) == (False, 3)
    g = Builder("masks")
    q, k, v = (g.input(name, (1, 2, 5, 6)) for name in "qkv")
    rows, keys = (
        g("rows", Reshape((5, 1)), g("ar", Arange(5))),
        g("keys", Reshape((1, 5)), g("ak", Arange(5))),
    )
    near = g("near", Where(0.0, -1e9), g("lt", Compare("lt", 2), g("far", Sub(), rows, keys)))
    fused = stay_the_same(g.finish(eager(g, q, k, v, scale="q", mask=near)))
    (node,) = [n for n in fused.nodes if n.op.kind == "attention"]
    assert (node.op.causal, len(node.inputs)) == (False, 4)


def test_keys_copied_for_a_group_are_read_once():
    g = Builder("grouped")
    q, k, v = g.input("q", (2, 4, 5, 6)), g.input("k", (2, 2, 5, 6)), g.input("v", (2, 2, 5, 6))
    wide = []
    for name, value in (("k", k), ("v", v)):
        one = g(f"{name}_one", Reshape((2, 2, 1, 5, 6)), value)
        wide.append(g(f"{name}_heads", Reshape((2, 4, 5, 6)), g(f"{name}_all", Expand((2, 2, 2, 5, 6)), one)))
    (node,) = stay_the_same(g.finish(g("attention", Attention(True), q, *wide))).nodes
    assert (node.op, node.inputs) == (Attention(True), ("q", "k", "v"))


def test_weights_given_as_inputs_are_the_operators_own():
    g = Builder("supplied")
    x = g.input("x", (2, 6))
    weight = g("fc", Stored((6, 6)))
    for i in range(2):
        x = g(f"use.{i}", Supplied.around(Linear(6, 6, False), ["weight"]), x, weight)
    one, two = stay_the_same(g.finish(x)).nodes
    assert (one.name, one.op, one.tied) == ("fc", Linear(6, 6, False), {})
    assert two.tied == {"weight": "fc.weight"}
