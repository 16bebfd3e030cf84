"""PyTorch rules for elementwise arithmetic, reductions, pools, indexing and tensors made of sizes."""

from typing import Any

from pharos.convert.reader import FLOATS
from pharos.convert.torch_record import TorchReader
from pharos.convert.torch_rules import rule
from pharos.graph.graph import Value
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.activation import FUNCTIONS, Activation
from pharos.ops.adaptive_pool import AdaptivePool
from pharos.ops.cast import Cast
from pharos.ops.compare import Compare, Logical, Predicate, Where
from pharos.ops.copies import Arange, Full, Triangle
from pharos.ops.elementwise import Add, Clamp, Div, Maximum, Minimum, Mod, Mul, Pow, Sub
from pharos.ops.indexing import OneHot, ScatterElements, Take, TakeAlong
from pharos.ops.pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from pharos.ops.prelu import Prelu
from pharos.ops.reduce import ArgReduce, Cumulate, Reduce, TopK
from pharos.ops.resample import GridSample, Resize
from pharos.ops.shape_ops import Expand, Reshape
from pharos.ops.unfold import Fold, Unfold

NAMES = {"sgn": "sign", "absolute": "abs", "negative": "neg", "arcsin": "asin", "arccos": "acos", "arctan": "atan",
         "log_sigmoid": "logsigmoid", "log_sigmoid_forward": "logsigmoid"}  # fmt: skip
PLAIN = set(FUNCTIONS) - {"gelu_tanh", "identity", "relu6", "celu", "selu", "gelu", "leaky_relu", "elu"}


def _number(r: TorchReader, x: Any) -> Any:
    """A scalar argument as a number; None for a tensor."""
    if isinstance(x, r.torch.Tensor):
        return None
    return r.size(x) if isinstance(x, (r.torch.SymInt, r.torch.SymFloat)) else x


def _floats(r: TorchReader, value: Value, torch_dtype: Any) -> Value:
    """What PyTorch promotes to floats, as floats."""
    target = r.dtype(torch_dtype)
    if target in FLOATS and value.tensor.dtype not in FLOATS:
        return r.put("cast", Cast(ACTIVATIONS), value)
    return value


for _name in (*PLAIN, *NAMES):

    @rule(_name)
    def _function(r: TorchReader, self: Any, *_: Any, _which: str = NAMES.get(_name, _name), **__: Any) -> Any:
        out = r.out[0] if isinstance(r.out, (tuple, list)) else r.out
        x = _floats(r, r.of(self), out.dtype)
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
    name = r.parameter(weight)
    if name is not None and name in r.deferred:
        name = r.deferred[name][1]
    if name is None or name in r.deferred:
        raise NotImplementedError("slopes that are computed")
    return r.put("prelu", Prelu(count), x, weight=name)


