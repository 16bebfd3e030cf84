"""PyTorch rules: one small function a call, from tensors and arguments to our operators."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pharos.convert.torch_record import TorchReader
from pharos.graph.graph import Value
from pharos.graph.op import Op
from pharos.ops.activation import Activation, Softmax
from pharos.ops.attention import Attention
from pharos.ops.compare import Where
from pharos.ops.conv import Conv1d, Conv2d, Conv3d
from pharos.ops.conv_transpose import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from pharos.ops.copies import Full
from pharos.ops.elementwise import Add, Div, Mul, Sub
from pharos.ops.embedding import Embedding, EmbeddingBag
from pharos.ops.grouped import GroupedMatMul
from pharos.ops.instance_norm import InstanceNorm
from pharos.ops.linear import Linear, MatMul
from pharos.ops.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.ops.reduce import Reduce
from pharos.ops.shape_ops import Expand, Reshape, Split, Transpose
from pharos.ops.supplied import Supplied
from pharos.quantity.sizes import is_int, prod

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
# Calls that neither compute nor make a tensor.
UNSEEN = {"prim::device", "prim::layout", "aten::sym_size", "aten::sym_stride", "aten::sym_numel",
          "aten::sym_storage_offset", "aten::is_contiguous", "aten::size", "aten::stride",
          "aten::_local_scalar_dense",
          "aten::is_same_size", "aten::equal", "aten::item", "aten::is_nonzero", "aten::_assert_async",
          "aten::_assert_scalar", "aten::sym_constrain_range", "aten::sym_constrain_range_for_size",
          "aten::record_stream", "prim::dtype", "aten::dim"}  # fmt: skip


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers ``rule(reader, *arguments) -> value or values`` for names of PyTorch operators.

    Raises:
        ValueError: a name that has a rule.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            full = name if "::" in name else f"aten::{name}"
            if full in RULES:
                raise ValueError(f"{full} has a rule: {RULES[full].__module__}.{RULES[full].__name__}")
            RULES[full] = function
        return function

    return register


def find_rule(name: str) -> Rule | None:
    """The rule for a call, the user's own before ours."""
    for room in (
        "torch_shapes",
        "torch_arithmetic",
        "torch_reduce",
        "torch_index",
        "torch_masks",
        "torch_priced",
    ):
        import_module(f"pharos.convert.{room}")
    return RULES.get(name)


def with_weights(r: TorchReader, kind: str, op: Op, *values: Value, **weights: Any) -> Any:
    """Appends an operator with its weights: parameters are its own, what was computed is given to it."""
    expected, names, given = op.weights() | op.buffers(), {}, {}
    for key, t in weights.items():
        if t is None:
            continue
        name = r.parameter(t) if key in op.buffers() else r.weight(t)
        if name is None or name in r.deferred or r.constants[name].tensor.shape != expected[key]:
            given[key] = r.of(t)
        else:
            names[key] = name
    if not given:
        return r.put(kind, op, *values, **names)
    return r.put(kind, Supplied.around(op, list(given), len(values)), *values, *given.values(), **names)


@rule("linear")
def _linear(r: TorchReader, input: Any, weight: Any, bias: Any = None) -> Value:
    x, name = r.of(input), r.weight(weight)
    out, width = r.sizes(weight.shape) if weight.dim() == 2 else (1, r.size(weight.shape[0]))
    if name in r.deferred and r.constants[name].turned:
        source = r.deferred[name][1]
        op = Linear(width, out, bias is not None, True)
        if source not in r.deferred and (bias is None or r.weight(bias) is not None):
            names = {"weight": source} | ({} if bias is None else {"bias": str(r.parameter(bias))})
            return r.put("linear", op, x, **names)
    if weight.dim() == 1:
        column = r.put("reshape", Reshape((width, 1)), r.of(weight))
        y = r.put("reshape", Reshape(x.shape[:-1]), r.put("matmul", MatMul(), x, column))
        return y if bias is None else r.put("add", Add(), y, r.of(bias))
    return with_weights(r, "linear", Linear(width, out, bias is not None), x, weight=weight, bias=bias)


@rule("addmm", "_addmm_activation")
def _addmm(
    r: TorchReader, self: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1, **_: Any
) -> Value:
    if beta != 1 or alpha != 1:
        raise NotImplementedError("scaled sums")
    name = r.weight(mat2)
    if name is None:
        y = r.put("matmul", MatMul(), r.of(mat1), r.of(mat2))
        return r.put("add", Add(), y, r.of(self))
    width, out = r.sizes(mat2.shape)
    biased = r.weight(self) is not None and r.sizes(self.shape) == (out,)
    y = _by_matrix(r, mat1, mat2, self if biased else None, width, out)
    return y if biased else r.put("add", Add(), y, r.of(self))


