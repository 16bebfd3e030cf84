"""Every plot shows the numbers of the result that it draws, as a valid picture in both themes, with words."""

import itertools
import json
import math
import sys
from functools import cache

import altair
import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pharos
from pharos.decide.choose import choose_file
from pharos.decide.scaled import Scale, again
from pharos.machines.machine import find_machine
from pharos.passes.memory import arena, liveness
from pharos.plan.sharding import job_of, shard
from pharos.plan.topology import topology_of
from pharos.quantity.errors import PharosError
from pharos.report.asked import MAKERS, Asked, draw, draw_asked
from pharos.report.characters import waterfall as blocks
from pharos.report.marks import meets, place
from pharos.report.plotting import plots
from pharos.report.sweep_rows import front

BRIEF = "examples/briefs/wildlife.yaml"


@cache
def estimate():
    return pharos.predict("resnet50", "a100", batch=8, precision="fp16")


@cache
def decoding():
    return pharos.predict("gpt2_xl", "a100", phase="decode", context=1024, batch=8, precision="bf16")


@cache
def result(takes):
    match takes:
        case "estimates":
            return [estimate()]
        case "estimate" | "count":
            return estimate()
        case "why":
            return pharos.why("resnet50", "a100", batch=8, precision="fp16")
        case "decision":
            return choose_file(BRIEF)
        case "serving":
            return pharos.serve("llama3_8b", "a100", context=2048, users=16)
        case "sharding":
            machine = find_machine("a100")
            return shard(job_of(pharos.load("dlrm"), 65536), machine, topology_of(machine, 8), "greedy")
        case "training":
            return pharos.train("resnet18", batch=2)
        case "measurements":
            return [{"model": "a", "measured_s": 1e-3, "predicted_s": 2e-3, "predicted_low_s": 1e-3,
                     "predicted_high_s": 4e-3}, {"model": "b", "measured_s": 3e-3, "predicted_s": 2.7e-3}]  # fmt: skip
    raise AssertionError(takes)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "out.parquet"
    rng = np.random.default_rng(3)
    n = 20_000
    rows = {"b": 2 ** rng.integers(0, 9, n), "m": rng.integers(0, 3, n), "latency_s": rng.lognormal(-6, 1, n),
            "memory_bytes": rng.lognormal(20, 1, n)}  # fmt: skip
    rows["latency_s"][:7] = np.nan
    with duckdb.connect() as db:
        db.register("rows", rows)
        db.execute("COPY (SELECT ['a100', 't4', 'l4'][m + 1] AS machine, b AS batch, latency_s, memory_bytes, "
                   f"batch / latency_s AS tokens_per_s FROM rows) TO '{path}' (FORMAT parquet)")  # fmt: skip
    return path, rows


def figures(table):
    for name, plot in plots().items():
        given_result = table[0] if plot.takes == "table" else result(plot.takes)
        options = plot.options if name in ("treemap", "waterfall") else ()
        values = {"treemap": ("parameters", "macs", "time"), "waterfall": ("time", "energy", "memory")}
        for by in values[name] if options else (None,):
            yield f"{name} {by or ''}", draw(name, given_result, by=by) if by else draw(name, given_result)


def test_every_kind_of_result_has_a_maker():
    assert {p.takes for p in plots().values()} <= set(MAKERS)


def test_every_plot_is_a_valid_picture_with_words(table):
    found = dict(figures(table))
    assert len(found) >= 15
    for number, (name, figure) in enumerate(found.items()):
        spec = json.loads(json.dumps(figure.themed(), allow_nan=False))
        # the whole specification against Vega-Lite's schema, but for the rows
        altair.Chart.from_dict({k: v for k, v in spec.items() if k != "datasets"})
        assert len(figure.alt) > 60, name
        assert any(ch.isdigit() for ch in figure.alt), name
        assert figure.lines, name
        assert all(len(line) <= 100 for line in figure.lines), name
        assert len(figure.title) <= 80, name
        svg = figure.svg(dark=number % 2 == 1)
        assert "NaN" not in svg, name
        assert "undefined" not in svg, name
        width = float(svg.split('width="')[1].split('"')[0])
        assert width <= 610, (name, width)


