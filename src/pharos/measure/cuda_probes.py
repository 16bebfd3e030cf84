"""Probes of a GPU: single operators in shapes spread over what networks ask for, none a network's own."""

from collections.abc import Callable, Iterator
from itertools import cycle
from random import Random

from pharos.graph.graph import Builder, Graph
from pharos.graph.op import Op
from pharos.ops.activation import Activation, Softmax
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv2d
from pharos.ops.elementwise import Add, Mul
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear, MatMul
from pharos.ops.norm import BatchNorm, LayerNorm, RMSNorm
from pharos.ops.pooling import AvgPool2d, MaxPool2d
from pharos.ops.shape_ops import Transpose

# The most FLOPs and bytes of one probe: hundreds must fit into a minute.
HEAVIEST, LARGEST = 4e12, 3e9
# Rows at which tiles of matrix units end.
EDGES = (64, 128, 256, 512, 1024, 2048, 4096)


def tiny(precision: str) -> list[Graph]:
    """Ten operators that any GPU ends before its host has sent the next: they time the host."""
    small, image = (4, 64), (1, 16, 8, 8)
    ops: list[tuple[Op, tuple[int, ...], int]] = [
        (Activation("relu"), small, 1), (Activation("gelu"), small, 1), (Add(), small, 2), (Mul(), small, 2),
        (Softmax(), small, 1), (LayerNorm(64), small, 1), (RMSNorm(64), small, 1), (Linear(64, 64), small, 1),
        (Conv2d(16, 16, 3, 1, 1), image, 1), (BatchNorm(16), image, 1),
    ]  # fmt: skip
    return [single(f"tiny_{op.kind}", op, [shape] * count, precision) for op, shape, count in ops]


