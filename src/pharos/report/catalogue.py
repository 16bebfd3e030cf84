"""The catalogues on a terminal: models and machines, with what is unknown left unknown."""

from inspect import Parameter
from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.machines.machine import Known, Machine
from pharos.models.registry import Entry
from pharos.quantity.units import fmt
from pharos.report.rows import plain
from pharos.report.text import grid, pair


def model_row(entry: Entry) -> dict[str, Any]:
    """What `pharos models --json` prints for one model."""
    return {
        "name": entry.name,
        "family": entry.family,
        "parameters": plain(entry.parameters),
        "macs": plain(entry.macs),
        "lighthouse": entry.lighthouse or None,
        "aliases": list(entry.aliases),
        "hyperparameters": {
            name: plain(p.default) if not isinstance(p.default, tuple) else list(p.default)
            for name, p in entry.hyperparameters().items()
        },
        "summary": entry.summary,
        "source": entry.source,
    }


def print_models(console: Console, entries: list[Entry]) -> None:
    """All models, one a line."""
    columns = [
        ("model", "left"),
        ("family", "left"),
        ("params", "right"),
        ("isolates", "left"),
        ("what", "left"),
    ]
    rows = [
        [e.name, e.family, fmt(e.parameters) if e.parameters else "-", e.lighthouse, e.summary]
        for e in sorted(entries, key=lambda e: (e.family, e.name))
    ]
    grid(console, columns, rows, flexible=(4,))
    console.print(
        "pharos models NAME lists hyperparameters; .onnx files and config.json work too", style="dim"
    )


def print_model(console: Console, entry: Entry) -> None:
    """One model: hyperparameters, counts, source."""
    console.print(Text(f"{entry.name}  {entry.family}", style="bold"))
    pair(console, "", entry.summary)
    if entry.parameters:
        pair(console, "parameters", f"{entry.parameters:,}")
    if entry.macs:
        pair(console, "MACs", f"{entry.macs:,} = {2 * entry.macs:,} FLOPs at the defaults")
    if entry.lighthouse:
        pair(console, "isolates", entry.lighthouse)
    if entry.aliases:
        pair(console, "also", ", ".join(entry.aliases))
    for name, p in entry.hyperparameters().items():
        default = "" if p.default is Parameter.empty else f" = {_short(p.default)}"
        pair(console, "takes" if name == next(iter(entry.hyperparameters())) else "", f"{name}{default}")
    pair(console, "source", entry.source)


def _short(default: Any) -> str:
    text = str(default)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(default)} values)"


def print_machines(console: Console, machines: list[Machine]) -> None:
    """All machines, one a line; a dash is unknown."""
    columns = [
        ("machine", "left"),
        ("kind", "left"),
        ("peak", "right"),
        ("type", "left"),
        ("memory", "right"),
        ("bandwidth", "right"),
        ("max W", "right"),
    ]
    rows = []
    for m in sorted(machines, key=lambda m: (m.kind, m.id)):
        dtype = next((d for d in ("bf16", "fp16", "int8", "fp32") if m.peak(d)), "")
        rows.append(
            [
                m.id,
                m.kind,
                _cell(m.peak(dtype), "OP/s") if dtype else "-",
                dtype,
                _cell(m.capacity_bytes, "B"),
                _cell(m.bandwidth_bytes_per_s, "B/s"),
                _cell(m.max_W, ""),
            ]
        )
    grid(console, columns, rows)
    console.print(f"{len(machines)} machines; - is unknown; pharos machines NAME shows sources", style="dim")


def _cell(known: Known, unit: str) -> str:
    return fmt(known.value, unit) if known else "-"


def print_machine(console: Console, machine: Machine) -> None:
    """One machine: every figure with its source, unknowns as such."""
    console.print(Text(f"{machine.id}  {machine.name}", style="bold"))
    pair(console, "kind", f"{machine.kind}, {machine.year or 'year unknown'}")
    if machine.aliases:
        pair(console, "also", ", ".join(machine.aliases))
    for dtype, peak in machine.peaks.items():
        ridge = machine.ridge_point(dtype)
        extra = f", ridge {fmt(ridge)} FLOP/B" if ridge else ""
        value = fmt(peak.ops_per_s.value, "OP/s")
        pair(
            console,
            f"peak {dtype}",
            f"{value}{f' ({peak.unit})' if peak.unit else ''}{extra}{_source(peak.ops_per_s)}",
        )
    for label, known, unit in (
        ("memory", machine.memory_sold_bytes, "B"),
        ("usable", machine.memory_usable_bytes, "B"),
        ("bandwidth", machine.bandwidth_bytes_per_s, "B/s"),
        ("cache", machine.cache_bytes, "B"),
        ("cores", machine.cores, ""),
        ("clock", machine.clock_hz, "Hz"),
        ("link", machine.link_bytes_per_s, "B/s"),
        ("max power", machine.max_W, "W"),
        ("idle power", machine.idle_W, "W"),
        ("price", machine.price_usd, "USD"),
    ):
        both = f" = {fmt(known.value, 'B', binary=True)}" if unit == "B" and known else ""
        pair(console, label, f"{fmt(known.value, unit)}{both}{_source(known)}")
    if machine.notes:
        pair(console, "notes", machine.notes)
    for i, text in enumerate(machine.disagreements):
        pair(console, "disputed" if i == 0 else "", text)


def _source(known: Known) -> str:
    return f"  [{known.evidence.kind.value}: {known.evidence.where}]" if known else ""


def print_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    """Rows of a facts table, grouped by section, each figure in humane units, with its source."""
    section = None
    for row in rows:
        if row["section"] != section:
            section = row["section"]
            console.print(Text(section, style="bold"))
        words = [str(v) for k, v in row.items() if isinstance(v, str) and k in NAMING]
        figures = [
            _figure(k, v) for k, v in row.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
        ]
        unknowns = [f"{k} unknown" for k, v in row.items() if v is None and k != "source"]
        source = row.get("source")
        named = ", ".join(source) if isinstance(source, list) else source
        pair(
            console, "", "; ".join([" ".join(words), *figures, *unknowns]) + (f"  [{named}]" if named else "")
        )


NAMING = (
    "op",
    "item",
    "size",
    "type",
    "link",
    "device",
    "level",
    "per",
    "gen",
    "gpu",
    "node",
    "test",
    "what",
    "name",
)


def _figure(key: str, value: float) -> str:
    for ending, unit in (("bytes_per_s", "B/s"), ("_J", "J"), ("_s", "s"), ("_W", "W"), ("_J_per_bit", "J")):
        if key.endswith(ending):
            return f"{key.removesuffix(ending).strip('_')} {fmt(value, unit)}".strip()
    return f"{key} {value:g}"
