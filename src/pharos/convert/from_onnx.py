"""From ONNX: a file becomes a graph; weights stay on disk, nothing of the file is run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pharos.convert.onnx_file import DTYPES, LARGEST_DIM, LARGEST_TENSOR, opset_of, read_model
from pharos.convert.onnx_reader import MISTAKES, File, OnnxReader, call, convert
from pharos.convert.reader import FLOATS
from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.tensor import Tensor
from pharos.graph.workload import Workload
from pharos.passes.tidy import tidy
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, PharosError, SizeError
from pharos.quantity.sizes import Size, is_array, is_int, prod

BATCH_NAMES = ("batch", "batch_size", "b", "n", "bs", "s0", "dim_0")
CONTEXT_NAMES = ("sequence", "seq", "seq_len", "sequence_length", "context")
# What stands before a loop's name where its rounds are stated.
TRIPS = "trip_count:"


def from_onnx(
    path: str | Path, workload: Workload | None = None, dims: dict[str, Size] | None = None
) -> Graph:
    """The graph of an ONNX file.

    The first symbolic dimension of each input, or one named like a batch, takes the workload's batch;
    others take their size from `dims`. Sizes may be arrays or symbols: the file is read once, with
    formulas. Precision is the file's own unless the workload asks for another than fp32.

    Args:
        dims: sizes by the name of a symbolic dimension; "trip_count:NODE" for the rounds of a loop
            that the file does not state.

    Raises:
        InputError: not an ONNX file, external data outside its folder, an unbound dimension,
            absurd sizes. Operators without a rule are no error: they are listed as uncounted.
    """
    work, given = workload or Workload(), dims or {}
    model = read_model(Path(path))
    swept: dict[Any, Size] = {}
    if is_array(work.batch) or is_array(work.context) or any(map(is_array, given.values())):
        work, given, swept = _formal(work, given)
    try:
        graph = tidy(_read(model, work, given, str(path)))
        trains = tuple(_named(node) for node in model.graph.node if _as_trained(node))
        if trains:
            graph = replace(graph, meta=graph.meta | {"training_statistics": trains})
    except InputError:
        raise
    except PharosError as error:
        raise error if error.where else error.at(str(path)) from None
    except RecursionError:
        raise InputError("is nested too deeply", where=str(path)) from None
    except (*MISTAKES, MemoryError, AssertionError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(f"is not a usable ONNX model: {reason}", where=str(path)) from None
    if swept:
        from pharos.graph.substitute import substitute

        return substitute(graph, swept)
    return graph


def _as_trained(node: Any) -> bool:
    """Whether it is a batch norm that takes mean and variance of its batch."""
    return node.op_type == "BatchNormalization" and any(
        a.name == "training_mode" and a.i for a in node.attribute
    )


def _named(node: Any) -> str:
    return node.name or (node.output[0] if node.output else node.op_type)


def _formal(work: Workload, given: dict[str, Size]) -> tuple[Workload, dict[str, Size], dict[Any, Size]]:
    """Symbols in place of arrays, and which array each stands for."""
    import sympy

    swept: dict[Any, Size] = {}

    def symbol(name: str, value: Size) -> Size:
        if not is_array(value):
            return value
        made = sympy.Symbol(name, integer=True, positive=True)
        swept[made] = value
        return made

    work = work.but(batch=symbol("batch", work.batch), context=symbol("context", work.context))
    return work, {key: symbol(key, value) for key, value in given.items()}, swept


class _Sizes:
    """Sizes of the symbolic dimensions of a file's inputs."""

    def __init__(self, model: Any, work: Workload, dims: dict[str, Size], path: str) -> None:
        self.known: dict[str, Size] = {}
        self.shapes: dict[str, tuple[Size, ...]] = {}
        stored = {t.name for t in model.graph.initializer}
        open_dims: dict[str, str] = {}
        seen = set()
        for value in model.graph.input:
            if value.name in stored:
                continue
            shape: list[Size] = []
            for i, dim in enumerate(_type_of(value).shape.dim):
                symbol = dim.dim_param
                # writers put 0 or -1 for a size that is open; a name may stand beside it
                if not symbol and dim.HasField("dim_value") and dim.dim_value > 0:
                    if dim.dim_value > LARGEST_DIM:
                        raise InputError(
                            f"input {value.name!r} has a dimension of {dim.dim_value}", where=path
                        )
                    shape.append(dim.dim_value)
                    continue
                seen.add(symbol)
                found = self._size(symbol, i, work, dims)
                if found is None:
                    open_dims.setdefault(symbol or f"{value.name}:{i}", value.name)
                    found = 1
                elif symbol:
                    self.known[symbol] = found
                shape.append(found)
            self.shapes[value.name] = tuple(shape)
        for name in dims:
            if name not in seen and not name.startswith(TRIPS):
                known = sorted(s for s in seen if s)[:20]
                raise InputError(
                    f"has no dimension called {name!r}",
                    where=path,
                    hint=f"it has {', '.join(known)}" if known else "it has no symbolic dimensions",
                )
        if open_dims:
            named = list(open_dims.items())[:20]
            listed = ", ".join(f"{d} of {v}" for d, v in named)
            flags = " ".join(f"--dim {d}=..." for d, _ in named)
            raise InputError(f"leaves dimensions open: {listed}", where=path, hint=f"give {flags}")

    @staticmethod
    def _size(symbol: str, i: int, work: Workload, dims: dict[str, Size]) -> Size | None:
        if symbol in dims:
            return dims[symbol]
        if i == 0 or symbol.lower() in BATCH_NAMES:
            return work.batch
        return work.context if symbol.lower() in CONTEXT_NAMES else None

    def tensor(self, value: Any) -> Tensor | None:
        """What a file says of a value, None unless every size is known."""
        kind = _type_of(value)
        if kind.elem_type not in DTYPES or not kind.HasField("shape"):
            return None
        shape: list[Size] = []
        for dim in kind.shape.dim:
            if dim.dim_param in self.known and dim.dim_param:
                shape.append(self.known[dim.dim_param])
            elif dim.HasField("dim_value") and dim.dim_value >= 0:
                shape.append(dim.dim_value)
            else:
                return None
        if all(map(is_int, shape)) and (
            any(d > LARGEST_DIM for d in shape) or prod(tuple(shape)) > LARGEST_TENSOR
        ):
            raise SizeError(f"{value.name!r} has the absurd shape {shape[:8]}")
        return Tensor(tuple(shape), DTYPES[kind.elem_type])


