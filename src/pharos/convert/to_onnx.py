"""To ONNX: a graph becomes a file that ONNX Runtime runs; parameters keep the graph's names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

from pharos.convert.onnx_marks import mark
from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import InputError, SizeError
from pharos.quantity.sizes import is_int, prod

OPSET = 20
# Bytes of weights that still go into the file itself; protobuf ends at 2 GiB.
LARGEST_FILE = 2_000_000_000
# Where each tensor starts in a file of external data: a page, so that it can be mapped.
ALIGNMENT = 4096
# Our element types -> ONNX's numbers.
ELEMENTS = {"fp32": 1, "tf32": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
            "fp16": 10, "fp64": 11, "bf16": 16}  # fmt: skip
FLOATS = ("fp64", "fp32", "tf32", "bf16", "fp16")

Weights = Mapping[str, Any] | str


@dataclass(slots=True)
class Call:
    """One ONNX node before it is written down."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]

    def rename(self, old: str, new: str) -> None:
        """Puts a value's new name in place of its old one, in what it holds too."""
        self.inputs = [new if i == old else i for i in self.inputs]
        self.outputs = [new if o == old else o for o in self.outputs]
        for held in self.attributes.values():
            if isinstance(held, Body):
                for call in held.calls:
                    call.rename(old, new)


