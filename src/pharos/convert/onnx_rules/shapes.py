"""ONNX rules: shapes, copies, resampling, tensors made from sizes, and sequences."""

from typing import Any

from pharos.convert.onnx_file import DTYPES
from pharos.convert.onnx_reader import Call, OnnxReader
from pharos.convert.onnx_rules.registry import (
    decimal,
    decimals,
    first,
    has,
    numbers,
    priced,
    reshaped,
    rule,
    spread,
)
from pharos.convert.reader import FLOATS, Constant
from pharos.graph.graph import Value
from pharos.graph.tensor import Tensor
from pharos.ops.copies import Arange, Flip, Full, Pad, Tile, Triangle
from pharos.ops.pixel_shuffle import PixelShuffle
from pharos.ops.pixel_unshuffle import PixelUnshuffle
from pharos.ops.resample import GridSample, Resize
from pharos.ops.shape_ops import Concat, Expand, Reshape, Slice, Split, Transpose
from pharos.ops.unfold import Fold
from pharos.quantity.sizes import Size, ceil_div, floor_div, is_int, is_symbol, maximum, minimum, prod, same


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(reader: OnnxReader, node: Call) -> Value:
    x, kind = first(reader, node), node.op_type
    rank = x.tensor.rank
    if kind == "Flatten":
        axis = node.attributes.get("axis", 1)
        axis = axis + rank if axis < 0 else axis
        return reader.add(node, Reshape((prod(x.shape[:axis]), prod(x.shape[axis:]))), x)
    if kind == "Reshape":
        return reader.add(node, Reshape(_target(reader, node, x)), x)
    axes = numbers(reader, node, "axes", 1)
    if kind == "Unsqueeze":
        wide = rank + len(axes or ())
        at = {a % wide for a in axes or ()}
        rest = iter(x.shape)
        return reader.add(node, Reshape(tuple(1 if i in at else next(rest) for i in range(wide))), x)
    if axes is None:
        gone = {i for i, s in enumerate(x.shape) if is_int(s) and s == 1}
    else:
        gone = {a % rank for a in axes}
    return reader.add(node, Reshape(tuple(s for i, s in enumerate(x.shape) if i not in gone)), x)


def _target(reader: OnnxReader, node: Call, x: Value) -> tuple[Size, ...]:
    stated = node.attributes.get("shape") if len(node.input) < 2 else reader.data(node.input[1])
    if stated is None:
        found = reader.inferred.get(node.output[0])
        if found is None:
            raise ValueError("to a shape that is not known")
        return found.shape
    keep = not node.attributes.get("allowzero", 0)
    plain = [int(d) if isinstance(d, (bool, int, float)) else d for d in stated]
    shape = [x.shape[i] if is_int(d) and d == 0 and keep else d for i, d in enumerate(plain)]
    free = [i for i, d in enumerate(shape) if is_int(d) and d == -1]
    if len(free) == 1 and any(map(is_symbol, (*shape, *x.shape))):
        shape[free[0]] = floor_div(x.tensor.numel, prod([d for i, d in enumerate(shape) if i != free[0]]))
    return tuple(shape)