@pytest.mark.parametrize("by", ["time", "energy", "memory"])
@pytest.mark.parametrize("which", [estimate, decoding])
def test_a_waterfall_adds_up_to_the_estimate(which, by):
    e = which()
    rows = draw("waterfall", e, by=by).rows("steps")
    parts, whole = rows[:-1], rows[-1]
    total = {"time": e.latency.value, "energy": e.energy.value, "memory": e.memory.total}[by]
    assert whole["amount"] == pytest.approx(float(total), rel=1e-3)
    assert sum(p["amount"] for p in parts) == pytest.approx(whole["amount"])
    at = 0.0
    for p in parts:
        assert min(at, at + p["amount"]) == pytest.approx(p["start"])
        at += p["amount"]
    if by == "time":
        named = {p["term"]: p["amount"] for p in parts}
        assert (named["compute"], named["data"], named["overhead"]) == (e.compute_s, e.data_s, e.overhead_s)
        assert (whole["low"], whole["high"]) == (e.latency.low, e.latency.high)


def test_an_iron_laws_eta_is_work_at_the_peak_over_its_time():
    rows = {r["term"]: r for r in draw("waterfall", decoding()).rows("steps")}
    e = decoding()
    assert rows["compute"]["ideal"] - rows["compute"]["start"] == pytest.approx(e.count.flops / 312e12)
    assert f"eta {e.count.flops / 312e12 / e.compute_s:.0%}" in rows["compute"]["says"]


def test_a_waterfall_in_characters_fits_and_steps():
    rows = draw("waterfall", estimate()).rows("steps")
    drawn = blocks(rows, 80).splitlines()
    assert len(drawn) == len(rows)
    assert all(len(line) <= 80 for line in drawn)
    # compute and data, each dark to what its peak would take, one after the other
    assert {"█", "▒"} <= set(drawn[0])
    assert abs(drawn[1].index("█") - len(drawn[0])) <= 1
    assert drawn[0].count("▒") / (drawn[0].count("▒") + drawn[0].count("█")) == pytest.approx(
        1 - rows[0]["ideal"] / rows[0]["amount"], abs=0.05
    )


@pytest.mark.parametrize("by", ["parameters", "macs", "time"])
def test_a_treemaps_parts_are_the_counts_and_their_areas(by):
    e = estimate()
    figure = draw("treemap", e, by=by)
    rows = figure.rows("parts")
    whole = {"parameters": e.count.parameters, "macs": e.count.macs,
             "time": sum(op.total_s for op in e.operations)}[by]  # fmt: skip
    assert sum(r["value"] for r in rows) == pytest.approx(whole)
    for group in {r["group"] for r in rows}:
        mine = [r for r in rows if r["group"] == group]
        per_pixel = [r["value"] / r["area"] for r in mine if r["area"]]
        assert max(per_pixel) == pytest.approx(min(per_pixel), rel=1e-6)
    named = {r["part"]: r["value"] for r in rows}
    if by == "parameters":
        assert named["fc"] == 2048 * 1000 + 1000


def test_memory_is_the_arena_and_its_liveness():
    graph = pharos.load("mobilenet_v2").graph(pharos.Workload(precision="int8"))
    figure = draw("memory", pharos.show("mobilenet_v2", precision="int8"))
    placed, live = arena(graph), liveness(graph.expanded(), in_place=True)
    assert figure.rows("block")[0]["bytes"] == placed.size
    assert figure.rows("peak")[0]["bytes"] == live.peak == max(r["bytes"] for r in figure.rows("live"))
    rows = figure.rows("tensors")
    for i, a in enumerate(rows):
        for b in rows[:i]:
            # what lives at the same time lies at other addresses
            apart = a["end"] <= b["first"] or b["end"] <= a["first"]
            assert apart or a["top"] <= b["offset"] or b["top"] <= a["offset"]


def test_a_training_steps_kinds_add_up_to_its_peak():
    step = result("training")
    figure = draw("training", step, model="resnet18")
    at = figure.rows("peak")[0]["step"]
    rows = [r for r in figure.rows("held") if r["step"] == at]
    assert sum(r["bytes"] for r in rows) == step.peak == figure.rows("peak")[0]["bytes"]
    assert {r["kind"]: r["bytes"] for r in rows if r["bytes"]} == step.parts


def test_a_tornado_is_what_why_says():
    found = result("why")
    rows = {r["resource"]: r for r in draw("tornado", found).rows("resources")}
    for one in found.doubled:
        if one.resource in ("compute", "bandwidth"):
            row = rows[{"compute": "peak compute", "bandwidth": "memory bandwidth"}[one.resource]]
            assert row["twice_s"] == pytest.approx(found.base.latency.value / one.speedup)
            half = again(found.base, Scale(**{one.resource: 0.5}))
            assert row["half_s"] == pytest.approx(half.latency.value)
            assert row["half_s"] > found.base.latency.value > row["twice_s"]
    spans = [r["high_s"] - r["low_s"] for r in draw("tornado", found).rows("resources")]
    assert spans == sorted(spans, reverse=True)


