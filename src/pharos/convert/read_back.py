"""Read back: a module that was made from a graph tells whoever records a run which operator it is at."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pharos.convert.torch_record import DTYPES, TorchReader
from pharos.graph.graph import Graph, Node
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import is_int

# Who wants to be told, as ``listener(network, node, call, tensors) -> result or NotImplemented``.
LISTENERS: list[Callable[..., Any]] = []


def told(network: Any, node: Node, call: Any, given: list[Any]) -> Any:
    """What an operator gives: as the innermost listener says, or by calling it."""
    made = LISTENERS[-1](network, node, call, given) if LISTENERS else NotImplemented
    return call(*given) if made is NotImplemented else made


def traits(call: Any) -> Any:
    """All that decides what a call computes besides its tensors: equal as long as nobody edits it."""
    inner = getattr(call, "_module", call)
    if not hasattr(inner, "named_modules"):
        return id(inner)
    found = []
    for path, part in inner.named_modules():
        plain = {k: v for k, v in vars(part).items() if k != "training" and _simple(v)}
        shapes = {k: tuple(t.shape) for k, t in part._parameters.items() if t is not None}
        hooks = [len(getattr(part, k)) for k in ("_forward_hooks", "_forward_pre_hooks")]
        found.append((path, type(part), plain, shapes, hooks, "forward" in vars(part)))
    return found


def _simple(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_simple, value))
    return value is None or isinstance(value, (int, float, str, bool))


@contextmanager
def listening(reader: TorchReader, recorder: Any, pretend: bool) -> Iterator[None]:
    """Operators of modules that were made from graphs are noted as themselves, if nobody edited them."""

    def note(network: Any, node: Node, call: Any, given: list[Any]) -> Any:
        if recorder.inside or not network.is_as_made(node):
            return NotImplemented
        shapes = [reader.describe(t).shape for t in given]
        if not all(is_int(s) for shape in shapes for s in shape):
            return NotImplemented
        values = [reader.of(t) for t in given]
        try:
            node.op.shape(*[v.tensor for v in values])
        except SizeError:
            return NotImplemented
        made = _placed(reader, network, node, values)
        results = made if isinstance(made, tuple) else (made,)
        recorder.inside = True
        try:
            out = _shaped(reader, network, results, given) if pretend else call(*given)
        finally:
            recorder.inside = False
        outs: list[Any] = [*out] if isinstance(out, (tuple, list)) else [out]
        for t, value in zip(outs, results, strict=True):
            reader.values[value.name] = value
            reader.bind(t, value.name)
        return out if isinstance(made, tuple) or len(outs) > 1 else outs[0]

    LISTENERS.append(note)
    try:
        yield
    finally:
        LISTENERS.remove(note)


def _placed(reader: TorchReader, network: Any, node: Node, values: list[Any]) -> Any:
    """Appends the operator under its own name, behind the path of the network in the traced module."""
    names = {key: reader.stored_name(t) for key, t in network.tensors_of(node).items()}
    path = reader.paths.get(id(network), "")
    within = f"{path}." if path else ""
    tied = {}
    for key in node.weights:
        name = names.get(key, "")
        if name in reader.owners:
            tied[key] = reader.owners[name]
        elif name:
            reader.owners[name] = within + node.parameter(key)
    made = reader.g(reader.free(within + node.name), node.op, *values, tied=tied or None)
    if node.home is not None:
        reader.g.call_parameters(within + node.home)
    return made


def _shaped(reader: TorchReader, network: Any, results: Any, given: list[Any]) -> Any:
    torch = reader.torch
    kinds = {ours: theirs for theirs, ours in reversed(DTYPES.items())}
    floating = next((t.dtype for t in given if t.dtype.is_floating_point), torch.get_default_dtype())
    device = next((t.device for t in (*given, *network.parameters())), None)
    made = []
    for value in results:
        activation = value.tensor.dtype == reader.g.precision.activations
        kind = floating if activation else getattr(torch, kinds[value.tensor.dtype])
        made.append(torch.empty(value.shape, dtype=kind, device=device))
    return tuple(made) if len(made) > 1 else made[0]


def same_again(module: Any, made: Graph) -> Graph:
    """The graph a module was made from, with its repeated layers, if exactly that was recorded."""
    source = getattr(module, "source_graph", None)
    if not isinstance(source, Graph):
        return made
    plain = source.expanded()
    same = (
        [_key(n) for n in made.nodes] == [_key(n) for n in plain.nodes]
        and made.inputs == plain.inputs
        and made.outputs == plain.outputs
    )
    return source if same else made


def _key(node: Any) -> Any:
    # an operator that is given nothing of its own to keep may be said to keep it under either of two names
    return replace(node, home=None) if not (node.weights or node.buffers or node.state) else node