@rule("Transpose")
def _transpose(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    order = tuple(node.attributes.get("perm") or reversed(range(x.tensor.rank)))
    return reader.add(node, Transpose(order), x)


@rule("Concat")
def _concat(reader: OnnxReader, node: Call) -> Value | None:
    given = [i for i in node.input if i]
    full = [i for i in given if i not in reader.empty]
    if not full:
        reader.alias(node.output[0], given[0])
        return None
    return reader.add(node, Concat(node.attributes["axis"]), *map(reader.value, full))


@rule("Slice")
def _slice(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    starts, ends = numbers(reader, node, "starts", 1), numbers(reader, node, "ends", 2)
    if starts is None or ends is None:
        raise ValueError("has no bounds")
    axes = numbers(reader, node, "axes", 3) or list(range(len(starts)))
    steps = numbers(reader, node, "steps", 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        x = sliced(reader, node, x, axis, start, end, step)
    return x


def sliced(reader: OnnxReader, node: Call, x: Value, axis: int, start: Size, end: Size, step: int) -> Value:
    """x[start:end:step] along an axis, backwards too."""
    n = x.shape[axis]
    if not all(map(is_int, (n, start, end))):
        return reader.add(node, Slice(axis, *_open(n, start, end), step), x)
    begin, stop, stride = slice(start, None if step < 0 and end < -n else end, step).indices(n)
    if (begin, stop, stride) == (0, n, 1):
        return x
    if stride < 0:
        # backwards from the first element that is taken
        x = reader.add(node, Flip((axis,)), x)
        begin, stop, stride = n - 1 - begin, n - 1 - stop, -stride
    return reader.add(node, Slice(axis, begin, stop, stride), x)


def _open(n: Size, start: Size, end: Size) -> tuple[Size, Size | None]:
    """Bounds of a slice of an open size: the largest number means the end."""
    start = n + start if is_int(start) and start < 0 else start
    if is_int(end) and end >= 2**31 - 1:
        return start, None
    return start, n + end if is_int(end) and end < 0 else end


@rule("Split")
def _split(reader: OnnxReader, node: Call) -> Any:
    x, axis = first(reader, node), node.attributes.get("axis", 0)
    n, parts = x.shape[axis], len(node.output)
    sizes = numbers(reader, node, "split", 1)
    if sizes is None:
        each = ceil_div(n, parts)
        sizes = [minimum(each, n - i * each) if is_int(each) else each for i in range(parts)]
    made = reader.add(node, Split(tuple(sizes), axis), x)
    return made if isinstance(made, tuple) else (made,)


@rule("Pad")
def _pad(reader: OnnxReader, node: Call) -> Value:
    x = first(reader, node)
    name = "paddings" if "paddings" in node.attributes else "pads"
    flat, axes = numbers(reader, node, name, 1), numbers(reader, node, "axes", 3)
    at = list(range(x.tensor.rank)) if axes is None else [a % x.tensor.rank for a in axes]
    if flat is None or len(flat) != 2 * len(at):
        raise ValueError("does not say how much")
    around = [(0, 0)] * x.tensor.rank
    for i, a in enumerate(at):
        around[a] = (flat[i], flat[i + len(at)])
    value = node.attributes.get("value", 0.0)
    if has(node, 2):
        value = (decimals(reader, node.input[2]) or [0.0])[0]
    mode = node.attributes.get("mode", "constant")
    if mode != "constant" and any(n < 0 for pair in around for n in pair):
        # what is cut off is not mirrored
        x = reader.add(node, Pad(tuple((min(b, 0), min(a, 0)) for b, a in around)), x)
        around = [(max(b, 0), max(a, 0)) for b, a in around]
    return reader.add(node, Pad(tuple(around), mode, float(value)), x)


@rule("CenterCropPad")
def _crop(reader: OnnxReader, node: Call) -> Value:
    x, wanted = first(reader, node), numbers(reader, node, "", 1) or []
    axes = node.attributes.get("axes") or list(range(x.tensor.rank))
    around = [(0, 0)] * x.tensor.rank
    for axis, want in zip(axes, wanted, strict=True):
        more = want - x.shape[axis]
        # an odd one goes behind when it is added, and stays behind when it is cut off
        before = more // 2 if more >= 0 else -(-more // 2)
        around[axis % x.tensor.rank] = (before, more - before)
    return reader.add(node, Pad(tuple(around)), x)


@rule("Expand")
def _expand(reader: OnnxReader, node: Call) -> Value:
    x, wanted = first(reader, node), reader.data(node.input[1])
    if wanted is None:
        found = reader.inferred.get(node.output[0])
        if found is None:
            raise ValueError("expands to a shape that is not known")
        return reader.add(node, Expand(found.shape), x)
    rank = max(len(wanted), x.tensor.rank)
    have = (1,) * (rank - x.tensor.rank) + tuple(x.shape)
    want = (1,) * (rank - len(wanted)) + tuple(wanted)
    shape = tuple(h if is_int(w) and w == 1 else w for h, w in zip(have, want, strict=True))
    return (
        x if len(shape) == x.tensor.rank and all(map(same, shape, x.shape)) else _wide(reader, node, x, shape)
    )


def _wide(reader: OnnxReader, node: Call, x: Value, shape: tuple[Size, ...]) -> Value:
    return reader.add(node, Expand(shape), x)


@rule("Tile")
def _tile(reader: OnnxReader, node: Call) -> Value:
    x, times = first(reader, node), numbers(reader, node, "", 1)
    if times is None:
        raise ValueError("does not say how often")
    return reader.add(node, Tile(tuple(times)), x)


@rule("Trilu")
def _triangle(reader: OnnxReader, node: Call) -> Value:
    k = (numbers(reader, node, "", 1) or [0])[0]
    return reader.add(node, Triangle(bool(node.attributes.get("upper", 1)), k), first(reader, node))


@rule("ReverseSequence")
def _reverse(reader: OnnxReader, node: Call) -> Value:
    """Each sequence by its own length: as many elements are copied."""
    x = first(reader, node)
    return priced(reader, node, [(x.shape, x.tensor.dtype)], x, cost="copy")


@rule("DepthToSpace")
def _depth_to_space(reader: OnnxReader, node: Call) -> Value:
    x, r = first(reader, node), node.attributes["blocksize"]
    if node.attributes.get("mode", "DCR") == "CRD":
        return reader.add(node, PixelShuffle(r), x)
    batch, channels, height, width = x.shape
    if r < 1 or (is_int(channels) and channels % (r * r)):
        raise ValueError("channels that the block does not divide")
    less = floor_div(channels, r * r)
    y = reader.add(node, Reshape((batch, r, r, less, height, width)), x)
    y = reader.add(node, Transpose((0, 3, 4, 1, 5, 2)), y)
    return reader.add(node, Reshape((batch, less, height * r, width * r)), y)


@rule("SpaceToDepth")
def _space_to_depth(reader: OnnxReader, node: Call) -> Value:
    depth_first = node.attributes.get("mode", "DCR") != "CRD"
    return reader.add(node, PixelUnshuffle(node.attributes["blocksize"], depth_first), first(reader, node))


@rule("Col2Im")
def _fold(reader: OnnxReader, node: Call) -> Any:
    x = first(reader, node)
    size, kernel = tuple(numbers(reader, node, "", 1) or ()), tuple(numbers(reader, node, "", 2) or ())
    n = len(kernel)
    around = node.attributes.get("pads", [0] * 2 * n)
    strides, dilations = spread(node, "strides", n), spread(node, "dilations", n)
    if n == 2 and around[:n] == around[n:]:
        return reader.add(node, Fold(size, kernel, strides, tuple(around[:n]), dilations), x)
    shape = (x.shape[0], x.shape[1] // prod(kernel), *size)
    return priced(reader, node, [(shape, x.tensor.dtype)], x, vector=x.tensor.numel, cost="copy")


@rule("Resize", "Upsample")
def _resize(reader: OnnxReader, node: Call) -> Value:
    x, a = first(reader, node), node.attributes
    rank = x.tensor.rank
    axes = [i % rank for i in a.get("axes") or range(rank)]
    scales, sizes = _scales(reader, node)
    shape, factors = list(x.shape), [1.0] * rank
    if sizes:
        _by_sizes(x, axes, sizes, a.get("keep_aspect_ratio_policy", "stretch"), shape)
        scales = None
    elif scales:
        for axis, s in zip(axes, scales, strict=True):
            factors[axis] = s
            shape[axis] = int(x.shape[axis] * s) if is_int(x.shape[axis]) else x.shape[axis] * int(s)
    else:
        raise ValueError("to a size that is not known")
    crop = a.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return _resized(reader, node, x, shape, None if scales is None else factors, crop)


def _scales(reader: OnnxReader, node: Call) -> tuple[Any, Any]:
    if "scales" in node.attributes:
        return [decimal(s) for s in node.attributes["scales"]], None
    # opset 10 has no region of interest before the scales
    at = 1 if len(node.input) == 2 else 2
    scales = decimals(reader, node.input[at]) if has(node, at) else None
    return scales, numbers(reader, node, "", 3) if has(node, 3) else None


def _by_sizes(x: Value, axes: list[int], sizes: list[int], policy: str, shape: list[Size]) -> None:
    if policy != "stretch":
        ratios = [want / x.shape[axis] for axis, want in zip(axes, sizes, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        sizes = [int(ratio * x.shape[axis] + 0.5) for axis in axes]
    for axis, want in zip(axes, sizes, strict=True):
        shape[axis] = want


def _resized(
    reader: OnnxReader, node: Call, x: Value, shape: list[Size], factors: list[float] | None, crop: bool
) -> Value:
    """Over the dimensions that change; those that come before them count as batch and channels."""
    a, rank = node.attributes, x.tensor.rank
    changed = [i for i in range(rank) if not same(x.shape[i], shape[i]) or (factors and factors[i] != 1)]
    if not changed:
        return x
    begin = min(changed)
    lead = (prod(x.shape[: max(begin - 1, 0)]), prod(x.shape[max(begin - 1, 0) : begin]))
    y = reshaped(reader, node, x, *lead, *x.shape[begin:])
    usual = "asymmetric" if node.op_type == "Upsample" or reader.file.opset < 11 else "half_pixel"
    coordinates = a.get("coordinate_transformation_mode", usual)
    rounding = a.get("nearest_mode", "floor" if usual == "asymmetric" else "round_prefer_floor")
    exact = factors is not None and any(
        not is_int(x.shape[i]) or x.shape[i] * factors[i] != shape[i] for i in changed
    )
    op = Resize(
        tuple(shape[begin:]),
        a.get("mode", "nearest").replace("bilinear", "linear"),
        "half_pixel" if crop else coordinates,
        rounding,
        tuple(factors[begin:]) if exact and factors else None,
        bool(a.get("antialias", 0)),
        decimal(a.get("cubic_coeff_a", -0.75)),
        bool(a.get("exclude_outside", 0)),
    )
    if crop:
        work = op.work(y.tensor, op.shape(y.tensor))
        return priced(reader, node, [(shape, x.tensor.dtype)], x, vector=work.vector_flops, cost="copy")
    return reshaped(reader, node, reader.add(node, op, y), *shape)


@rule("GridSample")
def _grid_sample(reader: OnnxReader, node: Call) -> Value:
    a = node.attributes
    mode: str = a.get("mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    op = GridSample(mode, a.get("padding_mode", "zeros"), bool(a.get("align_corners", 0)))
    return reader.add(node, op, first(reader, node), reader.value(node.input[1]))


@rule("AffineGrid")
def _affine_grid(reader: OnnxReader, node: Call) -> Any:
    """A matrix product of each place, with a 1 behind it, and each of the batch's matrices."""
    theta, size = first(reader, node), numbers(reader, node, "", 1)
    if not size:
        raise ValueError("of a size that is not known")
    n = len(size) - 2
    places = size[0] * prod(size[2:])
    return priced(reader, node, [((size[0], *size[2:], n), theta.tensor.dtype)], theta,
                  macs=places * n * (n + 1), vector=2 * sum(size[2:]))  # fmt: skip


@rule("Range")
def _range(reader: OnnxReader, node: Call) -> Value:
    given = [reader.data(i) for i in node.input[:3]]
    tensor = reader.tensor(node.input[0])
    dtype = tensor.dtype if tensor.dtype not in FLOATS or reader.file.free else reader.g.precision.activations
    if any(g is None for g in given):
        found = reader.inferred.get(node.output[0])
        if found is None:
            raise ValueError("of a length that is not known")
        n = found.shape[0]
        return priced(reader, node, [((n,), dtype)], vector=n)
    start, limit, step = (g[0] for g in given if g)
    count = ceil_div(limit - start, step)
    count = int(maximum(count, 0)) if not is_symbol(count) else count
    return reader.add(node, Arange(count, start, step, dtype))


@rule("ConstantOfShape", "EyeLike")
def _full(reader: OnnxReader, node: Call) -> Value:
    from pharos.convert.onnx_reader import numbers_of

    if node.op_type == "EyeLike":
        x = first(reader, node)
        dtype = DTYPES.get(node.attributes.get("dtype", 0), x.tensor.dtype)
        k = node.attributes.get("k", 0)
        upper = reader.add(node, Triangle(True, k), reader.add(node, Full(x.shape, 1.0, dtype)))
        return reader.add(node, Triangle(False, k), upper)
    shape = reader.data(node.input[0])
    if shape is None:
        found = reader.inferred.get(node.output[0])
        if found is None:
            raise ValueError("of a shape that is not known")
        shape = found.shape
    value = node.attributes.get("value")
    number = (numbers_of(value) or [0.0])[0] if value is not None else 0.0
    dtype = DTYPES.get(getattr(value, "data_type", 1), "fp32")
    dtype = reader.g.precision.activations if dtype in FLOATS and not reader.file.free else dtype
    if any(is_int(s) and s == 0 for s in shape):
        reader.empty[node.output[0]] = Tensor(tuple(shape), dtype)
        return None  # type: ignore[return-value]
    return reader.add(node, Full(tuple(shape), number, dtype))


@rule("HannWindow", "HammingWindow", "BlackmanWindow")
def _window(reader: OnnxReader, node: Call) -> Any:
    """A cosine, two products and two sums a number; Blackman's has a second cosine."""
    size = (numbers(reader, node, "", 0) or [0])[0]
    dtype = DTYPES.get(node.attributes.get("output_datatype", 1), "fp32")
    terms = 2 if node.op_type == "BlackmanWindow" else 1
    return priced(reader, node, [((size,), dtype)], vector=4 * terms * size, roots=terms * size)


# Sequences: lists of names, taken apart while reading.


@rule("SequenceConstruct", "SequenceEmpty")
def _sequence(reader: OnnxReader, node: Call) -> None:
    reader.sequences[node.output[0]] = list(node.input)


@rule("SequenceAt")
def _at(reader: OnnxReader, node: Call) -> None:
    reader.alias(node.output[0], reader.sequences[node.input[0]][_place(reader, node)])


def _place(reader: OnnxReader, node: Call, i: int = 1) -> int:
    found = numbers(reader, node, "", i)
    if found is None:
        raise ValueError("a place that is not known")
    return found[0]


@rule("SequenceInsert", "SequenceErase")
def _changed(reader: OnnxReader, node: Call) -> None:
    held = list(reader.sequences[node.input[0]])
    if node.op_type == "SequenceErase":
        del held[_place(reader, node) if has(node, 1) else -1]
    else:
        held.insert(_place(reader, node, 2) if has(node, 2) else len(held), node.input[1])
    reader.sequences[node.output[0]] = held


@rule("SplitToSequence")
def _to_sequence(reader: OnnxReader, node: Call) -> None:
    x, axis = first(reader, node), node.attributes.get("axis", 0)
    n = x.shape[axis]
    if has(node, 1):
        stated = numbers(reader, node, "", 1) or []
        whole = reader.tensor(node.input[1]).rank == 1
        sizes = stated if whole else [min(stated[0], n - i) for i in range(0, n, max(stated[0], 1))]
    else:
        sizes = [1] * n
    if len(sizes) > 10_000:
        raise ValueError("too many parts")
    made = reader.add(node, Split(tuple(sizes), axis), x)
    names = []
    for i, part in enumerate(made if isinstance(made, tuple) else (made,)):
        if not has(node, 1) and not node.attributes.get("keepdims", 1):
            shape = [s for j, s in enumerate(part.shape) if j != axis % len(part.shape)]
            part = reshaped(reader, node, part, *shape)
        names.append(f"{node.output[0]}:{i}")
        reader.values[names[-1]] = part
    reader.sequences[node.output[0]] = names


@rule("ConcatFromSequence")
def _from_sequence(reader: OnnxReader, node: Call) -> Value:
    parts = [reader.value(i) for i in reader.sequences[node.input[0]] if i not in reader.empty]
    axis = node.attributes["axis"]
    if node.attributes.get("new_axis", 0):
        at = axis % (parts[0].tensor.rank + 1)
        parts = [reshaped(reader, node, p, *p.shape[:at], 1, *p.shape[at:]) for p in parts]
    return reader.add(node, Concat(axis), *parts)


@rule("OptionalHasElement")
def _has_element(reader: OnnxReader, node: Call) -> None:
    reader.constants[node.output[0]] = Constant(Tensor((), "bool"), [has(node, 0)])
