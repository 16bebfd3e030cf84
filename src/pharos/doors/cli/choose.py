"""`pharos choose`: from data and limits to an architecture, with the trail."""

from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json, write_whole


@app.command()
def choose(
    brief: Annotated[str, typer.Argument(help="A brief: data and limits; see pharos schema brief.")],
    contract: Annotated[
        Path | None,
        typer.Option("--contract", "-o", help="Also write the contract of the choice to this file."),
    ] = None,
    flow: Annotated[
        Path | None,
        typer.Option("--flow", help="Also draw the way it took: .dot, .txt, .svg, .png, .html."),
    ] = None,
    json: Json = False,
) -> None:
    """Choose an architecture for data and limits: exit 0 with a choice, 1 if nothing stands."""
    from pharos.decide.choose import choose_file
    from pharos.doors.cli.progress import watched

    with watched("choosing") as (tick, told):
        found = choose_file(brief, tick, told)
    if contract is not None and found.chosen is not None:
        from pharos.decide.chosen_contract import contract_text

        write_whole(contract, contract_text(found.chosen, found.brief, brief))
    if flow is not None:
        from pharos.report.flow import save_flow

        save_flow(found, flow)
    if json:
        from pharos.report.decisions import decision_row

        print_json(decision_row(found))
    else:
        from pharos.report.decisions import print_decision

        print_decision(console(), found)
    raise typer.Exit(0 if found.chosen is not None else 1)
