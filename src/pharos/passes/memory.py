"""Memory: which activations live together, their peak, and where an arena would put them."""

from dataclasses import dataclass

from pharos.graph.graph import Graph, Node
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import Size, is_int, maximum, same


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A stored activation: bytes, the steps at which it is first and last needed."""

    name: str
    nbytes: Size
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Liveness:
    """Activations over the steps of a graph.

    Args:
        lifetimes: one for every stored tensor; views share their source's.
        live: bytes live at each step, with that step's inputs and outputs.
        steps: the operator of each step.
        peak: the largest of `live`.
    """

    lifetimes: tuple[Lifetime, ...]
    live: tuple[Size, ...]
    steps: tuple[str, ...]
    peak: Size

    @property
    def peak_step(self) -> str:
        """The operator at which the peak stands (of an int reading)."""
        return self.steps[max(range(len(self.live)), key=lambda i: float(self.live[i]))]


def liveness(graph: Graph, *, in_place: bool = False) -> Liveness:
    """Liveness in execution order: a tensor lives from its producer to its last reader.

    Graph inputs live from the start to their last reader, outputs to the end. Each operator's
    output and its inputs are live together. Repeats are represented by their first and last rounds,
    which hold the peak: the rounds between them start and end as the last one starts.

    Args:
        in_place: activations overwrite their only, last-read input of the same size, as fusing
            and microcontroller runtimes do; eager PyTorch does not.
    """
    plain = graph.expanded(most=2)
    nodes = [n for n in plain.nodes if isinstance(n, Node)]
    entering = {v.name for v in plain.inputs}
    reads: dict[str, int] = {}
    for name in [*(i for n in nodes for i in n.inputs), *(v.name for v in plain.outputs)]:
        reads[name] = reads.get(name, 0) + 1
    # a view, or an output written over its input, lives in its root's memory
    root = {name: name for name in entering}
    pending = {name: reads.get(name, 0) for name in entering}
    sizes: dict[str, Size] = {v.name: v.tensor.nbytes for v in plain.inputs}
    first, last = dict.fromkeys(sizes, 0), dict.fromkeys(sizes, 0)
    workspace: list[Size] = []
    for i, node in enumerate(nodes):
        for name in node.inputs:
            last[root[name]] = i
            pending[root[name]] -= 1
        workspace.append(node.op.workspace(*node.io))
        shape_only = node.op.class_of(*node.io) == "view"
        for name, tensor in zip(node.outputs, node.outs, strict=True):
            at = root[node.inputs[0]] if shape_only and node.inputs else None
            nbytes: Size = 0 if shape_only else tensor.nbytes
            if in_place and not shape_only and node.op.cost_class == "elementwise":
                source = next((root[n] for n in node.inputs if same(sizes[root[n]], nbytes)), None)
                if source is not None and source not in entering and not pending[source]:
                    at = source
            if at is not None:
                root[name], last[at] = at, i
                pending[at] += reads.get(name, 0)
                continue
            root[name], pending[name] = name, reads.get(name, 0)
            # a stored parameter used as a value already counts among the weights
            sizes[name], first[name], last[name] = nbytes, i, i
    for value in plain.outputs:
        last[root[value.name]] = max(len(nodes) - 1, 0)
    lifetimes = tuple(Lifetime(n, sizes[n], first[n], last[n]) for n in sizes)
    changes: list[Size] = [0] * (len(nodes) + 2)
    for item in lifetimes:
        changes[item.first] = changes[item.first] + item.nbytes
        changes[item.last + 1] = changes[item.last + 1] - item.nbytes
    live: list[Size] = []
    now: Size = 0
    for i in range(max(len(nodes), 1)):
        now = now + changes[i]
        live.append(now + workspace[i] if nodes else now)
    peak = maximum(*live) if len(live) > 1 else live[0]
    return Liveness(lifetimes, tuple(live), tuple(n.name for n in nodes) or ("input",), peak)


@dataclass(frozen=True, slots=True)
class Placement:
    """One tensor's place in the arena."""

    name: str
    offset: int
    nbytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Arena:
    """Offsets of all activations in one block of memory, as a microcontroller runtime plans them.

    Args:
        size: bytes of the block.
        bound: the liveness peak, which no placement can beat.
    """

    placements: tuple[Placement, ...]
    size: int
    bound: int


def arena(graph: Graph, *, alignment: int = 16, in_place: bool = True) -> Arena:
    """Places activations greedily by size, the largest first, each at the lowest offset that fits.

    Source: Pisarchyk and Lee 2020, arXiv:2001.03288 ("greedy by size"), the default planner of
    TensorFlow Lite for Microcontrollers; its 16-byte alignment is the default here.

    Raises:
        SizeError: sizes that are not numbers.
    """
    plain = graph.expanded()
    whole = liveness(plain, in_place=in_place)
    if not all(is_int(item.nbytes) for item in whole.lifetimes):
        raise SizeError("an arena needs sizes that are numbers, not arrays or formulas")
    placed: list[Placement] = []
    order = sorted(whole.lifetimes, key=lambda t: (-t.nbytes, t.first, t.name))
    for item in order:
        room = -(-item.nbytes // alignment) * alignment
        offset = 0
        beside = [p for p in placed if p.first <= item.last and item.first <= p.last]
        for other in sorted(beside, key=lambda p: p.offset):
            if other.offset - offset >= room:
                break
            offset = max(offset, other.offset + -(-other.nbytes // alignment) * alignment)
        placed.append(Placement(item.name, offset, item.nbytes, item.first, item.last))
    size = max((p.offset + -(-p.nbytes // alignment) * alignment for p in placed), default=0)
    return Arena(tuple(sorted(placed, key=lambda p: (p.first, p.offset))), size, whole.peak)


def is_numeric(graph: Graph) -> bool:
    """Whether every size of a graph is a number, as a placement needs."""
    return all(is_int(t.numel) and is_int(times) for node, times, _ in graph.walk() for t in node.io)
