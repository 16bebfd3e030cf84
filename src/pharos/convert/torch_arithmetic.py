"""PyTorch rules for arithmetic, functions, comparisons and choices element by element."""

import math
from typing import Any

from pharos.convert.reader import FLOATS
from pharos.convert.torch_known import plain
from pharos.convert.torch_record import TorchReader
from pharos.convert.torch_rules import rule
from pharos.graph.graph import Value
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.activation import FUNCTIONS, Activation
from pharos.ops.cast import Cast
from pharos.ops.compare import Compare, Logical, Predicate, Where
from pharos.ops.copies import Full
from pharos.ops.elementwise import Add, Clamp, Div, Maximum, Minimum, Mod, Mul, Pow, Sub
from pharos.ops.prelu import Prelu
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Reshape

NAMES = {"sgn": "sign", "absolute": "abs", "negative": "neg", "arcsin": "asin", "arccos": "acos",
         "arctan": "atan",
         "log_sigmoid": "logsigmoid", "log_sigmoid_forward": "logsigmoid"}  # fmt: skip
PLAIN = set(FUNCTIONS) - {
    "gelu_tanh",
    "identity",
    "relu6",
    "celu",
    "selu",
    "gelu",
    "leaky_relu",
    "elu",
    "softplus",
}
# Functions whose one argument we know at its default only.
FIXED = {"hardshrink": 0.5, "softshrink": 0.5}


def number(r: TorchReader, x: Any) -> Any:
    """A scalar argument as a number; None for a tensor."""
    if isinstance(x, r.torch.Tensor):
        return None
    return r.size(x) if isinstance(x, (r.torch.SymInt, r.torch.SymFloat)) else x


def floats(r: TorchReader, value: Value, torch_dtype: Any) -> Value:
    """What PyTorch promotes to floats, as floats."""
    target = r.dtype(torch_dtype)
    if target in FLOATS and value.tensor.dtype not in FLOATS:
        return r.put("cast", Cast(ACTIVATIONS), value)
    return value


for _name in (*PLAIN, *NAMES):

    @rule(_name)
    def _function(
        r: TorchReader, self: Any, *_: Any, _which: str = NAMES.get(_name, _name), **__: Any
    ) -> Any:
        if _which in FIXED and _ and _[0] != FIXED[_which]:
            raise NotImplementedError(f"a threshold of {_[0]}")
        out = r.out[0] if isinstance(r.out, (tuple, list)) else r.out
        x = floats(r, r.of(self), out.dtype)
        made = r.put(_which, Activation(_which), x)
        return made if isinstance(r.out, r.torch.Tensor) else (made, None)


@rule("gelu")
def _gelu(r: TorchReader, self: Any, *, approximate: str = "none") -> Any:
    return r.put("gelu", Activation("gelu_tanh" if approximate == "tanh" else "gelu"), r.of(self))


@rule("leaky_relu")
def _leaky(r: TorchReader, self: Any, negative_slope: float = 0.01) -> Any:
    op = Activation("leaky_relu", None if negative_slope == 0.01 else float(negative_slope))
    return r.put("leaky_relu", op, r.of(self))


