"""Grid: a graph whose sizes are arrays, predicted by distinct kernels and only as far as is asked."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine
from pharos.machines.profile import Profile, profile_of
from pharos.passes.fuse import Kernel, launches
from pharos.passes.fusions import FUSIONS
from pharos.passes.memory import Liveness, liveness
from pharos.predict.clock import is_capped
from pharos.predict.compose import with_host
from pharos.predict.energy import dynamic, in_all, static_of
from pharos.predict.estimate import Estimate, Operation, shares_of, stranger, what_is_missing
from pharos.predict.kernel import compute_dtype, kernel_time
from pharos.predict.memory import Memory, fits_in, memory_of
from pharos.predict.prices import Prices, prices_of
from pharos.predict.runtimes import RACE, Runtime, runtime_of, settle
from pharos.quantity.evidence import Evidence, Figure, banded, merge, unknown_figure
from pharos.quantity.sizes import Size, is_array

# What can be left out: the band of the latency, energy, memory, seconds by resource, the iron law's terms.
BAND, ENERGY, MEMORY, SHARES, LAW, REGIME = "band", "energy", "memory", "shares", "law", "regime"
EVERYTHING = frozenset((BAND, ENERGY, MEMORY, SHARES, LAW, REGIME))
# Shapes of a kernel are looked for along an axis as long as fewer than this share of its places differ.
WORTH = 0.8
# Numbers that decide a kernel's shape at a place of an axis; with more, places are taken to differ.
MOST = 256


@dataclass(frozen=True, slots=True)
class Codes:
    """Words at points: `words[codes]`, codes as an array of small whole numbers."""

    codes: Any
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A kernel at the shapes that it really takes.

    Args:
        kernel: its sizes have one place for each distinct shape along each axis.
        ways: (axis, place of every point of that axis) for the axes that were shortened.
        key: the same for kernels whose places are.
    """

    kernel: Kernel
    ways: tuple[tuple[int, Any], ...]
    key: tuple[Any, ...]


def is_lean(runtime: Runtime, machine: Machine, needs: frozenset[str]) -> bool:
    """Whether arrays give here what numbers give.

    They do not where hosts race devices, where pages, an allocator's blocks or an arena are placed one by
    one, where what runs beside a kernel matters (calibrations), and under a power cap.
    """
    if machine.calibration or is_capped(machine) or runtime.name == "eager":
        return False
    if machine.kind == "mcu" and MEMORY in needs:
        return False
    return not (runtime.composes == RACE and machine.kind == "gpu")


