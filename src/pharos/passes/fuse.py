"""Fuse: the kernels a runtime launches for a graph, in what order, and what they move."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pharos.graph.count import Count, Line
from pharos.graph.graph import Graph, Node, Repeat, folded_name
from pharos.graph.op import Traffic, Work
from pharos.passes.fusions import BESIDE, FOLDS, FUSIONS, Rule
from pharos.quantity.sizes import Size, maximum


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch: an operator with what was fused to it, as often as it runs.

    Args:
        lines: the operators inside, the leading one first.
        work, traffic: of one launch; tensors between the fused operators do not move.
        beside: those of the lines that are products of the same input as the leading one.
    """

    lines: tuple[Line, ...]
    times: Size
    work: Work
    traffic: Traffic
    beside: tuple[Line, ...] = ()

    @property
    def lead(self) -> Line:
        """The operator that gives the kernel its cost class."""
        return self.lines[0]

    @property
    def name(self) -> str:
        """Name of the leading operator."""
        return self.lead.name


@dataclass(frozen=True, slots=True)
class Rounds:
    """Steps that run `count` times in a row."""

    count: Size
    steps: "tuple[Step, ...]"


# What a host does one after the other: launch a kernel, by its number; make a view; go through rounds.
Step = int | Line | Rounds


@dataclass(frozen=True, slots=True)
class Launches:
    """Kernels in the order in which they are launched first, and the steps that launch them."""

    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]


def launches(counted: Count, rules: Sequence[Rule]) -> Launches:
    """The kernels of a graph: one an operator, or with others joined to it by rules of `passes.fusions`.

    Views launch nothing. The first rule that lets an operator join decides. An operator follows the last
    kernel that made one of its inputs, if nobody else reads that input, or the rule does not mind.
    """
    pass_ = _Pass(counted.graph, {line.name: line for line in counted.lines}, tuple(rules))
    steps = pass_.level(counted.graph.nodes, counted.graph, ())
    return Launches(tuple(pass_.found), steps)


def kernels(counted: Count, *, fused: bool) -> tuple[Kernel, ...]:
    """The kernels of a graph: one an operator, or as most inference runtimes fuse (`FUSIONS["usual"]`).

    Fused, an elementwise operator joins the kernel that made its input when nobody else reads that input,
    and batch norm folds into the convolution or linear layer before it, weights and all.
    """
    return launches(counted, FUSIONS["usual" if fused else "none"]).kernels


@dataclass(frozen=True, slots=True)
class Around:
    """What runs beside a kernel, which decides what of it the caches still hold.

    Args:
        since: bytes that other kernels have moved since the last one of its kind ran.
        whole: bytes that all kernels of a call move.
    """

    since: Size = 0
    whole: Size = 0


def around(found: Sequence[Kernel]) -> list[Around]:
    """The surroundings of every kernel of a graph that is called over and over; rounds of a repeat as one."""
    whole: Size = sum(k.traffic.total * k.times for k in found)
    kinds = [(k.lead.cost_class, k.lead.kind, getattr(k.lead.node.op, "function", "")) for k in found]
    seen: dict[tuple[str, str, str], Size] = {}
    told: list[Around] = []
    moved: Size = 0
    # twice over: before the first of a kind came the last one of the call before
    for turn in range(2):
        for kernel, kind in zip(found, kinds, strict=True):
            if turn:
                told.append(Around(moved - seen[kind], whole))
            moved = moved + kernel.traffic.total
            seen[kind] = moved
    return told


