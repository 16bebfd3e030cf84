"""ONNX rules: attention in the standard's and in Microsoft's forms, rotary positions, states of scans."""

from typing import Any

from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.registry import (
    MICROSOFT,
    count_of,
    decimal,
    first,
    gives,
    has,
    heads,
    joined,
    priced,
    reshaped,
    rule,
)
from pharos.convert.reader import FLOATS
from pharos.graph.graph import Value
from pharos.graph.tensor import Tensor
from pharos.ops.attention import Attention
from pharos.ops.cast import Cast
from pharos.ops.compare import Where
from pharos.ops.copies import Full, Pad, Triangle
from pharos.ops.elementwise import Add
from pharos.ops.linear import Linear
from pharos.ops.norm import RMSNorm
from pharos.ops.shape_ops import Concat, Expand, Slice, Split, Transpose
from pharos.quantity.sizes import Size, is_int, prod, same

LOWEST = -1e30


def attended(
    reader: OnnxReader,
    node: Call,
    q: Value,
    k: Value,
    v: Value,
    bias: Value | None = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: Value | None = None,
    scores: int = -1,
    offset: Size = 0,
    right: int = -1,
) -> Value:
    """Attention over q[B, H, T, d], k[B, G, S, d] and v[B, G, S, dv].

    Args:
        causal: taken as such where there are as many queries as keys; of a cache all pairs are counted.
        scores: the output that is asked for the scores themselves.
        offset: keys before the first query's own; right: keys behind it that are seen, -1 all.
    """
    square = same(q.shape[2], k.shape[2])
    masked = causal and square
    pattern = {"pattern": "window", "span": window} if window > 0 and masked else {}
    stored = gives(node, scores) if scores >= 0 else False
    op = Attention(
        causal=masked,
        scale=scale,
        softcap=softcap,
        algorithm="materialised" if stored else "tiled",
        **({} if stored else pattern),
    )
    if bias is not None:
        bias = _bias(reader, node, bias, q, k)
    sides = (0 if causal else right, window - 1 if window > 0 else -1)
    if (causal and not square) or (window > 0 and not pattern) or right >= 0:
        # as a mask that is added: there is no kernel for it
        band = _band(reader, node, q, k, offset, *sides)
        bias = band if bias is None else reader.add(node, Add(), bias, band)
    more = [x for x in (bias, sinks) if x is not None]
    y = reader.add(node, op, q, k, v, *more)
    if stored:
        shape = (*q.shape[:3], k.shape[2])
        # attention has computed and written them anyway
        reader.values[node.output[scores]] = priced(reader, node, [(shape, q.tensor.dtype)], y, cost="view")
    return y


def _bias(reader: OnnxReader, node: Call, mask: Value, q: Value, k: Value) -> Value:
    """A mask as what is added to the scores: [B or 1, H or 1, T, S]."""
    if mask.tensor.dtype == "bool":
        lowest = reader.add(node, Full((1, 1, 1, 1), LOWEST, q.tensor.dtype))
        mask = reader.add(node, Where(a=0.0), mask, lowest)
    elif mask.tensor.dtype not in FLOATS:
        mask = reader.add(node, Cast(q.tensor.dtype), mask)
    rank = mask.tensor.rank
    shape = (1,) * (4 - rank) + tuple(mask.shape)
    mask = reshaped(reader, node, mask, *shape)
    tokens, keys = q.shape[2], k.shape[2]
    if is_int(shape[3]) and is_int(keys) and 1 < shape[3] < keys:
        mask = reader.add(node, Pad(((0, 0),) * 3 + ((0, keys - shape[3]),), value=LOWEST), mask)
    if not same(mask.shape[2], tokens) or not same(mask.shape[3], keys):
        mask = reader.add(node, Expand((*mask.shape[:2], tokens, keys)), mask)
    return mask


def _band(reader: OnnxReader, node: Call, q: Value, k: Value, offset: Size, right: int, left: int) -> Value:
    """0 from `left` keys before a query's own to `right` behind it, the lowest number elsewhere; -1: all."""
    whole = reader.add(node, Full((1, 1, q.shape[2], k.shape[2]), LOWEST, q.tensor.dtype))
    parts = []
    if not is_int(offset):
        raise ValueError("a mask that depends on an open size")
    if right >= 0:
        parts.append(reader.add(node, Triangle(True, offset + right + 1), whole))
    if left >= 0:
        parts.append(reader.add(node, Triangle(False, offset - left - 1), whole))
    return parts[0] if len(parts) == 1 else reader.add(node, Add(), *parts)


