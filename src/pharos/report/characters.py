"""Characters: pictures for a terminal, waterfalls of blocks and rooflines on a grid."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from pharos.quantity.units import fmt

# Bars end in eighths of a character.
EIGHTHS = " ▏▎▍▌▋▊▉"
ROWS = 18


def waterfall(rows: Sequence[dict[str, Any]], width: int) -> str:
    """Rows of a waterfall as bars of blocks: each starts where the one before it ends."""
    name = max(len(r["term"]) for r in rows)
    told = max(len(r["told"]) for r in rows)
    room = max(width - name - told - 4, 10)
    most = max(r["end"] for r in rows) or 1.0
    made = []
    for r in rows:
        start, end = r["start"] / most * room, r["end"] / most * room
        first = round(start)
        bar = " " * first
        ideal = r.get("ideal")
        if r["amount"] < 0:
            bar += "░" * max(round(end - first), 1)
        elif ideal is None:
            bar += _bar(end - first)
        else:
            # what a machine at its peak would take, and what is lost below it
            full = round(ideal / most * room) - first
            bar += "█" * full + "▒" * max(round(end) - first - full, 0 if full else 1)
        made.append(f"{r['term']:<{name}}  {r['told']:>{told}}  {bar}".rstrip())
    return "\n".join(made)


def _bar(long: float) -> str:
    """A bar of so many characters, to an eighth."""
    whole, part = int(max(long, 0.0)), int((max(long, 0.0) % 1) * 8)
    return "█" * whole + (EIGHTHS[part] if part else "") or "▏"


def roofline(
    points: Sequence[dict[str, Any]], roofs: Sequence[dict[str, Any]], whole: Sequence[dict[str, Any]],
    width: int,
) -> str:  # fmt: skip
    """A roofline on a grid: roofs as lines, the slowest operators as letters, told below.

    Args:
        points, roofs, whole: rows of the figure.
    """
    left, wide = 13, max(width - 14, 24)
    xs = [r["intensity"] for r in (*points, *roofs, *whole)]
    ys = [r["flops_per_s"] for r in (*points, *roofs, *whole)]
    x0, x1 = log10(min(xs)) - 0.05, log10(max(xs)) + 0.05
    y0, y1 = log10(min(ys)) - 0.1, log10(max(ys)) + 0.1
    grid = [[" "] * wide for _ in range(ROWS)]

    def cell(x: float, y: float) -> tuple[int, int]:
        column = (log10(x) - x0) / (x1 - x0) * (wide - 1)
        row = (y1 - log10(y)) / (y1 - y0) * (ROWS - 1)
        return min(max(round(row), 0), ROWS - 1), min(max(round(column), 0), wide - 1)

    lines: dict[int, list[dict[str, Any]]] = {}
    for r in roofs:
        lines.setdefault(r["roof"], []).append(r)
    for a, b in sorted(lines.values(), key=lambda ends: ends[0]["main"]):
        (_, c0), (_, c1) = cell(a["intensity"], a["flops_per_s"]), cell(b["intensity"], b["flops_per_s"])
        for column in range(c0, c1 + 1):
            x = 10 ** (x0 + column / (wide - 1) * (x1 - x0))
            y = a["flops_per_s"] if a["flat"] else a["flops_per_s"] * x / a["intensity"]
            row, _ = cell(x, min(y, b["flops_per_s"]))
            grid[row][column] = ("─" if a["flat"] else "╱") if a["main"] else "·"
    named = list(zip("abcdefghijklmnopqrstuvwxyz", points, strict=False))
    for p in reversed(points):
        row, column = cell(p["intensity"], p["flops_per_s"])
        grid[row][column] = "•"
    told = [(letter, p) for letter, p in named if p["share"] >= 0.04][:8]
    for letter, p in reversed(told):
        row, column = cell(p["intensity"], p["flops_per_s"])
        grid[row][column] = letter
    for w in whole:
        row, column = cell(w["intensity"], w["flops_per_s"])
        grid[row][column] = "◆"
    labels = {}
    for k in range(ceil(y0), floor(y1) + 1):
        row, _ = cell(10**x0, 10.0**k)
        labels[row] = fmt(10.0**k, "FLOP/s")
    made = [f"{labels.get(i, ''):>{left - 1}}│{''.join(line)}".rstrip() for i, line in enumerate(grid)]
    made.append(" " * (left - 1) + "└" + "─" * wide)
    foot = [" "] * (wide + 1)
    for k in range(ceil(x0), floor(x1) + 1):
        _, column = cell(10.0**k, 10**y0)
        text = fmt(10.0**k)
        column = min(column, wide - len(text))
        foot[column : column + len(text)] = text
    made.append(" " * left + "".join(foot).rstrip() + "  FLOP/B")
    several = len({p["machine"] for p in points}) > 1
    for letter, p in told:
        on = f" on {p['machine']}" if several else ""
        made.append(
            f"{letter} {p['operator']}{on}: {p['share']:.0%} of the time, {p['FLOP/B']} FLOP/B, {p['rate']}"
        )
    for w in whole:
        on = f" on {w['machine']}" if several else ""
        made.append(f"◆ whole step{on}: {w['time']}, {w['FLOP/B']} FLOP/B, {w['rate']}")
    return "\n".join(made)
