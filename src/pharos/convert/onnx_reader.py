"""The reader of ONNX nodes: values, constants and sequences by name, functions and bodies written out."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pharos.convert.declared import declared
from pharos.convert.onnx_file import DTYPES, LARGEST_TENSOR, MOST_WRITTEN
from pharos.convert.onnx_fold import SMALL, array, folded
from pharos.convert.reader import FLOATS, Constant, Reader
from pharos.graph.graph import Builder, Value
from pharos.graph.op import Op
from pharos.graph.tensor import Tensor
from pharos.ops.stored import Stored
from pharos.ops.unknown import Unknown
from pharos.quantity.errors import InputError, PharosError, SizeError
from pharos.quantity.sizes import Size, is_int, prod

# What comes of a node that makes no sense: it is then listed as unknown.
MISTAKES = (PharosError, ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError)
STANDARD = ("", "ai.onnx")
# Nodes that hand their input on unchanged at inference.
SAME = {"Identity", "Dropout", "Optional", "OptionalGetElement"}
# Nodes whose result follows from shapes, not from data.
FROM_SHAPES = {"Shape", "Size", "Constant", "SequenceLength"}
# Bodies within bodies that are followed.
DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Call:
    """One ONNX node, with the names that its values have in the whole file.

    Args:
        scope: names of the body it stands in -> names in the whole file.
    """

    op_type: str
    domain: str
    name: str
    input: list[str]
    output: list[str]
    attributes: dict[str, Any]
    scope: dict[str, str]


@dataclass(slots=True)
class File:
    """What all bodies of one file share.

    Args:
        opset: version of the standard operators.
        functions: local ones by (domain, name).
        trips: rounds of loops that the user states, by the node's name.
        free: numeric types are the file's own, not those that a workload asks for.
        readers: consumers of each value of the main graph, by operator type.
        costs: what branches cost, by what they are and what they read.
    """

    path: str
    opset: int = 0
    functions: dict[tuple[str, str], Any] = field(default_factory=dict)
    trips: dict[str, Size] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    free: bool = True
    nodes: int = 0
    depth: int = 0
    notes: list[str] = field(default_factory=list)
    readers: dict[str, set[str]] = field(default_factory=dict)
    costs: dict[Any, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in reading: nodes, and names in each table of the reader."""

    length: int
    held: list[int]
    depth: int
    notes: list[str]


