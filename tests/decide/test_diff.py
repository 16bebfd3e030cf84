"""Diffs: every operator once, deltas that add up, errors by hand, and what becomes of limits."""

from math import exp, log

import hypothesis.strategies as st
import pytest
from hypothesis import given

from pharos.convert.load import load
from pharos.decide.diff import (
    FAILS,
    GONE,
    GROWN,
    KEPT,
    MENDED,
    NEWLY,
    NEWLY_UNKNOWN,
    OWN_KIN,
    OWN_STRANGERS,
    STILL_UNKNOWN,
    WAS,
    compare,
    exit_code,
    headline,
    limit_change,
)
from pharos.decide.operators import ADDED, CHANGED, REMOVED, RENAMED, SAME, matched
from pharos.decide.side import Operator, Reading, Side, side_of
from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.predict.estimate import predict
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Z80
from pharos.report.rows import predict_row, show_row


def shown(name, **work):
    model = load(name)
    return side_of(show_row(model.name, model.family, count(model.graph(Workload(**work)))), name)


def predicted(name, machine="a100", **work):
    model, asked = load(name), Workload(**work)
    return side_of(predict_row(predict(model.graph(asked), find_machine(machine), asked, model=name)), name)


def op(name, kind="linear", **given):
    fields = {"count": 1, "parameters": 10, "macs": 100, "traffic_bytes": 50, "input_shape": (1, 4),
              "output_shape": (1, 8), "latency_s": 1.0}  # fmt: skip
    return Operator(name=name, kind=kind, **(fields | given))


def side(operators, sigma=0.2, machine="m", runtime="r", rest=0.0):
    whole, factor = sum(o.latency_s for o in operators) + rest, exp(Z80 * sigma)
    latency = Reading(value=whole, low=whole / factor, high=whole * factor, level="fitted")
    return Side(label="x", name="x", key="x", model="x", machine=machine, workload={"runtime": runtime},
                figures={"latency": latency}, operators=tuple(operators))  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b"), [("resnet50", "resnet101"), ("mobilenet_v2", "mobilenet_v2(width=0.5)"), ("gpt2-small", "gpt2-xl"),
                 ("resnet18", "vit_b_16")],
)  # fmt: skip
def test_deltas_of_operators_add_up_to_those_of_the_whole(a, b):
    before, after = shown(a), shown(b)
    found = compare(before, after)
    totals = {c.name: c.delta for c in found.figures}
    assert sum(o.delta("macs") for o in found.operators) == totals["macs"]
    assert sum(o.delta("parameters") for o in found.operators) == totals["parameters"]
    assert sum(o.delta("traffic_bytes") for o in found.operators) == totals["traffic per_op"]
    assert totals["macs"] == count(load(b).graph()).macs - count(load(a).graph()).macs


def test_kernel_times_add_up_to_the_latency():
    found = compare(predicted("resnet18"), predicted("resnet34"))
    kernels = sum(o.delta("latency_s") for o in found.operators)
    latency = next(c for c in found.figures if c.name == "latency")
    # what is left is launches between kernels
    assert kernels <= latency.delta * (1 + 1e-9)
    assert kernels > 0.5 * latency.delta


def test_nothing_changed_where_both_are_the_same():
    found = compare(predicted("resnet18"), predicted("resnet18"))
    assert not found.is_changed
    assert found.operators == ()
    assert headline([found]) == []


_OPS = st.lists(
    st.builds(lambda n, k, m, s: op(f"l.{n}", k, macs=m, output_shape=(1, s)), st.integers(0, 5),
              st.sampled_from(["conv2d", "linear"]), st.integers(1, 3), st.integers(1, 3)),
    max_size=8,
)  # fmt: skip


@given(_OPS, _OPS)
def test_every_operator_is_matched_once(before, after):
    found = matched(before, after)
    assert sorted(map(id, before)) == sorted(id(o.before) for o in found if o.before is not None)
    assert sorted(map(id, after)) == sorted(id(o.after) for o in found if o.after is not None)
    mirrored = matched(after, before)
    assert sum(o.what == SAME for o in found) == sum(o.what == SAME for o in mirrored)


@given(_OPS)
def test_an_operator_put_in_front_is_added_and_no_other(operators):
    named = [op(f"l.{i}", o.kind, macs=o.macs, output_shape=o.output_shape) for i, o in enumerate(operators)]
    found = matched(named, [op("stem", "conv1d"), *named])
    assert [o.what for o in found if o.what != SAME] == [ADDED]


