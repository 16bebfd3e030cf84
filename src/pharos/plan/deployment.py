"""Deployment: a decoder on one or several devices, in a precision, served by a stack."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pharos.facts.tables import table
from pharos.graph.graph import Graph, Node
from pharos.graph.op import Op
from pharos.graph.workload import Workload
from pharos.machines.machine import Known, Machine
from pharos.models.registry import Model
from pharos.models.transformer import Decoder
from pharos.ops.attention import Attention
from pharos.plan.kv import BLOCK, Kept, kept
from pharos.plan.variants import joined, routed, share_of
from pharos.quantity.dtypes import Precision
from pharos.quantity.errors import InputError, unknown
from pharos.quantity.evidence import Evidence, Kind, assumed

# Share of a device's memory that a server takes for itself: the default of vLLM.
UTILIZATION = 0.9
# Tokens of a step and sequences in flight at most: defaults of current servers on large GPUs.
CHUNK, SEQUENCES = 8192, 256


@dataclass(frozen=True, slots=True)
class Stack:
    """What a serving stack adds to the kernels.

    Args:
        step_s: host time of every step that the device waits for.
        sequence_s: the same for every sequence in flight, a step.
        prompt_s: the same for every prompt, or part of one, of a step.
        request_s: time of a request outside steps: transport, tokenizer, queue.
        evidence: how these are known.
        mixes: prompts and decoding share a step unless told otherwise.
    """

    name: str
    step_s: float
    sequence_s: float
    prompt_s: float
    request_s: float
    evidence: Evidence
    mixes: bool = True


def stacks() -> tuple[str, ...]:
    """Names of the stacks whose host times are known; "none" adds nothing."""
    return ("none", *table("stacks")["stacks"])


def find_stack(name: str) -> Stack:
    """A stack by name.

    Raises:
        UnknownName: with the nearest.
    """
    if name == "none":
        return Stack("none", 0.0, 0.0, 0.0, 0.0, assumed("no host time: the device is never kept waiting"))
    rows = table("stacks")["stacks"]
    if name not in rows:
        raise unknown("serving stack", name, stacks())
    row = rows[name]
    known = Evidence(kind=Kind(row["known"]), where=f"{name}: {row['source']}", error=float(row["error"]))
    host = [float(row[key]) for key in ("step_s", "sequence_s", "prompt_s", "request_s")]
    return Stack(name, host[0], host[1], host[2], host[3], known, bool(row["mixes"]))


def _storing(node: Node) -> Op | None:
    return replace(node.op, algorithm="materialised") if isinstance(node.op, Attention) else None


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A decoder as it is served.

    Args:
        devices: that share every layer (tensor parallel).
        utilization: share of a device's memory that may be used.
        block: tokens of a page of the cache; 0 for contiguous room of `longest` tokens a request.
        chunk: tokens of a step at most; a longer prompt goes in by parts.
        chunked: prompts go in beside decoding, by parts; otherwise whole and alone.
        sequences: in flight at most.
        tiled: attention does not store its scores.
        shared_prefix: tokens at the start of every prompt that are alike and kept once.
    """

    model: Model
    machine: Machine
    precision: Precision = field(default_factory=lambda: Precision.of("bf16"))
    devices: int = 1
    utilization: float = UTILIZATION
    block: int = BLOCK
    chunk: int = CHUNK
    chunked: bool = True
    sequences: int = SEQUENCES
    tiled: bool = True
    shared_prefix: int = 0
    stack: Stack = field(default_factory=lambda: find_stack("none"))

    def __post_init__(self) -> None:
        for name in ("devices", "chunk", "sequences"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.utilization <= 1:
            raise InputError(f"utilization must lie between 0 and 1, not {self.utilization}")
        if self.block < 0:
            raise InputError(f"a block holds at least one token, not {self.block}", hint="0 for contiguous")

    def but(self, **changes: Any) -> "Deployment":
        """The same with some fields changed."""
        return replace(self, **changes)

    @cached_property
    def share(self) -> Model | None:
        """The model that one device runs; None where it is not known how the model is divided."""
        return share_of(self.model, self.devices)

    @property
    def is_traced(self) -> bool:
        """Whether each graph takes seconds and numbers for sizes: a model that is run to be seen."""
        return self.model.sizes is None and self.model.entry is None

    @property
    def is_even(self) -> bool:
        """Whether a device is taken to do and hold an even part, for lack of a division by layer."""
        return self.share is None

    @cached_property
    def runner(self) -> Machine:
        """The machine whose kernels take as long: the device, or all that share the model evenly as one."""
        if not self.is_even:
            return self.machine
        n = self.devices

        def times(known: Known) -> Known:
            return known if known.value is None else replace(known, value=known.value * n)

        made = self.machine
        peaks = {d: replace(p, ops_per_s=times(p.ops_per_s)) for d, p in made.peaks.items()}
        return replace(
            made,
            peaks=peaks,
            vector_peaks={d: times(p) for d, p in made.vector_peaks.items()},
            bandwidth_bytes_per_s=times(made.bandwidth_bytes_per_s),
            cache_bytes=times(made.cache_bytes),
            cores=times(made.cores),
            memory_sold_bytes=times(made.memory_sold_bytes),
            memory_usable_bytes=times(made.memory_usable_bytes),
            max_W=times(made.max_W),
            idle_W=times(made.idle_W),
        )

    @property
    def parts(self) -> int:
        """What counts of a graph of this deployment are divided by to be those of one device."""
        return self.devices if self.is_even else 1

    @cached_property
    def _joined(self) -> Model:
        return joined(self.share or self.model)

    def graph(self, work: Workload) -> Graph:
        """The graph that the runner runs; experts are read as an even router picks them."""
        made = routed(self._joined.graph(work))
        if self.tiled:
            return made
        return made.with_ops(_storing)

    @cached_property
    def kept(self) -> Kept:
        """What one device keeps for a request."""
        build: Callable[[Workload], Graph] = (self.share or self.model).graph
        return kept(build, self.precision)

    @cached_property
    def whole_kept(self) -> Kept:
        """What all devices keep for a request, were nothing kept twice."""
        return self.kept if self.devices == 1 else kept(self.model.graph, self.precision)

    @cached_property
    def first(self) -> Graph:
        """A decode graph of the smallest sizes, for what does not depend on them."""
        return self.graph(Workload(phase="decode", context=8, precision=self.precision))

    @cached_property
    def max_context(self) -> int | None:
        """Tokens that the model allows, where it has a limit."""
        return self.first.meta.get("max_context")

    @cached_property
    def width(self) -> int:
        """Features of the stream between layers, which all-reduces sum."""
        sizes = self.model.sizes
        if isinstance(sizes, Decoder):
            return int(sizes.hidden_size)
        last = [n for n, _, _ in self.first.walk() if n.op.kind == "linear"]
        return int(last[-1].ins[0].shape[-1]) if last else 1

    @cached_property
    def reductions(self) -> int:
        """All-reduces of a step: behind attention and behind the feed-forward part of each layer."""
        sizes = self.model.sizes
        if isinstance(sizes, Decoder):
            return int(sizes.layers) * (1 if sizes.parallel else 2)
        return sum(
            times for node, times, _ in self.first.walk() if node.op.kind == "add" and len(node.ins) == 2
        )
