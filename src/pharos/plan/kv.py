"""KV: what a decoder keeps for a request, by layer kind, with its formula; pages, and what they waste."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pharos.graph.graph import Graph, Node
from pharos.graph.tensor import Tensor
from pharos.graph.workload import Workload
from pharos.ops.attention import Attention
from pharos.quantity.dtypes import BITS, Precision
from pharos.quantity.errors import InputError, SizeError
from pharos.quantity.sizes import Size, ceil_div, minimum, prod

# Contexts at which the shapes of what is kept are compared: two short ones tell what grows, one long where
# it stops growing.
SHORT = (8, 12)
LONG = 2**17
# Bytes of one entry of a block table, a 32-bit number of a block.
TABLE_ENTRY = 4
# Tokens of a block. Source: Kwon et al. 2023, arXiv:2309.06180.
BLOCK = 16


@dataclass(frozen=True, slots=True)
class Term:
    """Kept tensors of one kind, over all layers that keep them.

    Bytes of a request with S tokens = `fixed` + `per_token` x min(S, `cap`).

    Args:
        kind: "attention", "window", "latent", "cross-attention" or "state".
        layers: how many layers keep them.
        cap: tokens after which nothing more is kept; None where it grows on.
        formula: in words, S for the tokens.
    """

    kind: str
    layers: int
    fixed: int
    per_token: int
    cap: int | None
    formula: str

    def bytes_at(self, context: Size, page: int = 1) -> Size:
        """Bytes of a request of `context` tokens, rows handed out in pages."""
        if not self.per_token:
            return self.fixed
        rows = context if self.cap is None else minimum(context, self.cap)
        if page > 1:
            rows = page * ceil_div(rows, page)
        return self.fixed + self.per_token * rows


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a decoder keeps between its tokens for one request."""

    terms: tuple[Term, ...]

    def bytes_at(self, context: Size, page: int = 1) -> Size:
        """Bytes of a request of `context` tokens; context may be an array or a symbol."""
        return sum(t.bytes_at(context, page) for t in self.terms)

    @property
    def per_token(self) -> int:
        """Bytes that a token adds as long as no window is full."""
        return sum(t.per_token for t in self.terms)

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the context."""
        return sum(t.fixed for t in self.terms)

    def growth(self, context: int) -> int:
        """Bytes that the next token adds at a context."""
        return sum(t.per_token for t in self.terms if t.cap is None or context < t.cap)

    @property
    def unbounded_per_token(self) -> int:
        """Bytes a token adds that never stop growing."""
        return sum(t.per_token for t in self.terms if t.cap is None)

    def bounded_at(self, context: Size, page: int = 1) -> Size:
        """Bytes that stop growing: states and windows."""
        whole = sum(t.bytes_at(context, page) for t in self.terms if t.cap is not None)
        return whole + sum(t.fixed for t in self.terms if t.cap is None)

    @property
    def formula(self) -> str:
        """The sum in words; S is the number of tokens of a request."""
        return " + ".join(t.formula for t in self.terms)


def kept(build: Callable[[Workload], Graph], precision: Precision | str, *, longest: int = 0) -> Kept:
    """What a model keeps for a request, read off the state tensors of its decode graph.

    Args:
        build: the graph under a workload.
        longest: a context beyond those compared by default, if the caller has one.

    Raises:
        InputError: it keeps nothing, so that it is no decoder.
    """
    types = Precision.of(precision)

    def at(context: int) -> Graph:
        return build(Workload(phase="decode", context=context, precision=types))

    first = at(SHORT[0])
    states = _states(first)
    if not states or "context" not in first.meta:
        raise InputError(
            "is not a decoder: it keeps nothing from one token to the next",
            where=first.name,
            hint="serve needs a model that makes a token at a time, such as llama-3-8b or gpt2-xl",
        )
    limit = first.meta.get("max_context") or LONG
    contexts = (*SHORT, max(min(limit, max(LONG, longest)), limit))
    other = [states, *(_states(at(c)) for c in contexts[1:])]
    found: dict[Any, list[Any]] = {}
    for seen in zip(*other, strict=True):
        (node, times, key, _), shapes = seen[0], [s[3].shape for s in seen]
        one = _term(node, seen[0][3], shapes, contexts)
        found.setdefault(one, []).append((times, key))
    return Kept(tuple(_written(one, uses) for one, uses in found.items()))


def _states(graph: Graph) -> list[tuple[Node, int, str, Tensor]]:
    return [(node, times, key, t) for node, times, _ in graph.walk() for key, t in node.state.items()]


def _term(
    node: Node, tensor: Tensor, shapes: Sequence[tuple[Size, ...]], contexts: Sequence[int]
) -> tuple[Any, ...]:
    """(kind, sizes beside batch and tokens, rows fixed, rows a token, cap, dtype, kept by attention)."""
    whole = isinstance(node.op, Attention)
    short, next_, long = shapes
    rows = [i for i in range(len(short)) if short[i] != next_[i] or short[i] != long[i]]
    if len(rows) > 1:
        raise SizeError(f"{node.name}: a kept tensor grows in {len(rows)} of its dimensions")
    if not rows:
        return _kind(node, None), tuple(short[1:]), 0, 0, None, tensor.dtype, whole
    at = rows[0]
    a, b, c = (s[at] for s in shapes)
    slope = (b - a) / (contexts[1] - contexts[0])
    if slope <= 0 or not float(slope).is_integer():
        # a window below the shortest context: full from the start
        return _kind(node, c), (*short[1:at], c, *short[at + 1 :]), 0, 0, None, tensor.dtype, whole
    fixed = a - int(slope) * contexts[0]
    cap = (c - fixed) // int(slope)
    beside = (*short[1:at], *short[at + 1 :])
    ends = None if cap >= contexts[2] else int(cap)
    return _kind(node, ends), beside, int(fixed), int(slope), ends, tensor.dtype, whole


def _kind(node: Node, cap: int | None) -> str:
    if node.op.kind == "recall":
        return "cross-attention"
    if node.op.state_precision != "kv_cache":
        return "state"
    if isinstance(node.op, Attention) and node.op._operands == 2:
        return "latent"
    return "attention" if cap is None else "window"


def _written(one: tuple[Any, ...], uses: list[tuple[int, str]]) -> Term:
    kind, beside, fixed, slope, cap, dtype, whole = one
    count = sum(times for times, _ in uses)
    elements, bits = int(prod(beside)), BITS[dtype]
    # K and V of a layer are two uses of the same shape
    pairs = {key for _, key in uses} >= {"k", "v"}
    layers = count // 2 if pairs else count
    width = f"{bits // 8} B" if bits % 8 == 0 else f"{bits / 8:g} B"
    factors = ["2 (K, V)"] if pairs else []
    # a layer may keep several states of a shape
    what = "layer" if pairs or (whole and kind in ("attention", "window", "latent")) else "kept tensor"
    factors.append(f"{layers} {what}{'s' if layers > 1 else ''}")
    if kind in ("attention", "window") and len(beside) == 2:
        factors += [f"{beside[0]} KV head{'s' if beside[0] > 1 else ''}", f"{beside[1]}"]
    elif kind == "latent":
        factors.append(f"{elements} (latent and rotary key)")
    else:
        factors += [str(s) for s in beside if s != 1] or ["1"]
    if slope:
        tokens = "S" if cap is None else f"min(S, {cap})"
        factors.append(tokens if slope == 1 else f"{slope} {tokens}")
    formula = " x ".join([*factors, width])
    unit = count * elements * bits
    return Term(
        kind, layers, -(-unit * fixed // 8) if slope else -(-unit // 8), unit * slope // 8, cap, formula
    )


@dataclass(frozen=True, slots=True)
class Paging:
    """How well a way of handing out cache uses it, over requests of given lengths.

    Args:
        paged: share of the handed-out bytes that no token is in, with pages of `block` tokens.
        longest: the same where every request reserves room for the longest context.
        doubled: where it reserves the next power of two of its own length.
        table_bytes: block table of a request of `context` tokens.
    """

    block: int
    paged: float
    longest: float
    doubled: float
    table_bytes: int


def paging(lengths: Sequence[int], block: int, context: int) -> Paging:
    """Waste of pages beside contiguous reservations, for requests that end with `lengths` tokens.

    What a request grows into is counted at its end. Reserving the longest context, or powers of two, is what
    serving did before pages. Source: Kwon et al. 2023, arXiv:2309.06180, section 3.1.

    Raises:
        SizeError: no lengths, or a block below one token.
    """
    if not len(lengths) or min(lengths) < 1 or block < 1:
        raise SizeError("needs lengths of 1 or more and a block of 1 or more")
    held = sum(lengths)

    def waste(reserved: float) -> float:
        return 1 - held / reserved

    return Paging(
        block,
        waste(sum(block * ceil_div(n, block) for n in lengths)),
        waste(len(lengths) * max(context, *lengths)),
        waste(sum(1 << (n - 1).bit_length() for n in lengths)),
        TABLE_ENTRY * ceil_div(context, block),
    )
