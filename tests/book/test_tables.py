"""Tables: formulas against those derived by hand, numbers that follow the model, verdicts as the ledger has them."""

import json
from pathlib import Path

import pytest
import sympy
from typer.testing import CliRunner

from pharos.book.agree import DIFFERS, REPRODUCES, ROUNDS, agree
from pharos.book.building_blocks import GATING, GEMM, NORMALISATION, SHARING, SKIP, counted_blocks
from pharos.book.chapter import claims
from pharos.book.ledger import entry
from pharos.book.sums import counted, graph, symbols
from pharos.book.table import Asked, _printed, counts, differing, fill, find_table, table_row, tables
from pharos.book.table_shown import markdown, print_table, reasons, tally
from pharos.book.tables.families import SIZES, activations, built
from pharos.doors.cli.app import app
from pharos.graph.count import count
from pharos.quantity.errors import PharosError

# Tables that take a prediction of seconds are filled once here.
QUICK = ("3", "4", "5", "6")


def called(*words):
    return CliRunner().invoke(app, ["table", *words])


def cells(name, **asked):
    """(row, column) -> cell."""
    _, filled = fill(name, Asked(**asked))
    return {
        (row, column): one for row, own in filled.rows for column, one in zip(filled.columns[1:], own, strict=True)
    }  # fmt: skip


def test_every_table_of_the_chapter_is_there():
    numbered = [str(n) for n in range(1, 9)]
    boxes = [f"1.{n}" for n in range(1, 6)]
    assert set(tables()) == {*numbered, *boxes, "families", "bottlenecks", "requirements", "risks"}
    assert len({t.name for t in tables().values()}) == len(tables())
    # whatever the chapter prints has its place in a table of ours
    assert set(_printed()) == set(tables())


def test_every_printed_cell_stands_in_a_cell_of_ours():
    for key, rows in _printed().items():
        _, filled = fill(key)
        shown = [c.printed for _, own in filled.rows for c in own if c.printed]
        wanted = [c["printed"] for row in rows.values() for c in row.values() if c["printed"]]
        if key == "8":
            # gather and scatter are one row of the chapter's
            assert set(wanted) == set(shown)
        elif key == "requirements":
            assert set(wanted) <= set(shown)
        else:
            assert sorted(wanted) == sorted(shown), key


def test_layers_formulas_are_those_derived_by_hand():
    d_in, d_out, b = symbols("d_in d_out B")
    mlp, _ = built("mlp")
    assert sympy.expand(count(mlp).macs - b * d_in * d_out) == 0
    assert sympy.expand(count(mlp).parameters - d_out * (d_in + 1)) == 0
    # a dense layer and its activation write an output each
    assert sympy.expand(activations(mlp) - 2 * b * d_out) == 0

    h, w, k, c_in, c_out = symbols("H W k c_in c_out")
    cnn, _ = built("cnn")
    assert sympy.expand(count(cnn).macs - b * h * w * k**2 * c_in * c_out) == 0
    assert sympy.expand(count(cnn).parameters - (k**2 * c_in * c_out + c_out)) == 0

    s, hidden, d = symbols("S h d")
    rnn, _ = built("rnn")
    assert sympy.expand(count(rnn).macs - b * s * hidden * (hidden + d)) == 0
    assert sympy.expand(count(rnn).parameters - (hidden**2 + hidden * d + 2 * hidden)) == 0

    n = symbols("n")
    transformer, _ = built("transformer")
    assert sympy.expand(count(transformer).macs - b * (12 * n * d**2 + 2 * n**2 * d)) == 0
    assert sympy.expand(count(transformer).parameters - (12 * d**2 + 13 * d)) == 0
    # the scores are the one term in n^2, one head of them
    assert sympy.Poly(sympy.expand(activations(transformer)), n).coeff_monomial(n**2) == b


