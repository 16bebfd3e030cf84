"""Export: a graph as a file for others: ONNX, a PyTorch program, or its plain description."""

import json
from pathlib import Path
from typing import Any

from pharos.convert.to_onnx import OPSET, Weights, source_of, to_onnx
from pharos.convert.to_torch import to_torch
from pharos.graph.graph import Graph
from pharos.graph.serial import to_dict
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.sizes import is_int

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "json": ".json"}


def export(
    graph: Graph,
    path: str | Path,
    to: str = "",
    weights: Weights | None = None,
    *,
    opset: int = OPSET,
    force: bool = False,
) -> list[Path]:
    """Writes a graph to `path`; returns the files that were written.

    Args:
        to: "onnx"; "torch": a program that ``torch.export.load`` reads and that runs without Pharos;
            "json": operators and shapes, no weights. Left out, the suffix of `path` says it.
        weights: see `to_onnx`; for torch None means as PyTorch initialises each layer.
        force: an existing file is replaced.

    Raises:
        InputError: the file exists, or what the writers refuse.
    """
    path = Path(path)
    kinds = {suffix: kind for kind, suffix in SUFFIXES.items()}
    kind = to or kinds.get(path.suffix, "")
    if not kind:
        known = ", ".join(f"{kind} ({suffix})" for kind, suffix in SUFFIXES.items())
        raise InputError(f"{path.name!r} does not say what to export to", hint=f"known: {known}")
    if kind not in SUFFIXES:
        raise unknown("form of export", kind, SUFFIXES)
    if path.is_dir() or not path.name:
        raise InputError("is a folder", where=str(path))
    beside = path.with_name(f"{path.name}.data")
    for taken in (path, beside) if kind == "onnx" else (path,):
        if taken.exists() and not force:
            raise InputError("exists already", where=str(taken), hint="--force replaces it")
    if kind == "onnx":
        to_onnx(graph, path, weights, opset)
        return [file for file in (path, beside) if file.exists()]
    if kind == "json":
        if weights is not None:
            raise InputError("a description holds no weights", hint="export to onnx or torch")
        return [_written(path, (json.dumps(_plain(graph), indent=1) + "\n").encode())]
    return [_program(graph, path, weights)]


def _plain(graph: Graph) -> dict[str, Any]:
    if not all(is_int(s) for v in graph.inputs for s in v.shape):
        raise InputError("has sizes that are no numbers", where=graph.name)
    return to_dict(graph)


def _written(path: Path, data: bytes) -> Path:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=str(path)) from None
    finally:
        part.unlink(missing_ok=True)
    return path


def _program(graph: Graph, path: Path, weights: Weights | None) -> Path:
    """A torch.export program: the module traced on inputs of the graph's shapes."""
    import io
    import warnings

    module = to_torch(graph).eval()
    import torch

    if weights is not None:
        held = module.state_dict()
        floats = {n: Tensor(tuple(t.shape)) for n, t in held.items() if t.is_floating_point()}
        source = source_of(graph, floats, weights)
        module.load_state_dict({n: torch.tensor(source(n)) for n in floats}, strict=False)
    kinds = {"int64": torch.int64, "int32": torch.int32, "bool": torch.bool}
    given = tuple(torch.zeros(v.shape, dtype=kinds.get(v.tensor.dtype, torch.float32)) for v in graph.inputs)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program, held = torch.export.export(module, given), io.BytesIO()
            torch.export.save(program, held)
    except InputError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise InputError(f"PyTorch cannot trace it: {reason}", where=graph.name) from None
    return _written(path, held.getvalue())