def test_names_come_before_shapes_and_folded_ranges_do_not_matter():
    before = [op("layers.1-5.fc", count=5), op("head"), op("old.name", "conv2d"), op("gone", "lstm")]
    after = [op("layers.1-8.fc", count=8), op("head", macs=200), op("new.name", "conv2d"), op("more", "gru")]
    found = {o.one.name: o for o in matched(before, after)}
    assert found["layers.1-8.fc"].what == CHANGED
    assert found["head"].delta("macs") == 100
    assert (found["new.name"].what, found["new.name"].before.name) == (RENAMED, "old.name")
    assert (found["gone"].what, found["more"].what) == (REMOVED, ADDED)


def test_the_error_of_a_ratio_by_hand():
    """One of two kernels goes from 1 s to 3 s beside 9 s that stay; both sides err by 0.3, of which 0.11 is own."""
    before, after = side([op("a", latency_s=9.0), op("b")], 0.3), side(
        [op("a", latency_s=9.0), op("b", macs=300, latency_s=3.0)], 0.3
    )  # fmt: skip
    found = compare(before, after)
    (change,) = found.figures
    sd = OWN_KIN * ((1 / 10) ** 2 + (3 / 12) ** 2 + (9 / 12 - 9 / 10) ** 2) ** 0.5
    assert found.own_error == OWN_KIN
    assert change.delta == pytest.approx(2.0)
    assert change.low == pytest.approx(1.2 * exp(-Z80 * sd) - 1)
    assert change.high == pytest.approx(1.2 * exp(Z80 * sd) - 1)
    assert change.is_told


def test_what_is_the_same_on_both_sides_has_no_error_of_its_own():
    """The more of the time is in kernels that stay, the surer a change is, up to certainty."""
    widths = []
    for stays in (0.0, 1.0, 10.0, 1e4):
        (change,) = compare(side([op("a", latency_s=stays), op("b")]),
                            side([op("a", latency_s=stays), op("b", macs=110, latency_s=1.1)])).figures  # fmt: skip
        widths.append((change.high - change.low) / change.part)
    assert widths == sorted(widths, reverse=True)
    (change,) = compare(side([op("a")], rest=1.0), side([op("a")], rest=2.0)).figures
    # only launches between kernels differ, by one constant
    assert change.high == pytest.approx(1.5 * exp(Z80 * OWN_KIN * 2**0.5 * (2 / 3 - 1 / 2)) - 1)


def test_a_small_error_is_not_made_larger():
    (change,) = compare(side([op("a", latency_s=1.0)], 0.02), side([op("a", latency_s=2.0)], 0.02)).figures
    assert change.high == pytest.approx(2 * exp(Z80 * 0.02 * 2**0.5) - 1)


def test_nothing_is_shared_between_machines_or_runtimes():
    a, b = [op("a", latency_s=1.0)], [op("a", latency_s=1.2)]
    (same,) = compare(side(a), side(b)).figures
    for other in (compare(side(a), side(b, machine="n")), compare(side(a), side(b, runtime="s"))):
        (change,) = other.figures
        assert other.own_error is None
        assert change.high == pytest.approx(1.2 * exp(Z80 * 0.2 * 2**0.5) - 1)
        assert change.high - change.low > same.high - same.low


def test_networks_without_a_common_operator_are_strangers():
    found = compare(side([op("a", "lstm")]), side([op("b", "gru", output_shape=(2, 2))]))
    assert found.own_error == OWN_STRANGERS


def test_a_change_inside_its_error_is_not_told():
    (small,) = compare(side([op("a", latency_s=1.0)]), side([op("a", latency_s=1.02)])).figures
    (large,) = compare(side([op("a", latency_s=1.0)]), side([op("a", latency_s=2.0)])).figures
    assert (small.is_told, large.is_told) == (False, True)
    assert (small.is_worse, large.weight) == (True, pytest.approx(log(2)))