def _past(reader: OnnxReader, node: Call, i: int, new: Value) -> Value:
    """New keys or values behind those of a cache that the file is given."""
    if not has(node, i) or node.input[i] in reader.empty:
        return new
    return reader.add(node, Concat(2), reader.value(node.input[i]), new)


def _present(reader: OnnxReader, node: Call, i: int, value: Value) -> None:
    if gives(node, i):
        reader.values[node.output[i]] = value


@rule("Attention")
def _attention(reader: OnnxReader, node: Call) -> Value:
    a = node.attributes
    q, k, v = map(reader.value, node.input[:3])
    flat = q.tensor.rank == 3
    if flat:
        q = heads(reader, node, q, a["q_num_heads"])
        k, v = (heads(reader, node, x, a["kv_num_heads"]) for x in (k, v))
    new = k.shape[2]
    k, v = _past(reader, node, 4, k), _past(reader, node, 5, v)
    if has(node, 6):
        reader.note(f"{node.name or node.op_type}: all keys are counted; how many are real depends on data")
    mask = reader.value(node.input[3]) if has(node, 3) else None
    scale = a.get("scale")
    window = a.get("left_window_size", -1) + 1
    behind = k.shape[2] - new
    right = a.get("right_window_size", -1)
    y = attended(reader, node, q, k, v, mask, causal=bool(a.get("is_causal", 0)), window=window,
                 scale=None if scale is None else decimal(scale), softcap=decimal(a.get("softcap", 0.0)),
                 scores=3, offset=behind, right=right)  # fmt: skip
    _present(reader, node, 1, k)
    _present(reader, node, 2, v)
    return joined(reader, node, y) if flat else y


@rule("FlexAttention")
def _flexible(reader: OnnxReader, node: Call) -> Any:
    """Attention whose scores pass a graph of the file's: its operations count for every score."""
    q, k, v = map(reader.value, node.input[:3])
    shape = (*q.shape[:3], k.shape[2])
    vector: Size = 0
    for key in ("score_mod", "prob_mod"):
        if key in node.attributes:
            vector = vector + len(node.attributes[key].node) * count_of(shape)
    y = attended(reader, node, q, k, v, scale=node.attributes.get("scale"))
    if is_int(vector) and vector == 0:
        return y
    reader.note(f"each node of {node.name or node.op_type}'s modifiers is counted as one operation a score")
    return priced(reader, node, [(y.shape, y.tensor.dtype)], y, vector=vector)


@rule("LinearAttention")
def _linear_attention(reader: OnnxReader, node: Call) -> Any:
    """A state d_k x d_v a key head: an outer product added each token, read by each of its query heads.

    A decay multiplies the state; a delta rule first reads it with the key, as many products again.
    """
    q, k, v = map(reader.value, node.input[:3])
    a = node.attributes
    count, groups = a["q_num_heads"], a["kv_num_heads"]
    batch, tokens = q.shape[:2]
    dk, dv = k.shape[2] // groups, v.shape[2] // groups
    state, how = dk * dv, a.get("update_rule", "gated_delta")
    steps = batch * tokens
    macs = steps * state * (groups * (2 if "delta" in how else 1) + count)
    vector = steps * groups * ((state if "gated" in how else 0) + (2 * dv if "delta" in how else 0))
    outs = [((batch, tokens, count * dv), q.tensor.dtype), ((batch, groups, dk, dv), q.tensor.dtype)]
    made = outs[: max(len(node.output), 1)]
    return priced(reader, node, made, macs=macs, vector=vector + steps * count * dv,
                  roots=steps * groups if "gated" in how else 0, cost="recurrence")  # fmt: skip


