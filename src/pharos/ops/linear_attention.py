"""Attention without a softmax over tokens: linear attention, and RWKV's with a decay for each channel."""

from typing import Any

from pharos.graph.op import (
    MATMUL,
    REDUCE,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.scan import Carried
from pharos.quantity.sizes import Size, ceil_log2, prod


@operator(cost="attention")
class LinearAttention(Carried):
    """y_t = f(q_t) S_t / f(q_t) z_t, S_t the sum of f(k_s) v_s^T and z_t of f(k_s) over the tokens it sees.

    q, k[B, H, T, d], v[B, H, T, dv] -> y[B, H, T, dv], f(x) = elu(x) + 1. Linear in T: d dv MACs a token
    to take it into S, d dv to read it and d for the denominator, causal (s <= t) or not; what is
    carried is S and z, whatever T. Source: Katharopoulos et al. 2020, arXiv:2006.16236.
    """

    causal: bool = True
    keep: bool = False
    cached: bool = False

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 3 and all(t.rank == 4 for t in inputs), "takes q, k and v", *inputs)
        q, k, v = inputs
        self.match(k.shape[3], q.shape[3], "features of k", *inputs)
        self.match(v.shape[2], k.shape[2], "tokens of v", *inputs)
        self.need(self.causal or not (self.keep or self.cached), "carries a state only if causal", *inputs)
        if self.causal:
            self.match(k.shape[2], q.shape[2], "tokens of k", *inputs)
        return q.with_last(v.shape[3])

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        q, _, v = io[:3]
        return {"s": (*q.shape[:2], q.shape[3], v.shape[3]), "z": (*q.shape[:2], q.shape[3])}

    def work(self, *io: Tensor) -> Work:
        q, k, v = io[:3]
        heads, width, wide = prod(q.shape[:2]), q.shape[3], v.shape[3]
        reads, takes = heads * q.shape[2], heads * k.shape[2]
        return Work(
            macs=takes * width * wide + reads * width * (wide + 1),
            vector_flops=3 * (q.numel + k.numel) + k.numel,
            transcendentals=q.numel + k.numel + reads * wide,
        )

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        q, k, v = io[:3]
        heads, width, wide = prod(q.shape[:2]), q.shape[3], v.shape[3]
        reads, takes = heads * q.shape[2], heads * k.shape[2]
        of_q, of_k, of_v = (int(bool(w)) for w in wanted[:3])
        # S is made again; gradients of q read it, those of k and v read one gathered the other way
        again = takes * width * wide + reads * width
        macs = again + of_q * reads * width * (wide + 1) + max(of_k, of_v) * reads * width * (wide + 1)
        macs = macs + (of_k + of_v) * takes * width * wide
        return Work(
            macs=macs,
            vector_flops=3 * (q.numel + k.numel) + k.numel + 2 * (of_q * q.numel + of_k * k.numel)
            + of_k * k.numel + 3 * reads * wide,
            transcendentals=q.numel + k.numel + 2 * reads * wide,
        )  # fmt: skip

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2), outputs=(0,))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = self.work(*io).macs
        return {MATMUL: macs, SEQUENTIAL: sum(t.numel for t in io), REDUCE: macs}

    def parallelism(self, *io: Tensor) -> Parallelism:
        return Parallelism(width=io[-1].numel, tree=ceil_log2(io[1].shape[2]))

    def loops(self, tally: Tally, *arrays: Any, past_s: Any = None, past_z: Any = None) -> Any:
        import numpy as np

        def feature(x: Any) -> Any:
            return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))

        q, k, v = arrays
        y = np.zeros((*q.shape[:3], v.shape[3]))
        for b, h in np.ndindex(*q.shape[:2]):
            s = np.zeros((q.shape[3], v.shape[3])) if past_s is None else past_s[b, h].copy()
            z = np.zeros(q.shape[3]) if past_z is None else past_z[b, h].copy()

            def take(t: int, b: int = b, h: int = h, s: Any = s, z: Any = z) -> None:
                for i, value in enumerate(feature(k[b, h, t])):
                    z[i] += value
                    for j in range(v.shape[3]):
                        s[i, j] += value * v[b, h, t, j]
                        tally.macs += 1

            for t in range(0 if self.causal else k.shape[2]):
                take(t)
            for t in range(q.shape[2]):
                if self.causal:
                    take(t)
                below = 0.0
                for i, value in enumerate(feature(q[b, h, t])):
                    below += value * z[i]
                    tally.macs += 1
                    for j in range(v.shape[3]):
                        y[b, h, t, j] += value * s[i, j]
                        tally.macs += 1
                y[b, h, t] /= below
        return y

    def torch(self, torch: Any) -> Any:
        def attend(q: Any, k: Any, v: Any, state: Any = None, past_s: Any = None, past_z: Any = None) -> Any:
            if state:
                past_s, past_z = state.get("s"), state.get("z")
            q, k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
            if not self.causal:
                return (q @ (k.transpose(2, 3) @ v)) / (q @ k.sum(2)[..., None])
            s = q.new_zeros(*q.shape[:2], q.shape[3], v.shape[3]) if past_s is None else past_s
            z = q.new_zeros(*q.shape[:2], q.shape[3]) if past_z is None else past_z
            rows = []
            for t in range(q.shape[2]):
                s, z = s + k[:, :, t, :, None] @ v[:, :, t, None], z + k[:, :, t]
                rows.append((q[:, :, t, None] @ s) / (q[:, :, t, None] @ z[..., None]))
            if state is not None and self.keep:
                state.update(s=s, z=z)
            return torch.cat(rows, 2)

        return attend

    def to_onnx(self, w: OnnxWriter, q: str, k: str, v: str) -> str:
        q, k = (w("Add", w("Elu", x), w.number(1)) for x in (q, k))
        if not self.causal:
            above = w("MatMul", q, w("MatMul", w("Transpose", k, perm=(0, 1, 3, 2)), v))
            total = w("Unsqueeze", w("ReduceSum", k, w.ints(2), keepdims=0), w.ints(-1))
            return w("Div", above, w("MatMul", q, total))

        def step(s: str, z: str, q: str, k: str, v: str) -> list[str]:
            s = w("Add", s, w("Mul", w("Unsqueeze", k, w.ints(-1)), w("Unsqueeze", v, w.ints(-2))))
            z, row = w("Add", z, k), w("Unsqueeze", q, w.ints(-2))
            below = w("MatMul", row, w("Unsqueeze", z, w.ints(-1)))
            return [s, z, w("Squeeze", w("Div", w("MatMul", row, s), below), w.ints(-2))]

        one = [t.with_shape(*t.shape[:2], t.shape[3]) for t in w.node.ins]
        held = [(self.before_onnx(w, key), one[0].with_shape(*shape))
                for key, shape in self.carried(*w.node.io).items()]  # fmt: skip
        s, z, y = w.scan(step, held, list(zip((q, k, v), one, strict=True)), [one[2]], axis=2)
        self.after_onnx(w, s=s, z=z)
        return y

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, heads, tokens, width, wide = (pick.size(1, n) for n in (2, 2, 4, 3, 3))
        causal = pick.choice([True, False])
        keep, cached = pick.choice([True, False]), pick.choice([True, False])
        op = cls(causal, causal and keep, causal and cached)
        key = Tensor((batch, heads, tokens, width))
        query = key if causal else Tensor((batch, heads, pick.size(1, 4), width))
        return op, [query, key, Tensor((batch, heads, tokens, wide))]


