"""ONNX rules: matrix products, convolutions, norms, recurrences and pools."""

from math import inf
from typing import Any

from pharos.convert.einsum import einsum
from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.registry import (
    decimal,
    even,
    first,
    gives,
    has,
    pads,
    priced,
    reshaped,
    rule,
    spread,
    weight,
)
from pharos.graph.graph import Value
from pharos.graph.op import REGISTRY
from pharos.graph.tensor import Tensor
from pharos.ops.activation import Activation
from pharos.ops.adaptive_pool import LpPool
from pharos.ops.conv import Conv1d, Conv2d, Conv3d
from pharos.ops.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from pharos.ops.copies import Flip, Pad
from pharos.ops.elementwise import Add, Div, Mul, Sub
from pharos.ops.instance_norm import InstanceNorm, LpNorm
from pharos.ops.linear import Linear, MatMul
from pharos.ops.local_norm import LocalResponseNorm
from pharos.ops.norm import GroupNorm, LayerNorm, RMSNorm
from pharos.ops.pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Reshape, Slice, Transpose
from pharos.quantity.sizes import is_int, prod, same

CONVS: dict[int, Any] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
TRANSPOSED: dict[int, Any] = {1: ConvTranspose1d, 2: ConvTranspose2d, 3: ConvTranspose3d}
MAX_POOLS: dict[int, Any] = {1: MaxPool1d, 2: MaxPool2d, 3: MaxPool3d}
AVG_POOLS: dict[int, Any] = {1: AvgPool1d, 2: AvgPool2d, 3: AvgPool3d}


def is_weight(reader: OnnxReader, node: Call, i: int) -> bool:
    """Whether an input is a parameter, not something computed: copies of one are computed from it."""
    if not has(node, i) or node.input[i] not in reader.constants or node.input[i] in reader.values:
        return False
    found = reader.constants[node.input[i]]
    stored = [reader.constants[o].tensor.numel for o in found.origins if o in reader.constants]
    return not stored or not is_int(found.tensor.numel) or found.tensor.numel <= sum(stored)


def bias_of(reader: OnnxReader, node: Call, i: int = 2) -> bool:
    """Whether there is a bias; zeros that an exporter filled in are none beside a weight that is stored."""
    if not has(node, i) or not is_weight(reader, node, i):
        return False
    return bool(reader.origin(node.input[i]) or not reader.origin(node.input[1]))


def parameters_of(node: Call, i: int = 2) -> dict[str, str]:
    """The constants that are an operator's weight and bias."""
    return {"weight": node.input[1]} | ({"bias": node.input[i]} if has(node, i) else {})


def _with_bias(reader: OnnxReader, node: Call, y: Value) -> Value:
    """A bias that is computed is added afterwards."""
    if not has(node, 2) or is_weight(reader, node, 2):
        return y
    side = reshaped(reader, node, reader.value(node.input[2]), y.shape[1], *[1] * (y.tensor.rank - 2))
    return reader.add(node, Add(), y, side)


@rule("Conv")
def conv(reader: OnnxReader, node: Call) -> Value:
    """A convolution over a weight of the file, in one to three dimensions."""
    x, tensor = first(reader, node), reader.tensor(node.input[1])
    n = tensor.rank - 2
    kernel = tuple(tensor.shape[2:])
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    groups = node.attributes.get("group", 1)
    if groups < 1:
        raise ValueError("has no groups")
    if not is_weight(reader, node, 1):
        return _conv_by_values(reader, node, x, tensor, groups)
    x, padding = even(reader, node, x, pads(x, node, kernel, strides, dilations))
    bias = bias_of(reader, node)
    fields = (tensor.shape[1] * groups, tensor.shape[0], kernel, strides, padding, dilations)
    if n == 1:
        fields = (*fields[:2], *(f[0] for f in fields[2:]))
    y = reader.add(node, CONVS[n](*fields, groups, bias), x, **parameters_of(node))
    return _with_bias(reader, node, y)