class OnnxReader(Reader):
    """Reads ONNX nodes: knows how the file calls them and what its constants are made by."""

    def __init__(self, g: Builder, file: File) -> None:
        super().__init__(g, file.path)
        self.file = file
        # what the file says of a value
        self.inferred: dict[str, Tensor] = {}
        # constants made by nodes of parameters: written as operators if one is used as an activation
        self.deferred: dict[str, Call] = {}
        self.sequences: dict[str, list[str]] = {}
        # values with no elements, such as an empty cache
        self.empty: dict[str, Tensor] = {}
        # element types that parameters are stored in, by initialiser
        self.types: dict[str, str] = {}
        # dequantised values -> the narrow ones they are made of
        self.narrow: dict[str, Value] = {}
        # of the body of a loop: the reader around it, and what is taken from there
        self.outer: OnnxReader | None = None
        self.taken: list[tuple[str, Value]] = []

    def name(self, node: Call, weight: str = "") -> str:
        """A node's name: its parameter's without the last part, else what the file calls it."""
        origin = self.origin(weight)
        stem = origin.rsplit(".", 1)[0] if "." in origin and origin not in self.owners else ""
        called = node.name.strip("/").replace("/", ".")[:200]
        return self.free(stem or called or node.op_type.lower() or "node")

    def add(
        self,
        node: Call,
        op: Op,
        *values: Value,
        weight: str = "",
        name: str = "",
        made_in: str = "",
        **parameters: str,
    ) -> Any:
        """Appends an operator and returns its value or values.

        Args:
            weight: the constant that it is named after; with `parameters` those it has, by its own
                names: one that an earlier operator has is tied to that one's.
            made_in: element type of what it gives, where not that of what it takes.
        """
        path = name or self.name(node, weight)
        how = {"made_in": made_in} if made_in else {}
        made = self.place(path, op, *values, origins={"weight": weight, **parameters}, **how)
        for value in made if isinstance(made, tuple) else (made,):
            if is_int(value.tensor.numel) and value.tensor.numel > LARGEST_TENSOR:
                raise SizeError(f"{path!r} makes a tensor of the absurd shape {list(value.shape)[:8]}")
        return made

    def place(
        self,
        path: str,
        op: Op,
        *values: Value,
        origins: dict[str, str],
        home: str | None = None,
        **how: Any,
    ) -> Any:
        """As of every importer; parameters keep the types that the file stores them in."""
        kept = {}
        for key in op.weights() if self.types else ():
            stored = self.types.get(self.origin(origins.get(key, "")), "")
            if stored and (stored not in FLOATS or self.file.free):
                kept[key] = stored
        return super().place(
            path, op, *values, origins=origins, home=home, **how, **({"stored": kept} if kept else {})
        )

    def written(self, name: str) -> bool:
        """Writes the nodes that make a constant of others."""
        if name not in self.deferred:
            return False
        return write(self, self.deferred.pop(name))

    def knows(self, name: str) -> bool:
        """Whether something makes this name."""
        for held in (self.values, self.constants, self.sequences, self.empty, self.narrow):
            if name in held:
                return True
        return self.outer is not None and self.outer.knows(name)

    def value(self, name: str) -> Value:
        """An activation, of a body one that stands outside too; a constant that is used as one is stored."""
        if self.outer is not None and name not in self.values and self.outer.knows(name):
            whole = self.outer.value(name)
            self.values[name] = self.g.input(
                self.free(f"outer{len(self.taken)}"), whole.shape, whole.tensor.dtype
            )
            self.taken.append((name, whole))
        if name in self.empty:
            raise SizeError(f"{name!r} has no elements")
        return super().value(name)

    def store(self, name: str, constant: Constant) -> None:
        """A parameter in the graph that no operator of it owns."""
        self.values[name] = self._stored(name, constant)
        # its readers still see a parameter
        del self.values[name]

    def buffer(self, name: str) -> None:
        """A constant that an operator reads and that is no parameter, such as scales of blocks."""
        tensor, key = self.constants[name].tensor, name.rpartition(".")[2].strip("/") or "scale"
        path = self.free(name.strip("/").replace("/", "."))
        stem, _, last = path.rpartition(".")
        op = Stored(tensor.shape, False, tensor.dtype, last or key)
        self.g(path, op, home=stem, made_in=tensor.dtype)

    def widen(self, value: Value, dtype: str) -> Value:
        """The same value as what made it gives it out: sums of narrow products are wide."""
        self.g.retype(value.name, dtype)
        return Value(value.name, Tensor(value.shape, dtype))

    def mark(self) -> "Mark":
        """Where reading stands, to go back to."""
        held = (
            self.values,
            self.constants,
            self.owners,
            self.deferred,
            self.sequences,
            self.empty,
            self.types,
        )
        return Mark(self.g.length, [len(h) for h in held], self.file.depth, list(self.file.notes))

    def rollback(self, mark: "Mark") -> None:
        """Takes back what was read since."""
        self.used.difference_update(self.g.undo(mark.length))
        held = (
            self.values,
            self.constants,
            self.owners,
            self.deferred,
            self.sequences,
            self.empty,
            self.types,
        )
        for names, length in zip(held, mark.held, strict=True):
            while len(names) > length:
                names.popitem()  # type: ignore[attr-defined]
        self.file.depth = mark.depth
        self.file.notes[:] = mark.notes

    def alias(self, made: str, of: str) -> None:
        """Another name for what a name stands for."""
        for held in (self.values, self.constants, self.sequences, self.empty, self.narrow):
            if of in held:
                held[made] = held[of]  # type: ignore[index]
        if of in self.deferred:
            self.deferred[made] = replace(self.deferred[of], output=[made])

    def tensor(self, name: str) -> Tensor:
        """Shape and dtype of a value or constant, one without elements too."""
        if name in self.empty:
            return self.empty[name]
        if self.outer is not None and name not in self.values and name not in self.constants:
            return self.outer.tensor(name)
        if name in self.narrow and name not in self.values:
            return Tensor(self.narrow[name].shape, self.g.precision.activations)
        return super().tensor(name)

    def array(self, name: str) -> Any:
        """A small constant as a NumPy array of Python numbers, None when it is not one."""
        found = self.constants.get(name)
        if found is None or found.data is None:
            return None
        import numpy as np

        return array(np, found.data, found.tensor.shape)

    def declare(self, graph: Any, scope: dict[str, str]) -> None:
        """Takes up what a graph stores, under the names of `scope`."""
        said = {v.name: {p.key: p.value for p in v.metadata_props} for v in graph.value_info}
        for tensor in graph.initializer:
            name: str = scope.get(tensor.name) or tensor.name
            constant = traced(constant_of(tensor), name, said.get(tensor.name, {}))
            self.constants[name] = constant
            for origin in constant.origins:
                self.types.setdefault(origin, constant.tensor.dtype)
        for sparse in graph.sparse_initializer:
            name = scope.get(sparse.values.name) or sparse.values.name
            dtype = DTYPES.get(sparse.values.data_type, "fp32")
            self.constants[name] = Constant(Tensor(tuple(sparse.dims), dtype), None, (name,))

    def body(self, graph: Any, node: Call, given: Sequence[str]) -> list[str]:
        """Writes out a graph inside a node: names of its outputs.

        Args:
            given: names of what its inputs stand for.
        """
        self.enter()
        scope = dict(node.scope)
        stem = self.free(f"{node.name or node.op_type.lower()}:body") + "/"
        for tensor in (*graph.initializer, *(s.values for s in graph.sparse_initializer)):
            scope[tensor.name] = stem + tensor.name
        self.declare(graph, scope)
        for value, name in zip(graph.input, given, strict=False):
            scope[value.name] = name
        for inner in graph.node:
            convert(self, call(inner, scope, stem))
        self.file.depth -= 1
        return [scope.get(v.name) or v.name for v in graph.output]

    def enter(self) -> None:
        """One body deeper.

        Raises:
            InputError: more bodies within bodies than any exporter writes.
        """
        self.file.depth += 1
        if self.file.depth > DEEPEST:
            raise InputError("has functions or bodies nested too deeply, or without end", where=self.path)

    def note(self, text: str) -> None:
        """Something that the reader of the counts must know."""
        if text not in self.file.notes:
            self.file.notes.append(text)


