"""From ONNX: a file becomes a graph; weights stay on disk, nothing of the file is run."""

from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pharos.convert.declared import declared
from pharos.convert.reader import FLOATS, Constant, Reader
from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.op import Op
from pharos.graph.tensor import Tensor
from pharos.graph.workload import Workload
from pharos.ops.unknown import Unknown
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError, SizeError
from pharos.quantity.sizes import is_int, prod

OLDEST_OPSET = 7
LARGEST_DIM, LARGEST_TENSOR = 10**9, 10**15
# ONNX element types by number -> ours; strings and complex numbers have none.
DTYPES = {1: "fp32", 2: "uint8", 3: "int8", 4: "int16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
          10: "fp16", 11: "fp64", 12: "int32", 13: "int64", 16: "bf16", 17: "fp8", 18: "fp8", 19: "fp8",
          20: "fp8", 21: "int4", 22: "int4", 23: "fp4"}  # fmt: skip
# Values whose data the rules may ask for: shapes, axes, pads, limits. Weights are never read.
SMALL = 64
BATCH_NAMES = ("batch", "batch_size", "b", "n", "bs", "s0", "dim_0")


class OnnxReader(Reader):
    """Reads ONNX nodes: knows how the file calls them and what its constants are made by."""

    def __init__(self, g: Builder, path: str) -> None:
        super().__init__(g, path)
        self.inferred: dict[str, Tensor] = {}
        # constants made by nodes of parameters: written as operators if one is used as an activation
        self.deferred: dict[str, tuple[Any, dict[str, Any]]] = {}

    def name(self, node: Any, weight: str = "") -> str:
        """A node's name: its parameter's without the last part, else what the file calls it."""
        origin = self.origin(weight)
        stem = origin.rsplit(".", 1)[0] if "." in origin and origin not in self.owners else ""
        return self.free(stem or node.name.strip("/").replace("/", ".") or node.op_type.lower())

    def add(
        self, node: Any, op: Op, *values: Value, weight: str = "", name: str = "", **parameters: str
    ) -> Any:
        """Appends an operator and returns its value or values.

        Args:
            weight: the constant that it is named after; with `parameters` those it has, by its own
                names: one that an earlier operator has is tied to that one's.
        """
        path = name or self.name(node, weight)
        return self.place(path, op, *values, origins={"weight": weight, **parameters})

    def written(self, name: str) -> bool:
        """Writes the nodes that make a constant of parameters."""
        if name not in self.deferred:
            return False
        from pharos.convert.onnx_rules import write

        node, attributes = self.deferred.pop(name)
        return write(self, node, attributes)


def from_onnx(
    path: str | Path, workload: Workload | None = None, dims: dict[str, int] | None = None
) -> Graph:
    """The graph of an ONNX file.

    The first symbolic dimension of each input, or one named like a batch, takes the workload's batch;
    others take their size from `dims`. Precision is the file's own unless the workload asks for
    another than fp32.

    Args:
        dims: sizes by the name of a symbolic dimension.

    Raises:
        InputError: not an ONNX file, external data outside its folder, an unbound dimension,
            absurd sizes. Operators without a rule are no error: they are listed as uncounted.
    """
    work = workload or Workload()
    model = _load(Path(path))
    try:
        _bind(model, work, dims or {}, str(path))
        return _read(model, work, str(path))
    except PharosError:
        raise
    except RecursionError:
        raise InputError("is nested too deeply", where=str(path)) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise InputError(f"is not a usable ONNX model: {error}", where=str(path)) from None


def _load(path: Path) -> Any:
    if not path.exists():
        near = [p.name for p in path.parent.glob("*.onnx")][:5] if path.parent.is_dir() else []
        raise InputError("does not exist", where=str(path), hint=f"there: {', '.join(near)}" if near else "")
    if path.is_dir():
        raise InputError("is a folder, not a file", where=str(path))
    if path.stat().st_size > 2**31:
        raise InputError("is beyond the 2 GiB that an ONNX file may have", where=str(path),
                         hint="store the weights as external data")  # fmt: skip
    try:
        import onnx
    except ModuleNotFoundError:
        raise InputError(
            "reading it needs the onnx package", where=str(path), hint="pip install 'pharos-nn[onnx]'"
        ) from None
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"is not a whole ONNX file: {reason}", where=str(path)) from None
    if not model.graph.node and not model.graph.output:
        raise InputError("holds no network", where=str(path))
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise InputError(f"is of opset {opset}; Pharos reads {OLDEST_OPSET} and newer", where=str(path))
    _check_storage(model, str(path))
    return model


