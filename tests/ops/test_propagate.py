"""Propagation over edges: a product with the adjacency matrix, alone and inside a graph convolution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.graph.op import Tally
from pharos.ops.linear import Linear
from pharos.ops.propagate import Propagate
from pharos.quantity.errors import PharosError


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from(["sum", "mean"]),
    st.integers(0, 99),
)
def test_is_the_product_with_the_adjacency_matrix(nodes, features, edges, reduction, seed):
    rng = np.random.default_rng(seed)
    x, ends = rng.normal(size=(nodes, features)), rng.integers(0, nodes, (2, edges))
    adjacency = np.zeros((nodes, nodes))
    np.add.at(adjacency, (ends[1], ends[0]), 1)
    if reduction == "mean":
        adjacency /= np.maximum(adjacency.sum(1, keepdims=True), 1)
    np.testing.assert_allclose(Propagate(reduction).loops(Tally(), x, ends), adjacency @ x, atol=1e-12)


def test_a_graph_convolution_costs_its_product_and_its_edges():
    torch = pytest.importorskip("torch")
    g = Builder("gcn")
    x, ends = g.input("x", (5, 8)), g.input("edges", (2, 7), "int64")
    graph = g.finish(g("spread", Propagate("mean"), g("lin", Linear(8, 3, bias=False), x), ends))
    found = count(graph)
    assert found.macs == 5 * 8 * 3
    assert found.work.vector_flops == 7 * 3 + 7 + 5
    module = to_torch(graph)
    rng = np.random.default_rng(0)
    features, edges = (
        torch.tensor(rng.normal(size=(5, 8)), dtype=torch.float32),
        torch.tensor(rng.integers(0, 5, (2, 7))),
    )
    # nodes renamed, edges with them: outputs follow
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    renamed = torch.empty_like(order)
    renamed[order] = torch.arange(5)
    torch.testing.assert_close(module(features[order], renamed[edges]), module(features, edges)[order])


def test_what_is_no_graph_is_refused():
    g = Builder("bad")
    x, ends = g.input("x", (5, 8)), g.input("edges", (3, 7), "int64")
    with pytest.raises(PharosError, match="from and to"):
        g("spread", Propagate(), x, ends)
    with pytest.raises(PharosError, match="did you mean mean"):
        Propagate("maen")