def _conv_by_values(reader: OnnxReader, node: Call, x: Value, tensor: Tensor, groups: int) -> Any:
    """A convolution whose kernel is computed: as many products, no parameters."""
    n, kernel = tensor.rank - 2, tensor.shape[2:]
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    around = pads(x, node, kernel, strides, dilations)
    probe = CONVS[n](x.shape[1], tensor.shape[0], *[1] * 4, groups, False)
    probe.match(tensor.shape[1] * groups, x.shape[1], "channels of the kernel", x.tensor)
    out = [
        (size + b + a - d * (k - 1) - 1) // s + 1
        for size, (b, a), k, s, d in zip(x.shape[2:], around, kernel, strides, dilations, strict=True)
    ]
    shape = (x.shape[0], tensor.shape[0], *out)
    macs = prod(shape) * prod(tensor.shape[1:])
    biased = prod(shape) if has(node, 2) else 0
    return priced(reader, node, [(shape, x.tensor.dtype)], macs=macs, vector=biased, cost="conv")


@rule("ConvTranspose")
def _conv_transpose(reader: OnnxReader, node: Call) -> Value:
    x, tensor = first(reader, node), weight(reader, node, 1)
    n, groups = tensor.rank - 2, node.attributes.get("group", 1)
    kernel = tuple(tensor.shape[2:])
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    extra = list(spread(node, "output_padding", n, 0))
    whole = [
        (size - 1) * s + d * (k - 1) + 1 + e
        for size, s, k, d, e in zip(x.shape[2:], strides, kernel, dilations, extra, strict=True)
    ]
    cuts = _cuts(node, x, whole, strides)
    # what is cut off differs from side to side: the whole is made, then cut
    same_cut = all(b == a and b >= 0 for b, a in cuts)
    padding = tuple(b for b, _ in cuts) if same_cut else (0,) * n
    # more output than the stride leaves open is zeros behind
    fields = (tensor.shape[0], tensor.shape[1] * groups, kernel, strides, padding, tuple(extra), groups,
              bias_of(reader, node), dilations)  # fmt: skip
    y = reader.add(node, TRANSPOSED[n](*fields), x, **parameters_of(node))
    y = _with_bias(reader, node, y)
    if same_cut:
        return y
    return reader.add(node, Pad(((0, 0), (0, 0), *((-b, -a) for b, a in cuts))), y)


def _cuts(node: Call, x: Value, whole: list[Any], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """(before, after) that are cut off the whole output of a transposed convolution."""
    n, mode = len(whole), node.attributes.get("auto_pad", "NOTSET")
    if "output_shape" in node.attributes:
        wanted = node.attributes["output_shape"][-n:]
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * s for size, s in zip(x.shape[2:], strides, strict=True)]
    else:
        flat = [0] * 2 * n if mode == "VALID" else node.attributes.get("pads", [0] * 2 * n)
        return [(flat[i], flat[i + n]) for i in range(n)]
    found = []
    for have, want in zip(whole, wanted, strict=True):
        total = have - want
        if not is_int(total):
            raise ValueError("cuts that depend on an open size")
        small, large = total // 2, total - total // 2
        found.append((small, large) if mode == "SAME_UPPER" else (large, small))
    return found


@rule("DeformConv")
def _deform(reader: OnnxReader, node: Call) -> Any:
    """Each tap reads 4 neighbours: 8 operations for it, 10 for its place; then an ordinary convolution."""
    x, kernel, offset = first(reader, node), reader.tensor(node.input[1]), reader.tensor(node.input[2])
    out = (x.shape[0], kernel.shape[0], *offset.shape[2:])
    taps = prod(kernel.shape[2:])
    places = x.shape[0] * prod(offset.shape[2:]) * taps
    vector = places * (8 * x.shape[1] + 10 * node.attributes.get("offset_group", 1))
    vector = vector + (places * x.shape[1] if has(node, 4) else 0) + (prod(out) if has(node, 3) else 0)
    macs = prod(out) * prod(kernel.shape[1:])
    return priced(reader, node, [(out, x.tensor.dtype)], macs=macs, vector=vector, cost="conv")


