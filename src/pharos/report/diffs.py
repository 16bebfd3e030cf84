"""Diffs on a terminal and as JSON: what changed most first, limits, figures, operators."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.decide.diff import (
    FAILS,
    GROWN,
    KEPT,
    MENDED,
    NEWLY,
    OWN_KIN,
    TELLS_NOT,
    Change,
    Diff,
    LimitChange,
    exit_code,
    headline,
)
from pharos.decide.operators import ADDED, ASKED, CHANGED, REMOVED, OperatorChange
from pharos.decide.side import Operator, Reading, Side, is_better_more, unit_of
from pharos.quantity.units import fmt
from pharos.report.rows import plain
from pharos.report.text import grid, pair

STYLES = {**dict.fromkeys(FAILS, "bold red"), **dict.fromkeys((KEPT, MENDED), "bold green")}


def diff_row(diffs: list[Diff]) -> dict[str, Any]:
    """What `pharos diff --json` prints."""
    return {
        "schema": "pharos/diff@1",
        "exit_code": exit_code(diffs),
        "headline": [
            {"contract": diff.side.name, "machine": diff.side.machine or None,
             "text": change_text(diff, change), **change_row(change)}
            for diff, change in headline(diffs)
        ],
        "diffs": [_one_row(diff) for diff in diffs],
    }  # fmt: skip


def _one_row(diff: Diff) -> dict[str, Any]:
    return {
        "before": None if diff.before is None else _side_row(diff.before),
        "after": None if diff.after is None else _side_row(diff.after),
        "figures": [change_row(change) for change in diff.figures],
        "limits": [limit_row(limit) for limit in diff.limits],
        "operators": [operator_row(operator) for operator in diff.operators],
        "own_error": diff.own_error,
    }


def _side_row(side: Side) -> dict[str, Any]:
    return {"label": side.label, "name": side.name, "model": side.model, "machine": side.machine or None,
            "workload": side.workload, "verdict": side.verdict or None, "binding": side.binding or None,
            "uncounted": list(side.uncounted)}  # fmt: skip


def change_row(change: Change) -> dict[str, Any]:
    """One figure on both sides."""
    return {
        "name": change.name, "unit": change.unit, "before": _reading_row(change.before),
        "after": _reading_row(change.after), "delta": plain(change.delta), "part": plain(change.part),
        "part_low": plain(change.low), "part_high": plain(change.high), "exact": change.is_exact,
        "worse": change.is_worse,
        "beyond_error": change.is_told,
    }  # fmt: skip


def _reading_row(reading: Reading) -> dict[str, Any]:
    return {"value": plain(reading.value), "low": plain(reading.low), "high": plain(reading.high),
            "level": reading.level}  # fmt: skip


def limit_row(limit: LimitChange) -> dict[str, Any]:
    """One limit on both sides, and what became of it."""
    keys = ("limit", "value", "low", "high", "margin", "verdict")
    sides = [
        None if row is None else {key: row.get(key) for key in keys} for row in (limit.before, limit.after)
    ]
    return {"name": limit.name, "unit": limit.unit, "status": limit.status, "loosened": limit.loosened,
            "before": sides[0], "after": sides[1]}  # fmt: skip


def operator_row(change: OperatorChange) -> dict[str, Any]:
    """One operator on both sides."""
    before, after = change.before, change.after
    return {
        "change": change.what, "name": change.one.name, "was": before and before.name,
        "kind": change.one.kind,
        "was_kind": before and before.kind, "count": [before and before.count, after and after.count],
        "output_shape": [before and list(before.output_shape), after and list(after.output_shape)],
        **{key: {"before": before and getattr(before, key), "after": after and getattr(after, key),
                 "delta": change.delta(key)} for key in ASKED},
    }  # fmt: skip


def percent(change: Change) -> str:
    """A change in percent, or as a multiple where it is large: +38%, -4.1%, 12x."""
    if change.part is None:
        return "?" if change.delta is None else ("0%" if change.delta == 0 else "new")
    return part_text(change.part)


def part_text(part: float) -> str:
    """A part of what was before, with its sign: +38%, -4.1%, 12x."""
    if part == 0:
        return "0%"
    if part >= 9:
        return f"{part + 1:.3g}x"
    size = abs(part) * 100
    return f"{'+' if part > 0 else '-'}{f'{size:.0f}' if size >= 9.95 else f'{size:.2g}'}%"


def change_text(diff: Diff, change: Change) -> str:
    """One change in a line: +38% latency on rpi3_cortex_a53, limit broken: 56.1 ms -> 77.4 ms."""
    side, limit = diff.side, diff.of_limit(change.name)
    machine = f" on {side.machine}" if side.machine and unit_of(change.name) in ("s", "1/s", "J", "W") else ""
    broke = f", limit {_became(limit)}" if limit is not None and _became(limit) else ""
    ends = f"{said(change.before.value, change.unit)} -> {said(change.after.value, change.unit)}"
    inside = " (inside its error: either way)" if change.is_told is False else ""
    return f"{percent(change)} {change.name}{machine}{broke}: {ends}{inside}"


def _became(limit: LimitChange) -> str:
    return {NEWLY: "broken", GROWN: "broken further", MENDED: "mended"}.get(limit.status, "") or (
        "can no longer be told" if limit.status in TELLS_NOT else ""
    )


def word(diffs: list[Diff]) -> str:
    """BROKEN, UNKNOWN, NO WORSE where something did not hold before either, or HOLDS."""
    code = exit_code(diffs)
    if code:
        return {1: "BROKEN", 3: "UNKNOWN"}[code]
    return "HOLDS" if all(c.status in (KEPT, MENDED) for d in diffs for c in d.limits) else "NO WORSE"


def summary(diffs: list[Diff]) -> str:
    """What became of the limits, in words."""
    found: dict[str, int] = {}
    for diff in diffs:
        for limit in diff.limits:
            found[limit.status] = found.get(limit.status, 0) + 1
    ranked = sorted(found.items(), key=_rank)
    told = [f"{n} {'limit' if n == 1 else 'limits'} {status}" for status, n in ranked if status != KEPT]
    if told:
        return ", ".join(told)
    if found:
        return "all limits hold" if any(d.is_changed for d in diffs) else "nothing changed; all limits hold"
    return "" if any(d.is_changed for d in diffs) else "nothing changed"


def _rank(item: tuple[str, int]) -> int:
    order = (*FAILS, *TELLS_NOT)
    return order.index(item[0]) if item[0] in order else len(order)


def print_diffs(console: Console, diffs: list[Diff], rows: int) -> None:
    """`pharos diff`: the verdict and what changed most; then each pair's limits, figures and operators."""
    what = summary(diffs)
    if any(diff.limits for diff in diffs):
        style = {0: "bold green", 1: "bold red", 3: "bold yellow"}[exit_code(diffs)]
        console.print(Text.assemble((word(diffs), style), f"  {what}"))
    elif what:
        console.print(Text(what, style="bold"))
    for i, (diff, change) in enumerate(headline(diffs)):
        of = f"{diff.side.name}: " if len(diffs) > 1 and diff.side.limits is not None else ""
        pair(console, "most" if i == 0 else "", of + change_text(diff, change))
    for diff in diffs:
        if len(diffs) > 1 and not diff.is_changed:
            continue
        console.print()
        _print_one(console, diff, rows)
    same = sum(not diff.is_changed for diff in diffs) if len(diffs) > 1 else 0
    if same:
        console.print()
        console.print(f"{same} more without a change", style="dim")


