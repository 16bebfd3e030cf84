"""Op: what every operator says about itself, the registry, and the cost types it speaks in."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, dataclass_transform

from pharos.graph.tensor import Tensor, shape_text
from pharos.quantity.errors import SizeError, unknown
from pharos.quantity.sizes import Size, same

if TYPE_CHECKING:
    from pharos.graph.graph import Node

# Primitives of the textbook: computational, memory access, data movement.
MATMUL, SLIDING_WINDOW, DYNAMIC = "matmul", "sliding_window", "dynamic"
SEQUENTIAL, STRIDED, RANDOM = "sequential", "strided", "random"
BROADCAST, SCATTER, GATHER, REDUCE = "broadcast", "scatter", "gather", "reduce"


@dataclass(frozen=True, slots=True)
class Work:
    """Operations of one run of an operator.

    Args:
        macs: multiply-accumulates of matrix-like work; 1 MAC = 2 FLOPs.
        vector_flops: other additions, multiplications and comparisons.
        transcendentals: exponentials, roots, divisions, tanh and the like, one each.
        masked_macs: the part of `macs` that a causal kernel need not execute.
    """

    macs: Size = 0
    vector_flops: Size = 0
    transcendentals: Size = 0
    masked_macs: Size = 0

    @property
    def flops(self) -> Size:
        """2 x MACs: what the field prints as the FLOPs of a network; vector work is apart."""
        return 2 * self.macs

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.macs + other.macs,
            self.vector_flops + other.vector_flops,
            self.transcendentals + other.transcendentals,
            self.masked_macs + other.masked_macs,
        )

    @classmethod
    def total_of(cls, parts: Sequence["Work"]) -> "Work":
        """The sum of many."""
        return cls(
            sum([p.macs for p in parts]),
            sum([p.vector_flops for p in parts]),
            sum([p.transcendentals for p in parts]),
            sum([p.masked_macs for p in parts]),
        )

    def __mul__(self, times: Size) -> "Work":
        return Work(
            self.macs * times,
            self.vector_flops * times,
            self.transcendentals * times,
            self.masked_macs * times,
        )


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes an operator moves when each of its tensors is read or written once.

    Args:
        weights: parameters and buffers read (only the gathered rows of a table).
        inputs: activations read.
        outputs: activations written.
        state: KV cache or recurrent state read and written.
        workspace: intermediates of the algorithm itself, written and read back.
    """

    weights: Size = 0
    inputs: Size = 0
    outputs: Size = 0
    state: Size = 0
    workspace: Size = 0

    @property
    def total(self) -> Size:
        """All bytes."""
        return self.weights + self.inputs + self.outputs + self.state + self.workspace

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.weights + other.weights,
            self.inputs + other.inputs,
            self.outputs + other.outputs,
            self.state + other.state,
            self.workspace + other.workspace,
        )

    @classmethod
    def total_of(cls, parts: Sequence["Traffic"]) -> "Traffic":
        """The sum of many."""
        return cls(
            sum([p.weights for p in parts]),
            sum([p.inputs for p in parts]),
            sum([p.outputs for p in parts]),
            sum([p.state for p in parts]),
            sum([p.workspace for p in parts]),
        )

    def __mul__(self, times: Size) -> "Traffic":
        return Traffic(
            self.weights * times,
            self.inputs * times,
            self.outputs * times,
            self.state * times,
            self.workspace * times,
        )


@dataclass(frozen=True, slots=True)
class Parallelism:
    """How far an operator can be spread.

    Args:
        width: independent results that can be computed at once.
        depth: steps that must follow each other, each at least one launch or barrier
            (T for a recurrence, 1 for attention; log2 n adder levels are not steps).
        tree: levels of the reduction inside a step, log2 of the reduced length.
    """

    width: Size
    depth: Size = 1
    tree: Size = 0


@dataclass(frozen=True, slots=True)
class Saved:
    """What a forward pass keeps of one call until its gradients are taken; parameters are kept anyway.

    Args:
        inputs, outputs: indices of the input and output tensors.
        extra: tensors that neither is, by name: statistics of a norm, a mask, indices of a maximum.
        held: indices of input tensors that PyTorch holds as well though no gradient reads them, for
            their shapes.
    """

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    extra: dict[str, Tensor] = field(default_factory=dict)
    held: tuple[int, ...] = ()


class Tally:
    """Counts what a loop form executes, for comparison with the cost rule."""

    def __init__(self) -> None:
        self.macs = 0


class Picker(Protocol):
    """Draws a random legal configuration; `size` may answer in any of the three readings."""

    def size(self, low: int, high: int) -> Size:
        """A free size from low to high."""
        ...

    def int(self, low: int, high: int) -> int:
        """A structural number, such as a stride, from low to high."""
        ...

    def choice(self, options: Sequence[Any]) -> Any:
        """One of the options."""
        ...