def row(verdict, value=1.0, limit=2.0, low=None, high=None):
    return {"name": "latency", "limit": limit, "value": value, "low": low or value * 0.9, "high": high or value * 1.1,
            "margin": limit / value, "verdict": verdict, "evidence": []}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (row("holds"), row("broken", 3), NEWLY),
        (None, row("broken", 3), NEWLY),
        (row("unknown"), row("broken", 3), NEWLY),
        (row("broken", 3), row("broken", 3), WAS),
        (row("broken", 3), row("broken", 3.02), WAS),
        (row("broken", 3), row("broken", 3.2), GROWN),
        (row("broken", 3), row("broken", 2.5), WAS),
        (row("broken", 3), row("holds"), MENDED),
        (row("holds"), row("unknown", 2), NEWLY_UNKNOWN),
        (None, row("unknown", 2), NEWLY_UNKNOWN),
        (row("unknown", 2), row("unknown", 2.1), STILL_UNKNOWN),
        (row("holds"), row("holds"), KEPT),
        (row("broken", 3), None, GONE),
    ],
)
def test_what_becomes_of_a_limit(before, after, status):
    assert limit_change("latency", before, after).status == status


def test_counted_figures_grow_by_anything_and_throughput_by_shrinking():
    exact = {"low": 3, "high": 3}
    assert (
        limit_change("latency", row("broken", 3, **exact), row("broken", 3.001, low=3.001, high=3.001)).status
        == GROWN
    )
    assert limit_change("throughput", row("broken", 3), row("broken", 2)).status == GROWN
    assert limit_change("throughput", row("broken", 3), row("broken", 4)).status == WAS


def test_a_limit_that_allows_more_was_loosened():
    assert limit_change("latency", row("holds", limit=2), row("holds", limit=3)).loosened
    assert not limit_change("latency", row("holds", limit=3), row("holds", limit=2)).loosened
    assert limit_change("throughput", row("holds", limit=3), row("holds", limit=2)).loosened


def test_exit_codes():
    def diff(*statuses):
        limits = {NEWLY: (row("holds"), row("broken", 3)), KEPT: (row("holds"), row("holds")),
                  NEWLY_UNKNOWN: (row("holds"), row("unknown", 2)), STILL_UNKNOWN: (row("unknown"), row("unknown")),
                  WAS: (row("broken", 3), row("broken", 3)), GROWN: (row("broken", 3), row("broken", 4))}  # fmt: skip
        from pharos.decide.diff import Diff

        return Diff(
            before=None, after=None, limits=tuple(limit_change("latency", *limits[s]) for s in statuses)
        )

    assert exit_code([]) == 0
    assert exit_code([diff(KEPT, WAS, STILL_UNKNOWN)]) == 0
    assert exit_code([diff(NEWLY_UNKNOWN), diff(KEPT)]) == 3
    assert exit_code([diff(NEWLY_UNKNOWN), diff(NEWLY)]) == 1
    assert exit_code([diff(GROWN)]) == 1
    assert set(FAILS) == {NEWLY, GROWN}


def test_the_headline_has_no_two_figures_that_tell_each_other():
    found = headline(
        [compare(predicted("mobilenet_v2(width=0.5)", "cortex-a53"), predicted("mobilenet_v2", "cortex-a53"))]
    )
    names = [change.name for _, change in found]
    assert len(names) == 3
    assert not {"macs", "flops"} <= set(names)
    assert not {"latency", "throughput"} <= set(names)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"schema": "pharos/serve@1"}, "unknown result"), ({}, "is not a result"), ({"schema": "pharos/show@1"}, "has no"),
     ({"schema": "pharos/predict@1", "totals": 3, "model": "x"}, "no single figures")],
)  # fmt: skip
def test_rows_that_cannot_be_compared(given, told):
    with pytest.raises(PharosError, match=told):
        side_of(given, "file.json")


def test_a_sweep_cannot_be_compared():
    import numpy as np

    model, asked = load("resnet18"), Workload(batch=np.array([1, 2]))
    made = predict_row(predict(model.graph(asked), find_machine("a100"), asked, model="resnet18"))
    with pytest.raises(PharosError, match="no single figures"):
        side_of(made, "sweep.json")


def test_the_rate_follows_from_the_time():
    found = compare(predicted("resnet18"), predicted("resnet34"))
    time, rate = (next(c for c in found.figures if c.name == name) for name in ("latency", "throughput"))
    assert 1 + rate.low == pytest.approx(1 / (1 + time.high))
    assert 1 + rate.high == pytest.approx(1 / (1 + time.low))
    assert rate.is_told == time.is_told
    assert rate.is_worse
