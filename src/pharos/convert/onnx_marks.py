"""Marks: which operator a group of ONNX nodes was written for, believed only while the group is unchanged."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pharos.graph.graph import Node
from pharos.graph.op import Op
from pharos.graph.serial import op_from_fields, op_to_fields
from pharos.quantity.errors import PharosError
from pharos.quantity.sizes import same_shape

# Keys of a node's metadata: the graph's node that it belongs to; on the first of a group, the operator.
NODE, OP = "pharos.node", "pharos.op"
# What comes of a mark that makes no sense.
MISTAKES = (PharosError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a group says of itself."""

    name: str
    op: Op
    inputs: list[str]
    outputs: list[str]
    parameters: dict[str, str]
    home: str | None


def mark(group: Sequence[Any], node: Node, op: Op, inputs: list[str], parameters: dict[str, str]) -> None:
    """Writes into ONNX nodes what they do together.

    Args:
        op: what does the work that the nodes do, with the outputs of `node`.
        inputs: names of its inputs in the file.
        parameters: initialisers by the operator's own names.
    """
    row = {
        "op": op.kind,
        "fields": op_to_fields(op),
        "inputs": inputs,
        "outputs": list(node.outputs),
        "parameters": parameters,
        "home": node.home,
    }
    row["digest"] = _digest(group, row)
    for made in group:
        made.metadata_props.add(key=NODE, value=node.name)
    group[0].metadata_props.add(key=OP, value=json.dumps(row))


def marks(nodes: Sequence[Any]) -> dict[int, tuple[Mark, int]]:
    """Marks by the number of a group's first node, with the number of its nodes.

    A group that was changed since, or whose mark makes no sense, has none: it is read node by node.
    """
    found = {}
    for name, run in groupby(enumerate(nodes), lambda pair: _metadata(pair[1]).get(NODE)):
        group = list(run)
        first, text = group[0][0], _metadata(group[0][1]).get(OP)
        if name is None or text is None:
            continue
        try:
            row = json.loads(text)
            if row.pop("digest") != _digest([made for _, made in group], row):
                continue
            op = op_from_fields(row["op"], row["fields"])
            home = None if row["home"] is None else str(row["home"])
            made = Mark(str(name), op, [*row["inputs"]], [*row["outputs"]], dict(row["parameters"]), home)
        except MISTAKES:
            continue
        found[first] = (made, len(group))
    return found


def restore(reader: Any, mark: Mark) -> bool:
    """Writes the operator of a mark; False if it does not fit what the file holds."""
    op = mark.op
    if not op.is_counted or any(i not in reader.values and i not in reader.constants for i in mark.inputs):
        return False
    for key, size in (op.weights() | op.buffers()).items():
        stored = reader.constants.get(mark.parameters.get(key, ""))
        # a buffer that follows from sizes need not be in the file
        if (stored is None and key in op.weights()) or (stored is not None and stored.tensor.shape != size):
            return False
    try:
        made = op.shape(*[reader.tensor(i) for i in mark.inputs])
    except MISTAKES:
        return False
    outs = made if isinstance(made, tuple) else (made,)
    known = [reader.inferred.get(o) for o in mark.outputs]
    if len(outs) != len(known):
        return False
    if not all(k is None or same_shape(k.shape, t.shape) for k, t in zip(known, outs, strict=True)):
        return False
    values = [reader.value(i) for i in mark.inputs]
    home = None if mark.home is None else mark.home.removesuffix(".")
    result = reader.place(reader.free(mark.name), op, *values, origins=mark.parameters, home=home)
    results = result if isinstance(result, tuple) else (result,)
    reader.values.update(zip(mark.outputs, results, strict=True))
    return True


def _metadata(node: Any) -> dict[str, str]:
    return {p.key: p.value for p in node.metadata_props}


def _digest(group: Sequence[Any], row: dict[str, Any]) -> str:
    """Changes with anything that the nodes compute or that is said of them, not with their names."""
    found = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
    for made in group:
        held = sorted(a.SerializeToString(deterministic=True) for a in made.attribute)
        found.update(repr((made.domain, made.op_type, [*made.input], [*made.output], held)).encode())
    return found.hexdigest()[:16]