def _print_one(console: Console, diff: Diff, rows: int) -> None:
    for label, side in (("from", diff.before), ("to", diff.after)):
        none = "nothing: it is new" if label == "from" else "nothing: it was removed"
        pair(console, label, f"{side.label}  {_asks(side)}" if side else none)
    loosened = [c for c in diff.limits if c.loosened]
    for limit in loosened:
        pair(
            console,
            "loosened",
            f"{limit.name}: {allowed(limit.before, limit)} -> {allowed(limit.after, limit)}",
        )
    for label, side in (("from", diff.before), ("to", diff.after)):
        if side is not None and side.uncounted:
            pair(console, "uncounted", f"{label}: {', '.join(side.uncounted[:6])}")
    if diff.limits:
        console.print()
        _limits(console, diff)
    changed = [c for c in diff.figures if c.is_changed]
    if changed:
        console.print()
        _figures(console, diff, changed)
    if diff.operators:
        console.print()
        _operators(console, diff, rows)


def _asks(side: Side) -> str:
    return (
        side.asked if side.label != side.model else side.asked.removeprefix(side.model).lstrip(": ").strip()
    )


def _limits(console: Console, diff: Diff) -> None:
    cells = []
    for limit in diff.limits:
        ends = [value_text(row, limit) for row in (limit.before, limit.after)]
        shown = limit.after or limit.before
        became = Text(limit.status, style=STYLES.get(limit.status, "bold yellow"))
        cells.append([limit.name, *ends, allowed(shown, limit), margin_text(shown), became])
    columns = [("limit", "left"), ("before", "right"), ("after", "right"), ("allowed", "right"),
               ("margin", "right"), ("became", "left")]  # fmt: skip
    grid(console, columns, cells)


def value_text(row: dict[str, Any] | None, limit: LimitChange) -> str:
    """A limit's figure on one side."""
    return "-" if row is None else said(row["value"], limit.unit)


