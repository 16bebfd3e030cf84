"""ONNX rules: branches, loops and scans, with the rounds that a file or its user states."""

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from pharos.convert.onnx_reader import Call, OnnxReader, convert
from pharos.convert.onnx_reader import call as call_of
from pharos.convert.onnx_rules.registry import gives, has, reshaped, rule
from pharos.convert.reader import FLOATS, Constant
from pharos.graph.count import count
from pharos.graph.graph import Builder, Graph, Value
from pharos.graph.tensor import Tensor
from pharos.ops.copies import Flip, Full
from pharos.ops.priced import Stacked
from pharos.ops.shape_ops import Concat, Reshape, Slice
from pharos.ops.unknown import Unknown
from pharos.quantity.sizes import Size, is_int, is_symbol, same_shape

# Nodes that a loop may be written out to; a longer one is one Repeat.
WRITTEN_OUT = 64
# Rounds that stand for "until the condition ends it".
ENDLESS = 10**8


@rule("If")
def _if(reader: OnnxReader, node: Call) -> None:
    branches = {"then": node.attributes["then_branch"], "else": node.attributes["else_branch"]}
    known = reader.data(node.input[0])
    if known and isinstance(known[0], (bool, int)):
        _taken(reader, node, branches["then" if known[0] else "else"])
        return
    costs = {name: _cost(reader, node, body) for name, body in branches.items()}
    larger = max(costs, key=lambda name: costs[name])
    other = "else" if larger == "then" else "then"
    reader.note(
        f"{node.name or 'If'}: its {larger} branch is counted, {costs[larger][0]:,} MACs; "
        f"its {other} branch has {costs[other][0]:,}"
    )
    _taken(reader, node, branches[larger])
    _kept(reader, node, branches[other])


def _taken(reader: OnnxReader, node: Call, body: Any) -> None:
    for made, name in zip(node.output, reader.body(body, node, ()), strict=True):
        if made:
            reader.alias(made, name)


def _cost(reader: OnnxReader, node: Call, body: Any) -> tuple[Any, Any]:
    """(MACs, other operations) of a branch, written out and taken back."""
    read = [node.scope.get(n, n) for n in sorted(_names(body))]
    known = [(n, reader.tensor(n)) for n in read if reader.knows(n) and n not in reader.sequences]
    key = (sha256(body.SerializeToString()).digest(), tuple(known))
    if key not in reader.file.costs:
        at = reader.mark()
        try:
            reader.body(body, node, ())
            work = count(Graph("branch", (), reader.g.since(at.length), ())).work
        finally:
            reader.rollback(at)
        reader.file.costs[key] = _number(work.macs), _number(work.vector_flops + work.transcendentals)
    return reader.file.costs[key]


def _number(size: Size) -> int:
    """A count to compare by; open sizes stand at 64."""
    if not is_symbol(size):
        return int(size)
    return int(size.subs(dict.fromkeys(size.free_symbols, 64)))


def _names(body: Any) -> set[str]:
    """Everything that a body and the bodies in it read."""
    found: set[str] = set()
    for node in body.node:
        found.update(node.input)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= _names(inner)
    return found | {v.name for v in body.output}


def _kept(reader: OnnxReader, node: Call, body: Any) -> None:
    """Parameters that only the branch that is not counted reads are stored all the same."""
    scope = dict(node.scope)
    stem = reader.free(f"{node.name or 'if'}:other") + "/"
    for tensor in body.initializer:
        scope[tensor.name] = stem + tensor.name
    reader.declare(body, scope)
    _stored(reader, {scope.get(n, n) for n in _names(body)})


def _stored(reader: OnnxReader, names: set[str]) -> None:
    """Puts parameters that nothing owns yet into the graph, so that those inside a body are tied to them."""
    for name in sorted(names):
        found = reader.constants.get(name)
        if found is None or not found.origins or found.tensor.numel <= 1:
            continue
        for origin in found.origins:
            parameter = reader.constants.get(origin)
            if origin not in reader.owners and parameter is not None and parameter.tensor.dtype in FLOATS:
                reader.store(origin, parameter)


@dataclass(slots=True)
class _Loop:
    """A loop or scan in one form.

    Args:
        rounds: None if nobody states them.
        carried: names of the values that one round hands to the next.
        given: what each round gets besides: the number of the round, slices of what is scanned.
        stacked: dimension along which each further result of a round is put together.
    """

    body: Any
    rounds: Size | None
    carried: list[str]
    given: list[Any]
    stacked: list[int]
    backwards: list[bool]
    heads: int = 0


@rule("Loop")
def _loop(reader: OnnxReader, node: Call) -> None:
    body, name = node.attributes["body"], node.name or node.op_type
    most = reader.data(node.input[0]) if has(node, 0) else None
    rounds: Size | None = None
    if name in reader.file.trips:
        rounds = reader.file.trips[name]
        reader.file.asked.add(name)
    elif most and not (is_int(most[0]) and most[0] >= ENDLESS):
        rounds = most[0]
        if has(node, 1) and not _stays(body):
            reader.note(f"{name}: counted for all of its {rounds} rounds; its condition may end it before")
    else:
        reader.file.asked.add(name)
    carried = list(node.input[2:])
    stacked = len(body.output) - 1 - len(carried)
    _run(
        reader,
        node,
        _Loop(body, rounds, carried, ["round", "condition"], [0] * stacked, [False] * stacked, 1),
    )


