"""A weak bias with few labels: what a network does not take for granted it must learn from samples."""

from collections.abc import Iterator

from pharos.decide.advice import NOTE, WARNING, Case, Cost, Finding, Gain, fact, rule, seconds_of
from pharos.decide.comparables import comparables
from pharos.predict.estimate import Estimate, predict
from pharos.quantity.evidence import assumed, counted, spec

# Images up to which a vision transformer trained from scratch stays behind a ResNet.
BEHIND = 1_300_000
VIT = "Dosovitskiy et al. 2020, arXiv:2010.11929, figure 3: trained on 1.3 M images ViT stays behind ResNets"
# Parameters from which a network can learn any labels by heart.
MEMORISES = (
    "Zhang et al. 2016, arXiv:1611.03530: networks with more parameters than samples fit random labels"
)
STATED = assumed("as stated")


@rule(
    "weak-bias-few-labels",
    when="labels are stated and are at most 1.3 M for a vision transformer, or fewer than the "
    "parameters of a "
    "network of dense layers over an image",
    costs="parameters that no label tells apart, as bytes; a network with the images' structure "
    "built in needs "
    "fewer",
    remedy="a convolutional network of the catalogue with the same inputs and outputs, or a "
    "pretrained network",
    lab="learnability",
    source=f"{VIT}; {MEMORISES}",
    needs=("labels",),
    searches=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Compares labels and parameters; predicts a network with a stronger bias."""
    labels = case.stated.labels
    if labels is None or case.family not in ("vit", "mlp"):
        return
    of_vit = case.family == "vit"
    image = case.graph.inputs[0].tensor.rank == 4
    enough, source = (BEHIND, VIT) if of_vit else (case.count.parameters, MEMORISES)
    if labels > enough if of_vit else (labels >= enough or not image):
        return
    other = _convolutional(case)
    surplus = max(case.count.parameters - labels, 0)
    each = case.count.weight_bytes / case.count.parameters
    gain = None
    if other is not None:
        gain = Gain(of="parameters", before=case.count.parameters, after=other.count.parameters, unit="",
                    known=(counted(f"parameters of {other.model}"),))  # fmt: skip
    yield Finding(
        severity=WARNING if 10 * labels <= enough else NOTE,
        evidence=(
            fact("labels", labels, "", STATED),
            fact("labels from which this bias is enough", enough, "", spec(source)),
            fact("parameters", case.count.parameters),
        ),
        consequence=Cost(what="of parameters beyond one a label", value=surplus * each, unit="B",
                         share=case.of_memory(surplus * each)),
        remedy=f"{other.model}, which takes locality and shared weights for granted" + _pace(case, other)
        if other is not None else "a network that takes locality for granted, or one pretrained on more",
        gain=gain,
    )  # fmt: skip


def _convolutional(case: Case) -> Estimate | None:
    """The network of the catalogue with the MACs nearest to this one's."""
    macs = case.count.macs / case.workload.batch
    found = [
        predict(graph, case.machine, case.workload, model=model.name, runtime=case.base.runtime)
        for model, graph in comparables(
            case, lambda e: e.family == "cnn" and 0.1 * macs < (e.macs or 0) < 2 * macs
        )
    ]
    found = [f for f in found if f.count.parameters < case.count.parameters]
    return min(found, key=lambda f: abs(f.count.macs - case.count.macs), default=None)


def _pace(case: Case, other: Estimate) -> str:
    if other.latency.value is None or not case.latency_s:
        return ""
    return f"; {seconds_of(other) / case.latency_s:.2g}x the time here"
