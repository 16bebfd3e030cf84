"""Estimates on a terminal: one prediction, several side by side, and a contract's verdict."""

from rich.console import Console
from rich.text import Text

from pharos.decide.verdict import BROKEN, HOLDS, LimitVerdict, Verdict
from pharos.predict.estimate import Estimate, Operation
from pharos.quantity.evidence import Evidence, Figure
from pharos.quantity.units import fmt
from pharos.report.rows import workload_row
from pharos.report.text import _fit, _pair, share, table

STYLES = {HOLDS: "bold green", BROKEN: "bold red"}


def band(figure: Figure) -> str:
    """Value with its 80% band: 123 ms (95 ms to 160 ms)."""
    if figure.value is None:
        return f"unknown, at least {fmt(figure.low, figure.unit)}" if figure.low is not None else "unknown"
    text = fmt(figure.value, figure.unit)
    if figure.low is None or figure.low is figure.value or figure.low == figure.high:
        return text
    return f"{text} ({fmt(figure.low, figure.unit)} to {fmt(figure.high, figure.unit)})"


def title(estimate: Estimate) -> str:
    """What was asked, in one line."""
    work = workload_row(estimate)
    context = f", context {work['context']}" if work["context"] else ""
    return (f"{estimate.model} on {estimate.machine.id}: {work['phase']}, batch {work['batch']}{context}, "
            f"{work['precision']}, {work['runtime']}")  # fmt: skip


def print_predict(console: Console, estimate: Estimate, rows: int) -> None:
    """`pharos predict`: what binds, the figures with their bands, then the slowest kernels."""
    binding = str(estimate.binding)
    console.print(Text(title(estimate), style="bold"))
    console.print(Text.assemble(("  binds       ", "dim"), (binding, "bold"), _distance(estimate)))
    latency = estimate.latency
    _pair(console, "latency", f"{band(latency)}  {_known(latency)}")
    if estimate.throughput_per_s is not None:
        what = "tokens" if "tokens" in estimate.count.graph.meta else "samples"
        _pair(console, "throughput", f"{fmt(estimate.throughput_per_s)} {what}/s")
    _pair(console, "energy", f"{band(estimate.energy)}  {_known(estimate.energy)}")
    memory = estimate.memory
    parts = [f"{label} {fmt(value, 'B')}" for label, value in (
        ("weights", memory.weights), ("activations", memory.activations_peak), ("KV cache", memory.kv_cache),
        ("state", memory.state), ("GPU context (assumed)", memory.runtime)) if value]  # fmt: skip
    capacity = estimate.machine.capacity_bytes
    room = {True: "fits in", False: "does NOT fit in", None: "capacity"}.get(estimate.fits, "of")
    _pair(console, "memory", f"{fmt(memory.total, 'B')} {room} {fmt(capacity.value, 'B')}")
    _pair(console, "", ", ".join(parts))
    if estimate.compute_s is not None:
        law = " + ".join(
            f"{fmt(v, 's')} {k}"
            for k, v in (
                ("compute", estimate.compute_s),
                ("data", estimate.data_s),
                ("overhead", estimate.overhead_s),
            )
        )
        _pair(console, "iron law", f"{law} (each alone; they overlap)")
        ridge = estimate.ridge_point
        side = f"; ridge {fmt(ridge)} FLOP/B" if ridge else ""
        per_op = estimate.count.intensity("per_op")
        _pair(console, "roofline", f"{fmt(per_op)} FLOP/B per_op, {estimate.regime} side{side}")
    for i, item in enumerate(estimate.evidence[:6]):
        _pair(console, "known by" if i == 0 else "", str(item))
    if estimate.count.uncounted:
        _pair(console, "uncounted", ", ".join(estimate.count.uncounted[:6]))
    console.print()
    known = [op for op in estimate.operations if op.time is not None]
    if not known or estimate.latency.value is None:
        return
    ordered = sorted(known, key=lambda op: -float(op.total_s or 0))
    grid = table(
        ("kernel", "left"),
        ("runs", "right"),
        ("time", "right"),
        ("share", "right"),
        ("compute", "right"),
        ("data", "right"),
        ("FLOP/B", "right"),
        ("limited by", "left"),
    )
    width = max(18, console.width - 66)
    for op in ordered[:rows]:
        time, n = op.time, op.kernel.times
        assert time is not None
        moved, flops = time.traffic_bytes, op.kernel.work.flops
        grid.add_row(
            _fit(op.kernel.name, width),
            str(n),
            fmt(op.total_s, "s"),
            share(op.total_s, estimate.latency.value),
            fmt(time.compute_s * n, "s"),
            fmt(time.data_s * n, "s"),
            fmt(flops / moved) if moved and flops else "-",
            _limit(op),
        )
    console.print(grid)
    if len(ordered) > rows:
        rest = sum(float(op.total_s or 0) for op in ordered[rows:])
        console.print(
            f"and {len(ordered) - rows} more kernels, {fmt(rest, 's')}; --rows {len(ordered)} shows all",
            style="dim",
        )
    console.print("FLOP/B: as_run, after fusion", style="dim")