def _stays(body: Any) -> bool:
    """Whether the condition of a loop is handed on as it is, or is a constant."""
    wanted = body.output[0].name
    for _ in range(len(body.node) + 1):
        if len(body.input) > 1 and wanted == body.input[1].name:
            return True
        makers = [n for n in body.node if wanted in n.output]
        if any(t.name == wanted for t in body.initializer) or (makers and makers[0].op_type == "Constant"):
            return True
        if not makers or makers[0].op_type not in ("Identity", "Cast"):
            return False
        wanted = makers[0].input[0]
    return False


@rule("Scan")
def _scan(reader: OnnxReader, node: Call) -> None:
    a = node.attributes
    if reader.file.opset < 9:
        raise ValueError("scans a batch, as before opset 9")
    body, scanned = a["body"], a["num_scan_inputs"]
    states = len(node.input) - scanned
    axes = a.get("scan_input_axes") or [0] * scanned
    ways = a.get("scan_input_directions") or [0] * scanned
    slices = []
    for name, axis, backwards in zip(node.input[states:], axes, ways, strict=True):
        x = reader.value(name)
        x = reader.add(node, Flip((axis,)), x) if backwards else x
        slices.append((x, axis % x.tensor.rank))
    outs = len(body.output) - states
    stacked = list(a.get("scan_output_axes") or [0] * outs)
    turned = [bool(v) for v in a.get("scan_output_directions") or [0] * outs]
    rounds = slices[0][0].shape[slices[0][1]]
    _run(reader, node, _Loop(body, rounds, list(node.input[:states]), slices, stacked, turned))


@rule("SequenceMap")
def _map(reader: OnnxReader, node: Call) -> None:
    body, rows = node.attributes["body"], len(reader.sequences[node.input[0]])
    if rows * len(body.node) > 100_000:
        raise ValueError("too long to write out")
    made: list[list[str]] = [[] for _ in node.output]
    for i in range(rows):
        given = [reader.sequences[n][i] if n in reader.sequences else n for n in node.input]
        for held, name in zip(made, reader.body(body, node, given), strict=True):
            held.append(name)
    for out, held in zip(node.output, made, strict=True):
        reader.sequences[out] = held


def _run(reader: OnnxReader, node: Call, loop: _Loop) -> None:
    rounds: Any = loop.rounds
    sequences = any(n in reader.sequences for n in loop.carried)
    short = is_int(rounds) and 0 < rounds * max(len(loop.body.node), 1) <= WRITTEN_OUT
    if is_int(rounds) and rounds < 0:
        raise ValueError("a negative number of rounds")
    if is_int(rounds) and rounds == 0:
        _none(reader, node, loop)
    elif short or (sequences and is_int(rounds) and rounds <= 1000):
        _written_out(reader, node, loop)
    else:
        _repeated(reader, node, loop)


def _none(reader: OnnxReader, node: Call, loop: _Loop) -> None:
    """A loop that never runs hands its values on."""
    for made, name in zip(node.output, loop.carried, strict=False):
        if made:
            reader.alias(made, name)
    for made in node.output[len(loop.carried) :]:
        reader.empty[made] = Tensor((0,), reader.g.precision.activations)


def _slice_of(reader: OnnxReader, node: Call, x: Value, axis: int, i: int) -> Value:
    row = reader.add(node, Slice(axis, i, i + 1), x)
    return reader.add(node, Reshape((*x.shape[:axis], *x.shape[axis + 1 :])), row)


def _written_out(reader: OnnxReader, node: Call, loop: _Loop) -> None:
    """Round by round: shapes may change, and the graph runs."""
    carried = list(loop.carried)
    stacks: list[list[str]] = [[] for _ in loop.stacked]
    states = len(loop.carried)
    rounds: Any = loop.rounds
    for i in range(rounds):
        given = []
        for j, each in enumerate(loop.given):
            name = f"{node.output[0] or node.name}:{i}:{j}"
            if isinstance(each, str):
                dtype = "int64" if each == "round" else "bool"
                reader.constants[name] = Constant(Tensor((), dtype), [i if each == "round" else True])
            else:
                reader.values[name] = _slice_of(reader, node, each[0], each[1], i)
            given.append(name)
        ordered = [*given, *carried] if loop.heads else [*carried, *given]
        made = reader.body(loop.body, node, ordered)
        over = reader.data(made[0]) if loop.heads else None
        made = made[loop.heads :]
        carried = made[:states]
        for held, name in zip(stacks, made[states:], strict=True):
            held.append(name)
        if over and not over[0]:
            break
    for out, name in zip(node.output, carried, strict=False):
        if out:
            reader.alias(out, name)
    for out, held, axis, turned in zip(
        node.output[states:], stacks, loop.stacked, loop.backwards, strict=False
    ):
        if not out:
            continue
        parts = [reader.value(n) for n in (reversed(held) if turned else held)]
        at = axis % (parts[0].tensor.rank + 1)
        parts = [reshaped(reader, node, p, *p.shape[:at], 1, *p.shape[at:]) for p in parts]
        reader.values[out] = reader.add(node, Concat(at), *parts) if len(parts) > 1 else parts[0]


