"""Training: forward, backward and optimiser of one step, and the memory they hold together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, isqrt
from typing import Any

from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.op import Traffic, Work
from pharos.graph.tensor import Tensor
from pharos.passes.eager import Scopes
from pharos.passes.held import Held, Storage
from pharos.quantity.dtypes import nbytes
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.evidence import Evidence, counted
from pharos.quantity.sizes import Size, maximum, prod, same

CHECKPOINTING = ("none", "layers", "sqrt")
LOSSES = ("sum", "cross_entropy")


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One update rule.

    Args:
        vector, transcendental: operations a parameter.
        state: numbers it keeps for a parameter of a shape.
        scratch: copies of a parameter's size made while it is updated; PyTorch's loop over parameters
            makes them of one at a time.
        lingers: copies of the parameter before it that are still there meanwhile.
    """

    vector: int
    transcendental: int
    state: Callable[[tuple[Size, ...]], Size]
    scratch: int = 0
    lingers: int = 0


def _factored(shape: tuple[Size, ...]) -> Size:
    """Row and column sums of a matrix's squares; a vector's squares."""
    return prod(shape[:-1]) + prod((*shape[:-2], shape[-1])) if len(shape) >= 2 else prod(shape)


# Operations of the update as written in each paper, one for each product, sum and comparison.
OPTIMIZERS = {
    # w -= lr g
    "sgd": Optimizer(2, 0, lambda shape: 0),
    # m = mu m + g; w -= lr m
    "momentum": Optimizer(4, 0, prod),
    # both moments 3 and 4, correction 2, root, division, eps, step 2. Kingma and Ba 2014, arXiv:1412.6980
    "adam": Optimizer(12, 2, lambda shape: 2 * prod(shape), 2, 1),
    # Adam, and w shrinks by itself. Loshchilov and Hutter 2017, arXiv:1711.05101
    "adamw": Optimizer(14, 2, lambda shape: 2 * prod(shape), 2, 1),
    # squares, their row and column sums, the estimate of their product, step. Shazeer and Stern 2018,
    # arXiv:1804.04235, without momentum
    "adafactor": Optimizer(9, 2, _factored, 2),
}


# How the memory of a step is known that no run was watched for.
BY_RULE = counted("what autograd saves by the rules of the graph's operators")


@dataclass(frozen=True, slots=True)
class Training:
    """One training step of a graph under a batch.

    Args:
        forward, backward, recomputed, update: operations; `recomputed` is what checkpointing runs again.
        traffic: bytes of each of the four, by the same names.
        weights, master: parameters and buffers as computed with, and fp32 copies of narrower ones.
        gradients, optimizer: a gradient a parameter; what the optimiser keeps.
        saved: activations kept for the backward pass, each stored once, inputs of the graph included.
        peak: the most that is live at once, over forward, backward and update.
        peak_at: the operator it stands at, "backward of X", or "update".
        parts: bytes by kind at the peak.
        evidence: how the peak is known.
        held: everything that is held, step by step.
    """

    forward: Work
    backward: Work
    recomputed: Work
    update: Work
    traffic: dict[str, Traffic]
    weights: Size
    master: Size
    gradients: Size
    optimizer: Size
    saved: Size
    peak: Size
    peak_at: str
    parts: dict[str, Size] = field(default_factory=dict)
    evidence: Evidence = BY_RULE
    held: Held | None = field(default=None, repr=False, compare=False)

    @property
    def work(self) -> Work:
        """Operations of the whole step."""
        return self.forward + self.backward + self.recomputed + self.update


