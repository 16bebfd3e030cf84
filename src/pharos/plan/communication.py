"""Cost: the time of a collective over a topology, from its moves and the fitted constants of its links."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.plan.collectives import find_collective
from pharos.plan.collectives.base import ACROSS, INSIDE, Collective, Moves
from pharos.plan.topology import Link, Topology
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, Figure, Kind, assumed, banded, exact, unknown_figure
from pharos.quantity.sizes import Size, is_symbol
from pharos.quantity.sizes import size as checked_size

# Added to the error where constants of another generation, kind or collective stand in.
STAND_IN_ERROR = 0.25
# Constants of a link of which no rows are known. Assumed, from the efficiencies that the facts' links were
# measured at (70 to 91%), Calculon's of InfiniBand (90%), and the hops of NCCL's tuning model (`nccl_model`).
ASSUMED = {"quick_us": 8.0, "quick_hop_us": 1.0, "quick_rate": 0.15, "bulk_us": 12.0, "hop_us": 2.0,
           "rate": 0.8, "switch_us": 20.0, "switch_rate": 0.7, "sharpness": 4.0,
           "in_network": 0.0}  # fmt: skip
FAR = {**ASSUMED, "quick_us": 10.0, "quick_hop_us": 5.0, "bulk_us": 20.0, "hop_us": 14.0, "rate": 0.9}
ASSUMED_ERROR = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Constants of `link_form.COLLECTIVE` for a link and collective, with the error on rows left out."""

    constants: Mapping[str, float]
    correction: Mapping[str, tuple[float, ...]]
    error: float
    evidence: Evidence
    # the fewest and the most devices of the rows
    devices: tuple[float, float] = (2.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One collective over a topology.

    Args:
        moves: exact bytes and steps. seconds: with its band.
        parts: seconds of each level of links.
        as_run: the algorithm is what libraries run, whichever protocol and switch they choose.
    """

    name: str
    algorithm: str
    as_run: bool
    size: Size
    topology: Topology
    moves: Moves
    seconds: Figure
    parts: dict[str, Size] = field(default_factory=dict)

    @property
    def bus_bytes_per_s(self) -> Size:
        """What the busiest port carried a second."""
        return self.moves.serial() / self.seconds.value


@cache
def _files() -> dict[str, dict[str, Any]]:
    return {name: read_yaml(path).data for name, (path, _) in folder("collectives").items()}


@cache
def curve_of(link: Link, name: str, level: str = INSIDE) -> Curve:
    """Constants for a link: its own, those of the nearest generation or kind, or assumed ones."""
    same = [d for d in _files().values() if d["kind"] == link.kind]
    same.sort(key=lambda d: (str(d.get("generation", "")) != link.generation,
                             abs(float(d["bytes_per_s"]) / link.bytes_per_s - 1)))  # fmt: skip
    for data in same:
        own = str(data.get("generation", "")) == link.generation and data["id"] == link.id
        for asked in (name, *_LIKE.get(name, ())):
            found = data["collectives"].get(asked)
            if found is None:
                continue
            error = float(found["error"])
            why = f"{found['fitted_on']}, {found['rows']} rows"
            if own and asked == name:
                evidence = Evidence(kind=Kind.FITTED, where=why, error=error)
            else:
                error = (error**2 + STAND_IN_ERROR**2) ** 0.5
                what = f"{asked} of {data['id']} stands in for {name} of {link.id}: {why}"
                evidence = assumed(what, error)
            return Curve(
                constants={k: float(v) for k, v in found["constants"].items()},
                correction={
                    str(k): tuple(map(float, str(v).split()))
                    for k, v in (found.get("correction") or {}).items()
                } if own and asked == name else {},
                error=error, evidence=evidence,
                devices=tuple(map(float, found.get("devices") or (2, 8))),  # type: ignore[arg-type]
            )  # fmt: skip
    constants = FAR if level == ACROSS else ASSUMED
    return Curve(constants=constants, correction={}, error=ASSUMED_ERROR, evidence=assumed(
        f"{link.id}: {constants['rate']:.0%} of its rate, {constants['hop_us']:g} us a step; no rows of it",
        ASSUMED_ERROR))  # fmt: skip


# Collectives whose constants stand in for those of one without rows.
_LIKE = {
    "broadcast": ("all-gather",), "gather": ("all-to-all", "all-gather"),
    "scatter": ("all-to-all", "all-gather"), "send-recv": ("all-to-all",), "all-to-all": ("all-gather",),
    "all-gather": ("reduce-scatter", "all-reduce"), "reduce-scatter": ("all-gather", "all-reduce"),
    "all-reduce": (),
}  # fmt: skip


def time_on(link: Link, name: str, level: str, columns: Mapping[str, Any]) -> tuple[Any, Curve]:
    """(seconds, curve) on one level of links; columns as `link_form.COLLECTIVE` names them."""
    import numpy as np

    from pharos.plan.link_form import COLLECTIVE, NO_DEVICE, features
    from pharos.predict.kernels.base import Residual

    curve = curve_of(link, name, level)
    shape = np.broadcast_shapes(*[np.shape(v) for v in columns.values()])
    flat = {k: np.broadcast_to(np.asarray(v, float), shape).reshape(-1) for k, v in columns.items()}
    seconds = COLLECTIVE.parts(curve.constants, flat, NO_DEVICE).total
    if curve.correction:
        points = np.array([curve.correction[f"x{i}"] for i in range(len(curve.correction["scales"]))]).T
        residual = Residual(points=points, scales=np.array(curve.correction["scales"]),
                            weights=np.array(curve.correction["weights"]))  # fmt: skip
        seconds = seconds * np.exp(residual(features(flat, NO_DEVICE)))
    return seconds.reshape(shape), curve


def usual_algorithm(how: Collective, topology: Topology) -> str:
    """What libraries run: hierarchical between nodes, else a ring, pairwise or a tree."""
    if topology.nodes > 1 and topology.group > 1 and "hierarchical" in how.algorithms:
        return "hierarchical"
    preferred = (
        ("ring", "direct", "tree") if how.name not in ("broadcast", "scatter", "gather") else ("tree",)
    )
    if how.name == "all-to-all":
        preferred = ("direct",)
    return next(a for a in preferred if a in how.algorithms)


def algorithms_of(how: Collective, topology: Topology) -> list[str]:
    """The algorithms that a topology allows."""
    level = INSIDE if topology.nodes == 1 else ACROSS
    adds = topology.devices == 1 or topology.link(level).adds
    found = []
    for algorithm in how.algorithms:
        if algorithm == "hierarchical" and (topology.nodes == 1 or topology.group == 1):
            continue
        if algorithm == "switch" and not adds:
            continue
        found.append(algorithm)
    return found


def collective_cost(name: str, size: Size, topology: Topology, algorithm: str | None = None) -> Cost:
    """A collective of `size` bytes over all devices of a topology.

    Args:
        size: bytes of the whole buffer, see the collective's class; an int, an array or a symbol.
        algorithm: None for what libraries run: usually a ring, where a switch adds the faster of both.

    Raises:
        UnknownName: no such collective or algorithm.
        InputError: a switch that cannot add.
    """
    how = find_collective(name)
    size = checked_size(size, "size") if not is_symbol(size) else size
    n, group = topology.devices, topology.group
    chosen = algorithm or usual_algorithm(how, topology)
    moves = how.moves(chosen, n, size, group)
    if chosen == "switch" and how.primitive == "reduce" and n > 1:
        level = INSIDE if topology.nodes == 1 else ACROSS
        if not topology.link(level).adds:
            raise InputError(
                f"no switch adds on {topology.link(level).id}", where=name,
                hint="NVLink from its generation 4 on can inside a node; or --algorithm ring",
            )  # fmt: skip
    cost = Cost(
        name=how.name, algorithm=chosen, as_run=algorithm is None, size=size, topology=topology, moves=moves,
        seconds=unknown_figure("s", "not worked out"),
    )  # fmt: skip
    if n == 1:
        return replace(cost, seconds=exact(0.0 * size, "s", "one device moves nothing"))
    if is_symbol(size):
        return _formula(cost)
    parts: dict[str, Size] = {}
    curves: list[Curve] = []
    squares: Size = 0.0
    for level in dict.fromkeys(p.level for p in moves.phases):
        if _nothing(moves.steps(level)):
            continue
        link = topology.link(level)
        span = group if level == INSIDE else n
        whole = topology.nodes == 1 and level == INSIDE
        columns = {
            "bytes": size, "devices": span, "nodes": 1 if level == INSIDE else topology.nodes,
            "steps": moves.steps(level), "ideal": moves.serial(level) / link.bytes_per_s,
            "switch": size / link.bytes_per_s
            if link.adds and whole and algorithm is None and how.name == "all-reduce" else 0.0,
            "before": 0.0,
        }  # fmt: skip
        if chosen == "switch" and link.adds:
            # nothing but what the switch adds
            columns |= {"switch": columns["ideal"], "ideal": float("inf")}
        seconds, curve = time_on(link, how.name, level, columns)
        parts[level] = float(seconds) if seconds.ndim == 0 else seconds
        curves.append(curve)
        squares = squares + (parts[level] * curve.error) ** 2
    total = sum(parts.values())
    evidence = [c.evidence for c in curves] + [topology.link(level).evidence for level in parts]
    return replace(cost, parts=parts, seconds=banded(total, "s", squares**0.5 / total, evidence))


def _formula(cost: Cost) -> Cost:
    """alpha x steps + bytes / (rate x bandwidth), the bulk protocol's, as a formula."""
    topology, moves = cost.topology, cost.moves
    total: Size = 0.0
    evidence = []
    for level in dict.fromkeys(p.level for p in moves.phases):
        if _nothing(moves.steps(level)):
            continue
        link = topology.link(level)
        curve = curve_of(link, cost.name, level)
        c = curve.constants
        total = total + 1e-6 * (c["bulk_us"] + c["hop_us"] * moves.steps(level))
        total = total + moves.serial(level) / (c["rate"] * link.bytes_per_s)
        evidence.append(curve.evidence)
    return replace(cost, seconds=Figure(value=total, unit="s", evidence=tuple(evidence)))


def _nothing(x: Size) -> bool:
    return isinstance(x, (int, float)) and x == 0
