"""Figures: their numbers against independent computations; each compiles, is told in words, and stays the same."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("altair")

from pharos.book.figure import Asked, draw, figure_row, figures, find_figure
from pharos.book.figures import attention, frontier, im2col, movement, recurrence, sliding_window
from pharos.book.figures.encoder_decoder import towers
from pharos.book.figures.projection import projection
from pharos.decide.accuracy import published
from pharos.doors.cli.app import app
from pharos.facts.tables import table
from pharos.models.registry import find
from pharos.quantity.errors import PharosError
from pharos.report.canvas import DEEPEST, Canvas

DOCS = Path(__file__).parents[2] / "docs"


def called(*words):
    return CliRunner().invoke(app, ["figure", *words])


def rows(name, **asked):
    made = draw(name, Asked(**asked))
    return [dict(zip(made.columns, row, strict=True)) for row in made.rows]


def test_all_fourteen_are_there():
    assert list(figures()) == list(range(1, 15))
    assert len({f.name for f in figures().values()}) == 14


@pytest.mark.parametrize("number", range(1, 15))
def test_each_compiles_and_is_told_in_words(number):
    made = draw(str(number))
    svg = pytest.importorskip("vl_convert").vegalite_to_svg(json.dumps(made.figure.themed()))
    assert svg.startswith("<svg")
    for theme in (made.figure.themed(), made.figure.themed(dark=True)):
        assert theme["description"] == made.figure.alt
    # what is seen, with its numbers, and no sentence left open
    assert len(made.figure.alt) > 150
    assert made.figure.alt.rstrip().endswith((".", '"'))
    assert re.search(r"\d", made.figure.alt) or number == 14
    assert made.rows
    assert all(len(row) == len(made.columns) for row in made.rows)


@pytest.mark.parametrize("number", [2, 4, 6, 9, 10, 13])
def test_the_same_every_time(number):
    one = figures()[number]
    first, second = (json.dumps(figure_row(one, draw(str(number)))) for _ in range(2))
    assert first == second
    keys = ("schema", "figure", "name", "section", "title", "says", "source", "rows", "text", "note")
    assert tuple(json.loads(first)) == keys


def correlate(image, kernel):
    """A valid correlation by NumPy's windows, not by loops."""
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)
    return np.einsum("ijuv,uv->ij", windows, kernel)


def test_the_sliding_filter_gives_the_correlation():
    image, kernel, out, _ = sliding_window.slide()
    np.testing.assert_allclose(out, correlate(image, kernel))
    for row in rows("4"):
        assert row["by_hand"] == row["feature"] == out[row["row"], row["column"]]
    assert "108 MACs" in draw("4").note  # 12 positions x 9 taps


def test_products_of_a_window_in_words():
    assert sliding_window.products(np.array([[2, 0]]), np.array([[-1, 1]]), -2) == "2×(-1) = -2"
    assert sliding_window.products(np.zeros((1, 2)), np.ones((1, 2)), 0) == "0 = 0"


def test_patches_are_windows_and_their_product_the_maps():
    image, filters, patches, maps, _ = im2col.unfolded()
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3)).reshape(-1, 9).T
    np.testing.assert_array_equal(patches, windows)
    np.testing.assert_allclose((filters @ patches).reshape(maps.shape), maps)
    np.testing.assert_allclose(maps[1], correlate(image, filters[1].reshape(3, 3)))
    assert [row[1:] for row in draw("12").rows] == [tuple(map(float, p)) for p in patches]


def test_weights_are_the_softmax_of_queries_times_keys():
    keys = np.array([features for _, features in attention.WORDS], float)
    scores = keys @ np.array(attention.LOOKS, float) @ keys.T / math.sqrt(keys.shape[1])
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(attention.weights(), expected)
    assert [r["weight"] for r in rows("6")] == pytest.approx(list(expected[attention.PRONOUN]))
    assert [r["weight"] for r in rows("7")] == pytest.approx(list(expected.ravel()))
    # the pronoun looks at what it stands for: of both nouns the one that can be dry
    ranked = sorted(rows("6"), key=lambda r: -r["weight"])
    assert [r["word"] for r in ranked[:2]] == ["roses", "gardeners"]


def test_states_follow_the_recurrence():
    x, h, _, w = recurrence.states()
    at = np.zeros(h.shape[1])
    for step, state in zip(x, h, strict=True):
        at = np.tanh(w["weight_ih_l0"] @ step + w["weight_hh_l0"] @ at)
        np.testing.assert_allclose(state, at)
    assert [row[0] for row in draw("5").rows] == [1, 2, 3, 4, 5]


def test_a_dense_network_draws_a_line_a_weight():
    made = draw("2")
    assert [(r[1], r[2], r[3], r[4]) for r in made.rows] == [(5, 4, 20, 20), (4, 3, 12, 12)]
    ends = {
        (d["line"]) for layer in made.figure.spec["layer"] for d in layer["data"]["values"] if "line" in d
    }
    assert len(ends) == 32
    # of wide layers only some units are drawn, the numbers are whole
    wide = rows("2", model="mlp(widths=(784, 100, 10))")
    assert [r["weights"] for r in wide] == [78_400, 1_000]


