"""Learning curves: known laws are found again, what cannot be told is said, leads come with honest intervals."""

from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.decide.curves import Curve, PowerLaw, advantage, fit_law, fit_laws

SIZES = (20, 40, 80, 160, 320, 640)


def curve(values, noise=0.0, seeds=3, name="a", sizes=SIZES, chance=0.9, seed=0):
    rng = np.random.default_rng(seed)
    errors = tuple(tuple(v * (1 + noise * rng.normal(size=seeds))) for v in values)
    return Curve(name=name, sizes=sizes, errors=errors, chance=chance, tested=1000)


def of(law, **more):
    return curve([law.at(n) for n in more.get("sizes", SIZES)], **more)


@settings(max_examples=60, deadline=None)
@given(
    floor=st.floats(0, 0.3), scale=st.floats(0.2, 8), steepness=st.floats(0.15, 1.5),
)  # fmt: skip
def test_a_law_is_found_again(floor, scale, steepness):
    known = PowerLaw(floor=floor, scale=scale, steepness=steepness)
    found = fit_law(SIZES, [known.at(n) for n in SIZES])
    # where the fall is over before the first size, constants are not told but errors are
    for n in (*SIZES, 100, 1500):
        assert found.at(n) == pytest.approx(known.at(n), rel=2e-3)
    if scale * SIZES[-1] ** -steepness > 0.2 * (floor + 0.01):
        assert found.steepness == pytest.approx(steepness, rel=0.02)


def test_rows_are_fitted_as_each_alone():
    rng = np.random.default_rng(1)
    rows = (0.05 + 2 * np.array(SIZES) ** -0.6) * rng.normal(1, 0.05, (7, len(SIZES)))
    assert fit_laws(SIZES, rows) == [fit_law(SIZES, row) for row in rows]


def test_the_fit_is_least_squares_under_its_bounds():
    """No point of a fine grid over all three constants is better; scipy is not needed to know."""
    errors = np.array([0.5, 0.31, 0.27, 0.16, 0.14, 0.11])
    found = fit_law(SIZES, errors)

    def miss(floor, scale, steepness):
        told = floor + scale * np.array(SIZES) ** -steepness
        return float((((told - errors) / errors) ** 2).sum())

    best = miss(found.floor, found.scale, found.steepness)
    grid = min(
        miss(f, s, c)
        for f in np.linspace(0, 0.12, 13) for s in np.linspace(0.5, 8, 60) for c in np.linspace(0.1, 1.5, 57)
    )  # fmt: skip
    assert best <= grid + 1e-9


def test_needs_inverts_at():
    law = PowerLaw(floor=0.02, scale=3, steepness=0.7)
    assert law.needs(law.at(777)) == pytest.approx(777)
    assert law.needs(0.02) == inf


def test_the_interval_of_an_extrapolation_holds_the_truth():
    """Of laws with known constants and noisy seeds, about 80% of intervals hold; at least 60% and not all."""
    law = PowerLaw(floor=0.03, scale=2.5, steepness=0.65)
    held = 0
    for seed in range(40):
        found, why = of(law, noise=0.08, seed=seed).extrapolated(2560, seed)
        assert found is not None, why
        held += found.low <= law.at(2560) <= found.high
    assert 24 <= held <= 40


@pytest.mark.parametrize(
    ("values", "sizes", "why"),
    [
        ([0.5, 0.3, 0.2], (20, 40, 80), "a law takes 4"),
        ([0.5, 0.5, 0.51, 0.5, 0.5, 0.5], SIZES, "does not fall"),
        ([0.89, 0.88, 0.87, 0.88, 0.5, 0.3], SIZES, "2 sizes below chance"),
    ],
)
def test_what_cannot_be_told_is_said(values, sizes, why):
    found, words = curve(values, noise=0.01, sizes=sizes).extrapolated(10_000)
    assert found is None
    assert why in words


def test_a_plateau_at_chance_is_left_out_of_the_law():
    law = PowerLaw(floor=0.01, scale=4, steepness=0.6)
    sizes = (5, 10, *SIZES)
    found, why = curve([0.9, 0.9, *(law.at(n) for n in SIZES)], sizes=sizes).law()
    assert found is not None, why
    assert found.steepness == pytest.approx(0.6, rel=0.02)


def test_a_lead_is_the_ratio_of_samples():
    """The second needs four times as many: its law is the first's with n / 4."""
    first = PowerLaw(floor=0, scale=3, steepness=0.7)
    second = PowerLaw(floor=0, scale=3 * 4**0.7, steepness=0.7)
    found = advantage(of(first, noise=0.03, chance=5), of(second, noise=0.03, name="b", seed=1, chance=5))
    assert found is not None
    assert found.ratio.value == pytest.approx(4, rel=0.15)
    assert found.ratio.low <= 4 <= found.ratio.high * 1.1
    assert found.clear
    assert not found.ratio.least
    assert found.gap > 0
    back = advantage(of(second, noise=0.03, name="b", seed=1, chance=5), of(first, noise=0.03, chance=5))
    assert back is not None
    assert back.ratio.value == pytest.approx(1 / found.ratio.value, rel=1e-9)


def test_equals_are_not_told_apart_and_one_seed_tells_nothing():
    law = PowerLaw(floor=0.01, scale=3, steepness=0.7)
    found = advantage(of(law, noise=0.1), of(law, noise=0.1, seed=5, name="b"))
    assert found is not None
    assert not found.clear
    assert found.ratio.low <= 1 <= found.ratio.high
    alone = advantage(of(law, seeds=1), of(PowerLaw(floor=0.1, scale=5, steepness=0.5), seeds=1, name="b"))
    assert alone is not None
    assert not alone.clear
    assert alone.gap_spread is None


def test_one_that_never_learns_gives_a_bound_and_two_give_nothing():
    good = of(PowerLaw(floor=0.01, scale=3, steepness=0.7), noise=0.02)
    bad = curve([0.89] * len(SIZES), noise=0.01, name="b")
    found = advantage(good, bad)
    assert found is not None
    assert found.ratio.least
    assert found.ratio.value > 2
    assert not bad.learns
    assert advantage(bad, bad) is None


def test_samples_to_an_error_lie_between_sizes():
    found = curve([0.4, 0.2], sizes=(100, 400), seeds=1)
    assert found.needs(0.3) == (pytest.approx(exp((log(100) + log(400)) / 2)), 0)
    assert found.needs(0.1) == (400.0, 1)
    assert found.needs(0.5) == (100.0, -1)
