"""Capacity: what a device's memory is shared among, and how many users it holds at a context."""

from dataclasses import dataclass
from typing import Any

from pharos.graph.count import count
from pharos.graph.workload import Workload
from pharos.passes.memory import liveness
from pharos.plan.batching import Pool
from pharos.plan.deployment import Deployment
from pharos.plan.kv import BLOCK, TABLE_ENTRY, Paging, paging
from pharos.plan.traces import typical_lengths
from pharos.predict.memory import GPU_CONTEXT_BYTES
from pharos.quantity.errors import InputError, SizeError
from pharos.quantity.evidence import Evidence, assumed, counted, merge
from pharos.quantity.sizes import ceil_div, is_int

# Tokens whose step stands for the largest where a model gives graphs for numbers only.
TRACED_STEP = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Bytes of one device and what is left of them for caches.

    Args:
        memory: all there is; usable: the share of it that the server may take.
        weights: this device's, replicated parts included.
        workspace: activations of the largest step: its tokens, or the logits of all sequences.
        runtime: what the device's own software holds.
        pool: what is left for caches; negative where the rest does not fit.
        whole_weights: of all devices together, nothing counted twice.
    """

    memory: float
    usable: float
    weights: int
    workspace: int
    runtime: int
    pool: float
    whole_weights: int
    evidence: tuple[Evidence, ...]

    @property
    def after_weights(self) -> float:
        """What is left of all memory when only weights are taken off: not yet room for users."""
        return self.memory - self.weights


def capacity(deployment: Deployment, *, context: int) -> Capacity:
    """The memory of one device of a deployment.

    Raises:
        InputError: the memory of the machine is not known.
    """
    machine, parts = deployment.machine, deployment.parts
    memory = machine.capacity_bytes
    if memory.value is None:
        raise InputError(
            f"memory of {machine.id} is not in the catalogue, so nothing fits for certain",
            hint="use a machine file of your own with memory.main.usable_bytes",
        )
    counted_ = count(deployment.first)
    whole = counted_ if deployment.devices == 1 or deployment.is_even else count(_whole(deployment))
    weights = ceil_div(int(counted_.weight_bytes + counted_.buffer_bytes), parts)
    workspace = ceil_div(_workspace(deployment, context), parts)
    runtime = GPU_CONTEXT_BYTES if machine.kind == "gpu" else 0
    usable = memory.value * deployment.utilization
    evidence = [
        counted("weights and caches from shapes"),
        memory.evidence,
        counted("workspace: activations alive at the peak of the largest step"),
    ]
    if runtime:
        evidence.append(assumed("CUDA context of 0.3 to 0.6 GB, by public reports"))
    if deployment.is_even:
        evidence.append(assumed(f"weights and caches divided evenly among {deployment.devices} devices"))
    if deployment.utilization < 1:
        evidence.append(assumed(f"the server takes {deployment.utilization:.0%} of the memory"))
    return Capacity(
        memory=memory.value,
        usable=usable,
        weights=weights,
        workspace=workspace,
        runtime=runtime,
        pool=usable - weights - workspace - runtime,
        whole_weights=int(whole.weight_bytes + whole.buffer_bytes),
        evidence=merge(evidence),
    )


def _whole(deployment: Deployment) -> Any:
    return deployment.model.graph(Workload(phase="decode", context=8, precision=deployment.precision))


def _workspace(deployment: Deployment, context: int) -> int:
    """The peak of activations of a full step of prompts, and of a step in which every sequence decodes."""
    most = deployment.max_context
    tokens = deployment.chunk if deployment.chunked else max(deployment.chunk, context)
    fixed = deployment.is_traced
    if fixed:
        tokens = min(tokens, TRACED_STEP)
    # a step of many prompts holds as much as one of their length together, scores apart
    each = min(tokens, context, most or tokens)
    prompt = Workload(
        phase="prefill",
        context=max(each, 2),
        batch=ceil_div(tokens, max(each, 2)),
        precision=deployment.precision,
    )
    peak = 0
    try:
        peak = liveness(deployment.graph(prompt), in_place=True).peak
    except SizeError:
        # a model without a prefill of its own
        peak = 0
    decode = Workload(
        phase="decode",
        context=8,
        batch=min(deployment.sequences, 8 if fixed else 10**6),
        precision=deployment.precision,
    )
    other = liveness(deployment.graph(decode), in_place=True).peak
    found = max(int(peak), int(other))
    assert is_int(found)
    return found


def longest_admitted(deployment: Deployment, context: int) -> int:
    """Tokens that a server which reserves room must reserve: what 99 of 100 requests stay within, when those
    of `context` tokens are the mean and lengths are spread as chats are (assumed)."""
    return max(typical_lengths(context, deployment.max_context)[-2], context)


def request_bytes(deployment: Deployment, context: int) -> int:
    """Bytes of one device that a request of `context` tokens holds, in pages or reserved to the longest.

    Of a prefix that all share, only what is beyond it counts.
    """
    page = deployment.block
    if not page:
        longest = longest_admitted(deployment, context)
        return ceil_div(int(deployment.kept.bytes_at(longest)), deployment.parts)
    own = int(deployment.kept.bytes_at(context, page)) - shared_bytes(deployment, context)
    return ceil_div(own, deployment.parts) + TABLE_ENTRY * ceil_div(context, page)


def shared_bytes(deployment: Deployment, context: int) -> int:
    """Bytes of whole pages that all requests share, of attention that sees everything."""
    page = deployment.block
    if not page or not deployment.shared_prefix:
        return 0
    whole = min(deployment.shared_prefix, context - 1) // page * page
    return deployment.kept.unbounded_per_token * whole


def max_users(deployment: Deployment, room: Capacity, context: int) -> int:
    """Requests of `context` tokens that the pool holds at once; 0 where not even one fits."""
    pool = room.pool - ceil_div(shared_bytes(deployment, context), deployment.parts)
    each = request_bytes(deployment, context)
    return max(int(pool // each), 0) if each > 0 else deployment.sequences


def curve(deployment: Deployment, room: Capacity, context: int) -> list[tuple[int, int]]:
    """(context, users that fit) from 1/8 of a context to 8 times it, within the model's limit."""
    most = deployment.max_context
    asked = [max(context * 2**i // 8, 1) for i in range(7)]
    kept = [c for c in asked if most is None or c <= most]
    if most is not None and most not in kept and most > context:
        kept.append(most)
    return [(c, max_users(deployment, room, c)) for c in sorted(set(kept))]


def page_use(deployment: Deployment, context: int) -> Paging:
    """Waste of pages and of contiguous room over requests of `context` tokens on average."""
    longest = longest_admitted(deployment, context)
    lengths = [min(n, longest) for n in typical_lengths(context, deployment.max_context)]
    return paging(lengths, deployment.block or BLOCK, longest)


def pool_of(deployment: Deployment, room: Capacity, longest: int) -> Pool:
    """The room for caches as the simulation hands it out, for requests of up to `longest` tokens."""
    kept, parts, page = deployment.kept, deployment.parts, deployment.block
    each = kept.unbounded_per_token * page / parts
    if not page or not each:
        # every request holds the same
        held = request_bytes(deployment, longest)
        return Pool(blocks=max(int(room.pool // held), 0), tokens=0, fixed=lambda tokens: 1, block_bytes=held)

    def fixed(tokens: int) -> int:
        return ceil_div(int(kept.bounded_at(tokens, page)), int(each * parts))

    return Pool(
        blocks=max(int(room.pool // (each + TABLE_ENTRY)), 0), tokens=page, fixed=fixed, block_bytes=each
    )