def pareto(points):
    """Points that no other is at most as costly and at least as good as, but for itself: every pair compared."""
    return {
        p for p in points
        if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in points)
    }  # fmt: skip


def test_the_frontier_is_that_of_every_pair_compared():
    rng = np.random.default_rng(0)
    for size in (1, 2, 30):
        points = [
            (int(a), round(float(b), 1))
            for a, b in zip(rng.integers(1, 9, size), rng.random(size), strict=True)
        ]
        assert set(frontier.frontier(points)) == pareto(points)
    found = rows("1")
    best = {(r["macs"], r["accuracy"]) for r in found if r["on_frontier"]}
    assert best == pareto([(r["macs"], r["accuracy"]) for r in found])


def test_points_of_the_frontier_are_counted_and_sourced():
    found = rows("1")
    by = {r["model"]: r for r in found}
    assert len(found) == sum(r.precision == "fp32" for r in published() if r.table in frontier.TABLES)
    # counts that others have published, and kinds that the operators tell
    assert by["resnet50(resolution=224)"]["macs"] == 4_089_184_256
    assert by["mobilenet_v2(resolution=224)"]["macs"] == 300_774_272
    kinds = {n.partition("(")[0]: r["kind"] for n, r in by.items()}
    expected = {
        "vgg16": "dense convolutions", "mobilenet_v2": "depthwise convolutions", "vit_b_16": "attention",
        "resnext50_32x4d": "dense convolutions", "swin_t": "attention", "convnext_tiny": "depthwise convolutions",
    }  # fmt: skip
    assert {n: kinds[n] for n in expected} == expected
    assert all(2012 <= r["year"] <= 2026 for r in found)
    assert all(r["source"] and r["trained"] for r in found)
    # later kinds first appear later
    firsts = [min(r["year"] for r in found if r["kind"] == k) for k in frontier.KINDS]
    assert firsts == sorted(firsts)


def test_points_are_counted_at_the_resolution_they_were_trained_at():
    seen = {}
    for row in published():
        if row.table in frontier.TABLES and row.precision == "fp32" and row.resolution:
            seen.setdefault(frontier.named(row), row.resolution)
    fixed = [n for n in seen if "resolution" not in n]
    for name in [*fixed, *[n for n in seen if n not in fixed][:4]]:
        assert find(name).graph().inputs[0].shape[2:] == (seen[name], seen[name]), name


def test_context_windows_only_grow_and_have_sources():
    found = rows("10")
    assert len(found) == len(table("contexts")["rows"])
    assert all(r["source"] and re.fullmatch(r"20\d\d-\d\d", r["date"]) for r in found)
    longest = [r["context"] for r in found if r["longest"]]
    assert longest == sorted(set(longest))
    assert longest[0] == 512
    assert max(r["context"] for r in found if r["known"] != "announced") == longest[-1]
    # what was only announced never counts as the longest
    assert not any(r["longest"] for r in found if r["known"] == "announced")


def test_stages_of_a_network_by_hand():
    # a 7x7 of stride 2, a 3x3 pool of stride 2, three bottlenecks: 7, 11, then 8 more a 3x3
    sees = {r["height"]: r["sees"] for r in rows("3")}
    assert sees[112] == 7
    assert sees[56] == 11 + 3 * 8
    channels = [r["channels"] for r in rows("3")]
    assert channels == [64, 256, 512, 1024, 2048, 1000]
    assert [r["sees"] for r in rows("3", model="lenet5")][:4] == [5, 6, 14, 16]


@pytest.mark.parametrize(
    ("model", "width", "columns", "heads"),
    [("gpt2-xl", 1600, (1600, 1600, 1600), (25, 25, 64)), ("llama-3-8b", 4096, (4096, 1024, 1024), (32, 8, 128)),
     ("bert-base-uncased", 768, (768, 768, 768), (12, 12, 64))],
)  # fmt: skip
def test_projections_have_the_published_sizes(model, width, columns, heads):
    found = projection(model, 512)
    assert (found.width, tuple(c for _, c in found.parts)) == (width, columns)
    assert (found.heads, found.kv_heads, found.head_dim) == heads
    assert found.weights == width * sum(columns)
    assert found.macs == 512 * width * sum(columns)


def test_towers_of_the_transformer_are_those_of_the_paper():
    (encoder, decoder), after = towers()
    assert (encoder.count, decoder.count) == (6, 6)
    assert [p.says for p in encoder.parts] == ["multi-head attention", "feed-forward"]
    assert [p.says for p in decoder.parts] == ["multi-head attention", "cross attention", "feed-forward"]
    assert [p.reads_other for p in decoder.parts] == [False, True, False]
    assert {p.placement for p in (*encoder.parts, *decoder.parts)} == {"after"}
    # 4 d^2 and a norm of 2 d; 8 d^2 and biases of 4 d and d, and a norm
    d = 512
    assert [p.parameters for p in encoder.parts] == [4 * d * d + 2 * d, 8 * d * d + 5 * d + 2 * d]
    assert [says for says, _ in after] == ["output: scores of tokens"]
    (_, t5), _ = towers("t5-base")
    assert {p.placement for p in t5.parts} == {"before"}


