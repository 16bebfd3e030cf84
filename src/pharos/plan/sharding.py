"""Sharding: embedding tables laid over devices: what fits, what moves, how long the busiest takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.models.registry import Model
from pharos.plan.communication import collective_cost, time_on
from pharos.plan.footprint import LIBRARY_BYTES
from pharos.plan.greedy import Loads, Placement, Problem, loads, torchrec_greedy
from pharos.plan.shard_flows import Flow, Placed, flows
from pharos.plan.shard_layouts import Costing, Job, Option, narrow
from pharos.plan.shard_solver import SLACK, Solution, solve
from pharos.plan.tables import OPTIMIZERS, tables_of
from pharos.plan.topology import Topology
from pharos.predict.memory import GPU_CONTEXT_BYTES
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, Figure, banded, exact, merge
from pharos.quantity.units import fmt


@dataclass(frozen=True, kw_only=True)
class Balance:
    """How even a placement is: seconds and bytes of the busiest device, and over the mean."""

    seconds: float
    hbm: float
    time_imbalance: float
    memory_imbalance: float


@dataclass(frozen=True, kw_only=True)
class ShardingPlan:
    """Where every table lies, and what that means.

    Args:
        solution: None where no placement fits; then `why` says what would do.
        baseline: what the greedy planner of TorchRec ends with; None where it finds nothing.
        common: bytes that every device holds whatever the placement, by kind.
    """

    job: Job
    machine: Machine
    topology: Topology
    costing: Costing
    problem: Problem
    solution: Solution | None
    baseline: Placement | None
    common: dict[str, float]
    capacity: float
    why: str = ""
    would_do: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether a placement was found."""
        return self.solution is not None

    def placed_by(self, placement: Placement) -> list[Placed]:
        """Tables with their layouts and devices."""
        return [
            Placed(table=t, layout=options[chosen].layout, devices=devices)
            for t, options, (chosen, devices) in zip(
                self.job.tables, self.problem.options, placement, strict=True
            )
        ]

    @cached_property
    def placed(self) -> list[Placed]:
        """The plan's; empty where nothing fits."""
        return self.placed_by(self.solution.placement) if self.solution else []

    @cached_property
    def flows(self) -> list[Flow]:
        """Every collective of a step."""
        return flows(self.placed, self.job, self.topology)

    @cached_property
    def loads(self) -> Loads:
        """Seconds and bytes of tables on each device."""
        return loads(self.problem, self.solution.placement) if self.solution else Loads(self.problem)

    @property
    def device_bytes(self) -> list[float]:
        """What each device holds in its own memory."""
        base = sum(self.common.values())
        return [base + x for x in self.loads.hbm]

    def balance(self, placement: Placement) -> Balance:
        """How even a placement is."""
        made = loads(self.problem, placement)
        base = sum(self.common.values())
        hbm = [base + x for x in made.hbm]

        def over(values: Sequence[float]) -> float:
            mean = sum(values) / len(values)
            return max(values) / mean if mean else 1.0

        return Balance(seconds=max(made.seconds), hbm=max(hbm), time_imbalance=over(made.seconds),
                       memory_imbalance=over(hbm))  # fmt: skip

    @cached_property
    def lookup_s(self) -> list[float]:
        """Seconds of lookups and updates of each device, a launch a pass included."""
        found = [0.0] * self.topology.devices
        if self.solution:
            for options, (chosen, devices) in zip(self.problem.options, self.solution.placement, strict=True):
                for d in devices:
                    found[d] += options[chosen].lookup_s
        passes = 2 if self.job.training else 1
        return [x + passes * self.costing.launch_s if x else 0.0 for x in found]

    def flow_s(self, flow: Flow) -> tuple[float, list[Evidence], float]:
        """(seconds, how they are known, error) of one collective: its busiest port, both levels at once."""
        if flow.collective == "all-reduce":
            size = flow.total / (2 * (self.topology.devices - 1))
            cost = collective_cost("all-reduce", round(size), self.topology)
            seconds = cost.seconds
            high, value = float(seconds.high or 0), float(seconds.value or 0)  # type: ignore[arg-type]
            return value, list(seconds.evidence), (high / value - 1) / 1.28 if value else 0.0
        n, group = self.topology.devices, self.topology.group
        best, evidence, error = 0.0, [], 0.0
        for level in ("inside", "across"):
            port = flow.busiest(level)
            if not port:
                continue
            link = self.topology.link(level)
            steps = group - 1 if level == "inside" else n - group
            columns = {
                "bytes": port * n / (n - 1), "devices": group if level == "inside" else n,
                "nodes": 1 if level == "inside" else self.topology.nodes, "steps": steps,
                "ideal": port / link.bytes_per_s, "switch": 0.0, "before": 0.0,
            }  # fmt: skip
            seconds, curve = time_on(link, flow.collective, level, columns)
            evidence += [curve.evidence, link.evidence]
            if float(seconds) > best:
                best, error = float(seconds), curve.error
        return best, evidence, error

    @cached_property
    def step(self) -> Figure:
        """Seconds of the embedding part of a step: lookups of the busiest device and every collective, one
        after the other."""
        lookup = max(self.lookup_s, default=0.0)
        parts = [self.flow_s(f) for f in self.flows]
        total = lookup + sum(p[0] for p in parts)
        squares = (lookup * self.costing.error) ** 2 + sum((s * error) ** 2 for s, _, error in parts)
        if not total:
            return exact(0.0, "s", "nothing is looked up")
        evidence = merge([self.costing.evidence, self.machine.bandwidth_bytes_per_s.evidence]
                         + [e for p in parts for e in p[1]])  # fmt: skip
        return banded(total, "s", squares**0.5 / total, evidence)

    def moved(self, collective: str) -> float:
        """Bytes that all devices send a step by one kind of collective."""
        return sum(f.total for f in self.flows if f.collective == collective)

    @property
    def bisection(self) -> float:
        """Bytes a step from one half of the devices to the other."""
        return sum(f.bisection for f in self.flows)


