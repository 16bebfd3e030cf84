"""docs/memory.md is what the benchmark writes: rows of small networks made anew, and all networks in every table."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/memory.md").read_text()
SMALL = ["lenet5", "ds_cnn_s", "lstm_tagger"]


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import memory
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return memory


def line(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def rows(title):
    """Cells of the table under a heading."""
    part = PAGE.partition(f"## {title}")[2].partition("## ")[0]
    return [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in part.splitlines()
        if row.startswith("| ")
    ][1:]


@pytest.mark.parametrize("name", SMALL)
def test_rows_made_anew_are_those_of_the_page(bench, name):
    net = bench.nets()[name]
    for batch in bench.INFERENCE_BATCHES:
        assert line(bench.cells("inference", bench.inference_row(net, batch))) in PAGE
    for case in bench.CASES[:2]:
        assert line(bench.cells("training", bench.training_row(net, *case))) in PAGE


def test_every_network_is_in_both_tables(bench):
    from memory_nets import OWN, VISION

    wanted = {*OWN, *VISION}
    assert len(wanted) >= 20
    assert wanted <= {row[0] for row in rows("Inference")}
    assert wanted <= {row[0] for row in rows("Training")}


def test_errors_of_the_page_are_what_it_says(bench):
    """The sentence under each table, from the table's own figures."""
    for title in ("Inference", "Training"):
        found = rows(title)
        off = [int(row[-4]) for row in found]
        part = PAGE.partition(f"## {title}")[2].partition("## ")[0]
        assert f"Traced: {sum(o == 0 for o in off)} of {len(off)} rows to the byte" in part
        graph = [abs(float(row[-2].rstrip("%"))) for row in found if row[-2] != "-"]
        assert f"{sum(e <= 5 for e in graph)} of {len(graph)} within 5%" in part
