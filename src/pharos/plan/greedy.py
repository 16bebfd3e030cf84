"""The greedy planner of TorchRec as a baseline: its proposers and its partitioner, in our own words.

A proposer starts with each table's fastest option and, time after time, moves the table whose choice takes
most memory on to its next slower option. The partitioner places options that lie on all devices first, then
those of whole nodes on the least busy node, then single pieces, the slowest first, each on the least busy
device with room. The fastest proposal that could be placed wins. Source: documentation of
`torchrec.distributed.planner` (GreedyProposer by depth and by sum, UniformProposer, GreedyPerfPartitioner).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush, heapreplace

from pharos.plan.shard_layouts import ALL, ANY, NODE, Option


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Tables in figures alone.

    Args:
        options: of each table. devices, group: all, and those of a node.
        capacity, host: bytes that a device has left for tables.
    """

    options: tuple[tuple[Option, ...], ...]
    devices: int
    group: int
    capacity: float
    host: float = 0.0


# Of each table: which option, and the device of each piece (of all devices and nodes, theirs in order).
Placement = tuple[tuple[int, tuple[int, ...]], ...]


class Loads:
    """Seconds and bytes of each device under a placement that changes."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.seconds = [0.0] * problem.devices
        self.hbm = [0] * problem.devices
        self.host = [0] * problem.devices

    def fits(self, device: int, option: Option) -> bool:
        """Whether a device has room for a piece."""
        p = self.problem
        return self.hbm[device] + option.hbm <= p.capacity and self.host[device] + option.host <= p.host

    def put(self, option: Option, devices: Sequence[int], sign: int = 1) -> None:
        """Adds, or takes away, a piece to each of some devices."""
        for d in devices:
            self.seconds[d] += sign * option.seconds
            self.hbm[d] += sign * option.hbm
            self.host[d] += sign * option.host

    def fit_all(self) -> bool:
        """Whether no device holds more than it has."""
        p = self.problem
        return max(self.hbm) <= p.capacity and max(self.host) <= p.host


def loads(problem: Problem, placement: Placement) -> Loads:
    """What a placement puts on each device."""
    made = Loads(problem)
    for options, (chosen, devices) in zip(problem.options, placement, strict=True):
        made.put(options[chosen], devices)
    return made


def partition(problem: Problem, chosen: Sequence[int]) -> Placement | None:
    """Devices for one option of each table, greedily; None where room runs out."""
    made = Loads(problem)
    found: list[tuple[int, ...]] = [()] * len(chosen)
    picked = [options[i] for options, i in zip(problem.options, chosen, strict=True)]
    everywhere = range(problem.devices)
    for t, option in enumerate(picked):
        if option.spread == ALL:
            if not all(made.fits(d, option) for d in everywhere):
                return None
            found[t] = tuple(everywhere)
            made.put(option, found[t])

    def slowest_first(spread: tuple[str, ...]) -> list[int]:
        among = [t for t, o in enumerate(picked) if o.spread in spread]
        return sorted(among, key=lambda t: (-picked[t].seconds, -picked[t].hbm, t))

    group = problem.group
    for t in slowest_first((NODE,)):
        option = picked[t]
        nodes = [range(at, at + group) for at in range(0, problem.devices, group)]
        open_ = [node for node in nodes if all(made.fits(d, option) for d in node)]
        if not open_:
            return None
        found[t] = tuple(min(open_, key=lambda node: (max(made.seconds[d] for d in node), node[0])))
        made.put(option, found[t])
    # devices by how busy they are
    queue = sorted((made.seconds[d], d) for d in everywhere)
    for t in slowest_first((ANY,)):
        option = picked[t]
        for _ in range(option.pieces):
            full = []
            while queue and not made.fits(queue[0][1], option):
                full.append(heappop(queue))
            if not queue:
                return None
            at = queue[0][1]
            found[t] += (at,)
            made.put(option, (at,))
            heapreplace(queue, (made.seconds[at], at))
            for entry in full:
                heappush(queue, entry)
    return tuple(zip(chosen, found, strict=True))


def proposals(problem: Problem) -> Iterator[tuple[int, ...]]:
    """One option of each table, by the greedy proposers and the uniform one."""
    for whole in (False, True):
        orders = [
            sorted(
                range(len(options)), key=lambda i: options[i].seconds * (options[i].pieces if whole else 1)
            )
            for options in problem.options
        ]
        at = [0] * len(orders)
        while True:
            yield tuple(order[i] for order, i in zip(orders, at, strict=True))
            open_ = [t for t, order in enumerate(orders) if at[t] + 1 < len(order)]
            if not open_:
                break

            now = {t: problem.options[t][orders[t][at[t]]] for t in open_}
            at[max(now, key=lambda t, now=now: (*_size(now[t]), -t))] += 1
    kinds = [{o.layout.strategy for o in options} for options in problem.options]
    for strategy in sorted(set.intersection(*kinds)) if kinds else []:
        yield tuple(
            min((i for i, o in enumerate(options) if o.layout.strategy == strategy),
                key=lambda i: options[i].seconds)
            for options in problem.options
        )  # fmt: skip


def _size(option: Option) -> tuple[float, float, float]:
    """What the greedy proposer holds to be large: the largest piece, then the sum, then the host's part."""
    return option.hbm, option.hbm * option.pieces, option.host


@lru_cache(maxsize=8)
def torchrec_greedy(problem: Problem) -> Placement | None:
    """The placement that the greedy planner ends with; None where it finds none."""
    best: tuple[float, Placement] | None = None
    seen: set[tuple[int, ...]] = set()
    for chosen in proposals(problem):
        if chosen in seen:
            continue
        seen.add(chosen)
        placed = partition(problem, chosen)
        if placed is None:
            continue
        slowest = max(loads(problem, placed).seconds)
        if best is None or slowest < best[0]:
            best = slowest, placed
    return best[1] if best else None
