"""Tidy: an imported graph as one would have written it: operators whole, repeated layers once."""

from pharos.graph.graph import Graph
from pharos.passes.composites import fuse_composites
from pharos.passes.fold import fold_repeats


def tidy(graph: Graph) -> Graph:
    """Composite operators in place of their parts, then repeated layers folded; counts stay exact."""
    return fold_repeats(fuse_composites(graph))
