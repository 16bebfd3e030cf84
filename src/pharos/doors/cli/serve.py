"""`pharos serve`: users that a decoder serves on devices, how fast, at what price, and what would help."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Context, Json, app, console, number, print_json
from pharos.quantity.errors import InputError, PharosError

if TYPE_CHECKING:
    from pharos.plan.outcome import Goal, Result
    from pharos.plan.serving import Serving
    from pharos.plan.traces import Trace


@app.command()
def serve(
    model: Annotated[str, typer.Argument(help="A decoder's name or file.")],
    on: Annotated[str, typer.Option("--on", "-m", help="A machine's name or file.")],
    context: Context = None,
    users: Annotated[str, typer.Option("--users", "-u", help="Sequences in flight.")] = "1",
    devices: Annotated[int, typer.Option("--devices", "-d", help="Devices that share every layer.")] = 1,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Tokens in.")] = None,
    output: Annotated[str | None, typer.Option("--output", help="Tokens out.")] = None,
    precision: Annotated[
        str, typer.Option("--precision", "-p", help="bf16, fp8, int4, weights=int8,kv_cache=fp8, ...")
    ] = "bf16",
    rate: Annotated[str | None, typer.Option("--rate", help="Requests a second, to simulate.")] = None,
    trace: Annotated[
        str | None, typer.Option("--trace", help="CSV or JSON lines of arrival, prompt, output, to simulate.")
    ] = None,
    slo: Annotated[
        str | None, typer.Option("--slo", help="ttft=1s,tpot=50ms,p=90: what share p of requests must meet.")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", min=1, help="Requests to draw.")] = 2000,
    spread: Annotated[
        str, typer.Option("--spread", help="Lengths drawn: lognormal, fixed, exponential, uniform.")
    ] = "lognormal",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    block: Annotated[int, typer.Option("--block", help="Tokens of a page of the cache; 0: contiguous.")] = 16,
    utilization: Annotated[float, typer.Option("--utilization", help="Share of memory to use.")] = 0.9,
    chunk: Annotated[int, typer.Option("--chunk", help="Tokens of a step at most.")] = 8192,
    sequences: Annotated[int, typer.Option("--sequences", help="Sequences in flight at most.")] = 256,
    whole_prompts: Annotated[
        bool, typer.Option("--whole-prompts", help="Prompts apart from decoding.")
    ] = False,
    preemption: Annotated[str, typer.Option("--preemption", help="recompute or swap.")] = "recompute",
    shared_prefix: Annotated[
        int, typer.Option("--shared-prefix", min=0, help="Tokens that prompts share.")
    ] = 0,
    stack: Annotated[
        str, typer.Option("--stack", help="Whose host times are added: none, vllm, ...")
    ] = "none",
    rent: Annotated[float | None, typer.Option("--rent", min=0, help="USD an hour a device.")] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Remedies to list.")] = 12,
    json: Json = False,
) -> None:
    """Tell what fits beside the weights, times and throughput, what remedies buy, and simulate requests."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.plan.deployment import Deployment, find_stack
    from pharos.plan.remedies import remedies
    from pharos.plan.serving import serving
    from pharos.quantity.dtypes import Precision
    from pharos.report.serving import print_serving, print_simulation, serve_row

    goal = _goal(slo)
    given = _trace(trace)
    chosen = find_stack(stack)
    made = Deployment(
        model=load(model),
        machine=find_machine(on),
        precision=Precision.of(precision),
        devices=devices,
        utilization=utilization,
        block=block,
        chunk=chunk,
        chunked=chosen.mixes and not whole_prompts,
        sequences=sequences,
        shared_prefix=shared_prefix,
        stack=chosen,
    )
    found = serving(
        made,
        context=number(context, "context"),
        users=number(users, "users") or 1,
        prompt=number(prompt, "prompt"),
        output=number(output, "output"),
        rent_usd_per_hour=rent,
    )
    run, at, best = None, None, None
    searches = goal is not None and rate is None
    if rate is not None or given is not None or goal is not None:
        run, at, best = _simulated(
            found, given, _rate(rate), goal, (requests, spread, seed), preemption, quiet=json
        )
    helps = remedies(found) if rows or json else []
    if json:
        print_json(serve_row(found, helps, run, goal, at, best))
    else:
        print_serving(console(), found, helps, rows)
        if run is not None:
            print_simulation(console(), run, at, goal, best, searches)
    if goal is not None and run is not None and not goal.holds(run):
        raise typer.Exit(1)