@rule("Gemm")
def gemm(reader: OnnxReader, node: Call) -> Value:
    """alpha A B + beta C: a linear layer where B is a parameter."""
    x, across = first(reader, node), bool(node.attributes.get("transB", 0))
    alpha, beta = (decimal(node.attributes.get(k, 1.0)) for k in ("alpha", "beta"))
    if node.attributes.get("transA", 0):
        x = reader.add(node, Transpose((1, 0)), x, name=reader.name(node) + ".transpose")
    if not is_weight(reader, node, 1):
        y = reader.add(node, MatMul(across), x, reader.value(node.input[1]))
        return _plus(reader, node, y, alpha, beta)
    tensor = weight(reader, node, 1)
    out, inside = tensor.shape if across else tensor.shape[::-1]
    transposed = across == reader.constants[node.input[1]].turned
    wide = (
        has(node, 2)
        and reader.tensor(node.input[2]).shape[-1:] == (out,)
        and prod(reader.tensor(node.input[2]).shape) == out
    )
    own = is_weight(reader, node, 2) and wide and alpha == beta == 1
    named = parameters_of(node) if own else {"weight": node.input[1]}
    y = reader.add(node, Linear(inside, out, own, transposed), x, **named)
    return y if own else _plus(reader, node, y, alpha, beta)


def _plus(reader: OnnxReader, node: Call, y: Value, alpha: float, beta: float) -> Value:
    y = y if alpha == 1 else reader.add(node, Mul(scalar=alpha), y)
    if not has(node, 2):
        return y
    c = reader.value(node.input[2])
    c = c if beta == 1 else reader.add(node, Mul(scalar=beta), c)
    return reader.add(node, Add(), y, c)


@rule("MatMul")
def matmul(reader: OnnxReader, node: Call) -> Value:
    """A linear layer where the right side is a stored matrix, a product of values elsewhere."""
    a, b = node.input[:2]
    if is_weight(reader, node, 1) and reader.constants[b].origins:
        tensor = weight(reader, node, 1)
        if tensor.rank == 2:
            op = Linear(tensor.shape[0], tensor.shape[1], False, not reader.constants[b].turned)
            return reader.add(node, op, reader.value(a), weight=b)
    return product(reader, node, reader.value(a), reader.value(b))


def product(reader: OnnxReader, node: Call, a: Value, b: Value) -> Value:
    """A matrix product of two values, vectors as NumPy takes them."""
    left, right = a.tensor.rank == 1, b.tensor.rank == 1
    a = reshaped(reader, node, a, 1, a.shape[0]) if left else a
    b = reshaped(reader, node, b, b.shape[0], 1) if right else b
    y = reader.add(node, MatMul(), a, b)
    shape = list(y.shape)
    if left:
        del shape[-2]
    if right:
        del shape[-1]
    return reshaped(reader, node, y, *shape)


@rule("Einsum")
def _einsum(reader: OnnxReader, node: Call) -> Value:
    values = [reader.value(i) for i in node.input]
    return einsum(lambda op, *given: reader.add(node, op, *given), node.attributes["equation"], values)