def _type_of(value: Any) -> Any:
    """The tensor type of a value; of an optional one what it holds."""
    kind = value.type
    for _ in range(4):
        if kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
    return kind.tensor_type


def _precision(model: Any, work: Workload) -> Precision:
    """The file's own: of most of its weights, and of most of its numbers that are no integers."""
    if work.precision != Precision():
        return work.precision
    sizes: dict[str, int] = {}
    for tensor in model.graph.initializer:
        dtype = DTYPES.get(tensor.data_type, "")
        if dtype in FLOATS:
            sizes[dtype] = sizes.get(dtype, 0) + prod(tuple(tensor.dims))
    return Precision.of(max(sizes, key=lambda d: sizes[d])) if sizes else work.precision


def _read(model: Any, work: Workload, dims: dict[str, Size], path: str) -> Graph:
    # rules register themselves
    import pharos.convert.onnx_rules as rules

    assert rules
    sizes, graph = _Sizes(model, work, dims, path), model.graph
    precision = _precision(model, work)
    file = File(path, opset_of(model), {(f.domain, f.name): f for f in model.functions},
                {k.removeprefix(TRIPS): v for k, v in dims.items() if k.startswith(TRIPS)},
                free=work.precision == Precision())  # fmt: skip
    for node in graph.node:
        for name in node.input:
            file.readers.setdefault(name, set()).add(node.op_type)
    for value in graph.output:
        file.readers.setdefault(value.name, set()).add("")
    reader = OnnxReader(Builder(Path(path).stem, precision), file)
    for value in (*graph.value_info, *graph.output):
        tensor = sizes.tensor(value)
        if tensor is not None:
            reader.inferred[value.name] = tensor
    reader.declare(graph, {})
    for value in graph.input:
        if value.name not in reader.constants:
            _input(reader, value, sizes, precision)
    _nodes(reader, graph)
    for name in file.trips:
        if name not in file.asked:
            loops = ", ".join(sorted(file.asked)[:10])
            raise InputError(f"has no loop called {name!r} whose rounds are open", where=path,
                             hint=f"it has {loops}" if loops else "")  # fmt: skip
    return reader.g.finish(*_outputs(reader, graph), notes=tuple(file.notes) or None)


def _input(reader: OnnxReader, value: Any, sizes: _Sizes, precision: Precision) -> None:
    kind = _type_of(value)
    if kind.elem_type not in DTYPES or not kind.HasField("shape"):
        raise InputError(f"input {value.name!r} has no shape or a type without one", where=reader.path)
    dtype = DTYPES[kind.elem_type]
    shape = sizes.shapes[value.name]
    if any(is_int(s) and s == 0 for s in shape):
        reader.empty[value.name] = Tensor(shape, dtype)
        return
    dtype = precision.activations if dtype in FLOATS and not reader.file.free else dtype
    reader.used.add(value.name)
    reader.values[value.name] = reader.g.input(value.name, shape, dtype)


def _nodes(reader: OnnxReader, graph: Any) -> None:
    from pharos.convert.onnx_marks import marks, restore

    known, skipped = marks(graph.node), 0
    for i, node in enumerate(graph.node):
        if i in known and not skipped and restore(reader, known[i][0]):
            skipped = known[i][1]
        if skipped:
            skipped -= 1
        else:
            convert(reader, call(node, {}))


def _outputs(reader: OnnxReader, graph: Any) -> list[Value]:
    outputs = []
    for value in graph.output:
        if not reader.knows(value.name):
            raise InputError(f"output {value.name!r} is made by no node", where=reader.path)
        outputs += [reader.value(n) for n in reader.sequences.get(value.name, ())]
        if value.name in reader.values or value.name in reader.narrow:
            outputs.append(reader.value(value.name))
    if not outputs:
        raise InputError("computes nothing: every output is a constant", where=reader.path)
    return outputs
