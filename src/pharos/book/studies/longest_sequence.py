"""Longest sequence: how far each way of remembering reaches within a memory."""

from collections.abc import Callable

from pharos.book.study import Bytes, study
from pharos.book.sums import counted, kv_bytes, scores
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.quantity.evidence import counted as exactly
from pharos.quantity.units import fmt
from pharos.report.studies import Told

LARGEST = 1 << 40


@study(
    "longest-sequence", "What is the longest sequence that a memory holds, by architecture?", section="1.4"
)
def longest_sequence(
    *,
    memory: Bytes = 16e9,
    model: str = "gpt2-xl",
    hidden: int = 1600,
    precision: str = "fp16",
    weights: bool = True,
) -> Told:
    """Naive attention, tiled attention with all activations of a layer, a decoder's cache, a recurrence.

    Args:
        hidden: width of the recurrence's state. weights: whether the model's lie in the same memory.
    """
    held = float(counted(model, "decode", context=1, precision=precision).weight_bytes) if weights else 0.0
    free = max(0.0, memory - held)
    heads = _heads(model)
    state = find(f"sequence_rnn(hidden={hidden})").graph(Workload(context=8, precision=precision))  # type: ignore[arg-type]
    kept = sum(float(node.state_bytes) for node, _, _ in state.walk())
    ways: tuple[tuple[str, Callable[[int], float]], ...] = (
        (
            "attention, scores written out",
            lambda n: scores(n, heads, precision) + kv_bytes(model, n, precision),
        ),
        ("attention, tiled, with a KV cache", lambda n: kv_bytes(model, n, precision)),
        (f"recurrence of {hidden} units", lambda _n: kept),
    )
    rows = []
    for name, size in ways:
        longest = _longest(size, free)
        rows.append((name, "any" if longest >= LARGEST else f"{longest:,}", size(1024), size(4096)))
    return Told(
        answer=f"in {fmt(memory, 'B')} beside {fmt(held, 'B')} of weights: {rows[0][1]} tokens with "
        f"scores written out, {rows[1][1]} tiled with a cache, {rows[2][1]} for a recurrence",
        numbers={"free_bytes": free, **{name: _longest(size, free) for name, size in ways}},
        reasons=("scores grow with the square of the tokens, a cache with the tokens, a state with neither",),
        columns=("memory_of_the_past", "longest", "bytes_at_1024", "bytes_at_4096"),
        rows=tuple(rows),
        evidence=(exactly(f"{model}: {heads} heads, one layer's scores, caches of all layers"),),
    )


def _heads(model: str) -> int:
    from pharos.ops.attention import Attention

    graph = find(model).graph(Workload(context=8))
    node = next(node for node, _, _ in graph.walk() if isinstance(node.op, Attention))
    return int(node.io[0].shape[1])


def _longest(size: Callable[[int], float], free: float) -> int:
    if size(1) > free:
        return 0
    low, high = 1, LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= free else (low, middle - 1)
    return low