@rule("CausalConvWithState")
def _causal_conv(reader: OnnxReader, node: Call) -> Any:
    """x[B, C, T] with the last K - 1 inputs of an earlier call in front, each channel by its own kernel."""
    x, kernel = first(reader, node), reader.tensor(node.input[1])
    if x.tensor.rank != 3 or node.attributes.get("channels_last", 0):
        raise ValueError("of another layout")
    batch, channels, tokens = x.shape
    width = kernel.shape[-1]
    out = batch * channels * tokens
    active = node.attributes.get("activation", "none") in ("silu", "swish")
    outs = [(x.shape, x.tensor.dtype), ((batch, channels, width - 1), x.tensor.dtype)]
    if is_int(width) and width == 1 and len(node.output) > 1:
        reader.empty[node.output[1]] = Tensor(outs[1][0], outs[1][1])
    made = outs[: 1 if is_int(width) and width == 1 else max(len(node.output), 1)]
    return priced(reader, node, made, macs=out * width, cost="depthwise",
                  vector=(out if has(node, 2) else 0) + (2 * out if active else 0),
                  roots=2 * out if active else 0)  # fmt: skip


@rule("RotaryEmbedding", f"{MICROSOFT}.RotaryEmbedding", f"{MICROSOFT}.GemmaRotaryEmbedding")
def _rotary(reader: OnnxReader, node: Call) -> Any:
    """Two products and an addition for each feature that turns; sines and cosines come as a table."""
    x, a = first(reader, node), node.attributes
    if node.op_type == "GemmaRotaryEmbedding":
        q, k = reader.value(node.input[2]), reader.value(node.input[4])
        pairs = [(q.shape, q.tensor.dtype), (k.shape, k.tensor.dtype)]
        both = q.tensor.numel + k.tensor.numel
        return priced(reader, node, pairs, vector=3 * both, roots=2 * x.tensor.numel)
    count = a.get("num_heads", 0)
    width = x.shape[-1] if x.tensor.rank == 4 or not count else x.shape[-1] // count
    turned = a.get("rotary_embedding_dim", 0) or width
    numel = x.tensor.numel * turned // width
    return priced(reader, node, [(x.shape, x.tensor.dtype)], vector=3 * numel)


