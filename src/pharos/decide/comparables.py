"""Comparables: models of the catalogue that do the same task as a given one, at the same sizes."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pharos.graph.graph import Graph
from pharos.models.registry import Entry, Model, entry, find, names
from pharos.quantity.errors import PharosError

if TYPE_CHECKING:
    from pharos.decide.advice import Case

# Candidates that are built and predicted at most.
MOST = 10


def comparables(case: "Case", wanted: Callable[[Entry], bool]) -> Iterator[tuple[Model, Graph]]:
    """Catalogued models with the inputs and outputs of a case's, resolution and classes set as there.

    At most `MOST` of those that are `wanted` by what the catalogue says of them, spread evenly over their
    MACs.
    """
    shapes = _shapes(case.graph)
    known = [entry(name) for name in names()]
    own = case.model.entry.name if case.model.entry else ""
    fitting = sorted((e for e in known if e.macs and e.name != own and wanted(e)), key=lambda e: e.macs or 0)
    step = max(1, -(-len(fitting) // MOST))
    for each in fitting[::step]:
        try:
            model = find(_named(each, case.graph))
            graph = model.graph(case.workload)
        except PharosError:
            continue
        if _shapes(graph) == shapes:
            yield model, graph


def _named(each: Entry, graph: Graph) -> str:
    """Its name with the classes and resolution of another network, where it has such hyperparameters."""
    given = {}
    allowed = each.hyperparameters()
    image, out = graph.inputs[0].shape, graph.outputs[0].shape
    if "classes" in allowed and len(out) == 2:
        given["classes"] = out[-1]
    if "resolution" in allowed and len(image) == 4:
        given["resolution"] = image[-1]
    given = {k: v for k, v in given.items() if v != allowed[k].default}
    return f"{each.name}({', '.join(f'{k}={v}' for k, v in given.items())})" if given else each.name


def _shapes(graph: Graph) -> tuple[list[tuple[object, ...]], list[tuple[object, ...]]]:
    return [v.shape for v in graph.inputs], [v.shape for v in graph.outputs]