def training(
    graph: Graph, optimizer: str = "adamw", checkpointing: str | int = "none", loss: str = "sum",
    set_to_none: bool = True,
) -> Training:  # fmt: skip
    """Costs one step: forward pass, gradients of every parameter, update.

    A gradient is taken where a parameter stands behind it: the graph's own inputs have none. Parameters
    of 16 bits and fewer are updated through fp32 copies, as mixed precision does (Micikevicius et al.
    2017, arXiv:1710.03740); gradients have the parameters' precision.

    Args:
        checkpointing: "none"; "layers": each of several numbered layers keeps only its input and runs again
            before its gradients; "sqrt": so many layers together as make as many groups; a number: that many.
            Source: Chen et al. 2016, arXiv:1604.06174.
        loss: "sum" of the outputs, or "cross_entropy" over the last dimension of the first, which keeps
            its logarithms and takes two more of its size in the backward pass.
        set_to_none: ``zero_grad`` drops gradients before each step; else they are there all through, and
            each new one is added to them.

    Raises:
        UnknownName: no such optimiser, loss or way of checkpointing.
        SizeError: nothing repeats that could be checkpointed, or the batch is not a number.
    """
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if isinstance(checkpointing, str) and checkpointing not in CHECKPOINTING:
        raise unknown("checkpointing", checkpointing, CHECKPOINTING)
    if loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    step = _Step(graph, checkpointing, loss, set_to_none)
    rule = OPTIMIZERS[optimizer]
    weights = gradients = kept = narrow = parameters = 0
    scratch: list[Size] = [0]
    before: Size = 0
    for node in step.nodes:
        weights = weights + node.buffer_bytes
        for key, tensor in node.weights.items():
            if key in node.tied:
                continue
            weights, gradients = weights + tensor.nbytes, gradients + tensor.nbytes
            parameters, kept = parameters + tensor.numel, kept + rule.state(tensor.shape)
            narrow = narrow + (tensor.numel if nbytes(1, tensor.dtype) < 4 else 0)
            scratch.append(4 * (rule.scratch * tensor.numel + rule.lingers * before))
            before = tensor.numel
    master, state = 4 * narrow, 4 * kept
    update = Work(vector_flops=rule.vector * parameters, transcendentals=rule.transcendental * parameters)
    # gradients read, parameters, their copies and the state read and written
    moved = Traffic(weights=gradients + 2 * (weights + master), state=2 * state)
    # the optimiser sees gradients as wide as what it updates
    wide = 4 * narrow + maximum(*scratch)
    held = step.held({"weights": weights, "fp32 copies": master, "optimizer": state}, wide)
    return Training(
        step.forward, step.backward, step.recomputed, update,
        {"forward": step.moved_forward, "backward": step.moved_backward,
         "recomputed": step.moved_again, "update": moved},
        weights, master, gradients, state, step.saved, held.peak, held.peak_step, held.parts(), held=held,
    )  # fmt: skip


def as_seen(step: Training, held: Held) -> Training:
    """The step with the memory that was seen of it in a run."""
    live = held.live
    ends = next((i for i, at in enumerate(held.steps) if at.startswith("backward of ")), len(live))
    parts = held.parts()
    return replace(
        step, weights=held.resident.get("weights", 0) + held.resident.get("buffers", 0),
        master=held.resident.get("fp32 copies", 0), optimizer=held.resident.get("optimizer", 0),
        gradients=max(_of_kind(held, "gradients"), default=0), saved=live[max(ends - 1, 0)],
        peak=held.peak, peak_at=held.peak_step, parts=parts,
        evidence=counted(f"storages that a step of eager PyTorch holds, seen call by call on {held.device}"),
        held=held,
    )  # fmt: skip


def _of_kind(held: Held, kind: str) -> tuple[Size, ...]:
    """Bytes of one kind after each step."""
    return replace(held, storages=tuple(s for s in held.storages if s.kind == kind), sums={}).live


@dataclass(frozen=True, slots=True)
class _Clock:
    """When each node runs, runs again and has its gradients taken.

    Args:
        steps: names in order; the first ones are the nodes', then "loss", its gradients and theirs, "update".
        back, again: number of the step of each node.
        loss, update: theirs.
    """

    steps: tuple[str, ...]
    back: dict[int, int]
    again: dict[int, int]
    loss: int
    update: int

    @classmethod
    def of(cls, nodes: Sequence[Node], rerun: Sequence[Sequence[int]]) -> "_Clock":
        """Forward over the nodes and back, with what runs again before the gradients of its last node."""
        steps = [node.name for node in nodes]
        steps += ["loss", "backward of loss"]
        back: dict[int, int] = {}
        again: dict[int, int] = {}
        before = {segment[-1]: segment for segment in rerun}
        for i in reversed(range(len(nodes))):
            for j in before.get(i, ()):
                again[j] = len(steps)
                steps.append(f"{nodes[j].name}, run again")
            back[i] = len(steps)
            steps.append(f"backward of {nodes[i].name}")
        return cls((*steps, "update"), back, again, len(nodes), len(steps))


