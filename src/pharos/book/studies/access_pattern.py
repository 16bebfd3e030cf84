"""Access patterns: what an operator's own loops read, told apart, and what a cache makes of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from pharos.book.addresses import lru_hits, noted, pattern
from pharos.book.study import Bytes, Seconds, study
from pharos.book.sums import dram_energy, machine_file
from pharos.graph.op import RANDOM, STRIDED, Tally
from pharos.machines.machine import Machine, find_machine
from pharos.ops.conv import Conv2d
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import assumed, counted
from pharos.quantity.units import fmt, parse
from pharos.report.drawing import Figure
from pharos.report.studies import Told

DRAWN = 200


@dataclass(frozen=True, slots=True)
class _Sizes:
    inputs: int
    outputs: int
    side: int
    kernel: int
    lookups: int
    table: int
    width: int


@study("access-pattern", "Are an operator's reads sequential, strided or random?", section="1.9")
def access_pattern(
    *,
    access: str = "window",
    inputs: int = 128,
    outputs: int = 32,
    side: int = 28,
    kernel: int = 3,
    lookups: int = 64,
    table: int = 4096,
    width: int = 16,
    precision: str = "fp32",
    line: Bytes = 64.0,
    cache: Bytes = 1024.0,
    on: str = "a100-sxm-80gb",
    latency: Seconds = 0.0,
    concurrency: int = 1,
) -> Told:
    """Traces of the operators' loops at batch 1: a dense layer by rows and by columns, a window, lookups.

    Args:
        access: rows, columns, window or lookups: what the answer speaks of. inputs, outputs: dense layers'.
        side, kernel: of the window's image. lookups, table, width: rows looked up, all, elements of one.
        line, cache: of a cache that drops the line not used for longest. latency: of memory, 0 takes the
            machine's own. concurrency: lines under way at once.
    """
    if access not in TRACES:
        raise unknown("access", access, TRACES)
    element = BITS[precision] // 8 if BITS.get(precision, 0) >= 8 else 0
    per_line, lines = int(line // element) if element else 0, int(cache // line) if line >= 1 else 0
    if per_line < 1 or lines < 1:
        raise InputError("a line holds an element at least, and a cache a line", where="line, cache")
    sizes = _Sizes(inputs, outputs, side, kernel, lookups, table, width)
    traces = {name: make(sizes) for name, make in TRACES.items()}
    rows = []
    for name, both in traces.items():
        for operand, trace in both.items():
            kind, stride = pattern(trace, per_line)
            distinct, used = len(set(trace)), len({a // per_line for a in trace})
            hits = lru_hits(trace, per_line, lines)
            fetched = (len(trace) - hits) * per_line * element
            rows.append(
                (
                    name,
                    operand,
                    kind,
                    stride * element,
                    len(trace) / distinct,
                    used,
                    distinct * element / used,
                    hits / len(trace),
                    distinct * element / fetched,
                )
            )
    mine = next(r for r in rows if r[0] == access and r[1] == SPOKEN[access])
    machine = find_machine(on)
    rate, known = _rate(machine, mine[2], line, latency, concurrency)
    useful = rate * mine[8] if rate is not None else None
    per_byte = dram_energy() / 4 / mine[8]
    jump = f" by {fmt(abs(mine[3]), 'B')}" if mine[2] == STRIDED else ""
    return Told(
        answer=f"{access}: {mine[2]}{jump}; each of the {mine[1]} is read {mine[4]:.3g} times, {mine[7]:.1%} "
        f"hit {fmt(cache, 'B', binary=True)} of cache, {mine[6]:.3g} of {line:g} B of a line are of use",
        numbers={
            "pattern": mine[2],
            "stride_bytes": mine[3],
            "uses": mine[4],
            "most_uses": max(Counter(traces[access][mine[1]]).values()),
            "lines": mine[5],
            "useful_bytes_per_line": mine[6],
            "hit_share": mine[7],
            "useful_share_of_fetched": mine[8],
            "useful_bytes_per_s": useful,
            "energy_per_useful_byte_J": per_byte,
        },
        reasons=(
            f"{fmt(useful, 'B/s')} of use on {machine.id}: {known}"
            if useful is not None
            else f"no rate: {known}",
            f"{fmt(per_byte, 'J')} a useful byte: what is fetched and not used costs the same",
        ),
        columns=("access", "operand", "pattern", "stride", "uses", "lines", "used", "hits", "useful"),
        rows=tuple(rows),
        evidence=(
            counted("addresses that the operators' loops read; a cache simulated line by line"),
            assumed("energy of DRAM in the time of 45 nm; lookups drawn evenly"),
        ),
        note="stride: bytes; uses: of an element; used: bytes of a line; useful: share of the bytes fetched",
        figure=_figure(traces, access),
    )


def _dense(s: _Sizes, columns: bool) -> dict[str, list[int]]:
    weight, read = noted(*((s.inputs, s.outputs) if columns else (s.outputs, s.inputs)))
    x, inputs = noted(1, s.inputs)
    Linear(s.inputs, s.outputs, False, transposed=columns).loops(Tally(), x, weight=weight)
    return {"weights": read, "inputs": inputs}


def _window(s: _Sizes) -> dict[str, list[int]]:
    weight, read = noted(1, 1, s.kernel, s.kernel)
    x, inputs = noted(1, 1, s.side, s.side)
    Conv2d(1, 1, s.kernel, bias=False).loops(Tally(), x, weight=weight)
    return {"weights": read, "inputs": inputs}


def _lookups(s: _Sizes) -> dict[str, list[int]]:
    import numpy as np

    weight, _ = noted(s.table, s.width)
    ids = np.random.default_rng(0).integers(0, s.table, s.lookups)
    found = Embedding(s.table, s.width).loops(Tally(), ids, weight=weight)
    return {"table": [e.at for e in found.ravel()]}


TRACES: dict[str, Callable[[_Sizes], dict[str, list[int]]]] = {
    "rows": lambda s: _dense(s, False),
    "columns": lambda s: _dense(s, True),
    "window": _window,
    "lookups": _lookups,
}
# The operand that an answer speaks of.
SPOKEN = {"rows": "weights", "columns": "weights", "window": "inputs", "lookups": "table"}


def _rate(
    machine: Machine, kind: str, line: float, latency: float, concurrency: int
) -> tuple[float | None, str]:
    """Bytes fetched a second: memory's burst rate, or lines that are waited for."""
    bandwidth = machine.bandwidth_bytes_per_s.value
    if bandwidth is None:
        return None, f"the bandwidth of {machine.id} is not in the catalogue"
    if kind != RANDOM:
        return bandwidth, "at the burst rate of its memory"
    wait = latency or _latency(machine)
    if not wait:
        return None, f"the latency of {machine.id}'s memory is not in the catalogue: write latency=..."
    waited = concurrency * line / wait
    said = f"{concurrency} line{'s' if concurrency > 1 else ''} under way for {fmt(wait, 's')} each"
    return min(
        bandwidth, waited
    ), said if waited < bandwidth else "enough lines under way for its memory's rate"