BINARY = {
    "add": Add, "sub": Sub, "subtract": Sub, "mul": Mul, "multiply": Mul, "div": Div, "true_divide": Div, "divide": Div,
    "pow": Pow, "maximum": Maximum, "minimum": Minimum, "fmax": Maximum, "fmin": Minimum, "remainder": Mod, "fmod": Mod,
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
        a, b = _number(r, self), _number(r, other)
        if alpha != 1:
            if b is not None:
                b = b * alpha
            else:
                other = r.put("mul", Mul(scalar=_number(r, alpha)), r.of(other))
        whole = r.out.dtype
        if b is not None:
            if made is Pow and b == 2:
                y = r.put("square", Activation("square"), _floats(r, r.of(self), whole))
            elif made is Pow and b == 0.5:
                y = r.put("sqrt", Activation("sqrt"), _floats(r, r.of(self), whole))
            else:
                y = r.put(_which, made(scalar=b), _floats(r, r.of(self), whole))
        elif a is not None:
            options = {"flipped": True} if made in ORDERED else {}
            y = r.put(_which, made(scalar=a, **options), _floats(r, r.of(other), whole))
        else:
            second = other if isinstance(other, Value) else r.of(other)
            y = r.put(_which, made(), _floats(r, r.of(self), whole), _floats(r, second, whole))
        if rounding_mode is not None or _which == "floor_divide":
            y = r.put("floor", Activation("trunc" if rounding_mode == "trunc" else "floor"), y)
        return y


@rule("addcmul", "addcdiv")
def _addc(r: TorchReader, self: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    y = r.put("mul", Mul(), r.of(tensor1), r.of(tensor2))
    y = y if value == 1 else r.put("mul", Mul(scalar=float(value)), y)
    return r.put("add", Add(), r.of(self), y)


@rule("lerp")
def _lerp(r: TorchReader, self: Any, end: Any, weight: Any) -> Any:
    step = r.put("sub", Sub(), r.of(end), r.of(self))
    by = _number(r, weight)
    step = r.put("mul", Mul(), step, r.of(weight)) if by is None else r.put("mul", Mul(scalar=by), step)
    return r.put("add", Add(), r.of(self), step)


@rule("clamp", "clip", "hardtanh", "clamp_min", "clamp_max")
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
    limits = [None if v is None else float(_number(r, v)) for v in (low, high)]
    return x if limits == [None, None] else r.put("clamp", Clamp(*limits), x)


@rule("clamp_max")
def _clamp_max(r: TorchReader, self: Any, max: Any) -> Any:
    return _clamp(r, self, None, max)


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):

    @rule(_name)
    def _compare(r: TorchReader, self: Any, other: Any, _which: str = _name) -> Any:
        number = _number(r, other)
        if number is not None:
            return r.put(_which, Compare(_which, float(number)), r.of(self))
        return r.put(_which, Compare(_which), r.of(self), r.of(other))


LOGIC = {"logical_and": "and", "logical_or": "or", "logical_xor": "xor", "bitwise_and": "and", "bitwise_or": "or",
         "bitwise_xor": "xor", "__and__": "and", "__or__": "or", "__xor__": "xor", "__lshift__": "shift_left",
         "__rshift__": "shift_right", "bitwise_left_shift": "shift_left",
         "bitwise_right_shift": "shift_right"}  # fmt: skip
for _name in LOGIC:

    @rule(_name)
    def _logic(r: TorchReader, self: Any, other: Any, _which: str = LOGIC[_name]) -> Any:
        if _number(r, other) is not None:
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
        raise NotImplementedError("as many outputs as there are truths")
    a, b = _scalar(r, self), _scalar(r, other)
    given = [r.of(t) for t, number in ((self, a), (other, b)) if number is None]
    return r.put("where", Where(a, b), r.of(condition), *given)


def _scalar(r: TorchReader, x: Any) -> float | None:
    """A number, of a scalar argument or of a scalar tensor that was made from one."""
    number = _number(r, x)
    if number is not None:
        return float(number)
    if x.dim() == 0:
        return r.numbers.get(r.named(x))
    return None


@rule("masked_fill")
def _masked_fill(r: TorchReader, self: Any, mask: Any, value: Any) -> Any:
    number = _scalar(r, value)
    if number is not None:
        return r.put("where", Where(a=number), r.of(mask), r.of(self))
    return r.put("where", Where(), r.of(mask), r.of(value), r.of(self))


REDUCTIONS = {"mean": "mean", "sum": "sum", "amax": "max", "amin": "min", "prod": "prod", "any": "any", "all": "all",
              "logsumexp": "log_sum_exp", "nansum": "sum"}  # fmt: skip
for _name in REDUCTIONS:

    @rule(_name)
    def _reduce(r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False, *_: Any,
                _which: str = REDUCTIONS[_name], dtype: Any = None, **__: Any) -> Any:  # fmt: skip
        return _reduced(r, self, dim, keepdim, _which, r.out)


def _reduced(r: TorchReader, self: Any, dim: Any, keepdim: bool, which: str, out: Any, correction: int = 0) -> Value:
    dims = [dim] if isinstance(dim, int) else list(dim or range(self.dim()))
    if not dims:
        return r.of(self)
    x = _floats(r, r.of(self), out.dtype) if which not in ("any", "all") else r.of(self)
    if x.tensor.dtype == "bool" and which == "sum":
        x = r.put("cast", Cast("int64"), x)
    over = tuple(sorted(d % self.dim() for d in dims))
    op = Reduce(over[0] if len(over) == 1 else over, bool(keepdim), which, correction)
    return r.put(which, op, x)


@rule("var", "std")
def _var(r: TorchReader, self: Any, dim: Any = None, *_: Any, correction: Any = 1, keepdim: bool = False,
         **__: Any) -> Any:  # fmt: skip
    return _reduced(r, self, dim, keepdim, "var", r.out, int(1 if correction is None else correction))


@rule("std")
def _std(r: TorchReader, self: Any, dim: Any = None, *_: Any, correction: Any = 1, keepdim: bool = False,
         **__: Any) -> Any:  # fmt: skip
    return _reduced(r, self, dim, keepdim, "std", r.out, int(1 if correction is None else correction))


@rule("var_mean")
def _var_mean(r: TorchReader, self: Any, dim: Any = None, *_: Any, correction: Any = 1, keepdim: bool = False,
              **__: Any) -> Any:  # fmt: skip
    by = int(1 if correction is None else correction)
    return (_reduced(r, self, dim, keepdim, "var", r.out[0], by), _reduced(r, self, dim, keepdim, "mean", r.out[1]))


@rule("linalg_vector_norm", "norm")
def _vector_norm(r: TorchReader, self: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
    which = {1: "norm1", 2: "norm2", float("inf"): "max"}.get(ord)
    if which is None:
        raise NotImplementedError(f"norm of order {ord}")
    return _reduced(r, self, dim, keepdim, which, r.out)


@rule("max", "min")
def _extreme(r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False, _which: str = "max") -> Any:
    if isinstance(dim, r.torch.Tensor):
        return r.put("maximum", (Maximum if _which == "max" else Minimum)(), r.of(self), r.of(dim))
    if dim is None:
        return _reduced(r, self, None, False, _which, r.out)
    where = r.put("argmax", ArgReduce(dim % self.dim(), bool(keepdim), _which), r.of(self))
    return (_reduced(r, self, dim, keepdim, _which, r.out[0]), where)


@rule("min")
def _least(r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return _extreme(r, self, dim, keepdim, "min")


for _name in ("argmax", "argmin"):

    @rule(_name)
    def _arg(r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False, _which: str = _name[3:]) -> Any:
        x = r.of(self)
        if dim is None:
            x, dim = r.put("reshape", Reshape((-1,)), x), 0
        return r.put(f"arg{_which}", ArgReduce(dim % x.tensor.rank, bool(keepdim), _which), x)


for _name in ("cumsum", "cumprod"):

    @rule(_name)
    def _cumulate(r: TorchReader, self: Any, dim: int, *_: Any, _which: str = _name[3:], **__: Any) -> Any:
        x = _floats(r, r.of(self), r.out.dtype)
        if x.tensor.dtype == "bool":
            x = r.put("cast", Cast("int64"), x)
        return r.put(f"cum{_which}", Cumulate(dim % max(self.dim(), 1), _which), x)


@rule("topk")
def _topk(r: TorchReader, self: Any, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return r.put("topk", TopK(r.size(k), dim, bool(largest)), r.of(self))


@rule("sort")
def _sort(r: TorchReader, self: Any, *arguments: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    rest = [a for a in arguments if a is not None and not isinstance(a, bool)]
    falls = next((a for a in arguments if isinstance(a, bool)), descending)
    return r.put("sort", TopK(None, rest[0] if rest else dim, bool(falls)), r.of(self))


@rule("argsort")
def _argsort(r: TorchReader, self: Any, dim: int = -1, descending: bool = False, **_: Any) -> Any:
    return r.put("sort", TopK(None, dim, bool(descending)), r.of(self))[1]


def _pools(name: str, made: tuple[Any, Any, Any]) -> None:
    n = int(name[-2])
    cls = made[n - 1]

    def tupled(v: Any) -> Any:
        found = tuple(int(x) for x in v) if isinstance(v, (list, tuple)) else (int(v),)
        return found * n if len(found) == 1 else found

    if name.startswith("max"):

        @rule(name, f"{name}_with_indices")
        def _max_pool(r: TorchReader, self: Any, kernel_size: Any, stride: Any = (), padding: Any = 0,
                      dilation: Any = 1, ceil_mode: bool = False) -> Any:  # fmt: skip
            x, single = r.of(self), self.dim() == n + 1
            if single:
                x = r.put("reshape", Reshape((1, *x.shape)), x)
            op = cls(tupled(kernel_size), tupled(stride) if stride else None, tupled(padding), tupled(dilation),
                     bool(ceil_mode))  # fmt: skip
            y = r.put("pool", op, x)
            y = r.put("reshape", Reshape(y.shape[1:]), y) if single else y
            return y if isinstance(r.out, r.torch.Tensor) else (y, None)
    else:

        @rule(name)
        def _avg_pool(r: TorchReader, self: Any, kernel_size: Any, stride: Any = (), padding: Any = 0,
                      ceil_mode: bool = False, count_include_pad: bool = True, *_: Any) -> Any:  # fmt: skip
            x, single = r.of(self), self.dim() == n + 1
            if single:
                x = r.put("reshape", Reshape((1, *x.shape)), x)
            op = cls(tupled(kernel_size), tupled(stride) if stride else None, tupled(padding), bool(ceil_mode),
                     bool(count_include_pad))  # fmt: skip
            y = r.put("pool", op, x)
            return r.put("reshape", Reshape(y.shape[1:]), y) if single else y


for _n in (1, 2, 3):
    _pools(f"max_pool{_n}d", (MaxPool1d, MaxPool2d, MaxPool3d))
    _pools(f"avg_pool{_n}d", (AvgPool1d, AvgPool2d, AvgPool3d))


@rule("_adaptive_avg_pool2d", "adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d",
      "adaptive_avg_pool3d")  # fmt: skip
def _adaptive(r: TorchReader, self: Any, output_size: Any) -> Any:
    return _adapted(r, self, output_size, "mean")


@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_max(r: TorchReader, self: Any, output_size: Any) -> Any:
    return (_adapted(r, self, output_size, "max"), None)


def _adapted(r: TorchReader, self: Any, output_size: Any, function: str) -> Value:
    x, out = r.of(self), tuple(r.sizes(output_size))
    single = self.dim() == len(out) + 1
    if single:
        x = r.put("reshape", Reshape((1, *x.shape)), x)
    if set(out) == {1} and function == "mean":
        y = r.put("pool", GlobalAvgPool(), x)
        y = r.put("reshape", Reshape((*x.shape[:2], *out)), y)
    elif x.shape[2:] == out:
        y = x
    else:
        y = r.put("pool", AdaptivePool(out, function), x)
    return r.put("reshape", Reshape(y.shape[1:]), y) if single else y


MODES = {"nearest": "nearest", "nearest_exact": "nearest", "linear": "linear", "bilinear": "linear",
         "trilinear": "linear", "bicubic": "cubic"}  # fmt: skip
for _name, _mode in MODES.items():
    _each = [f"{head}upsample_{_name}{n}d{tail}" for head in ("", "_") for n in (1, 2, 3) for tail in ("", "_aa")]

    @rule(*_each)
    def _upsample(r: TorchReader, self: Any, *arguments: Any, _which: str = _name, _by: str = _mode, **_: Any) -> Any:
        out = r.sizes(r.out.shape[2:])
        aligned = any(a is True for a in arguments)
        how = "align_corners" if aligned else "asymmetric" if _which == "nearest" else "half_pixel"
        rounding = "floor" if _which == "nearest" else "round_prefer_floor"
        return r.put("resize", Resize(out, _by, how, rounding), r.of(self))


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid(r: TorchReader, input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Any:
    mode = ("linear", "nearest", "cubic")[interpolation_mode]
    border = ("zeros", "border", "reflection")[padding_mode]
    return r.put("grid_sample", GridSample(mode, border, bool(align_corners)), r.of(input), r.of(grid))


@rule("im2col")
def _im2col(r: TorchReader, self: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    op = Unfold(tuple(kernel_size), tuple(stride), tuple(padding), tuple(dilation))
    return r.put("unfold", op, r.of(self))


@rule("col2im")
def _col2im(r: TorchReader, self: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    op = Fold(r.sizes(output_size), tuple(kernel_size), tuple(stride), tuple(padding), tuple(dilation))
    return r.put("fold", op, r.of(self))


@rule("index_select")
def _index_select(r: TorchReader, self: Any, dim: int, index: Any) -> Any:
    return r.put("take", Take(dim % self.dim()), r.of(self), r.of(index))


@rule("gather")
def _gather(r: TorchReader, self: Any, dim: int, index: Any, **_: Any) -> Any:
    return r.put("gather", TakeAlong(dim % max(self.dim(), 1)), r.of(self), r.of(index))


@rule("index", "_unsafe_index")
def _index(r: TorchReader, self: Any, indices: Any) -> Any:
    given = [(d, t) for d, t in enumerate(indices) if t is not None]
    if any(t.dtype in (r.torch.bool, r.torch.uint8) for _, t in given):
        raise NotImplementedError("a mask, whose number of truths is not known")
    if len(given) == 1:
        dim, t = given[0]
        return r.put("take", Take(dim), r.of(self), r.of(t))
    dims = [d for d, _ in given]
    if dims != list(range(dims[0], dims[0] + len(dims))):
        raise NotImplementedError("indices of dimensions apart")
    # one flat index over the dimensions that are picked from
    x, flat = r.of(self), None
    for d, t in given:
        at = r.of(t)
        size = x.shape[d]
        flat = at if flat is None else r.put("add", Add(), r.put("mul", Mul(scalar=size), flat), at)
    first, last = dims[0], dims[-1]
    whole: Any = 1
    for d in dims:
        whole = whole * x.shape[d]
    rows = r.put("reshape", Reshape((*x.shape[:first], whole, *x.shape[last + 1 :])), x)
    assert flat is not None
    return r.put("take", Take(first), rows, flat)


@rule("scatter", "scatter_add", "scatter_reduce")
def _scatter(r: TorchReader, self: Any, dim: int, index: Any, src: Any = None, reduce: Any = None, *,
             value: Any = None, **_: Any) -> Any:  # fmt: skip
    source = src if src is not None else value
    number = _number(r, source)
    updates = r.of(source) if number is None else r.put("full", Full(r.sizes(index.shape), float(number)))
    x = r.of(self)
    if updates.tensor.dtype != x.tensor.dtype:
        target = x.tensor.dtype
        updates = r.put("cast", Cast(ACTIVATIONS if target in FLOATS else target), updates)
    how = {None: "none", "add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max",
           "amin": "min"}[reduce]  # fmt: skip
    return r.put("scatter", ScatterElements(dim % max(self.dim(), 1), how), x, r.of(index), updates)


@rule("scatter_add")
def _scatter_add(r: TorchReader, self: Any, dim: int, index: Any, src: Any) -> Any:
    return _scatter(r, self, dim, index, src, "add")


@rule("one_hot")
def _one_hot(r: TorchReader, self: Any, num_classes: int = -1) -> Any:
    return r.put("one_hot", OneHot(r.size(r.out.shape[-1]), dtype="int64"), r.of(self))


@rule("tril", "triu")
def _triangle(r: TorchReader, self: Any, diagonal: int = 0, _upper: bool = False) -> Any:
    return r.put("triangle", Triangle(_upper, int(diagonal)), r.of(self))


@rule("triu")
def _upper(r: TorchReader, self: Any, diagonal: int = 0) -> Any:
    return _triangle(r, self, diagonal, True)


@rule("arange", "arange_start")
def _arange(r: TorchReader, *arguments: Any, **_: Any) -> Any:
    given = [_number(r, a) for a in arguments]
    start, step = (given[0] if len(given) > 1 else 0), (given[2] if len(given) > 2 else 1)
    target = r.dtype(r.out.dtype)
    dtype = ACTIVATIONS if target in FLOATS else target
    return r.put("arange", Arange(r.size(r.out.shape[0]), start, step, dtype))


@rule("linspace")
def _linspace(r: TorchReader, start: Any, end: Any, steps: Any, **_: Any) -> Any:
    count = r.size(steps)
    step = (end - start) / (count - 1) if isinstance(count, int) and count > 1 else 0.0
    return r.put("arange", Arange(count, float(start), float(step), ACTIVATIONS))


FILLED = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "ones": 1.0, "ones_like": 1.0, "new_ones": 1.0,
          "empty": 0.0, "empty_like": 0.0, "new_empty": 0.0, "empty_strided": 0.0, "new_empty_strided": 0.0,
          "empty_permuted": 0.0, "rand": 0.5, "randn": 0.0, "rand_like": 0.5, "randn_like": 0.0, "randint": 0.0,
          "randint_like": 0.0, "randperm": 0.0, "scalar_tensor": None, "full": None, "full_like": None,
          "new_full": None, "fill": None, "zero": 0.0, "normal": 0.0, "bernoulli": 0.0, "uniform": 0.0}  # fmt: skip
for _name in FILLED:

    @rule(_name)
    def _filled(r: TorchReader, *arguments: Any, _which: str = _name, **options: Any) -> Any:
        value = FILLED[_which]
        if value is None:
            last = options.get("fill_value", options.get("value"))
            last = last if last is not None else arguments[-1]
            value = _scalar(r, last)
            if value is None:
                return r.put("expand", Expand(r.sizes(r.out.shape)), r.of(last))
        target = r.dtype(r.out.dtype)
        op = Full(r.sizes(r.out.shape), float(value), ACTIVATIONS if target in FLOATS else target)
        made = r.put("full", op)
        r.numbers[made.name] = float(value)
        return made


@rule("native_dropout")
def _dropout(r: TorchReader, input: Any, p: float, train: Any) -> Any:
    x = r.of(input)
    kept = r.put("full", Full(x.shape, 1.0, "bool"))
    return (r.put("where", Where(b=0.0), kept, r.put("mul", Mul(scalar=1 / max(1 - float(p), 1e-6)), x)), kept)
