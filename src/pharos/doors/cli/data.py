"""`pharos data`: what a file or folder holds and how it is built."""

from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json


@app.command()
def data(
    path: Annotated[
        str, typer.Argument(help="CSV, Parquet, NPY, NPZ, text, JSON Lines, WAV; a folder of them.")
    ],
    seed: Annotated[int, typer.Option("--seed", help="Of the sample and the permutation tests.")] = 0,
    json: Json = False,
) -> None:
    """Inspect data: modality, sizes, labels, measured structure, and the families that match it."""
    from pharos.decide.data import inspect
    from pharos.doors.cli.progress import watched

    with watched("reading") as (tick, _):
        found = inspect(path, seed, tick)
    if json:
        from pharos.report.decisions import data_row

        print_json(data_row(found))
    else:
        from pharos.report.decisions import print_data

        print_data(console(), found)
