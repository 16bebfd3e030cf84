"""`pharos diff`: what changed between two models, contracts, results or git revisions."""

from pathlib import Path
from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Inputs,
    Json,
    Precision,
    Prefill,
    Runtime,
    Threads,
    app,
    asked,
    console,
    print_json,
    shapes,
    sizes,
    write_whole,
)


@app.command()
def diff(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A model, contract, JSON result, REV:path, or a git revision.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", help="Likewise; . is the revision of the files as they are.")
    ],
    thing: Annotated[
        str | None,
        typer.Argument(
            metavar="[THING]",
            help="Where A and B are git revisions: the contract, model, package.module:factory or folder "
            "to compare in them; every contract if left out.",
        ),
    ] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", "-m", help="Machines for models, repeated or with commas.")
    ] = None,
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    runtime: Runtime = None,
    threads: Threads = None,
    dim: Dims = None,
    input: Inputs = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="Operators to list, by effect.")] = 10,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write it as Markdown to this file.")
    ] = None,
    json: Json = False,
) -> None:
    """Tell what changed: exit 0 no worse, 1 a limit newly broken, 2 mistake, 3 one can no longer be told."""
    from pharos.decide.diff import exit_code
    from pharos.report.sides import Asked, diffs_of, things_of

    work = asked(batch, context, precision, prefill, decode)
    machines = [name.strip() for text in on or () for name in text.split(",") if name.strip()]
    before, after = things_of(a, b, thing)
    found = diffs_of(before, after, Asked(
        machines=tuple(machines), phase=work.phase, batch=work.batch, context=work.context,  # type: ignore[arg-type]
        precision=precision, runtime=runtime, threads=threads, dims=sizes(dim), inputs=shapes(input),
    ))  # fmt: skip
    if markdown is not None:
        from pharos.report.diff_markdown import diffs_as_markdown

        write_whole(markdown, diffs_as_markdown(found, f"{before.label} to {after.label}", rows))
    if json:
        from pharos.report.diffs import diff_row

        print_json(diff_row(found))
    else:
        from pharos.report.diffs import print_diffs

        print_diffs(console(), found, rows)
    raise typer.Exit(exit_code(found))