def test_a_front_holds_the_decision_and_its_limits():
    decision = result("decision")
    figure = draw("pareto", decision)
    rows = figure.rows("candidates")
    (chosen,) = [r for r in rows if r["kind"] == "chosen"]
    assert chosen["label"] == decision.chosen.label
    assert chosen["x"] == decision.chosen.value("latency")
    assert (chosen["x_low"], chosen["x_high"]) == (
        decision.chosen.figures["latency"].low, decision.chosen.figures["latency"].high,
    )  # fmt: skip
    limits = {w["axis"]: w["value"] for w in figure.rows("limits")}
    assert limits["latency"] == decision.brief.limits.latency
    others = {r["label"] for r in rows} - {chosen["label"]}
    assert others <= {t.label for t in (*decision.front, decision.runner_up) if t is not None}
    memory = draw("pareto", decision, x="energy", y="memory").rows("candidates")
    assert {r["label"]: r["y"] for r in memory}[chosen["label"]] == decision.chosen.value("memory")


def test_capacity_is_the_curve_of_serving():
    serving = result("serving")
    figure = draw("capacity", serving)
    mine = {r["context"]: r["users"] for r in figure.rows("users") if r["deployment"] == "as asked"}
    for context, users in serving.curve:
        assert mine[context] == users
    assert mine[2048] == serving.max_users
    wider = {r["context"]: r["users"] for r in figure.rows("users") if r["deployment"] == "8-bit cache"}
    # half the bytes a token, in the same room: twice the users, but for rounding and the block table
    assert wider[2048] == pytest.approx(2 * mine[2048], abs=2)


def test_a_sharding_map_holds_every_byte():
    plan = result("sharding")
    rows = draw("sharding", plan).rows("pieces")
    held: dict[str, float] = {}
    for r in rows:
        held[r["device"]] = held.get(r["device"], 0.0) + r["bytes"]
    assert [held[f"device {i}"] for i in range(8)] == pytest.approx(plan.device_bytes)


def test_measured_shows_ratios_bands_and_the_median():
    figure = draw("measured", result("measurements"))
    a, b = figure.rows("pairs")
    assert (a["ratio"], a["least"], a["most"]) == (2.0, 1.0, 4.0)
    assert b["ratio"] == pytest.approx(0.9)
    # errors of 100% and 10%
    assert "median error 55%" in figure.title
    assert "1 of 1 lie in their 80% bands" in figure.alt


def test_a_measurements_operators_and_files_of_rows(tmp_path):
    rows = [{"name": "conv1", "measured_s": 1e-3, "predicted_s": 1.1e-3, "cost_class": "conv"}]
    (tmp_path / "run.json").write_text(json.dumps({"operators": rows}))
    (tmp_path / "rows.csv").write_text("model,measured_s,predicted_s\nnet,0.002,0.003\nnone,0.002,\n")
    one = draw_asked("measured", Asked(of=str(tmp_path / "run.json"))).rows("pairs")
    assert (one[0]["name"], one[0]["group"]) == ("conv1", "conv")
    two = draw_asked("measured", Asked(of=str(tmp_path / "rows.csv"))).rows("pairs")
    assert [(r["name"], r["ratio"]) for r in two] == [("net", pytest.approx(1.5))]
    (tmp_path / "bad.csv").write_text("model,measured_s,predicted_s\nnet,fast,0.003\n")
    with pytest.raises(PharosError, match=r"'fast' is no number of seconds"):
        draw_asked("measured", Asked(of=str(tmp_path / "bad.csv")))


def test_a_sweep_is_binned_and_its_front_is_exact(table):
    path, rows = table
    figure = draw("sweep", path, x="latency_s", y="memory_bytes", colour="machine")
    known = np.isfinite(rows["latency_s"])
    assert sum(p["rows"] for p in figure.rows("points")) == known.sum()
    assert "7 without latency_s or memory_bytes left out" in " ".join(figure.lines)
    x, y = rows["latency_s"][known], rows["memory_bytes"][known]
    best = {
        (x[i], y[i])
        for i in range(len(x))
        if not ((x <= x[i]) & (y <= y[i]) & ((x < x[i]) | (y < y[i]))).any()
    }
    assert {(r["x"], r["y"]) for r in figure.rows("front")} == best
    # where much is good: the front turns over
    rates = draw("sweep", path, x="latency_s", y="tokens_per_s").rows("front")
    assert all(a["x"] < b["x"] and a["y"] < b["y"] for a, b in itertools.pairwise(rates))


