"""PyTorch rules for what a mask picks and fills, where the number of its truths is known."""

from typing import Any

from pharos.convert.torch_known import truths
from pharos.convert.torch_record import TorchReader
from pharos.convert.torch_rules import rule
from pharos.graph.graph import Value
from pharos.ops.cast import Cast
from pharos.ops.compare import Where
from pharos.ops.copies import Full
from pharos.ops.elementwise import Add
from pharos.ops.indexing import NonZero, ScatterND, Take
from pharos.ops.reduce import Cumulate, Reduce
from pharos.ops.shape_ops import Expand, Reshape, Slice, Transpose
from pharos.quantity.sizes import Size, is_int, prod


def picked(r: TorchReader, mask: Value, count: Size) -> Value:
    """Places of the truths of a mask in its flat order: [count]."""
    if is_int(count) and count == 0:
        return r.put("full", Full((0,), 0.0, "int64"))
    flat = mask if mask.tensor.rank == 1 else r.put("reshape", Reshape((mask.tensor.numel,)), mask)
    places = r.put("nonzero", NonZero(), flat)
    if not (is_int(count) and places.shape[1] == count):
        places = r.put("slice", Slice(1, 0, count), places)
    return r.put("reshape", Reshape((count,)), places)


def take_masked(r: TorchReader, self: Any, indices: Any) -> Value:
    """x[:, mask]: the elements where a mask holds, in order.

    Raises:
        NotImplementedError: other indices beside the mask.
    """
    before = next(d for d, t in enumerate(indices) if t is not None)
    mask = indices[before]
    if any(t is not None for t in indices[before + 1 :]):
        raise NotImplementedError("a mask beside other indices")
    x, count = r.of(self), r.size(r.out.shape[before])
    lead, behind = x.shape[:before], x.shape[before + mask.dim() :]
    flat = r.put("reshape", Reshape((*lead, prod(x.shape[before : before + mask.dim()]), *behind)), x)
    return r.put("take", Take(before), flat, picked(r, r.of(mask), count))


def put_masked(r: TorchReader, self: Any, mask: Any, values: Any, accumulate: bool) -> Value:
    """x[mask] = values, one row of values a truth.

    Raises:
        NotImplementedError: the number of truths depends on data.
    """
    x, v, behind = r.of(self), r.of(values), r.sizes(self.shape[mask.dim() :])
    real = None if r.known is None else r.known(mask)
    if real is None:
        raise NotImplementedError("a mask, whose number of truths is not known")
    count = truths(r.torch, real)
    if count == 0:
        return x
    rows = r.put("reshape", Reshape((prod(x.shape[: mask.dim()]), *behind)), x)
    at = r.put("reshape", Reshape((count, 1)), picked(r, r.of(mask), count))
    v = v if v.shape == (count, *behind) else r.put("expand", Expand((count, *behind)), v)
    y = r.put("index_put", ScatterND("add" if accumulate else "none"), rows, at, v)
    return r.put("reshape", Reshape(x.shape), y)


def _places(r: TorchReader, x: Any, count: Size) -> Value:
    """Places of what is not zero: [rank, count]."""
    if is_int(count) and count == 0:
        return r.put("full", Full((max(x.dim(), 1), 0), 0.0, "int64"))
    places = r.put("nonzero", NonZero(), r.of(x))
    if is_int(count) and places.shape[1] == count:
        return places
    return r.put("slice", Slice(1, 0, count), places)


@rule("nonzero")
def _nonzero(r: TorchReader, self: Any) -> Value:
    return r.put("transpose", Transpose((1, 0)), _places(r, self, r.size(r.out.shape[0])))


def places_of(r: TorchReader, condition: Any) -> tuple[Value, ...]:
    """where(condition): the places of its truths, a vector for each dimension."""
    places = _places(r, condition, r.size(r.out[0].shape[0]))
    each = [r.put("select", Slice(0, d, d + 1), places) for d in range(len(r.out))]
    return tuple([r.put("reshape", Reshape((v.shape[1],)), v) for v in each])


@rule("masked_select")
def _masked_select(r: TorchReader, self: Any, mask: Any) -> Value:
    x, m, count = r.of(self), r.of(mask), r.size(r.out.shape[0])
    wide = r.sizes(r.torch.broadcast_shapes(self.shape, mask.shape))
    x = x if x.shape == wide else r.put("expand", Expand(wide), x)
    m = m if m.shape == wide else r.put("expand", Expand(wide), m)
    return r.put("take", Take(0), r.put("reshape", Reshape((prod(wide),)), x), picked(r, m, count))


@rule("masked_scatter")
def _masked_scatter(r: TorchReader, self: Any, mask: Any, source: Any) -> Value:
    """The n-th truth is filled with the n-th element of the source: a running sum says which is which."""
    x, m, s = r.of(self), r.of(mask), r.of(source)
    m = m if m.shape == x.shape else r.put("expand", Expand(x.shape), m)
    flat = r.put("cast", Cast("int64"), r.put("reshape", Reshape((x.tensor.numel,)), m))
    nth = r.put("add", Add(scalar=-1.0), r.put("cumsum", Cumulate(0), flat))
    values = r.put("take", Take(0), r.put("reshape", Reshape((s.tensor.numel,)), s), nth)
    return r.put("where", Where(), m, r.put("reshape", Reshape(x.shape), values), x)


@rule("_is_all_true", "_is_any_true")
def _all_true(r: TorchReader, self: Any) -> Value:
    over = tuple(range(self.dim()))
    return (
        r.of(self)
        if not over
        else r.put("all", Reduce(over[0] if len(over) == 1 else over, False, "all"), r.of(self))
    )
