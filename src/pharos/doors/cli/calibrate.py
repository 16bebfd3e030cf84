"""`pharos calibrate`: the profile of this machine, measured."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, print_json
from pharos.quantity.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@app.command()
def calibrate(
    budget: Annotated[
        float, typer.Option("--budget", min=15, help="Seconds to spend; more makes errors smaller.")
    ] = 90.0,
    threads: Annotated[
        str | None,
        typer.Option("--threads", "-t", help="Numbers of cores, as 1,2,4; one and all by default."),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="eager or onnxruntime; both by default.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, to share; this machine's by default."),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            "--device", "-d", help="cpu (default), cuda, cuda:1, or auto: a GPU where there is one."
        ),
    ] = "cpu",
    refine: Annotated[
        bool,
        typer.Option("--refine", help="Measure nothing: fit again with what `pharos measure` stored here."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on, or refine with runs, although the machine is busy.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure this machine on random networks, operator by operator, so that `--on here` predicts for it."""
    from pharos.machines.calibration import place
    from pharos.machines.machine import HERE_CUDA
    from pharos.measure.calibrate import calibrate as run
    from pharos.measure.calibrate import write
    from pharos.measure.devices import Cuda, find_device
    from pharos.report.calibrations import calibration_row, print_calibration

    if refine:
        if device != "cpu" or threads is not None or runtime is not None:
            raise InputError("refits everything that was calibrated and measured here", where="--refine",
                             hint="leave out --device, --threads and --runtime")  # fmt: skip
        _refine(output, force, json)
        return
    chosen = find_device(device)
    if isinstance(chosen, Cuda):
        if threads is not None or runtime is not None:
            what = "--threads" if threads is not None else "--runtime"
            raise InputError(
                "is of calibrations of a processor; on a GPU all runtimes are calibrated", where=what
            )
        from pharos.measure.cuda import calibrate_cuda

        with _bar() as tick:
            found = calibrate_cuda(chosen, budget=budget, force=force, tick=tick)
        path = output or place(HERE_CUDA)
    else:
        counts = _counts(threads)
        with _bar() as tick:
            found = run(budget=budget, threads=counts, runtimes=None if runtime is None else [runtime],
                        force=force, tick=tick)  # fmt: skip
        path = output or place()
    write(found, path)
    if json:
        print_json(calibration_row(found, str(path)))
    else:
        print_calibration(console(), found, str(path))
    for when, seen in (("before", found.noise), ("after", found.after)):
        if not seen.is_quiet:
            print(f"warning: {when} measuring, {seen}; errors are larger for it", file=sys.stderr)


def _refine(output: Path | None, noisy: bool, json: bool) -> None:
    """Fits this machine's calibration anew with what is stored; written to `output` if that is given."""
    from pharos.machines.calibration import place
    from pharos.measure.calibrate import write
    from pharos.measure.refine import refine
    from pharos.report.refinements import print_refinement, refinement_row

    source, path = place(), output or place()
    if not source.is_file():
        hint = "`pharos calibrate` makes one"
        raise InputError("there is no calibration to refine", where=str(source), hint=hint)
    with _bar() as tick:
        found = refine(source, noisy=noisy, tick=tick)
    write(found.found, path)
    if json:
        print_json(refinement_row(found, str(path)))
    else:
        print_refinement(console(), found, str(path))


@contextmanager
def _bar() -> "Iterator[Callable[[str, float], None]]":
    """A progress bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    shown = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(), console=shown, transient=True, disable=not shown.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("calibrating", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def _counts(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{text!r} is no list of numbers", where="--threads", hint="write 1,2,4") from None
