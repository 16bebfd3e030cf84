"""Substitution: a graph of formulas at a size is the graph that is built for that size."""

import numpy as np
import pytest
import sympy

from pharos.graph.count import count
from pharos.graph.substitute import substitute, symbols_of
from pharos.graph.workload import Workload
from pharos.models.registry import find

B = sympy.Symbol("B", integer=True, positive=True)
N = sympy.Symbol("n", integer=True, positive=True)


@pytest.mark.parametrize(
    "name", ["resnet50", "gpt2-small", "mixtral-8x7b", "dlrm", "lstm_tagger", "mamba-130m"]
)
def test_a_batch_put_in_later_is_the_graph_built_for_it(name):
    model = find(name)
    formula = model.graph(Workload(batch=B))
    assert symbols_of(formula) == {B}
    assert substitute(formula, {B: 3}) == model.graph(Workload(batch=3))
    batches = np.array([1.0, 2.0, 5.0])
    counted = count(substitute(formula, {B: batches}))
    expected = [count(model.graph(Workload(batch=int(b)))) for b in batches]
    assert np.broadcast_to(counted.macs, 3).tolist() == [c.macs for c in expected]
    assert np.broadcast_to(counted.traffic_per_op, 3).tolist() == [c.traffic_per_op for c in expected]


def test_two_symbols_and_one_left():
    model = find("gpt2-small")
    formula = model.graph(Workload(batch=B, context=N))
    half = substitute(formula, {N: 64})
    assert symbols_of(half) == {B}
    assert count(substitute(half, {B: 2})).macs == count(model.graph(Workload(batch=2, context=64))).macs
