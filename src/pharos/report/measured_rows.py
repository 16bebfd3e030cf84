"""Measured rows: pairs of a measured and a predicted time, from stored runs, a measurement, or a file."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pharos.quantity.errors import InputError

SUFFIXES = (".csv", ".json", ".jsonl")
MEASURED = ("measured_s", "median_s", "seconds")
PREDICTED = ("predicted_s", "predicted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One thing that was predicted and measured; seconds.

    Args:
        group: what it is told apart by. what: a word for such things.
        low_s, high_s: of the prediction's 80% band. fast_s, slow_s: of 80% of the runs.
    """

    name: str
    group: str
    measured_s: float
    predicted_s: float
    what: str = "runs"
    low_s: float | None = None
    high_s: float | None = None
    fast_s: float | None = None
    slow_s: float | None = None


def pairs_of(found: Any) -> list[Pair]:
    """Pairs of stored runs, of a measurement's operators, of rows as mappings, or of pairs.

    Raises:
        InputError: something else.
    """
    from pharos.measure.measure import Measurement
    from pharos.measure.store import Kept

    if isinstance(found, Measurement):
        return [
            Pair(name=o.name, group=o.cost_class, measured_s=o.seconds, predicted_s=o.predicted,
                 what=f"operators of {found.model}")
            for o in found.operators if o.predicted and o.seconds > 0
        ]  # fmt: skip
    if isinstance(found, Mapping) and "operators" in found:
        found = found["operators"]
    made = []
    for number, one in enumerate(found):
        if isinstance(one, Pair):
            made.append(one)
        elif isinstance(one, Kept):
            if one.predicted_s and one.median_s > 0:
                threads = f"{one.threads} thread{'s' if one.threads != 1 else ''}"
                made.append(Pair(
                    name=f"{one.model} x{one.workload.get('batch') or 1}", measured_s=one.median_s,
                    group=f"{one.runtime}, {threads if one.device == 'cpu' else one.device}",
                    predicted_s=one.predicted_s, fast_s=one.low_s, slow_s=one.high_s,
                ))  # fmt: skip
        elif isinstance(one, Mapping):
            pair = _of_row(one, number)
            if pair is not None:
                made.append(pair)
        else:
            raise InputError(f"{type(one).__name__} is no measurement", where=f"row {number + 1}")
    return made


def _of_row(row: Mapping[str, Any], number: int) -> Pair | None:
    predicted, band = _first(row, PREDICTED), {}
    if isinstance(predicted, Mapping):
        predicted, band = predicted.get("value"), predicted
    measured = _first(row, MEASURED)
    if measured in (None, "") or predicted in (None, ""):
        return None
    where = f"row {number + 1}"
    a, b = _number(measured, where, "measured_s"), _number(predicted, where, "predicted_s")
    if a is None or b is None or a <= 0 or b <= 0:
        return None
    words = [str(row[k]) for k in ("runtime", "device", "cost_class", "machine") if row.get(k)]
    batch = f" x{row['batch']}" if row.get("batch") else ""
    name = f"{row.get('name') or row.get('model') or where}{batch}"
    return Pair(
        name=name, group=str(row.get("group") or ", ".join(words[:2])), measured_s=a, predicted_s=b,
        low_s=_number(row.get("predicted_low_s", band.get("low")), where, "predicted_low_s"),
        high_s=_number(row.get("predicted_high_s", band.get("high")), where, "predicted_high_s"),
        fast_s=_number(row.get("low_s"), where, "low_s"), slow_s=_number(row.get("high_s"), where, "high_s"),
    )  # fmt: skip


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[n] for n in names if row.get(n) is not None), None)


def _number(value: Any, where: str, field: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is no number of seconds", where=f"{where}: {field}") from None


def read_rows(path: str | Path) -> Any:
    """Rows of a .csv, .json or .jsonl file: name, measured_s, predicted_s, and where known predicted_low_s,
    predicted_high_s, low_s, high_s and group; or what `pharos measure --json` prints.

    Raises:
        InputError: it cannot be read as such.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            return list(csv.DictReader(text.splitlines()))
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        found = json.loads(text)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (UnicodeDecodeError, ValueError) as error:
        raise InputError(f"is no {path.suffix[1:]}: {error}", where=str(path)) from None
    if isinstance(found, dict) and isinstance(found.get("operators"), list):
        return found["operators"]
    if isinstance(found, dict) and isinstance(found.get("runs"), list):
        return found["runs"]
    if not isinstance(found, list):
        raise InputError("holds no list of rows", where=str(path), hint="a list of objects with measured_s")
    return found