class OnnxWriter(Protocol):
    """Writes the ONNX nodes of one node of a graph; what it takes and gives are names of values.

    ``w("Clip", x, w.number(0), w.number(6))`` appends a node and returns its output's name, or a list
    of names when `outputs` asks for several; "" stands for an optional input that is left out.
    """

    @property
    def node(self) -> "Node":
        """The node that is being written."""
        ...

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Appends an ONNX node."""
        ...

    def parameter(self, key: str) -> str:
        """One of the operator's weights or buffers, in the type of the activations."""
        ...

    def number(self, value: float) -> str:
        """A scalar in the type of the activations."""
        ...

    def ints(self, *values: Size) -> str:
        """A vector of whole numbers: a shape, axes, indices."""
        ...

    def table(self, values: Any) -> str:
        """A constant array: floats in the type of the activations, whole numbers as they are."""
        ...

    def past(self, key: str, shape: tuple[Size, ...]) -> str:
        """A state that an earlier call kept: an input of the whole file."""
        ...

    def present(self, key: str, value: str, shape: tuple[Size, ...]) -> None:
        """A state that a later call continues from: an output of the whole file."""
        ...

    def shared(self, key: Any, build: Callable[[], str]) -> str:
        """What `build` writes from constants alone, once for all nodes that ask with the same `key`."""
        ...

    def expression(self, name: str) -> Any:
        """A value with Python's arithmetic and comparisons, each of which appends a node; see `name`."""
        ...

    def scan(
        self,
        body: Callable[..., Sequence[str]],
        carried: Sequence[tuple[str, Tensor]],
        rows: Sequence[tuple[str, Tensor]],
        made: Sequence[Tensor] = (),
        axis: int = 0,
    ) -> list[str]:
        """``body(*carried, *rows)`` step by step along `axis`: gives what is carried on and what is made.

        Args:
            carried: values before the first step; rows, made: tensors of one step.
        """
        ...

    def stands_for(self, op: "Op") -> None:
        """Says that the nodes do the work of `op`, where that is not the operator being written."""
        ...