@rule("elu")
def _elu(r: TorchReader, self: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    x = r.of(self)
    if abs(scale - 1.0507009873554805) < 1e-6:
        return r.put("selu", Activation("selu"), x)
    if scale != 1 or input_scale != 1:
        raise NotImplementedError("a scaled elu")
    return r.put("elu", Activation("elu", None if alpha == 1 else float(alpha)), x)


@rule("celu")
def _celu(r: TorchReader, self: Any, alpha: float = 1.0) -> Any:
    if alpha == 1:
        return r.put("celu", Activation("celu"), r.of(self))
    x = r.put("mul", Mul(scalar=1 / float(alpha)), r.of(self))
    return r.put("mul", Mul(scalar=float(alpha)), r.put("celu", Activation("celu"), x))


@rule("selu")
def _selu(r: TorchReader, self: Any) -> Any:
    return r.put("selu", Activation("selu"), r.of(self))


@rule("softplus")
def _softplus(r: TorchReader, self: Any, beta: float = 1, threshold: float = 20) -> Any:
    x = r.of(self)
    if beta == 1:
        return r.put("softplus", Activation("softplus"), x)
    y = r.put("softplus", Activation("softplus"), r.put("mul", Mul(scalar=float(beta)), x))
    return r.put("mul", Mul(scalar=1 / float(beta)), y)


@rule("threshold")
def _threshold(r: TorchReader, self: Any, threshold: float, value: float) -> Any:
    x = r.of(self)
    kept = r.put("compare", Compare("gt", float(threshold)), x)
    return r.put("where", Where(b=float(value)), kept, x)


@rule("prelu", "_prelu_kernel")
def _prelu(r: TorchReader, self: Any, weight: Any) -> Any:
    x, count = r.of(self), weight.numel()
    name = r.weight(weight)
    if name is not None and name in r.deferred:
        name = r.deferred[name][1]
    if name is None or name in r.deferred:
        raise NotImplementedError("slopes that are computed")
    return r.put("prelu", Prelu(count), x, weight=name)


BINARY = {
    "add": Add, "sub": Sub, "subtract": Sub, "mul": Mul, "multiply": Mul, "div": Div, "true_divide": Div,
    "divide": Div,
    "pow": Pow, "maximum": Maximum, "minimum": Minimum, "fmax": Maximum, "fmin": Minimum,
    "remainder": Mod, "fmod": Mod,
    "floor_divide": Div, "rsub": Sub, "__rpow__": Pow, "float_power": Pow,
}  # fmt: skip
ORDERED = (Sub, Div, Pow, Mod)


for _name in BINARY:

    @rule(_name)
    def _binary(r: TorchReader, self: Any, other: Any, *_: Any, _which: str = _name, alpha: Any = 1,
                rounding_mode: Any = None, **__: Any) -> Any:  # fmt: skip
        made: Any = BINARY[_which]
        if _which in ("rsub", "__rpow__"):
            self, other = other, self
        a, b = number(r, self), number(r, other)
        if alpha != 1:
            if b is not None:
                b = b * alpha
            else:
                other = r.put("mul", Mul(scalar=number(r, alpha)), r.of(other))
        whole = r.out.dtype
        if a is not None and b is not None:
            # two numbers, whose result is one too
            value = None if r.known is None else r.known(r.out)
            if value is None:
                raise NotImplementedError("two numbers")
            target = r.dtype(whole)
            op = Full((), plain(r.torch, value), ACTIVATIONS if target in FLOATS else target)
            return r.put("full", op)
        how: dict[str, Any] = {}
        if made is Div and (rounding_mode or _which == "floor_divide"):
            how["rounding"] = rounding_mode or "floor"
        if b is not None:
            x = floats(r, r.of(self), whole)
            if made is Pow and b in (2, 0.5):
                return r.put(_which, Activation("square" if b == 2 else "sqrt"), x)
            return r.put(_which, made(scalar=b, **how), x)
        second = floats(r, other if isinstance(other, Value) else r.of(other), whole)
        if a is not None:
            how |= {"flipped": True} if made in ORDERED else {}
            return r.put(_which, made(scalar=a, **how), second)
        return r.put(_which, made(**how), floats(r, r.of(self), whole), second)


@rule("addcmul")
def _addc(r: TorchReader, self: Any, tensor1: Any, tensor2: Any, *, value: Any = 1, _made: Any = Mul) -> Any:
    y = r.put("mul", _made(), r.of(tensor1), r.of(tensor2))
    y = y if value == 1 else r.put("mul", Mul(scalar=float(value)), y)
    return r.put("add", Add(), r.of(self), y)


@rule("addcdiv")
def _addcdiv(r: TorchReader, self: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return _addc(r, self, tensor1, tensor2, value=value, _made=Div)


@rule("lerp")
def _lerp(r: TorchReader, self: Any, end: Any, weight: Any) -> Any:
    step = r.put("sub", Sub(), r.of(end), r.of(self))
    by = number(r, weight)
    step = r.put("mul", Mul(), step, r.of(weight)) if by is None else r.put("mul", Mul(scalar=by), step)
    return r.put("add", Add(), r.of(self), step)


@rule("clamp", "clip", "hardtanh", "clamp_min")
def _clamp(r: TorchReader, self: Any, *limits: Any, min: Any = None, max: Any = None, min_val: Any = None,
           max_val: Any = None, **_: Any) -> Any:  # fmt: skip
    low, high = (*limits, None, None)[:2]
    low = next((v for v in (low, min, min_val) if v is not None), None)
    high = next((v for v in (high, max, max_val) if v is not None), None)
    x = r.of(self)
    for limit, made in ((low, Maximum), (high, Minimum)):
        if isinstance(limit, r.torch.Tensor):
            x = r.put("clamp", made(), x, r.of(limit))
    low, high = (None if isinstance(v, r.torch.Tensor) else v for v in (low, high))
    if (low, high) == (0, 6):
        return r.put("relu6", Activation("relu6"), x)
    bounds = [None if v is None else float(number(r, v)) for v in (low, high)]
    return x if bounds == [None, None] else r.put("clamp", Clamp(*bounds), x)


@rule("clamp_max")
def _clamp_max(r: TorchReader, self: Any, max: Any) -> Any:
    return _clamp(r, self, None, max)


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):

    @rule(_name)
    def _compare(r: TorchReader, self: Any, other: Any, _which: str = _name) -> Any:
        value = number(r, other)
        if value is not None:
            return r.put(_which, Compare(_which, float(value)), r.of(self))
        return r.put(_which, Compare(_which), r.of(self), r.of(other))


LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor", "bitwise_and": "and",
         "bitwise_or": "or",
         "bitwise_xor": "xor", "__and__": "and", "__or__": "or", "__xor__": "xor", "__lshift__": "shift_left",
         "__rshift__": "shift_right", "bitwise_left_shift": "shift_left",
         "bitwise_right_shift": "shift_right"}  # fmt: skip
