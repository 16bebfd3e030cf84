"""Measured: what was predicted beside what was measured, with both bands."""

from collections.abc import Sequence
from math import log
from typing import Any

from pharos.quantity.errors import InputError
from pharos.quantity.units import fmt
from pharos.report.drawing import Figure
from pharos.report.marks import INNER, SHAPES, haloed, lines, log_axis, place, zoom
from pharos.report.measured_rows import Pair, pairs_of
from pharos.report.plotting import plot

HEIGHT = 340
# Points beyond which bands would cover each other; names of the worst.
BANDED, NAMED = 250, 4
# A factor either way that a line stands for.
AROUND = 1.25
MOST_GROUPS = 6


@plot("measured", "predictions beside measurements, with bands", takes="measurements")
def measured(found: Any) -> Figure:
    """How many times too long predictions are, against measured times: of runs, operators, or rows.

    Args:
        found: what `pharos.report.measured_rows.pairs_of` reads.

    Raises:
        InputError: none of them has both figures.
    """
    pairs = pairs_of(found)
    if not pairs:
        raise InputError("nothing has both a measured and a predicted time", where="plot measured",
                         hint="`pharos measure MODEL` keeps runs once the machine is calibrated")  # fmt: skip
    groups = _grouped(pairs)
    errors = sorted(abs(p.predicted_s / p.measured_s - 1) for p in pairs)
    known = [p for p in pairs if p.low_s is not None and p.high_s is not None]
    inside = sum(p.low_s <= p.measured_s <= p.high_s for p in known)  # type: ignore[operator]
    times = [p.measured_s for p in pairs]
    rows = [
        {"name": p.name, "group": groups[p.group], "measured_s": p.measured_s, "predicted_s": p.predicted_s,
         "low_s": p.low_s, "high_s": p.high_s, "fast_s": p.fast_s, "slow_s": p.slow_s,
         "ratio": p.predicted_s / p.measured_s,
         "least": None if p.low_s is None else p.low_s / p.measured_s,
         "most": None if p.high_s is None else p.high_s / p.measured_s,
         "error": p.predicted_s / p.measured_s - 1, "measured": fmt(p.measured_s, "s"),
         "predicted": fmt(p.predicted_s, "s")}
        for p in pairs
    ]  # fmt: skip
    bands = bool(known) and len(pairs) <= BANDED
    frame = _frame(rows, bands)
    data: dict[str, list[dict[str, Any]]] = {
        "pairs": rows,
        "same": [{"measured_s": frame[0], "end_s": frame[1], "ratio": 1.0, "least": 1 / AROUND,
                  "most": AROUND}],
        "words": _words(rows, frame),
    }  # fmt: skip
    cover = f"; {inside} of {len(known)} lie in their 80% bands ({inside / len(known):.0%})" if known else ""
    worst = sorted(rows, key=lambda r: -abs(r["error"]))[:3]
    far = ", ".join(f"{r['name']} {r['error']:+.0%}" for r in worst)
    what, middle = pairs[0].what, _middle(errors)
    drawn = "; bars: 80% bands" if bands else "; bands not drawn: too many" if known else ""
    return Figure.of(
        _chart(data, frame, bands), name="measured",
        title=f"Predicted beside measured: {len(pairs)} {what}, median error {middle:.0%}",
        source=lines(f"shade: within a factor {AROUND}{drawn}{cover}", f"largest differences: {far}"),
        alt=f"{len(pairs)} {what}: predicted against measured times from {fmt(min(times), 's')} to "
            f"{fmt(max(times), 's')}. Median error {middle:.1%}, mean {sum(errors) / len(errors):.1%}"
            f"{cover}. Largest differences: {far}.",
        data=data,
    )  # fmt: skip


def _frame(rows: list[dict[str, Any]], bands: bool) -> tuple[float, float, float, float]:
    """The window: measured times, and ratios to a factor of 2 at least, the same both ways."""
    times = [r["measured_s"] for r in rows]
    ratios = [r["ratio"] for r in rows]
    if bands:
        ratios += [r[k] for r in rows for k in ("least", "most") if r[k] is not None]
    far = min(max(max(ratios), 1 / min(ratios), 2.0) * 1.1, 1e4)
    return min(times) / 1.5, max(times) * 1.5, 1 / far, far