def call(node: Any, scope: dict[str, str], stem: str = "", over: dict[str, Any] | None = None) -> Call:
    """A node with the names of its body put in; what it makes gets a name under `stem`.

    Args:
        over: attributes of a function's call, for those that refer to them.
    """
    inputs = [_named(scope, i) for i in node.input]
    attributes = {}
    for a in node.attribute:
        if a.ref_attr_name:
            if over and a.ref_attr_name in over:
                attributes[a.name] = over[a.ref_attr_name]
        else:
            attributes[a.name] = attribute_of(a)
            if isinstance(attributes[a.name], list) and a.name in _lone(node.op_type, node.domain):
                raise InputError(f"attribute {a.name} must be one number, not a list", where=node.name)
    if stem:
        for o in node.output:
            if o:
                scope[o] = stem + o
    outputs = [_named(scope, o) for o in node.output]
    name = stem + node.name if stem and node.name else node.name
    return Call(node.op_type, node.domain, name, inputs, outputs, attributes, scope)


def _named(scope: dict[str, str], name: str) -> str:
    """What a name of a body is called in the whole file; "" for an input that is left out."""
    found = scope.get(name)
    return name if found is None else found


@cache
def _lone(kind: str, domain: str) -> frozenset[str]:
    """Attributes that the standard says are one number; none of an operator that it does not know."""
    from onnx import defs

    if domain not in ("", "ai.onnx") or not defs.has(kind):
        return frozenset()
    one = (defs.OpSchema.AttrType.INT, defs.OpSchema.AttrType.FLOAT)
    return frozenset(name for name, a in defs.get_schema(kind).attributes.items() if a.type in one)