@rule("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _layer_norm(reader: OnnxReader, node: Call) -> Any:
    x = first(reader, node)
    axis = node.attributes.get("axis", -1) % max(x.tensor.rank, 1)
    shape, width = x.shape, prod(x.shape[axis:])
    layer = node.op_type == "LayerNormalization"
    scale = reader.tensor(node.input[1])
    if not is_weight(reader, node, 1) or prod(scale.shape) != width:
        return _norm_by_values(reader, node, x, axis, layer)
    flat = x if axis == x.tensor.rank - 1 else reshaped(reader, node, x, *shape[:axis], width)
    eps = decimal(node.attributes.get("epsilon", 1e-5))
    if layer:
        own = is_weight(reader, node, 2) and prod(reader.tensor(node.input[2]).shape) == width
        op: Any = LayerNorm(width, eps, own)
        y = reader.add(node, op, flat, **(parameters_of(node) if own else {"weight": node.input[1]}))
        if has(node, 2) and not own:
            y = reader.add(node, Add(), y, reader.value(node.input[2]))
    else:
        y = reader.add(node, RMSNorm(width, eps), flat, weight=node.input[1])
    y = reshaped(reader, node, y, *shape)
    rows = (*shape[:axis], *[1] * (len(shape) - axis))
    more = [_statistic(reader, node, i, rows) for i in range(1, len(node.output))]
    return (y, *more)


def _statistic(reader: OnnxReader, node: Call, i: int, shape: tuple[Any, ...]) -> Value | None:
    """A mean or a root that the norm has computed anyway, handed on."""
    if not gives(node, i):
        return None
    return priced(reader, node, [(shape, "fp32")], first(reader, node), cost="view")


def _norm_by_values(reader: OnnxReader, node: Call, x: Value, axis: int, layer: bool) -> Value:
    """The norm in steps, where scale and shift are computed or broadcast."""
    dims = tuple(range(axis, x.tensor.rank))
    if layer:
        x = reader.add(node, Sub(), x, reader.add(node, Reduce(dims, True, "mean"), x))
    power = reader.add(node, Reduce(dims, True, "mean"), reader.add(node, Activation("square"), x))
    eps = decimal(node.attributes.get("epsilon", 1e-5))
    root = reader.add(node, Activation("sqrt"), reader.add(node, Add(scalar=eps), power))
    y = reader.add(node, Mul(), reader.add(node, Div(), x, root), reader.value(node.input[1]))
    return reader.add(node, Add(), y, reader.value(node.input[2])) if has(node, 2) else y


@rule("InstanceNormalization")
def _instance_norm(reader: OnnxReader, node: Call) -> Value:
    x, eps = first(reader, node), decimal(node.attributes.get("epsilon", 1e-5))
    if is_weight(reader, node, 1) and is_weight(reader, node, 2):
        return reader.add(node, InstanceNorm(x.shape[1], eps), x, **parameters_of(node))
    y = reader.add(node, InstanceNorm(x.shape[1], eps, False), x)
    sides = [
        reshaped(reader, node, reader.value(i), x.shape[1], *[1] * (x.tensor.rank - 2))
        for i in node.input[1:3]
    ]
    return reader.add(node, Add(), reader.add(node, Mul(), y, sides[0]), sides[1])


@rule("GroupNormalization")
def _group_norm(reader: OnnxReader, node: Call) -> Value:
    x, groups = first(reader, node), node.attributes["num_groups"]
    eps = decimal(node.attributes.get("epsilon", 1e-5))
    if is_weight(reader, node, 1) and same(reader.tensor(node.input[1]).shape[0], x.shape[1]):
        return reader.add(node, GroupNorm(groups, x.shape[1], eps), x, **parameters_of(node))
    # a scale for each group, as opset 18 had it, or one that is computed
    rows = reader.add(node, Reshape((x.shape[0], groups, prod(x.shape[1:]) // groups)), x)
    y: Any = reader.add(node, InstanceNorm(groups, eps, False), rows)
    wide = not same(reader.tensor(node.input[1]).shape[0], groups)
    y = reshaped(reader, node, y, *x.shape) if wide else y
    count = x.shape[1] if wide else groups
    for made, name in ((Mul, node.input[1]), (Add, node.input[2])):
        side = reshaped(reader, node, reader.value(name), count, *[1] * (y.tensor.rank - 2))
        y = reader.add(node, made(), y, side)
    return reshaped(reader, node, y, *x.shape)


@rule("LRN")
def _local_norm(reader: OnnxReader, node: Call) -> Value:
    a = node.attributes
    alpha, beta, bias = (decimal(a.get(k, v)) for k, v in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return reader.add(node, LocalResponseNorm(a["size"], alpha, beta, bias), first(reader, node))


@rule("LpNormalization")
def _lp_norm(reader: OnnxReader, node: Call) -> Value:
    return reader.add(node, LpNorm(node.attributes.get("p", 2), node.attributes.get("axis", -1)),
                      first(reader, node))  # fmt: skip


@rule("MeanVarianceNormalization")
def _standard(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    dims = tuple(node.attributes.get("axes", [0, 2, 3]))
    off = reader.add(node, Sub(), x, reader.add(node, Reduce(dims, True, "mean"), x))
    root = reader.add(node, Reduce(dims, True, "std"), x)
    return reader.add(node, Div(), off, reader.add(node, Add(scalar=1e-9), root))


@rule("MaxPool", "AveragePool")
def _pool(reader: OnnxReader, node: Call) -> Any:
    x, kernel = first(reader, node), tuple(node.attributes["kernel_shape"])
    n = len(kernel)
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    around = pads(x, node, kernel, strides, dilations)
    ceil = bool(node.attributes.get("ceil_mode", 0))
    if node.op_type == "MaxPool":
        x, padding = _padded(reader, node, x, around, kernel, -inf)
        y = reader.add(node, MAX_POOLS[n](kernel, strides, padding, dilations, ceil), x)
        if gives(node, 1):
            return y, priced(reader, node, [(y.shape, "int64")], y)
        return y
    include = bool(node.attributes.get("count_include_pad", 0))
    uneven = any(b != a or b > k // 2 for (b, a), k in zip(around, kernel, strict=True))
    if any(d != 1 for d in dilations) or (uneven and not include):
        return _dilated_average(reader, node, x, around, kernel, strides, dilations, ceil)
    x, padding = _padded(reader, node, x, around, kernel, 0.0)
    return reader.add(node, AVG_POOLS[n](kernel, strides, padding, ceil, include), x)


def _dilated_average(reader: OnnxReader, node: Call, x: Value, around: Any, kernel: Any, strides: Any,
                     dilations: Any, ceil: bool) -> Any:  # fmt: skip
    """A mean over windows with gaps, or of what is no padding; an addition a position, a division each."""
    x, padding = _padded(reader, node, x, around, kernel, 0.0)
    probe = MAX_POOLS[len(kernel)](kernel, strides, padding, dilations, ceil)
    shape = probe.shape(x.tensor).shape
    return priced(reader, node, [(shape, x.tensor.dtype)], x, vector=prod(shape) * prod(kernel),
                  roots=prod(shape), cost="pool")  # fmt: skip


def _padded(reader: OnnxReader, node: Call, x: Value, around: Any, kernel: Any, value: float) -> Any:
    """(x, padding): more than half a window of padding becomes a Pad."""
    if any(b > k // 2 for (b, _), k in zip(around, kernel, strict=True)):
        op = Pad(((0, 0), (0, 0), *around), value=value)
        return reader.add(node, op, x, name=reader.name(node) + ".pad"), (0,) * len(kernel)
    return even(reader, node, x, around, value)


@rule("LpPool")
def _lp_pool(reader: OnnxReader, node: Call) -> Any:
    x, kernel = first(reader, node), tuple(node.attributes["kernel_shape"])
    n = len(kernel)
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    around = pads(x, node, kernel, strides, dilations)
    if any(b or a for b, a in around):
        x = reader.add(node, Pad(((0, 0), (0, 0), *around)), x, name=reader.name(node) + ".pad")
    p, ceil = node.attributes.get("p", 2), bool(node.attributes.get("ceil_mode", 0))
    if ceil or any(d != 1 for d in dilations):
        shape = MAX_POOLS[n](kernel, strides, 0, dilations, ceil).shape(x.tensor).shape
        read = prod(shape) * prod(kernel)
        return priced(
            reader, node, [(shape, x.tensor.dtype)], x, vector=2 * read, roots=prod(shape), cost="pool"
        )
    return reader.add(node, LpPool(float(p), kernel, strides), x)


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(reader: OnnxReader, node: Call) -> Value:
    """One number a channel, over all space."""
    x = first(reader, node)
    n = x.tensor.rank - 2
    if node.op_type == "GlobalAveragePool":
        y = reader.add(node, GlobalAvgPool(), x)
        return reader.add(node, Reshape((*x.shape[:2], *[1] * n)), y)
    if node.op_type == "GlobalMaxPool":
        return reader.add(node, Reduce(tuple(range(2, n + 2)), True, "max"), x)
    return reader.add(node, LpPool(float(node.attributes.get("p", 2)), tuple(x.shape[2:])), x)


@rule("MaxUnpool")
def _unpool(reader: OnnxReader, node: Call) -> Any:
    """Values written where their maximum stood, zeros elsewhere: copies alone."""
    x, kernel = first(reader, node), node.attributes["kernel_shape"]
    n = len(kernel)
    strides = spread(node, "strides", n)
    around = pads(x, node, kernel, strides, (1,) * n)
    out = [
        (size - 1) * s + k - b - a
        for size, s, k, (b, a) in zip(x.shape[2:], strides, kernel, around, strict=True)
    ]
    shape = (*x.shape[:2], *out)
    if has(node, 2):
        stated = reader.data(node.input[2])
        if stated is None:
            raise ValueError("of a size that is not known")
        shape = tuple(stated)
    return priced(reader, node, [(shape, x.tensor.dtype)], cost="gather")


@rule("LSTM", "GRU", "RNN")
def _recurrent(reader: OnnxReader, node: Call) -> Any:
    x, tensor = first(reader, node), weight(reader, node, 1)
    hidden = node.attributes.get("hidden_size") or reader.tensor(node.input[2]).shape[-1]
    direction = node.attributes.get("direction", "forward")
    both, batched = direction == "bidirectional", bool(node.attributes.get("layout", 0))
    directions = 2 if both else 1
    if tensor.rank != 3 or tensor.shape[0] != directions:
        raise ValueError("weights of unknown shape")
    batch, steps = (x.shape[0], x.shape[1]) if batched else (x.shape[1], x.shape[0])
    op = REGISTRY[node.op_type.lower()](x.shape[2], hidden, 1, has(node, 3), both)  # type: ignore[call-arg]
    # the file's tensors are [time, batch, width]; ours start with the batch, over the same memory
    y = reshaped(reader, node, x, batch, steps, x.shape[2])
    if direction == "reverse":
        y = reader.add(node, Flip((1,)), y)
    y = reader.add(node, op, y, weight=node.input[1])
    if direction == "reverse":
        y = reader.add(node, Flip((1,)), y)
    last = reader.add(node, Slice(1, steps - 1, steps), y)
    state = (batch, directions, hidden) if batched else (directions, batch, hidden)
    full = (batch, steps, directions, hidden) if batched else (steps, directions, batch, hidden)
    made = reader.add(node, Reshape(full), y)
    end = reader.add(node, Reshape(state), last)
    return made, end, end


@rule("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def _loss(reader: OnnxReader, node: Call) -> Any:
    """Per target a negated (weighted) pick, then their mean; of scores their log softmax first."""
    from pharos.ops.activation import Softmax

    x, target = first(reader, node), reader.tensor(node.input[1])
    scores = node.op_type == "SoftmaxCrossEntropyLoss"
    logs = reader.add(node, Softmax(1, True), x) if scores else x
    whole = node.attributes.get("reduction", "mean") == "none"
    shape = target.shape if whole else ()
    each = (2 if has(node, 2) else 1) * target.numel
    sums = 0 if whole else target.numel * (2 if has(node, 2) else 1)
    values = [logs, *[reader.value(i) for i in node.input[1:] if i]]
    loss = priced(
        reader, node, [(shape, x.tensor.dtype)], *values, vector=each + sums, roots=0 if whole else 1
    )
    return (loss, logs) if scores else loss