@operator(cost="elementwise")
class WKV(Carried):
    """RWKV's attention: the mean of v_s weighted by exp(k_s - (t - 1 - s) w), and exp(k_t + u) for itself.

    k, v[B, T, C] -> y[B, T, C], w = exp(time_decay), u = time_first, both learned for every channel. What
    is carried is numerator, denominator and the largest exponent, so that no exponential overflows. An
    element costs, for y and for the next state each, 9 additions, products and comparisons and 2
    exponentials, and y a division. Source: Peng et al. 2023, arXiv:2305.13048, section 3.1.2 and
    appendix D (numerical stability).
    """

    width: Size
    keep: bool = False
    cached: bool = False

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 2 and all(t.rank == 3 for t in inputs), "takes k and v", *inputs)
        for given, name in zip(inputs, "kv", strict=True):
            self.match(given.shape[2], self.width, f"width of {name}", *inputs)
        return inputs[0]

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"time_decay": (self.width,), "time_first": (self.width,)}

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return dict.fromkeys(("above", "below", "largest"), (io[0].shape[0], self.width))

    def work(self, *io: Tensor) -> Work:
        n = io[0].numel
        return Work(vector_flops=18 * n, transcendentals=5 * n + self.width)

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        n = io[0].numel
        # the states again, then the chain back through both weighted means, as its kernel does
        return Work(vector_flops=18 * n + 24 * n, transcendentals=10 * n + 2 * self.width)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1), outputs=(0,))

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        import numpy as np

        k, v = arrays
        w, u, y = np.exp(weights["time_decay"]), weights["time_first"], np.zeros_like(k)
        shape = (k.shape[0], k.shape[2])
        above = weights.get("past_above", np.zeros(shape)).copy()
        below = weights.get("past_below", np.zeros(shape)).copy()
        largest = weights.get("past_largest", np.full(shape, -1e38)).copy()
        for b, t, i in np.ndindex(*k.shape):
            key, value = k[b, t, i], v[b, t, i]
            top = max(largest[b, i], key + u[i])
            old, own = np.exp(largest[b, i] - top), np.exp(key + u[i] - top)
            y[b, t, i] = (old * above[b, i] + own * value) / (old * below[b, i] + own)
            top = max(largest[b, i] - w[i], key)
            old, own = np.exp(largest[b, i] - w[i] - top), np.exp(key - top)
            above[b, i], below[b, i] = old * above[b, i] + own * value, old * below[b, i] + own
            largest[b, i] = top
        return y

    def torch(self, torch: Any) -> Any:
        width, keep = self.width, self.keep

        class Weighted(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.time_decay = torch.nn.Parameter(torch.linspace(-5, 3, width))
                self.time_first = torch.nn.Parameter(torch.ones(width))

            def forward(self, k: Any, v: Any, state: Any = None, **past: Any) -> Any:
                past = {f"past_{key}": value for key, value in state.items()} if state else past
                empty = k.new_zeros(len(k), width)
                above, below = past.get("past_above", empty), past.get("past_below", empty)
                largest = past.get("past_largest", empty - 1e38)
                w, rows = torch.exp(self.time_decay), []
                for t in range(k.shape[1]):
                    first = k[:, t] + self.time_first
                    top = torch.maximum(largest, first)
                    old, own = torch.exp(largest - top), torch.exp(first - top)
                    rows.append((old * above + own * v[:, t]) / (old * below + own))
                    top = torch.maximum(largest - w, k[:, t])
                    old, own = torch.exp(largest - w - top), torch.exp(k[:, t] - top)
                    above, below, largest = old * above + own * v[:, t], old * below + own, top
                if state is not None and keep:
                    state.update(above=above, below=below, largest=largest)
                return torch.stack(rows, 1)

        return Weighted()

    def to_onnx(self, w: OnnxWriter, k: str, v: str) -> str:
        decay, first = w("Exp", w.parameter("time_decay")), w.parameter("time_first")

        def mean(old: str, own: str, above: str, below: str, v: str) -> tuple[str, str, str]:
            """Both weights over the larger exponent: numerator, denominator and that exponent."""
            top = w("Max", old, own)
            old, own = w("Exp", w("Sub", old, top)), w("Exp", w("Sub", own, top))
            return w("Add", w("Mul", old, above), w("Mul", own, v)), w("Add", w("Mul", old, below), own), top

        def step(above: str, below: str, largest: str, k: str, v: str) -> list[str]:
            over, under, _ = mean(largest, w("Add", k, first), above, below, v)
            return [*mean(w("Sub", largest, decay), k, above, below, v), w("Div", over, under)]

        one = w.node.ins[0].with_shape(w.node.ins[0].shape[0], self.width)
        keys = {"above": 0.0, "below": 0.0, "largest": -1e38}
        held = [(self.before_onnx(w, key, empty), one) for key, empty in keys.items()]
        *left, y = w.scan(step, held, [(k, one), (v, one)], [one], axis=1)
        self.after_onnx(w, **dict(zip(keys, left, strict=True)))
        return y

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        width = pick.size(1, 3)
        x = Tensor((pick.size(1, 2), pick.size(1, 4), width))
        return cls(width, pick.choice([True, False]), pick.choice([True, False])), [x, x]
