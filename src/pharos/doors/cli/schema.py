"""`pharos schema`: the JSON Schema of files that people write."""

from typing import Annotated

import typer

from pharos.doors.cli.app import app, print_json


@app.command()
def schema(thing: Annotated[str, typer.Argument(help="contract, brief, lock or sweep")] = "contract") -> None:
    """Print the JSON Schema of a contract file, a brief, a lock or a grid, for editors and validators."""
    from pharos.decide.brief import brief_schema
    from pharos.decide.contract import contract_schema
    from pharos.decide.lock import lock_schema
    from pharos.decide.sweep.grid_file import grid_schema
    from pharos.quantity.errors import unknown

    schemas = {
        "contract": contract_schema, "brief": brief_schema, "lock": lock_schema, "sweep": grid_schema,
    }  # fmt: skip
    if thing not in schemas:
        raise unknown("schema", thing, schemas)
    print_json(schemas[thing]())
