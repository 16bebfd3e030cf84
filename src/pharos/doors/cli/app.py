"""The Typer application and what the commands share: options, the console, JSON output."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pharos.facts.declared import import_all
from pharos.quantity.errors import InputError, PharosError

if TYPE_CHECKING:
    from rich.console import Console

    from pharos.graph.workload import Workload

app = typer.Typer(
    name="pharos",
    help="What a neural network will ask of a machine, before anyone builds either.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable keys.")]
Batch = Annotated[str, typer.Option("--batch", "-b", help="Samples, or sequences in flight.")]
Context = Annotated[
    str | None, typer.Option("--context", "-c", help="Tokens per sequence; the model's default if left out.")
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", "-p", help="fp32, fp16, bf16, fp8, int8, int4, or weights=int8,activations=bf16."
    ),
]
Prefill = Annotated[
    bool, typer.Option("--prefill", help="Take in a prompt of `context` tokens and keep its cache.")
]
Decode = Annotated[
    bool, typer.Option("--decode", help="Produce one token a sequence against `context` tokens.")
]
Dims = Annotated[
    list[str] | None, typer.Option("--dim", help="NAME=SIZE of a symbolic ONNX dimension; repeatable.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="NAME=SHAPE of an input of package.module:factory, such as 0=1x3x224x224 or ids=int64:1x128.",
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        help="compiled, eager, cudagraph, tensorrt (GPU); compiled, eager, onnxruntime, ncnn, tflite (CPU, "
        "mobile); tflm (microcontroller). By default compiled; eager where calibrated; ncnn, tflm where "
        "fitted with them.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", min=1, help="Cores at work; all if left out.")
]


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rules", help="Python module to import first: rules of operators of your own."),
    ] = None,
) -> None:
    for name in rules or ():
        from pharos.convert.factory import import_mended

        import_mended(name, f"--rules {name}")
    if version:
        from pharos import __version__

        print(__version__)
        raise typer.Exit


def console(*, stderr: bool = False) -> "Console":
    """Where tables go, or progress; plain and 100 columns wide when piped."""
    from rich.console import Console

    if stderr:
        return Console(stderr=True, highlight=False)

    made = Console(highlight=False)
    return made if made.is_terminal or made.width != 80 else Console(highlight=False, width=_piped_width())


def _piped_width() -> int:
    import os

    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdigit() and int(given) >= 40 else 100


def print_json(data: Any) -> None:
    """JSON on stdout, never NaN or Infinity."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def number(text: str | None, name: str) -> int | None:
    """A whole number as people write it: 32, 4096, 4k, 1e6.

    Raises:
        PharosError: not one.
    """
    if text is None:
        return None
    from pharos.quantity.sizes import size
    from pharos.quantity.units import parse

    try:
        return size(parse(text, "1"), name)
    except PharosError as error:
        raise error.at(f"--{name}") from None


def asked(batch: str, context: str | None, precision: str, prefill: bool, decode: bool) -> "Workload":
    """The workload that the shared options state."""
    from pharos.graph.workload import Workload

    if prefill and decode:
        raise InputError("--prefill and --decode are two workloads; give one")
    phase = "prefill" if prefill else "decode" if decode else "forward"
    return Workload(phase=phase, batch=number(batch, "batch"), context=number(context, "context"),
                    precision=precision)  # type: ignore[arg-type]  # fmt: skip


def sizes(dims: list[str] | None) -> dict[str, int]:
    """``--dim seq=128`` options as a mapping."""
    found = {}
    for text in dims or ():
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise InputError(f"{text!r} is not NAME=SIZE", where="--dim")
        found[name.strip()] = number(value, f"dim {name.strip()}") or 1
    return found


def shapes(inputs: list[str] | None) -> dict[str, str]:
    """``--input 0=1x3x224x224`` options as a mapping."""
    found = {}
    for text in inputs or ():
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise InputError(f"{text!r} is not NAME=SHAPE", where="--input", hint="write 0=1x3x224x224")
        found[name.strip()] = value.strip()
    return found


def write_whole(path: Path, text: str) -> None:
    """Writes a file at once: the old content stays until the new one is complete.

    Raises:
        InputError: the place cannot be written.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InputError(f"cannot be written: {error.strerror}", where=str(path)) from None


# each command registers itself on `app` when its file is imported
import_all("pharos.doors.cli")
