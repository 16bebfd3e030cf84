"""Training of a model: costed from its graph, with the memory of a traced module seen in a run."""

from dataclasses import replace

from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.registry import Model
from pharos.passes.training import BY_RULE, Training, as_seen, training
from pharos.quantity.errors import InputError, PharosError, SizeError
from pharos.quantity.evidence import counted


def train(
    model: Model, work: Workload, optimizer: str = "adamw", checkpointing: str | int = "none",
    loss: str = "sum", set_to_none: bool = True, graph: Graph | None = None,
) -> Training:  # fmt: skip
    """One training step of a model, as `pharos.passes.training.training` costs it.

    The memory of a traced module is that of a step that is watched; where a run without data cannot be
    made of it, of its graph, and the evidence says why.

    Args:
        graph: the model's under `work`, where it is at hand.

    Raises:
        SizeError: nothing repeats that could be checkpointed, or the batch is no number.
        InputError: the module has no parameter to train, returns nothing that has a gradient, or
            refuses the inputs in training.
    """
    graph = graph or model.graph(work)
    watch = getattr(model, "training_memory", None)
    if watch is None:
        return training(graph, optimizer, checkpointing, loss, set_to_none)
    try:
        step = training(graph, optimizer, checkpointing, loss, set_to_none)
    except SizeError:
        if checkpointing == "none":
            raise
        # layers that are not folded into a Repeat are still modules that run again
        step = training(graph, optimizer, loss=loss, set_to_none=set_to_none)
    try:
        return as_seen(step, watch(work, optimizer, checkpointing, loss, set_to_none))
    except PharosError:
        raise
    except Exception as error:
        from pharos.convert.torch_run import needs_data, reason_of

        if not needs_data(error):
            raise InputError(f"cannot be trained: {reason_of(error)}", where=model.name) from None
        why = f"{BY_RULE.where}; its step could not be watched: {reason_of(error)}"
        return replace(step, evidence=counted(why))
