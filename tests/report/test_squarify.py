"""Squarified rectangles: areas in proportion, no overlap, all inside, nothing left free, none too long."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.report.squarify import Rectangle, squarify

WITHIN = Rectangle(3.0, 5.0, 490.0, 330.0)
SIZES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=60)


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_areas_are_in_proportion_and_fill_it(sizes):
    made = squarify(sizes, WITHIN)
    scale = WITHIN.width * WITHIN.height / sum(sizes)
    for size, r in zip(sizes, made, strict=True):
        assert r.width * r.height == pytest.approx(size * scale, rel=1e-6, abs=1e-6)
        assert r.x >= WITHIN.x - 1e-6
        assert r.y >= WITHIN.y - 1e-6
        assert r.x + r.width <= WITHIN.x + WITHIN.width + 1e-6
        assert r.y + r.height <= WITHIN.y + WITHIN.height + 1e-6
    assert sum(r.width * r.height for r in made) == pytest.approx(WITHIN.width * WITHIN.height)


@given(SIZES)
@settings(max_examples=60, deadline=None)
def test_none_overlap(sizes):
    made = squarify(sizes, WITHIN)
    for i, a in enumerate(made):
        for b in made[:i]:
            across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
            down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
            assert min(across, down) <= 1e-6 or across * down <= 1e-4


def test_the_papers_example():
    # Bruls et al., figure 5: 6, 6, 4, 3, 2, 2, 1 in 6 x 4; the first row are the two sixes, 3 x 2 each
    made = squarify([6, 6, 4, 3, 2, 2, 1], Rectangle(0, 0, 6, 4))
    assert made[0] == Rectangle(0, 0, 3, 2)
    assert made[1] == Rectangle(0, 2, 3, 2)
    # then 4 and 3 side by side above the rest
    assert made[2].height == pytest.approx(7 / 3)
    assert made[2].width == pytest.approx(12 / 7)


def test_equal_sizes_stay_near_squares():
    made = squarify([1.0] * 36, Rectangle(0, 0, 100, 100))
    assert max(max(r.width / r.height, r.height / r.width) for r in made) < 1.6


def test_nothing_has_no_area():
    assert squarify([0, 2, 0], WITHIN)[0].width == 0
    assert squarify([], WITHIN) == []
    assert all(r.width == 0 for r in squarify([0, 0], WITHIN))
    with pytest.raises(ValueError, match="negative"):
        squarify([1, -1], WITHIN)
