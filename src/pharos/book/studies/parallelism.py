"""Parallelism by family: data, tensor, pipeline, expert and table parallelism with what each would scale."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pharos.book.study import study
from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.models.registry import find
from pharos.passes.depth import depth
from pharos.passes.training import Training, training
from pharos.plan.communication import Cost, collective_cost
from pharos.plan.topology import Topology, topology_of
from pharos.predict.estimate import Estimate, predict
from pharos.predict.train import Step
from pharos.quantity.errors import InputError
from pharos.quantity.evidence import Evidence, assumed, counted, merge, weakest
from pharos.report.studies import Told

PRODUCTS = ("linear", "conv2d", "conv1d")
TABLES = ("embedding", "embedding_bag")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One network's training step on one device, and with a share of the batch, with a micro-batch.

    Args:
        tables_s: what lookups, their gradients and the tables' update take of the first two.
    """

    name: str
    made: Count
    step: Training
    whole_s: float
    share_s: float
    micro_s: float
    tables_s: tuple[float, float]
    fits: bool | None
    devices: int
    micro: int
    topology: Topology
    steps: int

    def cost(self, name: str, size: float) -> Cost:
        """A collective of `size` bytes over all devices."""
        return collective_cost(name, round(size), self.topology)

    def gradients(self, without: tuple[str, ...] = ()) -> float:
        """Bytes of gradients, those of some kinds of operators left out."""
        apart = sum(float(ln.weight_bytes) for ln in self.made.lines if ln.kind in without)
        return float(self.step.gradients) - apart


@study("parallelism", "Which way of dividing a network over devices scales, by family?", section="1.9")
def parallelism(
    *,
    models: tuple[str, ...] = ("resnet50", "lstm_tagger", "gpt2-small", "dlrm-mlperf"),
    devices: int = 8,
    batch: int = 256,
    context: int = 128,
    micro_batches: int = 8,
    precision: str = "fp16",
    on: str = "a100-sxm-80gb",
) -> Told:
    """A training step with all traffic exposed; arithmetic that is divided is taken to divide evenly.

    Args:
        batch: samples of a step, over all devices. micro_batches: that a pipeline divides it into.
    """
    if devices < 2 or batch % devices or batch % micro_batches:
        told = "two devices at least, and a batch that they and micro-batches share evenly"
        raise InputError(told, where="devices, batch, micro_batches")
    machine = find_machine(on)
    topology = topology_of(machine, devices)
    rows: list[tuple[Any, ...]] = []
    evidence: list[Evidence] = [counted("bytes that each way moves")]
    numbers: dict[str, Any] = {"devices": devices}
    for name in models:
        case, known = _case(name, machine, topology, batch, context, micro_batches, precision)
        evidence += known
        ways = {}
        for way, (estimate, shortens) in WAYS.items():
            found = estimate(case)
            if found is None:
                continue
            seconds, sent = found
            ways[way] = {"speedup": case.whole_s / seconds, "sent_bytes": sent, "one_sample": shortens}
            rows.append((name, way, case.whole_s / seconds, sent, shortens))
        numbers[name] = {
            "steps_in_a_row": case.steps,
            "fits_one_device": case.fits,
            "step_s": case.whole_s,
            "ways": ways,
        }
    large = [m for m in models if numbers[m]["fits_one_device"] is False]
    best = {m: max(numbers[m]["ways"], key=lambda w, m=m: numbers[m]["ways"][w]["speedup"]) for m in models}
    return Told(
        answer=f"on {devices} devices: "
        + "; ".join(f"{m} {best[m]} ({numbers[m]['ways'][best[m]]['speedup']:.3g}x)" for m in models),
        numbers=numbers,
        reasons=(
            "data parallelism gives a second sequence its own device: the steps of one recurrence still wait "
            "for each other",
            *(
                (f"no device holds {', '.join(large)} with its batch alone: data parallelism cannot start",)
                if large
                else ()
            ),
            "an all-reduce sends 2 (G - 1) / G of the gradients from every device, an all-to-all (G - 1) / G",
        ),
        columns=("model", "way", "speedup", "sent_bytes", "one_sample"),
        rows=tuple(rows),
        evidence=(*merge(evidence), assumed("traffic hidden by nothing; what is divided divides evenly")),
        note="speedup: of a training step; sent: from a device in a step; one_sample: answered sooner",
    )


