"""The race of host and device in closed form against a loop over every launch, rounds written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.passes.fuse import Rounds
from pharos.predict.timeline import Span, launch, span_of

SECONDS = st.floats(0, 1e-4)
LAUNCH = st.tuples(SECONDS, SECONDS)
VIEW = st.tuples(SECONDS, st.none())
STEPS = st.recursive(
    st.lists(LAUNCH | VIEW, min_size=1, max_size=5),
    lambda inner: st.lists(LAUNCH | VIEW | st.tuples(st.integers(1, 7), inner), min_size=1, max_size=4),
    max_leaves=6,
)


def race(steps, wait, host=0.0, device=0.0):
    """(host, device) after every step, one at a time."""
    for first, second in steps:
        if isinstance(second, list):
            for _ in range(first):
                host, device = race(second, wait, host, device)
            continue
        host += first
        if second is not None:
            device = max(device, host + wait) + second
    return host, device


def closed(steps, wait):
    found = []

    def written(steps):
        made = []
        for first, second in steps:
            if isinstance(second, list):
                made.append(Rounds(first, written(second)))
            else:
                found.append(Span(host=first) if second is None else launch(first, second, wait))
                made.append(len(found) - 1)
        return tuple(made)

    return span_of(written(steps), lambda i: found[i], lambda line: Span())


@given(STEPS, st.floats(0, 1e-5))
def test_rounds_in_closed_form_give_what_a_loop_gives(steps, wait):
    host, device = race(steps, wait)
    whole = closed(steps, wait)
    assert whole.host == pytest.approx(host, rel=1e-9, abs=1e-15)
    assert whole.end == pytest.approx(max(host, device), rel=1e-9, abs=1e-15)
    # the device alone, and the host alone, are what it cannot beat
    assert whole.end >= whole.device - 1e-15


def test_arrays_of_rounds_and_seconds_give_what_numbers_give():
    kernels = np.array([1e-6, 5e-6, 9e-6])
    rounds = np.array([1.0, 10.0, 1000.0])
    body = Span(host=2e-6).then(launch(3e-6, kernels, 4e-6)).then(launch(1e-6, 2 * kernels, 4e-6))
    found = body.times(rounds).then(launch(3e-6, kernels, 4e-6)).end
    for i in range(3):
        steps = [
            (int(rounds[i]), [(2e-6, None), (3e-6, kernels[i]), (1e-6, 2 * kernels[i])]),
            (3e-6, kernels[i]),
        ]
        assert found[i] == pytest.approx(max(race(steps, 4e-6)))


def test_the_slower_side_decides_in_the_long_run():
    """Ten thousand launches: the sum of the host's parts or of the kernels, not of both."""
    for host, device in ((5e-6, 2e-6), (2e-6, 5e-6)):
        end = launch(host, device, 3e-6).times(10_000).end
        assert end == pytest.approx(10_000 * 5e-6, rel=1e-3)
