"""The writer that operators put themselves into ONNX with: nodes, constants, parameters, steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op
from pharos.graph.tensor import Tensor
from pharos.quantity.errors import InputError, SizeError

# Our element types -> ONNX's numbers.
ELEMENTS = {"fp32": 1, "tf32": 1, "uint8": 2, "int8": 3, "int16": 5, "int32": 6, "int64": 7, "bool": 9,
            "fp16": 10, "fp64": 11, "bf16": 16}  # fmt: skip
FLOATS = ("fp64", "fp32", "tf32", "bf16", "fp16")


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
