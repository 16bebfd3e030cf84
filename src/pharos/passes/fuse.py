"""Fuse: the kernels a runtime launches for a graph, and what they move."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pharos.graph.count import Count, Line
from pharos.graph.graph import Graph, Node, Repeat, folded_name
from pharos.graph.op import Traffic, Work
from pharos.quantity.sizes import Size


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch: an operator with what was fused behind it, as often as it runs.

    Args:
        lines: the operators inside, the leading one first.
        work, traffic: of one launch; tensors between the fused operators do not move.
    """

    lines: tuple[Line, ...]
    times: Size
    work: Work
    traffic: Traffic

    @property
    def lead(self) -> Line:
        """The operator that gives the kernel its cost class."""
        return self.lines[0]

    @property
    def name(self) -> str:
        """Name of the leading operator."""
        return self.lead.name


def kernels(counted: Count, *, fused: bool) -> tuple[Kernel, ...]:
    """The kernels of a graph: one an operator, or with elementwise followers fused.

    Views launch nothing. Fused, an elementwise operator joins the kernel that made its input when
    nobody else reads that input, and batch norm folds into the convolution or linear layer before
    it, weights and all, as inference runtimes do.
    """
    by_name = {line.name: line for line in counted.lines}
    found: list[Kernel] = []
    _level(counted.graph.nodes, counted.graph, (), by_name, fused, found)
    return tuple(found)


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


def _level(
    nodes: Sequence[Node | Repeat], graph: Graph, rounds: tuple[Repeat, ...], by_name: dict[str, Line],
    fused: bool, found: list[Kernel],
) -> None:  # fmt: skip
    readers: dict[str, int] = {}
    for name in [*(i for n in nodes for i in n.inputs), *(v.name for v in graph.outputs)]:
        readers[name] = readers.get(name, 0) + 1
    made: dict[str, int] = {}
    for node in nodes:
        if isinstance(node, Repeat):
            _level(node.body.nodes, node.body, (*rounds, node), by_name, fused, found)
            continue
        line = by_name[folded_name(node.name, rounds)]
        if line.cost_class == "view":
            # a view of a kernel's result still is that kernel's result
            source = made.get(node.inputs[0]) if node.inputs else None
            if source is not None and readers[node.inputs[0]] == 1 and len(node.outputs) == 1:
                made[node.outputs[0]] = source
            continue
        hosts = [made[i] for i in node.inputs if i in made and readers[i] == 1]
        if fused and hosts and _joins(line, found[max(hosts)]):
            at = max(hosts)
            found[at] = _join(found[at], line)
        else:
            at = len(found)
            found.append(Kernel((line,), line.times, line.work, line.traffic))
        for name in node.outputs:
            made[name] = at


def _joins(line: Line, host: Kernel) -> bool:
    if line.kind == "batch_norm":
        return host.lead.kind in ("conv1d", "conv2d", "group_conv2d", "linear") and len(host.lines) == 1
    return line.cost_class == "elementwise" and host.lead.cost_class != "copy"


def _join(host: Kernel, line: Line) -> Kernel:
    if line.kind == "batch_norm":
        return replace(host, lines=(*host.lines, line))
    between = host.traffic.outputs
    moved = replace(
        host.traffic,
        weights=host.traffic.weights + line.traffic.weights,
        # the host's result stays in registers; a second operand still comes from memory
        inputs=host.traffic.inputs + line.traffic.inputs - between,
        outputs=line.traffic.outputs,
    )
    return replace(host, lines=(*host.lines, line), work=host.work + line.work, traffic=moved)
