"""Plan: a grid cut into slabs, which are evaluated as arrays, and parts, which are written as files."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from pharos.decide.sweep.grid_file import Entered, Grid
from pharos.machines.machine import Machine, find_machine
from pharos.predict.figures import COLUMNS
from pharos.predict.grid import is_lean, runtime_for
from pharos.predict.runtimes import Runtime
from pharos.quantity.errors import InputError, PharosError

# The hyperparameter that is an axis of its own: no other decides with it whether there is a network.
OWN = "resolution"
# Points of a slab: what every operator has of them fits in some 200 MB, and calls cost little beside them.
POINTS = 1 << 15
# Of a step of decoding, where attention alone has a size for each pair of batch and context.
DECODED = 1 << 18
# Where points are predicted one by one, a part is done in about a minute.
SINGLE = 1 << 10
ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class Slab:
    """A block of one model's points in one phase and precision, for some of the machines and runtimes.

    Args:
        model: its number in the grid.
        combos, resolutions, batches, contexts: (first, behind the last) place on each axis.
        targets: likewise, of what it is evaluated on.
    """

    model: int
    phase: str
    precision: str
    combos: tuple[int, int]
    resolutions: tuple[int, int]
    batches: tuple[int, int]
    contexts: tuple[int, int]
    targets: tuple[int, int]

    @property
    def points(self) -> int:
        """Its points on one machine."""
        return prod(b - a for a, b in (self.combos, self.resolutions, self.batches, self.contexts))

    @property
    def rows(self) -> int:
        """Its points on all its machines."""
        return self.points * (self.targets[1] - self.targets[0])


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of one model.

    Args:
        combos: every combination of the hyperparameters that decide the network's form.
        resolutions: None where the grid does not set it.
    """

    combos: tuple[dict[str, Any], ...]
    resolutions: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Target:
    """A machine with a runtime that it has.

    Args:
        lean: whether arrays are right there for the columns that are asked for.
    """

    machine: Machine
    runtime: Runtime
    lean: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Args:
        parts: slabs of each file.
        targets: what points are evaluated on; refused: machines without the runtime, with the reason.
        needs: parts of an estimate that are read.
    """

    grid: Grid
    axes: tuple[Axes, ...]
    targets: tuple[Target, ...]
    refused: tuple[str, ...]
    needs: frozenset[str]
    parts: tuple[tuple[Slab, ...], ...]

    @property
    def points(self) -> int:
        """Points of the grid: rows, before conditions, of what is a network."""
        return sum(s.rows for part in self.parts for s in part)


def plan(grid: Grid, rows: int = ROWS) -> Plan:
    """Cuts a grid; the same grid and rows give the same parts.

    Args:
        rows: of a part at most.

    Raises:
        InputError: no machine has one of the runtimes.
    """
    asked = [*grid.columns, *(c.left for c in grid.where),
             *(str(c.right) for c in grid.where if c.is_column)]  # fmt: skip
    needs = frozenset().union(*(COLUMNS[c].needs for c in asked if c in COLUMNS))
    targets, refused = [], []
    for name, runtime in product(grid.machines, grid.runtimes):
        machine = find_machine(name)
        try:
            chosen = runtime_for(runtime, machine)
        except PharosError as error:
            refused.append(str(error))
            continue
        targets.append(Target(machine, chosen, is_lean(chosen, machine, needs)))
    if not targets:
        raise InputError("no machine of the grid has the runtime", hint=refused[0] if refused else "")
    axes = tuple(map(_axes, grid.models))
    most = POINTS if all(t.lean for t in targets) else SINGLE
    parts: list[tuple[Slab, ...]] = []
    slabs: list[Slab] = []
    held = 0
    for slab in _slabs(grid, axes, min(most, rows), len(targets), rows):
        if slabs and held + slab.rows > rows:
            parts.append(tuple(slabs))
            slabs, held = [], 0
        slabs.append(slab)
        held += slab.rows
    parts.append(tuple(slabs))
    return Plan(grid, axes, tuple(targets), tuple(refused), needs, tuple(parts))


def _axes(model: Entered) -> Axes:
    given = dict(model.hyperparameters)
    own = given.get(OWN)
    whole = own is not None and all(isinstance(v, int) and not isinstance(v, bool) for v in own)
    resolutions = given.pop(OWN) if whole else None
    combos = tuple(dict(zip(given, each, strict=True)) for each in product(*given.values()))
    return Axes(combos, resolutions)


def _slabs(grid: Grid, axes: tuple[Axes, ...], most: int, targets: int, rows: int) -> Iterator[Slab]:
    """Blocks of at most `most` points, each on as many of the targets as a part of `rows` holds."""
    for i, each in enumerate(axes):
        lengths = (len(each.combos), len(each.resolutions or (0,)), len(grid.batches),
                   len(grid.contexts or (0,)))  # fmt: skip
        for phase, precision in product(grid.phases, grid.precisions):
            chunks = _chunks(lengths, most)
            if phase == "decode" and most == POINTS:
                whole = min(DECODED, rows)
                last = min(lengths[3], whole)
                chunks = [*_chunks(lengths[:3], max(1, min(most, whole // last))), last]
            cuts = [_cuts(length, chunk) for length, chunk in zip(lengths, chunks, strict=True)]
            for places in product(*cuts):
                points = prod(b - a for a, b in places)
                for some in _cuts(targets, max(1, min(targets, rows // points))):
                    yield Slab(i, phase, precision, places[0], places[1], places[2], places[3], some)


def _chunks(lengths: tuple[int, ...], most: int) -> list[int]:
    """Places of each axis that a slab takes: all of the last ones, as long as they fit."""
    chunks = []
    for length in reversed(lengths):
        chunks.append(max(1, min(length, most)))
        most //= chunks[-1]
    return chunks[::-1]


def _cuts(length: int, chunk: int) -> list[tuple[int, int]]:
    """An axis in pieces of nearly equal length."""
    count = -(-length // chunk)
    return [(length * i // count, length * (i + 1) // count) for i in range(count)]
