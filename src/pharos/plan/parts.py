"""Parts of a model under parallel plans: which kernels, weights and activations are cut, read off its graph.

Tensor parallelism follows the graph: a linear layer on whole features is cut by columns, the next one on cut
features by rows, whose partial sums are added over the devices before anything but an addition of partial
sums reads them. Source: Shoeybi et al. 2019, arXiv:1909.08053.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pharos.graph.count import count
from pharos.graph.graph import Graph, Node, Repeat
from pharos.graph.op import Work
from pharos.graph.workload import Workload
from pharos.models.registry import Model
from pharos.passes.fuse import Kernel, kernels
from pharos.quantity.errors import InputError
from pharos.quantity.sizes import is_int

# How a value lies on the devices of a tensor-parallel group.
WHOLE, CUT, PARTIAL = "whole", "cut", "partial"
# How an operator is cut.
NOT, COLUMNS, ROWS, HEADS, EXPERTS, VOCABULARY = "not", "columns", "rows", "heads", "experts", "vocabulary"
STEM, LAYER, HEAD = "stem", "layer", "head"
UNLIMITED = 1 << 60


@dataclass(frozen=True, slots=True)
class Share:
    """Something of a section that tensor parallelism cuts in up to `limit` pieces, or not at all (1).

    Args:
        section: STEM, LAYER (all layers together) or HEAD.
        role: how its operator is cut. amount: numbers or bytes.
    """

    section: str
    role: str
    limit: int
    amount: float


@dataclass(frozen=True, slots=True)
class Piece:
    """One kernel of the fused graph for one sequence, with how it is cut and what its backward pass takes.

    Args:
        times: how often it runs in all layers together.
        gradient: MACs and bytes of the backward pass over those of the forward pass.
    """

    section: str
    role: str
    limit: int
    kernel: Kernel
    times: int
    gradient: tuple[float, float]


@dataclass(slots=True)
class Parts:
    """A model for one sequence, as planners read it.

    Args:
        layers: transformer blocks, or what repeats. heads, kv_heads, experts: 0 where there are none.
        weights: parameters. saved: bytes kept for the backward pass; core: of those what attention keeps of
            its own (its probabilities, where it stores them). inputs: bytes that enter one layer. state:
            bytes of the KV cache; keys: of the keys and values that all layers attend over.
        reduced: bytes added up over the tensor-parallel group in the forward pass. routed: bytes that go to
            experts and back, before they are cut.
        sequential: a layer passes along the tokens, in a scan or a convolution of past ones.
        work: of one forward pass. logits: elements of the output.
    """

    name: str
    layers: int
    pieces: list[Piece] = field(default_factory=list)
    weights: list[Share] = field(default_factory=list)
    saved: list[Share] = field(default_factory=list)
    core: list[Share] = field(default_factory=list)
    state: list[Share] = field(default_factory=list)
    reduced: dict[str, float] = field(default_factory=dict)
    reductions: dict[str, float] = field(default_factory=dict)
    routed: float = 0.0
    routings: float = 0.0
    inputs: float = 0.0
    keys: float = 0.0
    logits: float = 0.0
    tied: float = 0.0
    heads: int = 0
    kv_heads: int = 0
    experts: int = 0
    sequential: bool = False
    work: Work = field(default_factory=Work)
    core_work: float = 0.0
    tokens: int = 0
    widest: int = 0
    bytes_per_weight: float = 2.0

    @property
    def parameters(self) -> float:
        """All weights."""
        return sum(w.amount for w in self.weights)


def read_parts(model: Model, work: Workload, attention: str = "tiled") -> Parts:
    """Reads a model for one sequence of a workload.

    Args:
        attention: "tiled", or "materialised" where scores are stored.

    Raises:
        InputError: no layer repeats, or a size is not a number.
    """
    key = (model.name, work.phase, work.context, str(work.precision), attention)
    if model.entry is not None and key in _READ:
        return _READ[key]
    found = _parts_of(model.graph(work.but(batch=1)), work, attention)
    if model.entry is not None and "(" not in model.name:
        _READ[key] = found
    return found


_READ: dict[Any, Parts] = {}


def _parts_of(graph: Graph, work: Workload, attention: str) -> Parts:
    if attention != "tiled":
        graph = graph.with_ops(_stored)
    repeats = [n for n in graph.nodes if isinstance(n, Repeat)]
    if not repeats or not all(is_int(r.count) for r in repeats):
        raise InputError(
            f"{graph.name} repeats no layer that could be laid over devices",
            hint="a decoder of the catalogue, or a Hugging Face config.json of one",
        )
    found = Parts(graph.name, sum(r.count * r.period for r in repeats))
    _Reader(graph, found).read()
    if not any(p.section == LAYER and p.role == COLUMNS for p in found.pieces):
        raise InputError(
            f"the layers of {graph.name} hold no linear layers that tensor parallelism could cut",
            hint="plans are made for decoders and state-space models",
        )
    found.work = count(graph).work
    found.tokens = int(graph.meta.get("tokens") or work.context or 1)
    return found


def _stored(node: Node) -> Any:
    from dataclasses import replace

    return replace(node.op, algorithm="materialised") if node.op.kind == "attention" else None  # type: ignore[type-var]


class _Reader:
    """Follows values through the graph and notes how each operator is cut."""

    def __init__(self, graph: Graph, found: Parts) -> None:
        self.graph, self.found = graph, found
        self.roles: dict[int, tuple[str, str, int]] = {}
        self.sizes: dict[str, float] = {}

    def read(self) -> None:
        seen_layer = False
        first = self.graph.inputs[0].name
        states: dict[str, str] = {}
        roots: dict[str, str] = {}
        kept: dict[tuple[str, str], tuple[float, str, int]] = {}
        readers = _readers(self.graph.nodes)
        for node in self.graph.nodes:
            if isinstance(node, Repeat):
                before, seen_layer = (LAYER if seen_layer else STEM), True
                for name in node.inputs:
                    self._whole(name, states, self._bytes(name), 1, before)
                self._layers(node)
                states |= dict.fromkeys(node.outputs, WHOLE)
                continue
            section = HEAD if seen_layer else STEM
            self._node(node, section, 1, states, roots, readers, kept, first)
        self._keep(kept, 1, LAYER, end=True)
        self._pieces()
        out = self.graph.outputs[0].tensor
        self.found.logits = float(out.numel)
        self.found.widest = int(out.shape[-1])

    def _bytes(self, name: str) -> float:
        for node in self.graph.nodes:
            if isinstance(node, Node) and name in node.outputs:
                return float(node.outs[node.outputs.index(name)].nbytes)
        return 0.0

    def _layers(self, repeat: Repeat) -> None:
        body = repeat.body
        states = dict.fromkeys((v.name for v in body.inputs), WHOLE)
        roots: dict[str, str] = {}
        kept: dict[tuple[str, str], tuple[float, str, int]] = {}
        readers = _readers(body.nodes)
        for node in body.nodes:
            if isinstance(node, Repeat):
                raise InputError(f"{self.graph.name} repeats layers inside layers")
            self._node(node, LAYER, repeat.count, states, roots, readers, kept, "")
        for value in body.outputs:
            self._whole(value.name, states, float(value.tensor.nbytes), repeat.count, LAYER)
        self._keep(kept, repeat.count, LAYER)
        self.found.inputs = max(self.found.inputs, float(body.inputs[0].tensor.nbytes))

    def _whole(self, name: str, states: dict[str, str], nbytes: float, times: int, section: str) -> None:
        """Adds up partial sums before anything reads them."""
        if states.get(name) == PARTIAL:
            reduced, counts = self.found.reduced, self.found.reductions
            reduced[section] = reduced.get(section, 0.0) + nbytes * times
            counts[section] = counts.get(section, 0.0) + times
            states[name] = WHOLE

    def _node(
        self, node: Node, section: str, times: int, states: dict[str, str], roots: dict[str, str],
        readers: dict[str, list[Node]], kept: dict[Any, Any], first: str,
    ) -> None:  # fmt: skip
        kind, found = node.op.kind, self.found
        ins = [states.get(name, WHOLE) for name in node.inputs]
        adds = kind == "add" and len(ins) > 1 and all(s == PARTIAL for s in ins)
        if not adds:
            for name, tensor in zip(node.inputs, node.ins, strict=True):
                self._whole(name, states, float(tensor.nbytes), times, section)
            ins = [states.get(name, WHOLE) for name in node.inputs]
        role, out, limit = self._cut(node, ins, readers, first, adds)
        self.roles[id(node)] = (section, role, limit)
        for name in node.outputs:
            states[name] = out
            # what a view shows is stored once, under the name of what it shows
            roots[name] = roots.get(node.inputs[0], node.inputs[0]) if _is_view(node) else name
        for name, tensor in zip(node.outputs, node.outs, strict=True):
            if roots[name] == name:
                self.sizes[name] = float(tensor.nbytes)
        if kind == "attention":
            found.heads = max(found.heads, int(node.ins[0].shape[1]))
            found.kv_heads = max(found.kv_heads, int(node.ins[1].shape[1]))
            found.keys += sum(float(t.nbytes) for t in node.ins[1:3]) * times
        if role == EXPERTS:
            op: Any = node.op
            found.experts = max(found.experts, int(op.num_experts))
            # each pick's vector goes out and comes back
            found.routed += 2.0 * node.ins[0].nbytes * op.top_k * times
            found.routings += 2.0 * times
        self._hold(node, section, role, limit, times)
        self._save(node, role, limit, out, states, roots, kept, section, times)

    def _hold(self, node: Node, section: str, role: str, limit: int, times: int) -> None:
        found = self.found
        for key, tensor in node.weights.items():
            amount = float(tensor.numel) * times
            if key in node.tied:
                found.tied += amount
                continue
            one = 1 if role == ROWS and len(tensor.shape) < 2 else limit
            found.weights.append(Share(section, role, one if role != NOT else 1, amount))
            found.bytes_per_weight = tensor.nbytes / tensor.numel
        for tensor in node.state.values():
            found.state.append(Share(section, role, limit, float(tensor.nbytes) * times))

    def _save(
        self, node: Node, role: str, limit: int, out: str, states: dict[str, str], roots: dict[str, str],
        kept: dict[Any, Any], section: str, times: int,
    ) -> None:  # fmt: skip
        try:
            saved = node.op.saved(*node.io)
        except Exception:
            return
        pairs = [(node.inputs[i], node.ins[i]) for i in saved.inputs]
        pairs += [(node.outputs[i], node.outs[i]) for i in saved.outputs]
        for name, tensor in pairs:
            state = states.get(name, WHOLE)
            root = roots.get(name, name)
            wide = int(tensor.shape[1]) if len(tensor.shape) == 4 else UNLIMITED
            nbytes = self.sizes.get(root, float(tensor.nbytes))
            kept.setdefault((section, root), (nbytes, state, wide if state == CUT else 1))
        for key, tensor in saved.extra.items():
            cut = limit if role in (HEADS, EXPERTS) or out == CUT else 1
            amount = float(tensor.nbytes)
            kept[section, f"{node.name}:{key}"] = (amount, CUT if cut > 1 else WHOLE, cut)
            if node.op.kind == "attention" and key == "probabilities":
                self.found.core.append(Share(section, HEADS, cut, amount * times))

    def _keep(self, kept: dict[Any, Any], times: int, section: str, end: bool = False) -> None:
        for (where, _), (amount, state, limit) in kept.items():
            place = where if end else section
            self.found.saved.append(Share(place, NOT if state != CUT else HEADS, limit, amount * times))

    def _cut(
        self, node: Node, ins: Sequence[str], readers: dict[str, list[Node]], first: str, adds: bool
    ) -> tuple[str, str, int]:
        """(role, how its outputs lie, most pieces) of a node."""
        op: Any = node.op
        kind = op.kind
        if kind == "embedding":
            own = node.inputs[0] == first
            return (VOCABULARY, PARTIAL, op.num_embeddings) if own else (NOT, WHOLE, 1)
        if kind == "experts":
            return EXPERTS, PARTIAL, int(op.expert_size)
        if kind == "linear":
            if ins[0] == CUT:
                return ROWS, PARTIAL, int(op.in_features)
            if _is_normed(node, readers):
                return NOT, WHOLE, 1
            return COLUMNS, CUT, _heads_behind(node, readers) or int(op.out_features)
        if adds:
            return NOT, PARTIAL, 1
        if CUT not in ins:
            return NOT, WHOLE, 1
        if kind == "attention":
            return HEADS, CUT, int(node.ins[1].shape[1])
        widest = max((int(t.shape[1]) for t in node.ins if len(t.shape) == 4), default=UNLIMITED)
        return HEADS, CUT, widest

    def _pieces(self) -> None:
        for kernel in kernels(count(self.graph), fused=True):
            node = kernel.lead.node
            section, role, limit = self.roles[id(node)]
            macs = moved = 1.0
            work = node.op.work(*node.io)
            try:
                back = [
                    line.node.op.gradient([True] * len(line.node.ins), *line.node.io) for line in kernel.lines
                ]
                bytes_back = sum(
                    float(line.node.op.gradient_traffic([True] * len(line.node.ins), line.node).total)
                    for line in kernel.lines
                )
                macs = float(sum(b.macs for b in back)) / max(float(work.macs), 1.0)
                moved = bytes_back / max(float(kernel.traffic.total), 1.0)
            except Exception:
                macs = moved = 0.0
            passes = any(_passes_along(line.node) for line in kernel.lines)
            self.found.sequential |= section == LAYER and passes
            self.found.pieces.append(Piece(section, role, limit, kernel, int(kernel.times), (macs, moved)))
            if node.op.kind == "attention":
                self.found.core_work += float(work.macs) * int(kernel.times)


def _passes_along(node: Node) -> bool:
    """Whether a token's result comes from the one before, so that a sequence cannot be shared."""
    if node.op.kind == "attention":
        return False
    return node.op.kind in ("causal_conv", "token_shift") or node.op.class_of(*node.io) in (
        "recurrence", "attention",
    )  # fmt: skip


def _is_view(node: Node) -> bool:
    return bool(node.inputs) and node.op.class_of(*node.io) == "view"


def _readers(nodes: Sequence[Node | Repeat]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in nodes:
        if isinstance(node, Node):
            for name in node.inputs:
                found.setdefault(name, []).append(node)
    return found


def _is_normed(node: Node, readers: dict[str, list[Node]]) -> bool:
    """Whether a norm over all features reads the result, which then must lie whole."""
    for name in node.outputs:
        for reader in readers.get(name, ()):
            if reader.op.kind in ("layer_norm", "rms_norm") or (
                reader.op.kind == "split" and _is_normed(reader, readers)
            ):
                return True
    return False


def _heads_behind(node: Node, readers: dict[str, list[Node]]) -> int:
    """Heads that a projection's result is cut into, where it is."""
    for name in node.outputs:
        for reader in readers.get(name, ()):
            if reader.op.kind == "reshape" and len(reader.outs[0].shape) == 4:
                return int(reader.outs[0].shape[2])
    return 0
