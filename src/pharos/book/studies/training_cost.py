"""Training cost: operations, seconds and money of training a network of each family, against the first."""

from pharos.book.study import study
from pharos.graph.workload import Workload
from pharos.machines.machine import find_machine
from pharos.models.registry import find
from pharos.passes.training import training
from pharos.predict.estimate import predict
from pharos.predict.train import Step
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("training-cost", "What does training a network of each family cost?", section="1.10")
def training_cost(
    *,
    models: tuple[str, ...] = ("mlp", "resnet50", "lstm_tagger", "gpt2-small", "vit_b_16"),
    samples: float = 1e6,
    batch: int = 32,
    precision: str = "bf16",
    optimizer: str = "adamw",
    on: str = "a100-sxm-80gb",
) -> Told:
    """Steps of forward, backward and update, one device; the same number of samples for each.

    Args:
        models: that are compared, the first being 1. samples: images, or sequences, that training sees.
    """
    if samples <= 0 or not models:
        raise InputError("needs samples and models", where="samples, models")
    machine = find_machine(on)
    rent = machine.rent_usd_per_hour.value
    rows, evidence = [], list[Evidence]()
    for name in models:
        model = find(name)
        work = Workload(batch=batch, precision=precision)  # type: ignore[arg-type]
        graph = model.graph(work)
        step = training(graph, optimizer)
        flops = sum(part.flops for part in (step.forward, step.backward, step.recomputed, step.update))
        made = Step(training=step, optimizer=optimizer, checkpointing="none")
        found = predict(graph, machine, work, model=model.name, step=made)
        seconds = None if found.latency.value is None else float(found.latency.value) * samples / batch
        usd = None if seconds is None or rent is None else seconds / 3600 * rent
        rows.append((model.name, flops / batch, seconds, usd))
        evidence += found.latency.evidence
    first, dearest = rows[0], max(rows, key=lambda r: r[1])
    table = tuple(
        (name, sample, sample / first[1], seconds, seconds / first[2] if seconds and first[2] else None, usd)
        for name, sample, seconds, usd in rows
    )
    return Told(
        answer=f"{dearest[0]} takes {dearest[1] / first[1]:,.3g} times the operations of {first[0]} a "
        f"sample: {fmt(dearest[1], 'FLOP')} against {fmt(first[1], 'FLOP')}",
        numbers={name: {"flops_per_sample": sample, "seconds": seconds, "usd": usd}
                 for name, sample, seconds, usd in rows},
        reasons=(
            "a step is forward, backward and update; backward is twice the products of forward, less what no "
            "gradient is needed for",
            "seconds follow operations only where compute binds",
            "how many samples a family needs is another question: `pharos probe` on your own data",
        ),
        columns=("model", "flops_per_sample", "times_flops", "seconds", "times_seconds", "usd"),
        rows=table,
        evidence=(counted("operations of a training step"), *evidence),
        note=f"seconds and USD: {samples:,.0f} samples in steps of {batch}, one device, data at hand",
    )  # fmt: skip
