"""Faces: what a page shows of an estimate: verdict, figures with how they are known, memory, kernels."""

from typing import Any

from pharos.decide.verdict import AT_LEAST, BROKEN, HOLDS, UNKNOWN, LimitVerdict
from pharos.doors.web import drawn
from pharos.predict.estimate import Estimate
from pharos.quantity.evidence import Figure
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt
from pharos.report.energies import band
from pharos.report.rows import parts_of_mcu

SHORT = {"memory-bandwidth": "bandwidth", "memory-capacity": "capacity", "sequential-dependency": "sequence"}
WORDS = {HOLDS: "Holds", BROKEN: "Broken", UNKNOWN: "Can't tell"}
# Parts of memory: attribute, words, class of their colour.
MEMORY = (
    ("weights", "weights", "p0"),
    ("kv_cache", "KV cache", "p1"),
    ("activations_peak", "activations", "p2"),
    ("state", "state", "p3"),
    ("workspace", "workspace", "p4"),
    ("optimizer", "optimizer", "p5"),
    ("gradients", "gradients", "p6"),
    ("rounding", "rounding to blocks", "p4"),
    ("unused", "set aside unused", "p7"),
    ("runtime", "GPU context (assumed)", "p7"),
)


def verdict_of(estimate: Estimate, limits: list[LimitVerdict]) -> str:
    """The weakest of the limits' verdicts; without limits, whether it fits and can be told at all."""
    found = {v.verdict for v in limits}
    if estimate.fits is False:
        found.add(BROKEN)
    if not limits and (estimate.fits is None or estimate.latency.value is None):
        found.add(UNKNOWN)
    return next((v for v in (BROKEN, UNKNOWN, HOLDS) if v in found), HOLDS)


def face(e: Estimate, limits: list[LimitVerdict]) -> dict[str, Any]:
    """What a page shows of an estimate, in words and pictures."""
    verdict = verdict_of(e, limits)
    return {
        "machine": e.machine.name,
        "id": e.machine.id,
        "verdict": verdict,
        "headline": headline(e, limits, verdict),
        "detail": detail(e),
        "figures": figures(e),
        "memory": memory(e),
        "shares": shares(e),
        "limits": [limit_row(v) for v in limits],
        "evidence": [str(item) for item in e.evidence[:10]],
        "binding": short(e.binding),
        "runtime": e.runtime,
        "iron": [
            (n, fmt(v, "s"))
            for n, v in (("compute", e.compute_s), ("data", e.data_s), ("overhead", e.overhead_s))
            if v is not None
        ],
        "uncounted": list(e.count.uncounted[:8]),
        "intensity": [
            (b, fmt(v), short(side) if side else "") for b, (v, side) in e.roofline().items() if v is not None
        ],
        "ridge": fmt(e.ridge_point) if e.ridge_point else "unknown",
        "parameters": f"{e.count.parameters:,}",
        "macs": fmt(e.count.macs, "MAC"),
        "flops": fmt(e.count.flops, "FLOP"),
    }


def short(name: Any) -> str:
    """A resource in one word."""
    return SHORT.get(str(name), str(name))


def headline(e: Estimate, limits: list[LimitVerdict], verdict: str) -> str:
    """The verdict in a few words."""
    if e.fits is False:
        capacity = e.machine.capacity_bytes.value
        times = (
            f": it needs {float(e.memory.total) / capacity:.3g} times the memory there is" if capacity else ""
        )
        return f"Does not fit{times}"
    if not limits:
        if e.latency.value is None:
            return "Time cannot be told"
        return "Fits" if e.fits else "Whether it fits cannot be told"
    broken = [v.name for v in limits if v.verdict == BROKEN]
    unknown = [v.name for v in limits if v.verdict == UNKNOWN]
    if broken:
        return f"Breaks its limit on {' and '.join(broken)}"
    if unknown:
        return f"Measure {' and '.join(unknown)}: the limit lies inside the band"
    return "Holds every limit" if len(limits) > 1 else f"Holds its limit on {limits[0].name}"


def detail(e: Estimate) -> str:
    """The sentence behind the verdict: the time, its band, what binds."""
    what = {"decode": "a step", "prefill": "a prompt"}.get(e.workload.phase, "a pass")
    if e.latency.value is None:
        why = e.latency.evidence[0].where if e.latency.evidence else "a figure is missing"
        return f"{e.model} on {e.machine.name}: {why}."
    time = fmt(e.latency.value, "s")
    shown = f"{time} {what} ({fmt(e.latency.low, 's')} to {fmt(e.latency.high, 's')}, 80% band)"
    return f"{e.model} on {e.machine.name}: {shown}; {short(e.binding)} binds."


def figures(e: Estimate) -> list[dict[str, str]]:
    """Time, rate, memory, energy and power, each with its band and how it is known."""
    what = "tokens" if "tokens" in e.count.graph.meta else "samples"
    total, capacity = e.memory.total, e.machine.capacity_bytes.value
    rate = e.throughput_per_s
    return [
        figure_face("Latency", e.latency),
        {
            "name": "Throughput",
            "value": f"{fmt(rate)}/s" if rate is not None else "unknown",
            "band": what,
            "level": e.latency.level,
        },
        {
            "name": "Memory",
            "value": fmt(total, "B"),
            "level": "counted" if not e.memory.runtime else "assumed",
            "band": f"{fmt(total, 'B', binary=True)}; of {fmt(capacity, 'B')}"
            if capacity
            else "capacity unknown",
        },
        figure_face("Energy", e.energy),
        figure_face("Power", e.power_W),
    ]


