"""`pharos show`: what a model is made of and what one pass asks for."""

from typing import Annotated

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Json,
    Precision,
    Prefill,
    app,
    asked,
    console,
    print_json,
    sizes,
)


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="A name such as mobilenet_v2(width=0.75), a .onnx file, or a config.json.")
    ],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    depth: Annotated[
        int | None,
        typer.Option("--depth", "-d", min=1, help="Group operators by this many parts of their names."),
    ] = None,
    dim: Dims = None,
    json: Json = False,
) -> None:
    """Count parameters, MACs, FLOPs, bytes and intensity, per operator and in total."""
    from pharos.convert.load import load
    from pharos.graph.count import count

    work = asked(batch, context, precision, prefill, decode)
    chosen = load(model, sizes(dim))
    counted = count(chosen.graph(work))
    family = chosen.family or str(counted.graph.meta.get("family", ""))
    if json:
        from pharos.report.rows import show_row

        print_json(show_row(chosen.name, family, counted))
        return
    from pharos.report.text import print_show

    print_show(console(), chosen.name, family, counted, depth)
