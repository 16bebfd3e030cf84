"""Sizes in three readings: Python ints, NumPy arrays, SymPy symbols.

Shape and cost rules are plain arithmetic on sizes; the few operations that differ between the
readings live here. NumPy and SymPy are looked up only when a value of theirs arrives, so that
counting with ints imports neither.
"""

import sys
from collections.abc import Iterable
from functools import reduce
from typing import Any

from pharos.quantity.errors import SizeError

# An int, a float64 array or a SymPy expression. The readings share arithmetic but no base class.
Size = Any

# Larger than any tensor that exists or is planned; beyond it a size is a typing mistake.
LARGEST = 10**18


def is_int(x: Size) -> bool:
    """True for the reading in which counts are exact."""
    return isinstance(x, int)


def is_symbol(x: Size) -> bool:
    """True for SymPy expressions, without importing SymPy."""
    sympy = sys.modules.get("sympy")
    return sympy is not None and isinstance(x, sympy.Basic)


def is_array(x: Size) -> bool:
    """True for NumPy arrays, without importing NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(x, numpy.ndarray)


def size(x: Any, name: str = "size") -> Size:
    """A size as the rules want it: positive ints stay exact, arrays become float64.

    int64 arrays overflow silently in products of sizes, float64 loses at most the last digits.

    Raises:
        SizeError: for zero, negative, fractional or absurd sizes.
    """
    if isinstance(x, bool):
        raise SizeError(f"{name} must be a positive whole number, not {x}")
    if isinstance(x, int):
        if x <= 0:
            raise SizeError(f"{name} must be at least 1, not {x}")
        if x > LARGEST:
            raise SizeError(f"{name} is {x:.3g}, which no tensor has (at most 1e18)")
        return x
    if is_symbol(x):
        return x
    if is_array(x):
        values = x.astype("float64")
        if not bool((values >= 1).all()) or not bool((values <= LARGEST).all()):
            raise SizeError(f"{name} must hold whole numbers from 1 to 1e18")
        if not bool((values == values.round()).all()):
            raise SizeError(f"{name} must hold whole numbers")
        return values
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(x, numpy.integer):
        return size(int(x), name)
    if isinstance(x, float) and x.is_integer():
        return size(int(x), name)
    raise SizeError(f"{name} must be a positive whole number, not {x!r}")


def prod(sizes: Iterable[Size]) -> Size:
    """Product; 1 for an empty sequence. Ints are multiplied first, so that arrays are touched once."""
    whole, rest = 1, None
    for s in sizes:
        if type(s) is int:
            whole *= s
        else:
            rest = s if rest is None else rest * s
    if rest is None:
        return whole
    return rest if whole == 1 else rest * whole


def floor_div(a: Size, b: Size) -> Size:
    """floor(a / b)."""
    if is_symbol(a) or is_symbol(b):
        import sympy

        return sympy.floor(sympy.sympify(a) / b)
    return a // b


def ceil_div(a: Size, b: Size) -> Size:
    """ceil(a / b)."""
    if is_symbol(a) or is_symbol(b):
        import sympy

        return sympy.ceiling(sympy.sympify(a) / b)
    return -(-a // b)


def maximum(*sizes: Size) -> Size:
    """The largest, element by element for arrays."""
    if any(is_symbol(s) for s in sizes):
        import sympy

        return sympy.Max(*sizes)
    if any(is_array(s) for s in sizes):
        import numpy

        return reduce(numpy.maximum, sizes)
    return max(sizes)


def minimum(*sizes: Size) -> Size:
    """The smallest, element by element for arrays."""
    if any(is_symbol(s) for s in sizes):
        import sympy

        return sympy.Min(*sizes)
    if any(is_array(s) for s in sizes):
        import numpy

        return reduce(numpy.minimum, sizes)
    return min(sizes)


def ceil_log2(n: Size) -> Size:
    """Steps of a binary tree over n leaves: ceil(log2 n)."""
    if isinstance(n, int):
        return (n - 1).bit_length()
    if is_symbol(n):
        import sympy

        return sympy.ceiling(sympy.log(n, 2))
    import numpy

    return numpy.ceil(numpy.log2(n))


def round_to(x: Any, multiple: int) -> Size:
    """Channels rounded to a multiple, never below 90% of x; of an array, element by element.

    Source: the rounding rule of the MobileNet papers' reference code (`make_divisible`).
    """
    if is_array(x):
        import numpy

        whole = numpy.maximum(multiple, numpy.floor(x + multiple / 2) // multiple * multiple)
        return numpy.where(whole < 0.9 * x, whole + multiple, whole)
    rounded = max(multiple, int(x + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * x else rounded


def same(a: Size, b: Size) -> bool:
    """Whether two sizes are equal in every element, or as formulas."""
    if isinstance(a, int) and isinstance(b, int):
        return a == b
    if is_symbol(a) or is_symbol(b):
        import sympy

        return sympy.simplify(sympy.sympify(a) - b) == 0
    if a is b:
        return True
    import numpy

    # two arrays that do not broadcast are not equal, and no error either
    return bool(numpy.all(numpy.equal(a, b))) if _broadcasts(a, b) else False


def agree(a: Size, b: Size) -> bool:
    """Whether two sizes that decide a network's form are equal: in every element of arrays, or in none.

    Raises:
        SizeError: in some elements only, so that no one form stands for all of them.
    """
    if is_array(a) or is_array(b):
        equal = a == b
        if bool(equal.all()) != bool(equal.any()):
            raise SizeError("equal in some elements of an array only: they are networks of two forms")
        return bool(equal.all())
    return a == b


def _broadcasts(a: Size, b: Size) -> bool:
    first, second = getattr(a, "shape", ()), getattr(b, "shape", ())
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(first), reversed(second), strict=False))


def same_shape(a: tuple[Size, ...], b: tuple[Size, ...]) -> bool:
    """Whether two shapes agree dimension by dimension."""
    return a == b if _plain(a) and _plain(b) else len(a) == len(b) and all(map(same, a, b))


def _plain(shape: tuple[Size, ...]) -> bool:
    return all(type(s) is int for s in shape)


def each(x: Any, n: int) -> tuple[int, ...]:
    """An int as one for each of `n` dimensions, as PyTorch reads kernel sizes and strides.

    Raises:
        SizeError: another number of them.
    """
    if not isinstance(x, (tuple, list)):
        return (x,) * n
    if len(x) != n:
        raise SizeError(f"needs one number or {n}, not {x!r}")
    return tuple(x)


def pair(x: Any, name: str = "value") -> tuple[int, int]:
    """An int or a pair as a pair, as PyTorch reads kernel sizes and strides."""
    if isinstance(x, (tuple, list)):
        if len(x) != 2:
            raise SizeError(f"{name} must be one number or two, not {x!r}")
        return (x[0], x[1])
    return (x, x)
