"""Solver: where the tables go so that the busiest device is done soonest, with a bound on how much better
any placement could be.

Three ways, each from what the one before found: the greedy planner (`greedy`), a search by moves, and an
integer programme solved by HiGHS, which SciPy brings. Small problems are tried in full instead. All of them
give the same answer each time: HiGHS is stopped by nodes of its tree, not by the clock, unless the clock's
limit comes first.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from pharos.plan.greedy import Loads, Placement, Problem, loads, partition, torchrec_greedy
from pharos.plan.shard_layouts import ALL, ANY, NODE, Option
from pharos.quantity.errors import InputError

METHODS = ("auto", "milp", "search", "greedy")
# Placements that are all tried.
FEW = 20_000
# Whole numbers that an integer programme may have before the search by moves alone must do.
MANY = 20_000
NODES = 400
# Multiples of the price of a byte at which layouts are tried: the less they take, the easier they pack.
PRICES = (0.9, 1.001, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)
# Starting points that moves improve; most moves of one, and times that tables are taken out and put back:
# fewer in large problems, so that tables x devices x these stays within EFFORT.
TRIED = 3
MOVES, ROUNDS = 2000, 400
EFFORT = 1_000_000
# How far past the fastest step memory may be evened out.
SLACK = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A placement, and how good it is.

    Args:
        seconds: of the busiest device. bound: no placement is faster.
        how: what found it. timed_out: the clock stopped it, so that another run may end elsewhere.
    """

    placement: Placement
    seconds: float
    bound: float
    how: str
    timed_out: bool = False

    @property
    def gap(self) -> float:
        """Share of the step that a better placement could save at most."""
        return max(0.0, 1 - self.bound / self.seconds) if self.seconds else 0.0


def solve(
    problem: Problem, method: str = "auto", time_limit_s: float = 30.0, even: float | None = SLACK
) -> Solution | None:
    """The fastest placement found; among those as fast, one with even memory. None where nothing fits.

    Args:
        method: "auto", "milp" (needs SciPy), "search" or "greedy".
        even: the fullest device holds no more than under the greedy planner, where that costs no more than
            this share of the time; None: memory is not looked at. The bound is still that of every placement.

    Raises:
        InputError: an unknown method, or SciPy is asked for and missing.
    """
    if method not in METHODS:
        raise InputError(f"no solver is called {method!r}", hint=", ".join(METHODS))
    if not all(problem.options):
        return None
    if method == "milp" and not has_scipy():
        raise InputError("SciPy is not installed", hint="pip install 'pharos-nn[plan]', or --solver search")
    start = torchrec_greedy(problem)
    if method == "greedy":
        return _solution(problem, start, lower_bound(problem)[0], "greedy") if start else None
    found = _solved(problem, start, method, time_limit_s, even is not None)
    if found is None or start is None or even is None:
        return found
    most = max(loads(problem, start).hbm)
    if max(loads(problem, found.placement).hbm) <= most:
        return found
    again = _solved(replace(problem, capacity=most), start, method, time_limit_s, even is not None)
    if again is None or again.seconds > found.seconds * (1 + even):
        return found
    return replace(again, bound=min(found.bound, again.seconds))


def _solved(
    problem: Problem, start: Placement | None, method: str, time_limit_s: float, even: bool
) -> Solution | None:
    """The best of the methods, never slower than `start`."""
    bound, picks = lower_bound(problem)
    if method == "auto" and _count(problem) <= FEW:
        best = min(_all(problem), key=lambda p: _rank(problem, p), default=None)
        if best is None:
            return None
        seconds = max(loads(problem, best).seconds)
        return Solution(placement=best, seconds=seconds, bound=seconds, how="all tried")
    starts = [start, *(partition(problem, chosen) for chosen in picks)]
    found = sorted((p for p in dict.fromkeys(starts) if p is not None), key=lambda p: _rank(problem, p))
    best = min((improve(problem, p) for p in found[:TRIED]), key=lambda p: _rank(problem, p), default=None)
    best = best and shake(problem, best)
    how, timed_out = "search by moves", False
    if method == "milp" or (method == "auto" and has_scipy() and _variables(problem) <= MANY):
        known = max(loads(problem, best).seconds) if best else None
        made, proven, timed_out = milp(problem, known, bound, time_limit_s)
        bound = max(bound, proven)
        candidates = [p for p in (best, made) if p is not None]
        best = min(candidates, key=lambda p: _rank(problem, p), default=None)
        how = "HiGHS"
    if best is None:
        return None
    reached = max(loads(problem, best).seconds)
    slack = min(SLACK, max(0.0, max(loads(problem, start).seconds) / reached - 1)) if start else SLACK
    tidy = _tidied(problem, best)
    last = _joined(problem, _evened(problem, tidy, slack) if even else tidy)
    return _solution(problem, last, bound, how, timed_out)


