"""TorchRec: a plan as the constraints that its own planner takes, as data or as Python."""

from typing import Any

from pharos.plan.shard_flows import Placed
from pharos.plan.shard_layouts import CACHED, COLUMN, HBM, HOST, REPLICATED, ROW, TABLE, TABLE_ROW
from pharos.plan.sharding import ShardingPlan

# Values of `ShardingType` and `EmbeddingComputeKernel`, and the arguments of `ParameterConstraints`.
# Source: torchrec.distributed.types, .embedding_types and .planner.types of its documentation.
SHARDING_TYPES = {TABLE: "table_wise", COLUMN: "column_wise", ROW: "row_wise", TABLE_ROW: "table_row_wise",
                  REPLICATED: "data_parallel"}  # fmt: skip
KERNELS = {HBM: "fused", CACHED: "fused_uvm_caching", HOST: "fused_uvm"}


def constraint(placed: Placed) -> dict[str, Any]:
    """The arguments of a table's `ParameterConstraints`; `cache_load_factor` is of its `CacheParams`."""
    layout, table = placed.layout, placed.table
    kernel = "dense" if layout.strategy == REPLICATED else KERNELS[layout.tier]
    found: dict[str, Any] = {
        "sharding_types": [SHARDING_TYPES[layout.strategy]], "compute_kernels": [kernel],
        "pooling_factors": [table.pooling],
    }  # fmt: skip
    if layout.strategy == COLUMN:
        found["min_partition"] = table.dim // layout.shards
    if layout.tier == CACHED:
        found["cache_load_factor"] = layout.cached
    return found


def constraints(plan: ShardingPlan) -> dict[str, dict[str, Any]]:
    """Constraints of every table, by its name."""
    return {p.table.name: constraint(p) for p in plan.placed}


def as_json(plan: ShardingPlan) -> dict[str, Any]:
    """Constraints, and the devices that TorchRec is to be told of; schema pharos/torchrec@1."""
    return {
        "schema": "pharos/torchrec@1", "world_size": plan.topology.devices,
        "local_world_size": plan.topology.group, "batch_size": plan.job.local(plan.topology.devices),
        "constraints": constraints(plan),
        "ranks": {p.table.name: list(p.devices) for p in plan.placed},
    }  # fmt: skip


def as_python(plan: ShardingPlan) -> str:
    """A module with `constraints` and `planner()`; it imports TorchRec, Pharos does not."""
    rows = []
    cached = False
    for name, found in constraints(plan).items():
        given = [f"{k}={v!r}" for k, v in found.items() if k != "cache_load_factor"]
        if "cache_load_factor" in found:
            cached = True
            given.append(f"cache_params=CacheParams(load_factor={found['cache_load_factor']})")
        rows.append(f"    {name!r}: ParameterConstraints({', '.join(given)}),")
    types = "from torchrec.distributed.types import CacheParams\n" if cached else ""
    n, group = plan.topology.devices, plan.topology.group
    body = "\n".join(rows)
    return f'''"""Constraints for TorchRec's planner: {len(rows)} tables on {n} devices."""

from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
{types}
constraints = {{
{body}
}}


def planner(compute_device: str = "cuda") -> EmbeddingShardingPlanner:
    """A planner that may only choose what the plan chose."""
    topology = Topology(world_size={n}, local_world_size={group}, compute_device=compute_device)
    return EmbeddingShardingPlanner(
        topology=topology, batch_size={plan.job.local(n)}, constraints=constraints
    )
'''