def attribute_of(attribute: Any) -> Any:
    """The value of an attribute; text as str.

    Raises:
        ValueError: of no known type.
    """
    import onnx

    if attribute.type == 0:
        # old writers leave the type out
        for name in ("ints", "floats", "strings", "graphs", "tensors"):
            if held := getattr(attribute, name):
                return [_text(v) for v in held]
        for name in ("t", "g"):
            if attribute.HasField(name):
                return getattr(attribute, name)
        return attribute.i if attribute.HasField("i") else _text(attribute.s) if attribute.s else attribute.f
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return _text(value)
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    return [_text(v) for v in value] if attribute.type == onnx.AttributeProto.STRINGS else value


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def traced(constant: Constant, name: str, said: dict[str, str]) -> Constant:
    """An initialiser with the parameters that PyTorch's exporter says it comes from; else it is one."""
    if said.get("pkg.torch.export.graph_signature.InputSpec.kind", "PARAMETER") != "PARAMETER":
        return constant
    folded_from = said.get("pkg.onnxscript.optimizer.folded_from")
    if folded_from is None:
        return replace(constant, origins=(name,))
    # parameters are attributes of modules, what the exporter computed has plain names
    origins = tuple(part for part in (p.strip("[]' ") for p in folded_from.split(",")) if "." in part)
    return replace(constant, origins=origins, turned=len(origins) == 1 and constant.tensor.rank == 2)


def constant_of(tensor: Any) -> Constant:
    """A stored tensor's shape and dtype; its numbers only when they are few and in the file."""
    known = Tensor(tuple(tensor.dims), DTYPES.get(tensor.data_type, "fp32"))
    return Constant(known, numbers_of(tensor))


def numbers_of(tensor: Any) -> list[Any] | None:
    """The numbers of a small stored tensor, None of any other."""
    import onnx

    if prod(tuple(tensor.dims)) > SMALL or tensor.external_data or tensor.data_type not in DTYPES:
        return None
    if tensor.data_type in (8, 14, 15):
        return None
    try:
        return onnx.numpy_helper.to_array(tensor).reshape(-1).tolist()
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
        # fewer numbers than its shape needs: its shape stands all the same
        return None


def convert(reader: OnnxReader, node: Call) -> None:
    """Converts one node: folded if it is constant, by its rule if it has one, else unknown."""
    if reader.file.depth:
        reader.file.nodes += 1
        if reader.file.nodes > MOST_WRITTEN:
            raise InputError(f"writes out to more than {MOST_WRITTEN} nodes", where=reader.path)
    kind, given = node.op_type, [i for i in node.input if i]
    for name in given:
        if not reader.knows(name):
            reader.value(name)
    function = reader.file.functions.get((node.domain, kind))
    if function is not None:
        _inline(reader, node, function)
        return
    standard = node.domain in STANDARD
    if standard and kind == "Dropout" and len(node.output) > 1 and node.output[1]:
        reader.constants[node.output[1]] = Constant(Tensor(reader.tensor(given[0]).shape, "bool"))
    if standard and kind in SAME and given and node.output:
        reader.alias(node.output[0], given[0])
        return
    if standard and _folds(reader, node, given) and _fold(reader, node):
        return
    if not write(reader, node):
        unknown(reader, node)


def _narrow(reader: OnnxReader, node: Call) -> Any:
    """The node on whole numbers, where everything around it is quantised."""
    if not reader.narrow:
        return None
    from pharos.convert.onnx_rules.quantised import narrowed

    return narrowed(reader, node)


