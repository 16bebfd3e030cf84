"""`pharos compare`: several models on several machines side by side."""

from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Json,
    Precision,
    Prefill,
    Runtime,
    app,
    asked,
    console,
    print_json,
)


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(help="Models, by name or file.")],
    on: Annotated[str, typer.Option("--on", "-m", help="Machines, separated by commas.")],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    runtime: Runtime = None,
    json: Json = False,
) -> None:
    """Predict every model on every machine, in one table."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict as estimate
    from pharos.quantity.errors import InputError

    work = asked(batch, context, precision, prefill, decode)
    machines = [find_machine(name.strip()) for name in on.split(",") if name.strip()]
    if not machines:
        raise InputError("names no machine", where="--on")
    chosen = [load(model) for model in models]
    found = [
        estimate(model.graph(work), machine, work, model=model.name, runtime=runtime)
        for model in chosen
        for machine in machines
    ]
    if json:
        from pharos.report.rows import predict_row

        print_json([predict_row(e) for e in found])
        return
    from pharos.report.estimates import print_compare

    print_compare(console(), found)
