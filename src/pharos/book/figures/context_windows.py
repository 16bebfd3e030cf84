"""Figure 10: how long a context language models take in, by the month of their release."""

from typing import Any

from pharos.book.figure import Asked, Picture, figure
from pharos.facts.tables import table
from pharos.report.canvas import NEUTRAL
from pharos.report.drawing import Figure

# Told as it stands in a config, a paper or a machine-readable list; not what was only announced.
SOUND = ("config or paper", "metadata", "secondary")
WIDTH, HEIGHT = 560, 360


def windows() -> list[dict[str, Any]]:
    """Models by date, each with the longest context of any sound one so far."""
    rows = sorted((dict(r) for r in table("contexts")["rows"]), key=lambda r: (str(r["date"]), r["context"]))
    most = 0
    for row in rows:
        row["longest"] = row["known"] in SOUND and row["context"] > most
        most = max(most, row["context"]) if row["known"] in SOUND else most
    return rows


@figure(10, "context-windows", "context windows by release date, log scale", "1.6")
def context_windows(asked: Asked) -> Picture:
    """A point a model; the longest so far as steps."""
    import altair as alt

    found = windows()
    best = [r for r in found if r["longest"]]
    rows = [
        {
            "model": r["model"],
            "date": f"{r['date']}-15",
            "context": r["context"],
            "organisation": r["organisation"],
            "weights": "open weights" if r["open_weights"] else "closed",
            "known": r["known"],
            "source": r["source"],
            "opacity": 0.85 if r["known"] in SOUND else 0.25,
        }
        for r in found
    ]
    last = max(r["date"] for r in rows)
    x = alt.X("date:T", scale=alt.Scale(domain=["2018-01-01", "2026-02-01"]),
              axis=alt.Axis(title="first release", format="%Y", tickCount="year"))  # fmt: skip
    y = alt.Y(
        "context:Q",
        scale=alt.Scale(type="log", base=10, domain=[300, 2e8]),
        axis=alt.Axis(title="longest context, tokens", format="~s", values=[10**i for i in range(3, 9)]),
    )
    colour = alt.Color("weights:N", scale=alt.Scale(domain=["open weights", "closed"]),
                       legend=alt.Legend(title=None, orient="bottom"))  # fmt: skip
    dots = alt.Chart(alt.Data(values=rows)).mark_point(filled=True, size=46).encode(
        x=x, y=y, color=colour, opacity=alt.Opacity("opacity:Q", scale=None),
        tooltip=["model:N", "organisation:N", alt.Tooltip("date:T", format="%Y-%m"),
                 alt.Tooltip("context:Q", format=","), "known:N", "source:N"],
    )  # fmt: skip
    line = [{"date": f"{r['date']}-15", "context": r["context"]} for r in best]
    steps = alt.Chart(alt.Data(values=[*line, {"date": last, "context": line[-1]["context"]}])).mark_line(
        interpolate="step-after", strokeWidth=1.4, color=NEUTRAL, tooltip=None).encode(x=x, y=y)  # fmt: skip
    named, height = [], 0.0
    for r in best:
        if r["context"] >= 1.75 * height:
            named.append({"date": f"{r['date']}-15", "context": r["context"], "label": r["model"]})
            height = r["context"]
    apart = [r for r in found if r["known"] not in SOUND]
    named += [
        {"date": f"{r['date']}-15", "context": r["context"], "label": f"{r['model']} (announced)"}
        for r in apart
    ]
    words = (
        alt.Chart(alt.Data(values=named))
        .mark_text(align="right", dx=-9, dy=-3, fontSize=10.5, tooltip=None)
        .encode(x=x, y=y, text="label:N")
    )
    chart = alt.layer(steps, dots, words).properties(width=WIDTH, height=HEIGHT)
    flat = max(r["context"] for r in found if str(r["date"]) < "2023" and r["known"] in SOUND)
    alt_text = (
        f"Points of {len(found)} language models, {found[0]['date']} to {found[-1]['date']}, context on a "
        f"logarithmic "
        f"axis. Up to the end of 2022 none takes more than {flat:,} tokens. Then the longest grows from "
        + ", ".join(f"{r['context']:,} ({r['model']}, {r['date']})" for r in best if str(r["date"]) >= "2023")
        + "."
    )
    made = Figure.of(chart, name="context-windows", title="Context windows: flat for years, then a "
                                                          "thousandfold",
                     alt=alt_text, source=f"{len(found)} models with a source each; steps: the longest so "
                                          f"far")  # fmt: skip
    columns = ("date", "model", "organisation", "context", "open_weights", "known", "longest", "source")
    table_rows = tuple(tuple(r[c] for c in columns) for r in found)
    growth = best[-1]["context"] / flat
    return Picture(figure=made, columns=columns, rows=table_rows,
                   note=f"{growth:,.0f} times the longest of 2022 by {best[-1]['date']}; models whose "
                        f"figures could not be "
                   "read again are left out")  # fmt: skip