def _middle(ordered: list[float]) -> float:
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def _grouped(pairs: Sequence[Pair]) -> dict[str, str]:
    """Names of groups, the rarest as "other" where there are more than can be told apart."""
    count: dict[str, int] = {}
    for p in pairs:
        count[p.group] = count.get(p.group, 0) + 1
    ranked = sorted(count, key=lambda g: -count[g])
    kept = ranked if len(ranked) <= MOST_GROUPS else ranked[: MOST_GROUPS - 1]
    return {g: g if g in kept else "other" for g in ranked}


def _words(rows: list[dict[str, Any]], frame: tuple[float, float, float, float]) -> list[dict[str, Any]]:
    """The points furthest from the line, named."""
    x0, x1, y0, y1 = frame

    def at(r: dict[str, Any]) -> tuple[float, float]:
        return (log(r["measured_s"] / x0) / log(x1 / x0) * INNER,
                (1 - log(r["ratio"] / y0) / log(y1 / y0)) * HEIGHT)  # fmt: skip

    worst = sorted(rows, key=lambda r: -abs(log(r["ratio"])))
    wanted = [(*at(r), 5.0, f"{r['name']} {r['error']:+.0%}") for r in worst
              if abs(log(r["ratio"])) > log(AROUND)][:NAMED]  # fmt: skip
    circles = [(*at(r), 4.0) for r in rows]
    return [
        {"measured_s": x0 * (x1 / x0) ** (w.x / INNER), "ratio": y0 * (y1 / y0) ** (1 - w.y / HEIGHT),
         "text": w.text}
        for w in place(wanted, INNER, HEIGHT, circles=circles) if w is not None
    ]  # fmt: skip


def _chart(data: dict[str, Any], frame: tuple[float, float, float, float], bands: bool) -> Any:
    import altair as alt

    x0, x1, y0, y1 = frame
    marked = [v for v in (0.01, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0)
              if y0 <= v <= y1]  # fmt: skip

    def y(field: str) -> Any:
        return log_axis(field, "predicted / measured time", "", y0, y1, vertical=True, values=marked,
                        labels="format(datum.value, '~r') + 'x'")  # fmt: skip

    x = log_axis("measured_s", "measured time", "s", x0, x1, vertical=False)
    order = sorted({r["group"] for r in data["pairs"]}, key=lambda g: (g == "other", g))
    told = None if len(order) < 2 else alt.Legend(title=None, orient="bottom", columns=3, symbolOpacity=1)
    colour = alt.Color("group:N", scale=alt.Scale(domain=order), legend=told)
    shapes = [*SHAPES][: len(order)]
    shape = alt.Shape("group:N", legend=told, scale=alt.Scale(domain=order, range=shapes))
    same, pairs = alt.Chart(alt.NamedData("same")), alt.Chart(alt.NamedData("pairs"))
    hint = ["name:N", "group:N", "measured:N", "predicted:N", alt.Tooltip("error:Q", format="+.1%")]
    layers = [
        same.mark_rect(opacity=0.16, style=["quiet"]).encode(x=x, x2="end_s:Q", y=y("least"), y2="most:Q"),
        same.mark_rule(strokeWidth=1.4, style=["ink"]).encode(x=x, x2="end_s:Q", y=y("ratio")),
    ]
    if bands:
        rule = pairs.transform_filter("isValid(datum.least)").mark_rule(opacity=0.45, clip=True)
        layers.append(rule.encode(x=x, y=y("least"), y2="most:Q", color=colour))
    layers.append(
        pairs.mark_point(filled=True, opacity=0.9, strokeWidth=0.8, style=["rimmed"], clip=True)
        .encode(x=x, y=y("ratio"), color=colour, shape=shape, tooltip=hint)
        .add_params(zoom())
    )
    words = alt.Chart(alt.NamedData("words")).encode(x=x, y=y("ratio"), text="text:N")
    return alt.layer(*layers, *haloed(words, align="left", baseline="middle")).properties(
        width=INNER, height=HEIGHT
    )
