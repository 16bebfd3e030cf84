"""Sharded embeddings: a recommender's training step with its tables cut over processes as planned."""

from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.processes import Wire, spawn
from pharos.machines.machine import find_machine
from pharos.plan.shard_flows import Placed, flows
from pharos.plan.shard_layouts import COLUMN, REPLICATED, ROW, TABLE, TABLE_ROW, Job, Layout
from pharos.plan.sharding import shard
from pharos.plan.tables import Table
from pharos.plan.topology import topology_of
from pharos.report.labs import Check, Outcome

NAME = "sharded-embedding"
DIM, DENSE, HIDDEN, LOCAL = 64, 5, 16, 12
RATE = 0.5
# Relative to the largest value: sums in fp32 in another order.
TOLERANCE = 1e-5
# Rows that do not divide evenly, pooling factors from 1 up, and one table of each strategy.
TABLES = (
    (61, 1, TABLE),
    (43, 3, COLUMN),
    (101, 4, ROW),
    (5, 1, REPLICATED),
    (37, 2, TABLE),
    (83, 2, TABLE_ROW),
)


@lab(NAME, "a DLRM step with its tables sharded equals the whole one, and sends the bytes that the plan says",
     processes=4, fewest=2, most=8)  # fmt: skip
def sharded_embedding(setting: Setting, progress: Progress) -> Outcome:
    """Forward, backward and an SGD step; processes stand for devices, from four on in nodes of two."""
    n = setting.processes
    group = 2 if n >= 4 and n % 2 == 0 else n
    topology = topology_of(find_machine("a100-sxm-80gb"), n, group)
    given = [t for t in TABLES if topology.nodes > 1 or t[2] != TABLE_ROW]
    tables = tuple(
        Table(name=f"t{i}", rows=rows, dim=DIM, pooling=pooling) for i, (rows, pooling, _) in enumerate(given)
    )
    job = Job(tables=tables, batch=LOCAL * n, optimizer="sgd", dense_parameters=dense_parameters(len(tables)),
              fixed={t.name: how for t, (_, _, how) in zip(tables, given, strict=True)})  # fmt: skip
    progress(0, 3, "planning")
    plan = shard(job, find_machine("a100-sxm-80gb"), topology, "search")
    settings = {"seed": setting.seed, "group": group, "batch": job.batch, "placed": [
        {"rows": p.table.rows, "pooling": int(p.table.pooling), "strategy": p.layout.strategy,
         "shards": p.layout.shards, "devices": list(p.devices)} for p in plan.placed
    ]}  # fmt: skip
    progress(1, 3, f"{n} processes")
    found = spawn("pharos.book.labs.sharded_embedding:worker", n, settings, setting.timeout_s)
    progress(2, 3, "comparing")
    ids = {p.table.name: [one["landed"][i] for one in found] for i, p in enumerate(plan.placed)}
    rows, exact = [], True
    planned_names = set()
    for flow in flows(plan.placed, job, topology, ids):
        planned_names.add(flow.name)
        counted = [one["sent"].get(flow.name, 0) for one in found]
        planned = [round(float(x)) for x in flow.by_device]
        exact &= counted == planned
        rows.append((flow.name, flow.collective, sum(planned), sum(counted), max(counted)))
    exact &= {name for one in found for name in one["sent"]} == planned_names
    worst = {what: max(one["difference"][what] for one in found) for what in found[0]["difference"]}
    expected = next(f.total for f in flows(plan.placed, job, topology) if f.name == "ids")
    progress(3, 3, "done")
    layouts = ", ".join(dict.fromkeys(p.layout.strategy for p in plan.placed))
    told = ", ".join(f"{what} {x:.1e}" for what, x in worst.items())
    return Outcome(
        name=NAME, summary=f"a recommender's step, its tables laid {layouts}",
        settings={"processes": n, "nodes_of": group, "seed": setting.seed, "batch": job.batch,
                  "tables": len(tables), "dim": DIM},
        columns=("moves", "by", "planned_bytes", "counted_bytes", "busiest_process"), rows=tuple(rows),
        checks=(
            Check(what="equals the unsharded model, largest differences over the largest values",
                  found=f"{told}; {TOLERANCE:.0e} allowed", holds=max(worst.values()) <= TOLERANCE),
            Check(what="bytes that every process sends are the plan's", holds=exact,
                  found="exactly" if exact else "not so"),
        ),
        note=f"ids: planned for those that were drawn; {expected:,.0f} B were expected before",
        data={"difference": worst, "exact": exact, "expected_ids_bytes": expected},
    )  # fmt: skip


