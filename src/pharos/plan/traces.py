"""Traces: when requests arrive and how long they are, from a file or drawn with a seed."""

import csv
import json
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pharos.quantity.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np

# Names that files have for the columns, ours first.
COLUMNS = {
    "arrival": ("arrival", "arrival_s", "arrived_at", "arrival_time", "timestamp", "time"),
    "prompt": ("prompt", "prompt_tokens", "input_tokens", "contexttokens", "num_prefill_tokens"),
    "output": ("output", "output_tokens", "generated_tokens", "generatedtokens", "num_decode_tokens"),
}
# How lengths are spread about their mean: all alike, or by a log-normal law with this deviation of the log,
# about that of public chat traces, whose middle half spans a factor of 3 to 5 (assumed).
SPREADS = ("fixed", "lognormal", "exponential", "uniform")
LOG_DEVIATION = 0.8
# Bytes of a trace that are read at most.
LARGEST = 512 << 20


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival.

    Args:
        arrival: seconds from the start.
        prompt, output: tokens in and out, at least 1.
    """

    arrival: "np.ndarray"
    prompt: "np.ndarray"
    output: "np.ndarray"

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def rate(self) -> float:
        """Requests a second on average."""
        span = float(self.arrival[-1] - self.arrival[0]) if len(self) > 1 else 0.0
        return (len(self) - 1) / span if span > 0 else float("inf")

    def at(self, rate: float) -> "Trace":
        """The same requests, arriving so many a second, gaps stretched alike."""
        span = self.arrival - self.arrival[0]
        mean = float(span[-1]) / max(len(self) - 1, 1)
        return Trace(span / (mean * rate) if mean > 0 else span, self.prompt, self.output)


def poisson(
    rate: float,
    requests: int,
    prompt: int,
    output: int,
    *,
    seed: int = 0,
    spread: str = "fixed",
    longest: int | None = None,
) -> Trace:
    """Requests that arrive independently of each other, with lengths drawn about their means.

    Args:
        rate: requests a second.
        spread: "fixed", "lognormal", "exponential" or "uniform" lengths; means stay as given before they are
            cut off at `longest` tokens together.

    Raises:
        InputError: no requests, or a rate that is not positive.
        UnknownName: an unknown spread.
    """
    import numpy as np

    if requests < 1 or not 0 < rate < 1e9 or prompt < 1 or output < 1:
        raise InputError(
            f"no trace of {requests} requests at {rate} a second of {prompt} and {output} tokens"
        )
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1.0 / rate, requests))
    ins, outs = (_lengths(rng, mean, requests, spread) for mean in (prompt, output))
    if longest is not None:
        ins = np.minimum(ins, max(longest - 1, 1))
        outs = np.minimum(outs, np.maximum(longest - ins, 1))
    return Trace(arrival, ins, outs)


def _lengths(rng: Any, mean: int, count: int, spread: str) -> Any:
    import numpy as np

    if spread not in SPREADS:
        raise unknown("spread of lengths", spread, SPREADS)
    if spread == "fixed":
        return np.full(count, mean)
    if spread == "lognormal":
        drawn = rng.lognormal(np.log(mean) - LOG_DEVIATION**2 / 2, LOG_DEVIATION, count)
    elif spread == "exponential":
        drawn = rng.exponential(mean, count)
    else:
        drawn = rng.uniform(1, 2 * mean - 1, count)
    return np.maximum(drawn.round(), 1).astype(int)


def typical_lengths(mean: int, longest: int | None) -> list[int]:
    """Lengths of requests about a mean: the middles of 100 equal shares of the log-normal law, rising."""
    from statistics import NormalDist

    law = NormalDist(log(mean) - LOG_DEVIATION**2 / 2, LOG_DEVIATION)
    found = [max(round(exp(law.inv_cdf((i + 0.5) / 100))), 1) for i in range(100)]
    return found if longest is None else [min(n, longest) for n in found]


def read_trace(path: str | Path) -> Trace:
    """A trace from CSV or JSON lines with arrival (seconds), prompt and output (tokens).

    Raises:
        InputError: an unreadable file, a missing column or a value that is none, with its line.
    """
    import numpy as np

    file = Path(path)
    try:
        if file.is_dir():
            raise InputError("is a folder, not a trace", where=str(path))
        if file.stat().st_size > LARGEST:
            raise InputError("is larger than 512 MiB", where=str(path))
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not a text file", where=str(path)) from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise InputError("is empty", where=str(path), hint="arrival,prompt,output a line")
    rows = _json_lines(lines, str(path)) if first.lstrip().startswith("{") else _csv_rows(lines, str(path))
    if not rows:
        raise InputError("holds no requests", where=str(path))
    rows.sort(key=lambda r: r[0])
    columns = list(zip(*rows, strict=True))
    arrival = np.array(columns[0])
    return Trace(arrival - arrival[0], np.array(columns[1]), np.array(columns[2]))


def _csv_rows(lines: list[str], path: str) -> list[tuple[float, int, int]]:
    reader = csv.reader(lines)
    header = [h.strip() for h in next(reader)]
    keys = _columns(header, f"{path}:1")
    found = []
    for number, cells in enumerate(reader, 2):
        if cells:
            row = dict(zip(header, cells, strict=False))
            found.append(_row(row, keys, f"{path}:{number}"))
    return found


def _json_lines(lines: list[str], path: str) -> list[tuple[float, int, int]]:
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError("is not a JSON object", where=where) from None
        if not isinstance(row, dict):
            raise InputError("is not a JSON object", where=where)
        found.append(_row(row, _columns(list(row), where), where))
    return found


def _columns(header: list[str], where: str) -> dict[str, str]:
    folded = {h.lower(): h for h in header}
    keys = {}
    for ours, names in COLUMNS.items():
        found = next((folded[n] for n in names if n in folded), None)
        if found is None:
            raise InputError(
                f"has no column {ours}",
                where=where,
                hint=f"one of {', '.join(names)}; it has {', '.join(header[:8])}",
            )
        keys[ours] = found
    return keys


def _row(row: dict[str, Any], keys: dict[str, str], where: str) -> tuple[float, int, int]:
    values = []
    for ours in COLUMNS:
        written = row.get(keys[ours])
        try:
            value = float(written if not isinstance(written, bool) and written is not None else "")
        except (TypeError, ValueError):
            raise InputError(f"{written!r} is no number", where=f"{where} {keys[ours]}") from None
        tokens = ours != "arrival"
        if not (1 <= value < 1e9 if tokens else abs(value) < 1e12) or (tokens and value != int(value)):
            what = "a number of tokens" if tokens else "a time in seconds"
            raise InputError(f"{written!r} is not {what}", where=f"{where} {keys[ours]}")
        values.append(value)
    return values[0], int(values[1]), int(values[2])
