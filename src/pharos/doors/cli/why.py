"""`pharos why`: what binds, what would help, and what would meet a limit."""

from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Inputs,
    Json,
    Precision,
    Prefill,
    Runtime,
    Threads,
    app,
    asked,
    console,
    number,
    print_json,
    shapes,
    sizes,
)
from pharos.doors.cli.predict import positive


@app.command()
def why(
    model: Annotated[str, typer.Argument(help="A model's name or file.")],
    on: Annotated[
        str, typer.Option("--on", "-m", help="A machine's name or file; here: this one, calibrated.")
    ],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    runtime: Runtime = None,
    threads: Threads = None,
    dim: Dims = None,
    input: Inputs = None,
    devices: Annotated[str, typer.Option("--devices", help="Devices that share every layer.")] = "1",
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            "-l",
            help="latency=10ms, throughput='30 /s', memory, energy or power: what would meet it; repeatable.",
        ),
    ] = None,
    power_cap: Annotated[
        str | None, typer.Option("--power-cap", help="Watts the machine is held to, such as 400W.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what binds, what twice of each resource gives, and what machine or network meets a limit."""
    from pharos.convert.load import load
    from pharos.decide.inverse import read_limits
    from pharos.decide.why import why as reasons
    from pharos.machines.machine import find_machine

    work = asked(batch, context, precision, prefill, decode)
    limits = read_limits(limit or [])
    chosen, machine = load(model, sizes(dim), shapes(input)), find_machine(on, threads)
    cap = positive(power_cap, "W", "--power-cap")
    if cap is not None:
        machine = machine.but({"power.cap_W": cap}, "the command line")
    found = reasons(
        chosen, machine, work, runtime=runtime, devices=number(devices, "devices") or 1, limits=limits
    )
    if json:
        from pharos.report.why import why_row

        print_json(why_row(found))
        return
    from pharos.report.why import print_why

    print_why(console(), found)
