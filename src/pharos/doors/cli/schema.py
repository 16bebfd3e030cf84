"""`pharos schema`: the JSON Schema of files that people write."""

from typing import Annotated

import typer

from pharos.doors.cli.app import app, print_json


@app.command()
def schema(thing: Annotated[str, typer.Argument(help="contract")] = "contract") -> None:
    """Print the JSON Schema of a contract file, for editors and validators."""
    from pharos.decide.contract import contract_schema
    from pharos.quantity.errors import unknown

    if thing != "contract":
        raise unknown("schema", thing, ["contract"])
    print_json(contract_schema())
