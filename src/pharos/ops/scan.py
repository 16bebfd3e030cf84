"""Linear recurrences of state-space models: Mamba's selective scan and Mamba-2's chunked form of it."""

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
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.quantity.dtypes import nbytes
from pharos.quantity.sizes import Size, ceil_div, ceil_log2, floor_div, is_int


class Carried(Op):
    """What the linear recurrences share: a state of fixed size that a call may leave and take up again.

    Its step is affine in the state, and affine maps compose: unlike a recurrence through a tanh, all
    tokens can be scanned in log2(tokens) levels inside one kernel, which is why `depth` is 1.

    Args:
        keep: the state after the last token is kept for the next call.
        cached: the state of an earlier call is where this one begins.
    """

    __slots__ = ()
    keep: bool
    cached: bool

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        """Shapes of what goes from one token to the next."""
        raise NotImplementedError

    def state(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return self.carried(*io) if self.keep or self.cached else {}

    def traffic(self, node: Any) -> Traffic:
        plain = Op.traffic(self, node)
        passes = int(self.keep) + int(self.cached)
        return Traffic(plain.weights, plain.inputs, plain.outputs, node.state_bytes * passes)

    def parallelism(self, *io: Tensor) -> Parallelism:
        return Parallelism(width=io[-1].numel, tree=ceil_log2(io[0].shape[1]))

    def before_onnx(self, w: OnnxWriter, key: str, empty: float = 0.0) -> str:
        """What an earlier call left under `key`, else a tensor full of `empty`."""
        shape = self.carried(*w.node.io)[key]
        return w.past(key, shape) if self.cached else w("Expand", w.number(empty), w.ints(*shape))

    def after_onnx(self, w: OnnxWriter, **left: str) -> None:
        """Keeps what the next call takes up."""
        if self.keep:
            for key, value in left.items():
                w.present(key, value, self.carried(*w.node.io)[key])


def softplus(np: Any, x: Any) -> Any:
    """log(1 + exp(x)) without overflow."""
    return np.logaddexp(x, 0)


@operator(cost="elementwise")
class SelectiveScan(Carried):
    """h_t = exp(dt_t A) h_(t-1) + dt_t B_t x_t and y_t = C_t h_t + D x_t, a state of N numbers a channel.

    x[B, T, C], dt[B, T, C], b[B, T, N], c[B, T, N] -> y[B, T, C]; A = -exp(A_log). The products C h are
    counted as MACs; a state's number costs a product and an exponential for exp(dt A), a product for
    dt B x, a product and an addition for h; a channel three more operations for dt x and D x.
    Source: Gu and Dao 2023, arXiv:2312.00752, equations 2 and 4 with the discretisation of its code.
    """

    channels: Size
    state_size: Size
    keep: bool = False
    cached: bool = False

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 4 and all(t.rank == 3 for t in inputs), "takes x, dt, b and c", *inputs)
        x, dt, b, c = inputs
        for given, name in ((x, "x"), (dt, "dt")):
            self.match(given.shape[2], self.channels, f"channels of {name}", *inputs)
        for given, name in ((b, "b"), (c, "c")):
            self.match(given.shape[2], self.state_size, f"state_size of {name}", *inputs)
            self.match(given.shape[1], x.shape[1], f"tokens of {name}", *inputs)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"A_log": (self.channels, self.state_size), "D": (self.channels,)}

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"h": (io[0].shape[0], self.channels, self.state_size)}

    def work(self, *io: Tensor) -> Work:
        tokens = io[0].shape[0] * io[0].shape[1]
        states, rates = tokens * self.channels * self.state_size, self.channels * self.state_size
        return Work(
            macs=states,
            vector_flops=4 * states + 3 * tokens * self.channels,
            transcendentals=states + rates,
        )

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        tokens = io[0].shape[0] * io[0].shape[1]
        channels = tokens * self.channels
        states = channels * self.state_size
        # states are computed again; then d(C h) into h and c, and the chain through h, dt A and dt B x
        each = 4 + 2 + 2 + 2 + 2 * sum(map(bool, (wanted[0] or wanted[1], wanted[1], wanted[2])))
        per_channel = 1 + 2 + 2 * bool(wanted[0]) + 2 * bool(wanted[1])
        rates = self.channels * self.state_size
        return Work(
            macs=states * (1 + bool(wanted[3])),
            vector_flops=each * states + per_channel * channels + rates,
            transcendentals=states + rates,
        )

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2, 3))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        states = io[0].numel * self.state_size
        return {MATMUL: states, SEQUENTIAL: sum(t.numel for t in io), REDUCE: states}

    def loops(self, tally: Tally, *arrays: Any, past_h: Any = None, **weights: Any) -> Any:
        import numpy as np

        x, dt, b, c = arrays
        y, a, skip = np.zeros_like(x), -np.exp(weights["A_log"]), weights["D"]
        for batch in range(x.shape[0]):
            h = np.zeros_like(a) if past_h is None else past_h[batch].copy()
            for t in range(x.shape[1]):
                for i in range(x.shape[2]):
                    total = skip[i] * x[batch, t, i]
                    for n in range(a.shape[1]):
                        fed = dt[batch, t, i] * x[batch, t, i] * b[batch, t, n]
                        h[i, n] = np.exp(dt[batch, t, i] * a[i, n]) * h[i, n] + fed
                        total += c[batch, t, n] * h[i, n]
                        tally.macs += 1
                    y[batch, t, i] = total
        return y

    def torch(self, torch: Any) -> Any:
        channels, state_size, keep = self.channels, self.state_size, self.keep

        class Scan(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                rates = torch.arange(1.0, state_size + 1).log()
                self.A_log = torch.nn.Parameter(rates.expand(channels, -1).clone())
                self.D = torch.nn.Parameter(torch.ones(channels))

            def forward(self, x: Any, dt: Any, b: Any, c: Any, state: Any = None, past_h: Any = None) -> Any:
                past_h = state.get("h") if state else past_h
                a = -torch.exp(self.A_log)
                h = x.new_zeros(len(x), channels, state_size) if past_h is None else past_h
                decay, fed = torch.exp(dt[..., None] * a), (dt * x)[..., None] * b[:, :, None]
                rows = []
                for t in range(x.shape[1]):
                    h = decay[:, t] * h + fed[:, t]
                    rows.append((h @ c[:, t, :, None])[..., 0])
                if state is not None and keep:
                    state["h"] = h
                return torch.stack(rows, 1) + self.D * x

        return Scan()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        wide, narrow = (
            w.node.ins[i].with_shape(w.node.ins[i].shape[0], w.node.ins[i].shape[2]) for i in (0, 2)
        )
        rates = w("Neg", w("Exp", w.parameter("A_log")))

        def step(h: str, x: str, dt: str, b: str, c: str) -> list[str]:
            decay = w("Exp", w("Mul", w("Unsqueeze", dt, w.ints(-1)), rates))
            fed = w("Mul", w("Unsqueeze", w("Mul", dt, x), w.ints(-1)), w("Unsqueeze", b, w.ints(1)))
            h = w("Add", w("Mul", decay, h), fed)
            return [h, w("Squeeze", w("MatMul", h, w("Unsqueeze", c, w.ints(-1))), w.ints(-1))]

        held = w.node.ins[0].with_shape(*self.carried(*w.node.io)["h"])
        rows = list(zip(inputs, (wide, wide, narrow, narrow), strict=True))
        h, y = w.scan(step, [(self.before_onnx(w, "h"), held)], rows, [wide], axis=1)
        self.after_onnx(w, h=h)
        return w("Add", y, w("Mul", inputs[0], w.parameter("D")))

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        batch, tokens, channels, states = (pick.size(1, n) for n in (2, 4, 3, 3))
        op = cls(channels, states, pick.choice([True, False]), pick.choice([True, False]))
        wide, narrow = Tensor((batch, tokens, channels)), Tensor((batch, tokens, states))
        return op, [wide, wide, narrow, narrow]


@operator(cost="attention")
class SSD(Carried):
    """The selective scan with one decay a head: a state of head_dim x state_size numbers a head.

    x[B, T, H P], dt[B, T, H], b[B, T, G N], c[B, T, G N] -> y[B, T, H P], dt = softplus(dt + dt_bias),
    A = -exp(A_log), one b and c for the heads of a group. In chunks of q tokens it is matrix products,
    as attention is: scores c b^T (q^2 N a group), scores times x (q^2 P a head), each chunk's state and
    what earlier chunks add (q P N a head each); the decays multiply scores and states element by
    element, and only the states of chunks follow each other. With chunk=0 token follows token, one
    product C h of P N MACs a head each, as decoding does.
    Source: Dao and Gu 2024, arXiv:2405.21060, section 6; scores of a group are computed once, as its
    kernels do.

    Args:
        chunk: tokens of a chunk, 0 for one token after another.
    """

    heads: Size
    head_dim: Size
    state_size: Size
    groups: int = 1
    chunk: int = 256
    keep: bool = False
    cached: bool = False

    def __post_init__(self) -> None:
        if is_int(self.heads) and self.heads % self.groups:
            raise self.refuse(f"cannot split {self.heads} heads in {self.groups} groups")

    def shape(self, *inputs: Tensor) -> Tensor:
        self.need(len(inputs) == 4 and all(t.rank == 3 for t in inputs), "takes x, dt, b and c", *inputs)
        x, dt, b, c = inputs
        self.match(x.shape[2], self.heads * self.head_dim, "heads x head_dim", *inputs)
        self.match(dt.shape[2], self.heads, "heads", *inputs)
        for given, name in ((b, "b"), (c, "c")):
            self.match(
                given.shape[2], self.groups * self.state_size, f"groups x state_size of {name}", *inputs
            )
            self.match(given.shape[1], x.shape[1], f"tokens of {name}", *inputs)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        return {"A_log": (self.heads,), "dt_bias": (self.heads,), "D": (self.heads,)}

    def carried(self, *io: Tensor) -> dict[str, tuple[Size, ...]]:
        return {"h": (io[0].shape[0], self.heads, self.head_dim, self.state_size)}

    def _squares(self, tokens: Size) -> tuple[Size, Size]:
        """(pairs of tokens within a chunk, chunks)."""
        full = floor_div(tokens, self.chunk)
        rest = tokens - full * self.chunk
        return full * self.chunk**2 + rest**2, ceil_div(tokens, self.chunk)

    def work(self, *io: Tensor) -> Work:
        batch, tokens, width = io[0].shape
        states = width * self.state_size
        # dt + bias, softplus, dt A; dt x, D x and its addition
        small = Work(
            vector_flops=batch * tokens * (3 * self.heads + 3 * width),
            transcendentals=2 * batch * tokens * self.heads + self.heads,
        )
        if not self.chunk:
            step = Work(macs=states, vector_flops=3 * states, transcendentals=self.heads)
            return small + step * (batch * tokens)
        pairs, chunks = self._squares(tokens)
        per_pair = self.groups * self.state_size + width
        return small + Work(
            macs=batch * (pairs * per_pair + 2 * tokens * states),
            # a pair: difference of the summed decays, product with the score; a token: the sum, the
            # distance to the chunk's end, both decays times x and y, an addition; a chunk: its state
            vector_flops=batch
            * (2 * pairs * self.heads + tokens * (2 * self.heads + 3 * width) + 2 * chunks * states),
            transcendentals=batch * self.heads * (pairs + 2 * tokens + chunks),
            masked_macs=batch * floor_div((pairs - tokens) * per_pair, 2),
        )  # fmt: skip

    def _scratch(self, *io: Tensor) -> Size:
        """Elements of chunk states and of scores of groups."""
        if not self.chunk:
            return 0
        batch, tokens, width = io[0].shape
        pairs, chunks = self._squares(tokens)
        return batch * (chunks * width * self.state_size + pairs * self.groups)

    def workspace(self, *io: Tensor) -> Size:
        return nbytes(self._scratch(*io), io[0].dtype)

    def traffic(self, node: Any) -> Traffic:
        plain = Carried.traffic(self, node)
        return plain + Traffic(workspace=2 * self.workspace(*node.io))

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        once = self.work(*io)
        # every product has two factors whose gradients are products; scores and states are made again
        return once + once * 2

    def saved(self, *io: Tensor) -> Saved:
        return Saved(inputs=(0, 1, 2, 3))

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        macs = self.work(*io).macs
        return {MATMUL: macs, SEQUENTIAL: sum(t.numel for t in io), REDUCE: macs}

    def loops(self, tally: Tally, *arrays: Any, past_h: Any = None, **weights: Any) -> Any:
        import numpy as np

        x, dt, b, c = arrays
        batch, tokens = x.shape[:2]
        heads, width, size, shared = self.heads, self.head_dim, self.state_size, self.heads // self.groups
        a, skip = -np.exp(weights["A_log"]), weights["D"]
        dt = softplus(np, dt + weights["dt_bias"])
        x = x.reshape(batch, tokens, heads, width)
        b, c = (v.reshape(batch, tokens, self.groups, size) for v in (b, c))
        y = x * skip[:, None]
        for row in range(batch):
            held = np.zeros((heads, width, size)) if past_h is None else past_h[row].copy()
            for start in range(0, tokens, self.chunk or 1):
                span = range(start, min(start + (self.chunk or 1), tokens))
                scores = np.zeros((self.groups, len(span), len(span)))
                if self.chunk:
                    for g, i, j in np.ndindex(*scores.shape):
                        for n in range(size):
                            scores[g, i, j] += c[row, span[i], g, n] * b[row, span[j], g, n]
                            tally.macs += 1
                for h in range(heads):
                    g, summed = h // shared, np.cumsum(dt[row, span.start : span.stop, h] * a[h])
                    before, after = held[h].copy(), np.exp(summed[-1]) * held[h]
                    for i, t in enumerate(span):
                        fed = dt[row, t, h] * x[row, t, h]
                        for p in range(width):
                            for n in range(size):
                                after[p, n] += np.exp(summed[-1] - summed[i]) * fed[p] * b[row, t, g, n]
                                tally.macs += bool(self.chunk)
                    for i, t in enumerate(span):
                        for p in range(width):
                            for n in range(size):
                                # a single token's product is with the state that it is already part of
                                seen = np.exp(summed[i]) * before[p, n] if self.chunk else after[p, n]
                                y[row, t, h, p] += c[row, t, g, n] * seen
                                tally.macs += 1
                        for j in range(len(span)) if self.chunk else ():
                            past = np.exp(summed[i] - summed[j]) if j <= i else 0.0
                            for p in range(width):
                                fed = dt[row, span[j], h] * x[row, span[j], h, p]
                                y[row, t, h, p] += past * scores[g, i, j] * fed
                                tally.macs += 1
                    held[h] = after
        return y.reshape(batch, tokens, heads * width)

    def torch(self, torch: Any) -> Any:
        heads, width, size, groups = self.heads, self.head_dim, self.state_size, self.groups
        chunk, keep = self.chunk, self.keep

        class Dual(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.A_log = torch.nn.Parameter(torch.arange(1.0, heads + 1).log())
                self.dt_bias = torch.nn.Parameter(torch.zeros(heads))
                self.D = torch.nn.Parameter(torch.ones(heads))

            def forward(self, x: Any, dt: Any, b: Any, c: Any, state: Any = None, past_h: Any = None) -> Any:
                past_h = state.get("h") if state else past_h
                batch, tokens = x.shape[:2]
                x = x.reshape(batch, tokens, heads, width)
                b, c = (v.reshape(batch, tokens, groups, size) for v in (b, c))
                dt = torch.nn.functional.softplus(dt + self.dt_bias)
                decay, fed = -dt * torch.exp(self.A_log), x * dt[..., None]
                h = x.new_zeros(batch, heads, width, size) if past_h is None else past_h
                rows = []
                for start in range(0, tokens, chunk or 1):
                    at = slice(start, start + (chunk or 1))
                    summed = decay[:, at].cumsum(1)
                    last = summed[:, -1]
                    mine_b, mine_c = (v[:, at].repeat_interleave(heads // groups, 2) for v in (b, c))
                    late = fed[:, at] * torch.exp(last[:, None] - summed)[..., None]
                    made = torch.einsum("bqhp,bqhn->bhpn", late, mine_b)
                    after = torch.exp(last)[..., None, None] * h + made
                    if chunk:
                        scores = torch.einsum("bqgn,bsgn->bgqs", c[:, at], b[:, at])
                        apart = (summed[:, :, None] - summed[:, None]).permute(0, 3, 1, 2)
                        seen = torch.ones(apart.shape[2:], dtype=torch.bool, device=x.device).tril()
                        weight = torch.exp(apart.masked_fill(~seen, -torch.inf))
                        weight = weight * scores.repeat_interleave(heads // groups, 1)
                        y = torch.einsum("bhqs,bshp->bqhp", weight, fed[:, at])
                        past = torch.einsum("bqhn,bhpn->bqhp", mine_c, h)
                        rows.append(y + past * torch.exp(summed)[..., None])
                    else:
                        rows.append(torch.einsum("bqhn,bhpn->bqhp", mine_c, after))
                    h = after
                if state is not None and keep:
                    state["h"] = h
                y = torch.cat(rows, 1) + x * self.D[:, None]
                return y.reshape(batch, tokens, heads * width)

        return Dual()

    def to_onnx(self, w: OnnxWriter, *inputs: str) -> str:
        x, dt, b, c = inputs
        batch, tokens, _ = w.node.ins[0].shape
        shared = self.heads // self.groups
        dt = w("Softplus", w("Add", dt, w.parameter("dt_bias")))
        decay = w("Mul", dt, w("Neg", w("Exp", w.parameter("A_log"))))
        split = w("Reshape", x, w.ints(batch, tokens, self.heads, self.head_dim))
        fed = w("Mul", split, w("Unsqueeze", dt, w.ints(-1)))

        def by_group(value: str, heads: int, last: Size) -> str:
            """[B, T, ...] -> [B, G, heads of the group, T, last]."""
            parts = w("Reshape", value, w.ints(batch, tokens, self.groups, heads, last))
            return w("Transpose", parts, perm=(0, 2, 3, 1, 4))

        rows = [by_group(fed, shared, self.head_dim), by_group(decay, shared, 1)]
        rows += [by_group(v, 1, self.state_size) for v in (b, c)]
        lead = (batch, self.groups, shared)
        h = w("Reshape", self.before_onnx(w, "h"), w.ints(*lead, self.head_dim, self.state_size))
        if self.chunk:
            made = []
            for start in range(0, tokens, self.chunk):
                stop = min(start + self.chunk, tokens)
                h, y = self._chunk_onnx(
                    w, stop - start, h, *[w("Slice", r, w.ints(start), w.ints(stop), w.ints(3)) for r in rows]
                )
                made.append(y)
            y = w("Concat", *made, axis=3)
        else:
            h, y = self._tokens_onnx(w, lead, h, rows)
        self.after_onnx(w, h=w("Reshape", h, w.ints(batch, self.heads, self.head_dim, self.state_size)))
        y = w("Reshape", w("Transpose", y, perm=(0, 3, 1, 2, 4)), w.ints(*w.node.ins[0].shape))
        skip = w("Mul", split, w("Unsqueeze", w.parameter("D"), w.ints(-1)))
        return w("Add", y, w("Reshape", skip, w.ints(*w.node.ins[0].shape)))

    def _chunk_onnx(
        self, w: OnnxWriter, size: int, h: str, fed: str, decay: str, b: str, c: str
    ) -> tuple[str, str]:
        """The state after a chunk and its outputs, by products over the chunk; a trailing axis for decays."""
        import numpy as np

        def turned(value: str) -> str:
            return w("Transpose", value, perm=(0, 1, 2, 4, 3))

        summed = w("CumSum", decay, w.table(np.int64(3)))
        last = w("Slice", summed, w.ints(size - 1), w.ints(size), w.ints(3))
        apart = w("Sub", summed, turned(summed))
        apart = w("Where", w.table(np.tril(np.ones((size, size), bool))), apart, w.number(-np.inf))
        weight = w("Mul", w("Exp", apart), w("MatMul", c, turned(b)))
        past = w("Mul", w("MatMul", c, turned(h)), w("Exp", summed))
        late = w("Mul", fed, w("Exp", w("Sub", last, summed)))
        after = w("Add", w("Mul", w("Exp", last), h), w("MatMul", turned(late), b))
        return after, w("Add", w("MatMul", weight, fed), past)

    def _tokens_onnx(self, w: OnnxWriter, lead: tuple[Size, ...], h: str, rows: list[str]) -> list[str]:
        """Token after token, as with chunks of one but with a single product a state."""

        def step(h: str, fed: str, decay: str, b: str, c: str) -> list[str]:
            made = w("Mul", w("Unsqueeze", fed, w.ints(-1)), w("Unsqueeze", b, w.ints(-2)))
            h = w("Add", w("Mul", w("Unsqueeze", w("Exp", decay), w.ints(-1)), h), made)
            return [h, w("Squeeze", w("MatMul", h, w("Unsqueeze", c, w.ints(-1))), w.ints(-1))]

        one = w.node.ins[0]
        wide, narrow = one.with_shape(*lead, self.head_dim), one.with_shape(*lead[:2], 1, self.state_size)
        given = list(zip(rows, (wide, one.with_shape(*lead, 1), narrow, narrow), strict=True))
        return w.scan(
            step, [(h, one.with_shape(*lead, self.head_dim, self.state_size))], given, [wide], axis=3
        )

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        groups = pick.int(1, 2)
        batch, tokens = pick.size(1, 2), pick.size(1, 5)
        heads, width, size = groups * pick.size(1, 2), pick.size(1, 2), pick.size(1, 3)
        op = cls(heads, width, size, groups, pick.choice([0, 2, 3]), pick.choice([True, False]),
                 pick.choice([True, False]))  # fmt: skip
        shared = Tensor((batch, tokens, groups * size))
        return op, [Tensor((batch, tokens, heads * width)), Tensor((batch, tokens, heads)), shared, shared]
