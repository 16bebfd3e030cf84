"""PyTorch rules for calls that move, join or view tensors."""

from typing import Any

from pharos.convert.reader import FLOATS
from pharos.convert.torch_record import TorchReader
from pharos.convert.torch_rules import rule
from pharos.graph.graph import Value
from pharos.graph.op import Op
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.cast import Cast, Clone
from pharos.ops.copies import Flip, Full, Pad, Tile
from pharos.ops.image_window import Roll
from pharos.ops.pixel_shuffle import PixelShuffle
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Split, Transpose
from pharos.ops.strided import StridedView


def _view(r: TorchReader, x: Any, op: Op, turned: bool = False) -> Value | None:
    """A view of an activation; of a parameter one that is written down only when it is needed."""
    source = r.parameter(x)
    if source is None:
        return r.put(op.kind, op, r.of(x))
    r.derive(r.out, op, source, turned)
    return None


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten",
      "view_copy", "squeeze_copy", "unsqueeze_copy")  # fmt: skip
def _reshape(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    if not isinstance(r.out, r.torch.Tensor) or r.out.dtype != self.dtype:
        raise NotImplementedError("another element type over the same bytes")
    return _view(r, self, Reshape(r.sizes(r.out.shape)))


@rule("mT", "mH", "adjoint")
def _of_matrices(r: TorchReader, self: Any) -> Any:
    return _transpose(r, self, -2, -1)


@rule("t", "transpose", "permute", "numpy_T", "permute_copy", "t_copy", "transpose_copy")
def _transpose(r: TorchReader, self: Any, *arguments: Any, dims: Any = None, **_: Any) -> Any:
    rank = self.dim()
    if rank < 2:
        return _view(r, self, Reshape(r.sizes(self.shape)))
    order = list(range(rank))
    if len(arguments) == 2:
        a, b = arguments
        order[a % rank], order[b % rank] = order[b % rank], order[a % rank]
    elif arguments or dims is not None:
        order = [d % rank for d in (arguments[0] if arguments else dims)]
    else:
        order.reverse()
    if order == list(range(rank)):
        return _same(r, self)
    return _view(r, self, Transpose(tuple(order), view=True), turned=rank == 2 and order == [1, 0])


@rule("expand", "expand_copy")
def _expand(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    return _view(r, self, Expand(r.sizes(r.out.shape)))


@rule("slice", "slice_copy")
def _slice(r: TorchReader, self: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    dim = dim % self.dim()
    length, kept = r.size(self.shape[dim]), r.size(r.out.shape[dim])
    if kept is length or kept == length:
        return r.of(self) if r.parameter(self) is None else _view(r, self, Reshape(r.sizes(self.shape)))
    if kept == 0 and isinstance(kept, int):
        return r.put("full", Full(r.sizes(r.out.shape), 0.0, _element_type(r, self)))
    begin = 0 if start is None else r.size(start)
    if isinstance(begin, int) and begin < 0:
        begin = length + begin
    return _view(r, self, Slice(dim, begin, begin + (kept - 1) * step + 1, step))


@rule("select", "select_copy")
def _select(r: TorchReader, self: Any, dim: int, index: Any) -> Any:
    dim, at = dim % self.dim(), r.size(index)
    if isinstance(at, int) and at < 0:
        at = r.size(self.shape[dim]) + at
    row = r.put("select", Slice(dim, at, at + 1), r.of(self))
    return r.put("reshape", Reshape(r.sizes(r.out.shape)), row)


@rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "split_with_sizes_copy",
      "split_copy",
      "unsafe_split_with_sizes")  # fmt: skip
def _split(r: TorchReader, self: Any, sizes: Any, dim: int = 0) -> Any:
    dim = dim % self.dim()
    made = r.put("split", Split(tuple([r.size(t.shape[dim]) for t in r.out]), dim), r.of(self))
    return made if isinstance(made, tuple) else (made,)


@rule("unbind", "unbind_copy")
def _unbind(r: TorchReader, self: Any, dim: int = 0) -> Any:
    dim = dim % self.dim()
    made = r.put("split", Split(tuple([1] * len(r.out)), dim), r.of(self))
    each = made if isinstance(made, tuple) else (made,)
    return tuple([r.put("reshape", Reshape(r.sizes(r.out[0].shape)), v) for v in each])


@rule("select_scatter")
def _select_scatter(r: TorchReader, self: Any, src: Any, dim: int, index: Any) -> Any:
    """The slices before, the new one, and those behind."""
    x, at, length = r.of(self), dim % self.dim(), r.size(self.shape[dim])
    i = r.size(index)
    i = i if i >= 0 else i + length
    one = r.put("reshape", Reshape((*x.shape[:at], 1, *x.shape[at + 1 :])), r.of(src))
    parts = [r.put("before", Slice(at, 0, i), x)] if i > 0 else []
    parts.append(one)
    if i + 1 < length:
        parts.append(r.put("behind", Slice(at, i + 1, None), x))
    return one if len(parts) == 1 else r.put("cat", Concat(at), *parts)


@rule("as_strided")
def _as_strided(r: TorchReader, self: Any, size: Any, stride: Any, storage_offset: Any = None) -> Any:
    if r.parameter(self) is not None:
        raise NotImplementedError("strides over a parameter")
    offset = r.size(self.storage_offset() if storage_offset is None else storage_offset)
    base, start = r.beneath(self)
    return r.put("view", StridedView(r.sizes(size), r.sizes(stride), offset - start), base)


def _strides(r: TorchReader, x: Any) -> list[Any]:
    """Strides of a tensor as if it lay in order, which is how its value is read."""
    found: list[Any] = [1]
    for s in reversed(r.sizes(x.shape)[1:]):
        found.append(found[-1] * s)
    return found[::-1]


@rule("unfold")
def _unfold(r: TorchReader, self: Any, dimension: int, size: Any, step: Any) -> Any:
    if self.dim() == 0:
        raise NotImplementedError("windows over a number")
    strides, dim = _strides(r, self), dimension % self.dim()
    last = strides[dim]
    strides[dim] = last * r.size(step)
    return r.put("view", StridedView(r.sizes(r.out.shape), (*strides, last)), r.of(self))


@rule("diagonal")
def _diagonal(r: TorchReader, self: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    strides, a, b = _strides(r, self), dim1 % self.dim(), dim2 % self.dim()
    kept = [s for d, s in enumerate(strides) if d not in (a, b)]
    start = strides[b] * offset if offset >= 0 else -strides[a] * offset
    op = StridedView(r.sizes(r.out.shape), (*kept, strides[a] + strides[b]), start)
    return r.put("view", op, r.of(self))


@rule("cat", "concat", "concatenate")
def _concat(r: TorchReader, tensors: Any, dim: int = 0) -> Any:
    # PyTorch lets empty tensors stand in any list
    kept = [t for t in tensors if not any(isinstance(s, int) and s == 0 for s in r.sizes(t.shape))]
    if not kept:
        return r.put("full", Full(r.sizes(r.out.shape), 0.0, _element_type(r, r.out)))
    if len(kept) == 1:
        return r.of(kept[0])
    return r.put("concat", Concat(dim % r.out.dim()), *[r.of(t) for t in kept])


@rule("stack")
def _stack(r: TorchReader, tensors: Any, dim: int = 0) -> Any:
    dim, shape = dim % r.out.dim(), list(r.sizes(r.out.shape))
    shape[dim] = 1
    each = [r.put("reshape", Reshape(tuple(shape)), r.of(t)) for t in tensors]
    return each[0] if len(each) == 1 else r.put("stack", Concat(dim), *each)


@rule("detach", "alias", "lift", "lift_fresh", "lift_fresh_copy", "contiguous", "positive",
      "view_as_real_copy",
      "real", "conj", "resolve_conj", "resolve_neg", "_conj", "_sparse_coo_tensor_unsafe")  # fmt: skip
def _same(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    if r.parameter(self) is None:
        return r.of(self)
    return _view(r, self, Reshape(r.sizes(self.shape)))


@rule("clone")
def _clone(r: TorchReader, self: Any, *_: Any, memory_format: Any = None, **__: Any) -> Any:
    if self.is_contiguous() or memory_format not in (None, r.torch.contiguous_format):
        return _same(r, self)
    return r.put("clone", Clone(), r.of(self))


@rule("_to_copy", "to", "type_as", "_autocast_to_full_precision", "_autocast_to_reduced_precision")
def _to(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    target, x = r.dtype(r.out.dtype), r.describe(self)
    if target == x.dtype or (target in FLOATS and x.dtype in FLOATS):
        # the precision of floats is the workload's
        return _same(r, self)
    return r.put("cast", Cast("activations" if target in FLOATS else target), r.of(self))


@rule("copy", "copy_")
def _copy(r: TorchReader, self: Any, src: Any, non_blocking: bool = False) -> Any:
    y = r.of(src)
    target, kind = r.describe(self), r.dtype(self.dtype)
    if y.tensor.dtype != kind and not (y.tensor.dtype in FLOATS and kind in FLOATS):
        y = r.put("cast", Cast("activations" if kind in FLOATS else kind), y)
    return y if y.shape == target.shape else r.put("expand", Expand(target.shape), y)


@rule("repeat", "tile")
def _repeat(r: TorchReader, self: Any, repeats: Any) -> Any:
    x, times = r.of(self), r.sizes(repeats)
    if len(times) > x.tensor.rank:
        x = r.put("reshape", Reshape((*[1] * (len(times) - x.tensor.rank), *x.shape)), x)
    times = (*[1] * (x.tensor.rank - len(times)), *times)
    return r.put("repeat", Tile(times), x)


@rule("flip")
def _flip(r: TorchReader, self: Any, dims: Any) -> Any:
    return r.put("flip", Flip(tuple(d % self.dim() for d in dims)), r.of(self))


@rule("roll")
def _roll(r: TorchReader, self: Any, shifts: Any, dims: Any = ()) -> Any:
    dims = [dims] if isinstance(dims, int) else list(dims)
    return r.put("roll", Roll(tuple(r.sizes(shifts)), tuple(d % self.dim() for d in dims)), r.of(self))


def _padded(r: TorchReader, self: Any, pad: Any, mode: str, value: float = 0.0) -> Any:
    flat, rank = r.sizes(pad), self.dim()
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
    pads = (*[(0, 0)] * (rank - len(pairs)), *reversed(pairs))
    return r.put("pad", Pad(tuple(pads), mode, value), r.of(self))


@rule("constant_pad_nd")
def _pad(r: TorchReader, self: Any, pad: Any, value: Any = 0) -> Any:
    return _padded(r, self, pad, "constant", float(value))


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _reflect(r: TorchReader, self: Any, padding: Any) -> Any:
    return _padded(r, self, padding, "reflect")


@rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _replicate(r: TorchReader, self: Any, padding: Any) -> Any:
    return _padded(r, self, padding, "edge")


@rule("pixel_shuffle")
def _pixel_shuffle(r: TorchReader, self: Any, upscale_factor: int) -> Any:
    return r.put("pixel_shuffle", PixelShuffle(upscale_factor), r.of(self))


@rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(r: TorchReader, self: Any, groups: int) -> Any:
    x = r.of(self)
    batch, channels, *rest = x.shape
    split = r.put("reshape", Reshape((batch, groups, channels // groups, *rest)), x)
    order = (0, 2, 1, *range(3, split.tensor.rank))
    return r.put("reshape", Reshape(x.shape), r.put("transpose", Transpose(order), split))


def _element_type(r: TorchReader, t: Any) -> str:
    kind = r.dtype(t.dtype)
    return ACTIVATIONS if kind in FLOATS else kind
