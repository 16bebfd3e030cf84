"""Figures 6 and 7: attention weights of a sentence, from one pronoun and between all pairs of words."""

from math import cos, pi, sin
from typing import Any

from pharos.book.claims.attention import workspace
from pharos.book.figure import Asked, Picture, figure
from pharos.book.sums import run
from pharos.ops.attention import Attention
from pharos.quantity.units import fmt
from pharos.report.canvas import Canvas
from pharos.report.drawing import Figure

# What each word is: a key of four features (person, thing, many, deed). Constructed by hand, not learnt.
WORDS = (
    ("the", (0, 0, 0, 0)), ("gardeners", (2, 0, 2, 0)), ("watered", (0, 0, 0, 2)), ("the", (0, 0, 0, 0)),
    ("roses", (0, 2, 2, 0)), ("because", (0, 0, 0, 0)), ("they", (0.5, 0.5, 1, 0)), ("were", (0, 0, 1, 1)),
    ("dry", (0, 1, 0, 1)),
)  # fmt: skip
# What a word with a feature looks for: a pronoun of many for persons and things that are many, and so on.
LOOKS = ((1, 0, 0, 1), (0, 1, 0, 1), (0.5, 1, 1.5, -1), (1, 1, 0, 0))
PRONOUN = 6


def weights(words: Any = WORDS) -> Any:
    """Shares of every word's attention, [from, to], by the operator's loops; each row adds up to 1."""
    import numpy as np

    keys = np.array([features for _, features in words], float)
    queries = keys @ np.array(LOOKS, float)
    values = np.eye(len(words))
    return run(Attention(algorithm="materialised"), *(a[None, None] for a in (queries, keys, values)))[0, 0]


@figure(6, "pronoun", "attention from a pronoun to what it stands for", "1.5")
def pronoun(asked: Asked) -> Picture:
    """Arcs from the pronoun to every word, as thick as its weight."""
    row = weights()[PRONOUN]
    names = [w for w, _ in WORDS]
    n, width = len(names), 600
    gap = width / n
    xs, base = [gap * (i + 0.5) for i in range(n)], 190
    canvas = Canvas(width, 290, ("attends",))
    top = float(max(row))
    for i, share in enumerate(row):
        if i == PRONOUN:
            continue
        rise = 20 + 21 * abs(i - PRONOUN)
        middle, half = (xs[PRONOUN] + xs[i]) / 2, (xs[PRONOUN] - xs[i]) / 2
        arc = [(middle - half * cos(pi * t / 32), base - 16 - rise * sin(pi * t / 32)) for t in range(33)]
        canvas.line(
            arc,
            group="attends",
            width=0.6 + 9 * float(share),
            head=False,
            level=0.3 + 0.7 * float(share) / top,
            detail=f"they → {names[i]}: {share:.3f}",
        )
    for i, (word, share) in enumerate(zip(names, row, strict=True)):
        own = i == PRONOUN
        canvas.box(xs[i] - gap / 2 + 2, base - 13, gap - 4, 26, word, size=12, bold=own or share > 0.2,
                   group="attends" if own or share > 0.2 else "", level=0.35 if own else float(share),
                   edge=2 if own else 0.8, detail=f"{word}: {share:.3f}")  # fmt: skip
        height = 52 * float(share) / top
        canvas.box(xs[i] - 12, base + 24, 24, height, group="attends", level=0.6, edge=0.5,
                   detail=f"{word}: {share:.3f}")  # fmt: skip
        canvas.word(xs[i], base + 34 + height, f"{share:.2f}", size=11, quiet=share < 0.1)
    ranked = sorted(((float(s), w) for s, w in zip(row, names, strict=True)), reverse=True)
    alt = (
        f"The sentence {' '.join(names)!r}, with an arc from {names[PRONOUN]!r} to every other word, as "
        f"thick as its "
        f"share of attention. Most goes to {ranked[0][1]!r}, {ranked[0][0]:.0%}, which it stands for, "
        f"then to " + ", ".join(f"{w!r}, {s:.0%}" for s, w in ranked[1:3]) + ". All shares add up to 1."
    )
    made = Figure.of(canvas.chart(), name="pronoun", title="Where a pronoun looks: softmax of queries "
                                                           "times keys",
                     alt=alt, source="four features a word constructed by hand; weights computed by the "
                                     "operator")  # fmt: skip
    note = "a constructed example: features by hand, not of a trained model; weights by attention's own loops"
    return Picture(figure=made, columns=("word", "position", "weight"),
                   rows=tuple((w, i, float(s)) for i, (w, s) in enumerate(zip(names, row, strict=True))),
                   note=note, lines=tuple(f"{w:>9} {'█' * round(40 * float(s)):<40} {s:.3f}"
                                          for w, s in zip(names, row, strict=True)))  # fmt: skip


@figure(7, "attention-matrix", "weights between all pairs of words: N x N cells", "1.5")
def attention_matrix(asked: Asked) -> Picture:
    """Queries down, keys across; the deeper a cell, the larger its weight."""
    found, names = weights(), [w for w, _ in WORDS]
    n, cell, left, top = len(names), 52, 92, 52
    canvas = Canvas(left + n * cell + 4, top + n * cell + 4, ("attends",))
    canvas.word(left + n * cell / 2, 10, "key: looked at", bold=True)
    canvas.word(6, top + n * cell / 2, "query: looking", bold=True, angle=-90)
    for i in range(n):
        canvas.word(left - 8, top + (i + 0.5) * cell, names[i], align="right", bold=i == PRONOUN)
        canvas.word(left + (i + 0.5) * cell, top - 12, names[i], size=10.5)
        for j in range(n):
            share = float(found[i, j])
            canvas.box(
                left + j * cell,
                top + i * cell,
                cell,
                cell,
                f"{share:.2f}".lstrip("0") or "0",
                size=11,
                group="attends",
                level=1.6 * share,
                edge=0.4,
                quiet=share < 0.1,
                detail=f"{names[i]} → {names[j]}: {share:.3f}",
            )
    many = 4096
    held = int(workspace(many))
    alt = (
        f"A grid of {n} by {n} cells: how much of its attention each word of {' '.join(names)!r} gives to "
        f"each. Every "
        f"row adds up to 1. In the row of {names[PRONOUN]!r} the largest is "
        f"{names[int(found[PRONOUN].argmax())]!r}, {found[PRONOUN].max():.2f}. Rows of words without "
        f"features are even."
    )
    note = (
        f"{n} words make {n * n} cells, {many:,} tokens {many * many:,} a head: {fmt(held, 'B')} in fp16 "
        f"where they "
        "are stored, nothing of that order where attention is tiled"
    )
    made = Figure.of(canvas.chart(), name="attention-matrix", title="Every word looks at every word: N x "
        "N weights",
                     alt=alt, source=note)  # fmt: skip
    rows = tuple((names[i], names[j], i, j, float(found[i, j])) for i in range(n) for j in range(n))
    lines = [" " * 10 + " ".join(f"{w[:6]:>6}" for w in names)]
    lines += [f"{names[i]:>9} " + " ".join(f"{found[i, j]:6.2f}" for j in range(n)) for i in range(n)]
    return Picture(
        figure=made,
        columns=("query", "key", "row", "column", "weight"),
        rows=rows,
        lines=tuple(lines),
        note=f"a constructed example, as in figure 6; {note}",
    )
