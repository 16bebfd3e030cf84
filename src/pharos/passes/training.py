"""Training: forward, backward and optimiser of one step, and the memory they hold together."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isqrt
from typing import Any

from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.op import Traffic, Work
from pharos.quantity.dtypes import nbytes
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, maximum, prod

CHECKPOINTING = ("none", "layers", "sqrt")


@dataclass(frozen=True, slots=True)
class Optimizer:
    """One update rule.

    Args:
        vector, transcendental: operations a parameter.
        state: numbers it keeps for a parameter of a shape.
    """

    vector: int
    transcendental: int
    state: Callable[[tuple[Size, ...]], Size]


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
    "adam": Optimizer(12, 2, lambda shape: 2 * prod(shape)),
    # Adam, and w shrinks by itself. Loshchilov and Hutter 2017, arXiv:1711.05101
    "adamw": Optimizer(14, 2, lambda shape: 2 * prod(shape)),
    # squares, their row and column sums, the estimate of their product, step. Shazeer and Stern 2018,
    # arXiv:1804.04235, without momentum
    "adafactor": Optimizer(9, 2, _factored),
}


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

    @property
    def work(self) -> Work:
        """Operations of the whole step."""
        return self.forward + self.backward + self.recomputed + self.update


def training(graph: Graph, optimizer: str = "adamw", checkpointing: str | int = "none") -> Training:
    """Costs one step: forward pass, gradients of every parameter, update.

    A gradient is taken where a parameter stands behind it: the graph's own inputs have none. Parameters
    of 16 bits and fewer are updated through fp32 copies, as mixed precision does (Micikevicius et al.
    2017, arXiv:1710.03740); gradients have the parameters' precision.

    Args:
        checkpointing: "none"; "layers": each repeated layer keeps only its input and runs again before
            its gradients; "sqrt": so many layers together as make as many groups; a number: that many.
            Source: Chen et al. 2016, arXiv:1604.06174.

    Raises:
        UnknownName: no such optimiser or way of checkpointing.
        SizeError: nothing repeats that could be checkpointed, or the batch is not a number.
    """
    if optimizer not in OPTIMIZERS:
        raise unknown("optimizer", optimizer, OPTIMIZERS)
    if isinstance(checkpointing, str) and checkpointing not in CHECKPOINTING:
        raise unknown("checkpointing", checkpointing, CHECKPOINTING)
    step = _Step(graph, checkpointing)
    rule = OPTIMIZERS[optimizer]
    weights = gradients = kept = narrow = parameters = 0
    for node in step.nodes:
        weights = weights + node.buffer_bytes
        for key, tensor in node.weights.items():
            if key in node.tied:
                continue
            weights, gradients = weights + tensor.nbytes, gradients + tensor.nbytes
            parameters, kept = parameters + tensor.numel, kept + rule.state(tensor.shape)
            narrow = narrow + (tensor.numel if nbytes(1, tensor.dtype) < 4 else 0)
    master, state = 4 * narrow, 4 * kept
    update = Work(vector_flops=rule.vector * parameters, transcendentals=rule.transcendental * parameters)
    # gradients read, parameters, their copies and the state read and written
    moved = Traffic(weights=gradients + 2 * (weights + master), state=2 * state)
    live, peak_at = step.peak()
    at_update = weights + master + state + gradients
    always = weights + master + state
    both = maximum(always + live, at_update)
    return Training(
        step.forward, step.backward, step.recomputed, update,
        {"forward": step.moved_forward, "backward": step.moved_backward,
         "recomputed": step.moved_again, "update": moved},
        weights, master, gradients, state, step.saved, both,
        peak_at if isinstance(live, int) and always + live > at_update else "update",
    )  # fmt: skip


class _Step:
    """The expanded graph with what each node needs, saves and costs."""

    def __init__(self, graph: Graph, checkpointing: str | int) -> None:
        self.graph = graph.expanded()
        self.nodes = [n for n in self.graph.nodes if isinstance(n, Node)]
        self.forward, self.backward, self.recomputed = Work(), Work(), Work()
        self.moved_forward, self.moved_backward, self.moved_again = Traffic(), Traffic(), Traffic()
        self.sizes: dict[Any, Size] = {v.name: v.tensor.nbytes for v in self.graph.inputs}
        self.root: dict[str, Any] = {name: name for name in self.sizes}
        self.trains: dict[str, bool] = dict.fromkeys(self.sizes, False)
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
        view = op.class_of(*node.io) == "view"
        for name, tensor in zip(node.outputs, node.outs, strict=True):
            self.trains[name] = trains and not tensor.dtype.startswith("int")
            if view and node.inputs:
                self.root[name] = self.root[node.inputs[0]]
                continue
            self.root[name] = name
            # a stored parameter used as a value already counts among the weights
            self.sizes[name] = 0 if view else tensor.nbytes
        keeps: set[Any] = set()
        if trains:
            self.backward = self.backward + op.gradient(wanted, *node.io)
            self.moved_backward = self.moved_backward + op.gradient_traffic(wanted, node)
            kept = op.saved(*node.io)
            names = [node.inputs[j] for j in kept.inputs] + [node.outputs[j] for j in kept.outputs]
            keeps = {self.root[name] for name in names}
            for key, tensor in kept.extra.items():
                self.sizes[i, key] = tensor.nbytes
                keeps.add((i, key))
        self.keeps.append(keeps)

    def _segments(self, graph: Graph, checkpointing: str | int) -> list[list[int]]:
        """Nodes that run again together, in order; none without checkpointing."""
        if checkpointing == "none":
            return []
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

    def peak(self) -> tuple[Size, str]:
        """Most bytes of activations and gradients live at one moment, and the operator there.

        The clock runs forward over the nodes and back over them; a segment runs again just before its
        last node's gradients. What nothing needs any more is free.
        """
        count = len(self.nodes)
        back = [2 * count - 1 - i for i in range(count)]
        first: dict[Any, int] = {v.name: 0 for v in self.graph.inputs}
        last: dict[Any, int] = {v.name: 2 * count for v in self.graph.inputs}
        spans: list[tuple[int, int, Size]] = []
        segment_of = {i: segment for segment in self.segments for i in segment}
        for i, node in enumerate(self.nodes):
            for name in node.outputs:
                root = self.root[name]
                first.setdefault(root, i)
                last[root] = max(last.get(root, i), i)
            for name in node.inputs:
                last[self.root[name]] = max(last[self.root[name]], i)
            for root in self.keeps[i]:
                if i in segment_of:
                    begin = back[segment_of[i][-1]]
                    if isinstance(root, tuple) or first.get(root, -1) in segment_of[i]:
                        spans.append((begin, back[i], self.sizes[root]))
                        continue
                first.setdefault(root, i)
                last[root] = max(last.get(root, i), back[i])
        for segment in self.segments:
            for root in self._crossing(segment):
                last[root] = max(last[root], back[segment[0]])
        for value in self.graph.outputs:
            root = self.root[value.name]
            last[root] = max(last[root], count)
        spans += [(first[root], last[root], self.sizes[root]) for root in first]
        spans += self._gradients(back)
        changes: list[Size] = [0] * (2 * count + 2)
        for begin, end, size in spans:
            changes[begin] = changes[begin] + size
            changes[end + 1] = changes[end + 1] - size
        now: Size = 0
        live: list[Size] = []
        for t in range(2 * count):
            now = now + changes[t]
            live.append(now)
        best = maximum(*live) if len(live) > 1 else live[0]
        if not isinstance(best, int):
            return best, ""
        at = live.index(best)
        return best, self.nodes[
            at
        ].name if at < count else f"backward of {self.nodes[2 * count - 1 - at].name}"

    def _gradients(self, back: list[int]) -> list[tuple[int, int, Size]]:
        """From the first reader's gradients to the producer's own; a parameter's until the update."""
        count, spans = len(self.nodes), []
        begins: dict[Any, int] = {self.root[v.name]: count for v in self.graph.outputs}
        made: dict[Any, int] = {}
        for i, node in enumerate(self.nodes):
            for name in node.outputs:
                made.setdefault(self.root[name], i)
            for name, want in zip(node.inputs, self.wanted[i], strict=True):
                if want:
                    root = self.root[name]
                    begins[root] = min(begins.get(root, back[i]), back[i])
            own = sum(t.nbytes for key, t in node.weights.items() if key not in node.tied)
            if node.weights:
                spans.append((back[i], 2 * count, own))
        for root, begin in begins.items():
            if root in made:
                spans.append((begin, back[made[root]], self.sizes[root]))
        return spans
