"""Blocks: what is found in a graph, and the registry of the rules that find it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from pharos.graph.graph import Node
from pharos.passes.recognise.view import Region, View
from pharos.quantity.sizes import Size


@dataclass(frozen=True, slots=True)
class Block:
    """An instance of a known block.

    Args:
        block: what it is, in the field's words: "bottleneck residual", "pre-norm transformer block".
        family: the family that the block speaks for, "" for none.
        times: how often it occurs: a block in a repeated layer stands for all rounds.
        nodes: full names of its operators, with repeated layers folded.
        detail: what tells it from others of its kind: "GQA 4:1, causal, SwiGLU".
        level: of the graph that it was found in, 0 for the whole.
        path: the module that it is: what the names of its operators have in common.
    """

    block: str
    family: str
    times: Size
    nodes: tuple[str, ...]
    detail: str = ""
    level: int = 0
    path: str = ""


@dataclass
class Found:
    """What was found in one level so far; rules add to it.

    Args:
        regions: residual regions, made once for all rules.
    """

    view: View
    level: int
    regions: list[Region] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    # blocks by the region that they are the branch of, for blocks made of several
    of_region: dict[str, tuple[Region, Block]] = field(default_factory=dict)
    # additions whose branch holds experts written out
    of_experts: set[str] = field(default_factory=set)

    def add(self, block: str, family: str, nodes: Iterable[Node], detail: str = "") -> Block:
        """Takes down a block; `nodes` are those it covers."""
        unique = {n.name: n for n in nodes}
        ordered = sorted(unique, key=lambda name: self.view.position[name])
        names = tuple(self.view.full(name) for name in ordered)
        # operators with parameters say best which module it is
        telling = [self.view.full(n) for n in ordered if unique[n].weights] or list(names)
        made = Block(block, family, self.view.times, names, detail, self.level, common_path(telling))
        self.blocks.append(made)
        return made

    def covered(self, *blocks: str) -> set[str]:
        """Full names of all operators in blocks of the given kinds, or in any."""
        return {n for b in self.blocks if not blocks or b.block in blocks for n in b.nodes}

    def named(self, node: Node) -> str:
        """Full name of a node."""
        return self.view.full(node.name)


def common_path(names: list[str]) -> str:
    """The parts that dotted names share at their beginning; a single name's own."""
    if len(names) == 1:
        return names[0]
    shared = []
    for parts in zip(*(n.split(".") for n in names), strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared) or (names[0] if names else "")


Rule = Callable[[Found], None]
# Rules in the order in which they run: later ones may build on what earlier ones found.
RULES: list[tuple[int, Rule]] = []
# Single parts, blocks, and what is made of several blocks.
PART, BLOCK, WHOLE = 0, 1, 2


def rule(stage: int) -> Callable[[Rule], Rule]:
    """Registers a rule: a function that adds what it finds to a `Found`."""

    def register(function: Rule) -> Rule:
        RULES.append((stage, function))
        return function

    return register


def rules() -> Iterator[Rule]:
    """All rules, parts first."""
    from pharos.passes.recognise import attention, convolution, dense, recommend, sequence

    assert all((attention, convolution, dense, recommend, sequence))
    for _, function in sorted(RULES, key=lambda pair: pair[0]):
        yield function
