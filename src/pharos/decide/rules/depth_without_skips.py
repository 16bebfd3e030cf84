"""Depth without shortcuts: more than some 20 layers in a row that no addition leads around."""

from collections.abc import Iterator

from pharos.decide.advice import NOTE, WARNING, Case, Cost, Finding, Gain, fact, rule, seconds_of
from pharos.decide.changes import LAYERS, longest_stretch, with_shortcuts
from pharos.quantity.evidence import counted, spec

DEEPEST = 20
# What a normalised plain network still trained at, if worse than one of 18 layers.
TRAINED = 34
SOURCE = "He et al. 2015, arXiv:1512.03385: 34 plain layers, normalised as they are, end worse than 18"


@rule(
    "depth-without-skips",
    when="more than 20 layers with weights follow each other with no addition or concatenation around them",
    costs="seconds of the layers beyond the 20th, which training such a network does not repay",
    remedy="an addition around every two layers of one shape",
    lab="gradient-flow",
    source=SOURCE,
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the network with shortcuts, which cost additions."""
    layers = [line for line in case.lines if line.kind in LAYERS]
    if sum(line.times for line in layers) <= DEEPEST:
        return
    run = longest_stretch(case.graph)
    if run <= DEEPEST:
        return
    made, added = with_shortcuts(case.graph)
    rest = longest_stretch(made)
    found = case.tried(graph=made)
    beyond = _beyond(case)
    normalised = sum(line.times for line in case.lines if "norm" in line.kind) >= run - 1
    cost = ""
    if found is not None and case.latency_s:
        more = seconds_of(found) / case.latency_s - 1
        cost = f", for {more:.1%} more time" if more > 0.0005 else ", at no predicted cost"
    yield Finding(
        severity=NOTE if normalised and run <= TRAINED else WARNING,
        evidence=(
            fact("layers in a row without a shortcut", run),
            fact("layers up to which plain networks train", DEEPEST, "", spec(SOURCE)),
            fact("additions that fit between layers of one shape", added),
        ),
        consequence=Cost(
            what="goes to layers beyond the 20th", value=beyond, unit="s",
            share=case.share(beyond) if beyond is not None else None,
        ),
        remedy=f"{added} additions around pairs of layers{cost}"
        if added else "additions around pairs of layers, with projections where shapes differ",
        gain=Gain(of="layers in a row without a shortcut", before=run, after=rest, unit="",
                  known=(counted("the graph with shortcuts"),)) if added else None,
    )  # fmt: skip


def _beyond(case: Case) -> float | None:
    """Seconds of the layers after the 20th."""
    if case.latency_s is None:
        return None
    seen, total = 0, 0.0
    for line in case.lines:
        if line.kind not in LAYERS:
            continue
        late = max(0, seen + line.times - max(DEEPEST, seen))
        total += case.seconds([line]) * late / line.times
        seen += line.times
    return total
