"""`pharos export`: a model as a file for others: ONNX, a PyTorch program, or its plain description."""

from pathlib import Path
from typing import Annotated, Any

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
    app,
    asked,
    console,
    print_json,
    shapes,
    sizes,
)


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(help="A name such as mobilenet_v2(width=0.75), a .onnx file, or a config.json.")
    ],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[
        str,
        typer.Option("--to", help="onnx, torch or json; left out, the suffix says it: .onnx, .pt2, .json."),
    ] = "",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            help="random (default), zeros, none (shapes alone), or a .safetensors, .pt or .npz file.",
        ),
    ] = None,
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    dim: Dims = None,
    input: Inputs = None,
    opset: Annotated[int | None, typer.Option("--opset", help="Of ONNX's standard operators.")] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace a file that exists.")] = False,
    json: Json = False,
) -> None:
    """Write a model to a file that ONNX Runtime or PyTorch runs, or as JSON."""
    from pharos.convert.export import export as write
    from pharos.convert.load import load
    from pharos.convert.to_onnx import OPSET, Weights
    from pharos.graph.count import count
    from pharos.quantity.units import fmt, fmt_count

    work = asked(batch, context, precision, prefill, decode)
    graph = load(model, sizes(dim), shapes(input)).graph(work)
    given: Weights | None = weights
    if weights is not None and weights not in ("random", "zeros", "none"):
        from pharos.convert.weights import read_weights

        given = read_weights(weights)
    files = write(graph, out, to, given, opset=OPSET if opset is None else opset, force=force)
    counted = count(graph)
    held = [{"path": str(file), "bytes": file.stat().st_size} for file in files]
    if json:
        row: dict[str, Any] = {"schema": "pharos/export@1", "model": model, "files": held}
        print_json(row | {"parameters": counted.parameters, "macs": counted.macs})
        return
    for file in held:
        console().print(f"{file['path']}: {fmt(file['bytes'], 'B')}", markup=False, soft_wrap=True)
    console().print(f"{fmt_count(counted.parameters)} parameters, {fmt_count(counted.macs)} MACs")
