"""Pulse: how work slows with it is found from its runs, and taken out again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.measure.pulse import Beat, Pulse, beside, between, sensitivity, slowed, steady

USUAL = Beat(4e-5, 1e-5)


@given(a=st.floats(0.0, 1.2), b=st.floats(0.0, 1.2), seed=st.integers(0, 1000))
def test_the_powers_are_found_whatever_the_work_takes(a, b, seed):
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(60):
        paces = np.exp(rng.normal(0, 0.2, (12, 2)))
        beats = [Beat(USUAL.alone * p, USUAL.together * q) for p, q in paces]
        once = 10 ** rng.uniform(-6, -1)
        samples.append(([once * p**a * q**b for p, q in paces], beats))
    assert sensitivity(samples) == pytest.approx((a, b), abs=0.1)


def test_what_nobody_timed_is_expected_to_slow_as_most_work():
    assert sensitivity([]) == pytest.approx((0.3, 0.6))
    assert sensitivity([([1.0, 2.0], [USUAL, USUAL])]) == pytest.approx((0.3, 0.6))


def test_runs_are_brought_to_the_usual_pulse():
    slow = Beat(2 * USUAL.alone, 3 * USUAL.together)
    assert steady([12.0], [slow], USUAL, (1.0, 1.0)) == pytest.approx([2.0])
    assert slowed(slow.over(USUAL), (0.5, 0.0)) == pytest.approx(2**0.5)
    assert between(USUAL, Beat(4 * USUAL.alone, USUAL.together)).alone == pytest.approx(2 * USUAL.alone)


def test_a_call_is_timed_with_its_pulse():
    pytest.importorskip("torch")
    pulse, calls = Pulse.of(1), []
    seconds, beats, times = beside(lambda: calls.append(1), pulse, seconds=0.0, least=3)
    assert len(seconds) == len(beats) >= 3
    assert times == len(calls)
    # one before the first row and one behind each
    assert len(pulse.taken) == len(set(beats)) + 1
    assert all(b.alone > 0 and b.together > 0 for b in beats)