@rule("mm")
def _mm(r: TorchReader, self: Any, mat2: Any, **_: Any) -> Value:
    if r.weight(mat2) is None:
        return r.put("matmul", MatMul(), r.of(self), r.of(mat2))
    return _by_matrix(r, self, mat2, None, *r.sizes(mat2.shape))


def _by_matrix(r: TorchReader, x: Any, weight: Any, bias: Any, width: Any, out: Any) -> Value:
    """x W + b for a parameter stored [in, out], or the transpose of one stored [out, in]."""
    name = r.weight(weight)
    assert name is not None
    turned = name in r.deferred and r.constants[name].turned
    source = r.deferred[name][1] if turned else name
    if name in r.deferred and (not turned or source in r.deferred):
        y = r.put("matmul", MatMul(), r.of(x), r.of(weight))
        return y if bias is None else r.put("add", Add(), y, r.of(bias))
    names = {"weight": source} | ({} if bias is None else {"bias": str(r.parameter(bias))})
    return r.put("linear", Linear(width, out, bias is not None, not turned), r.of(x), **names)


@rule("bmm", "matmul")
def _matmul(r: TorchReader, a: Any, b: Any, **_: Any) -> Value:
    if b.dim() == 2 and a.dim() >= 2 and r.weight(b) is not None:
        return _by_matrix(r, a, b, None, *r.sizes(b.shape))
    x, y = r.of(a), r.of(b)
    if a.dim() == 1:
        x = r.put("reshape", Reshape((1, *x.shape)), x)
    if b.dim() == 1:
        y = r.put("reshape", Reshape((*y.shape, 1)), y)
    made = r.put("matmul", MatMul(), x, y)
    if a.dim() == 1:
        made = r.put("reshape", Reshape((*made.shape[:-2], made.shape[-1])), made)
    return r.put("reshape", Reshape(made.shape[:-1]), made) if b.dim() == 1 else made


@rule("baddbmm")
def _baddbmm(
    r: TorchReader, self: Any, batch1: Any, batch2: Any, *, beta: Any = 1, alpha: Any = 1, **_: Any
) -> Value:
    y = r.put("matmul", MatMul(), r.of(batch1), r.of(batch2))
    y = y if alpha == 1 else r.put("mul", Mul(scalar=float(alpha)), y)
    if beta == 0:
        return y
    added = r.of(self)
    added = added if beta == 1 else r.put("mul", Mul(scalar=float(beta)), added)
    return r.put("add", Add(), y, added)


@rule("mv", "dot")
def _vector(r: TorchReader, self: Any, other: Any, **_: Any) -> Value:
    return _matmul(r, self, other)


@rule("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution")
def _convolution(
    r: TorchReader, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, *_: Any,
) -> Value:  # fmt: skip
    x, shape = r.of(input), r.sizes(weight.shape)
    n, unbatched = len(shape) - 2, input.dim() == len(shape) - 1
    if unbatched:
        x = r.put("reshape", Reshape((1, *x.shape)), x)
    stride, padding, dilation, output_padding = (
        tuple(v) * (n if len(v) == 1 else 1) for v in (stride, padding, dilation, output_padding)
    )
    kernel, biased = shape[2:], bias is not None
    if transposed:
        made: Any = (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)[n - 1]
        channels, rest = (shape[0], shape[1] * groups), (groups, biased, dilation)
        op = made(*channels, kernel, stride, padding, output_padding, *rest)
    elif n == 1:
        op = Conv1d(
            shape[1] * groups, shape[0], kernel[0], stride[0], padding[0], dilation[0], groups, biased
        )
    else:
        made = Conv2d if n == 2 else Conv3d
        op = made(shape[1] * groups, shape[0], kernel, stride, padding, dilation, groups, biased)
    y = with_weights(r, "conv", op, x, weight=weight, bias=bias)
    return r.put("reshape", Reshape(y.shape[1:]), y) if unbatched else y


@rule("batch_norm")
def _batch_norm(
    r: TorchReader, input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any, training: bool,
    momentum: float, eps: float, *_: Any,
) -> Any:  # fmt: skip
    x = r.of(input)
    if running_mean is None:
        return _scaled(r, _by_own_statistics(r, x, float(eps)), weight, bias)
    held = {"running_mean": running_mean, "running_var": running_var}
    if (weight is None) != (bias is None):
        plain = with_weights(r, "norm", BatchNorm(x.shape[1], float(eps), affine=False), x, **held)
        return _scaled(r, plain, weight, bias)
    op = BatchNorm(x.shape[1], float(eps), affine=weight is not None)
    return with_weights(r, "norm", op, x, weight=weight, bias=bias, **held)