def _check_storage(model: Any, path: str) -> None:
    """External data must lie beside the file; it is never opened all the same."""
    for tensor in model.graph.initializer:
        if any(d < 0 or d > LARGEST_DIM for d in tensor.dims) or prod(tensor.dims) > LARGEST_TENSOR:
            raise InputError(f"{tensor.name!r} has the absurd shape {list(tensor.dims)}", where=path)
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            posix, windows = PurePosixPath(entry.value), PureWindowsPath(entry.value)
            outside = posix.is_absolute() or windows.is_absolute() or ".." in posix.parts + windows.parts
            if outside or windows.drive or not entry.value:
                raise InputError(
                    f"{tensor.name!r} wants data from {entry.value!r}, outside the model's folder", where=path
                )


def _bind(model: Any, work: Workload, dims: dict[str, int], path: str) -> None:
    """Puts sizes in place of the symbolic dimensions of the inputs."""
    stored = {t.name for t in model.graph.initializer}
    open_dims: dict[str, str] = {}
    seen = set()
    for value in model.graph.input:
        if value.name in stored:
            continue
        shape = value.type.tensor_type.shape
        for i, dim in enumerate(shape.dim):
            symbol = dim.dim_param
            if not symbol and dim.HasField("dim_value") and dim.dim_value > 0:
                if dim.dim_value > LARGEST_DIM:
                    raise InputError(f"input {value.name!r} has a dimension of {dim.dim_value}", where=path)
                continue
            seen.add(symbol)
            if symbol in dims:
                dim.dim_value = dims[symbol]
            elif i == 0 or symbol.lower() in BATCH_NAMES:
                if not is_int(work.batch):
                    raise InputError("an ONNX file takes one batch, not an array", where=path)
                dim.dim_value = work.batch
            elif symbol.lower() in ("sequence", "seq", "seq_len", "sequence_length", "context") and is_int(
                work.context
            ):
                dim.dim_value = work.context
            else:
                open_dims.setdefault(symbol or f"{value.name}:{i}", value.name)
    for name in dims:
        if name not in seen:
            known = sorted(s for s in seen if s)
            raise InputError(
                f"has no dimension called {name!r}",
                where=path,
                hint=f"it has {', '.join(known)}" if known else "it has no symbolic dimensions",
            )
    if open_dims:
        listed = ", ".join(f"{d} of {v}" for d, v in open_dims.items())
        flags = " ".join(f"--dim {d}=..." for d in open_dims)
        raise InputError(f"leaves dimensions open: {listed}", where=path, hint=f"give {flags}")


def _tensor(value: Any) -> Tensor | None:
    """What a file says of a value, None unless every size is known."""
    kind = value.type.tensor_type
    if kind.elem_type not in DTYPES or not kind.HasField("shape"):
        return None
    shape = []
    for dim in kind.shape.dim:
        if not dim.HasField("dim_value") or dim.dim_value < 0:
            return None
        shape.append(dim.dim_value)
    if any(d > LARGEST_DIM for d in shape) or prod(shape) > LARGEST_TENSOR:
        raise SizeError(f"{value.name!r} has the absurd shape {shape}")
    return Tensor(tuple(shape), DTYPES[kind.elem_type])


def _precision(model: Any, work: Workload) -> Precision:
    if work.precision != Precision():
        return work.precision
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        dtype = DTYPES.get(tensor.data_type, "")
        if dtype in FLOATS:
            sizes[dtype] = sizes.get(dtype, 0) + prod(tensor.dims)
    return Precision.of(max(sizes, key=lambda d: sizes[d])) if sizes else work.precision


