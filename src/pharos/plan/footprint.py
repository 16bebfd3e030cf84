"""Footprint: what one device of a plan holds in memory, for many plans at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pharos.passes.training import OPTIMIZERS
from pharos.plan.layout import CHECKPOINTS, Layouts
from pharos.plan.parts import EXPERTS, HEAD, LAYER, NOT, STEM, Parts, Share
from pharos.predict.memory import GPU_CONTEXT_BYTES

# Buffers that a collective library holds for its channels. Assumed, from public reports of 0.5 to 1.5 GB.
LIBRARY_BYTES = 1e9


@dataclass(slots=True)
class Footprint:
    """Bytes by kind on the device of the pipeline that holds most; columns of plans.

    Args:
        buffers: weights gathered for use, the communication library's and the GPU's own (assumed).
    """

    weights: Any
    gradients: Any
    optimizer: Any
    activations: Any
    kv_cache: Any
    buffers: Any
    stage: Any

    @property
    def total(self) -> Any:
        """All of it."""
        return (
            self.weights + self.gradients + self.optimizer + self.activations + self.kv_cache + self.buffers
        )


def cut_amount(shares: list[Share], layouts: Layouts, sections: tuple[str, ...], *, whole_over: Any = None,
               experts_over: Any = None) -> Any:  # fmt: skip
    """Sum of the shares of some sections on one device of a tensor-parallel group.

    Args:
        whole_over: devices that share what is not cut. experts_over: those that share experts, further.
    """
    total = np.zeros(len(layouts))
    for one in _grouped(shares, sections):
        pieces = np.minimum(layouts.tensor, one.limit)
        if one.role == NOT or one.limit == 1:
            pieces = np.ones(len(layouts)) if whole_over is None else whole_over
        amount = one.amount / pieces
        total = total + (
            amount / experts_over if one.role == EXPERTS and experts_over is not None else amount
        )
    return total


def _grouped(shares: list[Share], sections: tuple[str, ...]) -> list[Share]:
    sums: dict[tuple[str, int], float] = {}
    for one in shares:
        if one.section in sections:
            sums[one.role, one.limit] = sums.get((one.role, one.limit), 0.0) + one.amount
    return [Share("", role, limit, amount) for (role, limit), amount in sums.items()]


def parameters_of(parts: Parts, layouts: Layouts) -> tuple[Any, Any]:
    """(parameters on the fullest device but experts, those of experts); before ZeRO cuts them.

    The first stage holds the embedding, the last the head; a tied head is there again where they are apart.
    """
    stage_share = np.ceil(parts.layers / layouts.pipeline) / parts.layers
    dense = [w for w in parts.weights if w.role != EXPERTS]
    experts = [w for w in parts.weights if w.role == EXPERTS]
    layer = cut_amount(dense, layouts, (LAYER,)) * stage_share
    stem, head = cut_amount(dense, layouts, (STEM,)), cut_amount(dense, layouts, (HEAD,))
    again = head + parts.tied / layouts.tensor
    ends = np.where(layouts.pipeline > 1, np.maximum(stem, again), stem + head)
    routed = cut_amount(experts, layouts, (LAYER,), experts_over=layouts.expert) * stage_share
    return layer + ends, routed


def in_flight(layouts: Layouts, micro_batches: Any) -> Any:
    """Micro-batches whose activations the first stage holds at once.

    1F1B: as many as there are stages after it and itself; interleaved 1 + (p - 1) / (p v) times as many.
    Source: Narayanan et al. 2021, arXiv:2104.04473; Korthikanti et al. 2022, arXiv:2205.05198.
    """
    p, v = layouts.pipeline, layouts.chunks
    more = np.where(v > 1, 1 + (p - 1) / (p * v), 1.0)
    return np.minimum(micro_batches, p) * more


def activations_of(parts: Parts, layouts: Layouts, micro_batches: Any) -> tuple[Any, Any]:
    """Bytes of activations that training keeps: (first stage, last stage)."""
    sequences, tokens = layouts.micro_batch, layouts.context
    spread = np.where(layouts.sequence > 0, layouts.tensor, 1.0)
    one_layer = cut_amount(parts.saved, layouts, (LAYER,), whole_over=spread) / parts.layers
    core = cut_amount(parts.core, layouts, (LAYER,)) / parts.layers
    mine = np.ceil(parts.layers / layouts.pipeline)
    kinds = [one_layer, one_layer - core, parts.inputs / spread + 0 * one_layer]
    kept = np.select([layouts.checkpoint == i for i in range(len(CHECKPOINTS))], kinds)
    flying = in_flight(layouts, micro_batches)
    # one layer is made again while its gradients are taken
    again = np.select([layouts.checkpoint == 0, layouts.checkpoint == 1], [0 * core, core], one_layer)
    per = sequences / tokens
    stem = cut_amount(parts.saved, layouts, (STEM,), whole_over=spread)
    head = cut_amount(parts.saved, layouts, (HEAD,), whole_over=spread)
    # logits, their logarithms in fp32 and the gradient
    logits = parts.logits / np.minimum(layouts.tensor, parts.widest) * (parts.bytes_per_weight + 4 + 4)
    first = per * ((mine * kept + stem) * flying + again)
    last = per * (mine * kept + head + logits + again)
    alone = layouts.pipeline == 1
    both = per * (mine * kept + stem + head + logits + again)
    return np.where(alone, both, first), np.where(alone, both, last)


def footprint(
    parts: Parts, layouts: Layouts, micro_batches: Any, trains: bool, optimizer: str, on_gpu: bool,
    grad_bytes: float | None = None,
) -> Footprint:  # fmt: skip
    """Memory of the device that holds most.

    Weights of 16 bits and fewer keep fp32 copies beside the optimiser's state, as mixed precision does: with
    Adam 2 + 2 + 12 bytes a parameter. ZeRO divides the optimiser's part (from stage 1), gradients (2) and
    weights (3) by the data-parallel devices; experts' by those that hold the same experts.

    Args:
        optimizer: a key of `passes.training.OPTIMIZERS`.
        grad_bytes: of a gradient; as wide as the weight by default.
    """
    dense, routed = parameters_of(parts, layouts)
    ranks = layouts.data * layouts.context
    own_ranks = np.maximum(ranks / layouts.expert, 1)

    def over(stage: int) -> Any:
        cut = layouts.zero >= stage
        return dense / np.where(cut, ranks, 1) + routed / np.where(cut, own_ranks, 1)

    width = parts.bytes_per_weight
    weights = width * over(3)
    zero = np.zeros(len(layouts))
    buffers = zero + (GPU_CONTEXT_BYTES if on_gpu else 0)
    buffers = buffers + np.where(layouts.tensor * layouts.pipeline * ranks > 1, LIBRARY_BYTES, 0.0)
    # two layers' weights are whole at a time
    gathered = 2 * width * (dense + routed) / np.ceil(parts.layers / layouts.pipeline)
    buffers = buffers + np.where(layouts.zero >= 3, gathered, 0.0)
    if not trains:
        kv = cut_amount(parts.state, layouts, (STEM, LAYER, HEAD))
        mine = np.ceil(parts.layers / layouts.pipeline) / parts.layers
        spread = np.ones(len(layouts))
        work = cut_amount(parts.saved, layouts, (LAYER,), whole_over=spread) / parts.layers
        out = parts.logits / layouts.tensor * (parts.bytes_per_weight + 4)
        many = layouts.micro_batch / layouts.context
        held = kv * mine * micro_batches * many
        return Footprint(weights, zero, zero, many * (work + out), held, buffers, zero)
    state = 4.0 * float(OPTIMIZERS[optimizer].state((1,))) + (4.0 if width < 4 else 0.0)
    first, last = activations_of(parts, layouts, micro_batches)
    return Footprint(
        weights=weights, gradients=(grad_bytes or width) * over(2), optimizer=state * over(1),
        activations=np.maximum(first, last), kv_cache=zero, buffers=buffers,
        stage=np.where(first >= last, 0, layouts.pipeline - 1),
    )  # fmt: skip
