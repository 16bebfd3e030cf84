"""Additive attention, alone and inside the recurrence that asks with its own state; AUGRU."""

from typing import Any

from pharos.graph.op import (
    BROADCAST,
    MATMUL,
    REDUCE,
    SEQUENTIAL,
    OnnxWriter,
    Op,
    Parallelism,
    Picker,
    Saved,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.linear import affine_onnx
from pharos.quantity.sizes import Size, ceil_log2


def _sigmoid(np: Any, x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _matvec(tally: Tally, np: Any, matrix: Any, vector: Any) -> Any:
    y = np.zeros(len(matrix))
    for row in range(len(matrix)):
        for k in range(len(vector)):
            y[row] += matrix[row, k] * vector[k]
            tally.macs += 1
    return y


def _look(tally: Tally, np: Any, asked: Any, keys: Any, values: Any, v: Any) -> Any:
    """Weighted mean of `values`, the weights a softmax of v . tanh(asked + key)."""
    scores = np.zeros(len(keys))
    for s in range(len(keys)):
        for a in range(len(v)):
            scores[s] += v[a] * np.tanh(asked[a] + keys[s, a])
            tally.macs += 1
    shares = np.exp(scores - scores.max())
    shares = shares / shares.sum()
    y = np.zeros(values.shape[1])
    for s in range(len(keys)):
        for d in range(len(y)):
            y[d] += shares[s] * values[s, d]
            tally.macs += 1
    return y


def _look_work(looks: Size, keys: Size, align: Size, width: Size) -> Work:
    """`looks` queries over `keys` keys: a sum and a tanh a score's feature, a softmax, the mean."""
    pairs = looks * keys
    return Work(
        macs=pairs * (align + width),
        vector_flops=pairs * (align + 3),
        transcendentals=pairs * (align + 2),
    )


def _look_gradient(looks: Size, keys: Size, align: Size, width: Size) -> Work:
    """Scores are made again; then v, the tanh, queries and keys, the shares and the values."""
    pairs = looks * keys
    return Work(
        macs=pairs * (3 * align + 2 * width),
        vector_flops=pairs * (6 * align + 6),
        transcendentals=pairs * (align + 2),
    )


def _look_onnx(w: OnnxWriter, asked: str, keys: str, values: str) -> str:
    """Queries [B, T, A] over keys [B, S, A] and values [B, S, D]."""
    sums = w("Add", w("Unsqueeze", asked, w.ints(2)), w("Unsqueeze", keys, w.ints(1)))
    scores = w("MatMul", w("Tanh", sums), w("Unsqueeze", w.parameter("v"), w.ints(1)))
    return w("MatMul", w("Softmax", w("Squeeze", scores, w.ints(-1)), axis=-1), values)


def _gru_onnx(w: OnnxWriter, x: str, h: str, share: str) -> str:
    """One step of a GRU on [B, I] and [B, H]; with a share, DIEN's scaled update gate."""
    sums = [
        w("Split", w("Gemm", v, w.parameter(f"weight_{k}"), w.parameter(f"bias_{k}"), transB=1),
          outputs=3, axis=1, num_outputs=3)
        for v, k in ((x, "ih"), (h, "hh"))
    ]  # fmt: skip
    (ir, iz, new), (hr, hz, old) = sums
    r, z = w("Sigmoid", w("Add", ir, hr)), w("Sigmoid", w("Add", iz, hz))
    new = w("Tanh", w("Add", new, w("Mul", r, old)))
    if share:
        z = w("Mul", share, z)
        return w("Add", w("Mul", w("Sub", w.number(1), z), h), w("Mul", z, new))
    return w("Add", w("Mul", w("Sub", w.number(1), z), new), w("Mul", z, h))


@operator(cost="attention")
class AdditiveAttention(Op):
    """y_t = sum over s of softmax_s(v . tanh(W q_t + k_s)) value_s, the keys already projected.

    q[B, T, Q], k[B, S, A], value[B, S, D] -> y[B, T, D], W[A, Q], v[A]. macs = B T A Q for W q, then
    A + D a pair of query and key; every pair costs A tanh, which dot products do not.
    Source: Bahdanau, Cho and Bengio 2015, arXiv:1409.0473, appendix A.1.2.
    """

    query_size: Size
    align_size: Size

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 3 and all(t.rank == 3 for t in inputs), "takes q, k and values", *inputs)
        q, k, v = inputs
        self.match(q.shape[2], self.query_size, "query_size", *inputs)
        self.match(k.shape[2], self.align_size, "align_size of k", *inputs)
        self.match(v.shape[1], k.shape[1], "values for keys", *inputs)
        return q.with_last(v.shape[2])

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"weight": (self.align_size, self.query_size), "v": (self.align_size,)}

    def work(self, *io: Tensor) -> Work:
        q, k, v = io[:3]
        looks = q.shape[0] * q.shape[1]
        return Work(macs=looks * self.align_size * self.query_size) + _look_work(
            looks, k.shape[1], self.align_size, v.shape[2]
        )

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        q, k, v = io[:3]
        looks = q.shape[0] * q.shape[1]
        products = looks * self.align_size * self.query_size * (2 + bool(wanted[0]))
        return Work(macs=products) + _look_gradient(looks, k.shape[1], self.align_size, v.shape[2])

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = self.work(*io).macs
        return {MATMUL: macs, SEQUENTIAL: sum(t.numel for t in io), BROADCAST: macs, REDUCE: macs}

    def parallelism(self, *io: Tensor) -> Parallelism:
        return Parallelism(width=io[-1].numel, tree=ceil_log2(io[1].shape[1]))

    def loops(self, tally: Tally, *arrays: Any, weight: Any, v: Any) -> Any:
        import numpy as np

        q, keys, values = arrays
        y = np.zeros((*q.shape[:2], values.shape[2]))
        for b, t in np.ndindex(*q.shape[:2]):
            asked = _matvec(tally, np, weight, q[b, t])
            y[b, t] = _look(tally, np, asked, keys[b], values[b], v)
        return y

    def torch(self, torch: Any) -> Any:
        shape = (self.align_size, self.query_size)

        class Additive(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.randn(shape) * 0.01)
                self.v = torch.nn.Parameter(torch.randn(shape[0]) * 0.01)

            def forward(self, q: Any, k: Any, values: Any) -> Any:
                scores = torch.tanh((q @ self.weight.T)[:, :, None] + k[:, None]) @ self.v
                return scores.softmax(-1) @ values

        return Additive()

    def to_onnx(self, w: OnnxWriter, q: str, k: str, values: str) -> str:
        asked = affine_onnx(w, q, w.parameter("weight"), made=w.node.ins[0].with_last(self.align_size).shape)
        return _look_onnx(w, asked, k, values)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, queries, keys = pick.size(1, 2), pick.size(1, 3), pick.size(1, 4)
        width, align, values = pick.size(1, 3), pick.size(1, 3), pick.size(1, 3)
        given = [(batch, queries, width), (batch, keys, align), (batch, keys, values)]
        return cls(width, align), [Tensor(s) for s in given]


