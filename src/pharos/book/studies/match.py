"""Match: how far each family's assumptions fit the data, beside how far its intensity fits the machine."""

from typing import Any

from pharos.book.study import study
from pharos.decide.biases import bias, by_strength, candidates
from pharos.decide.data.facts import KINDS, Data
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.models.registry import find
from pharos.predict.estimate import predict
from pharos.quantity.errors import unknown
from pharos.quantity.evidence import assumed, counted
from pharos.report.studies import Told

# A network of the catalogue for each family that data may be matched with.
NETWORKS = {
    "cnn": "resnet50",
    "cnn-1d": "",
    "rnn": "lstm_tagger",
    "vit": "vit_b_16",
    "transformer": "gpt2-small",
    "mlp": "mlp",
    "dlrm": "dlrm-mlperf",
    "ssm": "mamba-130m",
    "attention": "",
}


@study("match", "Which family fits the data, and does that one fit the machine?", section="1.10")
def match(
    *,
    data: str = "images",
    labels: int = 50_000,
    length: int = 0,
    dependence: float = 0.0,
    tables: tuple[int, ...] = (),
    batch: int = 1,
    context: int = 128,
    precision: str = "fp16",
    on: str = "a100-sxm-80gb",
) -> Told:
    """The score of a family's inductive bias, and FLOP per byte of one of its networks over the ridge point.

    Args:
        data: a kind of data. labels: examples with one. length, dependence: steps of a sequence, and those
            over which they depend on each other. tables: rows of each categorical column. 0 or none: unknown.
    """
    if data not in KINDS:
        raise unknown("data", data, KINDS)
    machine = find_machine(on)
    facts = Data(
        kind=data,
        labels=labels or None,
        length=length or None,
        dependence=dependence or None,
        tables=tables,
    )
    rows: list[tuple[Any, ...]] = []
    numbers: dict[str, Any] = {"ridge_point": machine.ridge_point(precision)}
    for found in candidates(facts):
        name = NETWORKS.get(found.family, "")
        fit: dict[str, Any] = dict.fromkeys(FIT)
        if name:
            fit = _fit(name, batch, context, precision, machine)
        numbers[found.family] = {
            "score": found.score,
            "strength": bias(found.family).strength,
            "network": name or None,
            **fit,
            "for": list(found.reasons),
            "against": list(found.counters),
        }
        rows.append((found.family, found.score, bias(found.family).strength, *fit.values()))
    best = rows[0]
    hardware = max((r for r in rows if r[5] is not None), key=lambda r: r[5], default=None)
    agree = hardware is not None and hardware[0] == best[0]
    return Told(
        answer=f"{data} match {best[0]} best ({best[1]:.3g}); {machine.id} matches "
        + (f"{hardware[0]} best ({hardware[5]:.2g} of its peak)" if hardware else "none that is known")
        + (": both agree" if agree else ": the data decide, the machine tells what it costs"),
        numbers=numbers,
        reasons=(
            *numbers[best[0]]["for"][:2],
            "bias from strong to weak: " + _ranking(),
            "transformers and ViT assume little: what they save in assumptions they ask for in labels",
        ),
        columns=("family", "score", "bias", *FIT),
        rows=tuple(rows),
        evidence=(
            counted("operations and bytes of the kernels that run"),
            assumed("what a kind of data usually has; weights of its structures"),
        ),
        note="bias: 4 assumes most; of_peak: FLOP/B as run over the ridge point; reached: by the prediction",
    )


FIT = ("flops_per_byte", "of_peak", "reached", "binding")


def _fit(name: str, batch: int, context: int, precision: str, machine: Machine) -> dict[str, Any]:
    """FLOP per byte as run, what the ridge allows, what is reached by the prediction, what binds."""
    work = Workload(batch=batch, context=context, precision=precision)  # type: ignore[arg-type]
    found = predict(find(name).graph(work), machine, work, model=name)
    intensity, _ = found.roofline()["as_run"]
    peak, ridge, seconds = machine.peak(precision).value, found.ridge_point, found.latency.value
    known = intensity is not None
    reached = 2 * float(found.count.macs) / float(seconds) / peak if peak and seconds else None
    allowed = min(1.0, float(intensity) / ridge) if known and ridge else None
    return dict(
        zip(FIT, (float(intensity) if known else None, allowed, reached, str(found.binding)), strict=True)
    )


def _ranking() -> str:
    """Families by the strength of their bias."""
    groups: dict[int, list[str]] = {}
    for one in by_strength():
        groups.setdefault(one.strength, []).append(one.family)
    return " > ".join(", ".join(names) for names in groups.values())
