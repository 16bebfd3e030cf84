"""ONNX rules: arithmetic, activations, comparisons and choices element by element."""

from math import inf
from typing import Any

from pharos.convert.onnx_file import DTYPES
from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.registry import (
    MICROSOFT,
    decimal,
    decimals,
    first,
    has,
    priced,
    reshaped,
    rule,
    weight,
)
from pharos.convert.reader import FLOATS
from pharos.graph.graph import Value
from pharos.graph.op import Op
from pharos.ops.activation import Activation, Softmax
from pharos.ops.cast import Cast
from pharos.ops.compare import Compare, Logical, Predicate, Where
from pharos.ops.elementwise import Add, Clamp, Div, Maximum, Minimum, Mod, Mul, Pow, Sub
from pharos.ops.indexing import OneHot
from pharos.ops.prelu import Prelu
from pharos.ops.reduce import ArgReduce
from pharos.quantity.sizes import is_int, prod, same

# Beyond the largest fp16, bf16 and fp32 a limit is there for form's sake.
LARGEST_LIMIT = 3.4e38
FUNCTIONS = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hardswish", "Softplus": "softplus",
    "Mish": "mish", "Exp": "exp", "Erf": "erf", "Abs": "abs", "Neg": "neg", "Sin": "sin", "Cos": "cos",
    "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Log": "log", "Floor": "floor", "Ceil": "ceil",
    "Round": "round", "Sign": "sign", "Silu": "silu", "Softsign": "softsign", "Tan": "tan", "Asin": "asin",
    "Acos": "acos", "Atan": "atan", "Sinh": "sinh", "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh",
    "Atanh": "atanh",
}  # fmt: skip
# Nodes of two tensors; the scalar may be either.
BINARY: dict[str, type[Op]] = {"Add": Add, "Sub": Sub, "Mul": Mul, "Div": Div, "Pow": Pow, "Max": Maximum,
                               "Min": Minimum}  # fmt: skip
ORDERED = ("Sub", "Div", "Pow")
COMPARISONS = {"Equal": "eq", "Less": "lt", "LessOrEqual": "le", "Greater": "gt", "GreaterOrEqual": "ge"}
LOGIC = {"And": "and", "Or": "or", "Xor": "xor", "Not": "not", "BitwiseAnd": "and", "BitwiseOr": "or",
         "BitwiseXor": "xor", "BitwiseNot": "not"}  # fmt: skip


@rule(*FUNCTIONS)
def _activation(reader: OnnxReader, node: Call) -> Value:
    return reader.add(node, Activation(FUNCTIONS[node.op_type]), first(reader, node))


@rule("Gelu")
def _gelu(reader: OnnxReader, node: Call) -> Value:
    tanh = node.attributes.get("approximate", "none") == "tanh"
    return reader.add(node, Activation("gelu_tanh" if tanh else "gelu"), first(reader, node))


@rule("LeakyRelu", "Elu")
def _scaled(reader: OnnxReader, node: Call) -> Value:
    function, usual = {"LeakyRelu": ("leaky_relu", 0.01), "Elu": ("elu", 1.0)}[node.op_type]
    alpha = decimal(node.attributes.get("alpha", usual))
    return reader.add(node, Activation(function, None if alpha == usual else alpha), first(reader, node))


@rule("Selu", "Celu")
def _exponential(reader: OnnxReader, node: Call) -> Value:
    """max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1), of Selu the whole times gamma."""
    x, selu = first(reader, node), node.op_type == "Selu"
    alpha = float(node.attributes.get("alpha", 1.67326319217681884765625 if selu else 1.0))
    gamma = float(node.attributes.get("gamma", 1.05070102214813232421875)) if selu else 1.0
    if selu and abs(alpha - 1.6732632) < 1e-5 and abs(gamma - 1.0507009) < 1e-5:
        return reader.add(node, Activation("selu"), x)
    if not selu and alpha == 1:
        return reader.add(node, Activation("celu"), x)
    below = reader.add(node, Clamp(None, 0.0), x)
    below = below if selu else reader.add(node, Mul(scalar=1 / alpha), below)
    below = reader.add(node, Mul(scalar=alpha), reader.add(node, Activation("expm1"), below))
    y = reader.add(node, Add(), reader.add(node, Activation("relu"), x), below)
    return reader.add(node, Mul(scalar=gamma), y) if selu else y