def _latency(machine: Machine) -> float | None:
    measured = machine_file(machine.id).get("measured") or {}
    cycles = measured.get("hbm_latency_cycles") or measured.get("dram_latency_cycles")
    clock = machine.clock_hz.value
    return parse(cycles, "1") / clock if cycles and clock else None


def _figure(traces: dict[str, dict[str, list[int]]], access: str) -> Figure:
    values = [
        {"read": i, "element": at, "access": name}
        for name, both in traces.items()
        for i, at in enumerate(both[SPOKEN[name]][:DRAWN])
    ]
    return Figure(
        name="access-pattern",
        title="Elements in the order in which loops read them",
        alt=f"The first {DRAWN} reads: a line for rows, steps for columns, a saw for a window, bars "
        "here and there "
        "for lookups.",
        spec={
            "data": {"values": values},
            "facet": {"field": "access", "type": "nominal", "columns": 2, "title": None},
            "columns": 2,
            "spec": {
                "width": 230,
                "height": 130,
                "mark": {"type": "point", "size": 6, "filled": True},
                "encoding": {
                    "x": {"field": "read", "type": "quantitative"},
                    "y": {"field": "element", "type": "quantitative"},
                },
            },
            "resolve": {"scale": {"y": "independent"}},
        },
        source=f"traced: the operators' own loops; the answer speaks of {access}",
    )
