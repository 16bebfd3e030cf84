"""Text: results on a terminal, verdict first, then the table, at 80 columns or wider."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pharos.graph.count import Count, Line
from pharos.graph.tensor import shape_text
from pharos.quantity.sizes import Size, is_array, is_symbol
from pharos.quantity.units import fmt, fmt_count


def table(*columns: tuple[str, Any]) -> Table:
    """An empty table in the house style; columns as (header, "left" or "right")."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for i, (header, justify) in enumerate(columns):
        made.add_column(header, justify=justify, no_wrap=True, overflow="ellipsis" if i == 0 else "fold",
                        ratio=None, min_width=None)  # fmt: skip
    return made


def share(part: Size, whole: Size) -> str:
    """A percentage, or a dash where it has no one value."""
    if any(is_symbol(x) or is_array(x) for x in (part, whole)) or not whole:
        return "-"
    value = part / whole
    return f"{value:.0%}" if value >= 0.0995 else f"{value:.1%}"


def _fit(name: str, width: int) -> str:
    """A path shortened in its middle, where layers differ least."""
    if len(name) <= width:
        return name
    tail = (width - 1) * 2 // 3
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def print_show(console: Console, model: str, family: str, count: Count, depth: int | None) -> None:
    """`pharos show`: totals with their conventions, then every operator."""
    exactly = "at least " if count.uncounted else ""
    console.print(Text(f"{model}  {family}".rstrip(), style="bold"))
    _pair(
        console,
        "parameters",
        f"{exactly}{_exact(count.parameters)}  ({fmt(count.weight_bytes, 'B')} in "
        f"{count.graph.precision.weights}"
        + (f", buffers {fmt(count.buffer_bytes, 'B')})" if count.buffers else ")"),
    )
    masked = count.work.masked_macs
    skipped = f"; a causal kernel runs {fmt(count.macs - masked, 'MAC')}" if not _zero(masked) else ""
    _pair(
        console,
        "operations",
        f"{exactly}{fmt(count.macs, 'MAC')} = {fmt(count.flops, 'FLOP')} (1 MAC = 2 FLOPs{skipped})",
    )
    _pair(console, "vector work", f"{exactly}{fmt(count.work.vector_flops, 'FLOP')} elementwise, "
          f"{fmt_count(count.work.transcendentals)} transcendental")  # fmt: skip
    _pair(
        console, "traffic", f"{fmt(count.traffic_ideal, 'B')} ideal, {fmt(count.traffic_per_op, 'B')} per_op"
    )
    bounds = [(b, count.intensity(b)) for b in ("weights_only", "ideal", "per_op")]
    _pair(console, "intensity", ", ".join(f"{fmt(v)} {b}" for b, v in bounds if v is not None) + "  FLOP/B")
    if not _zero(count.state_bytes):
        _pair(console, "state", f"{fmt(count.state_bytes, 'B')} kept between steps")
    _pair(
        console,
        "known by",
        "counted, exact from shapes" if not count.uncounted else "counted; some operators have no rule",
    )
    if count.uncounted:
        _pair(
            console,
            "uncounted",
            ", ".join(count.uncounted[:8]) + (" ..." if len(count.uncounted) > 8 else ""),
        )
    console.print()
    wide = console.width >= 100
    columns = [("operator", "left"), ("runs", "right")]
    columns += [("output", "right")] if wide else []
    columns += [("params", "right"), ("MACs", "right"), ("FLOPs", "right"), ("bytes", "right"),
                ("FLOP/B", "right"), ("MACs %", "right")]  # fmt: skip
    grid = table(*columns)
    room = max(18, console.width - (76 if wide else 58))
    for name, lines in _grouped(count.lines, depth):
        moved = _total(line.traffic.total * line.times for line in lines)
        macs = _total(line.work.macs * line.times for line in lines)
        parameters = _total(line.parameters for line in lines)
        if _zero(moved) and _zero(parameters) and lines[0].node.op.is_counted:
            continue
        cells = [_fit(name, room), _runs(lines)]
        cells += [_fit(shape_text(lines[-1].node.outs[0].shape), 18)] if wide else []
        cells += [
            _dash(parameters), _dash(macs), _dash(2 * macs),
            fmt(moved, "B").replace(" ", "") if lines[0].node.op.is_counted else "unknown",
            _intensity(macs, moved), share(macs, count.macs),
        ]  # fmt: skip
        grid.add_row(*cells)
    console.print(grid)
    console.print("bytes and FLOP/B: per_op, each operator reads and writes its tensors once", style="dim")


def _runs(lines: list[Line]) -> str:
    runs = lines[0].times
    return str(runs) if all(line.times is runs or line.times == runs for line in lines) else ""


def _grouped(lines: tuple[Line, ...], depth: int | None) -> list[tuple[str, list[Line]]]:
    if depth is None:
        return [(line.name, [line]) for line in lines]
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(".".join(line.name.split(".")[:depth]), []).append(line)
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


def _pair(console: Console, key: str, value: str) -> None:
    console.print(Text.assemble((f"  {key:<12}", "dim"), value), soft_wrap=False)
