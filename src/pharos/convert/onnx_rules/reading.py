"""ONNX rules: reductions, gathers and scatters, sorting, transforms of signals, boxes of detectors."""

from typing import Any

from pharos.convert.onnx_file import DTYPES
from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.registry import decimals, first, has, numbers, priced, reshaped, rule, weight
from pharos.convert.reader import FLOATS
from pharos.graph.graph import Value
from pharos.ops.embedding import Embedding
from pharos.ops.fourier import Fourier
from pharos.ops.indexing import GatherND, NonZero, OneHot, ScatterElements, ScatterND, Take, TakeAlong
from pharos.ops.pooling import GlobalAvgPool
from pharos.ops.reduce import ArgReduce, Cumulate, Reduce, TopK
from pharos.ops.shape_ops import Reshape, Slice
from pharos.quantity.sizes import ceil_div, ceil_log2, floor_div, is_int, prod

REDUCTIONS = {"Mean": "mean", "Sum": "sum", "Max": "max", "Min": "min", "Prod": "prod", "L1": "norm1",
              "L2": "norm2", "SumSquare": "sum_square", "LogSum": "log_sum",
              "LogSumExp": "log_sum_exp"}  # fmt: skip


@rule(*(f"Reduce{kind}" for kind in REDUCTIONS))
def _reduce(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    axes = numbers(reader, node, "axes", 1)
    if not axes:
        if node.attributes.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.tensor.rank))
    keep = bool(node.attributes.get("keepdims", 1))
    axes = sorted({a % x.tensor.rank for a in axes}) if x.tensor.rank else []
    function = REDUCTIONS[node.op_type.removeprefix("Reduce")]
    if not axes:
        return x
    if function == "mean" and axes == list(range(2, x.tensor.rank)) and len(axes) > 1:
        y = reader.add(node, GlobalAvgPool(), x)
        return reader.add(node, Reshape((*x.shape[:2], *[1] * len(axes))), y) if keep else y
    dims = axes[0] if len(axes) == 1 else tuple(axes)
    return reader.add(node, Reduce(dims, keep, function), x)


@rule("ArgMax", "ArgMin")
def _arg(reader: OnnxReader, node: Call) -> Value:
    a = node.attributes
    op = ArgReduce(a.get("axis", 0), bool(a.get("keepdims", 1)), node.op_type[3:].lower(),
                   bool(a.get("select_last_index", 0)))  # fmt: skip
    return reader.add(node, op, first(reader, node))


@rule("CumSum", "CumProd")
def _cumulate(reader: OnnxReader, node: Call) -> Value:
    a, at = node.attributes, numbers(reader, node, "", 1)
    if at is None:
        raise ValueError("along a dimension that is not known")
    op = Cumulate(at[0], node.op_type[3:].lower(), bool(a.get("exclusive", 0)), bool(a.get("reverse", 0)))
    return reader.add(node, op, first(reader, node))


@rule("TopK")
def _top(reader: OnnxReader, node: Call) -> Any:
    k = numbers(reader, node, "k", 1)
    if k is None:
        raise ValueError("takes a number that is not known")
    a = node.attributes
    return reader.add(node, TopK(k[0], a.get("axis", -1), bool(a.get("largest", 1))), first(reader, node))


@rule("Gather")
def _gather(reader: OnnxReader, node: Call) -> Value:
    table, ids = node.input[:2]
    axis = node.attributes.get("axis", 0)
    stored = table in reader.constants and table not in reader.values
    if stored and ids in reader.values and axis == 0:
        tensor = weight(reader, node, 0)
        if tensor.rank == 2 and (tensor.dtype in FLOATS or reader.constants[table].origins):
            return reader.add(node, Embedding(*tensor.shape), reader.value(ids), weight=table)
    x, picked = reader.value(table), reader.data(ids)
    if picked is not None and len(picked) == 1 and is_int(picked[0]) and is_int(x.shape[axis]):
        axis %= x.tensor.rank
        at = int(picked[0]) % x.shape[axis]
        y = reader.add(node, Slice(axis, at, at + 1), x)
        shape = reader.tensor(ids).shape
        return reshaped(reader, node, y, *x.shape[:axis], *shape, *x.shape[axis + 1 :])
    return reader.add(node, Take(axis), x, reader.value(ids))


@rule("GatherElements")
def _take_along(reader: OnnxReader, node: Call) -> Value:
    return reader.add(node, TakeAlong(node.attributes.get("axis", 0)), *map(reader.value, node.input[:2]))


