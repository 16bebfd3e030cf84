"""`pharos measure`: a model timed on this machine, beside what was predicted."""

import sys
from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Dims,
    Inputs,
    Json,
    Precision,
    app,
    asked,
    console,
    print_json,
    shapes,
    sizes,
)


@app.command()
def measure(
    model: Annotated[str, typer.Argument(help="A model's name or file.")],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    runtime: Annotated[
        str, typer.Option("--runtime", help="eager (default), compiled or onnxruntime.")
    ] = "eager",
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", min=1, help="Cores to use; all if left out.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Time to spend on the whole.")] = 4.0,
    unique: Annotated[
        bool, typer.Option("--unique", help="Time each distinct operator once and add them up.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", "-m", help="Machine to predict for; this one if it was calibrated.")
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Operators to list, slowest first.")] = 12,
    store: Annotated[bool, typer.Option(help="Keep the measurement.")] = True,
    json: Json = False,
) -> None:
    """Time a model on this machine with random weights, whole and by operator."""
    from pharos.convert.load import load
    from pharos.graph.count import count
    from pharos.measure import store as kept
    from pharos.measure.measure import measure as run
    from pharos.measure.measure import operator_rows, row
    from pharos.report.measurements import measurement_row, print_measurement

    work = asked(batch, context, precision, False, False)
    chosen = load(model, sizes(dim), shapes(input))
    graph = chosen.graph(work)
    estimate = None
    if on is not None:
        from pharos.machines.machine import find_machine
        from pharos.predict.estimate import predict

        way = "eager" if runtime == "eager" else None
        estimate = predict(graph, find_machine(on), work, model=chosen.name, runtime=way)
    found = run(
        graph, work, model=chosen.name, runtime=runtime, threads=threads, seconds=seconds, unique=unique,
        estimate=estimate,
    )  # fmt: skip
    if store:
        kept.keep(row(found), operator_rows(found, count(graph)))
    if json:
        print_json(measurement_row(found))
        return
    print_measurement(console(), found, rows)
    if not found.noise.is_quiet:
        print(f"warning: {found.noise}", file=sys.stderr)