def _goal(slo: str | None) -> "Goal | None":
    if slo is None:
        return None
    from pharos.plan.outcome import Goal

    return Goal.of(slo)


def _trace(path: str | None) -> "Trace | None":
    if path is None:
        return None
    from pharos.plan.traces import read_trace

    return read_trace(path)


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    from pharos.quantity.units import parse

    try:
        found = parse(text, "1/s")
    except PharosError as error:
        raise error.at("--rate") from None
    if not 0 < found < 1e9:
        raise InputError(f"must be above 0, not {text}", where="--rate")
    return found


def _simulated(
    found: "Serving",
    given: "Trace | None",
    rate: float | None,
    goal: "Goal | None",
    drawn: tuple[int, str, int],
    preemption: str,
    *,
    quiet: bool,
) -> "tuple[Result, float, float | None]":
    """What becomes of the trace, its rate, and the highest rate that meets the goal if none was asked for."""
    from pharos.plan.batching import simulate
    from pharos.plan.capacity import pool_of
    from pharos.plan.outcome import Result, highest_rate
    from pharos.plan.remedies import host_bytes_per_s
    from pharos.plan.traces import poisson

    requests, spread, seed = drawn
    made = found.deployment
    trace = given
    if trace is None:
        trace = poisson(
            rate or 1.0,
            requests,
            found.prompt,
            found.output,
            seed=seed,
            spread=spread,
            longest=made.max_context or found.context * 4,
        )
    longest = int((trace.prompt + trace.output).max())
    if made.max_context is not None and longest > made.max_context:
        raise InputError(
            f"a request of {longest} tokens is beyond the model's {made.max_context}", where="--trace"
        )
    pool = pool_of(made, found.room, longest)
    if pool.blocks < 1:
        raise InputError(
            "nothing can be simulated: there is no room for caches", hint="see what fits without --rate"
        )
    steps = found.steps_to(longest)
    with _progress(len(trace), quiet) as told:

        def serve_at(per_s: float) -> Result:
            return simulate(
                steps,
                pool,
                trace.at(per_s),
                preemption=preemption,
                swap_bytes_per_s=host_bytes_per_s(made),
                progress=told,
            )

        if goal is None or rate is not None or given is not None:
            at = rate or trace.rate
            run = simulate(
                steps,
                pool,
                trace if rate is None or given is None else trace.at(rate),
                preemption=preemption,
                swap_bytes_per_s=host_bytes_per_s(made),
                progress=told,
            )
            if goal is None or rate is not None:
                return run, at, None
            best = highest_rate(serve_at, goal, start=at)
            return run, at, best[0] if best else None
        start = (found.tokens_per_s_at(min(max(found.max_users, 1), made.sequences)) or 1.0) / found.output
        best = highest_rate(serve_at, goal, start=start / 2)
        if best is None:
            return serve_at(start / 2), start / 2, None
        return best[1], best[0], best[0]


class _progress:  # noqa: N801 (used as a function)
    """A bar on stderr while requests are served, where someone watches."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.bar = None
        if not quiet and sys.stderr.isatty():
            from rich.progress import Progress

            self.bar = Progress(transient=True, console=console(stderr=True))
            self.task = self.bar.add_task("simulating", total=total)

    def __enter__(self) -> "_progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def __call__(self, answered: int) -> None:
        """So many requests are answered."""
        if self.bar:
            self.bar.update(self.task, completed=answered)
