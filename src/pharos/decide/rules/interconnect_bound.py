"""Sharding bound by the interconnect: devices that wait for each other's results longer than they compute."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pharos.decide.advice import Case, Cost, Finding, Gain, fact, rule, severity
from pharos.quantity.errors import PharosError

if TYPE_CHECKING:
    from pharos.plan.parallel import Job, Plan
    from pharos.plan.topology import Topology

# Share of a step in the network from which the rule speaks. A choice.
FROM = 0.2


@rule(
    "interconnect-bound-sharding",
    when="every layer divided among the stated devices (tensor parallel) leaves 20% of a step to the network",
    costs="seconds of a step in which devices wait for the network",
    remedy="the layout that predicts fastest of all legal ones on the same devices",
    lab="tensor-parallel",
    source="Shoeybi et al. 2019, arXiv:1909.08053; collectives fitted by link",
    needs=("devices",),
    of_speed=True,
)
def find(case: Case) -> Iterator[Finding]:
    """Costs the plan that divides every layer, and searches for a better one."""
    # plans are loaded only where several devices are stated
    from pharos.plan.layout import Layout
    from pharos.plan.parallel import TRAIN, Job, plan
    from pharos.plan.topology import topology_of

    devices = case.stated.devices
    if devices < 2 or case.graph.meta.get("max_context") is None:
        return
    phase = TRAIN if case.stated.trains or case.workload.phase == "forward" else case.workload.phase
    job = Job(model=case.model, phase=phase, batch=case.workload.batch, context=case.workload.context,
              precision=str(case.workload.precision))  # fmt: skip
    try:
        topology = topology_of(case.machine, devices)
        layout = Layout(tensor=devices, micro_batch=1 if phase == TRAIN else case.workload.batch)
        divided = plan(job, case.machine, topology, layout)
    except PharosError:
        # heads that cannot be divided, or a machine without a link: nothing to say
        return
    step = float(divided.step.value or 0.0)
    share = divided.shares["network"] / step if step else 0.0
    if share < FROM:
        return
    better = _better(job, case, topology)
    link = topology.link("inside")
    sent = sum(t.sent_bytes for t in divided.traffic)
    gain, remedy = None, "fewer devices a layer, or a faster link"
    if better is not None and better.tokens_per_s > 1.02 * divided.tokens_per_s:
        gain = Gain(of="tokens/s", before=divided.tokens_per_s, after=better.tokens_per_s, unit="1/s",
                    known=better.evidence, better="more")  # fmt: skip
        remedy = f"{better.layout} on the same devices"
    yield Finding(
        severity=severity(share),
        evidence=(
            fact("devices that share every layer", devices),
            fact("bytes that leave a device in a step", sent, "B"),
            fact("link of a device, one direction", link.bytes_per_s, "B/s", link.evidence),
            fact("time in the network", divided.shares["network"], "s", divided.evidence[0]),
            fact("time in arithmetic", divided.shares["compute"], "s", divided.evidence[0]),
        ),
        consequence=Cost(what="of a step goes to the network", value=divided.shares["network"], unit="s",
                         share=share),
        remedy=remedy,
        gain=gain,
    )  # fmt: skip


def _better(job: "Job", case: Case, topology: "Topology") -> "Plan | None":
    from pharos.plan.parallel import search

    try:
        found = search(job, case.machine, topology, keep=0)
    except PharosError:
        return None
    return found if found.fits is not False else None