def test_a_block_has_its_four_building_blocks():
    found = rows("11")
    by = {r["operator"]: r["building_blocks"] for r in found}
    assert [n for n, b in by.items() if b == "skip"] == ["add_1", "add_2"]
    assert [n for n, b in by.items() if b == "normalisation"] == ["ln_1", "ln_2"]
    assert [n for n, b in by.items() if "gating" in b] == ["attn.attention"]
    assert sum("GEMM" in b for b in by.values()) == 4
    d = 1600
    assert sum(r["parameters"] for r in found) == 12 * d * d + 13 * d
    gated = {r["operator"]: r["building_blocks"] for r in rows("11", model="llama-3-8b")}
    assert sum("gating" in b for b in gated.values()) == 2


def test_bytes_on_arrows_are_those_of_the_closed_forms():
    whole, n = movement.WHOLE.nbytes, movement.DEVICES
    assert whole == 512 * 512 * 2
    found = rows("13")
    totals, rounds = {}, {}
    for r in found:
        totals[r["movement"]] = totals.get(r["movement"], 0) + r["bytes"]
        rounds[r["movement"]] = r["round"]
    assert totals == {"broadcast": (n - 1) * whole, "scatter": (n - 1) * whole // n, "gather": (n - 1) * whole // n,
                      "reduction": (n - 1) * whole}  # fmt: skip
    assert rounds == {"broadcast": 1, "scatter": 1, "gather": 1, "reduction": math.log2(n)}
    assert all(r["from"] == 0 for r in found if r["movement"] in ("broadcast", "scatter"))
    assert all(r["to"] == 0 for r in found if r["movement"] == "gather")
    # in a tree each device sends once, and only to one that has not sent yet
    senders = [r["from"] for r in found if r["movement"] == "reduction"]
    assert sorted(senders) == [1, 2, 3]


def test_names_are_found_loosely_and_mistakes_told():
    assert find_figure("Figure_14").number == find_figure("decision-flow").number == 14
    with pytest.raises(PharosError, match="unknown figure"):
        find_figure("15")
    with pytest.raises(PharosError, match="did you mean im2col"):
        find_figure("im2cal")
    with pytest.raises(PharosError, match="not drawn of a model"):
        draw("4", Asked(model="resnet50"))
    with pytest.raises(PharosError, match="no stages"):
        draw("3", Asked(model="gpt2-xl"))
    with pytest.raises(PharosError, match="no attention"):
        draw("8", Asked(model="resnet50"))
    with pytest.raises(PharosError, match="no encoder"):
        draw("9", Asked(model="gpt2-xl"))
    with pytest.raises(PharosError, match="no repeated transformer block"):
        draw("11", Asked(model="resnet50"))
    with pytest.raises(PharosError, match="dense layers alone"):
        draw("2", Asked(model="resnet50"))


def test_the_command(tmp_path):
    listed = called("--list")
    assert listed.exit_code == 0
    assert "14 decision-flow" in listed.output
    shown = called("4")
    assert "8×1 + 8×1 = 16" in shown.output
    data = json.loads(called("13", "--json").output)
    assert data["schema"] == "pharos/figure@1"
    assert data["figure"] == 13
    target = tmp_path / "six.json"
    assert called("6", "-o", str(target), "--dark").exit_code == 0
    assert json.loads(target.read_text())["config"]["background"] == "#16181C"
    for wrong in (("6", "-o", "x.pdf"), ("--all", str(tmp_path / "no")), ("3", "--all", str(tmp_path)),
                  ("99",), ("--all", str(tmp_path), "--form", "gif")):  # fmt: skip
        assert called(*wrong).exit_code != 0


def test_the_gallery_is_whole_small_and_current():
    page = (DOCS / "figures.md").read_text(encoding="utf-8")
    pictures = {p.name: p.stat().st_size for p in (DOCS / "figures").glob("*.svg")}
    assert set(pictures) == {f"{f.number:02d}-{f.name}.svg" for f in figures().values()}
    assert all(f"(figures/{name})" in page for name in pictures)
    assert sum(pictures.values()) < 1_000_000
    told = " ".join(page.split())
    for number in ("3", "6", "8", "13"):
        assert " ".join(draw(number).figure.alt.split()) in told, number


def test_a_canvas_keeps_words_legible_and_places_in_points():
    canvas = Canvas(100, 50, ("a",))
    canvas.box(10, 10, 20, 20, "x", group="a", level=5)
    canvas.line([(0, 0), (30, 40)], width=2)
    assert canvas.boxes[0]["level"] == DEEPEST
    # the head points along the line: right and down
    assert canvas.heads[0]["angle"] == pytest.approx(90 + math.degrees(math.atan2(40, 30)))
    spec = canvas.chart().to_dict()
    scales = [layer["encoding"]["y"]["scale"] for layer in spec["layer"]]
    assert all(s["domain"] == [0, 50] and s["reverse"] for s in scales)
    assert spec["width"] == 100
