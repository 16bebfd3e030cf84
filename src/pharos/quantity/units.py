"""Units at the edge: parse what people write, print what they read; SI base units inside.

GB is 1e9 bytes and GiB is 2**30; a printed figure always says which.
"""

import re
from typing import Any

from pharos.quantity.errors import PharosError, unknown
from pharos.quantity.sizes import Size, is_array, is_symbol

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "p": 1e-12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}


def _table() -> dict[str, tuple[str, float]]:
    units: dict[str, tuple[str, float]] = {}
    for prefix, scale in {**_DECIMAL, **_BINARY}.items():
        units[f"{prefix}B"] = ("B", scale)
        units[f"{prefix}B/s"] = ("B/s", scale)
        units[f"{prefix}bit/s"] = ("B/s", scale / 8)
        units[f"{prefix}b/s"] = ("B/s", scale / 8)
    for prefix, scale in _DECIMAL.items():
        for rate in ("FLOP/s", "FLOPS", "OP/s", "OPS"):
            units[prefix + rate] = ("FLOP/s", scale)
        units[f"{prefix}MAC/s"] = ("FLOP/s", 2 * scale)
        units[f"{prefix}FLOP"] = units[f"{prefix}FLOPs"] = ("FLOP", scale)
        units[f"{prefix}MAC"] = units[f"{prefix}MACs"] = ("MAC", scale)
        units[f"{prefix}Hz"] = ("Hz", scale)
        for per in ("/s", " per s"):
            units[f"{prefix}{per}"] = ("1/s", scale)
    for prefix, scale in _SMALL.items():
        units[f"{prefix}s"] = ("s", scale)
    for prefix, scale in {**_SMALL, **_DECIMAL}.items():
        units[f"{prefix}W"] = ("W", scale)
        units[f"{prefix}J"] = ("J", scale)
    for prefix, scale in {"": 1.0, "k": 1e3, "m": 1e-3}.items():
        units[f"{prefix}Wh"] = ("J", 3600 * scale)
    for prefix, scale in {**_DECIMAL, "B": 1e9}.items():
        units.setdefault(prefix, ("1", scale))
    units |= {"min": ("s", 60.0), "h": ("s", 3600.0), "sec": ("s", 1.0), "day": ("s", 86400.0)}
    units |= {"%": ("1", 0.01), "USD": ("USD", 1.0), "$": ("USD", 1.0)}
    return units


UNITS = _table()
_WORDS = {"B": "size in bytes", "s": "duration", "W": "power", "J": "energy", "B/s": "bandwidth",
          "FLOP/s": "rate of operations", "1": "plain number", "Hz": "frequency",
          "1/s": "rate", "MAC": "number of MACs", "FLOP": "number of FLOPs", "USD": "price"}  # fmt: skip
_EXAMPLE = {"B": "512 MB", "s": "10 ms", "W": "2 W", "J": "15 mJ", "B/s": "3350 GB/s", "1": "5 M",
            "FLOP/s": "312 TFLOP/s", "Hz": "1.2 GHz", "1/s": "30 /s", "MAC": "300 MMAC",
            "FLOP": "600 MFLOP", "USD": "1 USD"}  # fmt: skip
_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$")


