"""Constants of an ONNX file: what follows from sizes and from a few numbers, without running anything."""

from collections.abc import Callable, Sequence
from typing import Any

from pharos.convert.onnx_file import DTYPES
from pharos.quantity.sizes import floor_div, is_symbol, prod

# Values whose numbers the rules may ask for: shapes, axes, pads, limits. Weights are never read.
SMALL = 1024
# Whole numbers as they are; what a cast to them cuts off.
WHOLE = (2, 3, 4, 5, 6, 7, 12, 13)


def folded(node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> list[Any] | None:
    """The results of a node whose inputs are small arrays (None for one left out); None if not known.

    Args:
        given: NumPy arrays of Python numbers or of formulas.
    """
    rule = _FOLDS.get(node.op_type)
    if rule is None or not given or given[0] is None:
        return None
    import numpy as np

    try:
        with np.errstate(all="ignore"):
            made = rule(np, node, attributes, given)
    except (TypeError, ValueError, IndexError, KeyError, ZeroDivisionError, OverflowError, AttributeError):
        # a formula of which it is not known whether it is true, or arrays that do not fit
        return None
    results = made if isinstance(made, list) else [made]
    if any(r is None for r in results):
        return None
    # one number alone is no array
    results = [r if hasattr(r, "shape") else array(np, [r], ()) for r in results]
    return None if any(r.size > SMALL for r in results) else results


def array(np: Any, data: Sequence[Any], shape: Sequence[int]) -> Any:
    """An array of Python numbers."""
    made = np.empty(len(data), object)
    made[:] = data
    return made.reshape(shape)


_FOLDS: dict[str, Callable[..., Any]] = {}


def _fold(*kinds: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _FOLDS.update(dict.fromkeys(kinds, function))
        return function

    return register


def _each(np: Any, function: Callable[..., Any], *arrays: Any) -> Any:
    """A function of Python numbers, element by element."""
    shape = np.broadcast_shapes(*[a.shape for a in arrays])
    if prod(shape) > SMALL:
        raise ValueError("too large")
    flat = [np.broadcast_to(a, shape).reshape(-1) for a in arrays]
    return array(np, [function(*row) for row in zip(*flat, strict=True)], shape)


def _axes(
    attributes: dict[str, Any], given: Sequence[Any], i: int = 1, name: str = "axes"
) -> list[int] | None:
    if name in attributes:
        return [int(v) for v in attributes[name]]
    return [int(v) for v in given[i].reshape(-1)] if len(given) > i and given[i] is not None else None


def _divided(a: Any, b: Any) -> Any:
    if is_symbol(a) or is_symbol(b):
        return floor_div(a, b)
    if isinstance(a, int) and isinstance(b, int):
        # towards zero, as in C
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return a / b


def _real(function: Callable[[float], float]) -> Callable[[Any], Any]:
    def apply(v: Any) -> Any:
        if is_symbol(v):
            raise ValueError("a formula")
        return function(v)

    return apply


def _math(name: str) -> Callable[[Any], Any]:
    import math

    return _real(getattr(math, name))


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b, "Div": _divided,
    "Equal": lambda a, b: bool(a == b), "Greater": lambda a, b: bool(a > b), "Less": lambda a, b: bool(a < b),
    "GreaterOrEqual": lambda a, b: bool(a >= b), "LessOrEqual": lambda a, b: bool(a <= b),
    "And": lambda a, b: a and b, "Or": lambda a, b: a or b, "Mod": lambda a, b: a % b,
}  # fmt: skip


@_fold(*_BINARY)
def _binary(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    return _each(np, _BINARY[node.op_type], *given)


@_fold("Pow")
def _power(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    def power(a: Any, b: Any) -> Any:
        if abs(b) > 64 or abs(a) > 2**31:
            raise ValueError("too large")
        return a**b

    return _each(np, power, *given)


@_fold("Max", "Min", "Sum")
def _many(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    from pharos.quantity.sizes import maximum, minimum

    apply = {"Max": maximum, "Min": minimum, "Sum": lambda *v: sum(v)}[node.op_type]
    return _each(np, apply, *given)


@_fold("Neg", "Abs", "Sqrt", "Reciprocal", "Floor", "Ceil", "Not", "Exp", "Log", "Sign", "Round", "Identity",
       "Sin", "Cos")  # fmt: skip
def _unary(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    functions: dict[str, Callable[[Any], Any]] = {
        "Neg": lambda v: -v, "Abs": abs, "Sqrt": _math("sqrt"), "Reciprocal": _real(lambda v: 1 / v),
        "Floor": lambda v: v if is_symbol(v) else float(np.floor(v)), "Not": lambda v: not v,
        "Ceil": lambda v: v if is_symbol(v) else float(np.ceil(v)), "Exp": _math("exp"), "Log": _math("log"),
        "Sign": _real(lambda v: (v > 0) - (v < 0)), "Round": _real(round), "Identity": lambda v: v,
        "Sin": _math("sin"), "Cos": _math("cos"),
    }  # fmt: skip
    return _each(np, functions[node.op_type], given[0])


@_fold("Cast", "CastLike")
def _cast(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    wanted = attributes.get("to", 0)

    def cast(v: Any) -> Any:
        if is_symbol(v) or wanted not in DTYPES or wanted == 8:
            return v
        if wanted == 9:
            return bool(v)
        return int(v) if wanted in WHOLE else float(v)

    return _each(np, cast, given[0])


@_fold("Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose")
def _shaped(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    x, kind = given[0], node.op_type
    if kind == "Transpose":
        return x.transpose(attributes.get("perm"))
    if kind == "Flatten":
        axis = attributes.get("axis", 1)
        return x.reshape(prod(x.shape[:axis]), -1)
    if kind == "Reshape":
        return x.reshape([x.shape[i] if int(d) == 0 else int(d) for i, d in enumerate(given[1].reshape(-1))])
    axes = _axes(attributes, given)
    if kind == "Unsqueeze":
        return np.expand_dims(x, tuple(axes or ()))
    return np.squeeze(x, None if axes is None else tuple(axes))


@_fold("Concat")
def _concat(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    return np.concatenate(given, attributes["axis"])


@_fold("Gather")
def _gather(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    return np.take(given[0], given[1].astype(int), attributes.get("axis", 0))


@_fold("Slice")
def _slice(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    x = given[0]
    starts, ends = _axes(attributes, given, 1, "starts"), _axes(attributes, given, 2, "ends")
    if starts is None or ends is None:
        return None
    axes = _axes(attributes, given, 3) or list(range(len(starts)))
    steps = _axes(attributes, given, 4, "steps") or [1] * len(starts)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # beyond the first element, backwards
        index[axis] = slice(start, None if step < 0 and end < -x.shape[axis] else end, step)
    return x[tuple(index)]


@_fold("Split")
def _split(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    axis, parts = attributes.get("axis", 0), len(node.output)
    sizes = _axes(attributes, given, 1, "split")
    if sizes is None:
        each = -(-given[0].shape[axis] // parts)
        sizes = [each] * (parts - 1)
        return np.split(given[0], np.cumsum(sizes), axis)
    return np.split(given[0], np.cumsum(sizes)[:-1], axis)


@_fold("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduce(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    apply = {"Prod": np.multiply, "Sum": np.add, "Max": np.maximum, "Min": np.minimum}[node.op_type[6:]]
    axes = _axes(attributes, given)
    if axes is None and attributes.get("noop_with_empty_axes", 0):
        return given[0]
    keep = bool(attributes.get("keepdims", 1))
    made = apply.reduce(given[0], axis=None if axes is None else tuple(axes), keepdims=keep)
    return np.asarray(made, object)


@_fold("Where")
def _where(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    return _each(np, lambda c, a, b: a if c else b, *given)


@_fold("Range")
def _range(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    start, limit, step = (v.reshape(-1)[0] for v in given)
    count = max(0, -int((start - limit) // step))
    if count > SMALL:
        return None
    return array(np, [start + i * step for i in range(count)], (count,))


@_fold("ConstantOfShape")
def _full(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    shape = [int(v) for v in given[0].reshape(-1)]
    if any(n < 0 for n in shape) or prod(shape) > SMALL:
        return None
    from pharos.convert.onnx_reader import numbers_of

    value = (numbers_of(attributes["value"]) or [0.0])[0] if "value" in attributes else 0.0
    return array(np, [value] * prod(shape), shape)


@_fold("Expand", "Tile")
def _expand(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    sizes = [int(v) for v in given[1].reshape(-1)]
    if node.op_type == "Expand":
        shape = np.broadcast_shapes(given[0].shape, tuple(sizes))
        return np.broadcast_to(given[0], shape) if prod(shape) <= SMALL else None
    return np.tile(given[0], sizes) if prod(sizes) * given[0].size <= SMALL else None


@_fold("NonZero")
def _nonzero(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    return np.array(
        np.nonzero(np.array([bool(v) for v in given[0].reshape(-1)]).reshape(given[0].shape))
    ).astype(object)


@_fold("CumSum")
def _cumsum(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    if attributes.get("exclusive", 0) or attributes.get("reverse", 0):
        return None
    return np.cumsum(given[0], int(given[1].reshape(-1)[0]))


@_fold("ScatterND")
def _scatter(np: Any, node: Any, attributes: dict[str, Any], given: Sequence[Any]) -> Any:
    if attributes.get("reduction", "none") != "none":
        return None
    y, index, updates = given[0].copy(), given[1].astype(int), given[2]
    for at in np.ndindex(index.shape[:-1]):
        y[tuple(index[at])] = updates[at]
    return y
