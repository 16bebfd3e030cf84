"""PyTorch rules for reductions, running sums, sorting and pools."""

from typing import Any

from pharos.convert.torch_arithmetic import floats
from pharos.convert.torch_record import TorchReader
from pharos.convert.torch_rules import rule
from pharos.graph.graph import Value
from pharos.ops.activation import Activation
from pharos.ops.adaptive_pool import AdaptivePool
from pharos.ops.cast import Cast
from pharos.ops.elementwise import Maximum, Minimum
from pharos.ops.pooling import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    GlobalAvgPool,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from pharos.ops.reduce import ArgReduce, Cumulate, Reduce, TopK
from pharos.ops.shape_ops import Reshape

REDUCTIONS = {"mean": "mean", "sum": "sum", "amax": "max", "amin": "min", "prod": "prod", "any": "any",
              "all": "all",
              "logsumexp": "log_sum_exp", "nansum": "sum"}  # fmt: skip
for _name in REDUCTIONS:

    @rule(_name)
    def _reduce(r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False, *_: Any,
                _which: str = REDUCTIONS[_name], dtype: Any = None, **__: Any) -> Any:  # fmt: skip
        return _reduced(r, self, dim, keepdim, _which, r.out)


def _reduced(
    r: TorchReader, self: Any, dim: Any, keepdim: bool, which: str, out: Any, correction: int = 0
) -> Value:
    dims = [dim] if isinstance(dim, int) else list(dim or range(self.dim()))
    if not dims:
        return r.of(self)
    x = floats(r, r.of(self), out.dtype) if which not in ("any", "all") else r.of(self)
    if x.tensor.dtype == "bool" and which == "sum":
        x = r.put("cast", Cast("int64"), x)
    over = tuple(sorted(d % self.dim() for d in dims))
    op = Reduce(over[0] if len(over) == 1 else over, bool(keepdim), which, correction)
    return r.put(which, op, x)


def _correction(given: tuple[Any, ...], correction: Any, unbiased: Any, keepdim: bool) -> tuple[int, bool]:
    """(what is taken off the count, keepdim), of the old form ``unbiased, keepdim`` and of the new one."""
    if given:
        unbiased, keepdim = given[0], given[1] if len(given) > 1 else keepdim
    if unbiased is not None:
        return int(bool(unbiased)), bool(keepdim)
    return int(1 if correction is None else correction), bool(keepdim)


@rule("var")
def _var(r: TorchReader, self: Any, dim: Any = None, *given: Any, correction: Any = None,
         unbiased: Any = None, keepdim: bool = False, **__: Any) -> Any:  # fmt: skip
    if isinstance(dim, bool):
        dim, given = None, (dim, *given)
    by, kept = _correction(given, correction, unbiased, keepdim)
    return _reduced(r, self, dim, kept, "var", r.out[0] if isinstance(r.out, tuple) else r.out, by)


@rule("std")
def _std(r: TorchReader, self: Any, *arguments: Any, **options: Any) -> Any:
    return r.put("sqrt", Activation("sqrt"), _var(r, self, *arguments, **options))


@rule("var_mean")
def _var_mean(r: TorchReader, self: Any, dim: Any = None, *given: Any, keepdim: bool = False,
              _rooted: bool = False, **options: Any) -> Any:  # fmt: skip
    spread = (_std if _rooted else _var)(r, self, dim, *given, keepdim=keepdim, **options)
    if isinstance(dim, bool):
        dim, given = None, (dim, *given)
    kept = given[1] if len(given) > 1 else keepdim
    return (spread, _reduced(r, self, dim, kept, "mean", r.out[1]))


@rule("std_mean")
def _std_mean(r: TorchReader, self: Any, *arguments: Any, **options: Any) -> Any:
    return _var_mean(r, self, *arguments, _rooted=True, **options)


@rule("linalg_vector_norm", "norm")
def _vector_norm(
    r: TorchReader, self: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, **_: Any
) -> Any:
    which = {1: "norm1", 2: "norm2", float("inf"): "max"}.get(ord)
    if which is None:
        raise NotImplementedError(f"norm of order {ord}")
    return _reduced(r, self, dim, keepdim, which, r.out)


@rule("max")
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
    def _arg(
        r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False, _which: str = _name[3:]
    ) -> Any:
        x = r.of(self)
        if dim is None:
            x, dim = r.put("reshape", Reshape((-1,)), x), 0
        return r.put(f"arg{_which}", ArgReduce(dim % x.tensor.rank, bool(keepdim), _which), x)


for _name in ("cumsum", "cumprod"):

    @rule(_name)
    def _cumulate(r: TorchReader, self: Any, dim: int, *_: Any, _which: str = _name[3:], **__: Any) -> Any:
        x = floats(r, r.of(self), r.out.dtype)
        if x.tensor.dtype == "bool":
            x = r.put("cast", Cast("int64"), x)
        return r.put(f"cum{_which}", Cumulate(dim % max(self.dim(), 1), _which), x)


@rule("topk")
def _topk(r: TorchReader, self: Any, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return r.put("topk", TopK(r.size(k), dim, bool(largest)), r.of(self))


@rule("sort")
def _sort(
    r: TorchReader, self: Any, *arguments: Any, dim: int = -1, descending: bool = False, stable: Any = None
) -> Any:
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
            op = cls(tupled(kernel_size), tupled(stride) if stride else None, tupled(padding),
                     tupled(dilation),
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
            op = cls(tupled(kernel_size), tupled(stride) if stride else None, tupled(padding),
                     bool(ceil_mode),
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
