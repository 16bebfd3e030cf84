"""Step: what a plan's devices send to each other and how long one step takes, for many plans at once."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.machines.machine import Machine
from pharos.plan.collectives import ACROSS, INSIDE, find_collective
from pharos.plan.communication import time_on
from pharos.plan.cut_kernels import Clock, Cut
from pharos.plan.footprint import parameters_of
from pharos.plan.layout import Layouts
from pharos.plan.parts import HEAD, LAYER, STEM, Parts
from pharos.plan.topology import Topology
from pharos.quantity.dtypes import Precision
from pharos.quantity.evidence import Evidence, Kind, merge

# Share of the data-parallel traffic that runs while gradients are still being taken, where it may. Assumed:
# the first bucket has to wait for the last layer's gradients, and links are not always free.
OVERLAP = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What a training stack costs beside kernels and wires.

    Args:
        slow: seconds of kernels over what they take alone. layer_us: host and launches, a layer and pass.
        reduce, sync, pass_on: seconds of tensor-parallel, data-parallel and pipeline traffic over what the
            links' constants say. update: of the optimiser over its bytes at the memory's bandwidth.
        step_us: once a step.
    """

    slow: float = 1.0
    layer_us: float = 0.0
    reduce: float = 1.0
    sync: float = 1.0
    pass_on: float = 1.0
    update: float = 1.5
    step_us: float = 0.0
    error: float = 0.3
    evidence: tuple[Evidence, ...] = ()


@cache
def fitted_stack() -> Stack:
    """The constants of the facts' training runs, `stacks/training.yaml`."""
    data = read_yaml(folder("stacks")["training"][0]).data
    error = float(data["error"])
    found = Evidence(kind=Kind.FITTED, where=f"{data['fitted_on']}, {data['rows']} rows", error=error)
    return Stack(**{k: float(v) for k, v in data["constants"].items()}, error=error, evidence=(found,))


@dataclass(slots=True)
class Sent:
    """One kind of traffic of a plan in a step; columns of plans.

    Args:
        what: which values. name: of the collective. group: devices that take part.
        size: bytes of one call; calls: on the busiest device in a step.
        sent: bytes that leave a device in a step.
        seconds: of all calls; exposed: of those, what nothing hides.
    """

    what: str
    name: str
    group: Any
    size: Any
    calls: Any
    sent: Any
    seconds: Any
    exposed: Any
    error: float
    evidence: tuple[Evidence, ...] = ()


@dataclass(slots=True)
class Steps:
    """One step of many plans.

    Args:
        seconds: of a step. compute, memory, overhead, network, bubble, update: seconds that go to each, and
            add up to it. traffic: what is sent.
        forward, backward: seconds of one micro-batch on one stage, communication inside a layer included.
        micro_batches: on each device of the pipeline in a step. bubble_share: of the step.
        flops: that the model asks for; executed: with what runs again.
        evidence: of all but the traffic, which has its own.
    """

    seconds: Any
    compute: Any
    memory: Any
    overhead: Any
    network: Any
    bubble: Any
    update: Any
    forward: Any
    backward: Any
    micro_batches: Any
    bubble_share: Any
    flops: Any
    executed: Any
    error: Any
    traffic: list[Sent] = field(default_factory=list)
    evidence: tuple[Evidence, ...] = ()


