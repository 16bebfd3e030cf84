"""Fold: layers that a graph writes out one after another become the repeated layer that they are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pharos.graph.graph import Graph, Node, Repeat, Value
from pharos.ops.stored import Stored

# Rounds that are looked at to find where a layer begins.
ROUNDS_TRIED = 3
# Tokens in a row that are looked for again.
WIDEST = 64
# Times that a stretch may occur in one layer.
MULTIPLES = 6


def fold_repeats(graph: Graph) -> Graph:
    """The same graph with runs of layers that are alike folded into `Repeat`.

    Layers are alike if their operators, shapes and wiring are, and if their parameters are called
    ``PREFIX.{i}.SUFFIX`` with numbers in sequence; several layers in turn, such as local and global
    attention, fold as one round. ``folded.expanded()`` is the graph that was given: all parameters keep
    their names, ties and order. Only operators without parameters whose names say no layer, and the
    values they make, are called after their layer. Bodies are folded in turn.
    """
    folded, lifted = _folded(graph), _lifted(graph)
    if lifted is not graph:
        other = _folded(lifted)
        if len(other.nodes) < len(folded.nodes):
            return other
    return folded


def _lifted(graph: Graph) -> Graph:
    """Stored values that several operators read put before all others: where they stand does not matter."""
    times = Counter(value for node in graph.nodes for value in node.inputs)
    front = [
        n
        for n in graph.nodes
        if isinstance(n, Node) and isinstance(n.op, Stored) and any(times[v] > 1 for v in n.outputs)
    ]
    ids = {id(n) for n in front}
    if all(a is b for a, b in zip(front, graph.nodes, strict=False)):
        return graph
    return replace(graph, nodes=(*front, *(n for n in graph.nodes if id(n) not in ids)))


def _folded(graph: Graph) -> Graph:
    nodes = list(graph.nodes)
    tokens = _tokens(nodes)
    if tokens is None:
        return graph
    level = _Level(graph, nodes, tokens)
    taken: list[_Run] = []
    free = [True] * len(nodes)
    for _, period, first, end in _candidates(tokens):
        for start, stop in _gaps(free, first, end, 2 * period):
            while (run := level.run(start, stop, period)) is not None:
                taken.append(run)
                start = run.start + run.period * run.rounds
                free[run.start : start] = [False] * (start - run.start)
    return level.folded(taken) if taken else graph


def _tokens(nodes: "Sequence[Node | Repeat]") -> list[int] | None:
    """A number for each node, the same for nodes that are alike but for their names and inputs."""
    known: dict[Any, int] = {}
    found = []
    for i, node in enumerate(nodes):
        key: Any = ("only", i)
        if isinstance(node, Node):
            held = tuple(tuple(d.items()) for d in (node.weights, node.buffers, node.state, node.tied))
            key = (type(node.op), node.op, node.ins, node.outs, held, node.home is None)
        try:
            found.append(known.setdefault(key, len(known)))
        except TypeError:
            # sizes that are arrays have no hash
            return None
    return found


def _candidates(tokens: list[int]) -> list[tuple[int, int, int, int]]:
    """(nodes saved, period, first, end) of stretches that repeat, those that save most first."""
    found = []
    n = len(tokens)
    # a layer may itself hold the same operators several times
    periods = {
        g * times for g in _distances(tokens) for times in range(1, MULTIPLES + 1) if g * times <= n // 2
    }
    for period in periods:
        first = None
        for i in range(n - period + 1):
            alike = i < n - period and tokens[i] == tokens[i + period]
            if alike and first is None:
                first = i
            elif not alike and first is not None:
                rounds = (i - first) // period + 1
                if rounds > 1:
                    found.append(((rounds - 1) * period, period, first, i + period))
                first = None
    # of equal savings the shorter period: a round of one layer rather than of two
    return sorted(found, key=lambda c: (-c[0], c[1], c[2]))


def _distances(tokens: list[int]) -> set[int]:
    """Distances between neighbouring occurrences of the same token, or of the same few tokens in a row."""
    found: set[int] = set()
    words, wide = tokens, 1
    while len(words) > 1 and wide <= WIDEST:
        last: dict[int, int] = {}
        for i, word in enumerate(words):
            if word in last:
                found.add(i - last[word])
            last[word] = i
        known: dict[tuple[int, int], int] = {}
        pairs = zip(words, words[wide:], strict=False)
        words = [known.setdefault(pair, len(known)) for pair in pairs]
        wide *= 2
    return found


def _gaps(free: list[bool], first: int, end: int, least: int) -> list[tuple[int, int]]:
    """Stretches between `first` and `end` that no run has taken, of at least so many nodes."""
    found, start = [], first
    for i in range(first, end + 1):
        if i == end or not free[i]:
            if i - start >= least:
                found.append((start, i))
            start = i + 1
    return found


@dataclass(frozen=True, slots=True)
class _Names:
    """How the rounds of a run are called: PREFIX.{start + i * step + j}.SUFFIX."""

    prefix: tuple[str, ...]
    start: int
    step: int

    def inside(self, name: str) -> str | None:
        """Name in the body of what is called `name` in the first round; None for another form."""
        parts, at = name.split("."), len(self.prefix)
        if len(parts) < at + 2 or tuple(parts[:at]) != self.prefix or not _number(parts[at]):
            return None
        layer = int(parts[at]) - self.start
        if not 0 <= layer < self.step:
            return None
        rest = ".".join(parts[at + 1 :])
        return rest if self.step == 1 else f"{layer}.{rest}"

    def follows(self, first: str, other: str, i: int) -> bool:
        """Whether `other` is in round i what `first` is in round 0."""
        a, b, at = first.split("."), other.split("."), len(self.prefix)
        same = len(a) == len(b) and a[:at] == b[:at] and a[at + 1 :] == b[at + 1 :]
        return same and _number(b[at]) and int(b[at]) == int(a[at]) + i * self.step


def _number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and (text == "0" or text[0] != "0")


@dataclass(slots=True)
class _Run:
    """Rounds of a layer in a row.

    Args:
        start, period, rounds: the first node, nodes in a round, number of rounds.
        carried: (node, output) of a round that the next one reads, with what the first round reads.
        shared: values that every round reads.
    """

    start: int
    period: int
    rounds: int
    names: _Names
    carried: list[tuple[tuple[int, int], str]] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)


class _Level:
    """Nodes of a graph with positions of makers and readers."""

    def __init__(self, graph: Graph, nodes: "list[Node | Repeat]", tokens: list[int]) -> None:
        self.graph, self.nodes, self.tokens = graph, nodes, tokens
        self.made: dict[str, tuple[int, int]] = {}
        # the last position that reads a value
        self.read: dict[str, int] = {}
        for i, node in enumerate(nodes):
            for o, value in enumerate(node.outputs):
                self.made[value] = (i, o)
            for value in node.inputs:
                self.read[value] = i
        for value in graph.outputs:
            self.read[value.name] = len(nodes)

    def run(self, first: int, end: int, period: int) -> _Run | None:
        """The best run of a period between two positions: names kept, most saved, fewest values carried."""
        begun: list[tuple[tuple[int, ...], _Run]] = []
        for start in range(first, min(first + period, end - 2 * period + 1)):
            run = self._from(start, min(end, start + ROUNDS_TRIED * period), period)
            if run is not None:
                begun.append(((self._misnamed(run), -run.rounds, len(run.carried), start), run))
        best: tuple[tuple[int, ...], _Run] | None = None
        for _, short in sorted(begun, key=lambda pair: pair[0])[:4]:
            run = self._from(short.start, end, period)
            if run is None:
                continue
            rank = (self._misnamed(run), -run.rounds, len(run.carried))
            if best is None or rank < best[0]:
                best = (rank, run)
        return best[1] if best is not None else None

    def _misnamed(self, run: _Run) -> int:
        """Operators of the first two rounds whose names say another layer than the one they would be in."""
        found = 0
        for j in range(run.start, run.start + run.period):
            one, two = self.nodes[j].name, self.nodes[j + run.period].name
            kept = run.names.inside(one) and run.names.follows(one, two, 1)
            # a path says a layer, a bare word with a counter says none
            found += not kept and ("." in one or "." in two)
        return found

    def _from(self, start: int, end: int, period: int) -> _Run | None:
        """The longest run that starts at a position."""
        names = self._names(start, period)
        if names is None:
            return None
        most = (end - start) // period
        rounds, carried, shared = 1, None, None
        while rounds < most and self._named_alike(start, period, rounds, names):
            found = self._wiring(start, period, rounds)
            if found is None:
                break
            if carried is None:
                carried, shared = found
            elif found != (carried, shared):
                break
            rounds += 1
        if carried is None or shared is None:
            return None
        run = self._bounded(start, period, rounds, set(carried.values()))
        if run < 2:
            return None
        slots = self._slots(start, period, carried)
        if slots is None:
            return None
        return _Run(start, period, run, names, slots, list(dict.fromkeys(shared.values())))

    def _names(self, start: int, period: int) -> _Names | None:
        """How rounds are called, by the first two; None if parameters follow no pattern."""
        found: set[tuple[tuple[str, ...], int]] = set()
        layers: list[int] = []
        hints: Counter[tuple[tuple[str, ...], int]] = Counter()
        hinted: list[tuple[tuple[tuple[str, ...], int], int]] = []
        for j in range(start, start + period):
            one, two = self.nodes[j], self.nodes[j + period]
            if not isinstance(one, Node) or not isinstance(two, Node):
                return None
            called = one.home if one.home is not None else one.name
            other = two.home if two.home is not None else two.name
            pattern = _pattern(called, other)
            if _holds(one):
                if pattern is None:
                    return None
                found.add(pattern[:2])
                layers.append(pattern[2])
            elif pattern is not None:
                hints[pattern[:2]] += 1
                hinted.append((pattern[:2], pattern[2]))
        if not found and hints:
            common = hints.most_common(1)[0][0]
            found, layers = {common}, [layer for key, layer in hinted if key == common]
        if len(found) != 1:
            return None
        ((prefix, step),) = found
        # names of operators without parameters may say that the round begins earlier
        low = min([*layers, *(layer for key, layer in hinted if key == (prefix, step))])
        return _Names(prefix, low, step) if max(layers) - low < step and prefix else None

    def _named_alike(self, start: int, period: int, i: int, names: _Names) -> bool:
        """Whether the operators that hold something are called in round i as in round 0."""
        for j in range(start, start + period):
            one, two = self.nodes[j], self.nodes[j + i * period]
            if not isinstance(one, Node) or not isinstance(two, Node):
                return False
            if not _holds(one):
                continue
            if one.home is not None or two.home is not None:
                if one.home is None or two.home is None:
                    return False
                if names.inside(one.home) is None or not names.follows(one.home, two.home, i):
                    return False
            elif not names.inside(one.name) or not names.follows(one.name, two.name, i):
                return False
        return True

    def _wiring(
        self, start: int, period: int, i: int
    ) -> "tuple[dict[tuple[int, int], tuple[int, int]], dict[tuple[int, int], str]] | None":
        """(what round i >= 1 reads of the round before, what it reads from outside), by node and input.

        None if it is wired otherwise than the first round, or reads what is further back.
        """
        carried: dict[tuple[int, int], tuple[int, int]] = {}
        shared: dict[tuple[int, int], str] = {}
        base = start + i * period
        for j in range(period):
            first, node = self.nodes[start + j], self.nodes[base + j]
            if self.tokens[start + j] != self.tokens[base + j]:
                return None
            for k, (value, before) in enumerate(zip(node.inputs, first.inputs, strict=True)):
                at, o = self.made.get(value, (-1, 0))
                was, p = self.made.get(before, (-1, 0))
                if at >= base:
                    if was - start != at - base or o != p:
                        return None
                elif was >= start:
                    return None
                elif at >= base - period:
                    carried[j, k] = (at - base + period, o)
                elif at >= start or value != before:
                    return None
                else:
                    shared[j, k] = value
        return carried, shared

    def _bounded(self, start: int, period: int, rounds: int, carried: set[tuple[int, int]]) -> int:
        """Rounds until a value is read further on than the next round, other than what the last returns."""
        for i in range(rounds):
            after = start + (i + 2) * period
            for j in range(period):
                for o, value in enumerate(self.nodes[start + i * period + j].outputs):
                    reader = self.read.get(value, -1)
                    if reader < start + (i + 1) * period:
                        continue
                    if reader >= after or (i == rounds - 1 and reader >= start + rounds * period):
                        # it leaves the run: this round is the last, if the value is one that is returned
                        return i + 1 if (j, o) in carried and self._last(start, period, i, carried) else i
        return rounds

    def _last(self, start: int, period: int, i: int, carried: set[tuple[int, int]]) -> bool:
        """Whether of round i only what the next round would read is read after it."""
        end = start + (i + 1) * period
        for j in range(period):
            for o, value in enumerate(self.nodes[start + i * period + j].outputs):
                if self.read.get(value, -1) >= end and (j, o) not in carried:
                    return False
        return True

    def _slots(
        self, start: int, period: int, carried: dict[tuple[int, int], tuple[int, int]]
    ) -> list[tuple[tuple[int, int], str]] | None:
        """Each value that is handed from round to round, with what the first round has for it."""
        found: dict[tuple[tuple[int, int], str], None] = {}
        for (j, k), source in carried.items():
            found[source, self.nodes[start + j].inputs[k]] = None
        return list(found)

    def folded(self, runs: list[_Run]) -> Graph:
        """The graph with runs in place of their nodes."""
        nodes: list[Node | Repeat] = []
        rename: dict[str, str] = {}
        by_start = {run.start: run for run in runs}
        taken = {n.name for n in self.nodes}
        i = 0
        while i < len(self.nodes):
            run = by_start.get(i)
            if run is not None:
                made = self._repeat(run, rename, taken)
                nodes.append(made)
                i += run.period * run.rounds
                continue
            node = self.nodes[i]
            nodes.append(replace(node, inputs=tuple(rename.get(v, v) for v in node.inputs)))
            i += 1
        outputs = tuple(Value(rename.get(v.name, v.name), v.tensor) for v in self.graph.outputs)
        return replace(self.graph, nodes=tuple(nodes), outputs=outputs)

    def _repeat(self, run: _Run, rename: dict[str, str], taken: set[str]) -> Repeat:
        first = [n for n in self.nodes[run.start : run.start + run.period] if isinstance(n, Node)]
        called = self._inside(run, first)
        inner: dict[tuple[int, int], str] = {}
        for j, node in enumerate(first):
            for o, value in enumerate(node.outputs):
                # values are called after the operator that makes them
                ours = value.removeprefix(node.name) if value.startswith(node.name) else ""
                tail = ours if value == node.name + ours and (not ours or ours[0] == ":") else ""
                inner[j, o] = called[j] + (tail or (f":{o}" if len(node.outputs) > 1 else ""))
        used = {*called, *inner.values()}
        labels = (f"in{i}" for i in range(10**9))
        given = [next(x for x in labels if x not in used) for _ in (*run.carried, *run.shared)]
        arriving = [value for _, value in run.carried] + run.shared
        slot_of = {key: given[i] for i, key in enumerate(run.carried)}
        shared_of = dict(zip(run.shared, given[len(run.carried) :], strict=True))
        carried, _ = self._wiring(run.start, run.period, 1) or ({}, {})
        body = []
        for j, node in enumerate(first):
            inputs = []
            for k, value in enumerate(node.inputs):
                at, o = self.made.get(value, (-1, 0))
                if at >= run.start:
                    inputs.append(inner[at - run.start, o])
                elif (j, k) in carried:
                    inputs.append(slot_of[carried[j, k], value])
                else:
                    inputs.append(shared_of[value])
            home = None if node.home is None else run.names.inside(node.home)
            if node.home is not None and home is None:
                home = ""
            outputs = tuple(inner[j, o] for o in range(len(node.outputs)))
            body.append(replace(node, name=called[j], inputs=tuple(inputs), outputs=outputs, home=home))
        tensors = {v: t for n in first for v, t in (*zip(n.inputs, n.ins), *zip(n.outputs, n.outs))}  # noqa: B905
        leaving = tuple(Value(inner[source], first[source[0]].outs[source[1]]) for source, _ in run.carried)
        name = ".".join(run.names.prefix)
        graph = Graph(
            f"{self.graph.name}: {name}",
            tuple(Value(label, tensors[v]) for label, v in zip(given, arriving, strict=True)),
            tuple(body),
            leaving,
            self.graph.precision,
        )
        outs = self._outs(run, name, taken)
        last = run.start + (run.rounds - 1) * run.period
        for (source, _), out in zip(run.carried, outs, strict=True):
            rename.setdefault(self.nodes[last + source[0]].outputs[source[1]], out)
        inputs = tuple(rename.get(v, v) for v in arriving)
        return Repeat(name, fold_repeats(graph), run.rounds, inputs, outs, run.names.start, run.names.step)

    @staticmethod
    def _outs(run: _Run, name: str, taken: set[str]) -> tuple[str, ...]:
        stem = f"{name}.out{run.names.start}"
        while any(f"{stem}:{i}" in taken for i in range(len(run.carried))):
            stem = f"{stem}_"
        outs = tuple(f"{stem}:{i}" for i in range(len(run.carried)))
        taken.update(outs)
        return outs

    def _inside(self, run: _Run, first: list[Node]) -> list[str]:
        """Names in the body: those of their layer, or what operators without parameters are called anew."""
        found: list[str] = []
        used: set[str] = set()
        layer = "0"
        for j, node in enumerate(first):
            name = run.names.inside(node.name)
            others = (self.nodes[run.start + i * run.period + j].name for i in range(1, run.rounds))
            if not name or not all(run.names.follows(node.name, o, i) for i, o in enumerate(others, 1)):
                stem = node.name.removeprefix(".".join(run.names.prefix) + ".")
                name = stem if run.names.step == 1 else f"{layer}.{stem}"
            elif run.names.step > 1:
                layer = name.partition(".")[0]
            made, i = name, 1
            while made in used:
                made, i = f"{name}_{i}", i + 1
            used.add(made)
            found.append(made)
        return found


def _holds(node: Node) -> bool:
    return bool(node.weights or node.buffers or node.state)


def _pattern(one: str, two: str) -> tuple[tuple[str, ...], int, int] | None:
    """(prefix, step, first number) of two names that differ in one number and have something after it."""
    a, b = one.split("."), two.split(".")
    apart = [i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
    if len(a) != len(b) or len(apart) != 1:
        return None
    (at,) = apart
    if not (_number(a[at]) and _number(b[at])) or at + 1 >= len(a) or int(b[at]) <= int(a[at]):
        return None
    return tuple(a[:at]), int(b[at]) - int(a[at]), int(a[at])
