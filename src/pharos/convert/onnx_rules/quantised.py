"""ONNX rules: quantised models: pairs of quantise and dequantise, integer operators, weights in few bits."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pharos.convert.onnx_file import DTYPES
from pharos.convert.onnx_reader import STANDARD, Call, OnnxReader
from pharos.convert.onnx_rules.layers import conv, gemm, global_pool, is_weight, matmul
from pharos.convert.onnx_rules.registry import (
    MICROSOFT,
    RULES,
    first,
    has,
    priced,
    rule,
)
from pharos.convert.reader import Constant
from pharos.graph.graph import Value
from pharos.graph.tensor import Tensor
from pharos.ops.elementwise import Add
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear, MatMul
from pharos.ops.quantise import Dequantize, Quantize
from pharos.ops.shape_ops import Concat
from pharos.quantity.sizes import prod

# What a runtime computes on whole numbers when everything around it is quantised.
NARROW = {
    "Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Mul", "AveragePool", "GlobalAveragePool", "MaxPool",
    "Concat",
    "Relu", "Clip", "Reshape", "Transpose", "Resize", "Slice", "Softmax", "Sigmoid", "LeakyRelu", "Flatten",
    "Squeeze", "Unsqueeze", "Split", "Gather", "Pad", "DepthToSpace", "SpaceToDepth", "ReduceMean", "Expand",
    "HardSwish", "HardSigmoid", "Sub", "Where", "ArgMax", "GlobalMaxPool", "Tanh", "Gelu",
}  # fmt: skip
_BY_WEIGHTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def narrowed(reader: OnnxReader, node: Call) -> Any:
    """The node on whole numbers, None if it is not computed on such: its inputs are all dequantised.

    Its result is whole too where a quantiser alone reads it, else of the graph's own type.
    """
    if node.domain not in STANDARD or node.op_type not in NARROW:
        return None
    given = [i for i in node.input if i and i in reader.narrow and i not in reader.values]
    if not given or node.input[0] not in given:
        return None
    by_weight = node.op_type in _BY_WEIGHTS
    for name in node.input[1:]:
        constant = reader.constants.get(name)
        if name and constant is None and name not in given:
            return None
    if by_weight and has(node, 1) and node.input[1] not in given:
        stored = reader.types.get(reader.origin(node.input[1]), "")
        if not stored.startswith(("int", "uint", "fp8")):
            return None
    readers = set().union(*(reader.file.readers.get(o, {""}) for o in node.output if o))
    follows = readers <= {"QuantizeLinear"} or (readers <= {"Relu", "Clip"} and by_weight)
    if not follows and not by_weight:
        return None
    found = RULES[node.op_type]
    for name in given:
        reader.values[name] = reader.narrow[name]
    made = found(reader, node)
    for name in given:
        del reader.values[name]
    if follows:
        return made
    # products of whole numbers, added up wide and scaled back
    wide = reader.g.precision.activations
    return reader.widen(made, wide)


def _along(reader: OnnxReader, node: Call, x: Tensor) -> tuple[int, int]:
    """(channels, dimension) of a scale."""
    scale = reader.tensor(node.input[1])
    if scale.rank == 0 or prod(scale.shape) == 1:
        return 1, 1
    return (prod(scale.shape), node.attributes.get("axis", 1) % max(x.rank, 1)) if scale.rank == 1 else (1, 1)


@rule("QuantizeLinear", f"{MICROSOFT}.QuantizeLinear")
def _quantize(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    wanted = DTYPES.get(node.attributes.get("output_dtype", 0), "")
    if not wanted:
        wanted = reader.tensor(node.input[2]).dtype if has(node, 2) else "uint8"
    if x.tensor.dtype.startswith(("int", "uint", "fp8")):
        return x
    return reader.add(node, Quantize(wanted, *_along(reader, node, x.tensor)), x)


@rule("DequantizeLinear", f"{MICROSOFT}.DequantizeLinear")
def _dequantize(reader: OnnxReader, node: Call) -> Value | None:
    x = first(reader, node)
    wide = reader.g.precision.activations
    if reader.outer is None and node.output[0] not in reader.narrow and x.tensor.dtype != "int32":
        # written only when something needs the wide numbers
        reader.narrow[node.output[0]] = x
        reader.deferred[node.output[0]] = node
        return None
    return reader.add(node, Dequantize(wide, *_along(reader, node, x.tensor)), x)


@rule("DynamicQuantizeLinear")
def _dynamic(reader: OnnxReader, node: Call) -> Any:
    """A largest and a smallest element, then a quotient, a rounding, a sum and two comparisons each."""
    x = first(reader, node)
    outs = [(x.shape, "uint8"), ((), x.tensor.dtype), ((), "uint8")]
    return priced(reader, node, outs, x, vector=6 * x.tensor.numel, roots=x.tensor.numel + 1)


def _call(node: Call, kind: str, inputs: Sequence[str], **attributes: Any) -> Call:
    """The same node as another kind, over some of its inputs."""
    given = list(inputs)
    while given and not given[-1]:
        given.pop()
    return replace(node, op_type=kind, domain="", input=given, attributes=node.attributes | attributes)


def _at(node: Call, i: int) -> str:
    return node.input[i] if len(node.input) > i else ""


@rule("QLinearConv", f"{MICROSOFT}.QLinearConv", "ConvInteger")
def _integer_conv(reader: OnnxReader, node: Call) -> Any:
    """A convolution of whole numbers; a quantised one ends in a product, a rounding and a sum an output."""
    if node.attributes.get("channels_last", 0):
        return _channels_last(reader, node, _at(node, 3), _at(node, 8))
    if node.op_type == "ConvInteger":
        made = conv(reader, _call(node, "Conv", [node.input[0], node.input[1]]))
        return reader.widen(made, "int32")
    return conv(reader, _call(node, "Conv", [node.input[0], node.input[3], _at(node, 8)]))


@rule(f"{MICROSOFT}.NhwcConv", f"{MICROSOFT}.NhwcFusedConv")
def _nhwc_conv(reader: OnnxReader, node: Call) -> Any:
    return _channels_last(reader, node, node.input[1], _at(node, 2))


def _channels_last(reader: OnnxReader, node: Call, weight: str, bias: str) -> Any:
    """x[B, *spatial, C]: the same products as with the channels in front."""
    x, kernel = first(reader, node), reader.tensor(weight)
    n = kernel.rank - 2
    shape = (x.shape[0], x.shape[-1], *x.shape[1:-1])
    moved = Value(f"{node.name}:moved", x.tensor.with_shape(*shape))
    from pharos.convert.onnx_rules.registry import pads, spread

    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    around = pads(moved, node, kernel.shape[2:], strides, dilations)
    out = [
        (size + b + a - d * (k - 1) - 1) // s + 1
        for size, (b, a), k, s, d in zip(shape[2:], around, kernel.shape[2:], strides, dilations, strict=True)
    ]
    made = (x.shape[0], *out, kernel.shape[0])
    return priced(reader, node, [(made, x.tensor.dtype)], macs=prod(made) * prod(kernel.shape[1:]),
                  vector=prod(made) if bias else 0, cost="conv")  # fmt: skip


@rule(f"{MICROSOFT}.NhwcMaxPool")
def _nhwc_pool(reader: OnnxReader, node: Call) -> Any:
    from pharos.convert.onnx_rules.layers import MAX_POOLS
    from pharos.convert.onnx_rules.registry import pads, spread

    x, kernel = first(reader, node), tuple(node.attributes["kernel_shape"])
    n = len(kernel)
    moved = x.tensor.with_shape(x.shape[0], x.shape[-1], *x.shape[1:-1])
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    around = pads(Value("moved", moved), node, kernel, strides, dilations)
    padded = moved.with_shape(
        *moved.shape[:2], *(s + b + a for s, (b, a) in zip(moved.shape[2:], around, strict=True))
    )
    ceil = bool(node.attributes.get("ceil_mode", 0))
    out = MAX_POOLS[n](kernel, strides, 0, dilations, ceil).shape(padded).shape
    shape = (out[0], *out[2:], out[1])
    return priced(reader, node, [(shape, x.tensor.dtype)], x, vector=prod(shape) * prod(kernel), cost="pool")


@rule("QLinearMatMul", "MatMulInteger", f"{MICROSOFT}.MatMulInteger16", f"{MICROSOFT}.MatMulIntegerToFloat",
      f"{MICROSOFT}.DynamicQuantizeMatMul", f"{MICROSOFT}.QOrderedMatMul")  # fmt: skip
def _integer_matmul(reader: OnnxReader, node: Call) -> Any:
    """A product of whole numbers; those that give floats scale each output, and may add a bias."""
    kind = node.op_type
    right = {"QLinearMatMul": 3, "QOrderedMatMul": 2}.get(kind, 1)
    made = matmul(reader, _call(node, "MatMul", [node.input[0], node.input[right]]))
    if kind in ("MatMulInteger", "MatMulInteger16"):
        return reader.widen(made, "int32")
    bias = {"MatMulIntegerToFloat": 6, "DynamicQuantizeMatMul": 4}.get(kind, -1)
    if bias < 0:
        return made
    made = reader.widen(made, reader.g.precision.activations)
    return reader.add(node, Add(), made, reader.value(node.input[bias])) if has(node, bias) else made


@rule(f"{MICROSOFT}.QGemm")
def _integer_gemm(reader: OnnxReader, node: Call) -> Any:
    made = gemm(reader, _call(node, "Gemm", [node.input[0], node.input[3], _at(node, 6)]))
    return made if has(node, 8) else reader.widen(made, reader.g.precision.activations)


@rule(f"{MICROSOFT}.QLinearAdd", f"{MICROSOFT}.QLinearMul")
def _integer_binary(reader: OnnxReader, node: Call) -> Any:
    kind = node.op_type.removeprefix("QLinear")
    return RULES[kind](reader, _call(node, kind, [node.input[0], node.input[3]]))


@rule(*(f"{MICROSOFT}.QLinear{k}" for k in ("Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "ReduceMean")))
def _integer_unary(reader: OnnxReader, node: Call) -> Any:
    if node.attributes.get("channels_last", 0):
        raise ValueError("of another layout")
    kind = node.op_type.removeprefix("QLinear")
    return RULES[kind](reader, _call(node, kind, [node.input[0]]))


@rule(f"{MICROSOFT}.QLinearGlobalAveragePool")
def _integer_global(reader: OnnxReader, node: Call) -> Any:
    if node.attributes.get("channels_last", 0):
        x = first(reader, node)
        shape = (x.shape[0], *[1] * (x.tensor.rank - 2), x.shape[-1])
        return priced(
            reader, node, [(shape, x.tensor.dtype)], x, vector=x.tensor.numel, roots=prod(shape), cost="pool"
        )
    return global_pool(reader, _call(node, "GlobalAveragePool", [node.input[0]]))


@rule(f"{MICROSOFT}.QLinearConcat")
def _integer_concat(reader: OnnxReader, node: Call) -> Any:
    return reader.add(node, Concat(node.attributes["axis"]), *map(reader.value, node.input[2::3]))


@rule(f"{MICROSOFT}.QLinearWhere")
def _integer_where(reader: OnnxReader, node: Call) -> Any:
    return RULES["Where"](reader, _call(node, "Where", [node.input[0], node.input[1], node.input[4]]))


@rule(f"{MICROSOFT}.MulInteger")
def _integer_product(reader: OnnxReader, node: Call) -> Any:
    from pharos.ops.elementwise import Mul

    made = reader.add(node, Mul(), first(reader, node), reader.value(node.input[2]))
    return reader.widen(made, "int32")


@rule(f"{MICROSOFT}.ReduceSumInteger")
def _integer_sum(reader: OnnxReader, node: Call) -> Any:
    return reader.widen(RULES["ReduceSum"](reader, replace(node, op_type="ReduceSum", domain="")), "int32")


def _blocks(reader: OnnxReader, node: Call, *inputs: int) -> None:
    """Scales and zero points of blocks, kept beside the weights: buffers, not parameters."""
    for i in inputs:
        if has(node, i) and is_weight(reader, node, i) and reader.tensor(node.input[i]).numel > 1:
            reader.buffer(node.input[i])


def _few_bits(reader: OnnxReader, name: str, shape: tuple[int, ...], bits: int) -> None:
    """Says what a packed weight is: `bits` a number, in a shape of its own."""
    found = reader.constants[name]
    reader.constants[name] = Constant(Tensor(shape, found.tensor.dtype), None, found.origins)
    for origin in found.origins:
        reader.types[origin] = {2: "int2", 4: "int4"}.get(bits, "int8")


@rule(f"{MICROSOFT}.MatMulNBits", f"{MICROSOFT}.MatMulBnb4", f"{MICROSOFT}.MatMulFpQ4")
def _few_bit_matmul(reader: OnnxReader, node: Call) -> Value:
    """A linear layer whose weights have 2, 4 or 8 bits, with a scale for every block of them."""
    x, a = first(reader, node), node.attributes
    if node.op_type == "MatMulFpQ4":
        inside, out = reader.data(node.input[2]) or (0, 0)
    else:
        inside, out = a["K"], a["N"]
    if not is_weight(reader, node, 1):
        return reader.add(node, MatMul(), x, reader.value(node.input[1]))
    _few_bits(reader, node.input[1], (out, inside), a.get("bits", 4))
    bias = has(node, 5) and is_weight(reader, node, 5)
    named = {"weight": node.input[1]} | ({"bias": node.input[5]} if bias else {})
    y = reader.add(node, Linear(inside, out, bias), x, **named)
    _blocks(reader, node, 2, 3)
    return y


@rule(f"{MICROSOFT}.GatherBlockQuantized")
def _few_bit_gather(reader: OnnxReader, node: Call) -> Value:
    """Rows of a table in few bits, each scaled by blocks."""
    a, table = node.attributes, reader.tensor(node.input[0])
    bits = a.get("bits", 4)
    if not is_weight(reader, node, 0) or a.get("gather_axis", 0) != 0 or table.rank != 2:
        raise ValueError("gathers along another dimension")
    packed = 8 // bits if table.dtype == "uint8" else 1
    rows, width = table.shape[0], table.shape[1] * packed
    _few_bits(reader, node.input[0], (rows, width), bits)
    y = reader.add(node, Embedding(rows, width), reader.value(node.input[1]), weight=node.input[0])
    _blocks(reader, node, 2, 3)
    return y


@rule(f"{MICROSOFT}.DynamicQuantizeLSTM")
def _quantised_lstm(reader: OnnxReader, node: Call) -> Any:
    turned = [node.input[0], *node.input[1:3], *node.input[3:4]]
    for name in node.input[1:3]:
        # stored [directions, in, 4 hidden], the other way round than the standard's
        found = reader.constants[name]
        d, inside, out = found.tensor.shape
        reader.constants[name] = replace(found, tensor=found.tensor.with_shape(d, out, inside))
    return RULES["LSTM"](reader, _call(node, "LSTM", turned))


@rule(f"{MICROSOFT}.QMoE", f"{MICROSOFT}.MoE")
def _experts(reader: OnnxReader, node: Call) -> Any:
    """Each token through its k experts: two layers, a third where the gate is not in the first."""
    a, x = node.attributes, first(reader, node)
    step = 3 if node.op_type == "QMoE" else 2
    names = [node.input[i] for i in (2, 2 + step, 2 + 2 * step) if len(node.input) > i and node.input[i]]
    tensors = [reader.tensor(n) for n in names]
    bits = a.get("expert_weight_bits", 4) if node.op_type == "QMoE" else 0
    packed = 8 // bits if bits else 1
    tokens, k = prod(x.shape[:-1]), a.get("k", 1)
    experts = tensors[0].shape[0]
    each = [prod(t.shape[1:]) * packed for t in tensors]
    hidden = each[1] // x.shape[-1]
    for name, t in zip(names, tensors, strict=True):
        if bits:
            _few_bits(reader, name, (*t.shape[:-1], t.shape[-1] * packed), bits)
    routed = 3 * tokens * experts
    vector = tokens * k * (2 * hidden + 2 * x.shape[-1]) + routed
    return priced(reader, node, [(x.shape, x.tensor.dtype)], x, reader.value(node.input[1]),
                  macs=tokens * k * sum(each), vector=vector, roots=tokens * (2 * experts + 2 * k * hidden),
                  cost="gemm")  # fmt: skip
