"""Graph: typed operators in order, with repeated layers folded into one Repeat."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pharos.graph.op import Op
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import SizeError
from pharos.quantity.shown import Shown
from pharos.quantity.sizes import Size, same_shape, size

_NONE: dict[str, Any] = {}
_HOLDS_NONE: dict[str, dict[str, Any]] = {"weights": _NONE, "buffers": _NONE, "state": _NONE}


@dataclass(frozen=True, slots=True)
class Value:
    """A named tensor in a graph."""

    name: str
    tensor: Tensor

    @property
    def shape(self) -> tuple[Size, ...]:
        """Its sizes."""
        return self.tensor.shape


@dataclass(frozen=True, slots=True)
class Node:
    """One use of an operator: its tensors resolved to shapes and dtypes.

    Args:
        name: path within its graph, the prefix of its parameters' names.
        inputs, outputs: names of values; `ins`, `outs` their tensors.
        weights, buffers, state: tensors by the operator's own names.
        tied: weights that are another node's parameter: own name -> full parameter name.
        home: what stands before its parameters' names, if that is not its own name: a module of the
            reference implementation may own a parameter that one of several operators uses.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ins: tuple[Tensor, ...]
    outs: tuple[Tensor, ...]
    weights: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    home: str | None = None

    def parameter(self, key: str) -> str:
        """Full name of one of its weights or buffers."""
        return f"{self.name}.{key}" if self.home is None else f"{self.home}{key}"

    @property
    def weight_bytes(self) -> Size:
        """Bytes of its parameters, tied ones included: it reads them all the same."""
        return sum([t.nbytes for t in self.weights.values()]) if self.weights else 0

    @property
    def buffer_bytes(self) -> Size:
        """Bytes of its buffers."""
        return sum([t.nbytes for t in self.buffers.values()]) if self.buffers else 0

    @property
    def state_bytes(self) -> Size:
        """Bytes it keeps between calls."""
        return sum([t.nbytes for t in self.state.values()]) if self.state else 0

    @property
    def io(self) -> tuple[Tensor, ...]:
        """Inputs, then outputs, as the rules of an operator take them."""
        return self.ins + self.outs


@dataclass(frozen=True, slots=True)
class Repeat:
    """A body that runs `count` times in a row, each time with weights and state of its own.

    The body's outputs are its first inputs in the next round; further inputs stay the same.
    Parameters are called ``{name}.{start + i}.{path in the body}``. A round may be several layers in
    turn, such as one of local and one of global attention: then paths in the body begin with the
    number of the layer in its round, and ``{j}.{path}`` is ``{name}.{start + i * period + j}.{path}``.

    Args:
        period: layers in a round.
    """

    name: str
    body: "Graph"
    count: Size
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    start: int = 0
    period: int = 1

    def path(self, i: int, inside: str) -> str:
        """Full name in round `i`, counted from 0, of what is called `inside` in the body."""
        if self.period == 1:
            return f"{self.name}.{self.start + i}.{inside}"
        layer, _, rest = inside.partition(".")
        return f"{self.name}.{self.start + i * self.period + int(layer)}.{rest}"

    def title(self, inside: str) -> str:
        """Name in all rounds together: layer3.1-5.conv2, or layers.0-46:2.mlp for every second."""
        first = self.path(0, inside)
        if isinstance(self.count, int) and self.count == 1:
            return first
        rest = inside if self.period == 1 else inside.partition(".")[2]
        number = int(first[len(self.name) + 1 : len(first) - len(rest) - 1])
        step = "" if self.period == 1 else f":{self.period}"
        return f"{self.name}.{number}-{number + (self.count - 1) * self.period}{step}.{rest}"