def _limit(op: Operation) -> str:
    time = op.time
    assert time is not None
    parts = {"compute": time.compute_s, "bandwidth": time.data_s, "overhead": time.overhead_s,
             "sequence": time.serial_s}  # fmt: skip
    return max(parts, key=lambda k: parts[k])


def _distance(estimate: Estimate) -> str:
    """How far the next resource is: by how much the binding one must be relieved."""
    if estimate.fits is False:
        capacity = estimate.machine.capacity_bytes.value
        return f": needs {estimate.memory.total / capacity:.3g}x the memory there is" if capacity else ""
    ranked = sorted(estimate.shares.items(), key=lambda item: -float(item[1]))
    ranked = [item for item in ranked if float(item[1]) > 0]
    if len(ranked) < 2 or estimate.latency.value is None:
        return ""
    first = share(ranked[0][1], estimate.latency.value)
    return (
        f" ({first} of the time); {ranked[1][0]} next, once it is {ranked[0][1] / ranked[1][1]:.2g}x faster"
    )


def _known(figure: Figure) -> str:
    return f"[{figure.level}]"


def print_compare(console: Console, estimates: list[Estimate]) -> None:
    """`pharos compare`: one row a model and machine."""
    grid = table(("model", "left"), ("machine", "left"), ("latency (80% band)", "right"), ("per s", "right"),
                 ("memory", "right"), ("energy", "right"), ("binds", "left"))  # fmt: skip
    room = max(12, (console.width - 58) // 2)
    for e in estimates:
        low_high = (
            "-"
            if e.latency.value is None
            else f"{fmt(e.latency.value, 's')} ({fmt(e.latency.low, 's')}-{fmt(e.latency.high, 's')})"
        )
        grid.add_row(
            _fit(e.model, room), _fit(e.machine.id, room), low_high, fmt(e.throughput_per_s),
            fmt(e.memory.total, "B"), fmt(e.energy.value, "J"), _short(str(e.binding)),
        )  # fmt: skip
    console.print(grid)
    for item in dict.fromkeys(i for e in estimates for i in e.latency.evidence):
        console.print(f"known by {item}", style="dim")


def _short(binding: str) -> str:
    return {
        "memory-bandwidth": "bandwidth",
        "memory-capacity": "capacity",
        "sequential-dependency": "sequence",
    }.get(binding, binding)


def print_verdict(console: Console, verdict: Verdict) -> None:
    """`pharos check`: the verdict, each limit with its margin and evidence, remedies."""
    estimate = verdict.estimate
    word = verdict.verdict.upper()
    console.print(
        Text.assemble((word, STYLES.get(verdict.verdict, "bold yellow")), f"  {verdict.contract.name}"),
    )
    console.print(f"  {title(estimate)}", soft_wrap=False)
    grid = table(("limit", "left"), ("value (80% band)", "left"), ("allowed", "right"), ("margin", "right"),
                 ("verdict", "left"))  # fmt: skip
    for limit in verdict.limits:
        allowed = fmt(limit.limit, limit.unit)
        grid.add_row(
            limit.name, band(limit.figure), f">= {allowed}" if limit.name == "throughput" else allowed,
            _margin(limit), Text(limit.verdict, style=STYLES.get(limit.verdict, "bold yellow")),
        )  # fmt: skip
    console.print(grid)
    for limit in verdict.limits:
        _evidence(console, limit.name, limit.figure.evidence)
    _pair(console, "binds", f"{estimate.binding}{_distance(estimate)}")
    for limit in verdict.limits:
        if limit.remedy:
            label = "mend" if limit.verdict == BROKEN else "to know"
            _pair(console, label, f"{limit.name}: {limit.remedy}")
    if estimate.count.uncounted:
        _pair(console, "uncounted", ", ".join(estimate.count.uncounted[:6]))


def _evidence(console: Console, name: str, evidence: tuple[Evidence, ...]) -> None:
    for i, item in enumerate(evidence[:3]):
        _pair(console, f"{name}" if i == 0 else "", str(item))


def _margin(limit: LimitVerdict) -> str:
    return "?" if limit.margin is None else f"{limit.margin:.3g}x"
