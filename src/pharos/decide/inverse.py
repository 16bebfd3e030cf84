"""Inverse: the least machine, and the largest network, that meet a limit: by bisection on the predictor."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pharos.decide.changes import graph_at
from pharos.decide.scaled import BANDWIDTH, CAPACITY, COMPUTE, Scale, again, profile_for
from pharos.models.registry import Model, find, parse_name
from pharos.predict.estimate import Estimate, predict
from pharos.predict.kernel import compute_dtype, rate_of
from pharos.predict.memory import sram_and_flash
from pharos.quantity.errors import InputError, PharosError, unknown
from pharos.quantity.evidence import Figure
from pharos.quantity.units import parse

# Limits that can be asked for, with their SI units; all are upper limits but throughput.
UNITS = {"latency": "s", "throughput": "1/s", "memory": "B", "energy": "J", "power": "W"}
# Figures of a machine go from a 256th to 4096 times what they are, to 0.5%.
LOW, HIGH, FINE = 2.0**-8, 2.0**12, 1.005
# Hyperparameters that scale a network, and the steps that they come in.
SCALES = {"width": 0.05, "resolution": 32, "hidden": 8, "channels": 8, "layers": 1, "depth": 1, "blocks": 1}
# Batches and contexts are tried in one call, this many at once.
GRID, COARSE = 257, 17
LARGEST_BATCH = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One figure that alone would meet a limit, all others as they are.

    Args:
        of: "machine" or "network". what: compute, bandwidth, capacity; or batch, context, a hyperparameter.
        now, value: as it is, and the least of a machine or the largest of a network that meets the limit;
            `value` is None where none does.
        reached: the limited quantity then.
        note: why none does.
    """

    of: str
    what: str
    now: float | None
    value: float | None
    unit: str = ""
    reached: float | None = None
    factor: float | None = None
    note: str = ""

    @property
    def times(self) -> float | None:
        """The value in those of now; known even where the machine's own figure is not."""
        if self.factor is not None:
            return self.factor
        return self.value / self.now if self.value is not None and self.now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What would meet one limit.

    Args:
        figure: as it is. meets: by its central value; None where that is unknown.
    """

    limit: str
    allowed: float
    figure: Figure
    meets: bool | None
    needs: tuple[Need, ...]


def read_limits(texts: list[str]) -> dict[str, float]:
    """``latency=10ms`` options as SI figures by name.

    Raises:
        PharosError: no such limit, no figure, or one that is not positive.
    """
    found = {}
    for text in texts:
        name, sign, value = (part.strip() for part in text.partition("="))
        if not sign or not value:
            raise InputError(f"{text!r} is not NAME=FIGURE", where="--limit", hint="write latency=10ms")
        if name not in UNITS:
            raise unknown("limit", name, UNITS, where="--limit")
        try:
            number = parse(value, UNITS[name])
        except PharosError as error:
            raise error.at(f"--limit {name}") from None
        if not 0 < number < 1e24:
            raise InputError(f"{value!r} must be positive", where=f"--limit {name}")
        found[name] = number
    return found


def answers(model: Model, base: Estimate, limits: dict[str, float]) -> tuple[Answer, ...]:
    """The least machine and the largest network for each limit."""
    return tuple(_answer(model, base, name, allowed) for name, allowed in limits.items())


def figure_of(estimate: Estimate, limit: str) -> Figure:
    """The quantity that a limit is put on; memory where it does not fit is what it would take."""
    if limit == "latency":
        return estimate.latency
    if limit == "memory":
        total = estimate.memory.total
        return Figure(value=total, low=total, high=total, unit="B", evidence=estimate.memory.evidence)
    if limit == "energy":
        return estimate.energy
    if limit == "power":
        return estimate.power_W
    latency = estimate.latency
    value = estimate.throughput_per_s
    return Figure(value=value, unit="1/s", evidence=latency.evidence)


def _holds(value: Any, limit: str, allowed: float) -> Any:
    return value >= allowed if limit == "throughput" else value <= allowed


def _answer(model: Model, base: Estimate, limit: str, allowed: float) -> Answer:
    figure = figure_of(base, limit)
    meets = None if figure.value is None else bool(_holds(figure.value, limit, allowed))
    needs = []
    if meets is not None:
        needs = [*_machine(base, limit, allowed), *_network(model, base, limit, allowed)]
    return Answer(limit=limit, allowed=allowed, figure=figure, meets=meets, needs=tuple(needs))


def _machine(base: Estimate, limit: str, allowed: float) -> Iterator[Need]:
    """The least compute, bandwidth and capacity."""
    machine = base.machine
    peak = rate_of(machine, compute_dtype(base.workload.precision)).ops_per_s
    now = {COMPUTE: (peak, "FLOP/s"), BANDWIDTH: (machine.bandwidth_bytes_per_s.value, "B/s"),
           CAPACITY: (machine.capacity_bytes.value, "B")}  # fmt: skip
    # of a microcontroller, what changes while it runs; weights are in flash
    whole = float(sram_and_flash(base.memory)[0] if machine.kind == "mcu" else base.memory.total)
    profile = profile_for(base)
    for figure, (value, unit) in now.items():
        if figure == CAPACITY:
            held = whole if limit == "memory" else None
            yield Need(of="machine", what=figure, now=value, value=whole, unit=unit, reached=held,
                       note="holds it")  # fmt: skip
            continue
        if limit == "memory":
            # no rate changes what is held
            continue

        def reached(factor: float, figure: str = figure) -> float:
            made = again(base, Scale(**{figure: factor}), profile)
            found = figure_of(made, limit).value
            return float("nan") if found is None else float(found)

        yield _least(figure, value, unit, reached, limit, allowed)


def _least(
    figure: str, now: float | None, unit: str, reached: Callable[[float], float], limit: str, allowed: float
) -> Need:
    """The least factor that meets the limit; the largest where a faster machine breaks it, as with power."""
    best, slowest = reached(HIGH), reached(LOW)
    most = not _holds(best, limit, allowed)
    if most and not _holds(slowest, limit, allowed):
        note = f"none: not even {HIGH:.0f}x, something else binds"
        return Need(of="machine", what=figure, now=now, value=None, unit=unit, reached=best, note=note)
    low, high = LOW, HIGH
    if not most and _holds(slowest, limit, allowed):
        high = low
    while high / low > FINE:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if _holds(reached(middle), limit, allowed) != most else (middle, high)
    factor = low if most else high
    value = None if now is None else now * factor
    told = [f"{factor:.3g}x what it has"] if now is None else []
    told += ["at most: a faster one takes more"] if most else []
    told += ["or less: tried down to a 256th"] if factor == LOW and not most else []
    return Need(of="machine", what=figure, now=now, value=value, unit=unit, reached=reached(factor),
                factor=factor, note="; ".join(told))  # fmt: skip


def _network(model: Model, base: Estimate, limit: str, allowed: float) -> Iterator[Need]:
    """The largest batch, context and hyperparameters."""
    work = base.workload
    yield _sized("batch", int(work.batch), LARGEST_BATCH, model, base, limit, allowed)
    context = base.count.graph.meta.get("context")
    if context is not None:
        most = int(base.count.graph.meta.get("max_context") or context)
        yield _sized("context", int(context), most, model, base, limit, allowed)
    if model.entry is None:
        return
    name, given = parse_name(model.name)
    known = model.entry.hyperparameters()
    for key, step in SCALES.items():
        now = given.get(key, known[key].default) if key in known else None
        if isinstance(now, (int, float)) and not isinstance(now, bool):
            yield _scaled(key, now, step, name, given, base, limit, allowed)


def _sized(what: str, now: int, most: int, model: Model, base: Estimate, limit: str, allowed: float) -> Need:
    """The largest batch or context, found on grids that one call predicts each."""
    import numpy as np

    upwards = limit == "throughput" and what == "batch"

    # the limit's side changes once: at the largest that holds, or for throughput the least batch
    low, high = 1, most
    reached = None
    found = None
    for _ in range(4):
        grid = np.unique(np.round(np.geomspace(low, high, GRID))).astype(float)
        grid, seen, fits = _values(model, what, grid, base, limit)
        if seen is None:
            return Need(of="network", what=what, now=now, value=None, note="cannot be tried at other sizes")
        good = _holds(seen, limit, allowed) & fits
        if not good.any():
            break
        i = int(np.argmax(good)) if upwards else len(good) - 1 - int(np.argmax(good[::-1]))
        found, reached = int(grid[i]), float(seen[i])
        near = grid[i - 1] if upwards and i else grid[min(i + 1, len(grid) - 1)]
        low, high = sorted((int(near), int(grid[i])))
        if high - low <= 1:
            break
    if found is None:
        return Need(of="network", what=what, now=now, value=None, note=f"not even a {what} of 1 meets it"
                    if not upwards else f"no batch up to {most} does")  # fmt: skip
    note = f"or more: tried up to {most}" if found == most and not upwards else ""
    return Need(of="network", what=what, now=now, value=found, reached=reached, note=note)


def _values(model: Model, what: str, grid: Any, base: Estimate, limit: str) -> tuple[Any, Any, Any]:
    """The limited quantity over a grid of sizes, and where it fits as far as the network does now.

    One call predicts the grid; a model that takes numbers only is predicted one by one, on a coarser grid.
    """
    import numpy as np

    def one(values: Any) -> tuple[Any, Any]:
        work = base.workload.but(**{what: values})
        graph = graph_at(model, work, base.count.graph, base.workload)
        made = predict(graph, base.machine, work, model=base.model, runtime=base.runtime)
        found = figure_of(made, limit).value
        fits = True if base.fits is False or made.fits is None else made.fits
        return found, fits

    try:
        found, fits = one(grid)
        if found is not None:
            shape = np.shape(grid)
            return grid, np.broadcast_to(found, shape), np.broadcast_to(fits, shape)
    except (PharosError, TypeError, ValueError, AssertionError):
        pass
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, COARSE).astype(int))]
    seen, fitting = [], []
    for value in grid:
        try:
            found, fits = one(int(value))
        except PharosError:
            return grid, None, None
        if found is None:
            return grid, None, None
        seen.append(float(found))
        fitting.append(bool(fits))
    return grid, np.array(seen), np.array(fitting)


def _scaled(
    key: str, now: float, step: float, name: str, given: dict[str, Any], base: Estimate, limit: str,
    allowed: float,
) -> Need:  # fmt: skip
    """The largest hyperparameter in steps, by bisection over models that are built anew."""
    whole = isinstance(now, int)
    seen: dict[int, float | None] = {}

    def at(i: int) -> float | None:
        if i not in seen:
            value = int(i * step) if whole else round(i * step, 3)
            shown = ", ".join(f"{k}={v!r}" for k, v in (given | {key: value}).items())
            try:
                model = find(f"{name}({shown})")
                made = predict(model.graph(base.workload), base.machine, base.workload, model=model.name,
                               runtime=base.runtime)  # fmt: skip
                found = figure_of(made, limit).value
                seen[i] = None if found is None else float(found)
            except PharosError:
                seen[i] = None
        return seen[i]

    def good(i: int) -> bool:
        found = at(i)
        return found is not None and bool(_holds(found, limit, allowed))

    # throughput holds for small networks, as the other limits do
    low, high = 1, max(2, 4 * round(now / step))
    while low < high and at(low) is None and low < now / step:
        # sizes too small for the network
        low += 1
    if not good(low):
        return Need(
            of="network", what=key, now=now, value=None, reached=at(low), note="not even the smallest"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if good(middle) else (low, middle)
    value = int(low * step) if whole else round(low * step, 3)
    return Need(of="network", what=key, now=now, value=value, reached=at(low))
