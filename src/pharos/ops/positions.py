"""Positions without trained parameters of their own per place: sinusoids, and biases by distance."""

from math import log
from typing import Any

from pharos.graph.op import GATHER, SEQUENTIAL, OnnxWriter, Op, Picker, Saved, Tally, Work, operator
from pharos.graph.tensor import ACTIVATIONS, Tensor
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, is_int

LAYOUTS = ("interleaved", "halves")


@operator(cost="elementwise")
class Sinusoidal(Op):
    """y[B, T, d] = x + p, p[t, 2i] = sin(t / 10000^(2i/d)), p[t, 2i+1] = cos of the same angle.

    One addition an element; the T x d table is constant and stays in the cache.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    Args:
        offset: position of the first token.
        layout: "interleaved" as published, or "halves": all sines, then all cosines.
    """

    offset: Size = 0
    layout: str = "interleaved"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown("layout of sinusoids", str(self.layout), LAYOUTS)

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 3, "needs an input of rank 3", x)
        width = x.shape[2]
        self.need(not is_int(width) or width % 2 == 0, "needs an even number of features", x)
        return x

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(vector_flops=y.numel)

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work()

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def _feature(self, i: int, width: int) -> tuple[int, bool]:
        """(frequency number, whether it is a cosine) of feature i."""
        if self.layout == "interleaved":
            return i // 2, i % 2 == 1
        return i % (width // 2), i >= width // 2

    def loops(self, tally: Tally, x: Any) -> Any:
        import numpy as np

        y, width = np.empty_like(x), x.shape[2]
        for b, t, i in np.ndindex(*x.shape):
            which, cosine = self._feature(i, width)
            angle = (t + self.offset) / 10000 ** (2 * which / width)
            y[b, t, i] = x[b, t, i] + (np.cos(angle) if cosine else np.sin(angle))
        return y

    def torch(self, torch: Any) -> Any:
        def add(x: Any) -> Any:
            tokens, width = x.shape[1:]
            at = torch.arange(tokens, device=x.device, dtype=torch.float64)[:, None] + self.offset
            which = torch.arange(width // 2, device=x.device, dtype=torch.float64)
            angle = at / 10000 ** (2 * which / width)
            parts = (angle.sin(), angle.cos())
            joined = torch.stack(parts, 2).flatten(1) if self.layout == "interleaved" else torch.cat(parts, 1)
            return x + joined.to(x.dtype)

        return add

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        import numpy as np

        _, tokens, width = w.node.ins[0].shape
        parts = [self._feature(i, width) for i in range(width)]
        speed = 10000.0 ** (-2 * np.array([which for which, _ in parts]) / width)
        angle = (np.arange(tokens) + int(self.offset))[:, None] * speed
        cosine = np.array([cosine for _, cosine in parts])
        return w("Add", x, w.table(np.where(cosine, np.cos(angle), np.sin(angle))))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        x = Tensor((pick.size(1, 2), pick.size(1, 4), 2 * pick.size(1, 3)))
        return cls(pick.size(1, 5), pick.choice(LAYOUTS)), [x]


@operator(cost="gather")
class BucketedBias(Op):
    """y[1, H, T, S] = weight[bucket(s - t), h]: what a distance between tokens adds to the scores.

    Small distances have a bucket each, larger ones share buckets whose width grows with the logarithm
    of the distance, and all beyond max_distance share the last; half of the buckets are for each side
    if keys lie on both. Queries are the last T of the S tokens. No arithmetic is counted: buckets depend
    on nothing but positions. Source: Raffel et al. 2020, arXiv:1910.10683, section 2.1.
    """

    heads: Size
    queries: Size
    keys: Size
    both_sides: bool = True
    buckets: int = 32
    max_distance: int = 128

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(not inputs, "takes no input", *inputs)
        return Tensor((1, self.heads, self.queries, self.keys), ACTIVATIONS)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.buckets, self.heads)}

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        return Work(vector_flops=io[-1].numel)

    def saved(self, *io: Tensor) -> Saved:
        return Saved()

    def primitives(self, y: Tensor) -> dict[str, Size]:
        return {GATHER: y.numel, SEQUENTIAL: y.numel}

    def bucket(self, distance: int) -> int:
        """Bucket of a key `distance` tokens after the query."""
        buckets, first = self.buckets, 0
        if self.both_sides:
            buckets //= 2
            first = buckets if distance > 0 else 0
            far = abs(distance)
        else:
            far = max(-distance, 0)
        exact = buckets // 2
        if far < exact:
            return first + far
        grown = exact + int(log(far / exact) / log(self.max_distance / exact) * (buckets - exact))
        return first + min(grown, buckets - 1)

    def loops(self, tally: Tally, *, weight: Any) -> Any:
        import numpy as np

        y = np.empty((1, self.heads, self.queries, self.keys), weight.dtype)
        for h, t, s in np.ndindex(*y.shape[1:]):
            y[0, h, t, s] = weight[self.bucket(s - t - (self.keys - self.queries)), h]
        return y

    def torch(self, torch: Any) -> Any:
        first, keys = self.keys - self.queries, self.keys
        rows = [[self.bucket(s - t - first) for s in range(keys)] for t in range(self.queries)]
        index, shape = torch.tensor(rows, dtype=torch.int64), (self.buckets, self.heads)

        class Bias(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(shape))

            def forward(self) -> Any:
                return self.weight[index.to(self.weight.device)].permute(2, 0, 1)[None]

        return Bias()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        import numpy as np

        first, keys = self.keys - self.queries, self.keys
        buckets = np.array([self.bucket(d) for d in range(1 - keys, keys)], np.int64)
        distance = np.arange(keys) - np.arange(self.queries)[:, None] - first
        rows = w("Gather", w.parameter("weight"), w.table(buckets[distance + keys - 1]))
        return w("Unsqueeze", w("Transpose", rows, perm=(2, 0, 1)), w.ints(0))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        queries = pick.size(1, 4)
        keys = queries + pick.size(0, 6)
        op = cls(pick.size(1, 2), queries, keys, pick.choice([True, False]), 4 * pick.int(1, 3), 20)
        return op, []
