"""PyTorch rules for complex numbers: a tensor of them is one of pairs in a further last dimension."""

from collections.abc import Callable
from typing import Any

from pharos.convert.torch_record import TorchReader
from pharos.graph.graph import Value
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.activation import Activation
from pharos.ops.copies import Full
from pharos.ops.elementwise import Add, Mul, Sub
from pharos.ops.fourier import Fourier
from pharos.ops.priced import Priced
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Transpose
from pharos.quantity.sizes import ceil_log2, floor_div, prod, same_shape

RULES: dict[str, Callable[..., Any]] = {}


def _rule(*names: str) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        for name in names:
            RULES[name] = function
        return function

    return register


def complex_rule(name: str) -> Any:
    """The rule for a call that takes or gives complex numbers; None where there is none."""
    return RULES.get(name.removeprefix("aten::"))


def _wanted(r: TorchReader) -> Any:
    shape = r.sizes(r.out.shape)
    return (*shape, 2) if r.out.is_complex() else shape


def _part(r: TorchReader, x: Value, which: int) -> Value:
    """Real (0) or imaginary (1) parts of pairs, without the dimension of the pairs."""
    one = r.put("part", Slice(x.tensor.rank - 1, which, which + 1), x)
    return r.put("reshape", Reshape(x.shape[:-1]), one)


def _pairs(r: TorchReader, real: Value, imaginary: Value | None) -> Value:
    """Pairs of parts; of real numbers with nothing beside them."""
    each = r.put("reshape", Reshape((*real.shape, 1)), real)
    if imaginary is None:
        beside = r.put("full", Full(each.shape, 0.0, ACTIVATIONS))
    else:
        beside = r.put("reshape", Reshape((*imaginary.shape, 1)), imaginary)
    return r.put("pairs", Concat(real.tensor.rank), each, beside)


def _of(r: TorchReader, t: Any) -> Value:
    """A tensor as pairs, whether it holds complex numbers or real ones."""
    return r.of(t) if t.is_complex() else _pairs(r, r.of(t), None)


# Calls that only show the same numbers in another shape.
@_rule("view", "reshape", "_unsafe_view", "unsqueeze", "squeeze", "flatten", "unflatten", "contiguous",
       "clone", "detach", "alias", "_to_copy", "to", "view_as_complex", "view_as_real", "_reshape_alias",
       "expand", "resolve_conj", "resolve_neg", "lift_fresh")  # fmt: skip
def _shown(r: TorchReader, self: Any, *_: Any, **__: Any) -> Value:
    x, wanted = r.of(self), _wanted(r)
    if r.out.is_complex() != self.is_complex() and same_shape(r.sizes(self.shape), r.sizes(r.out.shape)):
        return _pairs(r, x, None) if r.out.is_complex() else _part(r, x, 0)
    if same_shape(x.shape, wanted):
        return x
    if not same_shape((prod(x.shape),), (prod(wanted),)):
        return r.put("expand", Expand(wanted), x)
    return r.put("reshape", Reshape(wanted), x)