@rule("ThresholdedRelu")
def _thresholded(reader: OnnxReader, node: Call) -> Value:
    x, alpha = first(reader, node), decimal(node.attributes.get("alpha", 1.0))
    return reader.add(node, Where(b=0.0), reader.add(node, Compare("gt", alpha), x), x)


@rule("Shrink")
def _shrink(reader: OnnxReader, node: Call) -> Value:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    x = first(reader, node)
    limit, bias = decimal(node.attributes.get("lambd", 0.5)), decimal(node.attributes.get("bias", 0.0))
    if limit == 0.5 and bias in (0.0, 0.5):
        return reader.add(node, Activation("hardshrink" if bias == 0 else "softshrink"), x)
    below, above = (
        reader.add(node, Add(scalar=b) if b else Activation("identity"), x) for b in (bias, -bias)
    )
    y = reader.add(node, Where(b=0.0), reader.add(node, Compare("lt", -limit), x), below)
    return reader.add(node, Where(), reader.add(node, Compare("gt", limit), x), above, y)


@rule("HardSigmoid")
def _hard_sigmoid(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    alpha, beta = decimal(node.attributes.get("alpha", 0.2)), decimal(node.attributes.get("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return reader.add(node, Activation("hardsigmoid"), x)
    x = reader.add(node, Add(scalar=beta), reader.add(node, Mul(scalar=alpha), x))
    return reader.add(node, Clamp(0.0, 1.0), x)


@rule("Swish", f"{MICROSOFT}.QuickGelu")
def _swish(reader: OnnxReader, node: Call) -> Value:
    """x sigmoid(alpha x)."""
    x = first(reader, node)
    alpha = decimal(node.attributes.get("alpha", 1.0 if node.op_type == "Swish" else 1.702))
    if alpha == 1:
        return reader.add(node, Activation("silu"), x)
    gate = reader.add(node, Activation("sigmoid"), reader.add(node, Mul(scalar=alpha), x))
    return reader.add(node, Mul(), x, gate)


@rule("SwiGLU")
def _swiglu(reader: OnnxReader, node: Call) -> Value:
    """silu(gate) * x of the two halves of the last dimension."""
    from pharos.ops.shape_ops import Split

    x = first(reader, node)
    if has(node, 1):
        gate, up = x, reader.value(node.input[1])
    else:
        half = x.shape[-1] // 2
        gate, up = reader.add(node, Split((half, x.shape[-1] - half), -1), x)
    alpha = decimal(node.attributes.get("alpha", 1.0))
    if alpha == 1:
        return reader.add(node, Mul(), reader.add(node, Activation("silu"), gate), up)
    share = reader.add(node, Activation("sigmoid"), reader.add(node, Mul(scalar=alpha), gate))
    return reader.add(node, Mul(), reader.add(node, Mul(), gate, share), up)


@rule("PRelu")
def _prelu(reader: OnnxReader, node: Call) -> Value:
    x, slope = first(reader, node), node.input[1]
    if slope in reader.constants and slope not in reader.values and reader.constants[slope].origins:
        shape = reader.constants[slope].tensor.shape
        wide = [s for s in shape if s != 1]
        channels = x.shape[1] if x.tensor.rank >= 2 else 0
        # the slope is of channels: of dimension 1, its own other ones 1
        placed = len(shape) == x.tensor.rank - 1 and wide == [shape[0]]
        if not wide or (placed and len(wide) == 1 and same(wide[0], channels)):
            return reader.add(node, Prelu(prod(shape)), x, weight=slope)
    above = reader.add(node, Activation("relu"), x)
    below = reader.add(node, Mul(), reader.add(node, Clamp(None, 0.0), x), reader.value(slope))
    return reader.add(node, Add(), above, below)


@rule("Clip")
def _clip(reader: OnnxReader, node: Call) -> Value:
    x, limits = first(reader, node), []
    for i, (name, made) in enumerate({"min": Maximum, "max": Minimum}.items(), 1):
        given = reader.data(node.input[i]) if has(node, i) else None
        stated = node.attributes.get(name)
        limits.append(decimal(stated) if stated is not None else decimal(given[0]) if given else None)
        if has(node, i) and given is None:
            x = reader.add(node, made(), x, reader.value(node.input[i]))
    # a limit that no number of the type exceeds is none
    low, high = (None if v is None or abs(v) > LARGEST_LIMIT else v for v in limits)
    if (low, high) == (0, 6):
        return reader.add(node, Activation("relu6"), x)
    return x if low is None and high is None else reader.add(node, Clamp(low, high), x)


@rule("Softmax", "LogSoftmax", "Hardmax")
def _softmax(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    if reader.file.opset >= 13 or not reader.file.opset or x.tensor.rank == 0:
        return _row(reader, node, x, node.attributes.get("axis", -1))
    # of all dimensions from the axis on together
    axis = node.attributes.get("axis", 1) % x.tensor.rank
    if axis == x.tensor.rank - 1:
        return _row(reader, node, x, -1)
    y = reshaped(reader, node, x, prod(x.shape[:axis]), prod(x.shape[axis:]))
    return reshaped(reader, node, _row(reader, node, y, -1), *x.shape)


def _row(reader: OnnxReader, node: Call, x: Value, axis: int) -> Value:
    if node.op_type == "Hardmax":
        best = reader.add(node, ArgReduce(axis), x)
        return reader.add(node, OneHot(x.shape[axis], axis), best)
    return reader.add(node, Softmax(axis, node.op_type == "LogSoftmax"), x)


@rule(*BINARY, "Sum", "Mean")
def _binary(reader: OnnxReader, node: Call) -> Value:
    total: Any = node.input[0]
    for name in node.input[1:]:
        total = _two(reader, node, total, name)
    total = _operand(reader, total)
    if node.op_type != "Mean":
        return total
    return reader.add(node, Mul(scalar=1 / len(node.input)), total) if len(node.input) > 1 else total


def _two(reader: OnnxReader, node: Call, a: str | Value, b: str) -> Value:
    """One operator of two operands, or of one and a number that the file knows."""
    made: Any = BINARY.get(node.op_type, Add)
    options: dict[str, Any] = {}
    beside = reader.tensor(a) if isinstance(a, str) else a.tensor
    if made is Div and beside.dtype not in FLOATS:
        options["rounding"] = "trunc"
    known = [_number(reader, a, b), _number(reader, b, a)]
    if known[1] is not None:
        if made is Pow and known[1] == 2:
            return reader.add(node, Activation("square"), _operand(reader, a))
        return reader.add(node, made(scalar=known[1], **options), _operand(reader, a))
    if known[0] is not None:
        options |= {"flipped": True} if node.op_type in ORDERED else {}
        return reader.add(node, made(scalar=known[0], **options), _operand(reader, b))
    return reader.add(node, made(**options), _operand(reader, a), _operand(reader, b))


def _operand(reader: OnnxReader, operand: str | Value) -> Value:
    return reader.value(operand) if isinstance(operand, str) else operand


def _number(reader: OnnxReader, operand: str | Value, other: str | Value) -> Any:
    """A constant of one number that leaves the shape of the other operand as it is."""
    if not isinstance(operand, str) or operand not in reader.constants or operand in reader.values:
        return None
    beside = reader.tensor(other) if isinstance(other, str) else other.tensor
    shape = reader.tensor(operand).shape
    if prod(shape) != 1 or len(shape) > beside.rank:
        return None
    data = decimals(reader, operand)
    return data[0] if data and isinstance(data[0], (int, float)) else None


@rule("Mod")
def _mod(reader: OnnxReader, node: Call) -> Value:
    truncated = bool(node.attributes.get("fmod", 0))
    a, b = node.input[:2]
    known = _number(reader, b, a)
    if known is not None:
        return reader.add(node, Mod(scalar=known, truncated=truncated), reader.value(a))
    return reader.add(node, Mod(truncated=truncated), reader.value(a), reader.value(b))


@rule(*COMPARISONS)
def _compare(reader: OnnxReader, node: Call) -> Value:
    function, (a, b) = COMPARISONS[node.op_type], node.input[:2]
    known = _number(reader, b, a)
    if known is not None:
        return reader.add(node, Compare(function, float(known)), reader.value(a))
    return reader.add(node, Compare(function), reader.value(a), reader.value(b))


@rule(*LOGIC)
def _logical(reader: OnnxReader, node: Call) -> Value:
    return reader.add(node, Logical(LOGIC[node.op_type]), *map(reader.value, node.input))


@rule("BitShift")
def _shift(reader: OnnxReader, node: Call) -> Value:
    function = "shift_left" if node.attributes.get("direction") == "LEFT" else "shift_right"
    return reader.add(node, Logical(function), *map(reader.value, node.input))


@rule("IsNaN", "IsInf")
def _predicate(reader: OnnxReader, node: Call) -> Value:
    x, a = first(reader, node), node.attributes
    sides = a.get("detect_positive", 1), a.get("detect_negative", 1)
    if node.op_type == "IsInf" and sides in ((1, 0), (0, 1)):
        return reader.add(node, Compare("eq", inf if sides[0] else -inf), x)
    return reader.add(node, Predicate(node.op_type.lower()), x)


@rule("Where")
def _where(reader: OnnxReader, node: Call) -> Value:
    condition, a, b = node.input[:3]
    sides = {}
    for key, name, other in (("a", a, b), ("b", b, a)):
        found = _number(reader, name, other) if len(sides) == 0 else None
        wide = reader.tensor(condition).rank >= reader.tensor(name).rank
        if found is not None and wide:
            sides[key] = float(found)
    values = [reader.value(n) for key, n in (("a", a), ("b", b)) if key not in sides]
    return reader.add(node, Where(**sides), reader.value(condition), *values)


@rule("BitCast")
def _bits(reader: OnnxReader, node: Call) -> Any:
    """The same bits read as another type: nothing is computed or moved."""
    x, wanted = first(reader, node), DTYPES[node.attributes["to"]]
    return priced(reader, node, [(x.shape, wanted)], x, cost="view")


@rule("Cast", "CastLike")
def _cast(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    if node.op_type == "CastLike":
        wanted = reader.tensor(node.input[1]).dtype
    else:
        wanted = DTYPES[node.attributes["to"]]
    both = wanted in FLOATS and x.tensor.dtype in FLOATS
    if wanted == x.tensor.dtype or (both and not reader.file.free):
        return x
    if wanted in FLOATS and not reader.file.free:
        wanted = reader.g.precision.activations
    return reader.add(node, Cast(wanted), x)


@rule("BatchNormalization")
def _batch_norm(reader: OnnxReader, node: Call) -> Value:
    from pharos.ops.norm import BatchNorm

    x = first(reader, node)
    named = {"weight": node.input[1], "bias": node.input[2]}
    if node.attributes.get("training_mode", 0):
        return _trained(reader, node, x)
    if any(name not in reader.constants or name in reader.values for name in node.input[1:5]):
        return _scaled_by_values(reader, node, x)
    eps = decimal(node.attributes.get("epsilon", 1e-5))
    return reader.add(node, BatchNorm(weight(reader, node, 1).shape[0], eps), x, **named)


def _trained(reader: OnnxReader, node: Call, x: Value) -> Any:
    """With the statistics of the batch, which also move the running ones."""
    from pharos.ops.norm import BatchNorm

    channels = x.shape[1]
    work = BatchNorm(channels).training_work(x.tensor, x.tensor)
    outs = [(x.shape, x.tensor.dtype), *[((channels,), x.tensor.dtype)] * (len(node.output) - 1)]
    return priced(reader, node, outs, vector=work.vector_flops, roots=work.transcendentals, cost="norm")


def _scaled_by_values(reader: OnnxReader, node: Call, x: Value) -> Value:
    """(x - mean) / sqrt(var + eps) * scale + bias, of values that are no parameters."""
    shape = (1, -1, *[1] * (x.tensor.rank - 2))
    channels = x.shape[1]
    sides = []
    for name in node.input[1:5]:
        given = reader.value(name)
        sides.append(reshaped(reader, node, given, *[channels if s == -1 else s for s in shape]))
    scale, bias, mean, variance = sides
    eps = decimal(node.attributes.get("epsilon", 1e-5))
    root = reader.add(node, Activation("sqrt"), reader.add(node, Add(scalar=eps), variance))
    y = reader.add(node, Div(), reader.add(node, Sub(), x, mean), root)
    return reader.add(node, Add(), reader.add(node, Mul(), y, scale), bias)


@rule("Det")
def _determinant(reader: OnnxReader, node: Call) -> Any:
    """By elimination: n^3 / 3 products and as many differences, n (n - 1) / 2 quotients."""
    x = first(reader, node)
    n, rows = x.shape[-1], prod(x.shape[:-2])
    products = rows * (n - 1) * n * (2 * n - 1) // 6
    out = [(x.shape[:-2], x.tensor.dtype)]
    return priced(reader, node, out, x, vector=2 * products + rows * n, roots=rows * (n * (n - 1) // 2))


# What one random number costs: Philox has 10 rounds of 2 products and 4 exclusive ors for 4 numbers.
_UNIFORM = 15


def _drawn(numel: Any, normal: bool) -> tuple[Any, Any]:
    """(vector, transcendental): by Box and Muller a logarithm, a root and a cosine make a normal one."""
    return (_UNIFORM + (4 if normal else 2)) * numel, 3 * numel if normal else 0


@rule("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
def _random(reader: OnnxReader, node: Call) -> Any:
    """Philox numbers (Salmon et al. 2011, doi:10.1145/2063384.2063405), for a normal one Box and Muller's."""
    kind = node.op_type
    dtype = DTYPES.get(node.attributes.get("dtype", 0), "")
    inputs: list[Value] = []
    shape: tuple[Any, ...]
    if kind in ("RandomNormal", "RandomUniform"):
        shape = tuple(node.attributes["shape"])
        dtype = dtype or "fp32"
    else:
        x = first(reader, node)
        shape, inputs, dtype = x.shape, [x], dtype or x.tensor.dtype
    if any(is_int(n) and n < 0 for n in shape):
        raise ValueError("a negative size")
    if kind == "Multinomial":
        shape = (shape[0], node.attributes.get("sample_size", 1))
        dtype = DTYPES.get(node.attributes.get("dtype", 6), "int32")
        # running sums of the classes, exponentials of their logits, then a search for each sample
        classes = inputs[0].tensor.numel
        vector, roots = _drawn(prod(shape), False)
        from pharos.quantity.sizes import ceil_log2

        vector = vector + 2 * classes + prod(shape) * ceil_log2(inputs[0].shape[-1])
        return priced(reader, node, [(shape, dtype)], *inputs, vector=vector, roots=roots + classes)
    vector, roots = _drawn(prod(shape), "Normal" in kind)
    return priced(reader, node, [(shape, dtype)], *inputs, vector=vector, roots=roots)
