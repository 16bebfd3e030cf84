"""`pharos models`: the catalogue of models."""

from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One model, for its hyperparameters and source.")] = None,
    json: Json = False,
) -> None:
    """List the models Pharos can build, or describe one."""
    from pharos.models.registry import entry, names
    from pharos.report.catalogue import model_row, print_model, print_models

    if name is not None:
        found = entry(name)
        if json:
            print_json(model_row(found))
        else:
            print_model(console(), found)
        return
    found_all = [entry(known) for known in names()]
    if json:
        print_json([model_row(e) for e in found_all])
    else:
        print_models(console(), found_all)
