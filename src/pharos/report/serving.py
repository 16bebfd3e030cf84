"""Serving: what a deployment serves, on a terminal and as JSON."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.plan.outcome import LATENCIES, PERCENTILES, Goal, Result
from pharos.plan.remedies import Remedy
from pharos.plan.serving import Point, Serving
from pharos.quantity.evidence import Figure, merge
from pharos.quantity.units import fmt
from pharos.report.estimates import band
from pharos.report.rows import evidence_row, plain
from pharos.report.text import grid, pair, share

NAMES = {"ttft": "first token", "tpot": "each token", "itl": "gap", "e2e": "whole answer", "queue": "queue"}


def serve_row(
    found: Serving,
    remedies: list[Remedy],
    run: Result | None = None,
    goal: Goal | None = None,
    rate: float | None = None,
    best: float | None = None,
) -> dict[str, Any]:
    """What `pharos serve --json` prints."""
    made, room = found.deployment, found.room
    row: dict[str, Any] = {
        "schema": "pharos/serve@1",
        "model": made.model.name,
        "machine": made.machine.id,
        "devices": made.devices,
        "precision": str(made.precision),
        "stack": made.stack.name,
        "context": found.context,
        "prompt": found.prompt,
        "output": found.output,
        "users": found.users,
        "fits": found.fits,
        "max_users": found.max_users,
        "kv_bytes_per_token": made.whole_kept.per_token,
        "kv_growth_bytes_per_token": made.whole_kept.growth(found.context),
        "kv_fixed_bytes": made.whole_kept.fixed,
        "kv_bytes_per_request": found.kv_bytes_per_request,
        "kv_bytes_all_users": found.kv_bytes_per_request * found.users,
        "kv_formula": made.whole_kept.formula,
        "kv_per_device_bytes_per_request": found.request_bytes,
        "weights_bytes": room.whole_weights,
        "free_bytes": plain(max(room.pool, 0.0)),
        "per_device_bytes": {
            "memory": plain(room.memory),
            "usable": plain(room.usable),
            "weights": room.weights,
            "workspace": room.workspace,
            "runtime": room.runtime,
            "pool": plain(room.pool),
            "after_weights": plain(room.after_weights),
        },
        "paging": _paging(found),
        "curve": [{"context": c, "max_users": n} for c, n in found.curve],
        "ttft_s": _figure(found.ttft),
        "tpot_s": _figure(found.tpot),
        "tokens_per_s": _figure(found.tokens_per_s),
        "tokens_per_s_per_device": plain(_over(found.tokens_per_s.value, made.devices)),
        "prefill": _point(found.prefill),
        "decode": _point(found.decode),
        "compute_bound_batch": found.turn.batch,
        "compute_bound_formula": found.turn.formula,
        "energy_J_per_million_tokens": _figure(found.energy_per_million),
        "usd_per_million_tokens": _figure(found.usd_per_million),
        "remedies": [_remedy(r) for r in remedies],
        "evidence": [evidence_row(e) for e in merge((*found.tpot.evidence, *room.evidence))],
    }
    if run is not None:
        row["simulation"] = simulation_row(run, rate)
        if goal is not None:
            row["slo"] = {
                "limits_s": goal.limits,
                "percent": goal.percent,
                "attained": goal.attained(run),
                "holds": goal.holds(run),
                "highest_rate_per_s": plain(best),
            }
    return row


def simulation_row(run: Result, rate: float | None) -> dict[str, Any]:
    """Latencies and counts of a simulated trace."""
    return {
        "requests": len(run.arrival),
        "rate_per_s": plain(rate),
        "duration_s": run.duration_s,
        "tokens_per_s": run.tokens_per_s,
        "busy_share": run.busy_s / run.duration_s if run.duration_s else 0.0,
        "steps": run.steps,
        "preemptions": run.preemptions,
        "refused": run.refused,
        "peak_users": run.peak_sequences,
        "latency_s": {
            f"{name}_s": {"mean": _number(run.mean(name))}
            | {f"p{p}": _number(run.percentile(name, p)) for p in PERCENTILES}
            for name in LATENCIES
        },
    }


def _number(x: float) -> float | None:
    return None if x != x else x


def _over(x: Any, n: int) -> Any:
    return None if x is None else x / n


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "value": plain(figure.value),
        "low": plain(figure.low),
        "high": plain(figure.high),
        "level": figure.level,
    }


def _point(point: Point) -> dict[str, Any]:
    return {
        "latency_s": _figure(point.latency),
        "bandwidth_ceiling_s": point.bandwidth_s,
        "compute_ceiling_s": point.compute_s,
        "binding": point.binding,
        "flops_per_device": point.flops,
        "bytes_per_device": point.moved_bytes,
        "energy_J": _figure(point.energy),
    }


def _remedy(one: Remedy) -> dict[str, Any]:
    return {
        "name": one.name,
        "gain": one.gain,
        "gain_in": one.gain_in,
        "in_use": one.in_use,
        "needs": one.needs,
        "max_users": one.max_users,
        "ttft_s": one.ttft_s,
        "tpot_s": one.tpot_s,
        "tokens_per_s_per_device": one.tokens_per_s,
    }


def _paging(found: Serving) -> dict[str, Any]:
    use = found.page_use
    return {
        "block": found.deployment.block,
        "waste": use.paged,
        "waste_reserving_longest": use.longest,
        "waste_powers_of_two": use.doubled,
        "table_bytes_per_request": use.table_bytes,
    }


def print_serving(console: Console, found: Serving, remedies: list[Remedy], rows: int) -> None:
    """`pharos serve`: whether they fit, what is left for them, times, ceilings, remedies."""
    made, room = found.deployment, found.room
    on = made.machine.id + (f" x {made.devices}" if made.devices > 1 else "")
    users = f"{found.users} user{'s' if found.users > 1 else ''}"
    console.print(
        Text(
            f"{made.model.name} on {on}: {users} of {found.context} tokens "
            f"({found.prompt} in, {found.output} out), {made.precision}",
            style="bold",
        )
    )
    verdict = "yes" if found.fits else "NO"
    most = f"{found.max_users:,} such users at most" if found.max_users else "not one such user"
    pair(console, "fits", f"{verdict}: {most}{_why_not(found)}")
    free = f"{fmt(max(room.after_weights, 0.0), 'B')} after weights is not room for users: "
    kept, each = room.memory - room.usable, " a device" if made.devices > 1 else ""
    pair(
        console,
        "memory",
        (free if room.after_weights > 0 else "")
        + f"{fmt(room.memory, 'B')}{each} - {fmt(room.weights, 'B')} weights - "
        f"{fmt(room.workspace, 'B')} workspace - {fmt(room.runtime, 'B')} runtime - {fmt(kept, 'B')} unused "
        f"by the server = {fmt(room.pool, 'B')} for caches",
    )
    _cache(console, found)
    pair(console, "first token", f"{band(found.ttft)}  [{found.ttft.level}], one prompt on an idle device")
    pair(console, "each token", f"{band(found.tpot)}  [{found.tpot.level}], {users} decoding")
    rate = found.tokens_per_s
    if rate.value is not None:
        each = f", {fmt(rate.value / made.devices)} a device" if made.devices > 1 else ""
        said = f"{fmt(rate.value)} ({fmt(rate.low)} to {fmt(rate.high)})"
        pair(console, "throughput", f"{said} output tokens/s{each}, prompts taken in between")
    for name, point in (("prefill", found.prefill), ("decode", found.decode)):
        pair(console, name, _ceilings(point))
    turn = found.turn
    at = "never at this context: " if turn.batch is None else f"from {turn.batch:,} sequences on: "
    pair(
        console, "turning", f"compute-bound {'' if turn.formula.startswith('unknown') else at}{turn.formula}"
    )
    energy, price = found.energy_per_million, found.usd_per_million
    pair(console, "energy", f"{band(energy)} a million output tokens  [{energy.level}]")
    rent = (
        f" at {found.rent.value:.2f} USD an hour a device"
        if found.rent.value is not None
        else ", give --rent"
    )
    said = (
        band(price) if price.value is None else f"{price.value:.3g} USD ({price.low:.3g} to {price.high:.3g})"
    )
    pair(console, "price", f"{said} a million output tokens{rent}  [{price.level}]")
    for i, item in enumerate(merge((*found.tpot.evidence, *room.evidence))[:6]):
        pair(console, "known by" if i == 0 else "", str(item))
    console.print()
    grid(
        console,
        [("context", "right"), ("users that fit", "right"), ("cache of one", "right")],
        [[f"{c:,}", f"{n:,}", fmt(made.whole_kept.bytes_at(c), "B")] for c, n in found.curve],
        flexible=(),
    )
    if remedies and rows:
        console.print()
        _remedies(console, found, remedies, rows)


def _why_not(found: Serving) -> str:
    if found.fits:
        return ""
    room = found.room
    if room.pool <= 0:
        return f"; weights and workspace are {fmt(-room.pool, 'B')} more than there is"
    short = found.users * found.request_bytes - room.pool
    return f"; caches of {found.users} need {fmt(short, 'B')} more than there is"


def _cache(console: Console, found: Serving) -> None:
    kept = found.deployment.whole_kept
    more = (
        f", {fmt(found.kv_bytes_per_request * found.users, 'B')} for {found.users}" if found.users > 1 else ""
    )
    grows = kept.growth(found.context)
    ends = "" if grows == kept.per_token else f", {fmt(grows, 'B')} a further token"
    held = f"{fmt(kept.per_token, 'B')} a token{ends}" if kept.per_token else "the same at any context"
    pair(console, "KV cache", f"{fmt(found.kv_bytes_per_request, 'B', digits=4)} a request{more}; {held}")
    pair(console, "", f"= {kept.formula}, S = {found.context}")
    use = found.page_use
    if found.deployment.block:
        pair(
            console,
            "pages",
            f"of {use.block} tokens leave {share(use.paged, 1.0)} unused; room for the "
            f"longest of 100 would leave {share(use.longest, 1.0)}, powers of two {share(use.doubled, 1.0)}; "
            f"table {fmt(use.table_bytes, 'B')} a request",
        )
    else:
        pair(
            console,
            "pages",
            f"none: room for the longest of 100 is reserved, {share(use.longest, 1.0)} unused",
        )


def _ceilings(point: Point) -> str:
    bounds = ", ".join(
        f"{name} {fmt(value, 's')}"
        for name, value in (("bandwidth", point.bandwidth_s), ("compute", point.compute_s))
    )
    top = point.ceiling_s
    if top is None or point.latency.value is None or point.binding == "unknown":
        return f"ceilings: {bounds}"
    reached = share(top, point.latency.value)
    took = fmt(point.latency.value, "s")
    return f"ceilings: {bounds}; predicted {took}, {reached} of what {point.binding} allows"


def _remedies(console: Console, found: Serving, remedies: list[Remedy], rows: int) -> None:
    wide = console.width >= 120
    cells: list[list[Any]] = []
    for one in remedies[:rows]:
        gain = "from none" if one.gain is None else f"{one.gain:.3g}x {one.gain_in}"
        cells.append(
            [
                one.name + (" (in use)" if one.in_use else ""),
                gain,
                f"{one.max_users:,}",
                fmt(one.ttft_s, "s"),
                fmt(one.tpot_s, "s"),
            ]
            + ([one.needs] if wide else [])
        )
    columns = [
        ("remedy", "left"),
        ("gain", "left"),
        ("users", "right"),
        ("first", "right"),
        ("each", "right"),
    ]
    grid(console, columns + ([("needs", "left")] if wide else []), cells, flexible=(0, 5) if wide else (0,))
    if len(remedies) > rows:
        console.print(f"and {len(remedies) - rows} more; --rows {len(remedies)} shows all", style="dim")
    console.print(
        "each served again with that one change; gain is of the figure named"
        + ("" if wide else "; 120 columns or --json show what it needs"),
        style="dim",
    )


def print_simulation(
    console: Console, run: Result, rate: float | None, goal: Goal | None, best: float | None, searched: bool
) -> None:
    """Percentiles of a simulated trace, and the goal."""
    console.print()
    said = f" at {fmt(rate)} requests/s" if rate is not None else ""
    console.print(Text(f"simulated: {len(run.arrival):,} requests{said}", style="bold"))
    pair(
        console,
        "served",
        f"{int(run.served.sum()):,} in {run.duration_s:,.1f} s, {fmt(run.tokens_per_s)} output "
        f"tokens/s, busy {share(run.busy_s, run.duration_s)}, {run.peak_sequences} users at most, "
        f"{run.preemptions} preemptions"
        + (f", {run.refused} refused: longer than the room for caches" if run.refused else ""),
    )
    if goal is not None:
        verdict = "holds" if goal.holds(run) else "broken"
        pair(console, "slo", f"{verdict}: {goal}; {goal.attained(run):.1%} are")
        if searched:
            pair(console, "highest", f"{fmt(best)} requests/s meet it" if best else "no rate meets it")
    rows = [[NAMES[n], *(fmt(_number(run.percentile(n, p)), "s") for p in PERCENTILES)] for n in LATENCIES]
    grid(console, [("", "left"), *((f"p{p}", "right") for p in PERCENTILES)], rows)
    console.print(
        "gap: between two tokens of a sequence; each token: an answer's mean after its first", style="dim"
    )