def group_cost(
    name: str, size: Any, span: Any, stride: Any, topology: Topology
) -> tuple[Any, Any, float, Any]:
    """(seconds, bytes that leave a device, error, evidence) of a collective of groups of devices.

    Args:
        span: devices of a group; stride: from one to the next, in the order of nodes.
    """
    how = find_collective(name)
    span, stride, size = np.broadcast_arrays(*(np.asarray(x, float) for x in (span, stride, size)))
    room = np.maximum(topology.per_node // stride, 1)
    inside = np.gcd(span.astype(int), room.astype(int)).astype(float)
    if topology.nodes == 1:
        inside = span.copy()
    algorithm = "hierarchical" if "hierarchical" in how.algorithms else how.algorithms[0]
    if name == "send-recv":
        flat = how.moves("direct", span, size, span)
        near = stride < topology.per_node
        levels = {level: (flat.steps() * there, flat.serial() * there)
                  for level, there in ((INSIDE, near), (ACROSS, ~near))}  # fmt: skip
        sent = flat.sent()
    else:
        moves = how.moves(algorithm, span, size, inside)
        levels = {level: (moves.steps(level), moves.serial(level)) for level in (INSIDE, ACROSS)}
        sent = moves.sent()
    seconds = np.zeros(span.shape)
    squares = 0.0
    evidence: list[Evidence] = []
    for level, (steps, serial) in levels.items():
        steps, serial = np.broadcast_to(steps, span.shape), np.broadcast_to(serial, span.shape)
        busy = (steps > 0) & (serial > 0)
        if not busy.any():
            continue
        link = topology.link(level)
        alone = inside == span
        columns = {
            "bytes": np.maximum(size, 1), "devices": inside if level == INSIDE else span,
            "nodes": np.ones(span.shape) if level == INSIDE else span / inside,
            "steps": steps, "ideal": serial / link.bytes_per_s,
            "switch": np.where(alone, size / link.bytes_per_s, 0.0)
            if link.adds and level == INSIDE and name == "all-reduce" else 0.0,
            "before": 0.0,
        }  # fmt: skip
        took, curve = time_on(link, name, level, columns)
        took = np.where(busy, took, 0.0)
        seconds = seconds + took
        squares += (float(took.mean()) * curve.error) ** 2
        evidence += [curve.evidence, link.evidence]
    return seconds, sent, squares**0.5 / max(float(seconds.mean()), 1e-30), merge(evidence)


def steps(
    parts: Parts, machine: Machine, topology: Topology, layouts: Layouts, batch: int, precision: Precision,
    *, phase: str = "forward", trains: bool = True, optimizer_bytes: float = 30.0, overlap: float = OVERLAP,
    stack: Stack | None = None,
) -> Steps:  # fmt: skip
    """Times one step of every layout.

    The step of a pipeline is that of its slowest stage: m micro-batches forward and backward, and p - 1 more
    to fill and drain it, a 1 / v of them each where v chunks are interleaved.

    Args:
        batch: sequences in a step, over all devices.
        optimizer_bytes: moved for one parameter by its update.
        overlap: share of the data-parallel traffic that the backward pass may hide.
    """
    stack = stack or (fitted_stack() if trains else Stack(slow=1.0, error=0.0))
    lay, count = layouts, len(layouts)
    spread = np.where(lay.sequence > 0, lay.tensor, 1.0)
    # plans repeat the same cuts: each is timed once
    keys = np.stack([lay.tensor, lay.expert, lay.micro_batch, spread, lay.context])
    distinct, back = np.unique(keys, axis=1, return_inverse=True)
    back = np.asarray(back).reshape(-1)
    clock = Clock(parts, machine, precision, phase)
    timed = clock.sections(Cut(*distinct), trains)
    zeros = np.zeros((4, count))

    def of(section: str, backward: bool) -> Any:
        at = timed.get(section)
        return zeros if at is None else (at.backward if backward else at.forward)[:, back]

    mine = np.ceil(parts.layers / lay.pipeline)
    share = mine / parts.layers
    alone = lay.pipeline == 1
    ends = [
        np.where(alone, of(STEM, b) + of(HEAD, b), np.maximum(of(STEM, b), of(HEAD, b)))
        for b in (False, True)
    ]
    layer = of(LAYER, False)
    core = _core(timed, back, count) / np.maximum(layer[0], 1e-30) * layer
    again = zeros
    if trains:
        again = np.select([lay.checkpoint == 0, lay.checkpoint == 1], [0 * layer, core], layer)
    passes = stack.slow * (share * of(LAYER, False) + ends[0])
    returns = stack.slow * (share * (of(LAYER, True) + again) + ends[1]) if trains else zeros
    host = 1e-6 * stack.layer_us * mine
    micro_batches = batch / (lay.data * lay.micro_batch)
    traffic = _Traffic(parts, topology, lay, micro_batches, trains, stack)
    inner = traffic.inside_layers(mine, share)
    network_f, network_b = inner
    forward = passes[0] + host + network_f
    backward = returns[0] + (2 * host + network_b if trains else 0.0)
    p, v = lay.pipeline, lay.chunks
    both = forward + backward
    hops = traffic.between_stages()
    filled = micro_batches * both
    # the stages before the first result and after the last: layers alone, ends are on one stage only
    bubble = (p - 1) / v * both
    exposed, sync = traffic.between_replicas(backward, overlap)
    dense, routed = parameters_of(parts, lay)
    updated = dense / np.where(lay.zero >= 1, lay.data * lay.context, 1) + routed / np.where(
        lay.zero >= 1, np.maximum(lay.data * lay.context / lay.expert, 1), 1
    )
    bandwidth = machine.bandwidth_bytes_per_s.value or 1.0
    update = stack.update * updated * optimizer_bytes / bandwidth if trains else np.zeros(count)
    fixed = 1e-6 * stack.step_us if trains else 0.0
    if not trains:
        # one batch goes through all stages; others fill them meanwhile
        bubble, filled = np.zeros(count), both * p
        host_total = host * p
    else:
        host_total = 3 * host * micro_batches
    seconds = filled + bubble + hops + exposed + update + fixed
    many = micro_batches if trains else p
    kernels = passes + returns
    network = many * (network_f + (network_b if trains else 0.0)) + hops + exposed
    macs = 2.0 * parts.work.macs * batch
    flops = (3.0 if trains else 1.0) * macs
    rerun = np.select([lay.checkpoint == 1, lay.checkpoint == 2],
                      [2.0 * parts.core_work * batch + 0 * seconds, macs + 0 * seconds], 0.0)  # fmt: skip
    whole = {s: t.error for s, t in timed.items()}
    wire = sum([t.exposed * t.error for t in sync], np.zeros(count)) / np.maximum(network, 1e-30)
    share_network = np.clip(network / np.maximum(seconds, 1e-30), 0, 1)
    error = np.sqrt(
        stack.error**2 + ((1 - share_network) * whole.get(LAYER, 0.2)) ** 2 + (share_network * wire) ** 2
    )
    evidence = merge((*stack.evidence, *(e for t in timed.values() for e in t.evidence)))
    return Steps(
        seconds=seconds, compute=many * kernels[1], memory=many * kernels[2],
        overhead=many * kernels[3] + host_total + fixed, network=network, bubble=bubble, update=update,
        forward=forward, backward=backward, micro_batches=micro_batches,
        bubble_share=bubble / np.maximum(filled + bubble, 1e-30), flops=flops,
        executed=flops + (rerun if trains else 0.0), error=error, traffic=sync, evidence=evidence,
    )  # fmt: skip


def _core(timed: Any, back: Any, count: int) -> Any:
    at = timed.get(LAYER)
    return np.zeros(count) if at is None else at.core[back]


class _Traffic:
    """The traffic of plans by kind; devices are counted tensor, context, data, pipeline, innermost first."""

    def __init__(
        self, parts: Parts, topology: Topology, lay: Layouts, micro_batches: Any, trains: bool, stack: Stack
    ) -> None:
        self.parts, self.topology, self.lay, self.stack = parts, topology, lay, stack
        self.m, self.trains = micro_batches, trains
        self.found: list[Sent] = []

    def _add(
        self, what: str, name: str, size: Any, calls: Any, span: Any, stride: Any, factor: float,
        exposed: Any = None,
    ) -> Any:  # fmt: skip
        """Seconds of all calls of one kind in a step; nothing where one device is alone."""
        size = np.where(span > 1, size, 0.0)
        seconds, sent, error, evidence = group_cost(name, size, span, stride, self.topology)
        calls = np.where(span > 1, calls, 0.0)
        total = factor * seconds * calls
        if bool((total > 0).any()):
            shown = total if exposed is None else exposed(total)
            self.found.append(
                Sent(what, name, span, size, calls, sent * calls, total, shown, error, evidence)
            )
        return total

    def inside_layers(self, mine: Any, share: Any) -> tuple[Any, Any]:
        """Seconds of one micro-batch and stage, forward and backward, of what layers wait for."""
        lay, parts = self.lay, self.parts
        per = lay.micro_batch / lay.context
        passes = (2 if self.trains else 1) + (lay.checkpoint == 2) * (1 if self.trains else 0)
        total = np.zeros(len(lay))
        calls = parts.reductions.get(LAYER, 0.0) * share
        if calls.any():
            size = parts.reduced[LAYER] / parts.reductions[LAYER] * per
            for on in (False, True):
                picked = (lay.sequence > 0) == on
                if not picked.any():
                    continue
                span = np.where(picked, lay.tensor, 1.0)
                # cut by tokens, a sum is a reduce-scatter, and an all-gather before the next layer
                for name in ("all-gather", "reduce-scatter") if on else ("all-reduce",):
                    total = total + self._add(
                        "activations of layers", name, size, calls * self.m * passes, span, np.ones(len(lay)),
                        self.stack.reduce,
                    )  # fmt: skip
        if parts.routed and parts.experts:
            size = parts.routed / parts.routings * per / np.where(lay.sequence > 0, lay.tensor, 1.0)
            total = total + self._add(
                "tokens to experts and back", "all-to-all", size, parts.routings * share * self.m * passes,
                lay.expert, lay.tensor * lay.context, self.stack.reduce,
            )  # fmt: skip
        if (lay.context > 1).any():
            # keys and values of the others go round; attention hides what it can, which is left out here
            heads = np.minimum(lay.tensor, max(parts.kv_heads, 1))
            size = parts.keys / parts.layers / heads * lay.micro_batch
            total = total + self._add(
                "keys and values of a sequence", "all-gather", size, mine * self.m * passes, lay.context,
                lay.tensor, self.stack.reduce,
            )  # fmt: skip
        each = total / self.m / passes
        return each, each * (passes - 1)

    def between_stages(self) -> Any:
        """Seconds in a step of activations that go from stage to stage and gradients that come back."""
        lay = self.lay
        spread = np.where(lay.sequence > 0, lay.tensor, 1.0)
        size = self.parts.inputs * lay.micro_batch / lay.context / spread
        ways = 2.0 if self.trains else 1.0
        span = np.where(lay.pipeline > 1, 2.0, 1.0)
        calls = ways * lay.chunks * (self.m if self.trains else 1.0) + ways * (lay.pipeline - 1)
        if not self.trains:
            calls = lay.pipeline - 1
        return self._add(
            "activations between stages", "send-recv", size, calls, span, lay.tensor * lay.context * lay.data,
            self.stack.pass_on,
        )  # fmt: skip

    def between_replicas(self, backward: Any, overlap: float) -> tuple[Any, list[Sent]]:
        """(seconds that nothing hides, all traffic) of gradients and weights among data-parallel devices."""
        lay, parts = self.lay, self.parts
        nothing = np.zeros(len(lay))
        if not self.trains:
            return nothing, self.found
        dense, routed = parameters_of(parts, lay)
        width = parts.bytes_per_weight
        ranks, stride = lay.data * lay.context, lay.tensor
        exposed = nothing
        groups = (
            (dense, ranks, stride, ""),
            (routed, ranks / lay.expert, stride * lay.expert, " of experts"),
        )
        for amount, span, step, whose in groups:
            if not np.any(amount):
                continue
            for stage in (0, 1, 2, 3):
                picked = lay.zero == stage
                if not picked.any():
                    continue
                alone = np.where(picked, span, 1.0)
                size = width * amount
                # a micro-batch's gradients are cut at once from stage 2 on, weights gathered twice in stage 3
                again = self.m if stage >= 2 else 1.0
                hidden = overlap * backward * again

                def shown(total: Any, hidden: Any = hidden) -> Any:
                    return np.maximum(total - hidden, (1 - overlap) * total)

                if stage == 0:
                    kinds = [("gradients", "all-reduce", 1.0)]
                elif stage < 3:
                    kinds = [("gradients", "reduce-scatter", again), ("weights", "all-gather", 1.0)]
                else:
                    kinds = [("gradients", "reduce-scatter", again), ("weights", "all-gather", 2.0 * again)]
                for what, name, calls in kinds:
                    total = self._add(
                        what + whose, name, size, calls + nothing, alone, step, self.stack.sync, shown
                    )
                    exposed = exposed + shown(total)
        return exposed, self.found