def _by_own_statistics(r: TorchReader, x: Value, eps: float) -> Value:
    """Each channel less its mean over its deviation, both of this batch."""
    if x.tensor.rank > 2 and is_int(x.shape[0]) and x.shape[0] == 1:
        return r.put("norm", InstanceNorm(x.shape[1], eps, False), x)
    over = (0, *range(2, x.tensor.rank))
    mean = r.put("mean", Reduce(over, True, "mean"), x)
    spread = r.put("add", Add(scalar=eps), r.put("var", Reduce(over, True, "var"), x))
    return r.put("div", Div(), r.put("sub", Sub(), x, mean), r.put("sqrt", Activation("sqrt"), spread))


def _scaled(r: TorchReader, y: Value, weight: Any, bias: Any) -> Value:
    """y times a number and plus a number for each channel."""
    for kind, op, t in (("mul", Mul(), weight), ("add", Add(), bias)):
        if t is not None:
            rows = r.put("reshape", Reshape((y.shape[1], *[1] * (y.tensor.rank - 2))), r.of(t))
            y = r.put(kind, op, y, rows)
    return y


@rule(
    "native_batch_norm",
    "cudnn_batch_norm",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit",
)
def _native_batch_norm(
    r: TorchReader, input: Any, weight: Any, bias: Any, running_mean: Any = None, running_var: Any = None,
    *rest: Any,
) -> Any:  # fmt: skip
    y = _batch_norm(r, input, weight, bias, running_mean, running_var, False, 0.1, rest[-1])
    return (y, None, None)