def _projected(reader: OnnxReader, node: Call) -> tuple[list[Value], int]:
    """Queries, keys and values of one input by one stored matrix, and the number of heads."""
    from pharos.convert.onnx_rules.layers import is_weight

    x, count = first(reader, node), node.attributes["num_heads"]
    inside, out = reader.tensor(node.input[1]).shape
    bias = has(node, 2) and is_weight(reader, node, 2)
    named = {"weight": node.input[1]} | ({"bias": node.input[2]} if bias else {})
    y = reader.add(node, Linear(inside, out, bias, transposed=True), x, **named)
    sizes = tuple(node.attributes.get("qkv_hidden_sizes") or [out // 3] * 3)
    return list(reader.add(node, Split(sizes, -1), y)), count


@rule(f"{MICROSOFT}.Attention", f"{MICROSOFT}.DecoderMaskedSelfAttention", f"{MICROSOFT}.QAttention",
      f"{MICROSOFT}.PackedAttention")  # fmt: skip
def _fused_attention(reader: OnnxReader, node: Call) -> Value:
    """One linear layer for q, k and v, then attention: two operators of ours."""
    quantised, packed = node.op_type == "QAttention", node.op_type == "PackedAttention"
    parts, count = _projected(reader, node)
    if packed:
        # tokens of all sequences, without padding; who attends to whom depends on the data
        reader.note(f"{node.name or node.op_type}: every token is counted as attending to all of the batch")
        parts = [reshaped(reader, node, p, 1, *p.shape) for p in parts]
    if quantised:
        parts = [_as(reader, node, p) for p in parts]
    q, k, v = (heads(reader, node, p, count) for p in parts)
    past = {"QAttention": 8, "PackedAttention": -1}.get(node.op_type, 4)
    bias_at = {"QAttention": -1}.get(node.op_type, 5)
    if past >= 0 and has(node, past) and node.input[past] not in reader.empty:
        held = reader.value(node.input[past])
        halves = reader.add(node, Split((1, 1), 0), held)
        k, v = (
            reader.add(node, Concat(2), reshaped(reader, node, h, *h.shape[1:]), new)
            for h, new in zip(halves, (k, v), strict=True)
        )
    bias = reader.value(node.input[bias_at]) if bias_at > 0 and has(node, bias_at) else None
    scale = node.attributes.get("scale")
    y = attended(reader, node, q, k, v, bias, causal=bool(node.attributes.get("unidirectional", 0)),
                 scale=decimal(scale) if scale else None)  # fmt: skip
    if gives(node, 1):
        both = [reshaped(reader, node, x, 1, *x.shape) for x in (k, v)]
        reader.values[node.output[1]] = reader.add(node, Concat(0), *both)
    y = joined(reader, node, y)
    return reshaped(reader, node, y, *y.shape[1:]) if packed else y


def _as(reader: OnnxReader, node: Call, x: Value) -> Value:
    """Dequantised: what follows an integer product is computed in the graph's own type."""
    return reader.add(node, Cast(reader.g.precision.activations), x)


@rule(f"{MICROSOFT}.MultiHeadAttention", f"{MICROSOFT}.DecoderMaskedMultiHeadAttention",
      f"{MICROSOFT}.PackedMultiHeadAttention")  # fmt: skip
def _multi_head(reader: OnnxReader, node: Call) -> Value:
    a, masked = node.attributes, node.op_type.startswith("Decoder")
    packed = node.op_type.startswith("Packed")
    count, q = a["num_heads"], first(reader, node)
    if packed and q.tensor.rank == 2:
        reader.note(f"{node.name or node.op_type}: every token is counted as attending to all of the batch")
    bias_at, extra, past = (10, 4, 5) if masked else (3, 6, -1) if packed else (3, 5, 6)
    given: list[Value] = _three(reader, node, q, count, packed)
    if has(node, bias_at):
        given = _biased(reader, node, given, node.input[bias_at])
    q, k, v = (x if x.tensor.rank == 4 else heads(reader, node, x, count) for x in given)
    if past > 0:
        k, v = _past(reader, node, past, k), _past(reader, node, past + 1, v)
    bias = reader.value(node.input[extra]) if has(node, extra) else None
    scale = a.get("scale")
    y = attended(reader, node, q, k, v, bias, causal=bool(a.get("unidirectional", 0)),
                 scale=decimal(scale) if scale else None, scores=3)  # fmt: skip
    _present(reader, node, 1, k)
    _present(reader, node, 2, v)
    y = joined(reader, node, y)
    return reshaped(reader, node, y, *y.shape[1:]) if packed else y


def _three(reader: OnnxReader, node: Call, q: Value, count: int, packed: bool) -> list[Value]:
    """Queries, keys and values, which may come in one tensor."""
    if packed:
        given = [reader.value(i) for i in node.input[:3] if i]
        if len(given) == 3:
            return [reshaped(reader, node, x, 1, *x.shape) for x in given]
    if q.tensor.rank == 5:
        # [B, T, H, 3, d]
        batch, tokens, n, parts, width = q.shape
        made = reader.add(node, Split((1,) * parts, 3), q)
        turned = [reshaped(reader, node, x, batch, tokens, n, width) for x in made]
        return [reader.add(node, Transpose((0, 2, 1, 3), view=True), x) for x in turned]
    if not has(node, 1):
        raise ValueError("has no keys")
    k = reader.value(node.input[1])
    if k.tensor.rank == 5:
        # [B, S, H, 2, d]
        batch, keys, n, parts, width = k.shape
        made = reader.add(node, Split((1,) * parts, 3), k)
        turned = [reshaped(reader, node, x, batch, keys, n, width) for x in made]
        return [q, *[reader.add(node, Transpose((0, 2, 1, 3), view=True), x) for x in turned]]
    return [q, k, reader.value(node.input[2])]


def _biased(reader: OnnxReader, node: Call, given: list[Value], name: str) -> list[Value]:
    """The bias of queries, keys and values, one after another in one vector."""
    bias, at = reader.value(name), 0
    made = []
    for x in given:
        if x.tensor.rank != 3:
            made.append(x)
            continue
        width = x.shape[-1]
        made.append(reader.add(node, Add(), x, reader.add(node, Slice(0, at, at + width), bias)))
        at = at + width
    return made


@rule(f"{MICROSOFT}.GroupQueryAttention", f"{MICROSOFT}.SparseAttention")
def _grouped(reader: OnnxReader, node: Call) -> Value:
    a = node.attributes
    count, groups = a["num_heads"], a["kv_num_heads"]
    sparse = node.op_type == "SparseAttention"
    q = first(reader, node)
    if has(node, 1):
        k, v = reader.value(node.input[1]), reader.value(node.input[2])
    else:
        width = q.shape[2] // (count + 2 * groups)
        q, k, v = reader.add(node, Split((count * width, groups * width, groups * width), -1), q)
    q = q if q.tensor.rank == 4 else heads(reader, node, q, count)
    k, v = (x if x.tensor.rank == 4 else heads(reader, node, x, groups) for x in (k, v))
    if not sparse:
        q, k = (_normed(reader, node, x, i) for x, i in ((q, 14), (k, 15)))
    if a.get("do_rotary", 0):
        q, k = (_turned(reader, node, x) for x in (q, k))
    new = k.shape[2]
    k, v = _past(reader, node, 3, k), _past(reader, node, 4, v)
    behind = k.shape[2] - new
    bias = reader.value(node.input[10]) if not sparse and has(node, 10) else None
    sinks = reader.value(node.input[11]) if not sparse and has(node, 11) else None
    scale = a.get("scale")
    if sparse:
        reader.note(f"{node.name or node.op_type}: its blocks depend on the data; all pairs are counted")
    y = attended(reader, node, q, k, v, bias, causal=bool(a.get("causal", 1)), sinks=sinks,
                 scale=decimal(scale) if scale else None, softcap=decimal(a.get("softcap", 0.0)),
                 window=a.get("local_window_size", -1), scores=3, offset=behind)  # fmt: skip
    _present(reader, node, 1, k)
    _present(reader, node, 2, v)
    return joined(reader, node, y)


def _normed(reader: OnnxReader, node: Call, x: Value, i: int) -> Value:
    if not has(node, i):
        return x
    return reader.add(node, RMSNorm(x.shape[3], 1e-6), x, weight=node.input[i])


def _turned(reader: OnnxReader, node: Call, x: Value) -> Value:
    """Rotary positions inside the operator, as wide as its table says."""
    width = x.shape[3]
    at = 9 if node.op_type == "SparseAttention" else 7
    half = reader.tensor(node.input[at]).shape[-1] if has(node, at) else width // 2
    numel = prod(x.shape[:3]) * 2 * half
    return priced(reader, node, [(x.shape, x.tensor.dtype)], x, vector=3 * numel)


@rule(f"{MICROSOFT}.PagedAttention")
def _paged(reader: OnnxReader, node: Call) -> Any:
    """Tokens of all sequences against pages of a cache: counted against all of the cache."""
    a, q = node.attributes, first(reader, node)
    cache = reader.tensor(node.input[3])
    count = a["num_heads"]
    tokens, width = q.shape[0], q.shape[1] // count
    if not has(node, 1):
        width = q.shape[1] // (count + 2 * a["kv_num_heads"])
    keys = cache.shape[0] * cache.shape[1]
    reader.note(f"{node.name or node.op_type}: every token is counted as attending to the whole cache")
    pairs = count * tokens * keys
    outs = [((tokens, count * width), q.tensor.dtype), (cache.shape, cache.dtype),
            (reader.tensor(node.input[4]).shape, cache.dtype)]  # fmt: skip
    turned = 3 * tokens * width * (count + a["kv_num_heads"]) if a.get("do_rotary", 0) else 0
    return priced(reader, node, outs[: len(node.output)], macs=2 * pairs * width, vector=3 * pairs + turned,
                  roots=2 * pairs, cost="attention")  # fmt: skip


@rule(f"{MICROSOFT}.LongformerAttention")
def _longformer(reader: OnnxReader, node: Call) -> Any:
    """Linear layers for local and for global tokens; each token sees `window` on each side of it."""
    a, x = node.attributes, first(reader, node)
    batch, tokens, width = x.shape
    seen = 2 * a["window"] + 1
    reader.note(f"{node.name or node.op_type}: global tokens depend on the data; none are counted")
    linear = 2 * 3 * batch * tokens * width * width
    pairs = batch * a["num_heads"] * tokens * seen
    macs = linear + 2 * batch * tokens * seen * width
    return priced(reader, node, [(x.shape, x.tensor.dtype)], macs=macs,
                  vector=6 * batch * tokens * width + 3 * pairs, roots=2 * pairs,
                  cost="attention")  # fmt: skip


@rule(f"{MICROSOFT}.RelativePositionBias")
def _relative(reader: OnnxReader, node: Call) -> Any:
    """A table of buckets looked up for every pair of places."""
    table = reader.tensor(node.input[0])
    q, k = (reader.data(i) for i in node.input[1:3])
    if not q or not k:
        raise ValueError("of a size that is not known")
    shape = (1, table.shape[1], q[0], k[0])
    return priced(
        reader, node, [(shape, table.dtype)], vector=4 * q[0] * k[0], roots=q[0] * k[0], cost="gather"
    )
