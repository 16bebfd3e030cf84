"""Access and movement: reads in a row, strided, at random; tables that grow; movement in processes."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle, product
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.processes import Wire, spawn
from pharos.book.timed import Span, above, drawn, every, ratio, threads, timed
from pharos.graph.op import Tally
from pharos.measure.here import here
from pharos.measure.timing import Timing
from pharos.ops.embedding import Embedding
from pharos.plan.collectives import Message, find_collective
from pharos.plan.collectives.patterns import reverse, tree_broadcast
from pharos.plan.skew import Skew
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "access-patterns"
# Values of a row by what it is called: a value, a cache line, an embedding of a recommender.
WIDTHS = {"values": 1, "lines": 16, "rows": 128}
LINE, PAGE = 64, 4096
# Bytes of tables, the last beyond any cache; bytes read in a call.
TABLES, TABLE = (2**19, 2**23, 2**27, 2**30), 2**30
READ = 2**23
IN_A_ROW, BY_LINES, BY_PAGES, RANDOM = "in a row", "a line apart", "a page apart", "at random"
ZIPF = 1.05
KINDS = {"uniform": 0.0, "Zipf": ZIPF}
TOGETHER, ALTERNATING = "one kind first", "kinds in turn"
# Bytes of a buffer that is moved between processes, and of one that is all latency.
BUFFER, SHORT, ROUNDS = 4_000_000, 4_000, 30
MOVES = {"broadcast": "tree", "scatter": "tree", "gather": "tree", "all-reduce": "ring"}


@lab(NAME, "reads in a row, strided and at random; gathers from growing tables; movement between processes",
     processes=4, fewest=2, most=8,
     claims=("random-100-cycles", "gather-10x", "reduce-log-n", "sc-access-ranking", "sc-random-access",
             "sc-broadcast-64"))  # fmt: skip
def access_patterns(setting: Setting, progress: Progress) -> Outcome:
    """Reads are gathers of one core by ids that are made before; movement is by the planner's messages."""
    small, n = setting.small, setting.processes
    table, read = (2**22, 2**16) if small else (TABLE, READ)
    sizes = (2**16, 2**22) if small else TABLES
    steps = 4
    with threads() as torch:
        progress(0, steps, "patterns")
        apart = by_loops(torch, setting.seed)
        patterns = {}
        flat = torch.zeros(table // 4)
        for name, width in WIDTHS.items():
            calls = reads(torch, flat.view(-1, width), read, setting.seed)
            patterns[name] = timed(calls, 5.0, small=small)
        turns = timed(taken_in_turn(torch, cache_of(here()), small), 2.0, small=small)
        progress(1, steps, "growing tables")
        lookups, shares = {}, []
        for size, (kind, skew) in product(sizes, KINDS.items()):
            rows = size // LINE
            ids = [drawn_ids(rows, read // LINE, skew, setting.seed + i) for i in range(copies(size))]
            lookups[f"{kind} {size}"] = gather(torch, flat[: rows * 16].view(-1, 16), ids)
            shares.append(share(ids[0], rows, skew))
        times = timed(lookups, 8.0, small=small)
        grown = {size: {kind: times[f"{kind} {size}"] for kind in KINDS} for size in sizes}
    progress(2, steps, f"{n} processes")
    moved = spawn("pharos.book.labs.access_patterns:worker", n, job(n, small), setting.timeout_s)
    progress(3, steps, "comparing")
    sent = {name: sum(one["sent"].get(name, 0) for one in moved) for name in planned(n)}
    exact = sent == planned(n)
    slowest = {name: [max(taken) for taken in zip(*(one["seconds"][name] for one in moved), strict=True)]
               for name in moved[0]["seconds"]}  # fmt: skip
    off, loose = max(abs(a - b) for a, b in shares), 2 / (read // LINE) ** 0.5
    rows_: list[tuple[Any, ...]] = [
        (pattern, name, read, 1e6 * t.median, read / t.median / 1e9)
        for name, by in patterns.items() for pattern, t in by.items()
    ]  # fmt: skip
    rows_ += [(f"{kind} ids", f"{size / 2**20:g} MiB", read, 1e6 * t.median, read / t.median / 1e9)
              for size, by in grown.items() for kind, t in by.items()]  # fmt: skip
    both = 8 * (2**16 if small else 3 * cache_of(here()) // 4)
    rows_ += [(order, "two sets", both, 1e6 * t.median, both / t.median / 1e9) for order, t in turns.items()]
    rows_ += [(name, f"{n} processes", sent[name], 1e6 * median(slowest[name]),
               sent[name] / median(slowest[name]) / 1e9) for name in planned(n)]  # fmt: skip
    progress(steps, steps, "done")
    return Outcome(
        name=NAME, summary="what the same bytes cost by the order they are read in, and how they move",
        settings={"processes": n, "seed": setting.seed, "table": f"{table / 2**20:g} MiB", "Zipf": ZIPF},
        columns=("pattern", "of", "bytes", "us", "GB_per_s"), rows=tuple(rows_),
        checks=(
            Check(what="gathers give what loops give", found=f"{apart:g} apart", holds=apart == 0),
            Check(what="ids are as skewed as the law says", holds=off <= loose,
                  found=f"shares of the most wanted hundredth of the rows off by {off:.4f}, {loose:.4f} "
                  "allowed (four standard errors)"),
            Check(what="all processes end with what they should",
                  found="exactly" if all(one["right"] for one in moved) else "not so",
                  holds=all(one["right"] for one in moved)),
            Check(what="bytes sent are the planner's", found="exactly" if exact else "not so", holds=exact),
        ),
        findings=findings(patterns, grown, turns, slowest, n, read, here()),
        note="us: of a call, medians; GB_per_s: of the bytes that are wanted, not of whole cache lines; of "
        "processes: all bytes sent, the slowest process",
        figure=picture(grown, read),
        data={"exact": exact, "seconds": {k: median(v) for k, v in slowest.items()}},
    )  # fmt: skip


def cache_of(machine: Any) -> int:
    """Bytes of a core's own cache, 1 MiB where the system does not say."""
    return machine.caches.get("L2", 0) // max(machine.cores, 1) or 2**20


def taken_in_turn(torch: Any, cache: int, small: bool) -> dict[str, Callable[[], Any]]:
    """Sums over two sets of values, three quarters of a cache each: four times one and then the other, or in
    turn, as blocks of two kinds do that follow each other in a network."""
    sets = [torch.zeros((2**16 if small else 3 * cache // 4) // 4) for _ in range(2)]

    def together() -> None:
        for values in sets:
            for _ in range(4):
                values.sum()

    def alternating() -> None:
        for _ in range(4):
            for values in sets:
                values.sum()

    return {TOGETHER: together, ALTERNATING: alternating}


def by_loops(torch: Any, seed: int) -> float:
    """Largest difference of PyTorch's gather from the operator's loops."""
    import numpy as np

    rng = np.random.default_rng(seed)
    table, ids = rng.standard_normal((50, 4)), rng.integers(0, 50, (3, 7))
    wanted = Embedding(50, 4).loops(Tally(), ids, weight=table)
    made = torch.nn.functional.embedding(torch.from_numpy(ids), torch.from_numpy(table))
    return float(abs(made.numpy() - wanted).max())


def copies(size: int) -> int:
    """Sets of ids to use in turn: more for tables that no cache should hold between calls."""
    return 1 if size < 1e6 else 8


def reads(torch: Any, table: Any, read: int, seed: int) -> dict[str, Callable[[], Any]]:
    """A gather of rows of a table by each pattern; each call starts elsewhere."""
    import numpy as np

    rng = np.random.default_rng(seed)
    rows, row = table.shape[0], 4 * table.shape[1]
    count = read // row
    found = {}
    for pattern, apart in ((IN_A_ROW, row), (BY_LINES, LINE), (BY_PAGES, PAGE)):
        step = max(apart // row, 1)
        if step > 1 or pattern == IN_A_ROW:
            starts = rng.integers(0, rows, copies(table.nbytes))
            found[pattern] = [(s + step * np.arange(count)) % rows for s in starts]
    found[RANDOM] = [rng.integers(0, rows, count) for _ in range(copies(table.nbytes))]
    return {pattern: gather(torch, table, ids) for pattern, ids in found.items()}


def gather(torch: Any, table: Any, ids: Sequence[Any]) -> Callable[[], Any]:
    """A call that reads the rows of the next set of ids into the same place."""
    sets = [torch.from_numpy(i) for i in ids]
    out = table.new_empty(len(sets[0]), table.shape[1])
    turn = cycle(sets)
    return lambda: torch.index_select(table, 0, next(turn), out=out)


def drawn_ids(rows: int, count: int, zipf: float, seed: int) -> Any:
    """Ids by Zipf's law (0: all alike), the wanted ones scattered over the table."""
    import numpy as np

    rng = np.random.default_rng(seed)
    if not zipf:
        return rng.integers(0, rows, count)
    weights = np.cumsum(np.arange(1, rows + 1, dtype=np.float64) ** -zipf)
    ranks = np.searchsorted(weights, rng.random(count) * weights[-1])
    return ranks * spread(rows) % rows


def spread(rows: int) -> int:
    """A factor that takes ranks to places far apart, each place once."""
    from math import gcd

    factor = int(rows * 0.6180339887) | 1
    while gcd(factor, rows) != 1:
        factor += 2
    return factor


def share(ids: Any, rows: int, zipf: float) -> tuple[float, float]:
    """(share of the ids that are among the most wanted hundredth of the rows, the share by the law)."""
    import numpy as np

    top = max(rows // 100, 1)
    wanted = np.zeros(rows, bool)
    wanted[np.arange(top) * (spread(rows) if zipf else 1) % rows] = True
    return float(wanted[ids].mean()), Skew(zipf=zipf).hits(top, rows)


def schedules(n: int) -> dict[str, tuple[list[list[Message]], list[Any], list[Any], float]]:
    """Of each movement: messages step by step, what each holds before and after, the parts of the buffer."""
    found = {}
    for name, algorithm in (
        ("broadcast", "tree"),
        ("scatter", "tree"),
        ("gather", "tree"),
        ("all-reduce", "ring"),
    ):
        how = find_collective(name)
        found[name] = ([m for _, m in how.steps(algorithm, n)], how.before(n), how.after(n), how.blocks(n))
    whole = frozenset(range(n))
    before = [{0: frozenset({d})} for d in range(n)]
    after: list[Any] = [{0: whole}, *[{} for _ in range(n - 1)]]
    tree = reverse(tree_broadcast(range(n), (0,)), adds=True)
    chain = [[Message((i,), (i - 1,), (0,), True)] for i in range(n - 1, 0, -1)]
    found["reduce, tree"] = tree, before, after, 1
    found["reduce, chain"] = chain, before, after, 1
    return found


def planned(n: int, size: int = BUFFER) -> dict[str, int]:
    """Bytes that all processes together send, by the closed forms."""
    found = {name: round(find_collective(name).moves(algorithm, n, whole(n, size)).total())
             for name, algorithm in MOVES.items()}  # fmt: skip
    return found | {"reduce, tree": (n - 1) * whole(n, size), "reduce, chain": (n - 1) * whole(n, size)}


def whole(n: int, size: int) -> int:
    """The size that 8 pieces and n parts of whole numbers divide."""
    return size // (4 * 8 * n) * 4 * 8 * n


def job(n: int, small: bool) -> dict[str, Any]:
    """What the workers are told."""
    return {"rounds": 3 if small else ROUNDS, "big_rounds": 2 if small else 8}


def worker(wire: Wire, settings: dict[str, Any]) -> dict[str, Any]:
    """One process: every movement of a large buffer, checked, then of a short one, timed."""
    import torch.distributed as dist

    n, right = wire.size, True
    seconds: dict[str, list[float]] = {}
    for name, (steps, before, after, parts) in schedules(n).items():
        for size, rounds, label in ((whole(n, BUFFER), settings["big_rounds"], name),
                                    (whole(n, SHORT), settings["rounds"], f"{name}, short")):  # fmt: skip
            taken = []
            for turn in range(rounds + 1):
                held = {b: values(size, parts, who, b) for b, who in before[wire.rank].items()}
                dist.barrier()
                start = time.perf_counter()
                carry(wire, name if not turn and label == name else "", steps, held, int(size / parts) // 4)
                taken.append(time.perf_counter() - start)
                if not turn:
                    right &= all(bool((held[b] == values(size, parts, who, b)).all())
                                 for b, who in after[wire.rank].items())  # fmt: skip
            seconds[label] = taken[1:]
    wire.sent.pop("", None)
    return {"right": bool(right), "seconds": seconds}


def values(size: int, parts: float, whose: Any, block: Any) -> Any:
    """A block of the buffer: of each process another number, of several their sum; exact in fp32."""
    import torch

    number = sum(1 + rank for rank in whose)
    return torch.full((int(size / parts) // 4,), float(number + len(whose) * (hash(block) % 7)))


def carry(
    wire: Wire, name: str, steps: Sequence[Sequence[Message]], held: dict[Any, Any], length: int
) -> None:
    """Carries out a schedule: in each step what one sends and gets.

    Args:
        length: values of a block.
    """
    import torch

    me = wire.rank
    for step in steps:
        out = {m.targets[0]: torch.cat([held[b] for b in m.blocks]) for m in step if m.sources[0] == me}
        mine = [m for m in step if m.targets[0] == me]
        if not out and not mine:
            continue
        into = {m.sources[0]: ((length * len(m.blocks),), torch.float32) for m in mine}
        got = wire.exchange(name, out, into)
        for m in mine:
            for b, part in zip(m.blocks, got[m.sources[0]].split(length), strict=True):
                held[b] = held[b] + part if m.adds and b in held else part


def random_slower(values: Span, lines: Span) -> Agreement:
    """Of "gathering at random can be ten times slower": single values or whole lines."""
    told = {above(values, 10.0), above(lines, 10.0)}
    return "agrees" if "agrees" in told else "cannot tell" if "cannot tell" in told else "contradicts"


def stalls(cycles: float) -> Agreement:
    """Of "a miss stalls a hundred cycles and more", by the cycles of a read while others are under way, which
    are fewer than those of one that is waited for."""
    return "agrees" if cycles > 100 else "cannot tell"


def ranking(lines: dict[str, Timing]) -> Agreement:
    """Of "a stride is slower than a row, random order slowest"."""
    first = ratio(lines[BY_PAGES], lines[IN_A_ROW])
    return every([above(first, 1.0), above(ratio(lines[RANDOM], lines[BY_PAGES]), 1.0)])


def findings(
    patterns: dict[str, dict[str, Timing]], grown: dict[int, dict[str, Timing]], turns: dict[str, Timing],
    slowest: dict[str, list[float]], n: int, read: int, machine: Any,
) -> tuple[Finding, ...]:  # fmt: skip
    """What the chapter expects beside what came out."""
    slower = {name: ratio(by[RANDOM], by[IN_A_ROW]) for name, by in patterns.items()}
    apart = {name: ratio(by[BY_PAGES], by[IN_A_ROW]) for name, by in patterns.items()}
    line = ratio(patterns["values"][BY_LINES], patterns["values"][IN_A_ROW])
    each = patterns["lines"][RANDOM].median / (read // LINE)
    cycles = each * (machine.clock_hz or 0)
    low, high = min(grown), max(grown)
    uniform = ratio(grown[high]["uniform"], grown[low]["uniform"])
    kept = ratio(grown[high]["uniform"], grown[high]["Zipf"])
    tree = ratio(
        Timing(tuple(slowest["reduce, chain, short"])), Timing(tuple(slowest["reduce, tree, short"]))
    )
    rounds = (n - 1).bit_length()
    flushed = ratio(turns[ALTERNATING], turns[TOGETHER])
    return (
        Finding(
            expected="reads in a row are fastest, strided ones slower, random ones slowest",
            found=f"lines a page apart take {apart['lines']} times as long as in a row, at random "
            f"{slower['lines']} times; values a line apart {line} times",
            agreement=ranking(patterns["lines"]), section="1.9", claims=("sc-access-ranking",),
        ),
        Finding(
            expected="gathering at random can be 10 times slower than reading in a row",
            found=f"{slower['values']} times for single values, {slower['lines']} for cache lines, "
            f"{slower['rows']} for rows of 512 B",
            agreement=random_slower(slower["values"], slower["lines"]), section="1.9",
            claims=("gather-10x",),
        ),
        Finding(
            expected="a random read can stall a core for 100 cycles and more",
            found=f"{1e9 * each:.3g} ns a line, {cycles:.3g} cycles at the clock the system states, with "
            "many reads under way at once; one alone is not measured",
            agreement=stalls(cycles), section="1.9", claims=("random-100-cycles",),
        ),
        Finding(
            expected="lookups in large tables defeat caches",
            found=f"uniform ids take {uniform} times as long in {high / 2**20:g} MiB as in "
            f"{low / 2**20:g} MiB; in the large table ids by Zipf's law are {kept} times as fast",
            agreement=every([above(uniform, 2.0), below_two(kept)]), section="1.7",
            claims=("sc-random-access",),
        ),
        Finding(
            expected="blocks of different kinds that alternate push each other's data out of the cache",
            found=f"two sets of three quarters of a core's own cache, read in turn, take {flushed} times as "
            "long as one after the other",
            agreement=above(flushed, 1.1), section="1.11",
        ),
        Finding(
            expected="a tree of reductions takes O(log n) rounds instead of O(n)",
            found=f"{rounds} rounds of messages instead of {n - 1} over {n} processes; short buffers take "
            f"{tree} times as long by a chain",
            agreement=above(tree, 1.0) if n > 2 else "cannot tell", section="1.9",
            claims=("reduce-log-n", "sc-broadcast-64"),
        ),
    )  # fmt: skip


def below_two(kept: Span) -> Agreement:
    """Of "lookups defeat caches" where ids are skewed: caches do not help twice."""
    return "agrees" if kept.high < 2 else "contradicts" if kept.low > 2 else "cannot tell"


def picture(grown: dict[int, dict[str, Timing]], read: int) -> Any:
    """Bytes a second of lookups over the size of the table."""
    data = [{"ids": kind, "MB": size / 2**20, "rate": read / t.median / 1e9}
            for size, by in grown.items() for kind, t in by.items()]  # fmt: skip

    def draw(alt: Any) -> Any:
        return alt.Chart(alt.Data(values=data)).mark_line(point=True).encode(
            x=alt.X("MB:Q", scale=alt.Scale(type="log"), title="MiB of the table"),
            y=alt.Y("rate:Q", title="GB/s of rows of 64 B"),
            color=alt.Color("ids:N", title="ids"),
            tooltip=["ids:N", "MB:Q", alt.Tooltip("rate:Q", format=".3g")],
        )  # fmt: skip

    return drawn(draw, name=NAME, title="Lookups in tables that grow",
                 alt="Rate of random lookups over the size of the table, for uniform and for Zipf ids.",
                 source="measured on this machine, one core")  # fmt: skip
