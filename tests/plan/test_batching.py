"""Continuous batching: tokens are conserved, room is never over-committed, and queues behave as theory says."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharos.plan.batching import Pool, simulate
from pharos.plan.outcome import Goal, highest_rate
from pharos.plan.traces import Trace, poisson, read_trace, typical_lengths
from pharos.quantity.errors import InputError, PharosError


class Linear:
    """Step times by a formula, for what a simulation does with them."""

    def __init__(self, *, fixed=0.01, token=1e-5, sequence=1e-4, cached=1e-7, **deployment):
        self.fixed, self.token, self.sequence, self.cached = fixed, token, sequence, cached
        self.deployment = SimpleNamespace(
            **{"sequences": 64, "chunk": 512, "chunked": True, "shared_prefix": 0, **deployment}
        )
        self.calls = 0

    def decoding(self, sequences, context):
        self.calls += 1
        return self.fixed + sequences * (self.sequence + self.cached * context)

    def mixed(self, parts, ends, sequences, context):
        self.calls += 1
        brought = sum(t * (self.token + self.cached * p) for t, p in parts)
        return self.fixed + brought + sequences * (self.sequence + self.cached * context)


def drawn(seed: int, n: int = 120, rate: float = 20.0, prompt: int = 200, output: int = 40) -> Trace:
    return poisson(rate, n, prompt, output, seed=seed, spread="lognormal", longest=2000)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(130, 3000), st.sampled_from([1, 7, 16]), st.booleans(),
    st.sampled_from(["recompute", "swap"]), st.sampled_from([0, 48]), st.sampled_from([None, 5, 200]),
)  # fmt: skip
def test_conserves_tokens_and_never_overcommits(
    seed, blocks, size, chunked, preemption, shared, users
) -> None:
    pool = Pool(blocks=blocks * 16 // size, tokens=size, fixed=lambda n: 2, block_bytes=1e6)
    steps = Linear(chunked=chunked, shared_prefix=shared)
    trace = drawn(seed, rate=50.0)
    run = simulate(steps, pool, trace, preemption=preemption, swap_bytes_per_s=1e9, concurrency=users)
    served = run.served
    assert run.refused == int((~served).sum())
    assert run.tokens == int(run.output[served].sum())
    assert run.blocks_left == 0
    assert run.peak_blocks <= pool.blocks
    assert run.peak_sequences <= 64
    assert (run.admitted[served] >= run.arrival[served]).all()
    assert (run.first[served] > run.admitted[served]).all()
    assert (run.finish[served] >= run.first[served]).all()
    # every token but the first of an answer closes a gap; one taken in again opens none of its own
    gaps = int((run.output[served] - 1).sum())
    assert gaps - run.preemptions <= run.gap_tokens.sum() <= gaps


def test_first_come_first_served_without_preemption() -> None:
    run = simulate(Linear(), Pool(blocks=10**6, tokens=16), drawn(1, rate=100.0))
    assert run.preemptions == 0
    assert (np.diff(run.admitted) >= 0).all()
    assert (np.diff(run.first) >= 0).all()


def test_skipping_alike_steps_changes_nothing() -> None:
    class Watched(Linear):
        """Counts steps one by one: an answer of n tokens is n steps."""

    steps = Watched(cached=0.0)
    trace = Trace(np.array([0.0]), np.array([100]), np.array([1001]))
    run = simulate(steps, Pool(blocks=1000, tokens=16), trace)
    assert run.steps == 1001
    assert steps.calls < 10
    by_hand = (0.01 + 100 * 1e-5) + 1000 * (0.01 + 1e-4)
    assert run.finish[0] == pytest.approx(by_hand, rel=1e-12)
    assert run.of("tpot")[0] == pytest.approx(0.01 + 1e-4)


def test_growing_context_is_summed_exactly() -> None:
    trace = Trace(np.array([0.0]), np.array([100]), np.array([51]))
    run = simulate(Linear(), Pool(blocks=1000, tokens=16), trace)
    by_hand = 0.01 + 100 * 1e-5 + sum(0.01 + 1e-4 + 1e-7 * (100 + i) for i in range(50))
    assert run.finish[0] == pytest.approx(by_hand, rel=1e-12)


def test_littles_law() -> None:
    run = simulate(Linear(), Pool(blocks=10**5, tokens=16), drawn(3, n=4000, rate=12.0))
    arrivals_per_s = len(run.arrival) / run.finish.max()
    assert run.in_system == pytest.approx(arrivals_per_s * run.mean("e2e"), rel=0.02)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_at_a_time_is_an_m_d_1_queue(load: float) -> None:
    # one token out and one sequence at most: each request takes D = fixed + prompt x token, alone.
    # Waiting of M/D/1: rho D / (2 (1 - rho)) (Pollaczek and Khinchine)
    steps, service = Linear(sequences=1), 0.01 + 100 * 1e-5
    trace = poisson(load / service, 60_000, 100, 1, seed=5)
    run = simulate(steps, Pool(blocks=1000, tokens=16), trace)
    assert run.mean("queue") == pytest.approx(load * service / (2 * (1 - load)), rel=0.06)
    assert run.busy_s / run.duration_s == pytest.approx(load, rel=0.02)


def test_closed_loop_keeps_users_busy() -> None:
    # u users, no prompts to speak of: a token each a step, so u / step tokens a second
    trace = Trace(np.zeros(64), np.full(64, 1), np.full(64, 500))
    steps = Linear(token=0.0, cached=0.0)
    run = simulate(steps, Pool(blocks=10**5, tokens=16), trace, concurrency=8)
    assert run.tokens_per_s == pytest.approx(8 / (0.01 + 8e-4), rel=0.01)
    assert run.peak_sequences == 8


def test_chunks_bound_the_gap_between_tokens() -> None:
    prompts = Trace(np.array([0.0, 0.5]), np.array([16, 8192]), np.array([400, 2]))
    room = Pool(blocks=10**5, tokens=16)
    whole, parts = (simulate(Linear(chunked=c, cached=0.0), room, prompts) for c in (False, True))
    assert whole.percentile("itl", 100) > 0.08
    assert parts.percentile("itl", 100) < whole.percentile("itl", 100) / 3
    # what is gained there is paid by the prompt
    assert parts.of("ttft")[1] > whole.of("ttft")[1]


def test_too_long_for_the_room_is_refused() -> None:
    trace = Trace(np.array([0.0, 0.0, 1.0]), np.array([100, 100_000, 100]), np.array([10, 10, 10]))
    run = simulate(Linear(), Pool(blocks=100, tokens=16), trace)
    assert run.refused == 1
    assert run.served.tolist() == [True, False, True]
    assert Goal.of("ttft=10s,p=60").holds(run)
    assert not Goal.of("ttft=10s,p=70").holds(run)


def test_highest_rate_is_the_edge() -> None:
    steps, trace, goal = Linear(), drawn(7, n=600), Goal.of("ttft=100ms,tpot=40ms,p=95")

    def run(rate):
        return simulate(steps, Pool(blocks=2000, tokens=16), trace.at(rate))

    rate, best = highest_rate(run, goal, start=1.0)  # type: ignore[misc]
    assert goal.holds(best)
    assert goal.holds(run(rate))
    assert not goal.holds(run(rate * 1.05))
    assert highest_rate(run, Goal.of("ttft=1us"), start=1.0) is None


def test_goals_are_read_and_refused() -> None:
    goal = Goal.of("ttft=1s, tpot=50ms, p=99")
    assert goal.limits == {"ttft": 1.0, "tpot": 0.05}
    assert goal.percent == 99
    for wrong in ("ttft", "ttft=", "speed=1s", "ttft=0s", "ttft=3 apples", "p=90", "ttft=1s,p=0"):
        with pytest.raises(PharosError):
            Goal.of(wrong)


def test_traces_from_files(tmp_path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("arrival_s,prompt_tokens,output_tokens\n3,5,6\n1.5,10,20\n")
    found = read_trace(file)
    assert found.arrival.tolist() == [0.0, 1.5]
    assert found.prompt.tolist() == [10, 5]
    file.write_text('{"arrival": 0, "prompt": 3, "output": 4}\n\n{"arrival": 2, "prompt": 1, "output": 1}\n')
    assert read_trace(file).output.tolist() == [4, 1]
    for text, says in (
        ("", "empty"),
        ("arrival,prompt\n1,2\n", "no column output"),
        ("arrival,prompt,output\n1,2,x\n", ":2 output: 'x' is no number"),
        ("arrival,prompt,output\n1,2,0\n", "'0' is not a number of tokens"),
        ("arrival,prompt,output\n", "holds no requests"),
        ("{nonsense\n", ":1: is not a JSON object"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=says):
            read_trace(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path / "none.csv")


def test_drawn_lengths_keep_their_mean() -> None:
    for spread in ("fixed", "lognormal", "exponential", "uniform"):
        found = poisson(4.0, 20_000, 500, 100, seed=1, spread=spread)
        assert found.prompt.mean() == pytest.approx(500, rel=0.03)
        assert found.output.mean() == pytest.approx(100, rel=0.03)
        assert found.rate == pytest.approx(4.0, rel=0.03)
    assert np.mean(typical_lengths(1000, None)) == pytest.approx(1000, rel=0.02)
    assert (poisson(4.0, 50, 500, 100, seed=9).arrival == poisson(4.0, 50, 500, 100, seed=9).arrival).all()