def _solution(problem: Problem, placement: Placement, bound: float, how: str, late: bool = False) -> Solution:
    seconds = max(loads(problem, placement).seconds)
    return Solution(placement=placement, seconds=seconds, bound=min(bound, seconds), how=how, timed_out=late)


def has_scipy() -> bool:
    """Whether SciPy, which brings HiGHS, is installed."""
    from importlib.util import find_spec

    return find_spec("scipy") is not None


def lower_bound(problem: Problem) -> tuple[float, list[tuple[int, ...]]]:
    """(seconds that no placement undercuts, the options that show it, and those at higher prices of memory).

    Whatever the placement, the busiest device is busy for the mean at least, and memory must suffice in sum:
    with a price p on a byte, mean + p (bytes - capacity) is a bound for every p >= 0 (Lagrange), concave
    in p.
    Besides, some device takes each table's largest piece.
    """
    n = problem.devices
    alone = max(min(o.seconds for o in options) for options in problem.options)

    def at(price: float) -> tuple[float, tuple[int, ...]]:
        total, picked = 0.0, []
        for options in problem.options:
            costs = [o.pieces * (o.seconds + price * o.hbm) / n for o in options]
            best = min(range(len(options)), key=costs.__getitem__)
            picked.append(best)
            total += costs[best]
        return total - price * problem.capacity, tuple(picked)

    low, high = 0.0, 1.0
    slope = [(o.seconds, o.hbm) for options in problem.options for o in options if o.hbm]
    if slope:
        high = 10 * max(s for s, _ in slope) / min(b for _, b in slope)
    for _ in range(200):
        third = (high - low) / 3
        if at(low + third)[0] < at(high - third)[0]:
            low += third
        else:
            high -= third
    best = max((at(0.0), at(low), at(high)), key=lambda found: found[0])
    # higher prices free room for pieces that do not divide evenly
    picks = [at(low * more)[1] for more in PRICES] if low > 0 else [best[1]]
    return max(best[0], alone), list(dict.fromkeys(picks))


def _rank(problem: Problem, placement: Placement) -> tuple[float, int]:
    made = loads(problem, placement)
    # seconds that differ by rounding alone are the same
    return float(f"{max(made.seconds):.9e}"), max(made.hbm)


def _ways(problem: Problem, option: Option) -> int:
    if option.spread == ALL:
        return 1
    if option.spread == NODE:
        return problem.devices // problem.group
    return math.comb(problem.devices + option.pieces - 1, option.pieces)


def _count(problem: Problem) -> int:
    return math.prod(sum(_ways(problem, o) for o in options) for options in problem.options)


def _places(problem: Problem, option: Option) -> Iterator[tuple[int, ...]]:
    if option.spread == ALL:
        yield tuple(range(problem.devices))
    elif option.spread == NODE:
        for at in range(0, problem.devices, problem.group):
            yield tuple(range(at, at + problem.group))
    else:
        yield from itertools.combinations_with_replacement(range(problem.devices), option.pieces)


def _all(problem: Problem) -> Iterator[Placement]:
    each = [
        [(i, place) for i, option in enumerate(options) for place in _places(problem, option)]
        for options in problem.options
    ]
    for placement in itertools.product(*each):
        if loads(problem, placement).fit_all():
            yield placement


