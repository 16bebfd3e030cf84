"""Einsum: lowered to matrix products, it computes what NumPy computes; its products are counted."""

import numpy as np
import pytest

from pharos.convert.einsum import einsum
from pharos.convert.to_torch import to_torch
from pharos.graph.count import count
from pharos.graph.graph import Builder
from pharos.quantity.errors import SizeError

CASES = [
    ("ij,jk->ik", [(2, 3), (3, 4)], 24),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)], 120),
    ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)], 720),
    ("bhqk,bhkd->bqhd", [(2, 3, 4, 5), (2, 3, 5, 6)], 720),
    ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)], 120),
    ("ijk->kij", [(2, 3, 4)], 0),
    ("ij->", [(2, 3)], 0),
    ("ii->i", [(3, 3)], 0),
    ("bii->b", [(2, 3, 3)], 0),
    ("i,j->ij", [(2,), (3,)], 0),
    ("ij,ij->ij", [(2, 3), (2, 3)], 0),
    ("i,i", [(3,), (3,)], 3),
    ("ab,bc,cd->ad", [(2, 3), (3, 4), (4, 5)], 24 + 40),
    ("abc,cd->abd", [(2, 3, 4), (4, 5)], 120),
    ("abc,b->ac", [(2, 3, 4), (3,)], 24),
]


@pytest.mark.parametrize(("equation", "shapes", "macs"), CASES)
def test_it_computes_what_numpy_computes(equation, shapes, macs):
    torch = pytest.importorskip("torch")
    g = Builder("e")
    values = [g.input(f"x{i}", s) for i, s in enumerate(shapes)]
    made = [0]

    def add(op, *given):
        made[0] += 1
        return g(f"op{made[0]}", op, *given)

    graph = g.finish(einsum(add, equation, values))
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in shapes]
    found = to_torch(graph)(*map(torch.tensor, arrays))
    np.testing.assert_allclose(found.numpy(), np.einsum(equation, *arrays), rtol=1e-12, atol=1e-12)
    assert count(graph).macs == macs


@pytest.mark.parametrize("equation", ["ij,jk", "ijk->ij", "ij->ik", "ij->ii", "ij,"])
def test_an_equation_that_does_not_fit_is_refused(equation):
    g = Builder("e")
    x = g.input("x", (2, 3))
    with pytest.raises(SizeError, match="einsum"):
        einsum(lambda op, *given: g(f"op{len(g._nodes)}", op, *given), equation, [x])