class Points:
    """A graph at many points: what is the same for all machines is computed once.

    Args:
        graph: sizes are numbers, or arrays with one dimension an axis of the grid, of length 1 where they
            do not depend on it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._pieces: dict[str, tuple[Piece, ...]] = {}
        self._count: Count | None = None
        self._lived: Liveness | None = None

    @property
    def count(self) -> Count:
        """Its operations and bytes."""
        if self._count is None:
            self._count = count(self.graph)
        return self._count

    def pieces(self, fusion: str) -> tuple[Piece, ...]:
        """Its kernels under a set of fusion rules."""
        if fusion not in self._pieces:
            found = launches(self.count, FUSIONS[fusion]).kernels
            self._pieces[fusion] = tuple(map(piece_of, found))
        return self._pieces[fusion]

    @property
    def lived(self) -> Liveness:
        """Liveness of its activations, which overwrite their inputs."""
        if self._lived is None:
            self._lived = liveness(self.graph, in_place=True)
        return self._lived

    def memory(self, machine: Machine, runtime: str) -> Memory:
        """What a step holds, see `predict.memory`."""
        return memory_of(self.count, machine, runtime, None, self.lived)

    def estimate(
        self, machine: Machine, workload: Workload, runtime: Runtime, needs: frozenset[str] = EVERYTHING,
        *, model: str = "",
    ) -> Estimate:  # fmt: skip
        """As `predict` gives it, without the parts that were not asked for, and without its operations.

        Where `is_lean` holds, and then equal to it.
        """
        profile = _profile(machine, runtime.name)
        found = _times(self, machine, profile, runtime, workload, needs)
        memory = self.memory(machine, runtime.name) if MEMORY in needs else _NOTHING
        fits = fits_in(memory, machine) if MEMORY in needs else None
        samples = self.graph.meta.get("tokens", 1) * workload.batch
        shared: dict[str, Any] = {
            "model": model or self.graph.name, "machine": machine, "workload": workload,
            "runtime": runtime.name, "count": self.count, "operations": (), "memory": memory, "fits": fits,
            "samples": samples, "energy_parts": None,
        }  # fmt: skip
        if found is None:
            why = what_is_missing(machine, workload)
            return Estimate(**shared, latency=unknown_figure("s", why), energy=unknown_figure("J", why),
                            shares={}, binding=_bound("unknown", fits), regime="unknown", compute_s=None,
                            data_s=None, overhead_s=None)  # fmt: skip
        sums, evidence, repeats = found
        constants = settle(runtime, machine, profile)
        device = sums["device"]
        error = sums["errors"] / device if BAND in needs else 0.0
        call = with_host(device, error, repeats, runtime, constants, machine)
        between, latency = call.latency_s - call.device_s, call.latency_s
        error, strange = stranger(runtime, profile, machine, call)
        evidence = (*call.evidence, *evidence, *strange)
        figure = Figure(value=latency, unit="s", evidence=merge(evidence))
        if BAND in needs:
            figure = banded(latency, "s", error, evidence)
        energy, parts = unknown_figure("J", "not asked for"), None
        if ENERGY in needs:
            energy, parts = _energy(sums, latency, machine, profile, workload)
        if uncounted := self.count.uncounted:
            figure = unknown_figure("s", f"operators not counted: {', '.join(uncounted[:4])}", low=figure.low)
            energy = unknown_figure("J", "operators not counted")
        shares: dict[str, Size] = {}
        if SHARES in needs:
            shares = {name: sums[f"share {name}"] for name in SHARED}
            shares["overhead"] = shares["overhead"] + between
        law = LAW in needs
        return Estimate(
            **{**shared, "energy_parts": parts}, latency=figure, energy=energy, shares=shares,
            binding=_bound(_largest(shares), fits) if shares else None,
            regime=_regime(self, sums, machine, shares) if REGIME in needs else None,
            compute_s=sums["compute_s"] if law else None, data_s=sums["data_s"] if law else None,
            overhead_s=sums["overhead_s"] + between if law else None, host_s=call.host_s,
            device_s=call.device_s, idle_s=call.idle_s,
        )  # fmt: skip


_NOTHING = Memory(weights=0, activations_peak=0, kv_cache=0, state=0, workspace=0, optimizer=0, runtime=0)
SHARED = ("compute", "memory-bandwidth", "overhead", "sequential-dependency")


def runtime_for(name: str | None, machine: Machine) -> Runtime:
    """The runtime that `predict` would take, see `runtime_of`."""
    profile = None if machine.calibration else profile_of(machine)
    return runtime_of(name, machine, profile.fitted_with if profile else "")


def _profile(machine: Machine, runtime: str) -> Profile:
    return profile_of(machine, runtime) if machine.calibration else profile_of(machine)


def _times(
    points: Points, machine: Machine, profile: Profile, runtime: Runtime, workload: Workload,
    needs: frozenset[str],
) -> tuple[dict[str, Size], list[Evidence], Size] | None:  # fmt: skip
    """Sums over kernels of what is needed, evidence, kernels that run; None where a time is not known.

    Kernels that have the same places are summed up at their distinct shapes, and spread over the grid once.
    """
    precision = points.graph.precision
    pieces = points.pieces(runtime.fusion)
    prices = prices_of(machine, profile, compute_dtype(precision)) if ENERGY in needs else None
    groups: dict[tuple[Any, ...], tuple[Piece, dict[str, Size]]] = {}
    evidence: dict[Evidence, None] = {}
    repeats: Size = 0
    for piece in pieces:
        found = _kernel(piece, machine, profile, precision, workload.phase, needs, prices)
        if found is None:
            return None
        for e in found[1]:
            evidence[e] = None
        repeats = repeats + piece.kernel.times
        _, sums = groups.setdefault(piece.key, (piece, {}))
        for name, value in found[0].items():
            sums[name] = sums[name] + value if name in sums else value
    if not pieces:
        return None
    total: dict[str, Size] = {}
    for piece, sums in groups.values():
        for name, value in sums.items():
            wide = _spread(value, piece.ways)
            total[name] = total[name] + wide if name in total else wide
    return total, list(evidence), repeats


def _kernel(
    piece: Piece, machine: Machine, profile: Profile, precision: Any, phase: str, needs: frozenset[str],
    prices: Prices | None,
) -> tuple[dict[str, Size], tuple[Evidence, ...]] | None:  # fmt: skip
    """What one kernel adds to the sums, over all its runs."""
    kernel = piece.kernel
    time = kernel_time(kernel, machine, profile, precision, phase)
    if time is None:
        return None
    n = kernel.times
    sums: dict[str, Size] = {"device": n * time.latency_s}
    if BAND in needs:
        sums["errors"] = sums["device"] * time.error
    if prices is not None:
        spent = dynamic(Operation(kernel=kernel, time=time), machine, prices, 0.0)
        assert spent is not None
        sums["compute_J"], sums["data_J"] = spent.compute_J, spent.data_J
    if SHARES in needs:
        sums |= {f"share {name}": value for name, value in shares_of([(n, time)]).items()}
    if LAW in needs:
        sums["compute_s"], sums["data_s"] = n * time.compute_s, n * time.data_s
        sums["overhead_s"] = n * (time.overhead_s + time.serial_s)
    if REGIME in needs:
        sums["moved"] = kernel.traffic.total * n
    return sums, time.evidence


def _energy(
    sums: dict[str, Size], latency: Size, machine: Machine, profile: Profile, workload: Workload
) -> tuple[Figure, Any]:
    prices = prices_of(machine, profile, compute_dtype(workload.precision))
    if static_of(machine, prices)[0] is None and prices.level == "board":
        return unknown_figure("J", f"idle power of {machine.id} is not in the catalogue"), None
    figure, parts, _ = in_all(sums["compute_J"], sums["data_J"], latency, machine, prices)
    return figure, parts


def _largest(shares: dict[str, Size]) -> Any:
    """The first of the largest shares, as `predict` names it."""
    if not any(is_array(v) for v in shares.values()):
        return max(shares, key=lambda k: shares[k])
    import numpy as np

    names = tuple(shares)
    codes: Any = np.int8(0)
    best = shares[names[0]]
    for i, name in enumerate(names[1:], 1):
        beats = shares[name] > best
        codes = np.where(beats, np.int8(i), codes)
        best = np.maximum(best, shares[name])
    return Codes(codes, names)


def _bound(binding: Any, fits: Any) -> Any:
    """Capacity, where it does not fit; else what binds."""
    if fits is False:
        return "memory-capacity"
    if not is_array(fits):
        return binding
    import numpy as np

    words = binding.words if isinstance(binding, Codes) else (binding,)
    codes = binding.codes if isinstance(binding, Codes) else np.int8(0)
    return Codes(np.where(fits, codes, np.int8(len(words))), (*words, "memory-capacity"))


def _regime(points: Points, sums: dict[str, Size], machine: Machine, shares: dict[str, Size]) -> Any:
    """The side of the ridge; where it is unknown, the larger of the compute and bandwidth shares."""
    ridge = machine.ridge_point(compute_dtype(points.graph.precision))
    sides = ("compute", "memory-bandwidth")
    moved = sums["moved"]
    if ridge is None or not (is_array(moved) or moved):
        return _largest({k: shares[k] for k in sides})
    above = points.count.flops / moved >= ridge
    if not is_array(above):
        return sides[0] if above else sides[1]
    import numpy as np

    return Codes(np.where(above, np.int8(0), np.int8(1)), sides)


# Distinct shapes.


def piece_of(kernel: Kernel) -> Piece:
    """A kernel with one place for each of its distinct shapes along each axis.

    Its time depends on the sizes of its operators, tensors and repeats alone, so that equal ones give equal
    times.
    """
    import numpy as np

    held: dict[int, Any] = {}
    for line in kernel.lines:
        node = line.node
        _gather((node.op, node.ins, node.outs, node.weights, node.buffers, node.state), held)
    _gather(kernel.times, held)
    arrays = list(held.values())
    rank = max((a.ndim for a in arrays), default=0)
    kept: list[tuple[int, Any]] = []
    ways: list[tuple[int, Any]] = []
    key: list[Any] = []
    for axis in range(rank):
        found = _distinct([a for a in arrays if a.ndim == rank and a.shape[axis] > 1], axis)
        if found is not None:
            kept.append((axis, found[0]))
            ways.append((axis, found[1]))
            key.append((axis, found[1].tobytes()))
    if not kept:
        return Piece(kernel, (), ())
    memo: dict[int, Any] = {}

    def narrow(array: Any) -> Any:
        if array.ndim != rank:
            return array
        for axis, places in kept:
            if array.shape[axis] > 1:
                array = np.take(array, places, axis)
        return array

    return Piece(_changed(kernel, narrow, memo), tuple(ways), tuple(key))


def _distinct(arrays: Sequence[Any], axis: int) -> tuple[Any, Any] | None:
    """(first places, place of each) of what differs along an axis; None where most places do."""
    import numpy as np

    if not arrays:
        return None
    length = arrays[0].shape[axis]
    rows = [np.moveaxis(a, axis, 0).reshape(length, -1) for a in arrays]
    if length < 4 or sum(r.shape[1] for r in rows) > MOST:
        return None
    keep = back = None
    for row in rows:
        for column in row.T:
            if keep is not None and np.array_equal(column, column[keep][back]):
                continue
            _, first, code = np.unique(column, return_index=True, return_inverse=True)
            if keep is not None and back is not None:
                _, first, code = np.unique(back * len(first) + code, return_index=True, return_inverse=True)
            keep, back = first, code
            if len(keep) > WORTH * length:
                return None
    return (keep, back) if keep is not None else None


def _spread(value: Size, ways: Iterable[tuple[int, Any]]) -> Size:
    """A result at distinct shapes, at every point of the axes."""
    if not is_array(value):
        return value
    import numpy as np

    for axis, places in ways:
        if value.ndim > axis and value.shape[axis] > 1:
            value = np.take(value, places, axis)
    return value


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def _gather(thing: Any, found: dict[int, Any]) -> None:
    if is_array(thing):
        found[id(thing)] = thing
    elif isinstance(thing, (tuple, list)):
        for each in thing:
            _gather(each, found)
    elif isinstance(thing, dict):
        for each in thing.values():
            _gather(each, found)
    elif is_dataclass(thing):
        for name in _names(type(thing)):
            _gather(getattr(thing, name), found)


def _changed(thing: Any, change: Any, memo: dict[int, Any]) -> Any:
    """A frozen structure with its arrays changed; what holds none stays the same object."""
    if isinstance(thing, (str, int, float)) or thing is None:
        return thing
    known = memo.get(id(thing))
    if known is not None:
        return known
    made = thing
    if is_array(thing):
        made = change(thing)
    elif isinstance(thing, tuple):
        parts = tuple([_changed(each, change, memo) for each in thing])
        made = parts if any(a is not b for a, b in zip(parts, thing, strict=True)) else thing
    elif isinstance(thing, dict):
        held = {k: _changed(v, change, memo) for k, v in thing.items()}
        made = held if any(held[k] is not v for k, v in thing.items()) else thing
    elif is_dataclass(thing) and not isinstance(thing, type):
        for name in _names(type(thing)):
            old = getattr(thing, name)
            new = _changed(old, change, memo)
            if new is not old:
                if made is thing:
                    made = copy.copy(thing)
                object.__setattr__(made, name, new)
    memo[id(thing)] = made
    return made
