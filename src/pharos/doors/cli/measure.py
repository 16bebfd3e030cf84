"""`pharos measure`: a model timed on this machine, beside what was predicted."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Dims,
    Inputs,
    Json,
    Precision,
    Threads,
    app,
    asked,
    console,
    print_json,
    shapes,
    sizes,
)

if TYPE_CHECKING:
    from pharos.graph.graph import Graph
    from pharos.graph.workload import Workload
    from pharos.predict.estimate import Estimate


@app.command()
def measure(
    model: Annotated[str, typer.Argument(help="A model's name or file.")],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    runtime: Annotated[
        str, typer.Option("--runtime", help="eager (default), compiled or onnxruntime.")
    ] = "eager",
    threads: Threads = None,
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
    estimate = _estimate(graph, work, chosen.name, on, runtime, threads)
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


def _estimate(
    graph: "Graph", work: "Workload", name: str, on: str | None, runtime: str, threads: int | None
) -> "Estimate | None":
    """What is predicted of the run: for a machine that is named, else for this one if it was calibrated."""
    from pharos.machines.calibration import place
    from pharos.machines.machine import HERE, find_machine
    from pharos.predict.estimate import predict
    from pharos.quantity.errors import PharosError

    if on is None and not place().is_file():
        return None
    try:
        return predict(graph, find_machine(on or HERE, threads), work, model=name, runtime=runtime)
    except PharosError:
        if on is not None:
            raise
        return None
