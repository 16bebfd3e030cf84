"""Fold: layers written out become repeated ones, and written out again they are what they were."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder, Repeat
from pharos.graph.workload import Workload
from pharos.models.registry import find, names
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.norm import LayerNorm
from pharos.ops.shape_ops import Concat
from pharos.ops.stored import Stored
from pharos.passes.fold import fold_repeats


def size(graph):
    return sum(1 + size(n.body) if isinstance(n, Repeat) else 1 for n in graph.nodes)


def figures(graph):
    counted = count(graph)
    return counted.macs, counted.parameters, counted.traffic_per_op, counted.state_bytes


@pytest.mark.parametrize("name", sorted(names()))
def test_catalogue_written_out_and_folded_again(name):
    graph = find(name).graph()
    plain = graph.expanded()
    folded = fold_repeats(plain)
    assert folded.expanded() == plain
    assert figures(folded) == figures(graph)
    assert size(folded) <= size(graph)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_caches_stay_with_their_layers(phase):
    graph = find("gemma-2-2b").graph(Workload(phase=phase, context=64))
    folded = fold_repeats(graph.expanded())
    assert folded.expanded() == graph.expanded()
    assert figures(folded) == figures(graph)
    (layers,) = [n for n in folded.nodes if isinstance(n, Repeat)]
    assert (layers.count, layers.period) == (13, 2)


def layer(g, x, more=None):
    width = x.shape[-1]
    y = g("fc1", Linear(width, 2 * width), g("norm", LayerNorm(width), x))
    y = g("fc2", Linear(2 * width, width), g("act", Activation("gelu"), y))
    y = y if more is None else g("shift", Add(), y, more)
    return g("add", Add(), x, y)


def stack(count, *, start=0, names="layers.{}", between=None, shared=False):
    g = Builder("stack")
    x = g.input("x", (2, 4))
    more = g.input("more", (2, 4)) if shared else None
    made = []
    for i in range(start, start + count):
        with g.scope(names.format(i)):
            x = layer(g, x, more)
        made.append(x)
    return g, made


def rounds(graph):
    return [(n.name, n.start, n.count, n.period) for n in graph.nodes if isinstance(n, Repeat)]


@given(st.integers(2, 6), st.integers(0, 3), st.booleans())
def test_a_stack_is_one_layer(count, start, shared):
    g, made = stack(count, start=start, shared=shared)
    graph = g.finish(made[-1])
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", start, count, 1)]
    assert folded.expanded() == graph
    (repeat,) = folded.nodes
    assert len(repeat.inputs) == (2 if shared else 1)


def test_it_runs_as_it_did():
    g, made = stack(3, shared=True)
    graph = g.finish(made[-1])
    folded = fold_repeats(graph)
    one, two = to_torch(graph), to_torch(folded)
    two.load_state_dict(one.state_dict())
    x, more = torch.randn(2, 4), torch.randn(2, 4)
    assert torch.equal(one(x, more), two(x, more))


def test_a_layer_whose_result_is_wanted_ends_a_run():
    g, made = stack(6)
    graph = g.finish(made[2], made[-1])
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 3, 1), ("layers", 3, 3, 1)]
    assert folded.expanded() == graph


def test_what_is_read_inside_a_layer_keeps_it_out():
    g, made = stack(4)
    inside = next(n for n in g._nodes if n.name == "layers.3.fc2")
    extra = g("extra", Activation("relu"), replace(made[-1], name=inside.outputs[0]))
    graph = g.finish(made[-1], extra)
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 3, 1)]
    assert folded.expanded() == graph


def test_names_out_of_order_or_of_another_form_do_not_fold():
    for pattern in ("layer{}", "layers.{}_x", "a.0{}"):
        g, made = stack(3, names=pattern)
        graph = g.finish(made[-1])
        assert fold_repeats(graph) == graph
    g = Builder("order")
    x = g.input("x", (2, 4))
    for i in (2, 0, 1):
        with g.scope(f"layers.{i}"):
            x = layer(g, x)
    folded = fold_repeats(g.finish(x))
    assert rounds(folded) == [("layers", 0, 2, 1)]


def test_a_layer_that_differs_stays_out():
    g = Builder("differs")
    x = g.input("x", (2, 4))
    for i in range(5):
        with g.scope(f"layers.{i}"):
            x = layer(g, x)
            x = g("extra", Activation("relu"), x) if i == 2 else x
    graph = g.finish(x)
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 3, 1), ("layers", 3, 2, 1)]
    assert folded.nodes[1].name == "layers.2.extra"
    assert folded.expanded() == graph


def test_layers_in_turn_are_one_round():
    g = Builder("turns")
    x = g.input("x", (2, 4))
    for i in range(6):
        with g.scope(f"layers.{i}"):
            x = g("last", Activation("relu" if i % 2 else "gelu"), layer(g, x))
    graph = g.finish(x)
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 3, 2)]
    assert folded.expanded() == graph


def test_ties_to_a_parameter_outside_are_kept():
    g = Builder("tied")
    x = g("embed", Linear(4, 4), g.input("x", (2, 4)))
    for i in range(3):
        x = g(f"layers.{i}.fc", Linear(4, 4), x, tied={"weight": "embed.weight"})
    graph = g.finish(x)
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 3, 1)]
    assert folded.expanded() == graph
    assert count(folded).parameters == 4 * (4 * 4) // 4 + 4 * 4


def test_a_parameter_of_each_round_that_is_tied_within_it_does_not_fold():
    g = Builder("tied")
    x = g.input("x", (2, 4))
    for i in range(3):
        x = g(f"layers.{i}.a", Linear(4, 4), x)
        x = g(f"layers.{i}.b", Linear(4, 4), x, tied={"weight": f"layers.{i}.a.weight"})
    graph = g.finish(x)
    assert fold_repeats(graph) == graph


def test_dense_concatenation_does_not_fold():
    g = Builder("dense")
    x = g.input("x", (2, 4))
    for i in range(4):
        y = g(f"layers.{i}.fc", Linear(x.shape[-1], 4), x)
        x = g(f"layers.{i}.cat", Concat(1), x, y)
    graph = g.finish(x)
    assert fold_repeats(graph) == graph


def test_operators_without_a_path_go_with_their_layer():
    """As exporters write it: parameters have paths, what is between them a counter."""
    g = Builder("exported")
    x, number = g.input("x", (2, 4)), 0
    for i in range(4):
        y = g(f"node_{number}", Activation("relu"), x)
        y = g(f"layers.{i}.fc", Linear(4, 4), y)
        x = g(f"node_{number + 1}", Add(), x, y)
        number += 2
    graph = g.finish(x)
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 4, 1)]
    assert folded.parameter_names() == graph.parameter_names()
    assert list(folded.parameter_names()) == list(graph.parameter_names())
    assert figures(folded) == figures(graph)


def test_a_stored_value_that_all_layers_read_may_stand_in_the_first():
    g = Builder("mask")
    x = g.input("x", (2, 4))
    mask = None
    for i in range(3):
        y = g(f"layers.{i}.fc", Linear(4, 4), x)
        mask = g("mask", Stored((2, 4), trainable=False)) if mask is None else mask
        x = g(f"layers.{i}.add", Add(), y, mask)
    folded = fold_repeats(g.finish(x))
    assert rounds(folded) == [("layers", 0, 3, 1)]


def test_parameters_under_another_module_follow_the_round():
    g = Builder("home")
    x = g.input("x", (2, 4))
    for i in range(3):
        with g.scope(f"layers.{i}"):
            bias = g("shift", Stored((4,), key="bias"), home="")
            x = g("add", Add(), g("fc", Linear(4, 4), x), bias)
    graph = g.finish(x)
    folded = fold_repeats(graph)
    assert rounds(folded) == [("layers", 0, 3, 1)]
    assert folded.expanded() == graph
    assert "layers.2.bias" in folded.parameter_names()


def test_layers_within_layers():
    g = Builder("nested")
    x = g.input("x", (2, 4))
    for i in range(3):
        for j in range(4):
            with g.scope(f"stages.{i}.blocks.{j}"):
                x = layer(g, x)
        x = g(f"stages.{i}.down.norm", LayerNorm(4), x)
    graph = g.finish(x)
    folded = fold_repeats(graph)
    (stages,) = folded.nodes
    assert (stages.name, stages.count) == ("stages", 3)
    assert rounds(stages.body) == [("blocks", 0, 4, 1)]
    assert folded.expanded() == graph
