"""Estimates on a terminal: one prediction, several side by side, and a contract's verdict."""

from rich.console import Console
from rich.text import Text

from pharos.decide.verdict import AT_LEAST, BROKEN, HOLDS, LimitVerdict, Verdict
from pharos.predict.duty import Day
from pharos.predict.estimate import Estimate, Operation
from pharos.predict.runtimes import RELIEF, RUNTIMES
from pharos.quantity.sizes import Size, is_int
from pharos.quantity.units import fmt
from pharos.report.energies import band, print_energy
from pharos.report.rows import parts_of_mcu, workload_row
from pharos.report.text import grid, pair, share

STYLES = {HOLDS: "bold green", BROKEN: "bold red"}
SHORT = {
    "memory-bandwidth": "bandwidth",
    "memory-capacity": "capacity",
    "sequential-dependency": "sequence",
}


def title(estimate: Estimate) -> str:
    """What was asked, in one line."""
    work = workload_row(estimate)
    context = f", context {work['context']}" if work["context"] else ""
    return (
        f"{estimate.model} on {estimate.machine.id}: {work['phase']}, batch {work['batch']}{context}, "
        f"{work['precision']}, {work['runtime']}{_of_step(estimate)}"
    )


def _of_step(estimate: Estimate) -> str:
    if estimate.step is None:
        return ""
    again = estimate.step.checkpointing
    return f", training step with {estimate.step.optimizer}" + (
        "" if again == "none" else f", checkpointing {again}"
    )


def print_predict(console: Console, estimate: Estimate, rows: int, daily: Day | None = None) -> None:
    """`pharos predict`: what binds, the figures with their bands, then the slowest kernels."""
    console.print(Text(title(estimate), style="bold"))
    pair(console, "binds", f"{estimate.binding}{_distance(estimate)}")
    _runtime(console, estimate)
    pair(console, "latency", f"{band(estimate.latency)}  [{estimate.latency.level}]")
    if estimate.throughput_per_s is not None:
        what = "tokens" if "tokens" in estimate.count.graph.meta else "samples"
        pair(console, "throughput", f"{fmt(estimate.throughput_per_s)} {what}/s")
    print_energy(console, estimate, daily)
    _memory(console, estimate)
    if estimate.compute_s is not None:
        terms = (
            ("compute", estimate.compute_s),
            ("data", estimate.data_s),
            ("overhead", estimate.overhead_s),
        )
        law = " + ".join(f"{fmt(v, 's')} {k}" for k, v in terms)
        pair(console, "iron law", f"{law} (each alone; compute and data overlap)")
        _roofline(console, estimate)
    for i, item in enumerate(estimate.evidence[:6]):
        pair(console, "known by" if i == 0 else "", str(item))
    if estimate.count.uncounted:
        pair(console, "uncounted", ", ".join(estimate.count.uncounted[:6]))
    if estimate.latency.value is not None:
        console.print()
        _kernels(console, estimate, rows)


def _runtime(console: Console, estimate: Estimate) -> None:
    """What runs it and what its model takes for granted; on a GPU also whether the host keeps up."""
    runtime = RUNTIMES[estimate.runtime]
    pair(console, "runtime", f"{runtime.name}: {runtime.says}")
    for i, told in enumerate(runtime.assumes):
        pair(console, "assumes" if i == 0 else "", told)
    if estimate.relieved_s is None or estimate.latency.value is None:
        return
    idle = share(estimate.idle_s, estimate.latency.value)
    slower = estimate.host_s is not None and estimate.host_s > estimate.device_s
    side = "dispatch decides" if slower else "kernels decide"
    host, device = fmt(estimate.host_s, "s"), fmt(estimate.device_s, "s")
    told = f"dispatches for {host} kernels of {device}: {side}, the GPU idles {idle} of the time"
    pair(console, "host", f"{told}; {RELIEF} would take {fmt(estimate.relieved_s, 's')}")


