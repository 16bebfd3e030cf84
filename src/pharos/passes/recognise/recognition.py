"""Recognition: all blocks of a graph, the family they make, and what that family takes for granted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pharos.facts.tables import families, family_card
from pharos.graph.count import Count, count
from pharos.graph.graph import Graph, Repeat
from pharos.passes.recognise.blocks import Block, Found, rules
from pharos.passes.recognise.family import Kinship, kinship
from pharos.passes.recognise.view import View
from pharos.quantity.sizes import Size


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a graph is made of.

    Args:
        blocks: all that were found, larger ones after their parts.
        family: one of the families, or several joined by " + ", the heaviest first; "" if none is told.
        evidence: why, a phrase each.
        biases: inductive biases of the families, see `facts/families`.
    """

    blocks: tuple[Block, ...]
    family: str
    evidence: tuple[str, ...]
    biases: tuple[str, ...]

    @property
    def outermost(self) -> tuple[Block, ...]:
        """Blocks that are no part of another one."""
        sets = [frozenset(b.nodes) for b in self.blocks]
        holders: dict[str, list[int]] = {}
        for i, nodes in enumerate(sets):
            for name in nodes:
                holders.setdefault(name, []).append(i)
        found = []
        for i, block in enumerate(self.blocks):
            if not block.nodes:
                continue
            rivals = min((holders[n] for n in block.nodes), key=len)
            inside = any(
                j != i and (sets[i] < sets[j] or (sets[i] == sets[j] and j > i)) and sets[i] <= sets[j]
                for j in rivals
            )
            if not inside:
                found.append(block)
        return tuple(found)

    def rows(self) -> list[dict[str, Any]]:
        """Blocks of one kind together: block, detail, count, paths, and whether it is part of another."""
        outer = set(map(id, self.outermost))
        grouped: dict[tuple[str, str, bool], dict[str, Any]] = {}
        for block in self.blocks:
            key = (block.block, block.detail, id(block) in outer)
            row = grouped.setdefault(
                key,
                {"block": block.block, "detail": block.detail, "count": 0, "part": not key[2], "paths": []},
            )
            row["count"] = row["count"] + block.times
            if block.path not in row["paths"]:
                row["paths"].append(block.path)
        return list(grouped.values())

    def count(self, block: str) -> Size:
        """How often a block of this kind, or of a kind that ends so, occurs."""
        total: Size = 0
        for found in self.blocks:
            if found.block == block or found.block.endswith(f" {block}"):
                total = total + found.times
        return total


def recognise(graph: Graph, counted: Count | None = None) -> Recognition:
    """Matches a graph against the known blocks and families, by its structure alone.

    Neither the graph's name nor its meta is looked at. Composite operators should be whole and repeated
    layers may be folded: see `fuse_composites` and `fold_repeats`.

    Args:
        counted: the graph's count, if there is one already.
    """
    counted = counted or count(graph)
    blocks: list[Block] = []
    for view, level in _levels(graph, 1, (), 0):
        found = Found(view, level, list(view.regions()))
        for find in rules():
            find(found)
        blocks += found.blocks
    kin: Kinship = kinship(graph, blocks, counted)
    known = [family for family in kin.families if family in families()]
    biases = dict.fromkeys(bias for family in known for bias in family_card(family)["biases"])
    return Recognition(tuple(blocks), " + ".join(kin.families), kin.evidence, tuple(biases))


def _levels(graph: Graph, times: Size, rounds: tuple[Repeat, ...], level: int) -> Iterator[tuple[View, int]]:
    yield View(graph, times, rounds), level
    for node in graph.nodes:
        if isinstance(node, Repeat):
            yield from _levels(node.body, times * node.count, (*rounds, node), level + 1)
