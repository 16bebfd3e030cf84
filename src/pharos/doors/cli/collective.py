"""`pharos collective`: bytes, steps and time of devices sharing data."""

from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, number, print_json

NodesOf = Annotated[
    str | None, typer.Option("--nodes-of", help="Devices in a node; 8, or all where there are fewer.")
]
LinkOption = Annotated[
    str | None,
    typer.Option("--link", help="Inside a node: nvlink-4, pcie-4, 50GB/s; the machine's own if left out."),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network", help="Between nodes, a device's share: infiniband-ndr, 400Gb/s; the usual if left out."
    ),
]  # fmt: skip


@app.command()
def collective(
    name: Annotated[
        str,
        typer.Argument(
            help="all-reduce, all-gather, reduce-scatter, all-to-all, broadcast, scatter, gather, send-recv."
        ),
    ],
    size: Annotated[str, typer.Argument(help="Bytes of the whole buffer, such as 64MB or 1GiB.")],
    on: Annotated[str, typer.Option("--on", "-m", help="A machine's name or file.")],
    devices: Annotated[str, typer.Option("--devices", "-d", help="How many of them.")] = "8",
    nodes_of: NodesOf = None,
    link: LinkOption = None,
    network: Network = None,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", help="Only this: ring, tree, hierarchical, switch, direct.")
    ] = None,
    json: Json = False,
) -> None:
    """Cost a collective over devices: exact bytes by device and link, time with its band, every algorithm."""
    from pharos.machines.machine import find_machine
    from pharos.plan.collectives import find_collective
    from pharos.plan.communication import algorithms_of, collective_cost
    from pharos.plan.topology import topology_of
    from pharos.quantity.errors import PharosError
    from pharos.quantity.units import parse

    how, machine = find_collective(name), find_machine(on)
    try:
        nbytes = round(parse(size, "B"))
    except PharosError as error:
        raise error.at("SIZE") from None
    topology = topology_of(
        machine, number(devices, "devices") or 1, number(nodes_of, "nodes-of"), link, network
    )
    chosen = [algorithm] if algorithm else [None, *algorithms_of(how, topology)]
    costs = [collective_cost(how.name, nbytes, topology, a) for a in chosen]
    if json:
        from pharos.report.collectives import collective_row

        print_json(collective_row(costs))
        return
    from pharos.report.collectives import print_collective

    print_collective(console(), costs)