@rule("GatherND")
def _gather_nd(reader: OnnxReader, node: Call) -> Value:
    return reader.add(
        node, GatherND(node.attributes.get("batch_dims", 0)), *map(reader.value, node.input[:2])
    )


@rule("Scatter", "ScatterElements")
def _scatter(reader: OnnxReader, node: Call) -> Value:
    a = node.attributes
    op = ScatterElements(a.get("axis", 0), a.get("reduction", "none"))
    return reader.add(node, op, *map(reader.value, node.input[:3]))


@rule("ScatterND")
def _scatter_nd(reader: OnnxReader, node: Call) -> Value:
    op = ScatterND(node.attributes.get("reduction", "none"))
    return reader.add(node, op, *map(reader.value, node.input[:3]))


@rule("TensorScatter")
def _into_cache(reader: OnnxReader, node: Call) -> Any:
    """A cache with new rows written into it: those rows are all that moves."""
    cache, update = first(reader, node), reader.value(node.input[1])
    return priced(reader, node, [(cache.shape, cache.tensor.dtype)], update, cost="view")


@rule("OneHot")
def _one_hot(reader: OnnxReader, node: Call) -> Value:
    depth, values = reader.data(node.input[1]), decimals(reader, node.input[2]) or [0.0, 1.0]
    if not depth:
        raise ValueError("has a number of classes that is not known")
    dtype = reader.tensor(node.input[2]).dtype
    op = OneHot(int(depth[0]), node.attributes.get("axis", -1), float(values[1]), float(values[0]), dtype)
    return reader.add(node, op, first(reader, node))


@rule("NonZero")
def _nonzero(reader: OnnxReader, node: Call) -> Value:
    _at_most(reader, node)
    return reader.add(node, NonZero(), first(reader, node))


def _at_most(reader: OnnxReader, node: Call) -> None:
    reader.note(f"how much {node.name or node.op_type} gives depends on the data: counted as for all of it")


@rule("Compress")
def _compress(reader: OnnxReader, node: Call) -> Any:
    """Elements that a mask keeps, at most all of them: the mask is looked through once."""
    x, mask = first(reader, node), reader.tensor(node.input[1])
    kept = reader.data(node.input[1])
    if kept is None:
        _at_most(reader, node)
    count = mask.shape[0] if kept is None else sum(map(bool, kept))
    shape = (count,)
    if "axis" in node.attributes:
        axis = node.attributes["axis"] % x.tensor.rank
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return priced(reader, node, [(shape, x.tensor.dtype)], x, vector=mask.numel, cost="gather")


@rule("Unique")
def _unique(reader: OnnxReader, node: Call) -> Any:
    """Sorted: n log2 n comparisons (of slices, where there is an axis), then one with each neighbour."""
    x = first(reader, node)
    _at_most(reader, node)
    at = node.attributes.get("axis")
    n = x.tensor.numel if at is None else x.shape[at]
    each = 1 if at is None else floor_div(x.tensor.numel, n)
    shape = (n,) if at is None else x.shape
    outs = [(shape, x.tensor.dtype), *[((n,), "int64")] * (len(node.output) - 1)]
    return priced(reader, node, outs, x, vector=each * n * (ceil_log2(n) + 1), cost="pool")


@rule("DFT")
def _dft(reader: OnnxReader, node: Call) -> Value:
    x, a = first(reader, node), node.attributes
    axis = (numbers(reader, node, "", 2) or [-2])[0] if reader.file.opset >= 20 else a.get("axis", 1)
    length = numbers(reader, node, "", 1)
    at = axis % x.tensor.rank
    if length is not None and is_int(x.shape[at]) and length[0] != x.shape[at]:
        x = _fitted(reader, node, x, at, length[0])
    onesided, inverse = bool(a.get("onesided", 0)), bool(a.get("inverse", 0))
    if onesided and inverse:
        # the half that is given stands for the whole; what comes out is real
        n = length[0] if length is not None else 2 * (x.shape[at] - 1)
        shape = (*x.shape[:at], n, *x.shape[at + 1 : -1], 1)
        rows = floor_div(prod(shape), n)
        return priced(reader, node, [(shape, x.tensor.dtype)], x,
                      vector=floor_div(5 * rows * n * ceil_log2(n), 2) + prod(shape))  # fmt: skip
    return reader.add(node, Fourier(at, inverse, onesided), x)


