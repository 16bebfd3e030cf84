"""Serial: a graph as plain data and back, for files and caches; nothing but known operators is made."""

from dataclasses import fields
from typing import Any

from pharos.graph.graph import Graph, Node, Repeat, Value
from pharos.graph.op import Op, op_class
from pharos.graph.tensor import Tensor
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError

FORMAT = "pharos/graph@1"


def to_dict(graph: Graph) -> dict[str, Any]:
    """Plain dicts, lists and numbers; sizes must be ints."""
    return {"format": FORMAT, **_graph(graph)}


def _graph(graph: Graph) -> dict[str, Any]:
    return {
        "name": graph.name,
        "precision": {f.name: getattr(graph.precision, f.name) for f in fields(graph.precision)},
        "inputs": [_value(v) for v in graph.inputs],
        "nodes": [_repeat(n) if isinstance(n, Repeat) else _node(n) for n in graph.nodes],
        "outputs": [_value(v) for v in graph.outputs],
        "meta": graph.meta,
    }


def _tensor(t: Tensor) -> list[Any]:
    return [list(t.shape), t.dtype]


def _value(v: Value) -> list[Any]:
    return [v.name, *_tensor(v.tensor)]


def op_to_fields(op: Op) -> dict[str, Any]:
    """An operator's fields as plain data."""
    return {f.name: getattr(op, f.name) for f in fields(op)}  # type: ignore[arg-type]


def op_from_fields(kind: str, data: dict[str, Any]) -> Op:
    """The operator of a kind whose fields `op_to_fields` wrote.

    Raises:
        UnknownName: an operator that is not registered.
    """
    return op_class(kind)(**{k: _frozen(v) for k, v in data.items()})


def _node(n: Node) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": n.name,
        "op": n.op.kind,
        "fields": op_to_fields(n.op),
        "inputs": list(n.inputs),
        "outputs": list(n.outputs),
        "ins": [_tensor(t) for t in n.ins],
        "outs": [_tensor(t) for t in n.outs],
    }
    for key in ("weights", "buffers", "state"):
        if getattr(n, key):
            row[key] = {k: _tensor(t) for k, t in getattr(n, key).items()}
    if n.tied:
        row["tied"] = dict(n.tied)
    if n.home is not None:
        row["home"] = n.home
    return row


def _repeat(r: Repeat) -> dict[str, Any]:
    return {
        "repeat": r.name,
        "count": r.count,
        "start": r.start,
        "period": r.period,
        "inputs": list(r.inputs),
        "outputs": list(r.outputs),
        "body": _graph(r.body),
    }


def from_dict(data: dict[str, Any]) -> Graph:
    """The graph that `to_dict` wrote.

    Raises:
        InputError: not such data.
        UnknownName: an operator that is not registered.
    """
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"is not a graph of the form {FORMAT}")
    try:
        return _read_graph(data)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"is not a whole graph: {error}") from None


def _read_graph(data: dict[str, Any]) -> Graph:
    return Graph(
        data["name"],
        tuple(map(_read_value, data["inputs"])),
        tuple(_read_repeat(n) if "repeat" in n else _read_node(n) for n in data["nodes"]),
        tuple(map(_read_value, data["outputs"])),
        Precision(**data["precision"]),
        dict(data["meta"]),
    )


def _read_tensor(row: list[Any]) -> Tensor:
    return Tensor(tuple(row[0]), row[1])


def _read_value(row: list[Any]) -> Value:
    return Value(row[0], Tensor(tuple(row[1]), row[2]))


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _read_node(row: dict[str, Any]) -> Node:
    op = op_from_fields(row["op"], row["fields"])
    tensors = {
        k: {n: _read_tensor(t) for n, t in row.get(k, {}).items()} for k in ("weights", "buffers", "state")
    }
    return Node(
        row["name"], op, tuple(row["inputs"]), tuple(row["outputs"]), tuple(map(_read_tensor, row["ins"])),
        tuple(map(_read_tensor, row["outs"])), **tensors, tied=dict(row.get("tied", {})),
        home=row.get("home"),
    )  # fmt: skip


def _read_repeat(row: dict[str, Any]) -> Repeat:
    return Repeat(
        row["repeat"],
        _read_graph(row["body"]),
        row["count"],
        tuple(row["inputs"]),
        tuple(row["outputs"]),
        row["start"],
        row["period"],
    )
