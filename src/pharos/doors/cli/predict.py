"""`pharos predict`: time, memory, energy and the binding resource of a model on a machine."""

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
    print_json,
    shapes,
    sizes,
)


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
    json: Json = False,
) -> None:
    """Predict latency, throughput, energy and memory with bands, and name what binds."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict as estimate

    work = asked(batch, context, precision, prefill, decode)
    chosen, machine = load(model, sizes(dim), shapes(input)), find_machine(on, threads)
    found = estimate(chosen.graph(work), machine, work, model=chosen.name, runtime=runtime)
    if json:
        from pharos.report.rows import predict_row

        print_json(predict_row(found))
        return
    from pharos.report.estimates import print_predict

    print_predict(console(), found, rows)