def _times(problem: Problem, most: int) -> int:
    return max(10, min(most, EFFORT // (len(problem.options) * problem.devices)))


def improve(problem: Problem, start: Placement) -> Placement:
    """Moves off the busiest device while that helps: a piece elsewhere, a swap, another layout of a table."""
    now = list(start)
    made = loads(problem, start)
    for _ in range(_times(problem, MOVES)):
        better = _move(problem, now, made)
        if better is None:
            break
        for t, (chosen, devices) in better:
            made.put(problem.options[t][now[t][0]], now[t][1], -1)
            made.put(problem.options[t][chosen], devices)
            now[t] = (chosen, devices)
    return tuple(now)


def shake(problem: Problem, start: Placement) -> Placement:
    """Takes a few tables out, one of them the busiest device's, and puts them back where they end soonest.

    What is better is kept. The seed is the same each time.
    """
    random = Random(0)
    best, rank = start, _rank(problem, start)
    for _ in range(_times(problem, ROUNDS)):
        made = loads(problem, best)
        busiest = made.seconds.index(max(made.seconds))
        here = [t for t, (_, devices) in enumerate(best) if busiest in devices]
        out = {random.choice(here), *random.choices(range(len(best)), k=random.randint(1, 4))}
        now = list(best)
        for t in out:
            made.put(problem.options[t][now[t][0]], now[t][1], -1)
        order = sorted(
            out, key=lambda t: (-min(o.hbm * o.pieces for o in problem.options[t]), random.random())
        )
        for t in order:
            ways = [
                (max(made.seconds[d] + option.seconds for d in place) + random.random() * 1e-12, i, place)
                for i, option in enumerate(problem.options[t])
                for place in _roomy(problem, made, option)
            ]  # fmt: skip
            if not ways:
                break
            # now and then the second best, which may leave room for the next
            _, i, place = sorted(ways)[min(int(random.random() * 1.5), len(ways) - 1)]
            now[t] = (i, place)
            made.put(problem.options[t][i], place)
        else:
            found = tuple(now)
            if _rank(problem, found) < rank:
                best = improve(problem, found)
                rank = _rank(problem, best)
    return best


def _roomy(problem: Problem, made: Loads, option: Option) -> Iterator[tuple[int, ...]]:
    """The least busy places with room for an option."""
    if option.spread != ANY:
        for place in _places(problem, option):
            if all(made.fits(d, option) for d in place):
                yield place
        return
    seconds, hbm, host = list(made.seconds), list(made.hbm), list(made.host)
    found: tuple[int, ...] = ()
    for _ in range(option.pieces):
        room = [
            d for d in range(problem.devices)
            if hbm[d] + option.hbm <= problem.capacity and host[d] + option.host <= problem.host
        ]  # fmt: skip
        if not room:
            return
        d = min(room, key=lambda d: (seconds[d], d))
        seconds[d] += option.seconds
        hbm[d] += option.hbm
        host[d] += option.host
        found += (d,)
    yield found


_Change = list[tuple[int, tuple[int, tuple[int, ...]]]]


def _move(problem: Problem, now: list[tuple[int, tuple[int, ...]]], made: Loads) -> _Change | None:
    worst = max(made.seconds)
    limit = worst * (1 - 1e-9)
    busiest = made.seconds.index(worst)
    here = [t for t, (_, devices) in enumerate(now) if busiest in devices]
    best: tuple[float, _Change] | None = None

    def weigh(change: _Change) -> None:
        nonlocal best
        touched: dict[int, list[float]] = {}
        for t, (chosen, devices) in change:
            for sign, option, at in ((-1, problem.options[t][now[t][0]], now[t][1]),
                                     (1, problem.options[t][chosen], devices)):  # fmt: skip
                for d in at:
                    entry = touched.setdefault(d, [0.0, 0, 0])
                    entry[0] += sign * option.seconds
                    entry[1] += sign * option.hbm
                    entry[2] += sign * option.host
        worst_after = 0.0
        for d, (seconds, hbm, host) in touched.items():
            over = made.hbm[d] + hbm > problem.capacity or made.host[d] + host > problem.host
            if over or made.seconds[d] + seconds >= limit:
                return
            worst_after = max(worst_after, made.seconds[d] + seconds)
        if busiest in touched and (best is None or worst_after < best[0] * (1 - 1e-12)):
            best = worst_after, change

    for t in here:
        chosen, devices = now[t]
        option = problem.options[t][chosen]
        if option.spread not in (ALL, NODE):
            at = devices.index(busiest)
            for d in range(problem.devices):
                if d != busiest:
                    weigh([(t, (chosen, (*devices[:at], d, *devices[at + 1 :])))])
            for u, (other, places) in enumerate(now):
                if u == t or problem.options[u][other].spread in (ALL, NODE):
                    continue
                for i, d in enumerate(places):
                    if d != busiest:
                        weigh([(t, (chosen, (*devices[:at], d, *devices[at + 1 :]))),
                               (u, (other, (*places[:i], busiest, *places[i + 1 :])))])  # fmt: skip
        for i, further in enumerate(problem.options[t]):
            if i != chosen:
                for place in _likely(problem, made, further, option, devices):
                    weigh([(t, (i, place))])
    return best[1] if best else None


def _likely(problem: Problem, made: Loads, option: Option, old: Option, at: tuple[int, ...]) -> Iterator[Any]:
    """Places worth a try for an option in place of another: the least busy ones."""
    if option.spread == ALL:
        yield tuple(range(problem.devices))
    elif option.spread == NODE:
        yield from _places(problem, option)
    else:
        seconds = list(made.seconds)
        for d in at:
            seconds[d] -= old.seconds
        place: tuple[int, ...] = ()
        for _ in range(option.pieces):
            d = min(range(problem.devices), key=lambda d: (seconds[d], d))
            seconds[d] += option.seconds
            place += (d,)
        yield place


def _tidied(problem: Problem, placement: Placement) -> Placement:
    """Layouts that take less in sum where the busiest device is not made busier: fewer pieces and bytes."""
    now, made = list(placement), loads(problem, placement)
    limit = max(made.seconds)
    for t, options in enumerate(problem.options):
        chosen, devices = now[t]
        old = options[chosen]
        for i in sorted(range(len(options)), key=lambda i: options[i].pieces * options[i].seconds):
            option = options[i]
            if option.pieces * option.seconds >= old.pieces * old.seconds * (1 - 1e-12):
                break
            made.put(old, devices, -1)
            places = [
                *_likely(problem, made, option, Option(layout=option.layout, pieces=1, seconds=0, hbm=0), ())
            ]
            if option.pieces == 1 and option.spread not in (ALL, NODE):
                places = [(d,) for d in dict.fromkeys(devices)] + places
            taken = None
            for place in places:
                made.put(option, place)
                if max(made.seconds) <= limit and made.fit_all():
                    taken = place
                    break
                made.put(option, place, -1)
            if taken is not None:
                now[t] = (i, taken)
                break
            made.put(old, devices)
    return tuple(now)


def _joined(problem: Problem, placement: Placement) -> Placement:
    """Columns that ended on one device are one table there, which asks for its ids once."""
    now = list(placement)
    for t, options in enumerate(problem.options):
        chosen, devices = now[t]
        old = options[chosen]
        if old.spread != ANY or len(devices) < 2 or len(set(devices)) > 1:
            continue
        for i, option in enumerate(options):
            if (
                option.spread == ANY and option.pieces == 1 and option.seconds <= old.pieces * old.seconds
                and option.hbm <= old.pieces * old.hbm and option.host <= old.pieces * old.host
            ):  # fmt: skip
                now[t] = (i, devices[:1])
                break
    return tuple(now)


def _evened(problem: Problem, placement: Placement, slack: float) -> Placement:
    """Memory evened out by moves that keep the step within `slack` of what it is."""
    now, made = list(placement), loads(problem, placement)
    limit = max(made.seconds) * (1 + slack)
    for _ in range(500):
        fullest = max(range(problem.devices), key=lambda d: (made.hbm[d], -d))
        best: tuple[int, list[tuple[int, int, int]]] | None = None
        pieces = [
            (t, i) for t, (chosen, devices) in enumerate(now) for i, d in enumerate(devices)
            if d == fullest and problem.options[t][chosen].spread not in (ALL, NODE)
        ]  # fmt: skip
        for t, i in pieces:
            option = problem.options[t][now[t][0]]
            for d in range(problem.devices):
                if d == fullest:
                    continue
                swaps: list[tuple[int, int] | None] = [None] + [
                    (u, j) for u, (c, devices) in enumerate(now) for j, at in enumerate(devices)
                    if at == d and u != t and problem.options[u][c].spread not in (ALL, NODE)
                ]  # fmt: skip
                for swap in swaps:
                    other = problem.options[swap[0]][now[swap[0]][0]] if swap else None
                    gained = option.hbm - (other.hbm if other else 0)
                    hosted = option.host - (other.host if other else 0)
                    longer = option.seconds - (other.seconds if other else 0.0)
                    after = max(made.hbm[d] + gained, made.hbm[fullest] - gained)
                    if (
                        gained <= 0 or after >= made.hbm[fullest] or made.seconds[d] + longer > limit
                        or made.seconds[fullest] - longer > limit or made.host[d] + hosted > problem.host
                        or made.host[fullest] - hosted > problem.host
                    ):  # fmt: skip
                        continue
                    if best is None or after < best[0]:
                        change = [(t, i, d)] + ([(swap[0], swap[1], fullest)] if swap else [])
                        best = after, change
        if best is None:
            break
        for t, i, d in best[1]:
            chosen, devices = now[t]
            made.put(problem.options[t][chosen], (devices[i],), -1)
            made.put(problem.options[t][chosen], (d,))
            now[t] = (chosen, (*devices[:i], d, *devices[i + 1 :]))
    return tuple(now)


def _variables(problem: Problem) -> int:
    n, nodes = problem.devices, problem.devices // problem.group
    return sum({ALL: 1, NODE: nodes}.get(o.spread, n + 1) for options in problem.options for o in options)


def milp(
    problem: Problem, known: float | None, bound: float, time_limit_s: float
) -> tuple[Placement | None, float, bool]:
    """(placement, bound, whether the clock ran out) by an integer programme.

    One choice a table; pieces of a table that may lie anywhere are counted by device. Least is the busiest
    device's time, in units of the bound.
    """
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint
    from scipy.optimize import milp as highs
    from scipy.sparse import coo_array

    n, group = problem.devices, problem.group
    unit = bound or 1.0
    # variable 0 is the busiest device's time
    columns: list[tuple[int, int, int]] = [(-1, -1, -1)]
    upper, whole = [np.inf if known is None else known / unit * 1.05], [0]
    entries: list[tuple[int, int, float]] = []
    low: list[float] = []
    high: list[float] = []

    def row(least: float, most: float) -> int:
        low.append(least)
        high.append(most)
        return len(low) - 1

    # each device: seconds <= time, memory and the host's within what there is
    seconds = [row(-np.inf, 0.0) for _ in range(n)]
    hbm = [row(-np.inf, 1.0) for _ in range(n)]
    host = [row(-np.inf, 1.0) for _ in range(n)] if problem.host else []
    entries += [(r, 0, -1.0) for r in seconds]

    def burden(variable: int, option: Option, devices: Any) -> None:
        for d in devices:
            entries.append((seconds[d], variable, option.seconds / unit))
            entries.append((hbm[d], variable, option.hbm / problem.capacity))
            if host and option.host:
                entries.append((host[d], variable, option.host / problem.host))

    def variable(t: int, o: int, at: int, most: float) -> int:
        columns.append((t, o, at))
        upper.append(most)
        whole.append(1)
        return len(columns) - 1

    for t, options in enumerate(problem.options):
        one = row(1.0, 1.0)
        for o, option in enumerate(options):
            if option.spread == ALL:
                v = variable(t, o, 0, 1)
                entries.append((one, v, 1.0))
                burden(v, option, range(n))
            elif option.spread == NODE:
                for at in range(0, n, group):
                    v = variable(t, o, at, 1)
                    entries.append((one, v, 1.0))
                    burden(v, option, range(at, at + group))
            else:
                chosen = one
                if option.pieces > 1:
                    v = variable(t, o, -1, 1)
                    entries.append((one, v, 1.0))
                    chosen = row(0.0, 0.0)
                    entries.append((chosen, v, -float(option.pieces)))
                for d in range(n):
                    v = variable(t, o, d, option.pieces)
                    entries.append((chosen, v, 1.0))
                    burden(v, option, (d,))
    rows, cols, values = zip(*entries, strict=True)
    matrix = coo_array((values, (rows, cols)), shape=(len(low), len(columns))).tocsr()
    goal = np.zeros(len(columns))
    goal[0] = 1.0
    # SciPy's own types know of one bound for all alone
    ends: Any = (np.zeros(len(columns)), np.array(upper))
    sides: Any = (np.array(low), np.array(high))
    made = highs(
        goal, integrality=np.array(whole), bounds=Bounds(*ends), constraints=LinearConstraint(matrix, *sides),
        options={"time_limit": time_limit_s, "node_limit": NODES, "mip_rel_gap": 1e-5},
    )  # fmt: skip
    proven = float(made.mip_dual_bound) * unit if made.mip_dual_bound is not None else 0.0
    timed_out = made.status == 1 and "time limit" in str(made.message).lower()
    if made.x is None:
        return None, max(proven, 0.0) if made.status != 2 else bound, timed_out
    counts = np.rint(made.x).astype(int)
    found: list[tuple[int, tuple[int, ...]]] = [(0, ())] * len(problem.options)
    for (t, o, at), count in zip(columns[1:], counts[1:], strict=True):
        if not count or at < 0:
            continue
        option = problem.options[t][o]
        places = (at,) * int(count)
        if option.spread != ANY:
            places = tuple(range(n)) if option.spread == ALL else tuple(range(at, at + group))
        found[t] = (o, found[t][1] + places if found[t][1] else places)
    placement = tuple(found)
    # a tolerance of the solver may be more bytes than there are
    return placement if loads(problem, placement).fit_all() else None, proven, timed_out
