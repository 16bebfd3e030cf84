"""`pharos measure`: a model timed on this machine, beside what was predicted."""

import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Dims,
    Inputs,
    Json,
    Precision,
    Threads,
    app,
    asked,
    console,
    print_json,
    shapes,
    sizes,
)

if TYPE_CHECKING:
    from pharos.graph.graph import Graph
    from pharos.graph.workload import Workload
    from pharos.measure.unique import Between
    from pharos.predict.estimate import Estimate


@app.command()
def measure(
    model: Annotated[str | None, typer.Argument(help="A model's name or file.", show_default=False)] = None,
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    device: Annotated[
        str,
        typer.Option(
            "--device", "-d", help="cpu (default), cuda, cuda:1, or auto: a GPU where there is one."
        ),
    ] = "cpu",
    runtime: Annotated[
        str, typer.Option("--runtime", help="eager (default), compiled, onnxruntime; on cuda also cudagraph.")
    ] = "eager",
    threads: Threads = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Time to spend on the whole.")] = 4.0,
    unique: Annotated[
        bool, typer.Option("--unique", help="Time each distinct kernel once and compose the whole of them.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="With --unique: run the whole too, and tell how far they differ.")
    ] = False,
    on: Annotated[
        str | None, typer.Option("--on", "-m", help="Machine to predict for; this one if it was calibrated.")
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Operators to list, slowest first.")] = 12,
    store: Annotated[bool, typer.Option(help="Keep the measurement.")] = True,
    history: Annotated[
        bool, typer.Option("--history", help="List stored runs, of MODEL or of all; nothing is run.")
    ] = False,
    json: Json = False,
) -> None:
    """Time a model on this machine with random weights, whole and by operator."""
    from pharos.convert.load import load
    from pharos.graph.count import count
    from pharos.measure import store as kept
    from pharos.measure.devices import find_device
    from pharos.measure.measure import measure as run
    from pharos.measure.measure import operator_rows, row
    from pharos.quantity.errors import InputError
    from pharos.report.measurements import measurement_row, print_measurement

    if history:
        _history(model, json)
        return
    if model is None:
        raise InputError("give a model to measure", hint="`pharos measure resnet50`, or --history")
    if whole and not unique:
        raise InputError("goes with --unique", where="--whole", hint="the whole is run without it")
    work = asked(batch, context, precision, False, False)
    found_device = find_device(device)
    chosen = load(model, sizes(dim), shapes(input))
    graph = chosen.graph(work)
    estimate = _estimate(graph, work, chosen.name, on, runtime, threads, found_device.kind)
    found = run(
        graph, work, model=chosen.name, runtime=runtime, threads=threads, device=found_device,
        seconds=seconds, unique=unique, whole=whole or not unique,
        between=_between(runtime, threads, found_device.kind), estimate=estimate,
        at_pulse=partial(_at_pulse, graph, estimate),
    )  # fmt: skip
    if store and found.whole:
        kept.keep(row(found), operator_rows(found, count(graph)), graph=graph)
    if json:
        print_json(measurement_row(found))
        return
    print_measurement(console(), found, rows)
    if not found.noise.is_quiet:
        print(f"warning: {found.noise}", file=sys.stderr)


def _history(model: str | None, json: bool) -> None:
    """Lists what the store holds."""
    from pharos.measure import store as kept
    from pharos.quantity.errors import InputError, unknown
    from pharos.report.measurements import history_rows, print_history

    found = kept.runs(model=model)
    if not found and model is not None:
        known = sorted({run.model for run in kept.runs()})
        if known:
            raise unknown("measured model", model, known, where=str(kept.place()))
    if not found and not json:
        raise InputError(
            "holds no runs yet", where=str(kept.place()), hint="`pharos measure MODEL` stores one"
        )
    if json:
        print_json({"schema": "pharos/history@1", "path": str(kept.place()), "runs": history_rows(found)})
        return
    print_history(console(), found, str(kept.place()))


def _estimate(
    graph: "Graph", work: "Workload", name: str, on: str | None, runtime: str, threads: int | None, kind: str
) -> "Estimate | None":
    """What is predicted of the run: for a machine that is named, else for this one if it was calibrated."""
    from pharos.machines.calibration import place
    from pharos.machines.machine import find_machine
    from pharos.machines.profile import profile_of
    from pharos.predict.estimate import predict
    from pharos.quantity.errors import PharosError

    here = _here(kind)
    if on is None and not place(here).is_file():
        return None
    try:
        machine = find_machine(on or here, threads if kind == "cpu" else None)
        if runtime == "cudagraph":
            # an eager model's own kernels, launched at once
            launched = profile_of(machine, "compiled").runtimes.get("compiled", {})
            profile = replace(profile_of(machine, "eager"), runtimes={"eager": launched})
            return predict(graph, machine, work, model=name, runtime="eager", profile=profile)
        return predict(graph, machine, work, model=name, runtime=runtime)
    except PharosError:
        if on is not None:
            raise
        return None


def _at_pulse(graph: "Graph", estimate: "Estimate | None", pulse_s: tuple[float, ...]) -> "Estimate | None":
    """The same prediction for the machine as fast as it just was, where it is calibrated with its pulse."""
    from pharos.machines.calibration import find_calibration
    from pharos.predict.estimate import predict

    if estimate is None or not estimate.machine.calibration:
        return None
    machine, runtime = estimate.machine, estimate.runtime
    pace = find_calibration(machine.calibration).pace(runtime, int(machine.cores.value or 1), pulse_s)
    if not pace:
        return None
    return predict(
        graph, replace(machine, pace=pace), estimate.workload, model=estimate.model, runtime=runtime
    )


def _here(kind: str) -> str:
    from pharos.machines.machine import HERE, HERE_CUDA

    return HERE_CUDA if kind == "cuda" else HERE


def _between(runtime: str, threads: int | None, kind: str) -> "Between | None":
    """What this machine's calibration says of the time beside kernels."""
    from pharos.machines.calibration import find_calibration
    from pharos.measure.unique import Between
    from pharos.quantity.errors import PharosError

    try:
        found = find_calibration(_here(kind))
    except PharosError:
        return None
    for run in found.runs:
        if run.runtime == runtime and (threads is None or run.threads == threads or kind == "cuda"):
            return Between.of(run.host, f"calibrated {found.taken['at'][:10]}")
    return None
