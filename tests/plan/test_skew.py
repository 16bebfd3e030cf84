"""Skew and tables: Zipf's law against plain sums, files with every mistake told, tables off graphs."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharos.convert.load import load
from pharos.graph.workload import Workload
from pharos.plan.skew import UNIFORM, Skew, harmonic
from pharos.plan.tables import Table, read_tables, tables_of
from pharos.quantity.errors import PharosError


@pytest.mark.parametrize("exponent", [0.3, 0.8, 1.0, 1.05, 2.0])
@pytest.mark.parametrize("rows", [1, 7, 1024, 1025, 40_000])
def test_harmonic_numbers_are_plain_sums(rows, exponent):
    assert harmonic(rows, exponent) == pytest.approx(
        math.fsum(i**-exponent for i in range(1, rows + 1)), rel=1e-9
    )


@given(rows=st.integers(1, 10**9), held=st.floats(0, 1), zipf=st.floats(0, 3))
def test_a_larger_cache_never_hits_less(rows, held, zipf):
    skew = Skew(zipf)
    less, more = skew.hits(held * rows / 2, rows), skew.hits(held * rows, rows)
    assert 0 <= less <= more + 1e-12
    assert more <= 1
    assert more >= held - 1e-9  # the hottest rows get at least what any rows get
    assert skew.hits(rows, rows) == pytest.approx(1)


@pytest.mark.parametrize("skew", [UNIFORM, Skew(1.05), Skew(histogram=((0.1, 0.7), (0.9, 0.3)))])
def test_distinct_rows_are_those_of_draws(skew):
    rows, lookups = 3000, 5000
    exact = [skew.hits(i + 1, rows) - skew.hits(i, rows) for i in range(rows)]
    expected = sum(1 - (1 - p) ** lookups for p in exact)
    assert skew.distinct(lookups, rows) == pytest.approx(expected, rel=0.01)
    drawn = random.Random(0).choices(range(rows), exact, k=lookups)
    assert skew.distinct(lookups, rows) == pytest.approx(len(set(drawn)), rel=0.03)


def test_a_histogram_is_read_hottest_first():
    skew = Skew(histogram=((0.9, 0.3), (0.1, 0.7)))
    assert skew.hits(10, 100) == pytest.approx(0.7)
    assert skew.hits(55, 100) == pytest.approx(0.7 + 0.15)
    with pytest.raises(PharosError, match=r"add up to 1\.1, not 1"):
        Skew(histogram=((0.5, 0.6), (0.5, 0.5)))
    with pytest.raises(PharosError, match="0 rows"):
        Skew(histogram=((0.0, 0.5), (1.0, 0.5)))


def test_tables_of_a_graph_are_its_facts():
    found = tables_of(load("dlrm-dcnv2").graph(Workload(batch=1)))
    assert len(found) == 26
    assert sum(t.rows for t in found) == 204_184_588
    assert sum(t.nbytes for t in found) == 104_542_509_056
    assert sum(t.pooling for t in found) == 214
    assert (found[20].rows, found[20].dim, found[20].pooling) == (40_000_000, 128, 100)
    with pytest.raises(PharosError, match="no embedding table"):
        tables_of(load("resnet18").graph(Workload(batch=1)))


def test_files_in_three_forms_say_the_same(tmp_path):
    rows = [{"name": "a", "rows": 1000, "dim": 64, "pooling": 3, "dtype": "fp16", "zipf": 1.1},
            {"name": "b", "rows": 20, "dim": 32, "count": 2}]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.yaml").write_text(
        "tables:\n- {name: a, rows: 1e3, dim: 64, pooling: 3, dtype: half, zipf: 1.1}\n"
        "- {name: b, rows: 20, dim: 32, count: 2}\n"
    )
    (tmp_path / "t.csv").write_text(
        "name, rows, dim, pooling, dtype, zipf, count\na, 1000, 64, 3, fp16, 1.1,\nb, 20, 32, , , , 2\n"
    )
    found = [read_tables(str(tmp_path / f"t.{kind}")) for kind in ("json", "yaml", "csv")]
    assert found[0] == found[1] == found[2]
    assert found[0] == [
        Table(name="a", rows=1000, dim=64, pooling=3, dtype="fp16", skew=Skew(1.1)),
        Table(name="b.0", rows=20, dim=32), Table(name="b.1", rows=20, dim=32),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tables: []", "holds no list"),
        ("- {rows: 5}", "needs `dim`"),
        ("- {rows: 5, dim: 4, poling: 2}", "did you mean pooling"),
        ("- {rows: 1.5, dim: 4}", "whole number"),
        ("- {rows: 0, dim: 4}", "whole number"),
        ("- {rows: 5, dim: 4, pooling: 0}", "more than 0"),
        ("- {rows: 5, dim: 4, histogram: 7}", "list of pairs"),
        ("- {rows: 5, dim: 4, dtype: fp33}", "unknown dtype"),
        ("- {rows: 5, dim: 4, zipf: -1}", "Zipf exponent"),
        ("- {name: x, rows: 5, dim: 4}\n- {name: x, rows: 5, dim: 4}", "two tables are called x"),
        ("rows: 5", "has no `tables:`"),
    ],
)
def test_mistakes_in_files_name_their_place(tmp_path, text, told):
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(PharosError, match=told) as error:
        read_tables(str(path))
    assert "t.yaml" in str(error.value)
