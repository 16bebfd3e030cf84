"""ONNX rules: one small function a kind of node, from attributes and inputs to our operators."""

from collections.abc import Callable
from typing import Any

from pharos.convert.from_onnx import OnnxReader, unknown
from pharos.convert.reader import FLOATS, Constant
from pharos.graph.graph import Value
from pharos.graph.op import REGISTRY, Op
from pharos.graph.tensor import Tensor
from pharos.ops.activation import Activation, Softmax
from pharos.ops.conv import Conv1d, Conv2d
from pharos.ops.conv_transpose import ConvTranspose2d
from pharos.ops.copies import Pad
from pharos.ops.elementwise import Add, Clamp, Div, Maximum, Minimum, Mul, Pow, Sub
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear, MatMul
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm
from pharos.ops.pixel_shuffle import PixelShuffle
from pharos.ops.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Split, Transpose
from pharos.quantity.errors import PharosError, SizeError
from pharos.quantity.sizes import prod

Rule = Callable[[OnnxReader, Any, dict[str, Any]], Value | tuple[Value, ...]]
RULES: dict[str, Rule] = {}
# Beyond the largest fp16, bf16 and fp32 a limit is there for form's sake.
LARGEST_LIMIT = 3.4e38
# Nodes that hand their input on unchanged at inference.
SAME = {"Identity", "Dropout", "Cast", "QuantizeLinear", "DequantizeLinear", "CastLike"}
# Nodes whose result follows from shapes, not from data.
FROM_SHAPES = {"Shape", "Size", "Constant", "ConstantOfShape"}
FUNCTIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSwish": "hardswish",
    "Softplus": "softplus",
    "Mish": "mish",
    "Exp": "exp",
    "Erf": "erf",
    "Abs": "abs",
    "Neg": "neg",
    "Sin": "sin",
    "Cos": "cos",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Log": "log",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Silu": "silu",
}
# Nodes of two tensors; the scalar may be either.
BINARY: dict[str, type[Op]] = {"Add": Add, "Sub": Sub, "Mul": Mul, "Div": Div, "Pow": Pow, "Max": Maximum,
                               "Min": Minimum}  # fmt: skip
ORDERED = ("Sub", "Div", "Pow")


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Registers a rule for ONNX operator types."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def convert(onnx: Any, reader: OnnxReader, node: Any) -> None:
    """Converts one node: folded if it is constant, by its rule if it has one, else unknown."""
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    kind, given = node.op_type, [i for i in node.input if i]
    for name in given:
        if name not in reader.values and name not in reader.constants:
            reader.value(name)
    # a cast gives the type of another value, not its numbers
    needed = given[:1] if kind in SAME else given
    folds = kind in FROM_SHAPES or (bool(given) and all(i in reader.constants for i in needed))
    if folds and node.domain in ("", "ai.onnx") and not any(a.g.node for a in node.attribute):
        _fold(onnx, reader, node, attributes)
        return
    if kind in SAME and given and given[0] in reader.values:
        reader.values[node.output[0]] = reader.values[given[0]]
        for extra in node.output[1:]:
            if extra:
                reader.constants[extra] = Constant(reader.tensor(given[0]))
        return
    if not write(reader, node, attributes):
        unknown(reader, node)