class _Step:
    """The expanded graph with what each node needs, saves and costs."""

    def __init__(self, graph: Graph, checkpointing: str | int, loss: str, set_to_none: bool) -> None:
        self.graph = graph.expanded()
        self.nodes = [n for n in self.graph.nodes if isinstance(n, Node)]
        self.forward, self.backward, self.recomputed = Work(), Work(), Work()
        self.moved_forward, self.moved_backward, self.moved_again = Traffic(), Traffic(), Traffic()
        self.loss, self.set_to_none = loss, set_to_none
        self.scopes = Scopes(self.graph, self.nodes)
        self.sizes: dict[Any, Size] = {v.name: v.tensor.nbytes for v in self.graph.inputs}
        self.sizes |= self.scopes.sizes
        self.root: dict[str, Any] = {name: at or name for name, at in self.scopes.root.items()}
        for node in self.nodes:
            # a view of what the caller holds is the caller's
            for name in node.outputs:
                if self.scopes.root[name] is None and node.inputs:
                    self.root[name] = self.root[node.inputs[0]]
        self.trains: dict[str, bool] = dict.fromkeys((v.name for v in self.graph.inputs), False)
        self.wanted: list[list[bool]] = []
        self.keeps: list[set[Any]] = []
        for i, node in enumerate(self.nodes):
            self._follow(i, node)
        self.segments = self._segments(graph, checkpointing)
        for i in {i for segment in self.segments for i in segment}:
            node = self.nodes[i]
            self.recomputed = self.recomputed + node.op.training_work(*node.io)
            self.moved_again = self.moved_again + node.op.traffic(node)
        self.saved = sum((self.sizes[root] for root in self._kept_through()), start=0)

    def _follow(self, i: int, node: Node) -> None:
        op, wanted = node.op, [self.trains[name] for name in node.inputs]
        trains = any(wanted) or bool(node.weights)
        self.wanted.append(wanted)
        self.forward = self.forward + op.training_work(*node.io)
        self.moved_forward = self.moved_forward + op.traffic(node)
        for name, tensor in zip(node.outputs, node.outs, strict=True):
            self.trains[name] = trains and not tensor.dtype.startswith("int")
        keeps: set[Any] = set()
        if trains:
            self.backward = self.backward + op.gradient(wanted, *node.io)
            self.moved_backward = self.moved_backward + op.gradient_traffic(wanted, node)
            kept = op.saved(*node.io)
            over = i in self.scopes.over
            names = [node.inputs[j] for j in (*kept.inputs, *kept.held) if not over] + [
                node.outputs[j] for j in kept.outputs
            ]
            keeps = {self.root[name] for name in names}
            for j in kept.inputs if over else ():
                # what is written over is copied first
                self.sizes[i, f"input {j}"] = node.ins[j].nbytes
                keeps.add((i, f"input {j}"))
            for key, tensor in kept.extra.items():
                self.sizes[i, key] = tensor.nbytes
                keeps.add((i, key))
        self.keeps.append(keeps)

    def _segments(self, graph: Graph, checkpointing: str | int) -> list[list[int]]:
        """Nodes that run again together, in order; none without checkpointing."""
        if checkpointing == "none":
            return []
        if checkpointing == "layers":
            layers = numbered_layers([node.name for node in self.nodes])
            if layers:
                return layers
        repeats = [n for n in graph.nodes if isinstance(n, Repeat)]
        if not repeats:
            raise SizeError(f"{graph.name} repeats no layer that could be checkpointed")
        found: dict[tuple[str, int], list[int]] = {}
        for i, node in enumerate(self.nodes):
            for repeat in repeats:
                prefix = f"{repeat.name}."
                if not node.name.startswith(prefix):
                    continue
                number = node.name[len(prefix) :].partition(".")[0]
                if not number.isdigit() or not 0 <= int(number) - repeat.start < repeat.count * repeat.period:
                    continue
                group = checkpointing if isinstance(checkpointing, int) else 1
                if checkpointing == "sqrt":
                    group = ceil(repeat.count / max(isqrt(repeat.count), 1))
                layer = (int(number) - repeat.start) // repeat.period
                found.setdefault((repeat.name, layer // max(group, 1)), []).append(i)
        return list(found.values())

    def _crossing(self, segment: list[int]) -> set[Any]:
        """What a segment reads from outside, which it keeps to run again."""
        inside = {self.root[name] for i in segment for name in self.nodes[i].outputs}
        read = {self.root[name] for i in segment for name in self.nodes[i].inputs}
        return read - inside

    def _kept_through(self) -> set[Any]:
        """What is kept from the forward pass to the backward pass."""
        again = {i for segment in self.segments for i in segment}
        kept = {root for i, roots in enumerate(self.keeps) if i not in again for root in roots}
        for segment in self.segments:
            kept |= self._crossing(segment)
        return kept

    def held(self, resident: dict[str, Size], at_update: Size) -> Held:
        """What the step holds: forward, loss, back over the nodes and segments that run again, update.

        What nothing needs any more is free; the caller holds inputs and outputs.

        Args:
            resident: bytes of what is there all through.
            at_update: bytes of what the update makes beside it.
        """
        clock = self.clock = _Clock.of(self.nodes, [self._rerun(segment) for segment in self.segments])
        first: dict[Any, int] = {v.name: 0 for v in self.graph.inputs} | self.scopes.first
        last: dict[Any, int] = {v.name: clock.update for v in self.graph.inputs} | self.scopes.last
        storages: list[Storage] = []
        segment_of = {i: set(segment) for segment in self.segments for i in segment}
        again: dict[Any, int] = {}
        for i in range(len(self.nodes)):
            for root in self.keeps[i]:
                inside = segment_of.get(i, set())
                if i in inside and (isinstance(root, tuple) or first.get(root, -1) in inside):
                    again[root] = max(again.get(root, 0), clock.back[i])
                    continue
                first.setdefault(root, i)
                last[root] = max(last.get(root, i), clock.back[i])
        for segment in self.segments:
            storages += self._run_again(segment, again)
            for root in self._crossing(segment):
                last[root] = max(last[root], clock.back[segment[0]])
        for value in self.graph.outputs:
            last[self.root[value.name]] = clock.update
        given = {v.name for v in self.graph.inputs}
        for root, at in first.items():
            kind, name = ("input", root) if root in given else ("activation", clock.steps[at])
            storages.append(Storage(kind, name, self.sizes[root], at, last[root]))
        storages += self._parameters() + self._gradients()
        storages.append(Storage("temporary", "update", at_update, clock.update, clock.update))
        return Held("any", resident, clock.steps, tuple(storages))

    def _rerun(self, segment: list[int]) -> list[int]:
        """The nodes of a segment that run again: up to the last that keeps anything."""
        ends = max((i for i in segment if self.keeps[i]), default=segment[0])
        return [i for i in segment if i <= ends]

    def _run_again(self, segment: list[int], kept: dict[Any, int]) -> list[Storage]:
        """What a segment makes anew: kept until its gradients, or until its last reader has run again."""
        clock, nodes = self.clock, self._rerun(segment)
        made: list[Storage] = []
        for i in nodes:
            here: set[Any] = {root for root in self.keeps[i] if isinstance(root, tuple)}
            outputs = {self.root[name] for name in self.nodes[i].outputs}
            here |= {root for root in outputs if self.scopes.first.get(root) == i}
            for root in here:
                reader = max([j for j in nodes if j <= self.scopes.last.get(root, i)], default=i)
                ends = max(kept.get(root, 0), clock.again[reader])
                made.append(
                    Storage("activation", clock.steps[clock.again[i]], self.sizes[root], clock.again[i], ends)
                )
        return made

    def _parameters(self) -> list[Storage]:
        """Gradients of parameters until the update; those of shared ones are added up one by one."""
        made, begun, update = [], set(), self.clock.update
        for i in reversed(range(len(self.nodes))):
            node, at = self.nodes[i], self.clock.back[i]
            for key, tensor in node.weights.items():
                name, step = node.tied.get(key) or node.parameter(key), self.clock.steps[at]
                if not self.set_to_none and name not in begun:
                    made.append(Storage("gradients", step, tensor.nbytes, 0, update))
                    begun.add(name)
                if name in begun:
                    made.append(Storage("temporary", step, tensor.nbytes, at, at))
                    continue
                # the update has a wide copy of a narrow gradient in its place
                ends = update - 1 if nbytes(1, tensor.dtype) < 4 else update
                made.append(Storage("gradients", step, tensor.nbytes, at, ends))
                begun.add(name)
        return made

    def _gradients(self) -> list[Storage]:
        """Gradients of activations, as autograd makes, shares, adds and drops them.

        A sum passes its gradient on as it is, a view passes on a view of it. A second gradient of the same
        value is added to the first in a third tensor.
        """
        clock, spans = self.clock, []
        made: list[tuple[int, Size]] = []
        users: list[int] = []
        held: dict[str, int] = {}

        def new(at: int, size: Size) -> int:
            made.append((at, size))
            users.append(0)
            return len(made) - 1

        def drop(number: int, at: int) -> None:
            users[number] -= 1
            if not users[number]:
                begins, size = made[number]
                spans.append(Storage("temporary", clock.steps[begins], size, begins, at))

        end = clock.loss + 1
        for value in self.graph.outputs[: 1 if self.loss == "cross_entropy" else None]:
            size = value.tensor.nbytes
            if self.loss == "cross_entropy":
                # the logarithms, kept from the forward pass, and the gradient with respect to them
                spans.append(Storage("activation", "loss", size, clock.loss, end))
                spans.append(Storage("temporary", clock.steps[end], size, end, end))
                held[value.name] = new(end, size)
            else:
                # the gradient of a sum is one number, seen as many
                held[value.name] = new(end, 0)
            users[held[value.name]] += 1
        for i in reversed(range(len(self.nodes))):
            node, at = self.nodes[i], clock.back[i]
            arrived = [held.pop(name, None) for name in node.outputs]
            if all(a is None for a in arrived):
                continue
            mine = next(a for a in arrived if a is not None)
            for name, tensor, want in zip(node.inputs, node.ins, self.wanted[i], strict=True):
                if not want:
                    continue
                number = mine if _passes_on(node, tensor) else new(at, tensor.nbytes)
                if name in held:
                    before, number_of_sum = held[name], new(at, tensor.nbytes)
                    users[number] += 1
                    drop(number, at)
                    drop(before, at)
                    number = number_of_sum
                held[name] = number
                users[number] += 1
            for a in arrived:
                if a is not None:
                    drop(a, at)
        for number in held.values():
            drop(number, clock.update - 1)
        return spans


def _passes_on(node: Node, tensor: Tensor) -> bool:
    """Whether a node's input has the gradient of its output, or a view of it, for its own."""
    if node.op.kind == "concat":
        return True
    shares = node.op.kind == "add" or node.op.class_of(*node.io) == "view"
    if len(node.outs) != 1 or not shares:
        return False
    return same(node.outs[0].numel, tensor.numel)


def numbered_layers(names: Sequence[str]) -> list[list[int]]:
    """Positions of the names that lie in each of several numbered siblings, the outermost ones.

    A number right after a number is a layer of a stage, as in ``features.1.0.attn``.
    Siblings of fewer than four operators are stems, heads and lists of single operators, not layers.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for i, name in enumerate(names):
        parts = name.split(".")
        at = next(
            (k for k, part in enumerate(parts[:-1]) if part.isdigit() and not parts[k + 1].isdigit()), None
        )
        if at is not None:
            found.setdefault(".".join(parts[:at]), {}).setdefault(parts[at], []).append(i)
    layers = []
    for siblings in found.values():
        whole = [inside for inside in siblings.values() if len(inside) > 3]
        if len(whole) > 1:
            layers += whole
    return sorted(layers)