def allowed(row: dict[str, Any] | None, limit: LimitChange) -> str:
    """What a limit allows."""
    text = "-" if row is None else said(row["limit"], limit.unit)
    return f">= {text}" if is_better_more(limit.name) else text


def margin_text(row: dict[str, Any] | None) -> str:
    """How many times better than the limit a figure is."""
    if row is None:
        return "-"
    return "?" if row["margin"] is None else f"{row['margin']:.3g}x"


def _figures(console: Console, diff: Diff, changed: list[Change]) -> None:
    cells = []
    for change in changed:
        style = {True: "red", False: "green", None: ""}[
            change.is_worse if change.is_told is not False else None
        ]
        ends = [said(reading.value, change.unit) for reading in (change.before, change.after)]
        cells.append([change.name, *ends, Text(percent(change), style=style), band_text(change)])
    columns = [("figure", "left"), ("before", "right"), ("after", "right"), ("change", "right"),
               ("80% band of it", "left")]  # fmt: skip
    grid(console, columns, cells)
    if any(c.low is not None for c in changed):
        pair(console, "error", error_note(diff))


def band_text(change: Change) -> str:
    """The band of a change, in percent: +7% to +69%; "either way" where it does not tell the sign."""
    if change.delta is None:
        return "unknown"
    if change.low is None or change.high is None:
        return "exact"
    inside = ", either way" if change.is_told is False else ""
    return f"{part_text(change.low)} to {part_text(change.high)}{inside}"


def error_note(diff: Diff) -> str:
    """How the error of a change is treated, in a sentence."""
    if diff.own_error is None:
        return "machine or runtime differ, so nothing of the error of both sides is taken to be shared"
    rows = ("two networks of one family, 311 timm runs" if diff.own_error == OWN_KIN else
            "two networks on one board, 321 ncnn runs")  # fmt: skip
    return (
        f"what errs alike for all networks on a machine cancels, and so do kernels that both sides have; "
        f"each side's own error counts, {diff.own_error:.3g} in the log (fitted: {rows})"
    )


def said(value: float | None, unit: str) -> str:
    """A figure with its unit; a rate as 30 /s."""
    return f"{fmt(value)} /s" if unit == "1/s" and value is not None else fmt(value, unit)


def signed(value: float, unit: str) -> str:
    """A difference with its sign."""
    return "0" if value == 0 else f"{'+' if value > 0 else '-'}{said(abs(value), unit)}"


def _operators(console: Console, diff: Diff, rows: int) -> None:
    timed = any(o.delta("latency_s") is not None for o in diff.operators)
    cells = []
    for change in diff.operators[:rows]:
        asked = (("parameters", ""), ("macs", ""), ("traffic_bytes", "B"))
        row = [change.one.name, operator_words(change), *(delta_text(change, *key) for key in asked)]
        cells.append([*row, delta_text(change, "latency_s", "s")] if timed else row)
    columns = [("operator", "left"), ("", "left"), ("params", "right"), ("MACs", "right"), ("bytes", "right")]
    grid(console, [*columns, ("time", "right")] if timed else columns, cells, flexible=(0, 1))
    left = len(diff.operators) - rows
    told = operator_counts(diff)
    more = f"; {left} more, --rows {len(diff.operators)} shows all" if left > 0 else ""
    console.print(f"{told}{more}", style="dim")


def operator_words(change: OperatorChange) -> str:
    """What became of an operator: added, or which of kind, shape and runs changed."""
    before, after = change.before, change.after
    if change.what != CHANGED or before is None or after is None:
        return change.what
    if before.kind != after.kind:
        return f"{before.kind} -> {after.kind}"
    if before.count != after.count:
        return f"{_whole(before.count)} -> {_whole(after.count)} runs"
    if before.output_shape != after.output_shape:
        return f"{_shape(before)} -> {_shape(after)}"
    if before.input_shape != after.input_shape:
        return "other input"
    return CHANGED


def operator_counts(diff: Diff) -> str:
    """How many operators were added, removed and changed."""
    found = [(what, sum(o.what == what for o in diff.operators)) for what in (ADDED, REMOVED, CHANGED)]
    told = ", ".join(f"{n} {what}" for what, n in found if n)
    kind = "kernels" if diff.side.machine else "operators"
    return f"{told} {kind}"


def _whole(count: float) -> str:
    return f"{count:g}"


def _shape(operator: Operator) -> str:
    return "x".join(str(s) for s in operator.output_shape[1:]) or "1"


def delta_text(change: OperatorChange, key: str, unit: str) -> str:
    """What an operator asks more or less of one of ASKED."""
    delta = change.delta(key)
    if delta is None:
        return "?"
    return "-" if delta == 0 else signed(delta, unit).replace(" ", "")
