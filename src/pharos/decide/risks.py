"""Risks: what may go wrong with a choice, each with what lessens it."""

from collections.abc import Iterator

from pharos.decide.biases import Match
from pharos.decide.brief import Brief
from pharos.decide.data.facts import Data
from pharos.decide.search import Trial
from pharos.decide.verdict import HOLDS
from pharos.quantity.evidence import Kind
from pharos.quantity.units import fmt

EDGE = ("cpu", "mcu", "mobile_soc", "npu")
WARM = ("cpu", "mobile_soc", "npu")


def risks_of(chosen: Trial, brief: Brief, data: Data, matches: list[Match]) -> Iterator[tuple[str, str]]:
    """Risk and mitigation, those about limits first."""
    for name, verdict in chosen.verdicts.items():
        if verdict.verdict == HOLDS:
            continue
        figure = verdict.figure
        if figure.value is None:
            why = figure.evidence[0].where if figure.evidence else "unknown"
            yield f"{name} cannot be told: {why}", f"measure {name} on {chosen.machine.id} before signing"
        else:
            yield (f"the limit on {name} lies inside its band ({fmt(figure.low, figure.unit)} to "
                   f"{fmt(figure.high, figure.unit)})", "measure it; the runner-up is ready")  # fmt: skip
    accuracy = chosen.figures["accuracy"]
    if brief.limits.accuracy is None and accuracy.value is None:
        why = accuracy.evidence[0].where if accuracy.evidence else "nothing is published"
        yield f"accuracy is not known: {why}", "train small members on a sample of the data, at several sizes"
    elif any(e.kind is Kind.ASSUMED for e in accuracy.evidence):
        yield (
            "accuracy is carried over from other data",
            "train on augmented data and test on what the device sees; the next size up is on the front",
        )
    narrow = accuracy.value is None or any("int8 loses" in e.where for e in accuracy.evidence)
    if chosen.precision == "int8" and narrow:
        yield "int8 may lose accuracy", "calibrate on real inputs, or train with quantisation"
    best = next((m for m in matches if m.family == chosen.member.family), None)
    if best is not None and best.labels_level is not None and best.labels_level < 0.5:
        yield (
            "labels are few for this family",
            "collect more, augment, or start from weights trained on other data",
        )
    offline = brief.use.connectivity != "always"
    if chosen.machine.kind in WARM and offline:
        yield (
            "heat in an enclosure lowers the clock",
            "a heat sink, or fewer examples when it is hot; the margin on "
            f"latency is {_margin(chosen, 'latency')}",
        )
    if chosen.machine.kind in EDGE and offline:
        yield (
            "what is to be told apart changes once deployed",
            "keep a tenth of capacity free and plan how updates reach the device",
        )
    if data.skew is not None and data.classes and data.skew < 0.2 / data.classes:
        yield (
            f"the rarest class has {data.skew:.2%} of the labels",
            "weigh or sample classes, and report accuracy by class",
        )
    if chosen.devices > 1:
        yield (
            f"{chosen.devices} devices must exchange looked-up rows for every batch",
            "predict the exchange with pharos collective; keep hot rows on every device",
        )
    if chosen.member.family in ("transformer", "vit", "attention") and (data.longest or 0) > 4096:
        yield (
            "scores of all pairs do not fit where attention is not tiled",
            "require a runtime with tiled attention",
        )
    if chosen.member.family in ("rnn", "ssm") and (data.dependence or 0) > 200:
        yield (
            f"a state of fixed size may lose what lies {data.dependence:,.0f} steps back",
            "probe with the distance between what tells and what is asked",
        )
    if data.kind == "tabular":
        yield (
            "a network may not beat trees here",
            "fit gradient-boosted trees first: minutes, and the bar to beat",
        )


def _margin(chosen: Trial, name: str) -> str:
    found = chosen.verdicts.get(name)
    return f"{found.margin:.1f}x" if found is not None and found.margin is not None else "not known"