def cuda_probes(seed: int = 0, narrow: str = "bf16") -> Iterator[Graph]:
    """An endless row of operators, the most telling first: streams, then every class in turn.

    Args:
        narrow: the 16-bit type that the GPU multiplies fastest.
    """
    rng = Random(seed)
    for precision in (narrow, "fp32"):
        for power in range(12, 29, 3):
            yield single("copy", Activation("relu"), [(2**power // 64, 64)], precision)
            yield single("add", Add(), [(2**power // 64, 64)] * 2, precision)
    edge = Random(seed + 1)
    for rows in (1, *(e + d for e in EDGES for d in (0, 1))):
        yield _linear(edge, narrow, rows)
    kinds: tuple[Callable[[Random, str], Graph], ...] = (
        _linear, _prefill, _conv, _decode, _linear, _stream, _conv, _product, _norm, _linear, _conv, _gather,
        _prefill, _softmax, _decode, _pointwise, _depthwise, _pool, _grouped, _copy,
    )  # fmt: skip
    for number, kind in enumerate(cycle(kinds)):
        # attention of 32-bit numbers is not tiled; the rest is asked for in both, 16 bits more often
        both = kind not in (_prefill, _decode)
        yield kind(rng, "fp32" if both and sum(divmod(number, len(kinds))) % 3 == 2 else narrow)


def single(
    name: str, op: Op, shapes: list[tuple[int, ...]], precision: str, dtype: str | None = None
) -> Graph:
    """A graph of one operator."""
    g = Builder(name, precision)
    return g.finish(g("op", op, *[g.input(f"x{i}", shape, dtype) for i, shape in enumerate(shapes)]))


def _log(rng: Random, low: float, high: float) -> int:
    """Between two sizes, alike in every octave."""
    return max(int(2 ** rng.uniform(low, high)), 1)


def _even(rng: Random, low: float, high: float) -> int:
    """Likewise, most of them of a size that memory likes."""
    found = _log(rng, low, high)
    step = 64 if rng.random() < 0.6 else 8 if rng.random() < 0.8 else 1
    return max(found // step * step, step)


def _linear(rng: Random, precision: str, rows: int | None = None) -> Graph:
    m = rows or (1 if rng.random() < 0.08 else _log(rng, 0, 13.5))
    k, n = _even(rng, 5, 14), _even(rng, 5, 14)
    while 2 * m * n * k > HEAVIEST:
        k //= 2
    return single("linear", Linear(k, n, bias=False), [(m, k)], precision)


def _product(rng: Random, precision: str) -> Graph:
    batch, m, n, k = _log(rng, 0, 9), _even(rng, 3, 11), _even(rng, 3, 11), _even(rng, 5, 8)
    while batch * (m * k + k * n + m * n) * 4 > LARGEST / 8:
        batch = max(batch // 2, 1)
        m = max(m // 2, 8)
    return single("product", MatMul(), [(batch, m, k), (batch, k, n)], precision)


def _heads(rng: Random) -> tuple[int, int, int]:
    group = rng.choice((1, 1, 2, 4, 8))
    kv = rng.choice((1, 2, 4, 8, 16))
    return group * kv, kv, rng.choice((64, 64, 128, 128, 128))


def _prefill(rng: Random, precision: str) -> Graph:
    heads, kv, width = _heads(rng)
    tokens = _even(rng, 6, 13)
    batch = max(min(_log(rng, 0, 5), 32768 // tokens), 1)
    while 4 * batch * heads * tokens**2 * width > HEAVIEST:
        tokens //= 2
    keys = (batch, kv, tokens, width)
    op = Attention(causal=rng.random() < 0.7)
    return single("prefill", op, [(batch, heads, tokens, width), keys, keys], precision)


def _decode(rng: Random, precision: str) -> Graph:
    heads, kv, width = _heads(rng)
    batch, length = _log(rng, 0, 8), _even(rng, 6, 15)
    while 4 * batch * kv * length * width > LARGEST / 2:
        batch = max(batch // 2, 1)
        length = max(length // 2, 64)
    keys = (batch, kv, length, width)
    return single("decode", Attention(), [(batch, heads, 1, width), keys, keys], precision)


def _stream(rng: Random, precision: str) -> Graph:
    rows, row = _log(rng, 4, 15), _even(rng, 5, 13)
    kind = rng.choice(("add", "mul", "relu", "gelu", "silu", "tanh"))
    if kind in ("add", "mul"):
        return single(kind, Add() if kind == "add" else Mul(), [(rows, row)] * 2, precision)
    return single(kind, Activation(kind), [(rows, row)], precision)


def _norm(rng: Random, precision: str) -> Graph:
    rows, row = _log(rng, 0, 15), _even(rng, 7, 13)
    if rng.random() < 0.3:
        side, channels = rng.choice((7, 14, 28, 56)), _even(rng, 5, 10)
        return single("batch_norm", BatchNorm(channels), [(_log(rng, 0, 6), channels, side, side)], precision)
    return single("norm", rng.choice((LayerNorm, RMSNorm))(row), [(rows, row)], precision)


def _softmax(rng: Random, precision: str) -> Graph:
    rows, row = _log(rng, 0, 14), _even(rng, 5, 15)
    while rows * row > 2**28:
        rows = max(rows // 2, 1)
    return single("softmax", Softmax(), [(rows, row)], precision)


def _gather(rng: Random, precision: str) -> Graph:
    count, width = _log(rng, 4, 18), rng.choice((32, 64, 128, 768, 1024, 4096))
    rows = _log(rng, 12, 20)
    while rows * width > 2**28 or count * width > 2**28:
        rows, count = max(rows // 2, 1), max(count // 2, 1)
    return single("gather", Embedding(rows, width), [(1, count)], precision, "int64")


def _image(rng: Random, channels: int) -> tuple[int, int, int, int]:
    side = rng.choice((7, 14, 28, 56, 112)) + rng.choice((0, 0, 0, 1))
    batch = _log(rng, 0, 6.5)
    while batch * channels * side * side > 2**28:
        batch = max(batch // 2, 1)
        side = max(side // 2, 7)
    return batch, channels, side, side


def _fitting(shape: tuple[int, int, int, int], c_out: int, taps: int) -> tuple[int, int, int, int]:
    """The images of a batch that stay below the heaviest."""
    batch, channels, high, wide = shape
    while batch > 1 and 2 * batch * channels * c_out * taps * high * wide > HEAVIEST / 4:
        batch //= 2
    return batch, channels, high, wide


def _conv(rng: Random, precision: str) -> Graph:
    if rng.random() < 0.12:
        kernel, stride = rng.choice(((3, 1), (3, 2), (7, 2), (4, 4), (16, 16)))
        shape, c_out = (_log(rng, 0, 6), 3, 224, 224), rng.choice((32, 64, 96, 768))
        pad = kernel // 2 if stride < kernel else 0
        return single("stem", Conv2d(3, c_out, kernel, stride, pad, bias=False), [shape], precision)
    c_in, c_out, kernel = _even(rng, 4, 10), _even(rng, 4, 10), rng.choice((3, 3, 3, 3, 5, 7))
    shape = _fitting(_image(rng, c_in), c_out, kernel**2)
    op = Conv2d(c_in, c_out, kernel, rng.choice((1, 1, 1, 2)), kernel // 2, bias=False)
    return single("conv", op, [shape], precision)


def _pointwise(rng: Random, precision: str) -> Graph:
    c_in, c_out = _even(rng, 4, 11), _even(rng, 4, 11)
    return single(
        "pointwise", Conv2d(c_in, c_out, 1, bias=False), [_fitting(_image(rng, c_in), c_out, 1)], precision
    )


def _grouped(rng: Random, precision: str) -> Graph:
    groups, width = rng.choice((2, 4, 8, 32)), rng.choice((64, 128, 256, 512))
    op = Conv2d(width, width, 3, rng.choice((1, 1, 2)), 1, groups=groups, bias=False)
    return single("grouped", op, [_fitting(_image(rng, width), width // groups, 9)], precision)


def _depthwise(rng: Random, precision: str) -> Graph:
    width, kernel = _even(rng, 5, 10), rng.choice((3, 3, 5, 7))
    op = Conv2d(width, width, kernel, rng.choice((1, 1, 2)), kernel // 2, groups=width, bias=False)
    return single("depthwise", op, [_image(rng, width)], precision)


def _pool(rng: Random, precision: str) -> Graph:
    kind, size = rng.choice((MaxPool2d, MaxPool2d, AvgPool2d)), rng.choice((2, 3))
    return single("pool", kind(size, 2), [_image(rng, _even(rng, 5, 10))], precision)


def _copy(rng: Random, precision: str) -> Graph:
    batch, heads, tokens, width = (
        _log(rng, 0, 5),
        rng.choice((4, 12, 16, 32)),
        _even(rng, 4, 11),
        rng.choice((64, 128)),
    )
    return single("copy", Transpose((0, 2, 1, 3)), [(batch, tokens, heads, width)], precision)
