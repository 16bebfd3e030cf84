"""Studies of costs, lanes, tables, lighthouses and primitives against hand and brute force; kept verdicts."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import pharos
from pharos.book.ledger import changed, ledger
from pharos.book.studies.lighthouses import biographies
from pharos.book.studies.smaller_tables import compositional
from pharos.book.study import run_study
from pharos.doors.cli.app import app
from pharos.plan.tables import Table
from pharos.quantity.errors import PharosError
from pharos.report.readings import HEADINGS


def test_a_dense_layers_step_by_hand():
    """8 x 4 weights: 32 MACs forward, 32 for their gradient, none for the input's; then bias and update."""
    told = run_study(
        "training-cost", models=("mlp(widths=(8, 4))",), batch=1000, samples=1000, optimizer="sgd"
    )
    (row,) = told.rows
    # 4 sums with the bias and 4 of its gradient; the loss and the update are shared out over the batch
    assert 2 * 64 <= row[1] <= 2 * 64 + 24
    assert row[2] == row[4] == 1


def test_a_decoder_costs_six_operations_a_parameter_and_token():
    told = run_study("training-cost", models=("gpt2-small", "gpt2-medium"), batch=1)
    for name, sample, *_ in told.rows:
        least = 6 * pharos.show(name).parameters * 1024
        assert least <= sample <= 1.3 * least


def test_costs_grow_with_samples():
    once, twice = (
        run_study("training-cost", models=("resnet50",), samples=n).numbers["resnet50"] for n in (1e5, 2e5)
    )
    assert twice["seconds"] == pytest.approx(2 * once["seconds"])
    assert twice["usd"] == pytest.approx(2 * once["usd"])
    assert twice["flops_per_sample"] == once["flops_per_sample"]


@pytest.mark.parametrize(("outputs", "bits", "precision", "width"), [
    (100, 512, "fp32", 32), (16, 512, "fp32", 32), (1, 128, "int8", 8), (129, 128, "fp16", 16),
])  # fmt: skip
def test_lanes_by_filling_them(outputs, bits, precision, width):
    left, vectors, filled = outputs, 0, []
    while left > 0:
        vectors += 1
        filled.append(min(left, bits // width))
        left -= filled[-1]
    told = run_study("vector-lanes", outputs=outputs, bits=bits, precision=precision).numbers
    assert told["vectors"] == vectors
    assert told["utilisation"] == pytest.approx(np.mean(filled) / (bits // width))
    assert told["speedup_bound"] == pytest.approx(outputs / vectors)
    assert told["next_multiple"] == vectors * (bits // width)


def test_avx_512_has_sixteen_lanes_of_fp32():
    assert run_study("vector-lanes").numbers["lanes"] == 16


@pytest.mark.parametrize("rows", [1, 2, 10, 97, 1000])
def test_quotient_and_remainder_tell_ids_apart(rows):
    remainder, quotient = compositional(Table(name="t", rows=rows, dim=4))
    pairs = {divmod(i, remainder.rows) for i in range(rows)}
    assert len(pairs) == rows
    assert max(q for q, _ in pairs) < quotient.rows
    fewest = min(r + -(-rows // r) for r in range(1, rows + 1))
    assert remainder.rows + quotient.rows <= fewest + 1


def test_bytes_of_smaller_tables_by_hand():
    model = "dlrm(rows=(1000000, 50), dim=16, bottom=(16,), top=(8, 1))"
    told = run_study("smaller-tables", model=model, capacity="8 MB", reserve=0)
    large, small = 1_000_000 * 16 * 4, 50 * 16 * 4
    after = told.numbers["after"]
    assert after["as they are"] == {"bytes": large + small, "devices": 9}
    assert after["rows in fp16"]["bytes"] == (large + small) // 2
    assert after["rows in int8"]["bytes"] == (large + small) // 4
    assert after["hashed to 10% of the rows"] == {"bytes": large // 10 + small, "devices": 1}
    assert after["quotient and remainder"]["bytes"] == 2 * 1000 * 16 * 4 + small
    assert after["10% of the rows on the device"]["bytes"] == large // 10 + small


def test_lighthouses_isolate_five_bottlenecks_and_years_are_those_of_their_papers():
    told = run_study("lighthouses")
    assert {row[2] for row in told.rows} == {"compute", "bandwidth", "capacity", "latency", "power"}
    dated = {n: re.search(r"arXiv:(\d\d)\d\d\.", life["source"]) for n, life in biographies().items()}
    assert sum(found is not None for found in dated.values()) == 4
    for name, found in dated.items():
        assert found is None or told.numbers[name]["year"] == 2000 + int(found[1])
        assert told.numbers[name]["parameters"] == pharos.show(name).parameters


@pytest.mark.parametrize("model", ["resnet50", "gpt2-small", "lstm_tagger", "mlp"])
def test_shares_of_primitives_add_up(model):
    told = run_study("primitive-profile", model=model)
    shares, known = told.numbers["shares"], {n for names in HEADINGS.values() for n in names}
    assert set(shares) <= known
    for figure in ("macs", "bytes", "seconds", "joules"):
        assert sum(s[figure] for s in shares.values()) == pytest.approx(1)
    assert told.numbers["whole"]["macs"] == pytest.approx(pharos.show(model).macs)
    assert sum(s["macs"] for name, s in shares.items() if name in HEADINGS["computation"]) == pytest.approx(1)


def test_what_is_not_known_is_told_as_such():
    told = run_study("primitive-profile", model="mlp", on="esp32-s3", precision="fp32")
    assert told.numbers["whole"]["seconds"] is None
    assert told.numbers["shares"]["matmul"]["macs"] == 1


@pytest.mark.parametrize(("study", "given", "words"), [
    ("training-cost", {"samples": 0}, "needs samples"), ("vector-lanes", {"bits": 24}, "whole numbers"),
    ("vector-lanes", {"precision": "int4"}, "no lanes"), ("smaller-tables", {"buckets": 2}, "between 0 and 1"),
    ("smaller-tables", {"model": "mlp"}, "table"),
])  # fmt: skip
def test_mistakes_are_told(study, given, words):
    with pytest.raises(PharosError, match=words):
        run_study(study, **given)


def test_a_changed_verdict_is_told_and_fails(tmp_path):
    now = {e.claim.id: e.verdict for e in ledger()}
    assert changed(now) == []
    name = next(iter(now))
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"claims": [{"id": i, "verdict": v} for i, v in now.items()]}))
    run = CliRunner()
    assert run.invoke(app, ["ledger", "--against", str(kept)]).exit_code == 0
    kept.write_text(
        kept.read_text().replace(f'"{name}", "verdict": "{now[name]}"', f'"{name}", "verdict": "unheard"')
    )
    found = run.invoke(app, ["ledger", "--against", str(kept)])
    assert found.exit_code == 1
    assert f"{name}: unheard -> {now[name]}" in found.stdout
    kept.write_text("[]")
    assert isinstance(run.invoke(app, ["ledger", "--against", str(kept)]).exception, PharosError)
