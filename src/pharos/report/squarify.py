"""Squarify: rectangles whose areas are given numbers, side by side in one rectangle, none too long.

Source: Bruls, Huizing and van Wijk, "Squarified Treemaps", 2000.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Rectangle(NamedTuple):
    """Left, top, width and height."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], within: Rectangle) -> list[Rectangle]:
    """A rectangle for each size, in their order: areas in proportion, filling `within`, without overlap.

    Args:
        sizes: none negative; a size of 0 has a rectangle without area.

    Raises:
        ValueError: a negative size.
    """
    if any(s < 0 for s in sizes):
        raise ValueError("a rectangle has no negative size")
    total = float(sum(sizes))
    found = [Rectangle(within.x, within.y, 0.0, 0.0)] * len(sizes)
    if total <= 0 or within.width <= 0 or within.height <= 0:
        return found
    scale = within.width * within.height / total
    order = [i for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]) if sizes[i] * scale > 0]
    x, y, width, height = within
    at = 0
    while at < len(order):
        side = min(width, height)
        areas = [sizes[i] * scale for i in order[at:]]
        count = _row(areas, side)
        last = at + count == len(order)
        row = sum(areas[:count])
        # the last row takes what rounding has left
        thick = max(width, height) if last else min(row / side if side else 0.0, max(width, height))
        along = 0.0
        for j, i in enumerate(order[at : at + count]):
            long = side - along if j == count - 1 else side * (areas[j] / row)
            if width >= height:
                found[i] = Rectangle(x, y + along, thick, long)
            else:
                found[i] = Rectangle(x + along, y, long, thick)
            along += long
        if width >= height:
            x, width = x + thick, width - thick
        else:
            y, height = y + thick, height - thick
        at += count
    return found


def _row(areas: Sequence[float], side: float) -> int:
    """How many of the largest areas a row along a side takes before its worst shape gets worse."""
    total, best = 0.0, float("inf")
    for n, area in enumerate(areas):
        total += area
        # the longest of the row's rectangles: of its largest, or of its smallest
        worst = max(side**2 * areas[0] / total**2, total**2 / (side**2 * area)) if side else 0.0
        if worst > best:
            return n
        best = worst
    return len(areas)
