"""Unique: each distinct kernel of a graph timed once, and the whole composed of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import Any

from pharos.graph.count import Count
from pharos.graph.graph import Graph, Node, Value
from pharos.measure.devices import Cpu, Device, sample
from pharos.measure.runs import Pieces, runnable
from pharos.measure.timing import interleaved
from pharos.passes.fuse import Kernel, kernels
from pharos.quantity.errors import InputError

# Rounds of the distinct kernels, at least and at most.
LEAST, MOST = 7, 60
# Weights of so many times the last cache leave nothing of each other in it.
PUSHED = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """Seconds of a runtime beside its kernels.

    Args:
        call_s, kernel_s, view_s: of a call, each kernel and each view; host_s: that the host needs to send a
            kernel off, which binds where the device is faster; known: how they are known.
    """

    call_s: float = 0.0
    kernel_s: float = 0.0
    view_s: float = 0.0
    host_s: float = 0.0
    known: str = ""

    @classmethod
    def of(cls, host: Mapping[str, Any], known: str) -> "Between | None":
        """From a calibration's figures of a runtime; None where it has none."""
        names = ("call_s", "kernel_s", "view_s", "host_s")
        given = {k: float(host[k]) for k in names if host.get(k) is not None}
        return cls(**given, known=known) if given else None

    def around(self, busy_s: float, launches: int, views: int) -> float:
        """Seconds beside `busy_s` of kernels."""
        waiting = max(self.host_s * launches - busy_s, 0.0)
        return waiting + self.call_s + self.kernel_s * launches + self.view_s * views


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A whole put together.

    Args:
        kernels_s: of all kernels; between_s: beside them, None where nobody knows it.
        distinct, launches, views: numbers of them.
        pieces: seconds of one run by the name of a kernel's leading operator, folded as counted.
    """

    kernels_s: float
    between_s: float | None
    known: str
    distinct: int
    launches: int
    views: int
    pieces: dict[str, float]
    spreads: dict[str, float]

    @property
    def total_s(self) -> float:
        """Kernels and what is between them, as far as that is known."""
        return self.kernels_s + (self.between_s or 0.0)


def compose(
    graph: Graph, counted: Count, runtime: str, threads: int, seconds: float, *, device: Device | None = None,
    between: Between | None = None,
) -> Composed:  # fmt: skip
    """Times every distinct kernel of a graph, all of them in turn, and adds up what each of its runs takes.

    They take turns in one run, with copies of those that run often, so that weights are as cold as among
    other layers; what a kernel reads of activations is written just before, as the layer before it would
    have.

    Args:
        seconds: to spend; between: what runs beside kernels, measured by the difference in eager PyTorch if
            left out.

    Raises:
        InputError: nothing in the graph runs, or a runtime that does not tell operators apart.
    """
    device = device or Cpu()
    if runtime == "compiled":
        raise InputError("compiled kernels are not told apart", where="--unique", hint="--runtime eager")
    found = kernels(counted, fused=runtime == "onnxruntime")
    groups: dict[Any, list[Kernel]] = {}
    for kernel in found:
        groups.setdefault(_alike(kernel), []).append(kernel)
    if not groups:
        raise InputError("has no kernels to time", where=graph.name)
    copies = _copies(groups, device)
    firsts = [alike[0] for key, alike in groups.items() for _ in range(copies[key])]
    one, names = together(firsts, graph, keep=runtime == "onnxruntime")
    with runnable(one, runtime, threads, device=device, fresh=device.kind == "cpu") as made:
        assert made.samples is not None
        made.call()
        once = max(sample(device, made.call, 1), 1e-6)
        seen = made.samples(max(LEAST, min(int(seconds / (2 * once)), MOST)))
        # in the whole, neighbours mostly share a layout: copies into it and out are of being apart
        taken = seen.bare or seen
        at = taken.at(0.5)
        if between is None and runtime == "eager" and device.kind == "cpu":
            between = _difference(made, at, len(firsts), seconds)
    each = iter([sum(at.get(n, 0.0) for n in group) for group in names])
    spreads = iter([max((spread_of(taken, n) for n in group), default=0.0) for group in names])
    pieces: dict[str, float] = {}
    wide: dict[str, float] = {}
    for key, alike in groups.items():
        once = sum(islice(each, copies[key])) / copies[key]
        spread = max(islice(spreads, copies[key]))
        pieces |= {kernel.name: once for kernel in alike}
        wide |= {kernel.name: spread for kernel in alike}
    launches = sum(int(k.times) for k in found)
    views = sum(int(line.times) for line in counted.lines if line.cost_class == "view")
    busy = sum(pieces[k.name] * int(k.times) for k in found)
    return Composed(
        kernels_s=busy, between_s=None if between is None else between.around(busy, launches, views),
        known="" if between is None else between.known, distinct=len(groups), launches=launches, views=views,
        pieces=pieces, spreads=wide,
    )  # fmt: skip


def _copies(groups: Mapping[Any, list[Kernel]], device: Device) -> dict[Any, int]:
    """How many of each distinct kernel, with weights of their own, push each other out of the last cache as
    far as those of the whole graph do."""

    def weighs(kernel: Kernel) -> float:
        return float(kernel.traffic.weights)

    times = {key: sum(int(k.times) for k in alike) for key, alike in groups.items()}
    distinct = sum(weighs(alike[0]) for alike in groups.values())
    whole = sum(weighs(alike[0]) * times[key] for key, alike in groups.items())
    wanted = min(whole, PUSHED * device.cache_bytes())
    more = max(1, ceil(wanted / distinct)) if distinct else 1
    return {key: min(more, times[key]) if weighs(alike[0]) else 1 for key, alike in groups.items()}


def spread_of(taken: Pieces, name: str) -> float:
    """Half the way from the 10th to the 90th percentile of an operator's samples, a share of the middle."""
    ordered = sorted(taken.get(name, ()))
    if len(ordered) < 3:
        return 0.0
    low, mid, high = (ordered[min(int(q * len(ordered)), len(ordered) - 1)] for q in (0.1, 0.5, 0.9))
    return (high - low) / 2 / mid if mid else 0.0