@dataclass(slots=True)
class Body:
    """What a loop runs: calls with inputs and outputs of their own."""

    inputs: list[tuple[str, Tensor]]
    calls: list[Call]
    outputs: list[tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Constant:
    """Data that is no parameter: shapes, tables of angles."""

    name: str
    values: Any


class Expression:
    """A value of whole numbers or truths; arithmetic on it appends nodes."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, w: "Writer", name: str) -> None:
        self.w, self.name = w, name

    def _apply(self, kind: str, other: Any) -> "Expression":
        import numpy as np

        second = other.name if isinstance(other, Expression) else self.w.table(np.int64(other))
        return Expression(self.w, self.w(kind, self.name, second))

    def __sub__(self, other: Any) -> "Expression":
        return self._apply("Sub", other)

    def __floordiv__(self, other: Any) -> "Expression":
        return self._apply("Div", other)

    def __mod__(self, other: Any) -> "Expression":
        return self._apply("Mod", other)

    def __lt__(self, other: Any) -> "Expression":
        return self._apply("Less", other)

    def __le__(self, other: Any) -> "Expression":
        return self._apply("LessOrEqual", other)

    def __gt__(self, other: Any) -> "Expression":
        return self._apply("Greater", other)

    def __ge__(self, other: Any) -> "Expression":
        return self._apply("GreaterOrEqual", other)

    def __eq__(self, other: Any) -> "Expression":  # type: ignore[override]
        return self._apply("Equal", other)

    def __and__(self, other: "Expression") -> "Expression":
        return self._apply("And", other)

    def __or__(self, other: "Expression") -> "Expression":
        return self._apply("Or", other)


@dataclass(slots=True)
class Writer:
    """The state of one export; see `graph.op.OnnxWriter` for what operators use of it."""

    graph: Graph
    current: Node | None = None
    values: dict[str, str] = field(default_factory=dict)
    # what depends on nothing but parameters comes first, then everything in the graph's order
    prelude: list[Call] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    group: list[Call] = field(default_factory=list)
    constants: dict[Any, Constant] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    shares: dict[Any, str] = field(default_factory=dict)
    pasts: list[tuple[str, Tensor]] = field(default_factory=list)
    presents: list[tuple[str, Tensor]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    # the operator of each node, with its inputs and parameters in the file, by the first of its calls
    marks: dict[int, tuple[Node, Op, int, list[str], dict[str, str]]] = field(default_factory=dict)
    done: Op | None = None
    used: dict[str, str] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        """The node that is being written."""
        assert self.current is not None
        return self.current

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Appends an ONNX node."""
        name = self._free(f"{self.node.name}/{kind}")
        made = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        self.group.append(Call(kind, name, list(inputs), made, attributes))
        return made[0] if outputs == 1 else made

    def _free(self, name: str) -> str:
        before = self.names.get(name, 0)
        self.names[name] = before + 1
        return f"{name}_{before}" if before else name

    @property
    def dtype(self) -> str:
        """Element type of the activations of the current node."""
        found = [t.dtype for t in (*self.node.outs, *self.node.ins) if t.dtype in FLOATS]
        return found[0] if found else self.graph.precision.activations

    def parameter(self, key: str) -> str:
        """A weight or buffer, cast where weights are stored in another type than activations."""
        node = self.node
        name = node.tied.get(key) or node.parameter(key)
        tensor = node.weights[key] if key in node.weights else node.buffers[key]
        self.parameters.setdefault(name, tensor)
        self.used[key] = name
        if tensor.dtype == self.dtype or tensor.dtype not in FLOATS:
            return name
        to = ELEMENTS[self.dtype]
        return self.shared(("cast", name, to), lambda: self("Cast", name, to=to))

    def number(self, value: float) -> str:
        """A scalar in the activations' type."""
        import numpy as np

        return self.table(np.float64(value))

    def ints(self, *values: Any) -> str:
        """A vector of int64."""
        import numpy as np

        return self.table(np.array([int(v) for v in values], np.int64))

    def table(self, values: Any) -> str:
        """A constant array, written once however often it is used."""
        import numpy as np
        from onnx.helper import tensor_dtype_to_np_dtype

        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = values.astype(tensor_dtype_to_np_dtype(ELEMENTS[self.dtype]))
        key = (values.shape, str(values.dtype), values.tobytes())
        if key not in self.constants:
            self.constants[key] = Constant(f"constant/{len(self.constants)}", values)
        return self.constants[key].name

    def past(self, key: str, shape: tuple[Any, ...]) -> str:
        """Adds an input to the file for what earlier calls kept."""
        tensor = Tensor(shape, self.node.state[key].dtype)
        name = f"past.{self.node.parameter(key)}"
        self.pasts.append((name, tensor))
        return self._as(name, tensor.dtype, self.dtype)

    def present(self, key: str, value: str, shape: tuple[Any, ...]) -> None:
        """Adds an output to the file for what later calls continue from."""
        tensor = Tensor(shape, self.node.state[key].dtype)
        name = f"present.{self.node.parameter(key)}"
        self.presents.append((name, tensor))
        self.group.append(
            Call("Cast", name, [value], [name], {"to": ELEMENTS[tensor.dtype]})
            if tensor.dtype != self.dtype
            else Call("Identity", name, [value], [name], {})
        )

    def _as(self, name: str, given: str, wanted: str) -> str:
        return name if given == wanted else self("Cast", name, to=ELEMENTS[wanted])

    def shared(self, key: Any, build: Callable[[], str]) -> str:
        """What is made of constants alone, written once."""
        if key not in self.shares:
            outer, self.group = self.group, self.prelude
            self.shares[key] = build()
            self.group = outer
        return self.shares[key]

    def expression(self, name: str) -> Expression:
        """A value to calculate with."""
        return Expression(self, name)

    def scan(
        self,
        body: Callable[..., Sequence[str]],
        carried: Sequence[tuple[str, Tensor]],
        rows: Sequence[tuple[str, Tensor]],
        made: Sequence[Tensor] = (),
        axis: int = 0,
    ) -> list[str]:
        """A Scan node over `body`, which uses values from outside by their names."""
        stem = self._free(f"{self.node.name}/step")
        inputs = [(f"{stem}/{i}", tensor) for i, (_, tensor) in enumerate((*carried, *rows))]
        outer, self.group = self.group, []
        given = [name for name, _ in inputs]
        # what a step hands on as it is must be made by a node of it
        left = [self("Identity", o) if o in given else o for o in body(*given)]
        tensors = [tensor for _, tensor in carried] + list(made)
        inside = Body(inputs, self.group, list(zip(left, tensors, strict=True)))
        self.group = outer
        found = self(
            "Scan", *[name for name, _ in (*carried, *rows)], outputs=len(left), body=inside,
            num_scan_inputs=len(rows), scan_input_axes=[axis] * len(rows),
            scan_output_axes=[axis] * len(made) or None,
        )  # fmt: skip
        return [found] if isinstance(found, str) else found

    def stands_for(self, op: Op) -> None:
        """What the nodes do, if that is not the operator itself."""
        self.done = op

    def write(self, node: Node) -> None:
        """Appends everything that one node of the graph becomes."""
        self.current, self.group, self.done, self.used = node, [], None, {}
        inputs = [self.values.get(i, i) for i in node.inputs]
        before = len(self.pasts) + len(self.presents)
        try:
            made = node.op.to_onnx(self, *inputs)
        except SizeError as error:
            raise InputError(error.what, where=f"{self.graph.name}: {node.name}", hint=error.hint) from None
        got = [made] if isinstance(made, str) else list(made)
        inside = {o for call in self.group for o in call.outputs}
        taken: set[str] = set()
        for value, name in zip(node.outputs, got, strict=True):
            if name in inside and name not in taken and not name.startswith("present."):
                taken.add(value)
                for call in self.group:
                    call.rename(name, value)
            else:
                self.values[value] = name
        self._title(node)
        held = len(self.pasts) + len(self.presents)
        if self.group and len(taken) == len(node.outputs) and held == before:
            start = len(self.calls)
            self.marks[start] = (node, self.done or node.op, len(self.group), inputs, self.used)
        self.calls += self.group

    def _title(self, node: Node) -> None:
        """The call that uses a parameter, or else makes the result, is called what the node is called."""
        if not self.group:
            return
        main = [c for c in self.group if any(i in self.parameters for i in c.inputs)] or [
            c for c in self.group if node.outputs[0] in c.outputs
        ]
        if main:
            main[0].name = node.name


def to_onnx(
    graph: Graph, path: str | Path, weights: Weights | None = None, opset: int = OPSET, seed: int = 0
) -> Path:
    """Writes `graph` as an ONNX file of standard operators; nothing of it is run, torch is not needed.

    Initialisers are called as the graph's parameters, inputs and outputs as its values, nodes as its
    nodes (what one operator takes several ONNX nodes for is scoped: ``layers.0.attn/MatMul``). A cache
    becomes inputs ``past.NAME`` and outputs ``present.NAME``. Weights beyond 2 GB go to ``PATH.data``.
    The files are whole or not there.

    Args:
        weights: arrays or tensors by parameter name, as a state_dict has them; "zeros"; or "random"
            (also None): repeatable, of the size that a newly made layer has.
        opset: of the standard operators, 20 or newer.
        seed: of the random weights.

    Raises:
        InputError: onnx is missing, an operator has no ONNX form, an element type or a size that no
            file can have, weights that are missing, misshapen or of unknown names, a place that cannot
            be written.
    """
    onnx = _onnx()
    newest = onnx.defs.onnx_opset_version()
    if not OPSET <= opset <= newest:
        raise InputError(f"opset {opset} cannot be written", hint=f"{OPSET} to {newest}")
    _check_types(graph)
    writer = _written(graph)
    known = {
        n.parameter(k)
        for n in graph.expanded().nodes
        if isinstance(n, Node)
        for k in (*n.weights, *n.buffers)
    }
    source = _source(writer.parameters, known, "random" if weights is None else weights, seed)
    return _store(onnx, graph, writer, Path(path), opset, source)


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


def _source(
    parameters: dict[str, Tensor], known: set[str], weights: Weights, seed: int
) -> Callable[[str], Any]:
    """Where the numbers of a parameter come from: an array of its shape, by its name.

    Args:
        known: names that weights may hold; tied parameters go under two.
    """
    import numpy as np

    if isinstance(weights, str):
        if weights not in ("zeros", "random"):
            raise InputError(f"weights {weights!r} are not known", hint="zeros, random or a state_dict")
        if weights == "zeros":
            return lambda name: np.broadcast_to(np.float32(0), parameters[name].shape)
        return lambda name: _random(name, parameters[name].shape, seed)
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
    onnx: Any, graph: Graph, writer: Writer, path: Path, opset: int, source: Callable[[str], Any]
) -> Path:
    """Writes the model, with its weights inside or beside it, under other names until all is there."""
    inline = sum(c.values.nbytes for c in writer.constants.values())
    total = inline + sum(t.nbytes for t in writer.parameters.values())
    beside = path.with_name(f"{path.name}.data")
    parts = [path.with_name(f".{path.name}.part"), path.with_name(f".{beside.name}.part")]
    try:
        if total > LARGEST_FILE:
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
    from pharos import __version__

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
        made, opset_imports=wanted, producer_name="pharos", producer_version=__version__,
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
