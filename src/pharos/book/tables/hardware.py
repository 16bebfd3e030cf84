"""Table 8: each primitive, the operators that declare it, and what of a machine serves it."""

from typing import Any

from pharos.book.sums import counted, machine, machine_file
from pharos.book.table import COUNTED, LOOKED_UP, Asked, Cell, Filled, cell, table
from pharos.graph import op as primitives
from pharos.graph.tensor import Tensor
from pharos.ops.attention import ALGORITHMS as ATTENTIONS
from pharos.ops.attention import PATTERNS
from pharos.ops.conv import Conv2d
from pharos.ops.conv_algorithms import ALGORITHMS as CONVOLUTIONS
from pharos.plan.collectives import COLLECTIVES
from pharos.quantity.units import fmt
from pharos.report.readings import HEADINGS

NETWORKS = (("resnet50", None), ("gpt2-xl", 1024), ("lstm_tagger", 1000), ("dlrm-mlperf", None))


@table("8", "primitive-map", "Primitives, who declares them, and what serves them", "1.9", heeds=("machine",))
def primitive_map(asked: Asked) -> Filled:
    """A row a primitive, those that the chapter leaves out too."""
    heading_of = {n: h for h, names in HEADINGS.items() for n in names}
    users, totals = _users(asked)
    rows = []
    for name in _names():
        whole = sum(totals.get(n, 0.0) for n in HEADINGS[heading_of[name]]) or 1.0
        part = totals.get(name, 0.0) / whole
        most = [k for k, _ in sorted(users.get(name, {}).items(), key=lambda kv: -kv[1])[:3]]
        share = "none" if not part else f"{part:.0%}" if part >= 0.01 else "<1%"
        text = f"{share} of {heading_of[name]}" + (f": {', '.join(most)}" if most else "")
        serves = _serves(name, asked.machine)
        choices = _choices(name, asked.machine)
        rows.append((name.replace("_", " "), (
            Cell(value={"share": round(part, 9), "operators": most}, text=text, how=COUNTED),
            Cell(value=serves, text=serves or "not in the catalogue", how=LOOKED_UP,
                 printed=cell(("8", name, "hardware"), None).printed),
            Cell(value=choices, text=", ".join(choices) or "-", how=COUNTED,
                 printed=cell(("8", name, "software"), None).printed),
            Cell(value=None, text="-",
                 printed=cell(("8", name, "challenge"), None).printed),
        )))  # fmt: skip
    return Filled(
        columns=("primitive", "share in four networks", "served by", "ways to do it here", "challenge"),
        rows=tuple(rows),
        setting=f"{machine(asked.machine).name}; " + ", ".join(asked.model(n) for n, _ in NETWORKS),
        note="shares of the elements that operators declare, within a heading; figures of the machine's "
        "file with their "
        "sources there. The chapter has no rows for strided access and reduction, and one for gather and "
        "scatter",
    )


def _names() -> list[str]:
    """The ten primitives that operators can declare, heading by heading."""
    known = {v for k, v in vars(primitives).items() if k.isupper() and isinstance(v, str)}
    return [n for names in HEADINGS.values() for n in names if n in known]


def _users(asked: Asked) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """(primitive -> operator -> elements, primitive -> elements); each network's heading weighs the same."""
    users: dict[str, dict[str, float]] = {}
    totals: dict[str, float] = {}
    for name, context in NETWORKS:
        found: dict[str, dict[str, float]] = {}
        for line in counted(asked.model(name), context=context).lines:
            for primitive, elements in line.node.op.primitives(*line.node.io).items():
                own = found.setdefault(primitive, {})
                own[line.kind] = own.get(line.kind, 0.0) + float(elements) * float(line.times)
        for names in HEADINGS.values():
            whole = sum(sum(found.get(n, {}).values()) for n in names) or 1.0
            for n in names:
                for kind, elements in found.get(n, {}).items():
                    users.setdefault(n, {})[kind] = users.get(n, {}).get(kind, 0.0) + elements / whole
                    totals[n] = totals.get(n, 0.0) + elements / whole
    return users, totals


def _serves(name: str, on: str) -> str:
    """What of a machine a primitive rests on, with its figure; "" where the catalogue has none."""
    found, data = machine(on), machine_file(on)
    bandwidth = found.bandwidth_bytes_per_s.value
    link = found.link_bytes_per_s.value
    if name == "matmul":
        peak = max(((p.ops_per_s.value or 0.0, t) for t, p in found.peaks.items() if not t.startswith("int")),
                   default=(0.0, ""))  # fmt: skip
        return (
            f"{fmt(peak[0], 'FLOP/s')} in {peak[1]} on {found.peaks[peak[1]].unit} units" if peak[0] else ""
        )
    if name == "sliding_window":
        held = _at(data, "memory", "scratchpad", "bytes_per_core")
        return f"{held} of scratchpad a core to hold windows" if held else ""
    if name == "dynamic":
        cores = found.cores.value
        return f"{cores:,.0f} cores that are dealt work as it comes" if cores else ""
    if name in ("sequential", "strided"):
        if bandwidth is None:
            return ""
        line = "" if name == "sequential" else ", whole lines or sectors of it at a time"
        return f"{fmt(bandwidth, 'B/s')} of {found.memory_technology or 'memory'}{line}"
    if name == "random":
        cache = found.cache_bytes.value
        cycles = _at(data, "measured", "hbm_latency_cycles") or _at(data, "measured", "dram_latency_cycles")
        told = [f"{fmt(cache, 'B')} of cache"] if cache else []
        return ", ".join(told + ([f"{cycles} cycles to memory past it"] if cycles else []))
    if name == "reduce":
        vector = found.vector_peak("fp32").value if found.peaks else None
        return f"{fmt(vector, 'FLOP/s')} of vector units, trees of log2 n levels" if vector else ""
    told = (
        [f"{fmt(bandwidth, 'B/s')} of {found.memory_technology or 'memory'}"]
        if bandwidth and name == "gather"
        else []
    )
    return ", ".join([*told, *([f"{fmt(link, 'B/s')} of links each way"] if link else [])])


def _at(data: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(data, dict) or key not in data:
            return None
        data = data[key]
    return data.get("value") if isinstance(data, dict) else data


def _choices(name: str, on: str) -> list[str]:
    """Ways to do it: types that matrix units take, algorithms of operators, collectives."""
    if name == "matmul":
        return [f"in {t}" for t, peak in machine(on).peaks.items() if peak.unit == "matrix"]
    if name == "sliding_window":
        return ["direct", *CONVOLUTIONS]
    if name == "dynamic":
        return [*ATTENTIONS, *(p for p in PATTERNS if p != "full")]
    if name == "strided":
        return [f"none of it with {a}" for a in CONVOLUTIONS if name not in _declared(a)]
    return [c for c, how in COLLECTIVES.items() if how.primitive == name]


def _declared(algorithm: str) -> set[str]:
    """Primitives of a 3x3 convolution by an algorithm."""
    op, x = Conv2d(8, 8, 3, 1, 1, bias=False, algorithm=algorithm), Tensor((1, 8, 16, 16))
    return set(op.primitives(x, x))
