"""Rewrite: a level of a graph whose operators are exchanged group by group, its counts kept exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count as counter
from typing import Any

from pharos.graph.graph import Graph, Node, Repeat, held
from pharos.graph.op import Op
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.ops.activation import Activation
from pharos.ops.elementwise import Div, Mul
from pharos.ops.shape_ops import Reshape, Transpose
from pharos.ops.stored import Stored
from pharos.quantity.errors import PharosError
from pharos.quantity.sizes import Size, is_symbol, same, same_shape

# Kinds that hand their only input on as it is.
SAME_KINDS = frozenset({"dropout", "clone", "identity"})
FLOATS = frozenset({"fp64", "fp32", "bf16", "fp16", "fp8"})


class Mismatch(Exception):
    """A group of operators is not what a rule looks for."""


def need(condition: object) -> None:
    """Raises `Mismatch` unless `condition`."""
    if not condition:
        raise Mismatch


@dataclass(frozen=True, slots=True)
class Parameter:
    """A stored parameter that is used as a value.

    Args:
        name: its full name, its owner's where it is tied.
    """

    name: str
    tensor: Tensor


class Level:
    """The nodes of one graph or repeated body, with who makes and who reads each value.

    A rule looks around with `maker`, `only_reader` and `shape`, writes new operators with `add`, the last
    of which gives the values of the group's last operator, and calls `replace`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node | Repeat] = {n.name: n for n in graph.nodes}
        self._at = {n.name: (i, 0) for i, n in enumerate(graph.nodes)}
        self._ticket = counter(1)
        self.makers: dict[str, Node | Repeat] = {}
        self.reading: dict[str, list[str]] = {}
        self.tensors: dict[str, Tensor] = {v.name: v.tensor for v in graph.inputs}
        self.kept = {v.name for v in graph.outputs}
        # what is known of masks, by value
        self.masks: dict[str, str] = {}
        self._new: list[Node] = []
        # the operator that a rule is tried on, whose name is free for what stands in its place
        self.trying = ""
        for node in graph.nodes:
            self._enter(node)
        # operators that something reads: they may go when nothing does any more
        self._read = [
            n.name
            for n in graph.nodes
            if isinstance(n, Node)
            and isinstance(n.op, Stored)
            and any(self.reading.get(v) for v in n.outputs)
        ]

    def _enter(self, node: "Node | Repeat") -> None:
        outs = node.outs if isinstance(node, Node) else [v.tensor for v in node.body.outputs]
        for value, tensor in zip(node.outputs, outs, strict=True):
            self.makers[value] = node
            self.tensors[value] = tensor
        for value in node.inputs:
            self.reading.setdefault(value, []).append(node.name)

    def _leave(self, node: Node) -> None:
        del self.nodes[node.name]
        for value in node.outputs:
            if self.makers.get(value) is node:
                del self.makers[value]
        for value in set(node.inputs):
            self.reading[value] = [n for n in self.reading[value] if n != node.name]

    def maker(self, value: str) -> Node | None:
        """The operator that makes a value; None for an input and for what a repeated layer returns."""
        found = self.makers.get(value)
        return found if isinstance(found, Node) else None

    def position(self, node: "Node | Repeat") -> tuple[int, int]:
        """Where a node stands: what is made before has a smaller one."""
        return self._at[node.name]

    def readers(self, value: str) -> list["Node | Repeat"]:
        """Operators that read a value, one for each time it is read."""
        return [self.nodes[n] for n in self.reading.get(value, [])]

    def only_reader(self, value: str) -> Node:
        """The one operator that reads a value, which is no output of the graph.

        Raises:
            Mismatch: there are none or several.
        """
        found = self.readers(value)
        if len(found) != 1 or value in self.kept or not isinstance(found[0], Node):
            raise Mismatch
        return found[0]

    def shape(self, value: str) -> tuple[Size, ...]:
        """Sizes of a value."""
        return self.tensors[value].shape

    def op(self, value: str, *kinds: type[Op]) -> Node:
        """The operator that makes a value, casts and the like left out.

        Raises:
            Mismatch: it is not of one of the kinds.
        """
        node = self.maker(self.plain(value))
        if node is None or not isinstance(node.op, kinds):
            raise Mismatch
        return node

    def function(self, value: str, *names: str) -> Node:
        """The activation of one of the given names that makes a value.

        Raises:
            Mismatch: something else makes it.
        """
        node = self.op(value, Activation)
        need(node.op.function in names)  # type: ignore[attr-defined]
        return node

    def plain(self, value: str) -> str:
        """The value behind casts, dropouts and other operators that hand it on."""
        while (node := self.maker(value)) is not None and hands_on(node):
            value = node.inputs[0]
        return value

    def alike(self, a: str, b: str, depth: int = 3) -> bool:
        """Whether two values are the same, or made alike of the same by up to `depth` operators."""
        a, b = self.plain(a), self.plain(b)
        if a == b:
            return True
        one, two = self.maker(a), self.maker(b)
        if one is None or two is None or not depth or one.op != two.op or one.weights or two.weights:
            return False
        if len(one.outputs) > 1 or not one.inputs or len(one.inputs) != len(two.inputs):
            return False
        return all(self.alike(i, j, depth - 1) for i, j in zip(one.inputs, two.inputs, strict=True))

    def parameter(self, value: str) -> Parameter | None:
        """The stored parameter that a value is, or None."""
        node = self.maker(self.plain(value))
        if node is None or not isinstance(node.op, Stored) or not node.op.trainable:
            return None
        key = node.op.key
        return Parameter(node.tied.get(key) or node.parameter(key), node.outs[0])

    def factor(self, value: str) -> tuple[str, float]:
        """(the value behind multiplications by numbers, the product of those numbers)."""
        whole = 1.0
        while True:
            value = self.plain(value)
            node = self.maker(value)
            number = None if node is None else multiplier(node)
            if node is None or number is None:
                return value, whole
            whole, value = whole * number, node.inputs[0]

    def add(
        self, name: str, op: Op, *inputs: str, outputs: Sequence[str] | None = None,
        parameters: dict[str, Parameter] | None = None, heir: Node | None = None,
    ) -> str:  # fmt: skip
        """A new operator, for the next `replace` to put in; returns its first output.

        Args:
            outputs: values that it gives instead of the operator that gave them so far.
            parameters: stored parameters that it uses as its own, by its own names.
            heir: an operator that it stands in for and whose parameters it keeps.

        Raises:
            Mismatch: inputs, outputs or parameters do not fit.
        """
        ins = tuple(self.tensors[i] for i in inputs)
        try:
            made = op.shape(*ins)
        except PharosError:
            raise Mismatch from None
        outs = made if isinstance(made, tuple) else (made,)
        if outs[0].dtype == ACTIVATIONS:
            outs = tuple(Tensor(t.shape, self.graph.precision.activations) for t in outs)
        if heir is None:
            name = self._free(name)
        values = (
            tuple(outputs) if outputs is not None else self._values(heir.name if heir else name, len(outs))
        )
        for value, tensor in zip(values, outs, strict=True):
            need(value not in self.tensors or same_shape(self.tensors[value].shape, tensor.shape))
        outs = tuple(self.tensors.get(v, t) for v, t in zip(values, outs, strict=True))
        kept = held(op, (*ins, *outs), self.graph.precision)
        tied = {key: p.name for key, p in (parameters or {}).items()}
        for key, parameter in (parameters or {}).items():
            need(key in kept["weights"] and same_shape(kept["weights"][key].shape, parameter.tensor.shape))
        node = Node(
            name, op, inputs, values, ins, outs, kept["weights"], kept["buffers"], kept["state"], tied
        )  # fmt: skip
        if heir is not None:
            node = replace(node, name=heir.name, home=heir.home, tied={**heir.tied, **tied})
        self._new.append(node)
        for value, tensor in zip(values, outs, strict=True):
            self.tensors.setdefault(value, tensor)
        return values[0]

    def _free(self, base: str) -> str:
        taken, name, i = {n.name for n in self._new}, base, 1
        while name in taken or (name in self.nodes and name != self.trying):
            name, i = f"{base}_{i}", i + 1
        return name

    def _values(self, name: str, count: int) -> tuple[str, ...]:
        while True:
            found = (name,) if count == 1 else tuple(f"{name}:{i}" for i in range(count))
            if not any(v in self.tensors for v in found):
                return found
            name = f"{name}_"

    def reshaped(self, name: str, value: str, shape: tuple[Size, ...]) -> str:
        """A value in another shape; what it was a reshape of, if that has the shape already."""
        while True:
            if same_sizes(self.shape(value), shape):
                return value
            node = self.latest(value)
            if node is None or not isinstance(node.op, Reshape):
                return self.add(name, Reshape(shape), value)
            value = node.inputs[0]

    def swapped(self, name: str, value: str) -> str:
        """A value with its last two dimensions exchanged; what it was exchanged from, if it was."""
        rank = len(self.shape(value))
        node = self.latest(value)
        order = (*range(rank - 2), rank - 1, rank - 2)
        if node is not None and isinstance(node.op, Transpose):
            dims = tuple(node.op.dims[d] for d in order)
            if dims == tuple(range(rank)):
                return node.inputs[0]
            return self.add(name, replace(node.op, dims=dims), node.inputs[0])
        if node is not None and isinstance(node.op, Reshape):
            source, (*lead, a, b) = node.inputs[0], self.shape(value)
            if same_sizes(self.shape(source)[-2:], (a, b)):
                return self.reshaped(name, self.swapped(name, source), (*lead, b, a))
        return self.add(name, Transpose(order, view=True), value)

    def latest(self, value: str) -> Node | None:
        """The operator that makes a value, of those just added or of the graph."""
        for node in self._new:
            if value in node.outputs:
                return node
        return self.maker(value)

    def drop(self) -> None:
        """Forgets what `add` wrote since the last `replace`."""
        for value in [v for node in self._new for v in node.outputs]:
            if value not in self.makers:
                self.tensors.pop(value, None)
        self._new = []

    def replace(self, last: Node) -> bool:
        """Puts what was added in place of `last` and of what only it needed.

        Changes nothing and returns False if the multiply-accumulates would not stay the same, or if a
        parameter would be lost.
        """
        gone, new = self._unneeded(last), self._new
        names = {n.name for n in gone}
        lost = {n.parameter(k) for n in gone for k in (*n.weights, *n.buffers) if k not in n.tied}
        found = {n.parameter(k) for n in new for k in (*n.weights, *n.buffers) if k not in n.tied}
        clash = [n for n in new if n.name in self.nodes and n.name not in names]
        if clash or lost != found or not same_size(_macs(gone), _macs(new)):
            self.drop()
            return False
        place = self._at[last.name][0]
        for node in gone:
            self._leave(node)
        for node in new:
            self.nodes[node.name] = node
            self._at[node.name] = (place, next(self._ticket))
            self._enter(node)
        self._new = []
        return True

    def _unneeded(self, last: Node) -> list[Node]:
        """`last` and all before it that nobody reads once the new operators stand in its place."""
        gone, ids, queue = [last], {last.name}, [*last.inputs]
        wanted = {i for n in self._new for i in n.inputs} | self.kept
        while queue:
            node = self.maker(queue.pop())
            if node is None or node.name in ids or isinstance(node.op, Stored) or node.state:
                continue
            if any(v in wanted or any(r not in ids for r in self.reading.get(v, [])) for v in node.outputs):
                continue
            gone.append(node)
            ids.add(node.name)
            queue.extend(node.inputs)
        return gone

    def finished(self) -> Graph:
        """The graph as it is now, parameters in the hands of the operators that use them."""
        self._hand_over()
        nodes = sorted(self.nodes.values(), key=lambda n: self._at[n.name])
        return replace(self.graph, nodes=tuple(nodes))

    def _hand_over(self) -> None:
        """Stored parameters that nobody reads any more go to the first operator tied to them."""
        heirs: dict[str, list[tuple[str, str]]] = {}
        for node in sorted(self.nodes.values(), key=lambda n: self._at[n.name]):
            if isinstance(node, Node):
                for key, name in node.tied.items():
                    heirs.setdefault(name, []).append((node.name, key))
        for name in reversed(self._read):
            if (node := self._unread(name)) and not (node.weights or node.buffers or node.state):
                self._leave(node)
        for name in self._read:
            node = self._unread(name)
            if node is None or not isinstance(node.op, Stored):
                continue
            op = node.op
            full = node.tied.get(op.key) or node.parameter(op.key)
            if node.tied or (not op.trainable and full not in heirs):
                self._leave(node)
                continue
            for heir, key in heirs.get(full, []):
                made = self._owning(heir, key, full, name)
                if made is not None:
                    self._leave(node)
                    self._exchange(heir, made, heirs)
                    break

    def _unread(self, name: str) -> Node | None:
        """An operator that nothing reads and that gives no output."""
        node = self.nodes.get(name)
        if not isinstance(node, Node) or any(self.reading.get(v) or v in self.kept for v in node.outputs):
            return None
        return node

    def _owning(self, name: str, key: str, full: str, holder: str) -> Node | None:
        """An operator with a tied parameter of `holder` made its own, if its other names stay as they are."""
        node = self.nodes[name]
        assert isinstance(node, Node)
        tied = {k: v for k, v in node.tied.items() if k != key}
        if node.parameter(key) == full:
            return replace(node, tied=tied)
        stem = full.removesuffix(key)
        if stem == full or (stem and not stem.endswith(".")) or set(node.weights) - set(node.tied):
            return None
        path = stem.removesuffix(".")
        if path and (path == holder or path not in self.nodes):
            return replace(node, name=path, home=None, tied=tied)
        return replace(node, home=stem, tied=tied)

    def _exchange(self, name: str, node: Node, heirs: dict[str, list[tuple[str, str]]]) -> None:
        old = self.nodes[name]
        assert isinstance(old, Node)
        self._at[node.name] = self._at[name]
        self._leave(old)
        self.nodes[node.name] = node
        self._enter(node)
        for uses in heirs.values():
            uses[:] = [(node.name if n == name else n, k) for n, k in uses]