@dataclass(frozen=True, slots=True)
class Graph(Shown):
    """A network: inputs, nodes in execution order, outputs; no weights, only their shapes."""

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple["Node | Repeat", ...]
    outputs: tuple[Value, ...]
    precision: Precision = field(default_factory=Precision)
    # Facts about the network that tools need and no operator holds: context limit, family, notes.
    meta: dict[str, Any] = field(default_factory=dict)

    def walk(self) -> Iterator[tuple[Node, Size, str]]:
        """Each distinct node with the number of times it runs and its folded full name."""
        return _walk(self.nodes, 1, ())

    def expanded(self, most: int | None = None) -> "Graph":
        """The same graph with every Repeat written out.

        Args:
            most: at most this many rounds of each Repeat; the first and last are kept, which is
                enough for peaks because the rounds between them are alike.
        """
        rename: dict[str, str] = {}
        nodes = tuple(_expand(self.nodes, str, rename, most))
        outputs = tuple(Value(rename.get(v.name, v.name), v.tensor) for v in self.outputs)
        return replace(self, nodes=nodes, outputs=outputs)

    def with_ops(self, change: Callable[[Node], Op | None]) -> "Graph":
        """The same graph with some operators exchanged for others that take and give the same tensors.

        Args:
            change: the new operator of a node, or None to leave it.

        Raises:
            SizeError: another output shape, naming the node.
        """

        def swapped(node: "Node | Repeat") -> "Node | Repeat":
            if isinstance(node, Repeat):
                return replace(node, body=node.body.with_ops(change))
            op = change(node)
            if op is None or op == node.op:
                return node
            made = op.shape(*node.ins)
            outs = made if isinstance(made, tuple) else (made,)
            if not all(same_shape(a.shape, b.shape) for a, b in zip(outs, node.outs, strict=True)):
                raise op.refuse("gives another shape than the operator it stands in for", *node.io).at(
                    f"{self.name}: {node.name}"
                )
            found = held(op, node.io, self.precision)
            # a parameter that is stored in a type of its own stays so
            own = {k: node.weights.get(k, t) for k, t in found["weights"].items()}
            if all(own[k].shape == t.shape for k, t in found["weights"].items()):
                found = found | {"weights": own}
            return replace(node, op=op, **found)

        return replace(self, nodes=tuple(map(swapped, self.nodes)))

    def parameter_names(self) -> dict[str, Tensor]:
        """Every stored parameter once by its full name, tied ones under their owner's."""
        found: dict[str, Tensor] = {}
        for node in self.expanded().nodes:
            assert isinstance(node, Node)
            for key, tensor in node.weights.items():
                if key not in node.tied:
                    found[node.parameter(key)] = tensor
        return found


def held(op: Op, io: tuple[Tensor, ...], precision: Precision) -> dict[str, dict[str, Tensor]]:
    """The tensors a node of `op` holds, by field: weights, buffers and state, at their precisions."""
    weights, buffers, state = op.weights(), op.buffers(), op.state(*io)
    if not (weights or buffers or state):
        return _HOLDS_NONE
    kept = getattr(precision, op.state_precision)
    return {
        "weights": {k: Tensor(s, precision.weights) for k, s in weights.items()} if weights else _NONE,
        "buffers": {k: Tensor(s, precision.weights) for k, s in buffers.items()} if buffers else _NONE,
        "state": {k: Tensor(s, kept) for k, s in state.items()} if state else _NONE,
    }


def folded_name(name: str, rounds: Sequence[Repeat]) -> str:
    """Full name of a node in the innermost of nested `rounds`, given outermost first."""
    for around in reversed(rounds):
        name = around.title(name)
    return name


def _walk(
    nodes: Sequence["Node | Repeat"], times: Size, rounds: tuple[Repeat, ...]
) -> Iterator[tuple[Node, Size, str]]:
    for node in nodes:
        if isinstance(node, Repeat):
            yield from _walk(node.body.nodes, times * node.count, (*rounds, node))
        else:
            yield node, times, folded_name(node.name, rounds)


