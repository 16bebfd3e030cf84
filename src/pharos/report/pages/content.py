"""Content: a subject as the words, rows and figures that a page shows; nothing here knows of HTML."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from pharos.decide.verdict import AT_LEAST, BROKEN, HOLDS, UNKNOWN
from pharos.facts.tables import table
from pharos.predict.estimate import Estimate, Operation
from pharos.predict.runtimes import RUNTIMES
from pharos.quantity.errors import PharosError
from pharos.quantity.evidence import Evidence, Kind, merge
from pharos.quantity.evidence import Figure as Value
from pharos.quantity.units import fmt
from pharos.report.advice import costs, gained
from pharos.report.drawing import Figure
from pharos.report.energies import band
from pharos.report.estimates import title
from pharos.report.pages.subject import Subject
from pharos.report.plots.memory import memory
from pharos.report.plots.roofline import roofline
from pharos.report.plots.tornado import tornado
from pharos.report.plots.treemap import treemap
from pharos.report.plots.waterfall import waterfall
from pharos.report.rows import operation_row, operator_row

WORDS = {HOLDS: "holds", BROKEN: "broken", UNKNOWN: "cannot be told"}
KINDS = {
    Kind.COUNTED: "exact, from shapes",
    Kind.MEASURED: "timed on a machine, where and when is said",
    Kind.SPEC: "published by a source that is named",
    Kind.FITTED: "a curve through measurements, with its error on rows it did not see",
    Kind.ASSUMED: "taken as given, with a band as wide as that is unsure",
    Kind.UNKNOWN: "not known, and not guessed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One figure at the head of a page."""

    name: str
    value: str
    more: str = ""
    level: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table; `number` sorts by value and stands on the right."""

    name: str
    number: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a cell shows, and the value that it sorts by and that a file of the table holds."""

    text: str
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A subject, ready to be laid out.

    Args:
        state: holds, broken or unknown where there are limits, else "".
        skipped: figures that could not be drawn, and why.
    """

    title: str
    state: str
    headline: str
    says: list[str]
    cards: list[Card]
    limits: list[dict[str, Any]]
    figures: list[Figure]
    skipped: list[str]
    columns: list[Column]
    rows: list[list[Cell]]
    advice: list[dict[str, Any]]
    provenance: list[dict[str, Any]]
    sources: list[tuple[str, str]]
    command: str
    notes: list[str] = field(default_factory=list)


def content(subject: Subject) -> Content:
    """Everything that a page tells of a subject."""
    estimate = subject.estimate
    figures, skipped = _figures(subject)
    columns, rows = _operators(estimate)
    provenance = _provenance(estimate)
    graph = estimate.count.graph
    return Content(
        title=subject.verdict.contract.name if subject.verdict else title(estimate),
        state=subject.verdict.verdict if subject.verdict else "",
        headline=_headline(subject),
        says=_says(subject),
        cards=_cards(estimate),
        limits=_limits(subject),
        figures=figures,
        skipped=skipped,
        columns=columns,
        rows=rows,
        advice=[_finding(f) for f in subject.findings],
        provenance=provenance,
        sources=_sources(provenance),
        command=subject.command,
        notes=[*map(str, graph.meta.get("notes", ())), *_uncounted(estimate)],
    )


def _headline(subject: Subject) -> str:
    estimate = subject.estimate
    if subject.verdict is None:
        return f"{band(estimate.latency)}; binds: {estimate.binding or 'unknown'}"
    bad = [v for v in subject.verdict.limits if v.verdict == subject.verdict.verdict]
    if subject.verdict.verdict == HOLDS:
        least = min((v for v in bad if v.margin), key=lambda v: v.margin or 0, default=None)
        return f"all {len(bad)} limits hold" + (
            f"; least margin {least.margin:.3g}x, {least.name}" if least else ""
        )
    return f"{', '.join(v.name.replace('_', ' ') for v in bad)}: {WORDS[subject.verdict.verdict]}"


def _says(subject: Subject) -> list[str]:
    estimate, runtime = subject.estimate, RUNTIMES[subject.estimate.runtime]
    found = [title(estimate)] if subject.verdict else []
    found.append(f"runtime: {runtime.name}, {runtime.says}")
    found += [f"assumes {told}" for told in runtime.assumes]
    if subject.why is not None and subject.why.reason:
        found.append(f"what would help: {subject.why.helpful or 'none of the machine'}: {subject.why.reason}")
    return found


def _cards(e: Estimate) -> list[Card]:
    what = "tokens" if "tokens" in e.count.graph.meta else "samples"
    capacity = e.machine.capacity_bytes.value
    room = {True: "fits in", False: "does not fit in", None: "of"}[e.fits]
    return [
        Card(name="latency", value=fmt(e.latency.value, "s"), more=_ends(e.latency), level=e.latency.level),
        Card(
            name="throughput", value=fmt(e.throughput_per_s), more=f"{what} a second", level=e.latency.level
        ),
        Card(name="energy", value=fmt(e.energy.value, "J"), more=_ends(e.energy), level=e.energy.level),
        Card(
            name="memory",
            value=fmt(e.memory.total, "B"),
            more=f"{room} {fmt(capacity, 'B')}",
            level="counted",
        ),
        Card(
            name="parameters",
            value=fmt(e.count.parameters),
            more=f"{fmt(e.count.weight_bytes, 'B')} stored",
            level="counted",
        ),
        Card(
            name="operations",
            value=fmt(e.count.macs, "MAC"),
            more=f"= {fmt(2 * e.count.macs, 'FLOP')}",
            level="counted",
        ),
    ]


def _ends(figure: Value) -> str:
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    return f"{fmt(figure.low, figure.unit)} to {fmt(figure.high, figure.unit)}, 80%"


def _limits(subject: Subject) -> list[dict[str, Any]]:
    if subject.verdict is None:
        return []
    return [
        {
            "name": v.name.replace("_", " "),
            "value": band(v.figure),
            "allowed": f"{'at least' if v.name in AT_LEAST else 'at most'} {fmt(v.limit, v.unit)}",
            "margin": "unknown" if v.margin is None else f"{v.margin:.3g}x",
            "state": v.verdict,
            "word": WORDS[v.verdict],
            "remedy": v.remedy,
            "known": [str(e) for e in merge(v.figure.evidence)],
        }
        for v in subject.verdict.limits
    ]


def _figures(subject: Subject) -> tuple[list[Figure], list[str]]:
    e = subject.estimate
    wanted: list[tuple[str, Callable[[], Figure]]] = [
        ("roofline", lambda: roofline([e])),
        ("time", lambda: waterfall(e, by="time")),
        ("memory", lambda: waterfall(e, by="memory")),
        ("memory over the steps", lambda: memory(e)),
        ("where the time goes", lambda: treemap(e, by="time")),
    ]
    if e.energy.value is not None:
        wanted.insert(2, ("energy", lambda: waterfall(e, by="energy")))
    why = subject.why
    if why is not None:
        wanted.append(("sensitivity", lambda: tornado(why)))
    drawn, skipped = [], []
    for name, make in wanted:
        try:
            drawn.append(make())
        except PharosError as error:
            skipped.append(f"{name}: {error}")
    return drawn, skipped


def _operators(e: Estimate) -> tuple[list[Column], list[list[Cell]]]:
    """Kernels with their times, slowest first; operators as counted where no time is known."""
    if e.latency.value is None:
        columns = [
            Column(name="operator"),
            Column(name="kind"),
            Column(name="runs", number=True),
            *_counts(),
            Column(name="FLOP/B", number=True, hint="each operator moves its tensors once"),
        ]
        rows = [operator_row(line) for line in e.count.lines]
        return columns, [
            [Cell(text=r["name"]), Cell(text=r["kind"]), *_numbers(r), _ratio(r["intensity"])] for r in rows
        ]
    columns = [
        Column(name="kernel"),
        Column(name="kind"),
        Column(name="runs", number=True),
        Column(name="time", number=True),
        Column(name="share", number=True),
        *_counts()[1:],
        Column(name="FLOP/B", number=True, hint="after fusion, as the runtime runs it"),
        Column(name="energy", number=True),
        Column(name="limit"),
        Column(name="known by"),
    ]
    pairs = zip_longest(e.operations, e.energies)
    found = sorted(((op, operation_row(op, e, energy)) for op, energy in pairs if op), key=_slowest)
    return columns, [_kernel(op, r, float(e.latency.value)) for op, r in found]


def _slowest(pair: tuple[Operation, dict[str, Any]]) -> float:
    return -(pair[1]["latency_s"] or 0.0)


def _counts() -> list[Column]:
    return [
        Column(name="parameters", number=True),
        Column(name="MACs", number=True),
        Column(name="FLOPs", number=True, hint="2 a MAC, and element-wise ones"),
        Column(name="bytes", number=True, hint="moved to and from memory"),
    ]


def _numbers(r: dict[str, Any]) -> list[Cell]:
    return [
        _count(r["count"]),
        _count(r["parameters"]),
        _count(r["macs"]),
        _count(r["flops"]),
        Cell(text=fmt(r["traffic_bytes"], "B"), value=r["traffic_bytes"]),
    ]


def _kernel(op: Operation, r: dict[str, Any], whole: float) -> list[Cell]:
    seconds, joules = r["latency_s"], (r["energy_J"] or {}).get("value")
    fused = f" + {len(r['fused'])}" if r["fused"] else ""
    share = None if seconds is None or not whole else seconds / whole
    return [
        Cell(text=r["name"] + fused, value=" + ".join([r["name"], *r["fused"]])),
        Cell(text=r["kind"]),
        _count(r["count"]),
        Cell(text=fmt(seconds, "s"), value=seconds),
        Cell(text="" if share is None else f"{share:.1%}", value=share),
        _count(r["macs"]),
        _count(r["flops"]),
        Cell(text=fmt(r["traffic_bytes"], "B"), value=r["traffic_bytes"]),
        _ratio(r["roofline"]["as_run"]["intensity"]),
        Cell(text="" if joules is None else fmt(joules, "J"), value=joules),
        Cell(text=(r["binding"] or "").removeprefix("memory-")),
        Cell(text=r["level"]),
    ]


def _count(value: Any) -> Cell:
    return Cell(text="-" if not value else fmt(value), value=value)


def _ratio(value: Any) -> Cell:
    return Cell(text="-" if not value else f"{value:.3g}", value=value)


def _finding(found: Any) -> dict[str, Any]:
    return {
        "rule": found.rule.replace("-", " "),
        "severity": found.severity,
        "costs": costs(found),
        "evidence": [f"{f.what} {fmt(f.value, f.unit)}" for f in found.evidence],
        "remedy": found.remedy,
        "gain": gained(found.gain) if found.gain else "",
        "where": list(found.where),
    }


def _provenance(e: Estimate) -> list[dict[str, Any]]:
    """How each figure of the page is known, part by part."""
    machine = e.machine
    counts: tuple[Evidence, ...] = (Evidence(kind=Kind.COUNTED, where="shapes of the graph"),)
    if e.count.uncounted:
        counts = (*counts, Evidence(kind=Kind.UNKNOWN, where=", ".join(e.count.uncounted[:6])))
    parts: list[tuple[str, Iterable[Evidence]]] = [
        ("parameters, operations, bytes", counts),
        ("latency, throughput", e.latency.evidence),
        ("energy", e.energy.evidence),
        ("memory", e.memory.evidence or counts),
        ("memory of the machine", (machine.capacity_bytes.evidence,)),
        ("bandwidth", (machine.bandwidth_bytes_per_s.evidence,)),
        *(
            (f"{dtype} peak", (peak.ops_per_s.evidence,))
            for dtype, peak in machine.peaks.items()
            if dtype in str(e.workload.precision)
        ),
    ]
    return [
        {"figure": name, "parts": [(k.kind.value, KINDS[k.kind], k.where, k.error) for k in merge(known)]}
        for name, known in parts
    ]


def _sources(provenance: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Titles of the sources that evidence names by their ids."""
    known = table("sources")
    said = {
        w for row in provenance for _, _, where, _ in row["parts"] for w in re.findall(r"[a-z0-9_]+", where)
    }
    return [(key, str(known[key]["title"])) for key in sorted(said & set(known))]


def _uncounted(e: Estimate) -> list[str]:
    return (
        [f"not counted, so that figures are at least so large: {', '.join(e.count.uncounted)}"]
        if e.count.uncounted
        else []
    )