def hands_on(node: Node) -> bool:
    """Whether an operator's output is its first input, numbers and shape unchanged."""
    op = node.op
    if isinstance(op, Activation):
        return op.function == "identity"
    if op.kind == "cast":
        return node.ins[0].dtype in FLOATS and node.outs[0].dtype in FLOATS
    if isinstance(op, Reshape):
        return same_shape(node.ins[0].shape, node.outs[0].shape)
    return op.kind in SAME_KINDS


def multiplier(node: Node) -> float | None:
    """The number that an operator multiplies its only input by, or None."""
    op, scalar = node.op, number(node)
    if isinstance(op, Mul):
        return scalar
    return 1 / scalar if isinstance(op, Div) and not op.flipped and scalar else None


def number(node: Node) -> float | None:
    """The scalar operand of an operator, if it has one that is a number and no formula."""
    found = getattr(node.op, "scalar", None)
    return found if isinstance(found, (int, float)) else None


def same_size(a: Size, b: Size) -> bool:
    """Whether two sizes are equal; formulas are expanded, which is enough for products and sums."""
    if not (is_symbol(a) or is_symbol(b)):
        return same(a, b)
    import sympy

    return a == b or sympy.expand(sympy.sympify(a) - b) == 0


def same_sizes(a: Sequence[Size], b: Sequence[Size]) -> bool:
    """Whether two shapes are equal."""
    return len(a) == len(b) and all(map(same_size, a, b))


def _macs(nodes: Sequence[Node]) -> Size:
    total: Any = 0
    for node in nodes:
        total = total + node.op.work(*node.io).macs
    return total
