"""Probes: small random networks whose operators, timed one by one, tell what a machine does with any size.

They are drawn, not taken from the catalogue: no network of it is among them. Each puts its operators in the
company they keep in real networks, with weights that other operators have pushed aside and activations that
were just written, which loops over one operator do not show.
"""

from collections.abc import Iterator
from random import Random

from pharos.graph.graph import Builder, Graph, Value
from pharos.ops.activation import Activation, Softmax
from pharos.ops.additive import AttentiveGRU
from pharos.ops.attention import Attention
from pharos.ops.conv import Conv1d, Conv2d
from pharos.ops.elementwise import Add, Mul
from pharos.ops.embedding import Embedding, EmbeddingBag
from pharos.ops.linear import Linear, MatMul
from pharos.ops.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from pharos.ops.pooling import AvgPool2d, GlobalAvgPool, MaxPool2d
from pharos.ops.recurrent import GRU, LSTM, RNN
from pharos.ops.shape_ops import Concat, Flatten, Reshape, Transpose

# The most multiply-accumulates of one operator: its time must leave room for others.
HEAVIEST = 0.6e9
# The most numbers of one activation, and of one weight.
LARGEST = 24e6
FUNCTIONS = ("relu", "relu6", "gelu", "silu", "sigmoid", "hardswish", "hardsigmoid", "tanh", "gelu_tanh")
WIDTHS = (8, 16, 24, 32, 40, 48, 64, 80, 96, 112, 128, 160, 192, 256, 320, 384, 480, 512, 640, 768, 1024,
          1280, 1536, 2048)  # fmt: skip


def probes(seed: int = 0) -> Iterator[Graph]:
    """An endless row of networks, of each kind in turn."""
    rng = Random(seed)
    kinds = (_plain, _separable, _encoder, _recurrent, _grouped, _dense, _image, _recommender, _bottleneck,
             _recurrent, _encoder, _tiny, _grouped, _recurrent, _separable, _decoder, _tiny, _plain, _dense,
             _recurrent)  # fmt: skip
    number = 0
    while True:
        for kind in kinds:
            number += 1
            g = Builder(f"probe{number}_{kind.__name__[1:]}")
            yield g.finish(kind(g, rng))


def _batch(rng: Random) -> int:
    return rng.choice((1, 1, 1, 2, 4, 8, 8))


def _image_input(
    g: Builder, rng: Random, channels: int, sides: tuple[int, ...] = (7, 14, 28, 56, 112)
) -> Value:
    batch = _batch(rng)
    fitting = [s for s in sides if batch * channels * s * s <= LARGEST] or [min(sides)]
    side = rng.choice(fitting) + rng.choice((0, 0, 0, 1, 2))
    return g.input("x", (batch, channels, side, side))


def _width(rng: Random, most: float) -> int:
    """A number of channels; some fill no whole vectors."""
    found = rng.choice([w for w in WIDTHS if w <= most] or [8])
    return found - rng.choice((2, 4, 6)) if found > 32 and rng.random() < 0.2 else found


