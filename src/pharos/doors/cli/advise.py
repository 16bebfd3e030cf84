"""`pharos advise`: what rules find wrong with a model on a machine."""

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
from pharos.quantity.errors import unknown


@app.command()
def advise(
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
    labels: Annotated[
        str | None, typer.Option("--labels", help="Labelled samples to train on, such as 50k.")
    ] = None,
    data_range: Annotated[
        str | None, typer.Option("--data-range", help="Positions over which the data depend on each other.")
    ] = None,
    flops: Annotated[
        str | None, typer.Option("--flops", help="The FLOPs that somebody quotes, such as '4.1 GFLOP'.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="The memory that somebody budgets, such as '16 GB'.")
    ] = None,
    trained_on: Annotated[
        str | None, typer.Option("--trained-on", help="Memory that it was trained on, such as '640 GB'.")
    ] = None,
    devices: Annotated[str, typer.Option("--devices", help="Devices that share every layer.")] = "1",
    train: Annotated[
        bool, typer.Option("--train", help="It is trained, in batches as large as --batch.")
    ] = False,
    attention: Annotated[
        str | None, typer.Option("--attention", help="tiled or materialised, where the software is known.")
    ] = None,
    convolution: Annotated[
        str | None, typer.Option("--convolution", help="direct, im2col or winograd, likewise.")
    ] = None,
    power_cap: Annotated[
        str | None, typer.Option("--power-cap", help="Watts the machine is held to, such as 400W.")
    ] = None,
    json: Json = False,
) -> None:
    """Find fallacies and pitfalls, worst first: evidence, cost, remedy and its predicted gain."""
    from pharos.convert.load import load
    from pharos.decide.advice import Stated, case
    from pharos.decide.advice import advise as findings
    from pharos.machines.machine import find_machine
    from pharos.ops.attention import ALGORITHMS

    work = asked(batch, context, precision, prefill, decode)
    if attention is not None and attention not in ALGORITHMS:
        raise unknown("attention algorithm", attention, ALGORITHMS, where="--attention")
    stated = Stated(
        labels=number(labels, "labels"), data_range=number(data_range, "data-range"),
        flops=positive(flops, "FLOP", "--flops"), memory_bytes=positive(memory, "B", "--memory"),
        trained_on_bytes=positive(trained_on, "B", "--trained-on"), devices=number(devices, "devices") or 1,
        trains=train, attention=attention, convolution=convolution,
    )  # fmt: skip
    chosen, machine = load(model, sizes(dim), shapes(input)), find_machine(on, threads)
    cap = positive(power_cap, "W", "--power-cap")
    if cap is not None:
        machine = machine.but({"power.cap_W": cap}, "the command line")
    about = case(chosen, machine, work, stated, runtime)
    found = findings(about)
    if json:
        from pharos.report.advice import advice_row

        print_json(advice_row(about, found))
        return
    from pharos.report.advice import print_advice

    print_advice(console(), about, found)
