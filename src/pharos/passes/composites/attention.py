"""Attention written out: two products with a softmax between them, in the forms that libraries write."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pharos.graph.graph import Node
from pharos.ops.activation import Activation, Softmax
from pharos.ops.attention import Attention
from pharos.ops.compare import Where
from pharos.ops.elementwise import Add, Mul
from pharos.ops.linear import MatMul
from pharos.ops.shape_ops import Expand, Reshape, Transpose
from pharos.passes.composites.fusing import ends_with
from pharos.passes.composites.masks import hidden, mask_of
from pharos.passes.composites.rewrite import Level, Mismatch, multiplier, need, same_size, same_sizes
from pharos.quantity.sizes import Size, floor_div, is_int, prod


@dataclass
class Scores:
    """What was found between the product of queries and keys and the softmax.

    Args:
        product: the matrix product of queries and keys.
        scale: what it is multiplied by.
        softcap: see `Attention`.
        added: (value, shape of the scores that it is added to, what it is multiplied by afterwards),
            the last one first.
        causal: later keys are hidden.
        hidden: (condition, number that stands in where it holds, shape of the scores), as `added`.
        heads: (batch, heads) that a view of the scores shows.
    """

    product: Node
    scale: float = 1.0
    softcap: float = 0.0
    added: list[tuple[str, tuple[Size, ...], float]] = field(default_factory=list)
    heads: tuple[Size, Size] | None = None
    causal: bool = False
    hidden: list[tuple[str, float, tuple[Size, ...]]] = field(default_factory=list)


@ends_with(MatMul)
def attention(level: Level, node: Node) -> bool:
    """softmax(q k^T scale + bias) v.

    What stands in its place is marked as materialised, which is how it was written: the scores of
    unfused attention go to memory and come back.
    """
    need(not node.op.transpose_b)  # type: ignore[attr-defined]
    shares = level.plain(node.inputs[0])
    maker = level.maker(shares)
    while maker is not None and isinstance(maker.op, Reshape):
        need(same_sizes(level.shape(shares)[-2:], level.shape(maker.inputs[0])[-2:]))
        shares = level.plain(maker.inputs[0])
        maker = level.maker(shares)
    softmax = level.op(shares, Softmax)
    rank = len(level.shape(shares))
    need(not softmax.op.log and softmax.op.dim % rank == rank - 1)  # type: ignore[attr-defined]
    found = _scores(level, softmax.inputs[0])
    return _write(level, node, found)


def _scores(level: Level, value: str) -> Scores:
    """Walks from the softmax back to the product, taking down what happens to the scores on the way."""
    scale, softcap, heads = 1.0, 0.0, None
    added: list[tuple[str, tuple[Size, ...], float]] = []
    masked: list[tuple[str, float, tuple[Size, ...]]] = []
    causal = False
    for _ in range(16):
        value = level.plain(value)
        node = level.maker(value)
        if node is None:
            raise Mismatch
        op, number = node.op, multiplier(node)
        if isinstance(op, MatMul):
            return Scores(node, scale, softcap, added, heads, causal, masked)
        if isinstance(op, Mul) and number is not None:
            inner = level.maker(level.plain(node.inputs[0]))
            if inner is not None and isinstance(inner.op, Activation) and inner.op.function == "tanh":
                # a cap is put on scores that are scaled and not yet masked
                need(scale == 1.0 and not softcap)
                value, share = level.factor(inner.inputs[0])
                scale, softcap = share * number, number
                continue
        if number is not None:
            need(not softcap)
            scale, value = scale * number, node.inputs[0]
        elif isinstance(op, Add) and len(node.inputs) == 2:
            # beyond a cap nothing was added yet
            need(not softcap)
            scores, bias = _sides(level, node)
            known = mask_of(level, bias)
            causal |= known == "causal"
            if not known:
                added.append((bias, level.shape(value), scale))
            value = scores
        elif isinstance(op, Where):
            need(not softcap)
            found = hidden(level, node)
            need(found is not None)
            assert found is not None
            masked.append((found[1], found[2], level.shape(value)))
            value = found[0]
        elif isinstance(op, Reshape):
            before, after = level.shape(node.inputs[0]), level.shape(value)
            need(same_sizes(before[-2:], after[-2:]))
            for shape in (after, before):
                heads = (shape[0], shape[1]) if len(shape) == 4 else heads
            value = node.inputs[0]
        else:
            raise Mismatch
    raise Mismatch


def _sides(level: Level, node: Node) -> tuple[str, str]:
    """(scores, bias) of an addition: the scores come from a matrix product, in the full shape."""
    full = level.shape(node.outputs[0])
    for scores, bias in (node.inputs, node.inputs[::-1]):
        if same_sizes(level.shape(scores), full) and _is_product(level, scores):
            return scores, bias
    raise Mismatch


def _is_product(level: Level, value: str, depth: int = 8) -> bool:
    node = level.maker(level.plain(value))
    if node is None or not depth:
        return False
    if isinstance(node.op, MatMul):
        return True
    if isinstance(node.op, Add) and len(node.inputs) == 2:
        return any(_is_product(level, i, depth - 1) for i in node.inputs)
    if isinstance(node.op, Where):
        found = hidden(level, node)
        return found is not None and _is_product(level, found[0], depth - 1)
    walks = isinstance(node.op, Reshape) or multiplier(node) is not None
    walks = walks or (isinstance(node.op, Activation) and node.op.function == "tanh")
    return walks and _is_product(level, node.inputs[0], depth - 1)


def _write(level: Level, node: Node, found: Scores) -> bool:
    product, name = found.product, _name(level, node)
    q, q_scale = level.factor(product.inputs[0])
    k, k_scale = product.inputs[1], 1.0
    if not product.op.transpose_b:  # type: ignore[attr-defined]
        k, share = level.factor(k)
        k_scale *= share
        k = level.swapped(f"{name}.k_swap", k)
    k, share = level.factor(k)
    scale = found.scale * q_scale * k_scale * share
    v = node.inputs[1]
    need(scale > 0)
    form = _Form.of(level, q, k, v, found)
    q4 = level.reshaped(f"{name}.q", q, (form.batch, form.heads, *level.shape(q)[-2:]))
    k4, v4 = (_keys(level, f"{name}.{n}", value, form) for n, value in (("k", k), ("v", v)))
    k4, v4 = _same_groups(level, name, k4, v4)
    shape = (form.batch, form.heads, level.shape(q)[-2], level.shape(k)[-2])
    for i, (condition, number, at) in enumerate(found.hidden):
        found.added.append((_as_bias(level, f"{name}.mask_{i}", condition, number), at, 1.0))
    biases = [_bias(level, name, *each, shape) for each in reversed(found.added)]
    bias = _together(level, name, biases)
    width = level.shape(q)[-1]
    usual = is_int(width) and abs(scale * width**0.5 - 1) < 1e-6
    op = Attention(
        found.causal, algorithm="materialised", scale=None if usual else scale, softcap=found.softcap
    )
    inputs = [q4, k4, v4, *bias]
    return _put(level, node, name, op, inputs, form)


def _put(level: Level, node: Node, name: str, op: Attention, inputs: Sequence[str], form: "_Form") -> bool:
    out = level.shape(node.outputs[0])
    whole = (form.batch, form.heads, *out[-2:])
    last = node
    if not same_sizes(out, whole):
        readers = level.readers(node.outputs[0])
        after = readers[0] if len(readers) == 1 and node.outputs[0] not in level.kept else None
        if isinstance(after, Node) and isinstance(after.op, Reshape):
            last = after
    if same_sizes(level.shape(last.outputs[0]), whole):
        level.add(name, op, *inputs, outputs=last.outputs)
    else:
        made = level.add(name, op, *inputs)
        level.add(f"{name}.rows", Reshape(level.shape(last.outputs[0])), made, outputs=last.outputs)
    return level.replace(last)


@dataclass(frozen=True)
class _Form:
    """Batch and heads of an attention, whatever dimensions its products have."""

    batch: Size
    heads: Size

    @classmethod
    def of(cls, level: Level, q: str, k: str, v: str, found: Scores) -> "_Form":
        """From the shape of the products, or from where their operands come from if those are flat."""
        lead = level.shape(found.product.outputs[0])[:-2]
        if len(lead) == 2:
            return cls(*lead)
        if not lead:
            return cls(1, 1)
        if len(lead) == 1:
            return cls(*cls._split(level, lead[0], q, k, v, found.heads))
        operands = level.shape(q), level.shape(k)
        grouped = any(len(s) == len(lead) + 2 and _one(s[-3]) for s in operands)
        if len(lead) == 3 and grouped:
            # queries stand in groups that share a key: [B, G, H / G, T, d]
            return cls(lead[0], lead[1] * lead[2])
        return cls(prod(lead[:-1]), lead[-1])

    @staticmethod
    def _split(
        level: Level, rows: Size, q: str, k: str, v: str, seen: tuple[Size, Size] | None
    ) -> tuple[Size, Size]:
        if seen is not None and same_size(prod(seen), rows):
            return seen
        for value in (q, k, v):
            node = level.maker(value)
            if node is not None and isinstance(node.op, Reshape):
                shape = level.shape(node.inputs[0])
                if len(shape) == 4 and same_size(prod(shape[:2]), rows):
                    return shape[0], shape[1]
        width, value = level.shape(q)[-1], q
        for _ in range(8):
            node = level.maker(value)
            if node is None or not isinstance(node.op, (Reshape, Transpose)):
                break
            value = level.factor(node.inputs[0])[0]
            last = level.shape(value)[-1]
            if is_int(last) and is_int(width) and last % width == 0 and last > width:
                heads = last // width
                if not is_int(rows) or rows % heads == 0:
                    return floor_div(rows, heads), heads
        return rows, 1


def _one(n: Size) -> bool:
    return is_int(n) and n == 1


def _keys(level: Level, name: str, value: str, form: _Form) -> str:
    """Keys or values as [B, G, S, d], copies for the heads of a group taken back."""
    value = level.plain(value)
    source = _ungrouped(level, value)
    if source is not None:
        return source
    *lead, tokens, width = level.shape(value)
    if len(lead) == 3 and _one(lead[2]):
        return level.reshaped(name, value, (lead[0], lead[1], tokens, width))
    made = level.reshaped(name, value, (form.batch, form.heads, tokens, width))
    return _ungrouped(level, made) or made


def _ungrouped(level: Level, value: str) -> str | None:
    """k[B, G, S, d] of keys that were copied to [B, H, S, d], each for the H / G heads of its group."""
    node = level.latest(value)
    turned = None
    if node is not None and isinstance(node.op, Transpose):
        turned, node = node.op, level.maker(level.plain(node.inputs[0]))
    if node is None or not isinstance(node.op, Reshape):
        return None
    wide = level.maker(level.plain(node.inputs[0]))
    if wide is None or not isinstance(wide.op, Expand):
        return None
    shape, target = level.shape(wide.inputs[0]), level.shape(wide.outputs[0])
    heads = level.shape(node.outputs[0])
    axis = 1 if turned is None else turned.dims[1]
    if len(target) != 5 or len(shape) != 5 or len(heads) != 4 or not _one(shape[axis + 1]):
        return None
    kept = [i for i in range(5) if i != axis + 1]
    if not same_sizes([shape[i] for i in kept], [target[i] for i in kept]):
        return None
    merged = (*target[:axis], target[axis] * target[axis + 1], *target[axis + 2 :])
    if not same_sizes(merged, heads):
        return None
    narrow = level.reshaped(f"{node.name}.groups", wide.inputs[0], tuple(shape[i] for i in kept))
    if turned is None:
        return narrow
    return level.add(f"{node.name}.turned", turned, narrow)


def _same_groups(level: Level, name: str, k: str, v: str) -> tuple[str, str]:
    need(same_size(level.shape(k)[1], level.shape(v)[1]))
    return k, v


def _bias(
    level: Level, name: str, value: str, at: tuple[Size, ...], scale: float, shape: tuple[Size, ...]
) -> str:  # fmt: skip
    """What is added to scores of shape `at`, as a bias [B or 1, H or 1, T or 1, S] of scores of `shape`."""
    given = level.shape(value)
    if scale != 1.0:
        value = level.add(f"{name}.bias_scaled", Mul(scalar=scale), value)
    aligned = (*[1] * (len(at) - len(given)), *given)
    need(len(aligned) == len(at))
    if same_sizes(at, shape):
        target = aligned
    elif len(at) < 4 and all(_one(n) for n in aligned[:-2]):
        target = (*[1] * (4 - len(aligned)), *aligned)
    elif all(_one(n) for n in aligned[:-2]):
        target = (1, 1, *aligned[-2:])
    else:
        # views of other rank: spread over them as they are, then seen as batch and heads
        value = level.add(f"{name}.bias_wide", Expand((*at[:-2], *aligned[-2:])), value)
        target = (shape[0], shape[1], *aligned[-2:])
    if _one(target[-1]):
        target = (*target[:-1], shape[-1])
        return level.add(f"{name}.bias_keys", Expand(target), value)
    return level.reshaped(f"{name}.bias", value, target)


def _as_bias(level: Level, name: str, condition: str, number: float) -> str:
    """Zero where scores stay, the number where it stands in for them."""
    stays = condition.startswith("~")
    op = Where(0.0, number) if stays else Where(number, 0.0)
    return level.add(name, op, condition.removeprefix("~"))


def _together(level: Level, name: str, biases: list[str]) -> list[str]:
    if not biases:
        return []
    whole = biases[0]
    for other in biases[1:]:
        whole = level.add(f"{name}.bias_sum", Add(), whole, other)
    return [whole]


@ends_with(Attention)
def fewer_keys(level: Level, node: Node) -> bool:
    """Keys and values that were copied for the heads of a group are read as they were."""
    op = node.op
    need(isinstance(op, Attention) and not op.state(*node.io) and not op.latent)
    q, k, v, *more = node.inputs
    narrow = [_ungrouped(level, level.plain(x)) for x in (k, v)]
    need(all(narrow))
    level.add(node.name, op, q, *(x for x in narrow if x), *more, outputs=node.outputs)
    return level.replace(node)


@ends_with(Attention)
def known_mask(level: Level, node: Node) -> bool:
    """A bias that hides what is later, or nothing: all that it does, or what is done to another bias."""
    op = node.op
    assert isinstance(op, Attention)
    need(not op.latent and not op.cached and len(node.inputs) == 4 and node.ins[3].rank == 4)
    value = level.plain(node.inputs[3])
    known, rest = mask_of(level, value), []
    maker = level.maker(value)
    if not known and maker is not None and (found := hidden(level, maker)) is not None:
        inner, condition, _ = found
        known = mask_of(level, condition.removeprefix("~"), hides=not condition.startswith("~"))
        shape = level.shape(inner)
        rest = [level.reshaped(f"{node.name}.bias", inner, (*[1] * (4 - len(shape)), *shape))]
    need(known and not (op.causal and known == "causal"))
    made = replace(op, causal=op.causal or known == "causal")
    level.add(node.name, made, *node.inputs[:3], *rest, outputs=node.outputs)
    return level.replace(node)


def _name(level: Level, node: Node) -> str:
    """attention, under what the names of its nearest named neighbours share; else the product's own."""
    stem = node.name.rpartition(".")[0]
    return f"{stem}.attention" if stem else node.name
