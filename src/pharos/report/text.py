"""Text: results on a terminal, verdict first, then the table, at 80 columns or wider."""

from collections.abc import Callable
from textwrap import wrap
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pharos.graph.count import Count, Line
from pharos.graph.tensor import shape_text
from pharos.passes.depth import depth as critical_path
from pharos.passes.held import held_of
from pharos.quantity.sizes import Size, is_array, is_symbol
from pharos.quantity.units import fmt, fmt_count


def grid(
    console: Console, columns: list[tuple[str, str]], rows: list[list[Any]], flexible: tuple[int, ...] = (0,)
) -> None:
    """Prints a table that fits the terminal: the flexible columns give way, figures never do.

    Args:
        columns: (header, "left" or "right").
        flexible: columns of names, which are shortened in their middle.
    """
    widths = [
        max(len(header), *(len(str(row[i])) for row in rows), 1) if rows else len(header)
        for i, (header, _) in enumerate(columns)
    ]
    # one space of padding on each side of a separator
    spare = console.width - sum(widths) - 3 * (len(columns) - 1)
    while spare < 0 and max(widths[i] for i in flexible) > 8:
        widest = max(flexible, key=lambda i: widths[i])
        widths[widest] -= 1
        spare += 1
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for (header, side), width in zip(columns, widths, strict=True):
        made.add_column(header, justify=side, no_wrap=True, min_width=width)  # type: ignore[arg-type]
    for row in rows:
        shortened = {i: fit(row[i], widths[i]) for i in flexible}
        made.add_row(*[shortened.get(i, cell) for i, cell in enumerate(row)])
    console.print(made)


def share(part: Size, whole: Size) -> str:
    """A percentage, or a dash where it has no one value."""
    if any(is_symbol(x) or is_array(x) for x in (part, whole)) or not whole:
        return "-"
    value = part / whole
    return f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