def _expand(
    nodes: Sequence["Node | Repeat"], place: Callable[[str], str], rename: dict[str, str], most: int | None
) -> Iterator[Node]:
    for node in nodes:
        if isinstance(node, Node):
            for out in node.outputs:
                rename[out] = place(out)
            yield replace(
                node,
                name=place(node.name),
                inputs=tuple(rename.get(i, i) for i in node.inputs),
                outputs=tuple(rename[o] for o in node.outputs),
                home=None if node.home is None else place(node.home),
            )
            continue
        if not isinstance(node.count, int):
            raise SizeError(f"{node.name} repeats {node.count} times: only a number can be written out")
        rounds = range(node.count)
        if most is not None and node.count > most:
            rounds = [*range(most - 1), node.count - 1]  # type: ignore[assignment]
        arriving = [rename.get(i, i) for i in node.inputs]
        for i in rounds:
            inner = dict(zip((v.name for v in node.body.inputs), arriving, strict=True))

            def within(name: str, i: int = i, node: Repeat = node) -> str:
                return place(node.path(i, name))

            yield from _expand(node.body.nodes, within, inner, most)
            leaving = [inner.get(v.name, v.name) for v in node.body.outputs]
            arriving[: len(leaving)] = leaving
        rename.update(zip(node.outputs, arriving, strict=False))