def _memory(console: Console, estimate: Estimate) -> None:
    memory, capacity = estimate.memory, estimate.machine.capacity_bytes
    if estimate.machine.kind == "mcu":
        for label, part in zip(("flash", "SRAM"), parts_of_mcu(estimate).values(), strict=True):
            room = {None: "of", True: "fits in", False: "does NOT fit in"}[part["fits"]]
            limit = fmt(part["limit"], "B")
            pair(console, label, f"{fmt(part['value'], 'B')} {room} {limit}: {part['holds']}; "
                 "the runtime's own code and tables unknown")  # fmt: skip
        _arena(console, estimate)
        return
    room = "does NOT fit in" if estimate.fits is False else "fits in" if estimate.fits else "of"
    pair(console, "memory", f"{fmt(memory.total, 'B')} {room} {fmt(capacity.value, 'B')}")
    parts = (
        ("weights", memory.weights),
        ("activations", memory.activations_peak),
        ("KV cache", memory.kv_cache),
        ("state", memory.state),
        ("optimizer", memory.optimizer),
        ("gradients", memory.gradients),
        ("workspace", memory.workspace),
        ("rounding to blocks", memory.rounding),
        ("set aside unused", memory.unused),
        ("GPU context (assumed)", memory.runtime),
    )
    pair(console, "", ", ".join(f"{label} {fmt(value, 'B')}" for label, value in parts if _some(value)))
    if (estimate.runtime == "eager" or _some(memory.gradients)) and memory.peak_operator:
        pair(console, "", f"peak at {memory.peak_operator}; {'; '.join(map(str, memory.evidence))}")
    _arena(console, estimate)


def _some(value: Size) -> bool:
    return not (is_int(value) and value == 0)


def _arena(console: Console, estimate: Estimate) -> None:
    if estimate.arena is not None:
        pair(
            console,
            "arena",
            f"{fmt(estimate.arena.size, 'B')} placed, {fmt(estimate.arena.bound, 'B')} live at most",
        )


def _roofline(console: Console, estimate: Estimate) -> None:
    ridge = estimate.ridge_point
    told = []
    for bound, (intensity, side) in estimate.roofline().items():
        if intensity is not None:
            told.append(f"{fmt(intensity)} {bound}" + (f" ({SHORT.get(side, side)} side)" if side else ""))
    ends = f"; ridge point {fmt(ridge)}" if ridge else "; ridge point unknown"
    pair(console, "roofline", f"FLOP/B {', '.join(told)}{ends}")


def _kernels(console: Console, estimate: Estimate, rows: int) -> None:
    known = [op for op in estimate.operations if op.time is not None]
    ordered = sorted(known, key=lambda op: -float(op.total_s or 0))
    joules = {id(op): e for op, e in zip(estimate.operations, estimate.energies, strict=False) if e}
    cells = []
    for op in ordered[:rows]:
        time, n = op.time, op.kernel.times
        assert time is not None
        moved, flops = time.traffic_bytes, op.kernel.work.flops
        cells.append(
            [
                op.kernel.name,
                str(n),
                fmt(op.total_s, "s"),
                share(op.total_s, estimate.latency.value),
                fmt(time.compute_s * n, "s"),
                fmt(time.data_s * n, "s"),
                fmt(joules[id(op)].total_J, "J") if id(op) in joules else "-",
                fmt(flops / moved) if moved and flops else "-",
                _limit(op),
            ]
        )
    columns = [
        ("kernel", "left"),
        ("runs", "right"),
        ("time", "right"),
        ("share", "right"),
        ("compute", "right"),
        ("data", "right"),
        ("energy", "right"),
        ("FLOP/B", "right"),
        ("limit", "left"),
    ]
    if console.width < 100:
        # a narrow table leaves out what the times already tell
        columns, cells = [c for c in columns if c[0] != "share"], [r[:3] + r[4:] for r in cells]
    grid(console, columns, cells)
    if len(ordered) > rows:
        rest = sum(float(op.total_s or 0) for op in ordered[rows:])
        more = f"and {len(ordered) - rows} more kernels, {fmt(rest, 's')}; --rows {len(ordered)} shows all"
        console.print(more, style="dim")
    console.print("FLOP/B: as_run, after fusion", style="dim")


def _limit(op: Operation) -> str:
    time = op.time
    assert time is not None
    parts = {
        "compute": time.compute_s,
        "bandwidth": time.data_s,
        "overhead": time.overhead_s,
        "sequence": time.serial_s,
    }
    return max(parts, key=lambda k: parts[k])


