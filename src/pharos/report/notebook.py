"""Notebook: results as HTML in a cell, and their tables as data frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import Any

from pharos.decide.choose import Decision
from pharos.decide.verdict import Verdict
from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.predict.estimate import Estimate
from pharos.quantity.errors import InputError, PharosError
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt
from pharos.report.decisions import decision_row, trial_row
from pharos.report.drawing import Figure
from pharos.report.energies import band
from pharos.report.estimates import title
from pharos.report.labs import Outcome, outcome_row
from pharos.report.rows import operation_row, operator_row
from pharos.report.verdicts import verdict_row

# Rows that a cell shows; a frame has all.
MOST = 12
LEFT = " style='text-align:left'"
# Units of columns by the end of their names.
UNITS = {"_s": "s", "_bytes": "B", "_J": "J", "_W": "W", "_per_s": "/s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """What a cell shows of a result.

    Args:
        says: (label, words). rows: all of its table, plain data; shown: the columns of a cell.
        figure: made when it is drawn.
    """

    headline: str
    says: Sequence[tuple[str, str]]
    rows: Sequence[dict[str, Any]]
    shown: Sequence[str]
    figure: Callable[[], Figure | None] = lambda: None


def html(result: Any) -> str:
    """A result as HTML: headline, words, the first rows, its picture where one can be drawn."""
    face = _face(result)
    parts = [f"<p><strong>{escape(face.headline)}</strong></p>"]
    if face.says:
        inner = "".join(
            f"<tr><th scope='row'{LEFT}>{escape(k)}</th><td{LEFT}>{escape(v)}</td></tr>" for k, v in face.says
        )
        parts.append(f"<table>{inner}</table>")
    if face.rows:
        parts.append(_table(face))
    picture = _picture(face)
    return "<div>" + "".join(parts) + picture + "</div>"


def frame(result: Any) -> Any:
    """The rows of a result as a data frame, one column a field; see `Shown.to_frame`."""
    rows = [{k: v for k, v in row.items() if not isinstance(v, (dict, list))} for row in _face(result).rows]
    try:
        import pandas  # pyright: ignore[reportMissingImports]

        return pandas.DataFrame(rows)
    except ImportError:
        pass
    try:
        import polars  # pyright: ignore[reportMissingImports]

        return polars.DataFrame(rows, infer_schema_length=None)
    except ImportError:
        raise InputError("a data frame needs pandas or polars", hint="pip install pandas") from None


def _face(result: Any) -> Face:
    match result:
        case Graph():
            return _counted(count(result))
        case Count():
            return _counted(result)
        case Estimate():
            return _estimate(result)
        case Verdict():
            return _verdict(result)
        case Decision():
            return _decision(result)
        case Outcome():
            return _outcome(result)
        case _:
            raise InputError(f"a {type(result).__name__} has no face of its own", where="notebook")


def _counted(found: Count) -> Face:
    operations = f"{fmt(found.macs, 'MAC')} = {fmt(2 * found.macs, 'FLOP')}"
    return Face(
        headline=f"{found.graph.name}: {fmt(found.parameters)} parameters, {operations}",
        says=[("stored", fmt(found.weight_bytes, "B")), ("moved at least", fmt(found.traffic_ideal, "B")),
              ("known by", "counted, exact from shapes")],
        rows=[operator_row(line) for line in found.lines],
        shown=("name", "kind", "count", "parameters", "macs", "flops", "traffic_bytes", "intensity"),
    )  # fmt: skip


def _estimate(found: Estimate) -> Face:
    def roofline() -> Figure | None:
        from pharos.report.plots.roofline import roofline as draw

        return draw([found])

    capacity = fmt(found.machine.capacity_bytes.value, "B")
    room = {True: "fits in", False: "does not fit in"}.get(found.fits, "of")  # type: ignore[arg-type]
    rows = [operation_row(op, found, energy) for op, energy in zip_longest(found.operations, found.energies)]
    rows.sort(key=lambda r: -(r["latency_s"] or 0.0) if not isinstance(r["latency_s"], list) else 0.0)
    return Face(
        headline=f"{title(found)}: {band(found.latency)}",
        says=[("binds", str(found.binding)), ("energy", band(found.energy)),
              ("memory", f"{fmt(found.memory.total, 'B')} {room} {capacity}"),
              ("known by", found.latency.level)],
        rows=rows, shown=("name", "kind", "count", "latency_s", "macs", "traffic_bytes", "binding", "level"),
        figure=roofline,
    )  # fmt: skip


def _verdict(found: Verdict) -> Face:
    rows = verdict_row(found)["limits"]
    return Face(
        headline=f"{found.verdict.upper()}  {found.contract.name}", says=[("asks", title(found.estimate))],
        rows=rows, shown=("name", "value", "low", "high", "limit", "margin", "verdict"),
    )  # fmt: skip


def _decision(found: Decision) -> Face:
    def front() -> Figure | None:
        from pharos.report.plots.pareto import pareto

        return pareto(found) if found.chosen else None

    row = decision_row(found)
    if found.chosen is None:
        return Face(
            headline=f"nothing stands: {found.brief.name}", says=[("conflict", c) for c in found.conflicts],
            rows=row["trail"], shown=("step", "question", "answer"),
        )  # fmt: skip
    machine = found.machine.id if found.machine else ""
    says = [("on", machine), *(("not chosen", f"{who}: {why}") for who, why in found.rejected[:4]),
            *(("risk", f"{risk}: {ease}") for risk, ease in found.risks[:4])]  # fmt: skip
    trials = [trial_row(t) for t in found.front]
    rows = [{k: (v["value"] if isinstance(v, dict) and "value" in v else v) for k, v in
             {**t, **t.pop("figures", {})}.items()} for t in trials]  # fmt: skip
    shown = [k for k in rows[0] if not isinstance(rows[0][k], (dict, list))][:8] if rows else []
    return Face(
        headline=f"{found.chosen.label}: {found.brief.name}", says=says, rows=rows, shown=shown, figure=front
    )


def _outcome(found: Outcome) -> Face:
    row = outcome_row(found)
    says = [("holds" if c.holds else "BROKEN", f"{c.what}: {c.found}") for c in found.checks]
    for f in found.findings:
        says += [("the chapter", f.expected), (f.agreement, f.found)]
    return Face(
        headline=f"{'HOLDS' if found.holds else 'BROKEN'}  {found.name}: {found.summary}", says=says,
        rows=row["rows"], shown=found.columns, figure=lambda: found.figure,
    )  # fmt: skip


def _table(face: Face) -> str:
    heads = "".join(f"<th scope='col'>{escape(_head(c))}</th>" for c in face.shown)
    lines = [[f"<td{_side(row.get(c))}>{escape(_cell(c, row.get(c)))}</td>" for c in face.shown]
             for row in face.rows[:MOST]]  # fmt: skip
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    more = len(face.rows) - MOST
    left = f"<p><small>and {more:,} more; to_frame() has all</small></p>" if more > 0 else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{left}"


def _head(column: str) -> str:
    for end in sorted(UNITS, key=len, reverse=True):
        if column.endswith(end):
            return column.removesuffix(end).replace("_", " ")
    return column.replace("_", " ")


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        unit = next((UNITS[e] for e in sorted(UNITS, key=len, reverse=True) if column.endswith(e)), "")
        return fmt(value, unit) if unit or (is_int(value) and abs(value) >= 1000) else f"{value:.4g}"
    if isinstance(value, list):
        return " x ".join(map(str, value))
    return str(value)


def _side(value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "" if number else LEFT


def _picture(face: Face) -> str:
    """The figure for light and dark pages, "" where none can be drawn."""
    try:
        figure = face.figure()
        return "" if figure is None else figure.picture()
    except PharosError:
        return ""