for _name in LOGIC:

    @rule(_name)
    def _logic(r: TorchReader, self: Any, other: Any, _which: str = LOGIC[_name]) -> Any:
        if number(r, other) is not None:
            raise NotImplementedError("a constant side")
        return r.put(_which, Logical(_which), r.of(self), r.of(other))


@rule("logical_not", "bitwise_not")
def _not(r: TorchReader, self: Any) -> Any:
    return r.put("not", Logical("not"), r.of(self))


for _name in ("isnan", "isinf", "isfinite"):

    @rule(_name)
    def _predicate(r: TorchReader, self: Any, _which: str = _name) -> Any:
        return r.put(_which, Predicate(_which), r.of(self))


@rule("where")
def _where(r: TorchReader, condition: Any, self: Any = None, other: Any = None) -> Any:
    if self is None:
        from pharos.convert.torch_masks import places_of

        return places_of(r, condition)
    a, b = scalar(r, self), scalar(r, other)
    given = [r.of(t) for t, known in ((self, a), (other, b)) if known is None]
    return r.put("where", Where(a, b), r.of(condition), *given)


def scalar(r: TorchReader, x: Any) -> float | None:
    """A number, of a scalar argument or of a scalar tensor that was made from one."""
    value = number(r, x)
    if value is not None:
        return float(value)
    if x.dim() == 0:
        return r.numbers.get(r.named(x))
    return None


@rule("masked_fill")
def _masked_fill(r: TorchReader, self: Any, mask: Any, value: Any) -> Any:
    filled = scalar(r, value)
    if filled is not None:
        return r.put("where", Where(a=filled), r.of(mask), r.of(self))
    return r.put("where", Where(), r.of(mask), r.of(value), r.of(self))


@rule("nan_to_num")
def _nan_to_num(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    x = r.of(self)
    for which in ("isnan", "isinf"):
        x = r.put("where", Where(a=0.0), r.put(which, Predicate(which), x), x)
    return x


for _name, _base in (("log2", 2.0), ("log10", 10.0)):

    @rule(_name)
    def _log(r: TorchReader, self: Any, _by: float = 1 / math.log(_base)) -> Any:
        x = r.put("log", Activation("log"), floats(r, r.of(self), r.out.dtype))
        return r.put("mul", Mul(scalar=_by), x)


@rule("exp2")
def _exp2(r: TorchReader, self: Any) -> Any:
    x = r.put("mul", Mul(scalar=math.log(2)), floats(r, r.of(self), r.out.dtype))
    return r.put("exp", Activation("exp"), x)


@rule("logit")
def _logit(r: TorchReader, self: Any, eps: float | None = None) -> Any:
    """log(x / (1 - x)), of what lies between eps and 1 - eps."""
    x = r.of(self)
    x = x if eps is None else r.put("clamp", Clamp(float(eps), 1 - float(eps)), x)
    return r.put(
        "log", Activation("log"), r.put("div", Div(), x, r.put("sub", Sub(scalar=1.0, flipped=True), x))
    )


@rule("mse_loss")
def _distance(r: TorchReader, self: Any, target: Any, reduction: int = 1) -> Any:
    """Squares of differences: each (0), their mean (1) or sum (2)."""
    y = r.put("square", Activation("square"), r.put("sub", Sub(), r.of(self), r.of(target)))
    if reduction == 0 or y.tensor.rank == 0:
        return y
    dims = tuple(range(y.tensor.rank))
    return r.put("mean", Reduce(dims if len(dims) > 1 else 0, False, "mean" if reduction == 1 else "sum"), y)


@rule("isin")
def _isin(r: TorchReader, elements: Any, test_elements: Any, **_: Any) -> Any:
    """Each element against each of the others."""
    x, y = r.of(elements), r.of(test_elements)
    row = r.put("reshape", Reshape((*x.shape, 1)), x)
    same = r.put("eq", Compare("eq"), row, r.put("reshape", Reshape((y.tensor.numel,)), y))
    return r.put("any", Reduce(x.tensor.rank, False, "any"), same)


@rule("_weight_norm_interface")
def _weight_norm(r: TorchReader, v: Any, g: Any, dim: int = 0) -> Any:
    """g v / |v|, the norm over all dimensions but one."""
    x, over = r.of(v), tuple(d for d in range(v.dim()) if d != dim)
    squares = r.put("square", Mul(), x, x)
    total = r.put("sum", Reduce(over[0] if len(over) == 1 else over, True, "sum"), squares)
    norm = r.put("sqrt", Activation("sqrt"), total)
    y = r.put("mul", Mul(), x, r.put("div", Div(), r.of(g), norm))
    return (y, norm)