def _folds(reader: OnnxReader, node: Call, given: list[str]) -> bool:
    if node.op_type in FROM_SHAPES:
        return True
    # a cast gives the type of another value, not its numbers; of dequantised weights only these count
    first = node.op_type in ("CastLike", "DequantizeLinear")
    needed = given[:1] if first else given
    if "Sequence" in node.op_type or any(hasattr(v, "node") for v in node.attributes.values()):
        return False
    return bool(given) and all(i in reader.constants for i in needed)


def _inline(reader: OnnxReader, node: Call, function: Any) -> None:
    """Writes a local function's nodes in place of its call."""
    reader.enter()
    scope = dict(zip(function.input, node.input, strict=False))
    scope |= dict.fromkeys(function.input[len(node.input) :], "")
    stem = reader.free(node.name or node.op_type) + "/"
    over = {a.name: attribute_of(a) for a in function.attribute_proto} | node.attributes
    for inner in function.node:
        convert(reader, call(inner, scope, stem, over))
    for made, inner in zip(node.output, function.output, strict=False):
        if made:
            reader.alias(made, _named(scope, inner))
            if not reader.knows(made):
                raise InputError(f"function {function.name!r} does not make {inner!r}", where=reader.path)
    reader.file.depth -= 1


def write(reader: OnnxReader, node: Call) -> bool:
    """Writes one node by its rule; False if it has none, or a form that the rule does not cover."""
    from pharos.convert.onnx_rules.registry import rule_of

    found = rule_of(node)
    if found is None:
        return False
    before = reader.mark()
    try:
        made = _narrow(reader, node)
        made = found(reader, node) if made is None else made
    except InputError:
        raise
    except MISTAKES:
        # nothing of a rule that failed half-way stays
        reader.rollback(before)
        return False
    results = made if isinstance(made, tuple) else (made,)
    for name, value in zip(node.output, results, strict=False):
        if name and value is not None:
            reader.values[name] = value
    return all(reader.knows(o) or o in reader.narrow for o in node.output if o)


def _fold(reader: OnnxReader, node: Call) -> bool:
    """What follows from shapes and constants: its shape, and its numbers where they are few."""
    kind = node.op_type
    if kind == "Constant":
        return _constant(reader, node)
    if kind in ("Shape", "Size"):
        shape = reader.tensor(node.input[0]).shape
        data = list(shape)[node.attributes.get("start", 0) : node.attributes.get("end", len(shape))]
        made = Tensor((len(data),), "int64")
        if kind == "Size":
            data, made = [prod(shape)], Tensor((), "int64")
        reader.constants[node.output[0]] = Constant(made, data)
        return True
    if kind == "SequenceLength":
        if node.input[0] not in reader.sequences:
            return False
        reader.constants[node.output[0]] = Constant(
            Tensor((), "int64"), [len(reader.sequences[node.input[0]])]
        )
        return True
    if any(i not in reader.constants for i in node.input if i) and kind not in (
        "CastLike",
        "DequantizeLinear",
    ):
        return False
    given = [reader.constants[i] for i in node.input if i in reader.constants]
    arrays = [reader.array(i) if i else None for i in node.input]
    small = all(c.data is not None for c in given) and len(given) == len([i for i in node.input if i])
    found = folded(node, node.attributes, arrays) if small else None
    if kind == "ConstantOfShape" and found is None:
        return False
    outputs = [o for o in node.output if o]
    tensors = _tensors(reader, node)
    if found is not None and len(found) == len(outputs):
        types = [t.dtype for t in tensors] if tensors else [_type_of(node, given)] * len(found)
        tensors = [Tensor(tuple(r.shape), t) for r, t in zip(found, types, strict=False)]
    if tensors is None or len(tensors) != len(outputs):
        tensors = (
            [reader.inferred[o] for o in outputs] if all(o in reader.inferred for o in outputs) else None
        )
    if tensors is None:
        return False
    # from each initialiser once; sizes are taken from none, and scales are no parameters
    given = given[:1] if kind == "DequantizeLinear" else given
    origins = tuple(
        dict.fromkeys(o for c in given for o in c.origins if c.tensor.numel != 1 or len(given) == 1)
    )
    turned = bool(given) and given[0].turned != (kind == "Transpose" and given[0].tensor.rank == 2)
    for i, name in enumerate(outputs):
        data = None if found is None or len(found) != len(outputs) else found[i].reshape(-1).tolist()
        reader.constants[name] = Constant(tensors[i], data, origins, turned)
        if origins:
            reader.deferred[name] = node
    return True