def test_leading_terms_and_numbers_of_the_complexity_table():
    found = cells("7")
    terms = {row: found[row, "forward"].value["leading"] for row in ("MLPs", "CNNs", "RNNs", "Transformers")}
    assert {r: agree(f, t) for (r, t), f in zip(terms.items(), (
        "O(d_in*d_out)", "O(H*W*k^2*c_in*c_out)", "O(S*h^2+S*h*d)", "O(n^2*d+n*d^2)"), strict=True)} == (
        dict.fromkeys(terms, REPRODUCES))  # fmt: skip
    assert found["MLPs", "forward"].value["value"] == 784 * 100
    assert found["MLPs", "parameters"].value["value"] == 784 * 100 + 100
    assert found["CNNs", "forward"].value["value"] == 28 * 28 * 9 * 32
    r = SIZES["rnn"]
    assert found["RNNs", "forward"].value["value"] == r["S"] * r["h"] * (r["h"] + r["d"])
    t = SIZES["transformer"]
    assert (
        found["Transformers", "forward"].value["value"]
        == 12 * t["n"] * t["d"] ** 2 + 2 * t["n"] ** 2 * t["d"]
    )
    assert found["RNNs", "memory beside weights"].value == "O(h)"
    assert found["RNNs", "in parallel"].value == "O(S)"
    assert found["Transformers", "parameters"].verdict == DIFFERS


def test_numbers_follow_the_sizes(monkeypatch):
    before = cells("7")["MLPs", "forward"].value["value"]
    monkeypatch.setitem(SIZES["mlp"], "d_out", 200)
    assert cells("7")["MLPs", "forward"].value["value"] == 2 * before


def test_the_memory_table_corrects_the_chapter():
    found = cells("6")
    wrong = {key for key, c in found.items() if c.verdict == DIFFERS}
    assert wrong == {("CNN", "parameters"), ("CNN", "activations"), ("RNN", "parameters"),
                     ("Transformer", "parameters"), ("Transformer", "activations")}  # fmt: skip
    assert all(found[key].note for key in wrong)
    assert agree("O(K^2*C^2)", found["CNN", "parameters"].value) == REPRODUCES
    assert agree("O(d^2)", found["Transformer", "parameters"].value) == REPRODUCES
    # twice the tokens: 12 n d^2 doubles, 2 n^2 d is fourfold, at n = 4,096 and d = 64
    n, d = 4096, 64
    expected = (12 * 2 * n * d**2 + 2 * 4 * n**2 * d) / (12 * n * d**2 + 2 * n**2 * d)
    assert found["Transformer", "when doubled"].value["macs"] == pytest.approx(expected)


# Cells that say a number of a model or of predictions, by table and the model that they speak of.
FOLLOWS = {
    "1": ("resnet50", "resnet101", "ResNet-50"), "2": ("resnet50", "resnet101", "ResNet-50"),
    "1.1": ("resnet50", "resnet101", None), "1.2": ("mobilenet_v2", "mobilenet_v3_large", None),
    "1.3": ("ds_cnn_m", "ds_cnn_l", None), "1.4": ("gpt2-xl", "gpt2-medium", None),
    "1.5": ("dlrm-mlperf", "dlrm-dcnv2", None), "bottlenecks": ("gpt2-xl", "gpt2-medium", "GPT-2 XL"),
}  # fmt: skip


def numbers(value):
    """Every number in a value."""
    if isinstance(value, bool):
        return []
    if isinstance(value, (int, float)):
        return [value]
    if isinstance(value, dict):
        return [n for v in value.values() for n in numbers(v)]
    return [n for v in value for n in numbers(v)] if isinstance(value, (list, tuple)) else []


# What a change of the network rightly leaves: two operations a weight of four bytes, and a board's own power.
STAYS = {("1.4", "profile", "value"), ("1.3", "constraint", "implication")}


@pytest.mark.parametrize("key", FOLLOWS)
def test_no_number_is_a_literal_each_follows_its_model(key):
    old, new, only = FOLLOWS[key]
    before, after = cells(key), cells(key, swapped={old: new})
    compared = 0
    for (row, column), one in before.items():
        if only not in (None, row):
            continue
        mine = [n for n in numbers(one.value) if n]
        if not mine or (key, row, column) in STAYS:
            continue
        compared += 1
        assert numbers(after[row, column].value) != numbers(one.value), (row, column)
    assert compared >= 2


