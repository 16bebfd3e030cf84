"""Smaller tables: bytes and devices of embedding tables after each remedy for capacity."""

from dataclasses import replace
from math import ceil, isqrt

from pharos.book.study import Bytes, study
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.plan.tables import Table, tables_of
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


def compositional(table: Table) -> list[Table]:
    """Two tables whose rows are multiplied stand for one: by the quotient and by the remainder of an id.

    Source: Shi et al. 2019, arXiv:1909.02107, with as many remainders as quotients, the fewest rows.
    """
    remainders = isqrt(table.rows - 1) + 1
    quotients = -(-table.rows // remainders)
    return [replace(table, name=f"{table.name}.remainder", rows=remainders),
            replace(table, name=f"{table.name}.quotient", rows=quotients)]  # fmt: skip


@study("smaller-tables", "What becomes of embedding tables that are too large?", section="1.7")
def smaller_tables(
    *, model: str = "dlrm-mlperf", buckets: float = 0.1, small: int = 100_000, resident: float = 0.1,
    reserve: float = 0.1, capacity: Bytes = 0.0, on: str = "a100-sxm-80gb",
) -> Told:  # fmt: skip
    """Narrower rows, ids hashed into fewer rows, products of two small tables, rows kept in host memory.

    Args:
        buckets: rows left by hashing, as a share. small: tables of fewer rows stay as they are.
        resident: share of the rows kept on the device where the rest lies in host memory.
        reserve: share of the device left free. capacity: of a device; `on` tells it by default.
    """
    if not 0 < buckets <= 1 or not 0 < resident <= 1 or not 0 <= reserve < 1:
        raise InputError("shares lie between 0 and 1", where="buckets, resident, reserve")
    room = (capacity or find_machine(on).capacity_bytes.value or 0.0) * (1 - reserve)
    if room <= 0:
        raise InputError(f"the memory of {on} is not known", where="capacity")
    tables = tables_of(find(model).graph(Workload()))
    large = [t for t in tables if t.rows >= small]
    rest = sum(t.nbytes for t in tables if t.rows < small)
    narrow = {name: sum(replace(t, dtype=name).nbytes for t in tables) for name in ("fp16", "int8")}
    hashed = [replace(t, rows=max(1, ceil(t.rows * buckets))) for t in large]
    parts = [part for t in large for part in compositional(t)]
    whole = sum(t.nbytes for t in tables)
    fewer = rest + sum(t.nbytes for t in hashed)
    made = rest + sum(t.nbytes for t in parts)
    found = {
        "as they are": (whole, "nothing"),
        "rows in fp16": (narrow["fp16"], "rounding of every row"),
        "rows in int8": (narrow["int8"], "rounding; a scale a row comes on top"),
        f"hashed to {buckets:.0%} of the rows": (fewer, "ids that share a row"),
        "quotient and remainder": (made, "rows made of two; twice the lookups"),
        f"{resident:.0%} of the rows on the device": (
            rest + sum(ceil(t.rows * resident) * t.row_bytes() for t in large),
            "rows from host memory where the cache misses",
        ),
    }
    rows = tuple((how, size, whole / size, ceil(size / room), price) for how, (size, price) in found.items())
    least = min(rows, key=lambda r: r[1])
    return Told(
        answer=f"{fmt(whole, 'B')} of tables need {rows[0][3]} devices by size; the smallest, {least[0]}, "
        f"leaves {fmt(least[1], 'B')} on {least[3]}",
        numbers={"bytes": whole, "room_bytes_per_device": room,
                 "after": {how: {"bytes": size, "devices": devices} for how, size, _, devices, _ in rows}},
        reasons=(
            f"{len(large)} tables of {small:,} rows or more hold {1 - rest / whole:.2%} of the bytes",
            "each remedy costs accuracy or time, which bytes do not tell",
            "`pharos shard` places what is left and tells the bytes that move",
        ),
        columns=("remedy", "bytes", "times_smaller", "devices", "costs"),
        rows=rows,
        evidence=(counted("rows x elements x bytes"),),
        note=f"devices: by size alone, {reserve:.0%} of each left free; optimiser state not counted",
    )  # fmt: skip