def parse(text: Any, unit: str) -> float:
    """`text` in SI base `unit` ("B", "s", "W", "J", "B/s", "FLOP/s", "Hz", "1/s", "1", ...).

    A bare number is already in the base unit. "MB" is 1e6 bytes, "MiB" 2**20.

    Raises:
        PharosError: not a number, an unknown unit, or a unit of another quantity.
    """
    if isinstance(text, bool):
        raise PharosError(f"{text} is not a {_WORDS[unit]}", hint=f"write e.g. {_EXAMPLE[unit]!r}")
    if isinstance(text, (int, float)):
        return text
    match = _NUMBER.match(str(text))
    if match is None:
        raise PharosError(f"{text!r} is not a {_WORDS[unit]}", hint=_suggest(str(text), unit))
    number, written = float(match[1].replace("_", "")), match[2]
    if not written:
        return number
    found = _lookup(written, unit)
    if found is None:
        same = [u for u, (base, _) in UNITS.items() if base == unit and u]
        if written.lower() in {u.lower() for u in UNITS}:
            hint = f"write e.g. {_EXAMPLE[unit]!r}"
            raise PharosError(f"{text!r} is not a {_WORDS[unit]}", hint=hint)
        swapped = _digits(str(text))
        hint = f"did you mean {swapped!r}?" if swapped else unknown("unit", written, same).hint
        raise PharosError(f"{text!r} is not a {_WORDS[unit]}: unknown unit {written!r}", hint=hint)
    base, scale = found
    if base != unit:
        raise PharosError(
            f"{text!r} is a {_WORDS[base]}, not a {_WORDS[unit]}",
            hint=f"write e.g. {_EXAMPLE[unit]!r}",
        )
    return number * scale


def _lookup(written: str, unit: str) -> tuple[str, float] | None:
    found = UNITS.get(written)
    if found is None and unit in ("B", "B/s", "FLOP/s"):
        # none of these has a milli, so "mb" can only mean mega
        folded = {u.lower(): entry for u, entry in UNITS.items() if entry[0] == unit}
        found = folded.get(written.lower())
    return found


def _digits(text: str) -> str:
    """The text with a letter o typed for a zero put right, if that makes it a number."""
    swapped = re.sub(r"(?<=\d)[oO]|[oO](?=\d)", "0", text)
    return swapped if swapped != text and _NUMBER.match(swapped) else ""


def _suggest(text: str, unit: str) -> str:
    swapped = _digits(text)
    return f"did you mean {swapped!r}?" if swapped else f"write e.g. {_EXAMPLE[unit]!r}"


_STEPS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_DOWN = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))
_BYTES2 = ((2.0**40, "Ti"), (2.0**30, "Gi"), (2.0**20, "Mi"), (2.0**10, "Ki"), (1.0, ""))


def fmt(x: Size | None, unit: str = "", *, digits: int = 3, binary: bool = False) -> str:
    """`x` in SI `unit` as people read it: three significant digits and a prefix.

    Unknown (None) prints as "unknown", a formula as itself, an array as its range.
    """
    if x is None:
        return "unknown"
    if is_symbol(x):
        return f"{x} {unit}".strip()
    if is_array(x):
        low, high = float(x.min()), float(x.max())
        if low == high:
            return fmt(low, unit, digits=digits, binary=binary)
        return f"{fmt(low, unit, binary=binary)} to {fmt(high, unit, binary=binary)}"
    value = float(x)
    if value == 0:
        return f"0 {unit}".strip()
    if value != value or value in (float("inf"), float("-inf")):
        return "without bound" if value > 0 else "unknown"
    magnitude = abs(value)
    if binary:
        steps = _BYTES2
    elif unit in ("s", "J", "W"):
        steps = (*_STEPS[:-1], *_DOWN) if unit != "s" else _DOWN
    else:
        steps = _STEPS
    for scale, prefix in steps:
        # 999.9996 k would print as 1000 k: step up where rounding carries over
        if magnitude >= scale * (1 - 0.5 * 10**-digits):
            return f"{_round(value / scale, digits)} {prefix}{unit}".rstrip()
    scale, prefix = steps[-1]
    return f"{_round(value / scale, digits)} {prefix}{unit}".rstrip()


def _round(x: float, digits: int) -> str:
    text = f"{x:.{digits}g}"
    return f"{float(text):.0f}" if "e" in text and abs(x) < 1e15 else text


def fmt_count(x: Size | None, digits: int = 3) -> str:
    """A bare count with a decimal prefix: 25.6 M."""
    return fmt(x, "", digits=digits)
