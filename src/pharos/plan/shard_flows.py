"""Flows: the bytes that a sharded step sends, device by device and collective by collective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pharos.plan.shard_layouts import (
    COLUMN,
    ID_BYTES,
    LENGTH_BYTES,
    REPLICATED,
    ROW,
    TABLE,
    TABLE_ROW,
    Job,
    Layout,
    cuts,
)
from pharos.plan.tables import Table
from pharos.plan.topology import Topology

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A table laid out: which device holds its i-th piece.

    Columns i of `layout.shards`, or rows `cuts(rows, len(devices))`, or, replicated, all of it.
    """

    table: Table
    layout: Layout
    devices: tuple[int, ...]

    @property
    def pieces(self) -> list[tuple[int, range, range]]:
        """(device, rows, columns) of each piece."""
        t, n = self.table, len(self.devices)
        if self.layout.strategy in (ROW, TABLE_ROW):
            at = cuts(t.rows, n)
            return [(d, range(at[i], at[i + 1]), range(t.dim)) for i, d in enumerate(self.devices)]
        if self.layout.strategy == REPLICATED:
            return [(d, range(t.rows), range(t.dim)) for d in self.devices]
        at = cuts(t.dim, n)
        return [(d, range(t.rows), range(at[i], at[i + 1])) for i, d in enumerate(self.devices)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What one collective of a step moves.

    Args:
        sent, received: bytes by level of links, [devices] each.
        bisection: bytes that cross from one half of the devices to the other, the fuller way.
    """

    name: str
    phase: str
    collective: str
    sent: Mapping[str, Any]
    received: Mapping[str, Any]
    bisection: float

    @property
    def total(self) -> float:
        """Bytes that all devices send."""
        return float(sum(v.sum() for v in self.sent.values()))

    @property
    def by_device(self) -> Any:
        """Bytes that each device sends; [devices]."""
        return sum(self.sent.values())

    def busiest(self, level: str) -> float:
        """Bytes through the busiest port of a level, one direction."""
        return float(max(self.sent[level].max(), self.received[level].max()))


class _Mesh:
    """Sums over devices in nodes."""

    def __init__(self, topology: Topology) -> None:
        self.n, self.group = topology.devices, topology.group
        self.nodes = self.n // self.group
        self.half = self.n // 2 if self.nodes == 1 else self.nodes // 2 * self.group

    def node_sums(self, x: Any) -> Any:
        return np.repeat(x.reshape(self.nodes, self.group).sum(1), self.group)

    def to_each(self, name: str, phase: str, collective: str, held: Any, *, back: bool) -> Flow | None:
        """Every device d sends held[d] to each other one; `back`: gets it from each other one."""
        if not held.any():
            return None
        sums, whole = self.node_sums(held), held.sum()
        out = {"inside": (self.group - 1) * held, "across": (self.n - self.group) * held}
        into = {"inside": sums - held, "across": whole - sums}
        first, rest = held[: self.half].sum(), held[self.half :].sum()
        crossing = max(first * (self.n - self.half), rest * self.half)
        sent, received = (into, out) if back else (out, into)
        return Flow(name=name, phase=phase, collective=collective, sent=sent, received=received,
                    bisection=float(crossing))  # fmt: skip


def all_reduce_bytes(elements: int, element: int, topology: Topology) -> Mapping[str, Any]:
    """Bytes that each device sends to add up `elements` and have them all, by level; [devices] each.

    A reduce-scatter and an all-gather; between nodes each device does so with its like on the part that it
    holds of its node's sum. Parts are those of `cuts`.
    """
    n, g = topology.devices, topology.group
    m = n // g
    inside, across = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for device in range(n):
        node, place = divmod(device, g)
        at = cuts(elements, g)
        mine = at[place + 1] - at[place]
        inside[device] = (elements - mine) + (g - 1) * mine
        again = cuts(mine, m)
        own = again[node + 1] - again[node]
        across[device] = (mine - own) + (m - 1) * own
    return {"inside": inside * element, "across": across * element}


def flows(
    placed: Sequence[Placed], job: Job, topology: Topology,
    ids: Mapping[str, Any] | None = None,
) -> list[Flow]:  # fmt: skip
    """Every collective of a step, in order.

    Args:
        ids: where the ids drawn are known, table -> [devices, pieces] how many of a device's own land in each
            piece; else as expected where rows are scattered: in proportion to a piece's rows.
    """
    mesh = _Mesh(topology)
    n = mesh.n
    local, e = job.local(n), job.element
    asked, whole, sums = np.zeros(n), np.zeros(n), np.zeros(n)
    in_node, reduced = np.zeros(n), 0
    for p in placed:
        t, strategy = p.table, p.layout.strategy
        if strategy == REPLICATED:
            reduced += t.rows * t.dim
            continue
        for device, rows, columns in p.pieces:
            asked[device] += local * (t.pooling * ID_BYTES * len(rows) / t.rows + LENGTH_BYTES)
            nbytes = local * t.vectors * len(columns) * e
            if strategy in (TABLE, COLUMN):
                whole[device] += nbytes
            elif strategy == ROW:
                sums[device] += nbytes
            else:
                in_node[device] += nbytes
    found: list[Flow | None] = [mesh.to_each("ids", FORWARD, "all-to-all", asked, back=True)]
    if ids is not None and found[0] is not None:
        found = [_drawn(placed, ids, mesh, local)]
    found.append(mesh.to_each("vectors", FORWARD, "all-to-all", whole, back=False))
    found.append(mesh.to_each("partial sums", FORWARD, "reduce-scatter", sums, back=False))
    if in_node.any():
        found += _by_node(mesh, in_node, FORWARD)
    if job.training:
        if in_node.any():
            found += _by_node(mesh, in_node, BACKWARD)
        found.append(mesh.to_each("gradients", BACKWARD, "all-to-all", whole, back=True))
        found.append(mesh.to_each("gradients of sums", BACKWARD, "all-gather", sums, back=True))
        for name, elements in (("replicated tables", reduced), ("dense parts", job.dense_parameters)):
            if elements and n > 1:
                found.append(_added(name, elements, topology, mesh))
    return [f for f in found if f is not None and f.total]


def _drawn(placed: Sequence[Placed], ids: Mapping[str, Any], mesh: _Mesh, local: int) -> Flow:
    """The ids as they were drawn: a matrix from device to device."""
    moved = np.zeros((mesh.n, mesh.n))
    for p in placed:
        if p.layout.strategy == REPLICATED:
            continue
        for i, device in enumerate(p.devices):
            moved[:, device] += np.asarray(ids[p.table.name])[:, i] * ID_BYTES + local * LENGTH_BYTES
    np.fill_diagonal(moved, 0)
    node = np.arange(mesh.n) // mesh.group
    same = node[:, None] == node[None]
    sent = {"inside": (moved * same).sum(1), "across": (moved * ~same).sum(1)}
    received = {"inside": (moved * same).sum(0), "across": (moved * ~same).sum(0)}
    half = mesh.half
    crossing = max(moved[:half, half:].sum(), moved[half:, :half].sum())
    return Flow(name="ids", phase=FORWARD, collective="all-to-all", sent=sent, received=received,
                bisection=float(crossing))  # fmt: skip


def _by_node(mesh: _Mesh, held: Any, phase: str) -> list[Flow]:
    """Sums inside the node that has the rows, then to the devices of the same place in other nodes; gradients
    come back that way."""
    n, g, m = mesh.n, mesh.group, mesh.nodes
    none = np.zeros(n)
    within = {"inside": (g - 1) * m * held, "across": none}
    rails = held.reshape(m, g)
    out = {"inside": none, "across": (m - 1) * held}
    into = {"inside": none, "across": (rails.sum(0)[None] - rails).reshape(-1)}
    first = held[: mesh.half].sum() * (m - mesh.half // g)
    rest = held[mesh.half :].sum() * (mesh.half // g)
    if m == 1:
        first = rest = 0.0
    inner = Flow(
        name="sums of a node" if phase == FORWARD else "gradients in a node", phase=phase,
        collective="reduce-scatter" if phase == FORWARD else "all-gather", sent=within, received=within,
        bisection=0.0,
    )  # fmt: skip
    sent, received = (out, into) if phase == FORWARD else (into, out)
    outer = Flow(name="vectors by node" if phase == FORWARD else "gradients by node", phase=phase,
                 collective="all-to-all", sent=sent, received=received,
                 bisection=float(max(first, rest)))  # fmt: skip
    return [inner, outer] if phase == FORWARD else [outer, inner]


def _added(name: str, elements: int, topology: Topology, mesh: _Mesh) -> Flow:
    sent = all_reduce_bytes(elements, 4, topology)
    parts = mesh.n if mesh.nodes == 1 else mesh.nodes
    half = mesh.half if mesh.nodes == 1 else mesh.half // mesh.group
    crossing = 2 * 4 * elements * half * (parts - half) / parts
    return Flow(name=name, phase=UPDATE, collective="all-reduce", sent=sent, received=sent,
                bisection=float(crossing))  # fmt: skip
