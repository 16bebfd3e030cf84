"""To ONNX: a graph becomes a file that ONNX Runtime runs; parameters keep the graph's names."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from pharos.convert.onnx_marks import mark
from pharos.convert.onnx_writer import ELEMENTS, FLOATS, Body, Call, Writer
from pharos.graph.graph import Graph, Node
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import InputError
from pharos.quantity.sizes import is_int, prod
from pharos.quantity.units import fmt

OPSET = 20
# Bytes of weights that still go into the file itself; protobuf ends at 2 GiB.
LARGEST_FILE = 2_000_000_000
# Where each tensor starts in a file of external data: a page, so that it can be mapped.
ALIGNMENT = 4096

Weights = Mapping[str, Any] | str


def to_onnx(
    graph: Graph, path: str | Path, weights: Weights | None = None, opset: int = OPSET, seed: int = 0
) -> Path:
    """Writes `graph` as an ONNX file of standard operators; nothing of it is run, torch is not needed.

    Initialisers are called as the graph's parameters, inputs and outputs as its values, nodes as its
    nodes (what one operator takes several ONNX nodes for is scoped: ``layers.0.attn/MatMul``). A cache
    becomes inputs ``past.NAME`` and outputs ``present.NAME``. Weights beyond 2 GB go to ``PATH.data``.
    The files are whole or not there.

    Args:
        weights: arrays or tensors by parameter name, as a state_dict has them; "zeros"; "random"
            (also None): repeatable, of the size that a newly made layer has; or "none": shapes and types
            alone, for viewers such as Netron and for reading back, a small file that no runtime runs.
        opset: of the standard operators, 20 or newer.
        seed: of the random weights.

    Raises:
        InputError: onnx is missing, an operator has no ONNX form, an element type or a size that no
            file can have, weights that are missing, misshapen or of unknown names, a place that cannot
            be written.
    """
    path, onnx = Path(path), _onnx()
    if path.is_dir() or not path.name:
        raise InputError("is a folder", where=str(path))
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise InputError(f"opset {opset} cannot be written", hint=f"{OPSET} to {newest}")
    _check_types(graph)
    writer = _written(graph)
    if isinstance(weights, str) and weights == "none":
        return _store(onnx, graph, writer, path, opset, None)
    source = source_of(graph, writer.parameters, "random" if weights is None else weights, seed)
    return _store(onnx, graph, writer, path, opset, source)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.defs
        import onnx.helper
    except ModuleNotFoundError:
        raise InputError(
            "writing ONNX needs the onnx package", hint="pip install 'pharos-nn[onnx]'"
        ) from None
    return onnx


def _written(graph: Graph) -> Writer:
    plain, writer = graph.expanded(), Writer(graph)
    for value in graph.inputs:
        if not all(is_int(s) for s in value.shape):
            raise InputError(f"input {value.name!r} has no fixed size: {value.tensor}", where=graph.name)
    for node in plain.nodes:
        assert isinstance(node, Node)
        writer.write(node)
    made = {o for call in writer.calls for o in call.outputs}
    for given, value in zip(graph.outputs, plain.outputs, strict=True):
        name = writer.values.get(value.name, value.name)
        if name != given.name or name not in made:
            # an output is made by a node, under its own name
            writer.calls.append(Call("Identity", f"{given.name}/Identity", [name], [given.name], {}))
    return writer


def _check_types(graph: Graph) -> None:
    nodes = [n for n, _, _ in graph.walk()]
    kept = {t.dtype for node in nodes for t in node.state.values()}
    for dtype in (graph.precision.weights, graph.precision.activations, *kept):
        if dtype not in FLOATS:
            raise InputError(
                f"weights, activations or a cache in {dtype} cannot be written", where=graph.name,
                hint=f"export in one of {', '.join(FLOATS)} and quantise the file",
            )  # fmt: skip


def source_of(
    graph: Graph, parameters: Mapping[str, Tensor], weights: Weights, seed: int = 0
) -> Callable[[str], Any]:
    """Where the numbers of a graph's parameters come from: an array of its shape, by its name.

    Args:
        parameters: those that are needed.

    Raises:
        InputError: weights that are missing, misshapen or of unknown names.
    """
    import numpy as np

    if isinstance(weights, str):
        if weights not in ("zeros", "random"):
            raise InputError(f"weights {weights!r} are not known", hint="zeros, random, none or a state_dict")
        if weights == "zeros":
            return lambda name: np.broadcast_to(np.float32(0), parameters[name].shape)
        return lambda name: _random(name, parameters[name].shape, seed)
    # tied parameters go under two names
    nodes = [n for n in graph.expanded().nodes if isinstance(n, Node)]
    known = {n.parameter(k) for n in nodes for k in (*n.weights, *n.buffers)}
    missing = [n for n in parameters if n not in weights]
    if missing:
        raise InputError(f"weights have no {_listed(missing)}")
    # PyTorch counts batches in a buffer that inference does not use
    extra = [n for n in weights if n not in known and not n.endswith("num_batches_tracked")]
    if extra:
        raise InputError(f"the graph has no {_listed(extra)}, which weights hold")
    found = {}
    for name, tensor in parameters.items():
        given = tuple(weights[name].shape)
        if given != tensor.shape:
            raise InputError(f"weights hold {name} of shape {given}, not {tensor.shape}")
        found[name] = weights[name]
    return lambda name: _array(found[name])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _random(name: str, shape: tuple[int, ...], seed: int) -> Any:
    """Matrices of variance 1 / inputs; scales and variances of 1, shifts and means of 0."""
    import numpy as np

    rng = np.random.default_rng([seed, crc32(name.encode())])
    if len(shape) < 2:
        return np.full(shape, float(name.endswith(("weight", "var"))), np.float32)
    return rng.standard_normal(shape, np.float32) * np.float32(prod(shape[1:]) ** -0.5)


def _array(tensor: Any) -> Any:
    """A NumPy array of an array or of a torch tensor, whose bfloat16 NumPy does not know."""
    import numpy as np

    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    return np.asarray(tensor)


def _store(
    onnx: Any, graph: Graph, writer: Writer, path: Path, opset: int, source: Callable[[str], Any] | None
) -> Path:
    """Writes the model, with its weights inside or beside it, under other names until all is there."""
    inline = sum(c.values.nbytes for c in writer.constants.values())
    total = inline + (sum(t.nbytes for t in writer.parameters.values()) if source else 0)
    if inline > LARGEST_FILE:
        raise InputError(
            f"has {fmt(inline, 'B')} of constants, beyond what an ONNX file holds", where=graph.name
        )
    _need_room(path, total)
    beside = path.with_name(f"{path.name}.data")
    parts = [path.with_name(f".{path.name}.part"), path.with_name(f".{beside.name}.part")]
    try:
        if source is None:
            stored = [
                onnx.TensorProto(name=n, data_type=ELEMENTS[t.dtype], dims=t.shape)
                for n, t in writer.parameters.items()
            ]
        elif total > LARGEST_FILE:
            with parts[1].open("wb") as handle:
                stored = [
                    _outside(onnx, handle, name, tensor, source(name), beside.name)
                    for name, tensor in writer.parameters.items()
                ]
        else:
            stored = [_inside(onnx, n, t, source(n)) for n, t in writer.parameters.items()]
        parts[0].write_bytes(_model(onnx, graph, writer, stored, opset).SerializeToString())
        if total > LARGEST_FILE:
            parts[1].replace(beside)
        parts[0].replace(path)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=str(path)) from None
    finally:
        for part in parts:
            part.unlink(missing_ok=True)
    return path


def _need_room(path: Path, total: int) -> None:
    from shutil import disk_usage

    if path.parent.is_dir() and total > (free := disk_usage(path.parent).free):
        raise InputError(f"needs {fmt(total, 'B')}, {fmt(free, 'B')} are free", where=str(path))


def _inside(onnx: Any, name: str, tensor: Tensor, values: Any) -> Any:
    return onnx.numpy_helper.from_array(_cast(onnx, values, tensor), name)


def _cast(onnx: Any, values: Any, tensor: Tensor) -> Any:
    import numpy as np

    wanted = onnx.helper.tensor_dtype_to_np_dtype(ELEMENTS[tensor.dtype])
    return np.ascontiguousarray(values, wanted).reshape(tensor.shape)


def _outside(onnx: Any, handle: BinaryIO, name: str, tensor: Tensor, values: Any, location: str) -> Any:
    """Appends the numbers to the file of external data; says where they are."""
    start = -(-handle.tell() // ALIGNMENT) * ALIGNMENT
    handle.seek(start)
    handle.write(memoryview(_cast(onnx, values, tensor)).cast("B"))
    made = onnx.TensorProto(name=name, data_type=ELEMENTS[tensor.dtype], dims=tensor.shape)
    made.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": start, "length": handle.tell() - start}.items():
        made.external_data.add(key=key, value=str(value))
    return made


def _model(onnx: Any, graph: Graph, writer: Writer, stored: list[Any], opset: int) -> Any:
    helper = onnx.helper

    def info(name: str, tensor: Tensor) -> Any:
        return helper.make_tensor_value_info(name, ELEMENTS[tensor.dtype], tensor.shape)

    constants = [
        helper.make_node("Constant", [], [c.name], name=c.name, value=onnx.numpy_helper.from_array(c.values))
        for c in writer.constants.values()
    ]
    calls = [_node(onnx, call) for call in writer.calls]
    for start, (node, op, length, inputs, parameters) in writer.marks.items():
        mark(calls[start : start + length], node, op, inputs, parameters)
    calls = [_node(onnx, call) for call in writer.prelude] + calls
    ends = {v.name for v in graph.outputs}
    between = [
        info(name, tensor)
        for node in graph.expanded().nodes
        if isinstance(node, Node)
        for name, tensor in zip(node.outputs, node.outs, strict=True)
        if name not in ends and name not in writer.values
    ]
    made = helper.make_graph(
        [*constants, *calls],
        graph.name,
        [info(v.name, v.tensor) for v in graph.inputs] + [info(*past) for past in writer.pasts],
        [info(v.name, v.tensor) for v in graph.outputs] + [info(*present) for present in writer.presents],
        stored,
        value_info=between,
    )
    wanted = [helper.make_opsetid("", opset)]
    return helper.make_model(
        made, opset_imports=wanted, producer_name="pharos",
        ir_version=max(10, helper.find_min_ir_version_for(wanted)),
    )  # fmt: skip


def _node(onnx: Any, call: Call) -> Any:
    attributes = {
        key: _body(onnx, call.name, value) if isinstance(value, Body) else value
        for key, value in call.attributes.items()
        if value is not None
    }
    return onnx.helper.make_node(call.kind, call.inputs, call.outputs, name=call.name, **attributes)


def _body(onnx: Any, name: str, body: Body) -> Any:
    def info(name: str, tensor: Tensor) -> Any:
        return onnx.helper.make_tensor_value_info(name, ELEMENTS[tensor.dtype], tensor.shape)

    return onnx.helper.make_graph(
        [_node(onnx, call) for call in body.calls],
        f"{name}/body",
        [info(*i) for i in body.inputs],
        [info(*o) for o in body.outputs],
    )
