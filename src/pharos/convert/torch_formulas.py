"""Formulas: PyTorch's symbolic sizes in SymPy's own functions."""

from typing import Any

from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import Size


def plain(expression: Any) -> Size:
    """An int, or a formula of SymPy's own functions, from an expression with PyTorch's.

    Raises:
        SizeError: a size that depends on data.
    """
    import sympy

    if not hasattr(expression, "args") or expression.is_Integer:
        return int(expression)
    if any(str(s).startswith(("u", "zuf", "zf")) for s in expression.free_symbols):
        raise SizeError(f"a size depends on data: {expression}")
    made = _rewritten(sympy, expression)
    return int(made) if made.is_Integer else made


def _rewritten(sympy: Any, e: Any) -> Any:
    if not e.args:
        return e
    given = [_rewritten(sympy, a) for a in e.args]
    kind = type(e).__name__
    if kind in ("FloorDiv", "CleanDiv", "IntTrueDiv"):
        ratio = given[0] / given[1]
        return ratio if kind == "IntTrueDiv" else sympy.floor(ratio)
    if kind == "CeilDiv":
        return sympy.ceiling(given[0] / given[1])
    if kind in ("Mod", "PythonMod"):
        return given[0] - given[1] * sympy.floor(given[0] / given[1])
    if kind == "ModularIndexing":
        whole = sympy.floor(given[0] / given[1])
        return whole - given[2] * sympy.floor(whole / given[2])
    if kind in ("FloorToInt", "TruncToInt"):
        return sympy.floor(given[0])
    if kind == "CeilToInt":
        return sympy.ceiling(given[0])
    if kind in ("ToFloat", "Identity"):
        return given[0]
    if kind == "Max":
        return sympy.Max(*given)
    if kind == "Min":
        return sympy.Min(*given)
    if kind in ("PowByNatural", "FloatPow"):
        return given[0] ** given[1]
    if kind == "FloatTrueDiv":
        return given[0] / given[1]
    return e.func(*given)