@pytest.mark.parametrize(("key", "old", "new"), [("5", "resnet50", "vgg16"), ("3", "mixtral-8x7b", "llama-3-8b"),
                                                 ("8", "resnet50", "vgg16")])  # fmt: skip
def test_declared_shares_follow_their_networks(key, old, new):
    assert cells(key) != cells(key, swapped={old: new})


def test_predictions_follow_machine_and_batch():
    a100, h100 = cells("bottlenecks"), cells("bottlenecks", machine="nvidia_h100_sxm5")
    assert a100["ResNet-50", "bandwidth"].value != h100["ResNet-50", "bandwidth"].value
    one, many = cells("families"), cells("families", batch=1024)
    assert one["MLPs", "binds"].value == "memory-bandwidth"
    assert many["MLPs", "binds"].value == "compute"
    with pytest.raises(PharosError, match="predicts for no machine"):
        fill("6", Asked(machine="nvidia_h100_sxm5"))
    with pytest.raises(PharosError, match="predicts for no batch"):
        fill("8", Asked(batch=4))


def test_counts_of_the_lighthouse_table_are_the_graphs():
    found = cells("2")
    assert found["ResNet-50", "parameters"].value == 25_557_032
    assert found["ResNet-50", "MACs"].value * 2 == found["ResNet-50", "FLOPs"].value == 8_178_368_512
    assert found["ResNet-50", "FLOPs"].verdict == DIFFERS
    assert found["GPT-2 XL", "parameters"].value == 1_557_611_200
    assert found["MobileNetV2", "memory, fp32"].value == 4 * 3_504_872
    assert found["DLRM", "FLOPs"].verdict == REPRODUCES


def test_cells_that_are_claims_have_the_ledgers_verdict():
    """Where a cell is a claim of the ledger and computes the same, the two must not disagree."""
    plan = {
        "2": {("ResNet-50", "parameters"): "table2-resnet50-params", ("ResNet-50", "FLOPs"): "table2-resnet50-flops",
              ("GPT-2 XL", "FLOPs"): "table2-gpt2xl-flops", ("DLRM", "parameters"): "table2-dlrm-params",
              ("KWS (DS-CNN)", "parameters"): "table2-kws-params", ("MobileNetV2", "FLOPs"): "table2-mobilenetv2-flops"},
        "families": {("MLPs", "binds"): "family-mlp-bottleneck", ("RNNs", "binds"): "family-rnn-bottleneck",
                     ("Transformers", "binds"): "family-transformer-bottleneck", ("DLRM", "binds"): "family-dlrm-bottleneck"},
        "1.1": {("FLOPs/image", "implication"): "lh-resnet50-3x3-90", ("FLOPs/image", "value"): "lh-resnet50-flops"},
        "requirements": {("latency", "the chapter's check, recomputed"): "wild-latency-75ms"},
    }  # fmt: skip
    for key, wanted in plan.items():
        found = cells(key)
        for at, claim in wanted.items():
            assert claim in claims()
            assert found[at].verdict == entry(claim).verdict, (key, at)


def test_building_blocks_of_known_networks():
    resnet = counted_blocks(graph("resnet50"))
    # 53 convolutions of which 36 are 1x1, a dense layer; 16 blocks; a norm a convolution
    assert (resnet[GEMM], resnet[SHARING], resnet[SKIP], resnet[NORMALISATION]) == (36 + 1, 53, 16, 53)
    assert resnet[GATING] == 0
    assert counted_blocks(graph("mlp")) == {GEMM: 3, SHARING: 0, SKIP: 0, NORMALISATION: 0, GATING: 0}
    llama = counted_blocks(graph("llama-2-7b", context=64))
    # a layer has attention and SwiGLU, two residuals, two norms and one at the end, and 7 products beside the head
    assert (llama[GATING], llama[SKIP], llama[NORMALISATION], llama[GEMM]) == (64, 64, 65, 225)
    assert counted_blocks(graph("vgg16"))[SKIP] == 0
    assert counted_blocks(
        graph("gru_tagger", context=8) if _known("gru_tagger") else graph("lstm_tagger", context=8)
    )[GATING]


