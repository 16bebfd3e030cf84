"""Leading terms: what is left of a cost formula when its sizes grow."""

from typing import Any

from pharos.quantity.sizes import Size, is_symbol


def leading(formula: Size, names: tuple[str, ...] = ()) -> str:
    """The O-expression of a polynomial in sizes: terms that no other outgrows, without their factors.

    A term is dropped if another has at least its power of every symbol. Sizes are taken to be large
    integers: a floor or a ceiling grows as its argument.

    Args:
        names: symbols that grow, in the order to print them; others count as fixed. Without any, all grow.
    """
    if not is_symbol(formula):
        return "O(1)"
    import sympy

    smooth: Any = formula.replace(sympy.floor, lambda x: x).replace(sympy.ceiling, lambda x: x)
    smooth = smooth.replace(sympy.Max, lambda *each: sum(each))
    found = sorted(smooth.free_symbols, key=lambda s: s.name)
    growing = [s for s in found if not names or s.name in names]
    if names:
        growing.sort(key=lambda s: names.index(s.name))
    if not growing:
        return "O(1)"
    powers = set()
    for term in sympy.Add.make_args(sympy.expand(smooth)):
        powers.add(tuple(_power(term, s) for s in growing))
    kept = [
        p
        for p in powers
        if not any(q != p and all(b >= a for a, b in zip(p, q, strict=True)) for q in powers)
    ]
    terms = [_monomial(p, [s.name for s in growing]) for p in sorted(kept, reverse=True)]
    return f"O({' + '.join(terms)})"


def _covers(these: tuple[Any, ...], those: tuple[Any, ...]) -> bool:
    return all(a >= b for a, b in zip(these, those, strict=True))


def _power(term: Any, symbol: Any) -> Any:
    """Exponent of a symbol in a product; logarithms of it count as nothing."""
    return term.as_powers_dict().get(symbol, 0)


def _monomial(powers: tuple[Any, ...], names: list[str]) -> str:
    parts = [n if p == 1 else f"{n}^{p}" for n, p in zip(names, powers, strict=True) if p != 0]
    return " ".join(parts) or "1"


def pretty(formula: Size) -> str:
    """A formula as one line of sums and products, powers with ^."""
    if not is_symbol(formula):
        return f"{formula:,}" if isinstance(formula, int) else str(formula)
    import sympy

    factored: Any = sympy.factor_terms(sympy.expand(formula))
    return str(factored).replace("**", "^").replace("*", " ")
