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
    """

    block: str
    family: str
    times: Size
    nodes: tuple[str, ...]
    detail: str = ""
    level: int = 0

    @property
    def path(self) -> str:
        """What the names of its operators have in common: the module that it is."""
        named = [n.split(".") for n in self.nodes if "." in n] or [n.split(".") for n in self.nodes]
        if not named:
            return ""
        if len(named) == 1:
            return ".".join(named[0])
        shared = []
        for parts in zip(*named, strict=False):
            if len(set(parts)) > 1:
                break
            shared.append(parts[0])
        return ".".join(shared) or named[0][0]


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

    def add(self, block: str, family: str, nodes: Iterable[Node], detail: str = "") -> Block:
        """Takes down a block; `nodes` are those it covers."""
        unique = {n.name: n for n in nodes}
        ordered = sorted(unique, key=lambda name: self.view.position[name])
        names = tuple(self.view.full(name) for name in ordered)
        made = Block(block, family, self.view.times, names, detail, self.level)
        self.blocks.append(made)
        return made

    def covered(self, *blocks: str) -> set[str]:
        """Full names of all operators in blocks of the given kinds, or in any."""
        return {n for b in self.blocks if not blocks or b.block in blocks for n in b.nodes}

    def named(self, node: Node) -> str:
        """Full name of a node."""
        return self.view.full(node.name)


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

    assert attention and convolution and dense and recommend and sequence
    for _, function in sorted(RULES, key=lambda pair: pair[0]):
        yield function