@rule("layer_norm")
def _layer_norm(
    r: TorchReader,
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Any:
    return _native_layer_norm(r, input, normalized_shape, weight, bias, eps)[0]


@rule("group_norm")
def _whole_group_norm(
    r: TorchReader,
    input: Any,
    num_groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    *_: Any,
) -> Any:
    return _group_norm(r, input, weight, bias, None, input.shape[1], None, num_groups, eps)[0]


@rule("instance_norm")
def _instance_norm(
    r: TorchReader, input: Any, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    use_input_stats: bool,
    momentum: float, eps: float, *_: Any,
) -> Any:  # fmt: skip
    if not use_input_stats:
        return _batch_norm(r, input, weight, bias, running_mean, running_var, False, momentum, eps)
    op = InstanceNorm(r.size(input.shape[1]), float(eps), weight is not None)
    return with_weights(r, "norm", op, r.of(input), weight=weight, bias=bias)


@rule("native_layer_norm")
def _native_layer_norm(
    r: TorchReader, input: Any, normalized_shape: Any, weight: Any, bias: Any, eps: float
) -> Any:
    x, over = r.of(input), len(normalized_shape)
    width = prod(r.sizes(normalized_shape))
    lead = x.shape[: x.tensor.rank - over]
    flat = x if over == 1 else r.put("reshape", Reshape((*lead, width)), x)
    if weight is None or over > 1:
        y = r.put("norm", LayerNorm(width, eps, False, affine=False), flat)
        y = y if over == 1 else r.put("reshape", Reshape(x.shape), y)
        if weight is not None:
            y = r.put("mul", Mul(), y, r.of(weight))
            y = y if bias is None else r.put("add", Add(), y, r.of(bias))
    else:
        y = with_weights(r, "norm", LayerNorm(width, eps, bias is not None), x, weight=weight, bias=bias)
    return (y, None, None)


@rule("rms_norm")
def _rms_norm(r: TorchReader, input: Any, normalized_shape: Any, weight: Any = None, eps: Any = None) -> Any:
    x = r.of(input)
    if len(normalized_shape) != 1:
        raise NotImplementedError("over several dimensions")
    width = r.size(normalized_shape[0])
    op = RMSNorm(width, 1.1920929e-07 if eps is None else float(eps), affine=weight is not None)
    return with_weights(r, "norm", op, x, weight=weight)


@rule("native_group_norm")
def _group_norm(
    r: TorchReader, input: Any, weight: Any, bias: Any, n: Any, c: Any, hw: Any, group: int, eps: float
) -> Any:
    x = r.of(input)
    op = GroupNorm(group, r.size(c), eps, affine=weight is not None)
    return (with_weights(r, "norm", op, x, weight=weight, bias=bias), None, None)


@rule("embedding")
def _embedding(r: TorchReader, weight: Any, indices: Any, *_: Any, **__: Any) -> Value:
    rows, width = r.sizes(weight.shape)
    return with_weights(r, "embedding", Embedding(rows, width), r.of(indices), weight=weight)


@rule("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(
    r: TorchReader, weight: Any, indices: Any, offsets: Any, scale_grad_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, per_sample_weights: Any = None, include_last_offset: bool = False, *_: Any,
) -> Any:  # fmt: skip
    """Ragged bags are taken as long as they are on average."""
    x = r.of(indices)
    rows, width = r.sizes(weight.shape)
    bags, total = r.size(offsets.shape[0]) - int(include_last_offset), x.shape[0]
    if not (is_int(total) and is_int(bags)):
        each = total / bags
    elif total % bags:
        raise NotImplementedError("bags of several lengths")
    else:
        each = total // bags
    if mode == 2:
        raise NotImplementedError("the largest of rows")
    x = r.put("reshape", Reshape((bags, each)), x)
    if per_sample_weights is not None:
        table = with_weights(r, "embedding", Embedding(rows, width), x, weight=weight)
        by = r.put("reshape", Reshape((bags, each, 1)), r.of(per_sample_weights))
        rows = r.put("mul", Mul(), table, by)
        return (r.put("sum", Reduce(1, False, "sum"), rows), None, None, None)
    op = EmbeddingBag(rows, width, "mean" if mode == 1 else "sum")
    return (with_weights(r, "embedding_bag", op, x, weight=weight), None, None, None)


@rule("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu",
      "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention")  # fmt: skip
def _attention(
    r: TorchReader, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: Any = None, enable_gqa: bool = False, **_: Any,
) -> Value:  # fmt: skip
    q, k, v = (r.of(t) for t in (query, key, value))
    lead = q.shape[:-2]

    def four(x: Value) -> Value:
        """[batch, heads, tokens, width], whatever there is before."""
        if x.tensor.rank == 4:
            return x
        before = x.shape[:-2]
        target = (prod(before[:-1]), before[-1]) if len(before) >= 2 else (1, prod(before))
        return r.put("reshape", Reshape((*target, *x.shape[-2:])), x)

    queries, keys = q.shape[-2], k.shape[-2]
    causal = bool(is_causal) and queries == keys
    op = Attention(causal=causal, scale=None if scale is None else float(scale))
    more = []
    if attn_mask is not None:
        mask = r.of(attn_mask)
        if mask.tensor.rank < 4:
            mask = r.put("reshape", Reshape((*[1] * (4 - mask.tensor.rank), *mask.shape)), mask)
        more.append(mask)
    y = r.put("attention", op, four(q), four(k), four(v), *more)
    wanted = (*lead, queries, v.shape[-1])
    return y if y.tensor.rank == len(wanted) else r.put("reshape", Reshape(wanted), y)


def _recurrent(cls: Any, states: int, **options: Any) -> Rule:
    def recurrent(r: TorchReader, input: Any, *arguments: Any) -> Any:
        if isinstance(arguments[1], (list, tuple)):
            hx, params, biased, layers, _, _, both, first = arguments
            ragged = False
        else:
            # packed: data, batch sizes, hx, params, ...
            _, hx, params, biased, layers, _, _, both = arguments
            ragged, first = True, False
        x = r.of(input)
        if ragged:
            x = r.put("reshape", Reshape((1, *x.shape)), x)
        width, each = r.size(params[0].shape[1]), 4 if biased else 2
        hidden = r.size(params[1].shape[1])
        if len(params) != each * layers * (2 if both else 1):
            raise NotImplementedError("projected states")
        op = cls(width, hidden, layers, biased, both, final=True, **options)
        names = dict(zip(_order(layers, both, biased), params, strict=True))
        if not first and not ragged:
            # the same elements, batch first: no arithmetic depends on which comes first
            x = r.put("transpose", Transpose((1, 0, 2), view=True), x)
        y, *last = with_weights(r, op.kind, op, x, **names)
        if ragged:
            # counted as one sequence of all the steps, which is what is computed
            return (
                r.put("reshape", Reshape(y.shape[1:]), y),
                *[_as(r, t, held) for t, held in zip(last, _list(hx), strict=True)],
            )
        return (y if first else r.put("transpose", Transpose((1, 0, 2), view=True), y), *last)

    return recurrent


def _list(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def _as(r: TorchReader, value: Value, t: Any) -> Value:
    """A state of packed sequences has the size of the batch."""
    return r.put("expand", Expand(r.sizes(t.shape)), value)


def _order(layers: int, both: bool, biased: bool) -> list[str]:
    """Names of a recurrent module's weights in the order PyTorch passes them."""
    found = []
    for layer in range(layers):
        for suffix in ("", "_reverse")[: 2 if both else 1]:
            kinds = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if biased else [])]
            found += [f"{kind}_l{layer}{suffix}" for kind in kinds]
    return found