def _distance(estimate: Estimate) -> str:
    """How far the next resource is: by how much the binding one must be relieved."""
    if estimate.fits is False:
        capacity = estimate.machine.capacity_bytes.value
        return f": needs {estimate.memory.total / capacity:.3g}x the memory there is" if capacity else ""
    ranked = sorted(estimate.shares.items(), key=lambda item: -float(item[1]))
    ranked = [item for item in ranked if float(item[1]) > 0]
    if not ranked or estimate.latency.value is None:
        return ""
    first = f" ({share(ranked[0][1], estimate.latency.value)} of the time)"
    if ranked[0][0] == "overhead":
        host = ", a host that cannot keep up" if estimate.relieved_s is not None else ""
        first = f"{first}: launches{host}, and too little work to fill the machine"
    if len(ranked) < 2 or ranked[0][1] > 100 * ranked[1][1]:
        return first
    return f"{first}; {ranked[1][0]} next, once it is {ranked[0][1] / ranked[1][1]:.2g}x faster"


def print_compare(console: Console, estimates: list[Estimate]) -> None:
    """`pharos compare`: one row a model and machine."""
    columns = [
        ("model", "left"),
        ("machine", "left"),
        ("latency", "right"),
        ("80% band", "right"),
        ("per s", "right"),
        ("memory", "right"),
        ("energy", "right"),
        ("binds", "left"),
    ]
    if console.width < 100:
        columns = [c for c in columns if c[0] != "per s"]
    rows = []
    for e in estimates:
        low, high = fmt(e.latency.low, "s"), fmt(e.latency.high, "s")
        if low.split()[-1] == high.split()[-1]:
            low = low.split()[0]
        cells = {
            "model": e.model,
            "machine": e.machine.id,
            "latency": fmt(e.latency.value, "s"),
            "80% band": f"{low}-{high}" if e.latency.value is not None else "-",
            "per s": fmt(e.throughput_per_s),
            "memory": fmt(e.memory.total, "B"),
            "energy": fmt(e.energy.value, "J"),
            "binds": SHORT.get(str(e.binding), str(e.binding)),
        }
        rows.append([cells[header] for header, _ in columns])
    grid(console, columns, rows, flexible=(0, 1))
    levels = {e.machine.id: e.latency for e in estimates}
    for machine, latency in levels.items():
        pair(console, "known by", f"{machine}: {latency.evidence[0]}" if latency.evidence else machine)


def print_verdict(console: Console, verdict: Verdict) -> None:
    """`pharos check`: the verdict, each limit with its margin and evidence, remedies."""
    estimate = verdict.estimate
    style = STYLES.get(verdict.verdict, "bold yellow")
    console.print(Text.assemble((verdict.verdict.upper(), style), f"  {verdict.contract.name}"))
    pair(console, "asks", title(estimate))
    _limits(console, verdict.limits)
    pair(console, "binds", f"{estimate.binding}{_distance(estimate)}")
    for limit in verdict.limits:
        if limit.remedy:
            pair(console, "mend" if limit.verdict == BROKEN else "to know", f"{limit.name}: {limit.remedy}")
    if estimate.count.uncounted:
        pair(console, "uncounted", ", ".join(estimate.count.uncounted[:6]))


def print_counted(console: Console, model: str, limits: tuple[LimitVerdict, ...]) -> None:
    """The verdict of limits that shapes alone decide, on no machine."""
    found = {limit.verdict for limit in limits}
    verdict = next((v for v in (BROKEN, "unknown") if v in found), HOLDS)
    console.print(Text.assemble((verdict.upper(), STYLES.get(verdict, "bold yellow")), f"  {model}"))
    _limits(console, limits)


def _limits(console: Console, limits: tuple[LimitVerdict, ...]) -> None:
    rows = []
    for limit in limits:
        allowed = fmt(limit.limit, limit.unit)
        rows.append(
            [
                limit.name,
                band(limit.figure),
                f">= {allowed}" if limit.name in AT_LEAST else allowed,
                _margin(limit),
                Text(limit.verdict, style=STYLES.get(limit.verdict, "bold yellow")),
            ]
        )
    columns = [
        ("limit", "left"),
        ("value (80% band)", "left"),
        ("allowed", "right"),
        ("margin", "right"),
        ("verdict", "left"),
    ]
    grid(console, columns, rows, flexible=(1,))
    for limit in limits:
        for i, item in enumerate(limit.figure.evidence[:3]):
            pair(console, limit.name if i == 0 else "", str(item))


def _margin(limit: LimitVerdict) -> str:
    return "?" if limit.margin is None else f"{limit.margin:.3g}x"
