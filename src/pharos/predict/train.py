"""Training in a prediction: the kernels of the backward pass and of the update, and what a step holds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pharos.graph.count import Count, Line
from pharos.graph.op import Traffic, Work
from pharos.machines.machine import Machine
from pharos.machines.profile import Profile
from pharos.passes.fuse import Kernel, Launches, Rounds
from pharos.passes.training import Training
from pharos.predict.kernel import KernelTime, kernel_time
from pharos.predict.memory import Memory
from pharos.quantity.dtypes import Precision
from pharos.quantity.evidence import assumed, merge
from pharos.quantity.sizes import Size, is_int

if TYPE_CHECKING:
    from pharos.predict.estimate import Operation

# Error that the backward pass adds where its kernels are taken as fast as those of the forward pass.
BACKWARD_ERROR = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A training step to predict, and how it was asked for."""

    training: Training
    optimizer: str
    checkpointing: str | int


def with_backward(
    operations: "Sequence[Operation]", counts: Count, step: Step, machine: Machine, profile: Profile,
    precision: Precision,
) -> "tuple[Operation, ...]":  # fmt: skip
    """Forward kernels, those of each one's gradients, what runs again, and the update.

    A kernel's gradients are taken to reach the rate of the kernel: their arithmetic takes longer by the ratio
    of operations, their memory by that of bytes, and each gradient is one launch.
    """
    from pharos.predict.estimate import Operation

    given = {v.name for v in counts.graph.inputs}
    made = list(operations)
    for op in reversed(operations):
        found = _gradients(op.kernel, given)
        if found is not None:
            kernel, launches = found
            made.append(Operation(kernel=kernel, time=op.time and _at_rate(op, kernel, launches)))
    again = _ratio(step.training.recomputed, step.training.forward)
    if not (is_int(again) and again == 0):
        made += [
            replace(op, kernel=_named(replace(op.kernel, times=op.kernel.times * again), "{}, run again"))
            for op in operations
        ]
    if operations:
        made.append(_update(operations[0].kernel, step, machine, profile, precision))
    return tuple(made)


def launched_by(forward: Launches, operations: "Sequence[Operation]") -> Launches:
    """The launches of the step: those of the forward pass, then every other kernel as often as it runs."""
    more = range(len(forward.kernels), len(operations))
    steps = tuple(Rounds(count=operations[at].kernel.times, steps=(at,)) for at in more)
    return Launches(tuple(op.kernel for op in operations), (*forward.steps, *steps))


def _gradients(kernel: Kernel, given: set[str]) -> tuple[Kernel, int] | None:
    """The kernel of all gradients of a kernel's operators, and how many launches it stands for."""
    work, moved, launches = Work(), Traffic(), 0
    for line in kernel.lines:
        node = line.node
        wanted = [name not in given and not t.dtype.startswith("int")
                  for name, t in zip(node.inputs, node.ins, strict=True)]  # fmt: skip
        count = sum(wanted) + bool(node.weights)
        if count:
            work = work + node.op.gradient(wanted, *node.io)
            moved = moved + node.op.gradient_traffic(wanted, node)
            # a fused follower's gradient joins its neighbour's, as in the forward pass
            launches += count if line is kernel.lead else 0
    if not launches:
        return None
    return _named(replace(kernel, work=work, traffic=moved), "backward of {}"), launches


def _named(kernel: Kernel, how: str) -> Kernel:
    lead = replace(kernel.lead, name=how.format(kernel.lead.name))
    return replace(kernel, lines=(lead, *kernel.lines[1:]))


def _at_rate(op: "Operation", kernel: Kernel, launches: int) -> KernelTime:
    """Time of gradients at the rate of the kernel that they are of."""
    time = op.time
    assert time is not None
    compute = time.compute_s * _ratio(kernel.work, op.kernel.work)
    moved = op.kernel.traffic.total
    data = time.data_s * (kernel.traffic.total / moved if not (is_int(moved) and moved == 0) else 1)
    before = (time.compute_s**3 + time.data_s**3) ** (1 / 3)
    joined = time.latency_s - time.overhead_s - time.serial_s
    longer = joined * ((compute**3 + data**3) ** (1 / 3) / before) if not _none(before) else 0.0
    evidence = merge((*time.evidence, assumed("gradients at the rate of the forward kernel", BACKWARD_ERROR)))
    overhead, serial = launches * time.overhead_s, time.serial_s * launches
    return KernelTime(
        compute, data, overhead, serial, overhead + serial + longer, kernel.traffic.total,
        (time.error**2 + BACKWARD_ERROR**2) ** 0.5, evidence,
    )  # fmt: skip


def _none(value: Size) -> bool:
    return isinstance(value, (int, float)) and value == 0


def _ratio(after: Work, before: Work) -> Size:
    """Operations over operations: of MACs where there are any, else of the others."""
    if not _none(before.macs):
        return after.macs / before.macs
    other = before.vector_flops + before.transcendentals
    return (after.vector_flops + after.transcendentals) / other if not _none(other) else 1


def _update(
    like: Kernel, step: Step, machine: Machine, profile: Profile, precision: Precision
) -> "Operation":
    """The optimiser as one kernel over all parameters, as fused and foreach optimisers launch it."""
    from pharos.ops.elementwise import Add
    from pharos.predict.estimate import Operation

    line: Line = like.lead
    node = replace(line.node, op=Add(), name="update", weights={}, state={}, buffers={})
    work, moved = step.training.update, step.training.traffic["update"]
    lead = replace(line, node=node, name=f"update ({step.optimizer})", times=1, work=work, traffic=moved,
                   cost_class="elementwise")  # fmt: skip
    kernel = Kernel(lines=(lead,), times=1, work=work, traffic=moved)
    plain = replace(profile, classes={"elementwise": tuple(
        c for c in profile.classes.get("elementwise", ()) if c.form is None)})  # fmt: skip
    usable = plain if plain.classes["elementwise"] else profile
    return Operation(kernel=kernel, time=kernel_time(kernel, machine, usable, precision, "forward"))


def held_by(step: Step, memory: Memory) -> Memory:
    """What the step holds at its peak, beside what the runtime holds."""
    training = step.training
    gradients = training.parts.get("gradients", training.gradients)
    state = training.optimizer + training.master
    rest = training.peak - training.weights - state - gradients
    return replace(
        memory, weights=training.weights, optimizer=state, gradients=gradients, activations_peak=rest,
        rounding=0, unused=0, peak_operator=training.peak_at,
        evidence=(training.evidence, *(e for e in memory.evidence if "storages" not in e.where)),
    )  # fmt: skip