def _fitted(reader: OnnxReader, node: Call, x: Value, at: int, n: int) -> Value:
    """x cut or filled with zeros to n along a dimension."""
    from pharos.ops.copies import Pad

    around = [(0, n - x.shape[at] if i == at else 0) for i in range(x.tensor.rank)]
    return reader.add(node, Pad(tuple(around)), x)


@rule("STFT")
def _stft(reader: OnnxReader, node: Call) -> Any:
    """A product with the window and a transform of each frame."""
    x, step = first(reader, node), (numbers(reader, node, "", 1) or [1])[0]
    length = numbers(reader, node, "", 3)
    n = length[0] if length is not None else reader.tensor(node.input[2]).shape[0]
    frames = floor_div(x.shape[1] - n, step) + 1
    real = x.tensor.rank == 2 or x.shape[-1] == 1
    bins = n // 2 + 1 if node.attributes.get("onesided", 1) else n
    transform = x.shape[0] * frames * 5 * n * ceil_log2(n)
    windowed = x.shape[0] * frames * n if has(node, 2) else 0
    vector = (floor_div(transform, 2) if real else transform) + windowed
    return priced(reader, node, [((x.shape[0], frames, bins, 2), x.tensor.dtype)], x, vector=vector)


@rule("MelWeightMatrix")
def _mel(reader: OnnxReader, node: Call) -> Any:
    """Triangles over the spectrum: two differences, two quotients, two comparisons a number."""
    given = [reader.data(i) for i in node.input[:2]]
    if any(g is None for g in given):
        raise ValueError("of a size that is not known")
    bins, length = (int(g[0]) for g in given if g)
    dtype = DTYPES.get(node.attributes.get("output_datatype", 1), "fp32")
    shape = (length // 2 + 1, bins)
    return priced(reader, node, [(shape, dtype)], vector=4 * prod(shape), roots=2 * prod(shape) + 2 * bins)


@rule("NonMaxSuppression")
def _suppression(reader: OnnxReader, node: Call) -> Any:
    """Sorted by score, then each kept box is held against those behind it: at most all pairs.

    A pair's overlap: 4 extremes, 4 differences, 2 products, a sum, a difference, a quotient, a comparison.
    """
    boxes, scores = first(reader, node), reader.value(node.input[1])
    _at_most(reader, node)
    batch, classes, n = scores.shape
    most = reader.data(node.input[2]) if has(node, 2) else [0]
    kept = n if not most else min(int(most[0]), n) if is_int(n) else int(most[0])
    pairs = batch * classes * floor_div(kept * (2 * n - kept - 1), 2)
    sorting = batch * classes * n * ceil_log2(n)
    return priced(reader, node, [((batch * classes * kept, 3), "int64")], boxes, scores,
                  vector=13 * pairs + sorting, roots=pairs, cost="pool")  # fmt: skip


@rule("RoiAlign", "MaxRoiPool")
def _regions(reader: OnnxReader, node: Call) -> Any:
    """Bins of each region: of an aligned one 4 neighbours a sample, 8 operations; of a pooled one a maximum.

    How many samples or elements a bin has depends on its region; counted as if it were the whole map.
    """
    x, a = first(reader, node), node.attributes
    rois = reader.tensor(node.input[1])
    pooled = node.op_type == "MaxRoiPool"
    high, wide = a["pooled_shape"] if pooled else (a.get("output_height", 1), a.get("output_width", 1))
    shape = (rois.shape[0], x.shape[1], high, wide)
    ratio = 0 if pooled else a.get("sampling_ratio", 0)
    if not ratio:
        _at_most(reader, node)
    samples = ratio * ratio if ratio else ceil_div(x.shape[2], high) * ceil_div(x.shape[3], wide)
    each = samples if pooled else 9 * samples
    return priced(reader, node, [(shape, x.tensor.dtype)], vector=prod(shape) * each,
                  roots=0 if pooled else prod(shape), cost="gather")  # fmt: skip


@rule("TfIdfVectorizer")
def _tfidf(reader: OnnxReader, node: Call) -> Any:
    """Every n-gram of every length and skip is looked up once, found ones are added and weighted."""
    x, a = first(reader, node), node.attributes
    terms = max(a["ngram_indexes"]) + 1
    skips = a["max_skip_count"] + 1
    lengths = a["max_gram_length"] - a["min_gram_length"] + 1
    shape = (*x.shape[:-1], terms)
    vector = x.tensor.numel * skips * lengths + (prod(shape) if a.get("weights") else 0)
    return priced(reader, node, [(shape, "fp32")], x, vector=vector, cost="gather")