def _repeated(reader: OnnxReader, node: Call, loop: _Loop) -> None:
    """The body once, as often as there are rounds; its parameters belong to the graph around it."""
    name, rounds = node.name or node.op_type, loop.rounds
    scope = dict(node.scope)
    stem = reader.free(f"{name}:body") + "/"
    for tensor in (*loop.body.initializer, *(s.values for s in loop.body.sparse_initializer)):
        scope[tensor.name] = stem + tensor.name
    reader.declare(loop.body, scope)
    _stored(reader, {scope.get(n, n) for n in _names(loop.body)})
    outside = [reader.value(n) for n in loop.carried]
    inner = OnnxReader(Builder(reader.free(f"{name}.body"), reader.g.precision), reader.file)
    inner.constants, inner.owners, inner.types = reader.constants, reader.owners, reader.types
    inner.inferred, inner.outer = reader.inferred, reader
    carried = [inner.g.input(f"in{i}", v.shape, v.tensor.dtype) for i, v in enumerate(outside)]
    shared, given = [], []
    for each in loop.given:
        if isinstance(each, str):
            dtype = "int64" if each == "round" else "bool"
            value = reader.add(node, Full((), 0.0 if each == "round" else 1.0, dtype))
        else:
            value = _slice_of(reader, node, each[0], each[1], 0)
        shared.append(value)
        given.append(inner.g.input(f"given{len(given)}", value.shape, value.tensor.dtype))
    ordered = [*given, *carried] if loop.heads else [*carried, *given]
    for formal, value in zip(loop.body.input, ordered, strict=False):
        scope[formal.name] = stem + formal.name
        inner.values[scope[formal.name]] = value
    reader.enter()
    for each in loop.body.node:
        convert(inner, call_of(each, scope, stem))
    reader.file.depth -= 1
    leaving = [inner.value(scope.get(v.name) or v.name) for v in loop.body.output][loop.heads :]
    states = len(carried)
    for before, after in zip(outside, leaving[:states], strict=True):
        if not same_shape(before.shape, after.shape):
            raise ValueError("values that change shape from round to round")
    for outer_name, _ in inner.taken:
        shared.append(reader.value(outer_name))
    made = _appended(reader, node, inner, leaving, [*outside], shared, 1 if rounds is None else rounds)
    if rounds is None:
        _open(reader, node, loop, made, states)
        return
    for out, value in zip(node.output, made[:states], strict=False):
        if out:
            reader.values[out] = value
    for i, (value, axis) in enumerate(zip(made[states:], loop.stacked, strict=True)):
        if gives(node, states + i):
            at = axis % (value.tensor.rank + 1)
            reader.values[node.output[states + i]] = reader.add(node, Stacked(rounds, at), value)


def _appended(reader: OnnxReader, node: Call, inner: OnnxReader, leaving: list[Value], outside: list[Value],
              shared: list[Value], rounds: Size) -> list[Value]:  # fmt: skip
    """Appends the Repeat; what a round makes besides is carried too, though no round reads it."""
    body = inner.g.finish(*leaving)
    states = len(outside)
    more = [Value(f"made{i}", v.tensor) for i, v in enumerate(leaving[states:])]
    body = replace(body, inputs=(*body.inputs[:states], *more, *body.inputs[states:]))
    fresh = [reader.add(node, Full(v.shape, 0.0, v.tensor.dtype)) for v in more]
    path = reader.free(node.name.strip("/").replace("/", ".") or node.op_type.lower())
    return list(reader.g.repeated(path, body, rounds, *outside, *fresh, *shared))


def _open(reader: OnnxReader, node: Call, loop: _Loop, made: list[Value], states: int) -> None:
    """A loop of unknown length: its body is counted once, and the total is "at least"."""
    name = node.name or node.op_type
    reader.note(f"{name}: its rounds are not known, one is counted; --dim trip_count:{name}=... states them")
    shapes, dtypes = [], []
    for i, value in enumerate(made):
        at = None if i < states else loop.stacked[i - states] % (value.tensor.rank + 1)
        shape = value.shape if at is None else (*value.shape[:at], 1, *value.shape[at:])
        shapes.append(tuple(shape))
        dtypes.append(value.tensor.dtype)
    op = Unknown(f"{node.op_type} of open length", tuple(shapes), tuple(dtypes))
    results = reader.add(node, op, *made, name=reader.free(f"{name} ({node.op_type} of open length)"))
    for out, value in zip(node.output, results if isinstance(results, tuple) else (results,), strict=False):
        if out:
            reader.values[out] = value