def _known(name):
    from pharos.models.registry import names

    return name in names()


def test_norms_are_told_apart_by_running_them():
    found = cells("4")
    assert all(c.verdict in (REPRODUCES, "") for c in found.values())
    assert [found["axis", n].value for n in ("BatchNorm", "LayerNorm", "RMSNorm")] == [
        "batch",
        "features",
        "features",
    ]
    # sums, differences, squares, scale, weight and bias an element
    assert found["operations an element", "LayerNorm"].value == 7
    assert found["operations an element", "RMSNorm"].value == 4
    assert found["operations an element", "BatchNorm"].value == pytest.approx(6, rel=1e-5)


def test_shares_of_primitives_add_up():
    for (heading, column), one in cells("5").items():
        if heading != "parallelism":
            assert sum(one.value.values()) == pytest.approx(1, abs=1e-5), (heading, column)
    # of a CNN's elements handled by computation all but the classifier's are under windows
    macs = {line.kind: line.work.macs * line.times for line in counted("resnet50").lines}
    share = cells("5")["computation", "CNN"].value["matmul"]
    assert share < 0.01
    assert share == pytest.approx(macs["linear"] / counted("resnet50").macs, rel=0.02)


def test_rows_and_stability():
    for key in QUICK:
        one, filled = fill(key)
        first = json.dumps(table_row(one, filled))
        assert first == json.dumps(table_row(*fill(key)))
        data = json.loads(first)
        assert data["schema"] == "pharos/table@1"
        assert set(data["rows"][0]["cells"][data["columns"][1]]) == {
            "value", "text", "known", "chapter", "stated", "verdict", "note"}  # fmt: skip
        assert sum(counts(filled).values()) == sum(c.verdict != "" for _, own in filled.rows for c in own)


def test_shown_in_eighty_columns_and_as_markdown(capsys):
    from rich.console import Console

    for width in (80, 120):
        one, filled = fill("6")
        console = Console(width=width, color_system=None)
        with console.capture() as caught:
            print_table(console, one, filled)
        lines = caught.get().splitlines()
        assert max(map(len, lines)) <= width
        assert any(line.strip().startswith("≠ CNN") for line in lines)
    text = markdown(*fill("6"))
    assert text.count("\n| **") == 4
    assert "≠ *O(K × C)*" in text
    assert tally(filled) == "of 12 cells compared 7 reproduce, 5 differ"
    assert len(reasons(filled)) == len(differing(filled)) == 5


def test_the_page_holds_every_table_and_derived_ones_as_they_are():
    page = (Path(__file__).parents[2] / "docs" / "book_tables.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == len(tables())
    for key in QUICK:
        assert markdown(*fill(key)).strip() in page, key


def test_the_command():
    listed = called("--list")
    assert listed.exit_code == 0
    assert "7 architectures" in listed.output
    data = json.loads(called("1.1", "--swap", "resnet50=resnet101", "--json").output)
    assert data["rows"][0]["cells"]["value"]["value"] == 44_549_160
    assert data["rows"][0]["cells"]["value"]["verdict"] == DIFFERS
    assert "| family |" in called("6", "--markdown").output
    assert find_table("Table_7").key == find_table("architectures").key == "7"
    for wrong in (("9",), ("6", "--on", "h100-sxm"), ("2", "--swap", "resnet50"), ("2", "--swap", "a=b"),
                  ("2", "--json", "--markdown"), ("2", "--write", "x.md"), ("2", "--batch", "x")):  # fmt: skip
        assert called(*wrong).exit_code != 0, wrong
    assert ROUNDS in data["counts"]