@dataclass(slots=True)
class _Pass:
    graph: Graph
    by_name: dict[str, Line]
    rules: tuple[Rule, ...]
    found: list[Kernel] = field(default_factory=list)

    def level(
        self, nodes: Sequence[Node | Repeat], graph: Graph, rounds: tuple[Repeat, ...]
    ) -> tuple[Step, ...]:
        """Adds the kernels of a level; the steps that launch them."""
        readers: dict[str, int] = {}
        for name in [*(i for n in nodes for i in n.inputs), *(v.name for v in graph.outputs)]:
            readers[name] = readers.get(name, 0) + 1
        made: dict[str, int] = {}
        read: dict[tuple[str, ...], int] = {}
        steps: list[Step] = []
        for node in nodes:
            if isinstance(node, Repeat):
                inner = self.level(node.body.nodes, node.body, (*rounds, node))
                steps.append(Rounds(node.count, inner))
                continue
            line = self.by_name[folded_name(node.name, rounds)]
            if line.cost_class == "view":
                steps.append(line)
                # a view of a kernel's result still is that kernel's result
                source = made.get(node.inputs[0]) if node.inputs else None
                if source is not None and readers[node.inputs[0]] == 1 and len(node.outputs) == 1:
                    made[node.outputs[0]] = source
                continue
            at = self._joined(line, made, readers, read.get(node.inputs))
            if at is None:
                at = len(self.found)
                self.found.append(Kernel((line,), line.times, line.work, line.traffic))
                steps.append(at)
                read[node.inputs] = at
            for name in node.outputs:
                made[name] = at
        return tuple(steps)

    def _joined(
        self, line: Line, made: dict[str, int], readers: dict[str, int], same: int | None
    ) -> int | None:
        """Joins a line to a kernel by the first rule that lets it; the kernel's number."""
        inputs = line.node.inputs
        alone = max((made[i] for i in inputs if i in made and readers[i] == 1), default=None)
        last = max((made[i] for i in inputs if i in made), default=None)
        for rule in self.rules:
            at = same if rule.how == BESIDE else last if rule.shared else alone
            if at is None or not rule.joins(line, self.found[at]):
                continue
            host = self.found[at]
            if rule.how == FOLDS:
                self.found[at] = replace(host, lines=(*host.lines, line))
            elif rule.how == BESIDE:
                self.found[at] = _beside(host, line)
            elif rule.shared:
                self.found[at] = _shared(host, line, [made.get(i) == at for i in inputs], readers)
            else:
                self.found[at] = _follows(host, line)
            return at
        return None


def _follows(host: Kernel, line: Line) -> Kernel:
    between = host.traffic.outputs
    moved = replace(
        host.traffic,
        weights=host.traffic.weights + line.traffic.weights,
        # the host's result stays in registers; a second operand still comes from memory
        inputs=host.traffic.inputs + line.traffic.inputs - between,
        outputs=line.traffic.outputs,
    )
    return replace(host, lines=_led(host, line), work=host.work + line.work, traffic=moved)


def _shared(host: Kernel, line: Line, own: Sequence[bool], readers: dict[str, int]) -> Kernel:
    """Joined where others may read what lies between: what has another reader is written too."""
    seen = {name for one in host.lines for name in one.node.inputs}
    spared: Size = 0
    unwritten: Size = 0
    for name, tensor, mine in zip(line.node.inputs, line.node.ins, own, strict=True):
        if mine or name in seen:
            spared = spared + tensor.nbytes
        if mine and readers[name] == 1:
            unwritten = unwritten + tensor.nbytes
    moved = replace(
        host.traffic,
        weights=host.traffic.weights + line.traffic.weights,
        inputs=host.traffic.inputs + maximum(line.traffic.inputs - spared, 0),
        outputs=maximum(host.traffic.outputs - unwritten, 0) + line.traffic.outputs,
    )
    return replace(host, lines=_led(host, line), work=host.work + line.work, traffic=moved)


def _led(host: Kernel, line: Line) -> tuple[Line, ...]:
    """The lines of both: what the kernel is called after, and its class, is not what merely goes before."""
    before = host.lead.cost_class
    rows = line.cost_class in ("norm", "softmax") and before in ("elementwise", "gather")
    if rows or host.lead.kind == "pad":
        return (line, *host.lines)
    return (*host.lines, line)


def _beside(host: Kernel, line: Line) -> Kernel:
    moved = replace(
        host.traffic,
        weights=host.traffic.weights + line.traffic.weights,
        outputs=host.traffic.outputs + line.traffic.outputs,
        workspace=host.traffic.workspace + line.traffic.workspace,
    )
    return replace(host, lines=(*host.lines, line), beside=(*host.beside, line), work=host.work + line.work,
                   traffic=moved)  # fmt: skip