def dense_parameters(tables: int) -> int:
    """Weights and biases of the two MLPs."""
    vectors = tables + 1
    wide = DIM + vectors * (vectors - 1) // 2
    return (DENSE + 1) * DIM + (wide + 1) * HIDDEN + (HIDDEN + 1)


class _Model:
    """Tables, MLPs and samples that every process draws alike from the seed."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch

        torch.manual_seed(settings["seed"])
        placed, batch = settings["placed"], settings["batch"]
        self.tables = [torch.randn(p["rows"], DIM) / 8 for p in placed]
        wide = DIM + (len(placed) + 1) * len(placed) // 2
        shapes = ((DIM, DENSE), (DIM,), (HIDDEN, wide), (HIDDEN,), (1, HIDDEN), (1,))
        self.dense = [torch.randn(s) / max(1, s[-1]) ** 0.5 for s in shapes]
        self.x = torch.randn(batch, DENSE)
        self.ids = [torch.randint(p["rows"], (batch, p["pooling"])) for p in placed]
        self.clicks = torch.randint(2, (batch,)).float()
        self.pairs = torch.tril_indices(len(placed) + 1, len(placed) + 1, -1)

    def logits(self, dense: list[Any], x: Any, pooled: list[Any]) -> Any:
        """Bottom MLP, dots of every pair of vectors, top MLP."""
        import torch

        low = torch.relu(x @ dense[0].T + dense[1])
        stacked = torch.stack([low, *pooled], 1)
        dots = (stacked @ stacked.transpose(1, 2))[:, self.pairs[0], self.pairs[1]]
        high = torch.relu(torch.cat([low, dots], 1) @ dense[2].T + dense[3])
        return (high @ dense[4].T + dense[5])[:, 0]

    def loss(self, logits: Any, clicks: Any) -> Any:
        """Its part of the mean over the whole batch."""
        import torch

        summed = torch.nn.functional.binary_cross_entropy_with_logits(logits, clicks, reduction="sum")
        return summed / len(self.clicks)


def worker(wire: Wire, settings: dict[str, Any]) -> dict[str, Any]:
    """One process: its pieces of tables and its samples."""
    import torch

    model = _Model(settings)
    local = settings["batch"] // wire.size
    mine = slice(wire.rank * local, (wire.rank + 1) * local)
    sharded = [
        _Sharded(wire, model.tables[i], model.ids[i][mine], _placed(i, p))
        for i, p in enumerate(settings["placed"])
    ]
    pooled = [s.forward().requires_grad_() for s in sharded]
    dense = [w.clone().requires_grad_() for w in model.dense]
    logits = model.logits(dense, model.x[mine], pooled)
    model.loss(logits, model.clicks[mine]).backward()
    for s, vectors in zip(sharded, pooled, strict=True):
        s.backward(vectors.grad)
    copies = [s for s in sharded if s.replicated]
    if copies:
        flat = wire.all_reduce("replicated tables", torch.cat([s.gradient.reshape(-1) for s in copies]))
        for s, grad in zip(copies, flat.split([s.gradient.numel() for s in copies]), strict=True):
            s.weights[0] -= RATE * grad.reshape(s.weights[0].shape)
    flat = wire.all_reduce("dense parts", torch.cat([w.grad.reshape(-1) for w in dense]))  # type: ignore[union-attr]
    stepped = [
        w.detach() - RATE * g.reshape(w.shape)
        for w, g in zip(dense, flat.split([w.numel() for w in dense]), strict=True)
    ]
    return {"difference": _compare(model, mine, logits, sharded, stepped),
            "landed": [s.landed for s in sharded]}  # fmt: skip


def _placed(index: int, told: dict[str, Any]) -> Placed:
    table = Table(name=f"t{index}", rows=told["rows"], dim=DIM, pooling=told["pooling"])
    layout = Layout(strategy=told["strategy"], shards=told["shards"])
    return Placed(table=table, layout=layout, devices=tuple(told["devices"]))


def _compare(model: _Model, mine: slice, logits: Any, sharded: list["_Sharded"], dense: list[Any]) -> Any:
    """Largest differences from the whole model's step, over its largest values."""
    import torch

    tables = [w.clone().requires_grad_() for w in model.tables]
    whole = [w.clone().requires_grad_() for w in model.dense]
    pooled = [w[ids].sum(1) for w, ids in zip(tables, model.ids, strict=True)]
    wanted = model.logits(whole, model.x, pooled)
    model.loss(wanted, model.clicks).backward()

    def apart(a: Any, b: Any) -> float:
        return float((a - b).abs().max() / b.abs().max()) if a.numel() else 0.0

    with torch.no_grad():
        after = [w - RATE * w.grad for w in tables]  # type: ignore[operator]
        pieces = [
            apart(s.weights[i], full[rows.start : rows.stop, columns.start : columns.stop])
            for s, full in zip(sharded, after, strict=True) for i, rows, columns in s.own
        ]  # fmt: skip
        return {
            "outputs": apart(logits, wanted[mine]),
            "tables": max(pieces, default=0.0),
            "dense": max(apart(a, w - RATE * w.grad) for a, w in zip(dense, whole, strict=True)),  # type: ignore[operator]
        }