def _constant(reader: OnnxReader, node: Call) -> bool:
    name: str
    raw: Any
    name, raw = next(iter(node.attributes.items()), ("", None))
    if hasattr(raw, "dims") and hasattr(raw, "data_type"):
        found = constant_of(raw)
        reader.constants[node.output[0]] = replace(found, origins=found.origins)
        return True
    if hasattr(raw, "values"):
        dtype = DTYPES.get(raw.values.data_type, "fp32")
        reader.constants[node.output[0]] = Constant(Tensor(tuple(raw.dims), dtype))
        return True
    if raw is None:
        return False
    data = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    dtype = {"value_float": "fp32", "value_floats": "fp32", "value_int": "int64", "value_ints": "int64"}
    if name not in dtype:
        data = []
    shape = (len(data),) if isinstance(raw, (list, tuple)) else ()
    reader.constants[node.output[0]] = Constant(Tensor(shape, dtype.get(name, "uint8")), data or None)
    return True


def _type_of(node: Call, given: list[Constant]) -> str:
    if node.op_type == "Cast":
        return DTYPES.get(node.attributes.get("to", 0), "fp32")
    if node.op_type in ("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not"):
        return "bool"
    if node.op_type == "ConstantOfShape":
        value = node.attributes.get("value")
        return DTYPES.get(getattr(value, "data_type", 1), "fp32")
    if node.op_type == "NonZero":
        return "int64"
    return given[-1 if node.op_type == "Where" else 0].tensor.dtype if given else "fp32"


def _tensors(reader: OnnxReader, node: Call) -> list[Tensor] | None:
    """Shapes that a node's rule gives, tried on a graph that is thrown away."""
    scratch = OnnxReader(Builder("scratch", reader.g.precision), reader.file)
    for i, name in enumerate(node.input):
        if not name:
            continue
        found = reader.constants.get(name)
        if found is None:
            scratch.values[name] = Value(name, reader.tensor(name))
        elif found.data is not None and i > 0:
            scratch.constants[name] = Constant(found.tensor, found.data)
        else:
            scratch.values[name] = Value(name, found.tensor)
    if not write(scratch, node):
        return None
    return [scratch.tensor(o) for o in node.output if o]


def unknown(reader: OnnxReader, node: Call) -> None:
    """Records a node without a rule: listed by name, its shapes as far as the file implies them."""
    # parameters it uses are parameters all the same, in the body of a loop too
    bodies = [
        b for v in node.attributes.values() for b in (v if isinstance(v, list) else [v]) if hasattr(b, "node")
    ]
    inside = [node.scope.get(i, i) for body in bodies for inner in body.node for i in inner.input]
    values = [reader.value(i) for i in dict.fromkeys((*node.input, *inside)) if i and reader.holds(i)]
    outputs = [o for o in node.output if o]
    if not outputs:
        return
    tensors = [reader.inferred.get(o) for o in outputs]
    shapes = tuple(t.shape if t is not None else (1,) for t in tensors)
    dtypes = tuple(t.dtype if t is not None else reader.g.precision.activations for t in tensors)
    called = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    own = declared(
        f"{node.domain}::{node.op_type}",
        [v.tensor for v in values],
        [Tensor(s, d) for s, d in zip(shapes, dtypes, strict=True)],
        **node.attributes,
    )
    if own is not None:
        made = reader.add(node, own, *values)
        reader.values.update(zip(outputs, made if isinstance(made, tuple) else (made,), strict=True))
        return
    made = reader.add(node, Unknown(called, shapes, dtypes), *values, name=reader.name(node) + f" ({called})")
    for name, value in zip(outputs, made if isinstance(made, tuple) else (made,), strict=True):
        reader.values[name] = value
