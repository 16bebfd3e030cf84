"""ONNX files: parsed without the data of large tensors, and checked before anything relies on them."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pharos.quantity.errors import InputError
from pharos.quantity.sizes import prod

OLDEST_OPSET = 7
LARGEST_FILE = 2**31
LARGEST_DIM, LARGEST_TENSOR = 10**9, 10**15
# Nodes of a graph that are read, and those of functions and bodies that are written out beside them.
MOST_NODES, MOST_WRITTEN = 100_000, 30_000
# Files below this many bytes are parsed as they are; data of a tensor beyond so many is left out of others.
SMALL_FILE, SMALL_FIELD = 1 << 20, 4096
# ONNX element types by number -> ours. A string has a byte or more, a complex number those of its halves.
DTYPES = {1: "fp32", 2: "uint8", 3: "int8", 4: "int16", 5: "int16", 6: "int32", 7: "int64", 8: "uint8",
          9: "bool", 10: "fp16", 11: "fp64", 12: "int32", 13: "int64", 14: "fp64", 16: "bf16", 17: "fp8",
          18: "fp8", 19: "fp8", 20: "fp8", 21: "int4", 22: "int4", 23: "fp4", 24: "fp8", 25: "int2",
          26: "int2"}  # fmt: skip

# Fields of ONNX's messages that hold further messages: name of the message -> {field: name}.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
# Data of a tensor: float, int32, string, int64, raw, double, uint64.
_DATA = frozenset((4, 5, 6, 7, 9, 10, 11))
_DEEPEST = 60


def read_model(path: Path) -> Any:
    """The model of a file, without the numbers of its large tensors.

    Raises:
        InputError: no such file, not an ONNX file, an opset that is too old, external data outside the
            folder, absurd shapes, a file beyond 2 GiB.
    """
    where = str(path)
    try:
        if not path.exists():
            near = [p.name for p in path.parent.glob("*.onnx")][:5] if path.parent.is_dir() else []
            raise InputError("does not exist", where=where, hint=f"there: {', '.join(near)}" if near else "")
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "something else"
            raise InputError(f"is {kind}, not a file", where=where)
        length = path.stat().st_size
        if length > LARGEST_FILE:
            raise InputError("is beyond the 2 GiB that an ONNX file may have", where=where,
                             hint="store the weights as external data")  # fmt: skip
        model = _parsed(path, length)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot be read: {reason}", where=where) from None
    _check(model, path)
    return model


def _parsed(path: Path, length: int) -> Any:
    try:
        import onnx
    except ModuleNotFoundError:
        raise InputError(
            "reading it needs the onnx package", where=str(path), hint="pip install 'pharos-nn[onnx]'"
        ) from None
    from google.protobuf.message import DecodeError

    try:
        data = path.read_bytes() if length < SMALL_FILE else skimmed(path)
        model = onnx.ModelProto()
        model.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"is not a whole ONNX file: {reason}", where=str(path)) from None
    return model


def skimmed(path: Path) -> bytes:
    """The bytes of a file without the data of its large tensors; what is left out is not read from disk.

    Raises:
        ValueError: not a protobuf message of ONNX.
    """
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as view:
        return b"".join(_skim(view, 0, len(view), "model", 0))


def _skim(view: Any, start: int, end: int, message: str, depth: int) -> Iterator[bytes]:
    if depth > _DEEPEST:
        raise ValueError("is nested too deeply")
    at = start
    while at < end:
        first = at
        tag, at = _varint(view, at, end)
        field, wire = tag >> 3, tag & 7
        if not field:
            raise ValueError("not a protobuf message")
        if wire == 2:
            length, at = _varint(view, at, end)
            if length > end - at:
                raise ValueError("a field is longer than what holds it")
            inside = _INSIDE[message].get(field)
            if inside is not None and length > SMALL_FIELD:
                body = b"".join(_skim(view, at, at + length, inside, depth + 1))
                yield _encoded(tag) + _encoded(len(body)) + body
            elif not (message == "tensor" and field in _DATA and length > SMALL_FIELD):
                yield view[first : at + length]
            at += length
            continue
        if wire == 0:
            _, at = _varint(view, at, end)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("not a protobuf message")
        if at > end:
            raise ValueError("a field is longer than what holds it")
        yield view[first:at]


def _varint(view: Any, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = view[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("ends inside a number")


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _check(model: Any, path: Path) -> None:
    where = str(path)
    graph = model.graph
    if not graph.node and not graph.output:
        raise InputError("holds no network", where=where)
    opset = opset_of(model)
    if opset < OLDEST_OPSET and (opset or any(n.domain in ("", "ai.onnx") for n in graph.node)):
        raise InputError(f"is of opset {opset}; Pharos reads {OLDEST_OPSET} and newer", where=where)
    if len(graph.node) > MOST_NODES:
        raise InputError(f"has {len(graph.node)} nodes; at most {MOST_NODES} are read", where=where)
    for tensor in tensors_of(graph):
        _check_tensor(tensor, path)
    for function in model.functions:
        for tensor in _in_nodes(function.node):
            _check_tensor(tensor, path)


def opset_of(model: Any) -> int:
    """Version of the standard operators."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)


def tensors_of(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph stores, those of graphs inside it too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from tensors_of(attribute.g)
            for inner in attribute.graphs:
                yield from tensors_of(inner)


def _check_tensor(tensor: Any, path: Path) -> None:
    """Sizes must be possible; external data must lie in the file's folder, and is not opened all the same."""
    if any(d < 0 or d > LARGEST_DIM for d in tensor.dims) or prod(tuple(tensor.dims)) > LARGEST_TENSOR:
        raise InputError(f"{tensor.name!r} has the absurd shape {list(tensor.dims)[:8]}", where=str(path))
    for entry in tensor.external_data:
        if entry.key == "location" and _outside(entry.value, path):
            raise InputError(
                f"{tensor.name!r} wants data from {entry.value[:200]!r}, outside the model's folder",
                where=str(path),
            )


def _outside(location: str, path: Path) -> bool:
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or "\0" in location or posix.is_absolute() or windows.is_absolute() or windows.drive:
        return True
    if ".." in posix.parts + windows.parts:
        return True
    # a link may lead elsewhere
    folder = os.path.realpath(path.parent)
    try:
        return os.path.commonpath([folder, os.path.realpath(path.parent / location)]) != folder
    except (OSError, ValueError):
        return True
