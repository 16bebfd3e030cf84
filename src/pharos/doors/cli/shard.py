"""`pharos shard`: a recommender's tables laid over devices."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import Json, app, console, number, print_json, write_whole
from pharos.doors.cli.collective import LinkOption, Network, NodesOf
from pharos.quantity.errors import InputError, PharosError, unknown


@app.command()
def shard(
    tables: Annotated[
        str, typer.Argument(help="A model such as dlrm, a YAML, CSV or JSON file of tables; - for --table.")
    ],
    on: Annotated[str, typer.Option("--on", "-m", help="A machine's name or file.")],
    devices: Annotated[
        str, typer.Option("--devices", "-d", help="How many of them, or least: the fewest that fit.")
    ] = "8",
    nodes_of: NodesOf = None,
    batch: Annotated[
        str, typer.Option("--global-batch", "--batch", "-b", help="Samples a step, over all devices.")
    ] = "65536",
    table: Annotated[
        list[str] | None,
        typer.Option("--table", help="ROWSxDIM, ROWSxDIM:POOLING or ROWSxDIM:POOLING:ZIPF; repeatable."),
    ] = None,
    zipf: Annotated[
        float | None, typer.Option("--zipf", help="Skew of all tables' lookups: Zipf exponent; 0 uniform.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", "-p", help="Of all tables: fp32, fp16, bf16, int8.")
    ] = None,
    activations: Annotated[
        str, typer.Option("--activations", help="Element type of vectors that are sent.")
    ] = "fp32",
    forward: Annotated[bool, typer.Option("--forward", help="Without a backward pass and update.")] = False,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="Of tables: rowwise_adagrad, sgd, adagrad, adam.")
    ] = "rowwise_adagrad",
    strategies: Annotated[
        str,
        typer.Option("--strategies", help="all, or some: table-wise, column-wise, row-wise, table-row-wise, "
                     "replicated."),
    ] = "all",
    lay: Annotated[
        list[str] | None, typer.Option("--lay", help="TABLE=STRATEGY, laid just so; repeatable.")
    ] = None,
    host_memory: Annotated[
        str | None, typer.Option("--host-memory", help="Of the hosts, for tables, a device's share: 256GB.")
    ] = None,
    host_link: Annotated[
        str | None, typer.Option("--host-link", help="Device to host; the machine's PCIe if left out.")
    ] = None,
    reserve: Annotated[
        float, typer.Option("--reserve", help="Share of a device's memory that stays free.")
    ] = 0.05,
    solver: Annotated[str, typer.Option("--solver", help="auto, milp (SciPy), search, greedy.")] = "auto",
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=0.1, help="Seconds that the solver may take.")
    ] = 30.0,
    even: Annotated[
        float,
        typer.Option("--even", min=0, help="Share of the time that memory as even as TorchRec's may cost."),
    ] = 0.01,
    torchrec: Annotated[
        Path | None, typer.Option("--torchrec", help="Write TorchRec planner constraints, .json or .py.")
    ] = None,
    link: LinkOption = None,
    network: Network = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Lay embedding tables over devices: a plan, bytes a device, bytes moved, balance, how near the best."""
    from pharos.machines.machine import find_machine
    from pharos.plan import sharding
    from pharos.plan.shard_layouts import STRATEGIES, Job
    from pharos.plan.tables import read_tables, written
    from pharos.plan.topology import topology_of
    from pharos.quantity.dtypes import dtype
    from pharos.quantity.units import parse

    machine = find_machine(on)
    if torchrec and torchrec.suffix not in (".json", ".py"):
        raise InputError(f"{torchrec} is neither .json nor .py", where="--torchrec")
    chosen = STRATEGIES
    if strategies != "all":
        chosen = tuple(x.strip() for x in strategies.split(","))
        for name in chosen:
            if name not in STRATEGIES:
                raise unknown("strategy", name, STRATEGIES, where="--strategies")
    samples = number(batch, "global-batch") or 1
    try:
        host = round(parse(host_memory, "B")) if host_memory else 0
        rate = parse(host_link, "B/s") if host_link else None
    except PharosError as error:
        raise error.at("--host-memory or --host-link") from None
    fixed = {}
    for text in lay or ():
        name, sign, how = text.rpartition("=")
        if not sign:
            raise InputError(f"{text!r} is not TABLE=STRATEGY", where="--lay")
        fixed[name.strip()] = how.strip()
    given = {
        "training": not forward, "optimizer": optimizer, "activations": activations, "reserve": reserve,
        "host_bytes": host, "host_link": rate, "strategies": chosen,
    }  # fmt: skip
    if table or tables == "-":
        if tables != "-":
            raise InputError(
                "tables come from a model or file, or from --table", hint="write - before --table"
            )
        job = Job(
            tables=tuple(written(t, i, "--table") for i, t in enumerate(table or ())), batch=samples, **given
        )
    elif tables.endswith((".yaml", ".yml", ".csv")) or (tables.endswith(".json") and _is_list(tables)):
        job = Job(tables=tuple(read_tables(tables)), batch=samples, **given)
    else:
        from pharos.convert.load import load

        job = sharding.job_of(load(tables), samples, **given)
    if not job.tables:
        raise InputError("there are no tables", hint="--table 1e6x128:10")
    changed = job.tables
    if zipf is not None:
        from pharos.plan.skew import Skew

        changed = tuple(replace(t, skew=Skew(zipf)) for t in changed)
    if precision is not None:
        changed = tuple(replace(t, dtype=dtype(precision)) for t in changed)
    job = replace(job, tables=changed, fixed=fixed)
    search_least = devices.strip().lower() == "least"
    count = 8 if search_least else number(devices, "devices") or 1
    topology = topology_of(machine, count, number(nodes_of, "nodes-of"), link, network)
    least = None
    if search_least:
        least = sharding.least_devices(job, machine, topology)
        if least is None:
            raise InputError("no number of devices up to 4096 holds the tables", where="--devices")
        topology = topology_of(machine, least, number(nodes_of, "nodes-of"), link, network)
    plan = sharding.shard(job, machine, topology, solver, time_limit, even)
    if torchrec and plan.fits:
        from json import dumps

        from pharos.plan.torchrec import as_json, as_python

        text = as_python(plan) if torchrec.suffix == ".py" else dumps(as_json(plan), indent=2) + "\n"
        write_whole(torchrec, text)
    from pharos.report.sharding import print_shard, shard_row

    if json:
        print_json(shard_row(plan, least))
    else:
        print_shard(console(), plan, least)
        if torchrec and plan.fits:
            console().print(f"constraints for TorchRec: {torchrec}", soft_wrap=True)


def _is_list(path: str) -> bool:
    """Whether a JSON file holds tables rather than a model's config."""
    from pharos.facts.reading import read_json

    data = read_json(path).data
    return isinstance(data, list) or (isinstance(data, dict) and "tables" in data)