def _conv(
    g: Builder, rng: Random, name: str, x: Value, channels: int, kernel: int, stride: int = 1,
    groups: int = 1, bias: bool = False,
) -> Value:  # fmt: skip
    """A convolution, with fewer channels than asked for where it would be too heavy."""
    batch, width, high, wide = (int(s) for s in x.shape)
    pixels = batch * high * wide / stride**2
    most = HEAVIEST / (pixels * width * kernel**2 / groups)
    if groups == 1:
        channels = min(channels, _width(rng, min(most, LARGEST / pixels)))
    return g(name, Conv2d(width, channels, kernel, stride, kernel // 2, groups=groups, bias=bias), x)


def _ended(g: Builder, rng: Random, x: Value) -> Value:
    """Pooling and a classifier."""
    x = g("pool", GlobalAvgPool(), x)
    return g("fc", Linear(x.shape[1], rng.choice((10, 100, 1000))), x)


def _pool(rng: Random) -> MaxPool2d | AvgPool2d:
    """Windows that halve a map or keep its size."""
    kernel, stride = rng.choice((2, 3, 3, 5)), rng.choice((1, 2, 2))
    pool = MaxPool2d if rng.random() < 0.7 else AvgPool2d
    return pool(kernel, stride, (kernel - 1) // 2)


def _plain(g: Builder, rng: Random) -> Value:
    """3x3 convolutions with batch norm and ReLU, a residual sum, a pool."""
    x = _image_input(g, rng, _width(rng, 640))
    for i in range(2):
        kernel = rng.choice((3, 3, 3, 1, 5))
        x = _conv(g, rng, f"conv{i}", x, _width(rng, 640), kernel, rng.choice((1, 1, 2)))
        x = g(f"norm{i}", BatchNorm(x.shape[1]), x)
        x = g(f"relu{i}", Activation("relu"), x)
    y = _conv(g, rng, "conv3", x, int(x.shape[1]), 3)
    if y.shape[1] == x.shape[1]:
        y = g("add", Add(), y, x)
    y = g("act", Activation(rng.choice(FUNCTIONS)), y)
    if y.shape[2] >= 4:
        y = g("reduced", _pool(rng), y)
    return _ended(g, rng, y)


def _bottleneck(g: Builder, rng: Random) -> Value:
    """1x1, 3x3, 1x1 with a residual sum."""
    wide = _width(rng, 2048)
    x = _image_input(g, rng, wide, (7, 14, 28, 56))
    inner = max(wide // rng.choice((2, 4)), 8)
    y = _conv(g, rng, "conv1", x, inner, 1)
    y = g("relu1", Activation("relu"), g("norm1", BatchNorm(y.shape[1]), y))
    y = _conv(g, rng, "conv2", y, inner, 3)
    y = g("relu2", Activation("relu"), g("norm2", BatchNorm(y.shape[1]), y))
    y = g("conv3", Conv2d(y.shape[1], wide, 1, bias=False), y)
    y = g("add", Add(), g("norm3", BatchNorm(wide), y), x)
    y = g("relu3", Activation("relu"), y)
    if rng.random() < 0.4 and y.shape[2] >= 4:
        y = x = g("reduced", _pool(rng), y)
    if rng.random() < 0.4:
        y = g("cat", Concat(1), y, x)
    return _ended(g, rng, y)


def _separable(g: Builder, rng: Random) -> Value:
    """Inverted residuals: expand, filter depthwise, weigh channels, project."""
    x = _image_input(g, rng, _width(rng, 192), (7, 14, 28, 56))
    function = rng.choice(FUNCTIONS)
    narrow = int(x.shape[1])
    wide = narrow * rng.choice((1, 3, 4, 6))
    y = _conv(g, rng, "expand", x, wide, 1)
    y = g("act0", Activation(function), g("norm0", BatchNorm(y.shape[1]), y))
    wide = int(y.shape[1])
    y = _conv(g, rng, "depthwise", y, wide, rng.choice((3, 3, 5, 7)), rng.choice((1, 1, 2)), groups=wide)
    y = g("act1", Activation(function), g("norm1", BatchNorm(wide), y))
    if rng.random() < 0.6:
        squeeze = max(wide // rng.choice((4, 16)), 4)
        s = g("squeezed", Reshape((x.shape[0], wide, 1, 1)), g("mean", GlobalAvgPool(), y))
        s = g("relu", Activation("relu"), g("fc1", Conv2d(wide, squeeze, 1), s))
        s = g(
            "gate", Activation(rng.choice(("sigmoid", "hardsigmoid"))), g("fc2", Conv2d(squeeze, wide, 1), s)
        )
        y = g("scaled", Mul(), y, s)
    y = g("project", Conv2d(wide, narrow, 1, bias=False), y)
    y = g("norm2", BatchNorm(narrow), y)
    if y.shape == x.shape:
        y = g("add", Add(), y, x)
    return _ended(g, rng, y)


def _grouped(g: Builder, rng: Random) -> Value:
    """Grouped convolutions, a shuffle of channels, a group norm."""
    width = rng.choice((32, 64, 96, 128, 256, 512))
    x = _image_input(g, rng, width, (7, 14, 28, 56))
    batch, _, high, wide = (int(s) for s in x.shape)
    groups = rng.choice((2, 4, 8, 16, 32))
    x = _conv(g, rng, "conv", x, width, rng.choice((1, 3)), groups=groups)
    x = g("norm", BatchNorm(width), x)
    x = g("relu", Activation("relu"), x)
    y = g("split", Reshape((batch, groups, width // groups, high, wide)), x)
    y = g("swap", Transpose((0, 2, 1, 3, 4)), y)
    y = g("merged", Reshape((batch, width, high, wide)), y)
    y = g("group_norm", GroupNorm(groups, width), y)
    for i in range(2):
        y = _conv(g, rng, f"conv1{i}", y, width, 3, groups=rng.choice((2, 4, 8, 16, 32)))
    y = _conv(g, rng, "conv2", y, width, 3, rng.choice((1, 2)), groups=width)
    return _ended(g, rng, y)


def _image(g: Builder, rng: Random) -> Value:
    """The stem of an image network: few channels, many pixels."""
    batch, side = rng.choice((1, 1, 2, 4, 8)), rng.choice((96, 128, 160, 192, 224, 227))
    x = g.input("x", (batch, 3, side, side))
    kernel, stride = rng.choice(((3, 2), (3, 1), (7, 2), (11, 4), (4, 4), (16, 16)))
    channels = 768 if kernel == 16 else rng.choice((16, 24, 32, 48, 64, 96))
    x = g("stem", Conv2d(3, channels, kernel, stride, kernel // 2 if kernel in (3, 7) else 0), x)
    x = g("relu", Activation(rng.choice(("relu", "silu", "hardswish"))), g("norm", BatchNorm(channels), x))
    if x.shape[2] >= 32:
        x = g("pool", _pool(rng), x)
        x = _conv(g, rng, "conv", x, 64, 3)
        x = g("relu2", Activation("relu"), g("norm2", BatchNorm(x.shape[1]), x))
    return x


def _encoder(g: Builder, rng: Random) -> Value:
    """Attention over all positions and a feed-forward part, as encoders of text and images have them."""
    heads, head_dim = rng.choice((3, 4, 6, 8, 12, 16)), rng.choice((32, 64, 64))
    width = heads * head_dim
    batch, tokens = _batch(rng), rng.choice((16, 49, 50, 64, 128, 196, 197, 256, 384))
    while batch * tokens * width > 1.6e6 and batch > 1:
        batch //= 2
    x = g.input("x", (batch, tokens, width))
    y = g("norm1", LayerNorm(width), x)
    parts = []
    for name in ("q", "k", "v"):
        part = g(name, Linear(width, width), y)
        part = g(f"{name}_heads", Reshape((batch, tokens, heads, head_dim)), part)
        parts.append(g(f"{name}_swap", Transpose((0, 2, 1, 3), view=True), part))
    y = g("attention", Attention(), *parts)
    if rng.random() < 0.7:
        # once more, with its own result as queries
        y = g("mixed", Attention(), y, *parts[1:])
    y = g("back", Transpose((0, 2, 1, 3)), y)
    y = g("joined", Reshape((batch, tokens, width)), y)
    x = g("add1", Add(), x, g("out", Linear(width, width), y))
    y = g("up", Linear(width, rng.choice((2, 4)) * width), g("norm2", LayerNorm(width), x))
    y = g("act", Activation(rng.choice(("gelu", "gelu", "relu", "gelu_tanh", "silu"))), y)
    return g("add2", Add(), x, g("down", Linear(y.shape[2], width), y))


def _decoder(g: Builder, rng: Random) -> Value:
    """Token lookup, grouped keys, a gated feed-forward part and scores over a vocabulary."""
    batch, tokens = rng.choice((1, 1, 1, 2, 4)), rng.choice((1, 8, 32, 64, 128, 256))
    group, kv, head_dim = rng.choice((1, 2, 4)), rng.choice((1, 2, 4)), 64
    width = group * kv * head_dim
    rows = int(rng.choice((0.3e6, 1e6, 2e6, 2e6, 8e6)) / width)
    while batch * tokens * width * rows > 2.5 * HEAVIEST and tokens > 1:
        tokens //= 2
    x = g("embed", Embedding(rows, width), g.input("ids", (batch, tokens), "int64"))
    y = g("norm", RMSNorm(width), x)
    parts = []
    for name, count in (("q", group * kv), ("k", kv), ("v", kv)):
        part = g(name, Linear(width, count * head_dim, False), y)
        part = g(f"{name}_heads", Reshape((batch, tokens, count, head_dim)), part)
        parts.append(g(f"{name}_swap", Transpose((0, 2, 1, 3), view=True), part))
    y = g("back", Transpose((0, 2, 1, 3)), g("attention", Attention(causal=True), *parts))
    y = g("out", Linear(width, width, False), g("joined", Reshape((batch, tokens, width)), y))
    x = g("add", Add(), x, y)
    y = g("norm2", RMSNorm(width), x)
    wide = rng.choice((2, 3, 4)) * width
    gate = g("silu", Activation("silu"), g("gate", Linear(width, wide, False), y))
    y = g("down", Linear(wide, width, False), g("gated", Mul(), gate, g("up", Linear(width, wide, False), y)))
    return g("head", Linear(width, rows, False), g("add2", Add(), x, y))


def _dense(g: Builder, rng: Random) -> Value:
    """Fully connected layers, and a product of two activations."""
    batch = rng.choice((1, 1, 4, 8, 16, 32, 64, 128, 256))
    x = g.input("x", (batch, rng.choice((13, 64, 128, 256, 512, 784, 1024, 2048, 4096, 9216))))
    for i in range(3):
        most = min(HEAVIEST / (batch * int(x.shape[1])), rng.choice((2e6, 2e6, LARGEST)) / int(x.shape[1]))
        x = g(
            f"fc{i}",
            Linear(x.shape[1], _width(rng, most) if rng.random() < 0.8 else 4096 if most > 4096 else 10),
            x,
        )
        x = g(f"act{i}", Activation(rng.choice(("relu", "sigmoid", "tanh", "gelu"))), x)
    n = rng.choice((8, 16, 32))
    if int(x.shape[1]) % n == 0:
        y = g("table", Reshape((batch, n, int(x.shape[1]) // n)), x)
        y = g("pairs", MatMul(), y, g("turned", Transpose((0, 2, 1), view=True), y))
        x = g("flat", Flatten(), g("shares", Softmax(), y))
    return x


def _recurrent(g: Builder, rng: Random) -> Value:
    """Cells over a sequence."""
    batch, steps = rng.choice((1, 1, 2, 4, 8, 16)), rng.choice((8, 16, 32, 64, 128, 256, 512, 1024))
    narrow, hidden = rng.choice((16, 40, 64, 100, 128, 256, 512)), rng.choice((32, 64, 128, 200, 256, 512))
    while batch * steps * hidden * (narrow + hidden) * 4 > HEAVIEST and steps > 8:
        steps //= 2
    x = g.input("x", (batch, steps, narrow))
    cell = rng.choice((LSTM, LSTM, GRU, GRU, RNN))
    y = g("cells", cell(narrow, hidden, rng.choice((1, 1, 2)), bidirectional=rng.random() < 0.3), x)
    other = LSTM if cell is not LSTM else GRU
    if rng.random() < 0.25:
        return _attentive(g, rng, y, int(x.shape[1]))
    y = g("more", other(y.shape[2], rng.choice((32, 64, 100, 128)), bidirectional=rng.random() < 0.3), y)
    return g("fc", Linear(y.shape[2], rng.choice((2, 10, 40, 1000))), y)


def _attentive(g: Builder, rng: Random, memory: Value, steps: int) -> Value:
    """Cells that look at what others made of a sequence, one step after the other."""
    sizes = (32, 64, 200, 512)
    align, hidden, narrow = rng.choice(sizes), rng.choice(sizes), rng.choice((32, 128))
    wide, batch = int(memory.shape[2]), int(memory.shape[0])
    key = g("key", Linear(wide, align, False), memory)
    mean = g("mean", GlobalAvgPool(), g("turned", Transpose((0, 2, 1)), memory))
    words = g.input("words", (batch, min(steps, 32), narrow))
    cells = AttentiveGRU(narrow, hidden, wide, align)
    before, context = g("looking", cells, words, key, memory, g("first", Linear(wide, hidden), mean))
    return g("read", Linear(hidden + wide, 10), g("both", Concat(2), before, context))


def _recommender(g: Builder, rng: Random) -> Value:
    """Lookups in tables, their products, a tower."""
    batch = rng.choice((1, 8, 32, 128, 512))
    width, tables = rng.choice((8, 16, 32, 64, 128)), rng.choice((3, 8, 16))
    bags = rng.choice((1, 4, 20))
    found = []
    for i in range(tables):
        ids = g.input(f"ids{i}", (batch, bags), "int64")
        rows = rng.choice((1000, 10_000, 50_000))
        found.append(g(f"table{i}", EmbeddingBag(rows, width), ids))
    x = g("joined", Concat(1), *found)
    y = g("rows", Reshape((batch, tables, width)), x)
    y = g("pairs", MatMul(), y, g("turned", Transpose((0, 2, 1), view=True), y))
    x = g("all", Concat(1), x, g("flat", Flatten(), y))
    x = g("relu", Activation("relu"), g("fc1", Linear(x.shape[1], rng.choice((64, 256, 512))), x))
    return g("sigmoid", Activation("sigmoid"), g("fc2", Linear(x.shape[1], 1), x))


def _smallest(g: Builder, rng: Random) -> Value:
    """Operators that take little more than their start: lookups, narrow layers, cells of a few units."""
    batch, widths = rng.choice((1, 1, 4, 8, 32)), (4, 8, 16, 32, 64)
    ids = [g.input(f"ids{i}", (batch, rng.choice((1, 1, 8))), "int64") for i in range(2)]
    found = []
    for i, each in enumerate(ids):
        width = rng.choice(widths)
        y = g(f"table{i}", Embedding(rng.choice((100, 1000, 10_000)), width), each)
        if rng.random() < 0.3:
            cell = rng.choice((LSTM, GRU, RNN))
            y = g(f"cells{i}", cell(width, width := rng.choice(widths)), y)
        found.append(g(f"flat{i}", Flatten(), y))
    x = g("joined", Concat(1), *found)
    for i in range(rng.choice((2, 4))):
        x = g(f"fc{i}", Linear(x.shape[1], rng.choice(widths)), x)
        x = g(f"act{i}", Activation(rng.choice(("relu", "relu", "sigmoid", "tanh"))), x)
    x = g("scaled", Mul(), x, g("gate", Linear(x.shape[1], x.shape[1]), x))
    return g("shares", Softmax(), g("add", Add(), x, g("last", Linear(x.shape[1], x.shape[1]), x)))


def _tiny(g: Builder, rng: Random) -> Value:
    """What runs on the smallest machines: few channels, small images, and signals in one dimension."""
    way = rng.random()
    if way < 0.4:
        return _smallest(g, rng)
    if way < 0.55:
        x = g.input("x", (_batch(rng), rng.choice((8, 16, 40)), rng.choice((50, 100, 400))))
        y = g("conv", Conv1d(x.shape[1], rng.choice((16, 64, 128)), rng.choice((3, 5, 9)), padding=1), x)
        return g("relu", Activation("relu"), y)
    x = g.input(
        "x", (_batch(rng), rng.choice((1, 3, 8)), rng.choice((25, 32, 49, 96)), rng.choice((10, 32, 96)))
    )
    width = rng.choice((8, 16, 32, 64))
    x = g("conv", Conv2d(x.shape[1], width, 3, rng.choice((1, 2)), 1), x)
    for i in range(2):
        x = g(f"depthwise{i}", Conv2d(width, width, 3, 1, 1, groups=width, bias=False), x)
        x = g(f"relu{i}", Activation("relu"), g(f"norm{i}", BatchNorm(width), x))
        x = g(f"pointwise{i}", Conv2d(width, width, 1, bias=False), x)
        x = g(f"relu{i}b", Activation("relu"), g(f"norm{i}b", BatchNorm(width), x))
    return g("shares", Softmax(), _ended(g, rng, x))