def job_of(model: Model, batch: int, **given: Any) -> Job:
    """The job of a model: its tables, and its dense parts as every device has them.

    Raises:
        PharosError: it has no embedding table.
    """
    graph = model.graph(Workload(phase="forward", batch=1))
    tables = tables_of(graph)
    dense, saved, seen = 0, 0, set()
    for node, times, name in graph.walk():
        if node.op.kind in ("embedding", "embedding_bag"):
            continue
        if name not in seen:
            dense += times * sum(t.numel for k, t in node.weights.items() if k not in node.tied)
            saved += times * sum(t.nbytes for t in node.outs)
        seen.add(name)
    return Job(
        tables=tuple(tables), batch=batch, dense_parameters=int(dense), dense_saved=int(saved), **given
    )


def common_bytes(job: Job, machine: Machine, topology: Topology) -> dict[str, float]:
    """What every device holds whatever the placement, by kind.

    Dense parts in fp32, in training with gradients and the state of the tables' optimiser, an element each;
    their activations, kept in training; the vectors of its own samples, and in training their gradients; of
    a GPU the runtime's and the communication library's buffers (assumed).
    """
    per_row, per_element = OPTIMIZERS[job.optimizer]
    state = per_element or per_row
    local = job.local(topology.devices)
    vectors = local * sum(t.vectors * t.dim for t in job.tables) * job.element
    found: dict[str, float] = {
        "dense": job.dense_parameters * ((8 + state) if job.training else 4),
        "activations": local * job.dense_saved,
        "vectors": vectors * (2 if job.training else 1),
    }
    if machine.kind == "gpu":
        found["buffers"] = GPU_CONTEXT_BYTES + (LIBRARY_BYTES if topology.devices > 1 else 0)
    return found


def shard(
    job: Job, machine: Machine, topology: Topology, method: str = "auto", time_limit_s: float = 30.0,
    even: float | None = SLACK,
) -> ShardingPlan:  # fmt: skip
    """The best placement that the solver finds, beside that of the greedy planner.

    Args:
        method, time_limit_s, even: see `shard_solver.solve`.

    Raises:
        InputError: a strategy asked for that a table cannot have, or a figure of the machine is unknown.
    """
    costing = Costing(job=job, machine=machine, topology=topology)
    sold = machine.capacity_bytes.value
    if not sold:
        raise InputError(f"the memory of {machine.id} is unknown",
                         hint="a machine file of your own can give it")  # fmt: skip
    capacity = sold * (1 - job.reserve)
    common = common_bytes(job, machine, topology)
    free = capacity - sum(common.values())
    every = [costing.options(t) for t in job.tables]
    options = tuple(tuple(narrow(o, free, job.host_bytes)) for o in every)
    problem = Problem(
        options=options, devices=topology.devices, group=topology.group, capacity=max(free, 1.0),
        host=job.host_bytes,
    )  # fmt: skip
    solution = baseline = None
    if free > 0 and all(options):
        solution = solve(problem, method, time_limit_s, even)
        baseline = torchrec_greedy(problem)
    made = ShardingPlan(
        job=job, machine=machine, topology=topology, costing=costing, problem=problem, solution=solution,
        baseline=baseline, common=common, capacity=capacity,
    )  # fmt: skip
    return made if solution else replace(made, **_refusal(made, every, free))