@_rule("slice")
def _slice(
    r: TorchReader, self: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    at = dim % self.dim()
    if r.sizes(r.out.shape) == r.sizes(self.shape) and step == 1:
        return r.of(self)
    first = 0 if start is None else r.size(start)
    stop = None if end is None or end >= self.shape[at] else r.size(end)
    return r.put("slice", Slice(at, first, stop, step), r.of(self))


@_rule("select")
def _select(r: TorchReader, self: Any, dim: int, index: Any) -> Value:
    at, i = dim % self.dim(), r.size(index)
    i = i if i >= 0 else i + r.size(self.shape[at])
    return r.put("reshape", Reshape(_wanted(r)), r.put("select", Slice(at, i, i + 1), r.of(self)))


@_rule("transpose", "permute")
def _turned(r: TorchReader, self: Any, *arguments: Any) -> Value:
    order = list(range(self.dim()))
    if len(arguments) == 2:
        a, b = (d % self.dim() for d in arguments)
        order[a], order[b] = order[b], order[a]
    else:
        order = [d % self.dim() for d in arguments[0]]
    return r.put("transpose", Transpose((*order, self.dim()), view=True), r.of(self))


@_rule("cat")
def _joined(r: TorchReader, tensors: Any, dim: int = 0) -> Value:
    given = [_of(r, t) for t in tensors if t.numel()]
    return given[0] if len(given) == 1 else r.put("cat", Concat(dim % tensors[0].dim()), *given)


@_rule("real", "imag")
def _real(r: TorchReader, self: Any, _which: int = 0) -> Value:
    return _part(r, r.of(self), _which) if self.is_complex() else r.of(self)


RULES["imag"] = lambda r, self: _real(r, self, 1)


@_rule("complex")
def _complex(r: TorchReader, real: Any, imag: Any) -> Value:
    return _pairs(r, r.of(real), r.of(imag))


@_rule("_conj", "_conj_physical", "conj_physical", "conj")
def _conj(r: TorchReader, self: Any) -> Value:
    x = r.of(self)
    return _pairs(r, _part(r, x, 0), r.put("neg", Activation("neg"), _part(r, x, 1)))


@_rule("add", "sub")
def _add(r: TorchReader, self: Any, other: Any, *, alpha: Any = 1, _made: Any = Add) -> Value:
    if alpha != 1 or not isinstance(other, r.torch.Tensor) or not isinstance(self, r.torch.Tensor):
        raise NotImplementedError("a sum with a number")
    return r.put("add", _made(), _of(r, self), _of(r, other))


RULES["sub"] = lambda r, self, other, **more: _add(r, self, other, _made=Sub, **more)


@_rule("sum")
def _sum(r: TorchReader, self: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Value:
    dims = range(self.dim()) if not dim and dim != 0 else [dim] if isinstance(dim, int) else dim
    found = tuple(d % self.dim() for d in dims)
    return r.put("sum", Reduce(found[0] if len(found) == 1 else found, bool(keepdim), "sum"), r.of(self))


@_rule("abs")
def _abs(r: TorchReader, self: Any) -> Value:
    """The root of the sum of two squares."""
    x = r.of(self)
    squares = r.put("square", Mul(), x, x)
    total = r.put("sum", Reduce(x.tensor.rank - 1, False, "sum"), squares)
    return r.put("sqrt", Activation("sqrt"), total)


@_rule("mul", "mul_")
def _mul(r: TorchReader, self: Any, other: Any) -> Value:
    """(a + bi)(c + di): four products and two sums; two products where one is real."""
    x = r.of(self)
    if not isinstance(other, r.torch.Tensor):
        if isinstance(other, complex):
            raise NotImplementedError("a complex number as a factor")
        return r.put("mul", Mul(scalar=float(other)), x)
    y = r.of(other)
    if not (self.is_complex() and other.is_complex()):
        real, pair = (x, y) if other.is_complex() else (y, x)
        return r.put("mul", Mul(), pair, r.put("reshape", Reshape((*real.shape, 1)), real))
    a, b, c, d = (r.put("part", Slice(v.tensor.rank - 1, i, i + 1), v) for v in (x, y) for i in (0, 1))
    real = r.put("sub", Sub(), r.put("mul", Mul(), a, c), r.put("mul", Mul(), b, d))
    imaginary = r.put("add", Add(), r.put("mul", Mul(), a, d), r.put("mul", Mul(), b, c))
    return r.put("pairs", Concat(real.tensor.rank - 1), real, imaginary)


@_rule("polar")
def _polar(r: TorchReader, abs: Any, angle: Any) -> Value:
    """Lengths and angles as pairs: a cosine, a sine and two products each."""
    size, turn = r.of(abs), r.of(angle)
    parts = [r.put("mul", Mul(), size, r.put(way, Activation(way), turn)) for way in ("cos", "sin")]
    return _pairs(r, *parts)


def _scaled(r: TorchReader, y: Value, length: Any, normalization: int) -> Value:
    """Divided by nothing (0), the root of the length (1) or the length (2)."""
    return y if not normalization else r.put("mul", Mul(scalar=float(length) ** (-normalization / 2)), y)


@_rule("_fft_r2c")
def _of_real(r: TorchReader, self: Any, dim: Any, normalization: int, onesided: bool) -> Value:
    x = r.of(self)
    y = r.put("reshape", Reshape((*x.shape, 1)), x)
    for i, d in enumerate(reversed(dim)):
        y = r.put("fft", Fourier(d % self.dim(), False, bool(onesided) and i == 0), y)
    return _scaled(r, y, prod(r.size(self.shape[d]) for d in dim), normalization)


@_rule("_fft_c2c")
def _of_complex(r: TorchReader, self: Any, dim: Any, normalization: int, forward: bool) -> Value:
    y = r.of(self)
    within = not forward and normalization == 2
    for d in dim:
        y = r.put("fft", Fourier(d % self.dim(), within), y)
    return y if within else _scaled(r, y, prod(r.size(self.shape[d]) for d in dim), normalization)


@_rule("_fft_c2r")
def _to_real(r: TorchReader, self: Any, dim: Any, normalization: int, last_dim_size: Any) -> Value:
    """As much as the transform of real numbers that it undoes: see `Fourier`."""
    out = r.sizes(r.out.shape)
    work = prod(out) if normalization else 0
    for d in dim:
        work = work + floor_div(prod(out) * ceil_log2(out[d % self.dim()]) * 5, 2)
    return r.put("ifft", Priced("aten::_fft_c2r", (out,), (ACTIVATIONS,), vector_flops=work), r.of(self))
