"""Hybrid blocks that flush each other's cache: what one kind would find there, the other has pushed out."""

from collections.abc import Iterator

from pharos.decide.advice import Case, Cost, Finding, Gain, fact, rule, severity
from pharos.decide.changes import written_out
from pharos.graph.graph import Node
from pharos.quantity.evidence import assumed

# Operators that say which kind a stretch of a network is; others belong to what they follow.
KINDS = {
    "convolution": ("conv2d", "conv3d", "conv1d", "conv_transpose2d", "group_conv2d"),
    "attention": ("attention", "linear_attention", "additive_attention"),
    "recurrence": ("lstm", "gru", "rnn", "selective_scan", "ssd", "wkv"),
}
LABEL = {kind: label for label, kinds in KINDS.items() for kind in kinds}
# Changes from one kind to another and back, at least; and the share of all bytes that is worth a word.
CHANGES, WORTH = 2, 0.01
CACHE = assumed("a cache that keeps what was used last, all of it this network's")


@rule(
    "hybrid-blocks-flush-cache",
    when="convolutions, attention or recurrences alternate, and what one kind would find in the "
    "cache is pushed "
    "out by the bytes of another kind in between",
    costs="bytes that come from memory again, and the seconds of reading them",
    remedy="keep blocks of one kind together, so that they change once",
    lab="access-patterns",
    source="reuse distances over the operators' tensors (Mattson et al. 1970), cache size of the catalogue",
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Follows every tensor from one use to the next and counts the bytes in between."""
    cache, rate = case.machine.cache_bytes, case.machine.bandwidth_bytes_per_s
    if not cache.value or len({LABEL[n.kind] for n in case.lines if n.kind in LABEL}) < 2:
        return
    nodes = written_out(case.graph)
    changes, lost, by = _lost(nodes, cache.value)
    if changes < CHANGES or lost < WORTH * case.count.traffic_per_op:
        return
    seconds = lost / rate.value if rate.value else None
    share = case.share(seconds) if seconds else lost / case.count.traffic_per_op
    moved = float(case.count.traffic_per_op)
    yield Finding(
        severity=severity(share),
        evidence=(
            fact("changes from one kind of block to another", changes),
            fact("cache", cache.value, "B", cache.evidence),
            *(fact(f"bytes that {label} pushes out before they are used again", n, "B", CACHE)
              for label, n in sorted(by.items(), key=lambda item: -item[1])),
        ),
        consequence=Cost(
            what="goes to reading again what the other kind of block pushed out" if seconds
            else "read again because the other kind of block pushed it out",
            value=seconds if seconds else lost, unit="s" if seconds else "B", share=share,
        ),
        remedy="blocks of one kind together: first all convolutions, then all attention",
        gain=Gain(of="bytes from memory", before=moved + lost, after=moved, unit="B", known=(CACHE,)),
    )  # fmt: skip


def _lost(nodes: list[Node], cache: float) -> tuple[int, float, dict[str, float]]:
    """Changes of kind, bytes pushed out by other kinds, and by which."""
    label, changes = "", 0
    moved = 0.0
    of_kind: dict[str, float] = {}
    # what was used last: all bytes and those of each kind until then, and the kind that used it
    seen: dict[str, tuple[float, dict[str, float], str]] = {}
    lost: dict[str, float] = {}
    # weights come back in the next call, so that the second time over counts
    for turn in range(2):
        for node in nodes:
            new = LABEL.get(node.op.kind, label)
            changes += bool(label) and new != label and turn == 0
            label = new
            held = [*zip(node.inputs, (t.nbytes for t in node.ins), strict=True)]
            held += [(f"{node.name}/{k}", t.nbytes) for k, t in node.weights.items()]
            for name, nbytes in held:
                if turn and name in seen and nbytes <= cache:
                    then, kinds, user = seen[name]
                    between = moved - then
                    foreign = {k: v - kinds.get(k, 0.0) for k, v in of_kind.items() if k != user}
                    if between > cache >= between - sum(foreign.values()):
                        worst = max(foreign, key=lambda k: foreign[k])
                        lost[worst] = lost.get(worst, 0.0) + nbytes
            step = float(node.op.traffic(node).total)
            moved += step
            of_kind[label] = of_kind.get(label, 0.0) + step
            for name in (*(n for n, _ in held), *node.outputs):
                seen[name] = moved, dict(of_kind), label
    return changes, sum(lost.values()), lost