def _refusal(plan: ShardingPlan, every: list[list[Option]], free: float) -> dict[str, Any]:
    """Why nothing fits, and what would do, each with its figure."""
    job, n = plan.job, plan.topology.devices
    needed = sum(min((o.pieces * o.hbm for o in options), default=0) for options in every)
    mentioned = f"{fmt(plan.capacity, 'B')} a device after {job.reserve:.0%} kept free"
    for table in job.tables:
        row = table.row_bytes() + (table.state_bytes(job.optimizer) if job.training else 0)
        if row > plan.capacity:
            why = f"a row of {table.name} alone is {fmt(row, 'B')}; a device has {mentioned}"
            return {"why": why, "would_do": ("fewer columns a table, or devices with more memory",)}
    if free <= 0:
        kind = max(plan.common, key=lambda k: plan.common[k])
        why = (f"what every device holds takes {fmt(sum(plan.common.values()), 'B')} ({kind} "
               f"{fmt(plan.common[kind], 'B')}) of {mentioned}")  # fmt: skip
        return {"why": why, "would_do": ("a smaller batch, or --reserve 0",)}
    for table, options, kept in zip(job.tables, every, plan.problem.options, strict=True):
        if kept:
            continue
        if not options:
            return {"why": f"{table.name} cannot be laid by {', '.join(job.strategies)} on {n} devices",
                    "would_do": ("allow more strategies: --strategies all",)}  # fmt: skip
        least = min(options, key=lambda o: o.hbm)
        why = (f"the smallest piece of {table.name}, {least.layout}, takes {fmt(least.hbm, 'B')}; a device "
               f"has {fmt(free, 'B')} free for tables")  # fmt: skip
        return {"why": why, "would_do": _remedies(plan)}
    have = "devices have" if n > 1 else "device has"
    why = f"tables take {fmt(needed, 'B')} at least, {n} {have} {fmt(n * free, 'B')} free for them"
    if needed <= n * free:
        why += "; in sum they would fit, but their pieces do not divide so"
    return {"why": why, "would_do": _remedies(plan)}


def _remedies(plan: ShardingPlan) -> tuple[str, ...]:
    job, found = plan.job, []
    counts = least_devices(job, plan.machine, plan.topology)
    if counts:
        found.append(f"{counts} devices of this kind")
    lower = sum(t.nbytes for t in job.tables if t.dtype == "fp32") / 2
    if lower:
        found.append(f"tables in 16 bits, {fmt(lower, 'B')} less")
    if not job.host_bytes:
        found.append("memory of the hosts behind a cache of hot rows: --host-memory 256GB")
    if job.training and job.optimizer in ("adam", "adagrad"):
        found.append("rowwise Adagrad, 4 B of state a row")
    return tuple(found)


def least_devices(job: Job, machine: Machine, topology: Topology, most: int = 4096) -> int | None:
    """The fewest devices on which a placement is found, in nodes as given; None beyond `most`.

    Counts that memory rules out in sum are passed over; the others are tried one after the other.
    """
    per_node = topology.per_node
    whole = max(per_node, 8) if topology.nodes == 1 else per_node
    sold = machine.capacity_bytes.value or 0.0
    count = 1
    while count <= most:
        links = (topology.inside or count == 1) and (topology.across or count <= whole)
        if not links:
            return None
        spread = replace(topology, devices=count, per_node=min(whole, count))
        free = sold * (1 - job.reserve) - sum(common_bytes(job, machine, spread).values())
        # in sum they need so many at least; what replication adds is found out by trying
        needed = -(-least_bytes(job) // (free + job.host_bytes)) if free > 0 else count + 1
        if needed <= count and _placeable(job, machine, spread):
            return count
        count = int(max(needed, count + 1))
        count = count if count <= whole else -(-count // whole) * whole
    return None


def least_bytes(job: Job) -> int:
    """Bytes of all tables, in training with their optimiser's state."""
    return sum(t.nbytes + (t.rows * t.state_bytes(job.optimizer) if job.training else 0) for t in job.tables)


def _placeable(job: Job, machine: Machine, topology: Topology) -> bool:
    """Whether the search by moves' starting points find a placement."""
    sold = machine.capacity_bytes.value or 0.0
    costing = Costing(job=job, machine=machine, topology=topology)
    free = sold * (1 - job.reserve) - sum(common_bytes(job, machine, topology).values())
    options = tuple(tuple(narrow(costing.options(t), free, job.host_bytes)) for t in job.tables)
    if free <= 0 or not all(options):
        return False
    problem = Problem(options=options, devices=topology.devices, group=topology.group, capacity=free,
                      host=job.host_bytes)  # fmt: skip
    return solve(problem, "search") is not None