def figure_face(name: str, figure: Figure) -> dict[str, str]:
    """A figure in words: its value, its band, how it is known."""
    if figure.value is None:
        return {
            "name": name,
            "value": "unknown",
            "band": band(figure).removeprefix("unknown, "),
            "level": "unknown",
        }
    return {
        "name": name,
        "value": fmt(figure.value, figure.unit),
        "level": figure.level,
        "band": f"{fmt(figure.low, figure.unit)} to {fmt(figure.high, figure.unit)}",
    }


def memory(e: Estimate) -> dict[str, Any]:
    """The memory bar and its parts; of a microcontroller, flash and SRAM apart."""
    if e.machine.kind == "mcu":
        bars = []
        for label, part in zip(("flash", "SRAM"), parts_of_mcu(e).values(), strict=True):
            one = drawn.Part(part["holds"], float(part["value"]), "p0" if label == "flash" else "p2")
            bars.append(
                {
                    "title": label,
                    "svg": drawn.bar([one], part["limit"], "B", f"mem-{label}-{e.machine.id}", label),
                    "total": fmt(part["value"], "B"),
                    "limit": fmt(part["limit"], "B"),
                    "over": part["fits"] is False,
                    "parts": [(one.kind, one.name, fmt(one.value, "B"), "")],
                }
            )
        return {"bars": bars}
    parts = [
        drawn.Part(words, float(value), kind)
        for key, words, kind in MEMORY
        if not (is_int(value := getattr(e.memory, key)) and value == 0)
    ]
    total, limit = float(e.memory.total), e.machine.capacity_bytes.value
    listed = [(p.kind, p.name, fmt(p.value, "B"), f"{p.value / total:.0%}" if total else "") for p in parts]
    return {"bars": [{
        "title": "Memory", "svg": drawn.bar(parts, limit, "B", f"mem-{e.machine.id}", "Memory"),
        "total": f"{fmt(total, 'B')} ({fmt(total, 'B', binary=True)})",
        "limit": f"{fmt(limit, 'B')} ({fmt(limit, 'B', binary=True)})" if limit else "unknown",
        "over": e.fits is False, "parts": listed,
    }]}  # fmt: skip


def shares(e: Estimate) -> dict[str, Any] | None:
    """Where the time goes, by resource."""
    if e.latency.value is None:
        return None
    known = sorted(((n, float(v)) for n, v in e.shares.items() if float(v) > 0), key=lambda item: -item[1])
    whole = sum(v for _, v in known) or 1.0
    parts = [drawn.Part(short(n), v, f"b-{n}") for n, v in known]
    return {
        "svg": drawn.bar(parts, None, "s", f"time-{e.machine.id}", "Where the time goes"),
        "parts": [(p.kind, p.name, fmt(p.value, "s"), f"{p.value / whole:.0%}") for p in parts],
    }


def limit_row(v: LimitVerdict) -> dict[str, str]:
    """A limit as a row."""
    allowed = fmt(v.limit, v.unit)
    return {
        "name": v.name,
        "value": band(v.figure),
        "allowed": f"at least {allowed}" if v.name in AT_LEAST else allowed,
        "margin": "?" if v.margin is None else f"{v.margin:.3g}x",
        "verdict": v.verdict,
        "word": WORDS[v.verdict],
        "level": v.figure.level,
    }


def kernel_count(e: Estimate) -> int:
    """Kernels whose time is known."""
    return sum(op.time is not None for op in e.operations)


def roof_note(estimates: list[Estimate]) -> str:
    """What the roofline leaves out: kernels without operations, and roofs that nobody knows."""
    roofless = [e.machine.name for e in estimates if e.ridge_point is None]
    told = f"No roof is known for {' and '.join(roofless)} in this precision. " if roofless else ""
    return told + without_dots(estimates[0])


def without_dots(e: Estimate) -> str:
    """How much of the time kernels take that have no operations, and so no dot."""
    if e.latency.value is None:
        return ""
    shown = sum(d.share for d in drawn.dots_of(e))
    rest = kernel_count(e) - len(drawn.dots_of(e))
    if not rest:
        return ""
    return (
        f"{rest} kernels only move data ({max(1 - shown, 0):.0%} of the time, with what is between kernels)."
    )


def kernels(e: Estimate, rows: int) -> list[dict[str, str]]:
    """The slowest kernels."""
    ordered = sorted(
        (op for op in e.operations if op.time is not None), key=lambda op: -float(op.total_s or 0)
    )
    whole, found = float(e.latency.value or 0.0), []
    joules = {id(op): j for op, j in zip(e.operations, e.energies, strict=False) if j}
    for op in ordered[:rows]:
        time, n = op.time, op.kernel.times
        assert time is not None
        seconds, moved, flops = (
            float(op.total_s or 0.0),
            float(time.traffic_bytes),
            float(op.kernel.work.flops),
        )
        parts = {
            "compute": time.compute_s,
            "memory-bandwidth": time.data_s,
            "overhead": time.overhead_s,
            "sequential-dependency": time.serial_s,
        }
        binding = max(parts, key=lambda k: float(parts[k]))
        found.append(
            {
                "name": op.kernel.name,
                "kind": op.kernel.lead.kind,
                "fused": str(len(op.kernel.lines) - 1),
                "runs": f"{n:,}" if isinstance(n, int) else fmt(n),
                "time": fmt(seconds, "s"),
                "share": f"{seconds / whole:.1%}" if whole else "-",
                "width": f"{100 * seconds / whole:.1f}" if whole else "0",
                "flops": fmt(flops * float(n)).replace(" ", "") if flops else "-",
                "bytes": fmt(moved * float(n), "B"),
                "intensity": fmt(flops / moved) if flops and moved else "-",
                "energy": fmt(joules[id(op)].total_J, "J") if id(op) in joules else "-",
                "binding": short(binding),
                "kindclass": f"b-{binding}",
                "level": time.evidence[0].kind.value,
            }
        )
    return found