class Op:
    """An operator: hyperparameters as fields, rules as methods on sizes.

    Methods take the input tensors, those marked `io` the inputs followed by the outputs.
    A subclass is one decorated class in one file of `ops/`; nothing else names it.
    """

    __slots__ = ()

    kind: ClassVar[str] = "op"
    # The efficiency curve it runs on: gemm, conv, pointwise, depthwise, attention, recurrence, gather,
    # norm, softmax, elementwise, pool, copy, view (no kernel) or unknown.
    cost_class: ClassVar[str] = "elementwise"
    # PyTorch's kernel gives what `saved` names as extra even where no gradient is taken
    gives_extra: ClassVar[bool] = False
    aten: ClassVar[tuple[str, ...]] = ()
    onnx: ClassVar[tuple[str, ...]] = ()
    # False for a stand-in whose work is not known: totals that hold it are "at least".
    is_counted: ClassVar[bool] = True
    # The field of Precision that its state is stored in: keys and values may be narrower than activations.
    state_precision: ClassVar[str] = "activations"

    def shape(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Output tensor or tensors.

        Raises:
            SizeError: inputs of a wrong rank or size, naming the operator and the shapes.
        """
        raise self.refuse("has no shape rule", *inputs)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        """Trainable tensors by PyTorch's name."""
        return {}

    def buffers(self) -> dict[str, tuple[Size, ...]]:
        """Stored tensors that are not trained, such as running statistics."""
        return {}

    def active(self) -> tuple[Size, Size]:
        """(used, stored): the share of its parameters that one token uses; experts use few."""
        return 1, 1

    def state(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        """Tensors kept from one call to the next: KV cache, hidden state."""
        return {}

    def work(self, *io: Tensor) -> Work:
        """Exact operations of one call."""
        return Work()

    def traffic(self, node: "Node") -> Traffic:
        """Bytes of one call, each tensor once; the default reads all and writes all."""
        return Traffic(
            weights=node.weight_bytes + node.buffer_bytes,
            inputs=sum([t.nbytes for t in node.ins]),
            outputs=sum([t.nbytes for t in node.outs]),
            state=2 * node.state_bytes,
        )

    def workspace(self, *io: Tensor) -> Size:
        """Bytes of scratch memory held while it runs."""
        return 0

    def training_work(self, *io: Tensor) -> Work:
        """Operations of a forward pass that trains, where it does more than at inference."""
        return self.work(*io)

    def gradient(self, wanted: Sequence[bool], *io: Tensor) -> Work:
        """Operations of the backward pass of one call.

        Args:
            wanted: for each input, whether its gradient is asked for; those of all weights are.
            io: inputs, then outputs of the forward call.
        """
        raise self.refuse("has no gradient rule")

    def saved(self, *io: Tensor) -> Saved:
        """What the forward pass keeps for `gradient`, as one fused kernel would."""
        raise self.refuse("has no gradient rule")

    def gradient_traffic(self, wanted: Sequence[bool], node: "Node") -> Traffic:
        """Bytes of the backward pass: saved tensors and output gradients read, wanted ones written.

        Weights are read, and their gradients written, once.
        """
        kept = self.saved(*node.io)
        read = [node.ins[i] for i in kept.inputs] + [node.outs[i] for i in kept.outputs]
        return Traffic(
            weights=2 * node.weight_bytes,
            inputs=sum(t.nbytes for t in (*read, *kept.extra.values(), *node.outs)),
            outputs=sum(t.nbytes for t, want in zip(node.ins, wanted, strict=True) if want),
        )

    def class_of(self, *io: Tensor) -> str:
        """The cost class of this call; overridden where it depends on the hyperparameters."""
        return self.cost_class

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        """Elements handled by each primitive the operator consists of."""
        return {SEQUENTIAL: sum(t.numel for t in io)}

    def parallelism(self, *io: Tensor) -> Parallelism:
        """Independent width and sequential depth."""
        return Parallelism(width=io[-1].numel)

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        """The definition as explicit NumPy loops; adds to `tally` what it executes."""
        raise self.refuse("has no loop form")

    def torch(self, torch: Any) -> Any:
        """The PyTorch module or function; `torch` is passed in so that ops never import it."""
        raise self.refuse("has no PyTorch form")

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str | Sequence[str]:
        """Writes it as standard ONNX nodes; returns the name of its output, or of all of them."""
        raise self.refuse("has no ONNX form")

    @classmethod
    def sample(cls, pick: Picker) -> tuple["Op", list[Tensor]]:
        """A random small configuration with its inputs, for the tests over the registry."""
        raise SizeError(f"{cls.kind} has no sample")

    def refuse(self, why: str, *tensors: Tensor) -> SizeError:
        """An error that names the operator and the shapes it was given."""
        given = f", given {', '.join(shape_text(t.shape) for t in tensors)}" if tensors else ""
        return SizeError(f"{self} {why}{given}")

    def need(self, condition: bool, why: str, *tensors: Tensor) -> None:
        """Raises `refuse(why, *tensors)` unless `condition`."""
        if not condition:
            raise self.refuse(why, *tensors)

    def match(self, got: Size, want: Size, what: str, *tensors: Tensor) -> None:
        """Raises unless the size `got` of `what` is the `want` that a field states."""
        if got is not want and not same(got, want):
            raise self.refuse(f"expects {what} {want}, not {got}", *tensors)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        shown = ", ".join(
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({shown})"


def kind_of(name: str) -> str:
    """The kind of a class: its name in snake case."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


REGISTRY: dict[str, type[Op]] = {}
_FILES: list[Callable[[], dict[str, str]]] = []


def look_in(files: Callable[[], dict[str, str]]) -> None:
    """Makes known where operators that are not registered yet may be: kind -> module that declares it."""
    _FILES.append(cache(files))


def kinds() -> set[str]:
    """Every kind of operator, registered or known where to find."""
    return {*REGISTRY, *(kind for files in _FILES for kind in files())}


C = TypeVar("C", bound=type[Op])


@dataclass_transform(frozen_default=True)
def operator(
    *, cost: str = "elementwise", aten: str = "", onnx: str = ""
) -> Callable[[type[Any]], type[Any]]:
    """Makes a class an operator: a frozen, slotted dataclass under its snake-case name.

    Args:
        cost: its cost class, see `Op.cost_class`.
        aten: PyTorch operator names it is recognised by, separated by spaces.
        onnx: ONNX operator names, likewise.
    """

    def register(cls: type[Any]) -> type[Any]:
        made = dataclass(frozen=True, slots=True)(cls)
        made.kind = kind_of(cls.__name__)
        made.cost_class = cost
        made.aten, made.onnx = tuple(aten.split()), tuple(onnx.split())
        if made.kind in REGISTRY:
            raise ValueError(f"two operators are called {made.kind}")
        REGISTRY[made.kind] = made
        return made

    return register


def op_class(kind: str) -> type[Op]:
    """The operator class of a kind.

    Raises:
        UnknownName: with the nearest kinds.
    """
    if kind not in REGISTRY:
        module = next((files()[kind] for files in _FILES if kind in files()), None)
        if module is None:
            raise unknown("operator", kind, sorted(kinds()))
        import_module(module)
    return REGISTRY[kind]
