"""`pharos predict`: time, memory, energy and the binding resource of a model on a machine."""

from typing import TYPE_CHECKING, Annotated

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
    print_json,
    shapes,
    sizes,
)

if TYPE_CHECKING:
    from pharos.predict.duty import Duty


@app.command()
def predict(
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
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Kernels to list, slowest first.")] = 12,
    power_cap: Annotated[
        str | None, typer.Option("--power-cap", help="Watts the machine is held to, such as 400W.")
    ] = None,
    idle: Annotated[
        str | None, typer.Option("--idle", help="Watts drawn between runs, where it is known better.")
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", help="A duty cycle: a run every so often, such as 30s.")
    ] = None,
    per_day: Annotated[str | None, typer.Option("--per-day", help="Or so many runs a day.")] = None,
    duty: Annotated[str | None, typer.Option("--duty", help="Or a part of the time, such as 10%.")] = None,
    battery: Annotated[
        str | None, typer.Option("--battery", help="What it lives on, such as 10Wh, with a duty cycle.")
    ] = None,
    wake: Annotated[
        str | None, typer.Option("--wake", help="Joules of waking up for a run, with a duty cycle.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="A training step: backward pass, update, what they keep.")
    ] = False,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="sgd, momentum, adam, adamw or adafactor, with --train.")
    ] = "adamw",
    checkpointing: Annotated[
        str,
        typer.Option(
            "--checkpointing", "--checkpoint", help="none, layers, sqrt, or layers a group, with --train."
        ),
    ] = "none",
    loss: Annotated[
        str, typer.Option("--loss", help="sum or cross_entropy of what the model returns, with --train.")
    ] = "sum",
    json: Json = False,
) -> None:
    """Predict latency, throughput, energy and memory with bands, and name what binds."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict as estimate

    work = asked(batch, context, precision, prefill, decode)
    chosen, machine = load(model, sizes(dim), shapes(input)), find_machine(on, threads)
    figures = {
        "power.cap_W": positive(power_cap, "W", "--power-cap"),
        "power.idle_W": positive(idle, "W", "--idle"),
    }
    given = {key: value for key, value in figures.items() if value is not None}
    if given:
        machine = machine.but(given, "the command line")
    cycle = _cycle(every, per_day, duty, battery, wake)
    graph = chosen.graph(work)
    step = None
    if train:
        from pharos.convert.training import train as train_step
        from pharos.predict.train import Step

        way = int(checkpointing) if checkpointing.isdigit() else checkpointing
        step = Step(training=train_step(chosen, work, optimizer, way, loss, graph=graph), optimizer=optimizer,
                    checkpointing=way)  # fmt: skip
    found = estimate(graph, machine, work, model=chosen.name, runtime=runtime, step=step)
    daily = None
    if cycle is not None:
        from pharos.predict.duty import day

        daily = day(found.latency, found.energy, machine, cycle)
    if json:
        from pharos.report.rows import predict_row

        row = predict_row(found, daily)
        if step is not None:
            from pharos.report.readings import training_row

            row["training"] = training_row(step.training, optimizer, checkpointing)
        print_json(row)
        return
    from pharos.report.estimates import print_predict

    print_predict(console(), found, rows, daily)


def positive(text: str | None, unit: str, where: str) -> float | None:
    """A positive figure with its unit, None where it is not given."""
    from pharos.quantity.errors import InputError, PharosError
    from pharos.quantity.units import parse

    if text is None:
        return None
    try:
        value = float(parse(text, unit))
    except PharosError as error:
        raise error.at(where) from None
    if not 0 < value < 1e24:
        raise InputError(f"{text!r} must be positive", where=where)
    return value


def _cycle(
    every: str | None, per_day: str | None, duty: str | None, battery: str | None, wake: str | None
) -> "Duty | None":
    from pharos.predict.duty import Duty
    from pharos.quantity.errors import InputError

    if every is None and per_day is None and duty is None:
        for text, where in ((battery, "--battery"), (wake, "--wake")):
            if text is not None:
                raise InputError("needs a duty cycle", where=where, hint="give --every, --per-day or --duty")
        return None
    return Duty(
        every_s=positive(every, "s", "--every"), per_day=positive(per_day, "1", "--per-day"),
        busy=positive(duty, "1", "--duty"), battery_J=positive(battery, "J", "--battery"),
        wake_J=positive(wake, "J", "--wake") or 0.0,
    )  # fmt: skip
