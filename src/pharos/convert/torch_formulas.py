"""Formulas: PyTorch's symbolic sizes in SymPy's own functions."""

from collections.abc import Callable
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


def formulas(
    torch: Any, environment: Any, sizes: dict[tuple[int, int], Any], free: dict[tuple[int, int], str],
    symbols: dict[str, Any],
) -> Callable[[Any], Size]:  # fmt: skip
    """Turns PyTorch's symbolic sizes into formulas in symbols that are called as the dimensions are.

    Args:
        sizes: of the free dimensions of the inputs; free: what they are called.
        symbols: filled with the symbol of each name.
    """
    import sympy

    ours = {}
    for key, size in sizes.items():
        called = free[key]
        symbol = symbols.setdefault(called, sympy.Symbol(called, integer=True, positive=True))
        if isinstance(size, torch.SymInt):
            ours[size.node.expr] = symbol
    known: dict[Any, Size] = {}

    def formula(size: Any) -> Size:
        found = environment.replace(size.node.expr)
        if found not in known:
            # those of theirs that were found to be equal are one
            swapped = {environment.replace(theirs): mine for theirs, mine in ours.items()} | ours
            known[found] = plain(found.xreplace(swapped))
        return known[found]

    return formula


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
