"""Summary: a module as a tree of its submodules with shapes, parameters and operations."""

from dataclasses import dataclass
from typing import Any

from pharos.graph.count import Count, Line
from pharos.graph.tensor import shape_text
from pharos.quantity.sizes import Size
from pharos.quantity.units import fmt, fmt_count


@dataclass(frozen=True, slots=True)
class Part:
    """One submodule with all it holds.

    Args:
        path: its name in the module; kind: its class.
        output_shape: of the last operator inside.
        parameters: held by it, shared ones with their first owner.
    """

    path: str
    kind: str
    depth: int
    output_shape: tuple[Size, ...]
    parameters: Size
    macs: Size

    @property
    def flops(self) -> Size:
        """2 x MACs."""
        return 2 * self.macs


@dataclass(frozen=True, slots=True)
class Summary:
    """What `pharos.summary` gives; printing it shows the tree, in a notebook too.

    Args:
        parts: submodules in the order they run, parents first.
    """

    name: str
    count: Count
    parts: tuple[Part, ...]

    @property
    def total_params(self) -> Size:
        """Parameters, shared ones once."""
        return self.count.parameters

    @property
    def macs(self) -> Size:
        """Multiply-accumulates; 1 MAC = 2 FLOPs."""
        return self.count.macs

    @property
    def flops(self) -> Size:
        """2 x MACs."""
        return self.count.flops

    @property
    def uncounted(self) -> tuple[str, ...]:
        """Operators without a rule: with any of them all totals are "at least"."""
        return self.count.uncounted

    def __str__(self) -> str:
        head = ("module", "output", "params", "MACs")
        rows = [
            ("  " * part.depth + f"{part.path.rpartition('.')[2] or self.name} ({part.kind})",
             shape_text(part.output_shape), _dash(part.parameters), _dash(part.macs))
            for part in self.parts
        ]  # fmt: skip
        widths = [max(len(str(row[i])) for row in (head, *rows)) for i in range(4)]
        lines = [_line(head, widths), "─" * (sum(widths) + 6), *[_line(row, widths) for row in rows]]
        least = "at least " if self.uncounted else ""
        lines += [
            "─" * (sum(widths) + 6),
            f"parameters  {least}{self.total_params:,}  ({fmt(self.count.weight_bytes, 'B')})",
            f"operations  {least}{fmt(self.macs, 'MAC')} = {fmt(self.flops, 'FLOP')} (1 MAC = 2 FLOPs)",
            f"traffic     {fmt(self.count.traffic_per_op, 'B')} per_op",
        ]
        if self.uncounted:
            lines.append(f"uncounted   {', '.join(self.uncounted[:8])}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)


def summarise(name: str, count: Count, depth: int) -> Summary:
    """A summary of a traced graph.

    Args:
        depth: levels of submodules to show; the module itself is level 0.
    """
    classes: dict[str, str] = dict(count.graph.meta.get("classes", {}))
    inside: dict[str, list[Line]] = {"": list(count.lines)}
    for line in count.lines:
        for path in _above(line, classes):
            inside.setdefault(path, []).append(line)
    parts = []
    for path, lines in inside.items():
        level = path.count(".") + 1 if path else 0
        if level > depth:
            continue
        outs = lines[-1].node.outs
        macs = _total([line.work.macs * line.times for line in lines])
        parameters = _total([line.parameters for line in lines])
        shape = outs[0].shape if outs else ()
        parts.append(Part(path, classes.get(path, name), level, shape, parameters, macs))
    return Summary(name, count, tuple(_in_order(parts)))


def _above(line: Line, classes: dict[str, str]) -> list[str]:
    """Submodules that an operator lies in, outermost first."""
    pieces = (line.node.home or line.name).rstrip(".").split(".")
    paths = [".".join(pieces[: i + 1]) for i in range(len(pieces))]
    return [path for path in paths if path in classes]


def _in_order(parts: list[Part]) -> list[Part]:
    """Children right below their parents, in the order in which they first ran."""
    order = {part.path: i for i, part in enumerate(parts)}

    def place(part: Part) -> tuple[int, ...]:
        pieces = part.path.split(".") if part.path else []
        return tuple([order.get(".".join(pieces[: i + 1]), -1) for i in range(len(pieces))])

    return sorted(parts, key=place)


def _total(values: list[Size]) -> Size:
    total: Size = 0
    for value in values:
        total = total + value
    return total


def _dash(x: Any) -> str:
    return "-" if isinstance(x, int) and x == 0 else fmt_count(x)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0]), *[cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]]
    return "  ".join(cells).rstrip()