def test_a_sweep_of_a_folder_and_of_few_rows(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    with duckdb.connect() as db:
        for i in range(2):
            db.execute(f"COPY (SELECT 'm{i}' AS model, {i} + 1.0 AS latency_s, 5.0 - {i} AS energy_J) "
                       f"TO '{folder}/part-{i:06d}.parquet' (FORMAT parquet)")  # fmt: skip
    figure = draw("sweep", folder)
    assert [(p["x"], p["y"], p["colour"]) for p in figure.rows("points")] == [(1, 5, "m0"), (2, 4, "m1")]
    assert len(figure.rows("front")) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=60))
@settings(max_examples=80, deadline=None)
def test_a_front_is_what_none_beats(points):
    x, y = np.array(points, dtype=float).T
    kept = front(x, y)
    mine = {(x[i], y[i]) for i in kept}
    assert len(mine) == len(kept)
    every = {
        p for p in points
        if not any((a <= p[0] and b <= p[1]) and (a, b) != p for a, b in points)
    }  # fmt: skip
    assert mine == every


@given(st.lists(st.tuples(st.floats(0, 490), st.floats(0, 330), st.integers(3, 20)), min_size=1, max_size=25))
@settings(max_examples=60, deadline=None)
def test_placed_words_stay_inside_and_apart(points):
    wanted = [(x, y, 5.0, "w" * n) for x, y, n in points]
    boxes = [w.box(11) for w in place(wanted, 490, 330, far=(0,)) if w is not None]
    for i, a in enumerate(boxes):
        assert a[0] >= 0
        assert a[2] <= 490
        assert a[1] >= 0
        assert a[3] <= 330
        assert not any(meets(a, b) for b in boxes[:i])


@pytest.mark.parametrize(
    ("what", "given_result", "options", "says"),
    [("treemap", lambda: pharos.show("resnet18"), {"by": "time"}, "give --on MACHINE"),
     ("treemap", estimate, {"by": "tmie"}, "did you mean time"),
     ("waterfall", estimate, {"by": "power"}, "known: energy, memory, time"),
     ("roofline", estimate, {"by": "time"}, "takes no 'by'"),
     ("measured", list, {}, "nothing has both"),
     ("pareto", lambda: result("decision"), {"x": "latancy"}, "did you mean latency")],
)  # fmt: skip
def test_mistakes_are_told(what, given_result, options, says):
    with pytest.raises(PharosError) as caught:
        draw(what, given_result(), **options)
    assert says in str(caught.value)


def test_mistakes_of_a_table_are_told(table, tmp_path):
    for options, says in (
        ({"x": "latency"}, "did you mean latency_s"),
        ({"y": "machine"}, "holds no numbers"),
        ({"colour": "machin"}, "did you mean machine"),
    ):
        with pytest.raises(PharosError) as caught:
            draw("sweep", table[0], **options)
        assert says in str(caught.value)
    (tmp_path / "no.parquet").write_text("no table")
    with pytest.raises(PharosError, match="cannot be read as a table"):
        draw("sweep", tmp_path / "no.parquet")
    with pytest.raises(PharosError, match="no such file"):
        draw("sweep", tmp_path / "gone.parquet")


def test_a_notebook_shows_vega_a_picture_or_words():
    shown = draw("waterfall", estimate())._repr_mimebundle_()
    assert shown["application/vnd.vegalite.v6+json"]["$schema"].endswith("v6.json")
    assert shown["text/plain"].endswith(draw("waterfall", estimate()).alt)
    assert set(draw("waterfall", estimate())._repr_mimebundle_(include=["text/plain"])) == {"text/plain"}


def test_python_asks_as_the_command_does():
    mine = pharos.plot("roofline", "resnet50", on=["a100", "t4"], batch=8)
    assert {r["machine"] for r in mine.rows("points")} == {"a100_sxm_80gb", "t4"}
    assert pharos.plot("treemap", estimate(), by="macs").title == "resnet50: where its MACs are"
    # a decoder is served in bf16 if nothing is said, as `pharos serve` has it
    assert "79" not in pharos.plot("capacity", "llama3_8b", on="a100", context=2048, users=16).title
    with pytest.raises(PharosError, match="did you mean roofline"):
        pharos.plot("rofline", "resnet50", on="a100")
    with pytest.raises(PharosError, match="plot roofline: has no users"):
        pharos.plot("roofline", "resnet50", on="a100", users=3)
    assert math.isfinite(mine.rows("whole")[0]["seconds"])


def test_without_the_library_it_is_told(monkeypatch):
    from pharos.report import plotting

    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(PharosError, match=r"pharos-nn\[report\]"):
        plotting.find_plot("roofline").draw([])
