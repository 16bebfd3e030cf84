"""Agree: whether what a text states is what was computed: the same, its rounding, or something else."""

import re
from collections.abc import Sequence
from math import floor, isclose, log10
from typing import Any, TypeGuard

REPRODUCES, ROUNDS, DIFFERS, UNKNOWN = "reproduces", "rounds", "differs", "unknown"
VERDICTS = (REPRODUCES, ROUNDS, DIFFERS, UNKNOWN)

RULE = (
    "reproduces: the same number (to 1 part in 1e9), the same words or formula, inside a stated range or"
    " bound, or, for a statement, it holds. rounds: the stated number is the computed one rounded, or cut"
    " off, to the digits stated; in whole numbers of 1,000 and more trailing zeros are not digits, in those"
    " of 100 and more the last one is not, and a single digit is never a cut-off number. differs: neither, in"
    " the unit and convention that the text names. unknown: nothing here can compute it."
)
# What words for a size mean, in the base unit: from the first up to the second.
SIZES = {
    "few": (2, 10),
    "several": (2, 100),
    "few hundred": (100, 1000),
    "several hundred": (200, 1000),
    "hundreds": (100, 1000),
    "thousands": (1e3, 1e6),
    "kilobytes": (1e3, 1e6),
    "millions": (1e6, 1e9),
    "gigabytes": (1e9, 1e12),
    "tens of billions": (1e10, 1e11),
    "TB": (1e12, 1e15),
    "PB": (1e15, 1e18),
    "milliwatts": (1e-3, 1),
    "orders of magnitude": (100, float("inf")),
}
_BOUND = re.compile(r"^(<=|>=|<|>)\s*([\d.]+(?:e\d+)?)$")


def digits(stated: float) -> int:
    """Significant digits of a number as it is stated; see RULE."""
    if float(stated).is_integer() and abs(stated) < 1e16:
        text = str(abs(int(stated)))
        return len(text) if len(text) < 3 else max(len(text.rstrip("0")), 2 if len(text) == 3 else 1)
    mantissa = f"{abs(stated):.12g}".split("e")[0].replace(".", "")
    return len(mantissa.lstrip("0")) or 1


def rounded(value: float, to: int) -> float:
    """`value` with so many significant digits."""
    return float(f"{value:.{to - 1}e}")


def cut(value: float, to: int) -> float:
    """`value` with its digits after so many dropped."""
    if value == 0:
        return 0.0
    step = to - 1 - floor(log10(abs(value)))
    return float(f"{int(abs(value) * 10.0**step + 1e-9) * 10.0**-step:.{to}g}") * (1 if value > 0 else -1)


def agree(stated: Any, computed: Any, form: str = "") -> str:
    """One of VERDICTS but unknown.

    Args:
        stated: a number, words, a bound such as ``>100``, an O-expression, or a list of these.
        computed: likewise; True or False for words means that they hold or do not.
        form: "range" if the stated pair is the ends of a range that all that is computed lies in.
    """
    if form == "range":
        low, high = stated
        values = computed if isinstance(computed, (list, tuple)) else [computed]
        return _worst(_inside(low, high, v) for v in values)
    if isinstance(stated, (list, tuple)) and isinstance(computed, (list, tuple)):
        if len(stated) != len(computed):
            return DIFFERS
        return _worst(agree(a, b) for a, b in zip(stated, computed, strict=True) if b is not None)
    if isinstance(computed, bool):
        return REPRODUCES if computed == (stated if isinstance(stated, bool) else True) else DIFFERS
    if isinstance(stated, str):
        return _words(stated, computed)
    if isinstance(stated, bool) or not _is_number(stated) or not _is_number(computed):
        return DIFFERS
    if isclose(stated, computed, rel_tol=1e-9, abs_tol=1e-12):
        return REPRODUCES
    to = digits(stated)
    near = [rounded(computed, to)] + ([cut(computed, to)] if to > 1 else [])
    return ROUNDS if any(isclose(v, stated, rel_tol=1e-9) for v in near) else DIFFERS


def is_cut(stated: Any, computed: Any) -> bool:
    """Whether a stated number is the computed one cut off where rounding would give another."""
    if not (_is_number(stated) and _is_number(computed)) or agree(stated, computed) != ROUNDS:
        return False
    return not isclose(rounded(computed, digits(stated)), stated, rel_tol=1e-9)


def _worst(found: Any) -> str:
    return max(found, key=VERDICTS.index, default=DIFFERS)


def _is_number(x: Any) -> TypeGuard[float]:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def _inside(low: float, high: float, value: Any) -> str:
    if not _is_number(value):
        return DIFFERS
    if low <= value <= high:
        return REPRODUCES
    near = agree(low if value < low else high, value)
    return near if near == ROUNDS else DIFFERS


def _words(stated: str, computed: Any) -> str:
    bound = _BOUND.match(stated)
    if bound and _is_number(computed):
        limit = float(bound[2])
        held = {
            "<": computed < limit,
            "<=": computed <= limit,
            ">": computed > limit,
            ">=": computed >= limit,
        }
        return REPRODUCES if held[bound[1]] else DIFFERS
    if stated in SIZES and isinstance(computed, (int, float, list, tuple)):
        low, high = SIZES[stated]
        values: Sequence[Any] = computed if isinstance(computed, (list, tuple)) else [computed]
        return REPRODUCES if all(low <= v < high for v in values) else DIFFERS
    return REPRODUCES if _terms(stated) == _terms(str(computed)) else DIFFERS


def _terms(text: str) -> frozenset[tuple[str, ...]]:
    """A sum of products without regard to order, spaces and the O( ) around it; words as they are."""
    inner = re.sub(r"^O\((.*)\)$", r"\1", text.strip()).lower()
    inner = re.sub(r"(\w+)\^(\d)", lambda m: "*".join([m[1]] * int(m[2])), inner)
    parts = [part for part in re.split(r"\s*\+\s*", inner) if part]
    return frozenset(tuple(sorted(filter(None, re.split(r"[\s*]+", part)))) for part in parts)
