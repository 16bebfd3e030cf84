"""Sizes: the helpers agree in the three readings."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from pharos.quantity import sizes
from pharos.quantity.errors import SizeError

positive = st.integers(1, 10**6)
TWO = [
    (sizes.floor_div, lambda a, b: a // b),
    (sizes.ceil_div, lambda a, b: (a + b - 1) // b),
    (sizes.maximum, max),
    (sizes.minimum, min),
]


@pytest.mark.parametrize(("ours", "plain"), TWO)
@given(a=positive, b=positive)
def test_two_argument_helpers(ours, plain, a, b):
    x, y = sympy.symbols("x y", integer=True, positive=True)
    assert ours(a, b) == plain(a, b)
    assert ours(np.array([a, a], float), np.array([b, b], float)).tolist() == [plain(a, b)] * 2
    assert int(ours(x, y).subs({x: a, y: b})) == plain(a, b)


@given(positive)
def test_ceil_log2(n):
    expected = next(k for k in range(64) if 2**k >= n)
    assert sizes.ceil_log2(n) == expected
    assert sizes.ceil_log2(np.array([n], float))[0] == expected
    x = sympy.Symbol("x", positive=True)
    assert int(sizes.ceil_log2(x).subs(x, n)) == expected


@pytest.mark.parametrize(
    "bad", [0, -1, 1.5, True, "3", None, 10**19, np.array([0.0]), np.array([1.5]), np.array([1e19])]
)
def test_a_size_is_positive_whole_and_sane(bad):
    with pytest.raises(SizeError, match="batch"):
        sizes.size(bad, "batch")


def test_arrays_become_floats_so_that_products_do_not_wrap():
    n = sizes.size(np.array([2**40], dtype="int64"))
    assert (n * n * 4)[0] == pytest.approx(2.0**82)


@pytest.mark.parametrize(("x", "expected"), [(24, 24), (11.2, 16), (67.2, 64), (12 * 0.75, 16), (33, 32)])
def test_round_to_follows_the_mobilenet_rule(x, expected):
    # never below 90% of x: 9 -> 8 would be 0.89, so it goes up to 16
    assert sizes.round_to(x, 8) == expected


def test_same():
    n = sympy.Symbol("n")
    assert sizes.same(3, 3)
    assert not sizes.same(3, 4)
    assert sizes.same(n * 2, n + n)
    assert sizes.same(np.array([2.0, 2.0]), 2)