def write(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> bool:
    """Writes one node by its rule; False if it has none, or a form that the rule does not cover."""
    found = RULES.get(node.op_type)
    if found is None or node.domain not in ("", "ai.onnx", "com.microsoft"):
        return False
    try:
        made = found(reader, node, attributes)
    except (PharosError, ValueError, KeyError, IndexError, TypeError):
        return False
    results = made if isinstance(made, tuple) else (made,)
    for name, value in zip(node.output, results, strict=False):
        if name:
            reader.values[name] = value
    return True


def _fold(onnx: Any, reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> None:
    """What follows from shapes and constants: its shape, and its numbers where they are few."""
    data, kind = None, node.op_type
    if node.op_type == "Constant":
        raw = next(iter(attributes.values()), None)
        if hasattr(raw, "dims"):
            from pharos.convert.from_onnx import _constant

            reader.constants[node.output[0]] = _constant(onnx, raw)
            return
        data = list(raw) if isinstance(raw, (list, tuple)) else [raw]
        reader.constants[node.output[0]] = Constant(Tensor((len(data),), "fp32"), data)
        return
    if node.op_type == "Shape":
        shape = reader.tensor(node.input[0]).shape
        data = list(shape)[attributes.get("start", 0) : attributes.get("end", len(shape))]
        reader.constants[node.output[0]] = Constant(Tensor((len(data),), "int64"), data)
        return
    data = _numbers_of(reader, node, attributes)
    given = [reader.constants[i] for i in node.input if i in reader.constants]
    # from each initialiser once; sizes and shapes are taken from none
    origins = () if kind in FROM_SHAPES else tuple(dict.fromkeys(o for c in given for o in c.origins))
    turned = bool(given) and given[0].turned != (kind == "Transpose" and given[0].tensor.rank == 2)
    for name in node.output:
        if name:
            guess = Tensor((len(data),), "int64") if data is not None else Tensor((1,), "fp32")
            reader.constants[name] = Constant(reader.inferred.get(name, guess), data, origins, turned)
            if origins:
                reader.deferred[name] = (node, attributes)


def _numbers_of(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> list[Any] | None:
    """Shape arithmetic on small constants; None for what is large or of another kind."""
    given = [reader.data(i) for i in node.input if i]
    if not given or any(data is None for data in given):
        return None
    first: list[Any] = given[0] or []
    kind = node.op_type
    if kind in ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape"):
        return first
    if kind == "Concat":
        return [v for data in given for v in data or []]
    if kind == "Gather" and len(given) == 2:
        return [first[int(i)] for i in given[1] or []]
    if kind == "Slice" and len(given) >= 3:
        starts, ends, steps = given[1] or [0], given[2] or [0], (given[4] if len(given) > 4 else None) or [1]
        return first[int(starts[0]) : int(ends[0]) : int(steps[0])]
    if kind in ("Sqrt", "Neg", "Reciprocal"):
        one = {"Sqrt": lambda v: v**0.5, "Neg": lambda v: -v, "Reciprocal": lambda v: 1 / v}[kind]
        return [one(v) for v in first] if kind == "Neg" or all(v > 0 for v in first) else None
    arithmetic = {
        "Add": lambda a, b: a + b,
        "Sub": lambda a, b: a - b,
        "Mul": lambda a, b: a * b,
        "Div": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b,
    }
    if kind in arithmetic and len(given) == 2:
        second: list[Any] = given[1] or []
        n = max(len(first), len(second))
        if {len(first), len(second)} <= {1, n} and 0 not in (len(first), len(second)):
            pairs = zip(first * (n // len(first)), second * (n // len(second)), strict=True)
            return [arithmetic[kind](a, b) for a, b in pairs]
    return None


def _weight(reader: OnnxReader, node: Any, i: int) -> Tensor:
    """A parameter's tensor; raises KeyError when the input is no constant."""
    return reader.constants[node.input[i]].tensor


def _bias(reader: OnnxReader, node: Any) -> bool:
    """Whether there is a bias; zeros that an exporter filled in are none beside a weight that is stored."""
    return _has(node, 2) and bool(reader.origin(node.input[2]) or not reader.origin(node.input[1]))


def _parameters(node: Any) -> dict[str, str]:
    """The constants that are an operator's weight and bias."""
    return {"weight": node.input[1]} | ({"bias": node.input[2]} if _has(node, 2) else {})


def _has(node: Any, i: int) -> bool:
    return len(node.input) > i and bool(node.input[i])


def _numbers(
    reader: OnnxReader, node: Any, attributes: dict[str, Any], name: str, i: int
) -> list[int] | None:
    """Axes, pads and the like: an attribute in old opsets, a constant input in new ones."""
    if name in attributes:
        value = attributes[name]
        return list(value) if isinstance(value, (list, tuple)) else [value]
    if not _has(node, i):
        return None
    found = reader.data(node.input[i])
    if found is None:
        raise ValueError(f"{name} is not known")
    return [int(v) for v in found]


def _pads(reader: OnnxReader, x: Value, attributes: dict[str, Any], kernel: list[int], strides: list[int],
          dilations: list[int]) -> list[tuple[int, int]]:  # fmt: skip
    """(before, after) of each spatial dimension, auto_pad resolved."""
    n = len(kernel)
    mode = attributes.get("auto_pad", b"NOTSET")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
            total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
            small, large = total // 2, total - total // 2
            found.append((small, large) if mode == "SAME_UPPER" else (large, small))
        return found
    flat = attributes.get("pads", [0] * 2 * n)
    return [(flat[i], flat[i + n]) for i in range(n)]


def _even(reader: OnnxReader, node: Any, x: Value, pads: list[tuple[int, int]]) -> tuple[Value, Any]:
    """Symmetric padding as it is; what is more on one side becomes a Pad."""
    if all(before == after for before, after in pads):
        return x, [before for before, _ in pads]
    x = reader.add(node, Pad(((0, 0), (0, 0), *pads)), x, name=reader.name(node) + ".pad")
    return x, [0] * len(pads)


@rule("Conv")
def _conv(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, weight = reader.value(node.input[0]), _weight(reader, node, 1)
    n = weight.rank - 2
    kernel = list(weight.shape[2:])
    strides, dilations = attributes.get("strides", [1] * n), attributes.get("dilations", [1] * n)
    x, padding = _even(reader, node, x, _pads(reader, x, attributes, kernel, strides, dilations))
    groups = attributes.get("group", 1)
    common = (weight.shape[1] * groups, weight.shape[0])
    bias = _bias(reader, node)
    if n == 1:
        op: Any = Conv1d(*common, kernel[0], strides[0], padding[0], dilations[0], groups, bias)
    elif n == 2:
        op = Conv2d(*common, tuple(kernel), tuple(strides), tuple(padding), tuple(dilations), groups, bias)  # type: ignore[arg-type]
    else:
        raise ValueError("convolutions here have one or two dimensions")
    return reader.add(node, op, x, **_parameters(node))


@rule("ConvTranspose")
def _conv_transpose(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, weight = reader.value(node.input[0]), _weight(reader, node, 1)
    if weight.rank != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in attributes:
        raise ValueError("transposed convolutions here have two dimensions and stated pads")
    kernel, groups = weight.shape[2:], attributes.get("group", 1)
    pads = attributes.get("pads", [0] * 4)
    if pads[:2] != pads[2:]:
        raise ValueError("pads differ from side to side")
    one, none = [1, 1], [0, 0]
    op: Any = ConvTranspose2d(
        weight.shape[0],
        weight.shape[1] * groups,
        (kernel[0], kernel[1]),
        tuple(attributes.get("strides", one)),
        tuple(pads[:2]),
        tuple(attributes.get("output_padding", none)),
        groups,
        _bias(reader, node),
        tuple(attributes.get("dilations", one)),
    )
    return reader.add(node, op, x, **_parameters(node))


@rule("Gemm")
def _gemm(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, weight = reader.value(node.input[0]), _weight(reader, node, 1)
    if attributes.get("transA", 0):
        x = reader.add(node, Transpose((1, 0)), x, name=reader.name(node) + ".transpose")
    across = bool(attributes.get("transB", 0))
    out, inside = weight.shape if across else weight.shape[::-1]
    transposed = across == reader.constants[node.input[1]].turned
    return reader.add(node, Linear(inside, out, _has(node, 2), transposed), x, **_parameters(node))


@rule("MatMul")
def _matmul(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    a, b = node.input[:2]
    if b in reader.constants and a in reader.values:
        weight = _weight(reader, node, 1)
        if weight.rank == 2:
            op = Linear(weight.shape[0], weight.shape[1], False, not reader.constants[b].turned)
            return reader.add(node, op, reader.value(a), weight=b)
    return reader.add(node, MatMul(), reader.value(a), reader.value(b))


@rule("BatchNormalization")
def _batch_norm(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    return reader.add(node, BatchNorm(_weight(reader, node, 1).shape[0]), x, **_parameters(node))


@rule("LayerNormalization")
def _layer_norm(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, axis = reader.value(node.input[0]), attributes.get("axis", -1)
    if axis not in (-1, x.tensor.rank - 1):
        raise ValueError("over more than the last dimension")
    return reader.add(node, LayerNorm(x.shape[-1], bias=_has(node, 2)), x, **_parameters(node))


@rule("RMSNormalization", "SimplifiedLayerNormalization")
def _rms_norm(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, axis = reader.value(node.input[0]), attributes.get("axis", -1)
    if axis not in (-1, x.tensor.rank - 1):
        raise ValueError("over more than the last dimension")
    return reader.add(node, RMSNorm(x.shape[-1]), x, weight=node.input[1])


@rule(*FUNCTIONS)
def _activation(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    return reader.add(node, Activation(FUNCTIONS[node.op_type]), reader.value(node.input[0]))


@rule("Gelu")
def _gelu(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    tanh = attributes.get("approximate", b"none") in (b"tanh", "tanh")
    return reader.add(node, Activation("gelu_tanh" if tanh else "gelu"), reader.value(node.input[0]))


@rule("LeakyRelu", "Elu")
def _scaled(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    function, usual = {"LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0)}[node.op_type]
    alpha = _decimal(attributes.get("alpha", usual))
    op = Activation(function, None if alpha == usual else alpha)
    return reader.add(node, op, reader.value(node.input[0]))


@rule("HardSigmoid")
def _hard_sigmoid(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    alpha, beta = _decimal(attributes.get("alpha", 0.2)), _decimal(attributes.get("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return reader.add(node, Activation("hardsigmoid"), x)
    x = reader.add(node, Add(scalar=beta), reader.add(node, Mul(scalar=alpha), x))
    return reader.add(node, Clamp(0.0, 1.0), x)


@rule("Swish", "QuickGelu")
def _swish(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    """x sigmoid(alpha x)."""
    x = reader.value(node.input[0])
    alpha = _decimal(attributes.get("alpha", 1.0 if node.op_type == "Swish" else 1.702))
    if alpha == 1:
        return reader.add(node, Activation("silu"), x)
    gate = reader.add(node, Activation("sigmoid"), reader.add(node, Mul(scalar=alpha), x))
    return reader.add(node, Mul(), x, gate)


@rule("FastGelu")
def _fast_gelu(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    if _has(node, 1):
        x = reader.add(node, Add(), x, reader.value(node.input[1]))
    return reader.add(node, Activation("gelu_tanh"), x)


def _decimal(number: float) -> float:
    """The number that a float32 of the file was written as: 0.1, not 0.10000000149."""
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = np.float32(number)
    return float(str(narrow)) if float(narrow) == number else float(number)


@rule("Clip")
def _clip(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, limits = reader.value(node.input[0]), []
    for i, (name, made) in enumerate({"min": Maximum, "max": Minimum}.items(), 1):
        given = reader.data(node.input[i]) if _has(node, i) else None
        limits.append(
            _decimal(attributes[name]) if name in attributes else _decimal(given[0]) if given else None
        )
        if _has(node, i) and given is None:
            x = reader.add(node, made(), x, reader.value(node.input[i]))
    # a limit that no number of the type exceeds is none
    low, high = (None if v is None or abs(v) > LARGEST_LIMIT else v for v in limits)
    if (low, high) == (0, 6):
        return reader.add(node, Activation("relu6"), x)
    return x if low is None and high is None else reader.add(node, Clamp(low, high), x)


@rule("Softmax", "LogSoftmax")
def _softmax(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    op = Softmax(attributes.get("axis", -1), node.op_type == "LogSoftmax")
    return reader.add(node, op, reader.value(node.input[0]))


@rule(*BINARY, "Sum")
def _binary(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    if len(node.input) == 1:
        return reader.value(node.input[0])
    total = node.input[0]
    for name in node.input[1:]:
        total = _two(reader, node, total, name)
    return total


def _two(reader: OnnxReader, node: Any, a: str | Value, b: str) -> Value:
    """One operator of two operands, or of one and a number that the file knows."""
    made: Any = BINARY.get(node.op_type, Add)
    numbers = [_number(reader, a, b), _number(reader, b, a)]
    if numbers[1] is not None:
        if made is Pow and numbers[1] == 2:
            return reader.add(node, Activation("square"), _operand(reader, a))
        return reader.add(node, made(scalar=numbers[1]), _operand(reader, a))
    if numbers[0] is not None:
        options = {"flipped": True} if node.op_type in ORDERED else {}
        return reader.add(node, made(scalar=numbers[0], **options), _operand(reader, b))
    return reader.add(node, made(), _operand(reader, a), _operand(reader, b))


def _operand(reader: OnnxReader, operand: str | Value) -> Value:
    return reader.value(operand) if isinstance(operand, str) else operand


def _number(reader: OnnxReader, operand: str | Value, other: str | Value) -> float | None:
    """A constant of one number that leaves the shape of the other operand as it is."""
    if not isinstance(operand, str) or operand not in reader.constants:
        return None
    beside = reader.tensor(other) if isinstance(other, str) else other.tensor
    shape = reader.tensor(operand).shape
    if prod(shape) > 1 or len(shape) > beside.rank:
        return None
    data = reader.data(operand)
    return _decimal(data[0]) if data else None


@rule("MaxPool", "AveragePool")
def _pool(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, kernel = reader.value(node.input[0]), attributes["kernel_shape"]
    if len(kernel) != 2:
        raise ValueError("pools here have two dimensions")
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    pads = _pads(reader, x, attributes, kernel, strides, dilations)
    x, padding = _even(reader, node, x, pads)
    ceil = bool(attributes.get("ceil_mode", 0))
    if node.op_type == "MaxPool":
        op: Any = MaxPool2d(tuple(kernel), tuple(strides), tuple(padding), tuple(dilations), ceil)
    else:
        include = bool(attributes.get("count_include_pad", 0))
        op = AvgPool2d(tuple(kernel), tuple(strides), tuple(padding), ceil, include)
    return reader.add(node, op, x)


@rule("GlobalAveragePool")
def _global_pool(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    y = reader.add(node, GlobalAvgPool(), x)
    return reader.add(node, Reshape((*x.shape[:2], *[1] * (x.tensor.rank - 2))), y)


@rule("DepthToSpace")
def _pixel_shuffle(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    if attributes.get("mode", b"DCR") not in (b"CRD", "CRD"):
        raise ValueError("takes channels in another order")
    return reader.add(node, PixelShuffle(attributes["blocksize"]), reader.value(node.input[0]))


@rule("ReduceMean", "ReduceSum", "ReduceMax")
def _reduce(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    axes = _numbers(reader, node, attributes, "axes", 1) or list(range(x.tensor.rank))
    keep = bool(attributes.get("keepdims", 1))
    axes = sorted(a % x.tensor.rank for a in axes)
    function = node.op_type.removeprefix("Reduce").lower()
    if function == "mean" and axes == list(range(2, x.tensor.rank)) and len(axes) > 1:
        y = reader.add(node, GlobalAvgPool(), x)
        return reader.add(node, Reshape((*x.shape[:2], *[1] * len(axes))), y) if keep else y
    for axis in reversed(axes):
        x = reader.add(node, Reduce(axis, keep, function), x)
    return x


@rule("Gather")
def _gather(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    table, ids = node.input[:2]
    if table in reader.constants and ids in reader.values and attributes.get("axis", 0) == 0:
        weight = _weight(reader, node, 0)
        if weight.rank == 2 and weight.dtype in FLOATS:
            return reader.add(node, Embedding(*weight.shape), reader.value(ids), weight=table)
    x, picked = reader.value(table), reader.data(ids)
    if picked is None or len(picked) != 1:
        raise ValueError("gathers what is not known")
    axis = attributes.get("axis", 0) % x.tensor.rank
    at = int(picked[0]) % x.shape[axis]
    y = reader.add(node, Slice(axis, at, at + 1), x)
    if reader.tensor(ids).shape:
        return y
    return reader.add(node, Reshape((*x.shape[:axis], *x.shape[axis + 1 :])), y)


@rule("LSTM", "GRU", "RNN")
def _recurrent(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> tuple[Value, ...]:
    x, weight = reader.value(node.input[0]), _weight(reader, node, 1)
    hidden = attributes["hidden_size"]
    both = attributes.get("direction", b"forward") in (b"bidirectional", "bidirectional")
    if attributes.get("layout", 0):
        raise ValueError("layout 1")
    directions = 2 if both else 1
    if weight.rank != 3 or weight.shape[0] != directions:
        raise ValueError("weights of unknown shape")
    steps, batch, width = x.shape
    op = REGISTRY[node.op_type.lower()](width, hidden, 1, _has(node, 3), both)  # type: ignore[call-arg]
    # the file's tensors are [time, batch, width]; ours start with the batch, over the same memory
    y = reader.add(node, Reshape((batch, steps, width)), x)
    y = reader.add(node, op, y, weight=node.input[1])
    full = reader.add(node, Reshape((steps, directions, batch, hidden)), y)
    last = reader.add(node, Slice(0, steps - 1, steps), full)
    state = reader.add(node, Reshape((directions, batch, hidden)), last)
    return full, state, state


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, found = reader.value(node.input[0]), reader.inferred.get(node.output[0])
    if node.op_type == "Flatten":
        axis = attributes.get("axis", 1) % (x.tensor.rank + 1)
        return reader.add(node, Reshape((prod(x.shape[:axis]), prod(x.shape[axis:]))), x)
    if node.op_type == "Reshape" and (data := reader.data(node.input[1])) is not None:
        target = tuple(x.shape[i] if int(d) == 0 else int(d) for i, d in enumerate(data))
        return reader.add(node, Reshape(target), x)
    if found is None:
        raise ValueError("to a shape that is not known")
    return reader.add(node, Reshape(found.shape), x)


@rule("Transpose")
def _transpose(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    order = tuple(attributes.get("perm") or reversed(range(x.tensor.rank)))
    return reader.add(node, Transpose(order), x)


@rule("Concat")
def _concat(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    return reader.add(node, Concat(attributes["axis"]), *[reader.value(i) for i in node.input if i])


@rule("Slice")
def _slice(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x = reader.value(node.input[0])
    starts, ends = (
        _numbers(reader, node, attributes, "starts", 1),
        _numbers(reader, node, attributes, "ends", 2),
    )
    if starts is None or ends is None:
        raise ValueError("has no bounds")
    axes = _numbers(reader, node, attributes, "axes", 3) or list(range(len(starts)))
    steps = _numbers(reader, node, attributes, "steps", 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        n = x.shape[axis]
        begin, stop, stride = slice(start, max(min(end, n), -n - 1), step).indices(n)
        if stride < 0:
            raise ValueError("runs backwards")
        x = reader.add(node, Slice(axis, begin, stop, stride), x)
    return x


@rule("Split")
def _split(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Any:
    x, axis = reader.value(node.input[0]), attributes.get("axis", 0)
    n, parts = x.shape[axis], len(node.output)
    sizes = _numbers(reader, node, attributes, "split", 1)
    if sizes is None:
        each = -(-n // parts)
        sizes = [min(each, n - i * each) for i in range(parts)]
    return reader.add(node, Split(tuple(sizes), axis), x)


@rule("Pad")
def _pad(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, flat = reader.value(node.input[0]), _numbers(reader, node, attributes, "pads", 1)
    if flat is None or len(flat) != 2 * x.tensor.rank:
        raise ValueError("does not say how much")
    n = x.tensor.rank
    return reader.add(node, Pad(tuple((flat[i], flat[i + n]) for i in range(n))), x)


@rule("Expand")
def _expand(reader: OnnxReader, node: Any, attributes: dict[str, Any]) -> Value:
    x, found = reader.value(node.input[0]), reader.inferred.get(node.output[0])
    if found is None:
        raise SizeError("expands to a shape that is not known")
    return reader.add(node, Expand(found.shape), x)