@operator(cost="recurrence")
class AttentiveGRU(Op):
    """A GRU whose every step first looks, with its state, at all of the source: Bahdanau's decoder.

    x[B, T, I], k[B, S, A], memory[B, S, D], first[B, H] -> (before[B, T, H], context[B, T, D]): the
    states before each step and what was looked at. Step t: c = additive attention of s_(t-1) over the
    memory, s_t = GRU([x_t, c], s_(t-1)). No step can begin before the last has ended: depth T, whatever
    the hardware. macs a step = A H + S (A + D) + 3 H (I + D + H).
    Source: Bahdanau, Cho and Bengio 2015, arXiv:1409.0473, appendix A.1.2 and A.2.2.

    Args:
        keep: the last state is kept; cached: it begins with the kept state instead of `first`.
    """

    input_size: Size
    hidden_size: Size
    memory_size: Size
    align_size: Size
    keep: bool = False
    cached: bool = False

    def shape(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        ranks = [t.rank for t in inputs]
        self.need(ranks == [3, 3, 3, 2], "takes x, k, memory and the first state", *inputs)
        x, k, memory, first = inputs
        self.match(x.shape[2], self.input_size, "input_size", *inputs)
        self.match(k.shape[2], self.align_size, "align_size of k", *inputs)
        self.match(memory.shape[2], self.memory_size, "memory_size", *inputs)
        self.match(memory.shape[1], k.shape[1], "memory for keys", *inputs)
        self.match(first.shape[1], self.hidden_size, "hidden_size of the first state", *inputs)
        return x.with_last(self.hidden_size), x.with_last(self.memory_size)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        rows = 3 * self.hidden_size
        return {
            "weight": (self.align_size, self.hidden_size), "v": (self.align_size,),
            "weight_ih": (rows, self.input_size + self.memory_size), "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,), "bias_hh": (rows,),
        }  # fmt: skip

    def state(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"h": (io[0].shape[0], self.hidden_size)} if self.keep or self.cached else {}

    def traffic(self, node: Any) -> Traffic:
        plain = Op.traffic(self, node)
        return Traffic(
            plain.weights, plain.inputs, plain.outputs, node.state_bytes * (int(self.keep) + int(self.cached))
        )

    def _step_products(self) -> Size:
        into = self.input_size + self.memory_size
        return self.align_size * self.hidden_size + 3 * self.hidden_size * (into + self.hidden_size)

    def work(self, *io: Tensor) -> Work:
        steps = io[0].shape[0] * io[0].shape[1]
        # as a GRU: two biases and the sum of three gate sums, 7 operations and 5 functions a unit
        cell = Work(
            macs=self._step_products(),
            vector_flops=16 * self.hidden_size,
            transcendentals=5 * self.hidden_size,
        )
        return cell * steps + _look_work(steps, io[1].shape[1], self.align_size, self.memory_size)

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        steps = io[0].shape[0] * io[0].shape[1]
        # inputs of every product are wanted: the state's way back leads through them
        cell = Work(macs=2 * self._step_products(), vector_flops=28 * self.hidden_size)
        return cell * steps + _look_gradient(steps, io[1].shape[1], self.align_size, self.memory_size)

    def saved(self, *io: Tensor) -> Saved:
        x, hidden = io[0], self.hidden_size
        return Saved(inputs=(0, 1, 2), outputs=(0, 1), extra={"gates": x.with_last(4 * hidden)})

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = self.work(*io).macs
        return {MATMUL: macs, SEQUENTIAL: sum(t.numel for t in io), BROADCAST: macs, REDUCE: macs}

    def parallelism(self, *io: Tensor) -> Parallelism:
        batch, steps = io[0].shape[0], io[0].shape[1]
        return Parallelism(width=batch * 3 * self.hidden_size, depth=steps, tree=ceil_log2(self.hidden_size))

    def loops(self, tally: Tally, *arrays: Any, past_h: Any = None, **weights: Any) -> Any:
        import numpy as np

        x, keys, memory, first = arrays
        before = np.zeros((*x.shape[:2], self.hidden_size))
        contexts = np.zeros((*x.shape[:2], self.memory_size))
        for b in range(len(x)):
            h = first[b] if past_h is None else past_h[b]
            for t in range(x.shape[1]):
                asked = _matvec(tally, np, weights["weight"], h)
                context = _look(tally, np, asked, keys[b], memory[b], weights["v"])
                before[b, t], contexts[b, t] = h, context
                given = np.concatenate([x[b, t], context])
                gi = _matvec(tally, np, weights["weight_ih"], given) + weights["bias_ih"]
                gh = _matvec(tally, np, weights["weight_hh"], h) + weights["bias_hh"]
                (ir, iz, new), (hr, hz, old) = np.split(gi, 3), np.split(gh, 3)
                r, z = _sigmoid(np, ir + hr), _sigmoid(np, iz + hz)
                h = (1 - z) * np.tanh(new + r * old) + z * h
        return before, contexts

    def torch(self, torch: Any) -> Any:
        shapes, keep = self.weights(), self.keep

        class Decoder(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, shape in shapes.items():
                    self.register_parameter(name, torch.nn.Parameter(torch.randn(shape) * 0.01))

            def forward(
                self, x: Any, k: Any, memory: Any, first: Any, state: Any = None, past_h: Any = None
            ) -> Any:
                h = state.get("h", first) if state else first if past_h is None else past_h
                before, contexts = [], []
                for t in range(x.shape[1]):
                    scores = torch.tanh((h @ self.weight.T)[:, None] + k) @ self.v
                    context = (scores.softmax(-1)[:, None] @ memory)[:, 0]
                    before.append(h)
                    contexts.append(context)
                    given = torch.cat([x[:, t], context], 1)
                    h = torch.gru_cell(given, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
                if state is not None and keep:
                    state["h"] = h
                return torch.stack(before, 1), torch.stack(contexts, 1)

        return Decoder()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> list[str]:
        x, k, memory, first = inputs
        source, one = w.node.ins[0], w.node.ins[3]
        given, held = one.with_last(self.input_size), one
        looked = one.with_last(self.memory_size)
        weight = w.parameter("weight")

        def step(h: str, x: str) -> list[str]:
            asked = w("Unsqueeze", w("Gemm", h, weight, transB=1), w.ints(1))
            context = w("Squeeze", _look_onnx(w, asked, k, memory), w.ints(1))
            after = _gru_onnx(w, w("Concat", x, context, axis=1), h, "")
            return [after, w("Identity", h), context]

        start = w.past("h", (source.shape[0], self.hidden_size)) if self.cached else first
        h, before, contexts = w.scan(step, [(start, held)], [(x, given)], [held, looked], axis=1)
        if self.keep:
            w.present("h", h, (source.shape[0], self.hidden_size))
        return [before, contexts]

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, steps, keys = pick.size(1, 2), pick.size(1, 3), pick.size(1, 3)
        given, hidden, memory, align = (pick.size(1, 3) for _ in range(4))
        op = cls(given, hidden, memory, align, pick.choice([True, False]), pick.choice([True, False]))
        shapes = [(batch, steps, given), (batch, keys, align), (batch, keys, memory), (batch, hidden)]
        return op, [Tensor(s) for s in shapes]


@operator(cost="recurrence")
class AUGRU(Op):
    """A GRU whose update gate is scaled by a share from outside: z_t = a_t sigmoid(...).

    x[B, T, I], a[B, T] -> y[B, T, H]; h_t = (1 - z_t) h_(t-1) + z_t n_t: what has no share leaves the
    state as it is. As a GRU, with one more product a unit.
    Source: Zhou et al. 2019, arXiv:1809.03672 (DIEN), section 4.3.
    """

    input_size: Size
    hidden_size: Size

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need([t.rank for t in inputs] == [3, 2], "takes x and a share for each step", *inputs)
        x, a = inputs
        self.match(x.shape[2], self.input_size, "input_size", *inputs)
        self.match(a.shape[1], x.shape[1], "shares for steps", *inputs)
        return x.with_last(self.hidden_size)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        rows = 3 * self.hidden_size
        return {
            "weight_ih": (rows, self.input_size), "weight_hh": (rows, self.hidden_size),
            "bias_ih": (rows,), "bias_hh": (rows,),
        }  # fmt: skip

    def work(self, *io: Tensor) -> Work:
        steps, hidden = io[0].shape[0] * io[0].shape[1], self.hidden_size
        return Work(
            macs=steps * 3 * hidden * (self.input_size + hidden),
            vector_flops=steps * 17 * hidden,
            transcendentals=steps * 5 * hidden,
        )

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        steps, hidden = io[0].shape[0] * io[0].shape[1], self.hidden_size
        products = self.input_size * (1 + bool(wanted[0])) + 2 * hidden
        return Work(macs=steps * 3 * hidden * products, vector_flops=steps * 30 * hidden)

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1), outputs=(0,), extra={"gates": io[0].with_last(4 * self.hidden_size)})

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = self.work(*io).macs
        return {MATMUL: macs, SEQUENTIAL: sum(t.numel for t in io), BROADCAST: macs, REDUCE: macs}

    def parallelism(self, *io: Tensor) -> Parallelism:
        batch, steps = io[0].shape[0], io[0].shape[1]
        return Parallelism(width=batch * 3 * self.hidden_size, depth=steps, tree=ceil_log2(self.hidden_size))

    def loops(self, tally: Tally, *arrays: Any, **weights: Any) -> Any:
        import numpy as np

        x, shares = arrays
        y = np.zeros((*x.shape[:2], self.hidden_size))
        for b in range(len(x)):
            h = np.zeros(self.hidden_size)
            for t in range(x.shape[1]):
                gi = _matvec(tally, np, weights["weight_ih"], x[b, t]) + weights["bias_ih"]
                gh = _matvec(tally, np, weights["weight_hh"], h) + weights["bias_hh"]
                (ir, iz, new), (hr, hz, old) = np.split(gi, 3), np.split(gh, 3)
                r, z = _sigmoid(np, ir + hr), shares[b, t] * _sigmoid(np, iz + hz)
                h = (1 - z) * h + z * np.tanh(new + r * old)
                y[b, t] = h
        return y

    def torch(self, torch: Any) -> Any:
        shapes = self.weights()

        class Gated(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, shape in shapes.items():
                    self.register_parameter(name, torch.nn.Parameter(torch.randn(shape) * 0.01))

            def forward(self, x: Any, shares: Any) -> Any:
                h, rows = x.new_zeros(len(x), self.weight_hh.shape[1]), []
                for t in range(x.shape[1]):
                    gi = torch.nn.functional.linear(x[:, t], self.weight_ih, self.bias_ih)
                    gh = torch.nn.functional.linear(h, self.weight_hh, self.bias_hh)
                    (ir, iz, new), (hr, hz, old) = gi.chunk(3, 1), gh.chunk(3, 1)
                    r, z = torch.sigmoid(ir + hr), shares[:, t, None] * torch.sigmoid(iz + hz)
                    h = (1 - z) * h + z * torch.tanh(new + r * old)
                    rows.append(h)
                return torch.stack(rows, 1)

        return Gated()

    def to_onnx(self, w: OnnxWriter, x: str, shares: str) -> str:
        source = w.node.ins[0]
        held = source.with_shape(source.shape[0], self.hidden_size)
        given, part = held.with_last(self.input_size), held.with_shape(source.shape[0])

        def step(h: str, x: str, share: str) -> list[str]:
            h = _gru_onnx(w, x, h, w("Unsqueeze", share, w.ints(1)))
            return [h, w("Identity", h)]

        start = w("Expand", w.number(0), w.ints(*held.shape))
        return w.scan(step, [(start, held)], [(x, given), (shares, part)], [held], axis=1)[1]

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, steps, given, hidden = (pick.size(1, 3) for _ in range(4))
        return cls(given, hidden), [Tensor((batch, steps, given)), Tensor((batch, steps))]