def _case(
    name: str, machine: Machine, topology: Topology, batch: int, context: int, micro: int, precision: str
) -> tuple[Case, tuple[Evidence, ...]]:
    n, found = topology.devices, []
    for size in (batch // n, batch // micro, batch):
        work = Workload(batch=size, context=context, precision=precision)  # type: ignore[arg-type]
        graph = find(name).graph(work)
        step = training(graph)
        made = predict(
            graph,
            machine,
            work,
            model=name,
            step=Step(training=step, optimizer="adamw", checkpointing="none"),
        )
        if made.latency.value is None:
            raise InputError(f"a step of {name} on {machine.id} is not known", where="on")
        found.append((graph, step, made))
    (_, _, share), (_, _, part), (graph, step, whole) = found
    case = Case(
        name=name,
        made=count(graph),
        step=step,
        whole_s=float(whole.latency.value),
        share_s=float(share.latency.value),
        micro_s=float(part.latency.value),
        fits=whole.fits,
        tables_s=(_tables_s(whole), _tables_s(share)),
        devices=n,
        micro=micro,
        topology=topology,
        steps=int(depth(graph).steps),
    )
    return case, (weakest(whole.latency.evidence),)


def _tables_s(found: Estimate) -> float:
    tables = sum(float(ln.weight_bytes) for ln in found.count.lines if ln.kind in TABLES)
    part = tables / float(found.count.weight_bytes)
    total = 0.0
    for op in found.operations:
        lead = op.kernel.lead
        mine = part if lead.name.startswith("update (") else float(lead.kind in TABLES)
        total += mine * float(op.total_s or 0.0)
    return total


Way = tuple[float, float] | None


def _sum(case: Case, base: float, *sent: tuple[str, float, float]) -> Way:
    """Seconds and bytes sent of a step: `base`, and (collective, bytes, times) each."""
    costs = [(case.cost(name, size), times) for name, size, times in sent if size and times]
    return (
        base + sum(float(c.seconds.value or 0.0) * n for c, n in costs),
        sum(float(c.moves.sent()) * n for c, n in costs),
    )


def _data(case: Case) -> Way:
    return _sum(case, case.share_s, ("all-reduce", case.gradients(), 1))


def _tensor(case: Case) -> Way:
    """A product divided by columns and the next by rows: its narrower side is summed, forward or backward."""
    sent = []
    for line in case.made.lines:
        if line.kind in PRODUCTS and line.work.macs:
            sizes = (line.node.ins[0].nbytes, line.node.outs[0].nbytes)
            sent.append(("all-reduce", float(min(sizes)), float(line.times)))
        elif line.cost_class == "recurrence":
            # the hidden state is gathered before every step, and its gradient summed after it
            steps = float(line.node.op.parallelism(*line.node.io).depth * line.times)
            state = float(line.node.outs[0].nbytes) / max(1.0, float(line.node.ins[0].shape[1]))
            sent.append(("all-reduce", state, 2 * steps))
    tables = case.tables_s[0]
    return _sum(case, tables + (case.whole_s - tables) / case.devices, *sent)


def _pipeline(case: Case) -> Way:
    layers = [ln for ln in case.made.lines if ln.kind in PRODUCTS or ln.cost_class == "recurrence"]
    if sum(float(ln.times) for ln in layers) < case.devices:
        return None
    rounds = case.micro + case.devices - 1
    between = sum(float(ln.node.outs[0].nbytes) for ln in layers) / len(layers) / case.micro
    base = case.micro_s / case.devices * rounds
    seconds, _ = _sum(case, base, ("send-recv", between, 2 * rounds)) or (0.0, 0.0)
    return seconds, 2 * between * case.micro


def _sequence(case: Case) -> Way:
    """A recurrence's steps in as many stretches: a state goes from one device to the next, batches follow."""
    found = [ln for ln in case.made.lines if ln.cost_class == "recurrence"]
    if not found:
        return None
    rounds = case.micro + case.devices - 1
    state = max(float(ln.node.outs[0].nbytes) / float(ln.node.ins[0].shape[1]) for ln in found) / case.micro
    seconds, _ = _sum(case, case.micro_s / case.devices * rounds, ("send-recv", state, 2 * rounds)) or (
        0.0,
        0.0,
    )
    return seconds, 2 * state * case.micro


def _wavefront(case: Case) -> Way:
    """Stacked recurrences, each on a device of its own, a step behind the one below."""
    found = [ln for ln in case.made.lines if ln.cost_class == "recurrence"]
    stacked = sum(int(getattr(ln.node.op, "num_layers", 1)) * int(ln.times) for ln in found)
    if stacked < 2:
        return None
    stages, steps = min(stacked, case.devices), int(found[0].node.ins[0].shape[1])
    return case.whole_s * (steps + stages - 1) / (steps * stages), 2 * float(found[0].node.outs[0].nbytes)


def _expert(case: Case) -> Way:
    found = [ln for ln in case.made.lines if ln.kind == "experts"]
    if not found:
        return None
    sent = [
        (
            "all-to-all",
            float(ln.node.ins[0].nbytes) * int(getattr(ln.node.op, "top_k", 1)) / case.devices,
            4.0 * float(ln.times),
        )
        for ln in found
    ]
    rest = ("all-reduce", case.gradients(("experts",)), 1.0)
    return _sum(case, case.whole_s / case.devices, *sent, rest)


def _table(case: Case) -> Way:
    found = [ln for ln in case.made.lines if ln.kind in TABLES]
    if sum(float(ln.weight_bytes) for ln in found) < 0.5 * float(case.made.weight_bytes):
        return None
    looked_up = sum(float(ln.node.outs[0].nbytes * ln.times) for ln in found) / case.devices
    rest = ("all-reduce", case.gradients(TABLES), 1.0)
    whole, share = case.tables_s
    base = case.share_s - share + whole / case.devices
    return _sum(case, base, ("all-to-all", looked_up, 2.0), rest)


# Way -> (seconds of a step and bytes sent, None where it does not apply; whether a sample is done sooner).
WAYS: dict[str, tuple[Callable[[Case], Way], bool]] = {
    "data": (_data, False),
    "tensor": (_tensor, True),
    "pipeline": (_pipeline, False),
    "sequence": (_sequence, False),
    "wavefront": (_wavefront, True),
    "expert": (_expert, False),
    "table": (_table, False),
}
