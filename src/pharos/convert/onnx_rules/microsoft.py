"""ONNX rules: what ONNX Runtime's optimisers fuse: norms with residuals, products with activations."""

from dataclasses import replace
from typing import Any

from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.layers import conv, gemm, is_weight, matmul, product
from pharos.convert.onnx_rules.registry import (
    MICROSOFT,
    RULES,
    decimal,
    first,
    gives,
    has,
    numbers,
    priced,
    reshaped,
    rule,
)
from pharos.graph.graph import Value
from pharos.ops.activation import Activation, Softmax
from pharos.ops.elementwise import Add, Mul
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear, MatMul
from pharos.ops.norm import GroupNorm, LayerNorm, RMSNorm
from pharos.ops.shape_ops import Slice, Split, Transpose
from pharos.quantity.sizes import ceil_log2, is_int, prod


def _standard(node: Call, kind: str, inputs: list[str], attributes: dict[str, Any] | None = None) -> Call:
    given = list(inputs)
    while given and not given[-1]:
        given.pop()
    return replace(node, op_type=kind, domain="", input=given,
                   attributes=node.attributes if attributes is None else attributes)  # fmt: skip


@rule(f"{MICROSOFT}.FastGelu", f"{MICROSOFT}.BiasGelu", f"{MICROSOFT}.Gelu")
def _gelu(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    if has(node, 1):
        x = reader.add(node, Add(), x, reader.value(node.input[1]))
    return reader.add(node, Activation("gelu_tanh" if node.op_type == "FastGelu" else "gelu"), x)


@rule(f"{MICROSOFT}.BiasSplitGelu")
def _split_gelu(reader: OnnxReader, node: Call) -> Value:
    """Half of the features gate the other half, after a bias: GEGLU."""
    x = reader.add(node, Add(), first(reader, node), reader.value(node.input[1]))
    half = x.shape[-1] // 2
    left, right = reader.add(node, Split((half, half), -1), x)
    return reader.add(node, Mul(), left, reader.add(node, Activation("gelu"), right))


@rule(f"{MICROSOFT}.BiasAdd")
def _bias_add(reader: OnnxReader, node: Call) -> Value:
    x = reader.add(node, Add(), first(reader, node), reader.value(node.input[1]))
    return reader.add(node, Add(), x, reader.value(node.input[2]))


@rule(f"{MICROSOFT}.BiasDropout", f"{MICROSOFT}.BitmaskBiasDropout")
def _bias_dropout(reader: OnnxReader, node: Call) -> Value:
    x = reader.add(node, Add(), first(reader, node), reader.value(node.input[1]))
    return reader.add(node, Add(), x, reader.value(node.input[2])) if has(node, 2) else x


@rule(f"{MICROSOFT}.GatedAdd")
def _gated_add(reader: OnnxReader, node: Call) -> Any:
    """A residual added through a gate: a product and an addition an element."""
    x = first(reader, node)
    return priced(reader, node, [(x.shape, x.tensor.dtype)], vector=2 * x.tensor.numel)


@rule(f"{MICROSOFT}.ScaledSiLU")
def _scaled_silu(reader: OnnxReader, node: Call) -> Value:
    return reader.add(node, Mul(scalar=2.0), reader.add(node, Activation("silu"), first(reader, node)))


@rule(f"{MICROSOFT}.BiasSoftmax")
def _bias_softmax(reader: OnnxReader, node: Call) -> Value:
    x = reader.add(node, Add(), first(reader, node), reader.value(node.input[1]))
    return reader.add(node, Softmax(-1), x)


@rule(f"{MICROSOFT}.SkipLayerNormalization", f"{MICROSOFT}.SkipSimplifiedLayerNormalization")
def _skip_norm(reader: OnnxReader, node: Call) -> Any:
    layer = node.op_type == "SkipLayerNormalization"
    x, skip = first(reader, node), reader.value(node.input[1])
    bias = 4 if layer else 3
    total = reader.add(node, Add(), x, skip)
    if has(node, bias):
        total = reader.add(node, Add(), total, reader.value(node.input[bias]))
    width, eps = x.shape[-1], decimal(node.attributes.get("epsilon", 1e-12))
    if layer:
        shift = has(node, 3) and is_weight(reader, node, 3)
        named = {"weight": node.input[2]} | ({"bias": node.input[3]} if shift else {})
        y = reader.add(node, LayerNorm(width, eps, shift), total, **named)
    else:
        y = reader.add(node, RMSNorm(width, eps), total, weight=node.input[2])
    rows = (*x.shape[:-1], 1)
    more = [
        priced(reader, node, [(rows, "fp32")], x, cost="view") if gives(node, i) else None for i in (1, 2)
    ]
    return (y, *more, total)


@rule(f"{MICROSOFT}.EmbedLayerNormalization", f"{MICROSOFT}.QEmbedLayerNormalization")
def _embed_norm(reader: OnnxReader, node: Call) -> Any:
    """Word, position and segment embeddings summed and normed; the mask is added up a row."""
    ids = first(reader, node)
    batch, tokens = ids.shape[:2]
    tables = [(2, ids), (3, None), (4, reader.value(node.input[1]) if has(node, 1) else None)]
    total: Any = None
    for i, index in tables:
        if not has(node, i):
            continue
        rows, width = reader.tensor(node.input[i]).shape
        if i == 3:
            # the first positions, or those that are given
            if has(node, 8) and node.op_type[0] == "E":
                looked = reader.add(
                    node, Embedding(rows, width), reader.value(node.input[8]), weight=node.input[i]
                )
            else:
                whole = reader.value(node.input[i])
                looked = reader.add(node, Slice(0, 0, tokens), whole) if is_int(tokens) else whole
        elif index is None:
            continue
        else:
            looked = reader.add(node, Embedding(rows, width), index, weight=node.input[i])
        total = looked if total is None else reader.add(node, Add(), total, looked)
    y = reader.add(node, LayerNorm(total.shape[-1], decimal(node.attributes.get("epsilon", 1e-12))), total,
                   weight=node.input[5], bias=node.input[6])  # fmt: skip
    mask = None
    if gives(node, 1):
        mask = priced(reader, node, [((batch,), "int32")], ids, vector=batch * tokens)
    return y, mask, total


@rule(f"{MICROSOFT}.FusedMatMul", f"{MICROSOFT}.TransposeMatMul", f"{MICROSOFT}.FusedMatMulActivation")
def _fused_matmul(reader: OnnxReader, node: Call) -> Value:
    """alpha A B, either side turned over; then an activation."""
    a = node.attributes
    if a.get("transBatchA", 0) or a.get("transBatchB", 0):
        raise ValueError("turns over the batch")
    x = first(reader, node)
    if a.get("transA", 0):
        x = reader.add(node, Transpose(_swapped(x), view=True), x)
    if is_weight(reader, node, 1) and reader.tensor(node.input[1]).rank == 2:
        tensor, across = reader.tensor(node.input[1]), bool(a.get("transB", 0))
        out, inside = tensor.shape if across else tensor.shape[::-1]
        turned = across == reader.constants[node.input[1]].turned
        y = reader.add(node, Linear(inside, out, False, turned), x, weight=node.input[1])
    else:
        b = reader.value(node.input[1])
        if a.get("transB", 0):
            y = reader.add(node, MatMul(True), x, b)
        else:
            y = product(reader, node, x, b)
    alpha = decimal(a.get("alpha", 1.0))
    y = y if alpha == 1 else reader.add(node, Mul(scalar=alpha), y)
    return _activated(reader, node, y, a.get("activation", ""))


def _swapped(x: Value) -> tuple[int, ...]:
    rank = x.tensor.rank
    return (*range(rank - 2), rank - 1, rank - 2)


def _activated(reader: OnnxReader, node: Call, y: Value, kind: str) -> Value:
    """The activation that a fused operator ends in, by ONNX's name of it."""
    if not kind:
        return y
    name = f"{node.name or node.op_type}:{kind}"
    reader.values[name] = y
    a = node.attributes
    given: dict[str, Any] = {}
    parameters = a.get("activation_params") or []
    if kind in ("LeakyRelu", "Elu", "HardSigmoid") and (parameters or "activation_alpha" in a):
        given["alpha"] = parameters[0] if parameters else a["activation_alpha"]
        if kind == "HardSigmoid":
            given["beta"] = parameters[1] if parameters else a.get("activation_beta", 0.5)
    if kind == "Clip" and len(parameters) == 2:
        given = {"min": parameters[0], "max": parameters[1]}
    if kind == "Softmax":
        given["axis"] = a.get("activation_axis", -1)
    return RULES[kind](reader, _standard(node, kind, [name], given))


@rule(f"{MICROSOFT}.FusedGemm")
def _fused_gemm(reader: OnnxReader, node: Call) -> Value:
    return _activated(
        reader, node, gemm(reader, _standard(node, "Gemm", node.input)), node.attributes["activation"]
    )


@rule(f"{MICROSOFT}.GemmFastGelu")
def _gemm_gelu(reader: OnnxReader, node: Call) -> Value:
    y = matmul(reader, _standard(node, "MatMul", node.input[:2]))
    y = reader.add(node, Add(), y, reader.value(node.input[2])) if has(node, 2) else y
    return reader.add(node, Activation("gelu_tanh"), y)


@rule(f"{MICROSOFT}.FusedConv")
def _fused_conv(reader: OnnxReader, node: Call) -> Value:
    y = conv(reader, _standard(node, "Conv", node.input[:3]))
    if has(node, 3):
        y = reader.add(node, Add(), y, reader.value(node.input[3]))
    return _activated(reader, node, y, node.attributes.get("activation", ""))


@rule(f"{MICROSOFT}.GroupNorm", f"{MICROSOFT}.SkipGroupNorm")
def _group_norm(reader: OnnxReader, node: Call) -> Any:
    """Group norm over x[B, H, W, C] as over x[B, C, H, W], with a residual before and silu behind it."""
    x, a = first(reader, node), node.attributes
    total = x
    for i in (3, 4):
        if has(node, i):
            total = reader.add(node, Add(), total, reader.value(node.input[i]))
    last = a.get("channels_last", 1)
    channels, rank = x.shape[-1 if last else 1], x.tensor.rank
    y = total
    if last:
        y = reader.add(node, Transpose((0, rank - 1, *range(1, rank - 1)), view=True), y)
    y = reader.add(node, GroupNorm(a["groups"], channels, decimal(a.get("epsilon", 1e-5))), y,
                   weight=node.input[1], bias=node.input[2])  # fmt: skip
    if last:
        y = reader.add(node, Transpose((0, *range(2, rank), 1), view=True), y)
    if a.get("activation", 0):
        y = reader.add(node, Activation("silu"), y)
    return (y, total) if node.op_type == "SkipGroupNorm" else y


@rule(f"{MICROSOFT}.GatedRMSNorm", f"{MICROSOFT}.RMSNormRotary", f"{MICROSOFT}.BranchwiseRMSNorm")
def _other_norms(reader: OnnxReader, node: Call) -> Any:
    """Not read: their forms still change from release to release."""
    raise ValueError("has no settled form")


@rule(f"{MICROSOFT}.Inverse")
def _inverse(reader: OnnxReader, node: Call) -> Any:
    """By elimination: 2 n^3 operations of a matrix of n."""
    x = first(reader, node)
    n, rows = x.shape[-1], prod(x.shape[:-2])
    return priced(reader, node, [(x.shape, x.tensor.dtype)], x, vector=2 * rows * n**3, roots=rows * n)


@rule(f"{MICROSOFT}.ComplexMul", f"{MICROSOFT}.ComplexMulConj")
def _complex(reader: OnnxReader, node: Call) -> Any:
    """4 products and 2 sums a pair."""
    x, y = first(reader, node), reader.value(node.input[1])
    larger = x if x.tensor.rank >= y.tensor.rank else y
    return priced(reader, node, [(larger.shape, x.tensor.dtype)], vector=3 * larger.tensor.numel)


@rule(f"{MICROSOFT}.CDist")
def _distance(reader: OnnxReader, node: Call) -> Any:
    """A difference, a square and a sum a feature and pair; a root a pair."""
    a, b = first(reader, node), reader.value(node.input[1])
    shape = (a.shape[0], b.shape[0])
    roots = prod(shape) if node.attributes.get("metric", "sqeuclidean") == "euclidean" else 0
    return priced(reader, node, [(shape, a.tensor.dtype)], vector=3 * prod(shape) * a.shape[1], roots=roots)


@rule(f"{MICROSOFT}.Rfft", f"{MICROSOFT}.Irfft")
def _real_fourier(reader: OnnxReader, node: Call) -> Any:
    """2.5 n log2 n operations a transform of n real numbers, over the last `signal_ndim` dimensions."""
    x, n = first(reader, node), node.attributes.get("signal_ndim", 1)
    if node.op_type == "Rfft":
        shape = (*x.shape[:-1], x.shape[-1] // 2 + 1, 2)
        length, numel = prod(x.shape[-n:]), x.tensor.numel
    else:
        shape = (*x.shape[:-2], 2 * (x.shape[-2] - 1))
        length, numel = prod(shape[-n:]), prod(shape)
    return priced(reader, node, [(shape, x.tensor.dtype)], x, vector=5 * numel * ceil_log2(length) // 2)


@rule(f"{MICROSOFT}.ExpandDims")
def _expand_dims(reader: OnnxReader, node: Call) -> Value:
    x, at = first(reader, node), (numbers(reader, node, "", 1) or [0])[0]
    at = at + x.tensor.rank + 1 if at < 0 else at
    return reshaped(reader, node, x, *x.shape[:at], 1, *x.shape[at:])


@rule(f"{MICROSOFT}.IsAllFinite")
def _finite(reader: OnnxReader, node: Call) -> Any:
    total = sum(reader.tensor(i).numel for i in node.input)
    return priced(reader, node, [((), "bool")], vector=2 * total)


@rule(f"{MICROSOFT}.TorchEmbedding")
def _embedding(reader: OnnxReader, node: Call) -> Value:
    rows, width = reader.tensor(node.input[0]).shape
    return reader.add(node, Embedding(rows, width), reader.value(node.input[1]), weight=node.input[0])


@rule(f"{MICROSOFT}.UnfoldTensor")
def _unfold(reader: OnnxReader, node: Call) -> Any:
    """Windows along a dimension, each a slice of its own behind the others: copies."""
    x, a = first(reader, node), node.attributes
    dim, size, step = a.get("dim", -1) % x.tensor.rank, a["size"], a.get("step", 1)
    windows = (x.shape[dim] - size) // step + 1
    shape = (*x.shape[:dim], windows, *x.shape[dim + 1 :], size)
    return priced(reader, node, [(shape, x.tensor.dtype)], x, cost="copy")
