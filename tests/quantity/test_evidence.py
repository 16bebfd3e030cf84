"""Evidence: the weakest part decides, unknown is never dropped."""

import math

import numpy as np
import pytest

from pharos.quantity.evidence import (
    Kind,
    assumed,
    banded,
    counted,
    fitted,
    merge,
    sigma_of,
    unknown_because,
    unknown_figure,
    weakest,
)


def test_the_weakest_part_decides():
    parts = [counted("shapes"), fitted("rows", 0.1), assumed("a guess")]
    assert weakest(parts).kind is Kind.ASSUMED
    assert weakest([*parts, unknown_because("no figure")]).kind is Kind.UNKNOWN
    assert [e.kind for e in merge(parts)] == [Kind.ASSUMED, Kind.FITTED, Kind.COUNTED]


def test_an_80_percent_band_is_1_28_sigma_of_the_log():
    figure = banded(1.0, "s", 0.2, [fitted("rows", 0.2)])
    assert figure.high == pytest.approx(math.exp(1.2816 * 0.2))
    assert figure.low * figure.high == pytest.approx(1.0)
    assert sigma_of(figure.low, figure.high) == pytest.approx(0.2)


def test_bands_of_arrays():
    figure = banded(np.array([1.0, 2.0]), "s", 0.1, [])
    assert figure.low.shape == (2,)


def test_unknown_has_no_value():
    figure = unknown_figure("W", "idle power not in the catalogue", low=1.3)
    assert not figure.is_known
    assert figure.level == "unknown"
    assert figure.low == 1.3
