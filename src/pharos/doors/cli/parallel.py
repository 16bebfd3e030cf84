"""`pharos parallel`: a model laid over many devices."""

from typing import Annotated, Any

import typer

from pharos.doors.cli.app import Context, Decode, Json, Prefill, app, console, number, print_json
from pharos.doors.cli.collective import LinkOption, Network, NodesOf
from pharos.quantity.errors import InputError


@app.command()
def parallel(
    model: Annotated[str, typer.Argument(help="A decoder's name, or a Hugging Face config.json.")],
    on: Annotated[str, typer.Option("--on", "-m", help="A machine's name or file.")],
    devices: Annotated[str, typer.Option("--devices", "-d", help="How many of them.")] = "8",
    nodes_of: NodesOf = None,
    train: Annotated[
        bool, typer.Option("--train", help="Forward, backward and update; the default.")
    ] = False,
    prefill: Prefill = False,
    decode: Decode = False,
    batch: Annotated[
        str | None,
        typer.Option("--global-batch", "--batch", "-b", help="Sequences a step, over all devices."),
    ] = None,
    context: Context = None,
    precision: Annotated[str, typer.Option("--precision", "-p", help="bf16, fp16, fp32, fp8.")] = "bf16",
    tp: Annotated[str | None, typer.Option("--tp", help="Tensor-parallel devices.")] = None,
    pp: Annotated[str | None, typer.Option("--pp", help="Pipeline stages.")] = None,
    dp: Annotated[
        str | None, typer.Option("--dp", help="Data-parallel devices; what is left by default.")
    ] = None,
    cp: Annotated[str | None, typer.Option("--cp", help="Devices that share a sequence.")] = None,
    ep: Annotated[
        str | None, typer.Option("--ep", help="Of the data-parallel devices, those that share experts.")
    ] = None,
    micro_batch: Annotated[
        str | None, typer.Option("--micro-batch", help="Sequences that a stage takes at once.")
    ] = None,
    zero: Annotated[int | None, typer.Option("--zero", help="ZeRO stage, 0 to 3; 3 is FSDP.")] = None,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", help="none, selective or full.")] = None,
    chunks: Annotated[
        int | None, typer.Option("--chunks", help="Of a stage's layers, interleaved; 1: plain 1F1B.")
    ] = None,
    sequence: Annotated[
        bool | None,
        typer.Option("--sequence/--no-sequence", help="Sequence parallelism beside --tp; on by default."),
    ] = None,
    attention: Annotated[
        str, typer.Option("--attention", help="tiled, or materialised: scores are stored.")
    ] = "tiled",
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="adamw, adam, sgd, momentum, adafactor.")
    ] = "adamw",
    overlap: Annotated[
        float,
        typer.Option("--overlap", help="Share of data-parallel traffic that the backward pass may hide."),
    ] = 0.8,
    search: Annotated[
        bool, typer.Option("--search", help="Weigh all legal layouts with what is given.")
    ] = False,
    scaling: Annotated[
        str | None, typer.Option("--scaling", help="strong or weak: the best at 1, 2, 4 ... devices.")
    ] = None,
    link: LinkOption = None,
    network: Network = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Further plans to list.")] = 5,
    json: Json = False,
) -> None:
    """Lay a model over devices: memory, bytes sent, step time, bubble and MFU; or the best layout."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.plan import parallel as plans
    from pharos.plan.layout import Layout
    from pharos.plan.topology import topology_of

    if train + prefill + decode > 1:
        raise InputError("--train, --prefill and --decode are different jobs; give one")
    count, machine = number(devices, "devices") or 1, find_machine(on)
    topology = topology_of(machine, count, number(nodes_of, "nodes-of"), link, network)
    given: dict[str, Any] = {
        "tensor": number(tp, "tp"), "pipeline": number(pp, "pp"), "data": number(dp, "dp"),
        "context": number(cp, "cp"), "expert": number(ep, "ep"),
        "micro_batch": number(micro_batch, "micro-batch"),
        "zero": zero, "checkpoint": checkpoint, "chunks": chunks, "sequence": sequence,
    }  # fmt: skip
    given = {k: v for k, v in given.items() if v is not None}
    phase = "prefill" if prefill else "decode" if decode else plans.TRAIN
    job = plans.Job(
        model=load(model), phase=phase, batch=number(batch, "global-batch") or count,
        context=number(context, "context"), precision=precision, attention=attention, optimizer=optimizer,
        overlap=overlap,
    )  # fmt: skip
    Layout(**given)
    if search or not {"tensor", "pipeline", "data"} & set(given):
        found = plans.search(job, machine, topology, given, rows)
    else:
        rest = given.get("tensor", 1) * given.get("pipeline", 1) * given.get("context", 1)
        made = {"data": max(1, count // rest), **given}
        if phase != plans.TRAIN:
            made = {"micro_batch": max(1, job.batch // made["data"]), **made}
        made.setdefault("sequence", made.get("tensor", 1) > 1 and phase == plans.TRAIN)
        found = plans.plan(job, machine, topology, Layout(**made))
    least = None
    if found.fits is False:
        least = plans.least_devices(job, machine, topology)
    curve = []
    if scaling is not None:
        from pharos.quantity.errors import unknown

        if scaling not in ("strong", "weak"):
            raise unknown("scaling", scaling, ("strong", "weak"), where="--scaling")
        counts = [1 << i for i in range(count.bit_length()) if 1 << i <= count]
        kept = {k: v for k, v in given.items() if k not in ("data",)}
        curve = plans.scaling(job, machine, topology, counts, weak=scaling == "weak", fixed=kept)
    if json:
        from pharos.report.parallel import plan_row

        print_json(plan_row(found, curve, scaling == "weak", least))
        return
    from pharos.report.parallel import print_plan

    print_plan(console(), found, curve, scaling == "weak", least)
