"""Reads the field folder's tables into columns, and cuts them by shape."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from pharos.measure.fit import Rows, bucket

# Rows whose shape falls into the lower half may be fitted on, those in the upper half are counted.
COUNTED_FROM = 500
# Points that a calibration may take.
BUDGET = 300


class Table(dict[str, Any]):
    """Columns by name, all of one length."""

    def __len__(self) -> int:
        return len(next(iter(self.values()), ()))

    def where(self, which: Any) -> "Table":
        """Rows by mask or index."""
        return Table({k: v[which] for k, v in self.items()})


def table(folder: Path, name: str) -> Table | None:
    """A CSV file of the folder, numbers as floats; None where it is absent."""
    path = folder / name
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    found = Table()
    for at, column in enumerate(lines[0]):
        cells = [line[at] for line in lines[1:]]
        try:
            found[column] = np.array([float(c) if c else np.nan for c in cells])
        except ValueError:
            found[column] = np.array(cells)
    return found


def halves(rows: Rows, budget: int = BUDGET) -> tuple[Rows, Rows]:
    """(at most `budget` rows to calibrate on, rows to count), by a hash of the shape: no shape is on both sides."""
    place = bucket(*rows.sizes.values())
    order = np.argsort(place, kind="stable")
    pool = order[place[order] < COUNTED_FROM]
    return rows.pick(pool[:budget]), rows.pick(place >= COUNTED_FROM)