class Builder:
    """Writes a graph down operator by operator, the way a forward pass reads.

    ``y = g("conv1", Conv2d(3, 64, 7), x)``: shapes are checked as the line runs.
    """

    def __init__(self, name: str, precision: Precision | str = "fp32") -> None:
        self.name = name
        self.precision = Precision.of(precision)
        self._inputs: list[Value] = []
        self._nodes: list[Node | Repeat] = []
        self._scope = ""
        self._names: set[str] = set()

    def input(self, name: str, shape: Sequence[Size], dtype: str | None = None) -> Value:
        """Declares an input; activations' dtype unless one is given."""
        dims = tuple(size(s, f"dimension {i} of {name}") for i, s in enumerate(shape))
        value = Value(self._claim(name), Tensor(dims, dtype or self.precision.activations))
        self._inputs.append(value)
        return value

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names inside get the prefix ``name.``."""
        outer = self._scope
        self._scope = f"{outer}{name}."
        try:
            yield
        finally:
            self._scope = outer

    def __call__(
        self,
        name: str,
        op: Op,
        *values: Value,
        tied: dict[str, str] | None = None,
        home: str | None = None,
        stored: dict[str, str] | None = None,
        made_in: str = "",
    ) -> Any:
        """Appends `op`; returns its output value, or a tuple of them.

        Args:
            tied: parameters shared with another node, own name -> full name of the owner's.
            home: name that its parameters are under instead of `name`; "" for the enclosing scope.
            stored: element types of parameters that are not the precision's, own name -> type.
            made_in: element type of its outputs, where that is not what the operator says.

        Raises:
            SizeError: with the node's name in front, when the shapes do not fit.
        """
        ins = tuple([v.tensor for v in values])
        try:
            made = op.shape(*ins)
        except SizeError as error:
            raise error.at(f"{self.name}: {self._scope}{name}") from None
        outs = made if isinstance(made, tuple) else (made,)
        if outs[0].dtype == ACTIVATIONS:
            outs = tuple([Tensor(t.shape, self.precision.activations) for t in outs])
        if made_in:
            outs = tuple([Tensor(t.shape, made_in) for t in outs])
        path = self._claim(self._scope + name)
        names = (path,) if len(outs) == 1 else tuple([f"{path}:{i}" for i in range(len(outs))])
        kept = held(op, (*ins, *outs), self.precision)
        if stored:
            own = {k: Tensor(t.shape, stored.get(k, t.dtype)) for k, t in kept["weights"].items()}
            kept = kept | {"weights": own}
        self._nodes.append(
            Node(
                path,
                op,
                tuple([v.name for v in values]),
                names,
                ins,
                outs,
                kept["weights"],
                kept["buffers"],
                kept["state"],
                tied or _NONE,
                home if home is None else f"{self._scope}{home}." if home else self._scope,
            )
        )
        if len(outs) == 1 and not isinstance(made, tuple):
            return Value(path, outs[0])
        return tuple([Value(n, t) for n, t in zip(names, outs, strict=True)])

    def undo(self, count: int) -> list[str]:
        """Takes back all but the first `count` nodes; returns the names that are free again."""
        gone = [node.name for node in self._nodes[count:]]
        del self._nodes[count:]
        self._names.difference_update(gone)
        return gone

    @property
    def length(self) -> int:
        """Nodes so far."""
        return len(self._nodes)

    def retype(self, value: str, dtype: str) -> None:
        """Another element type for an output of a node that was appended."""
        for i in range(len(self._nodes) - 1, -1, -1):
            node = self._nodes[i]
            if isinstance(node, Node) and value in node.outputs:
                outs = [
                    Tensor(t.shape, dtype) if name == value else t
                    for name, t in zip(node.outputs, node.outs, strict=True)
                ]
                self._nodes[i] = replace(node, outs=tuple(outs))
                return

    def since(self, count: int) -> tuple[Node | Repeat, ...]:
        """All but the first `count` nodes."""
        return tuple(self._nodes[count:])

    def repeat(
        self,
        name: str,
        count: Size,
        body: Callable[..., Any] | Sequence[Callable[..., Any]],
        *values: Value,
        shared: Sequence[Value] = (),
        start: int = 0,
    ) -> Any:
        """Appends `count` rounds of ``body(g, *values, *shared)``, which returns new `values`.

        Args:
            body: one layer, or the layers of a round in turn; `count` counts rounds.

        Raises:
            SizeError: when a round does not return what the next one needs.
        """
        if isinstance(count, int) and count < 1:
            return values[0] if len(values) == 1 else values
        inner = Builder(f"{self.name}: {self._scope}{name}", self.precision)
        arriving = [inner.input(f"in{i}", v.shape, v.tensor.dtype) for i, v in enumerate([*values, *shared])]
        result: Any
        if callable(body):
            period, result = 1, body(inner, *arriving)
        else:
            period, result = len(body), tuple(arriving[: len(values)])
            for j, layer in enumerate(body):
                with inner.scope(str(j)):
                    given = result if isinstance(result, tuple) else (result,)
                    result = layer(inner, *given, *arriving[len(values) :])
        leaving = result if isinstance(result, tuple) else (result,)
        for before, after in zip(values, leaving, strict=True):
            if not same_shape(before.shape, after.shape):
                raise SizeError(
                    f"{self.name}: {name} is given {before.tensor} and returns {after.tensor}",
                    hint="a repeated body keeps the shape it is given",
                )
        outs = self.repeated(
            name, inner.finish(*leaving), count, *values, *shared, start=start, period=period
        )
        return outs if isinstance(result, tuple) else outs[0]

    def repeated(
        self, name: str, body: Graph, count: Size, *values: Value, start: int = 0, period: int = 1
    ) -> tuple[Value, ...]:
        """Appends a finished body that runs `count` times over `values`, its inputs in their order."""
        path = self._scope + name
        names = tuple([f"{path}.out{start}:{i}" for i in range(len(body.outputs))])
        sources = tuple([v.name for v in values])
        self._nodes.append(Repeat(path, body, count, sources, names, start, period))
        return tuple([Value(n, v.tensor) for n, v in zip(names, body.outputs, strict=True)])

    def call_parameters(self, prefix: str) -> None:
        """Says that the parameters of the last operator are called `prefix` + own name: attn.in_proj_."""
        last = self._nodes[-1]
        assert isinstance(last, Node)
        self._nodes[-1] = replace(last, home=f"{self._scope}{prefix}")

    def finish(self, *outputs: Value, **meta: Any) -> Graph:
        """The finished graph."""
        return Graph(
            self.name,
            tuple(self._inputs),
            tuple(self._nodes),
            tuple(outputs),
            self.precision,
            {k: v for k, v in meta.items() if v is not None},
        )

    def _claim(self, path: str) -> str:
        if path in self._names:
            raise SizeError(f"{self.name}: two nodes are called {path}")
        self._names.add(path)
        return path