@rule("_softmax", "softmax", "_safe_softmax", "special_softmax")
def _softmax(r: TorchReader, self: Any, dim: int, *_: Any, **__: Any) -> Value:
    return r.put("softmax", Softmax(dim), r.of(self))


@rule("_log_softmax", "log_softmax", "special_log_softmax")
def _log_softmax(r: TorchReader, self: Any, dim: int, *_: Any, **__: Any) -> Value:
    return r.put("softmax", Softmax(dim, True), r.of(self))


@rule("dropout", "feature_dropout", "alpha_dropout", "dropout_")
def _dropout(r: TorchReader, input: Any, p: float, train: bool) -> Any:
    if train and p > 0:
        kept = r.put("full", Full(r.sizes(input.shape), 1.0, "bool"))
        scaled = r.put("mul", Mul(scalar=1 / max(1 - float(p), 1e-6)), r.of(input))
        return r.put("dropout", Where(b=0.0), kept, scaled)
    return r.of(input)


@rule("glu")
def _glu(r: TorchReader, self: Any, dim: int = -1) -> Value:
    x = r.of(self)
    half = x.shape[dim] // 2
    a, b = r.put("split", Split((half, half), dim % x.tensor.rank), x)
    return r.put("mul", Mul(), a, r.put("sigmoid", Activation("sigmoid"), b))


@rule("_grouped_mm", "grouped_mm", "transformers::grouped_mm_fallback")
def _grouped_mm(
    r: TorchReader, self: Any, mat2: Any, offs: Any = None, bias: Any = None, out_dtype: Any = None
) -> Value:
    """Rows in groups, each with a matrix of its own: every row meets one matrix."""
    a, b = r.of(self), r.of(mat2)
    if a.tensor.rank == 3:
        return r.put("matmul", MatMul(), a, b)
    if offs is None or a.tensor.rank != 2 or b.tensor.rank != 3:
        raise NotImplementedError("groups along the inner size")
    y = r.put("grouped_matmul", GroupedMatMul(), a, b, r.of(offs))
    return y if bias is None else r.put("add", Add(), y, r.of(bias))


def _linear_shape(torch: Any, input: Any, weight: Any, bias: Any = None) -> Any:
    if weight.dim() != 2 or input.dim() < 1 or input.shape[-1] != weight.shape[1]:
        return NotImplemented
    return input.new_empty((*input.shape[:-1], weight.shape[0]))


def _attention_shape(torch: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        return NotImplemented
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


def _same_shape(torch: Any, input: Any, *_: Any, **__: Any) -> Any:
    return torch.empty_like(input)


def _in_order(torch: Any, input: Any, *_: Any, **__: Any) -> Any:
    """What is written as it comes, however the input lay."""
    return input.new_empty(tuple(input.shape))


def _grouped_shape(torch: Any, a: Any, b: Any, *_: Any, **__: Any) -> Any:
    if a.dim() != 2 or b.dim() != 3 or a.shape[1] != b.shape[1]:
        return NotImplemented
    return a.new_empty((a.shape[0], b.shape[2]))


def _recurrent_shape(torch: Any, input: Any, hx: Any, params: Any, *rest: Any) -> Any:
    held = _list(hx)
    if not isinstance(params, (list, tuple)) or len({t.shape[-1] for t in held}) > 1 or input.dim() != 3:
        return NotImplemented
    if input.shape[-1] != params[0].shape[1]:
        return NotImplemented
    out = input.new_empty((*input.shape[:2], held[0].shape[2] * (2 if rest[4] else 1)))
    return (out, *[torch.empty_like(t) for t in held])


# Calls whose result is only shaped when there is no data: name -> what gives it, or NotImplemented for
# what PyTorch is to refuse itself.
SHAPED = {
    "aten::linear": _linear_shape,
    "aten::scaled_dot_product_attention": _attention_shape,
    "aten::batch_norm": _same_shape,
    "aten::layer_norm": _in_order,
    "aten::group_norm": _same_shape,
    "aten::_grouped_mm": _grouped_shape,
    "transformers::grouped_mm_fallback": _grouped_shape,
    **{f"aten::{name}": _recurrent_shape for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
for _name, _made in {"lstm": (LSTM, 2), "gru": (GRU, 1), "rnn_tanh": (RNN, 1)}.items():
    RULES[f"aten::{_name}"] = _recurrent(*_made)
RULES["aten::rnn_relu"] = _recurrent(RNN, 1, nonlinearity="relu")
