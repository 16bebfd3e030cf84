"""`pharos report`: a network on a machine as one HTML file, or contracts and their verdicts."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Inputs,
    Precision,
    Prefill,
    Runtime,
    Threads,
    app,
    asked,
    shapes,
    sizes,
    write_whole,
)
from pharos.quantity.errors import InputError


@app.command()
def report(
    model: Annotated[str, typer.Argument(help="A model's name or file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    on: Annotated[
        str, typer.Option("--on", "-m", help="A machine's name or file; here: this one, calibrated.")
    ],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    runtime: Runtime = None,
    threads: Threads = None,
    dim: Dims = None,
    input: Inputs = None,
) -> None:
    """Write a page that needs no network: plots, every operator, advice, how each figure is known."""
    from pharos.convert.load import load
    from pharos.machines.machine import find_machine
    from pharos.report.pages.page import page
    from pharos.report.pages.subject import subject

    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError("is no name of a page", where=str(output), hint="end it in .html")
    work = asked(batch, context, precision, prefill, decode)
    chosen, machine = load(model, sizes(dim), shapes(input)), find_machine(on, threads)
    told = [a for a in sys.argv[1:] if a]
    command = shlex.join(["pharos", *told]) if told[:1] == ["report"] else f"pharos report {model} --on {on}"
    write_whole(output, page([subject(chosen, machine, work, runtime=runtime, command=command)]))
    print(f"wrote {output}")
