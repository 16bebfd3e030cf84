"""Mixture of experts: each token goes through the few feed-forward networks its router prefers."""

from typing import Any

from pharos.graph.op import (
    DYNAMIC,
    GATHER,
    MATMUL,
    REDUCE,
    SCATTER,
    SEQUENTIAL,
    Op,
    Parallelism,
    Picker,
    Tally,
    Traffic,
    Work,
    operator,
)
from pharos.graph.tensor import Tensor
from pharos.ops.activation import FUNCTIONS
from pharos.quantity.errors import unknown
from pharos.quantity.sizes import Size, ceil_log2, is_int, minimum, prod


@operator(cost="gemm", aten="_grouped_mm", onnx="MoE")
class Experts(Op):
    """y[t] = sum over the top_k experts e of softmax(logits of those)[e] * down_e(f(gate_e x) * up_e x).

    x[..., d] and router logits [..., E] -> y[..., d]; without a gate an expert is down_e(f(up_e x)).
    macs = tokens * top_k * (3 or 2) * d * expert_size. At most min(E, tokens * top_k) experts' weights
    are read: few tokens leave most experts untouched, which is what decoding profits from.
    """

    num_experts: Size
    top_k: int
    hidden_size: Size
    expert_size: Size
    gated: bool = True
    function: str = "silu"

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise unknown("activation", str(self.function), FUNCTIONS)
        if is_int(self.num_experts) and not 1 <= self.top_k <= self.num_experts:
            raise self.refuse(f"cannot pick {self.top_k} of {self.num_experts} experts")

    def shape(self, x: Tensor, logits: Tensor) -> Tensor:
        self.need(x.rank >= 2 and logits.rank == x.rank, "needs x and logits of one rank", x, logits)
        self.match(x.shape[-1], self.hidden_size, "hidden_size", x, logits)
        self.match(logits.shape[-1], self.num_experts, "num_experts", x, logits)
        return x

    def weights(self) -> dict[str, tuple[Size, ...]]:
        wide = self.expert_size * (2 if self.gated else 1)
        return {
            "gate_up_proj" if self.gated else "up_proj": (self.num_experts, wide, self.hidden_size),
            "down_proj": (self.num_experts, self.hidden_size, self.expert_size),
        }

    def active(self) -> tuple[Size, Size]:
        return self.top_k, self.num_experts

    def work(self, x: Tensor, logits: Tensor, y: Tensor) -> Work:
        tokens = prod(x.shape[:-1])
        each = tokens * self.top_k
        f = FUNCTIONS[self.function]
        inner = each * self.expert_size
        # a comparison a logit for each pick; per pick the softmax, the gate, and the weighted sum
        return Work(
            macs=each * (3 if self.gated else 2) * self.hidden_size * self.expert_size,
            vector_flops=logits.numel * self.top_k
            + 3 * each
            + inner * (f.vector_flops + (1 if self.gated else 0))
            + 2 * each * self.hidden_size,
            transcendentals=2 * each + inner * f.transcendentals,
        )

    def traffic(self, node: Any) -> Traffic:
        x, logits = node.ins
        touched = minimum(prod(x.shape[:-1]) * self.top_k, self.num_experts)
        one = sum(Tensor(tensor.shape[1:], tensor.dtype).nbytes for tensor in node.weights.values())
        return Traffic(weights=touched * one, inputs=x.nbytes + logits.nbytes, outputs=node.outs[0].nbytes)

    def primitives(self, x: Tensor, logits: Tensor, y: Tensor) -> dict[str, Size]:
        macs = self.work(x, logits, y).macs
        moved = x.numel * self.top_k
        return {MATMUL: macs, DYNAMIC: macs, SCATTER: moved, GATHER: moved, REDUCE: moved,
                SEQUENTIAL: x.numel + logits.numel + y.numel}  # fmt: skip

    def parallelism(self, x: Tensor, logits: Tensor, y: Tensor) -> Parallelism:
        return Parallelism(width=y.numel * self.top_k, tree=ceil_log2(self.hidden_size))

    def loops(self, tally: Tally, x: Any, logits: Any, *, down_proj: Any, **into: Any) -> Any:
        import numpy as np

        first = into["gate_up_proj" if self.gated else "up_proj"]
        rows, scores = x.reshape(-1, x.shape[-1]), logits.reshape(-1, logits.shape[-1])
        y = np.zeros_like(rows)
        for t, row in enumerate(rows):
            picked = sorted(range(len(scores[t])), key=lambda e: -scores[t][e])[: self.top_k]
            shares = np.exp(scores[t][picked] - scores[t][picked].max())
            shares /= shares.sum()
            for e, share in zip(picked, shares, strict=True):
                inner = np.zeros(len(first[e]))
                for i in range(len(first[e])):
                    for k in range(len(row)):
                        inner[i] += first[e, i, k] * row[k]
                        tally.macs += 1
                half = self.expert_size
                hidden = FUNCTIONS[self.function].numpy(np, inner[:half])
                hidden = hidden * inner[half:] if self.gated else hidden
                for d in range(len(row)):
                    for i in range(half):
                        y[t, d] += share * down_proj[e, d, i] * hidden[i]
                        tally.macs += 1
        return y.reshape(x.shape)

    def torch(self, torch: Any) -> Any:
        op = self
        function = FUNCTIONS[self.function]
        act = (
            getattr(torch.nn, function.torch.removeprefix("nn."), None)
            if function.torch.startswith("nn.")
            else None
        )
        call = act(**dict(function.options)) if act else getattr(torch, function.torch)

        class Mixture(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, size in op.weights().items():
                    made = torch.empty(size)
                    torch.nn.init.normal_(made, std=0.02)
                    setattr(self, name, torch.nn.Parameter(made))

            def forward(self, x: Any, logits: Any) -> Any:
                first = self.gate_up_proj if op.gated else self.up_proj
                rows = x.reshape(-1, x.shape[-1])
                top, picked = logits.reshape(-1, logits.shape[-1]).topk(op.top_k, -1)
                shares, y = top.softmax(-1), torch.zeros_like(rows)
                for e in range(op.num_experts):
                    tokens, place = (picked == e).nonzero(as_tuple=True)
                    inner = rows[tokens] @ first[e].T
                    if op.gated:
                        gate, up = inner.chunk(2, -1)
                        inner = call(gate) * up
                    else:
                        inner = call(inner)
                    y = y.index_add(0, tokens, (inner @ self.down_proj[e].T) * shares[tokens, place, None])
                return y.reshape(x.shape)

        return Mixture()

    @classmethod
    def sample(cls, pick: Picker) -> tuple[Op, list[Tensor]]:
        experts, width = pick.size(2, 4), pick.size(1, 3)
        op = cls(experts, pick.int(1, 2), width, pick.size(1, 3), pick.choice([True, False]),
                 pick.choice(["silu", "gelu", "relu"]))  # fmt: skip
        lead = (pick.size(1, 2), pick.size(1, 3))
        return op, [Tensor((*lead, width)), Tensor((*lead, experts))]