def together(found: list[Kernel], graph: Graph, *, keep: bool) -> tuple[Graph, list[list[str]]]:
    """(a graph of kernels side by side, the names of each one's operators in it).

    Args:
        keep: every kernel's results are results of the graph, for runtimes that leave out what nobody reads.
    """
    inputs: list[Value] = []
    nodes: list[Node] = []
    outputs: list[Value] = []
    names: list[list[str]] = []
    for i, kernel in enumerate(found):
        called: dict[str, str] = {}
        ends: dict[str, Value] = {}
        own: list[str] = []
        for j, line in enumerate(kernel.lines):
            node = line.node
            for name, tensor in zip(node.inputs, node.ins, strict=True):
                if name not in called:
                    called[name] = f"in{len(inputs)}"
                    inputs.append(Value(called[name], tensor))
                ends.pop(name, None)
            given = tuple([called[n] for n in node.inputs])
            results = tuple([f"out{i}_{j}_{n}" for n in range(len(node.outputs))])
            called |= dict(zip(node.outputs, results, strict=True))
            ends |= {n: Value(r, t) for n, r, t in zip(node.outputs, results, node.outs, strict=True)}
            # ONNX Runtime names what it lays out anew after the results
            own += [f"k{i}_{j}", *results]
            nodes.append(replace(node, name=f"k{i}_{j}", inputs=given, outputs=results, tied={}, home=None))
        names.append(own)
        outputs += ends.values()
    return Graph(graph.name, tuple(inputs), tuple(nodes), tuple(outputs if keep else outputs[-1:]),
                 graph.precision, {}), names  # fmt: skip


def _alike(kernel: Kernel) -> Any:
    """What kernels that take the same time share."""
    return tuple([(line.node.op, line.node.ins) for line in kernel.lines])


def _difference(made: Any, at: Mapping[str, float], count: int, seconds: float) -> Between:
    """What a call takes beyond its kernels, by the call as a whole."""
    whole = interleaved({"it": made.call}, seconds=seconds / 4, least=5)["it"].median
    # inputs of the whole call are no fresher than those of its parts are made: a little may be negative
    return Between(kernel_s=max(whole - sum(at.values()), 0.0) / count, known="a call less its kernels")
