"""O-expressions: of polynomials, and of the families as the textbook's complexity tables have them."""

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from pharos.models.families import FORMULAS
from pharos.passes.asymptotic import leading, pretty
from pharos.report.readings import family_formulas, formulas_row

a, b, n = (sympy.Symbol(s, integer=True, positive=True) for s in "abn")


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (7, "O(1)"),
        (3 * a * b + 2 * a + 5, "O(a b)"),
        (a**2 + a * b + b, "O(a^2 + a b)"),
        ((a + b) * (a + 1), "O(a^2 + a b)"),
        (sympy.floor(a / 2) * b + sympy.ceiling(a / 3), "O(a b)"),
        (sympy.Max(a, b * n), "O(a + b n)"),
    ],
)
def test_leading_terms(formula, expected):
    assert leading(formula) == expected


def test_symbols_that_do_not_grow_are_factors():
    assert leading(a * b**3 + a**2, ("a",)) == "O(a^2)"
    assert leading(a * b**3, ("b", "a")) == "O(b^3 a)"


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5))
def test_what_is_dropped_is_outgrown(terms):
    """Over large sizes the kept terms bound the whole by a constant factor, and each is needed."""
    formula = sum((c * a**i * b**j for c, i, j in terms), start=sympy.Integer(0)) + a - a
    kept = leading(formula + 0 * n)
    whole = lambda x, y: sum(c * x**i * y**j for c, i, j in terms)  # noqa: E731
    if kept == "O(1)":
        assert whole(2, 2) == whole(10**6, 10**6)
        return
    parts = kept[2:-1].replace("^", "**").split(" + ")
    values = [sympy.sympify(p.replace(" ", "*"), {"a": a, "b": b}) for p in parts]
    for x, y in ((10**6, 10), (10, 10**6), (10**6, 10**6)):
        bound = sum(v.subs({a: x, b: y}) for v in values)
        assert whole(x, y) <= sum(c for c, _, _ in terms) * bound


def row(family):
    known = FORMULAS[family]
    symbols = {s: sympy.Symbol(s, integer=True, positive=True) for s in known.symbols}
    step = known.decode(symbols) if known.decode else None
    return formulas_row(known.build(symbols), tuple(known.symbols), step)


# Parameters, forward pass and memory as the textbook's comparison of families has them, a batch of B.
TABLE = {
    "mlp": {"parameters": "O(d_in d_out)", "macs": "O(B d_in d_out)", "activations": "O(B d_out)", "depth": "O(1)"},
    "cnn": {"parameters": "O(k^2 c_in c_out)", "macs": "O(B H W k^2 c_in c_out)",
            "activations": "O(B H W c_out)", "depth": "O(1)"},
    "rnn": {"parameters": "O(h^2 + h d)", "macs": "O(B S h^2 + B S h d)", "state_bytes": "O(B h)",
            "activations": "O(B S h)", "depth": "O(S)", "width": "O(B h)"},
    "attention": {"macs": "O(B n^2 d)", "activations": "O(B n^2 + B n d)", "depth": "O(1)",
                  "state_bytes": "O(B n d)", "step_macs": "O(B n d)"},
    "transformer": {"parameters": "O(d^2)", "macs": "O(B n^2 d + B n d^2)",
                    "activations": "O(B n^2 + B n d)", "depth": "O(1)", "state_bytes": "O(B n d)"},
    "dlrm": {"parameters": "O(F R E)", "macs": "O(B F^2 E)", "depth": "O(1)"},
    "ssm": {"macs": "O(B n d N)", "depth": "O(1)", "state_bytes": "O(B d N)", "step_macs": "O(B d N)"},
}  # fmt: skip


@pytest.mark.parametrize("family", sorted(TABLE))
def test_families_have_the_complexities_of_the_textbook(family):
    found = row(family)
    assert {name: found[name]["leading"] for name in TABLE[family]} == TABLE[family]


def test_exact_formulas():
    d, m = sympy.symbols("d n", integer=True, positive=True)
    assert pretty(12 * d**2 + 13 * d) == "d (12 d + 13)"
    assert row("transformer")["parameters"]["exact"] == "d (12 d + 13)"
    assert row("cnn")["macs"]["exact"] == "B H W c_in c_out k^2"
    assert pretty(1234567) == "1,234,567"
    assert m


def test_families_by_other_names():
    assert family_formulas("conv")[0] == "cnn"
    assert family_formulas("Dense")[0] == "mlp"
    assert family_formulas("resnet50") is None
