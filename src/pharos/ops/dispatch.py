"""Experts of a fixed capacity: tokens scattered into slots, one product an expert, results gathered."""

from typing import Any

from pharos.graph.op import (
    GATHER,
    MATMUL,
    REDUCE,
    SCATTER,
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
from pharos.quantity.sizes import Size, ceil_log2, is_int, prod


@operator(cost="copy")
class Dispatch(Op):
    """Each token is copied into a slot of each of its experts: x[..., d], picks[..., k] -> slots[E, C, d].

    The second result, places[..., k], is the slot each copy went to, in the order of the tokens; a
    copy that finds its expert full is dropped and its place is -1. Empty slots are zero.
    Source: Lepikhin et al. 2020, arXiv:2006.16668, section 2.2.
    """

    num_experts: Size
    capacity: Size

    def shape(self, x: Tensor, picks: Tensor) -> tuple[Tensor, ...]:
        self.need(x.rank >= 2 and picks.rank == x.rank, "needs tokens and picks of one rank", x, picks)
        return x.with_shape(self.num_experts, self.capacity, x.shape[-1]), picks

    def gradient(self, wanted: Any, x: Tensor, picks: Tensor, slots: Tensor, places: Tensor) -> Work:
        """Each token adds up the gradients of its copies."""
        return Work(vector_flops=prod(picks.shape) * x.shape[-1] if wanted[0] else 0)

    def saved(self, *io: Tensor) -> Saved:
        """The slot of every pick, or none."""
        return Saved(extra={"slots": Tensor(io[1].shape, "int64")})

    def primitives(self, x: Tensor, picks: Tensor, slots: Tensor, places: Tensor) -> dict[str, Size]:
        return {SCATTER: picks.numel * x.shape[-1], SEQUENTIAL: x.numel + picks.numel + slots.numel}

    def _places(self, picks: Any) -> list[list[int]]:
        filled = [0] * int(self.num_experts)
        places = []
        for row in picks.reshape(-1, picks.shape[-1]).tolist():
            places.append([])
            for e in row:
                places[-1].append(filled[e] if filled[e] < self.capacity else -1)
                filled[e] += 1
        return places

    def loops(self, tally: Tally, x: Any, picks: Any) -> Any:
        import numpy as np

        rows, chosen = x.reshape(-1, x.shape[-1]), picks.reshape(-1, picks.shape[-1])
        slots = np.zeros((int(self.num_experts), int(self.capacity), x.shape[-1]), x.dtype)
        places = self._places(picks)
        for t, row in enumerate(rows):
            for e, at in zip(chosen[t], places[t], strict=True):
                if at >= 0:
                    slots[e, at] = row
        return slots, np.array(places).reshape(picks.shape)

    def torch(self, torch: Any) -> Any:
        experts, capacity = int(self.num_experts), int(self.capacity)

        def scatter(x: Any, picks: Any) -> Any:
            chosen = picks.reshape(-1)
            order = (
                torch.nn.functional.one_hot(chosen, experts).cumsum(0).gather(1, chosen[:, None])[:, 0] - 1
            )
            places = torch.where(order < capacity, order, -1)
            rows = x.reshape(-1, x.shape[-1]).repeat_interleave(picks.shape[-1], 0)
            kept = places >= 0
            slots = x.new_zeros(experts * capacity, x.shape[-1])
            slots = slots.index_copy(0, (chosen * capacity + places)[kept], rows[kept])
            return slots.reshape(experts, capacity, -1), places.reshape(picks.shape)

        return scatter

    def to_onnx(self, w: OnnxWriter, x: str, picks: str) -> list[str]:
        import numpy as np

        given, chosen = w.node.ins[0], w.node.ins[1]
        width, copies = given.shape[-1], prod(chosen.shape)
        experts, capacity = int(self.num_experts), int(self.capacity)
        flat = w("Reshape", picks, w.ints(-1))
        hits = w("OneHot", flat, w.ints(experts), w.ints(0, 1))
        nth = w(
            "GatherElements", w("CumSum", hits, w.table(np.int64(0))), w("Unsqueeze", flat, w.ints(1)), axis=1
        )
        order = w("Sub", w("Reshape", nth, w.ints(-1)), w.ints(1))
        fits = w("Less", order, w.ints(capacity))
        # copies that find no slot go to one row more, which is cut off
        slot = w("Add", w("Mul", flat, w.ints(capacity)), order)
        slot = w("Where", fits, slot, w.ints(experts * capacity))
        rows = w("Reshape", x, w.ints(-1, width))
        rows = w("Gather", rows, w.ints(*[i // chosen.shape[-1] for i in range(copies)]))
        empty = w("Expand", w.number(0), w.ints(experts * capacity + 1, width))
        slots = w("ScatterND", empty, w("Unsqueeze", slot, w.ints(1)), rows)
        slots = w("Slice", slots, w.ints(0), w.ints(experts * capacity), w.ints(0))
        places = w("Reshape", w("Where", fits, order, w.ints(-1)), w.ints(*chosen.shape))
        return [w("Reshape", slots, w.ints(experts, capacity, width)), places]

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        lead = (pick.size(1, 2), pick.size(1, 4))
        op = cls(pick.size(1, 4), pick.size(1, 4))
        return op, [Tensor((*lead, pick.size(1, 3))), Tensor((*lead, pick.int(1, 2)), "int64")]


@operator(cost="gemm")
class ExpertLinear(Op):
    """y[e] = x[e] W[e]^T + b[e] for every expert at once: x[E, C, k] -> y[E, C, n]; macs = E C k n.

    Empty slots are multiplied like full ones: the price of a fixed capacity.
    """

    num_experts: Size
    in_features: Size
    out_features: Size
    bias: bool = False

    def shape(self, x: Tensor) -> Tensor:
        self.need(x.rank == 3, "needs an input of rank 3", x)
        self.match(x.shape[0], self.num_experts, "num_experts", x)
        self.match(x.shape[2], self.in_features, "in_features", x)
        return x.with_last(self.out_features)

    def weights(self) -> dict[str, tuple[Size, ...]]:
        found: dict[str, tuple[Size, ...]] = {
            "weight": (self.num_experts, self.out_features, self.in_features)
        }
        if self.bias:
            found["bias"] = (self.num_experts, self.out_features)
        return found

    def work(self, x: Tensor, y: Tensor) -> Work:
        return Work(macs=y.numel * self.in_features, vector_flops=y.numel if self.bias else 0)

    def gradient(self, wanted: Any, x: Tensor, y: Tensor) -> Work:
        macs = y.numel * self.in_features
        return Work(macs=macs * (2 if wanted[0] else 1), vector_flops=y.numel if self.bias else 0)

    def saved(self, *io: Tensor) -> Saved:
        return Saved((0,))

    def primitives(self, x: Tensor, y: Tensor) -> dict[str, Size]:
        weights = self.num_experts * self.in_features * self.out_features
        macs = y.numel * self.in_features
        return {MATMUL: macs, SEQUENTIAL: x.numel + weights + y.numel, REDUCE: macs}

    def parallelism(self, x: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel, tree=ceil_log2(self.in_features))

    def loops(self, tally: Tally, x: Any, *, weight: Any, bias: Any = None) -> Any:
        import numpy as np

        y = np.zeros((*x.shape[:2], weight.shape[1]), x.dtype)
        for e, c, n in np.ndindex(y.shape):
            total = 0.0 if bias is None else bias[e, n]
            for k in range(x.shape[2]):
                total += x[e, c, k] * weight[e, n, k]
                tally.macs += 1
            y[e, c, n] = total
        return y

    def torch(self, torch: Any) -> Any:
        op = self

        class Grouped(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, size in op.weights().items():
                    made = torch.zeros(size) if name == "bias" else torch.randn(size) * 0.02
                    setattr(self, name, torch.nn.Parameter(made))

            def forward(self, x: Any) -> Any:
                y = torch.bmm(x, self.weight.transpose(1, 2))
                return y + self.bias[:, None] if op.bias else y

        return Grouped()

    def to_onnx(self, w: OnnxWriter, x: str) -> str:
        y = w("MatMul", x, w("Transpose", w.parameter("weight"), perm=(0, 2, 1)))
        return w("Add", y, w("Unsqueeze", w.parameter("bias"), w.ints(1))) if self.bias else y

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        experts, width = pick.size(1, 3), pick.size(1, 4)
        op = cls(experts, width, pick.size(1, 4), pick.choice([True, False]))
        return op, [Tensor((experts, pick.size(1, 3), width))]


@operator(cost="gather")
class Combine(Op):
    """y[t] = sum over k of shares[t, k] slots[picks[t, k], places[t, k]]; a dropped copy adds nothing."""

    def shape(self, slots: Tensor, shares: Tensor, picks: Tensor, places: Tensor) -> Tensor:
        given = (slots, shares, picks, places)
        self.need(slots.rank == 3 and shares.rank >= 2, "needs slots [E, C, d] and shares", *given)
        self.need(shares.rank == picks.rank == places.rank, "needs shares, picks, places of one rank", *given)
        for other in (picks, places):
            if is_int(other.shape[-1]):
                self.match(other.shape[-1], shares.shape[-1], "copies of a token", *given)
        return slots.with_shape(*shares.shape[:-1], slots.shape[2])

    def work(self, *io: Tensor) -> Work:
        return Work(vector_flops=2 * io[1].numel * io[0].shape[2])

    def gradient(self, wanted: Any, *io: Tensor) -> Work:
        """A product to each slot; a dot product to each share."""
        moved = io[1].numel * io[0].shape[2]
        return Work(vector_flops=(moved if wanted[0] else 0) + (2 * moved if wanted[1] else 0))

    def saved(self, *io: Tensor) -> Saved:
        """The shares, the slot of every pick and the row that was in it."""
        rows = io[1].with_shape(io[1].numel, io[0].shape[2])
        return Saved((1,), (), {"slots": Tensor(io[2].shape, "int64"), "rows": rows})

    def primitives(self, *io: Tensor) -> dict[str, Size]:
        moved = io[1].numel * io[0].shape[2]
        return {GATHER: moved, REDUCE: moved, SEQUENTIAL: 3 * io[1].numel + io[-1].numel}

    def loops(self, tally: Tally, slots: Any, shares: Any, picks: Any, places: Any) -> Any:
        import numpy as np

        y = np.zeros((*shares.shape[:-1], slots.shape[2]), slots.dtype)
        for at in np.ndindex(shares.shape):
            if 0 <= places[at] < slots.shape[1]:
                y[at[:-1]] += shares[at] * slots[picks[at], places[at]]
        return y

    def torch(self, torch: Any) -> Any:
        def gather(slots: Any, shares: Any, picks: Any, places: Any) -> Any:
            there = (places >= 0) & (places < slots.shape[1])
            rows = slots[picks, places.clamp(0, slots.shape[1] - 1)]
            return (rows * (shares * there)[..., None]).sum(-2)

        return gather

    def to_onnx(self, w: OnnxWriter, slots: str, shares: str, picks: str, places: str) -> str:
        capacity = w.node.ins[0].shape[1]
        there = w("And", w("GreaterOrEqual", places, w.ints(0)), w("Less", places, w.ints(capacity)))
        place = w("Where", there, places, w.ints(0))
        at = w("Concat", *[w("Unsqueeze", i, w.ints(-1)) for i in (picks, place)], axis=-1)
        parts = w("Unsqueeze", w("Where", there, shares, w.number(0)), w.ints(-1))
        return w("ReduceSum", w("Mul", w("GatherND", slots, at), parts), w.ints(-2), keepdims=0)

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        shares = Tensor((pick.size(1, 2), pick.size(1, 4), pick.int(1, 2)))
        indices = Tensor(shares.shape, "int64")
        return cls(), [Tensor((pick.size(4, 5), pick.size(1, 3), pick.size(1, 3))), shares, indices, indices]