def _read(model: Any, work: Workload, path: str) -> Graph:
    import onnx

    try:
        whole = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        whole = model
    graph = whole.graph
    precision = _precision(model, work)
    reader = OnnxReader(Builder(Path(path).stem, precision), path)
    for value in (*graph.value_info, *graph.output):
        tensor = _tensor(value)
        if tensor is not None:
            reader.inferred[value.name] = tensor
    said = {v.name: {p.key: p.value for p in v.metadata_props} for v in model.graph.value_info}
    for tensor in graph.initializer:
        constant = _constant(onnx, tensor)
        reader.constants[tensor.name] = _traced(constant, tensor.name, said.get(tensor.name, {}))
    for value in graph.input:
        if value.name in reader.constants:
            continue
        tensor = _tensor(value)
        if tensor is None:
            raise InputError(f"input {value.name!r} has no shape or a type without one", where=path)
        dtype = precision.activations if tensor.dtype in FLOATS else tensor.dtype
        reader.used.add(value.name)
        reader.values[value.name] = reader.g.input(value.name, tensor.shape, dtype)
    from pharos.convert.onnx_marks import marks, restore
    from pharos.convert.onnx_rules import convert

    # shape inference writes into the bodies of loops: marks are held against the file as it is
    known, skipped = marks(model.graph.node), 0
    for i, node in enumerate(graph.node):
        if i in known and not skipped and restore(reader, known[i][0]):
            skipped = known[i][1]
        if skipped:
            skipped -= 1
        else:
            convert(onnx, reader, node)
    outputs = []
    for value in graph.output:
        if value.name not in reader.values and value.name not in reader.constants:
            raise InputError(f"output {value.name!r} is made by no node", where=path)
        if value.name in reader.values:
            outputs.append(reader.values[value.name])
    if not outputs:
        raise InputError("computes nothing: every output is a constant", where=path)
    return reader.g.finish(*outputs)


def _traced(constant: Constant, name: str, said: dict[str, str]) -> Constant:
    """An initialiser with the parameters that PyTorch's exporter says it comes from; else it is one."""
    if said.get("pkg.torch.export.graph_signature.InputSpec.kind", "PARAMETER") != "PARAMETER":
        return constant
    folded = said.get("pkg.onnxscript.optimizer.folded_from")
    if folded is None:
        return replace(constant, origins=(name,))
    # parameters are attributes of modules, what the exporter computed has plain names
    origins = tuple(part for part in (p.strip("[]' ") for p in folded.split(",")) if "." in part)
    return replace(constant, origins=origins, turned=len(origins) == 1 and constant.tensor.rank == 2)


def _constant(onnx: Any, tensor: Any) -> Constant:
    """An initialiser's shape and dtype; its numbers only when they are few and in the file."""
    known = Tensor(tuple(tensor.dims), DTYPES.get(tensor.data_type, "fp32"))
    if prod(tensor.dims) > SMALL or tensor.external_data or tensor.data_type not in DTYPES:
        return Constant(known)
    return Constant(known, onnx.numpy_helper.to_array(tensor).reshape(-1).tolist())


def unknown(reader: OnnxReader, node: Any) -> None:
    """Records a node without a rule: listed by name, its shapes as far as the file implies them."""
    # parameters it uses are parameters all the same, in the body of a loop too
    inside = [i for a in node.attribute for inner in a.g.node for i in inner.input]
    values = [reader.value(i) for i in dict.fromkeys((*node.input, *inside)) if reader.holds(i)]
    tensors = [reader.inferred.get(o) for o in node.output if o]
    shapes = tuple(t.shape if t is not None else (1,) for t in tensors)
    dtypes = tuple(t.dtype if t is not None else reader.g.precision.activations for t in tensors)
    called = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    outputs = [Tensor(s, d) for s, d in zip(shapes, dtypes, strict=True)]
    import onnx

    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    own = declared(f"{node.domain}::{node.op_type}", [v.tensor for v in values], outputs, **attributes)
    if own is not None:
        made = reader.add(node, own, *values)
        for name, value in zip([o for o in node.output if o], made if isinstance(made, tuple) else (made,),
                               strict=True):  # fmt: skip
            reader.values[name] = value
        return
    made = reader.add(node, Unknown(called, shapes, dtypes), *values, name=reader.name(node) + f" ({called})")
    for name, value in zip(
        [o for o in node.output if o], made if isinstance(made, tuple) else (made,), strict=True
    ):
        reader.values[name] = value
