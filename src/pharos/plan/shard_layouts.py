"""Layouts: the ways to lay one table over devices, what each piece of it holds and how long it takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pharos.machines.machine import Machine
from pharos.machines.profile import profile_of
from pharos.plan.communication import curve_of
from pharos.plan.tables import OPTIMIZERS, Table
from pharos.plan.topology import Topology
from pharos.predict.kernels.gather import GATHER, SECTOR
from pharos.quantity.dtypes import BITS, dtype
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Evidence
from pharos.quantity.sizes import ceil_div

TABLE, COLUMN, ROW, TABLE_ROW, REPLICATED = (
    "table-wise", "column-wise", "row-wise", "table-row-wise", "replicated",
)  # fmt: skip
STRATEGIES = (TABLE, COLUMN, ROW, TABLE_ROW, REPLICATED)
# Where a table lies: in the device's memory, in the host's behind a cache of hot rows, in the host's alone.
HBM, CACHED, HOST = "hbm", "cached", "host"
TIERS = (HBM, CACHED, HOST)
# Shares of a table's rows that a cache may hold.
CACHE_SHARES = (0.01, 0.05, 0.2)
# Bytes of an index, and of a bag's length.
ID_BYTES, LENGTH_BYTES = 8, 4
# Narrowest cut of columns, in elements: a row of fp32 then fills four sectors of memory.
NARROWEST = 32
# Where the pieces of a layout go: one by one to any device, one to each of some node, one to each of all.
ANY, NODE, ALL = "any", "node", "all"
# Share of the last cache that hot rows may take beside everything else. Assumed.
HOT_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """A step of a recommender.

    Args:
        tables: its embedding tables.
        batch: samples a step over all devices; each takes ceil(batch / devices).
        training: forward, backward and update; False for forward alone.
        optimizer: of the tables, see `tables.OPTIMIZERS`.
        activations: element type of what is sent.
        dense_parameters: of the parts that every device holds; dense_saved: their activations, bytes a
            sample.
        reserve: share of a device's memory that stays free (assumed).
        host_bytes: the host's memory for tables, for each device; 0: none.
        host_link: bytes a second between a device and its host; None for the machine's own.
        strategies, tiers: those that may be used; fixed: table -> strategy, for some.
    """

    tables: tuple[Table, ...]
    batch: int
    training: bool = True
    optimizer: str = "rowwise_adagrad"
    activations: str = "fp32"
    dense_parameters: int = 0
    dense_saved: int = 0
    reserve: float = 0.05
    host_bytes: int = 0
    host_link: float | None = None
    strategies: tuple[str, ...] = STRATEGIES
    tiers: tuple[str, ...] = TIERS
    fixed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer of tables", self.optimizer, OPTIMIZERS)
        dtype(self.activations)
        if self.batch < 1:
            raise InputError(f"a step of {self.batch} samples looks nothing up")
        if not 0 <= self.reserve < 1:
            raise InputError(f"a reserve of {self.reserve:g} is no share of the memory", hint="0 to 0.99")
        names = [t.name for t in self.tables]
        for name, strategy in self.fixed.items():
            if name not in names:
                raise unknown("table", name, names)
            if strategy not in STRATEGIES:
                raise unknown("strategy", strategy, STRATEGIES)
        for strategy in self.strategies:
            if strategy not in STRATEGIES:
                raise unknown("strategy", strategy, STRATEGIES)

    @property
    def element(self) -> int:
        """Bytes of an element that is sent."""
        return BITS[dtype(self.activations)] // 8

    def local(self, devices: int) -> int:
        """Samples of each device."""
        return int(ceil_div(self.batch, devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to lay a table: its strategy, where it lies, cuts of its columns, share of it in a cache."""

    strategy: str
    tier: str = HBM
    shards: int = 1
    cached: float = 1.0

    @property
    def spread(self) -> str:
        """Where its pieces go: ANY, NODE or ALL."""
        return {TABLE: ANY, COLUMN: ANY, TABLE_ROW: NODE}.get(self.strategy, ALL)

    def __str__(self) -> str:
        where = {HBM: "", HOST: ", host", CACHED: f", {self.cached:.0%} cached"}[self.tier]
        return f"{self.strategy}{f' / {self.shards}' if self.strategy == COLUMN else ''}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A layout of one table in figures, for each of its `pieces` alike.

    Args:
        seconds: what a piece adds to a device's step; lookup and sent of it alone.
        hbm, host: bytes that a piece takes there.
    """

    layout: Layout
    pieces: int
    seconds: float
    hbm: int
    host: int = 0
    lookup_s: float = 0.0

    @property
    def spread(self) -> str:
        """Where its pieces go."""
        return self.layout.spread


def cuts(whole: int, parts: int) -> list[int]:
    """Bounds of `parts` pieces that differ by one at most: piece i is bounds[i] to bounds[i + 1]."""
    return [whole * i // parts for i in range(parts + 1)]


@dataclass(frozen=True, kw_only=True)
class Costing:
    """What layouts cost on one machine and topology."""

    job: Job
    machine: Machine
    topology: Topology

    @cached_property
    def _gather(self) -> tuple[dict[str, float], Any, Evidence, float]:
        from pharos.predict.kernel import constants_of
        from pharos.predict.kernels.base import Device

        bandwidth = self.machine.bandwidth_bytes_per_s.value
        if not bandwidth:
            raise InputError(f"the bandwidth of {self.machine.id} is unknown",
                             hint="a machine file of your own can give it")  # fmt: skip
        device = Device(units=self.machine.cores.value or 1.0, ops_per_s=1.0, bytes_per_s=bandwidth,
                        cache_bytes=self.machine.cache_bytes.value or 0.0)  # fmt: skip
        curve = profile_of(self.machine).curves("gather", "fp32", "forward")[0]
        if curve.form == GATHER.name:
            peak = max((p.ops_per_s.value or 1.0 for p in self.machine.peaks.values()), default=1.0)
            at = Device(units=device.units, ops_per_s=peak, bytes_per_s=bandwidth,
                        cache_bytes=device.cache_bytes)  # fmt: skip
            constants = constants_of(curve, at)
        else:
            constants = {**GATHER.start(), "launch_us": 1e6 * curve.launch_s, "bandwidth": curve.bandwidth}
        return constants, device, curve.evidence, curve.error

    @property
    def evidence(self) -> Evidence:
        """How the rate of lookups is known."""
        return self._gather[2]

    @property
    def error(self) -> float:
        """Its error."""
        return self._gather[3]

    @property
    def launch_s(self) -> float:
        """Seconds before the first row comes: one launch looks up all tables of a device."""
        return 1e-6 * self._gather[0]["launch_us"]

    @property
    def host_rate(self) -> float:
        """Bytes a second between a device and its host's memory.

        Raises:
            InputError: the machine's is unknown and none was given.
        """
        rate = self.job.host_link or self.machine.links.get("pcie_bytes_per_s")
        if not rate:
            raise InputError(f"the link of {self.machine.id} to its host is unknown",
                             hint="give it: --host-link 64GB/s")  # fmt: skip
        from pharos.quantity.units import parse

        return parse(rate, "B/s")

    @cached_property
    def local(self) -> int:
        """Samples of each device."""
        return self.job.local(self.topology.devices)

    @cached_property
    def batch(self) -> int:
        """Samples of all."""
        return self.local * self.topology.devices

    def options(self, table: Table) -> list[Option]:
        """Every layout that the job allows for a table; those that no device can hold left out.

        Raises:
            InputError: a strategy was asked for that the table cannot have.
        """
        asked = self.job.fixed.get(table.name)
        found: list[Option] = []
        for strategy in (asked,) if asked else self.job.strategies:
            why = self._unfit(table, strategy)
            if why and asked:
                raise InputError(why, where=table.name)
            if why:
                continue
            for tier, cached in self._tiers(strategy):
                for shards in self._shards(table) if strategy == COLUMN else (1,):
                    layout = Layout(strategy=strategy, tier=tier, shards=shards, cached=cached)
                    found.append(self.option(table, layout))
        return found

    def _unfit(self, table: Table, strategy: str) -> str:
        """Why a table cannot be laid so; "" if it can."""
        n, group = self.topology.devices, self.topology.group
        pieces = {ROW: n, TABLE_ROW: group}.get(strategy, 1)
        if pieces > table.rows:
            return (
                f"{table.rows} rows cannot be cut into {pieces} shards, one a device "
                f"(table-wise or replicated would do, or {table.rows} devices)"
            )
        if strategy == TABLE_ROW and (self.topology.nodes == 1 or group == 1) and n > 1:
            return "there is one node, so table-row-wise is row-wise" if group > 1 else (
                "nodes of one device, so table-row-wise is table-wise")  # fmt: skip
        if strategy == COLUMN and not self._shards(table):
            return (
                f"{table.dim} columns give no two pieces of {NARROWEST} or more "
                f"(row-wise or table-wise would do)"
            )
        if n == 1 and strategy not in (TABLE, COLUMN):
            return "one device shares nothing; table-wise would do"
        return ""

    def _shards(self, table: Table) -> list[int]:
        most = min(table.dim // NARROWEST, self.topology.devices)
        return [k for k in range(2, most + 1) if table.dim % k == 0 and (table.dim // k) % 4 == 0]

    def _tiers(self, strategy: str) -> list[tuple[str, float]]:
        found = [(HBM, 1.0)] if HBM in self.job.tiers else []
        if not self.job.host_bytes or strategy == REPLICATED:
            return found
        if CACHED in self.job.tiers:
            found += [(CACHED, share) for share in CACHE_SHARES]
        return found + ([(HOST, 0.0)] if HOST in self.job.tiers else [])

    def option(self, table: Table, layout: Layout) -> Option:
        """A layout of a table in figures; a piece of rows is taken as large as the largest."""
        n, group, job = self.topology.devices, self.topology.group, self.job
        pieces = {ROW: n, TABLE_ROW: group, REPLICATED: n, COLUMN: layout.shards}.get(layout.strategy, 1)
        blocks = pieces if layout.strategy in (ROW, TABLE_ROW) else 1
        rows = int(ceil_div(table.rows, blocks))
        width = table.dim // layout.shards
        samples = self.local if layout.strategy == REPLICATED else self.batch
        busy = table.skew.busiest(blocks, table.rows) if blocks > 1 else 1.0
        wanted = samples * table.pooling * busy
        held = rows * (
            table.row_bytes(width) + (table.state_bytes(job.optimizer, width) if job.training else 0)
        )
        sent = int(samples * table.vectors) * width * job.element
        buffers = int(wanted) * ID_BYTES + sent * (2 if job.training else 1)
        if layout.strategy == REPLICATED and job.training:
            held += table.rows * table.dim * 4
        lookup = self._lookup_s(table, layout, rows, width, wanted, sent)
        moved = self._sent_s(table, layout, width)
        return Option(
            layout=layout, pieces=pieces, seconds=lookup + moved, lookup_s=lookup,
            hbm=int(held * layout.cached) + buffers, host=0 if layout.tier == HBM else held,
        )  # fmt: skip

    def _lookup_s(
        self, table: Table, layout: Layout, rows: int, width: int, wanted: float, out: float
    ) -> float:
        """Seconds in which a piece's rows are read and summed, and in training updated.

        Memory hands out whole sectors; the hottest rows come from the last cache, those of the host that
        no cache holds over its link, and go back there once changed.
        """
        row = table.row_bytes(width)
        cache = HOT_SHARE * (self.machine.cache_bytes.value or 0.0)
        cache /= max(1.0, len(self.job.tables) / self.topology.devices)
        # pieces of columns share what their table may have of the cache
        near = table.skew.hits(cache / table.row_bytes(), rows) if cache else 0.0
        misses = 1 - table.skew.hits(layout.cached * rows, rows) if layout.tier != HBM else 0.0
        far = table.skew.distinct(wanted, rows) * misses
        seconds = self.rows_s(wanted, row, out, near)
        if layout.tier != HBM:
            seconds += far * SECTOR * ceil_div(row, SECTOR) / self.host_rate
        if not self.job.training:
            return seconds
        touched = table.skew.distinct(wanted, rows)
        state = table.state_bytes(self.job.optimizer, width)
        if layout.strategy == REPLICATED:
            # the whole gradient is cleared, summed and applied
            whole = table.rows * width
            touched, out = float(table.rows), out + 3 * 4 * whole
        # gradients are read a bag at a time, rows and their state read and written
        seconds += self.rows_s(touched, row, out + touched * (row + 2 * state), 0.0)
        if layout.tier != HBM:
            seconds += far * SECTOR * ceil_div(row + state, SECTOR) / self.host_rate
        return seconds

    def rows_s(self, rows: float, row: float, written: float, hits: float) -> float:
        """Seconds of data of a gather, without its launch; see `predict.kernels.gather`."""
        constants, device, _, _ = self._gather
        if rows <= 0:
            return 0.0
        sizes = {"rows": max(rows, 1.0), "row": row, "written": written, "hits": hits}
        return float(GATHER.parts(constants, sizes, device).data)

    def _sent_s(self, table: Table, layout: Layout, width: int) -> float:
        """Seconds that a piece's bytes take through its device's ports, without the start of each call."""
        n, group, job = self.topology.devices, self.topology.group, self.job
        if n == 1:
            return 0.0
        nodes = n // group
        vector = self.local * table.vectors * width * job.element
        ways = 2 if job.training else 1
        if layout.strategy == REPLICATED:
            if not job.training:
                return 0.0
            whole = 4 * table.rows * table.dim
            inside = 2 * whole * (group - 1) / group
            across = 2 * whole / group * (nodes - 1) / nodes
            return self._ports_s("all-reduce", inside, across)
        share = {ROW: 1 / n, TABLE_ROW: 1 / group}.get(layout.strategy, 1.0)
        ids = self.local * (table.pooling * ID_BYTES * share + LENGTH_BYTES)
        if layout.strategy == TABLE_ROW:
            inside = ways * (group - 1) * nodes * vector + (group - 1) * ids
            across = ways * (nodes - 1) * vector + (n - group) * ids
        else:
            inside = (group - 1) * (ways * vector + ids)
            across = (n - group) * (ways * vector + ids)
        name = "all-to-all" if layout.strategy in (TABLE, COLUMN) else "reduce-scatter"
        return self._ports_s(name, inside, across)

    def _ports_s(self, name: str, inside: float, across: float) -> float:
        """The slower of both levels of links, which work at the same time; one after the other in a
        reduction by levels."""
        found = []
        for level, nbytes in (("inside", inside), ("across", across)):
            if nbytes:
                link = self.topology.link(level)
                found.append(nbytes / (link.bytes_per_s * curve_of(link, name, level).constants["rate"]))
        return max(found, default=0.0)


def narrow(options: Sequence[Option], capacity: float, host: float) -> list[Option]:
    """Options without those that fit nowhere or that another beats in every figure."""
    fitting = [o for o in options if o.hbm <= capacity and o.host <= host]
    kept: list[Option] = []
    for j, o in enumerate(fitting):
        beaten = any(
            p is not o and p.spread == o.spread and p.pieces == o.pieces
            and p.seconds <= o.seconds and p.hbm <= o.hbm and p.host <= o.host
            and ((p.seconds, p.hbm, p.host) != (o.seconds, o.hbm, o.host) or i < j)
            for i, p in enumerate(fitting)
        )  # fmt: skip
        if not beaten:
            kept.append(o)
    return kept
