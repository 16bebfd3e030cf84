"""Depth rule: what a number of layers needs so that gradients arrive, and whether a network has it."""

from pharos.book.studies.skip_memory import shortcuts
from pharos.book.study import study
from pharos.book.sums import counted, graph, weight_layers
from pharos.decide.changes import longest_stretch, with_shortcuts, written_out
from pharos.quantity.evidence import counted as exactly
from pharos.quantity.evidence import spec
from pharos.report.studies import Told

# Layers that train as they are; (layers below, what they need).
PLAIN = 20
RULE = ((PLAIN, "nothing"), (101, "skips"), (None, "skips and normalisation before each activation"))
SOURCE = "He et al. 2015, arXiv:1512.03385; He et al. 2016, arXiv:1603.05027 for more than 100 layers"


@study("depth-rule", "What does a network of so many layers need to train?", section="1.7")
def depth_rule(*, model: str = "resnet152", layers: int = 0) -> Told:
    """Below 20 layers nothing, to 100 skips, beyond them normalisation as well, before the activation.

    Args:
        layers: with weights, in a row; 0 takes the model's and tells whether it has what they need.
    """
    needs = needed(layers or weight_layers(model))
    if layers:
        answer = f"{layers} layers need {needs}"
        numbers: dict[str, object] = {"layers": layers, "needs": needs}
        rows: list[tuple[object, ...]] = []
    else:
        made = graph(model)
        run = longest_stretch(made)
        fitting = with_shortcuts(made)[1] if run >= PLAIN else 0
        ahead = _before(model)
        has = needs == "nothing" or (run < PLAIN and (needs == "skips" or ahead))
        count = weight_layers(model)
        answer = f"{model} has {count} layers and needs {needs}: " + (
            "it has them" if has and needs != "nothing" else "no more" if has else _lacks(run, ahead)
        )
        numbers = {
            "layers": count,
            "needs": needs,
            "layers_without_skip": run,
            "norm_before_activation_before_layer": ahead,
            "has_them": has,
            "shortcuts_that_fit": fitting,
            **_price(model),
        }
        rows = [
            ("layers with weights", count),
            ("in a row without a skip", run),
            ("additions of skips", numbers["skips"]),
            ("bytes that they move", numbers["skip_bytes"]),
            ("share of all bytes", numbers["skip_bytes_share"]),
        ]
    return Told(
        answer=answer,
        numbers=numbers,
        reasons=(
            "a gradient through n layers is a product of n Jacobians; an addition adds 1 to each",
            "plain networks of 34 normalised layers end worse than those of 18",
        ),
        columns=("what", "value") if rows else (),
        rows=tuple(rows),
        evidence=(exactly("layers in a row without an addition or concatenation around"), spec(SOURCE)),
    )


def needed(layers: int) -> str:
    """What so many layers with weights in a row need."""
    return next(what for below, what in RULE if below is None or layers < below)


def _lacks(run: int, ahead: bool) -> str:
    return f"{run} in a row have no skip" if run >= PLAIN else "" if ahead else "its norms follow the layers"


def _before(model: str) -> bool:
    """Whether some addition gets the output of a layer with weights itself, not of a norm or activation."""
    kinds: dict[str, str] = {}
    for node in written_out(graph(model)):
        given = [kinds[i] for i in node.inputs if i in kinds]
        if node.op.kind == "add" and not any("norm" in kind or "act" in kind for kind in given):
            return True
        kinds |= dict.fromkeys(node.outputs, node.op.kind)
    return False


def _price(model: str) -> dict[str, float]:
    found = counted(model)
    adds = [line for line in found.lines if line.kind == "add"]
    moved = sum(float(line.traffic.total * line.times) for line in adds)
    return {
        "skips": len(shortcuts(graph(model), written_out(graph(model)))),
        "skip_bytes": moved,
        "skip_bytes_share": moved / float(found.traffic.total),
    }
