"""PyTorch rules for resampling, indexing, and tensors that follow from sizes."""

from typing import Any

from pharos.convert.reader import FLOATS
from pharos.convert.torch_arithmetic import number, scalar
from pharos.convert.torch_masks import put_masked, take_masked
from pharos.convert.torch_record import TorchReader
from pharos.convert.torch_rules import rule
from pharos.graph.tensor import ACTIVATIONS
from pharos.ops.cast import Cast
from pharos.ops.compare import Where
from pharos.ops.copies import Arange, Full, Triangle
from pharos.ops.elementwise import Add, Mul
from pharos.ops.histogram import Histogram, Search
from pharos.ops.indexing import OneHot, ScatterElements, ScatterND, Take, TakeAlong
from pharos.ops.reduce import Cumulate
from pharos.ops.resample import GridSample, Resize
from pharos.ops.shape_ops import Concat, Expand, Reshape
from pharos.ops.triangle_indices import TriangleIndices
from pharos.ops.unfold import Fold, Unfold

MODES = {"nearest": "nearest", "nearest_exact": "nearest", "linear": "linear", "bilinear": "linear",
         "trilinear": "linear", "bicubic": "cubic"}  # fmt: skip
for _name, _mode in MODES.items():
    _each = [
        f"{head}upsample_{_name}{n}d{tail}" for head in ("", "_") for n in (1, 2, 3) for tail in ("", "_aa")
    ]

    @rule(*_each)
    def _upsample(
        r: TorchReader, self: Any, *arguments: Any, _which: str = _name, _by: str = _mode, **_: Any
    ) -> Any:
        out = r.sizes(r.out.shape[2:])
        aligned = any(a is True for a in arguments)
        how = "align_corners" if aligned else "asymmetric" if _which == "nearest" else "half_pixel"
        rounding = "floor" if _which == "nearest" else "round_prefer_floor"
        return r.put("resize", Resize(out, _by, how, rounding), r.of(self))


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid(
    r: TorchReader, input: Any, grid: Any, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Any:
    mode = ("linear", "nearest", "cubic")[interpolation_mode]
    border = ("zeros", "border", "reflection")[padding_mode]
    return r.put("grid_sample", GridSample(mode, border, bool(align_corners)), r.of(input), r.of(grid))


@rule("im2col")
def _im2col(r: TorchReader, self: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> Any:
    op = Unfold(tuple(kernel_size), tuple(stride), tuple(padding), tuple(dilation))
    return r.put("unfold", op, r.of(self))


@rule("col2im")
def _col2im(
    r: TorchReader, self: Any, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> Any:
    op = Fold(r.sizes(output_size), tuple(kernel_size), tuple(stride), tuple(padding), tuple(dilation))
    return r.put("fold", op, r.of(self))


@rule("index_select")
def _index_select(r: TorchReader, self: Any, dim: int, index: Any) -> Any:
    return r.put("take", Take(dim % self.dim()), r.of(self), r.of(index))


@rule("gather")
def _gather(r: TorchReader, self: Any, dim: int, index: Any, **_: Any) -> Any:
    return r.put("gather", TakeAlong(dim % max(self.dim(), 1)), r.of(self), r.of(index))


@rule("index", "_unsafe_index")
def _index(r: TorchReader, self: Any, indices: Any) -> Any:
    given = [(d, t) for d, t in enumerate(indices) if t is not None]
    if any(t.dtype in (r.torch.bool, r.torch.uint8) for _, t in given):
        return take_masked(r, self, indices)
    if len(given) == 1:
        dim, t = given[0]
        return r.put("take", Take(dim), r.of(self), r.of(t))
    dims = [d for d, _ in given]
    if dims != list(range(dims[0], dims[0] + len(dims))):
        raise NotImplementedError("indices of dimensions apart")
    # one flat index over the dimensions that are picked from
    x, flat = r.of(self), None
    for d, t in given:
        at = r.of(t)
        size = x.shape[d]
        flat = at if flat is None else r.put("add", Add(), r.put("mul", Mul(scalar=size), flat), at)
    first, last = dims[0], dims[-1]
    whole: Any = 1
    for d in dims:
        whole = whole * x.shape[d]
    rows = r.put("reshape", Reshape((*x.shape[:first], whole, *x.shape[last + 1 :])), x)
    assert flat is not None
    return r.put("take", Take(first), rows, flat)


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def _index_put(
    r: TorchReader, self: Any, indices: Any, values: Any, accumulate: bool = False, *_: Any
) -> Any:
    given = [t for t in indices if t is not None]
    if given and given[0].dtype in (r.torch.bool, r.torch.uint8):
        if len(given) > 1 or len(given) < len(indices):
            raise NotImplementedError("a mask beside other indices")
        if values.numel() != 1 or accumulate:
            return put_masked(r, self, given[0], values, accumulate)
        mask = r.of(given[0])
        behind = self.dim() - given[0].dim()
        mask = r.put("reshape", Reshape((*mask.shape, *[1] * behind)), mask) if behind else mask
        value = scalar(r, values)
        if value is not None:
            return r.put("where", Where(a=value), mask, r.of(self))
        return r.put("where", Where(), mask, r.of(values), r.of(self))
    if any(t is None for t in indices[: len(given)]):
        raise NotImplementedError("places behind a whole dimension")
    picked = r.torch.broadcast_shapes(*[t.shape for t in given])
    shape = r.sizes(picked)
    rows = []
    for t in given:
        at = r.of(t)
        at = at if at.shape == shape else r.put("expand", Expand(shape), at)
        rows.append(r.put("reshape", Reshape((*shape, 1)), at))
    index = rows[0] if len(rows) == 1 else r.put("stack", Concat(len(shape)), *rows)
    wanted = (*shape, *r.sizes(self.shape[len(given) :]))
    updates = r.of(values)
    updates = updates if updates.shape == wanted else r.put("expand", Expand(wanted), updates)
    return r.put("index_put", ScatterND("add" if accumulate else "none"), r.of(self), index, updates)


@rule("index_add")
def _index_add(r: TorchReader, self: Any, dim: int, index: Any, source: Any, *, alpha: Any = 1) -> Any:
    if dim % self.dim() != 0 or alpha != 1:
        raise NotImplementedError("another dimension than the first")
    return _index_put(r, self, [index], source, True)


@rule("index_copy")
def _index_copy(r: TorchReader, self: Any, dim: int, index: Any, source: Any) -> Any:
    if dim % self.dim() == 0:
        return _index_put(r, self, [index], source)
    at, x = r.of(index), r.of(source)
    ones = [1] * self.dim()
    ones[dim % self.dim()] = x.shape[dim % self.dim()]
    at = r.put("expand", Expand(x.shape), r.put("reshape", Reshape(tuple(ones)), at))
    return r.put("scatter", ScatterElements(dim % self.dim()), r.of(self), at, x)


@rule("histc", "bincount")
def _histogram(r: TorchReader, self: Any, *_: Any, **__: Any) -> Any:
    return r.put("histogram", Histogram(r.size(r.out.shape[0])), r.of(self))


@rule("searchsorted")
def _searchsorted(r: TorchReader, sorted_sequence: Any, self: Any, *_: Any, **__: Any) -> Any:
    edges, values = sorted_sequence, self
    return _searched(r, edges, values)


@rule("bucketize")
def _bucketize(r: TorchReader, self: Any, boundaries: Any, **_: Any) -> Any:
    return _searched(r, boundaries, self)


def _searched(r: TorchReader, edges: Any, values: Any) -> Any:
    if not isinstance(edges, r.torch.Tensor) or edges.dim() != 1:
        raise NotImplementedError("several rows of edges")
    return r.put("search", Search(), r.of(edges), r.of(values))


@rule("repeat_interleave")
def _repeat_interleave(r: TorchReader, self: Any, repeats: Any = None, dim: Any = None, **_: Any) -> Any:
    """Each slice several times; where a tensor says how often, running sums say which stands where."""
    if isinstance(repeats, r.torch.Tensor) and repeats.numel() > 1:
        at = _belongs(r, repeats, r.out.shape[0 if dim is None else dim])
        x = r.of(self)
        x = r.put("reshape", Reshape((x.tensor.numel,)), x) if dim is None else x
        return r.put("take", Take(0 if dim is None else dim % self.dim()), x, at)
    if repeats is None:
        return _belongs(r, self, r.out.shape[0])
    x = r.of(self)
    if dim is None:
        x = r.put("reshape", Reshape((x.tensor.numel,)), x)
    at, out = (0 if dim is None else dim % self.dim()), r.sizes(r.out.shape)
    times = out[at] // x.shape[at]
    x = r.put("reshape", Reshape((*x.shape[: at + 1], 1, *x.shape[at + 1 :])), x)
    wide = r.put("expand", Expand((*x.shape[: at + 1], times, *x.shape[at + 2 :])), x)
    return r.put("repeat", Reshape(out), wide)


def _belongs(r: TorchReader, repeats: Any, count: Any) -> Any:
    """The number of the slice that each place repeats: as many running sums lie at or before it."""
    ends = r.put("cumsum", Cumulate(0), r.of(repeats))
    return r.put("search", Search(), ends, r.put("arange", Arange(r.size(count), 1, 1, "int64")))


@rule("scatter", "scatter_reduce")
def _scatter(r: TorchReader, self: Any, dim: int, index: Any, src: Any = None, reduce: Any = None, *,
             value: Any = None, **_: Any) -> Any:  # fmt: skip
    source = src if src is not None else value
    filled = number(r, source)
    updates = r.of(source) if filled is None else r.put("full", Full(r.sizes(index.shape), float(filled)))
    x = r.of(self)
    if updates.tensor.dtype != x.tensor.dtype:
        target = x.tensor.dtype
        updates = r.put("cast", Cast(ACTIVATIONS if target in FLOATS else target), updates)
    how = {None: "none", "add": "add", "sum": "add", "multiply": "mul", "prod": "mul", "amax": "max",
           "amin": "min"}[reduce]  # fmt: skip
    return r.put("scatter", ScatterElements(dim % max(self.dim(), 1), how), x, r.of(index), updates)


@rule("scatter_add")
def _scatter_add(r: TorchReader, self: Any, dim: int, index: Any, src: Any) -> Any:
    return _scatter(r, self, dim, index, src, "add")


@rule("one_hot")
def _one_hot(r: TorchReader, self: Any, num_classes: int = -1) -> Any:
    return r.put("one_hot", OneHot(r.size(r.out.shape[-1]), dtype="int64"), r.of(self))


@rule("tril")
def _triangle(r: TorchReader, self: Any, diagonal: int = 0, _upper: bool = False) -> Any:
    return r.put("triangle", Triangle(_upper, int(diagonal)), r.of(self))


@rule("triu")
def _upper(r: TorchReader, self: Any, diagonal: int = 0) -> Any:
    return _triangle(r, self, diagonal, True)


@rule("tril_indices")
def _triangle_indices(r: TorchReader, row: int, col: int, offset: int = 0, _upper: bool = False,
                      **_: Any) -> Any:  # fmt: skip
    return r.put("indices", TriangleIndices(int(row), int(col), _upper, int(offset)))


@rule("triu_indices")
def _upper_indices(r: TorchReader, row: int, col: int, offset: int = 0, **_: Any) -> Any:
    return _triangle_indices(r, row, col, offset, True)


@rule("eye")
def _eye(r: TorchReader, *_: Any, **__: Any) -> Any:
    target = r.dtype(r.out.dtype)
    ones = r.put("full", Full(r.sizes(r.out.shape), 1.0, ACTIVATIONS if target in FLOATS else target))
    return r.put("triangle", Triangle(False, 0), r.put("triangle", Triangle(True, 0), ones))


@rule("arange", "arange_start")
def _arange(r: TorchReader, *arguments: Any, **_: Any) -> Any:
    given = [number(r, a) for a in arguments]
    start, step = (given[0] if len(given) > 1 else 0), (given[2] if len(given) > 2 else 1)
    target = r.dtype(r.out.dtype)
    dtype = ACTIVATIONS if target in FLOATS else target
    return r.put("arange", Arange(r.size(r.out.shape[0]), start, step, dtype))


@rule("linspace")
def _linspace(r: TorchReader, start: Any, end: Any, steps: Any, **_: Any) -> Any:
    count = r.size(steps)
    step = (end - start) / (count - 1) if isinstance(count, int) and count > 1 else 0.0
    return r.put("arange", Arange(count, float(start), float(step), ACTIVATIONS))


FILLED = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "ones": 1.0, "ones_like": 1.0, "new_ones": 1.0,
          "empty": 0.0, "empty_like": 0.0, "new_empty": 0.0, "empty_strided": 0.0, "new_empty_strided": 0.0,
          "empty_permuted": 0.0, "rand": 0.5, "randn": 0.0, "rand_like": 0.5, "randn_like": 0.0,
          "randint": 0.0,
          "randint_like": 0.0, "randperm": 0.0, "scalar_tensor": None, "full": None, "full_like": None,
          "new_full": None, "fill": None, "zero": 0.0, "normal": 0.0, "bernoulli": 0.0,
          "uniform": 0.0}  # fmt: skip
for _name in FILLED:

    @rule(_name)
    def _filled(r: TorchReader, *arguments: Any, _which: str = _name, **options: Any) -> Any:
        value = FILLED[_which]
        if value is None:
            last = options.get("fill_value", options.get("value"))
            last = last if last is not None else arguments[-1]
            value = scalar(r, last)
            if value is None:
                return r.put("expand", Expand(r.sizes(r.out.shape)), r.of(last))
        target = r.dtype(r.out.dtype)
        op = Full(r.sizes(r.out.shape), float(value), ACTIVATIONS if target in FLOATS else target)
        made = r.put("full", op)
        r.numbers[made.name] = float(value)
        return made


@rule("native_dropout")
def _dropout(r: TorchReader, input: Any, p: float, train: Any) -> Any:
    x = r.of(input)
    kept = r.put("full", Full(x.shape, 1.0, "bool"))
    return (
        r.put("where", Where(b=0.0), kept, r.put("mul", Mul(scalar=1 / max(1 - float(p), 1e-6)), x)),
        kept,
    )