class _Sharded:
    """One table as a process sees it: the pieces that it holds, and how vectors and gradients travel."""

    def __init__(self, wire: Wire, whole: Any, ids: Any, placed: Placed) -> None:
        self.wire, self.ids, self.placed = wire, ids, placed
        self.strategy = placed.layout.strategy
        self.replicated = self.strategy == REPLICATED
        self.pieces = placed.pieces
        self.own = [(i, r, c) for i, (d, r, c) in enumerate(self.pieces) if d == wire.rank]
        self.weights = {i: whole[r.start : r.stop, c.start : c.stop].clone() for i, r, c in self.own}
        if self.replicated:
            self.own = [(0, range(len(whole)), range(DIM))]
            self.weights = {0: whole.clone()}
        self.asked: dict[int, dict[int, tuple[Any, Any]]] = {}
        self.landed: list[int] = []
        self.everyone = range(wire.size)

    def forward(self) -> Any:
        """Sums of rows for one's own samples; [samples, DIM]."""
        import torch

        if self.replicated:
            return self.weights[0][self.ids].sum(1)
        self._send_ids()
        local = len(self.ids)
        if self.strategy == ROW:
            out = self._pooled(0) if self.own else {}
            parts = self.wire.exchange("partial sums", out, dict.fromkeys(self.everyone, self._shape(DIM)))
            return sum(parts.values())
        if self.strategy == TABLE_ROW:
            return self._forward_by_node(local)
        columns = []
        for i, (device, _, cut) in enumerate(self.pieces):
            out = self._pooled(i) if device == self.wire.rank else {}
            parts = self.wire.exchange("vectors", out, {device: self._shape(len(cut))})
            columns.append(parts[device])
        return torch.cat(columns, 1)

    def backward(self, grad: Any) -> None:
        """Takes gradients to the pieces, and a step there."""
        if self.replicated:
            import torch

            flat = grad.repeat_interleave(self.ids.shape[1], 0)
            self.gradient = torch.zeros_like(self.weights[0]).index_add_(0, self.ids.reshape(-1), flat)
            return
        if self.strategy == TABLE_ROW:
            self._backward_by_node(grad)
            return
        name = "gradients of sums" if self.strategy == ROW else "gradients"
        if self.strategy == ROW:
            got = self.wire.exchange(name, dict.fromkeys(self.everyone, grad),
                                     dict.fromkeys(self.everyone, self._shape(DIM)))  # fmt: skip
            self._step(self.own[0][0], got)
            return
        for i, (device, _, cut) in enumerate(self.pieces):
            into = dict.fromkeys(self.everyone, self._shape(len(cut))) if device == self.wire.rank else {}
            got = self.wire.exchange(name, {device: grad[:, cut.start : cut.stop]}, into)
            if device == self.wire.rank:
                self._step(i, got)

    def _shape(self, width: int) -> tuple[tuple[int, ...], Any]:
        import torch

        return (len(self.ids), width), torch.float32

    def _send_ids(self) -> None:
        """To each piece the ids that it has rows for, and how many of each sample."""
        import torch

        for i, (device, rows, _) in enumerate(self.pieces):
            here = (self.ids >= rows.start) & (self.ids < rows.stop)
            lengths = here.sum(1).to(torch.int32)
            self.landed.append(int(lengths.sum()))
            mine = device == self.wire.rank
            into = dict.fromkeys(self.everyone, ((len(self.ids),), torch.int32)) if mine else {}
            counts = self.wire.exchange("ids", {device: lengths}, into)
            sizes = {r: ((int(c.sum()),), torch.int64) for r, c in counts.items()}
            ids = self.wire.exchange("ids", {device: self.ids[here]}, sizes if mine else {})
            if mine:
                self.asked[i] = {r: (ids[r] - rows.start, counts[r]) for r in counts}

    def _pooled(self, at: int) -> dict[int, Any]:
        """Sums of a piece's rows for the samples of each process."""
        import torch

        piece = self.own[0][0] if self.strategy in (ROW, TABLE_ROW) else at
        found = {}
        for rank, (ids, lengths) in self.asked[piece].items():
            bags = torch.repeat_interleave(torch.arange(len(lengths)), lengths.long())
            summed = torch.zeros(len(lengths), self.weights[piece].shape[1])
            found[rank] = summed.index_add_(0, bags, self.weights[piece][ids])
        return found

    def _step(self, piece: int, grads: dict[int, Any]) -> None:
        """w -= RATE x gradient, a row's as often as it was asked for."""
        for rank, (ids, lengths) in self.asked[piece].items():
            rows = grads[rank].repeat_interleave(lengths.long(), 0)
            self.weights[piece].index_add_(0, ids, rows, alpha=-RATE)

    def _places(self) -> tuple[int, list[int], list[int]]:
        """(one's place, devices of the table's node, those of one's place in every node)."""
        group = self.wire.group
        place = self.wire.rank % group
        rail = [r for r in self.everyone if r % group == place]
        return place, list(self.placed.devices), rail

    def _forward_by_node(self, local: int) -> Any:
        import torch

        _, node, rail = self._places()
        group, nodes = self.wire.group, len(rail)
        summed = {}
        if self.wire.rank in node:
            partial = self._pooled(0)
            out = {d: torch.cat([partial[k * group + d % group] for k in range(nodes)]) for d in node}
            shape = ((nodes * local, DIM), torch.float32)
            got = self.wire.exchange("sums of a node", out, dict.fromkeys(node, shape))
            summed = dict(zip(rail, sum(got.values()).split(local), strict=True))  # type: ignore[union-attr]
        source = next(r for r in rail if r in node)
        return self.wire.exchange("vectors by node", summed, {source: self._shape(DIM)})[source]

    def _backward_by_node(self, grad: Any) -> None:
        import torch

        _, node, rail = self._places()
        group, local = self.wire.group, len(self.ids)
        owner = next(r for r in rail if r in node)
        into = dict.fromkeys(rail, self._shape(DIM)) if self.wire.rank in node else {}
        got = self.wire.exchange("gradients by node", {owner: grad}, into)
        if self.wire.rank not in node:
            return
        stacked = torch.cat([got[r] for r in rail])
        shape = (tuple(stacked.shape), torch.float32)
        every = self.wire.exchange("gradients in a node", dict.fromkeys(node, stacked),
                                   dict.fromkeys(node, shape))  # fmt: skip
        grads = {k * group + d % group: part for d, whole in every.items()
                 for k, part in enumerate(whole.split(local))}  # fmt: skip
        self._step(self.own[0][0], grads)
