"""Einsum: a sum of products over named dimensions, written as transposes, matrix products and sums."""

from collections.abc import Callable, Sequence
from typing import Any

from pharos.graph.graph import Value
from pharos.ops.elementwise import Mul
from pharos.ops.linear import MatMul
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Reshape, Slice, Transpose
from pharos.quantity.errors import SizeError
from pharos.quantity.sizes import prod, same

Add = Callable[..., Value]


def einsum(add: Add, equation: str, values: Sequence[Value]) -> Value:
    """The value of ``torch.einsum(equation, *values)``, contracted from left to right.

    What is summed over two operands is a matrix product; an outer product is an elementwise one.

    Args:
        add: appends an operator: ``add(op, *values)``.

    Raises:
        SizeError: an equation that does not fit the operands.
    """
    terms, out = _parse(equation, [len(v.shape) for v in values])
    parts = [_diagonal(add, v, term) for v, term in zip(values, terms, strict=True)]
    value, letters = parts[0]
    for i in range(1, len(parts)):
        kept = set(out).union(*(letters_of for _, letters_of in parts[i + 1 :]))
        value, letters = _product(add, (value, letters), parts[i], kept)
    gone = tuple(i for i, c in enumerate(letters) if c not in out)
    if gone:
        value = add(Reduce(gone, False, "sum"), value)
        letters = [c for c in letters if c in out]
    return _ordered(add, value, letters, list(out))


def _parse(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise SizeError(f"einsum {equation!r} names {len(terms)} operands, not {len(ranks)}")
    letters = [t.replace("...", "") for t in terms]
    free = [n - len(named) for n, named in zip(ranks, letters, strict=True)]
    if any(n < 0 or (n and "..." not in t) for n, t in zip(free, terms, strict=True)):
        raise SizeError(f"einsum {equation!r} does not fit operands of ranks {list(ranks)}")
    wide = max((n for n, t in zip(free, terms, strict=True) if "..." in t), default=0)
    # dimensions of the ellipsis are aligned at its end
    dots = [f"dot{i}" for i in range(wide)]

    def spread(term: str, count: int) -> list[str]:
        head, mark, tail = term.partition("...")
        return [*head, *(dots[wide - count :] if mark else []), *tail]

    found = [spread(t, n) for t, n in zip(terms, free, strict=True)]
    if arrow:
        out = spread(right, wide)
    else:
        flat = [c for term in found for c in term]
        out = dots + sorted(c for c in set(flat) - set(dots) if flat.count(c) == 1)
    known = {c for term in found for c in term}
    if len(set(out)) != len(out) or not set(out) <= known:
        raise SizeError(f"einsum {equation!r} gives dimensions that it does not have")
    return found, out


def _diagonal(add: Add, value: Value, term: list[str]) -> tuple[Value, list[str]]:
    """A letter that stands twice in one operand takes its diagonal: every (n + 1)-th element."""
    letters = list(term)
    for c in dict.fromkeys(term):
        while letters.count(c) > 1:
            first = letters.index(c)
            second = letters.index(c, first + 1)
            order = [i for i in range(len(letters)) if i not in (first, second)] + [first, second]
            value = add(Transpose(tuple(order)), value)
            n = value.shape[-1]
            rest = value.shape[:-2]
            if not same(n, value.shape[-2]):
                raise SizeError(f"einsum takes the diagonal of {value.tensor}")
            value = add(Reshape((*rest, n * n)), value)
            value = add(Slice(len(rest), 0, None, n + 1), value)
            letters = [letters[i] for i in order[:-1]]
    return value, letters


def _product(
    add: Add, a: tuple[Value, list[str]], b: tuple[Value, list[str]], kept: set[str]
) -> tuple[Value, list[str]]:
    one, two = _lone(add, a, b[1], kept), _lone(add, b, a[1], kept)
    both = [c for c in one[1] if c in two[1]]
    # a dimension of size 1 is broadcast, not summed over
    batch = [c for c in both if c in kept]
    inner = [c for c in both if c not in kept]
    rows = [c for c in one[1] if c not in both]
    columns = [c for c in two[1] if c not in both]
    if not inner:
        return _outer(add, one, two, [*batch, *rows, *columns])
    sizes = dict(zip(one[1], one[0].shape, strict=True)) | dict(zip(columns, _of(two, columns), strict=True))
    left = _ordered(add, one[0], one[1], [*batch, *rows, *inner])
    right = _ordered(add, two[0], two[1], [*batch, *inner, *columns])
    lead = [sizes[c] for c in batch]
    left = _shaped(add, left, (*lead, prod(_of(one, rows)), prod(_of(one, inner))))
    lead_right = _of(two, batch)
    right = _shaped(add, right, (*lead_right, prod(_of(two, inner)), prod(_of(two, columns))))
    made = add(MatMul(), left, right)
    shape = (*made.shape[: len(batch)], *_of(one, rows), *_of(two, columns))
    return _shaped(add, made, shape), [*batch, *rows, *columns]


def _of(part: tuple[Value, list[str]], letters: Sequence[str]) -> list[Any]:
    return [part[0].shape[part[1].index(c)] for c in letters]


def _lone(
    add: Add, part: tuple[Value, list[str]], others: list[str], kept: set[str]
) -> tuple[Value, list[str]]:
    """Sums over what neither another operand nor the result has."""
    value, letters = part
    gone = tuple(i for i, c in enumerate(letters) if c not in others and c not in kept)
    if not gone:
        return part
    return add(Reduce(gone, False, "sum"), value), [c for i, c in enumerate(letters) if i not in gone]


def _outer(
    add: Add, one: tuple[Value, list[str]], two: tuple[Value, list[str]], letters: list[str]
) -> tuple[Value, list[str]]:
    sides = []
    for value, own in (one, two):
        order = [c for c in letters if c in own]
        turned = _ordered(add, value, own, order)
        sizes = dict(zip(order, turned.shape, strict=True))
        sides.append(_shaped(add, turned, tuple(sizes.get(c, 1) for c in letters)))
    return add(Mul(), *sides), letters


def _ordered(add: Add, value: Value, letters: list[str], wanted: list[str]) -> Value:
    if letters == wanted:
        return value
    return add(Transpose(tuple(letters.index(c) for c in wanted)), value)


def _shaped(add: Add, value: Value, shape: tuple[Any, ...]) -> Value:
    if len(shape) == len(value.shape) and all(map(same, shape, value.shape)):
        return value
    return add(Reshape(shape), value)
