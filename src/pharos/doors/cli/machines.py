"""`pharos machines`: the catalogue of machines."""

from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json


@app.command()
def machines(
    name: Annotated[str | None, typer.Argument(help="One machine, for every figure with its source.")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="gpu, tpu, npu, cpu, mobile_soc or mcu.")] = None,
    energies: Annotated[
        bool, typer.Option("--energies", help="List energies per operation and per bit.")
    ] = False,
    links: Annotated[bool, typer.Option("--links", help="List links and networks.")] = False,
    json: Json = False,
) -> None:
    """List the machines of the catalogue, or show one with its sources and unknowns."""
    if energies or links:
        from pharos.facts.tables import listed
        from pharos.report.catalogue import print_rows

        rows = listed("energy" if energies else "links")
        if json:
            print_json(rows)
        else:
            print_rows(console(), rows)
        return
    from pharos.machines.machine import KINDS, find_machine, machine_names
    from pharos.quantity.errors import unknown
    from pharos.report.catalogue import print_machine, print_machines
    from pharos.report.rows import machine_row

    if name is not None:
        found = find_machine(name)
        if json:
            print_json(machine_row(found))
        else:
            print_machine(console(), found)
        return
    if kind is not None and kind not in KINDS:
        raise unknown("kind of machine", kind, KINDS, where="--kind")
    every = [m for m in map(find_machine, machine_names()) if kind in (None, m.kind)]
    if json:
        print_json([machine_row(m) for m in every])
    else:
        print_machines(console(), every)