def fit(name: str, width: int) -> str:
    """A path shortened in its middle, where layers differ least; a sentence at its end."""
    if len(name) <= width:
        return name
    if " " in name:
        return f"{name[: width - 1].rstrip()}…"
    tail = (width - 1) * 2 // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def print_show(
    console: Console, model: str, family: str, count: Count, depth: int | None, *, table: bool = True,
    made_of: str = "", key: Callable[[Line], str] | None = None, advice: str = "",
) -> None:  # fmt: skip
    """`pharos show`: totals with their conventions, then every operator unless `table` is False.

    Args:
        made_of: the blocks that were recognised, in words.
        advice: the worst that rules find, in a line.
        key: what operators are put together by, instead of by the first `depth` parts of their names.
    """
    exactly = "at least " if count.uncounted else ""
    console.print(Text(f"{model}  {family}".rstrip(), style="bold"))
    if made_of:
        pair(console, "made of", made_of)
    pair(
        console,
        "parameters",
        f"{exactly}{_exact(count.parameters)}  ({fmt(count.weight_bytes, 'B')} in "
        f"{count.graph.precision.weights}"
        + (f", buffers {fmt(count.buffer_bytes, 'B')})" if count.buffers else ")"),
    )
    if isinstance(count.parameters, int) and count.active_parameters != count.parameters:
        pair(console, "active", f"{_exact(count.active_parameters)} parameters a token")
    masked = count.work.masked_macs
    skipped = f"; a causal kernel runs {fmt(count.macs - masked, 'MAC')}" if not _zero(masked) else ""
    pair(
        console,
        "operations",
        f"{exactly}{fmt(count.macs, 'MAC')} = {fmt(count.flops, 'FLOP')} (1 MAC = 2 FLOPs{skipped})",
    )
    pair(console, "vector work", f"{exactly}{fmt(count.work.vector_flops, 'FLOP')} elementwise, "
          f"{fmt_count(count.work.transcendentals)} transcendental")  # fmt: skip
    pair(
        console, "traffic", f"{fmt(count.traffic_ideal, 'B')} ideal, {fmt(count.traffic_per_op, 'B')} per_op"
    )
    bounds = [(b, count.intensity(b)) for b in ("weights_only", "ideal", "per_op")]
    pair(console, "intensity", ", ".join(f"{fmt(v)} {b}" for b, v in bounds if v is not None) + "  FLOP/B")
    deep = critical_path(count.graph)
    pair(
        console, "depth", f"{fmt_count(deep.steps)} steps in a row, {fmt_count(deep.parallelism)} results in "
        "each on average",
    )  # fmt: skip
    if not _zero(count.state_bytes):
        pair(console, "state", f"{fmt(count.state_bytes, 'B')} kept between steps")
    seen = held_of(count.graph)
    if seen is not None and seen.peak_step:
        parts = ", ".join(f"{kind} {fmt(nbytes, 'B')}" for kind, nbytes in seen.parts().items())
        pair(console, "memory", f"{fmt(seen.peak, 'B')} peak in eager PyTorch at {seen.peak_step} ({parts})")
    pair(
        console,
        "known by",
        "counted, exact from shapes" if not count.uncounted else "counted; some operators have no rule",
    )
    if count.uncounted:
        pair(
            console,
            "uncounted",
            ", ".join(count.uncounted[:8]) + (" ..." if len(count.uncounted) > 8 else ""),
        )
    for note in count.graph.meta.get("notes", ())[:8]:
        pair(console, "note", note)
    if advice:
        pair(console, "advice", advice)
    if not table:
        return
    console.print()
    wide = console.width >= 100
    rows: list[list[Any]] = []
    columns = [("operator", "left"), ("runs", "right")]
    columns += [("output", "right")] if wide else []
    columns += [("params", "right"), ("MACs", "right"), ("FLOPs", "right"), ("bytes", "right"),
                ("FLOP/B", "right"), ("MACs %", "right")]  # fmt: skip
    for name, lines in _grouped(count.lines, key or _parts(depth)):
        moved = _total(line.traffic.total * line.times for line in lines)
        macs = _total(line.work.macs * line.times for line in lines)
        parameters = _total(line.parameters for line in lines)
        if _zero(moved) and _zero(parameters) and lines[0].node.op.is_counted:
            continue
        cells = [name, _runs(lines)]
        cells += [fit(shape_text(lines[-1].node.outs[0].shape), 18)] if wide else []
        cells += [
            _dash(parameters), _dash(macs), _dash(2 * macs),
            fmt(moved, "B").replace(" ", "") if lines[0].node.op.is_counted else "unknown",
            _intensity(macs, moved), share(macs, count.macs),
        ]  # fmt: skip
        rows.append(cells)
    grid(console, columns, rows)
    console.print("bytes and FLOP/B: per_op, each operator reads and writes its tensors once", style="dim")


def _runs(lines: list[Line]) -> str:
    runs = lines[0].times
    return str(runs) if all(line.times is runs or line.times == runs for line in lines) else ""


def _parts(depth: int | None) -> Callable[[Line], str]:
    if depth is None:
        return lambda line: line.name
    return lambda line: ".".join(line.name.split(".")[:depth])


def _grouped(lines: tuple[Line, ...], key: Callable[[Line], str]) -> list[tuple[str, list[Line]]]:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return list(groups.items())


def _total(values: Any) -> Size:
    total: Size = 0
    for value in values:
        total = total + value
    return total


def _zero(x: Size) -> bool:
    return isinstance(x, (int, float)) and x == 0


def _dash(x: Size) -> str:
    return "-" if _zero(x) else fmt_count(x).replace(" ", "")


def _intensity(macs: Size, moved: Size) -> str:
    return "-" if _zero(macs) or _zero(moved) else fmt(2 * macs / moved)


def _exact(x: Size) -> str:
    return f"{x:,}" if isinstance(x, int) else str(x)


def pair(console: Console, key: str, value: str, width: int = 12) -> None:
    """A line with its label in `width` columns; what does not fit goes on below the value."""
    lines = wrap(value, max(20, console.width - width - 2)) or [""]
    for i, line in enumerate(lines):
        label = f"  {key:<{width}}" if i == 0 else " " * (width + 2)
        console.print(Text.assemble((label, "dim"), line), soft_wrap=True)
