"""docs/accuracy_here.md: its summary follows from its rows."""

import statistics
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "accuracy_here.md").read_text()


def rows():
    """(network, measured, predicted, low, high) of every run, in ms."""
    found = []
    for line in PAGE.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) == 9 and cells[1].isdigit():
            predicted, _, band = cells[5].partition(" (")
            low, high = band.rstrip(")").split(" to ")
            found.append((cells[0], *map(float, (cells[4], predicted, low, high))))
    return found


def test_many_networks_in_both_runtimes_and_batches():
    found = rows()
    assert len({name for name, *_ in found}) >= 20
    assert len(found) >= 150


def test_the_summary_is_of_the_rows():
    found = rows()
    stated = next(line for line in PAGE.splitlines() if line.startswith("| Pharos, told"))
    runs, middle, mean = [c.strip() for c in stated.strip("|").split("|")][1:4]
    off = [abs(predicted / measured - 1) for _, measured, predicted, *_ in found]
    assert int(runs) == len(found)
    # the rows are rounded to three digits
    assert float(middle.rstrip("%")) == pytest.approx(100 * statistics.median(off), abs=0.6)
    assert float(mean.rstrip("%")) == pytest.approx(100 * statistics.mean(off), abs=0.6)


def test_bands_and_aims_are_told_as_they_are():
    found = rows()
    covered = statistics.mean(low <= measured <= high for _, measured, _, low, high in found)
    stated = next(line for line in PAGE.splitlines() if line.startswith("- 80% bands cover"))
    assert float(stated.split()[4].rstrip("%")) == pytest.approx(100 * covered, abs=1.5)
    off = [abs(predicted / measured - 1) for _, measured, predicted, *_ in found]
    aims = next(line for line in PAGE.splitlines() if line.startswith("Aims:"))
    assert ("median error met" in aims) == (statistics.median(off) <= 0.12)
    assert ("mean error met" in aims) == (statistics.mean(off) <= 0.18)
