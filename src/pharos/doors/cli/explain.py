"""`pharos explain`: where a figure comes from."""

from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Json,
    Precision,
    Prefill,
    Runtime,
    app,
    asked,
    console,
    print_json,
    sizes,
)
from pharos.quantity.errors import InputError


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="A model's name or file.")],
    operator: Annotated[
        str | None, typer.Argument(help="One of its operators, as show lists them; else the totals.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", "-m", help="A machine: also how the operator's seconds come about.")
    ] = None,
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    runtime: Runtime = None,
    dim: Dims = None,
    json: Json = False,
) -> None:
    """Say where a figure comes from: the rule as it stands in the source, its inputs, the convention."""
    from pharos.convert.load import load
    from pharos.graph.count import count
    from pharos.machines.machine import find_machine
    from pharos.predict.estimate import predict
    from pharos.report.explained import explain as rules_of
    from pharos.report.explained import explained_row, print_explained, print_totals, totals_row

    work = asked(batch, context, precision, prefill, decode)
    chosen = load(model, sizes(dim))
    graph = chosen.graph(work)
    counted = count(graph)
    if operator is None:
        if on is not None:
            raise InputError("tells the time of one operator; name it", where="--on")
        row = totals_row(counted)
        print_json(row) if json else print_totals(console(), f"{chosen.name}: totals", row)
        return
    machine = None if on is None else find_machine(on)
    found = None if machine is None else predict(graph, machine, work, model=chosen.name, runtime=runtime)
    row = explained_row(rules_of(counted, operator, found), machine, found)
    print_json(row) if json else print_explained(console(), row)
