"""Alignment: the multiple that a machine's matrix unit wants of a product's sizes, by its catalogue entry."""

import re

from pharos.machines.machine import Machine
from pharos.quantity.dtypes import BITS
from pharos.quantity.evidence import Evidence, spec


def multiple_of(machine: Machine, dtype: str) -> tuple[int, Evidence] | None:
    """Elements that inner and outer sizes should be multiples of; None without a matrix unit or a known rule.

    The rule stands in words in the machine's file: a number for a type, a size of the array, or bytes.
    """
    peak, text = machine.peaks.get(dtype), machine.alignment
    if peak is None or peak.unit != "matrix" or not text:
        return None
    patterns = (
        (rf"(\d+) \({dtype}\)", 1),
        (rf"\b{dtype}\b[^,;:]*? (\d+)", 1),
        (r"MXU dims to (\d+)", 1),
        (r"pad to (\d+)", 1),
        (r"(\d+)[- ]bytes?", 8 / BITS[dtype]),
    )
    for pattern, scale in patterns:
        found = re.search(pattern, text)
        if found:
            return max(1, int(int(found[1]) * scale)), spec(f"alignment of {machine.id}: {text}")
    return None


def up_to(size: int, multiple: int) -> int:
    """The next multiple."""
    return -(-size // multiple) * multiple
